"""A credential as files to keep: as it was issued (JSON or JWT), or baked into the picture of its badge.

1. The bytes are those of the index, unchanged.
2. The picture is the achievement's, where it is a PNG or an SVG that runs nothing, and lies in the credential or at
   our own origin under an address that tells its digest. An SVG can show a PNG; a PNG cannot hold an SVG. What has no
   such picture gets Laurel's own, a wreath.
3. Files are handed over, never shown: an SVG of ours runs nowhere.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib.resources
from typing import Any
from urllib.parse import parse_qs, urlsplit

import structlog
from fastapi import Request, Response

from laurel.credential import baking, images, jose
from laurel.credential.baking import FORMATS, Format
from laurel.credential.images import BadImage, Image
from laurel.http import FetchFailed, FetchRefused, GuardedClient
from laurel_verifier import store
from laurel_verifier.memory import Memory
from laurel_verifier.presentation import badge
from laurel_verifier.representations import representation

log = structlog.get_logger()

PUBLIC = {"Access-Control-Allow-Origin": "*"}  # wallets in browsers read public documents
# What is handed over as a file and opened all the same runs nothing (CSP 3 §6.3.2) and is not taken for something else.
HARMLESS = {"Content-Security-Policy": "default-src 'none'; sandbox", "X-Content-Type-Options": "nosniff"}
_KEPT_S = 3600.0  # an address of a picture of ours holds its digest, so it never shows another


def answered(
    request: Request, content: bytes, media_type: str, headers: dict[str, str], *, filename: str | None = None
) -> Response:
    """The content with its ETag, or 304 for who has it (RFC 9110 §13.1.2). filename: hand it over as a file."""
    tag = f'"{hashlib.sha256(media_type.encode() + content).hexdigest()[:32]}"'
    headers = {"ETag": tag, **PUBLIC, **headers}
    if filename is not None:
        headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    known = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    if tag in known or known == ["*"]:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


class Badges:
    """Baked badges. own: a client for our own origin, `base_url`, which may lie in any network."""

    def __init__(self, own: GuardedClient, base_url: str) -> None:
        self._own = own
        self._base_url = base_url
        self._kept: Memory[str, Image] = Memory(30)  # of at most images.MAX_IMAGE each
        folder = importlib.resources.files("laurel_verifier") / "assets"
        self._wreath = {one: (folder / f"badge.{one}").read_bytes() for one in FORMATS}

    async def baked(self, request: Request, row: store.Indexed, into: Format) -> Response:
        """`row`'s credential in a picture of this format, as a file."""
        document, _ = jose.opened(row.document)
        art, lasting = await self._art(document)
        content = await asyncio.to_thread(self._bake, art, into, representation(row.document).content)
        headers = {**HARMLESS, "Cache-Control": "public, max-age=300" if lasting else "no-cache"}
        return answered(request, content, FORMATS[into], headers, filename=f"badge-{row.credential_id}.{into}")

    def _bake(self, art: Image | None, into: Format, credential: bytes) -> bytes:
        bake = {"png": baking.bake_png, "svg": baking.bake_svg}[into]
        picture = self._wreath[into]
        if art is not None and art.media_type == FORMATS[into]:
            picture = art.content
        elif art is not None and into == "svg":
            picture = framed(art.content)
        try:
            return bake(picture, credential)
        except BadImage as error:  # an SVG in another encoding than UTF-8, say
            log.info("a badge's picture cannot hold its credential", code=error.code, reason=error.detail)
            return bake(self._wreath[into], credential)

    async def _art(self, document: dict[str, Any]) -> tuple[Image | None, bool]:
        """The badge's picture, and whether this answer holds for a while."""
        source = badge(document, self._base_url).image
        try:
            if source is None:
                return None, True
            if source.startswith("data:"):
                return await asyncio.to_thread(images.from_data_uri, source), True
            return await self._of_our_own(source)
        except BadImage:
            return None, True

    async def _of_our_own(self, url: str) -> tuple[Image | None, bool]:
        parts = urlsplit(url)
        digest = parse_qs(parts.query).get("v", [""])[0]
        if not digest or not url.startswith(f"{self._base_url}/achievements/"):
            return None, True  # without its digest in its address nobody knows whether it is the one that was meant
        found = self._kept.get(url)
        if found is not None:
            return found, True
        try:
            fetched = await self._own.get(url, accept="image/png, image/svg+xml", allow_http=True)
        except (FetchFailed, FetchRefused) as error:
            log.warning("a badge's picture cannot be had from our own address", url=url, reason=str(error))
            return None, False
        media_type = fetched.content_type.partition(";")[0].strip().lower()
        if fetched.status != 200 or media_type not in FORMATS.values():
            log.warning("a badge's picture cannot be had from our own address", url=url, status=fetched.status)
            return None, False
        image = await asyncio.to_thread(images.checked, media_type, fetched.body)
        if image.digest != digest:
            raise BadImage("not_the_picture", "it is not the picture that its address names")
        self._kept.put(url, image, _KEPT_S)
        return image, True


def framed(png: bytes) -> bytes:
    """An SVG that shows a PNG and nothing else. Raises BadImage."""
    width, height = images.png_size(png)
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'<image width="{width}" height="{height}" href="data:image/png;base64,{data}"/></svg>\n'
    ).encode()
