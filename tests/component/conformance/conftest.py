"""The conformance routes on a real database, with workers of their own, and what suites do with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from laurel.credential import did, keys, multibase, proofs
from laurel.credential.text import timestamp
from laurel.database import Database
from laurel_local.conformance.start import open_conformance
from tests.component.verifier.conftest import make_settings, verifier_dsn

__all__ = ["verifier_dsn"]

BASE = "https://localhost:9"
V2 = "https://www.w3.org/ns/credentials/v2"
EXAMPLES = "https://www.w3.org/ns/credentials/examples/v2"
V1_1 = {
    "@context": ["https://www.w3.org/2018/credentials/v1"],
    "id": "urn:uuid:86294362-4254-4f36-854f-3952fe42555d",
    "type": ["VerifiableCredential"],
    "issuer": "did:example:anybody",
    "issuanceDate": "2020-03-16T22:37:26.544Z",
    "credentialSubject": {"id": "did:example:subject"},
}
HOLDER = keys.Ed25519Signer(bytes(range(32)), "")
HOLDER_DID = did.did_key(HOLDER.public_key_multibase)


class Suite:
    """What a suite does: posts JSON, looks at the status."""

    def __init__(self, client: httpx.AsyncClient, announcement: dict[str, Any]) -> None:
        self._client = client
        self.issuer: str = announcement["issuer"]
        self.issuers: dict[str, str] = announcement["issuers"]

    async def post(self, path: str, body: Any) -> httpx.Response:
        return await self._client.post(f"/conformance/{path}", json=body)

    async def send(self, path: str, content: bytes) -> httpx.Response:
        headers = {"Content-Type": "application/json"}
        return await self._client.post(f"/conformance/{path}", content=content, headers=headers)

    async def issue(self, credential: dict[str, Any], **options: Any) -> dict[str, Any]:
        answer = await self.post("credentials/issue", {"credential": credential, "options": options})
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()["verifiableCredential"]
        return found

    async def verify(self, credential: Any, **options: Any) -> httpx.Response:
        return await self.post("credentials/verify", {"verifiableCredential": credential, "options": options})

    async def present(self, presentation: Any, **options: Any) -> httpx.Response:
        return await self.post("presentations/verify", {"verifiablePresentation": presentation, "options": options})

    async def get(self, path: str) -> httpx.Response:
        return await self._client.get(path)


@pytest.fixture
async def suite(verifier_dsn: str) -> AsyncIterator[Suite]:
    async with AsyncExitStack() as stack:
        settings = make_settings(verifier_dsn)
        database = await stack.enter_async_context(Database(settings.dsn("verifier"), schema="verifier", size=2))
        routes = await stack.enter_async_context(open_conformance(database, settings, base_url=BASE))
        client = httpx.AsyncClient(transport=httpx.ASGITransport(routes.app), base_url=BASE)
        yield Suite(await stack.enter_async_context(client), routes.announcement)


def credential(**changes: Any) -> dict[str, Any]:
    return {
        "@context": [V2, EXAMPLES],
        "id": "urn:uuid:0b9a2b4e-5f0e-4d0c-9a53-1a2b3c4d5e6f",
        "type": ["VerifiableCredential", "RelationshipCredential"],
        "issuer": "did:example:anybody",
        "credentialSubject": {"id": "did:example:subject", "madeUp": "by the examples context"},
        **changes,
    }


def signed_by_holder(presentation: dict[str, Any], **members: Any) -> dict[str, Any]:
    return signed(presentation, HOLDER, **{"proofPurpose": "authentication", **members})


def signed(document: dict[str, Any], key: keys.Signer, **members: Any) -> dict[str, Any]:
    """A document with an eddsa-jcs-2022 proof by a did:key, made without lint. members: of the proof."""
    proof = {
        "type": "DataIntegrityProof", "cryptosuite": proofs.JCS, "created": timestamp(datetime.now(UTC)),
        "verificationMethod": f"{did.did_key(key.public_key_multibase)}#{key.public_key_multibase}",
        "proofPurpose": "assertionMethod", "@context": document["@context"], **members,
    }  # fmt: skip
    data = proofs.hash_data(proofs.canonical(proof, proofs.JCS), proofs.canonical(document, proofs.JCS))
    return {**document, "proof": {**proof, "proofValue": multibase.encode(key.sign(data))}}
