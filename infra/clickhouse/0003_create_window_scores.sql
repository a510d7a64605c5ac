-- One row per series, window and metric: what the detector expected and how far off it was.
CREATE TABLE window_scores_stored
(
    `source_topic_id` LowCardinality(String) COMMENT 'Id of the telemetry topic that the window was cut from.',
    `window_start` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'Start of the window, the telemetry log''s time.',
    `window_end` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'End of the window, not included.',
    `scenario` LowCardinality(String) COMMENT 'What the answers are for; empty when not known.',
    `model` LowCardinality(String) COMMENT 'Model name; empty for requests that reached none.',
    `model_version` LowCardinality(String) COMMENT 'Model version.',
    `metric` LowCardinality(String) COMMENT 'Column of `windows` that was scored.',
    `score` Float64 CODEC(ZSTD(1)) COMMENT 'How unusual, 0 to 1.',
    `confidence` Float64 CODEC(ZSTD(1)) COMMENT 'How sure the detector is of its score, 0 to 1; 0 while learning.',
    `actual` Float64 CODEC(ZSTD(1)) COMMENT 'The metric''s value.',
    `expected` Float64 CODEC(ZSTD(1)) COMMENT 'The forecast.',
    `lower` Float64 CODEC(ZSTD(1)) COMMENT 'Lower end of the expected band.',
    `upper` Float64 CODEC(ZSTD(1)) COMMENT 'Upper end of the expected band.',
    `learning` Bool COMMENT 'True in the first windows of a series.',
    `anomalous` Bool COMMENT 'Whether an anomaly event was published.',
    `detector` LowCardinality(String) COMMENT 'Detector name.',
    `config_digest` LowCardinality(String) COMMENT 'Hash of the detector''s configuration.'
)
ENGINE = ReplacingMergeTree
PARTITION BY toDate(window_start)
ORDER BY (source_topic_id, window_start, window_end, scenario, model, model_version, metric)
TTL toDateTime(window_start) + INTERVAL 90 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000;

-- Readers use this view: duplicates are merged at read time.
CREATE VIEW window_scores AS SELECT * FROM window_scores_stored FINAL;
