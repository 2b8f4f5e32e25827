"""Logs: one JSON object a line, or plain text at a terminal. Never a record's content, a secret or a learner's data."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from laurel import telemetry


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
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, stream=target, format="%(levelname)s %(name)s: %(message)s")


def _add_trace(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    traceparent = telemetry.current_traceparent()
    if traceparent is not None:
        event["trace_id"] = traceparent.split("-")[1]
    return event
