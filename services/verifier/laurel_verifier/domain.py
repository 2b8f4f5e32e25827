"""What is checked and what follows from it, purely: documents, times and answers come in as values.

The verdict is the first of these that applies (the same numbers stand at the code):
 1. invalid: a check failed that speaks against the document itself (its form, words, schema, key, signature);
 2. unknown_issuer: nobody that we can ask knows the issuer, so its key cannot be found;
 3. could_not_check: the document, its key or its signature could not be checked, so nothing in it can be relied on;
 4. revoked, 5. suspended: it is genuine, and its issuer has taken it back (for good, or for now);
 6. expired, 7. not_yet_valid: it is genuine, and its time is over or has not come;
 8. could_not_check: it is genuine and in its time, but whether it was taken back could not be found out;
 9. valid: every check that applies has passed.
Whose it is (the step "recipient") is an answer of its own: a wrong guess changes nothing about the document. So is what
others say of it ("endorsements"), and whether there is a newer one ("refresh").
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal

from laurel.credential.contexts import CREDENTIALS_V1, CREDENTIALS_V2, schema_source
from laurel.credential.text import is_absolute_identifier, parse_timestamp, timestamp
from laurel_verifier.checks import Against, Check, Step, failed, not_applicable, not_checked, passed

Verdict = Literal[
    "valid", "invalid", "revoked", "suspended", "expired", "not_yet_valid", "unknown_issuer", "could_not_check"
]

MAX_PROOFS = 8  # a proof costs a key lookup and a canonicalisation
MAX_STATUS_ENTRIES = 8  # an entry may cost a request to somebody else
MAX_IDENTIFIER = 2048  # characters of an issuer's DID or URL
# Issuers and keys come again and again. Only for what is no longer than MAX_IDENTIFIER: it is kept.
is_identifier = functools.lru_cache(maxsize=512)(is_absolute_identifier)
OPEN_BADGE_TYPES = {"OpenBadgeCredential", "AchievementCredential"}  # Open Badges 3.0 §9.1
_GENUINE: tuple[Step, ...] = ("format", "context", "schema", "issuer", "signature")
_ASIDE: tuple[Step, ...] = ("recipient", "refresh", "endorsements")
# Failures that do not say that the document is wrong.
_MILD = {"unknown_issuer", "revoked", "suspended", "expired", "not_yet_valid"}


def decide(checks: Iterable[Check]) -> Verdict:
    """The verdict, by the precedence that the module's docstring lists."""
    found = {check.step: check for check in checks if check.step not in _ASIDE}
    failures = {check.code for check in found.values() if check.outcome == "failed"}
    if failures - _MILD:  # 1
        return "invalid"
    if "unknown_issuer" in failures:  # 2
        return "unknown_issuer"
    # 3 (a schema that we do not know takes nothing from a signature; the other four are what it rests on)
    needed = (step for step in _GENUINE if step != "schema")
    if any(step not in found or found[step].outcome != "passed" for step in needed):
        return "could_not_check"
    if "revoked" in failures:  # 4
        return "revoked"
    if "suspended" in failures:  # 5
        return "suspended"
    if "expired" in failures:  # 6
        return "expired"
    if "not_yet_valid" in failures:  # 7
        return "not_yet_valid"
    if any(step not in found or found[step].outcome == "not_checked" for step in ("dates", "status")):  # 8
        return "could_not_check"
    return "valid"  # 9


# --- reading documents --------------------------------------------------------------------------------------


def listed(value: Any) -> list[Any]:
    """JSON-LD's "one or several" as a list; null is none."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def objects(value: Any) -> list[dict[str, Any]]:
    """The JSON objects among one or several."""
    return [one for one in listed(value) if isinstance(one, dict)]


def status_entries(document: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The entries of credentialStatus, each with the JSON Pointer to it."""
    value = document.get("credentialStatus")
    if isinstance(value, list):
        return [(f"/credentialStatus/{place}", one) for place, one in enumerate(value) if isinstance(one, dict)]
    return [("/credentialStatus", value)] if isinstance(value, dict) else []


def context_place(document: Mapping[str, Any], url: str) -> str:
    """JSON Pointer of the context that names `url`; of them all, where it is an inline one's affair."""
    named = document.get("@context")
    return f"/@context/{named.index(url)}" if isinstance(named, list) and url in named else "/@context"


def issuer_id(document: Mapping[str, Any]) -> str | None:
    """The issuer's DID or URL."""
    issuer = document.get("issuer")
    found = issuer.get("id") if isinstance(issuer, dict) else issuer
    return found if isinstance(found, str) else None


def claims_our_address(document: Mapping[str, Any], base_url: str) -> bool:
    """Whether the document's id is an address below our /c/ (scheme and host in any case: RFC 3986 §6.2.2.1)."""
    identifier = document.get("id")
    return isinstance(identifier, str) and identifier.lower().startswith(f"{base_url}/c/".lower())


def same_json(one: Any, other: Any) -> bool:
    """Whether two parsed documents are the same but for white space, escapes and the order of members."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)  # unlike ==, tells 1 from true


def own_credential_id(document: Mapping[str, Any], base_url: str) -> str | None:
    """The id in the index that the document claims: the last part of an address below our /c/."""
    identifier = document.get("id")
    prefix = f"{base_url}/c/"
    if not isinstance(identifier, str) or not identifier.startswith(prefix):
        return None
    rest = identifier[len(prefix) :]
    return rest if rest and len(rest) <= 64 and rest.replace("-", "").isalnum() and rest.isascii() else None


_DATES = {
    **dict.fromkeys(("/validFrom", "/validUntil"), "VC Data Model 2.0 §4.9"),
    "/issuanceDate": "VC Data Model 1.1 §4.6", "/expirationDate": "VC Data Model 1.1 §4.8",
}  # fmt: skip


def check_format(document: Any, size: int, *, enveloped: bool = False) -> Check:
    """Step "format": what every verifiable credential has, in the types that it has them in.

    enveloped: a token secures it from outside, so that it needs no proof inside.
    """
    bare = enveloped and isinstance(document, dict) and "proof" not in document
    problem = next((one for one in _format_problems(document) if not (bare and one[0] == "no_proof")), None)
    if problem is not None:
        code, pointer, detail = problem
        if code == "unsupported_format":  # it may be as good as can be: we just cannot read it
            return not_checked("format", code, detail, pointer=pointer)
        return failed("format", code, detail, pointer=pointer, clause=_DATES.get(pointer))
    return well_formed(document, size)


def well_formed(document: Mapping[str, Any], size: int) -> Check:
    """Step "format" of a document in whose form nothing is wrong."""
    model = "2.0" if document["@context"][0] == CREDENTIALS_V2 else "1.1"
    return passed("format", f"a verifiable credential of data model {model}, {size:,} bytes of well-formed JSON")


def _format_problems(document: Any) -> Iterator[tuple[str, str, str]]:
    """(code, JSON Pointer, detail)."""
    if not isinstance(document, dict):
        yield "not_an_object", "", "the credential is not a JSON object"
        return
    contexts = document.get("@context")
    if unread := _other_format(document, contexts):
        yield "unsupported_format", "/@context", unread
        return
    if not isinstance(contexts, list) or not contexts or contexts[0] not in (CREDENTIALS_V2, CREDENTIALS_V1):
        yield "no_credential_context", "/@context", f"@context is not a list that begins with {CREDENTIALS_V2}"
        return
    if not all(isinstance(one, str | dict) for one in contexts):
        yield "bad_context", "/@context", "@context holds something that is neither a URL nor an object"
    types = listed(document.get("type"))
    if "VerifiableCredential" not in types or not all(isinstance(one, str) for one in types):
        yield "not_a_credential", "/type", "type does not hold VerifiableCredential"
    for name in ("id", "credentialSubject", "issuer", "proof"):
        if name in document and document[name] is None:
            yield "null_member", f"/{name}", f"{name} is null; leave it out"
    identifier = document.get("id")
    if identifier is not None and not (isinstance(identifier, str) and is_absolute_identifier(identifier)):
        yield "bad_id", "/id", "id is not an absolute URL, URN or DID"
    issuer = issuer_id(document)
    if issuer is None or len(issuer) > MAX_IDENTIFIER or not is_identifier(issuer):
        yield "bad_issuer", "/issuer", "issuer is neither an absolute URL or DID nor an object with such an id"
    subjects = listed(document.get("credentialSubject"))
    if not subjects or not all(isinstance(one, dict) and one for one in subjects):
        detail = "credentialSubject is missing, empty or no object: the credential says nothing"
        yield "no_subject", "/credentialSubject", detail
    if set(map(str, types)) & OPEN_BADGE_TYPES and not all(one.get("id") or one.get("identifier") for one in subjects):
        # Open Badges 3.0 §9.1 step 1, second point
        yield "unidentified_subject", "/credentialSubject", "credentialSubject has neither an id nor an identifier"
    for name in ("credentialStatus", "credentialSchema", "evidence", "termsOfUse", "refreshService"):
        if name in document and not _typed_objects(document[name]):
            yield "bad_member", f"/{name}", f"{name} is not an object (or a list of objects) with a type"
    if len(listed(document.get("credentialStatus"))) > MAX_STATUS_ENTRIES:
        detail = f"more than {MAX_STATUS_ENTRIES} entries in credentialStatus"
        yield "too_many_statuses", "/credentialStatus", detail
    for name in ("validFrom", "validUntil", "issuanceDate", "expirationDate"):
        if name in document and parse_timestamp(document[name]) is None:
            detail = f"{name} is not a date and time with a time zone (XML Schema 1.1 dateTimeStamp)"
            yield "bad_date", f"/{name}", detail
    if contexts[0] == CREDENTIALS_V1 and "issuanceDate" not in document:  # VC Data Model 1.1 §4.6
        detail = "issuanceDate is missing: a credential of data model 1.1 says when it becomes valid"
        yield "no_issuance_date", "/issuanceDate", detail
    proofs = listed(document.get("proof"))
    if not proofs:
        yield "no_proof", "/proof", "there is no proof: anybody could have written this"
    if not all(isinstance(one, dict) for one in proofs):
        yield "bad_proof", "/proof", "proof is not an object or a list of objects"
    if len(proofs) > MAX_PROOFS:
        yield "too_many_proofs", "/proof", f"{len(proofs)} proofs; at most {MAX_PROOFS} are checked"


def _other_format(document: Mapping[str, Any], contexts: Any) -> str | None:
    """What it is, if it is something that people take for a credential of this kind."""
    if any(isinstance(one, str) and one.startswith("https://w3id.org/openbadges/v") for one in listed(contexts)):
        return "this is an Open Badge of version 2 or older; Laurel reads Open Badges 3.0: ask its issuer for one"
    if "VerifiablePresentation" in listed(document.get("type")):
        return "this is a presentation; send the credentials in it (verifiableCredential) one by one"
    return None


def _typed_objects(value: Any) -> bool:
    entries = listed(value)
    return bool(entries) and all(isinstance(one, dict) and listed(one.get("type")) for one in entries)


def named_schemas(document: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The schemas that the credential says it follows: those of Open Badges 3.0 that Laurel has, and all others.

    One that names none is held against none: §9.1 step 1 asks it only "if" there is a credentialSchema, and the schema
    refuses what the standard allows, credentials of data model 1.1 (no validFrom) and several status entries among it.
    """
    named = list(dict.fromkeys(str(one.get("id")) for one in objects(document.get("credentialSchema"))))
    ours = [url for url in named if schema_source(url) is not None]
    return ours, [url for url in named if url not in ours]


# --- dates ----------------------------------------------------------------------------------------------------


def check_dates(document: Mapping[str, Any], now: datetime) -> Check:
    """Step "dates": validFrom ≤ now ≤ validUntil (in data model 1.1: issuanceDate and expirationDate)."""
    starts = [parse_timestamp(document[name]) for name in ("validFrom", "issuanceDate") if name in document]
    ends = [parse_timestamp(document[name]) for name in ("validUntil", "expirationDate") if name in document]
    start = max((one for one in starts if one is not None), default=None)  # where both are given, both must hold
    end = min((one for one in ends if one is not None), default=None)
    at = timestamp(now)
    clock = [Against(kind="clock", id="UTC", source="clock", at=at)]
    names = {name: name for name in ("validFrom", "validUntil")}
    if "validFrom" not in document and "issuanceDate" in document:
        names = {"validFrom": "issuanceDate", "validUntil": "expirationDate"}
    ending, beginning = f"/{names['validUntil']}", f"/{names['validFrom']}"
    if start is not None and end is not None and end < start:
        detail = f"it ends ({timestamp(end)}) before it begins ({timestamp(start)}): never valid"
        return failed("dates", "dates_reversed", detail, pointer=ending, against=clock)
    if end is not None and now > end:
        detail = f"it was valid until {timestamp(end)}; checked at {at}"
        return failed("dates", "expired", detail, pointer=ending, against=clock)
    if start is not None and now < start:
        detail = f"it is valid from {timestamp(start)}; checked at {at}"
        return failed("dates", "not_yet_valid", detail, pointer=beginning, against=clock)
    span = f"from {timestamp(start)}" if start is not None else "without a beginning"
    span += f" until {timestamp(end)}" if end is not None else ", without an end"
    return passed("dates", f"valid {span}; checked at {at}", against=clock)


# --- status -----------------------------------------------------------------------------------------------------


def indexed_status(status: str, changed_at: datetime | None, now: datetime) -> Check:
    """Step "status" of a credential of our own: what the index knows."""
    at = timestamp(now)
    index = [Against(kind="status", id="credentialStatus", source="index", at=at)]
    if status == "active":
        detail = f"neither revoked nor suspended by its issuer; Laurel's index asked at {at}"
        return passed("status", detail, against=index)
    since = f" on {timestamp(changed_at)}" if changed_at is not None else ""
    word = "taken back for good" if status == "revoked" else "suspended for the time being"
    detail = f"{word} by its issuer{since}; Laurel's index asked at {at}"
    return failed("status", status, detail, pointer="/credentialStatus", against=index)


def worst_status(checks: Iterable[Check]) -> Check:
    """Of several entries: revoked, suspended, wrong in another way, could not be checked, fine: the first of these."""
    rank = {"revoked": 0, "suspended": 1}
    others = {"failed": 2, "not_checked": 3}
    return min(checks, key=lambda one: rank.get(one.code or "", others.get(one.outcome, 4)))


# --- the holder ---------------------------------------------------------------------------------------------------


def check_recipient(document: Mapping[str, Any], expected: str | None, *, genuine: bool = True) -> Check:
    """Step "recipient": whose it is, and whether that is `expected` (an e-mail address or a DID), if given."""
    subjects = objects(document.get("credentialSubject"))
    known = [one["id"] for one in subjects if isinstance(one.get("id"), str)]
    identities = [one for subject in subjects for one in objects(subject.get("identifier"))]
    if expected is None or not expected.strip():
        return not_applicable("recipient", _described(known, identities) + "; nobody was named to compare with")
    wanted = expected.strip()
    if not known and not identities:
        detail = "the credential does not say to whom it was awarded"
        return failed("recipient", "no_recipient", detail, pointer="/credentialSubject")
    if any(_same_id(one, wanted) for one in known) or any(_identity_matches(one, wanted) for one in identities):
        if not genuine:
            detail = "it names the person that you named, which says nothing as long as it is not shown to be genuine"
            return not_checked("recipient", "not_genuine", detail, pointer="/credentialSubject")
        return passed("recipient", "the person that you named is the one it was awarded to")
    if not any(_readable(one) for one in identities) and not known:
        detail = "its recipient is hashed in a way not known here"
        return not_checked("recipient", "unreadable_identity", detail, pointer="/credentialSubject/identifier")
    detail = "it was awarded to somebody else than the person that you named"
    return failed("recipient", "recipient_mismatch", detail, pointer="/credentialSubject")


def _described(known: list[str], identities: list[dict[str, Any]]) -> str:
    if known:
        return f"awarded to {known[0][:200]}"
    if any(one.get("hashed") is True for one in identities):
        kind = {"emailAddress": "e-mail address"}.get(str(identities[0].get("identityType")), "identifier")
        return f"awarded to the person whose {kind} has the hash that it holds; the address itself is not in it"
    return "awarded to a named person" if identities else "it does not say to whom it was awarded"


def _same_id(identifier: str, wanted: str) -> bool:
    return identifier == wanted or ("@" in wanted and identifier.removeprefix("mailto:").lower() == wanted.lower())


def _readable(identity: Mapping[str, Any]) -> bool:
    value = identity.get("identityHash")
    return isinstance(value, str) and (identity.get("hashed") is not True or value.startswith(("sha256$", "md5$")))


def _identity_matches(identity: Mapping[str, Any], wanted: str) -> bool:
    value, salt = identity.get("identityHash"), identity.get("salt", "")
    if not isinstance(value, str) or not isinstance(salt, str):
        return False
    # The standard does not say how an address is written before it is hashed: as typed, or as backpacks do.
    candidates = {wanted, wanted.lower(), unicodedata.normalize("NFC", wanted).lower()}
    if identity.get("hashed") is not True:
        return any(value == one or value.lower() == one for one in candidates)
    algorithm, _, digest = value.partition("$")
    if algorithm not in ("sha256", "md5"):
        return False
    return any(
        hmac.compare_digest(hashlib.new(algorithm, (one + salt).encode("utf-8", "replace")).hexdigest(), digest.lower())
        for one in candidates
        if digest.isascii()
    )
