"""One badge in every format and under every kind of issuer id, each checked as a stranger would check it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from laurel.credential import did, jose, jose_keys, proofs, schema, securing
from laurel.credential.multikey import decode_public, from_jwk
from laurel.events import CredentialIssued, IssuerProfilePublished
from tests.component.issuer.kit import BASE_URL, Issuer, Tenant, achievement_of, passed_of

P384 = "ecdsa-rdfc-2019:P-384"
SETS = [[name] for name in securing.SECURINGS] + [
    ["eddsa-rdfc-2022", "ecdsa-rdfc-2019"],
    ["eddsa-jcs-2022", "ecdsa-jcs-2019", P384],
    ["proof-chain", "eddsa-rdfc-2022", P384, "ecdsa-jcs-2019"],
]


async def make_profile(issuer: Issuer, tenant: Tenant, *, status: int = 201, key: bool = True, **fields: Any) -> Any:
    body = {"slug": "physics", "name": "Department of Physics", "url": "https://physics.example.org/", **fields}
    made = await issuer.post(tenant, "/issuer/v1/profiles", body, status=status)
    if status == 201 and key and made["identity"] != "did:key":
        await issuer.rotate(tenant, made)
    return made


async def resolve(issuer: Issuer, identifier: str) -> Any:
    """The document that lists an issuer's keys, found as its id says."""
    if identifier.startswith("did:key:"):
        return did.resolve_did_key(identifier)
    url = did.did_web_url(identifier) if identifier.startswith("did:") else identifier
    assert url.startswith(BASE_URL)
    return await issuer.get(None, url.removeprefix(BASE_URL))


async def check(issuer: Issuer, body: bytes) -> dict[str, Any]:
    """Verify a stored credential by its issuer's public document; the credential."""
    read = json.loads(body)
    if isinstance(read, str):
        envelope = jose.parse(read)
        document = envelope.document
        controller = await resolve(issuer, document["issuer"]["id"])
        assert envelope.kid in [one["id"] for one in controller["verificationMethod"]]
        assert jose.verify(envelope, jose_keys.find_key(envelope, controller)).ok
        return document
    issued_by = read["issuer"] if isinstance(read["issuer"], str) else read["issuer"]["id"]
    controller = await resolve(issuer, issued_by)
    for proof in proofs.proofs_of(read):
        key = did.find_verification_method(controller, proof["verificationMethod"])
        result = proofs.verify_proof(read, proof, key)
        assert result.ok, result.detail
    document = {name: value for name, value in read.items() if name != "proof"}
    assert isinstance(document, dict)
    return document


async def body_of(issuer: Issuer, credential_id: str) -> bytes:
    (row,) = await issuer.sql("SELECT body FROM credentials WHERE credential_id::text = $1", credential_id)
    return bytes(row["body"])


@pytest.mark.parametrize("names", SETS, ids="+".join)
async def test_a_profile_secures_its_credentials_as_it_says(issuer: Issuer, names: list[str]) -> None:
    tenant = await issuer.tenant()
    profile = await make_profile(issuer, tenant, securing=names)
    assert profile["securing"] == names
    achievement = await issuer.achievement(tenant, profile["profile_id"])
    passed = passed_of(achievement, 1)
    await issuer.process([passed])

    body = await body_of(issuer, passed.credential_id)
    document = await check(issuer, body)
    assert document["id"] == f"{BASE_URL}/c/{passed.credential_id}"
    assert not schema.open_badge_findings(document)
    ways = securing.ways(names)
    if ways[0].form == "data-integrity":
        made = proofs.proofs_of(json.loads(body))
        assert [proof["cryptosuite"] for proof in made] == [way.algorithm for way in ways]
        before = [proof.get("previousProof") for proof in made]
        chained = names[0] == securing.CHAIN
        assert before == ([None, *(proof["id"] for proof in made[:-1])] if chained else [None] * len(made))
    else:
        envelope = jose.parse(json.loads(body))
        assert (envelope.format, envelope.algorithm) == (ways[0].form, ways[0].algorithm)
    shown = await issuer.get(tenant, f"/issuer/v1/credentials/{passed.credential_id}")
    assert shown["document"] == json.loads(body)
    (event,) = await issuer.outbox(CredentialIssued)
    assert isinstance(event, CredentialIssued)
    assert bytes(event.document) == body

    url = document["credentialStatus"]["statusListCredential"].removeprefix(BASE_URL)
    status_list = (await issuer.http.get(url)).content
    assert (await check(issuer, status_list))["type"][-1] == "BitstringStatusListCredential"
    keys = (await issuer.get(tenant, f"/issuer/v1/profiles/{profile['profile_id']}/keys"))["items"]
    assert sorted(key["key_type"] for key in keys) == list(securing.key_types(names, names))


@pytest.mark.parametrize(
    "names",
    [
        ["eddsa-rdfc-2022", "ecdsa-rdfc-2019", P384],
        ["proof-chain", "eddsa-jcs-2022", P384],
        ["vc-jwt"],
        ["vc+jwt:ES256"],
    ],
)
async def test_an_event_that_comes_again_leads_to_the_same_bytes(issuer: Issuer, names: list[str]) -> None:
    tenant = await issuer.tenant()
    profile = await make_profile(issuer, tenant, securing=names)
    achievement = await issuer.achievement(tenant, profile["profile_id"])
    messages = issuer.messages([passed_of(achievement, number) for number in range(3)])

    from laurel import envelope

    died = await issuer.issuance.prepare([envelope.decode(message) for message in messages])
    before = {one.intent.credential_id: one.body for one in died.signed}
    # Its owner thinks better of it, and rotates: what is reserved stays what it is.
    path = f"/issuer/v1/profiles/{profile['profile_id']}"
    changed = {"name": "Physics", "url": "https://physics.example.org/", "securing": ["eddsa-jcs-2022"]}
    assert (await issuer.http.put(path, json=changed, headers=tenant.headers)).status_code == 200
    await issuer.rotate(tenant, profile)
    issuer.clock.move(hours=5)
    await issuer.process(messages)
    rows = await issuer.sql("SELECT credential_id::text, body FROM credentials")
    assert {row["credential_id"]: bytes(row["body"]) for row in rows} == before
    for body in before.values():
        await check(issuer, body)


async def test_an_achievement_says_otherwise_and_its_key_is_made_when_it_is_needed(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await make_profile(issuer, tenant)
    plain = await issuer.achievement(tenant, profile["profile_id"])
    token = await issuer.achievement(
        tenant, profile["profile_id"], securing=("vc-jwt",), credential_type="AchievementCredential"
    )
    await issuer.process([passed_of(plain, 1)])
    keys = f"/issuer/v1/profiles/{profile['profile_id']}/keys"
    assert [key["key_type"] for key in (await issuer.get(tenant, keys))["items"]] == ["Ed25519"]
    passed = passed_of(token, 1)
    await issuer.process([passed, passed_of(plain, 2)])
    document = await check(issuer, await body_of(issuer, passed.credential_id))
    assert document["type"] == ["VerifiableCredential", "AchievementCredential"]
    other = await check(issuer, await body_of(issuer, passed_of(plain, 2).credential_id))
    assert other["type"] == ["VerifiableCredential", "OpenBadgeCredential"]
    assert [key["key_type"] for key in (await issuer.get(tenant, keys))["items"]] == ["Ed25519", "RSA"]

    controller = await issuer.get(None, "/issuers/physics/did.json")
    rsa = next(one for one in controller["verificationMethod"] if one["type"] == "JsonWebKey")
    assert decode_public(from_jwk(rsa["publicKeyJwk"])).type == "RSA"
    jwks = (await issuer.get(None, "/issuers/physics/jwks.json"))["keys"]
    assert {one["kid"] for one in jwks} == {one["id"] for one in controller["verificationMethod"]}
    assert jose.parse(json.loads(await body_of(issuer, passed.credential_id))).kid in {one["kid"] for one in jwks}
    published = [one for one in await issuer.outbox(IssuerProfilePublished) if isinstance(one, IssuerProfilePublished)]
    assert published[-1].did_document == controller


async def test_a_key_that_was_compromised_is_not_replaced_by_itself(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await make_profile(issuer, tenant, securing=["eddsa-rdfc-2022", "ecdsa-jcs-2019"])
    achievement = await issuer.achievement(tenant, profile["profile_id"])
    await issuer.process([passed_of(achievement, 1)])
    keys = f"/issuer/v1/profiles/{profile['profile_id']}/keys"
    listed = (await issuer.get(tenant, keys))["items"]
    second = next(key for key in listed if key["key_type"] == "P-256")
    prepared = issuer.messages([passed_of(achievement, 2)])

    from laurel import envelope

    await issuer.issuance.prepare([envelope.decode(message) for message in prepared])  # reserved with that key
    await issuer.post(tenant, f"{keys}/{second['key_id']}/compromise")
    await issuer.process(prepared)
    counts = (await issuer.get(tenant, "/issuer/v1/reports/reconcile"))["counts"]
    assert (counts["issued"], counts["waiting_for"]) == (1, {"no_active_key": 1})
    await issuer.work("parked")
    answer = await issuer.http.post(keys, json={"key_type": "P-256"}, headers=tenant.headers)
    assert answer.status_code == 201
    await issuer.work("parked")
    await check(issuer, await body_of(issuer, passed_of(achievement, 2).credential_id))
    states = [(key["key_type"], key["state"]) for key in (await issuer.get(tenant, keys))["items"]]
    assert states == [("Ed25519", "active"), ("P-256", "compromised"), ("P-256", "active")]


async def test_many_workers_make_one_key_of_a_kind(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await make_profile(issuer, tenant)
    maker = issuer.issuance._keys
    await asyncio.gather(*(maker.make_missing(profile["profile_id"], ["P-256", "P-384"]) for _ in range(4)))
    rows = await issuer.sql("SELECT key_type FROM signing_keys ORDER BY key_type")
    assert [row["key_type"] for row in rows] == ["Ed25519", "P-256", "P-384"]


@pytest.mark.parametrize(
    ("identity", "names"),
    [
        ("https", ["eddsa-rdfc-2022"]),
        ("https", ["eddsa-jcs-2022", "ecdsa-rdfc-2019"]),
        ("https", ["vc-jwt"]),
        ("did:key", ["eddsa-rdfc-2022"]),
        ("did:key", ["ecdsa-rdfc-2019", "ecdsa-jcs-2019"]),
        ("did:key", ["vc+jwt"]),
        ("did:key", ["vc-jwt:ES256"]),
    ],
)
async def test_an_issuer_is_what_its_identity_says(issuer: Issuer, identity: str, names: list[str]) -> None:
    tenant = await issuer.tenant()
    profile = await make_profile(issuer, tenant, identity=identity, securing=names)
    expected = f"{BASE_URL}/issuers/physics" if identity == "https" else "did:key:z"
    assert profile["did"].startswith(expected)
    achievement = await issuer.achievement(tenant, profile["profile_id"])
    passed = passed_of(achievement, 1)
    await issuer.process([passed])
    document = await check(issuer, await body_of(issuer, passed.credential_id))
    assert document["issuer"]["id"] == profile["did"]
    url = document["credentialStatus"]["statusListCredential"].removeprefix(BASE_URL)
    assert (await check(issuer, (await issuer.http.get(url)).content))["issuer"] == profile["did"]
    (event,) = await issuer.outbox(CredentialIssued)
    assert isinstance(event, CredentialIssued)
    assert event.issuer == profile["did"]


async def test_an_https_issuer_is_described_at_its_id(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    await make_profile(issuer, tenant, identity="https")
    for accept, media_type in (("*/*", "application/ld+json"), ("application/json", "application/json")):
        answer = await issuer.http.get("/issuers/physics", headers={"Accept": accept})
        assert answer.headers["content-type"] == media_type
    document = answer.json()
    url = f"{BASE_URL}/issuers/physics"
    assert (document["id"], document["type"]) == (url, ["Profile"])
    assert document["assertionMethod"] == [f"{url}#key-1"]
    assert document["verificationMethod"][0]["controller"] == url
    await issuer.get(None, "/issuers/physics/did.json", status=404)


async def test_a_did_key_cannot_be_rotated_or_taken_out(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await make_profile(issuer, tenant, identity="did:key")
    path = f"/issuer/v1/profiles/{profile['profile_id']}"
    (key,) = (await issuer.get(tenant, f"{path}/keys"))["items"]
    assert key["verification_method"] == f"{profile['did']}#{key['public_key_multibase']}"
    for action in (f"{path}/keys", f"{path}/keys/{key['key_id']}/compromise"):
        refused = await issuer.post(tenant, action, status=409)
        assert refused["type"] == "urn:laurel:problem:identity_is_the_key"
    body = {"name": "Physics", "url": "https://physics.example.org/", "securing": ["ecdsa-rdfc-2019"]}
    answer = await issuer.http.put(path, json=body, headers=tenant.headers)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "/securing")
    # An achievement that needs another key than the issuer can have waits, and the report says for what.
    achievement = await issuer.achievement(tenant, profile["profile_id"], securing=("vc-jwt",))
    await issuer.process([passed_of(achievement, 1)])
    await issuer.work("parked")
    counts = (await issuer.get(tenant, "/issuer/v1/reports/reconcile"))["counts"]
    assert counts["waiting_for"] == {"no_active_key": 1}


@pytest.mark.parametrize("elsewhere", [False, True], ids=["another way", "another issuer"])
async def test_a_newer_version_corrects_what_a_did_key_cannot_sign(issuer: Issuer, elsewhere: bool) -> None:
    tenant = await issuer.tenant()
    profile = await make_profile(issuer, tenant, identity="did:key")
    other = await issuer.profile(tenant, "chemistry")
    wrong = await issuer.achievement(tenant, profile["profile_id"], securing=("vc-jwt",))
    waiting = passed_of(wrong, 1)
    await issuer.process([waiting])
    await issuer.achievement(
        tenant, profile["profile_id"], achievement_id=wrong.achievement_id, version=2, securing=("ecdsa-rdfc-2019",)
    )
    await issuer.work("parked")
    assert await issuer.sql("SELECT * FROM credentials") == []  # that version cannot be signed either
    right = (other["profile_id"], None) if elsewhere else (profile["profile_id"], ("eddsa-jcs-2022",))
    await issuer.achievement(tenant, right[0], achievement_id=wrong.achievement_id, version=3, securing=right[1])
    await issuer.work("parked")
    assert await issuer.sql("SELECT * FROM parked") == []
    document = await check(issuer, await body_of(issuer, waiting.credential_id))
    assert document["issuer"]["id"] == (other if elsewhere else profile)["did"]
    proof = json.loads(await body_of(issuer, waiting.credential_id))["proof"]
    assert proof["cryptosuite"] == ("eddsa-rdfc-2022" if elsewhere else "eddsa-jcs-2022")
    (row,) = await issuer.sql("SELECT achievement_version FROM credentials")
    assert row["achievement_version"] == 1  # what was passed stays what it was
    late = passed_of(wrong, 2)
    await issuer.process([late])
    await check(issuer, await body_of(issuer, late.credential_id))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"securing": []}, "/securing"),
        ({"securing": ["rsa-2048"]}, "/securing"),
        ({"securing": ["vc-jwt", "eddsa-rdfc-2022"]}, "/securing"),
        ({"identity": "did:key", "securing": ["vc-jwt"]}, "/securing"),
        ({"identity": "did:key", "securing": ["eddsa-rdfc-2022", "ecdsa-rdfc-2019"]}, "/securing"),
        ({"identity": "did:ethr"}, "/identity"),
        ({"credential_type": "Diploma"}, "/credential_type"),
        ({"email": "a@b..c"}, "/email"),
        ({"name": "\u200b"}, "/name"),
        ({"image": "https://e.org/" + "\u4e2d" * 40_000}, "/image"),
    ],
)
async def test_what_a_profile_cannot_be_is_refused_by_its_field(
    issuer: Issuer, fields: dict[str, Any], field: str
) -> None:
    tenant = await issuer.tenant()
    refused = await make_profile(issuer, tenant, status=422, **fields)
    assert field in {one["field"] for one in refused["errors"]}


async def test_a_way_that_this_version_does_not_know_is_a_dead_letter(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    await issuer.process([achievement_of(tenant, None, securing=("eddsa-2031",))], "issuer.achievements")
    (row,) = await issuer.sql("SELECT code FROM dead_letters")
    assert row["code"] == "bad_securing"
