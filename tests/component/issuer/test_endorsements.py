"""Endorsements: signed at once, the same for the same request, listed, revoked, and never counted as badges."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from laurel.credential import proofs, status
from laurel.events import CredentialIssued, CredentialStatusChanged, EndorsementIssued
from laurel_issuer.signing import Signers
from tests.component.issuer.kit import BASE_URL, START, Issuer, Tenant, passed_of
from tests.component.issuer.test_formats import body_of, check, make_profile

PATH = "/issuer/v1/endorsements"
SUBJECT = {"id": "https://elsewhere.example.org/achievements/7", "type": "Achievement"}


def request(profile: dict[str, Any], **fields: Any) -> dict[str, Any]:
    comment = "We teach by it, too:\n\n- sound\n- *fair*"
    return {"profile_id": profile["profile_id"], "subject": SUBJECT, "endorsement_comment": comment, **fields}


async def endorse(issuer: Issuer, tenant: Tenant, body: Any, *, key: str | None = None, status: int = 201) -> Any:
    headers = tenant.headers if key is None else {**tenant.headers, "Idempotency-Key": key}
    answer = await issuer.http.post(PATH, json=body, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.mark.parametrize(
    "names", [["eddsa-rdfc-2022"], ["eddsa-jcs-2022", "ecdsa-rdfc-2019"], ["vc-jwt"], ["vc+jwt"]], ids="+".join
)
async def test_an_endorsement_is_a_credential_that_strangers_can_verify(issuer: Issuer, names: list[str]) -> None:
    tenant = await issuer.tenant()
    profile = await make_profile(issuer, tenant, securing=names)
    made = await endorse(issuer, tenant, request(profile, valid_until="2027-01-01T00:00:00Z", name="Well made"))
    document = await check(issuer, json.dumps(made["document"]).encode())
    assert document["type"] == ["VerifiableCredential", "EndorsementCredential"]
    assert document["id"] == made["url"] == f"{BASE_URL}/c/{made['credential_id']}"
    assert document["issuer"]["id"] == profile["did"]
    assert document["credentialSubject"] == {
        "id": SUBJECT["id"], "type": ["EndorsementSubject"],
        "endorsementComment": request(profile)["endorsement_comment"],
    }  # fmt: skip
    assert (document["name"], document["validUntil"]) == ("Well made", "2027-01-01T00:00:00Z")
    (event,) = await issuer.outbox(EndorsementIssued)
    assert isinstance(event, EndorsementIssued)
    assert bytes(event.document) == await body_of(issuer, made["credential_id"])
    assert (event.subject_id, event.subject_type) == (SUBJECT["id"], "Achievement")
    assert not await issuer.outbox(CredentialIssued)
    listed = (await issuer.get(tenant, PATH))["items"]
    assert listed == [{name: value for name, value in made.items() if name != "document"}]
    assert await issuer.get(tenant, f"{PATH}/{made['credential_id']}") == made


async def test_pages_follow_each_other_and_tell_no_number_of_all_organisations(issuer: Issuer) -> None:
    tenant, other = await issuer.tenant(), await issuer.tenant("other")
    profile = await issuer.profile(tenant)
    made = [(await endorse(issuer, tenant, request(profile, name=f"E{n}")))["credential_id"] for n in range(5)]
    seen, after = [], ""
    for _ in range(3):
        page = await issuer.get(tenant, f"{PATH}?limit=2{after}")
        seen += [one["credential_id"] for one in page["items"]]
        assert page["next"] == (seen[-1] if len(seen) < 5 else None)
        after = f"&after={page['next']}"
    assert seen == made
    answer = await issuer.http.get(f"{PATH}?after={made[0]}", headers=other.headers)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "bad_cursor")


async def test_the_same_request_has_the_same_answer(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    first = await endorse(issuer, tenant, request(profile))
    issuer.clock.move(hours=1)
    assert await endorse(issuer, tenant, request(profile), status=200) == first
    assert (await endorse(issuer, tenant, request(profile, name="Another")))["credential_id"] != first["credential_id"]
    keyed = await endorse(issuer, tenant, request(profile), key="k1")
    assert keyed["credential_id"] != first["credential_id"]
    assert await endorse(issuer, tenant, request(profile), key="k1", status=200) == keyed
    refused = await endorse(issuer, tenant, request(profile, name="Other"), key="k1", status=422)
    assert refused["type"] == "urn:laurel:problem:idempotency_key_reused"
    at_once = await asyncio.gather(*(issuer.http.post(
        PATH, json=request(profile), headers={**tenant.headers, "Idempotency-Key": "k2"}
    ) for _ in range(4)))  # fmt: skip
    assert sorted(answer.status_code for answer in at_once) == [200, 200, 200, 201]
    assert len({answer.text for answer in at_once}) == 1
    assert len(await issuer.outbox(EndorsementIssued)) == 4


async def test_a_death_before_the_end_leads_to_the_same_bytes(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    honest, made = Signers.sign_endorsement, []

    async def dies(self: Signers, *arguments: Any) -> bytes:
        made.append(await honest(self, *arguments))
        raise ConnectionResetError("the process died")

    with monkeypatch.context() as patch:
        patch.setattr(Signers, "sign_endorsement", dies)
        answer = await issuer.http.post(PATH, json=request(profile), headers=tenant.headers)
        assert answer.status_code >= 500
    assert not await issuer.sql("SELECT 1 FROM credentials")
    assert not (await issuer.get(tenant, PATH))["items"]
    issuer.clock.move(days=2)
    await issuer.rotate(tenant, profile)
    again = await endorse(issuer, tenant, request(profile))
    assert await body_of(issuer, again["credential_id"]) == made[0]
    assert proofs.proofs_of(again["document"])[0]["created"] == START.isoformat()[:19] + "Z"


async def test_an_endorsement_is_revoked_like_a_badge_and_counted_apart(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    achievement = await issuer.achievement(tenant, profile["profile_id"])
    made = await endorse(issuer, tenant, request(profile))
    await issuer.process([passed_of(achievement, 1)])
    counts = (await issuer.get(tenant, "/issuer/v1/reports/reconcile"))["counts"]
    assert counts["issued"] == 1
    ids = (await issuer.get(tenant, "/issuer/v1/reports/credentials"))["items"]
    assert ids == [passed_of(achievement, 1).credential_id]
    assert len((await issuer.get(tenant, "/issuer/v1/credentials"))["items"]) == 1
    body = {"action": "suspend", "reason": "All of them", "where": {"issued_from": "2026-01-01T00:00:00Z"}}
    assert (await issuer.post(tenant, "/issuer/v1/credentials/status", body))["matched"] == 1

    path = f"/issuer/v1/credentials/{made['credential_id']}/revoke"
    assert (await issuer.post(tenant, path, {"reason": "We were wrong."}))["status"] == "revoked"
    await issuer.work("status lists")
    entry = made["document"]["credentialStatus"]
    published = await issuer.get(None, entry["statusListCredential"].removeprefix(BASE_URL))
    bits = status.decode_list(published["credentialSubject"]["encodedList"])
    assert status.value(bits, int(entry["statusListIndex"]))
    assert (await issuer.get(tenant, f"{PATH}/{made['credential_id']}"))["status"] == "revoked"
    changed = [one.credential_id for one in await issuer.outbox(CredentialStatusChanged)]  # type: ignore[attr-defined]
    assert made["credential_id"] in changed


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"subject": {"id": "not an id", "type": "Profile"}}, "/subject/id"),
        ({"subject": {"id": "did:key:zBad", "type": "Profile"}}, "/subject/id"),
        ({"subject": {"id": "https://a.example/1", "type": "Person"}}, "/subject/type"),
        ({"endorsement_comment": "   "}, "/endorsement_comment"),
        ({"endorsement_comment": "<b>good</b>"}, "/endorsement_comment"),
        ({"valid_until": "2020-01-01T00:00:00Z"}, "/valid_until"),
        ({"profile_id": "019a0000-0000-7000-8000-000000000001"}, "/profile_id"),
        ({"name": "undefined"}, "/name"),
    ],
)
async def test_what_is_wrong_is_refused_by_its_field(issuer: Issuer, fields: dict[str, Any], field: str) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    refused = await endorse(issuer, tenant, request(profile, **fields), status=422)
    assert field in {one["field"] for one in refused["errors"]}
    assert not await issuer.sql("SELECT 1 FROM credentials")


async def test_without_a_key_nothing_is_endorsed_and_other_organisations_see_nothing(issuer: Issuer) -> None:
    tenant, other = await issuer.tenant(), await issuer.tenant("other")
    profile = await issuer.profile(tenant, key=False)
    refused = await endorse(issuer, tenant, request(profile), status=409)
    assert refused["type"] == "urn:laurel:problem:no_active_key"
    await issuer.rotate(tenant, profile)
    made = await endorse(issuer, tenant, request(profile))
    assert (await issuer.get(other, PATH))["items"] == []
    await issuer.get(other, f"{PATH}/{made['credential_id']}", status=404)
    await endorse(issuer, other, request(profile), status=422)
