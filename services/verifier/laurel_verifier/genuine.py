"""Is it genuine? Step 4 of a verification, on the keys of step 3: what the sandbox finds, as checks.

In the sandbox: the meaning of every word, the schema, the signature of every proof. A credential, a status list and an
endorsement all pass through here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime
from typing import Any, Literal

import msgspec

from laurel.credential import contexts, jose
from laurel.credential.proofs import NOT_CHECKED, proofs_of
from laurel_verifier import domain, store
from laurel_verifier.checks import Against, Check, failed, not_applicable, not_checked, passed, short
from laurel_verifier.issuer_keys import Keys, find_keys, proof_pointer
from laurel_verifier.own_proofs import OwnProofs
from laurel_verifier.resolution import Issuers, Resolved
from laurel_verifier.sandbox import Findings, Job, NotExamined, Sandbox, SandboxLimit
from laurel_verifier.tokens import check_signature, find_token_key

Gate = AbstractAsyncContextManager[object]  # entered again and again; it may let a few in at a time
FREELY: Gate = nullcontext()
_NEEDED = ("format", "context", "issuer", "signature")


class Presented(msgspec.Struct, frozen=True):
    """What was handed in, and has the form of a credential. raw: the document as UTF-8 JSON; form: that step's check.

    sandbox: where it is examined. row: that of our index, where exactly this document is indexed. envelope: the token
    that holds the document, where one does. gate: behind it the sandbox is waited for.
    """

    document: dict[str, Any]
    raw: bytes
    form: Check
    sandbox: Sandbox
    row: store.Indexed | None = None
    envelope: jose.Envelope | None = None
    gate: Gate = FREELY


class Genuine(msgspec.Struct, frozen=True, gc=False):
    """What steps 3 and 4 found. checks: format, context, schema, issuer, signature. resolved: the issuer's document."""

    checks: tuple[Check, ...]
    resolved: Resolved | None

    @property
    def confirmed(self) -> bool:
        """Whether the issuer has signed this very document. (A schema takes nothing from a signature.)"""
        return all(one.outcome == "passed" for one in self.checks if one.step in _NEEDED)


class Examiner:
    """Finds out whether credentials are genuine."""

    def __init__(self, issuers: Issuers) -> None:
        self._issuers = issuers
        self._own = OwnProofs()

    async def examine(self, presented: Presented, now: datetime) -> Genuine:
        """Steps 3 and 4 for a document that has passed the step "format"."""
        document, form = presented.document, presented.form
        keys, token_key = await self._keys(presented, now)  # 3
        schemas = domain.named_schemas(document)
        try:
            findings = await self._findings(presented, tuple(keys.keys), bool(schemas[0]), now)  # 4
        except SandboxLimit as error:
            context = failed("context", "limit_exceeded", str(error), pointer="")
            return Genuine((form, context, keys.check, _unreached()), keys.resolved)
        except NotExamined as error:
            context = not_checked("context", error.code, str(error))
            return Genuine((form, context, keys.check, _unreached()), keys.resolved)
        checks = (
            form,
            _context_check(document, findings),
            _schema_check(document, findings, *schemas),
            keys.check,
            _all_signatures(presented, findings, keys, token_key),
        )
        return Genuine(checks, keys.resolved)

    async def _findings(self, presented: Presented, keys: tuple[str, ...], schema: bool, now: datetime) -> Findings:
        row = presented.row if presented.envelope is None else None
        if row is not None:
            found = self._own.findings(presented.document, row.document, keys)
            if found is not None:
                return found
        async with presented.gate:
            findings = await presented.sandbox.examine(Job(presented.raw, keys, schema, now))
        if row is not None:
            await self._own.after(presented.document, findings)
        return findings

    async def _keys(self, presented: Presented, now: datetime) -> tuple[Keys, str]:
        """Step 3: for the proofs in the document, and for the token around it (whose Multikey comes second)."""
        if presented.envelope is None:
            return await find_keys(self._issuers, presented.document, presented.row, now), ""
        keys, token_key = await find_token_key(self._issuers, presented.envelope, presented.row, now)
        if not proofs_of(presented.document):
            return keys, token_key
        # Open Badges 3.0 §9.1 lets a verifier take any one of them. Ours asks all: none of them may be false.
        inside = await find_keys(self._issuers, presented.document, presented.row, now)
        return inside if keys.check.outcome == "passed" else inside.refused(keys.check), token_key


# --- step 4 -------------------------------------------------------------------------------------------------------


def _bundled(kind: Literal["context", "schema"], url: str, copy: contexts.Resource, place: str = "") -> Against:
    """What is known of a pinned copy. place: JSON Pointer of what stands for `url` in it."""
    return Against(
        kind=kind, id=url, source="bundled", url=f"{copy.url}#{place}" if place else None,
        version=copy.version, digest=f"sha256:{copy.sha256}",
    )  # fmt: skip


def _context_copies(urls: Sequence[str], inline: int) -> list[Against]:
    known = contexts.manifest()
    against = [_bundled("context", url, known[url]) for url in urls if url in known]
    return [*against, *[Against(kind="context", id="@context", source="document")] * (inline > 0)]


@functools.lru_cache(maxsize=64)
def _words_defined(urls: tuple[str, ...], inline: int) -> Check:
    """Where all URLs are pinned ones: badges have few lists of them."""
    detail = f"every word is defined by its {len(urls) + inline} contexts, of which Laurel has pinned copies"
    return passed("context", detail, against=_context_copies(urls, inline))


def _context_check(document: dict[str, Any], findings: Findings) -> Check:
    urls = [one for one in document["@context"] if isinstance(one, str)]
    inline = len(document["@context"]) - len(urls)
    if not findings.context_code:
        return _words_defined(tuple(urls), inline)
    make = not_checked if findings.context_code == "unknown_context" else failed
    return make(
        "context", findings.context_code, findings.context_detail, pointer=findings.context_pointer,
        against=_context_copies(urls, inline),
    )  # fmt: skip


def _schema_check(document: dict[str, Any], findings: Findings, ours: list[str], others: list[str]) -> Check:
    if ours and not others and not findings.schema:
        entries = document.get("credentialStatus")
        return _follows_schemas(tuple(ours), len(entries) if isinstance(entries, list) else None)
    against = _schema_copies(ours)
    if findings.schema:
        more = f" (and {len(findings.schema) - 1} more)" if len(findings.schema) > 1 else ""
        pointer = findings.schema[0].partition(": ")[0]
        pointer = "" if pointer == "/" else pointer
        return failed("schema", "schema_violated", findings.schema[0] + more, pointer=pointer, against=against)
    if others:
        besides = f", which it names besides {short(ours[0])}: it follows that one" if ours else ""
        detail = f"Laurel has no copy of the schema {short(others[0])}{besides}"
        return not_checked("schema", "unknown_schema", detail, pointer="/credentialSchema", against=against)
    return not_applicable("schema", "it names no schema")


@functools.lru_cache(maxsize=64)
def _follows_schemas(ours: tuple[str, ...], entries: int | None) -> Check:
    """entries: in the list that credentialStatus is, where it is one."""
    several = (  # what `_schema_findings` of the sandbox leaves out
        f", apart from credentialStatus: the schema wants one object, and here is a list of {entries}"
        if entries is not None
        else ""
    )
    names = " and ".join(url.rpartition("/")[2] for url in ours)
    detail = f"it follows the Open Badges 3.0 JSON schema of 1EdTech ({names}){several}"
    return passed("schema", detail, against=_schema_copies(ours))


def _schema_copies(ours: Iterable[str]) -> list[Against]:
    sources = ((url, contexts.schema_source(url)) for url in ours)
    return [_bundled("schema", url, *source) for url, source in sources if source is not None]


# The member of a proof that a code speaks of.
MEMBERS = {
    "wrong_purpose": "/proofPurpose", "unknown_proof_type": "/type", "unknown_cryptosuite": "/cryptosuite",
    "missing_verification_method": "/verificationMethod", "no_key": "/verificationMethod",
    "malformed_created": "/created", "malformed_expires": "/expires", "proof_expired": "/expires",
    "malformed_proof_value": "/proofValue", "bad_signature": "/proofValue",
    "missing_previous_proof": "/previousProof", "previous_proof_failed": "/previousProof",
    "context_mismatch": "/@context", "wrong_challenge": "/challenge", "wrong_domain": "/domain",
}  # fmt: skip


def _signature_check(document: dict[str, Any], findings: Findings, keys: Keys) -> Check:
    """Every proof must be true (VC Data Integrity 1.0 §4.5): one that fails fails the document, however many pass."""
    attached = proofs_of(document)
    each = [_proof_check(document, findings, keys, place) for place in range(len(attached))]
    worst = next((one for one in each if one is not None and one.outcome == "failed"), None)
    worst = worst or next((one for one in each if one is not None), None)
    if worst is not None:
        return worst
    by_issuer = any(keys.by_issuer)
    first = attached[keys.by_issuer.index(True) if by_issuer else 0]
    signed = tuple([(_suite(proof), str(proof.get("verificationMethod"))) for proof in attached])
    return _signed(signed, first.get("created"), by_issuer)


@functools.lru_cache(maxsize=256)
def _signed(signed: tuple[tuple[str, str], ...], created: str | None, by_issuer: bool) -> Check:
    """True proofs, each by its suite and its key: badges of a batch were signed in one second."""
    shown = ", ".join(dict.fromkeys(suite for suite, _ in signed))
    when = f" at {created}" if created is not None else ""
    count = f" by {len(signed)} proofs, all of them true" if len(signed) > 1 else ""
    whose = "" if by_issuer else ", but the key is not the issuer's"
    against = [Against(kind="key", id=method, source="document", version=suite) for suite, method in signed]
    detail = f"signed with {shown}{when}{count}; not a character was changed since{whose}"
    return passed("signature", detail, against=against)


def _all_signatures(presented: Presented, findings: Findings, keys: Keys, token_key: str) -> Check:
    """The token's and the proofs': the worst of them."""
    if presented.envelope is None:
        return _signature_check(presented.document, findings, keys)
    outside = check_signature(presented.envelope, token_key)
    if not proofs_of(presented.document) or outside.outcome == "failed":
        return outside
    inside = _signature_check(presented.document, findings, keys)
    return outside if inside.outcome == "passed" else inside


def _suite(proof: dict[str, Any]) -> str:
    return str(proof.get("cryptosuite", proof["type"]))


def _proof_check(document: dict[str, Any], findings: Findings, keys: Keys, place: int) -> Check | None:
    """What is wrong with one proof; None when it is true."""
    found = findings.proofs[place]
    if found.ok:
        return None
    count = len(proofs_of(document))
    which = f"proof {place + 1} of {count}: " if count > 1 else ""
    pointer = proof_pointer(document, place)
    if found.reason == "no_key" and place in keys.problems:
        problem = keys.problems[place]
        return msgspec.structs.replace(problem, detail=which + problem.detail, pointer=pointer + "/verificationMethod")
    make = not_checked if found.reason in NOT_CHECKED else failed
    return make("signature", found.reason, which + found.detail, pointer=pointer + MEMBERS.get(found.reason, ""))


def _unreached() -> Check:
    return not_checked("signature", "not_reached", "not reached: the document could not be examined")
