"""Whether a feed of anonymous trades is whole: ids, the clock, and the day its rows belong to.

What is found here does not stop a replay. Ids that a venue gives without a gap tell what a feed left out: the
normalised trades of tardis.dev drop those prints of Binance that are of its insurance fund or of auto-deleveraging.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from math import exp, log
from operator import itemgetter

import duckdb

from replay.tape.findings import Finding, Severity
from replay.tape.read import Tape
from replay.units import (
    NS_PER_DAY,
    NS_PER_SECOND,
    format_time,
)

CONSECUTIVE_PERCENT = 90
"""Ids are taken for consecutive where at least so many of a market's steps are 1; only then are some missing."""

STRAY_PER_MILLE = 10
"""A UTC day with fewer of a market's trades than this, of a thousand, is another day than that of the file."""

CLAMPED = "moments before that of the row before"
"""Count of an importer: rows that came with an earlier moment than the row before and were given its moment."""


def check_feed(tape: Tape, connection: duckdb.DuckDBPyConnection) -> Iterator[Finding]:
    """Check the ids, order and days of `trades`, market by market, and whether prints of liquidations are a sample.

    Each finding tells how often and since when.
    """
    yield from _sampling(tape, connection)
    if not tape.rows("trades"):
        return
    yield from _ids(tape, connection)
    yield from _days(tape, connection)
    clamped = tape.manifest["counts"].get(CLAMPED, 0)
    if clamped:
        message = "stood in the files with a moment before that of the row before; they have its moment now"
        moments = [source["first_moved"] for source in tape.manifest["sources"] if "first_moved" in source]
        yield Finding(Severity.NOTE, "trades", message, clamped, min(moments, default=None))


def _ids(tape: Tape, connection: duckdb.DuckDBPyConnection) -> Iterator[Finding]:
    found = connection.execute(
        """
        WITH steps AS (
            SELECT market, ts, seq, trade_id - lag(trade_id) OVER (PARTITION BY market ORDER BY ts, seq) AS step
            FROM trades WHERE trade_id IS NOT NULL
        )
        SELECT market, count(step), count(*) FILTER (step = 1),
            count(*) FILTER (step < 0), min(ts) FILTER (step < 0), min(seq) FILTER (step < 0),
            (sum(step - 1) FILTER (step > 1))::BIGINT, count(*) FILTER (step > 1),
            min(ts) FILTER (step > 1), min(seq) FILTER (step > 1), max(ts) FILTER (step > 1)
        FROM steps GROUP BY market ORDER BY market
        """
    ).fetchall()
    twice = connection.execute(
        """
        WITH repeated AS (
            SELECT market, count(*) - 1 AS more, min(ts) AS ts, min(seq) AS seq
            FROM trades WHERE trade_id IS NOT NULL GROUP BY market, trade_id HAVING count(*) > 1
        )
        SELECT market, sum(more)::BIGINT, min(ts), min(seq) FROM repeated GROUP BY market ORDER BY market
        """
    ).fetchall()
    for market, count, ts, seq in twice:
        message = f"has ids of {tape.markets[market].name} more than once"
        yield Finding(Severity.WARNING, "trades", message, count, ts, seq)
    for market, steps, ones, back, back_ts, back_seq, missing, gaps, ts, seq, last in found:
        name = tape.markets[market].name
        if 100 * ones < CONSECUTIVE_PERCENT * steps:
            continue
        if back:
            message = (
                f"has ids of {name} that fall while time goes on: its clock jumped, or rows are out of order"
            )
            yield Finding(Severity.WARNING, "trades", message, back, back_ts, back_seq)
        elif missing:
            message = f"lacks ids of {name} in {gaps:,} gaps, the last at {format_time(last)[11:19]}"
            yield Finding(Severity.NOTE, "trades", message, missing, ts, seq)


def _days(tape: Tape, connection: duckdb.DuckDBPyConnection) -> Iterator[Finding]:
    found = connection.execute(
        f"""
        WITH days AS (
            SELECT market, ts // {NS_PER_DAY} AS day, count(*) AS rows, min(ts) AS ts, min(seq) AS seq
            FROM trades GROUP BY ALL
        )
        SELECT market, sum(rows)::BIGINT, min(ts), min(seq) FROM (
            SELECT *, sum(rows) OVER (PARTITION BY market) AS whole FROM days
        ) WHERE 1000 * rows < {STRAY_PER_MILLE} * whole GROUP BY market ORDER BY market
        """
    ).fetchall()
    for market, count, ts, seq in found:
        message = f"has rows of {tape.markets[market].name} of another day than nearly all others"
        yield Finding(Severity.NOTE, "trades", message, count, ts, seq)


def _sampling(tape: Tape, connection: duckdb.DuckDBPyConnection) -> Iterator[Finding]:
    """Tell which feeds of liquidations print at most one a second and market, and how much of them is there.

    Were they complete and at random within each minute, seconds with two would be expected; where several are
    and none is found, the feed is a sample (venue-rules.md 25, axis L1). A minute with prints in a share p of its
    seconds then had some -60 ln(1 - p): that is the estimate; a full minute counts as 59.5 seconds.
    """
    if not tape.rows("liquidations"):
        return
    found = connection.execute(
        f"""
        WITH seconds AS (
            SELECT market, ts // {NS_PER_SECOND} AS second, count(*) AS prints, min(ts) AS ts, min(seq) AS seq
            FROM liquidations WHERE market IS NOT NULL AND price_kind IS NOT NULL GROUP BY ALL
        )
        SELECT market, second // 60 AS minute, count(*), max(prints), min(ts), min(seq)
        FROM seconds GROUP BY ALL ORDER BY market, minute
        """
    ).fetchall()
    for market, of_market in groupby(found, key=itemgetter(0)):
        minutes = list(of_market)
        prints = sum(row[2] for row in minutes)
        rates = [-log(1 - min(row[2], _FULLEST) / 60) for row in minutes]
        pairs = sum(60 * (1 - exp(-rate) * (1 + rate)) for rate in rates)
        if max(row[3] for row in minutes) > 1 or pairs < _TELLING_PAIRS:
            continue
        share = prints / sum(60 * rate for rate in rates)
        message = (
            f"of {tape.markets[market].name} are a sample: no second has two, where some {pairs:.0f} would; "
            f"about {100 * share:.0f} % are there, if they fell at random within each minute"
        )
        yield Finding(Severity.NOTE, "liquidations", message, prints, minutes[0][4], minutes[0][5])


_FULLEST = 59.5
_TELLING_PAIRS = 5
"""So many seconds with two prints must be expected before their absence says something."""
