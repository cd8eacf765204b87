-- Which recorded liquidations the rules found, when, and the cause of each miss
SELECT
    ts,
    account,
    market,
    verdict,
    replayed_ts,
    seconds_late,
    cause,
    recorded_equity,
    replayed_equity,
    unexplained,
    replayed_maintenance,
    replayed_notional,
    anchored
FROM recorded_liquidations
ORDER BY ts, liquidation;
