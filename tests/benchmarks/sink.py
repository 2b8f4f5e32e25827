"""A partner's endpoint as a process of its own, cheap enough not to be what is measured.

    python -m tests.benchmarks.sink PORT

It takes webhooks at /hook and answers 204. One in a hundred signatures is checked (PUT /secret says with what), every
credential id is remembered. GET /stats: counts as JSON; GET /ids: the credential ids, 16 bytes each.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from typing import Any

import uvloop
from standardwebhooks import Webhook

_ID = b'"credential_id":"'
_CHECK_EVERY = 100


class Book:
    """What has arrived."""

    def __init__(self) -> None:
        self.secret = ""
        self.requests = 0
        self.bad = 0
        self.ids: set[bytes] = set()
        self.twice = 0

    def take(self, head: bytes, body: bytes) -> bool:
        self.requests += 1
        if self.requests % _CHECK_EVERY == 1 and not self._signed(head, body):
            self.bad += 1
            return False
        place = body.find(_ID) + len(_ID)
        credential_id = bytes.fromhex(body[place : place + 36].replace(b"-", b"").decode())
        if credential_id in self.ids:
            self.twice += 1
        self.ids.add(credential_id)
        return True

    def _signed(self, head: bytes, body: bytes) -> bool:
        lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
        headers = {name.strip().lower().decode(): value.strip().decode() for name, _, value in lines}
        try:
            Webhook(self.secret).verify(body, headers)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, it is counted
            return False
        return True

    def stats(self) -> dict[str, int]:
        return {"requests": self.requests, "distinct": len(self.ids), "twice": self.twice, "bad": self.bad}


class Connection(asyncio.Protocol):
    """HTTP/1.1 as far as Laurel's client speaks it: Content-Length, keep-alive."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._buffer = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            place = head.lower().find(b"content-length:")
            length = int(head[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
            total = end + 4 + length
            if len(self._buffer) < total:
                return
            body = self._buffer[end + 4 : total]
            self._buffer = self._buffer[total:]
            self._transport.write(self._answer(head, body))

    def _answer(self, head: bytes, body: bytes) -> bytes:
        if head.startswith(b"POST "):
            taken = self._book.take(head, body)
            return b"HTTP/1.1 204 No Content\r\n\r\n" if taken else with_body(b"400 Bad Request", b"")
        if head.startswith(b"PUT /secret"):
            self._book.secret = body.decode()
            return b"HTTP/1.1 204 No Content\r\n\r\n"
        if head.startswith(b"GET /ids"):
            return with_body(b"200 OK", b"".join(self._book.ids))
        return with_body(b"200 OK", json.dumps(self._book.stats()).encode())


def with_body(status: bytes, body: bytes) -> bytes:
    """An HTTP answer with a body."""
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


async def main(port: int) -> None:
    gc.disable()  # nothing here refers to itself
    book = Book()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(book), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
