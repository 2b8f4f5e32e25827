"""Results in bulk. An upload is spooled while it streams in and answered at once; a worker settles it afterwards.

An upload's way (the same numbers stand at the code):
 1. the first bytes are looked at: a CSV header that we cannot use refuses the upload before anything is stored;
 2. whole records are spooled in chunks as they come; no more than one chunk is held;
 3. when the body has ended its SHA-256 is known: the import is accepted (202), in one transaction with its
    idempotency key. Whatever breaks before that leaves a failed import of which nothing is processed;
 4. a worker takes the import that waited longest, and its next chunk;
 5. the chunk's rows are read, checked and settled, written with their events, counted, and the chunk is deleted:
    one transaction. A chunk that is still there is still owed, so dying anywhere loses and doubles nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime

import structlog

from laurel import telemetry
from laurel.crash_points import reach
from laurel.database import Database, Transaction, is_unavailable
from laurel.ids import uuid7
from laurel_assessment import import_store, store
from laurel_assessment.domain import Finding
from laurel_assessment.import_store import Form, Request
from laurel_assessment.records import CsvRecords, Lines, Record, Splitter
from laurel_assessment.rows import MAX_ROW, Defaults, read_header

log = structlog.get_logger()

CHUNK_ROWS = 1000
CHUNK_BYTES = 256 * 1024
HEARTBEAT_S = 10.0
_ASK_AGAIN_S = 10


def abandoned_after(idle_s: float) -> float:
    """Seconds without a sign of life after which an upload has lost its process.

    An upload that lives is heard of at the latest when a client that may be silent for idle_s is given up.
    """
    return idle_s + 3 * HEARTBEAT_S


class Refused(Exception):
    """An upload is not taken. status: for HTTP; code and text: what is wrong, and the fix."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        findings: list[Finding] | None = None,
        *,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.findings = findings or []
        self.retry_after_s = retry_after_s


class Upload:
    """One body on its way in."""

    def __init__(
        self,
        database: Database,
        tenant_id: str,
        *,
        csv: bool,
        defaults: Defaults,
        key: str | None,
        max_bytes: int,
        idle_s: float,
        answer: Callable[[str], bytes],
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._tenant_id = tenant_id
        self._csv = csv
        self._defaults = defaults
        self._key = key
        self._max_bytes = max_bytes
        self._idle_s = idle_s
        self._answer = answer
        self._clock = clock
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._import_id: str | None = None
        self._seq = 0
        self._pending: list[Record] = []
        self._pending_bytes = 0
        self._heard = 0.0

    async def receive(self, body: AsyncIterator[bytes]) -> bytes:
        """Take the whole body; the answer to send with 202. Raises Refused; nothing is left half done."""
        if self._key is not None:
            async with self._database.transaction([self._tenant_id]) as tx:
                before = await store.answered(tx, self._tenant_id, "import", self._key)
            if before is not None:
                return await self._again(before, self._measured(body))
        try:
            return await self._spool(self._measured(body))
        except BaseException as error:
            # Shielded: a client that goes away cancels us, and the import must still end as failed.
            await asyncio.shield(self._fail(error))
            raise

    async def _measured(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The body's pieces, hashed and counted, none of them late."""
        source = aiter(body)
        while True:
            try:
                async with asyncio.timeout(self._idle_s):
                    piece = await anext(source)
            except StopAsyncIteration:
                return
            except TimeoutError:
                detail = f"nothing came for {self._idle_s:g} s; send the file again"
                raise Refused(408, "upload_timeout", detail) from None
            self._size += len(piece)
            if self._size > self._max_bytes:
                detail = f"the body is larger than {self._max_bytes} bytes; send the file in parts"
                raise Refused(413, "too_large", detail)
            self._sha256.update(piece)
            yield piece

    async def _again(self, before: store.Answered, body: AsyncIterator[bytes]) -> bytes:
        if before.fingerprint is None or before.answer is None:
            raise _in_flight(self._idle_s)
        async for _ in body:
            pass
        if self._fingerprint() != before.fingerprint:
            detail = "this Idempotency-Key was used with another body or other parameters; use a new one"
            raise Refused(422, "idempotency_key_reused", detail)
        return before.answer

    def _fingerprint(self) -> bytes:
        return fingerprint(
            self._sha256.digest(), str(self._csv), self._defaults.achievement_id or "", self._defaults.course_run or ""
        )

    async def _spool(self, body: AsyncIterator[bytes]) -> bytes:
        form, splitter, rest = await self._open(body)  # 1
        request = Request(
            form, self._defaults.achievement_id, self._defaults.course_run, telemetry.current_traceparent()
        )
        await self._keep(splitter.feed(rest), request)
        async for piece in body:  # 2
            await self._keep(splitter.feed(piece), request)
        await self._keep(splitter.finish(), request)
        if self._import_id is None and not self._pending:
            raise _empty()
        return await self._complete(request)  # 3

    async def _open(self, body: AsyncIterator[bytes]) -> tuple[Form, Splitter, bytes]:
        """Read as far as the form is clear."""
        start = b""
        lines = 0
        async for piece in body:
            start += piece
            if len(start) < 3:
                continue  # a byte order mark may be cut in two
            if start.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise Refused(422, "not_utf8", "this is UTF-16; save the file as UTF-8")
            start = start.removeprefix(b"\xef\xbb\xbf")
            if not self._csv:
                return Form(), Lines(), start
            while start[:1] in (b"\n", b"\r"):
                lines += start[:1] == b"\n"
                start = start[1:]
            if b"\n" in start or len(start) > MAX_ROW:
                break
        if not start.strip():
            raise _empty()
        if not self._csv:
            return Form(), Lines(), start
        line, _, rest = start.partition(b"\n")
        header = read_header(line, self._defaults)
        if isinstance(header, list):
            raise Refused(422, "bad_header", f"{header[0].field}: {header[0].detail}", header)
        return Form(header), CsvRecords(header.delimiter, line=lines + 1), rest

    async def _keep(self, records: list[Record], request: Request) -> None:
        for record in records:
            if self._pending and (
                len(self._pending) >= CHUNK_ROWS or self._pending_bytes + len(record.raw) > CHUNK_BYTES
            ):
                await self._flush(request)
            self._pending.append(record)
            self._pending_bytes += len(record.raw)
        now = asyncio.get_running_loop().time()
        if self._import_id is not None and now - self._heard > HEARTBEAT_S:
            self._heard = now
            async with self._database.transaction([self._tenant_id]) as tx:
                await import_store.still_coming(tx, self._import_id)

    async def _flush(self, request: Request) -> None:
        async with self._database.transaction([self._tenant_id]) as tx:
            await self._write(tx, request)
        reach("upload.spooled")

    async def _write(self, tx: Transaction, request: Request) -> str:
        import_id = self._import_id or uuid7()
        if self._import_id is None:
            begun = await import_store.begin(tx, self._tenant_id, import_id, request, key=self._key, now=self._clock())
            if not begun:
                raise _in_flight(self._idle_s)
        if self._pending:
            await self._spooled(import_store.append_chunk(tx, self._tenant_id, import_id, self._seq, self._pending))
        self._import_id = import_id
        self._heard = asyncio.get_running_loop().time()
        self._seq += 1
        self._pending, self._pending_bytes = [], 0
        return import_id

    async def _complete(self, request: Request) -> bytes:
        async with self._database.transaction([self._tenant_id]) as tx:
            import_id = await self._write(tx, request)
            answer = self._answer(import_id)
            await self._spooled(
                import_store.complete(
                    tx,
                    self._tenant_id,
                    import_id,
                    size=self._size,
                    sha256=self._sha256.digest(),
                    key=self._key,
                    fingerprint=self._fingerprint(),
                    answer=answer,
                )
            )
        reach("upload.accepted")
        return answer

    @staticmethod
    async def _spooled(writing: Awaitable[bool]) -> None:
        if not await writing:
            raise Refused(
                409, "upload_interrupted", "this upload was given up because nothing was heard of it for long"
            )

    async def _fail(self, error: BaseException) -> None:
        if self._import_id is None:
            return
        reason = f"{error.code}: {error.detail}" if isinstance(error, Refused) else "upload_interrupted: send it again"
        try:
            async with self._database.transaction([self._tenant_id]) as tx:
                await import_store.fail(tx, self._import_id, reason)
        except Exception as failure:
            if not is_unavailable(failure):
                raise
            # The sweeper will find it.
            log.warning("import left open", import_id=self._import_id, reason=f"{type(failure).__name__}: {failure}")


def _empty() -> Refused:
    return Refused(422, "empty", "there is no row in this body; send at least one")


def _in_flight(idle_s: float) -> Refused:
    detail = (
        "an upload with this Idempotency-Key has begun and has not ended; send yours again when it has. If its "
        f"connection is lost, the key is free again about {abandoned_after(idle_s):g} s after its last byte"
    )
    return Refused(409, "in_flight", detail, retry_after_s=_ASK_AGAIN_S)


def fingerprint(*parts: bytes | str) -> bytes:
    """What two requests with one idempotency key must have in common."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part if isinstance(part, bytes) else part.encode()
        digest.update(len(encoded).to_bytes(4, "big"))
        digest.update(encoded)
    return digest.digest()
