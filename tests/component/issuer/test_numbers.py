"""The numbers that the alerts ask for, as the tables tell them."""

from __future__ import annotations

from laurel_issuer.numbers import numbers
from tests.component.issuer.kit import Issuer, achievement_of, passed_of


async def told(issuer: Issuer) -> dict[str, float]:
    async with issuer.service.worker_database.transaction() as tx:
        return dict(await numbers(tx))


async def test_parked_passes_and_changed_lists_are_counted(issuer: Issuer) -> None:
    assert await told(issuer) == {"laurel_parked_passes": 0, "laurel_status_lists_changed": 0}
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    unknown = achievement_of(tenant, profile["profile_id"])
    await issuer.process([passed_of(unknown, 1), passed_of(unknown, 2)])
    assert (await told(issuer))["laurel_parked_passes"] == 2

    known = await issuer.achievement(tenant, profile["profile_id"])
    passed = passed_of(known, 3)
    await issuer.process([passed])
    await issuer.work("status lists")
    assert (await told(issuer))["laurel_status_lists_changed"] == 0
    await issuer.post(tenant, f"/issuer/v1/credentials/{passed.credential_id}/revoke", {"reason": "plagiarism"})
    assert (await told(issuer))["laurel_status_lists_changed"] == 1
    await issuer.work("status lists")
    assert (await told(issuer))["laurel_status_lists_changed"] == 0
