"""What partners and learners are told, when, and what follows from their servers' answers. Pure: time, randomness and
keys are arguments."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from laurel.credential import jose
from laurel.events import (
    CredentialIssued,
    CredentialMessageChanged,
    CredentialRefreshOffered,
    CredentialStatusChanged,
)

StatusEvent = CredentialStatusChanged | CredentialRefreshOffered | CredentialMessageChanged

EVENT_TYPES: tuple[str, ...] = (
    "credential.issued", "credential.revoked", "credential.suspended", "credential.reinstated",
    "credential.refresh_offered", "credential.message_changed",
)  # fmt: skip
TEST_EVENT = "endpoint.test"
_STATUS_EVENTS = {
    "revoked": "credential.revoked", "suspended": "credential.suspended", "active": "credential.reinstated",
}  # fmt: skip

SECRET_BYTES = 32  # Standard Webhooks: between 24 and 64
ROTATION_OVERLAP = timedelta(hours=24)

GIVE_UP_AFTER = timedelta(days=3)
FIRST_DELAY_S = 5.0
LONGEST_DELAY_S = 86_400.0


# --- messages -----------------------------------------------------------------------------------------------


class Message(msgspec.Struct, frozen=True, gc=False):
    """What every endpoint that subscribes to `event_type` gets: the same bytes under the same webhook-id."""

    message_id: str
    tenant_id: str
    event_type: str
    credential_id: str | None
    course_run: str | None
    traceparent: str | None
    body: bytes


class Contact(msgspec.Struct, frozen=True):
    """What assessment seals for the notifier alone."""

    learner: str
    email: str | None = None
    name: str | None = None
    locale: str | None = None


def issued_message(event: CredentialIssued, learner: str | None, *, base_url: str, traceparent: str | None) -> Message:
    """The message of a new credential. The signed document goes in byte for byte, a token as a JSON string."""
    data = {
        "credential_id": event.credential_id,
        "credential_url": credential_url(base_url, event.credential_id),
        "achievement_id": event.achievement_id,
        "achievement_name": event.achievement_name,
        "course_run": event.course_run,
        "learner": learner,
        "issued_at": rfc3339(event.issued_at),
        "valid_until": None if event.valid_until is None else rfc3339(event.valid_until),
        "credential": event.document,
    }
    kind = "credential.issued"
    message_id = f"{message_prefix(event.credential_id)}issued"
    body = _body(kind, event.issued_at, data)
    return Message(message_id, event.tenant_id, kind, event.credential_id, event.course_run, traceparent, body)


def status_message(event: StatusEvent, *, base_url: str, traceparent: str | None) -> Message:
    """The message of a change of any kind. Versions of one credential order its changes, whatever their kind."""
    told: dict[str, Any]
    match event:
        case CredentialStatusChanged():
            kind, told = _STATUS_EVENTS[event.status], {"status": event.status}
        case CredentialRefreshOffered():
            kind, told = "credential.refresh_offered", {}
        case CredentialMessageChanged():
            kind, told = "credential.message_changed", {"value": event.value, "message": event.message}
    data = {
        "credential_id": event.credential_id,
        "credential_url": credential_url(base_url, event.credential_id),
        **told,
        "reason": event.reason,
        "changed_at": rfc3339(event.changed_at),
        "version": event.version,
    }
    message_id = status_message_id(event.credential_id, event.version)
    body = _body(kind, event.changed_at, data)
    return Message(message_id, event.tenant_id, kind, event.credential_id, None, traceparent, body)


def status_message_id(credential_id: str, version: int) -> str:
    """The webhook-id of a credential's change number `version`."""
    return f"{message_prefix(credential_id)}status_{version}"


def sample_message(
    *, message_id: str, tenant_id: str, endpoint_id: str, now: datetime, traceparent: str | None
) -> Message:
    """A message that only says that the endpoint works."""
    data = {"endpoint_id": endpoint_id, "note": "A test event, sent because somebody asked for it. Nothing happened."}
    return Message(message_id, tenant_id, TEST_EVENT, None, None, traceparent, _body(TEST_EVENT, now, data))


def message_prefix(credential_id: str) -> str:
    """What the message ids of one credential begin with. Derived: a redelivered event makes no second message."""
    return f"msg_{credential_id}_"


def credential_url(base_url: str, credential_id: str) -> str:
    """The public page of a credential."""
    return f"{base_url}/c/{credential_id}"


@functools.lru_cache(maxsize=64)  # a batch was issued at one moment
def rfc3339(moment: datetime) -> str:
    """UTC with a Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _body(event_type: str, timestamp: datetime, data: dict[str, Any]) -> bytes:
    # Standard Webhooks, "Payload structure".
    return msgspec.json.encode({"type": event_type, "timestamp": rfc3339(timestamp), "data": data})


class _Issuer(msgspec.Struct):
    name: str = ""


class _Document(msgspec.Struct):
    issuer: _Issuer | str = ""


_document = msgspec.json.Decoder(_Document)


def issuer_name(event: CredentialIssued) -> str:
    """The issuer's name as it stands in the credential; "" where the document has none."""
    body = bytes(event.document)
    try:
        if body.startswith(b'"'):  # a credential in a token
            issuer = msgspec.convert(jose.opened(body)[0], _Document).issuer
        else:
            issuer = _document.decode(body).issuer
    except (msgspec.DecodeError, UnicodeDecodeError, jose.JoseError):
        return ""
    return issuer.name if isinstance(issuer, _Issuer) else ""


# --- signatures ---------------------------------------------------------------------------------------------


def secret_text(secret: bytes) -> str:
    """The secret as receivers' libraries take it (Standard Webhooks, "Signature scheme")."""
    return "whsec_" + base64.b64encode(secret).decode()


def signatures(secrets: Sequence[bytes], *, message_id: str, timestamp: int, body: bytes) -> str:
    """The webhook-signature header: one v1 signature for each secret that is valid now, the newest first."""
    content = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(
        "v1," + base64.b64encode(hmac.digest(secret, content, hashlib.sha256)).decode() for secret in secrets
    )


# --- what follows from an answer ----------------------------------------------------------------------------

State = Literal["delivered", "pending", "failed"]


class Answer(msgspec.Struct, frozen=True, gc=False):
    """How one attempt ended. status: of the HTTP answer, None where there was none. error: a sentence, None for 2xx."""

    status: int | None
    error: str | None = None
    retry_after_s: float | None = None


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What becomes of the delivery. reason: why it failed for good. disable: the endpoint asked for it (410)."""

    state: State
    next_attempt_at: datetime
    reason: str | None = None
    disable: bool = False


def decide(answer: Answer, *, attempt: int, retrying_since: datetime, now: datetime, luck: float) -> Verdict:
    """The next state of a delivery after its attempt number `attempt` (1 for the first).

    retrying_since: when the first attempt was made (or the first since a person asked for a retry). luck: uniform in
    [0, 1), the jitter.
    """
    if answer.status is not None and 200 <= answer.status < 300:
        return Verdict("delivered", now)
    if answer.status == 410:  # Standard Webhooks, "Disabling endpoints": the receiver does not want any more
        return Verdict("failed", now, "the endpoint answered 410 Gone and was disabled", disable=True)
    end = retrying_since + GIVE_UP_AFTER
    if now >= end:
        days = GIVE_UP_AFTER.days
        return Verdict("failed", now, f"no success in {days} days and {attempt} attempts; the last: {answer.error}")
    delay = retry_delay_s(attempt, luck)
    if answer.status in (429, 503) and answer.retry_after_s is not None:  # RFC 9110 §10.2.3
        # Not before the server said, and spread a little, so that it does not get everything in the same second. It
        # may ask for a longer break than ours, not for a shorter one: "at once, and for three days" is no wish to heed.
        delay = max(delay, min(answer.retry_after_s, LONGEST_DELAY_S) * (1 + 0.1 * luck))
    return Verdict("pending", min(now + timedelta(seconds=delay), end))


def retry_delay_s(attempt: int, luck: float) -> float:
    """Exponential backoff with full jitter: uniform between 0 and 5 s, 20 s, 80 s, …, a day."""
    longest = min(FIRST_DELAY_S * 4.0 ** min(attempt - 1, 20), LONGEST_DELAY_S)
    return longest * luck


def next_concurrency(current: int, answer: Answer, *, most: int) -> int:
    """How many requests an endpoint gets at a time: halved when it does not answer, one more each time it does.

    So endpoints that hang hold few of the worker's places, however many of them there are.
    """
    return max(1, current // 2) if answer.status is None else min(most, current + 1)


def next_window(current: int, *, emptied_in_s: float, most: int, least: int) -> int:
    """How many deliveries to take for an endpoint at a time: twice as many if the last lot was gone in a moment."""
    if emptied_in_s < 0.25:
        return min(most, current * 2)
    return max(least, current // 2) if emptied_in_s > 1.0 else current
