"""What a page shows of a credential: plain values taken out of an untrusted document, purely.

Nothing here is markup. Text stays text (the templates escape it), links are http(s) only, pictures come from the
document itself or from our own origin.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from laurel.credential.text import is_web_url, parse_timestamp
from laurel_verifier.domain import issuer_id, listed, objects

MAX_TEXT = 20_000
_DATA_IMAGE = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml);base64,([A-Za-z0-9+/]+={0,2})").fullmatch
_RASTER = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff", "gif": b"GIF8", "webp": b"RIFF"}
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*").fullmatch
_ITEM = re.compile(r"\s*(?:[-*+•]|\d{1,3}[.)])\s+(.*)").fullmatch
_HEADING = re.compile(r"\s*#{1,6}\s+(.*)").fullmatch
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # also what turns text around


@dataclass(frozen=True, slots=True)
class Link:
    """Text, and an address behind it where it has a safe one."""

    text: str
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of prose. kind: "p" (one line of text), "h" or "ul" (several)."""

    kind: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Alignment:
    """A skill or outcome that the achievement stands for."""

    target: Link
    framework: str | None
    code: str | None
    description: str | None


@dataclass(frozen=True, slots=True)
class Result:
    """One result: "Score", "93", "of 100"."""

    name: str
    value: str
    scale: str | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Something that shows the achievement."""

    link: Link
    prose: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Badge:
    """A credential as its page shows it."""

    name: str
    description: tuple[Block, ...]
    summary: str
    kind: str | None
    language: str | None
    image: str | None
    image_alt: str
    issuer: Link
    issuer_identifier: str
    issuer_description: str | None
    criteria: tuple[Block, ...]
    criteria_url: str | None
    tags: tuple[str, ...]
    alignments: tuple[Alignment, ...]
    results: tuple[Result, ...]
    evidence: tuple[Evidence, ...]
    awarded: datetime | None
    valid_from: datetime | None
    valid_until: datetime | None
    identifier: str | None


def badge(document: Mapping[str, Any], base_url: str | None) -> Badge:
    """The view of any credential, however strange: what is missing or of another type is left out.

    base_url: our own origin, of which pictures may be shown; None where the document is not one that we issued.
    """
    subjects = objects(document.get("credentialSubject"))
    subject: Mapping[str, Any] = subjects[0] if subjects else {}
    achievements = objects(subject.get("achievement"))
    achievement: Mapping[str, Any] = achievements[0] if achievements else {}
    criteria = (objects(achievement.get("criteria")) or [{}])[0]
    name = text(achievement.get("name")) or text(document.get("name")) or "A credential without a name"
    endorsed = text(subject.get("endorsementComment"))
    description = text(achievement.get("description")) or endorsed or text(document.get("description")) or ""
    issuer = document.get("issuer")
    profile: Mapping[str, Any] = issuer if isinstance(issuer, dict) else {}
    identifier = issuer_id(document) or ""
    language = achievement.get("inLanguage")
    evidence = objects(document.get("evidence")) + objects(subject.get("evidence"))
    return Badge(
        name=name,
        description=prose(description),
        summary=" ".join(description.split())[:300],
        kind=_words(text(achievement.get("achievementType"))),
        language=language if isinstance(language, str) and _LANGUAGE(language) else None,
        image=image(achievement.get("image"), base_url) or image(document.get("image"), base_url),
        image_alt=_caption(achievement.get("image")) or f"The badge “{name}”",
        issuer=Link(text(profile.get("name")) or identifier, web_url(profile.get("url")) or web_url(identifier)),
        issuer_identifier=identifier,
        issuer_description=text(profile.get("description")),
        criteria=prose(text(criteria.get("narrative")) or ""),
        criteria_url=web_url(criteria.get("id")),
        tags=tuple(one for one in map(text, listed(achievement.get("tag"))[:50]) if one),
        alignments=tuple(_alignment(one) for one in objects(achievement.get("alignment"))[:50]),
        results=tuple(_results(subject, achievement)),
        evidence=tuple(_evidence(one) for one in evidence[:50]),
        awarded=parse_timestamp(document.get("awardedDate")),
        valid_from=parse_timestamp(document.get("validFrom", document.get("issuanceDate"))),
        valid_until=parse_timestamp(document.get("validUntil", document.get("expirationDate"))),
        identifier=text(document.get("id")),
    )


def text(value: Any) -> str | None:
    """A string, or the first one of a language map or a list; cleaned of what cannot be seen, and not endless."""
    if isinstance(value, dict):
        value = value.get("@value") or next((one for one in value.values() if isinstance(one, str)), None)
    if isinstance(value, list):
        value = next((one for one in value if isinstance(one, str)), None)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    cleaned = _INVISIBLE.sub("", str(value)).strip()
    return cleaned[:MAX_TEXT] or None


def web_url(value: Any) -> str | None:
    """An http(s) address that may stand in a link; None for everything else (javascript:, data:, …)."""
    return value if isinstance(value, str) and len(value) <= 2000 and is_web_url(value) else None


def image(value: Any, base_url: str | None) -> str | None:
    """A picture that the page may show: a data URI of an image type, or an address of our own origin."""
    source = value.get("id") if isinstance(value, dict) else value
    if not isinstance(source, str):
        return None
    own = base_url is not None and source.startswith(base_url + "/") and is_web_url(source)
    if _DATA_IMAGE(source) or own:
        return source
    return None


def raster(source: str) -> tuple[str, bytes] | None:
    """(media type, bytes) of a data URI that is truly a PNG, JPEG, GIF or WebP; never an SVG, which could run."""
    match = _DATA_IMAGE(source)
    if match is None or match[1] not in _RASTER:
        return None
    try:
        content = base64.b64decode(match[2], validate=True)
    except binascii.Error:
        return None
    return (f"image/{match[1]}", content) if content.startswith(_RASTER[match[1]]) else None


def prose(source: str) -> tuple[Block, ...]:
    """Text, perhaps Markdown, as paragraphs, headings and lists of plain lines. No other mark is interpreted."""
    blocks: list[Block] = []
    paragraph: list[str] = []
    items: list[str] = []

    def close() -> None:
        if paragraph:
            blocks.append(Block("p", (" ".join(paragraph),)))
            paragraph.clear()
        if items:
            blocks.append(Block("ul", tuple(items)))
            items.clear()

    for line in source.splitlines()[:1000]:
        if not line.strip():
            close()
        elif heading := _HEADING(line):
            close()
            blocks.append(Block("h", (heading[1].strip(),)))
        elif item := _ITEM(line):
            if paragraph:
                close()
            items.append(item[1].strip())
        elif items:
            items[-1] += " " + line.strip()
        else:
            paragraph.append(line.strip())
    close()
    return tuple(blocks)


def _caption(value: Any) -> str | None:
    return text(value.get("caption")) if isinstance(value, dict) else None


def _words(term: str | None) -> str | None:
    """ "LearningProgram" → "Learning program"; "ext:Foo" → "Foo"."""
    if term is None:
        return None
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", term.removeprefix("ext:"))
    return spaced[:1].upper() + spaced[1:].lower() if spaced.isascii() else spaced


def _alignment(one: Mapping[str, Any]) -> Alignment:
    url = web_url(one.get("targetUrl"))
    return Alignment(
        Link(text(one.get("targetName")) or url or "Unnamed", url),
        text(one.get("targetFramework")),
        text(one.get("targetCode")),
        text(one.get("targetDescription")),
    )


def _results(subject: Mapping[str, Any], achievement: Mapping[str, Any]) -> list[Result]:
    descriptions = objects(achievement.get("resultDescription"))
    described = {one["id"]: one for one in descriptions if isinstance(one.get("id"), str)}
    found = []
    for one in objects(subject.get("result"))[:50]:
        key = one.get("resultDescription")
        description = described.get(key, {}) if isinstance(key, str) else {}
        value = text(one.get("value")) or text(one.get("status")) or text(one.get("achievedLevel"))
        if value is None:
            continue
        percent = description.get("resultType") == "Percent" and not value.endswith("%")
        most = text(description.get("valueMax"))
        found.append(
            Result(
                text(description.get("name")) or "Result",
                value + ("\u202f%" if percent else ""),
                None if percent or most is None else f"of {most}",
            )
        )
    return found


def _evidence(one: Mapping[str, Any]) -> Evidence:
    url = web_url(one.get("id"))
    words = text(one.get("narrative")) or text(one.get("description")) or ""
    return Evidence(Link(text(one.get("name")) or url or "Evidence", url), prose(words))
