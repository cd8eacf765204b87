-- Accounts with several legs that lost one to ADL: net exposure before and after, and whether the hedge held
--
-- Exposure is size x multiplier x mark of a linear market and size x multiplier of an inverse one, both in the
-- quote currency: a leg in coin hedges one in dollars. Closed legs are known exactly, before the first and after
-- the last closing, at the mark of the first. Kept legs are those open at the end of the run, at their last mark;
-- a run does not tell whether they were bigger or smaller when the ADL came. unseen_notional is what the pool
-- of the first closing held beside all legs seen here: legs that were gone by the end of the run. Coin or spot
-- that is held as collateral is no leg. Net exposure is thus exact for accounts that did not trade afterwards.
WITH closed AS (
    SELECT
        f.winner AS account,
        f.market,
        min(f.ts) AS ts,
        min(f.seq) AS seq,
        any_value(m.multiplier) * CASE any_value(m.payoff) WHEN 'inverse' THEN 1 ELSE arg_min(f.mark, f.seq) END
            AS unit,
        arg_min(f.winner_size_before, f.seq) * unit AS before,
        arg_max(f.winner_size_after, f.seq) * unit AS after,
        arg_min(f.winner_notional_before, f.seq)
            * CASE any_value(m.payoff) WHEN 'inverse' THEN arg_min(f.mark, f.seq) ELSE 1 END AS pool_notional,
        any_value(f.currency) AS currency
    FROM adl_fills AS f
    JOIN markets AS m ON m.market = f.market
    GROUP BY f.winner, f.market
),
kept AS (
    SELECT
        p.account,
        p.market,
        sum(p.size * m.multiplier * CASE m.payoff WHEN 'inverse' THEN 1 ELSE p.mark END) AS exposure,
        any_value(m.currency) AS currency
    FROM positions_end AS p
    JOIN markets AS m ON m.market = p.market
    WHERE p.size <> 0
        AND p.account IN (SELECT account FROM closed)
        AND (p.account, p.market) NOT IN (SELECT (account, market) FROM closed)
    GROUP BY p.account, p.market
),
legs AS (
    SELECT account, market, currency, ts, seq, before, after, pool_notional, true AS hit FROM closed
    UNION ALL
    SELECT account, market, currency, NULL, NULL, exposure, exposure, NULL, false FROM kept
),
accounts_hit AS (
    SELECT
        account,
        min(ts) AS ts,
        string_agg(market, '+' ORDER BY market) FILTER (hit) AS closed_legs,
        string_agg(market, '+' ORDER BY market) FILTER (NOT hit) AS kept_legs,
        count(*) AS legs,
        coalesce(sum(before) FILTER (before > 0), 0) AS long_before,
        coalesce(-sum(before) FILTER (before < 0), 0) AS short_before,
        sum(before) AS net_before,
        sum(after) AS net_after,
        greatest(
            0,
            arg_min(pool_notional, seq)
                - coalesce(sum(abs(before)) FILTER (currency = first_currency), 0)
        ) AS unseen_notional
    FROM (SELECT *, arg_min(currency, seq) OVER (PARTITION BY account) AS first_currency FROM legs)
    GROUP BY account
)
SELECT
    account,
    closed_legs,
    kept_legs,
    long_before,
    short_before,
    net_before,
    net_after,
    long_before > 0 AND short_before > 0 AS hedged_before,
    abs(net_after) > abs(net_before) AS more_exposed,
    unseen_notional,
    ts
FROM accounts_hit
WHERE legs > 1 OR unseen_notional > 0.01 * (long_before + short_before)
ORDER BY abs(net_after) - abs(net_before) DESC, account;
