"""All the proofs of a document together: sets and chains (W3C VC Data Integrity 1.0 §2.1.1, §2.1.2, §4.5).

A document is secured when every one of its proofs is true. A proof that builds on others (`previousProof`) is worth no
more than these: when one of them fails it fails too, and when one of them cannot be checked neither can it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from laurel.credential import did, jsonld
from laurel.credential.proofs import ProofError, ProofResult, parse_proof, proofs_of, unsecured, verify_proof

ResolveKey = Callable[[str], str]
"""verificationMethod → the public Multikey of that method, which may be used for the purpose asked for.

Raises did.DidError when there is none, ProofError("no_key") when it cannot be had.
"""


def verify_proofs(
    document: dict[str, Any],
    resolve_key: ResolveKey,
    *,
    purpose: str = "assertionMethod",
    now: datetime | None = None,
    challenge: str | None = None,
    domain: str | Collection[str] | None = None,
    statements: jsonld.Statements | None = None,
) -> tuple[ProofResult, ...]:
    """One result for each proof, in the document's order; none where there is no proof. Options as `verify_proof`.

    The document is secured only if there are results and all of them are `ok`. Never raises on hostile input.
    """
    attached = proofs_of(document)
    statements = statements or jsonld.Statements(unsecured(document))
    results = []
    for proof in attached:
        try:
            key = resolve_key(parse_proof(proof, purpose=purpose).verification_method)
        except (ProofError, did.DidError) as error:
            results.append(ProofResult(False, error.code, error.detail))
            continue
        result = verify_proof(
            document, proof, key,
            purpose=purpose, now=now, challenge=challenge, domain=domain, statements=statements,
        )  # fmt: skip
        results.append(result)
    return _with_chains(attached, results)


def _with_chains(attached: list[Any], results: list[ProofResult]) -> tuple[ProofResult, ...]:
    """Carry what is wrong with a proof on to those that build on it, however long the chain."""
    places = {
        proof["id"]: place
        for place, proof in enumerate(attached)
        if isinstance(proof, dict) and isinstance(proof.get("id"), str)
    }
    changed = True
    while changed:  # each round settles one proof more, at least: it ends
        changed = False
        for place, result in enumerate(results):
            if not result.ok or result.proof is None:
                continue
            # A true proof has names that exist and are unique (verify_proof): a name that is missing is not possible.
            before = [results[places[name]] for name in result.proof.previous]
            worst = next((one for one in before if one.outcome == "failed"), None)
            worst = worst or next((one for one in before if not one.ok), None)
            if worst is not None:
                failed = worst.outcome == "failed"
                results[place] = replace(
                    result,
                    ok=False,
                    reason="previous_proof_failed" if failed else worst.reason,
                    detail=f"a proof that it builds on {'failed' if failed else 'was not checked'}: {worst.detail}",
                )
                changed = True
    return tuple(results)
