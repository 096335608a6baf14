"""Metrics for Prometheus, summed over all workers.

Gunicorn's configuration sets PROMETHEUS_MULTIPROC_DIR before the app is imported. Then each worker keeps its metrics in
files there, and the worker that is asked adds them up. Without the variable there is one process and no file.
"""

from __future__ import annotations

import os
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from app.settings import Settings

__all__ = ["CONTENT_TYPE", "IN_FLIGHT", "describe", "observe", "read", "watch_pool"]

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)  # seconds

REQUESTS = Counter("http_requests_total", "Requests answered.", ["method", "route", "status"])
DURATION = Histogram(
    "http_request_duration_seconds", "From a request's head to its answer's end.", ["method", "route"], buckets=BUCKETS
)
IN_FLIGHT = Gauge("http_requests_in_flight", "Requests being answered.", multiprocess_mode="livesum")
CONNECTIONS = Gauge(
    "database_pool_connections_in_use", "Connections to the database that are in use.", multiprocess_mode="livesum"
)
BUILD = Gauge("logbook_build_info", "1, with what is running.", ["tag", "sha"], multiprocess_mode="max")


def describe(settings: Settings) -> None:
    """Set the metric with the release that is running."""
    BUILD.labels(settings.release_tag, settings.release_sha).set(1)


def watch_pool(engine: AsyncEngine) -> None:
    """Count the engine's connections that are in use. Call it after other listeners that may refuse a connection."""
    # A gauge cannot ask the pool when it is read, as the values are read from the files that the workers have written.
    taken: set[object] = set()
    pool = engine.sync_engine.pool

    @event.listens_for(pool, "checkout")
    def take(_: Any, entry: object, __: Any) -> None:
        taken.add(entry)
        CONNECTIONS.set(len(taken))

    @event.listens_for(pool, "checkin")
    @event.listens_for(pool, "detach")
    def give_back(_: Any, entry: object) -> None:
        taken.discard(entry)
        CONNECTIONS.set(len(taken))


def observe(method: str, route: str, status: int, seconds: float) -> None:
    """Count a request that has been answered. All labels must come from a bounded set."""
    REQUESTS.labels(method, route, status).inc()
    DURATION.labels(method, route).observe(seconds)


def read() -> bytes:
    """All metrics, in the text format of Prometheus."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # it has no annotations
    return generate_latest(registry)
