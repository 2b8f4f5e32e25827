"""`laurel verify`: the same verdict as the API and the page, from a server or, without one, on this machine.

Takes what they take: a credential as JSON or JWT, a baked PNG or SVG, the text of a QR code.

Offline means: without a Laurel. The issuer's keys and status list are still looked up at the addresses that the
credential names, through the same guarded client, because nobody else can say whether it was revoked.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
from rich.text import Text

from laurel.credential.baking import MAX_BAKED
from laurel.database import Database
from laurel.http import GuardedClient
from laurel.http_addresses import AddressPolicy
from laurel.plain_text import legible
from laurel_local.client import Client, Refused
from laurel_local.console import Output
from laurel_local.exits import Exit, Failure
from laurel_local.trust import authorities, distrust
from laurel_verifier.checks import Against, failed
from laurel_verifier.documents import ADDRESS_CODES, Unreadable
from laurel_verifier.intake import ACCEPT, Intake
from laurel_verifier.lookups import Lookups
from laurel_verifier.resolution import Issuers, Resolved
from laurel_verifier.sandbox import Sandbox
from laurel_verifier.status_lists import MAX_LIST_DOCUMENT, StatusLists
from laurel_verifier.verification import Verifier
from laurel_verifier.wording import held_against

FETCH_S = 30.0  # for an address as a whole: a server that sends a byte now and then would keep us for ever
_NOWHERE = "https://no-laurel.invalid"  # RFC 6761 §6.4: can be nobody's address, so no credential claims to be of it
_LIKE = "write it like https://badges.example.org/c/…, or name a file"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://").match
_ANYTHING = "application/octet-stream"  # the server goes by what the bytes are, as we do here
_MARKS = {"passed": "✓", "failed": "✗", "not_checked": "?", "not_applicable": "–"}


async def run(source: str, *, url: str | None, local: bool, output: Output) -> Exit:
    """Say whether a credential is valid, and why. OK: valid. UNREACHABLE: could not be checked. NO: everything else."""
    body = await _fetch(source) if _SCHEME(source) else _read(source)
    found = await (_ask(url, body) if url else _here(body, local=local))
    output.result(found)
    if not output.as_json:
        _show(found, output)
    if found["verdict"] == "valid":
        return Exit.OK
    return Exit.UNREACHABLE if found["verdict"] == "could_not_check" else Exit.NO


def _read(source: str) -> bytes:
    if source == "-":
        if sys.stdin is None:
            raise Failure("standard input is closed", fix="name a file or a URL", code=Exit.USAGE)
        return sys.stdin.buffer.read(MAX_BAKED + 1)
    try:
        with Path(source).open("rb") as file:
            return file.read(MAX_BAKED + 1)
    except OSError as error:
        fix = "name a file, a URL, or - for standard input"
        raise Failure(f"{source}: {error.strerror}", fix=fix, code=Exit.USAGE) from None


async def _fetch(url: str) -> bytes:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise Failure(f"{url} is not a URL: {error}", fix=_LIKE, code=Exit.USAGE) from None
    if address.scheme not in ("http", "https") or not address.host:
        raise Failure(f"{url} cannot be fetched: it is no http or https URL", fix=_LIKE, code=Exit.USAGE)
    # Not through the guarded client: the address comes from whoever sits at this keyboard.
    body = bytearray()
    try:
        async with (
            asyncio.timeout(FETCH_S),
            httpx.AsyncClient(timeout=20.0, trust_env=False, verify=authorities(), follow_redirects=True) as client,
            client.stream("GET", address, headers={"Accept": ACCEPT}) as answer,
        ):
            if answer.status_code != 200:
                raise Failure(f"{url} answers {answer.status_code}", fix="check the address", code=Exit.UNREACHABLE)
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > MAX_BAKED:
                    break
    except TimeoutError:
        message = f"{url} does not answer in full within {FETCH_S:g} seconds"
        raise Failure(message, fix="save it as a file and name that", code=Exit.UNREACHABLE) from None
    except httpx.InvalidURL as error:  # where it was sent on to
        raise Failure(f"{url} leads to something that is not a URL: {error}", code=Exit.UNREACHABLE) from None
    except httpx.HTTPError as error:
        fix = "check the address"
        raise distrust(url, error) or Failure(
            f"{url} cannot be fetched: {error}", fix=fix, code=Exit.UNREACHABLE
        ) from None
    return bytes(body)


async def _ask(url: str, body: bytes) -> dict[str, Any]:
    async with Client(url) as client:
        try:
            found: dict[str, Any] = await client.call(
                "POST", "/verifier/v1/credentials/verify", body=body, headers={"Content-Type": _ANYTHING}
            )
        except Refused as refused:
            if refused.status not in (400, 413, 422):
                raise
            # Nothing that can be read: the API says so with a problem document, and to a person it is a verdict.
            code = str(refused.problem.get("type", "")).rpartition(":")[2]
            error: dict[str, Any] = next(iter(refused.problem.get("errors", [])), {})
            place, detail = error.get("field", ""), str(refused.problem.get("detail", refused.message))
            return _unread(code, detail, place if place.startswith("/") else "", error.get("clause"))
    return found


def _unread(code: str, detail: str, pointer: str, clause: str | None) -> dict[str, Any]:
    if code in ADDRESS_CODES:  # the text of a QR code, say, whose address does not answer: no verdict on anything
        raise Failure(legible(detail), fix="check the address", code=Exit.UNREACHABLE)
    return {
        "verdict": "invalid",
        "checks": [msgspec.to_builtins(failed("format", code, detail, pointer=pointer, clause=clause))],
    }


class _StrangersOnly(Issuers):
    """Issuers without a register of our own."""

    async def _replica(self, issuer: str) -> Resolved | None:
        return None


@asynccontextmanager
async def local_intake(*, local: bool, processes: int = 1) -> AsyncIterator[Intake]:
    """A verifier without a Laurel. local: issuers of this machine are looked up as well."""
    policy = AddressPolicy.parse("127.0.0.0/8,::1/128" if local else "")
    database = Database("postgresql://no-laurel.invalid", schema="verifier")  # never opened
    index = Lookups(database)
    async with (
        GuardedClient(policy, total_timeout=10.0, max_bytes=MAX_LIST_DOCUMENT) as client,
        Sandbox(processes=processes, seconds=10.0, memory=1 << 30) as sandbox,
    ):
        verifier = Verifier(
            index=index,
            issuers=_StrangersOnly(database, client, base_url=_NOWHERE, allow_http=local),
            lists=StatusLists(client),
            own=sandbox,
            foreign=sandbox,
            base_url=_NOWHERE,
            clock=lambda: datetime.now(UTC),
        )
        yield Intake(index, verifier, client, _NOWHERE)


async def _here(body: bytes, *, local: bool) -> dict[str, Any]:
    async with local_intake(local=local) as intake:
        try:
            examined = await intake.examine(body)
        except Unreadable as error:
            return _unread(error.code, error.detail, error.pointer or "", error.clause)
    found: dict[str, Any] = msgspec.to_builtins(examined.verification)
    return found


def _show(found: dict[str, Any], output: Output) -> None:
    def line(text: str, style: str = "") -> None:
        # Half of every line is a stranger's: written raw, a forgery could draw a verdict of its own on the terminal.
        output.out.print(Text(legible(text), style))

    colour = {"valid": "green", "could_not_check": "yellow"}.get(found["verdict"], "red")
    line(found["verdict"].replace("_", " "), f"bold {colour}")
    for name in ("id", "issuer_name", "issuer"):
        if found.get(name):
            line(f"{name.replace('_', ' ')}: {found[name]}")
    for check in found["checks"]:
        line(f"  {_MARKS.get(check['outcome'], '?')} {check['step']}: {check['detail']}")
        problem = check.get("problem")
        if problem:
            place = f"at {check['pointer'] or '/'}, " if check.get("pointer") is not None else ""
            line(f"      {place}{problem['type']}; {check.get('clause', '')}", "dim")
        for one in check.get("against", ()):
            line(f"      against {held_against(msgspec.convert(one, Against))}", "dim")
    for one in found.get("endorsements", ()):
        about = ", but about something else" if one.get("concerns") is False else ""
        who = one.get("issuer_name") or one.get("issuer") or "nobody"
        line(f"  endorsement by {who}: {one['verdict'].replace('_', ' ')}{about} ({one['pointer']})")
