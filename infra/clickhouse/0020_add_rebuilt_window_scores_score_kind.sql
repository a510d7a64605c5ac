-- On which scale a rebuilt score is. In rows of before it follows from who scored: those named here are no detectors.
ALTER TABLE rebuilt_window_scores_stored
    ADD COLUMN IF NOT EXISTS `score_kind` LowCardinality(String) DEFAULT if(detector IN ('forecast_residual', 'rare_rise', 'histogram_drift', 'memory_trend', 'ledger', 'watchdog'), 'strength', 'rank') COMMENT 'rank: `score` is the share of this series'' own past windows that were less severe, 0.99 about 1 in 100. strength: it is the trigger''s `strength`, which says how far off and not how rare.';

-- A view names its columns when it is made.
CREATE OR REPLACE VIEW rebuilt_window_scores AS SELECT * FROM rebuilt_window_scores_stored FINAL;
