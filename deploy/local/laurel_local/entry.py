"""Where `laurel` starts: its modules take most of a second to load, and Ctrl-C may come before they are there."""

from __future__ import annotations

import sys

from laurel_local.exits import Exit


def main() -> None:
    """Run the command."""
    try:
        from laurel_local.cli import main as run

        run()  # Typer builds the commands first; only then does a command's work answer Ctrl-C itself
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
