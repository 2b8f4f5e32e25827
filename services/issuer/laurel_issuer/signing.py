"""Steps 2 to 5 of a credential, in processes: build, lint, sign, check. The event loop is never blocked.

A batch is cut into groups that share achievement, issuer and key, and groups into chunks. Signing keys travel sealed;
a process unseals each once and keeps it. A pool whose process died is rebuilt and its chunks are done again: the work
is a pure function of what is handed over. Credentials of one shape come from a template where they can (templates.py).
"""

from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.connection
import os
import re
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import msgspec
import structlog

from laurel import crash_points, watchdog
from laurel.crash_points import reach
from laurel.credential import lint
from laurel.errors import NotNow
from laurel.events import AssessmentPassed
from laurel.loop import collect_rarely
from laurel_issuer.domain import Inconsistent, IssuerProfile, StatusPlace, build_credential, varying
from laurel_issuer.formats import Safe
from laurel_issuer.keyring import SealedKey
from laurel_issuer.templates import Templates, compare

log = structlog.get_logger()

CHUNK = 125  # credentials a task: 20 ms by a template, a fifth of a second the full way; a status list waits no longer
_ATTEMPTS = 3
_START_S = 60.0  # how much longer the first work may take: a process starts and compiles its first template

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Group:
    """What the credentials of one chunk have in common. definition: JSON of the Achievement object.

    securing: how they are secured (credential/securing.py); keys: the key of each way.
    """

    definition: bytes
    validity_days: int | None
    issuer: IssuerProfile
    securing: tuple[str, ...]
    keys: tuple[SealedKey, ...]
    credential_type: str = "OpenBadgeCredential"


class Item(msgspec.Struct, frozen=True, gc=False):
    """One credential to make. passed: JSON of the stored AssessmentPassed event."""

    credential_id: str
    document_url: str
    created: datetime
    passed: bytes
    places: tuple[StatusPlace, ...]


class Made(msgspec.Struct, frozen=True, gc=False):
    """A signed and checked credential: the bytes that are stored, sent and shown."""

    credential_id: str
    body: bytes


class Refused(msgspec.Struct, frozen=True, gc=False):
    """A credential that must not be signed, and why."""

    credential_id: str
    code: str
    detail: str


class Signers:
    """The pool. Use as `async with`; processes start with the first work.

    processes: 0 runs the work in one thread of this process. canary_every: see templates.py.
    """

    def __init__(self, kek: bytes, *, processes: int, canary_every: int = 1024) -> None:
        self._beginning = (kek, canary_every)
        self._processes = processes
        self._pool: Executor | None = None
        self._warm = False  # whether the pool has done something yet
        self._in_flight = asyncio.Semaphore(processes + 1)

    async def __aenter__(self) -> Signers:
        return self

    async def __aexit__(self, *_: object) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True)

    async def make(self, work: Sequence[tuple[Group, Sequence[Item]]]) -> list[Made | Refused]:
        """Build, lint, sign and check (steps 2 to 5). Raises Inconsistent; NotNow when processes keep dying."""
        chunks = [
            (group, list(items[start : start + CHUNK]))
            for group, items in work
            for start in range(0, len(items), CHUNK)
        ]
        running = [asyncio.create_task(self._run(_make_chunk, group, items)) for group, items in chunks]
        try:
            return [made for chunk in await asyncio.gather(*running) for made in chunk]
        finally:  # not a TaskGroup: the engine tells errors apart by their own type
            for one in running:
                one.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def sign_list(self, document: dict[str, Any], way: str, key: SealedKey, created: datetime) -> bytes:
        """Lint, sign and check a status list credential, secured in one way. Raises Inconsistent, NotNow."""
        return await self._run(_sign_list, document, way, key, created)

    async def sign_endorsement(
        self, document: dict[str, Any], securing: tuple[str, ...], keys: tuple[SealedKey, ...], created: datetime
    ) -> bytes:
        """Lint, sign and check an endorsement. Raises lint.LintError, Inconsistent, NotNow."""
        return await self._run(_sign_endorsement, document, securing, keys, created)

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        async with self._in_flight:
            for _ in range(_ATTEMPTS):
                pool = self._pool = self._pool or self._start()
                try:
                    with watchdog.patience(0.0 if self._warm else _START_S):
                        done = await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)
                    self._warm = True
                    return done
                except BrokenProcessPool:
                    log.warning("a signing process died; its work is done again")
                    if self._pool is pool:  # else another chunk has rebuilt it already
                        self._pool = None
                        pool.shutdown(wait=False)
        raise NotNow(f"signing processes died {_ATTEMPTS} times in a row; memory may be short")

    def _start(self) -> Executor:
        self._warm = False
        if self._processes == 0:
            return ThreadPoolExecutor(1, "laurel-signer", _begin_thread, self._beginning)
        return ProcessPoolExecutor(
            self._processes,
            mp_context=multiprocessing.get_context("spawn"),  # a forked asyncio process with threads may deadlock
            initializer=_begin_process,
            initargs=(*self._beginning, crash_points.armed()),
        )


# --- what runs in a signing process -------------------------------------------------------------------------

_local = threading.local()  # the key-encryption key and the templates of this signing thread or process


def _begin_process(kek: bytes, canary_every: int, crash_at: str | None) -> None:
    crash_points.arm(crash_at)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; our parent stops us in order
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _begin_thread(kek, canary_every)
    collect_rarely()


def _die_with_parent() -> None:
    # A parent that was killed cannot stop its processes, and they would wait on its queue for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _begin_thread(kek: bytes, canary_every: int) -> None:
    _local.kek = kek
    _local.templates = Templates(canary_every)


_passed_decoder = msgspec.json.Decoder(AssessmentPassed)


class _Ready(msgspec.Struct, frozen=True, gc=False):
    """A credential that passed lint. full: the same, made the full way, where a template made `linted` and it is a
    canary."""

    item: Item
    linted: lint.Linted
    filled: bool
    full: lint.Linted | None = None


def _make_chunk(group: Group, items: Sequence[Item]) -> list[Made | Refused]:
    # Each step for the whole chunk: its code and its tables then stay in the processor's caches, which saves a fifth.
    definition = msgspec.json.decode(group.definition)
    safe = Safe(group.securing, group.keys, _local.kek)
    keys = tuple(key.for_lint for key in group.keys)
    linted = [_lint(group, definition, item, keys) for item in items]  # 2 3
    reach("signer.linted")
    ready = [one for one in linted if isinstance(one, _Ready)]
    bodies = [safe.secure(one.linted, one.item.created) for one in ready]  # 4
    reach("signer.signed")
    _check(safe, ready, bodies)  # 5
    reach("signer.checked")
    made = iter(bodies)
    return [Made(one.item.credential_id, next(made)) if isinstance(one, _Ready) else one for one in linted]


def _lint(group: Group, definition: dict[str, Any], item: Item, keys: tuple[lint.SigningKey, ...]) -> _Ready | Refused:
    templates: Templates = _local.templates
    passed = _passed_decoder.decode(item.passed)
    values = varying(
        passed,
        document_url=item.document_url,
        created=item.created,
        places=item.places,
        validity_days=group.validity_days,
    )
    key = group.definition, group.issuer, group.credential_type, keys, values.shape
    linted, canary = templates.fill(key, values.values)
    if linted is not None and not canary:
        return _Ready(item, linted, filled=True)
    try:
        document, full = _build(group, definition, item, passed)  # the full way
    except lint.LintError as error:
        if linted is not None:
            raise Inconsistent(f"the template of {item.document_url} took what lint refuses: {error}") from error
        if any(finding.rule == "issuer-key" for finding in error.findings):
            raise Inconsistent(f"a key of {item.document_url} cannot sign: {error}") from error
        return Refused(item.credential_id, "lint_failed", _what_failed(error))
    if linted is None:
        templates.learn(key, document, values)
        return _Ready(item, full, filled=False)
    compare(linted, full, item.document_url)
    return _Ready(item, linted, filled=True, full=full)


def _check(safe: Safe, ready: Sequence[_Ready], bodies: Sequence[bytes]) -> None:
    filled = []
    for one, body in zip(ready, bodies, strict=True):
        url = one.item.document_url
        if one.full is not None and body != safe.secure(one.full, one.item.created):
            raise Inconsistent(f"the template of {url} leads to another signature")
        if one.filled:
            filled.append((one.linted, body, url))
        if one.full is not None or not one.filled:
            safe.check(one.linted, body, url)
    safe.check_filled(filled)


def _build(
    group: Group, definition: dict[str, Any], item: Item, passed: AssessmentPassed
) -> tuple[dict[str, Any], lint.Linted]:
    document = build_credential(
        passed,
        document_url=item.document_url,
        created=item.created,
        definition=definition,
        issuer=group.issuer,
        places=item.places,
        validity_days=group.validity_days,
        credential_type=group.credential_type,
    )
    return document, lint.lint(document, issuer=group.issuer.did, keys=tuple(key.for_lint for key in group.keys))


def _sign_list(document: dict[str, Any], way: str, key: SealedKey, created: datetime) -> bytes:
    try:
        linted = lint.lint(document, profile="statuslist", keys=(key.for_lint,))
    except lint.LintError as error:
        raise Inconsistent(f"our own status list {document['id']} does not pass lint: {_what_failed(error)}") from None
    safe = Safe((way,), (key,), _local.kek)
    body = safe.secure(linted, created)
    safe.check(linted, body, document["id"])
    return body


def _sign_endorsement(
    document: dict[str, Any], securing: tuple[str, ...], keys: tuple[SealedKey, ...], created: datetime
) -> bytes:
    linted = lint.lint(
        document, profile="endorsement", issuer=document["issuer"]["id"], keys=tuple(key.for_lint for key in keys)
    )
    safe = Safe(securing, keys, _local.kek)
    body = safe.secure(linted, created)
    safe.check(linted, body, document["id"])
    return body


def _what_failed(error: lint.LintError) -> str:
    return "; ".join(
        f"{one.rule} at {one.pointer or '/'}: {_told(one)} ({one.fix})"
        for one in error.findings
        if one.level == "error"
    )[:2000]


_PUBLIC = ("/issuer", "/credentialSubject/achievement", "/name")  # what the organisation published itself
_UNMASKED = frozenset(rule.name for rule in lint.RULES if rule.unmasked)
_QUOTED = re.compile(r"(['\"]).*\1", re.DOTALL)  # to the last mark: a value may hold marks itself


def _told(finding: lint.Finding) -> str:
    """The finding's message, without anything that might be the learner's: rules quote values between marks."""
    if finding.pointer.startswith(_PUBLIC):
        return finding.message
    if finding.rule in _UNMASKED:
        return "the value is not told here, because it may be personal; look up the result"
    return _QUOTED.sub("'…'", finding.message)
