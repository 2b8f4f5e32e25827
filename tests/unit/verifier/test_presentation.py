"""What a page may show of an untrusted document."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel_verifier.presentation import Block, badge, image, prose, raster, text, web_url

BASE = "https://l.test"


def data(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://x.org/a", "https://x.org/a"), ("http://x.org", "http://x.org"), ("javascript:alert(1)", None),
        ("JaVaScRiPt:alert(1)", None), (" javascript:alert(1)", None), ("data:text/html,x", None), ("//x.org", None),
        ("https://x.org/\" onload=", None), ("https://u:p@x.org", None), ("https://", None), (7, None), (None, None),
        ("https://x.org/" + "a" * 3000, None),
    ],
)  # fmt: skip
def test_links_lead_to_the_web_only(value: Any, expected: str | None) -> None:
    assert web_url(value) == expected


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (data("png", b"x"), True), ({"id": data("svg+xml", b"<svg/>")}, True), (f"{BASE}/achievements/a/image", True),
        ("https://else.example/a.png", False), (f"{BASE}.evil/a.png", False), ("data:text/html;base64,AAAA", False),
        ("data:image/png,raw", False), ("data:image/png;base64,A\" onerror=x", False), (["x"], False), (None, False),
        ({"id": 7}, False),
    ],
)  # fmt: skip
def test_pictures_come_from_the_document_or_from_us(value: Any, shown: bool) -> None:
    assert (image(value, BASE) is not None) is shown


def test_only_true_rasters_are_files() -> None:
    assert raster(data("png", b"\x89PNG\r\n\x1a\nrest")) == ("image/png", b"\x89PNG\r\n\x1a\nrest")
    assert raster(data("jpeg", b"\xff\xd8\xff\xe0")) is not None
    assert raster(data("png", b"<svg onload=alert(1)>")) is None
    assert raster(data("svg+xml", b"<svg/>")) is None
    assert raster("data:image/png;base64,AAAAA") is None
    assert raster("") is None


def test_prose_reads_paragraphs_lists_and_headings_and_nothing_else() -> None:
    source = "# What\n\nOne line\nand its second.\n\n- a *b*\n- c\n  goes on\n1. d\n\n<b>bold</b> [x](javascript:y)"
    assert prose(source) == (
        Block("h", ("What",)),
        Block("p", ("One line and its second.",)),
        Block("ul", ("a *b*", "c goes on", "d")),
        Block("p", ("<b>bold</b> [x](javascript:y)",)),
    )
    assert prose("") == ()


def test_text_takes_what_can_be_read() -> None:
    assert text({"en": "Name"}) == "Name"
    assert text({"@value": "Name", "@language": "en"}) == "Name"
    assert text([7, "Name"]) == "Name"
    assert text("  a\u202eb\x07c  ") == "abc"
    assert text(93) == "93"
    assert text(True) is None
    assert text({}) is None
    assert len(text("x" * 50_000) or "") == 20_000


NAMES = (
    "id", "name", "issuer", "credentialSubject", "achievement", "criteria", "narrative", "image", "result", "value",
    "resultDescription", "alignment", "targetName", "evidence", "tag", "inLanguage", "validFrom", "identifier",
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=6,
        )
    ),
    max_leaves=30,
)


@given(document=st.dictionaries(st.sampled_from(["credentialSubject", "issuer", "evidence", "name", "id"]), JSON))
def test_any_document_has_a_view(document: dict[str, Any]) -> None:
    assert badge(document, BASE).name


def test_results_take_their_names_from_the_achievement() -> None:
    document = {
        "credentialSubject": {
            "achievement": {
                "achievementType": "LearningProgram",
                "resultDescription": [
                    {"id": "urn:a", "name": "Score", "resultType": "Percent"},
                    {"id": "urn:b", "name": "Points", "resultType": "RawScore", "valueMax": "30"},
                ],
            },
            "result": [
                {"resultDescription": "urn:a", "value": "93"}, {"resultDescription": "urn:b", "value": "27"},
                {"resultDescription": ["x"], "status": "Completed"}, {"resultDescription": "urn:a"},
            ],
        }
    }  # fmt: skip
    shown = badge(document, BASE)
    assert [(one.name, one.value, one.scale) for one in shown.results] == [
        ("Score", "93\u202f%", None), ("Points", "27", "of 30"), ("Result", "Completed", None),
    ]  # fmt: skip
    assert shown.kind == "Learning program"
