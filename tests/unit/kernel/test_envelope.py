"""Our envelope is CloudEvents 1.0 in Kafka binary mode: the official library is the judge."""

from __future__ import annotations

import msgspec
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from laurel import envelope
from laurel.bus import Message
from laurel.envelope import Undecodable
from laurel.events import CredentialIssued, CredentialStatusChanged
from laurel.topics import CREDENTIAL, EVENT_TYPES, ROUTES, TOPICS, route

NOW = envelope.datetime.fromisoformat("2026-11-22T10:11:12.345678+00:00")
CHANGED = CredentialStatusChanged(
    tenant_id="t", credential_id="c", version=3, status="suspended", reason="wegen «Ü» ✓", changed_at=NOW
)


def received(value: bytes, headers: tuple[tuple[str, bytes], ...]) -> Message:
    return Message(CREDENTIAL.name, 0, 7, b"c", value, headers, 1_700_000_000_000)


def sent() -> Message:
    headers = envelope.headers(
        event_id="e1", event_type=CHANGED.type, source="/laurel/issuer", time=NOW, traceparent="tp"
    )
    return received(envelope.encode_data(CHANGED), headers)


def test_the_official_library_reads_what_we_write() -> None:
    message = sent()
    read = from_binary(KafkaMessage(headers=dict(message.headers), key=None, value=message.value), JSONFormat())
    assert (read.get_id(), read.get_type(), read.get_source()) == ("e1", CHANGED.type, "/laurel/issuer")
    assert read.get_specversion() == "1.0"
    assert read.get_time() == NOW
    assert read.get_datacontenttype() == "application/json"
    assert read.get_data() == msgspec.json.decode(msgspec.json.encode(CHANGED))


@pytest.mark.parametrize("encode", [to_binary, to_structured])
def test_we_read_what_the_official_library_writes(encode: object) -> None:
    attributes = {
        "id": "e1",
        "type": CHANGED.type,
        "source": "/lms",
        "time": NOW,
        "datacontenttype": "application/json",
    }
    made = encode(CloudEvent(attributes, msgspec.to_builtins(CHANGED)), JSONFormat())  # type: ignore[operator]
    read = envelope.decode(received(made.value, tuple(made.headers.items())))
    assert (read.event, read.event_id, read.time) == (CHANGED, "e1", NOW)


def test_round_trip() -> None:
    read = envelope.decode(sent())
    assert (read.event, read.event_id, read.time, read.traceparent) == (CHANGED, "e1", NOW, "tp")


def test_a_document_keeps_its_exact_bytes() -> None:
    document = b'{"b" : 1,\n "a":1.0e0, "\\u00e9":"\xc3\xa9"}'
    issued = CredentialIssued(
        tenant_id="t", credential_id="c", result_id="r", achievement_id="a", achievement_name="n", profile_id="p",
        issuer="did:web:x", issued_at=NOW, valid_from=NOW, document=msgspec.Raw(document),
    )  # fmt: skip
    headers = envelope.headers(event_id="e", event_type=issued.type, source="/s", time=NOW, traceparent=None)
    read = envelope.decode(received(envelope.encode_data(issued), headers)).event
    assert isinstance(read, CredentialIssued)
    assert bytes(read.document) == document


@pytest.mark.parametrize(
    ("headers", "value", "code"),
    [
        ((), b"{}", "not_a_cloudevent"),
        ((("ce_specversion", b"1.0"),), b"{}", "not_a_cloudevent"),
        ((("ce_specversion", b"1.0"), ("ce_type", b"\xff"), ("ce_id", b"1")), b"{}", "not_a_cloudevent"),
        ((("ce_specversion", b"1.0"), ("ce_type", b"x"), ("ce_id", b"1")), b"{}", "unknown_type"),
        ((("ce_specversion", b"1.0"), ("ce_type", CHANGED.type.encode()), ("ce_id", b"1")), b"{}", "bad_data"),
        ((("ce_specversion", b"1.0"), ("ce_type", CHANGED.type.encode()), ("ce_id", b"1")), b"\xff", "bad_data"),
        ((("ce_specversion", b"1.0"), ("ce_type", CHANGED.type.encode()), ("ce_id", b"1")), b"", "bad_data"),
    ],
)
def test_what_is_no_event_says_so(headers: tuple[tuple[str, bytes], ...], value: bytes, code: str) -> None:
    with pytest.raises(Undecodable) as caught:
        envelope.decode(received(value, headers))
    assert caught.value.code == code


@given(
    st.binary(),
    st.lists(
        st.tuples(st.sampled_from(["ce_specversion", "ce_type", "ce_id", "ce_time", "content-type", "x"]), st.binary())
    ),
)
def test_no_bytes_raise_anything_else(value: bytes, headers: list[tuple[str, bytes]]) -> None:
    with pytest.raises(Undecodable):
        envelope.decode(received(value, tuple(headers)))


def test_every_event_has_one_topic_and_a_versioned_type() -> None:
    declared = [event for topic in TOPICS for event in topic.events]
    assert len(declared) == len(set(declared)) == len(ROUTES) == len(EVENT_TYPES)
    for topic in TOPICS:
        for event in topic.events:
            assert topic.key in event.__struct_fields__
            assert event.type.rpartition(".v")[2].isdigit()
    assert route(CHANGED) == ("laurel.credential", b"c")


def test_a_newer_producer_may_add_fields() -> None:
    value = msgspec.json.encode({**msgspec.to_builtins(CHANGED), "added_later": {"x": 1}})
    assert envelope.decode(replace(sent(), value=value)).event == CHANGED
