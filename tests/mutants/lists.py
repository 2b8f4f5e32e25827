"""Changes to the status list that a credential rests on, by somebody who serves it but cannot sign for the issuer."""

from __future__ import annotations

import copy
from typing import Any

from laurel.credential import status
from tests.mutants.proof_kinds import proof_swapped, proof_value
from tests.mutants.specimens import MALLORY, OTHER, Specimen, signed_list
from tests.mutants.value_kinds import Dice, bit_of_the_file, characters, dates, removed, types
from tests.unit.credential.samples import INDEX, LIST_URL


def bits(dice: Dice, list_: dict[str, Any]) -> dict[str, Any]:
    """The list with other bits, under its old proof: any bit, among them the one that matters."""
    made = copy.deepcopy(list_)
    data = bytearray(status.decode_list(made["credentialSubject"]["encodedList"]))
    for index in {INDEX if dice.random() < 0.5 else dice.randrange(len(data) * 8) for _ in range(dice.randrange(1, 4))}:
        data[index >> 3] ^= 0x80 >> (index & 7)
    made["credentialSubject"]["encodedList"] = status.encode_list(data)
    return made


def somebody_elses(dice: Dice, list_: dict[str, Any]) -> dict[str, Any]:
    """A genuine list of somebody else, at the address of this one; or one for another purpose or address."""
    purpose = list_["credentialSubject"]["statusPurpose"]
    other = "suspension" if purpose == "revocation" else "revocation"
    return dice.choice(
        [
            signed_list(purpose=purpose, signer=OTHER), signed_list(purpose=purpose, signer=MALLORY),
            signed_list(purpose=other), signed_list(url=LIST_URL + "8", purpose=purpose),
            {**signed_list(purpose=purpose, signer=MALLORY), "issuer": list_["issuer"]},
            {**signed_list(purpose=purpose), "proof": list_["proof"], "validFrom": "2026-11-01T00:00:00Z"},
        ]
    )  # fmt: skip


def like_a_credential(dice: Dice, list_: dict[str, Any]) -> dict[str, Any] | bytes | None:
    """What is done to credentials, done to the list."""
    specimen = Specimen("list", list_, {}, "valid", "rdfc")
    return dice.choice([characters, dates, types, removed, proof_swapped, proof_value, bit_of_the_file])(dice, specimen)


LISTS = {"list: bits": bits, "list: somebody else's": somebody_elses, "list: like a credential": like_a_credential}
