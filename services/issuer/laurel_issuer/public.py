"""What anybody may read: issuer profiles, DID documents, status lists."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from laurel.credential import did
from laurel.problems import Problem, not_found, uuid_in
from laurel_issuer import shapes, store, store_status
from laurel_issuer.edge import Desk, id_in
from laurel_issuer.standing import cache_seconds

_ANYBODY = {"Access-Control-Allow-Origin": "*"}  # verifiers run in browsers, too
_DOCUMENT_S = 60  # a new key must be seen soon


def public_routes(desk: Desk) -> APIRouter:
    """The routes at the root."""
    router = APIRouter(tags=["public"])

    @router.head("/issuers/{slug}", include_in_schema=False)
    @router.get("/issuers/{slug}", response_class=Response, responses=_says("application/ld+json", shapes.OPEN_PROFILE))
    async def profile(slug: str, request: Request) -> Response:
        """The issuer's Open Badges 3.0 Profile, as JSON-LD; with its keys where this address is the issuer's id."""
        row = await _documents(slug)
        accepted = request.headers.get("accept", "")
        plain = "application/json" in accepted and "application/ld+json" not in accepted
        answer = _cached(
            request, row["profile"], f"{row['version']}", "application/json" if plain else "application/ld+json",
            _DOCUMENT_S,
        )  # fmt: skip
        answer.headers["Vary"] = "Accept"
        return answer

    @router.head("/issuers/{slug}/did.json", include_in_schema=False)
    @router.get(
        "/issuers/{slug}/did.json",
        response_class=Response,
        responses=_says("application/did+json", shapes.DID_DOCUMENT),
    )
    async def did_document(slug: str, request: Request) -> Response:
        """The issuer's DID document: active and retired keys. An issuer with an https id has none."""
        row = await _documents(slug)
        if row["identity"] == "https":
            detail = "this issuer's id is no DID; its keys stand in the document at its id"
            raise Problem(404, "no_did", detail)
        return _cached(request, row["did_document"], f"{row['version']}", "application/did+json", _DOCUMENT_S)

    @router.head("/issuers/{slug}/jwks.json", include_in_schema=False)
    @router.get(
        "/issuers/{slug}/jwks.json",
        response_class=Response,
        responses=_says("application/jwk-set+json", shapes.JWK_SET),
    )
    async def jwks(slug: str, request: Request) -> Response:
        """The same keys as a JWK Set (RFC 7517 §5): `kid` is what the header of a token says."""
        row = await _documents(slug)
        keys = msgspec.json.encode(did.jwk_set(msgspec.json.decode(row["did_document"])))
        return _cached(request, keys, f"{row['version']}", "application/jwk-set+json", _DOCUMENT_S)

    @router.head("/status/{list_id}", include_in_schema=False)
    @router.get(
        "/status/{list_id}", response_class=Response, responses=_says("application/vc+ld+json", shapes.STATUS_LIST)
    )
    async def status_list(list_id: str, request: Request) -> Response:
        """A signed BitstringStatusListCredential (Bitstring Status List 1.0 §2.2)."""
        parsed = uuid_in(list_id, "status list")
        async with desk.database.transaction(public_id=str(parsed)) as tx:
            row = await store_status.published_list(tx, parsed)
        if row is None:
            raise not_found("status list")
        if row["body"] is None:  # no credential names it before its first version is there
            raise Problem(503, "not_published_yet", "the list is being published", headers={"Retry-After": "1"})
        # A list tells its own ttl; one that was published before it was stored tells it in its bytes alone.
        ttl_s = desk.status_ttl_s if row["ttl_s"] is None else row["ttl_s"]
        max_age = cache_seconds(ttl_s, row["valid_until"], desk.clock())
        return _cached(request, row["body"], f"{row['version']}", "application/vc+ld+json", max_age)

    async def _documents(slug: str) -> store.Row:
        known = id_in(slug, "issuer")
        async with desk.database.transaction(public_id=known) as tx:
            row = await store.public_documents(tx, known)
        if row is None:
            raise not_found("issuer")
        return row

    return router


def _says(media_type: str, schema: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI tells of a route of this module."""
    return {
        200: {"description": "The document", "content": {media_type: {"schema": schema}}},
        304: {"description": "The caller has this version (If-None-Match)"},
    }


def _cached(request: Request, body: bytes, version: str, media_type: str, max_age: int) -> Response:
    """200 with the bytes, or 304 when the caller has this version (RFC 9110 §13.1.2)."""
    etag = f'"{version}"'
    headers = {**_ANYBODY, "Cache-Control": f"public, max-age={max_age}", "ETag": etag}
    known = {one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")}
    if etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)
