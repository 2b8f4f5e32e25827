"""The written forms that credentials are made of: timestamps, URLs, DIDs, JSON Pointers."""

from __future__ import annotations

import functools
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import msgspec

from laurel.credential import multibase

# XML Schema 1.1 §3.3.7 dateTime with the time zone required (VC Data Model 2.0 §4.9: dateTimeStamp), all of it and as
# nearly everybody writes it.
_ZONE = r"(Z|[+-](?:0\d|1[0-3]):[0-5]\d|[+-]14:00)"
_TIMESTAMP = re.compile(
    r"(-?)(0\d{3}|[1-9]\d{3,})-(\d\d)-(\d\d)T(?:([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(\.\d+)?|24:00:00(?:\.0+)?)" + _ZONE,
    re.ASCII,
).fullmatch
_USUAL = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d{1,12})?" + _ZONE, re.ASCII).fullmatch
_LONGEST = len("2026-05-04T12:30:00.123456789012+00:00")
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_CYCLE = timedelta(days=146_097)  # 400 years, after which the calendar repeats
FIRST_YEAR, LAST_YEAR = 1900, 2199
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:", re.ASCII).match
_URN = re.compile(r"urn:[A-Za-z0-9][A-Za-z0-9-]{0,31}:[!-~]+", re.ASCII | re.IGNORECASE).fullmatch  # RFC 8141 §2
_DID = re.compile(
    r"did:[a-z0-9]+:(?:[A-Za-z0-9._:-]|%[0-9A-Fa-f]{2})+(?:[/?#][!-~]*)?", re.ASCII
).fullmatch  # DID Core §3.1, §3.2
# RFC 3987 §2.2, with the parts of RFC 3986 that it takes over. RDF serialisation refuses everything else, and so must
# whoever takes a URL in: what is refused only when it is signed has been accepted before.
_UCSCHAR = "\xa0-\ud7ff\uf900-\ufdcf\ufdf0-\uffef" + "".join(
    f"{chr(plane << 16 | (0x1000 if plane == 0xE else 0))}-{chr(plane << 16 | 0xFFFD)}" for plane in range(1, 0xF)
)
_IPRIVATE = "\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd"
_NAME = rf"A-Za-z0-9._~!$&'()*+,;={_UCSCHAR}-"  # iunreserved and sub-delims
_ESCAPED = "%[0-9A-Fa-f]{2}"
_PATH = rf"(?:[/:@{_NAME}]|{_ESCAPED})*"
_TAIL = rf"(?:\?(?:[/:@?{_IPRIVATE}{_NAME}]|{_ESCAPED})*)?(?:#(?:[/:@?{_NAME}]|{_ESCAPED})*)?"
_WEB_URL = re.compile(
    rf"(?i:https?)://(?:\[[0-9A-Fa-f:.]+\]|(?:[{_NAME}]|{_ESCAPED})+)(?::[0-9]*)?(?:/{_PATH})?{_TAIL}"
).fullmatch
_OTHER_IRI = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]*:(?!//){_PATH}{_TAIL}").fullmatch


def timestamp(moment: datetime) -> str:
    """An aware datetime as `YYYY-MM-DDThh:mm:ssZ`; fractions of a second are cut off."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone; credentials need one")
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    text: str = msgspec.to_builtins(moment)  # five times as fast as isoformat
    return text[:19] + "Z"


def parse_timestamp(text: object) -> datetime | None:
    """The aware datetime of an XML Schema dateTimeStamp, or None when `text` is not one (no zone, no such day, …).

    What is before the year 1 in UTC, or after 9999, is the first or the last moment that a datetime can hold: that is
    on the same side of any clock.
    """
    return usual_timestamp(text) or _unusual_timestamp(text)


def usual_timestamp(text: object) -> datetime | None:
    """As `parse_timestamp`, for what Laurel takes in and signs: None for what XML Schema allows and other programs do
    not read: 24:00:00, more than 12 digits behind the point, years before 1 and after 9999 in UTC."""
    return _usual(text) if isinstance(text, str) and len(text) <= _LONGEST else None


@functools.lru_cache(maxsize=1024)  # the credentials of a batch are valid from one moment
def _usual(text: str) -> datetime | None:
    match = _USUAL(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    normal = f"{year}-{month}-{day}T{hour}:{minute}:{second}{(fraction or '')[:7]}"
    try:
        moment = datetime.fromisoformat(normal + ("+00:00" if zone == "Z" else zone))
        moment.astimezone(UTC)  # what cannot be told in UTC can be neither compared with a clock nor written
    except (ValueError, OverflowError):
        return None
    return moment


def _unusual_timestamp(text: object) -> datetime | None:
    match = _TIMESTAMP(text) if isinstance(text, str) else None
    if match is None:
        return None
    sign, year, month, day, hour, minute, second, fraction, zone = match.groups()
    if len(year) > 8:  # any number of digits: what is as far out of the calendar, and a leap year where it is one
        year = "9999" + year[-4:]
    cycle, rest = divmod(int(sign + year), 400)
    time = timedelta(hours=int(hour), minutes=int(minute), seconds=int(second)) if hour else timedelta(days=1)
    micro = timedelta(microseconds=int((fraction or ".")[1:7].ljust(6, "0")))
    offset = timedelta() if zone == "Z" else timedelta(hours=int(zone[:3]), minutes=int(zone[0] + zone[4:]))
    try:
        moment = datetime(2000 + rest, int(month), int(day), tzinfo=UTC) + time + micro - offset
    except ValueError:  # no such day
        return None
    try:
        return moment + (cycle - 5) * _CYCLE
    except OverflowError:
        return _FIRST if cycle < 5 else _LAST


# Letters, symbols and marks that by their very nature show nothing (Unicode 15.1, Default_Ignorable_Code_Point and the
# blank braille pattern); the other invisible ones are of the categories Cc, Cf and Z.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0").union(
    map(chr, range(0x180B, 0x1810)), map(chr, range(0xFE00, 0xFE10)), map(chr, range(0xE0100, 0xE01F0))
)


def shows_nothing(text: str) -> bool:
    """Whether a reader would see nothing of `text`: it is empty, or all blanks and invisible characters."""
    if text.isascii():
        return not text or text.isspace()
    return all(
        one.isspace() or one in _BLANK or unicodedata.category(one) in ("Cc", "Cf", "Zs", "Zl", "Zp") for one in text
    )


def is_plausible(moment: datetime) -> bool:
    """Whether an aware moment, in whole seconds of UTC, can be meant.

    The years 0001 and 9999 and the first second of 1970 are what programs write that had no time.
    """
    try:
        utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    except OverflowError:
        return False
    return FIRST_YEAR <= utc.year <= LAST_YEAR and (utc.year != _EPOCH.year or utc.replace(microsecond=0) != _EPOCH)


def is_web_url(text: str) -> bool:
    """Whether `text` is an absolute http(s) URL with a host and without user information (an IRI of RFC 3987 §2.2)."""
    if _WEB_URL(text) is None:
        return False
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return bool(parts.hostname)


def is_did(text: str) -> bool:
    """Whether `text` is a DID or DID URL by its syntax; a did:key must hold a key (did:key §2)."""
    if _DID(text) is None:
        return False
    return not text.startswith("did:key:") or _holds_key(re.split("[/?#]", text.removeprefix("did:key:"))[0])


def _holds_key(name: str) -> bool:
    try:
        return name.startswith("z") and multibase.is_public_key(multibase.decode(name))
    except multibase.MultibaseError:
        return False


def is_absolute_identifier(text: str) -> bool:
    """Whether `text` is an absolute URL, URN or DID that may stand as an `id`."""
    scheme = _SCHEME(text)
    if scheme is None:
        return False
    name = scheme[0][:-1].lower()
    if name in ("http", "https"):
        return is_web_url(text)
    if _OTHER_IRI(text) is None:
        return False
    if name == "urn":
        return _URN(text) is not None
    if name == "did":
        return _DID(text) is not None
    if name == "mailto":
        return "@" in text
    return False


def pointer(path: tuple[str | int, ...]) -> str:
    """RFC 6901 JSON Pointer of a path of keys and indexes; "" is the whole document."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
