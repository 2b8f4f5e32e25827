"""What an issued credential and its status changes lead to: messages, their deliveries, an e-mail. No HTTP here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from laurel import telemetry
from laurel.addresses import is_address
from laurel.crash_points import reach
from laurel.database import Transaction
from laurel.dead_letters import forget
from laurel.envelope import Delivered
from laurel.erasure import alone, alongside, buried, entomb_all
from laurel.errors import NotNow, Reject
from laurel.events import (
    CredentialErased,
    CredentialIssued,
    CredentialMessageChanged,
    CredentialRefreshOffered,
    CredentialStatusChanged,
)
from laurel.security import CannotUnseal, unseal
from laurel.service import Consumer
from laurel.topics import CREDENTIAL
from laurel_notifier import domain, mailbox, store
from laurel_notifier.domain import Contact, Message
from laurel_notifier.queue import Due
from laurel_notifier.store import Email, Held, Subscription

GROUP = "notifier.deliveries"
# So many sealed contacts in one batch, none of which can be opened, mean that our key is wrong and not the events.
_SUSPICIOUS = 10

_NO_ADDRESS = "the address cannot be written to: it is not name@domain"

_contact = msgspec.json.Decoder(Contact)


@dataclass
class Owed:
    """What a batch of events leads to."""

    messages: list[Message] = field(default_factory=list)
    emails: list[Email] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)
    erased: list[CredentialErased] = field(default_factory=list)
    made: dict[UUID, int] = field(default_factory=dict)  # by `save`: the deliveries of each endpoint,
    held: list[Due] = field(default_factory=list)  # and those that are held for `at_once`


class AtOnce(Protocol):
    """A worker of this process that delivers what was just written, so that nobody has to look for it."""

    def hold(self) -> Held:
        """How much it would take."""
        ...

    def accept(self, due: Sequence[Due], made: Mapping[UUID, int]) -> None:
        """Deliver these, which are leased to it. made: all that was written for each endpoint."""
        ...


class Notify:
    """Writes what is owed to partners and learners; workers send it.

    mail: whether this installation sends mail; without it e-mails are kept as `held`. at_once: gets what it has room
    for when the batch is committed.

    A contact that cannot be opened is rejected whole, webhook included: as a dead letter it can be redriven with the
    right key, and neither the learner's e-mail nor the partner's `learner` is lost silently. key_lost: there is no
    right key any more; the webhook goes out without its learner, and the e-mail fails.
    """

    def __init__(
        self, *, contact_key: bytes, base_url: str, mail: bool, at_once: AtOnce, key_lost: bool = False
    ) -> None:
        self._at_once = at_once
        self._key_lost = key_lost
        self._contact_key = contact_key
        self._base_url = base_url
        self._email_state = "pending" if mail else "held"

    async def prepare(self, events: Sequence[Delivered]) -> Owed:
        """Build the messages. Raises Reject for a contact that cannot be opened, NotNow if none of many can."""
        owed = Owed()
        unopened: list[Reject] = []
        opened = 0
        for delivered in events:
            match delivered.event:
                case CredentialIssued() as issued:
                    try:
                        contact = self._open(delivered, issued.contact)
                    except Reject as error:
                        if not self._key_lost or error.code != "contact_unsealable":
                            unopened.append(error)
                            continue
                        contact = None
                        owed.emails.append(_email(delivered, issued, None, "its contact's key is lost"))
                    opened += contact is not None
                    learner = None if contact is None else contact.learner
                    owed.messages.append(
                        domain.issued_message(
                            issued, learner, base_url=self._base_url, traceparent=delivered.traceparent
                        )
                    )
                    if contact is not None and contact.email:
                        wrong = None if is_address(contact.email) else _NO_ADDRESS
                        owed.emails.append(_email(delivered, issued, contact.locale, wrong))
                case CredentialStatusChanged() | CredentialRefreshOffered() | CredentialMessageChanged() as changed:
                    if isinstance(changed, CredentialStatusChanged) and changed.status == "revoked":
                        owed.revoked.append(changed.credential_id)
                    owed.messages.append(
                        domain.status_message(changed, base_url=self._base_url, traceparent=delivered.traceparent)
                    )
                case CredentialErased() as erased:
                    owed.erased.append(erased)
        if len(unopened) >= _SUSPICIOUS and not opened:
            raise NotNow(
                f"none of {len(unopened)} sealed contacts can be opened: is LAUREL_CONTACT_KEY the one that "
                "assessment has, or had when they were sealed? If that is gone for good: LAUREL_CONTACT_KEY_LOST"
            )
        if unopened:
            raise unopened[0]  # the engine takes this one out and comes back with the rest
        return owed

    async def save(self, tx: Transaction, prepared: Owed) -> None:
        """One message an event that anybody wants, one delivery an endpoint, one e-mail a credential."""
        if prepared.erased:
            await alone(tx)
        else:
            await alongside(tx)
        tenants = {one.tenant_id for one in prepared.messages} | {one.tenant_id for one in prepared.erased}
        subscribed = await store.subscriptions(tx, sorted(tenants))  # locks: endpoints before deliveries
        if prepared.erased:
            new = await entomb_all(tx, prepared.erased)
            await store.erase(tx, [(one.credential_id, one.tenant_id) for one in new])
            await forget(tx, [(one.credential_id, one.tenant_id) for one in prepared.erased])  # also what died since
            reach("notify.erased")
        # Of an erased credential nothing is told any more but that it is revoked because of it.
        told = {one.credential_id for one in prepared.messages if one.credential_id is not None}
        gone = await buried(tx, told)  # whoever gets an e-mail is told of in a message, too
        last = {domain.status_message_id(one.credential_id, one.last_version) for one in gone.values()}
        prepared.messages = [
            one for one in prepared.messages if (one.credential_id, one.tenant_id) not in gone or one.message_id in last
        ]
        prepared.emails = [one for one in prepared.emails if (one.credential_id, one.tenant_id) not in gone]
        wanted = {(one.tenant_id, event_type) for one in subscribed.values() for event_type in one.event_types}
        # What nobody subscribes to is not kept: its body names a learner.
        messages = {one.message_id: one for one in prepared.messages if (one.tenant_id, one.event_type) in wanted}
        written = await store.write_messages(tx, list(messages.values()), self._at_once.hold(), list(subscribed))
        reach("notify.written")
        await store.write_emails(tx, prepared.emails, state=self._email_state)
        if prepared.revoked:
            await mailbox.cancel_mails(tx, prepared.revoked)
        telemetry.count("laurel_deliveries_owed_total", sum(written.made.values()))
        prepared.made = written.made
        prepared.held = [
            _due(subscribed[endpoint_id], messages[message_id], delivery_id, lease_until)
            for delivery_id, endpoint_id, lease_until, message_id in written.held
        ]

    def saved(self, prepared: Owed) -> None:
        """What was written is durable: deliver what is held."""
        self._at_once.accept(prepared.held, prepared.made)

    def _open(self, delivered: Delivered, sealed: str | None) -> Contact | None:
        if sealed is None:
            return None
        try:
            return _contact.decode(unseal(self._contact_key, sealed, purpose="contact"))
        except CannotUnseal:
            raise Reject(
                delivered, "contact_unsealable", "the contact was sealed with another LAUREL_CONTACT_KEY or is damaged"
            ) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Reject(
                delivered, "contact_malformed", "the sealed contact is not {learner, email, name, locale}"
            ) from None


def _email(delivered: Delivered, issued: CredentialIssued, locale: str | None, error: str | None) -> Email:
    assert issued.contact is not None
    return Email(
        credential_id=issued.credential_id,
        tenant_id=issued.tenant_id,
        course_run=issued.course_run,
        contact=issued.contact,
        achievement_id=issued.achievement_id,
        achievement_name=issued.achievement_name,
        issuer_name=domain.issuer_name(issued),
        locale=locale or issued.locale,
        valid_until=issued.valid_until,
        issued_at=issued.issued_at,
        traceparent=delivered.traceparent,
        error=error,
    )


def _due(subscription: Subscription, message: Message, delivery_id: UUID, lease_until: datetime) -> Due:
    return Due(
        delivery_id=delivery_id,
        endpoint_id=subscription.endpoint_id,
        lease_until=lease_until,
        url=subscription.url,
        secret=subscription.secret,
        previous_secret=subscription.previous_secret,
        attempt=1,
        retrying_since=None,
        message_id=message.message_id,
        traceparent=message.traceparent,
        body=message.body,
    )


def deliveries_consumer(notify: Notify) -> Consumer[Owed]:
    """The consumer that writes what is owed."""
    return Consumer(group=GROUP, topics=(CREDENTIAL,), handler=notify, saved=notify.saved)
