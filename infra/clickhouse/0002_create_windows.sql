-- One row per series and window: rate, latency quantiles, tokens, errors, memory.
CREATE TABLE windows_stored
(
    `source_topic_id` LowCardinality(String) COMMENT 'Id of the telemetry topic that the window was cut from.',
    `window_start` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'Start of the window, the telemetry log''s time.',
    `window_end` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'End of the window, not included.',
    `scenario` LowCardinality(String) COMMENT 'What the answers are for; empty when not known.',
    `model` LowCardinality(String) COMMENT 'Model name; empty for requests that reached none.',
    `model_version` LowCardinality(String) COMMENT 'Model version.',
    `revision` UInt32 COMMENT '0; rises when data came after the allowed lateness.',
    `requests` UInt64 COMMENT 'Requests with any outcome.',
    `answered` UInt64 COMMENT 'Answered requests.',
    `failed` UInt64 COMMENT 'Failed requests.',
    `shed` UInt64 COMMENT 'Shed requests.',
    `dead_lettered` UInt64 COMMENT 'Requests that could not be read.',
    `requests_per_second` Float64 CODEC(ZSTD(1)) COMMENT 'Requests over the window''s length.',
    `total_ms_p50` Float64 CODEC(ZSTD(1)) COMMENT 'Median latency, milliseconds, within 1 %.',
    `total_ms_p95` Float64 CODEC(ZSTD(1)) COMMENT '95 % quantile of latency, milliseconds.',
    `total_ms_p99` Float64 CODEC(ZSTD(1)) COMMENT '99 % quantile of latency, milliseconds.',
    `total_ms_max` Float64 CODEC(ZSTD(1)) COMMENT 'Largest latency, milliseconds.',
    `queue_ms_p95` Float64 CODEC(ZSTD(1)) COMMENT '95 % quantile of waiting, milliseconds.',
    `compute_ms_p95` Float64 CODEC(ZSTD(1)) COMMENT '95 % quantile of batch compute over requests, milliseconds.',
    `tokens` UInt64 COMMENT 'Tokens computed.',
    `padding_share` Float64 CODEC(ZSTD(1)) COMMENT 'Share of computed tokens that were padding.',
    `error_share` Float64 CODEC(ZSTD(1)) COMMENT 'Failed over all requests.',
    `unknown_share` Float64 CODEC(ZSTD(1)) COMMENT 'Mean share of unknown tokens.',
    `queue_depth_max` UInt64 COMMENT 'Most requests waiting in a worker.',
    `memory_bytes_max` UInt64 COMMENT 'Most memory of a worker, bytes.',
    `row_score_mean` Float64 CODEC(ZSTD(1)) COMMENT 'Mean score of its requests.',
    `row_score_max` Float64 CODEC(ZSTD(1)) COMMENT 'Highest score of its requests.',
    `source_partitions` Array(UInt32) COMMENT 'Telemetry partitions merged.',
    `source_first_offsets` Array(UInt64) COMMENT 'First telemetry offset of each.',
    `source_next_offsets` Array(UInt64) COMMENT 'Offset after the last of each.'
)
ENGINE = ReplacingMergeTree(revision)
PARTITION BY toDate(window_start)
ORDER BY (source_topic_id, window_start, window_end, scenario, model, model_version)
TTL toDateTime(window_start) + INTERVAL 90 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000;

-- Readers use this view: duplicates are merged at read time.
CREATE VIEW windows AS SELECT * FROM windows_stored FINAL;
