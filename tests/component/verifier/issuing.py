"""Real credentials for the verifier's tests: built, linted and signed as the issuer does it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from laurel.credential import did, model, status
from laurel.credential.keys import Ed25519Signer
from laurel.credential.lint import Profile, lint
from laurel.credential.proofs import sign
from laurel.events import (
    CredentialIssued,
    CredentialMessageChanged,
    CredentialRefreshOffered,
    CredentialStatusChanged,
    IssuerProfilePublished,
    Status,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
BASE_URL = "http://laurel.test"
TENANT = "019a0000-0000-7000-8000-000000000001"
SCORE = "urn:uuid:00000000-0000-4000-8000-000000000001"
PNG = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVQIW2NgUPr/HwADaAIhG61j/AAAAABJRU5ErkJggg=="
)


def to_bytes(document: dict[str, Any]) -> bytes:
    """The bytes of a document, as the issuer writes them."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


@dataclass
class TestIssuer:
    """An issuer with one key. name "" makes a did:key issuer."""

    __test__ = False

    slug: str = "uni"
    seed: bytes = b"\x07" * 32
    base_url: str = BASE_URL
    did: str = field(init=False)
    signer: Ed25519Signer = field(init=False)

    def __post_init__(self) -> None:
        if self.slug:
            self.did = did.did_web(self.base_url, self.slug)
            method = f"{self.did}#key-1"
        else:
            public = Ed25519Signer(self.seed, "x:y#z").public_key_multibase
            self.did = did.did_key(public)
            method = f"{self.did}#{public}"
        self.signer = Ed25519Signer(self.seed, method)

    def did_document(self) -> dict[str, Any]:
        """As served at the DID's address."""
        return did.build_did_document(self.did, [did.DidKey("key-1", self.signer.public_key_multibase)])

    def published(self, version: int = 1, **changes: Any) -> IssuerProfilePublished:
        """The event that makes the issuer known."""
        values: dict[str, Any] = {
            "tenant_id": TENANT, "profile_id": f"profile-{self.slug}", "slug": self.slug, "version": version,
            "did": self.did, "profile": {"id": self.did, "type": ["Profile"], "name": "Open University"},
            "did_document": self.did_document(), "published_at": NOW,
        }  # fmt: skip
        return IssuerProfilePublished(**{**values, **changes})

    def badge(self, number: int = 1, **changes: Any) -> dict[str, Any]:
        """A signed badge; `changes` go to build_open_badge, or (as achievement=…) to its achievement."""
        achievement = {
            "id": f"{self.base_url}/achievements/a1", "name": "Data Literacy",
            "description": "Reads and questions data.",
            "criteria_narrative": "Passed all five parts.\n\n- statistics\n- ethics", "image": PNG,
            "tag": ("data", "statistics"), "achievement_type": "Course", "in_language": "en",
            "alignment": (model.Alignment("Analyse data", "https://esco.example/skill/1", "ext:ESCO", "S1", "ESCO"),),
            "result_description": (model.ResultDescription(SCORE, "Score", "Percent", "0", "100"),),
            **changes.pop("achievement", {}),
        }  # fmt: skip
        values: dict[str, Any] = {
            "id": f"{self.base_url}/c/{credential_id(number)}",
            "issuer": model.Profile(self.did, "Open University", url="https://open.example"),
            "achievement": model.Achievement(**achievement),
            "recipient": model.Recipient(
                identity=model.IdentityHash(model.identity_hash("ada@example.org", "salt1"), "salt1")
            ),
            "valid_from": NOW - timedelta(days=1),
            "awarded_date": NOW - timedelta(days=1),
            "results": (model.Result("93", SCORE),),
            "evidence": (model.Evidence("https://lms.example/e/1", "Essay", "Two pages."),),
            **changes,
        }
        return self.sign(model.build_open_badge(**values))

    def sign(self, document: dict[str, Any], profile: Profile = "openbadge") -> dict[str, Any]:
        """Lint and sign."""
        return sign(lint(document, profile=profile, issuer=self.did), self.signer, NOW - timedelta(days=1))

    def status_list(
        self, url: str, told: set[int] | dict[int, int], purpose: str = "revocation", size: int = 1, **more: Any
    ) -> dict[str, Any]:
        """A signed status list with these bits set, or these values; `more` goes to build_status_list."""
        bits = bytearray(status.MINIMUM_ENTRIES * size // 8)
        for index, value in told.items() if isinstance(told, dict) else ((index, 1) for index in told):
            status.set_value(bits, index, value, size)
        encoded = status.encode_list(bits)
        return self.sign(
            status.build_status_list(url, self.did, purpose, encoded, NOW - timedelta(hours=1), **more), "statuslist"
        )


def credential_id(number: int) -> str:
    """A credential id for tests."""
    return f"00000000-0000-8000-8000-{number:012d}"


def issued(document: dict[str, Any], number: int = 1, /, **changes: Any) -> CredentialIssued:
    """The event of an issued credential."""
    issuer = document["issuer"]
    values: dict[str, Any] = {
        "tenant_id": TENANT, "credential_id": credential_id(number), "result_id": f"r{number}", "achievement_id": "a1",
        "achievement_name": "Data Literacy", "profile_id": "profile-uni",
        "issuer": issuer if isinstance(issuer, str) else issuer["id"], "course_run": "run-1", "issued_at": NOW,
        "valid_from": NOW, "document": msgspec.Raw(to_bytes(document)),
    }  # fmt: skip
    return CredentialIssued(**{**values, **changes})


def refresh_offered(number: int, version: int, tenant_id: str = TENANT) -> CredentialRefreshOffered:
    """The event of an offer to refresh."""
    return CredentialRefreshOffered(
        tenant_id=tenant_id, credential_id=credential_id(number), version=version, reason="test", changed_at=NOW
    )


def message_changed(number: int, version: int, value: int, tenant_id: str = TENANT) -> CredentialMessageChanged:
    """The event of another message."""
    return CredentialMessageChanged(
        tenant_id=tenant_id, credential_id=credential_id(number), version=version, value=value, message="test",
        reason="test", changed_at=NOW,
    )  # fmt: skip


def changed(number: int, version: int, to: Status, tenant_id: str = TENANT) -> CredentialStatusChanged:
    """The event of a changed status."""
    return CredentialStatusChanged(
        tenant_id=tenant_id, credential_id=credential_id(number), version=version, status=to, reason="test",
        changed_at=NOW + timedelta(minutes=version),
    )  # fmt: skip
