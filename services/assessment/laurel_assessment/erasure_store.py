"""Erased learners in PostgreSQL: what is removed of a learner here, and the pseudonym that stays.

Whoever takes results in holds `laurel.erasure.alongside` for the tenant; whoever erases, `alone`.
"""

# ruff: noqa: S608 - what is put into statements are the constants of this file

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from laurel.database import Transaction
from laurel_assessment.store import OF_LEARNER


class Erased(NamedTuple):
    """That a learner was erased. relation: how often; imports: those that were under way then."""

    relation: int
    imports: frozenset[str]


async def known(tx: Transaction, pseudonyms: Iterable[bytes]) -> dict[bytes, Erased]:
    """Those who were erased, by the pseudonym of their first relation."""
    rows = await tx.fetch(
        # NULL: written by a version that went by time alone.
        "SELECT learner_key, relation + 1, coalesce(imports, ARRAY(SELECT import_id FROM imports i "
        "WHERE i.tenant_id = e.tenant_id AND i.created_at < e.erased_at AND i.status IN ('receiving', 'processing')"
        "))::text[] FROM erasures e WHERE learner_key = ANY ($1::bytea[])",
        list(pseudonyms),
    )  # fmt: skip
    found: dict[bytes, Erased] = {}
    for key, relation, imports in rows:
        before = found.get(key, Erased(0, frozenset()))
        found[key] = Erased(max(relation, before.relation), before.imports.union(imports))
    return found


class Removed(NamedTuple):
    """What was removed: how many rows, and the credentials that they led to."""

    results: int
    credential_ids: list[str]


async def remove(tx: Transaction, tenant_id: str, learner_key: bytes, erasure_id: str) -> Removed:
    """Take everything from a learner's results that says who it was or how well it went; outcomes and ids stay.

    The rows keep a common key, made of the erasure's id. What a row was refused for stays as a code without its words,
    which may quote the row.
    """
    rows = await tx.fetch(
        f"""
        UPDATE results SET learner = NULL, learner_key = $3, external_id = NULL, score = NULL, parts = NULL,
            content = CASE WHEN content IS NULL THEN NULL ELSE ''::bytea END, completed_at = NULL, row_text = NULL,
            reasons = CASE WHEN outcome = 'duplicate' THEN reasons ELSE '[]' END,
            errors = (SELECT jsonb_agg(jsonb_build_object('field', '', 'code', e->>'code', 'detail', ''))
                      FROM jsonb_array_elements(errors) AS e)
        WHERE tenant_id = $1 AND {OF_LEARNER}
        RETURNING result_id::text, outcome, credential_id::text
        """,
        tenant_id, learner_key, UUID(erasure_id).bytes,
    )  # fmt: skip
    owed = sorted(row["credential_id"] for row in rows if row["outcome"] == "passed")
    if rows:
        await _forget_answers(tx, tenant_id, [row["result_id"] for row in rows])
        # What has not left yet need not leave: it holds the recipient and the sealed contact.
        await tx.execute(
            "DELETE FROM outbox WHERE tenant_id = $1 AND key = ANY ($2::bytea[])",
            tenant_id, [one.encode() for one in owed],
        )  # fmt: skip
    return Removed(len(rows), owed)


async def _forget_answers(tx: Transaction, tenant_id: str, result_ids: list[str]) -> None:
    # The key stays for as long as all do, so that a request sent again does nothing; the platform's own id goes.
    await tx.execute(
        """
        UPDATE idempotency_keys SET answer = convert_to(
            (convert_from(answer, 'UTF8')::jsonb || '{"reasons": [], "external_id": null}')::text, 'UTF8')
        WHERE tenant_id = $1 AND operation = 'result' AND answer IS NOT NULL
            AND convert_from(answer, 'UTF8')::jsonb->>'result_id' = ANY ($2::text[])
        """,
        tenant_id, result_ids,
    )  # fmt: skip


# Not by time: each process has a clock of its own. Who erases holds off everybody who decides rows.
_UNDER_WAY = "ARRAY(SELECT import_id FROM imports WHERE tenant_id = $1 AND status IN ('receiving', 'processing'))"
_ERASURE = "SELECT erasure_id::text, results, credentials, requested_at, erased_at FROM erasures "


async def write(
    tx: Transaction, tenant_id: str, erasure_id: str, pseudonym: bytes, relation: int, removed: Removed, now: datetime
) -> None:
    """Note an erasure. pseudonym: of the learner's first relation; relation: the one that ends."""
    await tx.execute(
        "INSERT INTO erasures (tenant_id, erasure_id, learner_key, relation, results, credentials, requested_at, "
        f"erased_at, imports) VALUES ($1, $2, $3, $4, $5, $6, $7, $7, {_UNDER_WAY})",
        tenant_id, erasure_id, pseudonym, relation, removed.results, len(removed.credential_ids), now,
    )  # fmt: skip


async def asked_again(tx: Transaction, tenant_id: str, pseudonym: bytes, now: datetime) -> dict[str, Any]:
    """The last erasure of a learner of whom nothing has come since; what still waits to be decided falls under it."""
    row = await tx.fetchrow(
        f"UPDATE erasures SET erased_at = greatest(erased_at, $3), imports = coalesce(imports, '{{}}') || {_UNDER_WAY} "
        "WHERE learner_key = $2 AND relation = (SELECT max(relation) FROM erasures WHERE learner_key = $2) "
        "RETURNING erasure_id::text, results, credentials, requested_at, erased_at",
        tenant_id, pseudonym, now,
    )  # fmt: skip
    assert row is not None
    return dict(row)


async def erasure(tx: Transaction, erasure_id: str) -> dict[str, Any] | None:
    """One erasure."""
    row = await tx.fetchrow(f"{_ERASURE} WHERE erasure_id = $1", erasure_id)
    return None if row is None else dict(row)
