"""Every way to secure an Open Badge, held to the JSON schema that 1EdTech publishes, read from the official files."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from laurel.credential import contexts, jose, keys, lint, model, proofs, securing
from tests.unit.credential.samples import (
    CREATED,
    DID,
    NOW,
    P256_SIGNER,
    P384_SIGNER,
    RSA_SIGNER,
    SIGNER,
    badge,
    endorsement,
)

SIGNERS: dict[str, keys.Signer] = {"Ed25519": SIGNER, "P-256": P256_SIGNER, "P-384": P384_SIGNER, "RSA": RSA_SIGNER}
WAYS = [pytest.param((one,), id=one) for one in securing.SECURINGS] + [
    pytest.param(("eddsa-rdfc-2022", "eddsa-jcs-2022", "ecdsa-rdfc-2019", "ecdsa-jcs-2019:P-384"), id="proof set"),
]
SHAPES: dict[str, Callable[[], dict[str, Any]]] = {
    "everything": lambda: badge(valid_until=NOW.replace(year=2036)),
    "least": lambda: badge(
        recipient=model.Recipient(id="did:example:ada"), status=None, results=(), evidence=(), awarded_date=None
    ),
    "endorsement": endorsement,
}
OFFICIAL = {
    "achievement": "ob_v3p0_achievementcredential_schema.json",
    "any": "ob_v3p0_anyachievementcredential_schema.json",
}


@pytest.fixture(scope="module")
def schemas(vectors: Path) -> dict[str, dict[str, Any]]:
    return {name: json.loads((vectors / "ob3-schema" / file).read_bytes()) for name, file in OFFICIAL.items()}


def errors(schema: dict[str, Any], document: dict[str, Any]) -> list[str]:
    """What breaks the schema; an endorsement is held to its definition in it."""
    if "EndorsementCredential" in document["type"]:
        schema = {**schema["$defs"]["EndorsementCredential"], "$defs": schema["$defs"]}
    formats = jsonschema.FormatChecker()
    formats.checks("date-time", raises=ValueError)(lambda value: datetime.fromisoformat(value) is not None)
    reader = jsonschema.Draft201909Validator(schema, format_checker=formats)
    return [f"{error.json_path}: {error.message[:200]}" for error in reader.iter_errors(document)]


def secured(document: dict[str, Any], names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The JSON that a reader of the secured credential sees: the document, or a token's payload and what it holds."""
    assert securing.problem(names) is None
    profile: lint.Profile = "endorsement" if "EndorsementCredential" in document["type"] else "openbadge"
    linted = lint.lint(document, profile=profile, issuer=DID)
    ways = securing.ways(names)
    if ways[0].form == "data-integrity":
        orders = [proofs.Order(SIGNERS[way.key_type], way.algorithm, CREATED) for way in ways]
        return [proofs.sign_all(linted, orders)]
    sign = jose.sign_vc_jwt if ways[0].form == "vc-jwt" else jose.sign_vc_jose
    token = sign(linted, SIGNERS[ways[0].key_type]).decode()
    header, payload = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2])
    assert header["alg"] == ways[0].algorithm
    return [payload, jose.parse(token).document]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("names", WAYS)
def test_what_is_issued_follows_the_schema(
    schemas: dict[str, dict[str, Any]], names: tuple[str, ...], shape: str
) -> None:
    for document in secured(SHAPES[shape](), names):
        for schema in schemas.values():
            assert errors(schema, document) == []
        subject = document["credentialSubject"]
        for spoilt in (
            {**document, "validFrom": "yesterday"},
            {**document, "credentialSubject": {name: subject[name] for name in subject.keys() - {"achievement", "id"}}},
            {**document, "credentialStatus": [{"type": "BitstringStatusListEntry"}]},
            {**document, "proof": {}},
        ):
            assert [len(errors(schema, spoilt)) for schema in schemas.values()] == [1, 1]


def test_the_schema_in_the_product_is_the_official_one(schemas: dict[str, dict[str, Any]]) -> None:
    assert contexts.load_schema(contexts.OPEN_BADGES_SCHEMA) == schemas["achievement"]
