"""Libraries of others as independent oracles, offline: Digital Bazaar's (node/verify.mjs, node/issue.mjs), jose, and
the verifier of the Digital Credentials Consortium (node/verifier_core.mjs)."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laurel.credential import contexts, keys, multibase, multikey

FOLDER = Path(__file__).parent / "node"


class Unavailable(Exception):
    """Node.js, npm or its packages can not be had here; the message says which."""


@dataclass(frozen=True)
class Verdict:
    """verified; error: what was wrong, or None; loaded: the URLs that the verifier asked for; proofs: what it said of
    each (it takes a document for verified when one of its proofs is)."""

    verified: bool
    error: str | None
    loaded: tuple[str, ...]
    proofs: tuple[bool, ...]


@dataclass(frozen=True)
class Report:
    """What `@digitalcredentials/verifier-core` answers.

    errors: the names of fatal ones, with which there is no log; raised: an error that its library raised and that it
    has no name for, or None; log: each step with its outcome or the name of its error; issuers: the names by which the
    registries know the issuer; schemas: whether each schema accepts the credential, or what kept it from being asked;
    fetched, missed: the URLs that it asked for, and those of them that were not there.
    """

    errors: tuple[str, ...]
    raised: str | None
    log: dict[str, bool | str]
    issuers: tuple[str, ...]
    schemas: dict[str, bool] | str | None
    fetched: tuple[str, ...]
    missed: tuple[str, ...]


def install() -> None:
    """`npm ci`, once for each package-lock.json; safe when several test processes start together."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            raise Unavailable(f"{tool} is not installed")
    wanted = hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()
    with (FOLDER / "package.json").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = FOLDER / "node_modules" / ".laurel-lock"
        if stamp.is_file() and stamp.read_text() == wanted:
            return
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=150, check=False)
        except subprocess.TimeoutExpired:
            raise Unavailable("npm ci took longer than 150 s") from None
        if done.returncode != 0:
            raise Unavailable(f"npm ci failed: {done.stderr.strip()[-300:]}")
        stamp.write_text(wanted)


def verify(credential: dict[str, Any], *documents: dict[str, Any], now: str | None = None) -> Verdict:
    """What the oracle says of `credential`, given these DID documents and status lists (each known by its `id`).

    The bundled contexts are always at hand. now: ISO 8601; the oracle's clock if left out.
    """
    known = {url: contexts.load(url) for url in contexts.manifest()}
    known |= {document["id"]: document for document in documents}
    request: dict[str, Any] = {"credential": credential, "documents": known}
    if now is not None:
        request["now"] = now
    answer = _run("verify.mjs", request)
    return Verdict(answer["verified"], answer["error"], tuple(answer["loaded"]), tuple(answer["proofs"]))


def issue(
    credential: dict[str, Any],
    kind: multikey.KeyType,
    secret: bytes,
    verification_method: str,
    created: str,
    cryptosuite: str = "eddsa-rdfc-2022",
) -> dict[str, Any]:
    """`credential` as the oracle signs it with this key: seed (Ed25519) or scalar."""
    signer: keys.Signer
    if kind == "Ed25519":
        signer = keys.Ed25519Signer(secret, verification_method)
        # Digital Bazaar's Ed25519 secrets hold the public key as well.
        both = multibase.ED25519_SECRET + secret + multikey.decode_public(signer.public_key_multibase).raw
        text = multibase.encode(both)
    else:
        signer = keys.EcdsaSigner(kind, secret, verification_method)
        text = multikey.encode_secret(kind, secret)
    key = {
        "id": verification_method,
        "controller": verification_method.partition("#")[0],
        "publicKeyMultibase": signer.public_key_multibase,
        "secretKeyMultibase": text,
    }
    known = {url: contexts.load(url) for url in contexts.manifest()}
    request = {"credential": credential, "contexts": known, "key": key, "created": created}
    secured: dict[str, Any] = _run("issue.mjs", {**request, "cryptosuite": cryptosuite})
    return secured


def verifier_core(asked: Sequence[tuple[dict[str, Any], dict[str, Any], Sequence[dict[str, Any]]]]) -> list[Report]:
    """What the Consortium's verifier says of each (credential, documents by URL, known registries), all in one run.

    A DID has the same document throughout a run.
    """
    requests = [
        {"credential": credential, "documents": documents, "registries": list(registries)}
        for credential, documents, registries in asked
    ]
    return [_report(**answer) for answer in _run("verifier_core.mjs", requests)]


def _report(result: dict[str, Any], fetched: list[str], missed: list[str]) -> Report:
    steps = {entry["id"]: entry for entry in result.get("log", ())}
    registered = steps.get("registered_issuer", {}).get("matchingIssuers", ())
    schemas: Any = None
    for entry in result.get("additionalInformation", ()):
        assert entry["id"] == "schema_check"
        schemas = entry["results"]
    if isinstance(schemas, list):
        schemas = {one["schema"]: one["result"]["valid"] for one in schemas}
    return Report(
        errors=tuple(error["name"] for error in result.get("errors", ())),
        raised=result["error"]["message"] if "error" in result else None,
        log={name: entry["error"]["name"] if "error" in entry else entry["valid"] for name, entry in steps.items()},
        issuers=tuple(match["issuer"]["federation_entity"]["organization_name"] for match in registered),
        schemas=schemas,
        fetched=tuple(fetched),
        missed=tuple(missed),
    )


def jose(
    verify: Sequence[tuple[str, dict[str, Any], str]] = (),
    sign: Sequence[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = (),
) -> tuple[list[dict[str, Any] | None], list[str]]:
    """What the library `jose` makes of tokens. verify: (token, public JWK, alg); sign: (header, payload, secret JWK).

    → for each token its header and payload, or None where it is refused; the signed tokens.
    """
    asked = [{"token": token, "jwk": jwk, "algorithms": [algorithm]} for token, jwk, algorithm in verify]
    wanted = [{"header": header, "payload": payload, "jwk": jwk} for header, payload, jwk in sign]
    answer = _run("jose.mjs", {"verify": asked, "sign": wanted})
    return answer["verified"], answer["signed"]


def _run(script: str, request: Any) -> Any:
    done = subprocess.run(
        ["node", script],
        cwd=FOLDER,
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError(f"{script} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout)
