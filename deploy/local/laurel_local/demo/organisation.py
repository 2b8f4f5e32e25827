"""The demo's organisation: made once per state folder, step by step, so that a run that was cut off goes on."""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laurel_local.client import Client, Refused
from laurel_local.exits import Exit, Failure
from laurel_local.state import State

NAME = "Open Campus (demo)"
EVENTS = ["credential.issued", "credential.revoked", "credential.suspended", "credential.reinstated"]
_FILE = "demo.json"


@dataclass(frozen=True)
class Organisation:
    """What the demo needs to know of it."""

    api_key: str
    achievement_id: str
    endpoint_id: str
    webhook_secret: str


def examples() -> Path:
    """The folder `examples` of the repository that laurel is installed from."""
    folder = Path(__file__).resolve().parents[4] / "examples"
    if not (folder / "cohort.csv").exists():
        raise Failure(
            "the demo's examples are not part of this installation",
            fix="clone the repository and run `make demo`",
            code=Exit.USAGE,
        )
    return folder


async def ensure(state: State, url: str, port: int, operator_token: str) -> Organisation:
    """The organisation of this state folder; whatever of it is missing is made now, and remembered at once."""
    known = state.read(_FILE)
    async with Client(url, operator_token) as operator:
        if "api_key" not in known:
            known |= await _organisation(operator)
            state.write(_FILE, known)
    async with Client(url, known["api_key"]) as client:
        if "profile_id" not in known:
            profile = await client.call(
                "POST", "/issuer/v1/profiles",
                json={
                    "slug": known["slug"], "name": NAME, "url": "https://campus.example.org",
                    "email": "badges@campus.example.org",
                    "description": "A made-up university that issues the demo's badges.",
                },
            )  # fmt: skip
            known["profile_id"] = profile["profile_id"]
            state.write(_FILE, known)
        if "key_id" not in known:
            key = await client.call("POST", f"/issuer/v1/profiles/{known['profile_id']}/keys")
            known["key_id"] = key["key_id"]
            state.write(_FILE, known)
        if "achievement_id" not in known:
            made = await client.call_when_known(
                "POST", "/assessment/v1/achievements", json=achievement(known["profile_id"])
            )
            known["achievement_id"] = made["achievement_id"]
            state.write(_FILE, known)
        hook = f"http://127.0.0.1:{port}/demo/webhook"
        if "endpoint_id" not in known:
            endpoint = await client.call_when_known(
                "POST", "/notifier/v1/endpoints",
                json={"url": hook, "event_types": EVENTS, "description": "The demo's inbox"},
            )  # fmt: skip
            known |= {"endpoint_id": endpoint["endpoint_id"], "secret": endpoint["secret"], "hook": hook}
            state.write(_FILE, known)
        elif known["hook"] != hook:
            await client.call("PATCH", f"/notifier/v1/endpoints/{known['endpoint_id']}", json={"url": hook})
            known["hook"] = hook
            state.write(_FILE, known)
    return Organisation(known["api_key"], known["achievement_id"], known["endpoint_id"], known["secret"])


async def _organisation(operator: Client) -> dict[str, Any]:
    slug = "open-campus"
    try:
        made = await operator.call("POST", "/issuer/v1/organisations", json={"slug": slug, "name": NAME})
    except Refused as refused:
        if refused.status != 409:
            raise
        # A run was cut off between the organisation and the note of its key, which nobody can read again.
        slug = f"open-campus-{secrets.token_hex(3)}"
        made = await operator.call("POST", "/issuer/v1/organisations", json={"slug": slug, "name": NAME})
    return {"tenant_id": made["tenant_id"], "slug": made["slug"], "api_key": made["api_key"]["text"]}


def achievement(profile_id: str) -> dict[str, Any]:
    """examples/achievement.json with the issuer profile and the picture."""
    folder = examples()
    body: dict[str, Any] = json.loads((folder / "achievement.json").read_text(encoding="utf-8"))
    image = base64.b64encode((folder / "badge.png").read_bytes()).decode()
    return {**body, "profile_id": profile_id, "image": f"data:image/png;base64,{image}"}
