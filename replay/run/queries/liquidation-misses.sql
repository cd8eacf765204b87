-- Which recorded liquidations the rules found, when, and the cause of each miss
--
-- next_ruled_ts is when the rules liquidated the same account in the same market for the first time after a
-- miss: perhaps the same position, only later.
SELECT
    r.ts,
    r.account,
    r.market,
    r.verdict,
    r.replayed_ts,
    r.seconds_late,
    (
        SELECT min(l.ts)
        FROM liquidations AS l
        WHERE r.verdict = 'missed' AND l.account = r.account AND l.ts > r.ts
            AND list_contains(string_split(r.market, '+'), l.market)
    ) AS next_ruled_ts,
    r.cause,
    r.recorded_equity,
    r.replayed_equity,
    r.unexplained,
    r.replayed_maintenance,
    r.replayed_notional,
    r.anchored
FROM recorded_liquidations AS r
ORDER BY r.ts, r.liquidation;
