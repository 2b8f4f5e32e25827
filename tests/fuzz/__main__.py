"""One target under atheris: `python -m tests.fuzz guard --runs 1000000`. What libFuzzer takes may follow `--`.

The inputs that reach new code are kept in .fuzz/<target>/ and are where the next run starts. A crash ends the run and
leaves its input as .fuzz/<target>-crash-…; memory beyond --memory MiB is a crash, too, as are 20 s over one input.

`requests` is not atheris': it drives the four services on a real PostgreSQL (tests/fuzz/requests.py).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import sys
from pathlib import Path

from tests.fuzz import TARGETS


def main() -> None:
    """Does not return: libFuzzer ends the process."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=(*TARGETS, "requests"))
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--memory", type=int, default=1024, help="MiB")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of `requests`: stop after so long")
    given, more = parser.parse_known_args()
    os.nice(10 if given.target == "requests" else 15)
    if given.target == "requests":
        importlib.import_module("tests.fuzz.requests").main(given.runs, given.seed, given.seconds)
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed; it comes with the development tools on Linux (x86-64) alone")
    with atheris.instrument_imports(include=["laurel", "laurel_assessment", "laurel_verifier"]):
        target = importlib.import_module(f"tests.fuzz.{given.target}")
    corpus = Path(".fuzz") / given.target
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.SEEDS:
        (corpus / hashlib.sha256(seed).hexdigest()[:20]).write_bytes(seed)
    flags = [
        f"-runs={given.runs}", f"-seed={given.seed}", f"-rss_limit_mb={given.memory}", "-timeout=20", "-max_len=8192",
        "-print_final_stats=1", f"-artifact_prefix=.fuzz/{given.target}-",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *flags, *(one for one in more if one != "--"), str(corpus)], target.read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
