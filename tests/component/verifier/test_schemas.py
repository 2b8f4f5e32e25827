"""The schemas that a credential names, and the words that nobody defined."""

from __future__ import annotations

from laurel.credential import contexts, proofs
from tests.component.verifier.conftest import Verifier
from tests.component.verifier.test_proofs import ED25519, badge_of, by_did_key, with_proof
from tests.component.verifier.test_verdicts import code, outcomes

SCHEMA_TYPE = "1EdTechJsonSchemaValidator2019"
ANY_SCHEMA = contexts.OPEN_BADGES_SCHEMA.replace("_achievement", "_anyachievement")


async def test_every_schema_that_laurel_has_is_checked(verifier: Verifier) -> None:
    issuer, signer = by_did_key(ED25519)
    for named, also in (
        (contexts.OPEN_BADGES_SCHEMA, []),
        (ANY_SCHEMA, []),
        (ANY_SCHEMA, [contexts.OPEN_BADGES_SCHEMA]),
    ):
        document = badge_of(issuer)
        document["credentialSchema"] = [{"id": url, "type": SCHEMA_TYPE} for url in (named, *also)]
        found = await verifier.verify(with_proof(document, signer, proofs.RDFC))
        assert (found["verdict"], outcomes(found)["schema"]) == ("valid", "passed"), found
        (schema,) = (check for check in found["checks"] if check["step"] == "schema")
        assert [one["id"] for one in schema["against"]] == [named, *also]
        del document["credentialSubject"]["achievement"]
        found = await verifier.verify(with_proof(document, signer, proofs.RDFC))
        assert (found["verdict"], code(found, "schema")) == ("invalid", "schema_violated"), found
        (schema,) = (check for check in found["checks"] if check["step"] == "schema")
        assert schema["pointer"] == "/credentialSubject/achievement"


async def test_a_schema_that_laurel_has_not_is_not_checked(verifier: Verifier) -> None:
    issuer, signer = by_did_key(ED25519)
    document = badge_of(issuer)
    document["credentialSchema"].append({"id": "https://else.example/s.json", "type": SCHEMA_TYPE})
    found = await verifier.verify(with_proof(document, signer, proofs.RDFC))
    assert (found["verdict"], code(found, "schema")) == ("valid", "unknown_schema")
    del document["credentialSubject"]["achievement"]
    found = await verifier.verify(with_proof(document, signer, proofs.RDFC))
    assert (found["verdict"], code(found, "schema")) == ("invalid", "schema_violated")


async def test_a_word_without_meaning_is_pointed_at(verifier: Verifier) -> None:
    issuer, signer = by_did_key(ED25519)
    document = with_proof(badge_of(issuer), signer, proofs.RDFC)
    document["credentialSubject"]["foo/bar"] = "x"
    found = await verifier.verify(document)
    (context,) = (check for check in found["checks"] if check["step"] == "context")
    assert (context["code"], context["pointer"]) == ("unsafe_document", "/credentialSubject/foo~1bar")
