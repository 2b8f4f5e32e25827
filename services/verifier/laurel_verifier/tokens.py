"""Credentials in a JSON Web Token: steps 1 and 3 of a verification for what secures a credential from outside.

The order is that of Open Badges 3.0 §8.2.5 and of VC-JOSE-COSE 1.0 §4.1: the header, the key that it names, the
signature, the claims that repeat the credential. The rest is asked of the credential in it as of any other. A key
counts if it is the issuer's by the issuer's own document; what the header says of a key (`jwk`) is compared with that.

Pointers are into the credential, or to the claim (exp, nbf) that it has a date from. Those of what the header says
(alg, kid, jwk, typ, cty, crit, b64) are into the header.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import msgspec

from laurel.credential import contexts, did, jose, jose_claims, jose_keys
from laurel.credential.proofs import NOT_CHECKED
from laurel.credential.text import is_absolute_identifier, is_web_url, pointer, timestamp
from laurel_verifier import domain, key_urls, store
from laurel_verifier.checks import Against, Check, Step, failed, not_checked, passed, short
from laurel_verifier.issuer_keys import KEY_UNREADABLE, KEYS_S, Keys, ahead_of_events, unlisted, unresolved
from laurel_verifier.resolution import Issuers, Resolved, Unresolvable

# What is wrong with a token, by the step at which it shows. Everything else is its form's.
_STEPS: dict[str, Step] = {
    "unsupported_key": "issuer", "secret_key_published": "issuer",
    **dict.fromkeys(
        (
            "insecure_algorithm", "unknown_algorithm", "critical_header", "malformed_signature", "no_key_named",
            "missing_claim", "claim_mismatch", "forbidden_claim", "malformed_claim", "wrong_audience",
        ),
        "signature",
    ),
}  # fmt: skip
_NOT_READ = frozenset({"unknown_algorithm", "unknown_envelope", "unsupported_key"})  # they may be as right as can be


def is_enveloped(document: Any) -> bool:
    """Whether a parsed JSON document is one that holds a token instead of a credential (VC Data Model 2.0 §4.13)."""
    types = domain.listed(document.get("type")) if isinstance(document, dict) else []
    return any(one in ("EnvelopedVerifiableCredential", "EnvelopedVerifiablePresentation") for one in types)


def misplaced(token: str | dict[str, Any], envelope: jose.Envelope) -> Check | None:
    """What is wrong with a token around a credential that can be read. None: nothing."""
    if isinstance(token, dict):
        if contexts.CREDENTIALS_V2 not in domain.listed(token.get("@context")):
            detail = f"an enveloped credential has a @context, with {contexts.CREDENTIALS_V2} in it (§4.13.1)"
            return failed("format", "malformed_envelope", detail, pointer="/@context")
        stray = sorted(token.keys() - {"@context", "id", "type"})
        if stray:
            detail = f"{stray[0][:60]!r} stands beside the token, where nobody has signed it"
            return failed("format", "malformed_envelope", detail, pointer=pointer((stray[0],)))
    if envelope.format == "vp+jwt" and "VerifiablePresentation" not in domain.listed(envelope.document.get("type")):
        detail = "typ of the header is vp+jwt, a presentation, and no presentation is in it (VC-JOSE-COSE 1.0 §3.1.2)"
        return failed("format", "wrong_typ", detail, pointer="/typ")
    return None


def unread(error: jose.JoseError) -> Check:
    """What is wrong with a token that could not be read."""
    make = not_checked if error.code in _NOT_READ else failed
    return make(_STEPS.get(error.code, "format"), error.code, error.detail, pointer=error.pointer or "")


async def find_token_key(
    issuers: Issuers, envelope: jose.Envelope, row: store.Indexed | None, now: datetime
) -> tuple[Keys, str]:
    """The check of step "issuer", and the Multikey that the token must have been signed with ("": there is none)."""
    issuer = domain.issuer_id(envelope.document)
    assert issuer is not None  # check_format saw to it
    kid = envelope.kid if envelope.kid is not None and is_absolute_identifier(envelope.kid) else None
    found = Keys(passed("issuer", ""))
    if kid is not None and key_urls.base(kid) != issuer and not (is_web_url(issuer) and is_web_url(kid)):
        detail = f"the token names {short(kid)}, which is no key of {short(issuer)}: it was signed by somebody else"
        return found.refused(failed("issuer", "not_the_issuers_key", detail, pointer="/kid")), ""
    try:
        async with asyncio.timeout(KEYS_S):
            resolved = found.resolved = await issuers.resolve(issuer, [kid] if kid is not None else [])
    except Unresolvable as error:
        return found.refused(unresolved(error, envelope.document, row, now, issuers)), ""
    except TimeoutError:
        detail = f"the keys of {short(issuer)} could not be had within {KEYS_S:.0f} seconds"
        return found.refused(not_checked("issuer", "timeout", detail, pointer="/issuer")), ""
    if kid is not None and key_urls.base(kid) != issuer and kid not in key_urls.listed(resolved.document):
        return found.refused(unlisted(issuer, [kid], resolved, pointer="/kid")), ""
    try:
        if kid in resolved.problems:
            raise resolved.problems[kid]
        key = jose_keys.find_key(envelope, resolved.document, now=now, controller=issuer)
    except (did.DidError, Unresolvable) as error:
        unsure = error.code == "key_not_found" and _may_be_newer(envelope, resolved, row, now)
        soft = unsure or isinstance(error, Unresolvable) or error.code in KEY_UNREADABLE
        make = not_checked if soft else failed
        detail = f"{error.detail} (looked up in {resolved.source})"
        check = make("issuer", error.code, detail, pointer=_key_pointer(envelope), against=[resolved.against])
        return found.refused(check), ""
    name = f"{resolved.name} ({short(issuer)})" if resolved.name else short(issuer)
    against = [resolved.against, Against(kind="key", id=kid or envelope.kid or key, source=resolved.against.source)]
    detail = f"the key belongs to {name} and may sign credentials; looked up in {resolved.source}"
    found.check = passed("issuer", detail, against=against)
    return found, key


def _key_pointer(envelope: jose.Envelope) -> str:
    """The member of the header that names the key; "/iss" of the payload where none does."""
    return "/kid" if envelope.kid is not None else "/jwk" if envelope.key is not None else "/iss"


def _may_be_newer(envelope: jose.Envelope, resolved: Resolved, row: store.Indexed | None, now: datetime) -> bool:
    """Whether the key may be missing only because `resolved` is older than it, as in `issuer_keys`."""
    if resolved.published_at is None:
        return resolved.stale
    if row is None:
        return ahead_of_events(envelope.document, resolved, now)
    return resolved.published_at.replace(microsecond=0) <= row.issued_at


def check_signature(envelope: jose.Envelope, key: str) -> Check:
    """Step "signature". key: "" where there is none."""
    of = "Open Badges 3.0" if jose_claims.is_open_badge(envelope.document) else "VC Data Model 1.1"
    kind = f"VC-JWT of {of}" if envelope.format == "vc-jwt" else "vc+jwt of W3C"
    named = Against(kind="key", id=envelope.kid or envelope.key or "jwk", source="document", version=envelope.algorithm)
    if not key:
        detail = "the key that the token names was not found"
        return not_checked("signature", "no_key", detail, pointer=_key_pointer(envelope), against=[named])
    result = jose.verify(envelope, key)
    if not result.ok:
        make = not_checked if result.reason in NOT_CHECKED else failed
        pointer = {"wrong_key": "/jwk", "wrong_key_type": "/alg"}.get(result.reason or "", "")
        return make("signature", result.reason or "bad_signature", result.detail, pointer=pointer, against=[named])
    detail = f"signed as a JSON Web Token ({kind}) with {envelope.algorithm}; not a character was changed since"
    return passed("signature", detail, against=[named])


def check_dates(document: dict[str, Any], envelope: jose.Envelope | None, now: datetime) -> Check:
    """Step "dates": the credential's, and then the token's own (VC-JOSE-COSE 1.0 §3.1.3)."""
    found = domain.check_dates(document, now)
    if envelope is None:
        return found
    if found.outcome != "passed":
        return msgspec.structs.replace(found, pointer=envelope.claims.taken.get(found.pointer or "", found.pointer))
    ends, begins = envelope.claims.expires, envelope.claims.not_before
    if ends is not None and now >= ends:
        detail = f"its token was valid until {timestamp(ends)} (exp)"
        return failed("dates", "expired", detail, pointer="/exp", against=found.against)
    if begins is not None and now < begins:
        detail = f"its token is valid from {timestamp(begins)} (nbf)"
        return failed("dates", "not_yet_valid", detail, pointer="/nbf", against=found.against)
    return found
