"""Logs: one JSON object a line, or plain text at a terminal. Never a record's content, a secret or a learner's data.

Each line passes `redaction.redact`, those of libraries too.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, TextIO

import structlog

from laurel import telemetry
from laurel.redaction import redact


def configure(*, level: str = "INFO", json: bool | None = None, stream: TextIO | None = None) -> None:
    """Set up structlog for this process. json: default, whenever `stream` (default: standard error) is no terminal."""
    target = stream or sys.stderr
    as_json = not target.isatty() if json is None else json
    # Plain tracebacks: rendering every frame's variables takes a second, and would print what must not be logged.
    rendering: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if as_json
        else [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_trace,
            *rendering,
            _redacted,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(_Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    sys.excepthook = _told_without_secrets


def _told_without_secrets(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """What nobody caught, as Python tells it by itself."""
    if sys.stderr is not None:
        sys.stderr.write(redact("".join(traceback.format_exception(kind, error, where))))


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """The line, its traceback included."""
        return redact(super().format(record))


def _redacted(_: Any, __: str, line: Any) -> str:
    return redact(line)


def _add_trace(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    traceparent = telemetry.current_traceparent()
    if traceparent is not None:
        event["trace_id"] = traceparent.split("-")[1]
    request_id = telemetry.current_request_id()
    if request_id is not None:
        event["request_id"] = request_id
    return event
