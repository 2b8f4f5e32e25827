"""Every page that a browser may show: a strict policy, no script from elsewhere, and no text that becomes a script."""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from laurel_local.demo.inbox import Inbox, Received
from laurel_local.demo.mailbox import Mailbox
from tests.component.verifier.issuing import TestIssuer, credential_id, issued
from tests.security.estate import BASE_URL, PNG, Door, Estate, Tenant, call
from tests.security.pages import Page, policy_of, wrong
from tests.security.test_ssrf import estate_feed
from tests.security.test_tenants import names_of, path_of

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

HTML = {"Accept": "text/html"}
# What answers with a page. A new one fails `test_every_page…` until it stands here.
PAGES = {
    "/", "/verify", "/c/{credential_id}", "/achievements/{achievement_id}",
    *(f"/{service}/v1/docs" for service in ("assessment", "issuer", "notifier", "verifier")),
}  # fmt: skip


def payloads() -> list[str]:
    lines = (Path(__file__).parent / "xss.txt").read_text(encoding="utf-8").split("\n")
    return [json.loads(f'"{line}"') for line in lines if line and not (line.startswith("# ") and "LXSS" not in line)]


async def test_there_are_enough_payloads() -> None:
    found = payloads()
    assert len(found) == len(set(found)) >= 60
    assert all("LXSS" in one or "TFhTUz4" in one or "MWFNT" in one for one in found)


async def pages(estate: Estate, tenant: Tenant) -> list[tuple[Door, httpx.Response]]:
    """Whatever any GET of any door answers with HTML, and the POSTs of the forms."""
    found = []
    for door in estate.doors():
        if door.method == "GET":
            names = {**names_of(door, tenant), "file": "swagger-ui.css", "name": "x"}
            answer = await estate.http.get(path_of(door, names), headers={**tenant.headers, **HTML})
            if answer.headers.get("content-type", "").startswith("text/html") and answer.status_code == 200:
                found.append((door, answer))
    return found


async def test_every_page_has_a_strict_policy_and_nothing_from_elsewhere(estate: Estate, tenants: list[Tenant]) -> None:
    found = await pages(estate, tenants[0])
    assert {door.path for door, _ in found} == PAGES
    for door, answer in found:
        assert wrong(answer, docs=door.path.endswith("/docs")) == [], str(door)
    for path in ("/nothing/here", "/c/nothing", "/c/%3Cscript%3E", "/assets/x", "/verify?url=%22%3E%3Cscript%3E"):
        answer = await estate.http.get(path, headers=HTML)
        assert answer.status_code in (200, 404)
        if answer.headers["content-type"].startswith("text/html"):
            assert wrong(answer) == [], path


async def test_every_answer_of_every_door_has_the_security_headers(estate: Estate, tenants: list[Tenant]) -> None:
    """Errors and JSON, too: what a browser is made to open must not run or be taken for something else."""
    for door in estate.doors():
        path = path_of(door, {**names_of(door, tenants[0]), "file": "x", "name": "x"})
        answer = await estate.http.request(door.method, path)
        policy = policy_of(answer)
        assert policy["default-src"] == ["'none'"], str(door)
        assert "'unsafe-inline'" not in policy.get("script-src", []), str(door)
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"], str(door)
        assert answer.headers.get_list("referrer-policy") == ["no-referrer"], str(door)


async def test_swagger_ui_is_our_own(estate: Estate) -> None:
    for service in estate.services:
        page = Page((await estate.http.get(f"/{service}/v1/docs")).text)
        sources = [attributes["src"] for tag, attributes in page.elements if tag == "script" and "src" in attributes]
        sources += [attributes["href"] for tag, attributes in page.elements if tag == "link"]
        assert len(sources) >= 3
        for source in sources:
            answer = await estate.http.get(source)
            assert (answer.status_code, source.startswith(f"/{service}/v1/docs/assets/")) == (200, True)


# --- texts --------------------------------------------------------------------------------------------------

PLAIN_TEXTS = ("word", "two words, and no language", "https://x.example/")
KEPT = {"@context", "type", "proof", "cryptosuite", "validFrom", "validUntil", "awardedDate"}


def with_text(value: Any, text: str, *, name: str = "") -> Any:
    """The document with the text in the place of every text that a page might show, addresses included."""
    if isinstance(value, dict):
        return {key: one if key in KEPT else with_text(one, text, name=key) for key, one in value.items()}
    if isinstance(value, list):
        return [with_text(one, text, name=name) for one in value]
    return text if isinstance(value, str) else value


def plainly(document: dict[str, Any]) -> list[dict[str, Any]]:
    """What harmless texts make of a page: words, what is no language, and addresses that become links."""
    return [document, *(with_text(document, text) for text in PLAIN_TEXTS)]


def rich_badge(issuer: TestIssuer, number: int) -> dict[str, Any]:
    made = issuer.badge(number)
    achievement = made["credentialSubject"]["achievement"]
    achievement["image"] = {"id": PNG, "type": "Image", "caption": "word"}
    achievement["criteria"] = {"id": "https://x.example/", "narrative": "word\n\n- word\n- word\n\n# word\n\nword"}
    achievement["inLanguage"] = "en"
    made |= {"name": "word", "description": "word", "image": {"id": PNG, "type": "Image", "caption": "word"}}
    made["issuer"] = {
        **made["issuer"],
        "description": "word",
        "url": "https://x.example/",
        "image": {"id": PNG, "type": "Image"},
    }
    made["credentialSubject"]["achievement"]["creator"] = {"id": "did:web:x", "type": ["Profile"], "name": "word"}
    return made


async def test_a_strangers_credential_turns_nothing_into_a_script(estate: Estate) -> None:
    """Every text of a document that is handed to the form, all at once and in every field alone."""
    base = rich_badge(TestIssuer(slug="", seed=b"\x31" * 32), 1)
    plain = [await _posted(estate, credential=json.dumps(one)) for one in plainly(base)]
    plain += [await _posted(estate, credential=json.dumps(base), recipient="a@b.example")]
    shape = set().union(*(Page(one.text).shape for one in plain))
    for text in payloads():
        answers = [
            await _posted(estate, credential=json.dumps(with_text(base, text))),
            await _posted(estate, credential=json.dumps(base), recipient=text),
            await _posted(estate, credential=text), await _posted(estate, url=text),
            await _posted(estate, credential=json.dumps({"credential": text, "url": text})),
            await estate.http.get("/verify", params={"url": text}, headers=HTML),
        ]  # fmt: skip
        for answer in answers:
            assert answer.status_code in (200, 400, 422), (text, answer.status_code)
            assert wrong(answer) == [], text
        assert Page(answers[0].text).shape <= shape, (text, Page(answers[0].text).shape - shape)


async def _posted(estate: Estate, **fields: str) -> httpx.Response:
    return await estate.http.post("/verify", data=fields, headers=HTML)


async def test_an_issued_credential_turns_nothing_into_a_script(estate: Estate) -> None:
    """Its public page, also with the question whose it is, whatever an issuer of this house wrote into it."""
    issuer = TestIssuer("scripts", base_url=BASE_URL)
    base = rich_badge(issuer, 8000)
    documents = [*plainly(base), *(with_text(base, text) for text in payloads())]
    events = []
    for number, document in enumerate(documents, start=8000):
        made = copy.deepcopy(document)
        made["id"] = f"{BASE_URL}/c/{credential_id(number)}"
        made["issuer"]["id"] = issuer.did
        events.append(issued(made, number, issuer=issuer.did))
    await estate_feed(estate, issuer.published(), *events)
    shape: set[Any] = set()
    for number, text in enumerate(["", *PLAIN_TEXTS, *payloads()], start=8000):
        path = f"/c/{credential_id(number)}"
        for answer in (
            await estate.http.get(path, headers=HTML),
            await estate.http.post(path, data={"recipient": text or "a@b.example"}, headers=HTML),
        ):
            assert answer.status_code == 200, (text, answer.text[:300])
            assert wrong(answer) == [], text
            if number <= 8000 + len(PLAIN_TEXTS):
                shape |= Page(answer.text).shape
            assert Page(answer.text).shape <= shape, (text, Page(answer.text).shape - shape)
        exact = await estate.http.get(path, headers={"Accept": "application/json"})
        assert "html" not in exact.headers["content-type"]
        for name in ("badge.png", "badge.svg"):
            file = await estate.http.get(f"{path}/{name}")
            assert file.headers["content-disposition"].startswith("attachment;"), text
            assert "sandbox" in policy_of(file)


async def test_an_achievement_turns_nothing_into_a_script(estate: Estate, tenants: list[Tenant]) -> None:
    """Texts are shown as they were written; addresses that are none are refused at the door."""
    tenant = tenants[0]
    good = {
        "name": "word", "description": "word", "criteria": {"narrative": "word\n\nword"},
        "policy": {"minimum_score": 1},
        "profile_id": tenant.owns["profile_id"], "image": PNG, "image_caption": "word", "tags": ["word"],
        "achievement_type": "Course",
        "alignment": [{"targetName": "word", "targetUrl": "https://x.example/", "targetCode": "word",
        "targetFramework": "word"}],
    }  # fmt: skip
    full = {**good, "criteria": {"narrative": "word\n\nword", "id": "https://x.example/"}}
    shape: set[Any] = set()
    for given in (good, full):
        shape |= Page((await _achievement(estate, tenant, given)).text).shape
    taken = 0
    for text in payloads():
        trials = [
            {**good, "name": text, "description": text, "criteria": {"narrative": text}, "tags": [text],
            "image_caption": text},
            {**good, "criteria": {"narrative": "x", "id": text}}, {**good, "achievement_type": text},
            {**good, "language": text},
            {**good, "alignment": [{"targetName": text, "targetUrl": "https://x.example/", "targetFramework": text,
            "targetCode": text}]},
            {**good, "alignment": [{"targetName": "x", "targetUrl": text}]}, {**good, "image": text},
        ]  # fmt: skip
        for trial in trials:
            answer = await _achievement(estate, tenant, trial)
            if answer.status_code == 422:
                continue
            taken += 1
            assert answer.status_code == 200
            assert wrong(answer) == [], (text, trial)
            assert Page(answer.text).shape <= shape, (text, Page(answer.text).shape - shape)
    assert taken > 40, "nearly all are refused, so that hardly a page was seen"


async def _achievement(estate: Estate, tenant: Tenant, given: dict[str, Any]) -> httpx.Response:
    made = await estate.http.post("/assessment/v1/achievements", json=given, headers=tenant.headers)
    if made.status_code == 422:
        return made
    assert made.status_code == 201, made.text
    return await estate.http.get(f"/achievements/{made.json()['achievement_id']}", headers=HTML)


async def test_the_demos_pages_turn_nothing_into_a_script(tmp_path: Path) -> None:
    """The partner's inbox and the learners' mailbox show what strangers sent."""
    inbox, mailbox = Inbox(tmp_path / "inbox"), Mailbox(tmp_path / "mail")
    app = Starlette(routes=[Mount("/", routes=[*inbox.app().routes, *mailbox.app().routes])])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE_URL) as http:
        shape: set[Any] = set()
        for number, text in enumerate(["word", *payloads()], start=1):
            inbox._remember(Received(text, text, text, text, text))
            kinds = (
                b"text/plain; charset=utf-8",
                b"text/html",
                b"multipart/mixed",
                b"text/plain; charset=x",
                b"message/rfc822",
            )
            content = b"Subject: %b\nTo: %b\nFrom: %b\nDate: %b\nContent-Type: %b\n\n%b" % (
                *(text.encode(),) * 4, kinds[number % len(kinds)], text.encode(),
            )  # fmt: skip
            await mailbox.handle_DATA(None, None, SimpleNamespace(content=content))  # type: ignore[arg-type]
            for path in ("/demo/inbox", "/demo/mailbox", f"/demo/mailbox/{number}"):
                answer = await http.get(path)
                assert answer.status_code == 200, (text, path)
                assert wrong(answer) == [], (text, path)
                shape |= Page(answer.text).shape if number == 1 else set()
                extra = Page(answer.text).shape - shape
                assert extra <= {("th", ("scope",)), ("td", ("dir",)), ("table", ())}, (text, path, extra)
        assert wrong(await http.get("/demo/mailbox/999999")) == []
    inbox.close()


# --- pictures -----------------------------------------------------------------------------------------------

_SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:h="http://www.w3.org/1999/xhtml" width="1" height="1"{}>{}</svg>'  # noqa: E501
PLAIN = _SVG.format("", '<rect width="1" height="1" fill="red"/>')
ACTIVE = {
    "script": _SVG.format("", "<script>LXSS</script>"), "script of another prefix": _SVG.format("",
    "<h:script>LXSS</h:script>"),
    "onload": _SVG.format(' onload="LXSS"', ""), "onclick inside": _SVG.format("", '<rect onclick="LXSS"/>'),
    "javascript link": _SVG.format("", '<a xlink:href="javascript:LXSS"><rect/></a>'),
    "javascript link, spelled out": _SVG.format("", '<a href="java&#10;script:LXSS"><rect/></a>'),
    "data link": _SVG.format("", '<a href="data:text/html,LXSS"><rect/></a>'),
    "link elsewhere": _SVG.format("", '<a href="https://x.example"><rect/></a>'),
    "foreignObject": _SVG.format("", "<foreignObject><h:p>x</h:p></foreignObject>"),
    "iframe": _SVG.format("", '<h:iframe src="x"/>'),
    "html picture": _SVG.format("", '<h:img src="x" onerror="LXSS"/>'),
    "image elsewhere": _SVG.format("", '<image href="https://x.example/a.png"/>'),
    "svg in svg": _SVG.format("", '<image href="data:image/svg+xml,x"/>'),
    "use elsewhere": _SVG.format("", '<use href="https://x.example/a.svg#x"/>'),
    "style import": _SVG.format("", "<style>@import 'https://x.example/a.css';</style>"),
    "style url": _SVG.format("", '<rect style="fill:url(https://x.example/)"/>'),
    "set onload": _SVG.format("", '<set attributeName="onload" to="LXSS"/>'),
    "animate href": _SVG.format("", '<a><animate attributeName="xlink:href" values="x;y"/></a>'),
    "doctype": '<!DOCTYPE svg [<!ENTITY x "y">]>' + PLAIN,
    "entities": '<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + PLAIN,
    "XSLT": '<?xml-stylesheet type="text/xsl" href="#x"?>' + PLAIN,
    "CSS instruction": '<?xml-stylesheet href="https://x.example/a.css"?>' + PLAIN,
    "refresh": _SVG.format("", '<h:meta http-equiv="refresh" content="0;url=https://x.example/"/>'),
    "handler": _SVG.format("", '<handler type="text/javascript">LXSS</handler>'),
    "html": "<html><script>LXSS</script></html>",
    **{f"encoding {one}": f'<?xml version="1.0" encoding="{one}"?>{PLAIN}' for one in ("UTF-7", "big5", "rot13",
    "idna", "x", "cp037", "unicode_escape")},
    "not well-formed": PLAIN[:-4], "UTF-16": "", "UTF-7": '<?xml version="1.0" encoding="UTF-7"?>' + PLAIN,
}  # fmt: skip
ACTIVE["UTF-16"] = ACTIVE["script"]


def data_uri(svg: str, *, encoding: str = "utf-8") -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode(encoding)).decode()}"


async def test_an_svg_that_could_run_is_refused_and_another_is_served_where_it_cannot(
    estate: Estate, tenants: list[Tenant]
) -> None:
    tenant = tenants[0]
    body = {
        "name": "S", "description": "S", "criteria": {"narrative": "S"}, "policy": {"minimum_score": 1},
        "profile_id": tenant.owns["profile_id"],
    }  # fmt: skip
    for name, svg in ACTIVE.items():
        uri = data_uri(svg, encoding="utf-16" if name == "UTF-16" else "utf-8")
        answer = await estate.http.post(
            "/assessment/v1/achievements", json={**body, "image": uri}, headers=tenant.headers
        )
        assert answer.status_code == 422, (name, answer.text)
        assert answer.json()["errors"][0]["field"] == "/image", (name, answer.text)
    made = await call(estate, tenant, "POST", "/assessment/v1/achievements", json={**body, "image": data_uri(PLAIN)})
    for path in (made["image"].removeprefix(BASE_URL), f"/achievements/{made['achievement_id']}/image"):
        answer = await estate.http.get(path)
        assert answer.headers["content-type"].partition(";")[0] == "image/svg+xml"
        policy = policy_of(answer)
        assert policy["default-src"] == ["'none'"]
        assert policy["sandbox"] == []
        assert "script-src" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_no_picture_in_a_credential_is_shown_as_a_document(estate: Estate) -> None:
    """An SVG of a credential's own is never served as such, and goes into no baked badge if it could run."""
    issuer = TestIssuer("pictures-2", base_url=BASE_URL)
    events = []
    for number, svg in enumerate([PLAIN, *ACTIVE.values()], start=9000):
        made = issuer.badge(number)
        made["credentialSubject"]["achievement"]["image"] = {"id": data_uri(svg), "type": "Image"}
        events.append(issued(made, number))
    await estate_feed(estate, issuer.published(), *events)
    for number in range(9000, 9000 + len(events)):
        path = f"/c/{credential_id(number)}"
        assert (await estate.http.get(f"{path}/image")).status_code == 404
        baked = await estate.http.get(f"{path}/badge.svg")
        assert baked.status_code == 200
        assert baked.headers["content-disposition"].startswith("attachment;")
        picture = baked.text.partition("openbadges:credential")[0] + baked.text.rpartition("openbadges:credential>")[2]
        assert "LXSS" not in picture
        assert "<script" not in picture
        page = await estate.http.get(path, headers=HTML)
        assert wrong(page) == []
