"""What follows from an answer, what a message says, and how it is signed: all without a clock or a network."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from laurel.events import CredentialIssued
from laurel_notifier import domain
from laurel_notifier.domain import Answer, decide

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def after(
    status: int | None, *, attempt: int = 1, since: datetime = NOW, luck: float = 0.5, **more: float
) -> domain.Verdict:
    return decide(Answer(status, "why", **more), attempt=attempt, retrying_since=since, now=NOW, luck=luck)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_delivered_whenever_it_comes(status: int) -> None:
    assert after(status, attempt=9, since=NOW - timedelta(days=9)).state == "delivered"


@pytest.mark.parametrize("status", [None, 100, 199, 300, 301, 308, 400, 401, 404, 409, 429, 500, 503, 599])
def test_everything_else_is_tried_again(status: int | None) -> None:
    verdict = after(status)
    assert verdict.state == "pending"
    assert not verdict.disable
    assert NOW <= verdict.next_attempt_at <= NOW + timedelta(seconds=5)


def test_gone_is_for_good_and_disables() -> None:
    verdict = after(410)
    assert (verdict.state, verdict.disable) == ("failed", True)


def test_the_schedule_grows_to_a_day_and_jitter_is_full() -> None:
    longest = [domain.retry_delay_s(attempt, 1.0) for attempt in range(1, 12)]
    assert longest == [5, 20, 80, 320, 1280, 5120, 20480, 81920, 86400, 86400, 86400]
    assert all(domain.retry_delay_s(attempt, 0.0) == 0 for attempt in range(1, 12))
    assert domain.retry_delay_s(10_000, 1.0) == 86400


def test_a_simulated_endpoint_that_is_down_is_tried_for_three_days_and_not_longer() -> None:
    now, attempts, since = NOW, 0, NOW
    while True:
        attempts += 1
        verdict = decide(Answer(500, "down"), attempt=attempts, retrying_since=since, now=now, luck=0.5)
        if verdict.state != "pending":
            break
        assert verdict.next_attempt_at >= now
        now = verdict.next_attempt_at
    assert verdict.state == "failed"
    assert verdict.reason is not None
    assert "down" in verdict.reason
    assert now == since + timedelta(days=3), "the last attempt is made when the three days end"
    assert 8 <= attempts <= 20


@given(
    st.one_of(st.none(), st.integers(100, 599)), st.integers(1, 100), st.floats(0, 0.999),
    st.one_of(st.none(), st.floats(0, 1e9)), st.timedeltas(timedelta(0), timedelta(days=5)),
)  # fmt: skip
def test_nothing_is_dropped_silently_and_nothing_is_scheduled_beyond_the_end(
    status: int | None, attempt: int, luck: float, retry_after: float | None, ago: timedelta
) -> None:
    verdict = decide(Answer(status, "x", retry_after), attempt=attempt, retrying_since=NOW - ago, now=NOW, luck=luck)
    if verdict.state == "pending":
        assert NOW <= verdict.next_attempt_at <= NOW - ago + domain.GIVE_UP_AFTER
    elif verdict.state == "failed":
        assert verdict.reason


def test_retry_after_counts_for_429_and_503_alone_and_never_beyond_a_day() -> None:
    for status in (429, 503):
        assert after(status, retry_after_s=600.0, luck=0.0).next_attempt_at == NOW + timedelta(seconds=600)
        assert after(status, retry_after_s=600.0, luck=0.9).next_attempt_at <= NOW + timedelta(seconds=660)
        assert after(status, retry_after_s=1e9, luck=0.0).next_attempt_at == NOW + timedelta(days=1)
    assert after(500, retry_after_s=600.0).next_attempt_at <= NOW + timedelta(seconds=5)


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_may_ask_for_a_longer_break_than_ours_and_for_no_shorter_one(status: int) -> None:
    """Else "at once", for three days, would make tens of thousands of attempts."""
    for attempt in (1, 4, 9):
        ours = domain.retry_delay_s(attempt, 0.5)
        given = after(status, attempt=attempt, retry_after_s=0.0, luck=0.5)
        assert given.next_attempt_at == NOW + timedelta(seconds=ours)
        longer = after(status, attempt=attempt, retry_after_s=ours + 60, luck=0.5)
        assert longer.next_attempt_at >= NOW + timedelta(seconds=ours + 60)


def test_concurrency_halves_without_an_answer_and_grows_with_each() -> None:
    current = 16
    seen = [current := domain.next_concurrency(current, Answer(None, "timeout"), most=16) for _ in range(5)]
    assert seen == [8, 4, 2, 1, 1]
    seen = [current := domain.next_concurrency(current, Answer(500, "x"), most=4) for _ in range(5)]
    assert seen == [2, 3, 4, 4, 4]


@given(st.binary(min_size=24, max_size=64), st.binary(min_size=24, max_size=64), st.text(max_size=200))
def test_signatures_verify_with_the_reference_library_for_each_secret(one: bytes, two: bytes, text: str) -> None:
    body = msgspec.json.encode({"text": text})
    timestamp = int(datetime.now(UTC).timestamp())
    header = domain.signatures([one, two], message_id="msg_1", timestamp=timestamp, body=body)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(timestamp), "webhook-signature": header}
    for secret in (one, two):
        assert Webhook(domain.secret_text(secret)).verify(body, headers) == {"text": text}


def test_a_known_signature() -> None:
    """Computed with openssl: printf 'msg_1.1700000000.{}' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0001…1f."""
    header = domain.signatures([bytes(range(32))], message_id="msg_1", timestamp=1_700_000_000, body=b"{}")
    assert header == "v1,fhksJF5ElKjlPoT/jtefCO5XjQPvhf7Dhf/8R1ad9yU="


def test_the_document_is_spliced_in_byte_for_byte() -> None:
    document = b'{"z": 1.0,  "a": [1e2],\n "\\u00e9": "\xc3\xa9"}'
    event = CredentialIssued(
        tenant_id="t", credential_id="c-1", result_id="r", achievement_id="a", achievement_name="A", profile_id="p",
        issuer="did:web:x", issued_at=NOW, valid_from=NOW, document=msgspec.Raw(document),
    )  # fmt: skip
    message = domain.issued_message(event, None, base_url="https://b.example", traceparent=None)
    assert document in message.body
    assert json.loads(message.body)["data"]["credential"] == json.loads(document)
    assert message.message_id == "msg_c-1_issued"
    assert message == domain.issued_message(event, None, base_url="https://b.example", traceparent=None)


@pytest.mark.parametrize(
    ("document", "name"),
    [
        (b'{"issuer": {"id": "did:web:x", "name": "Uni"}}', "Uni"), (b'{"issuer": "did:web:x"}', ""),
        (b'{"issuer": {"id": "x"}}', ""), (b"{}", ""), (b'{"issuer": 7}', ""), (b'{"issuer": {"name": 7}}', ""),
    ],
)  # fmt: skip
def test_the_issuers_name_is_read_from_the_document(document: bytes, name: str) -> None:
    event = CredentialIssued(
        tenant_id="t", credential_id="c", result_id="r", achievement_id="a", achievement_name="A", profile_id="p",
        issuer="did:web:x", issued_at=NOW, valid_from=NOW, document=msgspec.Raw(document),
    )  # fmt: skip
    assert domain.issuer_name(event) == name


def test_a_secret_is_written_as_libraries_expect_it() -> None:
    assert domain.secret_text(b"\xff" * 32) == "whsec_" + base64.b64encode(b"\xff" * 32).decode()
