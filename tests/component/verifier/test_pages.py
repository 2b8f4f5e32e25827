"""The public pages: what they say, that nothing in them runs, and that a file is what was issued."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from laurel_verifier.api import MAX_BODY
from tests.component.verifier.conftest import Verifier
from tests.component.verifier.issuing import BASE_URL, PNG, TestIssuer, changed, credential_id, issued, to_bytes

PAGE = f"/c/{credential_id(1)}"
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
VOID = {"meta", "link", "img", "input", "br", "hr", "path", "circle"}


class Page(HTMLParser):
    """A page taken apart: its elements, its headings, its text; open elements must be closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == [], f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(tag)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def check_page(answer: httpx.Response) -> Page:
    """What every page must be."""
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    page = Page(answer.text)
    assert page.all("html")[0]["lang"] == "en"
    for landmark in ("header", "nav", "main", "footer"):
        assert len(page.all(landmark)) == 1, landmark
    assert page.headings.count("h1") == 1
    levels = [int(heading[1]) for heading in page.headings]
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels)), levels
    assert page.elements[next(i for i, (tag, _) in enumerate(page.elements) if tag == "body") + 1][1]["href"] == "#main"
    assert len(page.all("title")) == 1
    for tag, attributes in page.elements:
        assert "style" not in attributes, f"<{tag} style>"
        assert not [name for name in attributes if name.startswith("on")], f"<{tag}> with a handler"
        if tag == "script":
            assert re.fullmatch(r"/assets/laurel\.[0-9a-f]{12}\.js", attributes["src"] or "")
        if tag == "img":
            assert attributes["alt"]
        for name in ("href", "src", "action"):
            assert not (attributes.get(name) or "").lower().startswith(("javascript:", "vbscript:", "data:text"))
    assert "<style" not in answer.text
    labelled = {one["for"] for one in page.all("label")}
    for field in page.all("input") + page.all("textarea"):
        assert field["id"] in labelled
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    for _, attributes in page.elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert attributes.get(name, identifiers[0]) in identifiers
    return page


def said(page: Page) -> str:
    return " ".join(" ".join(page.text).split())


async def test_the_page_of_a_badge(verifier: Verifier, one: dict[str, Any]) -> None:
    answer = await verifier.client.get(PAGE, headers=HTML)
    assert answer.status_code == 200
    page = check_page(answer)
    text = said(page)
    for expected in (
        "Valid", "Data Literacy", "Open University", "Reads and questions data.", "Passed all five parts.",
        "statistics",
        "Analyse data", "ESCO", "Essay", "Two pages.", "21 November 2026", "Score", "93", "Course",
        "Signature", "signed with eddsa-rdfc-2022",
    ):  # fmt: skip
        assert expected in text, expected
    assert page.all("img")[0]["src"] == PNG
    assert "tone-good" in answer.text
    assert len(page.all("details")) == 1
    assert "open" not in page.all("details")[0]
    meta = {one.get("property") or one.get("name"): one.get("content") for one in page.all("meta")}
    assert meta["og:title"] == "Data Literacy"
    assert meta["og:url"] == f"{BASE_URL}{PAGE}"
    assert meta["og:image"] == f"{BASE_URL}{PAGE}/image"
    assert any("qr-code" in (one.get("class") or "") for one in page.all("svg"))
    assert answer.headers["vary"] == "Accept"


@pytest.mark.parametrize(("status", "word"), [("revoked", "Revoked"), ("suspended", "Suspended")])
async def test_the_page_of_a_badge_that_was_taken_back(
    verifier: Verifier, one: dict[str, Any], status: Any, word: str
) -> None:
    await verifier.feed(changed(1, 1, status))
    page = check_page(await verifier.client.get(PAGE, headers=HTML))
    assert word in said(page)
    assert "open" in page.all("details")[0]


async def test_a_tampered_row_shows_as_invalid(verifier: Verifier, one: dict[str, Any]) -> None:
    """The page's verdict comes from checking, not from believing the index."""
    async with verifier.service.worker_database.transaction() as tx:
        await tx.execute(
            "UPDATE credentials SET document = "
            "convert_to(replace(convert_from(document, 'UTF8'), 'Two pages', 'Ten pages'), 'UTF8')"
        )
    assert "Not valid" in said(check_page(await verifier.client.get(PAGE, headers=HTML)))


EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg/onload=alert(3)>"


async def test_text_of_a_credential_is_text(verifier: Verifier) -> None:
    """Whatever a foreign issuer writes stays text, links lead to the web only, pictures come from nowhere else."""
    document: dict[str, Any] = json.loads(
        json.dumps(TestIssuer(slug="", base_url="https://else.example").badge()).replace("Data Literacy", "@@")
    )
    achievement = document["credentialSubject"]["achievement"]
    document["issuer"]["name"] = achievement["description"] = achievement["name"] = EVIL
    document["issuer"]["url"] = "javascript:alert(4)"
    achievement["criteria"] = {"narrative": f"# {EVIL}\n- {EVIL}\n\n[x](javascript:alert(5))", "id": "data:text/html,x"}
    achievement["image"] = {"id": "https://tracker.example/pixel.png", "type": "Image", "caption": EVIL}
    achievement["tag"] = [EVIL, 7, None, {"a": EVIL}]
    achievement["inLanguage"] = EVIL
    achievement["alignment"] = [{"type": ["Alignment"], "targetName": EVIL, "targetUrl": " javascript:alert(6)"}]
    document["evidence"] = [{"id": "javascript:alert(7)", "type": ["Evidence"], "name": EVIL, "narrative": EVIL}]
    answer = await verifier.client.post("/verify", data={"credential": json.dumps(document), "recipient": EVIL})
    assert answer.status_code == 200
    page = check_page(answer)
    assert "Not valid" in said(page)
    assert "Nothing in it is confirmed" in said(page)
    assert len(page.all("script")) == 1
    assert page.all("img") == []  # a picture of somebody else's server would tell it who is looking
    assert "alert(1)" in said(page)
    assert "tracker.example" not in answer.text


async def test_content_negotiation(verifier: Verifier, one: dict[str, Any]) -> None:
    for accept, expected in (
        ("application/vc+ld+json", "application/vc+ld+json"),
        ("application/vc", "application/vc"),
        ("application/json", "application/json"),
        ("application/ld+json, text/html;q=0.5", "application/ld+json"),
        ("text/html;q=0.5, application/json", "application/json"),
        ("text/html, application/json", "text/html; charset=utf-8"),
        ("*/*", "text/html; charset=utf-8"),
        ("application/vc+jwt", "application/vc+ld+json"),  # what it is not: it comes as what it is
        ("image/png", "application/vc+ld+json"),
        (";;q=,,", "application/vc+ld+json"),
    ):
        answer = await verifier.client.get(PAGE, headers={"Accept": accept})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == expected, accept
        if expected.startswith("application"):
            assert answer.content == to_bytes(one)
            assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["vary"] == "Accept"


async def test_the_download_is_what_was_issued(verifier: Verifier, one: dict[str, Any]) -> None:
    answer = await verifier.client.get(f"{PAGE}?download=1", headers=HTML)
    assert answer.content == to_bytes(one)
    assert answer.headers["content-disposition"] == f'attachment; filename="credential-{credential_id(1)}.json"'
    assert answer.headers["content-type"] == "application/vc+ld+json"
    head = await verifier.client.head(PAGE, headers=HTML)
    assert (head.status_code, head.content) == (200, b"")


async def test_an_unknown_credential_is_a_404(verifier: Verifier) -> None:
    for identifier in ("nothing", "%00", "x" * 300, "..%2f..", "<script>"):
        answer = await verifier.client.get(f"/c/{identifier}", headers=HTML)
        assert answer.status_code == 404, identifier
    page = check_page(await verifier.client.get("/c/nothing", headers=HTML))
    assert "There is no such credential" in said(page)
    for accept in ("application/json", "application/vc+jwt", "application/jwt", "image/png"):
        answer = await verifier.client.get("/c/nothing", headers={"Accept": accept})
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    answer = await verifier.client.get("/c/nothing?download=1", headers=HTML)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_is_it_this_persons(verifier: Verifier, one: dict[str, Any]) -> None:
    answer = await verifier.client.post(PAGE, data={"recipient": "ada@example.org"})
    page = check_page(answer)
    assert "the person that you named is the one it was awarded to" in said(page)
    assert answer.headers["cache-control"] == "no-store"
    text = said(check_page(await verifier.client.post(PAGE, data={"recipient": "eve@example.org"})))
    assert "somebody else" in text


async def test_the_form(verifier: Verifier, one: dict[str, Any]) -> None:
    check_page(await verifier.client.get("/verify?url=%22%3E%3Cscript%3E", headers=HTML))
    raw = to_bytes(one)
    ways: list[dict[str, Any]] = [
        {"data": {"credential": raw.decode()}},
        {"files": {"file": ("badge.json", raw, "application/json"), "credential": (None, "")}},
        {"data": {"url": one["id"]}},
    ]
    for way in ways:
        answer = await verifier.client.post("/verify", **way)
        assert answer.status_code == 200, way
        page = check_page(answer)
        assert "Valid" in said(page)
        assert "Data Literacy" in said(page)
        assert any(link.get("href") == PAGE for link in page.all("a"))
    for nothing in ({}, {"url": "ftp://x"}, {"url": f"{BASE_URL}/c/none"}, {"url": "https://127.0.0.1:1/x"}):
        answer = await verifier.client.post("/verify", data={"recipient": "", **nothing})
        assert answer.status_code == 422
        check_page(answer)
    for junk in ("{", "[1]", "[" * 5000, '{"a": NaN}', '{"a":1,"a":2}', "\ud800".encode("utf-8", "surrogatepass")):
        answer = await verifier.client.post("/verify", files={"file": ("x", junk)})
        assert answer.status_code == 200
        assert "Not valid" in said(check_page(answer))


async def test_a_file_that_is_too_large(verifier: Verifier) -> None:
    for size, taken in ((MAX_BODY, True), (MAX_BODY + (1 << 20), True), (100 << 20, False)):
        sent = 0

        async def pieces(size: int = size) -> AsyncIterator[bytes]:
            nonlocal sent
            while sent < size:
                sent += 1 << 16
                yield bytes(1 << 16)

        form = {"Content-Type": "multipart/form-data; boundary=b"}
        answer = await verifier.client.post("/verify", content=pieces(), headers={**HTML, **form})
        assert (answer.status_code, sent >= size) == (400 if size == MAX_BODY else 413, taken)
        page = check_page(answer)
        assert len(page.all("form")) == 1
        assert ("too large" in said(page)) is (answer.status_code == 413)
    declared = {**form, "Content-Length": str(1 << 40)}
    for accept in ("application/json", "*/*"):
        answer = await verifier.client.post("/verify", content=pieces(), headers={**declared, "Accept": accept})
        assert (answer.status_code, answer.json()["type"]) == (413, "urn:laurel:problem:too_large")


async def test_a_browser_that_leaves_while_it_sends(verifier: Verifier) -> None:
    app: Any = verifier.client._transport.app  # type: ignore[attr-defined]
    told: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        told.append(message)

    scope = {"type": "http", "method": "POST", "path": "/verify", "query_string": b"", "headers": []}
    await app({**scope, "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http"}, receive, send)
    assert told[0]["status"] == 400


async def test_broken_forms_are_not_our_fault(verifier: Verifier) -> None:
    for content_type, body in (
        ("text/plain", b"x"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"--b\r\nnothing"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--"),
        ("multipart/form-data; boundary=b", b"--b\r\n" * 50),
        ("application/x-www-form-urlencoded", b"a=1&" * 50),
        ("application/x-www-form-urlencoded", b"\xff=\xfe"),
    ):
        for path in ("/verify", PAGE):
            answer = await verifier.client.post(path, content=body, headers={"Content-Type": content_type})
            assert 400 <= answer.status_code < 500, (content_type, body)


async def test_the_start_page_leads_on(verifier: Verifier) -> None:
    page = check_page(await verifier.client.get("/", headers=HTML))
    links = {link.get("href") for link in page.all("a")}
    assert {"/verify", *(f"/{name}/v1/docs" for name in ("assessment", "issuer", "notifier", "verifier"))} <= links


async def test_assets_are_kept_for_ever_under_their_hash(verifier: Verifier) -> None:
    page = check_page(await verifier.client.get("/", headers=HTML))
    paths = [one["href"] for one in page.all("link")] + [one["src"] for one in page.all("script")]
    assert len(paths) == 3
    for path in paths:
        assert path is not None
        answer = await verifier.client.get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    for missing in ("/assets/laurel.css", "/assets/..%2fapi.py", "/assets/laurel.000000000000.js"):
        assert (await verifier.client.get(missing)).status_code == 404


async def test_the_picture_as_a_file(verifier: Verifier, one: dict[str, Any], issuer: TestIssuer) -> None:
    answer = await verifier.client.get(f"{PAGE}/image")
    assert answer.headers["content-type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG")
    assert "sandbox" in answer.headers["content-security-policy"]
    svg = "data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciLz4="
    await verifier.feed(issued(issuer.badge(2, achievement={"image": svg}), 2))
    page = check_page(await verifier.client.get(f"/c/{credential_id(2)}", headers=HTML))
    assert page.all("img")[0]["src"] == svg  # as a picture it cannot run
    assert (await verifier.client.get(f"/c/{credential_id(2)}/image")).status_code == 404  # as a document it could


async def test_pictures_of_our_own_origin_are_shown_and_shared(verifier: Verifier, issuer: TestIssuer) -> None:
    source = f"{BASE_URL}/achievements/a1/image"
    await verifier.feed(issuer.published(), issued(issuer.badge(achievement={"image": source})))
    page = check_page(await verifier.client.get(PAGE, headers=HTML))
    assert page.all("img")[0]["src"] == source
    assert any(one.get("property") == "og:image" and one["content"] == source for one in page.all("meta"))


async def test_many_scripts(verifier: Verifier, issuer: TestIssuer) -> None:
    words = {
        "name": "数据素养 – بيانات",
        "description": "Умеет читать данные; ทักษะข้อมูล",
        "in_language": "zh-Hans",
    }
    await verifier.feed(issuer.published(), issued(issuer.badge(achievement=words)))
    page = check_page(await verifier.client.get(PAGE, headers=HTML))
    assert words["name"] in said(page)
    assert words["description"] in said(page)
    assert page.all("h1")[0]["lang"] == "zh-Hans"
    assert "Valid" in said(page)
