"""The public pages: a credential, the form that verifies any, the start page, and their assets.

Everything is rendered here and works without JavaScript. Templates escape all text; the content security policy of
`laurel.edge` forbids inline scripts and styles, so that even a mistake here would run nothing.
"""

from __future__ import annotations

from typing import Any

import segno
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from laurel.credential import jose
from laurel.credential.baking import FORMATS, MAX_BAKED, MAX_SVG
from laurel.edge import patiently
from laurel.problems import PROBLEM_JSON, Problem, not_found, too_large
from laurel_verifier import store
from laurel_verifier.api import MAX_BODY, find_credential
from laurel_verifier.assets import load_assets
from laurel_verifier.documents import ADDRESS_CODES, Unreadable
from laurel_verifier.downloads import HARMLESS, Badges, answered
from laurel_verifier.forms import Handed, handed_in, line, parse_form
from laurel_verifier.intake import Intake
from laurel_verifier.lookups import Lookups
from laurel_verifier.negotiation import negotiate
from laurel_verifier.presentation import badge, raster
from laurel_verifier.representations import HTML, MEDIA_TYPES, representation
from laurel_verifier.verification import Verifier
from laurel_verifier.wording import SERVICES, STEPS, day, held_against, words

_GET = ["GET", "HEAD"]
# Bytes of a form that are taken in, and forgotten, when it is too large: a browser whose connection ends while it still
# sends shows no answer.
_HEARD_OUT = 64 << 20


def add_pages(
    app: FastAPI, *, index: Lookups, verifier: Verifier, intake: Intake, badges: Badges, base_url: str
) -> None:
    """Add the pages' routes to the verifier's application."""
    pages = Pages(index, verifier, intake, badges, base_url)
    for path, methods, answer in (
        ("/", _GET, pages.start),
        ("/verify", _GET, pages.verify_form),
        ("/verify", ["POST"], pages.verify),
        ("/c/{credential_id}", _GET, pages.credential),
        ("/c/{credential_id}", ["POST"], pages.check_recipient),
        ("/c/{credential_id}/image", _GET, pages.image),
        ("/c/{credential_id}/badge.{suffix}", _GET, pages.badge),
        ("/assets/{name}", _GET, pages.asset),
    ):
        app.add_api_route(path, answer, methods=methods, include_in_schema=False, response_model=None)
    otherwise = app.exception_handlers[HTTPException]

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        """A path that leads nowhere: people get a page, programs the problem document that they get elsewhere."""
        chosen = negotiate(request.headers.get("accept"), (PROBLEM_JSON, HTML))
        if error.status_code == 404 and chosen == HTML and request.method in _GET:
            return pages.nothing_here()
        answer: Response = await otherwise(request, error)  # type: ignore[misc]
        return answer


class Pages:
    """The answers of the public paths."""

    def __init__(self, index: Lookups, verifier: Verifier, intake: Intake, badges: Badges, base_url: str) -> None:
        self._index = index
        self._verifier = verifier
        self._intake = intake
        self._badges = badges
        self._base_url = base_url
        self._assets = load_assets()
        self._by_name = {asset.name: asset for asset in self._assets.values()}
        self._templates = Environment(
            loader=PackageLoader("laurel_verifier"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals |= {
            "asset": lambda name: f"/assets/{self._assets[name].name}", "day": day, "steps": STEPS,
            "held_against": held_against, "base_url": base_url,
        }  # fmt: skip

    # --- a credential -------------------------------------------------------------------------------------

    async def credential(self, request: Request, credential_id: str) -> Response:
        """The page, or the exact bytes that were issued, by Accept; `?download=1` hands them over as a file.

        Whoever takes no page gets the credential in any case: a token where JSON was asked for, under the token's own
        media type (RFC 9110 §15.5.7 leaves a server free to send what it has).
        """
        download = request.query_params.get("download", "") not in ("", "0")
        accept = request.headers.get("accept")
        try:
            row = await find_credential(self._index, credential_id)
        except Problem:
            if not download and negotiate(accept, (HTML, *MEDIA_TYPES)) == HTML:
                return self._not_found()
            raise
        held = representation(row.document)
        chosen = negotiate(accept, (HTML, *held.offers)) or held.offers[0]
        if not download and chosen == HTML:
            return await self._credential_page(row, None)
        headers = {"Cache-Control": "public, max-age=300", "Vary": "Accept", **HARMLESS}
        media_type = held.offers[0] if chosen == HTML else chosen
        filename = f"credential-{row.credential_id}.{held.suffix}" if download else None
        return answered(request, held.content, media_type, headers, filename=filename)

    async def badge(self, request: Request, credential_id: str, suffix: str) -> Response:
        """The badge's picture with the credential in it (Open Badges 3.0 §5.3)."""
        if suffix not in FORMATS:
            raise not_found("file: a badge is a .png or an .svg")
        row = await find_credential(self._index, credential_id)
        return await self._badges.baked(request, row, suffix)

    async def check_recipient(self, request: Request, credential_id: str) -> Response:
        """The page again, with the answer to "is it this person's?". Posted: the address is in no URL and no log.

        Counted, as verifying is: nobody tries out a list of addresses.
        """
        request.app.state.limits.admit_address(request)
        fields = parse_form(request.headers.get("content-type", ""), await request.body())
        expected = line(fields.get("recipient"), 320)
        try:
            row = await find_credential(self._index, credential_id)
        except Problem:
            return self._not_found()
        return await self._credential_page(row, expected or None)

    async def _credential_page(self, row: store.Indexed, expected: str | None) -> Response:
        verification, document = await self._verifier.verify_indexed(row, expected)
        held = representation(row.document)
        url = f"{self._base_url}/c/{row.credential_id}"
        shown = badge(document, self._base_url)
        code = segno.make(url, error="m").svg_inline(omitsize=True, svgclass="qr-code", lineclass="qr-line", border=2)
        picture = shown.image
        if picture is not None and picture.startswith("data:"):
            picture = f"{url}/image" if raster(picture) else None
        return self._page(
            "credential.html", badge=shown, words=words(verification, expected),
            verification=verification, page_url=url, share_image=picture,
            credential_id=row.credential_id, file_kind=held.suffix.upper(),
            media_type=held.offers[0], qr=Markup(code), asked=expected,  # noqa: S704 - made of our own URL
            headers={
                "Vary": "Accept",
                "Cache-Control": "no-cache" if expected is None else "no-store",
                "Link": f'<{url}>; rel="alternate"; type="{held.offers[0]}"',
            },
        )  # fmt: skip

    async def image(self, credential_id: str) -> Response:
        """The badge's picture as a file, for link previews. Rasters only: an SVG could run as a document."""
        row = await find_credential(self._index, credential_id)
        document, _ = jose.opened(row.document)
        found = raster(badge(document, self._base_url).image or "")
        if found is None:
            raise Problem(404, "not_found", "this credential holds no PNG, JPEG, GIF or WebP picture")
        media_type, content = found
        headers = {"Cache-Control": "public, max-age=86400", "Content-Security-Policy": "default-src 'none'; sandbox"}
        return Response(content, media_type=media_type, headers=headers)

    # --- any credential -----------------------------------------------------------------------------------

    async def verify_form(self, request: Request) -> Response:
        """The form. `?url=` fills in an address; nothing is fetched before the form is sent."""
        return self._page(
            "verify.html", url=request.query_params.get("url", "")[:2000], pasted="", recipient="", problem=""
        )

    async def verify(self, request: Request) -> Response:
        """The verdict on what was uploaded, named by its address, or pasted: one of these."""
        handed = Handed()
        try:
            request.app.state.limits.admit_address(request)
            handed = handed_in(request.headers.get("content-type", ""), await _form(request))
            if handed.url:
                examined = await self._intake.examine_address(handed.url, handed.recipient or None)
            else:
                examined = await self._intake.examine(handed.body, handed.recipient or None)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except Problem as problem:
            if problem.status != 422 and negotiate(request.headers.get("accept"), (PROBLEM_JSON, HTML)) != HTML:
                raise
            return self._form_again(problem.detail, status=problem.status, headers=problem.headers)
        except Unreadable as error:
            if handed.url or error.code in ADDRESS_CODES:  # nothing was seen that a verdict could be about
                return self._form_again(error.detail, url=handed.url, recipient=handed.recipient)
            examined = self._intake.unreadable(error)
        verification = examined.verification
        ours = self._base_url if verification.credential_id is not None else None
        shown = None if examined.document is None else badge(examined.document, ours)
        return self._page(
            "verdict.html", words=words(verification, handed.recipient), verification=verification,
            badge=shown, asked=handed.recipient or None,
            headers={"Cache-Control": "no-store"},
        )  # fmt: skip

    def _form_again(
        self,
        problem: str,
        *,
        status: int = 422,
        url: str = "",
        recipient: str = "",
        headers: dict[str, str] | None = None,
    ) -> Response:
        return self._page(
            "verify.html", status=status, headers=headers, url=url, pasted="", recipient=recipient, problem=problem
        )

    # --- the rest -----------------------------------------------------------------------------------------

    async def start(self) -> Response:
        """What this is, and where to go."""
        return self._page("start.html", services=SERVICES)

    async def asset(self, name: str) -> Response:
        """A style, script or picture of ours, by the name that holds its hash."""
        found = self._by_name.get(name)
        if found is None:
            raise Problem(404, "not_found", "there is no such asset")
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(found.content, media_type=found.media_type, headers=headers)

    def nothing_here(self) -> Response:
        """The page for an address that leads nowhere."""
        return self._page("nothing_here.html", status=404, headers={"Cache-Control": "no-store", "Vary": "Accept"})

    def _not_found(self) -> Response:
        return self._page("not_found.html", status=404, headers={"Cache-Control": "no-store"})

    def _page(
        self, template: str, *, status: int = 200, headers: dict[str, str] | None = None, **values: Any
    ) -> Response:
        html = self._templates.get_template(template).render(**values)
        return HTMLResponse(html, status, headers={"Cache-Control": "no-cache", **(headers or {})})


async def _form(request: Request) -> bytes:
    """The body of a form. Raises Problem 413, and 408 if it stops coming."""
    declared = request.headers.get("content-length", "")
    size = int(declared) if declared.isdigit() and len(declared) < 20 else 0
    body = bytearray()
    if size <= _HEARD_OUT:
        size = 0
        async for piece in patiently(request.receive):
            size += len(piece)
            if size <= MAX_BODY:
                body += piece
            elif size > _HEARD_OUT:
                break
    if size > MAX_BODY:
        detail = f"This is too large. A PNG may have {MAX_BAKED >> 20} MB, an SVG {MAX_SVG >> 20} MB, a text 1 MB."
        raise too_large(detail)
    return bytes(body)
