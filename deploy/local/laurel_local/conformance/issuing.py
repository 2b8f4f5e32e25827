"""An issuer that takes anybody's credential, makes it its own, and signs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from laurel.credential import keys, proofs, vcdm
from laurel.credential.contexts import CREDENTIALS_V1, CREDENTIALS_V2
from laurel_local.conformance.lists import Lists
from laurel_local.conformance.worker import Sandbox, Signed, Signing

CRYPTOSUITES = (proofs.RDFC, proofs.JCS)  # those of the one key of a run
DATA_INTEGRITY = "https://w3id.org/security/data-integrity/v2"
_DEFINE_PROOFS = {DATA_INTEGRITY, "https://w3id.org/security/data-integrity/v1", CREDENTIALS_V2}


class Issuer:
    """A did:key from `seed` (32 bytes). base: the URL below which its status lists are served."""

    def __init__(self, seed: bytes, base: str, sandbox: Sandbox, clock: Callable[[], datetime]) -> None:
        multikey = keys.Ed25519Signer(seed, "").public_key_multibase
        self.did = f"did:key:{multikey}"
        self.lists = Lists(base, self.did, seed)
        self._seed = seed
        self._method = f"{self.did}#{multikey}"
        self._sandbox = sandbox
        self._clock = clock
        # Lists are valid from here on: one that began now would not yet be valid for whoever looked at the clock first.
        self._since = clock()

    async def issue(self, credential: dict[str, Any], cryptosuite: str) -> Signed:
        """Sign what conforms. Raises SandboxLimit, SandboxBusy."""
        prepared = prepare(credential, self.did)
        if "credentialStatus" not in prepared and CREDENTIALS_V2 in vcdm.one_or_more(prepared.get("@context")):
            prepared["credentialStatus"] = self.lists.entry(prepared.get("id"))
        return await self._sign(prepared, "vcdm", cryptosuite)

    async def status_list(self, number: int) -> bytes | None:
        """A signed status list; None when there is no such list."""
        document = self.lists.document(number, self._since)
        return (await self._sign(document, "statuslist", proofs.RDFC)).document if document is not None else None

    async def _sign(self, document: dict[str, Any], profile: Any, cryptosuite: str) -> Signed:
        return await self._sandbox.sign(
            Signing(
                json.dumps(document, ensure_ascii=False).encode(), profile, self._seed, self._method, cryptosuite,
                self._clock(),
            )
        )  # fmt: skip


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
