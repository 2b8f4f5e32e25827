"""API keys, access tokens and the audit log in the midst of deaths.

A key whose answer was lost is somebody's to find and to end: it stands in the list under its label, and nobody has its
text. Every service must then know the same keys, and the audit log tell of each act once.
"""

from __future__ import annotations

import base64
import collections
from typing import TYPE_CHECKING, Any

from laurel import audit
from laurel.callers import TOKEN_PATH
from laurel.migrate import SERVICES

if TYPE_CHECKING:
    from tests.faults.cohort import Cohort

_ANYWHERE = "/verifier/v1/reports/reconcile"  # 401: the service has not heard of it yet, or no longer takes it


async def use_keys(cohort: Cohort, name: str) -> None:
    """A key is made, gets another secret, is exchanged for a token, and all keys of its label are revoked."""
    made = await cohort.call("POST", "/issuer/v1/api-keys", 201, json={"label": name, "scopes": ["reports:read"]})
    rotated = await cohort.call("POST", f"/issuer/v1/api-keys/{made['key_id']}/rotate", 201, json={"overlap_s": 0})
    await cohort.call("GET", _ANYWHERE, 200, again=(401,), key=rotated["text"])
    await cohort.call("GET", _ANYWHERE, 401, again=(200,), key=made["text"])

    # The key that signs tokens has had its thirty days; nobody wants to wait so long. The first time there is none.
    await cohort.laurel.rows("UPDATE issuer.token_keys SET created_at = created_at - interval '30 days'")
    cohort.laurel.token_keys += 1
    basic = base64.b64encode(f"{made['key_id']}:{rotated['text']}".encode()).decode()
    answer = await cohort.call(
        "POST", TOKEN_PATH, 200, data={"grant_type": "client_credentials"}, headers={"Authorization": f"Basic {basic}"}
    )
    await cohort.call("GET", _ANYWHERE, 200, again=(401,), key=answer["access_token"])

    listed = (await cohort.call("GET", "/issuer/v1/api-keys?limit=500", 200))["items"]
    ours = [one["key_id"] for one in listed if one["label"] == name]
    assert made["key_id"] in ours
    for key_id in ours:
        await cohort.call("DELETE", f"/issuer/v1/api-keys/{key_id}", 204)
    await cohort.call("GET", _ANYWHERE, 401, again=(200,), key=rotated["text"])
    cohort.ended_keys |= set(ours)


async def check(cohort: Cohort) -> None:
    """All services know the same keys, of which one is in force; each act is told once, in a chain that holds."""
    known: dict[str, list[tuple[Any, ...]]] = {}
    taken: dict[str, list[tuple[Any, ...]]] = {}
    for service in SERVICES:
        keys = await cohort.laurel.rows(
            "SELECT key_id, revoked_at IS NOT NULL, secret_hash, previous_secrets::text, rotated_at "
            f"FROM {service}.api_keys WHERE tenant_id = $1 ORDER BY key_id", cohort.tenant_id,
        )  # fmt: skip
        known[service] = [tuple(row) for row in keys]
        signers = await cohort.laurel.rows(f"SELECT kid, public_key FROM {service}.token_keys ORDER BY kid")
        taken[service] = [tuple(row) for row in signers]
    assert all(one == known["issuer"] for one in known.values()), "each service knows the same keys"
    assert all(one == taken["issuer"] for one in taken.values()), "and the same keys of tokens"
    assert len(taken["issuer"]) == cohort.laurel.token_keys, "a key for tokens is made once when one is due"
    sealed = await cohort.laurel.rows("SELECT kid FROM issuer.token_secrets ORDER BY kid")
    assert [row[0] for row in sealed] == [row[0] for row in taken["issuer"]]
    revoked = {row[0] for row in known["issuer"] if row[1]}
    assert revoked == cohort.ended_keys
    assert len(known["issuer"]) == len(revoked) + 1, "but for the organisation's first one"

    acts: dict[str, collections.Counter[str]] = {}
    for service in SERVICES:
        chain = await cohort.laurel.audit_chain(service, cohort.tenant_id)
        audit.check(chain, tenant_id=cohort.tenant_id)
        done = [one for one in chain if one["outcome"] == "done"]
        acts[service] = collections.Counter(one["action"] for one in done)
    issuer = acts["issuer"]
    assert (issuer["api_key.create"], issuer["api_key.revoke"]) == (len(revoked), len(revoked))
    assert issuer["credential.revoke"] == len(cohort.revoked)
    assert issuer["credential.suspend"] == len(cohort.suspended)
    assert acts["assessment"]["learner.erase"] == len(cohort.erased)
    asked = {service: acts[service]["dead_letters.redrive"] for service in SERVICES}
    assert asked == {service: len(cohort.redriven[service]) for service in SERVICES}, "each redrive is told once"
