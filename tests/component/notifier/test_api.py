"""The HTTP API: what it refuses and why, and that tenants see nothing of each other."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from laurel.settings import with_role
from tests.component.notifier.kit import (
    OTHER_TENANT,
    TENANT,
    Notifier,
    Sink,
    api_key,
    changed,
    credential_id,
    issued,
    opened,
    until,
)

ENDPOINTS = "/notifier/v1/endpoints"
GOOD = {"url": "http://127.0.0.1:9009/x", "event_types": ["credential.issued"]}


async def test_an_endpoint_is_created_read_changed_and_deleted(notifier: Notifier, sink: Sink) -> None:
    made = (await notifier.http.post(ENDPOINTS, json={**GOOD, "description": "CRM"})).json()
    assert made["secret"].startswith("whsec_")
    url = f"{ENDPOINTS}/{made['endpoint_id']}"
    read = (await notifier.http.get(url)).json()
    assert "secret" not in read
    assert read == {name: value for name, value in made.items() if name != "secret"}
    patched = (
        await notifier.http.patch(url, json={"url": f"{sink.base}/new", "event_types": ["credential.revoked"]})
    ).json()
    assert (patched["url"], patched["event_types"], patched["description"]) == (
        f"{sink.base}/new", ["credential.revoked"], "CRM",
    )  # fmt: skip
    assert (await notifier.http.patch(url, json={"enabled": False})).json()["disabled_reason"] == "by request"
    assert (await notifier.http.post(f"{url}/test")).status_code == 409
    assert (await notifier.http.delete(url)).status_code == 204
    assert (await notifier.http.get(url)).status_code == 404
    assert (await notifier.http.delete(url)).status_code == 404
    assert (await notifier.http.get(ENDPOINTS)).json() == {"items": [], "next": None}


async def test_deleting_cancels_what_waits_and_keeps_the_record(notifier: Notifier, sink: Sink) -> None:
    made = await notifier.endpoint(f"{sink.base}/x")
    await notifier.take_in(issued(1))
    await notifier.http.delete(f"{ENDPOINTS}/{made['endpoint_id']}")
    [delivery] = await notifier.deliveries()
    assert (delivery["state"], delivery["last_error"]) == ("cancelled", "the endpoint was deleted")
    answer = await notifier.http.post(f"/notifier/v1/deliveries/{delivery['delivery_id']}/retry")
    assert answer.status_code == 409


async def test_disabling_holds_and_enabling_sends(notifier: Notifier, sink: Sink) -> None:
    made = await notifier.endpoint(f"{sink.base}/x")
    await notifier.take_in(issued(1))
    url = f"{ENDPOINTS}/{made['endpoint_id']}"
    await notifier.http.patch(url, json={"enabled": False})
    assert await notifier.states() == {"held": 1}
    [delivery] = await notifier.deliveries()
    assert (await notifier.http.post(f"/notifier/v1/deliveries/{delivery['delivery_id']}/retry")).status_code == 409
    await notifier.http.patch(url, json={"enabled": True})
    async with notifier.worker():
        await until(lambda: len(sink.received) == 1)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://example.com/", "unresolvable"),  # this machine has no names; with names it would be scheme_refused
        ("https://10.0.0.1/", "address_refused"),
        ("https://169.254.169.254/latest/meta-data/", "address_refused"),
        ("https://[::1]/", "address_refused"),
        ("https://2130706433/", "host_refused"),
        ("https://user:secret@example.com/", "userinfo_refused"),
        ("ftp://example.com/", "scheme_refused"),
        ("https://example.com:22/", "port_refused"),
        ("example.com", "scheme_refused"),
        ("https://", "url_malformed"),
        ("http://8.8.8.8/", "scheme_refused"),
    ],
)
async def test_a_url_that_must_not_be_called_is_refused_at_once_with_its_field(
    notifier: Notifier, url: str, code: str
) -> None:
    made = (await notifier.http.post(ENDPOINTS, json=GOOD)).json()
    for answer in (
        await notifier.http.post(ENDPOINTS, json={**GOOD, "url": url}),
        await notifier.http.patch(f"{ENDPOINTS}/{made['endpoint_id']}", json={"url": url}),
    ):
        assert answer.status_code == 422, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        [error] = answer.json()["errors"]
        assert error["field"] == "/url"
        assert error["code"] in {code, "scheme_refused"} if code == "unresolvable" else error["code"] == code
        assert error["detail"]


async def test_loopback_is_refused_unless_the_operator_allows_it(admin_dsn: str) -> None:
    async with opened(admin_dsn, allow_networks="") as strict:
        for url in ("http://127.0.0.1:9009/x", "https://127.0.0.1:9009/x", "https://localhost/x"):
            answer = await strict.http.post(ENDPOINTS, json={**GOOD, "url": url})
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["field"] == "/url"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "/url"),
        ({"url": "https://x.example/"}, "/event_types"),
        ({**GOOD, "event_types": []}, "/event_types"),
        ({**GOOD, "event_types": ["credential.exploded"]}, "/event_types/0"),
        ({**GOOD, "event_types": ["credential.issued", "credential.issued"]}, "/event_types"),
        ({**GOOD, "event_types": "credential.issued"}, "/event_types"),
        ({**GOOD, "url": 7}, "/url"),
        ({**GOOD, "url": None}, "/url"),
        ({**GOOD, "url": ""}, "/url"),
        ({**GOOD, "url": "https://x.example/" + "y" * 3000}, "/url"),
        ({**GOOD, "description": "x" * 300}, "/description"),
        ({**GOOD, "tenant_id": OTHER_TENANT}, "/tenant_id"),
        ([], "body"),
        ("x", "body"),
    ],
)
async def test_bad_input_is_a_422_that_names_the_field(notifier: Notifier, body: Any, field: str) -> None:
    answer = await notifier.http.post(ENDPOINTS, json=body)
    assert answer.status_code == 422, answer.text
    assert field in [one["field"] for one in answer.json()["errors"]]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 422), (b"{", 400), (b'{"url":"a","url":"b"}', 400), (b'{"url": NaN}', 400), (b'{"url": "\\u0000"}', 400),
        (b'{"url": "\\ud800"}', 400), (b"[" * 900 + b"]" * 900, 400), (b"\xff\xfe", 400), (b" " * (2 << 20), 413),
    ],
)  # fmt: skip
async def test_hostile_bytes_are_a_4xx(notifier: Notifier, raw: bytes, status: int) -> None:
    answer = await notifier.http.post(ENDPOINTS, content=raw, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/deliveries?endpoint_id=x", "endpoint_id"), ("/deliveries?state=lost", "state"),
        ("/deliveries?limit=0", "limit"),
        ("/deliveries?limit=1001", "limit"), ("/deliveries?limit=x", "limit"), ("/deliveries?after=7", "after"),
        ("/deliveries?credential_id=%00", "credential_id"),
        ("/deliveries?credential_id=a%27%20OR%201", "credential_id"),
        ("/endpoints?after=x", "after"), ("/emails?state=x", "state"), ("/emails?after=%00", "after"),
        ("/reports/reconcile?course_run=%00", "course_run"), ("/reports/deliveries?limit=10001", "limit"),
        ("/reports/deliveries?event_type=x", "event_type"), ("/dead-letters?after=99999999999999999999", "after"),
    ],
)  # fmt: skip
async def test_bad_queries_are_a_422_that_names_the_parameter(notifier: Notifier, path: str, field: str) -> None:
    answer = await notifier.http.get(f"/notifier/v1{path}")
    assert answer.status_code == 422, answer.text
    assert [one["field"] for one in answer.json()["errors"]] == [field]


async def test_odd_ids_are_not_there(notifier: Notifier) -> None:
    for odd in ("x", "%00", "1", str(uuid4()), "..", "%F0%9F%98%80"):
        for method, path in (
            ("GET", f"/endpoints/{odd}"), ("PATCH", f"/endpoints/{odd}"), ("DELETE", f"/endpoints/{odd}"),
            ("POST", f"/endpoints/{odd}/test"), ("POST", f"/endpoints/{odd}/rotate-secret"),
            ("GET", f"/deliveries/{odd}"),
            ("POST", f"/deliveries/{odd}/retry"), ("POST", f"/emails/{odd}/retry"),
        ):  # fmt: skip
            answer = await notifier.http.request(method, f"/notifier/v1{path}", json={} if method == "PATCH" else None)
            assert answer.status_code in (404, 405), (method, path, answer.text)


async def test_no_key_no_answer_and_no_scope_no_right(notifier: Notifier) -> None:
    transport = httpx.ASGITransport(notifier.service.api)
    reader = await api_key(notifier.service.worker_database, TENANT, ["webhooks:read"])
    async with httpx.AsyncClient(transport=transport, base_url="http://notifier") as http:
        assert (await http.get(ENDPOINTS)).status_code == 401
        headers = {"Authorization": f"Bearer {reader}"}
        assert (await http.get(ENDPOINTS, headers=headers)).status_code == 200
        refused = [
            await http.post(ENDPOINTS, json=GOOD, headers=headers),
            await http.delete(f"{ENDPOINTS}/{uuid4()}", headers=headers),
            await http.get("/notifier/v1/reports/reconcile", headers=headers),
            await http.get("/notifier/v1/dead-letters", headers=headers),
        ]
        assert [one.status_code for one in refused] == [403] * 4


async def test_a_key_arrives_with_its_event(notifier: Notifier) -> None:
    from laurel.events import ApiKeyCreated
    from laurel.security import new_api_key
    from tests.component.notifier.kit import ISSUED_AT

    key = new_api_key()
    await notifier.publish(
        ApiKeyCreated(
            tenant_id=TENANT, key_id=key.key_id, secret_hash=key.secret_hash, scopes=("webhooks:read",), label="x",
            created_at=ISSUED_AT,
        )
    )  # fmt: skip
    await notifier.consume("notifier.access")
    answer = await notifier.http.get(ENDPOINTS, headers={"Authorization": f"Bearer {key.text}"})
    assert answer.status_code == 200


async def test_another_tenants_things_are_not_there(notifier: Notifier, sink: Sink) -> None:
    made = await notifier.endpoint(f"{sink.base}/x")
    await notifier.take_in(issued(1))
    [delivery] = await notifier.deliveries()
    endpoint, foreign = f"{ENDPOINTS}/{made['endpoint_id']}", notifier.foreign
    answers = [
        await foreign.get(endpoint),
        await foreign.patch(endpoint, json={"enabled": False}),
        await foreign.delete(endpoint),
        await foreign.post(f"{endpoint}/rotate-secret"),
        await foreign.post(f"{endpoint}/test"),
        await foreign.get(f"/notifier/v1/deliveries/{delivery['delivery_id']}"),
        await foreign.post(f"/notifier/v1/deliveries/{delivery['delivery_id']}/retry"),
        await foreign.post(f"/notifier/v1/emails/{credential_id(1)}/retry"),
    ]
    assert [one.status_code for one in answers] == [404] * len(answers)
    for path in (
        "/endpoints",
        "/deliveries",
        "/emails",
        "/reports/deliveries",
        f"/deliveries?credential_id={credential_id(1)}",
    ):
        assert (await foreign.get(f"/notifier/v1{path}")).json()["items"] == []
    counts = (await foreign.get("/notifier/v1/reports/reconcile")).json()["counts"]
    assert set(counts.values()) == {0}


async def test_row_level_security_holds_below_the_code(notifier: Notifier, sink: Sink, admin_dsn: str) -> None:
    made = await notifier.endpoint(f"{sink.base}/x")
    await notifier.take_in(issued(1))
    connection = await asyncpg.connect(
        with_role(admin_dsn, "laurel_notifier"), server_settings={"search_path": "notifier"}
    )
    try:
        for tenants, rows in (("", 0), (OTHER_TENANT, 0), (TENANT, 1), (f"{OTHER_TENANT},{TENANT}", 1)):
            await connection.execute("SELECT set_config('laurel.tenants', $1, false)", tenants)
            for table in ("endpoints", "messages", "deliveries", "emails"):
                assert len(await connection.fetch(f"SELECT * FROM {table}")) == rows, (tenants, table)
        await connection.execute("SELECT set_config('laurel.tenants', $1, false)", OTHER_TENANT)
        assert await connection.execute("UPDATE endpoints SET url = 'x'") == "UPDATE 0"
        assert await connection.execute("DELETE FROM deliveries") == "DELETE 0"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(
                "INSERT INTO deliveries (tenant_id, endpoint_id, message_no) VALUES ($1, $2, 1)",
                TENANT,
                made["endpoint_id"],
            )
    finally:
        await connection.close()
    app = await notifier.sql(
        "SELECT relname, relrowsecurity AND relforcerowsecurity AS forced FROM pg_class "
        "WHERE relnamespace = 'notifier'::regnamespace AND relkind = 'r' "
        "AND relname <> 'alembic_version'"
    )
    assert len(app) >= 9
    assert all(row["forced"] for row in app)


async def test_lists_have_pages(notifier: Notifier, sink: Sink) -> None:
    made = await notifier.endpoint(f"{sink.base}/x")
    await notifier.endpoint(f"{sink.base}/y", ["credential.revoked"])
    await notifier.take_in(*(issued(number) for number in range(7)), changed(3))
    for path, key, expected in (
        ("/deliveries", "delivery_id", 9), (f"/deliveries?endpoint_id={made['endpoint_id']}", "delivery_id", 8),
        (f"/deliveries?credential_id={credential_id(3)}", "delivery_id", 3), ("/endpoints", "endpoint_id", 2),
        ("/emails", "credential_id", 7), ("/reports/deliveries", "credential_id", 7),
        ("/reports/deliveries?course_run=run-1", "credential_id", 7),
        ("/reports/deliveries?course_run=run-2", "credential_id", 0),
        ("/reports/deliveries?event_type=credential.revoked", "endpoint_id", 2),
        ("/deliveries?state=failed", "delivery_id", 0),
    ):  # fmt: skip
        seen: list[str] = []
        after: str | None = None
        while True:
            query = "&" if "?" in path else "?"
            page = (
                await notifier.http.get(f"/notifier/v1{path}{query}limit=3" + (f"&after={after}" if after else ""))
            ).json()
            seen += [one[key] for one in page["items"]]
            after = page["next"]
            if after is None:
                break
            assert len(page["items"]) == 3
        assert len(seen) == len(set(seen)) == expected, path


async def test_reports_count_every_state(notifier: Notifier, sink: Sink) -> None:
    made = await notifier.endpoint(f"{sink.base}/x")
    await notifier.take_in(*(issued(number) for number in range(4)), issued(9, course_run="run-2"), changed(1))
    await notifier.http.post(f"{ENDPOINTS}/{made['endpoint_id']}/test")
    async with notifier.worker():
        await until(lambda: len(sink.received) == 7)
    counts = (await notifier.http.get("/notifier/v1/reports/reconcile")).json()
    assert counts["service"] == "notifier"
    assert counts["counts"] == {
        "messages": 6, "deliveries_delivered": 6, "deliveries_pending": 0, "deliveries_failed": 0, "deliveries_held": 0,
        "deliveries_cancelled": 0, "emails_pending": 0, "emails_held": 4, "emails_sending": 0, "emails_sent": 0,
        "emails_failed": 0, "emails_uncertain": 0, "emails_cancelled": 1, "dead_lettered": 0,
    }  # fmt: skip
    of_run = (await notifier.http.get("/notifier/v1/reports/reconcile?course_run=run-1")).json()["counts"]
    assert (of_run["messages"], of_run["deliveries_delivered"], of_run["emails_held"]) == (4, 4, 3)
    items = (await notifier.http.get("/notifier/v1/reports/deliveries?course_run=run-2")).json()["items"]
    assert items == [{"credential_id": credential_id(9), "endpoint_id": made["endpoint_id"], "state": "delivered"}]


async def test_endpoints_are_limited(admin_dsn: str) -> None:
    async with opened(admin_dsn, endpoints_per_tenant=2) as small:
        assert [(await small.http.post(ENDPOINTS, json=GOOD)).status_code for _ in range(3)] == [201, 201, 409]
        assert (await small.foreign.post(ENDPOINTS, json=GOOD)).status_code == 201


async def test_the_api_describes_itself(notifier: Notifier) -> None:
    document = (await notifier.http.get("/notifier/v1/openapi.json")).json()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["responses"], (method, path)
    assert {"/notifier/v1/endpoints/{endpoint_id}/rotate-secret", "/notifier/v1/reports/deliveries"} <= set(
        document["paths"]
    )
    assert (await notifier.http.get("/notifier/v1/docs")).status_code == 200
