"""CloudEvents 1.0 around every event, in Kafka binary mode: attributes in headers, the event's JSON as the value.

The hot path writes and reads the binary mode directly (a test holds it against the `cloudevents` library); whatever
else arrives, such as structured mode from a foreign producer, goes through that library.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka
from cloudevents.core.exceptions import BaseCloudEventException
from cloudevents.core.formats.json import JSONFormat

from laurel.events import Event
from laurel.topics import EVENT_TYPES

if TYPE_CHECKING:
    from laurel.bus import Message

CONTENT_TYPE = "application/json"

_encoder = msgspec.json.Encoder()
_decoders: dict[str, msgspec.json.Decoder[Event]] = {
    name: msgspec.json.Decoder(event) for name, event in EVENT_TYPES.items()
}


class Undecodable(Exception):
    """A message is not an event we know; `code` says how."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """An event as a consumer receives it. `traceparent` continues the producer's trace (W3C Trace Context)."""

    message: Message
    event: Event
    event_id: str
    time: datetime
    traceparent: str | None


def encode_data(event: Event) -> bytes:
    """The event's JSON (UTF-8)."""
    return _encoder.encode(event)


def headers(
    *, event_id: str, event_type: str, source: str, time: datetime, traceparent: str | None
) -> tuple[tuple[str, bytes], ...]:
    """Binary-mode headers (CloudEvents Kafka binding §3.2): `ce_` attributes, `content-type` for datacontenttype."""
    fixed = (
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id.encode()),
        ("ce_source", source.encode()),
        ("ce_type", event_type.encode()),
        ("ce_time", _timestamp(time)),
        ("content-type", CONTENT_TYPE.encode()),
    )
    return fixed if traceparent is None else (*fixed, ("traceparent", traceparent.encode()))


@lru_cache(maxsize=64)  # the events of a batch happened in one transaction
def _timestamp(time: datetime) -> bytes:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z").encode()


def decode(message: Message) -> Delivered:
    """Read one message.

    Raises Undecodable: not_a_cloudevent, unknown_type, bad_data.
    """
    found = dict(message.headers)
    try:
        if found.get("ce_specversion") == b"1.0":
            event_type = found["ce_type"].decode()
            event_id = found["ce_id"].decode()
            time = _moment(found["ce_time"]) if "ce_time" in found else _stamp(message)
            data = message.value
        else:
            event_type, event_id, time, data = _foreign(message, found)
    except (KeyError, ValueError, TypeError, AttributeError, BaseCloudEventException) as error:
        raise Undecodable("not_a_cloudevent", f"{type(error).__name__}: {error}") from error
    decoder = _decoders.get(event_type)
    if decoder is None:
        raise Undecodable("unknown_type", f"no event of type {event_type!r} is known to this version")
    try:
        event = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Undecodable("bad_data", str(error)) from error
    traceparent = found.get("traceparent")
    return Delivered(message, event, event_id, time, traceparent.decode("ascii", "replace") if traceparent else None)


@lru_cache(maxsize=64)  # as of `_timestamp`
def _moment(stamp: bytes) -> datetime:
    return datetime.fromisoformat(stamp.decode())


def _stamp(message: Message) -> datetime:
    return datetime.fromtimestamp(message.timestamp_ms / 1000, UTC)


def _foreign(message: Message, found: Mapping[str, bytes]) -> tuple[str, str, datetime, bytes]:
    parsed = from_kafka(KafkaMessage(headers=dict(found), key=None, value=message.value), JSONFormat())
    data = parsed.get_data()
    body = data if isinstance(data, bytes) else msgspec.json.encode(data)
    return parsed.get_type(), parsed.get_id(), parsed.get_time() or _stamp(message), body
