"""`python -m laurel_verifier [--role api|worker|relay|all]`: the verifier in a process of its own."""

from __future__ import annotations

from laurel.process import main
from laurel_verifier.config import Settings
from laurel_verifier.service import open_service

if __name__ == "__main__":
    main("verifier", Settings, open_service)
