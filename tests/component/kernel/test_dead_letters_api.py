"""The dead letters of a service over HTTP: a tenant's own, with the right key, byte for byte."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from msgspec.structs import replace

from laurel.access import store_api_key
from laurel.dead_letters_api import dead_letter_routes
from laurel.events import ApiKeyCreated
from laurel.security import SCOPES, new_api_key
from laurel.web import create_app
from tests.component.kernel.conftest import Kernel
from tests.component.kernel.test_engine import NOW, effects, engine, message, store
from tests.component.kernel.test_redrive import kill, redriver, rows, work

V1 = "/test/v1/dead-letters"
NOBODYS = "SELECT id FROM dead_letters WHERE tenant_id = ''"


class Api:
    """A service with nothing but its dead letters."""

    def __init__(self, kernel: Kernel, client: httpx.AsyncClient) -> None:
        self.kernel, self.client = kernel, client

    async def key(self, tenant: str = "t1", scopes: tuple[str, ...] = SCOPES) -> dict[str, str]:
        made = new_api_key()
        async with self.kernel.worker.transaction() as tx:
            await store_api_key(
                tx,
                ApiKeyCreated(
                    tenant_id=tenant, key_id=made.key_id, secret_hash=made.secret_hash, scopes=scopes, label="t",
                    created_at=NOW,
                ),
            )  # fmt: skip
        return {"Authorization": f"Bearer {made.text}"}

    async def get(self, path: str, key: dict[str, str], status: int = 200) -> Any:
        answer = await self.client.get(V1 + path, headers=key)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def post(self, path: str, key: dict[str, str], body: Any, status: int = 202) -> Any:
        answer = await self.client.post(V1 + path, headers=key, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()


@asynccontextmanager
async def open_api(kernel: Kernel) -> AsyncIterator[Api]:
    app = create_app("test", title="t", description="t", database=kernel.api)
    app.include_router(dead_letter_routes("test", kernel.api))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as client:
        yield Api(kernel, client)


async def test_from_the_list_to_the_redrive(kernel: Kernel) -> None:
    async with open_api(kernel) as api:
        await kill(kernel, *(message(f"e{n}", n) for n in range(5)))
        key = await api.key()
        page = await api.get("?limit=3", key)
        assert [one["key"] for one in page["items"]] == ["e0", "e1", "e2"]
        rest = await api.get(f"?limit=3&after={page['next']}", key)
        assert ([one["key"] for one in rest["items"]], rest["next"]) == (["e3", "e4"], None)
        assert {"state": "waiting", "code": "not_yet", "key": "e0", "attempts": 0}.items() <= page["items"][0].items()
        for query, number in (
            ("state=waiting", 5), ("state=redriven", 0), ("code=not_yet", 5), ("code=x", 0), ("key=e3", 1),
            ("consumer=test", 5), ("topic=laurel.credential", 5), ("died_to=2020-01-01T00:00:00Z", 0),
            ("died_from=2020-01-01T00:00:00Z", 5), ("event_type=x", 0),
        ):  # fmt: skip
            assert len((await api.get(f"?{query}", key))["items"]) == number, query

        dry = await api.post("/redrive", key, {"code": "not_yet", "dry_run": True})
        assert dry == {
            "request_id": None, "matched": 5, "queued": 0,
            "letters": [{"consumer": "test", "code": "not_yet", "count": 5, "redrive_helps": "after_fix"}],
            "unmatched": [],
        }  # fmt: skip
        assert (await api.get("?state=queued", key))["items"] == []
        asked = await api.post("/redrive", key, {"code": "not_yet", "max": 2, "rate": 100, "note": "mended"})
        assert (asked["matched"], asked["queued"]) == (5, 2)
        place = f"/redrives/{asked['request_id']}"
        assert (await api.get(place, key))["queued"] == 2
        await work(kernel, redriver(kernel, store))
        assert await api.get(place, key) == {
            "request_id": asked["request_id"], "queued": 0, "redriven": 2, "died_again": 0, "cancelled": 0,
        }  # fmt: skip
        assert await effects(kernel) == {"e0": 1, "e1": 1}
        one = await api.post("/redrive", key, {"ids": [rest["items"][1]["id"]]})
        assert one["queued"] == 1


async def test_a_letter_is_shown_with_its_bytes_and_its_story(kernel: Kernel) -> None:
    async with open_api(kernel) as api:
        strange = replace(message("e0", 0), headers=(*message("e0", 0).headers, ("h", b"\xfe")))
        await kill(kernel, strange)
        key = await api.key()
        letter = (await api.get("", key))["items"][0]["id"]
        found = await api.get(f"/{letter}", key)
        assert not {"partition", "offset"} & found.keys(), "two places in a topic tell how many events lie between"
        assert base64.b64decode(found["value_base64"]) == strange.value
        assert found["value"] == strange.value.decode()
        assert base64.b64decode(found["key_base64"]) == b"e0"
        assert found["headers"][-1] == {"name": "h", "value": "\\xfe"}
        assert (found["actions"], found["meaning"]) == ([], "A reason that this version does not know.")
        gone = await api.post(f"/{letter}/discard", key, {"reason": "a forged event"}, 200)
        assert gone["state"] == "discarded"
        (action,) = gone["actions"]
        assert (action["action"], action["note"], action["outcome"]) == ("discard", "a forged event", "discarded")
        assert action["asked_by"] == f"key:{key['Authorization'].split('_')[1]}"
        again = await api.post(f"/{letter}/discard", key, {"reason": "x"}, 409)
        assert again["type"] == "urn:laurel:problem:not_waiting"
        assert (await api.post("/redrive", key, {"all": True}))["queued"] == 0
        assert (await api.post("/redrive", key, {"all": True, "state": "discarded"}))["queued"] == 1


async def test_what_belongs_to_another_tenant_or_to_none_is_not_there(kernel: Kernel) -> None:
    async with open_api(kernel) as api:
        await kill(kernel, message("e0", 0))
        garbage = replace(message("e1", 1), value=b"\xff")
        assert await engine(kernel, store).process([garbage], asyncio.Event())
        mine, theirs = await api.key(), await api.key("t2")
        (letter,) = (await api.get("", mine))["items"]
        ((nobodys,),) = [tuple(row.values()) for row in await rows(kernel, NOBODYS)]
        request = (await api.post("/redrive", mine, {"all": True}))["request_id"]
        assert (await api.get("", theirs))["items"] == []
        for path in (f"/{letter['id']}", f"/{nobodys}", f"/redrives/{request}", f"/{uuid.uuid4()}", "/redrives/x"):
            await api.get(path, theirs, 404)
        await api.get(f"/{nobodys}", mine, 404)
        await api.post(f"/{letter['id']}/discard", theirs, {"reason": "x"}, 404)
        foreign = await api.post("/redrive", theirs, {"ids": [letter["id"], str(nobodys)]})
        assert (foreign["matched"], foreign["queued"]) == (0, 0)
        assert foreign["unmatched"] == [letter["id"], str(nobodys)], "theirs is told as one that never was"


async def test_a_redrive_is_taken_back_by_its_own_organisation_alone(kernel: Kernel) -> None:
    async with open_api(kernel) as api:
        foreign = message("e2", 2)
        await kill(
            kernel, message("e0", 0), message("e1", 1),
            replace(foreign, value=foreign.value.replace(b'"t1"', b'"t2"')),
        )  # fmt: skip
        mine, theirs = await api.key(), await api.key("t2")
        asked = await api.post("/redrive", mine, {"all": True, "rate": 0.01})
        other = await api.post("/redrive", theirs, {"all": True})
        place = f"/redrives/{asked['request_id']}"
        for path in (place, "/redrives/x", "/redrives/%00"):
            await api.post(f"{path}/cancel", theirs, None, 404)
        (letter, _) = (await api.get("?state=queued", mine))["items"]
        refused = await api.post(f"/{letter['id']}/discard", mine, {"reason": "x"}, 409)
        assert "cancel its redrive first" in refused["detail"]
        progress = {"queued": 0, "redriven": 0, "died_again": 0, "cancelled": 2}
        for _ in range(2):
            done = await api.post(f"{place}/cancel", mine, None, 200)
            assert done == {"request_id": asked["request_id"], **progress}
        assert len((await api.get("?state=waiting", mine))["items"]) == 2
        assert (await api.get(f"/redrives/{other['request_id']}", theirs))["queued"] == 1
        (action,) = (await api.get(f"/{letter['id']}", mine))["actions"]
        who = mine["Authorization"].split("_")[1]
        assert (action["outcome"], action["detail"]) == ("cancelled", f"by key:{who}")
        log = await rows(kernel, "SELECT actor, subject, details FROM audit_log WHERE action = 'dead_letters.cancel'")
        assert [(one["actor"], one["subject"]) for one in log] == [(f"api_key:{who}", asked["request_id"])]
        assert '"cancelled": 2' in str(log[0]["details"])
        await api.post(f"/{letter['id']}/discard", mine, {"reason": "x"}, 200)


async def test_ids_that_name_no_letter_are_told(kernel: Kernel) -> None:
    async with open_api(kernel) as api:
        await kill(kernel, message("e0", 0), message("e1", 1))
        key = await api.key()
        one, two = (letter["id"] for letter in (await api.get("", key))["items"])
        narrowed = await api.post("/redrive", key, {"ids": [one, two], "key": "e0", "dry_run": True})
        assert (narrowed["matched"], narrowed["unmatched"]) == (1, [two])
        none, nil = str(uuid.uuid4()), str(uuid.UUID(int=0))
        asked = await api.post("/redrive", key, {"ids": [none, one, none, nil]})
        assert (asked["matched"], asked["queued"], asked["unmatched"]) == (1, 1, [nil, none])
        again = await api.post("/redrive", key, {"ids": [one, two]})
        assert (again["queued"], again["unmatched"]) == (1, [one]), "the other is queued already"
        assert (await api.post("/redrive", key, {"all": True}))["unmatched"] == []


async def test_each_act_needs_its_scope(kernel: Kernel) -> None:
    async with open_api(kernel) as api:
        await kill(kernel, message("e0", 0))
        (letter,) = (await api.get("", await api.key()))["items"]
        acts: dict[str, list[tuple[str, str, Any]]] = {
            "reports:read": [("GET", "", None), ("GET", "/redrives/x", None)],
            "dead-letters:read": [("GET", f"/{letter['id']}", None)],
            "dead-letters:write": [
                ("POST", "/redrive", {"all": True, "dry_run": True}),
                ("POST", "/redrives/x/cancel", None),
                ("POST", f"/{letter['id']}/discard", {"reason": "x"}),
            ],
        }  # fmt: skip
        for scope, needing in acts.items():
            weak = await api.key(scopes=tuple(one for one in SCOPES if one != scope))
            strong = await api.key(scopes=(scope,))
            for method, path, body in needing:
                for headers, status in ((weak, 403), ({}, 401)):
                    answer = await api.client.request(method, V1 + path, json=body, headers=headers)
                    assert answer.status_code == status, (method, path)
                answer = await api.client.request(method, V1 + path, json=body, headers=strong)
                assert answer.status_code in (200, 202, 404), (method, path)


async def test_bad_input_names_its_field(kernel: Kernel) -> None:
    async with open_api(kernel) as api:
        key = await api.key()
        for body, field in (
            ({"id": [1]}, "/id"), ({"rate": 0}, "/rate"), ({"max": 0}, "/max"), ({"ids": ["x"]}, "/ids/0"),
            ({"ids": [1]}, "/ids/0"), ({"ids": []}, "/ids"),
            ({"code": "a b"}, "/code"), ({"state": "queued"}, "/state"), ({"note": "a\u202eb"}, "/note"),
            ({"died_from": "9999-12-31T23:59:59-23:59"}, "/died_from"), ({"dry_run": "yes"}, "/dry_run"),
        ):  # fmt: skip
            refused = await api.post("/redrive", key, body, 422)
            assert refused["errors"][0]["field"] == field, refused
        await api.get("?code=%00", key, 422)
        assert "all" in (await api.post("/redrive", key, {}, 422))["detail"]
        await api.get("?after=1", key, 422)
        letter = str(uuid.uuid4())
        for nothing in ("x", "-1", "%00", "17", letter, letter.replace("-", ""), f"{{{letter}}}", f"urn:uuid:{letter}",
                        "٣" * 32, "f" * 65):  # fmt: skip
            await api.get(f"/{nothing}", key, 422 if len(nothing) > 64 else 404)
        await api.get("/redrives/%00", key, 404)


async def test_letters_are_named_or_all(kernel: Kernel) -> None:
    async with open_api(kernel) as api:
        await kill(kernel, message("e", 0))
        key = await api.key()
        both = await api.post("/redrive", key, {"all": True, "ids": [str(uuid.uuid4())]}, 422)
        assert 'give either "ids" or "all": true' in both["detail"]
        assert (await api.get("", key))["items"][0]["state"] == "waiting"


async def test_a_period_that_nothing_can_lie_in_is_refused(kernel: Kernel) -> None:
    async with open_api(kernel) as api:
        key = await api.key()
        early, late = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
        asked = await api.post("/redrive", key, {"died_from": late, "died_to": early}, 422)
        listed = await api.get(f"?died_from={late}&died_to={early}", key, 422)
        same = await api.get(f"?died_from={late}&died_to={late}", key, 422)
        for said in (asked, listed, same):
            assert "died_from must lie before died_to" in said["detail"]
            assert "Value error" not in said["detail"]
        assert listed["errors"][0]["field"] == "died_from"
        assert (await api.get(f"?died_from={early}&died_to={late}", key))["items"] == []
