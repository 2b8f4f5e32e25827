"""Files to keep: the credential as it was issued, and baked into the picture of its badge."""

from __future__ import annotations

import base64
import io
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from PIL import Image, PngImagePlugin

import laurel_verifier
from laurel.credential import jose
from laurel.credential.baking import KEYWORD, NAMESPACE, unbake
from laurel.credential.images import Image as Checked
from laurel.credential.lint import lint
from laurel.http import AddressPolicy, GuardedClient
from laurel_verifier.downloads import Badges, framed
from laurel_verifier.presentation import badge
from tests.component.verifier.conftest import Verifier
from tests.component.verifier.issuing import BASE_URL, TestIssuer, credential_id, issued, to_bytes
from tests.component.verifier.test_foreign import Foreign, serving
from tests.component.verifier.test_pages import HTML, check_page
from tests.component.verifier.test_proofs import P256, named

URL = "/verifier/v1/credentials/verify"
PAGE = f"/c/{credential_id(1)}"
TYPES = {"png": "image/png", "svg": "image/svg+xml"}
WREATH = {one: (Path(laurel_verifier.__path__[0]) / f"assets/badge.{one}").read_bytes() for one in TYPES}
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><title>Our badge</title><path d="M0 0h9"/></svg>\n'


def picture(colour: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (30, 20), colour).save(file, "PNG")
    return file.getvalue()


def data_uri(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


async def indexed(verifier: Verifier, issuer: TestIssuer, image: str | None, number: int = 1) -> dict[str, Any]:
    document = issuer.badge(number, achievement={"image": image})
    await verifier.feed(issuer.published(), issued(document, number))
    return document


async def get(verifier: Verifier, path: str, **headers: str) -> httpx.Response:
    return await verifier.client.get(path, headers=headers)


def check_file(answer: httpx.Response, suffix: str, number: int = 1) -> None:
    """What every baked file must be."""
    assert answer.status_code == 200
    assert answer.headers["content-type"] == TYPES[suffix]
    name = f'attachment; filename="badge-{credential_id(number)}.{suffix}"'
    assert answer.headers["content-disposition"] == name
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_a_png_badge(verifier: Verifier, issuer: TestIssuer) -> None:
    document = await indexed(verifier, issuer, data_uri(picture(), "image/png"))
    answer = await get(verifier, f"{PAGE}/badge.png")
    check_file(answer, "png")
    assert unbake(answer.content) == to_bytes(document)
    shown = Image.open(io.BytesIO(answer.content))
    assert isinstance(shown, PngImagePlugin.PngImageFile)
    assert shown.text[KEYWORD.decode()].encode() == to_bytes(document)
    assert (shown.size, shown.convert("RGB").getpixel((5, 5))) == ((30, 20), (200, 30, 30))

    answer = await get(verifier, f"{PAGE}/badge.svg")  # the same picture, in a frame
    check_file(answer, "svg")
    assert unbake(answer.content) == to_bytes(document)
    root = ElementTree.fromstring(answer.content)
    assert [one.tag for one in root] == [f"{{{NAMESPACE}}}credential", "{http://www.w3.org/2000/svg}image"]
    assert base64.b64decode(root[1].attrib["href"].partition(",")[2]) == picture()
    assert root.attrib["viewBox"] == "0 0 30 20"


async def test_an_svg_badge(verifier: Verifier, issuer: TestIssuer) -> None:
    document = await indexed(verifier, issuer, data_uri(SVG, "image/svg+xml"))
    answer = await get(verifier, f"{PAGE}/badge.svg")
    check_file(answer, "svg")
    assert unbake(answer.content) == to_bytes(document)
    assert b"<title>Our badge</title>" in answer.content
    answer = await get(verifier, f"{PAGE}/badge.png")
    check_file(answer, "png")
    assert unbake(answer.content) == to_bytes(document)
    assert answer.content.endswith(WREATH["png"][33:])


@pytest.mark.parametrize(
    "image",
    [
        None,
        "https://tracker.example/pixel.png",
        f"{BASE_URL}/achievements/a1/image",
        f"{BASE_URL}/verifier/v1/openapi.json?v={'0' * 32}",
        data_uri(b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "image/svg+xml"),
        data_uri(b"<svg>", "image/svg+xml"),
        data_uri(picture()[:-5], "image/png"),
        data_uri(b'<?xml version="1.0" encoding="iso-8859-1"?>' + SVG, "image/svg+xml"),
        data_uri(b"\xff\xd8\xff\xe0", "image/jpeg"),
    ],
)  # fmt: skip
async def test_what_has_no_picture_that_can_be_used_gets_the_wreath(
    verifier: Verifier, issuer: TestIssuer, image: str | None
) -> None:
    document = _unlinted(issuer, image)
    await verifier.feed(issuer.published(), issued(document))
    for suffix in TYPES:
        answer = await get(verifier, f"{PAGE}/badge.{suffix}")
        check_file(answer, suffix)
        assert unbake(answer.content) == to_bytes(document)
        assert answer.content.endswith(WREATH[suffix][-2000:])
        assert b"script" not in answer.content.partition(b"</openbadges:credential>")[2]


def _unlinted(issuer: TestIssuer, image: str | None) -> dict[str, Any]:
    """Lint would not let all these pictures in; an index of before such a rule may hold them."""
    document = issuer.badge(achievement={"image": None})
    if image is not None:
        document["credentialSubject"]["achievement"]["image"] = {"id": image, "type": "Image"}
    return document


async def test_a_baked_badge_is_verified_like_its_credential(verifier: Verifier, issuer: TestIssuer) -> None:
    await indexed(verifier, issuer, data_uri(picture(), "image/png"))
    for suffix in TYPES:
        baked = (await get(verifier, f"{PAGE}/badge.{suffix}")).content
        answer = await verifier.client.post(URL, content=baked, headers={"Content-Type": TYPES[suffix]})
        found = answer.json()
        assert (found["verdict"], found["credential_id"], found["baked"]) == ("valid", credential_id(1), suffix)
        forged = baked.replace(b"Two pages", b"Ten pages")
        answer = await verifier.client.post(URL, content=forged, headers={"Content-Type": TYPES[suffix]})
        assert answer.status_code == 422 if suffix == "png" else answer.json()["verdict"] == "invalid"


async def test_a_credential_in_a_token(verifier: Verifier, issuer: TestIssuer) -> None:
    unsigned = {name: value for name, value in issuer.badge().items() if name != "proof"}
    token = jose.sign_vc_jose(lint(unsigned, issuer=issuer.did), issuer.signer)
    await verifier.feed(issuer.published(), issued(unsigned, document=msgspec.Raw(b'"' + token + b'"')))
    for suffix in TYPES:
        answer = await get(verifier, f"{PAGE}/badge.{suffix}")
        check_file(answer, suffix)
        assert unbake(answer.content) == token
        found = (
            await verifier.client.post(URL, content=answer.content, headers={"Content-Type": TYPES[suffix]})
        ).json()
        assert (found["verdict"], found["credential_id"], found["baked"]) == ("valid", credential_id(1), suffix)
    answer = await get(verifier, f"{PAGE}?download=1")
    assert (answer.content, answer.headers["content-type"]) == (token, "application/vc+jwt")
    assert answer.headers["content-disposition"] == f'attachment; filename="credential-{credential_id(1)}.jwt"'
    for accept in ("application/vc+jwt", "application/jwt", "text/plain"):
        answer = await get(verifier, PAGE, Accept=accept)
        assert answer.content == token
        assert answer.headers["content-type"].partition(";")[0] == accept
    for accept in ("application/json", "application/vc", "application/vc+ld+json, application/ld+json", "image/png"):
        answer = await get(verifier, PAGE, Accept=accept)  # it is no JSON, and comes as what it is
        assert (answer.status_code, answer.content) == (200, token), accept
        assert (answer.headers["content-type"], answer.headers["vary"]) == ("application/vc+jwt", "Accept")
    for accept in ("*/*", "text/html", "text/*;q=0.5, image/png"):
        answer = await get(verifier, PAGE, Accept=accept)
        assert answer.headers["content-type"] == "text/html; charset=utf-8", accept
    page = await get(verifier, PAGE, **HTML)
    check_page(page)
    assert "Credential alone (JWT)" in page.text
    for body in ({"url": f"{BASE_URL}{PAGE}"}, {"credential": token.decode()}, {"credential": f"{BASE_URL}{PAGE}"}):
        found = await verifier.verify(body)
        assert (found["verdict"], found["credential_id"]) == ("valid", credential_id(1))


async def test_a_token_as_open_badges_has_it_comes_as_text_to_whoever_wants_no_page(
    verifier: Verifier, issuer: TestIssuer
) -> None:
    unsigned = {name: value for name, value in issuer.badge().items() if name != "proof"}
    token = jose.sign_vc_jwt(lint(unsigned, issuer=issuer.did), named(P256, f"{issuer.did}#key-1"))
    await verifier.feed(issuer.published(), issued(unsigned, document=msgspec.Raw(b'"' + token + b'"')))
    for accept in ("application/json", "application/vc+jwt", "application/vc+ld+json", "text/plain"):
        answer = await get(verifier, PAGE, Accept=accept)
        assert (answer.status_code, answer.content) == (200, token), accept
        assert answer.headers["content-type"] == "text/plain; charset=utf-8", accept
    answer = await get(verifier, PAGE, Accept="application/jwt")
    assert (answer.content, answer.headers["content-type"]) == (token, "application/jwt")


async def test_who_has_it_is_told_so(verifier: Verifier, one: dict[str, Any]) -> None:
    tags = set()
    for path in (f"{PAGE}/badge.png", f"{PAGE}/badge.svg", f"{PAGE}?download=1"):
        first = await get(verifier, path)
        tag = first.headers["etag"]
        tags.add(tag)
        assert first.headers["cache-control"] == "public, max-age=300"
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = await get(verifier, path, **{"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert (await get(verifier, path, **{"If-None-Match": '"other"'})).status_code == 200
        head = await verifier.client.head(path)
        assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", tag)
    assert len(tags) == 3


async def test_the_page_offers_them(verifier: Verifier, one: dict[str, Any]) -> None:
    page = check_page(await get(verifier, PAGE, **HTML))
    links = {link.get("href") for link in page.all("a")}
    assert {f"{PAGE}/badge.png", f"{PAGE}/badge.svg", f"{PAGE}?download=1"} <= links
    for path in (f"{PAGE}/badge.gif", f"{PAGE}/badge.", "/c/nothing/badge.png", "/c/%00/badge.svg"):
        answer = await get(verifier, path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


# --- pictures of our own origin -------------------------------------------------------------------------------


@pytest.fixture
async def origin() -> AsyncIterator[Foreign]:
    async with serving() as server:
        yield server


@pytest.fixture
async def badges(origin: Foreign) -> AsyncIterator[Badges]:
    async with GuardedClient(AddressPolicy.parse("127.0.0.0/8"), max_bytes=1 << 20) as client:
        yield Badges(client, origin.url)


async def art(badges: Badges, url: str) -> tuple[Checked | None, bool]:
    document = {"credentialSubject": {"achievement": {"image": {"id": url, "type": "Image"}}}}
    return await badges._art(document)


async def test_a_picture_of_our_own_origin_is_the_one_that_its_address_names(badges: Badges, origin: Foreign) -> None:
    for content, media_type in ((picture(), "image/png"), (SVG, "image/svg+xml")):
        checked = Checked(media_type, content)
        origin.media_type = media_type
        url = origin.put("/achievements/a1/image", content) + f"?v={checked.digest}"
        assert await art(badges, url) == (checked, True)
        asked = len(origin.asked)
        assert await art(badges, url) == (checked, True)  # kept: it can never be another
        assert len(origin.asked) == asked
    origin.media_type = "image/png"
    changed = origin.put("/achievements/a1/image", picture((0, 0, 0)))
    assert await art(badges, f"{changed}?v={'0' * 32}") == (None, True)
    assert await art(badges, origin.put("/achievements/a2/image", b"no png") + f"?v={'0' * 32}") == (None, True)
    assert await art(badges, f"{origin.url}/achievements/none/image?v={'0' * 32}") == (None, False)  # try again later
    origin.media_type = "text/html"
    assert await art(badges, f"{changed}?v={'1' * 32}") == (None, False)
    asked = len(origin.asked)
    for elsewhere in (f"{origin.url}/other?v={'0' * 32}", changed, "http://127.0.0.1:1/achievements/a/image?v=0"):
        assert await art(badges, elsewhere) == (None, True)
    assert len(origin.asked) == asked


def test_a_frame_shows_the_whole_picture() -> None:
    assert badge({"image": data_uri(framed(picture()), "image/svg+xml")}, None).image is not None
    assert ElementTree.fromstring(framed(picture()))[0].attrib["width"] == "30"
