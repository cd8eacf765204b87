-- Accounts closed as winners by ADL: where, how much of their positions, from which rank, with what equity
--
-- One row per account and currency. A closed value is at the price of the deleveraging. share_closed is the
-- closed quantity by the size before the first closing in the market, of several markets the mean by value;
-- above 1 if the position was built again and closed again. first_rank is the worst rank it was closed from:
-- 1 is the head of the queue. Equity and leverage (notional by equity) are those of its pool before the step
-- of its first closing. What it would have earned by staying in is not asked: that needs prices after the event.
WITH by_market AS (
    SELECT
        winner,
        currency,
        dex,
        market,
        count(*) AS fills,
        sum(abs(value)) AS value,
        sum(quantity) / nullif(abs(arg_min(winner_size_before, seq)), 0) AS share,
        min(rank) AS first_rank,
        max(rank) AS last_rank,
        min(ts) AS first_ts,
        max(ts) AS last_ts,
        min(seq) AS first_seq,
        sum(realised) AS realised,
        sum(winner_fee) AS fee,
        arg_min(winner_equity_before, seq) AS equity,
        arg_min(winner_notional_before, seq) AS notional
    FROM adl_fills
    GROUP BY winner, currency, dex, market
)
SELECT
    winner AS account,
    sum(value) AS value_closed,
    sum(value * share) / nullif(sum(value), 0) AS share_closed,
    sum(fills)::BIGINT AS fills,
    string_agg(market, '+' ORDER BY first_seq) AS markets,
    min(first_rank) AS first_rank,
    max(last_rank) AS last_rank,
    arg_min(equity, first_seq) AS equity_before,
    arg_min(notional, first_seq) / nullif(arg_min(equity, first_seq), 0) AS leverage_before,
    sum(realised) AS realised,
    sum(fee) AS fee,
    currency,
    dex,
    min(first_ts) AS first_ts,
    max(last_ts) AS last_ts
FROM by_market
GROUP BY winner, currency, dex
ORDER BY currency DESC, dex, value_closed DESC, account;
