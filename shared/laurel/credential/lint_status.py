"""The rules of `lint` about status: the entries of a credential, and status lists themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from laurel.credential import status
from laurel.credential.lint_rules import Found, Subject, objects_at, types_of
from laurel.credential.text import is_web_url

PURPOSES = frozenset({"revocation", "suspension", "refresh", "message"})
_INDEX = re.compile(r"0|[1-9][0-9]{0,15}").fullmatch
_HEX = re.compile(r"0x[0-9a-fA-F]+").fullmatch


def status_entries(subject: Subject) -> Iterator[Found]:
    value = subject.document.get("credentialStatus")
    if value is not None and not isinstance(value, dict | list):
        yield ("credentialStatus",), "credentialStatus is neither an object nor a list"
    for path, entry in objects_at(subject.document, "credentialStatus", ()):
        if entry.get("type") != "BitstringStatusListEntry":
            yield (*path, "type"), "the entry is not a BitstringStatusListEntry"
        index, url = entry.get("statusListIndex"), entry.get("statusListCredential")
        if not isinstance(index, str) or not _INDEX(index):
            yield (*path, "statusListIndex"), "statusListIndex is not a string with a whole number"
        if not isinstance(url, str) or not is_web_url(url):
            yield (*path, "statusListCredential"), "statusListCredential is not an absolute http(s) URL"
        elif entry.get("id") == url:
            yield (*path, "id"), "the entry's id is the URL of the list"
        if not isinstance(entry.get("statusPurpose"), str):
            yield (*path, "statusPurpose"), "statusPurpose is missing"


def status_unique(subject: Subject) -> Iterator[Found]:
    """No two entries share an id, a place in a list, or (messages aside) a purpose."""
    seen: set[tuple[str, str]] = set()
    for path, entry in objects_at(subject.document, "credentialStatus", ()):
        purpose = entry.get("statusPurpose")
        place = repr((entry.get("statusListCredential"), entry.get("statusListIndex")))
        keys = [("a place in a list", place)]
        if "id" in entry:
            keys.append(("an id", repr(entry["id"])))
        if purpose != "message":
            keys.append(("a purpose", repr(purpose)))
        for what, value in keys:
            if (what, value) in seen:
                yield path, f"two entries share {what}"
            seen.add((what, value))


def status_purpose(subject: Subject) -> Iterator[Found]:
    for path, entry in objects_at(subject.document, "credentialStatus", ()):
        purpose = entry.get("statusPurpose")
        if isinstance(purpose, str) and purpose not in PURPOSES:
            yield (*path, "statusPurpose"), f"verifiers do not know the purpose {purpose!r}"


def status_message(subject: Subject) -> Iterator[Found]:
    """Several bits say which message holds: one message for each value that they can have."""
    for path, entry in objects_at(subject.document, "credentialStatus", ()):
        size, messages = entry.get("statusSize", 1), entry.get("statusMessage")
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= status.MAX_SIZE:
            yield (*path, "statusSize"), f"statusSize is not a whole number from 1 to {status.MAX_SIZE}"
        elif messages is None:
            if size > 1 or entry.get("statusPurpose") == "message":
                yield (*path, "statusMessage"), "nothing says what the values of the status mean"
        elif wrong := _wrong_messages(messages, size):
            yield (*path, "statusMessage"), wrong
        references = entry.get("statusReference", [])
        for url in references if isinstance(references, list) else [references]:
            if not isinstance(url, str) or not is_web_url(url):
                yield (*path, "statusReference"), "statusReference is not an absolute http(s) URL"


def _wrong_messages(messages: Any, size: int) -> str | None:
    listed = messages if isinstance(messages, list) else [messages]
    said: list[int] = []
    for one in listed:
        value, text = (one.get("status"), one.get("message")) if isinstance(one, dict) else (None, None)
        if not isinstance(value, str) or not _HEX(value) or not isinstance(text, str) or not text.strip():
            return "a message is not an object with a hexadecimal status like 0x1 and a message"
        said.append(int(value, 16))
    if sorted(said) != list(range(1 << size)):
        return f"there is not one message for each of the {1 << size} values that {size} bits can have"
    return None


def status_list(subject: Subject) -> Iterator[Found]:
    """A BitstringStatusListCredential that verifiers can use."""
    for wanted in ("VerifiableCredential", "BitstringStatusListCredential"):
        if wanted not in types_of(subject.document):
            yield ("type",), f"{wanted} is missing"
    if not is_web_url(str(subject.document.get("id"))):
        yield ("id",), "the id is not the list's http(s) URL"
    nodes = list(subject.subjects())
    if len(nodes) != 1:
        yield ("credentialSubject",), "there is not exactly one credentialSubject"
    for path, node in nodes:
        if node.get("type") != "BitstringStatusList":
            yield (*path, "type"), "the subject is not a BitstringStatusList"
        purposes = node.get("statusPurpose")
        listed = purposes if isinstance(purposes, list) and purposes else [purposes]
        if not all(isinstance(one, str) for one in listed):
            yield (*path, "statusPurpose"), "statusPurpose is missing"
        ttl = node.get("ttl")
        if ttl is not None and (not isinstance(ttl, int) or isinstance(ttl, bool) or ttl <= 0):
            yield (*path, "ttl"), "ttl is not a positive number of milliseconds"


def status_bits(subject: Subject) -> Iterator[Found]:
    """The list unfolds, and hides each credential among enough others."""
    for path, node in subject.subjects():
        try:
            entries = status.entries(status.decode_list(str(node.get("encodedList"))))
            if entries < status.MINIMUM_ENTRIES:
                raise status.StatusError("range", f"{entries} entries; at least {status.MINIMUM_ENTRIES} are needed")
        except status.StatusError as caught:
            yield (*path, "encodedList"), str(caught)
