-- The waterfall under two rule books: run by `make demo` on the answers to waterfall-split that it keeps as files
SELECT
    market,
    h.notional AS hyperliquid,
    round(h.book_pct, 1) AS book,
    round(h.absorbed_pct, 1) AS vault,
    round(h.adl_pct, 1) AS adl,
    round(h.left_pct, 1) AS "left",
    b.notional AS bybit,
    round(b.book_pct, 1) AS book_,
    round(b.absorbed_pct, 1) AS fund_,
    round(b.adl_pct, 1) AS adl_,
    round(b.left_pct, 1) AS left_,
    currency
FROM 'out/demo/hyperliquid.parquet' AS h
FULL JOIN 'out/demo/bybit.parquet' AS b USING (market, currency, dex)
ORDER BY currency DESC, dex, market = 'all' DESC, h.notional DESC, market
