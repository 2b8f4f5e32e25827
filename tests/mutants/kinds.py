"""The kinds of change that are made to a credential.

Each takes the dice and a specimen and gives a mutant, or None where there is nothing to change in this way.
"""

from __future__ import annotations

from tests.mutants import picture_kinds, token_kinds
from tests.mutants.proof_kinds import proof_options, proof_sets, proof_swapped, proof_value, usurped
from tests.mutants.specimens import Specimen
from tests.mutants.value_kinds import (
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
    types,
)

KINDS: dict[str, Kind] = {
    "bit of a value": bit_of_a_value, "bit of the file": bit_of_the_file, "characters": characters,
    "Unicode normal form": normal_form, "dates": dates, "types": types, "spelling": spelling, "removed": removed,
    "added": added, "renamed": renamed, "exchanged": exchanged, "moved": moved, "grafted": grafted, "hidden": hidden,
    "contexts": context_list, "proof swapped": proof_swapped, "proof options": proof_options,
    "proof value": proof_value,
    "proof sets": proof_sets, "usurped": usurped,
}  # fmt: skip
TOKENS: dict[str, Kind] = {
    "token: bits": token_kinds.bit_of_the_token, "token: characters": token_kinds.letters,
    "token: header": token_kinds.header, "token: payload": token_kinds.payload, "token: claims": token_kinds.claims,
    "token: signature": token_kinds.signature, "token: swapped": token_kinds.swapped,
    "token: usurped": token_kinds.usurped_token, "token: envelope": token_kinds.envelope,
}  # fmt: skip
PICTURES: dict[str, Kind] = {
    "picture: bits": picture_kinds.bits, "picture: credential": picture_kinds.inside,
    "picture: pieces": picture_kinds.pieces, "picture: written": picture_kinds.written,
    "picture: second credential": picture_kinds.second,
}  # fmt: skip


def kinds_for(specimen: Specimen) -> dict[str, Kind]:
    """The kinds of change that can be made to what this specimen comes in; the first always finds something."""
    return PICTURES if specimen.picture else TOKENS if specimen.token else KINDS
