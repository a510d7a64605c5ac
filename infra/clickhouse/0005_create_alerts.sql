-- Incidents in their last known state, one row each.
CREATE TABLE alerts_stored
(
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
    `score` Float64 CODEC(ZSTD(1)) COMMENT 'Score at the last change.',
    `peak_score` Float64 CODEC(ZSTD(1)) COMMENT 'Highest score.',
    `actual` Float64 CODEC(ZSTD(1)) COMMENT 'The metric''s value at the last change.',
    `expected` Float64 CODEC(ZSTD(1)) COMMENT 'The forecast then.',
    `lower` Float64 CODEC(ZSTD(1)) COMMENT 'Lower end of the band then.',
    `upper` Float64 CODEC(ZSTD(1)) COMMENT 'Upper end of the band then.'
)
ENGINE = ReplacingMergeTree(sequence)
PARTITION BY tuple()
ORDER BY (incident_id)
TTL toDateTime(changed_at) + INTERVAL 365 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000;

-- Readers use this view: duplicates are merged at read time.
CREATE VIEW alerts AS SELECT * FROM alerts_stored FINAL;
