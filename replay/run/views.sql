-- Views beyond the tables, made from their decoded views.

-- One row per recorded liquidation: the legs of `audit` put together. Columns that belong to one market are
-- null where there are several legs; equity is at the recorded mark where the tape has one.
CREATE VIEW recorded_liquidations AS
SELECT
    a.liquidation,
    min(a.ts) AS ts,
    arg_min(a.account, seq) AS account,
    string_agg(a.market, '+' ORDER BY seq) AS market,
    arg_min(a.currency, seq) AS currency,
    arg_min(a.dex, seq) AS dex,
    arg_min(a.leverage_type, seq) AS leverage_type,
    arg_min(a.method, seq) AS method,
    count(*) AS legs,
    arg_min(a.recorded_notional, seq) AS recorded_notional,
    arg_min(a.recorded_equity, seq) AS recorded_equity,
    arg_min(a.recorded_equity, seq) / nullif(arg_min(a.recorded_notional, seq), 0) AS recorded_margin_ratio,
    CASE WHEN count(*) = 1 THEN max(a.recorded_mark) END AS recorded_mark,
    CASE WHEN count(*) = 1 THEN max(a.fill_price) END AS fill_price,
    CASE WHEN count(*) = 1 THEN max(a.fill_qty) END AS fill_qty,
    CASE WHEN count(*) = 1 THEN max(a.replayed_size) END AS replayed_size,
    CASE WHEN count(*) = 1 THEN coalesce(max(a.replayed_equity_recorded_mark), max(a.replayed_equity))
         ELSE arg_min(a.replayed_equity, seq) END AS replayed_equity,
    count(*) = 1 AND max(a.replayed_equity_recorded_mark) IS NOT NULL AS at_recorded_mark,
    -- subtracted as integers, so that it is exact to the atom
    CASE WHEN count(*) = 1
         THEN max(r.recorded_equity - coalesce(r.replayed_equity_recorded_mark, r.replayed_equity))
         ELSE arg_min(r.recorded_equity - r.replayed_equity, seq) END::DOUBLE / 1e8 AS unexplained,
    arg_min(a.replayed_maintenance, seq) AS replayed_maintenance,
    arg_min(a.replayed_notional, seq) AS replayed_notional,
    arg_min(a.turnover, seq) AS turnover,
    arg_min(a.grade, seq) AS grade,
    string_agg(DISTINCT a.verdict, '+' ORDER BY a.verdict) AS verdict,
    string_agg(DISTINCT a.cause, '; ' ORDER BY a.cause) AS cause,
    sum(r.anchored)::DOUBLE / 1e8 AS anchored,
    CASE WHEN count(*) = 1 THEN max(a.size_after) ELSE sum(abs(a.size_after)) END AS size_after,
    CASE WHEN count(*) = 1 THEN max(a.cost_after) ELSE sum(abs(a.cost_after)) END AS cost_after,
    min(a.replayed_ts) AS replayed_ts,
    (min(r.replayed_ts) - min(r.ts)) / 1e9 AS seconds_late
FROM audit AS a
JOIN raw.audit AS r USING (seq)
GROUP BY a.liquidation;

-- What the rules' assumptions decided in this run, by the key they stand for: how much of the result rests on each.
CREATE VIEW assumption_effects AS
WITH money AS (
    SELECT
        coalesce(string_agg(printf('%,.2f %s', winner, currency), ', ' ORDER BY winner DESC), '0') AS winner,
        coalesce(string_agg(printf('%,.2f %s', loser, currency), ', ' ORDER BY loser DESC), '0') AS loser
    FROM (
        SELECT currency, sum(winner_fee) AS winner, sum(loser_fee) AS loser FROM adl_fills GROUP BY currency
    )
),
orders AS (
    SELECT
        count(*) FILTER (stage = 'book') AS sent,
        count(*) FILTER (stage = 'book' AND filled <> asked) AS unfilled,
        count(*) FILTER (stage = 'takeover') AS takeovers
    FROM forced_orders
),
closings AS (
    SELECT
        count(*) AS fills,
        count(DISTINCT winner) AS winners,
        count(*) FILTER (liquidation IS NULL) AS of_absorber
    FROM adl_fills
),
judged AS (SELECT count(DISTINCT liquidation) AS liquidations, count(*) AS positions FROM liquidations)
SELECT 'margin' AS key, printf('%,d liquidations', liquidations) AS effect FROM judged
UNION ALL SELECT 'trigger', printf('%,d liquidations', liquidations) FROM judged
UNION ALL SELECT 'bankruptcy', printf('%,d bankruptcy prices', positions) FROM judged
UNION ALL SELECT 'ladder', printf('%,d orders into the book, %,d takeovers', sent, takeovers) FROM orders
UNION ALL SELECT 'depth', printf('%,d orders into the book, %,d of them not filled whole', sent, unfilled) FROM orders
UNION ALL SELECT 'absorbers', printf('%,d takeovers, %,d closings of its own positions', takeovers, of_absorber)
    FROM orders, closings
UNION ALL SELECT 'adl', printf('%,d closings of %,d winners', fills, winners) FROM closings
UNION ALL SELECT 'adl.winner_fee', printf('fees of %s', winner) FROM money
UNION ALL SELECT 'adl.loser_fee', printf('fees of %s', loser) FROM money;

CREATE VIEW assumptions AS
SELECT
    n,
    assumption,
    (
        SELECT arg_max(e.effect, length(e.key))
        FROM assumption_effects AS e
        WHERE s.key = e.key OR starts_with(s.key, e.key || '.')
    ) AS decided
FROM stated AS s;
