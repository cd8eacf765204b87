-- The twenty largest positions of each ledger at the end of the run, by notional, pseudo accounts left out
SELECT
    p.account,
    p.market,
    p.mode,
    p.size,
    CASE m.payoff
        WHEN 'linear' THEN p.cost / nullif(p.size * m.multiplier, 0)
        WHEN 'inverse' THEN -p.size * m.multiplier / nullif(p.cost, 0)
    END AS entry_price,
    p.mark,
    abs(p.value) AS notional,
    round(p.value - p.cost, 8) AS unrealised,
    m.currency,
    m.dex,
    p.entry_unknown
FROM positions_end AS p
JOIN markets AS m ON m.market = p.market
WHERE p.size <> 0 AND p.account NOT LIKE '@%'
QUALIFY row_number() OVER (
    PARTITION BY m.currency, m.dex ORDER BY notional DESC NULLS LAST, p.account, p.market, p.mode
) <= 20
ORDER BY m.currency, m.dex, notional DESC NULLS LAST, p.account, p.market, p.mode;
