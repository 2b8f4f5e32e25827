"""`python -m laurel_issuer [--role api|worker|relay|all]`: the issuer in a process of its own."""

from __future__ import annotations

from laurel.process import main
from laurel_issuer.config import Settings
from laurel_issuer.service import open_service

if __name__ == "__main__":
    main("issuer", Settings, open_service)
