"""Which moments of an account are worked out: its breaches, and the samples that matter to its story."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb

from replay.analysis.bench import Bench
from replay.analysis.differences import differences
from replay.analysis.worksheet import Untold, Worksheet, worksheets
from replay.analysis.worksheet_text import as_json, lines
from replay.errors import RunError
from replay.run.store import Run
from replay.units import format_time

_ORDER = "ORDER BY ts, ledger, CASE mode WHEN 1 THEN market ELSE -1 END"


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """The margin of a pool at a moment.

    Attributes:
        lines: In words, indented by what they belong to.
        figures: The same as plain values; amounts, prices and rates are decimal text.
    """

    lines: tuple[str, ...]
    figures: dict[str, Any]


def arithmetic(
    connection: duckdb.DuckDBPyConnection, run: Run, account: str, market: str | None, at: int | None
) -> tuple[tuple[Arithmetic, ...], tuple[str, ...]]:
    """Work out the margin of an account: at each breach, before its first deleveraging, where it came closest.

    Args:
        connection: To the run.
        run: The run.
        account: Name of the account.
        market: Only pools with a position in this market.
        at: Only the last moment that the run keeps at or before this one, in ns.

    Returns:
        The moments by time, and why an exchange's own display may differ (nothing without moments).

    Raises:
        RunError: The run keeps no moment of the account at or before the one asked for.
    """
    kept = _Kept(connection, run.account_names.index(account))
    moments = kept.of_the_story() if at is None else kept.last(at)
    if at is not None and not moments:
        raise RunError(
            f"keeps no sample and no breach of {account!r} at or before {format_time(at)}",
            file=run.path,
            key="--at",
            mend="run with --watch ACCOUNT to have it sampled, or ask replay state, which replays the tape",
        )
    if not moments:
        return (), ()
    bench = Bench.of(run)
    sheets = [
        sheet for table, ts in moments for sheet in worksheets(bench, run.ledgers, kept.rows(table, ts))
    ]
    told = [sheet for sheet in sheets if market is None or market in _markets(sheet)]
    known = [sheet for sheet in told if isinstance(sheet, Worksheet)]
    held = {leg.market for sheet in known for leg in sheet.legs}
    shared = any(len(sheet.legs) > 1 for sheet in known)
    why = differences(run, bench, held, shared=shared) if held else ()
    return tuple(Arithmetic(tuple(lines(bench, sheet)), as_json(sheet)) for sheet in told), why


def _markets(sheet: Worksheet | Untold) -> list[str]:
    if isinstance(sheet, Untold):
        return list(sheet.markets)
    return [leg.market.name for leg in sheet.legs]


class _Kept:
    """The integer rows that a run keeps of one account."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, account: int) -> None:
        self._connection = connection
        self._account = account

    def _all(self, statement: str, **parameters: int) -> list[dict[str, Any]]:
        relation = self._connection.sql(statement, params={"account": self._account, **parameters})
        rows: list[dict[str, Any]] = relation.to_arrow_table().to_pylist()
        return rows

    def rows(self, table: str, ts: int) -> list[dict[str, Any]]:
        """Return the rows of a moment, pool by pool."""
        tie = "liquidation, market" if table == "liquidations" else "seq"
        return self._all(f"FROM raw.{table} WHERE account = $account AND ts = $ts {_ORDER}, {tie}", ts=ts)

    def of_the_story(self) -> list[tuple[str, int]]:
        """Return (table, ts) of the moments of the story, by time."""
        breaches = self._all("SELECT DISTINCT ts FROM raw.liquidations WHERE account = $account")
        before = self._all(
            "SELECT max(ts) AS ts FROM raw.account_series WHERE account = $account AND ts < "
            "(SELECT min(ts) FROM raw.adl_fills WHERE winner = $account)"
        )
        closest = self._all(
            "SELECT arg_min(ts, equity / maintenance) AS ts FROM raw.account_series "
            "WHERE account = $account AND maintenance > 0"
        )
        samples = before if before[0]["ts"] is not None else [] if breaches else closest
        found = {("liquidations", row["ts"]) for row in breaches}
        found |= {("account_series", row["ts"]) for row in samples if row["ts"] is not None}
        return sorted(found, key=lambda moment: (moment[1], moment[0]))

    def last(self, at: int) -> list[tuple[str, int]]:
        """Return the last moment at or before another, of each table if both have it."""
        rows = self._all(
            "SELECT 'liquidations' AS name, max(ts) AS ts FROM raw.liquidations WHERE account = $account "
            "AND ts <= $at UNION ALL SELECT 'account_series', max(ts) FROM raw.account_series "
            "WHERE account = $account AND ts <= $at",
            at=at,
        )
        known = [(row["name"], row["ts"]) for row in rows if row["ts"] is not None]
        latest = max((ts for _, ts in known), default=None)
        return [(name, ts) for name, ts in known if ts == latest]
