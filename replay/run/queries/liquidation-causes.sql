-- How many recorded liquidations got each verdict, and for what cause
SELECT
    verdict,
    cause,
    count(*) AS liquidations,
    count(*) / sum(count(*)) OVER () AS share,
    min(ts) AS first_ts,
    max(ts) AS last_ts
FROM recorded_liquidations
GROUP BY verdict, cause
ORDER BY liquidations DESC, verdict, cause NULLS FIRST;
