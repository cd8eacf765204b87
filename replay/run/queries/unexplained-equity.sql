-- Recorded equity less replayed equity at each recorded liquidation, largest first, in bp of the turnover
SELECT
    ts,
    account,
    market,
    recorded_equity,
    replayed_equity,
    unexplained,
    1e4 * unexplained / nullif(turnover, 0) AS turnover_bp,
    turnover,
    at_recorded_mark,
    anchored,
    currency,
    grade,
    verdict
FROM recorded_liquidations
WHERE unexplained IS NOT NULL
ORDER BY abs(unexplained) DESC, ts, liquidation;
