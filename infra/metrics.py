"""The catalogue of metrics: every name, unit and label of ours in one place. `docs/metrics.md` is made from it.

Names follow the Prometheus conventions: prefix `inferwatch_`, seconds, bytes and ratios from 0 to 1, `_total` for
counters, histograms and never summaries. Labels are bounded: who fills in names that others choose counts them.
"""

from __future__ import annotations

from infra.meters import Catalogue

EVERY, WORKER, JOBS, WATCHDOG = "every process", "workers", "stream jobs", "watchdogs"
"""The kinds of processes, as parts of the catalogue."""
LATENCY_BUCKETS_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""From 1 ms, because recommendation answers in a few; to 30 s, where nobody waits any more."""
SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048)
"""Requests of a batch, up to the largest that can be set."""
MODEL = ("model_name", "model_version")
REQUEST = ("scenario", *MODEL)
COMPUTED = "true", "false"
"""Label `computed`: whether the request was in a batch. One that the cache answers wholly, that brings its vectors or
that is refused was in none."""

CATALOGUE = Catalogue()
_counter, _gauge, _histogram = CATALOGUE.counter, CATALOGUE.gauge, CATALOGUE.histogram

DEAD_LETTERS = _counter(
    EVERY,
    "inferwatch_dead_letters_total",
    "Records that could not be used, by source topic and reason.",
    ["topic", "reason"],
)
LIVE = _gauge(EVERY, "inferwatch_live", "1 while /health/live says so, else 0.")
READY = _gauge(EVERY, "inferwatch_ready", "1 while /health/ready says so, else 0.")
LOG_RECORDS_DROPPED = _counter(
    EVERY,
    "inferwatch_log_records_dropped_total",
    "Log lines that did not reach the log topic, by reason: queue_full, not_delivered, unpublishable.",
    ["reason"],
)
UNCOMMITTED_OLDEST_SECONDS = _gauge(
    EVERY,
    "inferwatch_uncommitted_oldest_seconds",
    "Since the append of the oldest record that was taken and is not committed; 0: all is. Of a worker: not done, for "
    "what is done is committed within a second. Of a job that keeps books too: the job's own.",
)
HELD = _gauge(
    EVERY,
    "inferwatch_held",
    "What a bounded queue holds, by queue. Workers: requests and request_bytes taken and not started, answers and "
    "answer_bytes waiting to be delivered. Jobs: rows waiting to be stored, events and event_bytes waiting to be "
    "delivered, owed requests in the fullest book. Watchdogs: alert_events and alert_rows not told yet.",
    ["what"],
)
HELD_MAX = _gauge(
    EVERY,
    "inferwatch_held_max",
    "Its bound: from there on no record is taken; a watchdog drops the oldest alert.",
    ["what"],
)

REQUESTS = _counter(WORKER, "inferwatch_requests_total", "Requests by outcome.", [*REQUEST, "outcome"])
REQUEST_SECONDS = _histogram(
    WORKER,
    "inferwatch_request_duration_seconds",
    "From the request's append to its answer. `computed` is true when the model computed something for it; false when "
    "the cache had all of it, it brought its vectors, or it was refused: they say nothing of the model's latency.",
    LATENCY_BUCKETS_SECONDS,
    [*REQUEST, "computed"],
)
QUEUE_SECONDS = _histogram(
    WORKER,
    "inferwatch_queue_duration_seconds",
    "From the request's append to the start of its batch, without the time in which its images were read.",
    LATENCY_BUCKETS_SECONDS,
    REQUEST,
)
TOKENISE_SECONDS = _histogram(
    WORKER,
    "inferwatch_tokenise_duration_seconds",
    "Preparing the requests of one batch, added up over them: tokenising texts, reading and decoding images.",
    LATENCY_BUCKETS_SECONDS,
    MODEL,
)
COMPUTE_SECONDS = _histogram(
    WORKER, "inferwatch_compute_duration_seconds", "Compute of one batch.", LATENCY_BUCKETS_SECONDS, MODEL
)
POST_SECONDS = _histogram(
    WORKER,
    "inferwatch_post_duration_seconds",
    "From the end of a batch's compute to its last answer handed over.",
    LATENCY_BUCKETS_SECONDS,
    MODEL,
)
PUBLISH_SECONDS = _histogram(
    WORKER,
    "inferwatch_publish_duration_seconds",
    "From handing a record over to its delivery, tries again included.",
    LATENCY_BUCKETS_SECONDS,
)
BATCH_REQUESTS = _histogram(WORKER, "inferwatch_batch_requests", "Requests of a batch.", SIZE_BUCKETS, MODEL)
BATCHES = _counter(
    WORKER, "inferwatch_batches_total", "Batches by why they were closed: full, timeout, deadline.", [*MODEL, "reason"]
)
TOKENS = _counter(WORKER, "inferwatch_tokens_total", "Tokens of requests in batches, generated ones too.", MODEL)
PADDED_TOKENS = _counter(
    WORKER, "inferwatch_padded_tokens_total", "Tokens that were computed, padding included.", MODEL
)
COMPUTE_BUSY_SECONDS = _counter(
    WORKER, "inferwatch_compute_busy_seconds_total", "Time spent computing batches: its rate is the utilisation.", MODEL
)
SHED = _counter(
    WORKER,
    "inferwatch_requests_shed_total",
    "Requests given up on purpose, by reason: expired, over_limit.",
    ["scenario", "reason"],
)
FAILURES = _counter(
    WORKER, "inferwatch_requests_failed_total", "Requests that failed, by error code.", [*MODEL, "error"]
)
SHADOW_FAILURES = _counter(
    WORKER,
    "inferwatch_shadow_failures_total",
    "Requests that a shadow failed to compute, or cannot compute, by error code; another model answers them.",
    [*MODEL, "error"],
)
CACHE_HITS = _counter(WORKER, "inferwatch_cache_hits_total", "Inputs whose result the cache held.", MODEL)
CACHE_MISSES = _counter(WORKER, "inferwatch_cache_misses_total", "Inputs that had to be computed.", MODEL)
CACHE_BYTES = _gauge(WORKER, "inferwatch_cache_bytes", "Bytes of results that the cache holds.")
CACHE_EVICTIONS = _counter(
    WORKER, "inferwatch_cache_evictions_total", "Results that the cache dropped to make room for others."
)
QUEUE_DEPTH = _gauge(WORKER, "inferwatch_queue_depth", "Requests waiting in the worker.")
QUEUE_BYTES = _gauge(WORKER, "inferwatch_queue_bytes", "Bytes of the requests waiting in the worker.")
OWED_REQUESTS = _gauge(WORKER, "inferwatch_owed_requests", "Requests taken for the model and not answered yet.")
OWED_OLDEST_SECONDS = _gauge(WORKER, "inferwatch_owed_oldest_seconds", "How long the oldest of them has waited.")
UNDELIVERED = _gauge(WORKER, "inferwatch_undelivered_records", "Records handed to Kafka and not confirmed yet.")
PROCESS_CPU_RATIO = _gauge(
    WORKER, "inferwatch_process_cpu_ratio", "CPU seconds used per second; 1 is one core, so it may be above 1."
)
PROCESS_MEMORY_BYTES = _gauge(WORKER, "inferwatch_process_memory_bytes", "Resident memory of the process.")
BATCH_MEMORY_BYTES = _gauge(
    WORKER,
    "inferwatch_batch_memory_bytes",
    "Memory when the last batch was done: the process's, or the device's on CUDA.",
    MODEL,
)
DEVICE_UTILISATION = _gauge(
    WORKER, "inferwatch_device_utilisation_ratio", "Share of the last second in which the device computed."
)
DEVICE_MEMORY_BYTES = _gauge(WORKER, "inferwatch_device_memory_bytes", "Memory used on the device, by all processes.")
DEVICE_POWER_WATTS = _gauge(WORKER, "inferwatch_device_power_watts", "Power that the device draws.")
DEVICE_TEMPERATURE = _gauge(WORKER, "inferwatch_device_temperature_celsius", "Temperature of the device.")
MODEL_LOAD_SECONDS = _gauge(
    WORKER, "inferwatch_model_load_seconds", "How long it took to load, warm and check a model.", MODEL
)
DEPLOYMENT_INFO = _gauge(
    WORKER,
    "inferwatch_deployment_info",
    "1 for each model that a scenario is deployed on; `mode` is answer or shadow. Scenario `*`: all others.",
    [*REQUEST, "arm", "mode"],
)
DEPLOYMENT_SHARE = _gauge(
    WORKER,
    "inferwatch_deployment_share_ratio",
    "Share of a scenario's requests that a model gets.",
    [*REQUEST, "arm", "mode"],
)
DESIRED_WORKERS = _gauge(
    WORKER,
    "inferwatch_desired_workers",
    "Workers that the group needs, as this one reckons; scale on the largest of them.",
)
DESIRED_WORKERS_REASON = _gauge(
    WORKER,
    "inferwatch_desired_workers_reason",
    "1 for the reason that holds now; /health/ready and the log have it in words.",
    ["reason"],
)
GROUP_LAG = _gauge(WORKER, "inferwatch_group_lag_records", "Requests appended and not yet done by the group.")
GROUP_ARRIVALS = _gauge(WORKER, "inferwatch_group_arrivals_per_second", "Requests appended per second.")
SERVICE_RATE = _gauge(
    WORKER, "inferwatch_service_rate_per_second", "Requests per second that this worker can do when it is busy."
)

ROWS_STORED = _counter(JOBS, "inferwatch_rows_stored_total", "Rows that ClickHouse accepted, by table.", ["table"])
BLOCKS_STORED = _counter(
    JOBS,
    "inferwatch_blocks_stored_total",
    "Blocks that they came in: rows over blocks is a block's mean size, at least 10,000 under load.",
    ["table"],
)
BARRIER_SECONDS = _histogram(
    JOBS, "inferwatch_barrier_duration_seconds", "One commit barrier, all four steps.", LATENCY_BUCKETS_SECONDS
)
BARRIER_CPU_SECONDS = _counter(
    JOBS,
    "inferwatch_barrier_cpu_seconds_total",
    "Processor time of barriers' own work: state made into pages, framed and handed to Kafka.",
)
BARRIER_FAILURES = _counter(JOBS, "inferwatch_barrier_failures_total", "Barriers that failed and were tried again.")
STATE_FALLBACKS = _counter(
    JOBS, "inferwatch_state_fallbacks_total", "Broken state snapshots that were passed over at take-over.", ["topic"]
)
STATE_RENEWED = _counter(
    JOBS,
    "inferwatch_state_renewed_total",
    "States of partitions that a take-over could not use, by topic that is folded: whole ones (all), because they were "
    "passed over, unreadable or of another configuration, and ones of which a part was broken (part).",
    ["topic", "what"],
)
TAKE_OVER_SECONDS = _histogram(
    JOBS,
    "inferwatch_take_over_duration_seconds",
    "One partition of a stream job, from its assignment to its first record being asked for.",
    LATENCY_BUCKETS_SECONDS,
)
RECORDS_MISSING = _counter(
    JOBS,
    "inferwatch_records_missing_total",
    "Offsets that a stream job expected and its log no longer had.",
    ["topic"],
)
LIMITS_REACHED = _counter(
    JOBS,
    "inferwatch_limits_reached_total",
    "What bounds of the stream jobs left out, by bound: requests of window_series and row_models, live_series "
    "(parked, nothing is lost), active_series, known_series, open_windows, offset_holes, request_topics.",
    ["what"],
)
NEWER_EVENTS = _counter(
    JOBS,
    "inferwatch_newer_events_total",
    "Events of kinds that only a newer release knows, passed over by a stream job; the log names their types.",
    ["topic"],
)
LATE_SERIES_DROPPED = _counter(
    JOBS,
    "inferwatch_late_series_dropped_total",
    "Partial series that came after their window was forgotten: in no row.",
)
LEDGER_OWED_REQUESTS = _gauge(
    JOBS,
    "inferwatch_ledger_owed_requests",
    "Requests without an end in the partitions whose books are here.",
    ["scenario"],
)
LEDGER_OLDEST_OWED_SECONDS = _gauge(
    JOBS, "inferwatch_ledger_oldest_owed_seconds", "Age of the oldest of them; 0 while nothing is owed.", ["scenario"]
)
BEHIND_RECORDS = _gauge(
    JOBS, "inferwatch_behind_records", "Records in the logs of this job's partitions that it has not taken."
)
WAITING_FOR = _gauge(
    JOBS,
    "inferwatch_waiting_for",
    "1 while a server does not take what the job has made: clickhouse, kafka. It then commits nothing.",
    ["what"],
)

WATCHDOG_LAG_RECORDS = _gauge(
    WATCHDOG, "inferwatch_watchdog_lag_records", "Records appended and not committed by the group.", ["group"]
)
WATCHDOG_LAG_SECONDS = _gauge(
    WATCHDOG,
    "inferwatch_watchdog_lag_seconds",
    "For how long the oldest of them has been there, at least.",
    ["group"],
)
WATCHDOG_RESTARTS = _counter(
    WATCHDOG, "inferwatch_watchdog_restarts_total", "Processes ended because they made no progress.", ["what"]
)
WATCHDOG_COUNTED_LOOKS = _gauge(
    WATCHDOG, "inferwatch_watchdog_counted_looks", "Looks in a row that count against a process.", ["what"]
)
WATCHDOG_LOOKS = _counter(
    WATCHDOG, "inferwatch_watchdog_looks_total", "Looks, by whether Kafka did: answered, kafka_away.", ["outcome"]
)
WATCHDOG_ALERTS_DROPPED = _counter(
    WATCHDOG,
    "inferwatch_watchdog_alerts_dropped_total",
    "Alerts and anomalies about the pipeline that were not told, by queue (alert_events, alert_rows) and reason: "
    "too_many, refused.",
    ["what", "reason"],
)
