"""Step 3 of a verification: which keys do the signatures name, and are they the issuer's, for this purpose, now?

A key is the issuer's if the document found at the issuer's id lists it under `assertionMethod` and the key names the
issuer as its controller (Controlled Identifiers 1.0 §3.3; VC Data Model 2.0 §4.7). Where to look is `resolution.py`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from laurel.credential import did, jose
from laurel.credential.proofs import proofs_of
from laurel.credential.text import is_web_url, parse_timestamp
from laurel_verifier import domain, key_urls, store
from laurel_verifier.checks import Against, Check, failed, not_checked, passed, short
from laurel_verifier.resolution import Issuers, Resolved, Unresolvable

KEYS_S = 8.0  # for all the keys of one who signed
_ON_ITS_WAY = timedelta(hours=1)  # how long an event of ours may take to reach the register
_SKEW = timedelta(minutes=5)  # by which clocks may differ
# What a document of keys may be without being wrong: we cannot read it, which is another thing.
KEY_UNREADABLE = {"unsupported_key", "malformed_document", "wrong_document"}


@dataclass
class Keys:
    """The check, and for each proof the Multikey ("": there is none) and whether it is the issuer's.

    problems: place → why a proof of somebody else than the issuer has no key.
    """

    check: Check
    keys: list[str] = field(default_factory=list)
    by_issuer: list[bool] = field(default_factory=list)
    problems: dict[int, Check] = field(default_factory=dict)
    resolved: Resolved | None = None

    def refused(self, check: Check) -> Keys:
        """The same, with what is wrong."""
        self.check = check
        return self


async def find_keys(issuers: Issuers, document: dict[str, Any], row: store.Indexed | None, now: datetime) -> Keys:
    """The keys of all proofs of a document that has passed the step "format". row: of our index, if it is indexed."""
    issuer = domain.issuer_id(document)
    assert issuer is not None  # check_format saw to it
    if (known := _found_before(issuers, issuer, proofs_of(document))) is not None:
        return known
    methods = [_verification_method(proof) for proof in proofs_of(document)]
    found = Keys(passed("issuer", ""), [""] * len(methods), [_is_part_of(one, issuer) for one in methods])
    # A web issuer may keep keys at URLs of their own, if its document lists them. A DID's keys are parts of it.
    candidates = [one for one in methods if one is not None and (is_web_url(one) or _is_part_of(one, issuer))]
    if not (any(found.by_issuer) or (is_web_url(issuer) and candidates)):
        found.keys = [_self_describing(method) for method in methods]  # nobody is asked in its name
        return found.refused(_not_the_issuers(issuer))
    try:
        resolved = issuers.remembered(issuer, candidates)
        if resolved is None:
            async with asyncio.timeout(KEYS_S):
                resolved = await issuers.resolve(issuer, candidates)
        found.resolved = resolved
    except Unresolvable as error:
        return found.refused(unresolved(error, document, row, now, issuers))
    except TimeoutError:
        detail = f"the keys of {short(issuer)} could not be had within {KEYS_S:.0f} seconds"
        return found.refused(not_checked("issuer", "timeout", detail, pointer="/issuer"))
    if not all(found.by_issuer):
        listed = key_urls.listed(resolved.document)
        found.by_issuer = [_is_part_of(one, issuer) or one in listed for one in methods]
    if not any(found.by_issuer):
        return found.refused(unlisted(issuer, candidates, resolved))
    worst: Check | None = None
    for place, (method, mine) in enumerate(zip(methods, found.by_issuer, strict=True)):
        if not mine or method is None:
            continue
        try:
            if method in resolved.problems:
                raise resolved.problems[method]
            key = resolved.key(method, controller=issuer, now=now)
        except (did.DidError, Unresolvable) as error:
            unsure = error.code == "key_not_found" and _may_be_newer(document, row, resolved, methods, now)
            soft = unsure or isinstance(error, Unresolvable) or error.code in KEY_UNREADABLE
            make = not_checked if soft else failed
            detail = f"{error.detail} (looked up in {resolved.source})"
            pointer = proof_pointer(document, place) + "/verificationMethod"
            had = [one for one, key in zip(methods, found.keys, strict=True) if one is not None and key]
            worst = make("issuer", error.code, detail, pointer=pointer, against=_looked_up(resolved, had))
        else:
            found.keys[place] = key
    if worst is not None:
        return found.refused(worst)
    own = [one for one, key in zip(methods, found.keys, strict=True) if one is not None and key]
    found.check = _may_sign(issuer, resolved, own)
    others = [(at, one) for at, one in enumerate(methods) if one is not None and not found.by_issuer[at]]
    if others:
        await asyncio.gather(*(_key_of_another(issuers, found, at, method, now) for at, method in others))
    return found


def _found_before(issuers: Issuers, issuer: str, proofs: Sequence[Any]) -> Keys | None:
    """For one proof by a key of ours that does not change: nearly every badge's. None: it has to be looked for."""
    method = proofs[0].get("verificationMethod") if len(proofs) == 1 and isinstance(proofs[0], dict) else None
    resolved = issuers.own_remembered(issuer) if isinstance(method, str) else None
    if resolved is None or method not in resolved.told:
        return None
    return Keys(resolved.told[method], [resolved.lasting[method]], [True], resolved=resolved)


def _may_sign(issuer: str, resolved: Resolved, methods: Sequence[str]) -> Check:
    """That the issuer's document lists these keys."""
    name = f"{resolved.name} ({short(issuer)})" if resolved.name else short(issuer)
    detail = f"the key belongs to {name} and may sign credentials; looked up in {resolved.source}"
    check = passed("issuer", detail, against=_looked_up(resolved, methods))
    if len(methods) == 1 and methods[0] in resolved.lasting:
        resolved.told[methods[0]] = check
    return check


def _looked_up(resolved: Resolved, methods: Sequence[str]) -> list[Against]:
    keys = [Against(kind="key", id=method, source=resolved.against.source) for method in methods]
    return [resolved.against, *keys]


async def _key_of_another(issuers: Issuers, found: Keys, place: int, method: str, now: datetime) -> None:
    """The key of one who signed beside the issuer, in a set or chain of proofs: it must be true as well."""
    try:
        async with asyncio.timeout(KEYS_S):
            resolved = await issuers.resolve(key_urls.base(method), [method])
        found.keys[place] = did.find_verification_method(resolved.document, method, now=now)
    except Unresolvable as error:
        found.problems[place] = not_checked("signature", "no_key", f"the key of {short(method)}: {error.detail}")
    except TimeoutError:
        found.problems[place] = not_checked("signature", "no_key", f"the key of {short(method)}: no answer in time")
    except did.DidError as error:
        unsure = error.code == "key_not_found" and resolved.stale
        make = not_checked if unsure or error.code in KEY_UNREADABLE else failed
        found.problems[place] = make("signature", error.code, error.detail)


def proof_pointer(document: dict[str, Any], place: int) -> str:
    """JSON Pointer to a document's proof."""
    return f"/proof/{place}" if isinstance(document.get("proof"), list) else "/proof"


def _is_part_of(method: str | None, issuer: str) -> bool:
    return method is not None and key_urls.base(method) == issuer


def _not_the_issuers(issuer: str, pointer: str = "/proof") -> Check:
    detail = f"no proof names a key of the issuer, {short(issuer)}: it was signed by somebody else"
    return failed("issuer", "not_the_issuers_key", detail, pointer=pointer)


def unlisted(issuer: str, candidates: Sequence[str], resolved: Resolved, *, pointer: str = "/proof") -> Check:
    """None of the keys is one that the issuer's document lists. pointer: to what names them."""
    near = [one for one in candidates if key_urls.same_origin(one, issuer)]
    if near and not key_urls.listed(resolved.document):
        # Open Badges 3.0 §8.5 asks for no list. Without one nothing says that this key is the issuer's.
        detail = f"{short(issuer)} lists no keys at all, so nothing says that {short(near[0])} is one of them"
        return not_checked("issuer", "no_keys_listed", detail, pointer="/issuer", against=[resolved.against])
    check = _not_the_issuers(issuer, pointer)
    return msgspec.structs.replace(check, against=(resolved.against,))


def unresolved(
    error: Unresolvable, document: dict[str, Any], row: store.Indexed | None, now: datetime, issuers: Issuers
) -> Check:
    on_its_way = issuers.is_ours(domain.issuer_id(document) or "") and _is_fresh(document, now)
    if error.unknown and row is None and not on_its_way:
        return failed("issuer", "unknown_issuer", error.detail, pointer="/issuer")
    # An issuer of ours whose own event is still on its way is not nobody.
    detail = error.detail + ("; it may be on its way: try again in a moment" if on_its_way else "")
    return not_checked("issuer", error.code, detail, pointer="/issuer")


def _is_fresh(document: dict[str, Any], now: datetime) -> bool:
    """Whether it says it was signed within the last hour: events may take that long to reach us, and no longer."""
    return any(-_SKEW <= now - one <= _ON_ITS_WAY for one in _signed_at(document))


def _signed_at(document: dict[str, Any]) -> list[datetime]:
    """When it says it was signed; a token says so by the credential's beginning alone."""
    proofs = [one for one in proofs_of(document) if isinstance(one, dict)]
    said = [one.get("created") for one in proofs] or [document.get("validFrom", document.get("issuanceDate"))]
    return [moment for one in said if (moment := parse_timestamp(one)) is not None]


def ahead_of_events(document: dict[str, Any], resolved: Resolved, now: datetime) -> bool:
    """Whether a document of ours that is not indexed may have been signed with a key whose event has not come yet."""
    if resolved.published_at is None or not _is_fresh(document, now):
        return False
    published = resolved.published_at.replace(microsecond=0)
    return any(one >= published for one in _signed_at(document))


def _verification_method(proof: Any) -> str | None:
    method = proof.get("verificationMethod") if isinstance(proof, dict) else None
    fits = isinstance(method, str) and len(method) <= domain.MAX_IDENTIFIER and domain.is_identifier(method)
    return method if fits else None


def _may_be_newer(
    document: dict[str, Any],
    row: store.Indexed | None,
    resolved: Resolved,
    methods: Sequence[str | None],
    now: datetime,
) -> bool:
    """Whether the key may be missing only because `resolved` is older than it.

    Of our own: the very key that the indexed credential names, and the issuer's document in our register is not younger
    than the credential. A younger one would list the key, had it not been taken out since. (Issued-at tells seconds.)
    One that is not indexed yet, but says it was signed after that document was published, may be ahead of both events.
    """
    if resolved.published_at is None:
        return resolved.stale
    if row is None:
        return ahead_of_events(document, resolved, now)
    if resolved.published_at.replace(microsecond=0) > row.issued_at:
        return False
    return methods == [_verification_method(proof) for proof in proofs_of(jose.opened(row.document)[0])]


def _self_describing(method: str | None) -> str:
    """The key of a did:key."""
    if method is None or not method.startswith("did:key:"):
        return ""
    try:
        return did.find_verification_method(did.resolve_did_key(method.partition("#")[0]), method)
    except did.DidError:
        return ""
