"""The rules of `lint` for text as people will read it. Each judges one string: (property name, text) → what is wrong.

Templates judge the texts that they fill in by these very functions (`slots`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

from laurel.credential.lint_rules import Check, Found, Subject

Judge = Callable[[str, str], str | None]

MARKDOWN = frozenset({"narrative", "endorsementComment"})
FREE_TEXT = MARKDOWN | frozenset(
    {"name", "description", "caption", "targetName", "targetDescription", "targetFramework", "targetCode", "genre"}
    | {"audience", "humanCode", "fieldOfStudy", "role", "term", "licenseNumber", "tag", "specialization", "official"}
    | {"givenName", "familyName", "level"}
)
_LONG = MARKDOWN | {"description", "targetDescription"}
MAX_LONG, MAX_LINE = 10_000, 1_000

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff\u202a-\u202e]").search
_NO_VALUE = frozenset({"undefined", "null", "nan", "[object object]"})
_LEFTOVERS = _NO_VALUE | {"none", "nil", "todo", "tbd", "lorem ipsum"}
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\$\{.*?\}|%\([a-z_]+\)s|\[object Object\]").search
_MARKUP = re.compile(r"<\s*[A-Za-z!/?][^<>]*>").search
# In Markdown <https://…> is a link (CommonMark 0.31 §6.5), and only tags, comments and the like are markup (§6.6).
_MARKDOWN_MARKUP = re.compile(r"</?[A-Za-z][A-Za-z0-9-]*(?:[\s/][^<>]*)?>|<[!?][^<>]*>").search
# The targets of [inline](links), of [references]: and of <autolinks> (CommonMark 0.31 §6.3, §4.7, §6.5).
_TARGETS = re.compile(
    r"\]\(\s*<?([^\s)>]*)"
    r"|^ {0,3}\[[^\]\n]+\]:[ \t]*<?([A-Za-z][A-Za-z0-9+.-]*:[^\s>]*)"
    r"|<([A-Za-z][A-Za-z0-9+.-]{1,31}:[^\s<>]*)>",
    re.MULTILINE,
).finditer
_ABSOLUTE = re.compile(r"https?://|mailto:", re.IGNORECASE).match


def normal_form(name: str, text: str) -> str | None:
    if text.isascii() or unicodedata.is_normalized("NFC", text):
        return None
    return "the text is not in Unicode NFC"


def characters(name: str, text: str) -> str | None:
    if _CONTROL(text):
        return "the text holds control or bidirectional override characters"
    if "\ufffd" in text:
        return "the text holds U+FFFD: it was decoded in a wrong way before it came here"
    return None


def leftovers(name: str, text: str) -> str | None:
    """`null` and `{{name}}` stand for a value that was not there. A result may well be "None"."""
    if name == "value":
        return f"{text[:40]!r} is no value" if text.strip().casefold() in _NO_VALUE else None
    if name in FREE_TEXT and (text.strip().casefold() in _LEFTOVERS or _TEMPLATE(text)):
        return f"{text.strip()[:40]!r} looks like a program's leftover"
    return None


def markup(name: str, text: str) -> str | None:
    if "<" not in text or name not in FREE_TEXT:
        return None
    found = _MARKDOWN_MARKUP(text) if name in MARKDOWN else _MARKUP(text)
    return None if found is None else "the text holds HTML or XML markup"


def markdown_links(name: str, text: str) -> str | None:
    """A link leads to the web or to a mailbox: never to a script, and never to a place beside the page."""
    if name not in MARKDOWN:
        return None
    for match in _TARGETS(text):
        target = match[1] or match[2] or match[3] or ""
        if not _ABSOLUTE(target):
            return f"the link to {target[:60]!r} is not one to http(s) or mailto"
    return None


def length(name: str, text: str) -> str | None:
    if name not in FREE_TEXT or len(text) <= MAX_LINE:
        return None
    most = MAX_LONG if name in _LONG else MAX_LINE
    return f"the text has {len(text)} characters; {most} are shown" if len(text) > most else None


def outer_blanks(name: str, text: str) -> str | None:
    if name in FREE_TEXT and text != text.strip() and text.strip():
        return "there are blanks around the text"
    return None


JUDGES: tuple[Judge, ...] = (normal_form, characters, leftovers, markup, markdown_links, length, outer_blanks)


def is_clean(name: str, text: str) -> bool:
    """Whether no rule for text finds anything in this value of the property `name`, not even a warning."""
    return not any(judge(name, text) for judge in JUDGES)


def in_every_text(judge: Judge) -> Check:
    """The rule that lets `judge` look at every string of a document."""

    def check(subject: Subject) -> Iterator[Found]:
        for path, name, text in subject.strings:
            message = judge(name, text)
            if message is not None:
                yield path, message

    return check
