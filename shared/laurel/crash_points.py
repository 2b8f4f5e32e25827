"""Named places at which a process can be made to die, as if it had been killed there. Off, except in tests.

`reach(point)` stands at every boundary between two steps that a death may fall between, and does nothing unless
`laurel serve` was started with LAUREL_CRASH_AT:

    LAUREL_CRASH_AT=outbox.sent                       die at this point
    LAUREL_CRASH_AT=consumer.saved@issuer.issuance:3  die the third time that this consumer group comes there
    LAUREL_CRASH_AT=file:/run/trap                    do what this file says, whenever it is there; dying removes it

Death is `os._exit`: no `finally`, no rollback, no goodbye to the database, the bus or a mail server. POINTS is the
whole list (docs/crash-points.md). A process whose badges may be real refuses to start armed.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from urllib.parse import urlsplit

from laurel.errors import ConfigurationError

EXIT_CODE = 86  # of a process that died at a point: no other ending of ours has it
VARIABLE = "LAUREL_CRASH_AT"

# What has happened when a process comes there. Those that end in @ are told apart by consumer group or by service.
POINTS = {
    # the consumer engine (service.py)
    "consumer.polled@": "1: a batch is in hand and decoded",
    "consumer.prepared@": "2: prepared; no transaction is open",
    "consumer.saving@": "3: effects, events and dead letters are written and not committed",
    "consumer.saved@": "3: they are committed, the offsets are not",
    "consumer.committed@": "4: the offsets are committed",
    "consumer.rejected@": "a record was refused; the rest of its batch is not yet handled",
    "consumer.drained@": "partitions are to be given up; what was in hand is finished",
    # the redrive of dead letters (redrive.py; asked: dead_letters_api.py)
    "redrive.asked@": "letters are queued, with the record of who asked, and committed; the caller has no answer",
    "redrive.read@": "a letter was read from the queue; nothing is written",
    "redrive.begun@": "that it begins is committed; it is not handled yet",
    "redrive.marked@": "it is marked as redriven, its effects and events are written, and nothing is committed",
    "redrive.settled@": "they are committed; nobody has been told",
    # the relay (outbox.py)
    "outbox.read@": "rows were read",
    "outbox.sent@": "the bus has acknowledged them; the rows are still there",
    "outbox.deleted@": "the rows are deleted",
    # the transports (bus/)
    "bus.postgres.sent": "records were appended; nobody has been told",
    "bus.postgres.joined": "a member has joined its group and owns nothing",
    "bus.postgres.taken": "it owns partitions and has read nothing",
    "bus.postgres.read": "records were read and not handed over",
    "bus.postgres.committed": "offsets were stored; nobody has been told",
    "bus.postgres.released": "partitions were given up",
    "bus.kafka.sent": "records are with the client, perhaps on their way",
    "bus.kafka.acknowledged": "the brokers have acknowledged them; nobody has been told",
    "bus.kafka.joined": "a member has its partitions and has read nothing",
    "bus.kafka.read": "records were read and not handed over",
    "bus.kafka.committed": "offsets were stored; nobody has been told",
    "bus.kafka.released": "partitions are about to be given up, after the drain",
    # assessment
    "result.recorded": "a result and its event are committed; the caller has no answer",
    "erasure.recording": "a learner is erased from the rows, with the facts for others, and not committed",
    "erasure.recorded": "it is committed; the caller has no answer",
    "upload.spooled": "a chunk of an upload is stored; the upload is not complete",
    "upload.accepted": "an upload is complete and owed; the caller has no answer",
    "chunk.taken": "a worker has locked an owed chunk",
    "chunk.recorded": "its results and events are written and not committed",
    "chunk.settling": "it is deleted and counted, and not committed",
    "chunk.settled": "it is committed",
    # issuer
    "issuance.reserving": "1: intents are written and not committed",
    "issuance.reserved": "1: intents are committed; nothing is signed",
    "issuance.keys_made": "keys of a new kind are made; the batch is not yet reserved with them",
    "issuance.finishing": "6: credentials are written; their events are not, and nothing is committed",
    "issuance.erasing": "6: credentials of erased learners are revoked and emptied; nothing is committed",
    "signer.linted": "2, 3: in a signing process, before anything is signed",
    "signer.signed": "4: in a signing process, before our own signature is checked",
    "signer.checked": "5: in a signing process, before the result is handed back",
    "list.locked": "a status list is locked and its rows are read",
    "list.signed": "its next version is signed and not stored",
    "list.stored": "it is stored and not committed",
    "list.published": "it is committed",
    "parked.found": "parked events are ready to be issued",
    "parked.issued": "they went through the engine; their rows were not looked at again",
    "status.changing": "a change of status and its event are written and not committed",
    "status.changed": "it is committed; the caller has no answer",
    "access.made": "an API key is committed, with its event; its only copy is in the answer, which nobody has",
    "access.rotated": "another secret of a key is committed, with its event; nobody has the secret",
    "access.revoked": "a key is revoked, with its event, and that is committed; the caller has no answer",
    "access.token_key_made": "a key for access tokens is committed, with its event; no token is signed with it",
    # notifier
    "notify.written": "messages and deliveries are written; e-mails are not, and nothing is committed",
    "notify.erased": "messages and e-mails of erased learners are emptied; nothing is committed",
    "delivery.leased": "deliveries are leased; nothing is sent",
    "delivery.posted": "an endpoint has answered; nothing is written",
    "delivery.settling": "outcomes are written and not committed",
    "delivery.settled": "outcomes are committed",
    "mail.taken": "mails are marked as being sent; the server has heard nothing",
    "mail.offered": "the server has taken sender and recipient, and no content",
    "mail.handed_over": "the server has the mail; nothing is written",
    "mail.settling": "outcomes are written and not committed",
    "mail.settled": "outcomes are committed",
    # verifier
    "index.erased": "credentials of erased learners are out of the index; nothing is committed",
    "index.written": "credentials are indexed; statuses are not applied, and nothing is committed",
}


class _Trap:
    """Where to die. `text`: what LAUREL_CRASH_AT says, a file's name included."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._file = Path(text.removeprefix("file:")) if text.startswith("file:") else None
        self._said = "" if self._file else text
        self._left = 0 if self._file else _parse(text)[1]

    def reach(self, point: str, where: str) -> None:
        if self._file is not None:
            try:
                said = self._file.read_text().strip()
            except FileNotFoundError:
                said = ""
            if said != self._said:
                self._said, self._left = said, _parse(said)[1] if said else 0
        if not self._said or _parse(self._said)[0] not in (point, f"{point}@{where}"):
            return
        self._left -= 1
        if self._left > 0:
            return
        if self._file is not None:
            try:
                self._file.unlink()
            except FileNotFoundError:
                return  # another process, or thread, is dying for it
        os.write(2, f"laurel: dies at crash point {self._said}\n".encode())
        os._exit(EXIT_CODE)


_trap: _Trap | None = None


def reach(point: str, where: str = "") -> None:
    """Say that this point of POINTS is reached. where: the consumer group or service, for those that end in @."""
    if _trap is not None:
        _trap.reach(point, where)


def arm(text: str | None) -> None:
    """Die where `text` says (see above); None: nowhere. Raises ConfigurationError for what names no point."""
    global _trap
    if text and not text.startswith("file:"):
        _parse(text)
    _trap = _Trap(text) if text else None


def armed() -> str | None:
    """What this process was armed with: for the processes that it starts."""
    return None if _trap is None else _trap.text


def arm_from_environment(public_url: str) -> bool:
    """Arm as LAUREL_CRASH_AT says; whether it says anything. Raises ConfigurationError where badges may be real.

    They may be, unless the public URL's host is this machine or a name that is reserved for examples and tests
    (RFC 2606 §2, §3; RFC 6761 §6): an armed process dies on purpose, and nobody's installation should.
    """
    text = os.environ.get(VARIABLE, "")
    if text and not _is_reserved(urlsplit(public_url).hostname or ""):
        raise ConfigurationError(
            f"{VARIABLE}: this makes the process die on purpose, for tests; with LAUREL_PUBLIC_URL={public_url} it "
            "could be real badges that wait for it. Unset it, or test under a name of example.org"
        )
    arm(text or None)
    return bool(text)


def _parse(text: str) -> tuple[str, int]:
    """The point, with its @where if it has one, and the number of the hit."""
    point, _, hit = text.partition(":")
    name, at, _ = point.partition("@")
    if (name not in POINTS and f"{name}@" not in POINTS) or (at and f"{name}@" not in POINTS):
        raise ConfigurationError(f"{VARIABLE}: there is no crash point {point!r}; laurel/crash_points.py has the list")
    if hit and (not hit.isdecimal() or int(hit) < 1):
        raise ConfigurationError(f"{VARIABLE}: {hit!r} is not the number of a hit, counted from 1")
    return point, int(hit or 1)


def _is_reserved(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        labels = host.lower().rstrip(".").split(".")
    return labels[-1] in ("localhost", "test", "example", "invalid") or (
        len(labels) > 1 and labels[-2] == "example" and labels[-1] in ("org", "com", "net")
    )
