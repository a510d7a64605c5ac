-- What workers tell since telemetry 1.1: the arm, what the cache gave, how sure an output is, how the process is.
ALTER TABLE requests_stored
    ADD COLUMN IF NOT EXISTS `arm` LowCardinality(String) COMMENT 'Arm of the deployment that chose the model; empty for the worker''s own.',
    ADD COLUMN IF NOT EXISTS `model_digest` LowCardinality(String) COMMENT 'SHA-256 of the model''s weights.',
    ADD COLUMN IF NOT EXISTS `post_ms` Float64 COMMENT 'From the end of its batch''s compute to the last answer handed over, milliseconds.',
    ADD COLUMN IF NOT EXISTS `batch_computed` UInt32 COMMENT 'Inputs computed in its batch; the others were cached or twice in it.',
    ADD COLUMN IF NOT EXISTS `cached` Float64 COMMENT 'Share of its inputs that the worker''s cache held: no measure of the model''s speed.',
    ADD COLUMN IF NOT EXISTS `confidence` Float64 COMMENT 'Probability of the best label, item or tokens; 0 where there is none.',
    ADD COLUMN IF NOT EXISTS `margin` Float64 COMMENT 'Best minus second best probability.',
    ADD COLUMN IF NOT EXISTS `entropy` Float64 COMMENT 'Entropy of the output, as a share of the largest possible.',
    ADD COLUMN IF NOT EXISTS `fingerprint` LowCardinality(String) COMMENT 'Hash of the normalised stack of a failure: equal for equal faults.',
    ADD COLUMN IF NOT EXISTS `publish_ms` Nullable(Float64) COMMENT 'The worker''s mean time from handing an answer over to its delivery then.',
    ADD COLUMN IF NOT EXISTS `process_cpu_share` Nullable(Float64) COMMENT 'CPU seconds per second of the worker''s process then; 1 is one core.',
    ADD COLUMN IF NOT EXISTS `device_utilisation` Nullable(Float64) COMMENT 'Use of the GPU then, 0 to 1; null without one.',
    ADD COLUMN IF NOT EXISTS `power_watts` Nullable(Float64) COMMENT 'Power of the GPU then.',
    ADD COLUMN IF NOT EXISTS `temperature_celsius` Nullable(Float64) COMMENT 'Temperature of the GPU then.';

-- A view names its columns when it is made.
CREATE OR REPLACE VIEW requests AS SELECT * FROM requests_stored FINAL;
