"""The e-mail worker: one mail a credential to its learner, over SMTP.

A mail that the server refuses for now (4xx), or that could not be handed over at all, is tried again with a growing
pause for three days; one that it refuses for good (5xx to the recipient or the content) has failed. If the connection
breaks after the content began to flow, nobody knows: see mailbox.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote, urlsplit

import aiosmtplib
import asyncpg
import msgspec
import structlog
from aiosmtplib import SMTP
from opentelemetry.trace import SpanKind

from laurel import telemetry, watchdog
from laurel.addresses import is_address
from laurel.crash_points import reach
from laurel.database import UNAVAILABLE, Database
from laurel.errors import ConfigurationError
from laurel.security import CannotUnseal, unseal
from laurel.waiting import Backoff, first_of
from laurel_notifier import domain, mailbox
from laurel_notifier.domain import Contact
from laurel_notifier.mail_text import Letters
from laurel_notifier.mailbox import Mail, Sent
from laurel_notifier.store import EMAILS_CHANNEL

log = structlog.get_logger()

_BATCH = 10  # mails a connection takes at a time: as many may be uncertain when a process is killed
_HOLD = timedelta(minutes=15)  # more than a batch can take with every step at its deadline
_STEP_S = 20.0
_STEPS = 8  # to connect, TLS, EHLO, to log in, MAIL, RCPT, DATA, RSET
_POLL_S = 1.0
_SWEEP_S = 5.0

_contact = msgspec.json.Decoder(Contact)
_TROUBLE = (aiosmtplib.SMTPException, OSError, TimeoutError)


@dataclass(frozen=True)
class MailServer:
    """Where mail is handed over."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    start_tls: bool | None = None

    @classmethod
    def parse(cls, url: str) -> MailServer:
        """From LAUREL_SMTP_URL: smtps:// (TLS from the start), smtp+starttls:// (TLS demanded), smtp:// (TLS if it is
        offered; demanded where there is a password). Raises ConfigurationError."""
        parts = urlsplit(url)
        ports = {"smtps": 465, "smtp+starttls": 587, "smtp": 25}
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in ports or not parts.hostname or port == 0:
            raise ConfigurationError(
                "LAUREL_SMTP_URL must look like smtps://user:password@host, smtp+starttls://user:password@host:587 or "
                "smtp://host:25"
            )
        username = unquote(parts.username) if parts.username else None
        start_tls = None if parts.scheme == "smtp" and username is None else True
        return cls(
            host=parts.hostname,
            port=port or ports[parts.scheme],
            username=username,
            password=unquote(parts.password) if parts.password else None,
            tls=parts.scheme == "smtps",
            start_tls=False if parts.scheme == "smtps" else start_tls,
        )

    def connection(self, *, local_hostname: str) -> SMTP:
        """A client that is not connected yet."""
        return SMTP(
            hostname=self.host, port=self.port, username=self.username, password=self.password, use_tls=self.tls,
            start_tls=self.start_tls, timeout=_STEP_S, local_hostname=local_hostname,
        )  # fmt: skip


class MailWorker:
    """Sends the e-mails that are due. Any number of them may run. key: opens the contacts."""

    def __init__(
        self,
        database: Database,
        server: MailServer,
        letters: Letters,
        *,
        key: bytes,
        connections: int = 4,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        luck: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._server = server
        self._letters = letters
        self._key = key
        self._clock = clock
        self._luck = luck
        self._id = uuid.uuid4()
        self._connections = [server.connection(local_hostname=letters.domain) for _ in range(connections)]
        self._wake = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop`."""
        backoff = Backoff()
        try:
            while not stop.is_set():
                try:
                    async with self._database.session() as connection:
                        # Held as long as we live: by it others tell our mails from those of the dead.
                        await mailbox.lock_worker(connection, self._id)
                        await connection.add_listener(EMAILS_CHANNEL, lambda *_: self._wake.set())
                        backoff.worked()
                        await self._work(connection, stop)
                except UNAVAILABLE as error:
                    log.warning("e-mails wait", reason=f"{type(error).__name__}: {error}", seconds=backoff.seconds)
                    await backoff.wait(stop)
        finally:
            for client in self._connections:
                client.close()

    async def _work(self, connection: asyncpg.Connection[asyncpg.Record], stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        async with self._database.transaction() as tx:
            await mailbox.release_held(tx)
        sweep_at = 0.0
        while not stop.is_set() and not connection.is_closed():
            self._wake.clear()
            if loop.time() >= sweep_at:
                await self._sweep()
                sweep_at = loop.time() + _SWEEP_S
            if not await self.send_due(stop):
                await first_of(self._wake, stop, seconds=_POLL_S)

    async def _sweep(self) -> None:
        async with self._database.transaction() as tx:
            uncertain = await mailbox.mark_uncertain(tx)
        if uncertain:
            log.warning("e-mails may or may not have been sent; ask for them again to be sure", emails=uncertain)
            telemetry.count("laurel_emails_total", uncertain, outcome="uncertain")

    async def send_due(self, stop: asyncio.Event) -> int:
        """Take what is due and send it; returns how many were taken."""
        async with self._database.transaction() as tx:
            mails = await mailbox.take_mails(
                tx, worker=self._id, hold=_HOLD, limit=_BATCH * len(self._connections)
            )  # fmt: skip
        if mails:
            reach("mail.taken")
        lots = [mails[start :: len(self._connections)] for start in range(len(self._connections))]
        await asyncio.gather(
            *(self._send_lot(client, lot, stop) for client, lot in zip(self._connections, lots, strict=True) if lot)
        )
        return len(mails)

    async def _send_lot(self, client: SMTP, mails: Sequence[Mail], stop: asyncio.Event) -> None:
        outcomes: list[Sent] = []
        unsent = [one.credential_id for one in mails]
        try:
            for mail in mails:
                if stop.is_set():
                    break
                with watchdog.patience(_STEPS * _STEP_S):  # a slow mail server is not a loop that stands still
                    outcome = await self._send(client, mail)
                outcomes.append(outcome)
                unsent.remove(mail.credential_id)
        finally:
            # Also when the loop was cancelled: a mail in the middle stays `sending`, and will be uncertain.
            await asyncio.shield(self._write_down(outcomes, unsent if stop.is_set() else []))

    async def _write_down(self, outcomes: Sequence[Sent], unsent: Sequence[str]) -> None:
        # What was sent must not end as `uncertain` because the database was away for a moment: half a minute of tries.
        for pause in (0.2, 0.5, 1.0, 3.0, 5.0, 10.0, 10.0, None):
            try:
                async with self._database.transaction() as tx:
                    await mailbox.settle_mails(tx, self._id, outcomes)
                    await mailbox.give_back(tx, self._id, unsent)
                    reach("mail.settling")
                reach("mail.settled")
                break
            except UNAVAILABLE:
                if pause is None:
                    raise
                await asyncio.sleep(pause)
        for state in ("sent", "pending", "failed", "uncertain"):
            if number := sum(one.state == state for one in outcomes):
                telemetry.count("laurel_emails_total", number, outcome=state)

    async def _send(self, client: SMTP, mail: Mail) -> Sent:
        attributes = {"server.address": self._server.host, "laurel.credential_id": mail.credential_id}
        with telemetry.span("send e-mail", parent=mail.traceparent, kind=SpanKind.CLIENT, attributes=attributes):
            try:
                contact = _contact.decode(unseal(self._key, mail.contact, purpose="contact"))
            except (CannotUnseal, msgspec.DecodeError):
                return self._later(mail, "the contact cannot be opened; LAUREL_CONTACT_KEY has changed")
            address = contact.email or ""
            if not is_address(address):
                return Sent(mail.credential_id, "failed", self._clock(), "the address cannot be written to")
            letter = self._letters.letter(
                credential_id=mail.credential_id, to=address, name=contact.name,
                achievement_name=mail.achievement_name, issuer_name=mail.issuer_name,
                locale=contact.locale or mail.locale, valid_until=mail.valid_until, now=self._clock(),
            )  # fmt: skip
            return await self._hand_over(client, mail, address, letter)

    async def _hand_over(self, client: SMTP, mail: Mail, address: str, letter: bytes) -> Sent:
        try:
            if not client.is_connected:
                await client.connect()
            if client.is_ehlo_or_helo_needed:
                await client.ehlo()
            options, encoding = [], "ascii"
            if not address.isascii():
                if not client.supports_extension("smtputf8"):
                    error = "the mail server does not take addresses outside of ASCII (SMTPUTF8)"
                    return Sent(mail.credential_id, "failed", self._clock(), error)
                options, encoding = ["SMTPUTF8"], "utf-8"
            await client.mail(self._letters.sender, options=options, encoding=encoding)
            await client.rcpt(address, encoding=encoding)
        except aiosmtplib.SMTPRecipientRefused as refused:
            await _reset(client)
            return self._refused(mail, refused.code, "recipient")
        except (*_TROUBLE, ValueError) as trouble:
            client.close()
            return self._later(mail, f"the mail server could not be used: {_short(trouble)}")
        reach("mail.offered")
        try:
            await client.data(letter)
            reach("mail.handed_over")
        except aiosmtplib.SMTPDataError as refused:
            await _reset(client)
            return self._refused(mail, refused.code, "content")
        except _TROUBLE as trouble:
            client.close()
            error = f"the connection broke while it was handed over ({type(trouble).__name__}); it may have arrived"
            return Sent(mail.credential_id, "uncertain", self._clock(), error)
        return Sent(mail.credential_id, "sent", self._clock())

    def _refused(self, mail: Mail, code: int, what: str) -> Sent:
        # The server's own words may quote the address: only its code is kept.
        error = f"the mail server refused the {what} with {code}"
        if 500 <= code < 600:
            return Sent(mail.credential_id, "failed", self._clock(), error)
        return self._later(mail, error)

    def _later(self, mail: Mail, error: str) -> Sent:
        # By the database's clock: ours may be wrong, and a mail would be given up for that.
        verdict = domain.decide(
            domain.Answer(None, error), attempt=mail.attempt, retrying_since=mail.created_at, now=mail.taken_at,
            luck=max(self._luck(), 0.1),
        )  # fmt: skip
        state: mailbox.MailState = "failed" if verdict.state == "failed" else "pending"
        return Sent(mail.credential_id, state, verdict.next_attempt_at, verdict.reason or error)


async def _reset(client: SMTP) -> None:
    with contextlib.suppress(*_TROUBLE):
        await client.rset()
        return
    client.close()


def _short(trouble: BaseException) -> str:
    code = getattr(trouble, "code", None)
    return f"{type(trouble).__name__} {code}" if code is not None else type(trouble).__name__
