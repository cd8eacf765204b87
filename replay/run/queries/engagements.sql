-- When each stage of the waterfall started and stopped, why, and how much was needed of it
SELECT ts, scope, stage, state, market, quantity, measured, threshold, fund_balance, currency, reason, shadow
FROM engagements
ORDER BY ts, seq;
