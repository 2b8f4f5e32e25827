"""A TCP proxy whose connections can be cut, refused, delayed, frozen, left half-open or truncated.

One `Link` stands between one client and one server (a service and its database, everybody and Kafka, the notifier and
its partners). It forwards bytes and knows no protocol: what is cut is cut in the middle of a message.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import Any

Target = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""


class Link:
    """`async with Link("issuer-postgres", port, target)`: listens on 127.0.0.1:port from then on."""

    def __init__(self, name: str, port: int, target: Target) -> None:
        self.name = name
        self.port = port
        self.target = target
        self.delay_s = 0.0
        self.refusing = False
        self.frozen = False
        self.accepted = 0
        self.bytes = 0
        self.pairs: set[_Pair] = set()
        self._server: asyncio.Server | None = None
        self._dialling: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Link:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Half(self), "127.0.0.1", self.port, backlog=512)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._dialling:
            task.cancel()

    # -- what the nemesis does -------------------------------------------------------------------------------

    def cut(self) -> int:
        """Reset every connection; how many there were."""
        pairs = list(self.pairs)
        for pair in pairs:
            pair.abort()
        return len(pairs)

    def refuse(self, on: bool) -> None:
        """Reset every connection, new ones too, until it is switched off."""
        self.refusing = on
        if on:
            self.cut()

    def delay(self, seconds: float) -> None:
        """Every piece of every connection waits so long, in both directions; 0: no longer."""
        self.delay_s = seconds

    def freeze(self, on: bool) -> None:
        """Nothing passes, nothing breaks; what came meanwhile passes afterwards."""
        self.frozen = on
        if not on:
            for pair in list(self.pairs):
                pair.flush()

    def half_open(self, side: str) -> list[_Pair]:
        """The connections of now fall silent for ever: one side ("client" or "server") is left waiting, the other one's
        is reset. New connections work. Give the result to `reset`, as TCP's keepalive does in the end."""
        pairs = list(self.pairs)
        for pair in pairs:
            pair.leave(side)
        return pairs

    def reset(self, pairs: list[_Pair]) -> None:
        """End what `half_open` left."""
        for pair in pairs:
            pair.abort()

    def truncate(self, rng: random.Random, most: int = 20_000) -> int:
        """Each connection of now breaks after so many more bytes of one direction; how many connections."""
        pairs = list(self.pairs)
        for pair in pairs:
            half = rng.choice((pair.client, pair.server))
            half.budget = rng.randrange(1, most)
        return len(pairs)

    def truncate_no_more(self) -> None:
        """Let those live that have not broken yet."""
        for pair in list(self.pairs):
            pair.client.budget = pair.server.budget = None

    def heal(self) -> None:
        """Forward everything again."""
        self.refusing, self.delay_s = False, 0.0
        self.freeze(False)
        self.truncate_no_more()

    # -- connections -----------------------------------------------------------------------------------------

    def dial(self, client: _Half) -> None:
        task = asyncio.create_task(self._dial(client))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    async def _dial(self, client: _Half) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(30):
                if isinstance(self.target, str):
                    _, server = await loop.create_unix_connection(lambda: _Half(self, client), self.target)
                else:
                    _, server = await loop.create_connection(lambda: _Half(self, client), *self.target)
        except (OSError, TimeoutError):
            client.abort()
            return
        if client.lost or self.refusing:
            server.abort()
            client.abort()
            return
        client.pair = server.pair = pair = _Pair(self, client, server)
        self.pairs.add(pair)
        self.accepted += 1
        pair.flush()


class _Pair:
    """The two halves of a connection."""

    def __init__(self, link: Link, client: _Half, server: _Half) -> None:
        self.link = link
        self.client = client
        self.server = server
        self.left: _Half | None = None  # the half that was left alone

    def other(self, half: _Half) -> _Half:
        return self.server if half is self.client else self.client

    def abort(self) -> None:
        self.client.abort()
        self.server.abort()

    def leave(self, side: str) -> None:
        self.left, gone = (self.client, self.server) if side == "client" else (self.server, self.client)
        gone.abort()

    def flush(self) -> None:
        self.client.flush()
        self.server.flush()


class _Half(asyncio.Protocol):
    """One side of a connection: what it receives goes to the other side."""

    def __init__(self, link: Link, opposite: _Half | None = None) -> None:
        self._link = link
        self._accepted = opposite is None
        self._transport: Any = None
        self._waiting: deque[tuple[float, bytes]] = deque()  # (not before, bytes), in their order
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False  # no more comes from here, but what waits is still to go
        self.pair: _Pair | None = None
        self.budget: int | None = None
        self.lost = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if not self._accepted:
            return
        if self._link.refusing:
            self.abort()
        else:
            self._link.dial(self)

    def data_received(self, data: bytes) -> None:
        self._link.bytes += len(data)
        pair = self.pair
        if pair is not None and pair.left is not None:
            return  # the other end is gone and nobody says so
        if pair is None or self._link.frozen or self._waiting or self._link.delay_s:
            self._waiting.append((asyncio.get_running_loop().time() + self._link.delay_s, data))
            self.flush()
        else:
            self._pass_on(pair, data)

    def flush(self) -> None:
        """Pass on what may go by now."""
        pair, loop = self.pair, asyncio.get_running_loop()
        if pair is None or self._link.frozen:
            return
        while self._waiting and not pair.other(self).lost:
            due, data = self._waiting[0]
            if due > loop.time() and self._link.delay_s:
                if self._timer is None:
                    self._timer = loop.call_at(due, self._on_time)
                return
            self._waiting.popleft()
            self._pass_on(pair, data)
        if self._ended:
            pair.other(self).close()

    def _on_time(self) -> None:
        self._timer = None
        self.flush()

    def _pass_on(self, pair: _Pair, data: bytes) -> None:
        to = pair.other(self)
        if self.budget is not None:
            if self.budget <= len(data):
                to.write(data[: self.budget])
                to.close()
                self.abort()
                return
            self.budget -= len(data)
        to.write(data)

    def write(self, data: bytes) -> None:
        if not self.lost:
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        if self.pair is not None and not (source := self.pair.other(self)._transport).is_closing():
            source.pause_reading()

    def resume_writing(self) -> None:
        if self.pair is not None and not (source := self.pair.other(self)._transport).is_closing():
            source.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = self._ended = True
        pair = self.pair
        if pair is None:
            return
        if pair.left is None:
            if error is not None:
                pair.other(self).abort()
            else:
                self.flush()  # closes the other side behind what still waits
        if pair.other(self).lost:
            self._link.pairs.discard(pair)
