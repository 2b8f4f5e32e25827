"""Achievements: made, changed, retired, announced, and shown to everybody."""

from __future__ import annotations

import asyncio
import base64
import json
import zlib
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from laurel.bus import Message
from laurel.credential.contexts import CREDENTIALS_V2, OPEN_BADGES
from laurel.credential.did import did_key
from laurel.credential.keys import Ed25519Signer
from laurel.envelope import Delivered
from laurel.events import AchievementPublished, AchievementRetired
from laurel.ids import uuid7
from tests.component.assessment.conftest import BASE, NOW, Caller, World, achievement, profile_published

PATH = "/assessment/v1/achievements"


def png(width: int = 2, height: int = 2) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    pixels = zlib.compress((b"\x00" + b"\x80" * 2) * 2)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def uri(content: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"><circle cx="5" cy="5" r="4"/></svg>'

TOLD = [
    {"status": "0x0", "message": "nothing to tell"},
    {"status": "0x1", "message": "under review"},
    {"status": "0x3", "message": "replaced by a newer one"},
]
TELLS: dict[str, Any] = {"status_purposes": ["revocation", "message"], "status_messages": TOLD}

FULL: dict[str, Any] = {
    "name": "Compétences en données",
    "description": "Reads, questions and explains data.",
    "criteria": {"narrative": "Pass the exam.\n\nWrite an *essay*.", "id": "https://example.org/criteria"},
    "image": uri(png()),
    "image_caption": "A laurel wreath around a bar chart",
    "tags": ["data", "statistics"],
    "alignment": [
        {
            "targetName": "analyse data", "targetUrl": "http://data.europa.eu/esco/skill/1d2",
            "targetFramework": "ESCO",            "targetType": "ext:ESCOSkill", "targetCode": "S2.7.1",
        },
        {"targetName": "Data", "targetUrl": "https://case.example.org/CFItems/9", "targetType": "CFItem"},
    ],
    "achievement_type": "MicroCredential",
    "result_descriptions": [{"name": "Score", "resultType": "Percent", "valueMin": "0", "valueMax": "100"}],
    "language": "fr",
    "validity_days": 730,
    "status_purposes": ["revocation", "suspension"],
    "policy": {"minimum_score": 60, "required_parts": {"essay": 5}, "max_attempts": 3},
}  # fmt: skip


async def test_an_achievement_says_what_may_be_told_of_its_credentials(world: World, ours: Caller) -> None:
    reference = "https://example.org/meanings"
    purposes = ["revocation", "suspension", "refresh", "message"]
    told = {**TELLS, "status_purposes": purposes, "status_reference": reference}
    response = await ours.post(PATH, achievement(**told))
    assert response.status_code == 201, response.text
    made = response.json()
    assert {name: made[name] for name in told} == told
    (event,) = await world.events(AchievementPublished)
    assert event.status_purposes == tuple(purposes)
    assert event.status_messages == ("nothing to tell", "under review", "undefined", "replaced by a newer one")
    assert event.status_reference == reference


async def test_an_achievement_becomes_an_open_badges_achievement(world: World, ours: Caller) -> None:
    profile = await world.profile(ours.tenant_id)
    response = await ours.post(PATH, {**FULL, "profile_id": profile})
    assert response.status_code == 201, response.text
    made = response.json()
    url = f"{BASE}/achievements/{made['achievement_id']}"
    assert response.headers["location"] == f"{PATH}/{made['achievement_id']}"
    assert (made["version"], made["url"], made["status"]) == (1, url, "published")
    assert made["policy"] == {"version": 1, "minimum_score": 60, "required_parts": {"essay": 5}, "max_attempts": 3}

    (event,) = await world.events(AchievementPublished)
    assert (event.achievement_id, event.version, event.profile_id) == (made["achievement_id"], 1, profile)
    assert (event.validity_days, event.status_purposes) == (730, ("revocation", "suspension"))
    document = event.achievement
    assert document["id"] == url
    assert document["type"] == ["Achievement"]
    assert document["image"]["id"].startswith(f"{url}/image?v=")
    assert document["alignment"][0]["type"] == ["Alignment"]
    assert document["resultDescription"][0]["id"] == f"{url}#result-1"
    assert document["inLanguage"] == "fr"
    assert document["version"] == "1"
    assert (await ours.get(f"{PATH}/{made['achievement_id']}")).json() == made


async def test_its_document_satisfies_the_standards_schema(world: World, ours: Caller) -> None:
    from importlib.resources import files

    import jsonschema

    schema = json.loads(
        (files("laurel.credential") / "schemas/ob_v3p0_achievementcredential_schema.json").read_text(encoding="utf-8")
    )
    await ours.post(PATH, FULL)
    await ours.achievement()
    for event in await world.events(AchievementPublished):
        jsonschema.Draft201909Validator({"$ref": "#/$defs/Achievement", "$defs": schema["$defs"]}).validate(
            event.achievement
        )


async def test_a_new_version_keeps_the_old_ones_image(world: World, ours: Caller) -> None:
    made = (await ours.post(PATH, FULL)).json()
    path = f"{PATH}/{made['achievement_id']}"
    changed = await ours.put(path, {**FULL, "name": "Data", "image": uri(SVG, "image/svg+xml")})
    assert changed.status_code == 200
    assert (changed.json()["version"], changed.json()["policy"]["version"]) == (2, 1)
    third = await ours.put(path, {**FULL, "policy": {"minimum_score": 70}})
    assert (third.json()["version"], third.json()["policy"]["version"]) == (3, 2)
    events = await world.events(AchievementPublished)
    assert [event.version for event in events] == [1, 2, 3]
    for event, media_type in zip(events, ("image/png", "image/svg+xml", "image/png"), strict=True):
        image = await world.http.get(event.achievement["image"]["id"].removeprefix(BASE))
        assert image.status_code == 200
        assert image.headers["content-type"] == media_type
    versions = await world.fetch("SELECT version, policy_version FROM achievement_versions ORDER BY version")
    assert [tuple(row) for row in versions] == [(1, 1), (2, 1), (3, 2)]


async def test_changes_at_the_same_time_follow_one_another(world: World, ours: Caller) -> None:
    """As when somebody asks once more while the first request is still under way."""
    name = await ours.achievement()
    answers = await asyncio.gather(*(ours.put(f"{PATH}/{name}", achievement(name=f"Edition {n}")) for n in range(8)))
    assert [one.status_code for one in answers] == [200] * 8
    assert sorted(one.json()["version"] for one in answers) == list(range(2, 10))
    assert [event.version for event in await world.events(AchievementPublished)] == list(range(1, 10))
    changed, retired = await asyncio.gather(
        ours.put(f"{PATH}/{name}", achievement()), ours.post(f"{PATH}/{name}/retire")
    )
    assert (changed.status_code in (200, 409), retired.status_code) == (True, 200)


async def test_what_ids_depend_on_cannot_change(ours: Caller) -> None:
    name = await ours.achievement()
    response = await ours.put(f"{PATH}/{name}", achievement(repeatable=True))
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "/repeatable"


async def test_retiring_is_announced_once(world: World, ours: Caller) -> None:
    name = await ours.achievement()
    for _ in range(2):
        response = await ours.post(f"{PATH}/{name}/retire")
        assert response.status_code == 200
        assert response.json()["status"] == "retired"
    assert len(await world.events(AchievementRetired)) == 1
    assert (await ours.put(f"{PATH}/{name}", achievement())).status_code == 409
    page = await world.http.get(f"/achievements/{name}", headers={"accept": "text/html"})
    assert "retired" in page.text


async def test_lists_are_paged(ours: Caller, theirs: Caller) -> None:
    names = [await ours.achievement() for _ in range(5)]
    await theirs.achievement()
    seen: list[str] = []
    after = None
    while True:
        page = (await ours.get(PATH, limit=2, **({"after": after} if after else {}))).json()
        seen += [one["achievement_id"] for one in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert seen == names


async def test_another_organisations_achievement_is_not_there(ours: Caller, theirs: Caller) -> None:
    name = await theirs.achievement()
    for one in (name, uuid7(), "x", "%00", "a" * 500):
        answers = [
            await ours.get(f"{PATH}/{one}"), await ours.put(f"{PATH}/{one}", achievement()),
            await ours.post(f"{PATH}/{one}/retire"),
        ]  # fmt: skip
        assert [answer.status_code for answer in answers] == [404] * 3
        assert {answer.json()["detail"] for answer in answers} == {"there is no such achievement"}


HOSTILE_SVG = [
    b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    b'<svg xmlns="http://www.w3.org/2000/svg"><a href="java&#10;script:alert(1)"/></svg>',
    b'<svg xmlns="http://www.w3.org/2000/svg"><image href="https://tracker.example/x.png"/></svg>',
    b'<svg xmlns="http://www.w3.org/2000/svg"><foreignObject/></svg>',
    b'<!DOCTYPE svg [<!ENTITY a "aaaa">]><svg xmlns="http://www.w3.org/2000/svg">&a;</svg>',
    b'<html xmlns="http://www.w3.org/1999/xhtml"/>',
    b"<svg/>",
    b'<svg xmlns="http://www.w3.org/2000/svg">',
    b"",
]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "/name"),
        ({"name": "   "}, "/name"),
        ({"name": "undefined"}, "/name"),
        ({"name": "[object Object]"}, "/name"),
        ({"name": "Cafe\u0301"}, "/name"),
        ({"name": "a\u0000b"}, None),
        ({"name": "<script>alert(1)</script>"}, "/name"),
        ({"name": 7}, "/name"),
        ({"description": "Good <b>data</b>"}, "/description"),
        ({"description": None}, "/description"),
        ({"criteria": {}}, "/criteria"),
        ({"criteria": {"id": "/criteria"}}, "/criteria/id"),
        ({"criteria": {"id": "javascript:alert(1)"}}, "/criteria/id"),
        ({"criteria": {"id": "https://x.example/?q=[1]"}}, "/criteria/id"),
        ({"criteria": {"id": "https://x.example/100%"}}, "/criteria/id"),
        ({"alignment": [{"targetName": "x", "targetUrl": "https://x.example/#a#b"}]}, "/alignment/0/targetUrl"),
        ({"criteria": {"narrative": "null"}}, "/criteria/narrative"),
        ({"alignment": [{"targetName": "x", "targetUrl": "esco/1"}]}, "/alignment/0/targetUrl"),
        ({"alignment": [{"targetName": "x", "targetUrl": "https://e.org", "targetType": "?"}]},
         "/alignment/0/targetType"),
        ({"alignment": [{"targetName": "x"}]}, "/alignment/0/targetUrl"),
        ({"achievement_type": "Medal"}, "/achievement_type"),
        ({"language": "English"}, "/language"),
        ({"description": "Dear {{ name }}"}, "/description"),
        ({"tags": ["a\u202eb"]}, "/tags/0"),
        ({"alignment": [{"targetName": "x", "targetUrl": "https://e.org", "targetDescription": "y" * 9000}] * 20}, ""),
        ({"result_descriptions": [{"name": "x", "resultType": "Percent", "valueMin": "9", "valueMax": "1"}]},
         "/result_descriptions/0/valueMin"),
        ({"validity_days": 0}, "/validity_days"),
        ({"validity_days": 1.5}, "/validity_days"),
        ({"validity_days": True}, "/validity_days"),
        ({"status_purposes": ["suspension"]}, "/status_purposes"),
        ({"status_purposes": ["refresh"]}, "/status_purposes"),
        ({"status_purposes": ["revocation", "revocation"]}, "/status_purposes"),
        ({"status_purposes": ["revocation", "expiry"]}, "/status_purposes/1"),
        ({"status_purposes": ["revocation", "message"]}, "/status_messages"),
        ({"status_messages": TOLD[:1]}, "/status_messages"),
        ({"status_reference": "https://x.example/meanings"}, "/status_reference"),
        ({**TELLS, "status_messages": TOLD[1:]}, "/status_messages"),
        ({**TELLS, "status_messages": [*TOLD, {"status": "0x1", "message": "again"}]}, "/status_messages/3/status"),
        ({**TELLS, "status_messages": [*TOLD, {"status": "0x01", "message": "x"}]}, "/status_messages/3/status"),
        ({**TELLS, "status_messages": [*TOLD, {"status": "0x100", "message": "x"}]}, "/status_messages/3/status"),
        ({**TELLS, "status_messages": [*TOLD, {"status": "4", "message": "x"}]}, "/status_messages/3/status"),
        ({**TELLS, "status_messages": [TOLD[0], {"status": "0x4", "message": "undefined"}]},
         "/status_messages/1/message"),
        ({**TELLS, "status_messages": [TOLD[0], {"status": "0x4", "message": "<b>x</b>"}]},
         "/status_messages/1/message"),
        ({**TELLS, "status_reference": "meanings"}, "/status_reference"),
        ({**TELLS, "status_messages": [{"status": hex(n), "message": "\U0001f393" * 255} for n in range(256)]}, ""),
        ({"policy": {"minimum_score": "60"}}, "/policy/minimum_score"),
        ({"policy": {"max_attempts": 0}}, "/policy/max_attempts"),
        ({"policy": {"pass_mark": 60}}, "/policy/pass_mark"),
        ({"tags": ["a", "A"]}, "/tags"),
        ({"repeatable": "yes"}, "/repeatable"),
        ({"image": "https://example.org/badge.png"}, "/image"),
        ({"image": "data:text/html;base64,PGI+"}, "/image"),
        ({"image": uri(b"GIF89a")}, "/image"),
        ({"image": uri(png()[:-4])}, "/image"),
        ({"image": uri(png(5000, 2))}, "/image"),
        ({"image": uri(png() + b"x" * 600_000)}, "/image"),
        *(({"image": uri(svg, "image/svg+xml")}, "/image") for svg in HOSTILE_SVG),
    ],
)  # fmt: skip
async def test_what_would_make_a_poor_credential_is_refused(
    world: World, ours: Caller, changes: dict[str, Any], field: str | None
) -> None:
    response = await ours.post(PATH, achievement(**changes))
    assert response.status_code == (400 if field is None else 422), response.text
    if field is not None:
        assert field in {one["field"] for one in response.json()["errors"]}
    assert await world.fetch("SELECT 1 FROM achievements UNION ALL SELECT 1 FROM outbox") == []


# --- who awards it ------------------------------------------------------------------------------------------


async def test_only_a_profile_of_ones_own_can_be_named(world: World, ours: Caller, theirs: Caller) -> None:
    own, foreign = await world.profile(ours.tenant_id), await world.profile(theirs.tenant_id)
    made = await ours.post(PATH, achievement(profile_id=own.upper()))
    assert (made.status_code, made.json()["profile_id"]) == (201, own)
    path = f"{PATH}/{made.json()['achievement_id']}"
    for unknown in ("nope", foreign, uuid7()):
        for response in (
            await ours.post(PATH, achievement(profile_id=unknown)),
            await ours.put(path, achievement(profile_id=unknown)),
        ):
            assert response.status_code == 422, response.text
            assert [(one["field"], one["code"]) for one in response.json()["errors"]] == [
                ("/profile_id", "unknown_profile")
            ]
    assert [event.profile_id for event in await world.events(AchievementPublished)] == [own]


@pytest.mark.parametrize("named", [True, False], ids=["named", "the first"])
async def test_a_did_key_signs_only_what_takes_its_key(world: World, ours: Caller, named: bool) -> None:
    profile = await world.profile(ours.tenant_id, did_key(Ed25519Signer(b"k" * 32, "x:y#z").public_key_multibase))
    fields: dict[str, Any] = {"profile_id": profile} if named else {}
    made = await ours.post(PATH, achievement(**fields, securing=["eddsa-jcs-2022", "eddsa-rdfc-2022"]))
    assert made.status_code == 201
    path = f"{PATH}/{made.json()['achievement_id']}"
    for ways in (["ecdsa-rdfc-2019"], ["vc-jwt"], ["vc+jwt:ES384"], ["eddsa-rdfc-2022", "ecdsa-jcs-2019"]):
        unsignable = achievement(**fields, securing=ways)
        for response in (await ours.post(PATH, unsignable), await ours.put(path, unsignable)):
            assert response.status_code == 422, ways
            (error,) = response.json()["errors"]
            assert (error["field"], error["code"]) == ("/securing", "another_key")
            assert "a key of Ed25519; name ways that take it (eddsa-rdfc-2022, " in error["detail"]
    assert (await ours.put(path, achievement(**fields))).status_code == 200  # as the issuer does by itself
    elsewhere = await world.profile(ours.tenant_id)
    moved = await ours.put(path, achievement(profile_id=elsewhere, securing=["vc-jwt"]))
    assert moved.status_code == 200


async def test_a_profile_made_a_moment_ago_is_waited_for(world: World, ours: Caller) -> None:
    profile = uuid7()
    asked = asyncio.create_task(ours.post(PATH, achievement(profile_id=profile)))
    (consumer,) = [one for one in world.service.consumers if one.group == "assessment.issuers"]
    event = profile_published(ours.tenant_id, profile)
    message = Message("laurel.issuer", 0, 0, profile.encode(), b"", (), 0)
    delivered = Delivered(message, event, uuid7(), NOW, None)
    await asyncio.sleep(0.2)  # it has looked once or twice by now; the answer is the same if it has not
    prepared = await consumer.handler.prepare([delivered, delivered])
    async with world.service.worker_database.transaction() as tx:
        await consumer.handler.save(tx, prepared)
    assert (await asked).status_code == 201
    assert len(await world.fetch("SELECT 1 FROM issuer_profiles")) == 1


# --- in public ----------------------------------------------------------------------------------------------


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


async def shown(world: World, name: str, accept: str | None) -> httpx.Response:
    return await world.http.get(f"/achievements/{name}", headers={"accept": accept} if accept else {"accept": "*/*"})


async def test_everybody_sees_the_achievement_and_nothing_else(world: World, ours: Caller) -> None:
    made = (await ours.post(PATH, FULL)).json()
    for accept in (
        None,
        "application/ld+json",
        "application/json",
        "text/html;q=0.5, application/ld+json",
        "text/html;q=x",
    ):
        response = await shown(world, made["achievement_id"], accept)
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/ld+json"
        assert response.headers["vary"] == "Accept"
    document = response.json()
    assert {name: value for name, value in document.items() if name != "@context"} == made["achievement"]
    assert document["@context"] == [CREDENTIALS_V2, OPEN_BADGES]
    for private in ("policy", "minimum_score", ours.tenant_id):
        assert private not in response.text
    for name in (uuid7(), "x", "%00"):
        assert (await shown(world, name, None)).status_code == 404
        assert (await world.http.get(f"/achievements/{name}/image")).status_code == 404


async def test_people_see_an_accessible_page(world: World, ours: Caller) -> None:
    made = (await ours.post(PATH, FULL)).json()
    response = await shown(world, made["achievement_id"], "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
    assert response.headers["content-type"].startswith("text/html")
    page = Page(response.text)
    assert page.all("html")[0]["lang"] == "fr"
    assert len(page.all("main")) == len(page.all("h1")) == len(page.all("title")) == 1
    assert page.all("img")[0]["alt"] == "A laurel wreath around a bar chart"
    assert {link["href"] for link in page.all("a")} == {
        "https://example.org/criteria", "http://data.europa.eu/esco/skill/1d2", "https://case.example.org/CFItems/9",
    }  # fmt: skip
    assert not page.all("script")
    # The one style element is allowed by its hash, nothing else is.
    import hashlib

    style = response.text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in response.headers["content-security-policy"]
    image = await world.http.get(str(page.all("img")[0]["src"]))
    assert image.content == png()


async def test_text_that_looks_like_html_stays_text(world: World, ours: Caller) -> None:
    name = await ours.achievement(description="5 < 6 & \"seven\" > 'six' {% x %}")
    text = (await shown(world, name, "text/html")).text
    assert "5 &lt; 6 &amp;" in text
    assert "{% x %}" in text


async def test_an_svg_is_served_in_a_sandbox(world: World, ours: Caller) -> None:
    name = await ours.achievement(image=uri(SVG, "image/svg+xml"))
    response = await world.http.get(f"/achievements/{name}/image")
    assert response.content == SVG
    assert response.headers["content-type"] == "image/svg+xml"
    assert "sandbox" in response.headers["content-security-policy"]
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert (await world.http.get(f"/achievements/{name}/image", params={"v": "0" * 32})).status_code == 404
    assert (await world.http.get(f"/achievements/{name}/image", params={"v": "x"})).status_code == 422
    assert (await world.http.get(f"/achievements/{await ours.achievement()}/image")).status_code == 404


async def test_the_api_describes_itself(world: World) -> None:
    document = (await world.http.get("/assessment/v1/openapi.json")).json()
    bulk = document["paths"]["/assessment/v1/results/imports"]["post"]
    assert set(bulk["requestBody"]["content"]) == {"application/x-ndjson", "text/csv"}
    assert "learner" in json.dumps(document["paths"]["/assessment/v1/results"]["post"]["requestBody"])
    assert (await world.http.get("/assessment/v1/docs")).status_code == 200
    assert (await world.http.get("/readyz")).json() == {"status": "ready"}


async def test_an_achievement_may_say_how_its_credentials_are_secured(world: World, ours: Caller) -> None:
    plain = await ours.post(PATH, achievement())
    assert (plain.json()["securing"], plain.json()["credential_type"]) == (None, None)
    names = ["eddsa-rdfc-2022", "ecdsa-jcs-2019:P-384"]
    made = await ours.post(PATH, achievement(securing=names, credential_type="AchievementCredential"))
    assert made.status_code == 201, made.text
    assert (made.json()["securing"], made.json()["credential_type"]) == (names, "AchievementCredential")
    before, event = await world.events(AchievementPublished)
    assert (before.securing, before.credential_type) == (None, None)
    assert (event.securing, event.credential_type) == (tuple(names), "AchievementCredential")


@pytest.mark.parametrize("names", [[], ["rs256"], ["vc-jwt", "eddsa-rdfc-2022"], ["vc+jwt", "vc+jwt"], ["a"] * 50, [1]])
async def test_ways_that_do_not_secure_a_credential_are_refused(ours: Caller, names: list[Any]) -> None:
    refused = await ours.post(PATH, achievement(securing=names))
    assert refused.status_code == 422
    assert all(one["field"].startswith("/securing") for one in refused.json()["errors"])
