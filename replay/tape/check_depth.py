"""Whether recorded depth is alive: crossed, frozen and stale snapshots."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb

from replay.tape.findings import Finding, Severity
from replay.tape.read import Tape
from replay.tape.schema import FillKind, PriceKind, Side

FROZEN_SNAPSHOTS = 10
"""So many equal snapshots in a row are frozen if the market moved meanwhile."""

STALE_FACTOR = 100
"""A snapshot is stale after this many times the market's usual time between snapshots."""


def check_depth(tape: Tape, connection: duckdb.DuckDBPyConnection) -> Iterator[Finding]:
    """Check the snapshots of `depth` market by market; all that is found are warnings."""
    if not tape.rows("depth"):
        return
    connection.execute(
        f"""
        CREATE TEMP TABLE snapshots AS
        SELECT market, ts, min(seq) AS seq, bit_xor(hash(side, price, qty)) AS levels, count(*) AS rows,
            max(price) FILTER (side = {Side.BID}) AS bid, min(price) FILTER (side = {Side.ASK}) AS ask
        FROM depth GROUP BY market, ts;
        CREATE TEMP VIEW moves AS
        SELECT market, ts, price::HUGEINT * 10 ** (mark_scale - price_scale) AS price
            FROM fills JOIN markets USING (market) WHERE kind = {FillKind.TRADE}
        UNION ALL SELECT market, ts, price::HUGEINT * 10 ** (mark_scale - price_scale) AS price
            FROM trades JOIN markets USING (market)
        UNION ALL SELECT market, ts, price FROM prices WHERE kind IN ({PriceKind.MARK}, {PriceKind.LAST});
        """
    )
    for market, count, ts, seq in connection.execute(
        """
        SELECT market, count(*), min(ts), min(seq) FROM snapshots
        WHERE bid >= ask GROUP BY market ORDER BY market
        """
    ).fetchall():
        name = tape.markets[market].name
        yield Finding(Severity.WARNING, "depth", f"snapshots of {name} are crossed", count, ts, seq)
    frozen = f"""
        WITH changes AS (
            SELECT *, (levels, rows) IS DISTINCT FROM
                lag((levels, rows)) OVER (PARTITION BY market ORDER BY ts) AS is_new
            FROM snapshots
        ), numbered AS (
            SELECT *, count(*) FILTER (is_new) OVER (PARTITION BY market ORDER BY ts) AS run FROM changes
        ), runs AS (
            SELECT market, min(ts) AS first, max(ts) AS last, min(seq) AS seq, count(*) AS snapshots
            FROM numbered GROUP BY market, run HAVING count(*) >= {FROZEN_SNAPSHOTS}
        ), moved AS (
            SELECT r.market, r.first, r.seq, r.snapshots
            FROM runs r JOIN moves m ON m.market = r.market AND m.ts BETWEEN r.first AND r.last
            GROUP BY ALL HAVING min(m.price) <> max(m.price)
        )
        SELECT market, sum(snapshots), min(first), min(seq) FROM moved GROUP BY market ORDER BY market
    """
    for market, count, ts, seq in connection.execute(frozen).fetchall():
        name = tape.markets[market].name
        message = (
            f"snapshots of {name} are frozen: {FROZEN_SNAPSHOTS} or more in a row are equal while it moves"
        )
        yield Finding(Severity.WARNING, "depth", message, int(count), ts, seq)
    stale = f"""
        WITH intervals AS (
            SELECT market, ts - lag(ts) OVER (PARTITION BY market ORDER BY ts) AS length FROM snapshots
        ), usual AS (
            SELECT market, quantile_disc(length, 0.5) AS length FROM intervals GROUP BY market
        )
        SELECT m.market, count(*), min(s.ts), arg_min(s.seq, s.ts)
        FROM moves m ASOF JOIN snapshots s ON m.market = s.market AND m.ts >= s.ts
            JOIN usual u ON u.market = m.market
        WHERE m.ts - s.ts > {STALE_FACTOR} * u.length GROUP BY m.market ORDER BY m.market
    """
    for market, count, ts, seq in connection.execute(stale).fetchall():
        name = tape.markets[market].name
        message = f"is stale: {name} moves more than {STALE_FACTOR} usual intervals after its last snapshot"
        yield Finding(Severity.WARNING, "depth", message, count, ts, seq)
