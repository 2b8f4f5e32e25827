"""The failures that cross boundaries inside Laurel, each named for what the receiver should do about it.

Problem documents (RFC 9457) belong to the HTTP edge: see `laurel.problems`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from laurel.envelope import Delivered


class LaurelError(Exception):
    """Base of the errors that Laurel raises on purpose."""


class Reject(LaurelError):
    """Never: this one record can not be handled, now or later. It becomes a dead letter with `code` and `detail`.

    code: a stable snake_case word for dashboards and redrive filters. detail: a sentence for the operator, without
    personal data.
    """

    def __init__(self, delivered: Delivered, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.delivered = delivered
        self.code = code
        self.detail = detail


class NotNow(LaurelError):
    """Not now: something that the batch needs is out of reach. It is tried again after a pause, never dead-lettered."""


class Stuck(LaurelError):
    """A loop has made no progress for longer than it may. The process must exit non-zero and be restarted."""


class Silent(Stuck):
    """A loop gave no sign of life for longer than it may. part: its name."""

    def __init__(self, part: str, seconds: float) -> None:
        super().__init__(f"{part} gave no sign of life for {seconds:g} s")
        self.part = part


class ConfigurationError(LaurelError):
    """A setting is missing or wrong; the message names the setting and the fix."""


def said(message: str) -> str:
    """What pydantic says of a value, without the name of the exception that it puts before words of ours."""
    return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")


def first_failure(error: BaseException) -> BaseException:
    """The failure that came first: of those that ended a group of tasks, and before any in clearing up after it."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
            continue
        before = None if error.__suppress_context__ else error.__context__
        while before is not None and not isinstance(before, BaseExceptionGroup):
            before = before.__context__
        if before is None:
            return error
        error = before
