"""The last look at what leaves for logs, error messages and problem documents: what can be told from its form to be a
secret is taken out. Code that handles secrets does not log them; this is for what others put into their messages.
"""

from __future__ import annotations

import re

# Each reads a text once, or from any place a bounded way on: strangers choose some of these texts.
_REPLACEMENTS: tuple[tuple[re.Pattern[str], str], ...] = (
    # An API key: its id stays, by which its owner finds it.
    (re.compile(r"(laurel_[0-9a-z]{12}_)[0-9a-z]{8,}"), r"\1…"),
    # A JSON Web Token: whoever has all of it can use it; without its signature it opens nothing.
    (re.compile(r"(?<![0-9A-Za-z_-])(eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,}\.)[0-9A-Za-z_-]{8,}"), r"\1…"),
    # A webhook secret (Standard Webhooks).
    (re.compile(r"whsec_[0-9A-Za-z+/=]{8,}"), "whsec_…"),
    # The password of a URL, up to the last @: it may hold what belongs written as %XX. A port is none.
    (
        re.compile(r"(\b[a-z][a-z0-9+.-]{1,30}://[^\s/:@\"'\\]{0,200}:)(?!\d+(?:[/?#,\s\"'\\]|$))[^\s\"'\\]{0,500}(@)"),
        r"\1…\2",
    ),
    (re.compile(r"(?i)(\bauthorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic)\s+)[^\s'\"\\,]+"), r"\1…"),
    # What PostgreSQL adds to an error: values of the row that it refused. Up to the line's end, JSON's \n too.
    (re.compile(r"(\bDETAIL: +)(?:[^\"\\\n]|\\(?!n).)*"), r"\1…"),
)
_MAYBE = re.compile(r"laurel_|eyJ|whsec_|://|uthorization|DETAIL|UTHORIZATION").search


def redact(text: str) -> str:
    """The text without what looks like a secret: API keys, tokens, webhook secrets, passwords in URLs, rows' values."""
    if _MAYBE(text) is None:
        return text
    for pattern, replacement in _REPLACEMENTS:
        text = pattern.sub(replacement, text)
    return text
