"""The claims of a token beside the credential that its payload is: which must be there, and what they must agree with.

VC-JWT (Open Badges 3.0 §8.2.3, §8.2.5) repeats the credential's properties: `iss` the issuer's id, `jti` the id, `nbf`
validFrom, `exp` validUntil, `sub` the subject's id. They are required, and a verifier must compare them. A credential
of data model 1.1 stands in a claim `vc`, whether it is an Open Badge or not (VC Data Model 1.1 §6.3.1); what is none
needs no id, and then no `jti`.

vc+jwt and vp+jwt (VC-JOSE-COSE 1.0 §3.1.3) need none. `iss`, `jti` and `sub` must not contradict the payload where they
are there; `exp` and `nbf` are about the signature, not the credential. `vc` and `vp` are forbidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from laurel.credential.contexts import CREDENTIALS_V1
from laurel.credential.text import parse_timestamp, pointer, timestamp
from laurel.errors import LaurelError

# RFC 7519 §4.1; RFC 7800 §3.1. Everything else is a word of the credential, and must be defined like any other.
CLAIMS = frozenset({"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf"})
_PRESENTATION_CLAIMS = CLAIMS | {"nonce"}  # OpenID Connect Core 1.0 §2
_OPEN_BADGE_TYPES = frozenset({"OpenBadgeCredential", "AchievementCredential", "EndorsementCredential"})
_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z


class JoseError(LaurelError):
    """A token cannot be read. `code` is one of those of security.BadJson, for its header and payload, or of:

    malformed_jwt, malformed_header, malformed_signature, malformed_claim, malformed_envelope, critical_header,
    insecure_algorithm, unknown_algorithm, wrong_typ, forbidden_claim, missing_claim, claim_mismatch, wrong_audience,
    no_key_named, unsupported_key, secret_key_published, unknown_envelope.

    pointer: JSON Pointer (RFC 6901) of the member that is wrong: of the payload; for codes that speak of the header, of
    that; for those of an envelope, of the object that holds the token. None: it is about no member.
    """

    def __init__(self, code: str, detail: str, pointer: str | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.pointer = pointer

    def __reduce__(self) -> tuple[type[JoseError], tuple[str, str, str | None]]:
        return type(self), (self.code, self.detail, self.pointer)


@dataclass(frozen=True)
class Claims:
    """What a token says about itself. audience, nonce: for whom and to which challenge a presentation was made.

    not_before, expires: of the signature; None for VC-JWT, whose claims are the credential's own dates.
    taken: JSON Pointer of a date that the credential has from a claim alone → of that claim.
    """

    issuer: str | None = None
    audience: frozenset[str] = frozenset()
    nonce: str | None = None
    not_before: datetime | None = None
    expires: datetime | None = None
    taken: Mapping[str, str] = field(default_factory=dict)


def is_open_badge(document: dict[str, Any]) -> bool:
    """Whether Open Badges' rules hold, by its type."""
    types = document.get("type")
    named = {one for one in (types if isinstance(types, list) else [types]) if isinstance(one, str)}
    return bool(named & _OPEN_BADGE_TYPES)


def is_vc_jwt(payload: dict[str, Any]) -> bool:
    """Whether the claims repeat the credential: Open Badges' do, and those around one of data model 1.1."""
    return "vc" in payload or is_open_badge(payload)


def claims_of(document: dict[str, Any]) -> dict[str, Any]:
    """The claims that VC-JWT adds to `document`, a credential of data model 2.0 that passed lint (§8.2.3)."""
    claims: dict[str, Any] = {"iss": _identifier(document.get("issuer"))}
    if "validUntil" in document:
        claims["exp"] = _numeric(document["validUntil"])
    claims["jti"] = document.get("id")
    claims["nbf"] = _numeric(document.get("validFrom"))
    claims["sub"] = _subject(document)
    return {name: value for name, value in claims.items() if value is not None}


def split(payload: dict[str, Any], form: Literal["vc-jwt", "vc+jwt", "vp+jwt"]) -> tuple[dict[str, Any], Claims]:
    """The payload as the document that it holds and its claims, which agree with each other. Raises JoseError."""
    if form == "vc-jwt":
        return _vc_jwt(payload)
    for name in ("vc", "vp"):
        if name in payload:
            raise JoseError("forbidden_claim", f"{form} has no claim {name!r} (VC-JOSE-COSE 1.0 §1.1.2.1)", f"/{name}")
    registered = _PRESENTATION_CLAIMS if form == "vp+jwt" else CLAIMS
    document = {name: value for name, value in payload.items() if name not in registered}
    issuer = document.get("holder" if form == "vp+jwt" else "issuer")
    _agree(payload, "iss", _identifier(issuer), "the holder" if form == "vp+jwt" else "the issuer")
    _agree(payload, "jti", document.get("id"), "the id")
    if form == "vc+jwt":
        _agree(payload, "sub", _subject(document), "the subject's id")
        _no_audience(payload)
    nonce = payload.get("nonce")
    if form == "vp+jwt" and nonce is not None and not isinstance(nonce, str):
        raise JoseError("malformed_claim", "nonce is not a string", "/nonce")
    return document, Claims(
        issuer=payload.get("iss"),
        audience=_audience(payload),
        nonce=nonce if form == "vp+jwt" else None,
        not_before=_moment(payload, "nbf"),
        expires=_moment(payload, "exp"),
    )


def _vc_jwt(payload: dict[str, Any]) -> tuple[dict[str, Any], Claims]:
    if "vp" in payload:
        detail = "a VC-JWT has no claim 'vp': it is a credential, not a presentation"
        raise JoseError("forbidden_claim", detail, "/vp")
    if "vc" in payload:
        document = _of_vc_claim(payload)
    else:
        document = {name: value for name, value in payload.items() if name not in CLAIMS}
    begins, ends = _date_names(document)
    badge = is_open_badge(document)
    clause = "Open Badges 3.0 §8.2.3" if badge else "VC Data Model 1.1 §6.3.1"
    _agree(payload, "iss", _identifier(document.get("issuer")), "the issuer", needed=clause)
    _agree(payload, "sub", _subject(document), "the subject's id", needed="" if _subject(document) is None else clause)
    _agree_in_time(payload, "nbf", document.get(begins), begins, needed=clause)
    _agree(payload, "jti", document.get("id"), "the id", needed=clause if badge or "id" in document else "")
    _no_audience(payload)
    if "exp" in payload:
        if ends in document:
            _agree_in_time(payload, "exp", document[ends], ends, needed=clause)
        else:  # §8.2.5.1: it must then be used to set the value
            moment = _moment(payload, "exp")
            assert moment is not None
            document[ends] = timestamp(moment)
    written = payload.get("vc", payload)
    dates = ((begins, "nbf"), (ends, "exp"))
    taken = {f"/{name}": f"/{claim}" for name, claim in dates if name in document and name not in written}
    return document, Claims(issuer=payload.get("iss"), taken=taken)


def _of_vc_claim(payload: dict[str, Any]) -> dict[str, Any]:
    """VC Data Model 1.1 §6.3.1 "JWT decoding": what the claims say is part of the credential."""
    inner = payload["vc"]
    if not isinstance(inner, dict):
        raise JoseError("malformed_claim", "vc is not a JSON object", "/vc")
    listed = inner.get("@context")
    first = listed[0] if isinstance(listed, list) and listed else listed
    if first != CREDENTIALS_V1:
        detail = f"a claim vc holds a credential of {CREDENTIALS_V1} (VC Data Model 1.1 §6.3.1)"
        raise JoseError("forbidden_claim", detail, "/vc/@context")
    stray = sorted(payload.keys() - CLAIMS - {"vc"})
    if stray:
        detail = f"{stray[0][:60]!r} stands beside vc: it is not part of the credential"
        raise JoseError("forbidden_claim", detail, pointer((stray[0],)))
    document = dict(inner)
    begins, _ = _date_names(document)
    for name, claim in (("issuer", "iss"), ("id", "jti")):
        if name not in document and claim in payload:
            document[name] = payload[claim]
    if begins not in document and "nbf" in payload:
        moment = _moment(payload, "nbf")
        document[begins] = timestamp(moment) if moment is not None else None
    subject = document.get("credentialSubject")
    if isinstance(subject, dict) and "id" not in subject and "sub" in payload:
        document["credentialSubject"] = {"id": payload["sub"], **subject}
    return document


def _date_names(document: dict[str, Any]) -> tuple[str, str]:
    listed = document.get("@context")
    first = listed[0] if isinstance(listed, list) and listed else listed
    return ("issuanceDate", "expirationDate") if first == CREDENTIALS_V1 else ("validFrom", "validUntil")


def _identifier(value: object) -> object:
    return value.get("id") if isinstance(value, dict) else value


def _subject(document: dict[str, Any]) -> object:
    """The id of the subject, if there is one subject alone and it has an id."""
    value = document.get("credentialSubject")
    subjects = value if isinstance(value, list) else [value]
    return subjects[0].get("id") if len(subjects) == 1 and isinstance(subjects[0], dict) else None


def _agree(payload: dict[str, Any], name: str, value: object, where: str, *, needed: str = "") -> None:
    """needed: the clause that asks for the claim, "" where none does."""
    if name not in payload:
        if needed:
            raise _missing(name, where, needed)
        return
    claim = payload[name]
    if not isinstance(claim, str):
        raise JoseError("malformed_claim", f"{name} is not a string (RFC 7519 §4.1)", f"/{name}")
    if claim != value:
        found = repr(value)[:200] if value is not None else "missing"
        raise JoseError("claim_mismatch", f"the claim {name} is {claim[:200]!r}, but {where} is {found}", f"/{name}")


def _agree_in_time(payload: dict[str, Any], name: str, value: object, where: str, *, needed: str) -> None:
    claim = _moment(payload, name)
    if claim is None:
        raise _missing(name, where, needed)
    moment = parse_timestamp(value)
    # Most issuers write whole seconds here and fractions there.
    if moment is None or abs((moment - claim).total_seconds()) >= 1:
        found = repr(value)[:60] if value is not None else "missing"
        detail = f"the claim {name} is {timestamp(claim)}, but {where} is {found}"
        raise JoseError("claim_mismatch", detail, f"/{name}")


def _missing(name: str, where: str, clause: str) -> JoseError:
    detail = f"the claim {name} is missing; it repeats {where} ({clause})"
    return JoseError("missing_claim", detail, f"/{name}")


def _no_audience(payload: dict[str, Any]) -> None:
    if "aud" in payload:  # RFC 7519 §4.1.3: whoever is not among them must reject it
        raise JoseError("wrong_audience", "the claim aud keeps the token to others than Laurel", "/aud")


def _audience(payload: dict[str, Any]) -> frozenset[str]:
    value = payload.get("aud", [])
    listed = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in listed):
        raise JoseError("malformed_claim", "aud is neither a string nor a list of strings (RFC 7519 §4.1.3)", "/aud")
    return frozenset(listed)


def _moment(payload: dict[str, Any], name: str) -> datetime | None:
    """A NumericDate (RFC 7519 §2): seconds since 1970, which may have a fraction."""
    if name not in payload:
        return None
    value = payload[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LAST_SECOND:
        detail = f"{name} is not a NumericDate between 1970 and 9999 (RFC 7519 §2)"
        raise JoseError("malformed_claim", detail, f"/{name}")
    return datetime.fromtimestamp(value, UTC)


def _numeric(value: object) -> int | float | None:
    moment = parse_timestamp(value)
    if moment is None:
        return None
    seconds = moment.timestamp()
    return int(seconds) if seconds == int(seconds) else seconds
