-- Profit of winners at the end against what is there to pay it: losers' equity, funds and vaults, by ledger
--
-- Profit and loss are those of open positions at the last marks, summed by pool. A pool below zero owes what
-- it does not have: unless the fund or vault of the rules has it, that part of the profit is not payable. What
-- was booked as bad debt before nobody paid. Pools without equity at a mark, or of unknown equity, are counted.
WITH pools AS (
    SELECT
        *,
        equity - cash AS profit,
        special OR account LIKE '@%' AS pseudo,
        account IN (SELECT account FROM absorber_ledger) AS absorber
    FROM accounts_end
),
sums AS (
    SELECT
        currency,
        dex,
        count(*) FILTER (NOT pseudo AND profit > 0) AS winners,
        coalesce(sum(profit) FILTER (NOT pseudo AND profit > 0), 0) AS profit,
        count(*) FILTER (NOT pseudo AND profit < 0) AS losers,
        coalesce(-sum(profit) FILTER (NOT pseudo AND profit < 0), 0) AS loss,
        coalesce(sum(equity) FILTER (NOT pseudo AND profit < 0 AND equity > 0), 0) AS losers_equity,
        count(*) FILTER (NOT pseudo AND equity < 0) AS pools_below_zero,
        coalesce(-sum(equity) FILTER (NOT pseudo AND equity < 0), 0) AS owed,
        coalesce(-sum(equity) FILTER (account = '@bad_debt'), 0) AS bad_debt,
        coalesce(sum(equity) FILTER (absorber), 0) AS absorbers,
        count(*) FILTER (NOT pseudo AND (equity IS NULL OR grade = 'unknown')) AS unknown_pools
    FROM pools
    GROUP BY currency, dex
)
SELECT
    currency,
    dex,
    winners,
    profit,
    losers,
    loss,
    losers_equity,
    pools_below_zero,
    owed,
    bad_debt,
    absorbers,
    bad_debt + greatest(0, owed - greatest(0, absorbers)) AS not_payable,
    CASE WHEN profit > 0 THEN 100 * (1 - least(1, not_payable / profit)) END AS payable_pct,
    unknown_pools
FROM sums
ORDER BY currency DESC, dex;
