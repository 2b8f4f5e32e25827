"""The ways to secure a credential, and which of them go together."""

from __future__ import annotations

import pytest

from laurel.credential import cryptosuites, jose, securing


def test_every_way_is_one_that_can_sign_with_its_kind_of_key() -> None:
    for way in securing.SECURINGS.values():
        if way.form == "data-integrity":
            assert way.key_type in cryptosuites.SUITES[way.algorithm].signature_sizes
        else:
            assert jose.ALGORITHMS[way.algorithm] == way.key_type
    assert securing.problem(securing.DEFAULT) is None


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([], "at least one"),
        (["eddsa-rdfc-2023"], "eddsa-rdfc-2022"),
        (["vc-jwt", "eddsa-rdfc-2022"], "stands alone"),
        (["vc+jwt", "vc+jwt:ES256"], "stands alone"),
        (["eddsa-rdfc-2022", "eddsa-rdfc-2022"], "twice"),
        (["proof-chain"], "two proofs or more"),
        (["proof-chain", "eddsa-rdfc-2022"], "two proofs or more"),
        (["eddsa-rdfc-2022", "proof-chain"], "stands before"),
        (["proof-chain", "vc-jwt", "eddsa-rdfc-2022"], "stands alone"),
        ([name for name in securing.SECURINGS if name[:2] == "ed" or name[:2] == "ec"], "at most 4"),
    ],
)
def test_what_does_not_go_together_is_told(names: list[str], told: str) -> None:
    problem = securing.problem(names)
    assert problem is not None
    assert told in problem


def test_status_lists_always_carry_a_proof_and_need_few_keys_more() -> None:
    for name, way in securing.SECURINGS.items():
        of_list = securing.of_lists([name])
        assert of_list.form == "data-integrity"
        assert of_list.key_type == way.key_type or way.key_type == "RSA"
    assert securing.key_types(["vc-jwt"], ["vc-jwt"]) == ("Ed25519", "RSA")
    assert securing.key_types(["ecdsa-jcs-2019", "eddsa-jcs-2022"], ["eddsa-rdfc-2022"]) == ("Ed25519", "P-256")
