"""Whatever form a credential comes in, the API, the page and `laurel verify` say the same of it."""

from __future__ import annotations

import asyncio
import html
import io
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from laurel.credential import jose, multibase
from laurel.credential.baking import MAX_BAKED, bake_png, bake_svg
from laurel.credential.lint import lint
from laurel.http_server import serve_http
from laurel_local import verify as command
from laurel_local.console import Output
from laurel_local.exits import Exit, Failure
from laurel_verifier.checks import CLAUSES
from laurel_verifier.documents import MAX_DOCUMENT
from tests.component.verifier.conftest import Verifier
from tests.component.verifier.issuing import BASE_URL, TestIssuer, credential_id, to_bytes
from tests.component.verifier.test_foreign import Foreign, serving
from tests.conftest import free_ports

URL = "/verifier/v1/credentials/verify"
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><path d="M0 0"/></svg>'


def _art() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 3), (20, 90, 60)).save(file, "PNG")
    return file.getvalue()


ART = _art()
TWICE = ART[:33] + 2 * bake_png(ART, b"{}")[33 : 33 + len(bake_png(ART, b"{}")) - len(ART)] + ART[33:]
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT[0-9:]+Z")
OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def stranger() -> TestIssuer:
    return TestIssuer(slug="", seed=b"\x0f" * 32, base_url="https://else.example")


@pytest.fixture
async def foreign() -> AsyncIterator[Foreign]:
    async with serving() as server:
        yield server


@pytest.fixture
async def server(verifier: Verifier) -> AsyncIterator[str]:
    """The verifier's API on a socket, for the command."""
    stop, listening = asyncio.Event(), asyncio.Event()
    (port,) = free_ports(1)
    task = asyncio.create_task(
        serve_http(verifier.service.api, host="127.0.0.1", port=port, stop=stop, listening=listening)
    )
    await listening.wait()
    yield f"http://127.0.0.1:{port}"
    stop.set()
    await task


def comparable(found: dict[str, Any]) -> dict[str, Any]:
    """What must be the same wherever it is asked; the command on this machine has a clock of its own."""
    steps = [[check.get(name) for name in ("step", "outcome", "code", "detail", "clause")] for check in found["checks"]]
    for step in steps:
        step[3] = _MOMENT.sub("(then)", step[3])
    return {"verdict": found["verdict"], "baked": found.get("baked"), "first": steps[0], "steps": steps[1:]}


def refusal(answer: httpx.Response) -> dict[str, Any]:
    """A problem document, as what the command makes of it."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = answer.json()
    code = problem["type"].removeprefix("urn:laurel:problem:")
    return {"verdict": "invalid", "detail": problem["detail"], "code": code}


Bodies = Callable[[dict[str, Any], dict[str, Any]], bytes]


def token(before: bytes = b"", after: bytes = b"") -> bytes:
    """A badge as a compact JWS, with something replaced after it was signed."""
    issuer = TestIssuer(slug="", seed=b"\x0d" * 32, base_url="https://else.example")
    unsigned = {name: value for name, value in issuer.badge(8).items() if name != "proof"}
    header, payload, signature = jose.sign_vc_jose(lint(unsigned, issuer=issuer.did), issuer.signer).decode().split(".")
    changed = multibase.base64url_encode(multibase.base64url_decode(payload).replace(before, after))
    return f"{header}.{changed}.{signature}".encode()


READABLE: dict[str, Bodies] = {
    "json": lambda ours, theirs: to_bytes(theirs),
    "with a byte order mark": lambda ours, theirs: b"\xef\xbb\xbf" + to_bytes(theirs) + b"\r\n",
    "forged": lambda ours, theirs: to_bytes(theirs).replace(b"Data Literacy", b"Date Literacy"),
    "png": lambda ours, theirs: bake_png(ART, to_bytes(theirs)),
    "svg": lambda ours, theirs: bake_svg(SVG, to_bytes(theirs)),
    "forged png": lambda ours, theirs: bake_png(ART, to_bytes(theirs).replace(b"Two pages", b"Ten pages")),
    "no credential": lambda ours, theirs: b"{}",
    "a list": lambda ours, theirs: b"[1]",
    "jwt": lambda ours, theirs: token(),
    "forged jwt": lambda ours, theirs: token(b"Data Literacy", b"Date Literacy"),
    "baked jwt": lambda ours, theirs: bake_svg(SVG, token()),
    "enveloped": lambda ours, theirs: to_bytes(jose.enveloped(token())),
    "open badges 2": lambda ours, theirs: b'{"@context": "https://w3id.org/openbadges/v2", "type": "Assertion"}',
}
UNREADABLE: dict[str, bytes] = {
    "empty": b"", "no json": b"{", "prose": b"hello", "deep": b"[" * 900 + b"]" * 900, "twice": b'{"a":1,"a":2}',
    "nan": b'{"a":NaN}', "surrogate": b'{"a":"\\ud800"}', "plain png": ART, "plain svg": SVG, "cut off": ART[:-5],
    "several": TWICE, "entities": b'<!DOCTYPE svg [<!ENTITY a "b">]>' + SVG[21:], "jpeg": b"\xff\xd8\xff\xe0",
    "web page": b"<!doctype html>",
    "wallet": b"openid-credential-offer://?credential_offer=%7B%7D", "other scheme": b"ftp://x.example/c",
    "too large": b'{"a":"' + b"x" * MAX_DOCUMENT + b'"}', "too large a picture": ART + bytes(MAX_BAKED),
    "bytes": b"\xfe\xed\xfa\xce",
}  # fmt: skip


@pytest.mark.parametrize("name", READABLE)
async def test_one_verdict(
    verifier: Verifier, one: dict[str, Any], stranger: TestIssuer, server: str, tmp_path: Path, name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    body = READABLE[name](one, stranger.badge(7))
    answer = await verifier.client.post(URL, content=body, headers=OCTETS)
    assert answer.status_code == 200, answer.text
    expected = comparable(answer.json())
    verdicts = {
        "json": "valid", "with a byte order mark": "valid", "png": "valid", "svg": "valid", "jwt": "valid",
        "baked jwt": "valid", "enveloped": "valid", "open badges 2": "could_not_check",
    }  # fmt: skip
    assert expected["verdict"] == verdicts.get(name, "invalid")
    baked = {"png": "png", "forged png": "png", "svg": "svg", "baked jwt": "svg"}.get(name)
    assert expected["baked"] == baked
    assert ("taken out of a baked" in expected["first"][3]) is (baked is not None)

    again = await verifier.client.post(URL, files={"file": ("x", body)})  # as a form, to the API
    assert comparable(again.json()) == expected

    page = await verifier.client.post("/verify", files={"file": ("badge", body)})
    assert page.status_code == 200
    details = [
        _MOMENT.sub("(then)", html.unescape(one))
        for one in re.findall(r'<p class="step-detail">(.*?)</p>', page.text, re.DOTALL)
    ]
    assert details == [expected["first"][3], *(step[3] for step in expected["steps"])]

    file = tmp_path / "badge"
    file.write_bytes(body)
    for url in (server, None):
        code = await command.run(str(file), url=url, local=False, output=Output(as_json=True))
        assert comparable(json.loads(capsys.readouterr().out)) == expected
        assert code == {"valid": Exit.OK, "could_not_check": Exit.UNREACHABLE}.get(expected["verdict"], Exit.NO)


@pytest.mark.parametrize("name", UNREADABLE)
async def test_one_refusal(
    verifier: Verifier, server: str, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    body = UNREADABLE[name]
    answer = await verifier.client.post(URL, content=body, headers=OCTETS)
    assert answer.status_code in (400, 413, 422)
    assert (answer.status_code == 413) is name.startswith("too large")
    expected = refusal(answer)
    page = await verifier.client.post("/verify", files={"file": ("badge", body)})
    if name == "empty":  # a form without a file
        assert page.status_code == 422
    else:
        assert "Not valid" in page.text
        assert "No credential can be read from it" in page.text
        assert html.escape(expected["detail"], quote=False) in page.text.replace("&#34;", '"').replace("&#39;", "'")
    file = tmp_path / "badge"
    file.write_bytes(body)
    for url in (server, None):
        assert await command.run(str(file), url=url, local=False, output=Output(as_json=True)) == Exit.NO
        found = json.loads(capsys.readouterr().out)
        check = found["checks"][0]
        assert {"verdict": found["verdict"], "detail": check["detail"], "code": check["code"]} == expected


async def test_ours_are_found_in_the_index_whatever_they_are_baked_into(
    verifier: Verifier, one: dict[str, Any]
) -> None:
    for body in (to_bytes(one), bake_png(ART, to_bytes(one)), bake_svg(SVG, to_bytes(one))):
        found = (await verifier.client.post(URL, content=body, headers=OCTETS)).json()
        assert (found["verdict"], found["credential_id"]) == ("valid", credential_id(1))
    for url in (one["id"], one["id"] + "?download=1", one["id"] + "/badge.png"):
        for answer in (
            await verifier.client.post(URL, json={"url": url, "expected_recipient": "ada@example.org"}),
            await verifier.client.post(URL, content=url, headers={"Content-Type": "text/plain"}),
            await verifier.client.post(URL, json={"credential": url}),
            await verifier.client.post(URL, data={"url": url}),
        ):
            assert (answer.json()["verdict"], answer.json()["credential_id"]) == ("valid", credential_id(1)), url
    answer = await verifier.client.post(URL, json={"url": f"{BASE_URL}/c/none"})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:laurel:problem:not_found")


async def test_types_and_members(verifier: Verifier, one: dict[str, Any]) -> None:
    body = to_bytes(one)
    for content_type in (
        "application/json", "application/vc+ld+json", "application/vc", "image/png", "text/plain; charset=utf-8",
        "application/jwt", "application/vc+jwt", "text/html", "application/xml",
    ):  # fmt: skip
        answer = await verifier.client.post(URL, content=body, headers={"Content-Type": content_type})
        refused = content_type in ("text/html", "application/xml")
        assert answer.status_code == (415 if refused else 200), content_type
    found = await verifier.verify({"credential": body.decode(), "expected_recipient": "ada@example.org"})
    assert (found["verdict"], found["recipient"]["matches"]) == ("valid", True)
    for wrong, detail in (
        ({"credential": one, "url": one["id"]}, "/url"), ({"url": 7}, "/url"), ({"credential": 7}, "/credential"),
        ({"url": one["id"], "expected_recipient": "x" * 321}, "/expected_recipient"),
    ):  # fmt: skip
        answer = await verifier.client.post(URL, json=wrong)
        assert answer.status_code == 422
        assert detail in answer.json()["detail"]


LABELS = (
    None, "application/json", "application/vc", "application/vc+ld+json", "application/vc+jwt", "text/plain",
    "application/octet-stream", "image/png", "image/svg+xml",
)  # fmt: skip
WRAPPED: dict[str, Bodies] = {
    **READABLE,
    "wrapped": lambda ours, theirs: to_bytes({"credential": theirs}),
    "wrapped after a byte order mark": lambda ours, theirs: b"\xef\xbb\xbf\n" + to_bytes({"credential": theirs}),
    "wrapped text": lambda ours, theirs: to_bytes({"credential": to_bytes(theirs).decode()}),
    "wrapped jwt": lambda ours, theirs: to_bytes(
        {"credential": token().decode(), "expected_recipient": "ada@x.example"}
    ),
    "wrapped address": lambda ours, theirs: to_bytes({"url": ours["id"]}),
}


@pytest.mark.parametrize("name", WRAPPED)
async def test_a_label_decides_nothing(
    verifier: Verifier, one: dict[str, Any], stranger: TestIssuer, name: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    body = WRAPPED[name](one, stranger.badge(7))
    found = []
    for label in LABELS:
        answer = await verifier.client.post(URL, content=body, headers={} if label is None else {"Content-Type": label})
        assert answer.status_code == 200, (label, answer.text)
        found.append(comparable(answer.json()))
    assert found == found[:1] * len(found)
    if name.startswith("wrapped"):
        assert found[0]["verdict"] == "valid"
        page = await verifier.client.post("/verify", data={"credential": body.decode()})
        assert "Valid" in page.text
    if name.startswith("wrapped") and "address" not in name:  # which is an address of a Laurel that is not on the net
        (tmp_path / "badge").write_bytes(body)
        assert await command.run(str(tmp_path / "badge"), url=None, local=False, output=Output(as_json=True)) == Exit.OK
        assert json.loads(capsys.readouterr().out)["verdict"] == "valid"


async def test_a_refusal_says_where_and_by_which_clause(
    verifier: Verifier, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for body, field, offset, clause in (
        (b'\xef\xbb\xbf\n{"a":[NaN]}', "/a/0", 10, "RFC 8259 §6"),
        (b' {"a":"\\ud800"}', "/a", 6, "RFC 7493 §2.1; RFC 8259 §9"),
        (b" hell\xff", "body", 5, "RFC 8259 §8.1"),
        (b'{"credential":"{"}', "/credential", None, "RFC 8259 §2"),
        (b'{"url":"ftp://x.example"}', "/url", None, CLAUSES["format"]),
        (b'{"url":7}', "/url", None, CLAUSES["format"]),
        (bake_svg(SVG, b'{"a":NaN}'), "/a", None, "RFC 8259 §6"),
    ):
        answer = await verifier.client.post(URL, content=body)
        (error,) = answer.json()["errors"]
        assert (error["step"], error["field"], error.get("offset")) == ("format", field, offset), error
        assert (error["clause"], error["detail"]) == (clause, answer.json()["detail"])
        (tmp_path / "badge").write_bytes(body)
        for url in (server, None):
            await command.run(str(tmp_path / "badge"), url=url, local=False, output=Output(as_json=True))
            check = json.loads(capsys.readouterr().out)["checks"][0]
            assert (check["pointer"] or "body", check["clause"]) == (field, clause)


async def test_a_wrapper_takes_nothing_from_the_limit(verifier: Verifier) -> None:
    for size, status in ((MAX_DOCUMENT - 40, 200), (MAX_DOCUMENT + 1000, 413)):
        badge = {"credential": {"a": "x" * size}}
        for body, expected in ((to_bytes(badge), 200), (to_bytes(badge["credential"]), status)):
            answer = await verifier.client.post(URL, content=body)
            assert answer.status_code == expected
    assert comparable(await verifier.verify(badge))["first"][2] == "too_large"


@pytest.mark.parametrize("name", UNREADABLE)
async def test_nor_does_it_of_what_cannot_be_read(verifier: Verifier, name: str) -> None:
    found = []
    for label in LABELS:
        headers = {} if label is None else {"Content-Type": label}
        answer = await verifier.client.post(URL, content=UNREADABLE[name], headers=headers)
        found.append((answer.status_code, refusal(answer)))
    assert found == found[:1] * len(found)


async def test_two_sources_are_one_too_many(verifier: Verifier, one: dict[str, Any]) -> None:
    text, file = {"credential": to_bytes(one).decode()}, {"file": ("x", b"{}")}
    for way, words in (
        ({"data": {**text, "url": one["id"]}}, "an address and a text"),
        ({"data": text, "files": file}, "a file and a text"),
        ({"data": {"url": one["id"]}, "files": file}, "a file and an address"),
    ):
        for path in ("/verify", URL):
            answer = await verifier.client.post(path, **way)  # type: ignore[arg-type]
            assert answer.status_code == 422
            assert f"You gave {words}" in answer.text
    answer = await verifier.client.post("/verify", data={"url": f"{BASE_URL}/c/none", "recipient": "ada@example.org"})
    assert answer.status_code == 422
    assert "ada@example.org" in answer.text  # what was typed is not lost


async def test_what_an_address_answers(verifier: Verifier, foreign: Foreign, stranger: TestIssuer) -> None:
    badge = to_bytes(stranger.badge(7))
    for path, body in (("/json", badge), ("/png", bake_png(ART, badge)), ("/svg", bake_svg(SVG, badge))):
        found = await verifier.verify({"url": foreign.put(path, body)})
        assert found["verdict"] == "valid"
        assert found.get("baked") == {"/json": None}.get(path, path[1:])
    for path, body, status, code in (
        ("/none", b"", 404, "not_found"), ("/gone", b"", 410, "not_found"), ("/broken", b"", 500, "fetch_failed"),
        ("/html", b"<html>", 200, "bad_answer"), ("/on", foreign.url.encode() + b"/json", 200, "bad_answer"),
        ("/empty", b"", 200, "bad_answer"), ("/large", bytes(MAX_BAKED + 1), 200, "fetch_failed"),
    ):  # fmt: skip
        answer = await verifier.client.post(URL, json={"url": foreign.put(path, body, status)})
        assert (answer.status_code, answer.json()["type"]) == (422, f"urn:laurel:problem:{code}"), path
    assert "/json" in foreign.asked
    assert foreign.asked.count("/json") == 1  # an address that answers with an address is not followed
    for url, code in (
        ("http://10.0.0.1/x", "fetch_refused"), ("https://127.0.0.1:1/x", "fetch_refused"), ("ftp://x", "bad_url"),
        ("openid4vp://x", "wallet_link"), ("", "empty"), ("https://" + "x" * 3000, "bad_url"), ("{}", "bad_url"),
    ):  # fmt: skip
        answer = await verifier.client.post(URL, json={"url": url})
        assert (answer.status_code, answer.json()["type"]) == (422, f"urn:laurel:problem:{code}"), url


async def test_the_command_reads_an_address_and_a_qr_codes_text(
    verifier: Verifier, foreign: Foreign, stranger: TestIssuer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = foreign.put("/badge.png", bake_png(ART, to_bytes(stranger.badge(7))))
    assert await command.run(url, url=None, local=False, output=Output(as_json=True)) == Exit.OK
    assert json.loads(capsys.readouterr().out)["baked"] == "png"
    text = tmp_path / "qr.txt"
    text.write_text(url + "\n")
    assert await command.run(str(text), url=None, local=True, output=Output(as_json=True)) == Exit.OK
    text.write_text(foreign.url + "/nothing")
    with pytest.raises(Failure) as caught:
        await command.run(str(text), url=None, local=True, output=Output(as_json=True))
    assert caught.value.code == Exit.UNREACHABLE


async def test_the_command_gives_an_address_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends a little now and then never lets a read run out."""
    gone = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not reader.at_eof():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        finally:
            gone.set()
            writer.close()

    monkeypatch.setattr(command, "FETCH_S", 0.5, raising=False)
    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/c"
        with pytest.raises(Failure, match=r"within 0\.5 seconds") as caught:
            async with asyncio.timeout(20.0):
                await command.run(url, url=None, local=False, output=Output(as_json=True))
        assert caught.value.code == Exit.UNREACHABLE
        await gone.wait()


async def test_a_body_that_is_too_large_is_refused_by_its_length(verifier: Verifier) -> None:
    class Endless(httpx.AsyncByteStream):
        read = 0

        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                self.read += 1
                yield bytes(1 << 16)

    for content_type in ("application/json", "image/png"):  # what it is shows only when it was read
        stream = Endless()
        headers = {"Content-Type": content_type, "Content-Length": str(20 << 20)}
        request = httpx.Request("POST", BASE_URL + URL, headers=headers, stream=stream)
        answer = await verifier.client.send(request)
        assert (answer.status_code, stream.read) == (413, 0)
        request = httpx.Request("POST", BASE_URL + URL, headers={"Content-Type": content_type}, stream=stream)
        answer = await verifier.client.send(request)
        assert answer.status_code == 413
        assert MAX_BAKED < stream.read << 16 <= MAX_BAKED + (128 << 10)
