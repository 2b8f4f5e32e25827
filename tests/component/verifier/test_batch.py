"""Many credentials in one request: a verdict a line, in order, while the body comes, and no line costs another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from laurel.http_server import serve_http
from laurel_local import verify_batch
from laurel_local.console import Output
from laurel_local.exits import Exit, Failure
from laurel_verifier import batch_api, store
from laurel_verifier.api import MAX_JSON
from laurel_verifier.batch_api import BatchLineOut
from tests.component.verifier.conftest import Verifier
from tests.component.verifier.issuing import TestIssuer, changed, issued
from tests.component.verifier.test_hostile import clique, poison
from tests.component.verifier.test_tokens import FORMS, by_did_key, linted
from tests.conftest import free_ports

URL = "/verifier/v1/credentials/verify/batch"
TYPE = {"Content-Type": "application/x-ndjson"}
STRANGER = TestIssuer(slug="", seed=b"\x21" * 32, base_url="https://else.example")


@pytest.fixture
def changed_settings() -> dict[str, Any]:
    return {"sandbox_seconds": 4.0, "batch_max_lines": 300, "batch_max_bytes": 3 << 20}


def token() -> str:
    key, sign, _ = FORMS[0]
    issuer, signer = by_did_key(key)
    return sign(linted(issuer), signer).decode()


def line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


async def answered(verifier: Verifier, body: bytes) -> list[dict[str, Any]]:
    answer = await verifier.client.post(URL, content=body, headers=TYPE)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    found = [json.loads(one) for one in answer.content.splitlines()]
    for one in found:
        assert BatchLineOut.model_validate(one).model_dump(exclude_unset=True) == one
    return found


def said(found: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """Each line's number, and its verdict or the last word of its problem's type."""
    return [
        (
            one["line"],
            one["verification"]["verdict"] if "verification" in one else one["problem"]["type"].split(":")[-1],
        )
        for one in found
    ]


class Exchange:
    """One request to the application, its body and its answer in the test's hand: the test is the network."""

    def __init__(self, verifier: Verifier) -> None:
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.reading = asyncio.Event()  # whether the other side takes what comes
        self.reading.set()
        self.pieces_taken = 0
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": URL, "raw_path": URL.encode(), "query_string": b"", "root_path": "", "server": None,
            "client": None, "headers": [(b"content-type", b"application/x-ndjson")],
        }  # fmt: skip
        self.running = asyncio.ensure_future(verifier.service.api(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        message = await self.sent.get()
        self.pieces_taken += 1
        return message

    async def _send(self, message: Any) -> None:
        await self.reading.wait()
        for one in message.get("body", b"").splitlines():
            self.lines.put_nowait(json.loads(one))

    def put(self, body: bytes, *, more: bool = True) -> None:
        self.sent.put_nowait({"type": "http.request", "body": body, "more_body": more})

    async def get(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.lines.get(), 30)


@pytest.fixture
async def exchange(verifier: Verifier) -> AsyncIterator[Callable[[], Exchange]]:
    opened: list[Exchange] = []

    def begin() -> Exchange:
        opened.append(Exchange(verifier))
        return opened[-1]

    yield begin
    for one in opened:
        one.running.cancel()
    await asyncio.gather(*(one.running for one in opened), return_exceptions=True)


# --- what comes out -------------------------------------------------------------------------------------------------


async def test_a_verdict_for_each_line_in_order(verifier: Verifier, one: dict[str, Any], issuer: TestIssuer) -> None:
    second = issuer.badge(2)
    await verifier.feed(issued(second, 2), changed(2, 1, "revoked"))
    held = {"credential": one, "expected_recipient": "ada@example.org"}
    lines = [one, second, held, STRANGER.badge(), {**STRANGER.badge(), "name": "Forged"}, token()]
    found = await answered(verifier, b"\n".join(map(line, lines)) + b"\n")
    assert said(found) == [
        (1, "valid"), (2, "revoked"), (3, "valid"), (4, "valid"), (5, "invalid"), (6, "valid"),
    ]  # fmt: skip
    assert found[2]["verification"]["recipient"] == {"matches": True}
    alone = await verifier.verify(one)
    assert found[0]["verification"] == alone


async def test_what_is_no_credential_costs_its_own_line(verifier: Verifier, one: dict[str, Any]) -> None:
    good = line(one)
    bad = [
        b"{", b"7", b"null", b"[1]", b'"x"', b'{"a":1,"a":2}', b'{"a":NaN}', b'{"a":"\\ud800"}', b"\xff\xfe",
        b"[" * 50_000, b'{"x":"' + b"y" * MAX_JSON + b'"}', b'{"credential":7}', b'{"credential":{},"url":"x"}',
        b'{"url":"https://else.example/badge"}', b'"https://else.example/badge"', b"{}",
        b'"eyJhbGciOiJFUzI1NiJ9.e30.x"',
    ]  # fmt: skip
    body = b"\n".join(part for each in bad for part in (good, each)) + b"\n" + good
    found = await answered(verifier, body)
    words = [word for _, word in said(found)]
    assert [number for number, _ in said(found)] == list(range(1, 2 * len(bad) + 2))
    assert words[::2] == ["valid"] * (len(bad) + 1)
    assert words[1::2] == [
        "not_json", "invalid", "invalid", "invalid", "not_json", "duplicate_key", "not_finite",
        "bad_string", "not_utf8", "too_deep", "too_large", "invalid_input", "invalid_input", "fetch_refused",
        "fetch_refused", "invalid", "invalid",
    ]  # fmt: skip
    duplicated = found[2 * bad.index(b'{"a":1,"a":2}') + 1]["problem"]["errors"]
    assert [(each["field"], each["step"], each["clause"]) for each in duplicated] == [
        ("/a", "format", "RFC 8259 §4; RFC 7493 §2.3")
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
async def test_blank_lines_are_counted_and_not_answered(verifier: Verifier, one: dict[str, Any], end: bytes) -> None:
    body = b"\xef\xbb\xbf" + end.join([line(one), b"", b"  \t", line(one), b""])
    assert said(await answered(verifier, body)) == [(1, "valid"), (4, "valid")]
    assert await answered(verifier, b"") == await answered(verifier, end * 5) == []


async def test_our_own_addresses_are_looked_up(verifier: Verifier, one: dict[str, Any]) -> None:
    body = line({"url": one["id"]}) + b"\n" + line(one["id"]) + b"\n" + line(one["id"] + "0")
    assert said(await answered(verifier, body)) == [(1, "valid"), (2, "valid"), (3, "not_found")]


async def test_a_poison_costs_its_own_line(verifier: Verifier, one: dict[str, Any]) -> None:
    # The first one starts both lanes: whoever waits for a turn would wait for that, too.
    assert (await verifier.verify(poison(clique(12))))["verdict"] == "invalid"
    lines = [one, poison(clique(10)), STRANGER.badge(), poison(clique(11)), one]
    assert [word for _, word in said(await answered(verifier, b"\n".join(map(line, lines))))] == [
        "valid", "invalid", "valid", "invalid", "valid",
    ]  # fmt: skip


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_too_many_lines_end_with_a_line_that_says_so(verifier: Verifier) -> None:
    found = await answered(verifier, b"7\n" * 150 + b"\n" + b"7\n" * 151)
    assert len(found) == 301
    assert said(found)[-1] == (302, "too_many_lines")
    assert found[-1]["ended"] is True
    assert not any("ended" in one for one in found[:-1])
    assert len(await answered(verifier, b"7\n" * 300)) == 300


async def test_too_many_bytes(verifier: Verifier, exchange: Callable[[], Exchange]) -> None:
    answer = await verifier.client.post(URL, content=b"7\n" * (2 << 20), headers=TYPE)  # with a Content-Length
    assert answer.status_code == 413
    assert answer.json()["type"] == "urn:laurel:problem:too_large"
    begun = exchange()
    begun.put(b"7\n")
    assert (await begun.get())["line"] == 1
    begun.put(b"7\n" + b" " * (3 << 20))  # nobody said how many there would be
    last = await begun.get()
    assert (last["line"], last["problem"]["type"], last["ended"]) == (2, "urn:laurel:problem:too_large", True)
    begun.put(b"", more=False)
    await begun.running


async def test_silence_ends_a_batch(exchange: Callable[[], Exchange], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_api, "SILENCE_S", 0.05)
    monkeypatch.setattr(batch_api, "_LINGER_S", 0.05)
    begun = exchange()
    begun.put(b"7\n")
    assert (await begun.get())["line"] == 1
    last = await begun.get()
    assert (last["line"], last["problem"]["status"], last["ended"]) == (2, 408, True)
    await begun.running


async def test_a_byte_now_and_then_holds_no_place_for_ever(
    exchange: Callable[[], Exchange], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_api, "PATIENCE_S", 0.3)
    monkeypatch.setattr(batch_api, "_LINGER_S", 0.05)
    begun = exchange()
    ended: dict[str, Any] = {}
    while not ended:
        begun.put(b" ")  # never silent for long
        await asyncio.sleep(0.02)
        if not begun.lines.empty():
            ended = await begun.get()
    assert (ended["line"], ended["problem"]["status"], ended["ended"]) == (1, 408, True)
    await begun.running


async def test_blank_lines_are_not_cut_for_ever(verifier: Verifier, one: dict[str, Any]) -> None:
    found = await answered(verifier, line(one) + b"\n" * 250 + line(one))
    assert said(found) == [(1, "valid"), (251, "valid")]
    found = await answered(verifier, line(one) + b"\n" * 800 + line(one))
    assert [word for _, word in said(found)] == ["valid", "too_many_lines"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Content-Type": "application/json"}, 415), ({}, 415), ({**TYPE, "Content-Encoding": "gzip"}, 415)],
)
async def test_refused_as_a_whole(verifier: Verifier, headers: dict[str, str], status: int) -> None:
    answer = await verifier.client.post(URL, content=b"{}", headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_so_many_batches_at_once_and_no_more(verifier: Verifier, exchange: Callable[[], Exchange]) -> None:
    begun = [exchange() for _ in range(batch_api.MOST_BATCHES)]
    for each in begun:
        each.put(b"7\n")
        assert (await each.get())["line"] == 1
    answer = await verifier.client.post(URL, content=b"7\n", headers=TYPE)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    begun[0].put(b"", more=False)
    await begun[0].running
    assert (await verifier.client.post(URL, content=b"7\n", headers=TYPE)).status_code == 200


# --- streaming --------------------------------------------------------------------------------------------------------


async def test_each_line_is_answered_before_the_next_is_sent(
    one: dict[str, Any], exchange: Callable[[], Exchange]
) -> None:
    begun = exchange()
    for number in (1, 2, 3):
        half = len(line(one)) // 2
        begun.put(line(one)[:half])
        begun.put(line(one)[half:] + b"\n")
        found = await begun.get()
        assert said([found]) == [(number, "valid")]
    begun.put(line(one), more=False)  # without a line end
    assert said([await begun.get()]) == [(4, "valid")]
    await begun.running


async def test_a_client_that_hangs_up_stops_the_work(verifier: Verifier, exchange: Callable[[], Exchange]) -> None:
    for early in (True, False):
        begun = exchange()
        begun.put(line(poison(clique(12))) + b"\n", more=early)
        await asyncio.sleep(0.1)
        assert not begun.running.done()
        begun.sent.put_nowait({"type": "http.disconnect"})
        await asyncio.wait_for(begun.running, 3.0)  # the poison alone takes longer
        assert begun.lines.empty()
    assert said(await answered(verifier, line(STRANGER.badge()))) == [(1, "valid")]


# --- over a socket, and the command -----------------------------------------------------------------------------------


@pytest.fixture
async def port(verifier: Verifier) -> AsyncIterator[int]:
    (found,) = free_ports(1)
    stop, listening = asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(
        serve_http(verifier.service.api, host="127.0.0.1", port=found, stop=stop, listening=listening)
    )
    await listening.wait()
    yield found
    stop.set()
    await serving


async def test_both_directions_at_once_on_one_connection(port: int, one: dict[str, Any]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: {TYPE['Content-Type']}"
    writer.write(f"{head}\r\n\r\n".encode())
    assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    for number in (1, 2):
        body = line(one) + b"\n"
        writer.write(b"%x\r\n%b\r\n" % (len(body), body))
        size = int(await asyncio.wait_for(reader.readline(), 30), 16)
        found = json.loads((await reader.readexactly(size + 2))[:size])
        assert said([found]) == [(number, "valid")]
    writer.write(b"0\r\n\r\n")
    assert await reader.read() == b"0\r\n\r\n"
    writer.close()


async def test_the_command_asks_a_laurel(
    port: int, one: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_batch, "_PART_LINES", 2)  # so that there are several parts
    file = tmp_path / "all.ndjson"
    url = f"http://127.0.0.1:{port}"
    file.write_bytes(b"\n".join([line(one)] * 4))
    assert await verify_batch.run(str(file), url=url, local=False, output=Output(as_json=True)) is Exit.OK
    alone = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
    assert said(alone) == [(1, "valid"), (2, "valid"), (3, "valid"), (4, "valid")]
    lines = [line(one), b"", b"{", b'{"x":"' + b"y" * MAX_JSON + b'"}', line({**one, "name": "\x1b[2J"}), line(one)]
    file.write_bytes(b"\n".join(lines) + b"\n")
    assert await verify_batch.run(str(file), url=url, local=False, output=Output(as_json=True)) is Exit.NO
    found = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
    assert said(found) == [(1, "valid"), (3, "not_json"), (4, "too_large"), (5, "invalid"), (6, "valid")]
    assert await verify_batch.run(str(file), url=url, local=False, output=Output(as_json=False)) is Exit.NO
    text = capsys.readouterr().out
    assert "5 lines: 3 invalid, 2 valid" in text
    assert all(each.isprintable() for each in text.splitlines())


async def test_the_command_without_a_laurel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "all.ndjson"
    file.write_bytes(line(STRANGER.badge()) + b"\n7\n")
    assert await verify_batch.run(str(file), url=None, local=False, output=Output(as_json=True)) is Exit.NO
    found = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
    assert said(found) == [(1, "valid"), (2, "invalid")]
    file.write_bytes(b"\n")
    with pytest.raises(Failure, match="no credential"):
        await verify_batch.run(str(file), url=None, local=False, output=Output(as_json=True))


async def test_the_database_away_is_said_a_line(
    verifier: Verifier, one: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(store, "public_credentials", away)
    found = await answered(verifier, line(one) + b"\n" + line(STRANGER.badge()))
    assert said(found)[0] == (1, "unavailable")
    assert found[0]["problem"]["status"] == 503
