"""Reconciliation compares ids, so that counts which agree by accident do not hide a loss."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from laurel_local.client import Client
from laurel_local.console import Output
from laurel_local.exits import Exit, Failure
from laurel_local.reconcile import Reconciliation, reconcile, run

A, B, C, D = (str(uuid.UUID(int=n)) for n in range(1, 5))


class Services:
    """Four services' reports, as HTTP answers. Each list comes in pages of two."""

    def __init__(self, owed: list[str], issued: list[str], indexed: list[str], dead: list[dict[str, Any]] = ()) -> None:  # type: ignore[assignment]
        self.lists = {"assessment": owed, "issuer": issued, "verifier": indexed}
        self.dead = list(dead)
        self.erased: list[str] = []
        self.owed_out = dict.fromkeys(issued, "delivered")
        self.endpoint = {
            "endpoint_id": "e", "url": "https://x.example", "enabled": True, "event_types": ["credential.issued"],
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
        }  # fmt: skip
        self.counts = {
            "assessment": {
                "accepted": len(owed) + 3, "passed": len(owed), "not_passed": 1, "duplicate": 1, "rejected": 1,
                "waiting": 0,
            },
            "issuer": {"issued": len(issued)}, "verifier": {"indexed": len(indexed)}, "notifier": {},
        }  # fmt: skip

    def answer(self, request: httpx.Request) -> httpx.Response:
        _, service, _, kind, *rest = request.url.path.split("/")
        if kind == "dead-letters":
            items = [one for one in self.dead if one["service"] == service]
            return httpx.Response(200, json={"items": items, "next": None})
        if rest == ["reconcile"]:
            return httpx.Response(200, json={"service": service, "counts": self.counts[service]})
        if rest == ["deliveries"]:
            items = [{"credential_id": one, "endpoint_id": "e", "state": state} for one, state in self.owed_out.items()]
            return httpx.Response(200, json={"items": items, "next": None})
        if kind == "endpoints":
            return httpx.Response(200, json={"items": [self.endpoint], "next": None})
        if kind == "results":
            return httpx.Response(200, json={"items": [{"recorded_at": "2026-01-02T00:00:00Z"}], "next": None})
        ids, after = (
            sorted(self.erased if rest == ["erased"] else self.lists[service]),
            request.url.params.get("after", ""),
        )
        page = [one for one in ids if one > after][:2]
        return httpx.Response(200, json={"items": page, "next": page[-1] if len(page) == 2 else None})

    def client(self) -> Client:
        client = Client("http://laurel")
        client._http = httpx.AsyncClient(base_url="http://laurel", transport=httpx.MockTransport(self.answer))
        return client

    async def reconcile(self) -> Reconciliation:
        async with self.client() as client:
            return await reconcile(client)


async def test_all_is_well() -> None:
    found = await Services([A, B, C], [A, B, C], [A, B, C]).reconcile()
    assert (found.unaccounted, found.issued, found.indexed, found.deliveries["delivered"]) == (0, 3, 3, 3)
    assert found.accepted == found.issued + found.not_passed + found.duplicate + found.rejected


async def test_what_is_erased_is_an_end_of_its_own() -> None:
    """Also where one of the services has not followed yet, or an event of it died before."""
    dead = [{"service": "issuer", "id": 1, "key": C, "code": "lint", "redriven_at": None}]
    services = Services([A, B, C], [A], [A, B], dead)
    assert (await services.reconcile()).unaccounted == 2
    services.erased = [B, C]
    found = await services.reconcile()
    assert (found.unaccounted, found.issued, found.erased, found.dead_lettered) == (0, 1, 2, 0)
    assert found.accepted == found.issued + found.erased + found.not_passed + found.duplicate + found.rejected


async def test_equal_counts_hide_nothing() -> None:
    found = await Services([A, B, C], [A, B, D], [A, B, D]).reconcile()
    assert found.unaccounted == 2
    as_json = found.as_json()["differences"]
    assert as_json["owed_not_issued"] == {"count": 1, "credential_ids": [C]}
    assert as_json["issued_not_owed"] == {"count": 1, "credential_ids": [D]}


async def test_a_dead_letter_accounts_for_its_credential() -> None:
    dead = [{"service": "issuer", "id": 1, "key": C, "code": "lint", "redriven_at": None}]
    found = await Services([A, B, C], [A, B], [A, B], dead).reconcile()
    assert (found.unaccounted, found.dead_lettered) == (0, 1)
    redriven = [{**dead[0], "redriven_at": "2026-01-01T00:00:00Z"}]
    assert (await Services([A, B, C], [A, B], [A, B], redriven).reconcile()).unaccounted == 1


async def test_issued_and_not_indexed() -> None:
    found = await Services([A, B], [A, B], [A]).reconcile()
    assert found.unaccounted == 1
    assert found.as_json()["differences"]["issued_not_indexed"]["credential_ids"] == [B]


async def test_rows_that_are_not_decided_are_not_accounted_for() -> None:
    services = Services([A], [A], [A])
    services.counts["assessment"] |= {"accepted": 9, "waiting": 5}
    assert (await services.reconcile()).unaccounted == 5


async def ask(services: Services, course_run: str | None, capsys: pytest.CaptureFixture[str]) -> tuple[Exit, str]:
    client = Client("http://laurel")
    client._http = httpx.AsyncClient(base_url="http://laurel", transport=httpx.MockTransport(services.answer))
    code = await run(client, course_run, Output(as_json=False))
    return code, capsys.readouterr().out


async def test_what_the_issuer_waits_for_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    services = Services([A, B, C], [A], [A])
    services.counts["issuer"] |= {"waiting": 2, "waiting_for": {"unknown_profile": 2}}
    code, out = await ask(services, None, capsys)
    assert code == Exit.NO
    assert "the issuer waits with 2: unknown_profile" in out
    assert (await services.reconcile()).as_json()["waiting_for"] == {"unknown_profile": 2}


class Strict(Services):
    """Services that know no course run but one."""

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.params.get("course_run", "Höst") != "Höst":
            return httpx.Response(422, json={"detail": "course_run: no"}, headers={"content-type": "application/json"})
        return super().answer(request)


async def test_a_course_run_is_asked_for_in_its_one_form(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = await ask(Strict([A], [A], [A]), " Ho\u0308st ", capsys)
    assert (code, "everything is accounted for" in out) == (Exit.OK, True)


@pytest.mark.parametrize("run", ["", "  ", "a\u202eb", "x" * 201])
async def test_a_malformed_course_run_is_a_usage_error(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Failure) as failed:
        await ask(Strict([A], [A], [A]), run, capsys)
    assert failed.value.code == Exit.USAGE


async def test_equal_counts_of_deliveries_hide_nothing() -> None:
    services = Services([A, B], [A, B], [A, B])
    services.owed_out = {A: "delivered", C: "delivered"}
    found = await services.reconcile()
    assert found.unaccounted == 1
    assert found.as_json()["endpoints"]["e"]["missing"] == {"count": 1, "credential_ids": [B]}
    services.dead = [{"service": "notifier", "id": 1, "key": B, "code": "contact_unsealable", "redriven_at": None}]
    assert (await services.reconcile()).unaccounted == 0, "a dead letter accounts for it"


@pytest.mark.parametrize(
    "change",
    [{"enabled": False}, {"event_types": ["credential.revoked"]}, {"updated_at": "2026-01-03T00:00:00Z"}],
)
async def test_an_endpoint_that_may_not_have_been_owed_anything_is_said(change: dict[str, Any]) -> None:
    services = Services([A], [A], [A])
    services.owed_out = {}
    assert (await services.reconcile()).unaccounted == 1
    services.endpoint |= change
    found = await services.reconcile()
    assert found.unaccounted == 0
    assert found.as_json()["endpoints"]["e"]["not_compared"]


async def test_what_is_on_its_way_is_shown_and_no_loss() -> None:
    services = Services([A, B], [A, B], [A, B])
    services.owed_out = {A: "pending", B: "failed"}
    services.counts["notifier"] = {"emails_uncertain": 2, "emails_sent": 5}
    found = await services.reconcile()
    told = found.as_json()
    assert (found.unaccounted, found.undelivered, told["emails"]["uncertain"]) == (0, 2, 2)
    assert told["endpoints"]["e"]["credential_ids"] == {"pending": [A], "failed": [B]}


async def test_a_course_run_without_results_is_a_no(capsys: pytest.CaptureFixture[str]) -> None:
    services = Services([], [], [])
    services.counts["assessment"] = dict.fromkeys(services.counts["assessment"], 0)
    assert await run(services.client(), "nosuch", Output(as_json=False)) is Exit.NO
    said = capsys.readouterr().out
    assert "no results of 'nosuch'" in said
    assert "accounted for" not in said
    assert await run(services.client(), None, Output(as_json=False)) is Exit.OK
