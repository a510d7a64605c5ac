-- One row per request: what became of it, how long it took, how unusual it was.
CREATE TABLE requests_stored
(
    `cluster_id` LowCardinality(String) COMMENT 'Kafka cluster of the request; identity, part 1.',
    `topic_id` LowCardinality(String) COMMENT 'Id of the request topic; identity, part 2.',
    `partition` UInt32 COMMENT 'Request partition; identity, part 3.',
    `offset` UInt64 CODEC(Delta, ZSTD(1)) COMMENT 'Offset of the request''s record; identity, part 4.',
    `appended_at` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'When the request was appended to its topic (broker''s time).',
    `served_at` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'When its telemetry was appended (broker''s time); windows are cut by it.',
    `telemetry_offset` UInt64 CODEC(Delta, ZSTD(1)) COMMENT 'Offset of the telemetry record, same partition number.',
    `version` UInt64 CODEC(Delta, ZSTD(1)) COMMENT '2^63-1 minus the telemetry offset: the first answer wins.',
    `request_id` String CODEC(ZSTD(1)) COMMENT 'The producer''s own name for the request (ce_id).',
    `scenario` LowCardinality(String) COMMENT 'What the answers are for; empty when not known.',
    `model` LowCardinality(String) COMMENT 'Model name; empty for requests that reached none.',
    `model_version` LowCardinality(String) COMMENT 'Model version.',
    `worker_id` LowCardinality(String) COMMENT 'The process that served it.',
    `outcome` LowCardinality(String) COMMENT 'answered, failed, shed or dead_lettered.',
    `error` LowCardinality(String) COMMENT 'Error class, shed reason or dead-letter reason; empty when answered.',
    `queue_ms` Float64 CODEC(ZSTD(1)) COMMENT 'Append to start of its batch, milliseconds.',
    `tokenise_ms` Float64 CODEC(ZSTD(1)) COMMENT 'Tokenising of its whole batch, milliseconds.',
    `compute_ms` Float64 CODEC(ZSTD(1)) COMMENT 'Compute of its whole batch, milliseconds.',
    `total_ms` Float64 CODEC(ZSTD(1)) COMMENT 'Append to publishing of the answer, milliseconds.',
    `batch_size` UInt32 COMMENT 'Requests in its batch; 0 when in none.',
    `batch_reason` LowCardinality(String) COMMENT 'Why the batch was closed: full, timeout, deadline; empty when in none.',
    `batch_tokens` UInt32 COMMENT 'Tokens of its batch.',
    `batch_padded_tokens` UInt32 COMMENT 'Tokens of its batch, padding included.',
    `queue_depth` UInt32 COMMENT 'Requests waiting in the worker when its batch was closed.',
    `memory_bytes` UInt64 COMMENT 'Memory of the worker (of the device on CUDA) then, bytes.',
    `inputs` UInt32 COMMENT 'Texts in the request.',
    `input_bytes` UInt32 COMMENT 'Bytes of text.',
    `tokens` UInt32 COMMENT 'Tokens of the request.',
    `unknown_share` Float64 CODEC(ZSTD(1)) COMMENT 'Share of tokens that the vocabulary does not know.',
    `output_norm` Float64 CODEC(ZSTD(1)) COMMENT 'Mean vector length before normalising; 0 without an answer.',
    `truncated` Bool COMMENT 'Whether an input was cut.',
    `score` Float64 CODEC(ZSTD(1)) COMMENT 'How unusual the request was, 0 to 1 (HalfSpaceTrees); 0 while learning.',
    `learning` Bool COMMENT 'True while the detector had not seen enough to judge.'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toDate(appended_at)
ORDER BY (cluster_id, topic_id, partition, offset)
TTL toDateTime(appended_at) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000;

-- Readers use this view: duplicates are merged at read time.
CREATE VIEW requests AS SELECT * FROM requests_stored FINAL;
