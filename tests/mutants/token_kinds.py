"""Changes of a credential in a JSON Web Token: its characters, header, payload, claims, signature and envelope."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any

from laurel.credential import jose, keys, multikey
from laurel.credential.multibase import base64url_decode, base64url_encode
from laurel.errors import LaurelError
from tests.mutants.meaning import _ORDERS
from tests.mutants.specimens import (
    MALLORY,
    MALLORY_P256,
    OTHER,
    P256,
    RSA,
    SECOND,
    SIGNER,
    Specimen,
    specimens,
    strangers_tokens,
)
from tests.mutants.value_kinds import (
    Dice,
    Kind,
    added,
    bit_of_a_value,
    bit_of_the_file,
    characters,
    context_list,
    dates,
    exchanged,
    grafted,
    hidden,
    moved,
    normal_form,
    removed,
    renamed,
    spelling,
    text_of,
    types,
)

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_OF_VALUES: tuple[Kind, ...] = (
    bit_of_a_value, bit_of_the_file, characters, normal_form, dates, dates, types, spelling, removed, added, renamed,
    exchanged, moved, grafted, hidden, context_list,
)  # fmt: skip


def parts(token: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Header, payload and signature."""
    header, payload, signature = (base64url_decode(part) for part in token.decode().split("."))
    return json.loads(header), json.loads(payload), signature


def joined(header: Any, payload: Any, signature: bytes) -> bytes:
    """A token of any header and payload (bytes as they are), with any signature."""
    encoded = [one if isinstance(one, bytes) else text_of(one) for one in (header, payload)]
    return ".".join(base64url_encode(one) for one in (*encoded, signature)).encode()


# --- characters -----------------------------------------------------------------------------------------------------


def bit_of_the_token(dice: Dice, specimen: Specimen) -> bytes:
    """One bit of one character of the compact form."""
    raw = bytearray(specimen.token)
    raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
    return bytes(raw)


def letters(dice: Dice, specimen: Specimen) -> bytes:
    """A character of the compact form more, less, twice or another; the same bytes in base64 as others write it; the
    same token in other wrapping."""
    text = specimen.token.decode()
    place = dice.randrange(len(text))
    header, payload, signature = text.split(".")
    number = dice.randrange(3)
    part = text.split(".")[number]
    stray, padded = text.split("."), text.split(".")
    stray[number] = _stray_bits(part)
    padded[number] = part + "=" * (-len(part) % 4 or 1)
    flattened = {"payload": payload, "protected": header, "signature": signature}
    changed = dice.choice(
        [
            text[:place] + text[place + 1 :], text[:place] + text[place] + text[place:],
            text[:place] + dice.choice(_ALPHABET) + text[place:],
            text[:place] + dice.choice(_ALPHABET) + text[place + 1 :],
            text[:place] + text[place].swapcase() + text[place + 1 :],
            text[:place] + dice.choice("\n \t.%=+/~") + text[place:],
            ".".join(stray), ".".join(padded),
            text.replace("-", "+").replace("_", "/"), text.swapcase(), text[::-1], text.replace(".", "~"), text + "~",
            f"{text}.", f".{text}", f"{header}..{signature}", f"{header}.{payload}.", f"{header}.{payload}",
            f"{payload}.{header}.{signature}", f"{header}.{header}.{signature}", f"{text}.{signature}",
            f"{header}.{payload}.{payload}.{signature}", f"{text} {text}", f"{text}\n{text}", f'"{text}"',
            f"Bearer {text}",
            json.dumps(flattened), json.dumps({"payload": payload, "signatures": [flattened]}), json.dumps([text]),
            json.dumps({"credential": text}), f"data:application/vc+jwt,{text}", f" {text}\n", f"\ufeff{text}",
            f"{text}\x00", f"\u00a0{text}", f"{text}\u200b",
        ]
    )  # fmt: skip
    return changed.encode()


def _stray_bits(part: str) -> str:
    """The part with bits in its last character that no byte takes (RFC 4648 §3.5); where it has none, one more bit."""
    return part[:-1] + _ALPHABET[_ALPHABET.index(part[-1]) ^ 1]


# --- header and payload ---------------------------------------------------------------------------------------------


def header(dice: Dice, specimen: Specimen) -> bytes:
    """Another member of the header, one more, one less, another order; under the old signature, or none."""
    members, _, signature = parts(specimen.token)
    payload = base64url_decode(specimen.token.decode().split(".")[1])
    hers, ours = multikey.to_jwk(MALLORY.public_key_multibase), multikey.to_jwk(P256.public_key_multibase)
    name, value = dice.choice(
        [
            *(("alg", one) for one in (*jose.ALGORITHMS, "none", "None", "NONE", "nOnE", "HS256", "PS256", "ES256K")),
            ("alg", None), ("alg", [members["alg"]]), ("alg", members["alg"].lower()),
            *(("kid", one.verification_method) for one in (SIGNER, P256, RSA, SECOND, OTHER, MALLORY)),
            ("kid", None), ("kid", "key-2"), ("kid", "#key-1"), ("kid", 1), ("kid", "https://mallory.example/jwks#1"),
            ("jwk", hers), ("jwk", ours), ("jwk", None), ("jwk", {}), ("jwk", {**ours, "d": "AQAB"}),
            *(("typ", one) for one in ("JWT", "vc+jwt", "vp+jwt", "vc+ld+jwt", "vc+sd-jwt", "at+jwt", None, ["JWT"])),
            *(("cty", one) for one in ("vc", "vp", "JWT", "json", None)),
            ("crit", []), ("crit", ["exp"]), ("b64", False), ("b64", True), ("zip", "DEF"), ("x", 1),
            ("jku", "https://mallory.example/jwks"), ("x5u", "https://mallory.example/x"), ("x5c", ["MAo="]),
            ("iss", MALLORY.verification_method.partition("#")[0]), ("exp", 4_000_000_000), ("vc", specimen.document),
        ]
    )  # fmt: skip
    made: dict[str, Any] = dice.choice(
        [
            {**members, name: value}, {**members, name: value}, {**members, name: value},
            {one: members[one] for one in members if one != name}, dict(reversed(members.items())),
        ]
    )  # fmt: skip
    raw = text_of(made)
    if dice.random() < 0.1:  # the member twice, the other one first or last
        twice = [f'"{name}":'.encode() + text_of(one) for one in (members.get(name, "x"), value)]
        raw = b"{" + b",".join([*dice.sample(twice, 2), text_of(members)[1:]])
    return joined(raw, payload, dice.choice([signature, signature, signature, b""]))


def payload(dice: Dice, specimen: Specimen) -> bytes | None:
    """The payload changed as a credential in JSON is, under the old signature."""
    members, claims, signature = parts(specimen.token)
    made = dice.choice(_OF_VALUES)(dice, replace(specimen, document=claims))
    return None if made is None else joined(members, made, signature)


def claims(dice: Dice, specimen: Specimen) -> bytes:
    """A claim about the token: another value, one more, one less; or the credential within `vc`."""
    members, made, signature = parts(specimen.token)
    name, value = dice.choice(
        [
            ("exp", 4_000_000_000), ("exp", 1), ("exp", "4000000000"), ("exp", 1e300), ("exp", None), ("exp", 4e9),
            ("nbf", 1), ("nbf", 4_000_000_000), ("nbf", None), ("iat", 1), ("iat", "x"), ("aud", "https://x.example"),
            ("aud", []), ("iss", OTHER.verification_method.partition("#")[0]), ("iss", "did:example:eve"),
            ("iss", None),
            ("jti", "urn:x:y"), ("sub", "did:example:eve"), ("sub", ""), ("nonce", "x"), ("cnf", {"kid": "x"}),
            ("vc", specimen.document), ("vp", {}), ("vc", {}),
        ]
    )  # fmt: skip
    match dice.randrange(4):
        case 0:
            made.pop(dice.choice([one for one in ("iss", "sub", "exp", "nbf", "jti") if one in made] or ["id"]))
        case 1:
            made = {"vc": specimen.document, **{one: made[one] for one in ("iss", "jti", "nbf") if one in made}}
        case _:
            made[name] = value
    return joined(members, made, signature)


# --- signature --------------------------------------------------------------------------------------------------------


def signature(dice: Dice, specimen: Specimen) -> bytes:
    """The signature's bits and length, and the twins that its algebra has."""
    raw = parts(specimen.token)[2]
    half = len(raw) // 2
    flipped = bytearray(raw)
    flipped[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
    order = _ORDERS[64]
    s = int.from_bytes(raw[half:], "big")
    edwards = 2**252 + 27742317777372353535851937790883648493
    beyond = (int.from_bytes(raw[half:], "little") + edwards).to_bytes(half + 1, "little")[:half]
    modulus = multikey.decode_public(RSA.public_key_multibase).rsa().public_numbers().n
    more = (int.from_bytes(raw, "big") + modulus).to_bytes(257, "big")
    made = dice.choice(
        [
            bytes(flipped), bytes(flipped), raw + b"\0", b"\0" + raw, raw[:-1], raw[1:], raw[half:] + raw[:half],
            raw[:half] + ((order - s) % order).to_bytes(half, "big"), raw[:half] + beyond, raw[:half] + bytes(half),
            bytes(len(raw)), b"\1" + bytes(len(raw) - 1), bytes(len(raw) - 1) + b"\1", raw[::-1], more, more[1:], b"",
            b"\x30" + bytes([len(raw) + 4]) + b"\2" + bytes([half]) + raw[:half] + b"\2" + bytes([half]) + raw[half:]
            if len(raw) == 64 else raw + raw,
        ]
    )  # fmt: skip
    return specimen.token.rpartition(b".")[0] + b"." + base64url_encode(made).encode()


def swapped(dice: Dice, specimen: Specimen) -> bytes | dict[str, Any] | None:
    """One or two parts of another genuine token; or the credential without its token, or beside a proof's remains."""
    genuine = [*strangers_tokens(), *(one.token for one in specimens() if one.token and not one.picture)]
    own, other = specimen.token.split(b"."), dice.choice(genuine).split(b".")
    if dice.random() < 0.2:
        bare = copy.deepcopy(specimen.document)
        jws = specimen.token.decode()
        proof = {"type": "JsonWebSignature2020", "jws": jws, "verificationMethod": SIGNER.verification_method}
        return dice.choice([bare, {**bare, "proof": proof}, {**bare, "jwt": jws}, characters(dice, specimen)])
    chosen = dice.choice([(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
    made = b".".join(other[number] if number in chosen else own[number] for number in range(3))
    return None if made in genuine else made  # no forgery, but that other token


def usurped_token(dice: Dice, specimen: Specimen) -> bytes:
    """Mallory changes the payload, or nothing, and signs anew: with her own key, or with what everybody knows."""
    _, old, _ = parts(specimen.token)
    made = dice.choice([characters, dates, hidden])(dice, replace(specimen, document=old)) or old
    if dice.random() < 0.2:
        made = old
    if isinstance(made, dict) and dice.random() < 0.2:
        made = {**made, "iss": MALLORY.verification_method.partition("#")[0]}
    signer: keys.Signer = dice.choice([MALLORY, MALLORY_P256])
    algorithm = "EdDSA" if signer is MALLORY else "ES256"
    owner = dice.choice([MALLORY, MALLORY_P256, SIGNER, P256, RSA, OTHER])
    members: dict[str, Any] = {
        "alg": algorithm,
        "kid": owner.verification_method,
        "typ": parts(specimen.token)[0]["typ"],
    }
    if dice.random() < 0.4:
        members["jwk"] = multikey.to_jwk(dice.choice([signer, owner]).public_key_multibase)
        if dice.random() < 0.5:
            del members["kid"]
    elif dice.random() < 0.2:
        members["kid"] = dice.choice(["key-1", "#key-1", "1", ""])
    if dice.random() < 0.25:  # RFC 8725 §2.1: a public key taken for a shared secret, or no key at all
        members["alg"] = dice.choice(["HS256", "none", "HS256"])
        public = multikey.decode_public(owner.public_key_multibase)
        secret = dice.choice([public.raw, owner.public_key_multibase.encode(), b""])
        signed = joined(members, made, b"")[:-1]
        digest = hmac.digest(secret, signed, hashlib.sha256)
        return signed + b"." + base64url_encode(dice.choice([digest, digest, b"", bytes(64)])).encode()
    signed = joined(members, made, b"")[:-1]
    return signed + b"." + base64url_encode(signer.sign(signed)).encode()


# --- the envelope -----------------------------------------------------------------------------------------------------


def envelope(dice: Dice, specimen: Specimen) -> dict[str, Any] | bytes | None:
    """An EnvelopedVerifiableCredential around the token, and what an unsigned object could add to it."""
    made: dict[str, Any] = jose.enveloped(specimen.token)
    kind, context = made["type"], made["@context"]
    text = specimen.token.decode()
    bare = specimen.document
    option = dice.randrange(7)
    if option == 0:  # what stands beside the token
        name = dice.choice(
            ["validUntil", "validFrom", "name", "issuer", "credentialSubject", "credentialStatus", "proof"]
        )
        made[name] = bare.get(name, {"type": "DataIntegrityProof"})
    elif option == 1:
        made = {**bare, **made} if dice.random() < 0.5 else {**made, **bare, "id": made["id"]}
    elif option == 2:
        made["type"] = dice.choice(
            [[kind], [kind, "VerifiableCredential"], ["VerifiableCredential"], "EnvelopedVerifiablePresentation", [],
             None, [kind, "OpenBadgeCredential"], kind.lower(), bare["type"], [kind, kind]]
        )  # fmt: skip
    elif option == 3:
        inline = {"id": "@type", "type": "@id"}
        made["@context"] = dice.choice(
            [[context], bare["@context"], [], None, [context, inline], inline, bare["@context"][1:]]
        )
    elif option == 4:
        media_type = dice.choice(
            ["application/vc+jwt", "application/jwt", "application/vp+jwt", "application/vc+ld+json+jwt", "text/plain",
             "application/vc+jwt;charset=utf-8", "application/vc+jwt;base64", "Application/VC+JWT",
             "application/vc+sd-jwt",
             ""]
        )  # fmt: skip
        made["id"] = dice.choice([f"data:{media_type},{text}", f"DATA:{media_type},{text}", f"{media_type},{text}"])
    elif option == 5:  # another token, changed in any of the other ways
        try:
            inner = dice.choice([bit_of_the_token, letters, header, payload, claims, signature, usurped_token])(
                dice, specimen
            )
        except LaurelError:
            return None
        made["id"] = f"data:application/vc+jwt,{(inner or b'').decode('utf-8', 'replace')}"
    else:
        made = dice.choice(
            [
                {**made, "id": text}, {**made, "id": bare["id"]}, {**made, "id": f"data:application/vc+jwt, {text}"},
                {**made, "id": f"{made['id']},{text}"}, {**made, "id": made["id"] + "#x"},
                {"verifiableCredential": made},
                {**made, "id": [made["id"]]}, {**made, "id": made["id"].replace(".", "%2E")}, made,
                {"@context": context, "type": kind, "@id": made["id"]},
                {"@context": context, "type": "VerifiablePresentation", "verifiableCredential": [made]},
            ]
        )  # fmt: skip
    return made
