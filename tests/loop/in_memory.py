"""The product's loop on a day in memory: no files, so that thousands of small days can be compared."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast, get_type_hints

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from replay.loop.books import closing_tables, valuations_of
from replay.loop.engine import Outcome, Replay
from replay.rules.plan import Absorber, Plan, Takeover
from replay.tape import read
from replay.tape.schema import TABLES, Payoff
from tests.reference import Day, OwnMargin, Rules
from tests.strategies import account_names, tape_rows

Row = dict[str, Any]


class MemoryTape:
    """A day as what the loop asks of a tape; its windows are cut after a random count of steps.

    Args:
        day: The day.
        seed: Decides where the windows are cut; no result may depend on it.
    """

    def __init__(self, day: Day, seed: int) -> None:
        self.path = Path("in-memory")
        self.account_names = account_names(day)
        self.ledgers = day.ledgers
        self.manifest = {"accounts_start": day.accounts_start}
        self.markets = [
            read.Market(
                id=index,
                name=market.name,
                dex=day.ledgers[market.ledger][0],
                payoff=Payoff(market.payoff),
                ledger=market.ledger,
                multiplier=market.multiplier,
                price_scale=market.price_scale,
                mark_scale=market.mark_scale,
                qty_scale=market.qty_scale,
                tick=1,
                lot=1,
            )
            for index, market in enumerate(day.markets)
        ]
        self._rng = random.Random(seed)
        self._tables = {name: _arrow(name, rows) for name, rows in ({"depth": []} | tape_rows(day)).items()}
        self.accounts = self._tables["accounts"]
        self.words = words(self._tables["liquidations"])
        self.positions = self._tables["positions"]
        self._columns = {name: _window_columns(name, self._tables[name]) for name in read.Window._fields}
        moments = {int(ts) for table in self._columns.values() for ts in table.ts}
        self.moments = sorted(moments)
        self.first_ts = min(moments, default=None)
        self.last_ts = max(moments, default=None)

    def select(self, sql: str) -> list[tuple[Any, ...]]:
        """Answer a query over the tables that the loop asks by SQL."""
        connection = _connection()
        connection.register("prices", self._tables["prices"])
        return connection.sql(sql).fetchall()

    def windows(self, *, batch_rows: int, threads: int, until: int | None = None) -> Iterator[read.Window]:
        """Yield windows of whole steps."""
        del batch_rows, threads
        moments = [ts for ts in self.moments if until is None or ts <= until]
        start = 0
        while start < len(moments):
            end = start + self._rng.choice([1, 2, 7, 50, 1_000])
            yield self._window(moments[start], moments[min(end, len(moments)) - 1])
            start = end

    def _window(self, first: int, last: int) -> read.Window:
        tables = []
        for table in self._columns.values():
            low = int(np.searchsorted(table.ts, first, side="left"))
            high = int(np.searchsorted(table.ts, last, side="right"))
            tables.append(type(table)(*(column[low:high] for column in table)))
        return read.Window(*cast(Any, tables))


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    """Return one connection for all days: to connect takes longer than a day."""
    return duckdb.connect(":memory:")


class _Columns(NamedTuple):
    """Any table of a window: the first column is the moment."""

    ts: npt.NDArray[np.int64]


def _arrow(name: str, rows: Sequence[Row]) -> pa.Table:
    return pa.Table.from_pylist(
        [{"seq": seq, **row} for seq, row in enumerate(rows)], schema=TABLES[name].arrow()
    )


def words(liquidations: pa.Table) -> list[str]:
    """Return the distinct margin modes and methods of recorded liquidations."""
    found = {*liquidations["mode"].to_pylist(), *liquidations["method"].to_pylist()}
    return sorted(word for word in found if word is not None)


def _window_columns(name: str, table: pa.Table) -> _Columns:
    """Return a table as the columns of a window, nulls by their stand-ins."""
    rows_type = get_type_hints(read.Window)[name]
    columns = []
    for column in rows_type._fields:
        if column == "cross":
            values = np.array(
                [mode is not None and mode.lower() == "cross" for mode in table["mode"].to_pylist()]
            )
            values = values.astype(np.int8)
        elif name == "liquidations" and column in ("mode", "method"):
            known = words(table)
            values = np.array(
                [-1 if word is None else known.index(word) for word in table[column].to_pylist()]
            )
            values = values.astype(np.int32)
        else:
            missing = -1 if column in ("market", "victim") else read.NONE
            filled = table[column].fill_null(missing) if table[column].null_count else table[column]
            values = filled.to_numpy()
        values = np.array(values)
        values.flags.writeable = False
        columns.append(values)
    return cast(_Columns, rows_type(*columns))


def plan_of(rules: Rules, markets: int) -> Plan:
    """Return rules as the loop reads them."""
    tables = [rules.tiers.get(market, ()) for market in range(markets)]
    tiers = [tier for table in tables for tier in table]

    def column(values: Sequence[int]) -> npt.NDArray[np.int64]:
        return np.array(values, dtype=np.int64)

    return Plan(
        name="random",
        sha256="",
        tier_first=column([0, *np.cumsum([len(table) for table in tables]).tolist()]),
        tier_from=column([tier.start for tier in tiers]),
        tier_rate=column([int(tier.rate * 10**12) for tier in tiers]),
        tier_deduction=column([tier.deduction for tier in tiers]),
        breach_at_equal=rules.breach_at_equal,
        ladder=(Takeover((1, 1), "bankruptcy"),),
        absorbers=(Absorber(rules.absorber, "hold", False, None, 0, 0, False),),
        depth=None,
        adl=None,
        allocation="maintenance_proportional",
        assumptions=(),
        **margin_columns(rules, markets),
    )


def margin_columns(rules: Rules, markets: int) -> dict[str, Any]:
    """Return what rules say of margin beside tiers by notional, as a plan has it."""
    own = [rules.own.get(market, OwnMargin()) for market in range(markets)]
    return {
        "margin_basis": np.array([["notional", "entry", "size"].index(entry.basis) for entry in own]),
        "margin_growth": np.array([int(entry.growth * 10**12) for entry in own]),
        "margin_root": np.array([int(entry.factor * 10**12) for entry in own]),
        "margin_unit": np.array([(entry.unit, 1) for entry in own], np.int64).reshape(-1, 2),
        "margin_least": np.array([entry.least for entry in own]),
        "margin_short": np.array([int(entry.short * 10**12) for entry in own]),
    }


@dataclass
class MemoryRun:
    """The tables of a run in memory."""

    tables: dict[str, list[Row]] = field(default_factory=dict)
    account_names: list[str] = field(default_factory=list)
    outcome: Outcome | None = None

    def append(self, table: str, columns: Mapping[str, Any]) -> None:
        """Take rows by column, as the journal does."""
        rows = self.tables.setdefault(table, [])
        values = {name: _plain(column) for name, column in columns.items()}
        rows.extend(dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True))


def _plain(column: Any) -> list[Any]:
    if isinstance(column, np.ndarray):
        return cast(list[Any], column.tolist())
    return (
        cast(list[Any], column.to_pylist())
        if isinstance(column, (pa.Array, pa.ChunkedArray))
        else list(column)
    )


def run_in_memory(day: Day, rules: Rules, *, ruled: bool, anchored: bool, seed: int = 0) -> MemoryRun:
    """Replay a day with the product's loop and return its tables."""
    tape = MemoryTape(day, seed)
    result = MemoryRun()
    replay = Replay(
        cast(read.Tape, tape),
        plan_of(rules, len(day.markets)),
        result,
        rules_decide=ruled,
        anchoring=anchored,
    )
    for _ in replay.run():
        pass
    for table, columns in closing_tables(replay.state, valuations_of(replay.state)).items():
        result.append(table, columns)
    result.account_names = replay.state.account_names
    result.outcome = replay.outcome
    return result
