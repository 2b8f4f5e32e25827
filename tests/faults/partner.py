"""Partners' endpoints as a process of their own, which keep a book of every webhook that they took.

    python -m tests.faults.partner PORT BOOK

POST /hook/NAME takes a webhook for the endpoint NAME, checks its signature (without regard to its time: clocks are
stepped here), writes a line `NAME webhook-id sha256` into the file BOOK, and answers 204. PUT /secret/NAME sets the
endpoint's secret. PUT /trouble sets how all answer from now on: "" (well), "500", "429", "hang" (never), "forget" (the
webhook is taken and its answer lost), "slow". GET /seen/ID: 200 when that webhook-id was taken. GET /stats;
POST /flush.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import hmac
import json
import sys
from pathlib import Path
from typing import Any

import uvloop

from tests.benchmarks import sink

_SLOW_S = 2.0


class Book:
    """What was taken."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("ab", buffering=1 << 20)
        self.secrets: dict[str, bytes] = {}
        self.seen: set[bytes] = set()
        self.taken = 0
        self.issued = 0
        self.bad = 0
        self.trouble = ""

    def take(self, name: str, headers: dict[bytes, bytes], body: bytes) -> bool:
        identity = headers.get(b"webhook-id", b"")
        signed = b"%s.%s.%s" % (identity, headers.get(b"webhook-timestamp", b""), body)
        expected = base64.b64encode(hmac.digest(self.secrets.get(name, b""), signed, hashlib.sha256))
        if name not in self.secrets or b"v1," + expected not in headers.get(b"webhook-signature", b"").split():
            self.bad += 1
            return False
        self.taken += 1
        self.file.write(b"%s %s %s\n" % (name.encode(), identity, hashlib.sha256(body).hexdigest().encode()))
        if identity not in self.seen:
            self.seen.add(identity)
            self.issued += identity.endswith(b"_issued")
        return True


class Connection(sink.Connection):
    """The benchmark's HTTP/1.1, with other answers."""

    def __init__(self, book: Book) -> None:
        super().__init__(book)  # type: ignore[arg-type]
        self._book: Any = book

    def _answer(self, head: bytes, body: bytes) -> bytes:
        _, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].decode()
        if path.startswith("/hook/"):
            return self._hook(path.removeprefix("/hook/"), head, body)
        if path.startswith("/secret/"):
            self._book.secrets[path.removeprefix("/secret/")] = base64.b64decode(body.removeprefix(b"whsec_"))
            return sink.with_body(b"200 OK", b"")
        if path == "/trouble":
            self._book.trouble = body.decode()
            return sink.with_body(b"200 OK", b"")
        if path.startswith("/seen/"):
            known = path.removeprefix("/seen/").encode() in self._book.seen
            return sink.with_body(b"200 OK" if known else b"404 Not Found", b"")
        if path == "/flush":
            self._book.file.flush()
        stats = {name: getattr(self._book, name) for name in ("taken", "issued", "bad")}
        return sink.with_body(b"200 OK", json.dumps({**stats, "distinct": len(self._book.seen)}).encode())

    def _hook(self, name: str, head: bytes, body: bytes) -> bytes:
        trouble = self._book.trouble
        if trouble in ("500", "429"):
            return sink.with_body(b"%s Trouble" % trouble.encode(), b"")
        if trouble == "hang":
            return b""
        lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
        headers = {key.strip().lower(): value.strip() for key, _, value in lines}
        if not self._book.take(name, headers, body):
            return sink.with_body(b"400 Bad Request", b"")
        if trouble == "forget":
            self._transport.abort()
            return b""
        answer = b"HTTP/1.1 204 No Content\r\n\r\n"
        if trouble == "slow":
            asyncio.get_running_loop().call_later(_SLOW_S, self._transport.write, answer)
            return b""
        return answer


async def main(port: int, path: Path) -> None:
    gc.disable()  # nothing here refers to itself
    book = Book(path)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(book), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2])))
