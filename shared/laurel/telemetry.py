"""Traces (W3C Trace Context over OpenTelemetry) and counters (Prometheus).

A trace follows one learner's pass from the platform's HTTP call to the partner's webhook. Between processes it travels
as a `traceparent` in outbox rows and event headers. Consumers open one span for each distinct trace in a batch, not one
a message: a recorded span costs more than handling the message does.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})").fullmatch  # W3C Trace Context §3.2
_TRACEPARENT_LENGTH = 55  # nothing longer is kept in memory

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)  # process_start_time_seconds tells restarts
_propagate_only = False
_ids = RandomIdGenerator()
_counters: dict[str, Counter] = {}
_counting: dict[tuple[object, ...], Counter] = {}  # with their labels
_gauges: dict[str, Gauge] = {}


def configure(service: str, *, exporter: SpanExporter | None = None) -> TracerProvider:
    """Start tracing for this process: to `exporter`, else to OTEL_EXPORTER_OTLP_ENDPOINT, else only propagate.

    LAUREL_TRACE_RATIO (default 1.0) samples new traces; a caller's decision is always followed.
    """
    global _propagate_only
    ratio = float(os.environ.get("LAUREL_TRACE_RATIO", "1.0"))
    provider = TracerProvider(
        resource=Resource.create({"service.name": f"laurel-{service}"}),
        sampler=ParentBased(TraceIdRatioBased(ratio)),
    )
    if exporter is None and os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter()
    if exporter is not None:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    _propagate_only = exporter is None
    trace.set_tracer_provider(provider)
    return provider


def parse_traceparent(value: str | None) -> SpanContext | None:
    """The context in a traceparent header; None where it is absent or malformed (§3.2.2: then start a new trace)."""
    return _parsed(value) if value and len(value) == _TRACEPARENT_LENGTH else None


@functools.lru_cache(maxsize=256)  # what one batch does goes on in one trace
def _parsed(value: str) -> SpanContext | None:
    match = _TRACEPARENT(value)
    if match is None:
        return None
    context = SpanContext(
        trace_id=int(match[1], 16),
        span_id=int(match[2], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(match[3], 16)),
    )
    return context if context.is_valid else None


def format_traceparent(context: SpanContext) -> str | None:
    """The header value of a span's context; None for an invalid one."""
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"


def current_traceparent() -> str | None:
    """The traceparent of the span that is open here, if any."""
    return format_traceparent(trace.get_current_span().get_span_context())


_request_id: ContextVar[str | None] = ContextVar("laurel_request_id", default=None)


def current_request_id() -> str | None:
    """The id of the HTTP request that is being answered here, if any."""
    return _request_id.get()


class request:  # noqa: N801 - as `span`
    """Names the HTTP request that is answered while the block runs."""

    __slots__ = ("_before", "_id")

    def __init__(self, request_id: str) -> None:
        self._id = request_id

    def __enter__(self) -> None:
        self._before = _request_id.set(self._id)

    def __exit__(self, *_: object) -> None:
        _request_id.reset(self._before)


@functools.lru_cache(maxsize=4)
def _tracer(provider: trace.TracerProvider) -> trace.Tracer:
    """A provider's tracer: making one costs more than a span."""
    return provider.get_tracer("laurel")


def start_span(
    name: str,
    *,
    parent: str | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, str | int | float | bool] | None = None,
) -> Span:
    """A span that the caller ends; it does not become current. parent: a traceparent to continue."""
    remote = parse_traceparent(parent)
    if _propagate_only:
        return _Unrecorded(NonRecordingSpan(remote) if remote else trace.get_current_span())
    context = trace.set_span_in_context(NonRecordingSpan(remote)) if remote else None
    return _tracer(trace.get_tracer_provider()).start_span(
        name, context=context, kind=kind, attributes=dict(attributes or {})
    )


class _Unrecorded(NonRecordingSpan):
    """A span that is only passed on: 6 µs where a recorded one takes 60, less where nobody asks for its ids."""

    def __init__(self, parent: Span) -> None:
        self._parent = parent
        self._made: SpanContext | None = None

    def get_span_context(self) -> SpanContext:
        if self._made is None:
            parent = self._parent.get_span_context()
            trace_id = parent.trace_id if parent.is_valid else _ids.generate_trace_id()
            flags = parent.trace_flags if parent.is_valid else TraceFlags(TraceFlags.SAMPLED)
            self._made = SpanContext(trace_id, _ids.generate_span_id(), is_remote=False, trace_flags=flags)
        return self._made

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.get_span_context()!r})"


class span:  # noqa: N801 - reads as a verb at the call: `with span(name):`
    """A span that is current while the block runs. parent: a traceparent to continue; None: the current span.

    An exception that leaves the block is told by its type alone: its message may quote what must not leave, and stands
    in the log under the same trace. (By our own hand: one stands around every request, and what the API has for it
    costs more than such a span.)
    """

    __slots__ = ("_attributes", "_kind", "_name", "_opened", "_parent", "_token")

    def __init__(
        self,
        name: str,
        *,
        parent: str | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, str | int | float | bool] | None = None,
    ) -> None:
        self._name, self._parent, self._kind, self._attributes = name, parent, kind, attributes

    def __enter__(self) -> Span:
        self._opened = start_span(self._name, parent=self._parent, kind=self._kind, attributes=self._attributes)
        self._token = attach(trace.set_span_in_context(self._opened))
        return self._opened

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        detach(self._token)
        if isinstance(error, Exception):
            self._opened.set_attribute("error.type", type(error).__qualname__)
            self._opened.set_status(Status(StatusCode.ERROR))
        self._opened.end()


def count(name: str, amount: float = 1, **labels: str) -> None:
    """Add to a counter. Call it once a batch: each call costs microseconds."""
    key = (name, *labels.items())
    counting = _counting.get(key)
    if counting is None:
        counter = _counters.get(name)
        if counter is None:
            counter = _counters[name] = Counter(name, name.replace("_", " "), sorted(labels), registry=REGISTRY)
        counting = _counting[key] = counter.labels(**labels) if labels else counter
    counting.inc(amount)


def gauge(name: str, value: float, **labels: str) -> None:
    """Set a gauge."""
    known = _gauges.get(name)
    if known is None:
        known = _gauges[name] = Gauge(name, name.replace("_", " "), sorted(labels), registry=REGISTRY)
    (known.labels(**labels) if labels else known).set(value)
