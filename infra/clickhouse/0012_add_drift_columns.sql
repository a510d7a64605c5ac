-- What drift of inputs and outputs reads beside lengths, unknown tokens, confidence and norms.
ALTER TABLE windows_stored
    ADD COLUMN IF NOT EXISTS `script_bins` Array(UInt64) COMMENT 'Requests by writing system: not told, latin, cyrillic, greek, arabic, hebrew, devanagari, bengali, tamil, thai, hangul, kana, han, other.',
    ADD COLUMN IF NOT EXISTS `direction_bins` Array(UInt64) COMMENT 'Answers by the way their vector points: none, then 16 parts of space.';

-- A view names its columns when it is made.
CREATE OR REPLACE VIEW windows AS SELECT * FROM windows_stored FINAL;
