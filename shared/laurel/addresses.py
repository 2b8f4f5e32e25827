"""Which e-mail addresses we take in: those that we can also write to."""

from __future__ import annotations

import re

# RFC 5321 §4.5.3.1: 64 octets before the @, 255 after. A dot-atom or nearly so; what a mail server does not like of the
# rest it will say. Line breaks, spaces, quotes and brackets never pass: they could change a header's meaning.
_NO = r"\s\x00-\x20\x7f@<>()\[\],;:\\\""
_ADDRESS = re.compile(rf"[^{_NO}]{{1,64}}@([^{_NO}.]{{1,63}}\.)+[^{_NO}.]{{1,63}}").fullmatch


def is_address(text: str) -> bool:
    """Whether `text` is name@domain, and can stand in a header and an SMTP command without changing their meaning."""
    return len(text) <= 254 and _ADDRESS(text) is not None
