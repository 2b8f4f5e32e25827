"""The JSON guard stands before every door that takes a body: found in the routes, not in a list."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from starlette.types import Message

from laurel.edge import Guard, patiently
from laurel.http_server import serve_http
from laurel.migrate import SERVICES
from laurel.problems import Problem
from tests.conftest import free_ports
from tests.fuzz.request_maker import Request
from tests.fuzz.requests import Answer, send
from tests.security.estate import OPERATOR, Door, Estate, Tenant

pytestmark = pytest.mark.asyncio(loop_scope="session")

BODIES = ("POST", "PUT", "PATCH")
# Doors that take something else than one JSON document: what their own code refuses it with.
STREAMED = {
    "/assessment/v1/results/imports": "application/x-ndjson",
    "/verifier/v1/credentials/verify/batch": "application/x-ndjson",
}
FORMS = {"/verify", "/c/{credential_id}"}
OAUTH = {"/oauth/token"}  # RFC 6749 §5.2 says how it refuses: tests/component/issuer/test_tokens.py
# Doors whose bodies are not read.
NO_BODY = {
    "/assessment/v1/achievements/{achievement_id}/retire", "/notifier/v1/endpoints/{endpoint_id}/rotate-secret",
    "/notifier/v1/endpoints/{endpoint_id}/test", "/notifier/v1/deliveries/{delivery_id}/retry",
    "/notifier/v1/emails/{credential_id}/retry", "/issuer/v1/profiles/{profile_id}/keys/{key_id}/compromise",
    *(f"/{service}/v1/dead-letters/redrives/{{request_id}}/cancel" for service in SERVICES),
}  # fmt: skip
# {} is a good body: a key of the usual kind, and a change of nothing.
BODY_MAY_BE_EMPTY = {"/issuer/v1/profiles/{profile_id}/keys", "/notifier/v1/endpoints/{endpoint_id}"}
# RFC 8259 §8.1 lets a reader ignore a byte order mark. The verifier does, because it takes files that people have kept.
TAKES_BYTE_ORDER_MARKS = {"/verifier/v1/credentials/verify", "/verifier/v1/credentials/verify/batch"}
TOO_LARGE = b'{"a":"' + b"x" * (20 << 20) + b'"}'

HOSTILE: dict[str, bytes] = {
    "duplicate key": b'{"name":"a","name":"b"}',
    "duplicate key, escaped": b'{"name":"a","\\u006eame":"b"}',
    "duplicate key, deep": b'{"a":[{"b":{"c":1,"c":1}}]}',
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":Infinity}',
    "-Infinity": b'{"a":[-Infinity]}',
    "1e999": b'{"a":1e999}',
    "-1e999": b'{"a":-1e999}',
    "5,000 digits": b'{"a":' + b"9" * 5000 + b"}",
    "lone high surrogate": b'{"a":"\\ud800"}',
    "lone low surrogate": b'{"a":"x\\udc00y"}',
    "surrogates the wrong way round": b'{"a":"\\udc00\\ud800"}',
    "lone surrogate in a key": b'{"\\ud800":1}',
    "NUL, escaped": b'{"a":"\\u0000"}',
    "NUL, escaped, in a key": b'{"\\u0000":1}',
    "NUL, raw": b'{"a":"\x00"}',
    "depth 900, arrays": b'{"a":' + b"[" * 900 + b"]" * 900 + b"}",
    "depth 900, objects": b'{"a":' * 900 + b"1" + b"}" * 900,
    "depth 100,000": b"[" * 100_000,
    "not UTF-8": b'{"a":"\xff"}',
    "overlong UTF-8": b'{"a":"\xc0\xaf"}',
    "a surrogate as UTF-8": b'{"a":"\xed\xa0\x80"}',
    "latin-1": '{"a":"é"}'.encode("latin-1"),
    "UTF-16": '{"a":"b"}'.encode("utf-16"),
    "UTF-32": '{"a":"b"}'.encode("utf-32"),
    "byte order mark": b'\xef\xbb\xbf{"a":"b"}',
    "cut off": b'{"a":"b',
    "two documents": b'{"a":1}{"b":2}',
    "comma at the end": b'{"a":1,}',
    "comment": b'{"a":1/*x*/}',
    "single quotes": b"{'a':1}",
    "control character in a string": b'{"a":"\x01"}',
    "gzip": gzip.compress(b'{"a":1}'),
    "truncated gzip": gzip.compress(b'{"a":"' + b"b" * 1000 + b'"}')[:20],
    "20 MB": TOO_LARGE,
}


def filled(door: Door, tenant: Tenant) -> str:
    path = door.path
    names = {**tenant.of(door.service), "suffix": "png", "key_id": tenant.owns["signing_key_id"]}
    if door.path.startswith("/issuer/v1/organisations/"):
        names["slug"] = tenant.slug
    for name, value in names.items():
        path = path.replace(f"{{{name}}}", value)
    assert "{" not in path, path
    return path


def request_of(door: Door, tenant: Tenant, kind: str, pieces: list[bytes], **headers: str) -> Request:
    caller = f"Bearer {OPERATOR}" if "/organisations" in door.path else tenant.headers["Authorization"]
    given = {
        "authorization": caller,
        "content-type": kind,
        **{name.replace("_", "-"): text for name, text in headers.items()},
    }
    fields = [(name.encode(), value.encode()) for name, value in given.items()]
    return Request(door.method, filled(door, tenant).encode(), b"", fields, pieces)


async def asked(estate: Estate, request: Request) -> Answer:
    answer = await send(estate.gateway, request)
    assert not isinstance(answer, str), answer
    return answer


async def rows(estate: Estate) -> dict[str, list[tuple[str, ...]]]:
    """Every row of every table, as text."""
    found = {}
    for schema in SERVICES:
        tables = await estate.sql(schema, "SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
        for table in tables:
            name = table["tablename"]
            # That a key was used is noted by the hour, whatever it was used for.
            held = await estate.sql(
                schema, f"""SELECT md5((to_jsonb(t) - 'last_used_at')::text) FROM "{name}" t ORDER BY 1"""
            )
            found[f"{schema}.{name}"] = [tuple(row) for row in held]
    return found


def with_body(estate: Estate) -> list[Door]:
    found = [one for one in estate.doors() if one.method in BODIES]
    assert len(found) >= 25
    return found


def is_problem(answer: Answer, door: Door, name: str, statuses: range | tuple[int, ...] = range(400, 500)) -> None:
    assert answer.status in statuses, (str(door), name, answer.status, answer.body[:300])
    assert answer.headers[b"content-type"] == b"application/problem+json", (str(door), name, answer.headers)
    told = json.loads(answer.body)
    assert told["status"] == answer.status
    assert told["type"].startswith("urn:laurel:problem:")
    assert told["detail"]


async def test_every_door_refuses_every_hostile_body_and_stores_nothing(estate: Estate, tenants: list[Tenant]) -> None:
    before = await rows(estate)
    tried = 0
    for door in with_body(estate):
        if door.path in FORMS or door.path in STREAMED:
            continue
        for name, body in HOSTILE.items():
            for kind in ("application/json", "application/problem+json", ""):
                answer = await asked(estate, request_of(door, tenants[0], kind, [body]))
                if door.path in TAKES_BYTE_ORDER_MARKS and name == "byte order mark":
                    assert json.loads(answer.body)["verdict"] == "invalid"
                    continue
                is_problem(answer, door, f"{name} as {kind}")
                tried += 1
    assert tried > 25 * len(HOSTILE)
    assert await rows(estate) == before


async def test_the_guard_lets_past_no_more_than_what_is_looked_at_here(estate: Estate) -> None:
    """What a service exempts from the guard by its path is a stream, a form, or the door that finds out what it is."""
    for name, service in estate.services.items():
        app: Any = service.api
        guard = app.build_middleware_stack()
        while not isinstance(guard, Guard):
            guard = guard._app
        for door in (one for one in with_body(estate) if one.service == name):
            exempt = guard._is_streamed(door.path) or guard._is_raw(door.path)
            assert bool(exempt) == (door.path in {*STREAMED, "/verify", "/verifier/v1/credentials/verify"}), str(door)


async def test_the_streams_refuse_or_reject_each_hostile_line(estate: Estate, tenants: list[Tenant]) -> None:
    """A line that cannot be read is told with its number, and the others stand."""
    doors = [one for one in with_body(estate) if one.path in STREAMED]
    assert {one.path for one in doors} == set(STREAMED)
    hostile = {name: body for name, body in HOSTILE.items() if b"\n" not in body and name != "20 MB"}
    for door in doors:
        for name, body in hostile.items():
            answer = await asked(estate, request_of(door, tenants[0], STREAMED[door.path], [body]))
            assert answer.status is not None
            assert answer.status < 500, (str(door), name)
            if door.service == "verifier" and answer.status == 200:
                for line in answer.body.splitlines():
                    told = json.loads(line)
                    if name == "byte order mark":
                        assert told["verification"]["verdict"] == "invalid"
                        continue
                    assert 400 <= told["problem"]["status"] < 500, (name, told)
        answer = await asked(estate, request_of(door, tenants[0], "application/json", [b"{}"]))
        is_problem(answer, door, "wrong content type", (415,))
        coded = request_of(door, tenants[0], STREAMED[door.path], [HOSTILE["truncated gzip"]], content_encoding="gzip")
        is_problem(await asked(estate, coded), door, "gzip", (415,))
    await estate.settle()
    accepted = await estate.sql(
        "assessment",
        "SELECT outcome, count(*) AS n FROM results WHERE external_id IS NULL "
        "AND (outcome = 'rejected' OR learner IS NOT NULL) GROUP BY 1",  # a passed row without a learner is erased
    )
    assert {row["outcome"] for row in accepted} <= {"rejected"}


async def test_the_forms_refuse_what_is_no_form(estate: Estate, tenants: list[Tenant]) -> None:
    for door in (one for one in with_body(estate) if one.path in FORMS):
        for name, body in HOSTILE.items():
            for kind in (
                "application/json",
                "multipart/form-data; boundary=x",
                "multipart/form-data",
                "text/plain",
                "",
            ):
                answer = await asked(estate, request_of(door, tenants[0], kind, [body]))
                assert answer.status is not None
                assert 400 <= answer.status < 500, (str(door), name, kind, answer.status)
            answer = await asked(
                estate, request_of(door, tenants[0], "application/x-www-form-urlencoded", [b"recipient=" + body])
            )
            assert answer.status is not None
            assert answer.status < 500, (str(door), name, answer.status)


async def test_every_door_refuses_a_wrong_content_type(estate: Estate, tenants: list[Tenant]) -> None:
    """A good document under another label is not taken for JSON: no door guesses but the one that says that it does."""
    before = await rows(estate)
    for door in with_body(estate):
        if door.path in (*FORMS, *STREAMED, *NO_BODY, *OAUTH) or door.path == "/verifier/v1/credentials/verify":
            continue
        for kind in (
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/xml",
            "text/json",
        ):
            answer = await asked(estate, request_of(door, tenants[0], kind, [b'{"name":"a"}']))
            is_problem(answer, door, kind)
    assert await rows(estate) == before


async def test_no_door_takes_a_header_twice_of_which_it_reads_one(estate: Estate, tenants: list[Tenant]) -> None:
    """The guard goes by one of them and what parses by the other: in either order, and two of the same, too."""
    before = await rows(estate)
    for door in with_body(estate):
        for kinds in (
            ("application/json", "text/plain"), ("text/plain", "application/json"),
            ("application/json", "application/json"), ("application/x-ndjson", "application/json"),
        ):  # fmt: skip
            request = request_of(door, tenants[0], kinds[0], [HOSTILE["duplicate key"]])
            twice = replace(request, headers=[*request.headers, (b"content-type", kinds[1].encode())])
            answer = await asked(estate, twice)
            is_problem(answer, door, str(kinds), (400,))
            assert json.loads(answer.body)["errors"][0]["field"] == "Content-Type"
        for name in ("Authorization", "Idempotency-Key"):
            request = request_of(door, tenants[0], "application/json", [b"{}"])
            others = [one for one in request.headers if one[0].lower() != name.lower().encode()]
            two = [(name.lower().encode(), value) for value in (b"badges.example.org", b"Bearer x")]
            answer = await asked(estate, replace(request, headers=[*others, *two]))
            is_problem(answer, door, name, (400,))
            assert json.loads(answer.body)["errors"][0]["field"] == name
    assert await rows(estate) == before


async def test_no_door_takes_a_label_that_is_json_to_one_reader_alone(estate: Estate, tenants: list[Tenant]) -> None:
    """Blanks of Unicode, which `bytes.strip` keeps and `str.strip`, in what parses, does not."""
    before = await rows(estate)
    for door in with_body(estate):
        for label in (
            b"application/json\xa0",
            b"\xa0application/json",
            b"application/json\x85;a=b",
            b"\x1fapplication/json",
        ):
            request = request_of(door, tenants[0], "application/json", [HOSTILE["duplicate key"]])
            headers = [(name, label if name == b"content-type" else value) for name, value in request.headers]
            answer = await asked(estate, replace(request, headers=headers))
            is_problem(answer, door, str(label), (400,))
            assert json.loads(answer.body)["errors"][0]["code"] == "bad_header"
    assert await rows(estate) == before


async def test_a_large_body_is_refused_before_it_is_read(estate: Estate, tenants: list[Tenant]) -> None:
    """By its declared length at once; without one as soon as it has grown too large: most of it is never taken."""
    piece = b" " * 65_536
    for door in with_body(estate):
        if door.path in (*FORMS, *STREAMED):
            continue
        declared = request_of(door, tenants[0], "application/json", [b"{"], content_length="20000000")
        is_problem(await asked(estate, declared), door, "declared", (413,))
        taken = 0

        class Pieces(list[bytes]):
            def __getitem__(self, place: Any) -> Any:
                nonlocal taken
                taken += 1
                return super().__getitem__(place)

        request = request_of(door, tenants[0], "application/json", [])
        endless = Pieces([piece] * 320)
        answer = await asked(estate, Request(request.method, request.raw_path, b"", request.headers, endless))
        is_problem(answer, door, "grown", (413,))


# --- through the real HTTP server ---------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(estate: Estate) -> AsyncIterator[int]:
    """The server of every process, in front of the whole."""
    stop, listening, (port,) = asyncio.Event(), asyncio.Event(), free_ports(1)
    serving = asyncio.create_task(
        serve_http(estate.gateway, host="127.0.0.1", port=port, stop=stop, listening=listening)
    )
    await listening.wait()
    yield port
    stop.set()
    await serving


async def raw(port: int, *pieces: bytes) -> bytes:
    """What the server says to bytes that it may not like, until it hangs up or is silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    said = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(20):
            while part := await reader.read(65_536):
                said += part
    except ConnectionError:
        pass
    finally:
        writer.close()
    return said


async def test_lies_about_the_length_of_a_body(estate: Estate, tenants: list[Tenant], server: int) -> None:
    """Chunks that lie, two lengths, a length and chunks, bodies that end early: never a 5xx, never a second request."""
    before = await rows(estate)
    doors = [one for one in with_body(estate) if one.path not in (*NO_BODY, *FORMS, *STREAMED, *BODY_MAY_BE_EMPTY)]
    smuggled = b"GET /assessment/v1/achievements HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n"
    for door in doors:
        request = request_of(door, tenants[0], "application/json", [])
        line = b"%b %b HTTP/1.1\r\n" % (door.method.encode(), request.raw_path)
        fields = b"".join(b"%b: %b\r\n" % pair for pair in request.headers)
        head = line + b"Host: badges.example.org\r\n" + fields
        key = b"Authorization: " + tenants[0].headers["Authorization"].encode()
        chunked = b"Transfer-Encoding: chunked\r\n"
        for lie in (
            head + chunked + b'\r\n5\r\n{"a":1}\r\n0\r\n\r\n',
            head + chunked + b'\r\nffffffffffffffff\r\n{"a":1}\r\n0\r\n\r\n',
            head + chunked + b'\r\n-1\r\n{"a":1}\r\n0\r\n\r\n', head + chunked + b'\r\nzz\r\n{"a":1}\r\n0\r\n\r\n',
            head + chunked + b'\r\n7\r\n{"a":1', head + chunked + b"\r\n0\r\n\r\n",
            head + chunked + b'\r\n7;a=b\r\n{"a":1}\r\n0\r\nX: y\r\n\r\n',
            head + b"Content-Length: 100\r\n\r\n{}", head + b"Content-Length: -1\r\n\r\n{}",
            head + b"Content-Length: 1e1\r\n\r\n{}",
            head + b"Content-Length: 2\r\nContent-Length: 50\r\n\r\n{}",
            head + b"Content-Length: 99999999999999999999\r\n\r\n{}",
            head + b"Content-Length: 6\r\n" + chunked + b"\r\n0\r\n\r\nX" + smuggled % key,
            head + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            head + b"Transfer-Encoding: x\r\n\r\n{}",
        ):  # fmt: skip
            said = await raw(server, lie)
            statuses = [int(part.split(b" ", 1)[0][:3]) for part in said.split(b"HTTP/1.1 ")[1:]]
            assert all(status < 500 for status in statuses), (str(door), lie[-120:], said[:300])
            assert b"Mark of" not in said, (str(door), lie[-120:])
    assert await rows(estate) == before
    assert threading.active_count() < 100


async def test_a_body_that_only_drips_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte a second would keep a connection, and what guards it, for days."""
    monkeypatch.setattr("laurel.edge.BODY_WITHIN_S", 0.2)

    async def drips() -> Message:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(Problem, match="not complete within") as late:
        async with asyncio.timeout(20):
            async for _ in patiently(drips):
                pass
    assert late.value.status == 408


async def test_a_body_that_stops_coming_is_not_waited_for(
    estate: Estate, tenants: list[Tenant], server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each such connection is an open file. The doors of streams have a time of their own."""
    monkeypatch.setattr("laurel.edge.BODY_SILENCE_S", 0.1)
    before = await rows(estate)
    for door in with_body(estate):
        if door.path in STREAMED:
            continue
        kind = "multipart/form-data; boundary=x" if door.path in FORMS else "application/json"
        request = request_of(door, tenants[0], kind, [])
        head = b"%b %b HTTP/1.1\r\nHost: badges.example.org\r\nContent-Length: 10\r\n" % (
            door.method.encode(), request.raw_path,
        )  # fmt: skip
        reader, writer = await asyncio.open_connection("127.0.0.1", server)
        writer.write(head + b"".join(b"%b: %b\r\n" % pair for pair in request.headers) + b'\r\n{"a"')
        async with asyncio.timeout(20):
            said = await reader.read()  # until the server hangs up
        writer.close()
        assert said.startswith(b"HTTP/1.1 408 "), (str(door), said[:200])
    assert await rows(estate) == before
