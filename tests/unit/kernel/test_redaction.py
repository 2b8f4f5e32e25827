"""What looks like a secret is taken out of a line; the rest stays as it is."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from laurel import logs
from laurel.redaction import redact
from laurel.security import new_api_key
from laurel.tokens import sign

KEY = new_api_key(bytes(range(44))).text
TOKEN = sign(bytes(32), "k", issuer="i", client_id="c", token_id="t", scopes=("a",), now=0, ttl_s=1)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"Bearer {KEY}", f"Bearer {KEY[:20]}…"),
        (f'{{"path":"/x/{KEY}"}}', f'{{"path":"/x/{KEY[:20]}…"}}'),
        (TOKEN, TOKEN.rpartition(".")[0] + ".…"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_…"),
        ("postgresql://u:p%40ss@host:5432/db?x=1", "postgresql://u:…@host:5432/db?x=1"),
        ("postgres://u:p@s/s@host/db", "postgres://u:…@host/db"),
        ("smtp+starttls://u:p@h:587", "smtp+starttls://u:…@h:587"),
        ("kafka://u:p@h:9092,h2:9092", "kafka://u:…@h:9092,h2:9092"),
        ("Authorization: Basic dTpw", "Authorization: Basic …"),
        ("x\nDETAIL:  Key (email)=(a@b) exists.\nHINT: y", "x\nDETAIL:  …\nHINT: y"),
        ('{"e":"DETAIL:  Key (\\"a\\")=(b).\\nmore"}', '{"e":"DETAIL:  …\\nmore"}'),
    ],
)
def test_secrets(text: str, left: str) -> None:
    assert redact(text) == left
    assert redact(left) == left, "once is enough"


@pytest.mark.parametrize(
    "text",
    [
        "did:web:badges.example.org:issuers:acme", "http://localhost:8080/c/x?email=a@b", "https://example.org/a@b:c@d",
        "kafka://a:9092,b:9092", "laurel_local", "laurel_issuer_worker", "detail: x", "https://h:443",
        "https://h:443 a@b",
    ],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "part", ["a://b:", "eyJ", "eyJaaaaaaaa.", "laurel_", "whsec_", "DETAIL: ", "authorization: basic "]
)
def test_what_strangers_write_takes_no_long_time(part: str) -> None:
    """Time that is quadratic in this would be hours, and pytest's timeout fails it."""
    redact(part * (2_000_000 // len(part)))


@given(st.text())
def test_any_text_goes_through(text: str) -> None:
    assert isinstance(redact(text), str)
    assert KEY[20:] not in redact(text + KEY)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    target = io.StringIO()
    before = logging.root.handlers[:]
    logging.root.handlers.clear()
    logs.configure(level="INFO", json=True, stream=target)
    yield target
    logging.root.handlers[:] = before
    logs.configure(level="WARNING", json=True)


def test_no_line_of_a_log_holds_them(stream: io.StringIO) -> None:
    try:
        raise ValueError(f"cannot use {KEY} at postgres://u:secret@h/d")
    except ValueError:
        structlog.get_logger().exception("it failed", reason=[f"{TOKEN}"])
        logging.getLogger("some.library").exception("it failed with %s", KEY)
    text = stream.getvalue()
    assert len(text.splitlines()) > 2
    assert json.loads(text.splitlines()[0])["event"] == "it failed"
    for secret in (KEY, TOKEN, "secret"):
        assert secret not in text
