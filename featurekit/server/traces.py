"""Turns requests into spans of OpenTelemetry; the only module that loads it.

A server without `--traces` does not load it. The provider is the one that the process has been
given, or one that sends spans by OTLP as the variables `OTEL_…` say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from featurekit.core.version import VERSION
from featurekit.errors import ConfigError

_SERVICE = "featurekit"
_REDIS, _CLIENT = "redis", {"redis", "model"}
"""The parts of a request in which another server is asked, the database among them."""


class Traces:
    """Makes a span for each request, and one for each part of it."""

    def __init__(self, provider: trace.TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(_SERVICE, VERSION)
        self._context = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, method: str, headers: Mapping[bytes, bytes]) -> Iterator[Span]:
        """The span of a request, below the one that its `traceparent` names."""
        carrier = {
            name: headers[name.encode()].decode("latin-1")
            for name in ("traceparent", "tracestate")
            if name.encode() in headers
        }
        with self._tracer.start_as_current_span(
            method, self._context.extract(carrier), SpanKind.SERVER, record_exception=False
        ) as span:
            yield span

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """The span of a part of the request that is being answered."""
        kind = SpanKind.CLIENT if name in _CLIENT else SpanKind.INTERNAL
        with self._tracer.start_as_current_span(name, kind=kind, record_exception=False) as span:
            if name == _REDIS:
                span.set_attribute("db.system.name", name)
            yield

    def headers(self) -> dict[str, str]:
        """The headers that tell another server of the span that goes on."""
        carrier: dict[str, str] = {}
        self._context.inject(carrier)
        return carrier

    def close(self) -> None:
        """Send what waits."""
        shutdown = getattr(self._provider, "shutdown", None)
        if shutdown is not None:
            shutdown()


def end(span: Span, method: str, route: str, status: int, said: Mapping[str, Any]) -> None:
    """Say of a request's span what was answered."""
    if route:
        span.update_name(f"{method} {route}")
        span.set_attribute("http.route", route)
    span.set_attribute("http.request.method", method)
    span.set_attribute("http.response.status_code", status)
    for name, value in said.items():
        if value is not None and value != "":
            span.set_attribute(f"featurekit.{name}", value)
    if status >= 500:
        span.set_status(Status(StatusCode.ERROR))


def ids(span: Span) -> tuple[str, str]:
    """The ids of a span's trace and of the span itself, in hexadecimal."""
    context = span.get_span_context()
    return trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)


def provider() -> trace.TracerProvider:
    """The provider that the process has been given, or one that sends by OTLP over HTTP.
    ConfigError where the packages for that are not installed."""
    given = trace.get_tracer_provider()
    if not isinstance(given, trace.ProxyTracerProvider):
        return given
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigError(
            f"{error.name} is not installed; run `pip install 'featurekit[otel]'`"
        ) from None
    named = Resource.create()
    if str(named.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
        named = named.merge(Resource({SERVICE_NAME: _SERVICE}))
    made = TracerProvider(resource=named)
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made
