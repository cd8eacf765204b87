"""Whether every row of a tape is possible by itself: ids, kinds, signs, ranges."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import duckdb

from replay.tape.findings import Finding, Severity
from replay.tape.read import Tape
from replay.tape.schema import (
    TABLES,
    FillKind,
    Grade,
    Mode,
    Payoff,
    PriceKind,
    Role,
    Side,
    Table,
    TransferKind,
    Unit,
)
from replay.units import BOUND, MAX_SCALE

_KINDS: dict[tuple[str, str], type[IntEnum]] = {
    ("markets", "payoff"): Payoff,
    ("accounts", "grade"): Grade,
    ("positions", "mode"): Mode,
    ("transfers", "kind"): TransferKind,
    ("prices", "kind"): PriceKind,
    ("fills", "role"): Role,
    ("fills", "kind"): FillKind,
    ("fills", "mode"): Mode,
    ("depth", "side"): Side,
}
_POSITIVE = {
    "markets": ("multiplier_num", "multiplier_den", "tick", "lot"),
    "positions": ("entry_price",),
    "prices": ("price",),
    "fills": ("price",),
    "trades": ("price", "qty"),
    "liquidations": ("price", "mark"),
    "depth": ("price", "qty"),
}
_NOT_ZERO = {"positions": ("size",), "fills": ("qty",), "liquidations": ("qty",)}
_FORCED = f"({FillKind.LIQUIDATION}, {FillKind.BACKSTOP}, {FillKind.ADL})"

Rule = tuple[Severity, str, str]
"""Severity, the SQL condition of a row at fault, and what it means."""


def check_rows(tape: Tape, connection: duckdb.DuckDBPyConnection) -> Iterator[Finding]:
    """Check the rows of every table one by one, in one scan a table."""
    yield from _dimensions(tape)
    for table in TABLES.values():
        if tape.rows(table.name):
            yield from _scan(connection, table, _rules(tape, table))


def _dimensions(tape: Tape) -> Iterator[Finding]:
    names = {
        "markets": [market.name for market in tape.markets],
        "account_names": list(tape.account_names),
        "ledgers": [f"{dex}:{currency}" for dex, currency in tape.ledgers],
    }
    for table, values in names.items():
        if len(set(values)) < len(values):
            yield Finding(Severity.ERROR, table, "has a name twice", len(values) - len(set(values)))


def _rules(tape: Tape, table: Table) -> list[Rule]:
    """Return the rules of a table, most of them from its schema."""
    error = Severity.ERROR
    counts = {
        "account": len(tape.account_names),
        "victim": len(tape.account_names),
        "market": len(tape.markets),
        "ledger": len(tape.ledgers),
        "fee_ledger": len(tape.ledgers),
    }
    rules: list[Rule] = []
    for column in table.columns:
        name = column.name
        if name in counts:
            rules.append((error, f"{name} NOT BETWEEN 0 AND {counts[name] - 1}", f"has an unknown {name}"))
        kinds = _KINDS.get((table.name, name))
        if kinds is not None:
            allowed = ", ".join(str(int(kind)) for kind in kinds)
            rules.append((error, f"{name} NOT IN ({allowed})", f"has a {name} other than {allowed}"))
        if column.unit not in (Unit.NONE, Unit.TIME):
            rules.append(
                (error, f"{name} NOT BETWEEN {1 - BOUND} AND {BOUND - 1}", f"has a {name} beyond 2**62")
            )
    rules += [
        (error, f"{name} <= 0", f"has a {name} not above zero") for name in _POSITIVE.get(table.name, ())
    ]
    rules += [(error, f"{name} = 0", f"has a {name} of zero") for name in _NOT_ZERO.get(table.name, ())]
    key = {"markets": "market", "account_names": "account", "ledgers": "ledger"}.get(table.name)
    if key is not None:
        rules.append((error, f"{key} <> file_row", "has ids that are not 0, 1, 2, ... in order"))
    if table.name == "markets":
        scales = ("price_scale", "mark_scale", "qty_scale")
        rules += [(error, f"{s} NOT BETWEEN 0 AND {MAX_SCALE}", f"has an impossible {s}") for s in scales]
        rules.append((error, "mark_scale < price_scale", "has marks with fewer digits than prices"))
    if table.name == "open_interest":
        rules.append((error, "qty < 0", "has a qty below zero"))
    if table.name == "trades":
        rules.append((error, "taker_side NOT IN (-1, 0, 1)", "has a taker_side other than -1, 0, 1"))
    if table.name == "fills":
        rules += [
            (error, "paired NOT IN (0, 1)", "has a paired other than 0 and 1"),
            (error, "paired = 1 AND match IS NULL", "is paired and has no match"),
            (Severity.WARNING, f"kind IN {_FORCED} AND victim IS NULL", "is forced and names no victim"),
            (Severity.WARNING, "kind = 0 AND victim IS NOT NULL", "is a trade and names a victim"),
        ]
    return rules


def _scan(connection: duckdb.DuckDBPyConnection, table: Table, rules: list[Rule]) -> Iterator[Finding]:
    at, row = ("ts", "seq") if table.event else ("NULL::BIGINT", "file_row")
    columns = ", ".join(
        f"{cell} FILTER ({condition})"
        for _, condition, _ in rules
        for cell in ("count(*)", f"min({row})", f"arg_min({at}, {row})")
    )
    source = (
        table.name if table.event else f"(SELECT *, row_number() OVER () - 1 AS file_row FROM {table.name})"
    )
    found = connection.execute(f"SELECT {columns} FROM {source}").fetchone() or ()
    for number, (severity, _, message) in enumerate(rules):
        count, first, ts = found[3 * number : 3 * number + 3]
        if count:
            yield Finding(severity, table.name, message, count, ts, first)
