"""Where `laurel` starts: its modules take most of a second to load, and Ctrl-C may come before they are there."""

from __future__ import annotations

import sys

from laurel_local.exits import Exit


def main() -> None:
    """Run the command."""
    try:
        from laurel_local.cli import main as run
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    run()
