-- What an anomaly's score rests on: severity, the trigger's strength, contributions.
ALTER TABLE anomalies_stored
    ADD COLUMN IF NOT EXISTS `severity` Float64 CODEC(ZSTD(1)) COMMENT 'How far off in the detector''s own measure, at least 0; comparable between series.',
    ADD COLUMN IF NOT EXISTS `strength` Float64 CODEC(ZSTD(1)) COMMENT 'Of the trigger: 0.5 at the end of its band, towards 1 beyond.',
    ADD COLUMN IF NOT EXISTS `contributors` Array(String) COMMENT 'What contributed to the severity.',
    ADD COLUMN IF NOT EXISTS `contributions` Array(Float64) COMMENT 'How much of it each did; they sum to 1.';

-- A view names its columns when it is made.
CREATE OR REPLACE VIEW anomalies AS SELECT * FROM anomalies_stored FINAL;
