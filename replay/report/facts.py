"""What the report shows, asked of a run in SQL; no figure of it comes from elsewhere.

Markets of several currencies meet in the forced flow, so it is in the quote currency: the value of a linear
contract, size x multiplier of an inverse one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb

from replay.run.queries import find_query
from replay.run.sql import connect
from replay.run.store import Run
from replay.tape.read import Tape
from replay.tape.schema import PriceKind

Row = dict[str, Any]

BINS = 120
"""Bars of the forced flow over the window shown first."""

MARK_POINTS = 1_500
"""Points of a market's mark at the most."""

TOP_MARKETS = 3
TOP_ACCOUNTS = 12


@dataclass(frozen=True, slots=True)
class Facts:
    """Rows behind each part of the page; times are ns since 1970, money and quantities are decoded.

    Attributes:
        headline: One row of counts and sums.
        first: First engagement of each stage.
        window: First and last moment shown, None if nothing was forced.
        bin_ns: Width of a bar of the flow.
        flow: Forced value by bar and stage (`book`, `takeover`, `adl`, `bad_debt`).
        split: Named query `waterfall-split`.
        marks: Mark over time of the markets in which the book took least of what was forced, by value.
        marks_from_tape: Whether marks are the tape's whole path.
        balances: Balance of each absorber and ledger over time.
        triggers: Start and stop of deleveraging, with what was measured.
        adl_times: Moments and quantities of deleveraging, by market.
        ranks: Closed value by place in the queue.
        leverages: Closed value by leverage of the winner.
        winners: Named query `who-was-deleveraged`, its first rows.
    """

    headline: Row
    first: list[Row]
    window: tuple[int, int] | None
    bin_ns: int
    flow: list[Row]
    split: list[Row]
    marks: list[Row]
    marks_from_tape: bool
    balances: list[Row]
    triggers: list[Row]
    adl_times: list[Row]
    ranks: list[Row]
    leverages: list[Row]
    winners: list[Row]


def gather(run: Run, tape: Tape | None = None) -> Facts:
    """Ask a run (and its tape for whole mark paths) everything the page shows."""
    connection = connect(run)
    try:
        connection.execute(_FORCED)
        connection.execute(_ADL)
        window = _window(connection)
        first, last = window or (0, 0)
        bin_ns = _round_bin((last - first) // BINS)
        split = _ask(connection, find_query("waterfall-split").text)
        markets = [row["market"] for row in _ask(connection, _MOST_HIT)]
        if tape is None:
            marks = _ask(connection, _MARKS, markets, bin_ns)
        else:
            marks = _tape_marks(tape, markets, first, last)
        return Facts(
            headline=_ask(connection, _HEADLINE)[0],
            first=_ask(connection, _FIRST),
            window=window,
            bin_ns=bin_ns,
            flow=_ask(connection, _FLOW, bin_ns),
            split=split,
            marks=marks,
            marks_from_tape=tape is not None,
            balances=_ask(connection, _BALANCES),
            triggers=_ask(connection, _TRIGGERS),
            adl_times=_ask(connection, _ADL_TIMES, bin_ns),
            ranks=_ask(connection, _RANKS),
            leverages=_ask(connection, _LEVERAGES),
            winners=_ask(connection, find_query("who-was-deleveraged").text)[:TOP_ACCOUNTS],
        )
    finally:
        connection.close()


def _ask(connection: duckdb.DuckDBPyConnection, statement: str, *parameters: Any) -> list[Row]:
    rows: list[Row] = connection.sql(statement, params=list(parameters)).to_arrow_table().to_pylist()
    return rows


def _window(connection: duckdb.DuckDBPyConnection) -> tuple[int, int] | None:
    """Return the span of all but the outermost fiftieths of the forced value, with some air around it."""
    (row,) = _ask(connection, _WINDOW)
    if row["first"] is None:
        return None
    first, last = int(row["first"]), int(row["last"])
    air = max((last - first) // 3, 30 * 10**9)
    return first - air, last + air


def _round_bin(width: int) -> int:
    """Return the next of a row of widths that people read: 1, 2, 5, 10, 15, 30 s, minutes, hours."""
    second = 10**9
    steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 86_400]
    return next((step * second for step in steps if step * second >= width), 86_400 * second)


def _tape_marks(tape: Tape, markets: list[str], first: int, last: int) -> list[Row]:
    """Return the last mark of each of many short spans, of the markets named."""
    span = max(1, (last - first) // MARK_POINTS)
    connection = tape.connection()
    try:
        rows: list[Row] = []
        for market in tape.markets:
            if market.name in markets:
                rows += _ask(
                    connection,
                    "SELECT max(ts) AS ns, ? AS market, arg_max(price, (ts, seq)) / ? AS mark FROM prices "
                    "WHERE market = ? AND kind IN (?, ?) AND ts BETWEEN ? AND ? "
                    "GROUP BY ts // ? ORDER BY ns",
                    market.name,
                    float(10**market.mark_scale),
                    market.id,
                    int(PriceKind.MARK),
                    int(PriceKind.EVENT),
                    first,
                    last,
                    span,
                )
    finally:
        connection.close()
    return sorted(rows, key=lambda row: (markets.index(row["market"]), row["ns"]))


_FORCED = """
CREATE TEMP VIEW forced AS
WITH moved AS (
    SELECT o.ts, o.market, o.stage, abs(o.filled) AS quantity, abs(o.value) AS value, o.mark
    FROM forced_orders AS o
    WHERE o.filled <> 0
    UNION ALL
    SELECT ts, market, 'adl', quantity, abs(value), mark FROM adl_fills WHERE liquidation IS NOT NULL
)
SELECT
    epoch_ns(moved.ts) AS ns, moved.market, moved.stage, moved.mark,
    CASE m.payoff WHEN 'inverse' THEN quantity * m.multiplier ELSE value END AS value
FROM moved JOIN markets AS m ON m.market = moved.market
"""
"""What was closed by force, once each: what the absorber itself lost to ADL later is not in it."""

_ADL = """
CREATE TEMP VIEW adl AS
SELECT
    f.* EXCLUDE (value),
    CASE m.payoff WHEN 'inverse' THEN f.quantity * m.multiplier ELSE abs(f.value) END AS value
FROM adl_fills AS f JOIN markets AS m ON m.market = f.market
"""
"""Deleveraging, the absorber's too, in the quote currency."""

_WINDOW = """
WITH summed AS (
    SELECT ns, sum(sum(value)) OVER (ORDER BY ns) AS upto, sum(sum(value)) OVER () AS whole
    FROM forced GROUP BY ns
)
SELECT min(ns) FILTER (upto >= 0.02 * whole) AS first, min(ns) FILTER (upto >= 0.98 * whole) AS last
FROM summed
"""

_HEADLINE = """
SELECT
    (SELECT coalesce(sum(value), 0) FROM forced) AS forced,
    (SELECT coalesce(sum(value), 0) FROM forced WHERE stage = 'book') AS book,
    (SELECT coalesce(sum(value), 0) FROM forced WHERE stage = 'takeover') AS takeover,
    (SELECT coalesce(sum(value), 0) FROM forced WHERE stage = 'adl') AS adl,
    (SELECT count(DISTINCT account) FROM liquidations) AS accounts,
    (SELECT count(DISTINCT liquidation) FROM liquidations) AS liquidations,
    (SELECT count(DISTINCT winner) FROM adl_fills) AS winners,
    (SELECT count(*) FROM adl_fills) AS adl_fills,
    (SELECT coalesce(sum(value), 0) FROM adl WHERE liquidation IS NULL) AS absorber_adl,
    (SELECT count(DISTINCT account) FROM accounts_end WHERE NOT special) AS all_accounts,
    (SELECT list({'currency': currency, 'amount': amount} ORDER BY currency DESC) FROM (
        SELECT currency, sum(amount) AS amount FROM shared_losses WHERE kind = 'bad_debt' GROUP BY currency
    )) AS bad_debt
"""

_FIRST = """
SELECT stage, min(epoch_ns(ts)) AS ns, count(*) AS times
FROM engagements WHERE state <> 'stop' AND NOT shadow
GROUP BY stage ORDER BY ns, stage
"""

_FLOW = """
WITH pieces AS (
    SELECT ns, stage, value FROM forced
    UNION ALL
    SELECT epoch_ns(ts), kind, amount FROM shared_losses
    WHERE currency IN (SELECT currency FROM markets WHERE payoff = 'linear')
)
SELECT ns // $1 * $1 AS ns, stage, sum(value) AS value
FROM pieces GROUP BY ALL ORDER BY stage, ns
"""

_MOST_HIT = f"""
SELECT market FROM forced GROUP BY market
ORDER BY coalesce(sum(value) FILTER (stage <> 'book'), 0) DESC, sum(value) DESC, market
LIMIT {TOP_MARKETS}
"""

_MARKS = """
SELECT ns, market, mark FROM (
    SELECT max(ns) AS ns, market, arg_max(mark, ns) AS mark
    FROM forced WHERE list_contains($1, market)
    GROUP BY market, ns // ($2 // 2)
)
ORDER BY list_position($1, market), ns
"""

_BALANCES = """
SELECT account, currency, dex, epoch_ns(ts) AS ns, balance
FROM absorber_ledger
ORDER BY account, currency DESC, dex, seq
"""

_TRIGGERS = """
SELECT epoch_ns(ts) AS ns, scope, market, currency, dex, state, reason, measured, threshold
FROM engagements WHERE stage = 'adl' AND state <> 'engaged' AND NOT shadow
ORDER BY seq
"""

_ADL_TIMES = """
SELECT market, liquidation IS NULL AS of_absorber, epoch_ns(ts) // $1 * $1 AS ns,
       count(DISTINCT winner) AS winners, sum(value) AS value
FROM adl GROUP BY ALL ORDER BY 1, 2, 3
"""

_RANKS = """
SELECT least(9, floor(10 * (rank - 1) / candidates))::INTEGER AS decile, sum(value) AS value,
       count(DISTINCT winner) AS accounts
FROM adl GROUP BY decile ORDER BY decile
"""

_LEVERAGES = """
WITH closed AS (
    SELECT winner, currency, dex, sum(value) AS value,
           arg_min(winner_notional_before / nullif(winner_equity_before, 0), seq) AS leverage
    FROM adl GROUP BY winner, currency, dex
),
placed AS (
    SELECT *, ntile(5) OVER (ORDER BY leverage, winner, currency, dex) AS fifth
    FROM closed WHERE leverage IS NOT NULL
)
SELECT fifth, min(leverage) AS least, max(leverage) AS most, count(*) AS accounts, sum(value) AS value
FROM placed GROUP BY fifth ORDER BY fifth
"""
