"""The catalogue of metrics: every name, unit and label of ours in one place; the one door to prometheus_client.

Names follow the Prometheus conventions: prefix `inferwatch_`, seconds and bytes, `_total` for counters, bounded labels.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, start_http_server

LATENCY_BUCKETS_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""From 1 ms, because recommendation answers in a few; to 30 s, where nobody waits any more."""

DEAD_LETTERS = Counter(
    "inferwatch_dead_letters_total", "Records that could not be used, by source topic and reason.", ["topic", "reason"]
)
REQUESTS = Counter("inferwatch_requests_total", "Requests by scenario and outcome.", ["scenario", "outcome"])
REQUEST_SECONDS = Histogram(
    "inferwatch_request_duration_seconds",
    "From the request's append to its answer.",
    ["scenario"],
    buckets=LATENCY_BUCKETS_SECONDS,
)
BATCH_SECONDS = Histogram(
    "inferwatch_batch_compute_duration_seconds", "Compute of one batch.", buckets=LATENCY_BUCKETS_SECONDS
)
QUEUE_DEPTH = Gauge("inferwatch_queue_depth", "Requests waiting in the worker.")
ROWS_STORED = Counter("inferwatch_rows_stored_total", "Rows that ClickHouse accepted, by table.", ["table"])
BARRIER_SECONDS = Histogram(
    "inferwatch_barrier_duration_seconds", "One commit barrier, all four steps.", buckets=LATENCY_BUCKETS_SECONDS
)
BARRIER_FAILURES = Counter("inferwatch_barrier_failures_total", "Barriers that failed and were tried again.")
STATE_FALLBACKS = Counter(
    "inferwatch_state_fallbacks_total", "Broken state snapshots that were passed over at take-over.", ["topic"]
)
TAKE_OVER_SECONDS = Histogram(
    "inferwatch_take_over_duration_seconds",
    "One partition of a stream job, from its assignment to its first record being asked for.",
    buckets=LATENCY_BUCKETS_SECONDS,
)
RECORDS_MISSING = Counter(
    "inferwatch_records_missing_total", "Offsets that a stream job expected and its log no longer had.", ["topic"]
)
LIMITS_REACHED = Counter(
    "inferwatch_limits_reached_total",
    "What bounds of the stream jobs left out, by bound: requests of window_series and row_models, known_series, "
    "open_windows, offset_holes, request_topics.",
    ["what"],
)
LATE_SERIES_DROPPED = Counter(
    "inferwatch_late_series_dropped_total", "Partial series that came after their window was forgotten: in no row."
)


def serve(port: int, address: str = "127.0.0.1") -> None:
    """Serve `/metrics` on a thread of its own, on loopback unless told otherwise."""
    start_http_server(port, addr=address)
