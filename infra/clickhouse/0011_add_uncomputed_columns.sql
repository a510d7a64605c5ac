-- Latencies of windows are those of computed answers: what came from the cache is counted apart.
ALTER TABLE windows_stored
    ADD COLUMN IF NOT EXISTS `uncomputed` UInt64 COMMENT 'Answers for which nothing was computed: from the cache, or of ready-made vectors.',
    ADD COLUMN IF NOT EXISTS `uncomputed_share` Float64 CODEC(ZSTD(1)) COMMENT 'Such over all answers: the share of cache hits.',
    COMMENT COLUMN `total_ms_p50` 'Median latency of computed answers, milliseconds, within 1 %.',
    COMMENT COLUMN `total_ms_p95` '95 % quantile of latency of computed answers, milliseconds.',
    COMMENT COLUMN `total_ms_p99` '99 % quantile of latency of computed answers, milliseconds.',
    COMMENT COLUMN `total_ms_max` 'Largest latency of a computed answer, milliseconds.';

-- A view names its columns when it is made.
CREATE OR REPLACE VIEW windows AS SELECT * FROM windows_stored FINAL;
