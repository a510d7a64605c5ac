"""Every table of ours as typed columns, for writers and documentation. Migrations make them; a test compares."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.base import INT64_MAX

TIME = "DateTime64(3, 'UTC')"
NAME = "LowCardinality(String)"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its ClickHouse type, and what it means in one sentence with its unit."""

    name: str
    type: str
    description: str


@dataclass(frozen=True, slots=True)
class Table:
    """A stored table (`name`) and the view without duplicates (`view`) that readers use."""

    name: str
    view: str
    description: str
    columns: tuple[Column, ...]

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names in the order that writers send them."""
        return tuple(column.name for column in self.columns)

    @property
    def column_types(self) -> tuple[str, ...]:
        """ClickHouse types, parallel to `column_names`."""
        return tuple(column.type for column in self.columns)


SCORE_KIND = (
    "rank: `score` is the share of this series' own past windows that were less severe, 0.99 about 1 in 100. strength: "
    "it is the trigger's `strength`, which says how far off and not how rare."
)


def first_wins(offset: int) -> int:
    """The row version that makes the earliest telemetry record win a merge (ReplacingMergeTree keeps the highest)."""
    return INT64_MAX - offset


def _columns(*rows: tuple[str, str, str]) -> tuple[Column, ...]:
    return tuple(Column(*row) for row in rows)


_SERIES = (
    ("scenario", NAME, "What the answers are for; empty when not known."),
    ("model", NAME, "Model name; empty for requests that reached none."),
    ("model_version", NAME, "Model version."),
)
_WINDOW = (
    ("source_topic_id", NAME, "Id of the telemetry topic that the window was cut from."),
    ("window_start", TIME, "Start of the window, the telemetry log's time."),
    ("window_end", TIME, "End of the window, not included."),
    *_SERIES,
)

REQUESTS = Table(
    "requests_stored",
    "requests",
    "One row per request: what became of it, how long it took, how unusual it was.",
    _columns(
        ("cluster_id", NAME, "Kafka cluster of the request; identity, part 1."),
        ("topic_id", NAME, "Id of the request topic; identity, part 2."),
        ("partition", "UInt32", "Request partition; identity, part 3."),
        ("offset", "UInt64", "Offset of the request's record; identity, part 4."),
        ("appended_at", TIME, "When the request was appended to its topic (broker's time)."),
        ("served_at", TIME, "When its telemetry was appended (broker's time); windows are cut by it."),
        ("telemetry_offset", "UInt64", "Offset of the telemetry record, same partition number."),
        ("version", "UInt64", "2^63-1 minus the telemetry offset: the first answer wins."),
        ("request_id", "String", "The producer's own name for the request (ce_id)."),
        *_SERIES,
        ("worker_id", NAME, "The process that served it."),
        ("outcome", NAME, "answered, failed, shed or dead_lettered."),
        ("error", NAME, "Error class, shed reason or dead-letter reason; empty when answered."),
        ("queue_ms", "Float64", "Append to start of its batch, without reading its images, milliseconds."),
        ("tokenise_ms", "Float64", "Preparing its whole batch: tokenising texts, reading images; milliseconds."),
        ("compute_ms", "Float64", "Compute of its whole batch, milliseconds."),
        ("total_ms", "Float64", "Append to publishing of the answer, milliseconds."),
        ("batch_size", "UInt32", "Requests in its batch; 0 when in none."),
        ("batch_reason", NAME, "Why the batch was closed: full, timeout, deadline; empty when in none."),
        ("batch_tokens", "UInt32", "Tokens of its batch."),
        ("batch_padded_tokens", "UInt32", "Tokens of its batch, padding included."),
        ("queue_depth", "UInt32", "Requests waiting in the worker when its batch was closed."),
        ("memory_bytes", "UInt64", "Memory of the worker (of the device on CUDA) then, bytes."),
        ("inputs", "UInt32", "Texts in the request."),
        ("input_bytes", "UInt32", "Bytes of text."),
        ("tokens", "UInt32", "Tokens of the request."),
        ("unknown_share", "Float64", "Share of tokens that the vocabulary does not know."),
        ("output_norm", "Float64", "Mean vector length before normalising; 0 without an answer."),
        ("truncated", "Bool", "Whether an input was cut."),
        ("score", "Float64", "How unusual the request was, 0 to 1 (HalfSpaceTrees); 0 while learning."),
        ("learning", "Bool", "True while the detector had not seen enough to judge."),
        ("arm", NAME, "Arm of the deployment that chose the model; empty for the worker's own."),
        ("model_digest", NAME, "SHA-256 of the model's weights."),
        ("post_ms", "Float64", "From the end of its batch's compute to the last answer handed over, milliseconds."),
        ("batch_computed", "UInt32", "Inputs computed in its batch; the others were cached or twice in it."),
        ("cached", "Float64", "Share of its inputs that the worker's cache held: no measure of the model's speed."),
        ("confidence", "Float64", "Probability of the best label, item or tokens; 0 where there is none."),
        ("margin", "Float64", "Best minus second best probability."),
        ("entropy", "Float64", "Entropy of the output, as a share of the largest possible."),
        ("fingerprint", NAME, "Hash of the normalised stack of a failure: equal for equal faults."),
        ("publish_ms", "Nullable(Float64)", "The worker's mean time from handing an answer over to its delivery then."),
        (
            "process_cpu_share",
            "Nullable(Float64)",
            "CPU seconds per second of the worker then; 1 is one core.",
        ),
        ("device_utilisation", "Nullable(Float64)", "Use of the GPU then, 0 to 1; null without one."),
        ("power_watts", "Nullable(Float64)", "Power of the GPU then."),
        ("temperature_celsius", "Nullable(Float64)", "Temperature of the GPU then."),
    ),
)
WINDOWS = Table(
    "windows_stored",
    "windows",
    "One row per series and window: rate, latency quantiles, tokens, errors, memory.",
    _columns(
        *_WINDOW,
        ("revision", "UInt32", "0; rises when data came after the allowed lateness."),
        ("requests", "UInt64", "Requests with any outcome."),
        ("answered", "UInt64", "Answered requests."),
        ("failed", "UInt64", "Failed requests."),
        ("shed", "UInt64", "Shed requests."),
        ("dead_lettered", "UInt64", "Requests that could not be read."),
        ("requests_per_second", "Float64", "Requests over the window's length."),
        ("total_ms_p50", "Float64", "Median latency of computed answers, milliseconds, within 1 %."),
        ("total_ms_p95", "Float64", "95 % quantile of latency of computed answers, milliseconds."),
        ("total_ms_p99", "Float64", "99 % quantile of latency of computed answers, milliseconds."),
        ("total_ms_max", "Float64", "Largest latency of a computed answer, milliseconds."),
        ("queue_ms_p95", "Float64", "95 % quantile of waiting, milliseconds."),
        ("compute_ms_p95", "Float64", "95 % quantile of batch compute over requests, milliseconds."),
        ("tokens", "UInt64", "Tokens computed."),
        ("padding_share", "Float64", "Share of computed tokens that were padding."),
        ("error_share", "Float64", "Failed over all requests."),
        ("unknown_share", "Float64", "Mean share of unknown tokens."),
        ("queue_depth_max", "UInt64", "Most requests waiting in a worker."),
        ("memory_bytes_max", "UInt64", "Most memory of a worker, bytes."),
        ("row_score_mean", "Float64", "Mean score of its requests."),
        ("row_score_max", "Float64", "Highest score of its requests."),
        ("source_partitions", "Array(UInt32)", "Telemetry partitions merged."),
        ("source_first_offsets", "Array(UInt64)", "First telemetry offset of each."),
        ("source_next_offsets", "Array(UInt64)", "Offset after the last of each."),
        ("timed_out", "UInt64", "Requests shed as too late, or failed with a timeout."),
        ("out_of_memory", "UInt64", "Requests that failed for want of memory."),
        ("schema_broken", "UInt64", "Requests that are not what the topic carries."),
        ("empty", "UInt64", "Answers with an output of neither length nor probability."),
        ("repeated", "UInt64", "Outcomes told again, and requests whose id another one has."),
        ("timeout_share", "Float64", "Timed out over all requests."),
        ("schema_share", "Float64", "Broken over all requests of the partitions that had such."),
        ("empty_share", "Float64", "Empty over answered requests."),
        ("repeated_share", "Float64", "Repeated over requests and repeats."),
        ("token_bins", "Array(UInt64)", "Requests by tokens: below 1, 2, 4, ... 16384, and more."),
        ("unknown_bins", "Array(UInt64)", "Requests by share of unknown tokens, of 8 bins."),
        ("confidence_bins", "Array(UInt64)", "Answers by confidence, of 10 bins."),
        ("norm_bins", "Array(UInt64)", "Answers by output norm, of 26 bins."),
        ("uncomputed", "UInt64", "Answers for which nothing was computed: from the cache, or of ready-made vectors."),
        ("uncomputed_share", "Float64", "Such over all answers: the share of cache hits."),
        (
            "script_bins",
            "Array(UInt64)",
            "Requests by writing system: not told, latin, cyrillic, greek, arabic, hebrew, devanagari, bengali, tamil, "
            "thai, hangul, kana, han, other.",
        ),
        ("direction_bins", "Array(UInt64)", "Answers by the way their vector points: none, then 16 parts of space."),
        (
            "fertility_bins",
            "Array(UInt64)",
            "Requests of one whole input by tokens a byte: below 0.1, 0.12, 0.14, 0.17, 0.2, 0.24, 0.28, 0.34, 0.4, "
            "0.48, 0.57, and more.",
        ),
    ),
)
LATENCY_CAUSES = Table(
    "latency_causes_stored",
    "latency_causes",
    "One row per series and window: what its mean latency is laid to, by a regression on what its requests were. The "
    "parts sum to `actual_ms` minus `usual_ms`.",
    _columns(
        *_WINDOW,
        ("actual_ms", "Float64", "Mean latency of the answered requests whose factors are known."),
        ("usual_ms", "Float64", "What it usually is, remembered for about six hours."),
        ("queue_ms", "Float64", "Part of the rise that longer waiting explains."),
        ("tokens_ms", "Float64", "Part that more tokens in batches explain."),
        ("padding_ms", "Float64", "Part that more padding in batches explains."),
        ("batch_size_ms", "Float64", "Part that more requests in batches explain."),
        ("cache_ms", "Float64", "Part that fewer inputs found in the cache explain."),
        ("memory_ms", "Float64", "Part that the workers' memory explains."),
        ("worker_ms", "Float64", "Part of workers that are slower than the others, or than usual."),
        ("unexplained_ms", "Float64", "What is left: the same work takes longer."),
        ("ms_per_queue_ms", "Float64", "Coefficient: milliseconds of latency for one of waiting."),
        ("ms_per_token", "Float64", "Coefficient: for a token in the batch."),
        ("ms_per_padding_token", "Float64", "Coefficient: for a padding token in the batch."),
        ("ms_per_batch_request", "Float64", "Coefficient: for a request in the batch."),
        ("ms_per_cached", "Float64", "Coefficient: for all inputs cached against none."),
        ("ms_per_gib", "Float64", "Coefficient: for a GiB of the worker's memory."),
        ("slowest_worker", NAME, "The worker that took most longer than its requests explain."),
        ("slowest_worker_ms", "Float64", "How much longer it took, a request."),
        ("learning", "Bool", "True in the first windows of a series: not to be believed yet."),
    ),
)
WINDOW_SCORES = Table(
    "window_scores_stored",
    "window_scores",
    "One row per series, window and metric: what the detector expected and how far off it was. A metric that is "
    "usually 0 has a row only where it was not, or just after.",
    _columns(
        *_WINDOW,
        ("metric", NAME, "What was scored: a column of `windows`, or what kinds.md says."),
        ("score", "Float64", "0 to 1, on the scale that `score_kind` names."),
        ("confidence", "Float64", "How sure the detector is of its score, 0 to 1; 0 while learning."),
        ("actual", "Float64", "The metric's value."),
        ("expected", "Float64", "The forecast."),
        ("lower", "Float64", "Lower end of the expected band."),
        ("upper", "Float64", "Upper end of the expected band."),
        ("learning", "Bool", "True in the first windows of a series: no alarm."),
        ("anomalous", "Bool", "Whether an anomaly event was published."),
        ("detector", NAME, "Detector name."),
        ("config_digest", NAME, "Hash of the detector's configuration."),
        ("severity", "Float64", "How far off in the detector's own measure, at least 0; comparable between series."),
        ("strength", "Float64", "Of the trigger: 0.5 at the end of its band, towards 1 beyond."),
        ("contributors", "Array(String)", "What contributed to the severity."),
        ("contributions", "Array(Float64)", "How much of it each did; they sum to 1."),
        ("onset", f"Nullable({TIME})", "Since when the run of unusual windows goes on; null: there is none."),
        ("score_kind", NAME, SCORE_KIND),
    ),
)
ANOMALIES = Table(
    "anomalies_stored",
    "anomalies",
    "The anomaly events, as published.",
    _columns(
        ("anomaly_id", "String", "Function of series, metric and window."),
        ("kind", NAME, "One of the closed list of kinds."),
        *_WINDOW,
        ("metric", NAME, "The metric."),
        ("onset", TIME, "Start of the run of anomalous windows."),
        ("score", "Float64", "0 to 1, on the scale that `score_kind` names."),
        ("confidence", "Float64", "0 to 1."),
        ("actual", "Float64", "The metric's value."),
        ("expected", "Float64", "The forecast."),
        ("lower", "Float64", "Lower end of the band."),
        ("upper", "Float64", "Upper end of the band."),
        ("detector", NAME, "Detector name."),
        ("config_digest", NAME, "Hash of the detector's configuration."),
        ("state_digest", "String", "SHA-256 of the detector's state just before."),
        ("state", "String", "That state, as JSON, so that the score can be recomputed."),
        ("source_partitions", "Array(UInt32)", "Telemetry partitions it was made from."),
        ("source_first_offsets", "Array(UInt64)", "First telemetry offset of each."),
        ("source_next_offsets", "Array(UInt64)", "Offset after the last of each."),
        ("severity", "Float64", "How far off in the detector's own measure, at least 0; comparable between series."),
        ("strength", "Float64", "Of the trigger: 0.5 at the end of its band, towards 1 beyond."),
        (
            "contributors",
            "Array(String)",
            "As in the event: what made a latency longer (causes), which histograms drifted, else the metric.",
        ),
        ("contributions", "Array(Float64)", "How much of it each did; they sum to 1."),
        (
            "scored_input",
            "String",
            "What was scored, as JSON: the value, what confirmed it, where the incident stood, causes of a latency.",
        ),
        ("scored_config", NAME, "Under which configuration, as JSON: trigger, alert policy, options of the detector."),
        ("scoring_format", "UInt16", "Version of the arithmetic; 0: from before it was kept, not to be recomputed."),
        ("score_kind", NAME, SCORE_KIND),
    ),
)
ALERTS = Table(
    "alerts_stored",
    "alerts",
    "Incidents in their last known state, one row each.",
    _columns(
        ("incident_id", "String", "The alert topic's key."),
        ("sequence", "UInt64", "Number of the change; the highest is shown."),
        ("status", NAME, "open, updated or resolved."),
        ("kind", NAME, "One of the closed list of kinds."),
        *_SERIES,
        ("metric", NAME, "The metric."),
        ("summary", "String", "One sentence for people."),
        ("opened_at", TIME, "End of the window that opened it."),
        ("onset", TIME, "Start of the first anomalous window."),
        ("changed_at", TIME, "End of the window that made the last change."),
        ("resolved_at", f"Nullable({TIME})", "End of the window that resolved it."),
        ("windows", "UInt64", "Anomalous windows."),
        ("score", "Float64", "The trigger's strength at the last change: 0.5 at its band's end."),
        ("peak_score", "Float64", "Highest strength."),
        ("actual", "Float64", "The metric's value at the last change."),
        ("expected", "Float64", "The forecast then."),
        ("lower", "Float64", "Lower end of the band then."),
        ("upper", "Float64", "Upper end of the band then."),
    ),
)


def _rebuilt(table: Table) -> Table:
    """The table for what `inferwatch rebuild` makes of it."""
    return Table(
        f"rebuilt_{table.name}",
        f"rebuilt_{table.view}",
        f"What `{table.view}` would have held under other rules: rows of `inferwatch rebuild`, by run, for 30 days.",
        (*_columns(*_RUN), *table.columns),
    )


_RUN = (
    ("run_id", NAME, "Id of the run; it sorts by time."),
    ("rebuilt_at", TIME, "When the run began."),
)
REBUILT_OF = {table.name: _rebuilt(table) for table in (WINDOW_SCORES, ANOMALIES, ALERTS)}
"""By the name of the live table."""
DECLARED: tuple[Table, ...] = (
    *(REQUESTS, WINDOWS, WINDOW_SCORES, ANOMALIES, ALERTS, LATENCY_CAUSES),
    *REBUILT_OF.values(),
)
