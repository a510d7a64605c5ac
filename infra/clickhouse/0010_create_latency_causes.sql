-- One row per series and window: what its mean latency is laid to.
CREATE TABLE latency_causes_stored
(
    `source_topic_id` LowCardinality(String) COMMENT 'Id of the telemetry topic that the window was cut from.',
    `window_start` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'Start of the window, the telemetry log''s time.',
    `window_end` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'End of the window, not included.',
    `scenario` LowCardinality(String) COMMENT 'What the answers are for; empty when not known.',
    `model` LowCardinality(String) COMMENT 'Model name; empty for requests that reached none.',
    `model_version` LowCardinality(String) COMMENT 'Model version.',
    `actual_ms` Float64 CODEC(ZSTD(1)) COMMENT 'Mean latency of the answered requests whose factors are known.',
    `usual_ms` Float64 CODEC(ZSTD(1)) COMMENT 'What it usually is, remembered for about six hours.',
    `queue_ms` Float64 CODEC(ZSTD(1)) COMMENT 'Part of the rise that longer waiting explains.',
    `tokens_ms` Float64 CODEC(ZSTD(1)) COMMENT 'Part that more tokens in batches explain.',
    `padding_ms` Float64 CODEC(ZSTD(1)) COMMENT 'Part that more padding in batches explains.',
    `batch_size_ms` Float64 CODEC(ZSTD(1)) COMMENT 'Part that more requests in batches explain.',
    `cache_ms` Float64 CODEC(ZSTD(1)) COMMENT 'Part that fewer inputs found in the cache explain.',
    `memory_ms` Float64 CODEC(ZSTD(1)) COMMENT 'Part that the workers'' memory explains.',
    `worker_ms` Float64 CODEC(ZSTD(1)) COMMENT 'Part of workers that are slower than the others, or than usual.',
    `unexplained_ms` Float64 CODEC(ZSTD(1)) COMMENT 'What is left: the same work takes longer.',
    `ms_per_queue_ms` Float64 CODEC(ZSTD(1)) COMMENT 'Coefficient: milliseconds of latency for one of waiting.',
    `ms_per_token` Float64 CODEC(ZSTD(1)) COMMENT 'Coefficient: for a token in the batch.',
    `ms_per_padding_token` Float64 CODEC(ZSTD(1)) COMMENT 'Coefficient: for a padding token in the batch.',
    `ms_per_batch_request` Float64 CODEC(ZSTD(1)) COMMENT 'Coefficient: for a request in the batch.',
    `ms_per_cached` Float64 CODEC(ZSTD(1)) COMMENT 'Coefficient: for all inputs cached against none.',
    `ms_per_gib` Float64 CODEC(ZSTD(1)) COMMENT 'Coefficient: for a GiB of the worker''s memory.',
    `slowest_worker` LowCardinality(String) COMMENT 'The worker that took most longer than its requests explain.',
    `slowest_worker_ms` Float64 CODEC(ZSTD(1)) COMMENT 'How much longer it took, a request.',
    `learning` Bool COMMENT 'True in the first windows of a series: not to be believed yet.'
)
ENGINE = ReplacingMergeTree
PARTITION BY toDate(window_start)
ORDER BY (source_topic_id, window_start, window_end, scenario, model, model_version)
TTL toDateTime(window_start) + INTERVAL 90 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000;

-- Readers use this view: duplicates are merged at read time.
CREATE VIEW latency_causes AS SELECT * FROM latency_causes_stored FINAL;
