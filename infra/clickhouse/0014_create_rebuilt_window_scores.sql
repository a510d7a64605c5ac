-- What `window_scores` would have held under other rules: rows of `inferwatch rebuild`, by run, for 30 days.
CREATE TABLE rebuilt_window_scores_stored
(
    `run_id` LowCardinality(String) COMMENT 'Id of the run; it sorts by time.',
    `rebuilt_at` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'When the run began.',
    `source_topic_id` LowCardinality(String) COMMENT 'Id of the telemetry topic that the window was cut from.',
    `window_start` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'Start of the window, the telemetry log''s time.',
    `window_end` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'End of the window, not included.',
    `scenario` LowCardinality(String) COMMENT 'What the answers are for; empty when not known.',
    `model` LowCardinality(String) COMMENT 'Model name; empty for requests that reached none.',
    `model_version` LowCardinality(String) COMMENT 'Model version.',
    `metric` LowCardinality(String) COMMENT 'What was scored: a column of `windows`, or what kinds.md says.',
    `score` Float64 CODEC(ZSTD(1)) COMMENT 'Share of this series'' own past windows that were less severe; `strength` of a trigger.',
    `confidence` Float64 CODEC(ZSTD(1)) COMMENT 'How sure the detector is of its score, 0 to 1; 0 while learning.',
    `actual` Float64 CODEC(ZSTD(1)) COMMENT 'The metric''s value.',
    `expected` Float64 CODEC(ZSTD(1)) COMMENT 'The forecast.',
    `lower` Float64 CODEC(ZSTD(1)) COMMENT 'Lower end of the expected band.',
    `upper` Float64 CODEC(ZSTD(1)) COMMENT 'Upper end of the expected band.',
    `learning` Bool COMMENT 'True in the first windows of a series: no alarm.',
    `anomalous` Bool COMMENT 'Whether an anomaly event was published.',
    `detector` LowCardinality(String) COMMENT 'Detector name.',
    `config_digest` LowCardinality(String) COMMENT 'Hash of the detector''s configuration.',
    `severity` Float64 CODEC(ZSTD(1)) COMMENT 'How far off in the detector''s own measure, at least 0; comparable between series.',
    `strength` Float64 CODEC(ZSTD(1)) COMMENT 'Of the trigger: 0.5 at the end of its band, towards 1 beyond.',
    `contributors` Array(String) COMMENT 'What contributed to the severity.',
    `contributions` Array(Float64) COMMENT 'How much of it each did; they sum to 1.',
    `onset` Nullable(DateTime64(3, 'UTC')) COMMENT 'Since when the run of unusual windows goes on; null: there is none.'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(rebuilt_at)
ORDER BY (source_topic_id, window_start, window_end, scenario, model, model_version, metric, run_id)
TTL toDateTime(rebuilt_at) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000;

-- Readers use this view: duplicates are merged at read time.
CREATE VIEW rebuilt_window_scores AS SELECT * FROM rebuilt_window_scores_stored FINAL;
