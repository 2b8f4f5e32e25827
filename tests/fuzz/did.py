"""DIDs, DID documents and the search for a key in one."""

from __future__ import annotations

from typing import Any

from laurel.credential import did, multibase
from laurel.credential.text import is_absolute_identifier, is_did, is_web_url
from tests.fuzz.shaping import Bytes
from tests.unit.credential.samples import DID, SIGNER, did_document

METHOD = f"{DID}#key-1"
DOCUMENTS: tuple[dict[str, Any], ...] = (did_document(), did.resolve_did_key(did.did_key(SIGNER.public_key_multibase)))
SEEDS = (
    b"\x00did:web:x.example%3A8080:a:b", b"\x00did:key:z6Mk", b"\x00did:web:%2e%2e", b"\x01\x00\x05\x02\x01", b"\x00https://x@y:9/",
    b"\x01\x01\x02\x09\x00\x01\x02\x03", b"\x00did:web:x..y:..:%2F",
)  # fmt: skip


def read(data: bytes) -> None:
    source = Bytes(data)
    if source.number() % 2:
        document = source.choice(DOCUMENTS)
        wanted = document["verificationMethod"][0]["id"]
        try:
            did.find_verification_method(source.changed(document), wanted)
        except (did.DidError, multibase.MultibaseError):
            pass
        return
    text = data[1:].decode("utf-8", "replace")
    is_did(text), is_web_url(text), is_absolute_identifier(text)
    try:
        url = did.did_web_url(text)
        assert url.startswith("https://")
        assert url.endswith("/did.json")
    except did.DidError:
        pass
    try:
        did.resolve_did_key(text)
    except did.DidError:
        pass
