"""An issuer that takes anybody's credential, makes it its own, and signs it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from laurel.credential import lint, proofs, vcdm
from laurel.credential.contexts import CREDENTIALS_V1, CREDENTIALS_V2
from laurel.credential.lint_rules import Finding
from laurel_local.conformance.lists import Lists
from laurel_local.conformance.options import Issuing
from laurel_local.conformance.ring import Ring, RunKey
from laurel_local.conformance.worker import Sandbox, Signed, Signing
from laurel_verifier.domain import MAX_PROOFS, issuer_id

DATA_INTEGRITY = "https://w3id.org/security/data-integrity/v2"
_DEFINE_PROOFS = {DATA_INTEGRITY, "https://w3id.org/security/data-integrity/v1", CREDENTIALS_V2}


class Issuer:
    """The did:keys of `ring`. base: the URL below which its status lists are served."""

    def __init__(self, ring: Ring, base: str, sandbox: Sandbox, clock: Callable[[], datetime]) -> None:
        self.ring = ring
        self.lists = Lists(base, secrets.token_bytes(32))
        self._sandbox = sandbox
        self._clock = clock
        # Lists are valid from here on: one that began now would not yet be valid for whoever looked at the clock first.
        self._since = clock()

    async def issue(self, credential: dict[str, Any], wanted: Issuing) -> Signed:
        """Sign what conforms. Raises NotExamined.

        A credential of ours that has proofs gets one more (a proof set, or a chain with `wanted.previous`) if these are
        true, and is otherwise left as it is: whatever else changed would make those proofs untrue.
        """
        attached = proofs.proofs_of(credential)
        ours = self.ring.of_issuer(issuer_id(credential)) is not None
        if ours and attached and wanted.format == "ldp_vc" and all(isinstance(one, dict) for one in attached):
            if len(attached) >= MAX_PROOFS:
                message = f"it has {len(attached)} proofs already; {MAX_PROOFS} are checked"
                return Signed(findings=(Finding("too-many-proofs", "error", "/proof", message, "Laurel"),))
            bare = {name: value for name, value in credential.items() if name != "proof"}
            return await self._sign(bare, "vcdm", wanted.key, wanted.cryptosuite, wanted, attached)
        prepared = prepare(credential, wanted.key.did)
        if "credentialStatus" not in prepared and CREDENTIALS_V2 in vcdm.one_or_more(prepared.get("@context")):
            identifier = prepared.get("id", wanted.credential_id)
            prepared["credentialStatus"] = self.lists.entry(wanted.key.did, identifier)
        return await self._sign(prepared, "vcdm", wanted.key, wanted.cryptosuite, wanted)

    async def status_list(self, name: str) -> bytes | None:
        """A signed status list; None when there is no such list. name: the last part of its URL."""
        document = self.lists.document(name, self._since)
        key = self.ring.of_issuer(document["issuer"]) if document is not None else None
        if document is None or key is None:
            return None
        suite = proofs.RDFC if key.kind == "Ed25519" else proofs.ECDSA_RDFC
        return (await self._sign(document, "statuslist", key, suite)).document

    async def _sign(
        self,
        document: dict[str, Any],
        profile: lint.Profile,
        key: RunKey,
        cryptosuite: str,
        wanted: Issuing | None = None,
        attached: Sequence[dict[str, Any]] = (),
    ) -> Signed:
        now = self._clock()
        signing = Signing(
            json.dumps(document, ensure_ascii=False).encode(), profile, key.kind, key.secret,
            key.verification_method, cryptosuite, now, created=now,
            attached=json.dumps(attached, ensure_ascii=False).encode(),
        )  # fmt: skip
        if wanted is not None:
            signing = msgspec.structs.replace(
                signing, created=wanted.created or now, expires=wanted.expires, previous=wanted.previous,
                proof_id=wanted.proof_id, form=wanted.format,
            )  # fmt: skip
        return await self._sandbox.sign(signing)


def prepare(credential: dict[str, Any], did: str) -> dict[str, Any]:
    """The credential as `did` can sign it: with `did` as its issuer, and with the words of proofs (data model 1.1).

    An issuer that is no URL stays, and is refused where the data model is checked.
    """
    prepared = dict(credential)
    issuer = credential.get("issuer")
    if isinstance(issuer, dict) and vcdm.is_url(issuer.get("id")):
        prepared["issuer"] = {**issuer, "id": did}
    elif vcdm.is_url(issuer):
        prepared["issuer"] = did
    listed = credential.get("@context")
    if (
        isinstance(listed, list)
        and listed[:1] == [CREDENTIALS_V1]
        and not any(isinstance(one, str) and one in _DEFINE_PROOFS for one in listed)
    ):
        prepared["@context"] = [*listed, DATA_INTEGRITY]  # VC Data Integrity 1.0 §2.4.1 "Context Injection"
    return prepared
