"""The partner's side of webhooks: checks every signature, takes each message once, and shows what came in.

What a partner must do is exactly this: verify with the endpoint's secret (Standard Webhooks), and remember webhook-id,
because a delivery that was not acknowledged in time comes again.
"""

from __future__ import annotations

import html
import json
import os
from binascii import Error as Base64Error
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from laurel_local.demo.pages import page
from laurel_local.state import open_log

_SHOWN = 200
_MAX_BODY = 1 << 20


@dataclass(frozen=True, slots=True)
class Received:
    """One message as the inbox shows it."""

    message_id: str
    kind: str
    credential_id: str
    achievement: str
    at: str


class Inbox:
    """Remembers in `file` (one JSON line a message), so that a restart knows what it has had."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._secret = ""
        self._seen: set[str] = set()
        self._latest: deque[Received] = deque(maxlen=_SHOWN)
        self.repeated = 0
        self.refused = 0
        if file.exists():
            for line in file.read_text(encoding="utf-8").splitlines():
                try:
                    self._remember(Received(**json.loads(line)))
                except (ValueError, TypeError):
                    continue  # the last line of a process that was killed while writing
        self._log = os.fdopen(open_log(file), "a", encoding="utf-8", buffering=1)

    @property
    def messages(self) -> int:
        """How many different messages came in, over all runs."""
        return len(self._seen)

    def trust(self, secret: str) -> None:
        """The endpoint's secret (whsec_…), known once the endpoint exists."""
        self._secret = secret

    def app(self) -> Starlette:
        """POST /demo/webhook takes, GET /demo/inbox shows."""
        return Starlette(
            routes=[
                Route("/demo/webhook", self._take, methods=["POST"]),
                Route("/demo/inbox", self._show, methods=["GET"]),
            ]
        )

    async def _take(self, request: Request) -> Response:
        body = await request.body()
        if len(body) > _MAX_BODY:
            return JSONResponse({"error": "too large"}, 413)
        try:
            event = Webhook(self._secret).verify(body, dict(request.headers))
        except (WebhookVerificationError, Base64Error, ValueError, RuntimeError) as error:
            self.refused += 1
            return JSONResponse({"error": f"signature: {error}"}, 401)
        message_id = request.headers["webhook-id"]
        if message_id in self._seen:
            self.repeated += 1
            return Response(status_code=204)
        received = Received(
            message_id, _text(event, "type"), _text(event, "data", "credential_id"),
            _text(event, "data", "credential", "credentialSubject", "achievement", "name"), _text(event, "timestamp"),
        )  # fmt: skip
        self._remember(received)
        self._log.write(json.dumps({name: getattr(received, name) for name in Received.__slots__}) + "\n")
        return Response(status_code=204)

    def _remember(self, received: Received) -> None:
        self._seen.add(received.message_id)
        self._latest.appendleft(received)

    async def _show(self, _: Request) -> HTMLResponse:
        rows = "".join(
            f"<tr><td>{html.escape(one.at)}<td>{html.escape(one.kind)}"
            f'<td><a href="/c/{html.escape(one.credential_id, quote=True)}">{html.escape(one.credential_id)}</a>'
            f"<td>{html.escape(one.achievement)}<td><code>{html.escape(one.message_id)}</code></tr>"
            for one in self._latest
        )
        return page(
            "A partner's inbox",
            f"<p>{self.messages} messages with a good signature, {self.repeated} that came again and were recognised, "
            f"{self.refused} refused. The latest {len(self._latest)}:</p>"
            "<table><thead><tr><th>Time<th>Event<th>Credential<th>Achievement<th>webhook-id</tr></thead>"
            f"<tbody>{rows}</tbody></table>",
        )

    def close(self) -> None:
        """Close the file."""
        self._log.close()


def _text(value: Any, *path: str) -> str:
    """The text at a path of nested objects; "" where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""
