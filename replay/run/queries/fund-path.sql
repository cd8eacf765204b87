-- The balance of each fund and vault over time: what moved it, and what it holds
--
-- An amount is what the movement brought (+) or cost (-) at the mark; moved adds them up since the opening. The
-- balance has its inventory at mark, so that balance - moved is what marks did to what it held. Movements of
-- one kind in one step share the balance after all of them.
SELECT
    ts,
    account,
    kind,
    market,
    amount,
    sum(amount) OVER (PARTITION BY account, currency, dex ORDER BY ts, seq) AS moved,
    balance,
    inventory,
    currency,
    dex
FROM absorber_ledger
ORDER BY ts, seq;
