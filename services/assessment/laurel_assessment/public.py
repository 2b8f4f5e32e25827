"""What everybody may see: an achievement as JSON-LD or as a page, and its image."""

from __future__ import annotations

import base64
import hashlib
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from jinja2 import Environment, PackageLoader, select_autoescape

from laurel.database import Database
from laurel.edge import CSP
from laurel.problems import not_found, uuid_in
from laurel.web import json_response
from laurel_assessment import store
from laurel_assessment.achievements import CONTEXTS

# An SVG opened by itself is a document: it may not run, load or be framed.
_IMAGE_CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"

_BYTES = {"schema": {"type": "string", "format": "binary"}}
_PAGE_DOCS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The achievement, in the form that `Accept` asks for.",
        "content": {
            "application/ld+json": {"schema": {"type": "object", "description": "An Open Badges 3.0 Achievement."}},
            "text/html": {"schema": {"type": "string"}},
        },
    }
}
_IMAGE_DOCS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The badge image.", "content": {"image/png": _BYTES, "image/svg+xml": _BYTES}}
}


def routes(app: FastAPI, database: Database, base_url: str) -> None:
    """Add the public routes."""
    templates = Environment(
        loader=PackageLoader("laurel_assessment"), autoescape=select_autoescape(), trim_blocks=True, lstrip_blocks=True
    )
    page = templates.get_template("achievement.html")
    source = templates.loader.get_source(templates, "achievement.html")[0] if templates.loader else ""
    style = source.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = CSP.replace("style-src 'self'", f"style-src 'self' 'sha256-{digest}'")

    @app.get("/achievements/{achievement_id}", tags=["public"], response_class=Response, responses=_PAGE_DOCS)
    async def show_achievement(achievement_id: str, request: Request) -> Response:
        """An achievement: JSON-LD (Open Badges 3.0), or a page for those who ask for HTML."""
        name = str(uuid_in(achievement_id, "achievement"))
        async with database.transaction(public_id=name) as tx:
            found = await store.public_achievement(tx, name)
        if found is None:
            raise not_found("achievement")
        headers = {"Vary": "Accept", "Cache-Control": "public, max-age=60"}
        if _wants_html(request.headers.get("accept", "")):
            html = page.render(
                achievement=found["document"], language=found["language"] or "en", retired=bool(found["retired_at"]),
                digest=found["image_digest"], name=name, words=_words(found["document"]),
            )  # fmt: skip
            return Response(html, media_type="text/html", headers={**headers, "Content-Security-Policy": policy})
        document = {"@context": list(CONTEXTS), **found["document"]}
        return json_response(document, media_type="application/ld+json", headers=headers)

    @app.get("/achievements/{achievement_id}/image", tags=["public"], response_class=Response, responses=_IMAGE_DOCS)
    async def show_image(
        achievement_id: str, v: Annotated[str | None, Query(pattern=r"^[0-9a-f]{32}$")] = None
    ) -> Response:
        """The badge image; `v` names one for ever, without it the current one is shown."""
        name = str(uuid_in(achievement_id, "image"))
        async with database.transaction(public_id=name) as tx:
            image = await store.public_image(tx, name, v)
        if image is None:
            raise not_found("image")
        keep = "public, max-age=31536000, immutable" if v else "public, max-age=60"
        headers = {
            "Content-Security-Policy": _IMAGE_CSP, "X-Content-Type-Options": "nosniff", "Cache-Control": keep,
            "Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin",
            "ETag": f'"{image.digest}"',
        }  # fmt: skip
        return Response(image.content, media_type=image.media_type, headers=headers)


def _wants_html(accept: str) -> bool:
    """Whether HTML is asked for by name, and rather than JSON (RFC 9110 §12.5.1)."""
    weights = {"html": 0.0, "json": 0.0}
    for item in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in item.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        if kind in ("text/html", "application/xhtml+xml"):
            weights["html"] = max(weights["html"], quality)
        elif kind == "application/json" or kind.endswith("+json"):
            weights["json"] = max(weights["json"], quality)
    return weights["html"] > weights["json"]


def _words(document: dict[str, Any]) -> list[str]:
    """The criteria as paragraphs."""
    narrative: str = document.get("criteria", {}).get("narrative", "")
    return [part.strip() for part in narrative.split("\n\n") if part.strip()]
