"""Steps 4 and 5 in every format: sign what lint has passed, and check the very bytes that will be stored.

What one proof of eddsa-rdfc-2022 secures is signed and checked by the short way (`proof_bytes`); everything else is
read back as a stranger would read it. The same arguments give the same bytes in every format: ECDSA is deterministic
(RFC 6979), and a token says nothing of the moment at which it was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec

from laurel.credential import jose, lint, proof_bytes, proofs, securing
from laurel_issuer.domain import Inconsistent
from laurel_issuer.keyring import SealedKey, open_key


class Safe:
    """The keys of one way, or of several ways together, to secure credentials. For signing processes."""

    def __init__(self, names: tuple[str, ...], keys: tuple[SealedKey, ...], kek: bytes) -> None:
        if wrong := securing.problem(names):
            raise Inconsistent(f"a credential cannot be secured like that: {wrong}")
        self._ways = securing.ways(names)
        for way, key in zip(self._ways, keys, strict=True):
            if key.key_type != way.key_type:
                raise Inconsistent(f"signing key {key.key_id} is of {key.key_type}; {way.name} takes {way.key_type}")
        self._keys = keys
        self._signers = tuple(open_key(kek, key) for key in keys)
        self._plain = names == securing.DEFAULT
        self._chained = securing.CHAIN in names
        self._form = self._ways[0].form

    def secure(self, linted: lint.Linted, created: datetime) -> bytes:
        """Step 4: the credential as JSON, or a JSON string that holds the token. Raises Inconsistent."""
        signer = self._signers[0]
        try:
            if self._plain:
                return proof_bytes.sign_bytes(linted, signer, created)
            if self._form == "vc-jwt":
                return b'"' + jose.sign_vc_jwt(linted, signer) + b'"'
            if self._form == "vc+jwt":
                return b'"' + jose.sign_vc_jose(linted, signer) + b'"'
            return msgspec.json.encode(proofs.sign_all(linted, self._orders(linted, created)))
        except proofs.ProofError as error:
            names = ", ".join(one.verification_method for one in self._signers)
            raise Inconsistent(f"the key {names} cannot sign: {error}") from error

    def _orders(self, linted: lint.Linted, created: datetime) -> list[proofs.Order]:
        orders = [proofs.Order(one, way.algorithm, created) for one, way in zip(self._signers, self._ways, strict=True)]
        if not self._chained:
            return orders
        document_id = linted.document()["id"]
        ids = [f"urn:uuid:{uuid5(NAMESPACE_URL, f'{document_id}#proof-{place}')}" for place in range(len(orders))]
        return [
            replace(order, id=ids[place], previous=tuple(ids[place - 1 : place])) for place, order in enumerate(orders)
        ]

    def check_filled(self, made: Sequence[tuple[lint.Linted, bytes, str]]) -> None:
        """Step 5 without another expansion where there is a way: the bytes are the linted document, and the signature
        is over its canonical form. That this form is the document's is what the canary watches. Raises Inconsistent.

        made: linted documents, their bytes, and their ids.
        """
        if not self._plain:
            for linted, body, document_id in made:
                self.check(linted, body, document_id)
            return
        (key,) = self._keys
        results = proof_bytes.verify_made([(linted, body) for linted, body, _ in made], key.public_key_multibase)
        for result, (_, body, document_id) in zip(results, made, strict=True):
            _judge(result, _head_decoder.decode(body).id, document_id, key)

    def check(self, linted: lint.Linted, body: bytes, document_id: str) -> None:
        """Step 5: read the bytes back as a stranger would. Raises Inconsistent: then nothing of the batch is stored."""
        read = msgspec.json.decode(body)
        if self._form != "data-integrity":
            self._check_token(linted, read, document_id)
            return
        made = proofs.proofs_of(read)
        if len(made) != len(self._keys):
            raise Inconsistent(f"{document_id} has {len(made)} proofs, not {len(self._keys)}")
        for proof, key in zip(made, self._keys, strict=True):
            result = proofs.verify_proof(read, proof, key.public_key_multibase)
            _judge(result, read.get("id"), document_id, key)

    def _check_token(self, linted: lint.Linted, token: Any, document_id: str) -> None:
        (key,), (way,) = self._keys, self._ways
        try:
            envelope = jose.parse(token)
        except jose.JoseError as error:
            raise Inconsistent(f"our own token of {document_id} cannot be read: {error}") from error
        result = jose.verify(envelope, key.public_key_multibase)
        if not result.ok:
            raise Inconsistent(f"our own signature of {document_id} does not verify: {result.reason}: {result.detail}")
        if (envelope.format, envelope.algorithm, envelope.kid) != (way.form, way.algorithm, key.verification_method):
            raise Inconsistent(f"{document_id} was signed as {envelope.format} by {envelope.kid!r}")
        if envelope.document.get("id") != document_id or envelope.document != linted.document():
            raise Inconsistent(f"the token of {document_id} holds another document than the one that lint passed")


class _Head(msgspec.Struct):
    id: str


_head_decoder = msgspec.json.Decoder(_Head)


def _judge(result: proofs.ProofResult, found: object, document_id: str, key: SealedKey) -> None:
    if not result.ok:
        raise Inconsistent(f"our own signature of {document_id} does not verify: {result.reason}: {result.detail}")
    named = result.proof.verification_method if result.proof else None
    if found != document_id or named != key.verification_method:
        raise Inconsistent(f"{document_id} was signed as {found!r} by {named!r}")
