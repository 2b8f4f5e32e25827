"""The three routes of the VC API that suites call, the lists that issued credentials name, and a way to revoke.

POST /conformance/credentials/issue        {credential, options: {cryptosuite?}} → 201 {verifiableCredential}
POST /conformance/credentials/verify       {verifiableCredential, options: {checks?}} → 200 {verified: true, …}
POST /conformance/presentations/verify     {verifiablePresentation, options: {challenge?, domain?, checks?}} → 200
POST /conformance/credentials/status       {credentialId} → 200: revokes it
GET  /conformance/status/{number}          a signed BitstringStatusListCredential

Whatever is not verified or not issued is a 400 with problem details, whatever is not understood a 422.
"""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response

from laurel.credential.proofs import RDFC
from laurel.database import Database
from laurel.security import guard_json
from laurel.web import PROBLEM_JSON, Problem, create_app, json_response, not_found
from laurel_local.conformance.issuing import CRYPTOSUITES, Issuer
from laurel_local.conformance.lists import TTL_MS
from laurel_local.conformance.verifying import CHECKS, Conformance, Outcome
from laurel_verifier.sandbox import SandboxBusy, SandboxLimit

MAX_BODY = 1 << 20
_SUITE_OPTIONS = ("cryptosuite", "suite", "type", "proofType")  # as suites and other issuers call it
_NOT_SUITES = ("DataIntegrityProof",)
_NO_STORE = {"Cache-Control": "no-store"}


def create_conformance_api(database: Database, issuer: Issuer, conformance: Conformance) -> FastAPI:
    """The application. database: for the edge's readiness alone; nothing is stored."""
    app = create_app(
        "conformance",
        title="Laurel conformance routes",
        description="For test suites: issues and verifies anything that conforms. Never expose this.",
        database=database,
        max_body=MAX_BODY,
    )

    @app.post("/conformance/credentials/issue", status_code=201)
    async def issue(request: Request) -> Response:
        """Sign a credential of anybody's with the key of this run."""
        body = await _body(request)
        cryptosuite = _cryptosuite(_options(body), request.query_params.get("cryptosuite"))
        try:
            signed = await issuer.issue(_object(body, "credential"), cryptosuite)
        except (SandboxLimit, SandboxBusy) as error:
            raise Problem(422, "limit_exceeded", str(error)) from None
        if signed.findings:
            outcome = Outcome()
            outcome.add_findings(signed.findings)
            return _refused([outcome], "not issued")
        return json_response({"verifiableCredential": msgspec.Raw(signed.document)}, 201, headers=_NO_STORE)

    @app.post("/conformance/credentials/verify")
    async def verify(request: Request) -> Response:
        """200 when every check that was asked for passes."""
        body = await _body(request)
        outcome = await conformance.credential(_object(body, "verifiableCredential"), _checks(_options(body)))
        if not outcome.verified:
            return _refused([outcome], "not verified")
        return json_response({"verified": True, "warnings": outcome.warnings}, headers=_NO_STORE)

    @app.post("/conformance/presentations/verify")
    async def verify_presentation(request: Request) -> Response:
        """200 when the presentation and all of its credentials verify."""
        body = await _body(request)
        options = _options(body)
        name = "presentation" if "presentation" in body and "verifiablePresentation" not in body else None
        outcome, presented = await conformance.presentation(
            _object(body, name or "verifiablePresentation"),
            challenge=_text(options, "challenge"),
            domain=_text(options, "domain"),
            checks=_checks(options),
        )
        if not all(one.verified for one in (outcome, *presented)):
            return _refused([outcome, *presented], "not verified")
        results = [{"verified": True, "warnings": one.warnings} for one in presented]
        answer = {"verified": True, "warnings": outcome.warnings, "credentialResults": results}
        return json_response(answer, headers=_NO_STORE)

    @app.post("/conformance/credentials/status")
    async def revoke(request: Request) -> Response:
        """Set the revocation bit of a credential that was issued here with an id."""
        identifier = _text(await _body(request), "credentialId")
        if identifier is None or not issuer.lists.revoke(identifier):
            raise not_found("credential")
        return json_response({"credentialId": identifier, "revoked": True}, headers=_NO_STORE)

    @app.get("/conformance/status/{number}")
    async def status_list(number: str) -> Response:
        """Signed anew at each request: it is as fresh as it says."""
        found = await issuer.status_list(int(number)) if number.isascii() and number.isdigit() else None
        if not found:
            raise not_found("status list")
        headers = {"Cache-Control": f"public, max-age={TTL_MS // 1000}", "Access-Control-Allow-Origin": "*"}
        return Response(found, media_type="application/vc+ld+json", headers=headers)

    return app


async def _body(request: Request) -> dict[str, Any]:
    body = guard_json(await request.body(), max_bytes=MAX_BODY)
    if not isinstance(body, dict):
        raise Problem(422, "invalid_input", "body: send a JSON object")
    return body


def _object(body: dict[str, Any], name: str) -> dict[str, Any]:
    found = body.get(name)
    if not isinstance(found, dict):
        raise Problem(422, "invalid_input", f"/{name}: must be a JSON object")
    return found


def _options(body: dict[str, Any]) -> dict[str, Any]:
    options = body.get("options")
    if options is not None and not isinstance(options, dict):
        raise Problem(422, "invalid_input", "/options: must be a JSON object")
    return options or {}


def _text(options: dict[str, Any], name: str) -> str | None:
    found = options.get(name)
    if found is not None and (not isinstance(found, str) or not found):
        raise Problem(422, "invalid_input", f"/{name}: must be a text that is not empty")
    return found


def _cryptosuite(options: dict[str, Any], query: str | None) -> str:
    asked = [options[name] for name in _SUITE_OPTIONS if options.get(name) not in (None, *_NOT_SUITES)]
    wanted = (asked or [query or RDFC])[0]
    if wanted not in CRYPTOSUITES:
        raise Problem(422, "unknown_cryptosuite", f"/options/cryptosuite: one of {', '.join(CRYPTOSUITES)}")
    return str(wanted)


def _checks(options: dict[str, Any]) -> list[str] | None:
    checks = options.get("checks")
    if checks is None or checks == []:
        return None
    if not isinstance(checks, list) or not all(isinstance(one, str) and one in CHECKS for one in checks):
        raise Problem(422, "unknown_check", f"/options/checks: a list of {', '.join(CHECKS)}")
    return checks


def _refused(outcomes: list[Outcome], title: str) -> Response:
    problems = [problem for outcome in outcomes for problem in outcome.problems]
    unread = all(problem["step"] == "enveloped" for problem in problems)
    first = {name: problems[0][name] for name in ("type", "detail")}
    document = {**first, "title": title, "status": 422 if unread else 400, "verified": False}
    headers = {**_NO_STORE, "Content-Type": PROBLEM_JSON}
    return json_response({**document, "problemDetails": problems}, document["status"], headers=headers)
