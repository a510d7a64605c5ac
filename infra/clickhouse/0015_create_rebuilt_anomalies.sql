-- What `anomalies` would have held under other rules: rows of `inferwatch rebuild`, by run, for 30 days.
CREATE TABLE rebuilt_anomalies_stored
(
    `run_id` LowCardinality(String) COMMENT 'Id of the run; it sorts by time.',
    `rebuilt_at` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'When the run began.',
    `anomaly_id` String CODEC(ZSTD(1)) COMMENT 'Function of series, metric and window.',
    `kind` LowCardinality(String) COMMENT 'One of the closed list of kinds.',
    `source_topic_id` LowCardinality(String) COMMENT 'Id of the telemetry topic that the window was cut from.',
    `window_start` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'Start of the window, the telemetry log''s time.',
    `window_end` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'End of the window, not included.',
    `scenario` LowCardinality(String) COMMENT 'What the answers are for; empty when not known.',
    `model` LowCardinality(String) COMMENT 'Model name; empty for requests that reached none.',
    `model_version` LowCardinality(String) COMMENT 'Model version.',
    `metric` LowCardinality(String) COMMENT 'The metric.',
    `onset` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'Start of the run of anomalous windows.',
    `score` Float64 CODEC(ZSTD(1)) COMMENT '0 to 1.',
    `confidence` Float64 CODEC(ZSTD(1)) COMMENT '0 to 1.',
    `actual` Float64 CODEC(ZSTD(1)) COMMENT 'The metric''s value.',
    `expected` Float64 CODEC(ZSTD(1)) COMMENT 'The forecast.',
    `lower` Float64 CODEC(ZSTD(1)) COMMENT 'Lower end of the band.',
    `upper` Float64 CODEC(ZSTD(1)) COMMENT 'Upper end of the band.',
    `detector` LowCardinality(String) COMMENT 'Detector name.',
    `config_digest` LowCardinality(String) COMMENT 'Hash of the detector''s configuration.',
    `state_digest` String CODEC(ZSTD(1)) COMMENT 'SHA-256 of the detector''s state just before.',
    `state` String CODEC(ZSTD(1)) COMMENT 'That state, as JSON, so that the score can be recomputed.',
    `source_partitions` Array(UInt32) COMMENT 'Telemetry partitions it was made from.',
    `source_first_offsets` Array(UInt64) COMMENT 'First telemetry offset of each.',
    `source_next_offsets` Array(UInt64) COMMENT 'Offset after the last of each.',
    `severity` Float64 CODEC(ZSTD(1)) COMMENT 'How far off in the detector''s own measure, at least 0; comparable between series.',
    `strength` Float64 CODEC(ZSTD(1)) COMMENT 'Of the trigger: 0.5 at the end of its band, towards 1 beyond.',
    `contributors` Array(String) COMMENT 'What contributed to the severity.',
    `contributions` Array(Float64) COMMENT 'How much of it each did; they sum to 1.',
    `scored_input` String CODEC(ZSTD(1)) COMMENT 'What was scored, as JSON: the value, what confirmed it, and where the incident stood.',
    `scored_config` LowCardinality(String) COMMENT 'Under which configuration, as JSON: trigger, alert policy, options of the detector.',
    `scoring_format` UInt16 COMMENT 'Version of the arithmetic; 0: from before it was kept, not to be recomputed.'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(rebuilt_at)
ORDER BY (run_id, anomaly_id)
TTL toDateTime(rebuilt_at) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000;

-- Readers use this view: duplicates are merged at read time.
CREATE VIEW rebuilt_anomalies AS SELECT * FROM rebuilt_anomalies_stored FINAL;
