"""Credentials, purely: no I/O but bundled package data, no clock, no randomness, no network.

Follow one credential:

1. `model` builds the Open Badges 3.0 document from typed values; `status` gives it its status entry.
2. `lint` checks it against the standards and against common sense, and hands out the `Linted` token.
3. `proofs.sign` takes that token, and nothing else, to a signed document: `jsonld` and `rdf` (safe expansion, RDFC-1.0)
   or `jcs` makes the canonical bytes as `cryptosuites` says, a `keys.Signer` signs their hash, `multibase` writes it
   down. `jose.sign_vc_jwt` and `jose.sign_vc_jose` take it to a JSON Web Token instead.
4. `did` publishes the keys (`multikey`); `status` publishes who was revoked; `proof_sets.verify_proofs` checks all
   of anybody's proofs, one by one (`proofs.verify_proof`) and as sets and chains; `jose.parse` and `jose.verify` read
   anybody's tokens, `jose_claims` compares their claims with the credential, `jose_keys` finds their keys.
5. `baking` puts the signed credential into a PNG or SVG, and takes anybody's out.

`contexts` holds the pinned JSON-LD contexts and JSON schemas: the only ones that are ever loaded.
This package imports none of its modules by itself, so that importing one of them stays cheap.
"""
