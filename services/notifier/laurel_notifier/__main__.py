"""`python -m laurel_notifier [--role api|worker|relay|all]`: the notifier in a process of its own."""

from __future__ import annotations

from laurel.process import main
from laurel_notifier.config import Settings
from laurel_notifier.service import open_service

if __name__ == "__main__":
    main("notifier", Settings, open_service)
