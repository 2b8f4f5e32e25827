"""Issued badges before the verifier of the Digital Credentials Consortium, which wallets and its web page use.

`@digitalcredentials/verifier-core` 1.0.0-beta.11 knows eddsa-rdfc-2022 and Ed25519Signature2020: a badge with another
proof alone has an invalid signature to it, and a token none at all. Its clock is the machine's.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import pytest

from laurel.credential import contexts, did, jose, keys, lint, multibase, proofs, status
from tests.conformance import node_oracle
from tests.conformance.node_oracle import Report
from tests.unit.credential.samples import (
    BASE,
    CREATED,
    DID,
    INDEX,
    LIST_URL,
    P256_SIGNER,
    P384_SIGNER,
    PROFILE,
    SIGNER,
    badge,
    did_document,
    endorsement,
    signed,
    signed_badge,
    status_list,
)

pytestmark = pytest.mark.node

REGISTRY_URL = "https://registries.example/issuers.json"
REGISTRY = {"name": "Example registry", "type": "dcc-legacy", "url": REGISTRY_URL}
SUSPENSIONS_URL = LIST_URL + "-suspension"
# Two more issuers of the same tenant: one whose DID can not be had, one who shows another key under the name of ours.
GONE = did.did_web(BASE, "gone")
REKEYED = did.did_web(BASE, "rekeyed")
STRANGER = keys.Ed25519Signer(bytes(32), f"{REKEYED}#key-1")
SEEN = {"valid_signature": True, "revocation_status": True, "expiration": True, "registered_issuer": True}

Request = tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]


@functools.cache
def _web() -> dict[str, Any]:
    ecdsa = [
        did.DidKey(one.verification_method.partition("#")[2], one.public_key_multibase)
        for one in (P256_SIGNER, P384_SIGNER)
    ]
    schema = contexts.load_schema(contexts.OPEN_BADGES_SCHEMA)
    return {
        did.did_web_url(DID): did_document(*ecdsa),
        did.did_web_url(REKEYED): did.build_did_document(REKEYED, [("key-1", STRANGER.public_key_multibase, True)]),
        LIST_URL: signed(status_list(), "statuslist"),
        SUSPENSIONS_URL: suspensions(),
        contexts.OPEN_BADGES_SCHEMA: schema,
        contexts.ENDORSEMENT_SCHEMA: {**schema["$defs"]["EndorsementCredential"], "$defs": schema["$defs"]},
        REGISTRY_URL: {"registry": {DID: {"name": "Open University", "url": "https://open.example"}}},
    }  # fmt: skip


def suspensions(*indexes: int) -> dict[str, Any]:
    bits = bytearray(status.MINIMUM_ENTRIES // 8)
    for index in indexes:
        status.set_value(bits, index, 1)
    document = status.build_status_list(SUSPENSIONS_URL, DID, "suspension", status.encode_list(bits), CREATED)
    return signed(document, "statuslist")


def asked(credential: dict[str, Any], *, registries: list[dict[str, Any]] | None = None, **instead: Any) -> Request:
    """`credential` with the web as it should be, or with other `revocations` or `suspensions` (None: gone)."""
    urls = {"revocations": LIST_URL, "suspensions": SUSPENSIONS_URL}
    web = _web() | {urls[name]: document for name, document in instead.items()}
    return (
        credential,
        {url: document for url, document in web.items() if document is not None},
        ([REGISTRY] if registries is None else registries),
    )


def tampered(what: str) -> dict[str, Any]:
    document = signed_badge()
    match what:
        case "name":
            document["name"] += "."
        case "result":
            document["credentialSubject"]["result"][0]["value"] = "100"
        case "status":
            document["credentialStatus"]["statusListIndex"] = str(INDEX + 1)
        case "created":
            document["proof"]["created"] = "2026-05-04T12:31:06Z"
        case "proof value":
            raw = bytearray(multibase.decode(document["proof"]["proofValue"]))
            raw[5] ^= 1
            document["proof"]["proofValue"] = multibase.encode(bytes(raw))
        case "no proof":
            del document["proof"]
    return document


def issued_by(issuer: str) -> dict[str, Any]:
    """A badge of another issuer, signed by the key of the samples under that issuer's name."""
    document = badge(issuer=dataclasses.replace(PROFILE, id=issuer), status=None)
    signer = keys.Ed25519Signer(bytes(range(32)), f"{issuer}#key-1")
    return proofs.sign(lint.lint(document, issuer=issuer), signer, CREATED)


def forged_list() -> dict[str, Any]:
    document = signed(status_list(INDEX), "statuslist")
    document["credentialSubject"]["encodedList"] = status.encode_list(bytes(32_768))
    return document


def two_entries() -> dict[str, Any]:
    entries = [status.status_entry(LIST_URL, INDEX), status.status_entry(SUSPENSIONS_URL, 5, "suspension")]
    return signed(badge(status=entries))


def proof_set() -> dict[str, Any]:
    orders = [proofs.Order(SIGNER, proofs.RDFC, CREATED), proofs.Order(P256_SIGNER, proofs.ECDSA_RDFC, CREATED)]
    return proofs.sign_all(lint.lint(badge(), issuer=DID), orders)


def without_criteria() -> dict[str, Any]:
    """Well signed, but not by us: our lint refuses to sign it."""
    document = badge()
    del document["credentialSubject"]["achievement"]["criteria"]
    return node_oracle.issue(document, "Ed25519", bytes(range(32)), SIGNER.verification_method, "2026-05-04T12:31:05Z")


TAMPERED = ("name", "result", "status", "created", "proof value")
UNKNOWN = {
    "eddsa-jcs-2022": (proofs.JCS, SIGNER),
    "ecdsa-rdfc-2019": (proofs.ECDSA_RDFC, P256_SIGNER),
    "ecdsa-rdfc-2019:P-384": (proofs.ECDSA_RDFC, P384_SIGNER),
    "ecdsa-jcs-2019": (proofs.ECDSA_JCS, P256_SIGNER),
    "ecdsa-jcs-2019:P-384": (proofs.ECDSA_JCS, P384_SIGNER),
}
CASES: dict[str, Callable[[], Request]] = {
    "issued": lambda: asked(signed_badge()),
    "without status": lambda: asked(signed(badge(status=None, valid_until=CREATED.replace(year=2036)))),
    "endorsement": lambda: asked(signed(endorsement(), "endorsement")),
    "proof set": lambda: asked(proof_set()),
    "unregistered": lambda: asked(signed_badge(), registries=[]),
    "revoked": lambda: asked(signed_badge(), revocations=signed(status_list(INDEX), "statuslist")),
    "neighbours revoked": lambda: asked(
        signed_badge(), revocations=signed(status_list(INDEX - 1, INDEX + 1), "statuslist")
    ),
    "two entries": lambda: asked(two_entries()),
    "suspended": lambda: asked(two_entries(), suspensions=suspensions(5)),
    "forged list": lambda: asked(signed_badge(), revocations=forged_list()),
    "no list": lambda: asked(signed_badge(), revocations=None),
    "expired": lambda: asked(signed(badge(valid_until=CREATED.replace(month=5, day=20)))),
    "early": lambda: asked(signed(badge(valid_from=CREATED.replace(year=2036), awarded_date=None))),
    "no proof": lambda: asked(tampered("no proof")),
    "issuer gone": lambda: asked(issued_by(GONE)),
    "another key": lambda: asked(issued_by(REKEYED)),
    "no criteria": lambda: asked(without_criteria()),
    "envelope": lambda: asked(jose.enveloped(jose.sign_vc_jose(lint.lint(badge(), issuer=DID), SIGNER))),
    **{f"tampered {what}": functools.partial(lambda what: asked(tampered(what)), what) for what in TAMPERED},
    **{name: functools.partial(lambda how: asked(signed_badge(*how)), how) for name, how in UNKNOWN.items()},
}


@pytest.fixture(scope="module")
def reports(node_verify: object) -> dict[str, Report]:
    """Every case in one run of Node.js."""
    requests = [make() for make in CASES.values()]
    return dict(zip(CASES, node_oracle.verifier_core(requests), strict=True))


def test_an_issued_badge_is_accepted(reports: dict[str, Report]) -> None:
    first = reports["issued"]
    assert (first.errors, first.raised, first.log) == ((), None, SEEN)
    assert first.issuers == ("Open University",)
    assert first.schemas == {contexts.OPEN_BADGES_SCHEMA: True}
    assert set(first.fetched) == {did.did_web_url(DID), LIST_URL, REGISTRY_URL, contexts.OPEN_BADGES_SCHEMA}
    assert first.missed == ()


@pytest.mark.parametrize("name", ["without status", "endorsement", "proof set", "neighbours revoked", "two entries"])
def test_other_shapes_are_accepted(reports: dict[str, Report], name: str) -> None:
    report = reports[name]
    assert (report.errors, report.raised, report.missed) == ((), None, ())
    expected = dict(SEEN)
    if name in ("without status", "endorsement"):
        del expected["revocation_status"]
    if name == "two entries":
        expected["suspension_status"] = True
    assert report.log == expected
    schema = contexts.ENDORSEMENT_SCHEMA if name == "endorsement" else contexts.OPEN_BADGES_SCHEMA
    # 1EdTech's schema wants a single status entry (docs/adr/0003-one-status-entry.md), and that is what Laurel issues.
    assert report.schemas == {schema: name != "two entries"}


@pytest.mark.parametrize(
    ("name", "step", "outcome"),
    [
        ("revoked", "revocation_status", False),
        ("forged list", "revocation_status", "status_list_signature_error"),
        ("no list", "revocation_status", "status_list_not_found"),
        ("suspended", "suspension_status", False),
        ("expired", "expiration", False),
        ("unregistered", "registered_issuer", False),
    ],
)
def test_one_step_fails(reports: dict[str, Report], name: str, step: str, outcome: bool | str) -> None:
    report = reports[name]
    expected = SEEN | ({"suspension_status": True} if name == "suspended" else {})
    assert (report.errors, report.raised, report.log) == ((), None, expected | {step: outcome})
    assert report.schemas == {contexts.OPEN_BADGES_SCHEMA: name != "suspended"}  # as with "two entries"
    assert report.missed == ((LIST_URL,) if name == "no list" else ())


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_tampered_with_is_refused(reports: dict[str, Report], what: str) -> None:
    report = reports[f"tampered {what}"]
    assert (report.errors, report.log) == (("invalid_signature",), {})


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("no proof", "no_proof"),
        ("issuer gone", "did_web_unresolved"),
        ("another key", "invalid_signature"),
        ("envelope", "no_proof"),
    ],
)
def test_what_can_not_be_verified_is_refused(reports: dict[str, Report], name: str, error: str) -> None:
    assert (reports[name].errors, reports[name].log) == ((error,), {})


@pytest.mark.parametrize("name", UNKNOWN)
def test_other_cryptosuites_are_unknown_to_it(reports: dict[str, Report], name: str) -> None:
    """Whoever wants this verifier's yes takes eddsa-rdfc-2022, alone or in a proof set."""
    assert (reports[name].errors, reports[name].log) == (("invalid_signature",), {})


def test_a_badge_is_refused_before_its_time(reports: dict[str, Report]) -> None:
    """It has no step for this: its library raises, and the log that would have named the signature is lost."""
    report = reports["early"]
    assert report.errors == ()
    assert "validFrom" in (report.raised or "")
    assert "valid_signature" not in report.log


def test_its_schema_check_says_no(reports: dict[str, Report]) -> None:
    assert reports["no criteria"].log == SEEN
    assert reports["no criteria"].schemas == {contexts.OPEN_BADGES_SCHEMA: False}
