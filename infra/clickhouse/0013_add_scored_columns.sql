-- What recomputes an anomaly, bit for bit, when its telemetry is gone: see `inferwatch replay`.
ALTER TABLE anomalies_stored
    ADD COLUMN IF NOT EXISTS `scored_input` String CODEC(ZSTD(1)) COMMENT 'What was scored, as JSON: the value, what confirmed it, and where the incident stood.',
    ADD COLUMN IF NOT EXISTS `scored_config` LowCardinality(String) COMMENT 'Under which configuration, as JSON: trigger, alert policy, options of the detector.',
    ADD COLUMN IF NOT EXISTS `scoring_format` UInt16 COMMENT 'Version of the arithmetic; 0: from before it was kept, not to be recomputed.';

-- A view names its columns when it is made.
CREATE OR REPLACE VIEW anomalies AS SELECT * FROM anomalies_stored FINAL;
