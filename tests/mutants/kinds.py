"""The kinds of change that are made to a credential.

Each takes the dice and a specimen and gives a mutant, or None where there is nothing to change in this way.
"""

from __future__ import annotations

from tests.mutants.proof_kinds import proof_options, proof_sets, proof_swapped, proof_value, usurped
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
