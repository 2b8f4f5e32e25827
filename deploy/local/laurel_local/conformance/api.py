"""The three routes of the VC API that suites call, the lists that issued credentials name, and a way to revoke.

POST /conformance/credentials/issue        {credential, options: {cryptosuite?, keyType?, format?,
                                           proofId?, previousProof?, created?, expires?,
                                           credentialId?}} → 201 {verifiableCredential}
POST /conformance/credentials/verify       {verifiableCredential, options: {checks?, returnCredential?}}
                                           → 200 {verified: true, warnings, problemDetails: []}
POST /conformance/presentations/verify     {verifiablePresentation, options: {challenge?, domain?, checks?,
                                           returnPresentation?}} → 200
POST /conformance/credentials/status       {credentialId, status?: true} → 200: revokes it, or takes that back
GET  /conformance/status/{number}          a signed BitstringStatusListCredential
GET  /conformance/status                   what the values in these lists mean

Whatever is not verified or not issued is a 400 with problem details, whatever is not understood a 422.
"""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response

from laurel.database import Database
from laurel.problems import not_found
from laurel.security import guard_json
from laurel.web import create_app, json_response
from laurel_local.conformance import options
from laurel_local.conformance.issuing import Issuer
from laurel_local.conformance.lists import TTL_MS
from laurel_local.conformance.outcomes import NO_STORE, Outcome, Refusal, not_understood, problem, refused
from laurel_local.conformance.verifying import CHECKS, Conformance
from laurel_verifier.sandbox import NotExamined
from laurel_verifier.status_lists import StatusLists

MAX_BODY = 1 << 20


def create_conformance_api(database: Database, issuer: Issuer, conformance: Conformance, lists: StatusLists) -> FastAPI:
    """The application. database: for the edge's readiness alone; nothing is stored. lists: what the verifier keeps of
    ours, too."""
    app = create_app(
        "conformance",
        title="Laurel conformance routes",
        description="For test suites: issues and verifies anything that conforms. Never expose this.",
        database=database,
        max_body=MAX_BODY,
    )

    @app.post("/conformance/credentials/issue", status_code=201)
    async def issue(request: Request) -> Response:
        """Sign a credential of anybody's with a key of this run."""
        body = await _body(request)
        credential = _object(body, "credential")
        wanted = options.issuing(_options(body), request.query_params, credential, issuer.ring)
        try:
            signed = await issuer.issue(credential, wanted)
        except NotExamined as error:
            raise Refusal(422, problem("limit", error.code, str(error), "/credential")) from None
        if signed.findings:
            outcome = Outcome()
            outcome.add_findings(signed.findings, signed.step)
            return refused(outcome.problems, "not issued", 400)
        return json_response({"verifiableCredential": msgspec.Raw(signed.document)}, 201, headers=NO_STORE)

    @app.post("/conformance/credentials/verify")
    async def verify(request: Request) -> Response:
        """200 when every check that was asked for passes."""
        body = await _body(request)
        asked = _options(body)
        options.nothing_asked_of_presentations(asked)
        credential = _document(body, "verifiableCredential")
        wanted, returned = options.checks(asked, CHECKS), options.flag(asked, "returnCredential")
        outcome = await conformance.credential(credential, wanted)
        if not outcome.verified:
            return _not_verified([outcome])
        answer = {"verified": True, "warnings": outcome.warnings, "problemDetails": []}
        return json_response(answer | ({"credential": credential} if returned else {}), headers=NO_STORE)

    @app.post("/conformance/presentations/verify")
    async def verify_presentation(request: Request) -> Response:
        """200 when the presentation and all of its credentials verify."""
        body = await _body(request)
        asked = _options(body)
        name = "presentation" if "presentation" in body and "verifiablePresentation" not in body else None
        document = _document(body, name or "verifiablePresentation")
        returned = options.flag(asked, "returnPresentation")
        outcome, presented = await conformance.presentation(
            document,
            challenge=options.text(asked, "challenge"),
            domain=options.domains(asked),
            checks=options.checks(asked, CHECKS),
        )
        if not all(one.verified for one in (outcome, *presented)):
            return _not_verified([outcome, *presented])
        results = [{"verified": True, "warnings": one.warnings} for one in presented]
        answer = {
            "verified": True, "warnings": outcome.warnings, "problemDetails": [], "credentialResults": results,
        }  # fmt: skip
        return json_response(answer | ({"verifiablePresentation": document} if returned else {}), headers=NO_STORE)

    @app.post("/conformance/credentials/status")
    async def set_status(request: Request) -> Response:
        """Set the revocation bit of a credential that was issued here with an id, or take it back (status: false)."""
        body = await _body(request)
        identifier = options.text(body, "credentialId", at="")
        revoked = options.flag({"status": True, **body}, "status", at="")
        changed = set() if identifier is None else issuer.lists.revoke(identifier, revoked)
        if not changed:
            raise not_found("credential")
        for url in changed:
            lists.forget(url)
        return json_response({"credentialId": identifier, "revoked": revoked}, headers=NO_STORE)

    @app.head("/conformance/status", include_in_schema=False)
    @app.get("/conformance/status")
    async def status_reference() -> Response:
        """What the values in the lists mean: the `statusReference` of each entry."""
        return json_response({"statusPurpose": "revocation", "0": "valid", "1": "revoked"})

    @app.head("/conformance/status/{number}", include_in_schema=False)
    @app.get("/conformance/status/{number}")
    async def status_list(number: str) -> Response:
        """Signed anew at each request: it is as fresh as it says."""
        found = await issuer.status_list(number)
        if not found:
            raise not_found("status list")
        headers = {"Cache-Control": f"public, max-age={TTL_MS // 1000}", "Access-Control-Allow-Origin": "*"}
        return Response(found, media_type="application/vc+ld+json", headers=headers)

    return app


async def _body(request: Request) -> dict[str, Any]:
    body = guard_json(await request.body(), max_bytes=MAX_BODY)
    if not isinstance(body, dict):
        raise not_understood("", "send a JSON object")
    return body


def _object(body: dict[str, Any], name: str) -> dict[str, Any]:
    found = body.get(name)
    if not isinstance(found, dict):
        raise not_understood(f"/{name}", "must be a JSON object")
    return found


def _document(body: dict[str, Any], name: str) -> dict[str, Any] | str:
    """A JSON object, or a compact JWS."""
    found = body.get(name)
    if not isinstance(found, str | dict):
        raise not_understood(f"/{name}", "must be a JSON object, or a compact JWS as a string")
    return found


def _options(body: dict[str, Any]) -> dict[str, Any]:
    found = body.get("options")
    if found is not None and not isinstance(found, dict):
        raise not_understood("/options", "must be a JSON object")
    return found or {}


def _not_verified(outcomes: list[Outcome]) -> Response:
    problems = [problem for outcome in outcomes for problem in outcome.problems]
    unread = all(problem["step"] == "enveloped" for problem in problems)
    return refused(problems, "not verified", 422 if unread else 400)
