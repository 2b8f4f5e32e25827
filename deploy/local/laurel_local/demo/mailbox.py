"""The learners' side: a mail server that keeps what it gets, and a page that shows it."""

from __future__ import annotations

import asyncio
import email
import email.policy
import html
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from laurel_local.demo.pages import page

KEPT = 2000  # the latest messages; a demo with a million learners must not fill the disk
_SHOWN = 200


class Mailbox:
    """Takes mail on a free port of this machine, in our own event loop, and keeps the latest in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        numbers = [int(path.stem) for path in folder.glob("*.eml") if path.stem.isdecimal()]
        self._next = max(numbers, default=0) + 1
        self._server: asyncio.Server | None = None
        self.messages = 0

    async def start(self) -> str:
        """Listen; the address as LAUREL_SMTP_URL."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(self, enable_SMTPUTF8=True, decode_data=False, loop=loop), "127.0.0.1", 0
        )
        return f"smtp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def handle_DATA(self, _server: SMTP, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """One message has come in."""
        number, self._next = self._next, self._next + 1
        (self._folder / f"{number}.eml").write_bytes(envelope.content)
        (self._folder / f"{number - KEPT}.eml").unlink(missing_ok=True)
        self.messages += 1
        return "250 OK"

    def app(self) -> Starlette:
        """GET /demo/mailbox and /demo/mailbox/{number}."""
        return Starlette(
            routes=[
                Route("/demo/mailbox", self._list, methods=["GET"]),
                Route("/demo/mailbox/{number:int}", self._one, methods=["GET"]),
            ]
        )

    def _read(self, number: int) -> EmailMessage | None:
        try:
            raw = (self._folder / f"{number}.eml").read_bytes()
        except FileNotFoundError:
            return None
        message = email.message_from_bytes(raw, policy=email.policy.default)
        return message if isinstance(message, EmailMessage) else None

    async def _list(self, _: Request) -> HTMLResponse:
        newest = self._next - 1
        rows = []
        for number in range(newest, max(newest - _SHOWN, 0), -1):
            message = self._read(number)
            if message is not None:
                cells = (_header(message, "To"), _header(message, "Subject"))
                rows.append(
                    f'<tr><td>{number}<td dir="auto">{html.escape(cells[0])}'
                    f'<td dir="auto"><a href="/demo/mailbox/{number}">{html.escape(cells[1])}</a></tr>'
                )
        return page(
            "Mailbox",
            f"<p>{newest} e-mails have come in; the latest {len(rows)}:</p>"
            f"<table><thead><tr><th>No.<th>To<th>Subject</tr></thead><tbody>{''.join(rows)}</tbody></table>",
        )

    async def _one(self, request: Request) -> HTMLResponse:
        message = self._read(request.path_params["number"])
        if message is None:
            missing = page("Mailbox", "<p>This e-mail is not kept (any more).</p>")
            missing.status_code = 404
            return missing
        told = {name: _header(message, name) for name in ("From", "To", "Subject", "Date")}
        headers = "".join(
            f'<tr><th scope="row">{name}<td dir="auto">{html.escape(value)}</tr>'
            for name, value in told.items()
            if value
        )
        return page(told["Subject"], f'<table>{headers}</table><pre dir="auto">{html.escape(_text(message))}</pre>')


# Of what is no e-mail the `email` package raises many kinds of exceptions. A page shows what can be read.


def _header(message: EmailMessage, name: str) -> str:
    try:
        return str(message[name] or "")
    except Exception:  # noqa: BLE001
        return "(cannot be read)"


def _text(message: EmailMessage) -> str:
    try:
        body = message.get_body(preferencelist=("plain",))
        return "" if body is None else str(body.get_content())
    except Exception:  # noqa: BLE001
        return "(cannot be read)"
