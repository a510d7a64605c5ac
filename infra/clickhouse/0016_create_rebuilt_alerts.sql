-- What `alerts` would have held under other rules: rows of `inferwatch rebuild`, by run, for 30 days.
CREATE TABLE rebuilt_alerts_stored
(
    `run_id` LowCardinality(String) COMMENT 'Id of the run; it sorts by time.',
    `rebuilt_at` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'When the run began.',
    `incident_id` String CODEC(ZSTD(1)) COMMENT 'The alert topic''s key.',
    `sequence` UInt64 COMMENT 'Number of the change; the highest is shown.',
    `status` LowCardinality(String) COMMENT 'open, updated or resolved.',
    `kind` LowCardinality(String) COMMENT 'One of the closed list of kinds.',
    `scenario` LowCardinality(String) COMMENT 'What the answers are for; empty when not known.',
    `model` LowCardinality(String) COMMENT 'Model name; empty for requests that reached none.',
    `model_version` LowCardinality(String) COMMENT 'Model version.',
    `metric` LowCardinality(String) COMMENT 'The metric.',
    `summary` String CODEC(ZSTD(1)) COMMENT 'One sentence for people.',
    `opened_at` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'End of the window that opened it.',
    `onset` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'Start of the first anomalous window.',
    `changed_at` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'End of the window that made the last change.',
    `resolved_at` Nullable(DateTime64(3, 'UTC')) COMMENT 'End of the window that resolved it.',
    `windows` UInt64 COMMENT 'Anomalous windows.',
    `score` Float64 CODEC(ZSTD(1)) COMMENT 'The trigger''s strength at the last change: 0.5 at its band''s end.',
    `peak_score` Float64 CODEC(ZSTD(1)) COMMENT 'Highest strength.',
    `actual` Float64 CODEC(ZSTD(1)) COMMENT 'The metric''s value at the last change.',
    `expected` Float64 CODEC(ZSTD(1)) COMMENT 'The forecast then.',
    `lower` Float64 CODEC(ZSTD(1)) COMMENT 'Lower end of the band then.',
    `upper` Float64 CODEC(ZSTD(1)) COMMENT 'Upper end of the band then.'
)
ENGINE = ReplacingMergeTree(sequence)
PARTITION BY toYYYYMM(rebuilt_at)
ORDER BY (run_id, incident_id)
TTL toDateTime(rebuilt_at) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000;

-- Readers use this view: duplicates are merged at read time.
CREATE VIEW rebuilt_alerts AS SELECT * FROM rebuilt_alerts_stored FINAL;
