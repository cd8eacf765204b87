-- Where liquidated quantity went, by market: book, absorber, ADL, nobody; ADL of the absorber itself apart
--
-- Percentages of a market add up to 100. What one liquidation left open and a later one of the same position
-- wanted again counts in the later one only. What an absorber took counts once, as absorbed; what became of it
-- then stands in the last columns: deleveraged (ADL with the absorber as loser), and held at the end. left is what
-- nobody took: the account recovered, or the tape ended. The notional is that part of the bankruptcy value.
-- Rows `all` add up the markets of a currency by notional, as quantities of different markets cannot be added.
WITH settled AS (
    SELECT
        *,
        CASE
            WHEN liquidation = max(liquidation) OVER (PARTITION BY account, currency, dex, market, mode)
            THEN "left"
            ELSE 0
        END AS left_at_last,
        netted + book + absorbed + adl + left_at_last AS wanted
    FROM liquidations
),
legs AS (
    SELECT
        * REPLACE (left_at_last AS "left", wanted AS asked),
        abs(bankruptcy_value) * wanted / nullif(abs(size), 0) AS notional,
        1 / nullif(wanted, 0) AS part
    FROM settled
),
resold AS (
    SELECT market, sum(quantity) AS quantity, sum(abs(value)) AS notional
    FROM adl_fills
    WHERE liquidation IS NULL
    GROUP BY market
),
held AS (
    SELECT market, sum(size) AS quantity, sum(abs(value)) AS notional
    FROM positions_end
    WHERE account LIKE '@vault:%' OR account LIKE '@fund:%'
    GROUP BY market
),
by_market AS (
    SELECT
        currency,
        dex,
        market,
        count(DISTINCT liquidation) AS liquidations,
        count(DISTINCT account) AS accounts,
        sum(asked) AS quantity,
        sum(legs.notional) AS notional,
        100 * sum(book) / nullif(sum(asked), 0) AS book_pct,
        100 * sum(absorbed) / nullif(sum(asked), 0) AS absorbed_pct,
        100 * sum(adl) / nullif(sum(asked), 0) AS adl_pct,
        100 * sum("left") / nullif(sum(asked), 0) AS left_pct,
        any_value(resold.quantity) AS absorber_adl,
        any_value(resold.notional) AS absorber_adl_notional,
        any_value(held.quantity) AS absorber_held,
        any_value(held.notional) AS absorber_held_notional
    FROM legs
    LEFT JOIN resold USING (market)
    LEFT JOIN held USING (market)
    GROUP BY currency, dex, market
),
whole AS (
    SELECT
        currency,
        dex,
        'all' AS market,
        count(DISTINCT liquidation) AS liquidations,
        count(DISTINCT account) AS accounts,
        NULL::DOUBLE AS quantity,
        sum(notional) AS notional,
        100 * sum(notional * book * part) / nullif(sum(notional * asked * part), 0) AS book_pct,
        100 * sum(notional * absorbed * part) / nullif(sum(notional * asked * part), 0) AS absorbed_pct,
        100 * sum(notional * adl * part) / nullif(sum(notional * asked * part), 0) AS adl_pct,
        100 * sum(notional * "left" * part) / nullif(sum(notional * asked * part), 0) AS left_pct
    FROM legs
    GROUP BY currency, dex
),
whole_absorber AS (
    SELECT
        currency,
        dex,
        sum(absorber_adl_notional) AS absorber_adl_notional,
        sum(absorber_held_notional) AS absorber_held_notional
    FROM by_market
    GROUP BY currency, dex
)
SELECT
    market,
    currency,
    liquidations,
    accounts,
    quantity,
    notional,
    book_pct,
    absorbed_pct,
    adl_pct,
    left_pct,
    absorber_adl,
    absorber_adl_notional,
    absorber_held,
    absorber_held_notional,
    dex
FROM (
    SELECT * FROM by_market
    UNION ALL BY NAME
    SELECT * FROM whole LEFT JOIN whole_absorber USING (currency, dex)
)
ORDER BY currency DESC, dex, market = 'all' DESC, notional DESC, market;
