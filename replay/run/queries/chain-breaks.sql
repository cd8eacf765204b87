-- Fills whose start position is not what the fills before them left: rows are missing on the tape
SELECT ts, account, market, expected, found, found - expected AS missing
FROM breaks
ORDER BY ts, seq;
