"""What an issuer says of a credential after its issue, purely: what status entries and their values mean.

Bitstring Status List 1.0 §2.1: revocation and suspension speak against a credential; refresh ("does not invalidate")
and messages take nothing from its validity, and become notices beside the verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from laurel.credential.status import MAX_SIZE
from laurel.credential.text import is_web_url
from laurel.plain_text import legible
from laurel_verifier import domain
from laurel_verifier.checks import Against, Check, failed, passed

_VERDICTS = {"revocation": "revoked", "suspension": "suspended"}
_MAX_SERVICES = 3
_MAX_TEXT = 200


class Service(msgspec.Struct, frozen=True):
    """A `refreshService`, as the credential names it; `1EdTechCredentialRefresh` is that of Open Badges 3.0."""

    id: str
    type: str


class Notice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What its issuer says of a credential without a word against it.

    purpose: of the status entry: refresh, message, or one of the issuer's own. message: what the credential says that
    the value means; the standard has developers in mind, not the public. reference: a page about it. services: where
    a newer credential may be had.
    """

    purpose: str
    value: int
    message: str | None = None
    reference: str | None = None
    services: tuple[Service, ...] = ()


class Told(msgspec.Struct, frozen=True, gc=False):
    """The step "status" for one entry."""

    check: Check
    notice: Notice | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A place in a status list. messages: what its values from 0 on mean; none: the entry does not say.

    at: JSON Pointer of the entry in its credential.
    """

    purpose: str
    url: str
    index: int
    size: int = 1
    messages: tuple[str, ...] = ()
    reference: str | None = None
    at: str = "/credentialStatus"


class BadEntry(Exception):
    """The entry is not as Bitstring Status List 1.0 §2.1 has it. unread: it is, and wider than what is read here."""

    def __init__(self, detail: str, *, unread: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.unread = unread


def read_entry(entry: Mapping[str, Any], at: str = "/credentialStatus") -> Entry:
    """The entry of a Bitstring Status List or of Status List 2021; at: as `Entry` has it. Raises BadEntry."""
    purpose, url = entry.get("statusPurpose"), entry.get("statusListCredential")
    index = _index(entry.get("statusListIndex"))
    if not isinstance(purpose, str) or not isinstance(url, str) or not is_web_url(url) or index is None:
        raise BadEntry("statusPurpose, statusListIndex and statusListCredential must name a place in a list")
    size = entry.get("statusSize", 1)
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise BadEntry("statusSize must be a whole number greater than 0")
    if size > MAX_SIZE:
        raise BadEntry(f"a statusSize of more than {MAX_SIZE} bits is not read here", unread=True)
    messages = _messages(entry.get("statusMessage"), size)
    if size > 1 and not messages:
        raise BadEntry("statusMessage must be there, because statusSize is greater than 1")
    references = [one for one in domain.listed(entry.get("statusReference")) if isinstance(one, str)]
    return Entry(purpose, url, index, size, messages, references[0] if references else None, at)


def _messages(value: Any, size: int) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) != 1 << size:
        raise BadEntry(f"statusMessage must be a list of {1 << size}, one for each value of {size} bits")
    found: dict[int, str] = {}
    for one in value:
        status, message = (one.get("status"), one.get("message")) if isinstance(one, dict) else (None, None)
        if not isinstance(status, str) or not isinstance(message, str) or not status.startswith("0x"):
            raise BadEntry('each statusMessage must have a status ("0x…") and a message')
        try:
            number = int(status[:10], 16)
        except ValueError:
            raise BadEntry(f"{status[:20]!r} in statusMessage is not a hexadecimal number") from None
        found[number] = message
    if set(found) != set(range(1 << size)):
        raise BadEntry("statusMessage must have one message for each value")
    return tuple(found[number] for number in range(1 << size))


def _index(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if value >= 0 else None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 15:
        return int(value) if value == str(int(value)) else None  # §2.1: there is one way to write a number
    return None


def services_of(document: Mapping[str, Any]) -> tuple[Service, ...]:
    """Where the credential says that a newer one may be had (VC Data Model 2.0 §4.13)."""
    found = []
    for one in domain.objects(document.get("refreshService")):
        kind = next((name for name in domain.listed(one.get("type")) if isinstance(name, str)), "")
        if isinstance(one.get("id"), str):
            found.append(Service(_quotable(one["id"]), _quotable(kind)))
    return tuple(found[:_MAX_SERVICES])


def judge(entry: Entry, value: int, where: str, document: Mapping[str, Any], against: Sequence[Against]) -> Told:
    """What `value` of an entry says of the credential `document`. where: in which list it was read, and when."""
    verdict = _VERDICTS.get(entry.purpose)
    text = _quotable(entry.messages[value]) if entry.messages else None
    meaning = f" (“{text}”)" if text is not None else ""
    if verdict is not None and value:
        detail = f"{verdict} by its issuer{meaning}: {where}"
        return Told(failed("status", verdict, detail, pointer=entry.at, against=against))
    if verdict is not None:
        return Told(passed("status", f"not {verdict}{meaning}: {where}", against=against))
    services: tuple[Service, ...] = ()
    if entry.purpose == "refresh":
        services = services_of(document) if value else ()
        said = "a newer one may be had in its place" if value else "no newer one is offered in its place"
        if value:
            named = ", ".join(f"{one.id} ({one.type})" for one in services)
            said += f": ask its refreshService {named}" if named else "; it names no refreshService: ask its issuer"
    elif entry.purpose == "message":
        text = text or ("set" if value else "unset")  # §2.1: what the values of an entry without messages say
        said = f"its issuer’s message is “{text}” ({value:#x}), which takes nothing from its validity"
    else:
        state = f"is {value:#x}{meaning}, which takes nothing from its validity" if value else "is not set"
        said = f"its status for “{_quotable(entry.purpose)[:60]}” {state}"
    notice = None
    if value or entry.purpose == "message":
        notice = Notice(
            purpose=_quotable(entry.purpose), value=value, message=text, reference=entry.reference, services=services
        )
    return Told(passed("status", f"{said}: {where}", against=against), notice)


def indexed_notices(document: Mapping[str, Any], *, refresh: bool, message: int, where: str) -> list[Told]:
    """What our index knows of a credential of our own, beside its status, by the entries that it carries."""
    values = {"refresh": int(refresh), "message": message}
    told = []
    for one in domain.objects(document.get("credentialStatus")):
        if one.get("statusPurpose") not in ("refresh", "message"):
            continue
        try:
            entry = read_entry(one)
        except BadEntry:
            continue
        if values[entry.purpose] < 1 << entry.size:
            told.append(judge(entry, values[entry.purpose], where, document, ()))
    return told


def combine(told: Sequence[Told]) -> tuple[Check, tuple[Notice, ...]]:
    """One check of several entries: the worst of them (`domain.worst_status`).

    Whatever the worst one is, what the others say is told behind it. There is at least one.
    """
    if len(told) == 1:
        return told[0].check, () if told[0].notice is None else (told[0].notice,)
    checks = [one.check for one in told]
    worst = domain.worst_status(checks)
    others: Iterable[Check] = (one for one in checks if one is not worst)
    detail = "; ".join([worst.detail, *(one.detail for one in others)])
    against = tuple(dict.fromkeys(held for one in checks for held in one.against))
    combined = msgspec.structs.replace(worst, detail=detail, against=against)
    return combined, tuple(one.notice for one in told if one.notice is not None)


def _quotable(text: str) -> str:
    """A stranger's words, for a line of ours: legible, and not endless."""
    return legible(text[:_MAX_TEXT]) + ("…" if len(text) > _MAX_TEXT else "")
