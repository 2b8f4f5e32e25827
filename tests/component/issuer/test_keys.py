"""Signing keys: sealed at rest, rotated without harm to old badges, taken out when compromised."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from laurel.credential import proofs
from laurel.credential.did import DidError, find_verification_method
from laurel.credential.keys import Ed25519Signer
from laurel.events import IssuerProfilePublished
from laurel.security import unseal
from laurel_issuer.domain import Inconsistent
from laurel_issuer.signing import Signers
from tests.component.issuer.kit import Issuer, passed_of


async def did_document(issuer: Issuer) -> Any:
    return await issuer.get(None, "/issuers/physics/did.json")


async def stored(issuer: Issuer) -> list[dict[str, Any]]:
    return [json.loads(row["body"]) for row in await issuer.sql("SELECT body FROM credentials ORDER BY seq")]


def verifies(document: dict[str, Any], controller: Any) -> bool:
    key = find_verification_method(controller, document["proof"]["verificationMethod"])
    return proofs.verify_proof(document, document["proof"], key).ok


async def test_rotation_keeps_old_badges_valid(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    achievement = await issuer.achievement(tenant, profile["profile_id"])
    await issuer.process([passed_of(achievement, 1)])
    second = await issuer.rotate(tenant, profile)
    await issuer.process([passed_of(achievement, 2)])
    old, new = await stored(issuer)
    controller = await did_document(issuer)
    assert verifies(old, controller)
    assert verifies(new, controller)
    assert new["proof"]["verificationMethod"] == second["verification_method"] != old["proof"]["verificationMethod"]
    keys = (await issuer.get(tenant, f"/issuer/v1/profiles/{profile['profile_id']}/keys"))["items"]
    assert [key["state"] for key in keys] == ["retired", "active"]


async def test_a_compromised_key_is_taken_out_and_its_lists_are_signed_anew(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    achievement = await issuer.achievement(tenant, profile["profile_id"])
    await issuer.process([passed_of(achievement, 1)])
    (old,) = await stored(issuer)
    keys = f"/issuer/v1/profiles/{profile['profile_id']}/keys"
    (first,) = (await issuer.get(tenant, keys))["items"]
    answer = await issuer.post(tenant, f"{keys}/{first['key_id']}/compromise")
    assert answer == {"key_id": first["key_id"], "state": "compromised"}
    assert (await did_document(issuer))["verificationMethod"] == []
    with pytest.raises(DidError, match="key_not_found"):
        find_verification_method(await did_document(issuer), old["proof"]["verificationMethod"])

    await issuer.work("status lists")  # no key to sign with: the list waits, the worker goes on
    assert len(await issuer.sql("SELECT * FROM status_list_dirt")) == 1
    await issuer.process([passed_of(achievement, 2)])
    counts = (await issuer.get(tenant, "/issuer/v1/reports/reconcile"))["counts"]
    assert counts["waiting_for"] == {"no_active_key": 1}

    second = await issuer.rotate(tenant, profile)
    assert second["verification_method"] != first["verification_method"]
    await issuer.work("status lists")
    await issuer.work("parked")
    _, new = await stored(issuer)
    status_list = await issuer.get(None, new["credentialStatus"]["statusListCredential"].partition("org")[2])
    for document in (new, status_list):
        assert verifies(document, await did_document(issuer))
    again = await issuer.post(tenant, f"{keys}/{first['key_id']}/compromise")
    assert again["state"] == "compromised"


async def test_a_list_is_never_left_signed_by_a_key_that_was_compromised_meanwhile(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    achievement = await issuer.achievement(tenant, profile["profile_id"])
    keys = f"/issuer/v1/profiles/{profile['profile_id']}/keys"
    (first,) = (await issuer.get(tenant, keys))["items"]
    honest, compromised = Signers.sign_list, False

    async def slow(self: Signers, *arguments: Any) -> bytes:
        nonlocal compromised
        body = await honest(self, *arguments)
        if not compromised:
            compromised = True
            await issuer.post(tenant, f"{keys}/{first['key_id']}/compromise")
            await issuer.rotate(tenant, profile)
        return body

    monkeypatch.setattr(Signers, "sign_list", slow)
    await issuer.process([passed_of(achievement, 1)])
    (new,) = await stored(issuer)
    status_list = await issuer.get(None, new["credentialStatus"]["statusListCredential"].partition("org")[2])
    for document in (new, status_list):
        assert verifies(document, await did_document(issuer))


async def test_every_change_of_profile_or_keys_is_published_with_the_next_version(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    path = f"/issuer/v1/profiles/{profile['profile_id']}"
    changed = {"name": "Faculty of Physics", "url": "https://faculty.example.org/", "description": "Since 1842."}
    answer = await issuer.http.put(path, json=changed, headers=tenant.headers)
    assert answer.status_code == 200
    (first,) = (await issuer.get(tenant, f"{path}/keys"))["items"]
    await issuer.rotate(tenant, profile)
    await issuer.post(tenant, f"{path}/keys/{first['key_id']}/compromise")
    await issuer.post(tenant, f"{path}/keys/{first['key_id']}/compromise")  # again: nothing changes
    events = [one for one in await issuer.outbox(IssuerProfilePublished) if isinstance(one, IssuerProfilePublished)]
    assert [event.version for event in events] == [1, 2, 3, 4, 5]
    assert [len(event.did_document["verificationMethod"]) for event in events] == [0, 1, 1, 2, 1]
    assert events[-1].did_document == await did_document(issuer)
    assert events[-1].profile == await issuer.get(None, "/issuers/physics")
    assert events[-1].profile["name"] == "Faculty of Physics"
    assert {event.did for event in events} == {"did:web:badges.example.org:issuers:physics"}


async def test_key_bytes_are_nowhere_in_the_clear(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    achievement = await issuer.achievement(tenant, profile["profile_id"])
    await issuer.process([passed_of(achievement, 1)])
    (key,) = await issuer.sql("SELECT sealed_seed, public_key_multibase FROM signing_keys")
    seed = unseal(issuer.settings.kek.get_secret_value(), key["sealed_seed"], purpose="signing-key")
    assert Ed25519Signer(seed, "did:example:x#1").public_key_multibase == key["public_key_multibase"]
    forms = [seed.hex(), base64.b64encode(seed).decode(), base64.urlsafe_b64encode(seed).decode().rstrip("=")]
    tables = await issuer.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'issuer'")
    assert len(tables) > 10
    for table in tables:
        for row in await issuer.sql(f"SELECT * FROM {table['tablename']}"):
            for value in row.values():
                if isinstance(value, bytes):
                    assert seed not in value
                    assert not any(form.encode() in value for form in forms)
                else:
                    assert not any(form in str(value) for form in forms)


async def test_two_keys_made_at_once_leave_one_active(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    await asyncio.gather(*(issuer.rotate(tenant, profile) for _ in range(8)))
    keys = (await issuer.get(tenant, f"/issuer/v1/profiles/{profile['profile_id']}/keys"))["items"]
    assert sorted(key["state"] for key in keys) == ["active"] + ["retired"] * 8
    assert len({key["verification_method"] for key in keys}) == 9
    assert len((await did_document(issuer))["assertionMethod"]) == 9


async def test_what_was_reserved_before_a_rotation_is_signed_with_the_key_of_then(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal intents give equal bytes: lint lets a retired key finish what was dated before its end."""
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    achievement = await issuer.achievement(tenant, profile["profile_id"])
    honest = Signers.make

    async def dies(self: Signers, work: Any) -> Any:
        raise Inconsistent("died between reserve and finish")

    monkeypatch.setattr(Signers, "make", dies)
    with pytest.raises(Inconsistent, match="died"):
        await issuer.process([passed_of(achievement, 1)])
    await issuer.rotate(tenant, profile)
    monkeypatch.setattr(Signers, "make", honest)
    await issuer.process([passed_of(achievement, 1), passed_of(achievement, 2)])
    old, new = await stored(issuer)
    assert old["proof"]["verificationMethod"] != new["proof"]["verificationMethod"]
    assert all([verifies(one, await did_document(issuer)) for one in (old, new)])
    assert await issuer.sql("SELECT * FROM dead_letters") == []


async def test_a_reservation_dated_long_after_its_key_was_retired_is_refused(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    achievement = await issuer.achievement(tenant, profile["profile_id"])
    await issuer.sql("UPDATE signing_keys SET ended_at = created_at - interval '1 day'")
    await issuer.process([passed_of(achievement, 1)])
    assert await stored(issuer) == []
    (letter,) = (await issuer.get(tenant, "/issuer/v1/dead-letters"))["items"]
    assert letter["code"] == "lint_failed"
    assert letter["detail"].startswith("key-active at /issuer: the key")
