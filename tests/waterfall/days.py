"""Days written by hand, replayed by the public path: text, tape, rules, run, SQL."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import replay
from replay.run.store import Run
from tests.scenario_tape import scenario_tape

HYPERLIQUID = "hyperliquid@2025-10-10"
BYBIT = "bybit@2025-09-23"


class Day:
    """A replayed day, asked in SQL; numbers are decimals, names are names."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        table = replay.query(self.run, sql)
        return [tuple(map(plain, row.values())) for row in table.to_pylist()]

    def one(self, sql: str) -> Any:
        """Return the only cell of a query."""
        [[cell]] = self.rows(sql)
        return cell

    def cash(self, account: str, market: str | None = None) -> Decimal:
        """Return the cash of a pool at the end, 0 if it never was."""
        where = "market IS NULL" if market is None else f"market = '{market}'"
        found = self.rows(f"SELECT cash FROM accounts_end WHERE account = '{account}' AND {where}")
        return found[0][0] if found else Decimal(0)

    def size(self, account: str, market: str = "BTC") -> Decimal:
        """Return the size of a position at the end, 0 if there is none."""
        found = self.rows(
            f"SELECT size FROM positions_end WHERE account = '{account}' AND market = '{market}'"
        )
        return found[0][0] if found else Decimal(0)


def plain(cell: Any) -> Any:
    """Return a number as the decimal it shows: the views of a run decode integers to doubles."""
    return Decimal(repr(cell)) if isinstance(cell, float) else cell


def replayed(
    folder: Path,
    text: str,
    rules: str,
    overrides: Sequence[str] = (),
    *,
    start: str | None = None,
    **options: Any,
) -> Day:
    """Replay a day written as scenario text under rules that decide who is liquidated."""
    head = f'venue = "example"\nstart = "{start or "2025-10-10T12:00:00Z"}"\n'
    tape = scenario_tape(folder, head + text)
    book = replay.load_rules(rules, overrides=overrides)
    return Day(replay.run_replay(tape, book, folder / "run", liquidations="rules", **options))


def account(name: str, cash: object, *positions: tuple[str, object, object], margin: object = None) -> str:
    """Write an account with positions of (market, size, entry); with ``margin`` they are isolated."""
    own = "" if margin is None else f", margin = {margin}"
    held = ", ".join(
        f'{{ market = "{market}", size = {size}, entry = {entry}{own} }}' for market, size, entry in positions
    )
    return f'[[accounts]]\nname = "{name}"\ncash = {cash}\npositions = [{held}]\n'


def fund(name: str, cash: object) -> str:
    """Write a fund or vault."""
    return f'[[funds]]\nname = "{name}"\ncash = {cash}\n'


def marks(market: str, *path: tuple[str, object]) -> str:
    """Write the marks of a market."""
    steps = ", ".join(f'["{at}", {price}]' for at, price in path)
    return f'[[marks]]\nmarket = "{market}"\npath = [{steps}]\n'


def depth(
    at: str,
    market: str,
    *,
    bids: Sequence[tuple[object, object]] = (),
    asks: Sequence[tuple[object, object]] = (),
) -> str:
    """Write a snapshot of the book."""
    sides = [(name, levels) for name, levels in (("bids", bids), ("asks", asks)) if levels]
    lines = [f"{name} = [{', '.join(f'[{p}, {q}]' for p, q in levels)}]" for name, levels in sides]
    return f'[[depth]]\nat = "{at}"\nmarket = "{market}"\n' + "\n".join(lines) + "\n"
