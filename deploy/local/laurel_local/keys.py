"""`laurel keys`: what the API of the issuer does with API keys, and what each service says of their use."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from laurel.migrate import SERVICES
from laurel.security import parse_api_key
from laurel_local.client import Client
from laurel_local.console import Output, OutputLost
from laurel_local.exits import Exit, Failure

_KEYS = "/issuer/v1/api-keys"


async def listed(client: Client, output: Output) -> Exit:
    """Print every key with its scopes, the times of its secrets, and when it was last used in which service."""
    async with client:
        found = {key["key_id"]: {**key, "last_used": {}} async for key in client.pages(_KEYS)}
        for name in SERVICES:
            async for use in client.pages(f"/{name}/v1/api-keys/use"):
                if use["key_id"] in found:
                    found[use["key_id"]]["last_used"][name] = use["last_used_at"]
    for key in found.values():
        del key["last_used_at"]  # the issuer's alone; it stands among the others now
    output.result({"api_keys": list(found.values())})
    if not output.as_json:
        table = Table("key", "label", "scopes", "state", "secrets until", "last used")
        for key in found.values():
            table.add_row(
                key["key_id"], key["label"], " ".join(key["scopes"]), _state(key),
                ", ".join(_until(key, one["until"]) for one in key["secrets"]),
                max((one for one in key["last_used"].values() if one), default="never"),
            )  # fmt: skip
        output.out.print(table)
    return Exit.OK


def _state(key: dict[str, Any]) -> str:
    if key["revoked_at"] is not None:
        return f"revoked {key['revoked_at']}"
    ended = key["expires_at"] is not None and datetime.fromisoformat(key["expires_at"]) <= datetime.now(UTC)
    return "expired" if ended else "active"


def _until(key: dict[str, Any], until: str | None) -> str:
    """A secret ends with its key."""
    return str(key["revoked_at"] or until or key["expires_at"] or "for ever")


async def created(
    client: Client, label: str, scopes: Sequence[str], expires_at: datetime | None, output: Output
) -> Exit:
    """Make a key and print it."""
    body: dict[str, Any] = {"label": label, "scopes": list(scopes)}
    if expires_at is not None:
        body["expires_at"] = (expires_at if expires_at.tzinfo else expires_at.replace(tzinfo=UTC)).isoformat()
    async with client:
        made = _key(client, await client.call("POST", _KEYS, json=body))
    _print_key(made, output)
    return Exit.OK


async def rotated(client: Client, key_id: str, overlap_s: int, output: Output) -> Exit:
    """Give a key another secret and print it."""
    async with client:
        path = f"{_KEYS}/{_segment(key_id)}/rotate"
        made = _key(client, await client.call("POST", path, json={"overlap_s": overlap_s}))
    until = made["previous_until"]
    _print_key(made, output)
    output.note("The older secrets have ended." if until is None else f"The older secrets work until {until}.")
    return Exit.OK


async def revoked(client: Client, key_id: str, output: Output) -> Exit:
    """End a key."""
    async with client:
        if await client.call("DELETE", f"{_KEYS}/{_segment(key_id)}"):
            raise client.no_laurel("has a body, and an end of a key has none: it may go on")
    output.result({"revoked": key_id})
    output.note(f"{key_id} is revoked; it stops working in every service within seconds.")
    return Exit.OK


def _segment(key_id: str) -> str:
    """A key's id as a path segment; what is none leads to a 404, not to another path."""
    return key_id if key_id.isalnum() and key_id.isascii() else "-"


def _key(client: Client, made: dict[str, Any]) -> dict[str, Any]:
    """A key with its secret, which goes to standard output as it is."""
    if parse_api_key(str(made["text"])) is None:
        raise client.no_laurel("holds no API key")
    return made


def _print_key(made: dict[str, Any], output: Output) -> None:
    try:
        output.result(made)
        if not output.as_json:
            sys.stdout.write(f"{made['text']}\n")
            sys.stdout.flush()
    except OutputLost as error:
        key_id = made["key_id"]
        raise Failure(
            f"{error}; key {key_id} exists all the same, and its new secret is lost",
            fix=f"`laurel keys rotate {key_id} --overlap-s 0` prints another secret, `laurel keys revoke {key_id}` "
            "ends the key; do not make it again",
            code=Exit.OUTPUT,
        ) from None
    if not output.as_json:
        output.note(f"Key {made['key_id']}; shown this once, stored nowhere.")
