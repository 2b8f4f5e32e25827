"""Small parts of the HTTP edge: content negotiation, form bodies, bounded memories, settings, contrast."""

from __future__ import annotations

import base64
import re
from importlib import resources

import pytest
from pydantic import ValidationError

from laurel.problems import Problem
from laurel_verifier.config import Settings
from laurel_verifier.forms import parse_form
from laurel_verifier.memory import Memory
from laurel_verifier.negotiation import negotiate

OFFERS = ("text/html", "application/json")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "text/html"), ("", "text/html"), ("*/*", "text/html"), ("application/json", "application/json"),
        ("application/*", "application/json"), ("text/html;q=0.1,application/json;q=0.2", "application/json"),
        ("*/*;q=0.9, text/html;q=0", "application/json"), ("image/png", None), ("APPLICATION/JSON", "application/json"),
        ("application/json;q=2", "application/json"), ("application/json;q=x", None), (",,;", None),
        ("application/json; charset=utf-8", "application/json"),
    ],
)  # fmt: skip
def test_negotiation(accept: str | None, expected: str | None) -> None:
    assert negotiate(accept, OFFERS) == expected


def test_forms() -> None:
    assert parse_form("application/x-www-form-urlencoded", b"a=1%C3%A4&b=&a=2") == {"a": "1ä".encode(), "b": b""}
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.json"\r\n'
        b"Content-Type: application/json\r\n\r\n"
        b'{"a":\r\n 1}\r\n--x\r\ncontent-disposition: form-data; name="url"\r\n\r\n\r\n--x--\r\n'
    )
    for boundary in ("boundary=x", 'boundary="x"', "charset=utf-8; boundary=x"):
        found = parse_form(f"multipart/form-data; {boundary}", body)
        assert found == {"file": b'{"a":\r\n 1}', "url": b""}
    with pytest.raises(Problem):
        parse_form("multipart/form-data; boundary=x", body.removesuffix(b"--x--\r\n"))


def test_memory_forgets_by_time_and_by_number() -> None:
    now = 0.0
    memory: Memory[str, int] = Memory(2, clock=lambda: now)
    memory.put("a", 1, 10)
    memory.put("b", 2, 5)
    assert memory.get("a") == 1
    memory.put("c", 3, 5)
    assert memory.get("b") is None  # the least recently used one made room
    now = 6.0
    assert memory.get("c") is None
    assert memory.get("a") == 1
    now = 10.0
    assert memory.get("a") is None


def test_settings_name_the_wrong_network() -> None:
    secret = base64.b64encode(bytes(32)).decode()
    values = {"bus_url": "postgres://h/d", "database_url": "postgres://h/d", "id_key": secret, "contact_key": secret}
    made = Settings(**values, allow_networks=" 10.0.0.0/8, ::1/128 ,")  # type: ignore[arg-type]
    assert [str(one) for one in made.networks] == ["10.0.0.0/8", "::1/128"]
    with pytest.raises(ValidationError, match="LAUREL_ALLOW_NETWORKS"):
        Settings(**values, allow_networks="10.0.0.1/8")  # type: ignore[arg-type]


# --- colours ---------------------------------------------------------------------------------------------------------


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, two: str) -> float:
    brighter, darker = sorted((_luminance(one), _luminance(two)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_have_the_contrast_of_wcag_aa(theme: int) -> None:
    """WCAG 2.2 §1.4.3: 4.5 to 1 for text."""
    css = (resources.files("laurel_verifier") / "assets/laurel.css").read_text()
    block = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[theme]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))
    pairs = [
        *((name, ground) for name in ("ink", "soft", "link", "bad") for ground in ("page", "surface", "code")),
        *((tone, f"{tone}-bg") for tone in ("good", "bad", "warn", "unsure")),
        *(("ink", f"{tone}-bg") for tone in ("good", "bad", "warn", "unsure")),
        ("on-brand", "brand"), ("on-brand", "brand-hover"), ("brand", "surface"), ("brand", "good-bg"),
    ]  # fmt: skip
    poor = {pair: round(_contrast(colours[pair[0]], colours[pair[1]]), 2) for pair in pairs}
    assert not {pair: ratio for pair, ratio in poor.items() if ratio < 4.5}
