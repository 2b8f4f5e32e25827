"""Reading the bodies of HTML forms: urlencoded or multipart (RFC 7578), bounded, without surprises."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs

from laurel.problems import Problem

MAX_FIELDS = 20
_BOUNDARY = re.compile(r'boundary="?([0-9A-Za-z\'()+_,./:=? -]{1,70}?)"?\s*(?:;|$)').search  # RFC 2046 §5.1.1
_NAME = re.compile(rb'[;\s]name="([A-Za-z0-9_-]{1,40})"', re.IGNORECASE).search


def parse_form(content_type: str, body: bytes) -> dict[str, bytes]:
    """Field → bytes; of a field that comes twice the first. Raises Problem 415, 400."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        try:
            fields = parse_qs(
                body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, encoding="utf-8",
                errors="surrogateescape",
            )  # fmt: skip
        except ValueError:
            raise Problem(400, "bad_form", "the form's body cannot be read") from None
        return {name: values[0].encode("utf-8", "surrogateescape") for name, values in fields.items()}
    if kind == "multipart/form-data":
        boundary = _BOUNDARY(content_type)
        if boundary is None:
            raise Problem(400, "bad_form", "the form's content type names no boundary")
        return _multipart(body, b"--" + boundary[1].encode())
    raise Problem(415, "unsupported_media_type", "send a form, as multipart/form-data or urlencoded")


@dataclass(frozen=True, slots=True)
class Handed:
    """What a form hands in: bytes (a file, or pasted text) or an address. recipient: whose it should be, "" unsaid."""

    body: bytes = b""
    url: str = ""
    recipient: str = ""


def handed_in(content_type: str, body: bytes) -> Handed:
    """The fields `file`, `url`, `credential` (one of these) and `recipient`. Raises Problem 415, 400, 422."""
    fields = parse_form(content_type, body)
    file, pasted = fields.get("file", b""), fields.get("credential", b"").strip()
    url, recipient = line(fields.get("url"), 2049), line(fields.get("recipient"), 320)
    given = [name for name, value in (("a file", file), ("an address", url), ("a text", pasted)) if value]
    if len(given) > 1:
        detail = f"You gave {' and '.join(given)}: leave all but one empty, so that it is clear which one is meant."
        raise Problem(422, "several_sources", detail)
    if not given:
        raise Problem(422, "no_source", "Choose a file, give an address, or paste a credential.")
    return Handed(file or pasted, url, recipient)


_CONTROL = re.compile("[\x00-\x1f\x7f]")


def line(value: bytes | None, most: int) -> str:
    """A one-line field: UTF-8 (what is not is replaced), trimmed, without control characters, cut off at `most`."""
    return _CONTROL.sub("", (value or b"").decode("utf-8", "replace")).strip()[:most]


def _multipart(body: bytes, delimiter: bytes) -> dict[str, bytes]:
    parts = (b"\r\n" + body).split(b"\r\n" + delimiter, MAX_FIELDS + 1)[1:]
    found: dict[str, bytes] = {}
    for part in parts:
        if part.startswith(b"--"):  # the closing delimiter
            return found
        head, mark, content = part.partition(b"\r\n\r\n")
        name = _NAME(head)
        if not mark or name is None:
            break
        found.setdefault(name[1].decode(), content)
    raise Problem(400, "bad_form", "the form's body cannot be read, or has too many fields")
