"""Canonicalisation, schema and signature of other people's documents, in processes that can be killed.

A document that is a few kilobytes long can keep RDFC-1.0 busy for years (a poison graph), and no Python timeout stops
native code. So a job goes to a process of its own, and a process that is not done in time is killed and replaced: the
poison costs its own request and nobody else's. The processes see no settings, no secrets and no database.

A worker is two processes: a keeper that has imported everything, and the child that it forks to do the jobs. A child
that its limits have killed is replaced by another fork within milliseconds; a new interpreter would take a second.

There are two lanes. Every document begins in the quick one, where it may take `_QUICK` seconds of computing: nearly
all are done in a fraction of that. One that is not begins again in the slow lane, with the full limit and with others
of its kind, at a lower priority. So a crowd of poisons waits for itself, while good documents pass.

A document that was too much is remembered for a minute: whoever sends it again gets the answer without the work.

A frame on the pipes is its length (4 bytes, big-endian) and msgpack: one `Job` in, one `Findings` out. In front of an
answer stands one byte: whether it is one, the name of an error that nobody foresaw, or the signal that ended the child.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import resource
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec
import structlog

from laurel import telemetry
from laurel.errors import LaurelError
from laurel_verifier.memory import Memory

if TYPE_CHECKING:
    from laurel.credential.jsonld import Statements

log = structlog.get_logger()

_LENGTH = struct.Struct(">I")
_MAX_FRAME = 8 << 20
_ANSWERED, _BROKEN, _DIED = b"+", b"!", b"-"
_PATIENCE = 3  # how many full limits a document waits for a free process, in both lanes together
_QUICK = 0.2  # seconds of processor time, whatever else the machine does; a badge takes a hundredth
_NICE = 10  # what is slow gives way to what is quick
_LATE_S = 2.0  # after its limit: by then a child has ended itself, unless it cannot even do that
_REMEMBERED, _REMEMBERED_S = 4096, 60.0  # documents that were too much; for a minute, as the machine may have been busy


class Job(msgspec.Struct, frozen=True):
    """document: UTF-8 JSON. keys: for each of its proofs the public Multikey that it must verify under; "" for none.

    schema: whether it is held against those of the schemas that it names that Laurel has.
    purpose: the proofPurpose that its proofs must have. challenge, domain: those that they must have, if any.
    """

    document: bytes
    keys: tuple[str, ...]
    schema: bool
    now: datetime
    purpose: str = "assertionMethod"
    challenge: str | None = None
    domain: tuple[str, ...] | None = None


class ProofFinding(msgspec.Struct, frozen=True):
    """What became of one proof. reason, where not ok: a laurel.credential.proofs.ProofError code."""

    ok: bool
    reason: str = ""
    detail: str = ""


class Findings(msgspec.Struct, frozen=True):
    """context: "" or why the words of the document cannot be trusted, and where; schema: "pointer: message" lines."""

    context_code: str = ""
    context_detail: str = ""
    context_pointer: str = ""
    schema: tuple[str, ...] = ()
    proofs: tuple[ProofFinding, ...] = ()


class NotExamined(LaurelError):
    """There are no findings. code: stable."""

    code: str


class SandboxLimit(NotExamined):
    """The document took more time or memory than one document may. Its process is gone."""

    code = "limit_exceeded"


class SandboxBusy(NotExamined):
    """No process became free in time."""

    code = "busy"


class SandboxFault(NotExamined):
    """The check itself broke down over the document: a mistake of ours, which says nothing about the document."""

    code = "check_broke_down"


class TooSlow(LaurelError):
    """The document took more time than its lane allows. Its process is gone."""


class TooLarge(LaurelError):
    """The document took more memory than one document may. Its process is gone."""


class Sandbox:
    """Two lanes of `processes` workers each, started when first needed. An async context manager; leaving kills them.

    seconds: how long one document may take. memory: address space of a worker in bytes. module: whose `main` a worker
    runs; see `main` below.
    """

    def __init__(self, *, processes: int, seconds: float, memory: int, module: str = "laurel_verifier.sandbox") -> None:
        self._seconds = seconds
        self._quick = Lane(processes, seconds, memory, module, computing=_QUICK)
        self._slow = Lane(processes, seconds, memory, module, nice=_NICE)
        self._poisons: Memory[bytes, str] = Memory(_REMEMBERED)

    async def __aenter__(self) -> Sandbox:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._quick.close()
        await self._slow.close()

    async def examine(self, job: Job) -> Findings:
        """Run one job. Raises NotExamined."""
        costs = job.document + "".join(job.keys).encode()  # what the work depends on
        return msgspec.msgpack.decode(await self.exchange(msgspec.msgpack.encode(job), costs), type=Findings)

    async def exchange(self, frame: bytes, costs: bytes | None = None) -> bytes:
        """One frame to a worker, its answer back. Raises SandboxLimit, SandboxBusy, SandboxFault.

        costs: equal for frames that take equally long; None: the frame.
        """
        digest = hashlib.sha256(frame if costs is None else costs).digest()
        if (limit := self._poisons.get(digest)) is not None:
            telemetry.count("laurel_sandbox_killed_total", reason="remembered")
            raise SandboxLimit(limit)
        deadline = asyncio.get_running_loop().time() + _PATIENCE * self._seconds
        try:
            try:
                return await self._quick.exchange(frame, deadline)
            except TooSlow:
                telemetry.count("laurel_sandbox_killed_total", reason="quick")
            return await self._slow.exchange(frame, deadline)
        except TooSlow:
            telemetry.count("laurel_sandbox_killed_total", reason="time")
            log.warning("a document took too long and its process was killed", seconds=self._seconds)
            limit = f"it took more than {self._seconds:g} s to canonicalise"
        except TooLarge:
            telemetry.count("laurel_sandbox_killed_total", reason="died")
            log.warning("a checking process died over a document")
            limit = "its process died, as under what takes more memory than one document may"
        self._poisons.put(digest, limit, _REMEMBERED_S)
        raise SandboxLimit(limit)


class _ChildDied(Exception):
    """signal: what ended it; 0: its own hand, as after a MemoryError."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


class Lane:
    """Some processes; whoever waits for one is served in the order of coming.

    computing: seconds of processor time for one document; 0: as many as `seconds` on the clock allow.
    """

    def __init__(
        self, processes: int, seconds: float, memory: int, module: str, *, computing: float = 0.0, nice: int = 0
    ) -> None:
        self._module = module
        self._seconds = seconds
        self._memory = memory
        self._computing = computing
        self._nice = nice
        self._free = asyncio.Semaphore(processes)
        self._idle: list[asyncio.subprocess.Process] = []
        self._all: set[asyncio.subprocess.Process] = set()

    async def close(self) -> None:
        """Kill the processes."""
        for process in list(self._all):
            await self._end(process)

    async def exchange(self, frame: bytes, deadline: float) -> bytes:
        """As `Sandbox.exchange`, or TooSlow, TooLarge.

        deadline: how long, by the loop's clock, a free process is waited for.
        """
        try:
            async with asyncio.timeout_at(deadline):
                await self._free.acquire()
        except TimeoutError:
            raise SandboxBusy("all checking processes are busy; try again in a moment") from None
        try:
            process = self._idle.pop() if self._idle else await self._start()
            done = False
            try:
                answer = await self._exchange(process, frame)
                done = True
                return answer
            except _ChildDied as died:
                done = True  # the keeper has forked another already
                if died.signal in (signal.SIGPROF, signal.SIGALRM):
                    raise TooSlow(f"signal {died.signal}") from None
                raise TooLarge(f"signal {died.signal}") from None
            except TimeoutError:
                raise TooSlow(f"more than {self._seconds:g} s") from None
            except (asyncio.IncompleteReadError, ConnectionError, BrokenPipeError):
                raise SandboxBusy("the process that was checking it is gone; try again in a moment") from None
            finally:
                # A process that still works on the last job (a timeout, a caller that gave up) cannot take another.
                if done:
                    self._idle.append(process)
                else:
                    await self._end(process)
        finally:
            self._free.release()

    async def _exchange(self, process: asyncio.subprocess.Process, frame: bytes) -> bytes:
        assert process.stdin is not None
        assert process.stdout is not None
        async with asyncio.timeout(self._seconds + _LATE_S):
            process.stdin.write(_LENGTH.pack(len(frame)) + frame)
            await process.stdin.drain()
            (length,) = _LENGTH.unpack(await process.stdout.readexactly(_LENGTH.size))
            answer = await process.stdout.readexactly(length)
        if answer[:1] == _DIED:
            raise _ChildDied(answer[1])
        if answer[:1] != _ANSWERED:
            name = answer[1:].decode()
            log.error("a check broke down over a document", error=name)
            raise SandboxFault(f"the check broke down ({name}); this is a mistake of Laurel's, not of the document")
        return answer[1:]

    async def _start(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self._module, str(self._memory), str(self._seconds), str(self._computing),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_MAX_FRAME, start_new_session=True,
            env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        )  # fmt: skip
        self._all.add(process)
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the latter where we run at a lower one
            os.setpriority(os.PRIO_PROCESS, process.pid, self._nice)
        assert process.stdout is not None
        try:
            async with asyncio.timeout(30.0):  # importing is not the document's fault: it does not count
                await process.stdout.readexactly(1)
        except BaseException:
            await self._end(process)
            raise
        return process

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        self._all.discard(process)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the keeper and its child
        if process.stdin is not None:
            process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5.0):
                await process.wait()


# --- inside the process -----------------------------------------------------------------------------------------


def examine(job: Job) -> Findings:
    """One document's words, schema and proofs. Slow or deadly for hostile documents: for `Sandbox` and for tests."""
    from laurel.credential import contexts, jsonld, proofs
    from laurel_verifier import domain

    document: dict[str, Any] = json.loads(job.document)
    statements = jsonld.Statements(proofs.unsecured(document))
    code = detail = place = ""
    try:
        _ = statements.nquads
    except contexts.UnknownContext as error:
        code, detail, place = "unknown_context", str(error), domain.context_place(document, error.url)
    except jsonld.UnsafeDocument as error:
        code, detail, place = "unsafe_document", str(error), error.pointer
    schema = _schema_findings(document) if job.schema else ()
    return Findings(
        code, detail[:600], place if len(place) <= 600 else "", schema, _proof_findings(document, job, statements)
    )


def _proof_findings(document: dict[str, Any], job: Job, statements: Statements) -> tuple[ProofFinding, ...]:
    from laurel.credential import proof_sets, proofs

    keys = {
        proof["verificationMethod"]: key
        for proof, key in zip(proofs.proofs_of(document), job.keys, strict=True)
        if key and isinstance(proof, dict) and isinstance(proof.get("verificationMethod"), str)
    }

    def resolve(method: str) -> str:
        if method not in keys:
            raise proofs.ProofError("no_key", "the key that it names was not found")
        return keys[method]

    results = proof_sets.verify_proofs(
        document,
        resolve,
        purpose=job.purpose,
        now=job.now,
        challenge=job.challenge,
        domain=job.domain,
        statements=statements,
    )
    return tuple(ProofFinding(one.ok, one.reason or "", one.detail[:600]) for one in results)


def _schema_findings(document: dict[str, Any]) -> tuple[str, ...]:
    from laurel.credential.schema import open_badge_findings
    from laurel_verifier.domain import named_schemas

    entries = document.get("credentialStatus")
    if isinstance(entries, list) and entries:
        # VC Data Model 2.0 §4.10 allows several entries; the schema of 1EdTech knows one.
        document = {**document, "credentialStatus": entries[0]}
    schemas, _ = named_schemas(document)
    found = (finding for url in schemas for finding in open_badge_findings(document, url))
    return tuple(f"{one.pointer or '/'}: {one.message}"[:400] for one in found)


def examined(frame: bytes) -> bytes:
    """`examine`, from an encoded Job to encoded Findings."""
    return msgspec.msgpack.encode(examine(msgspec.msgpack.decode(frame, type=Job)))


def _serve(
    source: BinaryIO, sink: BinaryIO, seconds: float, computing: float, answer: Callable[[bytes], bytes]
) -> None:
    """The child: one frame after the other, each under its limits."""
    while header := source.read(_LENGTH.size):
        (length,) = _LENGTH.unpack(header)
        question = source.read(length)
        signal.setitimer(signal.ITIMER_REAL, seconds)  # at its end SIGALRM kills, whoever is still there to see it
        signal.setitimer(signal.ITIMER_PROF, computing)  # at its end SIGPROF kills; 0 sets none
        try:
            frame = _ANSWERED + answer(question)
        except MemoryError:  # its limit: nothing that this process says now can be relied on
            os._exit(1)
        except Exception as error:  # noqa: BLE001 - told to the parent, which says whose mistake it is
            traceback.print_exc()
            frame = _BROKEN + type(error).__name__.encode()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _write(sink, frame)


def _write(sink: BinaryIO, frame: bytes) -> None:
    sink.write(_LENGTH.pack(len(frame)) + frame)
    sink.flush()


def _keep(source: BinaryIO, sink: BinaryIO, serve: Callable[[], None]) -> None:
    """The keeper: fork a child, and another one whenever its limits have killed it. Returns when the questions end.

    A question is written when the one before it is answered, so a child that dies takes no other one along.
    """
    while True:
        child = os.fork()
        if child == 0:
            serve()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            return
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        if number == signal.SIGKILL:
            return  # nobody here sends it: the machine has run out of memory, or somebody wants an end
        _write(sink, _DIED + bytes([number]))


def main(answer: Callable[[bytes], bytes] = examined) -> None:
    """The worker process: argv is the address space in bytes, the seconds of one job and those of processor time.

    answer: frame → frame.
    """
    from laurel.credential import contexts

    memory, seconds, computing = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at a terminal is the parent's to answer
    sys.setrecursionlimit(4000)
    # Compiled before the first job, so that it is not the document's time.
    schemas = [{"id": url} for url in (*contexts.manifest("schemas"), contexts.ENDORSEMENT_SCHEMA)]
    first = {"@context": contexts.CREDENTIALS_V2, "id": "urn:x:y", "credentialSchema": schemas}
    examine(Job(json.dumps(first).encode(), (), True, datetime.now(UTC)))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sink.write(b"\0")
    sink.flush()
    _keep(source, sink, lambda: _serve(source, sink, seconds, computing, answer))


if __name__ == "__main__":
    main()
