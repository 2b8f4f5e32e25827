"""`python -m laurel_assessment [--role api|worker|relay|all]`: the assessment service in a process of its own."""

from __future__ import annotations

from laurel.process import main
from laurel_assessment.config import Settings
from laurel_assessment.service import open_service

if __name__ == "__main__":
    main("assessment", Settings, open_service)
