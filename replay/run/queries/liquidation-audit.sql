-- Each recorded liquidation beside the replay: size, equity, bankruptcy price, its distance to the fill in bp
--
-- The bankruptcy price B solves V(B) = V(mark) - equity for a pool of one position, V being the contract
-- value: mark - equity / (size * multiplier) for a linear contract; an inverse one has V = -size * multiplier / P.
WITH priced AS (
    SELECT
        r.*,
        m.payoff,
        nullif(r.replayed_size * m.multiplier, 0) AS units
    FROM recorded_liquidations AS r
    LEFT JOIN markets AS m ON m.market = r.market
),
bankrupt AS (
    SELECT
        *,
        CASE payoff
            WHEN 'linear' THEN recorded_mark - recorded_equity / units
            WHEN 'inverse' THEN 1 / nullif(1 / recorded_mark + recorded_equity / units, 0)
        END AS bankruptcy_price,
        CASE payoff
            WHEN 'linear' THEN recorded_mark - replayed_equity / units
            WHEN 'inverse' THEN 1 / nullif(1 / recorded_mark + replayed_equity / units, 0)
        END AS replayed_bankruptcy_price
    FROM priced
)
SELECT
    ts,
    account,
    market,
    leverage_type,
    recorded_notional,
    recorded_equity,
    recorded_mark AS implied_mark,
    fill_price,
    replayed_size,
    replayed_equity,
    bankruptcy_price,
    replayed_bankruptcy_price,
    (bankruptcy_price / nullif(fill_price, 0) - 1) * 1e4 AS diff_bp,
    size_after,
    cost_after,
    fill_qty,
    recorded_margin_ratio,
    legs,
    verdict,
    cause,
    anchored
FROM bankrupt
ORDER BY ts, liquidation;
