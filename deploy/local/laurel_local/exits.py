"""Exit codes, and the one error that ends a command with a message instead of a traceback."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What `laurel` answers to the shell. Stable: scripts may rely on it (deploy/local/README.md prints this table)."""

    OK = 0
    NO = 1  # the answer is no: not verified, something unaccounted, a check failed
    USAGE = 2  # the command line or a setting is wrong
    UNREACHABLE = 3  # the server, the database or the broker cannot be reached
    PARTIAL = 4  # done, but not for all: some rows were refused
    BUG = 70  # our fault (sysexits.h EX_SOFTWARE)
    OUTPUT = 74  # standard output is closed or full (sysexits.h EX_IOERR)
    STUCK = 75  # a part stood still or failed; whatever started us starts us again (sysexits.h EX_TEMPFAIL)
    INTERRUPTED = 130  # stopped by Ctrl-C before the work was done


MEANINGS: dict[Exit, str] = {
    Exit.OK: "done; the answer is yes",
    Exit.NO: "the answer is no: not verified, something is unaccounted for, a check failed",
    Exit.USAGE: "the command line, a file or a setting is wrong; the message names it",
    Exit.UNREACHABLE: "the server, the database or the broker cannot be reached",
    Exit.PARTIAL: "done, but some rows were refused; the message says where they are listed",
    Exit.BUG: "our fault; the message says where the details are",
    Exit.OUTPUT: "the answer could not be written: standard output is closed or full; what was to be done may be done",
    Exit.STUCK: "`serve` or `up` ended because a part stood still or failed; start it again, nothing accepted is lost",
    Exit.INTERRUPTED: "stopped by Ctrl-C before the work was done; run it again to continue",
}


class Failure(Exception):
    """Ends the command. message: what happened, to which thing; fix: what to do about it."""

    def __init__(self, message: str, *, fix: str = "", code: Exit = Exit.NO) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.code = code
