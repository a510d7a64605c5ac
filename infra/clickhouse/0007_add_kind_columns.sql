-- What the triggers of the kinds of anomalies read: counts, shares and histograms of a window.
ALTER TABLE windows_stored
    ADD COLUMN IF NOT EXISTS `timed_out` UInt64 COMMENT 'Requests shed as too late, or failed with a timeout.',
    ADD COLUMN IF NOT EXISTS `out_of_memory` UInt64 COMMENT 'Requests that failed for want of memory.',
    ADD COLUMN IF NOT EXISTS `schema_broken` UInt64 COMMENT 'Requests that are not what the topic carries.',
    ADD COLUMN IF NOT EXISTS `empty` UInt64 COMMENT 'Answers with an output of neither length nor probability.',
    ADD COLUMN IF NOT EXISTS `repeated` UInt64 COMMENT 'Outcomes told again, and requests whose id another one has.',
    ADD COLUMN IF NOT EXISTS `timeout_share` Float64 CODEC(ZSTD(1)) COMMENT 'Timed out over all requests.',
    ADD COLUMN IF NOT EXISTS `schema_share` Float64 CODEC(ZSTD(1)) COMMENT 'Broken over all requests of the partitions that had such.',
    ADD COLUMN IF NOT EXISTS `empty_share` Float64 CODEC(ZSTD(1)) COMMENT 'Empty over answered requests.',
    ADD COLUMN IF NOT EXISTS `repeated_share` Float64 CODEC(ZSTD(1)) COMMENT 'Repeated over requests and repeats.',
    ADD COLUMN IF NOT EXISTS `token_bins` Array(UInt64) COMMENT 'Requests by tokens: below 1, 2, 4, ... 16384, and more.',
    ADD COLUMN IF NOT EXISTS `unknown_bins` Array(UInt64) COMMENT 'Requests by share of unknown tokens, of 8 bins.',
    ADD COLUMN IF NOT EXISTS `confidence_bins` Array(UInt64) COMMENT 'Answers by confidence, of 10 bins.',
    ADD COLUMN IF NOT EXISTS `norm_bins` Array(UInt64) COMMENT 'Answers by output norm, of 26 bins.';

-- A view names its columns when it is made.
CREATE OR REPLACE VIEW windows AS SELECT * FROM windows_stored FINAL;
