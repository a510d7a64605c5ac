-- What drift of inputs reads beside lengths, unknown tokens and writing systems.
ALTER TABLE windows_stored
    ADD COLUMN IF NOT EXISTS `fertility_bins` Array(UInt64) COMMENT 'Requests of one whole input by tokens a byte: below 0.1, 0.12, 0.14, 0.17, 0.2, 0.24, 0.28, 0.34, 0.4, 0.48, 0.57, and more.';

-- A view names its columns when it is made.
CREATE OR REPLACE VIEW windows AS SELECT * FROM windows_stored FINAL;
