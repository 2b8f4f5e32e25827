"""Fuzzing of what reads strangers' bytes. `make fuzz TARGET=guard RUNS=1000000` runs one target under atheris.

A target is a module of this package with `read(data)`, which must not raise anything but what its subject declares
(`read` catches that), and `SEEDS`, from which the fuzzer starts. `test_targets` keeps all of them in shape.
"""

TARGETS = (
    "baker",
    "did",
    "guard",
    "jcs",
    "jwt",
    "keys",
    "proofs",
    "rows",
    "status_list",
    "template",
    "vcdm",
    "verifier",
)
