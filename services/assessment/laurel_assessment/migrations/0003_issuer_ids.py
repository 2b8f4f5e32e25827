"""The issuer's id beside each profile: a did:key is one key, and what needs another could never be signed.

NULL: the profile was last heard of before this migration; its next event tells it.

Revision ID: assessment_0003
Revises: assessment_0002
"""

from __future__ import annotations

from alembic import op

revision = "assessment_0003"
down_revision = "assessment_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE issuer_profiles ADD COLUMN did text")
