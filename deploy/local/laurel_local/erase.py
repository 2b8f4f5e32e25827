"""`laurel erase`: erase a learner of an organisation, and wait until every service has done its part."""

from __future__ import annotations

import asyncio
import sys
import unicodedata
from typing import Any

import typer

from laurel.migrate import SERVICES
from laurel_local.client import Client, Refused
from laurel_local.console import Output
from laurel_local.exits import Exit, Failure

_LOOK_S = 0.3


def learner_of(given: str) -> str:
    """The learner's id; "-" reads it from standard input, where no list of processes shows it."""
    try:
        learner = sys.stdin.readline() if given == "-" else given
        learner.encode()
    except UnicodeError:
        raise Failure("the learner's id is no UTF-8", fix="give it as text", code=Exit.USAGE) from None
    learner = unicodedata.normalize("NFC", learner.strip())
    if not learner:
        raise Failure("no learner is named", fix="give --learner the platform's own id of the learner", code=Exit.USAGE)
    return learner


def confirmed(learner: str, *, yes: bool, given: str) -> bool:
    """Whether it is to be done. Raises Failure where nobody can be asked."""
    if yes:
        return True
    if given == "-" or not sys.stdin.isatty():
        raise Failure("nobody is there to confirm it", fix="add --yes", code=Exit.USAGE)
    what = f"Erase {learner!r} for ever? Every credential is revoked, and what says who it was is removed."
    return typer.confirm(what, err=True)


async def run(client: Client, given: str, *, yes: bool, patience_s: float, output: Output) -> Exit:
    """The command. NO: the answer was no, nothing was known of the learner, or a service was not done in time."""
    learner = learner_of(given)
    if not confirmed(learner, yes=yes, given=given):
        return Exit.NO
    async with client:
        asked = await client.call("POST", "/assessment/v1/learners/erase", json={"learner": learner})
        states = await _followed(client, asked, patience_s)
    output.result({**asked, "states": states})
    if not output.as_json:
        output.out.print(
            f"erasure {asked['erasure_id']}: {asked['results']} results, {asked['credentials']} credentials"
        )
        for service, state in states.items():
            output.out.print(f"  {service}: {state}")
        if not asked["results"]:
            output.out.print("nothing was known of this learner: is it the id that came with the results?")
    return Exit.OK if asked["results"] and set(states.values()) == {"done"} else Exit.NO


async def _followed(client: Client, asked: dict[str, Any], patience_s: float) -> dict[str, str]:
    """By service: "done", or how many of the credentials it has erased when time was up."""
    wanted, states = int(asked["credentials"]), {"assessment": "done"}
    deadline = asyncio.get_running_loop().time() + patience_s
    for service in (one for one in SERVICES if one != "assessment"):
        while True:
            found = await _erased(client, service, asked["erasure_id"]) if wanted else 0
            if found >= wanted:
                states[service] = "done"
                break
            if asyncio.get_running_loop().time() > deadline:
                states[service] = f"{found} of {wanted}"
                break
            await asyncio.sleep(_LOOK_S)
    return states


async def _erased(client: Client, service: str, erasure_id: str) -> int:
    try:
        return int((await client.call("GET", f"/{service}/v1/erasures/{erasure_id}"))["credentials"])
    except Refused as refused:
        if refused.status == 404:  # its first event is on the way
            return 0
        raise
