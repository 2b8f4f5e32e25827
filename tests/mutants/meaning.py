"""Which changes change nothing: two credentials are the same if they say the same, in the sense of their proofs.

For JCS (eddsa-jcs-2022, ecdsa-jcs-2019), where the JSON itself is signed:
 J1. the order of members, white space and escapes, and how a number is written (RFC 8785 §3.2.2.3: 1 and 1.0);
 J2. contexts added at the end, after those that the proof lists (VC DI EdDSA §3.3.2 step 4.1).

For RDFC-1.0 (eddsa-rdfc-2022, ecdsa-rdfc-2019), where the statements are signed, J1 and:
 R1. one value and an array of it; the order and repetition of values (all are sets); an array in an array;
 R2. a member with an empty array, which states nothing;
 R3. {"@value": x} and x;
 R4. OpenBadgeCredential and AchievementCredential: two terms of one type in the Open Badges context;
 R5. other contexts, if they give every statement as before; the contexts are not signed, only what they make of
     the document. Decided by another JSON-LD processor (pyoxigraph's, in Rust) than the verifier's (PyLD), and by
     PyLD as it is published only for the few inline contexts that pyoxigraph does not take;
 R6. in a proof, contexts of the document, which VC DI EdDSA §3.2.5 step 5 puts there itself;
 R7. a label for a blank node;
 R8. a number that JSON-LD 1.1 API §8.2.2 writes with the same sixteen digits (2.5 and 2.4999999999999996);
 R9. what is said of one id, in whichever of the objects with this id it stands (issuer and creator, say), and an id
     in place of an object that says nothing more. (The credential's own id may stand on one object alone:
     `compacted.check_own_id`.)

For both, of the proofs:
 P1. one proof and an array of it, and the order of a set of proofs;
 P2. a proof of a set taken away, as long as one by the issuer is left (VC Data Integrity 1.0 §2.1.1);
 P3. a further true proof by somebody else, which says what its signer says and no more;
 P4. (r, n - s) for (r, s) in ECDSA: FIPS 186-5 takes both.

Everything else is another credential.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import pyoxigraph
from pyld import jsonld as pyld

from laurel.credential import contexts, jsonld, multibase
from laurel.errors import LaurelError
from tests.mutants.specimens import Form

_ORDERS = {
    64: 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    96: 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
}
_SYNONYMS = {"AchievementCredential": "OpenBadgeCredential"}


def same(mutant: Any, original: Mapping[str, Any], form: Form) -> bool:
    """Whether the mutant says what the original says: no forgery, however it is written."""
    if not isinstance(mutant, dict):
        return False
    return _same_proofs(mutant, original) and (_same_json if form == "jcs" else _same_statements)(mutant, original)


def _same_json(mutant: Mapping[str, Any], original: Mapping[str, Any]) -> bool:
    listed, present = original["@context"], mutant.get("@context")
    if not isinstance(present, list) or exact(present[: len(listed)]) != exact(listed):  # J2
        return False
    without = ("proof", "@context")
    return exact({k: v for k, v in mutant.items() if k not in without}) == exact(
        {k: v for k, v in original.items() if k not in without}
    )


def _same_statements(mutant: Mapping[str, Any], original: Mapping[str, Any]) -> bool:
    if _graph(mutant) != _graph(original):
        return False
    if _contexts(mutant) == _contexts(original):
        return True
    found = statements(mutant)  # R5
    if found is None:
        found_by_pyld = _statements_by_pyld(mutant)
        return found_by_pyld is not None and found_by_pyld == _statements_by_pyld(original)
    return found == statements(original)


def _graph(document: Mapping[str, Any]) -> Any:
    nodes: dict[str, set[Any]] = {}
    root = loose({name: value for name, value in document.items() if name != "proof"}, nodes)
    return root, frozenset((name, frozenset(members)) for name, members in nodes.items() if members)


def _contexts(document: Any, path: str = "") -> list[Any]:
    found = []
    if isinstance(document, dict):
        found = [(path, exact(document["@context"]))] if "@context" in document else []
        found += [
            one for name, inner in document.items() if name != "proof" for one in _contexts(inner, f"{path}/{name}")
        ]
    elif isinstance(document, list):
        found = [one for number, inner in enumerate(document) for one in _contexts(inner, f"{path}/{number}")]
    return found


def exact(value: Any) -> Any:
    """A hashable form in which two values are equal if they are the same JSON (J1)."""
    if isinstance(value, dict):
        return ("object", frozenset((name, exact(inner)) for name, inner in value.items()))
    if isinstance(value, list):
        return ("array", tuple(exact(inner) for inner in value))
    if isinstance(value, bool) or value is None:
        return ("word", str(value))
    return ("number", float(value)) if isinstance(value, int | float) else ("text", value)


def loose(value: Any, nodes: dict[str, set[Any]]) -> Any:
    """A hashable form in which two values are equal if they make the same statements (R1 to R4, R7 to R9).

    nodes: what is said of each id is added there. Contexts are left out (R5).
    """
    if isinstance(value, dict):
        if set(value) == {"@value"}:
            return loose(value["@value"], nodes)  # R3
        members = {(name, loose(inner, nodes)) for name, inner in value.items() if name not in ("id", "@context")}
        said = {(name, inner) for name, inner in members if inner != _NOTHING}  # R2
        identifier = value.get("id")
        if not isinstance(identifier, str):
            return ("object", frozenset(said if identifier is None else {*said, ("id", exact(identifier))}))
        if identifier.startswith("_:"):
            return ("object", frozenset(said))  # R7
        values = {(name, one) for name, inner in said for one in _values(inner)}
        nodes.setdefault(identifier, set()).update(values)
        return ("text", identifier)  # R9
    if isinstance(value, list):
        flat = frozenset(one for inner in value for one in _values(loose(inner, nodes)))
        return next(iter(flat)) if len(flat) == 1 else ("set", flat)  # R1
    if isinstance(value, int | float) and not isinstance(value, bool):
        return ("number", f"{value:.15e}")  # R8
    return ("text", _SYNONYMS.get(value, value)) if isinstance(value, str) else exact(value)  # R4


_NOTHING = ("set", frozenset())


def _values(value: Any) -> frozenset[Any]:
    kind, inner = value
    return inner if kind == "set" else frozenset([value])


def statements(document: Mapping[str, Any]) -> bytes | None:
    """The canonical N-Quads as pyoxigraph alone makes them, contexts included; None where it cannot."""
    bare = {name: _with_contexts(value, name) for name, value in document.items() if name != "proof"}
    try:
        quads = pyoxigraph.parse(json.dumps(bare), pyoxigraph.RdfFormat.JSON_LD)
        dataset = pyoxigraph.Dataset(quads)
        dataset.canonicalize(pyoxigraph.CanonicalizationAlgorithm.RDFC_1_0)
        lines = pyoxigraph.serialize(dataset, format=pyoxigraph.RdfFormat.N_QUADS)
    except (SyntaxError, ValueError):
        return None
    assert lines is not None
    return b"\n".join(sorted(lines.splitlines()))


def _statements_by_pyld(document: Mapping[str, Any]) -> str | None:
    """The same by PyLD, without the watch that the verifier keeps over it."""
    options = {
        "format": "application/n-quads", "documentLoader": jsonld._load,
        "contextResolver": pyld.ContextResolver({}, jsonld._load),
    }  # fmt: skip
    try:
        return str(pyld.normalize({name: value for name, value in document.items() if name != "proof"}, options))
    except (pyld.JsonLdError, LaurelError, AttributeError, TypeError, ValueError):
        return None


def _with_contexts(value: Any, name: str | None = None) -> Any:
    if name == "@context":
        return _inlined(value)
    if isinstance(value, list):
        return [_with_contexts(inner) for inner in value]
    return {key: _with_contexts(inner, key) for key, inner in value.items()} if isinstance(value, dict) else value


def _inlined(context: Any) -> Any:
    """pyoxigraph loads no contexts: they are put in place of their URLs."""
    made = []
    for one in context if isinstance(context, list) else [context]:
        if isinstance(one, str) and one in contexts.manifest():
            inner = contexts.load(one)["@context"]
            made += inner if isinstance(inner, list) else [inner]
        else:
            made.append(copy.deepcopy(one))
    return made


# --- proofs -------------------------------------------------------------------------------------------------------


def _same_proofs(mutant: Mapping[str, Any], original: Mapping[str, Any]) -> bool:
    """P1 to P4: at least one of the issuer's proofs is there, unchanged, with the proofs that it builds on."""
    left = {_proof(one, mutant) for one in _listed(mutant.get("proof"))}
    before = {_proof(one, original): one for one in _listed(original["proof"])}
    if "previousProof" in json.dumps(original["proof"]):
        return before.keys() <= left or any("previousProof" not in before[one] for one in left & before.keys())
    return bool(left & before.keys())


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _proof(proof: Any, document: Mapping[str, Any]) -> Any:
    if not isinstance(proof, dict):
        return exact(proof)
    jcs = "jcs" in str(proof.get("cryptosuite"))
    members = {name: value for name, value in proof.items() if name not in ("proofValue", "@context")}
    context = proof.get("@context")
    if context is not None and (jcs or any(one not in _listed(document.get("@context")) for one in _listed(context))):
        members["@context"] = context  # else R6
    ecdsa = "ecdsa" in str(proof.get("cryptosuite"))
    return (exact(members) if jcs else _graph(members), _signature(proof.get("proofValue"), twins=ecdsa))


def _signature(value: Any, *, twins: bool) -> Any:
    """The bytes; for ECDSA (twins), of (r, s) and (r, n - s) the one with the smaller s (P4)."""
    if not isinstance(value, str) or not value.startswith("z"):
        return exact(value)
    try:
        raw = multibase.decode(value)
    except multibase.MultibaseError:
        return exact(value)
    return lesser_twin(raw) if twins else raw


def lesser_twin(raw: bytes) -> bytes:
    """Of the ECDSA signatures (r, s) and (r, n - s) the one with the smaller s; anything else as it is (P4)."""
    order = _ORDERS.get(len(raw), 0)
    half = len(raw) // 2
    s = int.from_bytes(raw[half:], "big")
    return raw[:half] + min(s, order - s).to_bytes(half, "big") if 0 < s < order else raw
