"""Rows of the three CSV files of Hyperliquid's closed alpha, told apart by their headers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from replay.errors import SourceError
from replay.sources._numbers import parse_number, parse_utc_second
from replay.sources._read import Lines, first_line
from replay.sources._rejects import Rejects
from replay.sources.hyperliquid_words import is_address
from replay.units import MAX_SCALE, to_atoms

TRADES, TRANSFERS, LIQUIDATIONS = "trades", "ledger updates", "liquidations"
COLUMNS = {
    TRANSFERS: ("time", "user", "delta_usd"),
    TRADES: ("time", "user", "coin", "side", "px", "sz", "crossed"),
    LIQUIDATIONS: ("time", "user", "liquidated_ntl_pos", "liquidated_account_value", "leverage_type"),
}
"""Columns of each file, in their order."""


class Transfer(NamedTuple):
    """A deposit or withdrawal; ``amount`` signed, in atoms."""

    ts: int
    user: str
    amount: int
    rounded: bool


class Trade(NamedTuple):
    """A fill; ``size`` signed, in 1e-18, beside the number as it stands."""

    ts: int
    user: str
    coin: str
    sign: int
    price: tuple[int, int]
    quantity: tuple[int, int]
    crossed: bool

    @property
    def size(self) -> int:
        """Signed size in 1e-18."""
        mantissa, digits = self.quantity
        return self.sign * mantissa * int(10 ** (MAX_SCALE - digits))


class Liquidation(NamedTuple):
    """A report of a liquidated account; money in atoms, ``rounded`` counts amounts that were."""

    ts: int
    user: str
    notional: int
    equity: int
    mode: str
    rounded: int


def identify(inputs: Sequence[Path]) -> dict[str, Path]:
    """Find which file holds which table by their headers.

    Raises:
        SourceError: A file with another header, a column missing, a table missing or there twice.
    """
    tables: dict[str, Path] = {}
    for file in inputs:
        table = _table_of(first_line(file), file)
        if table in tables:
            raise SourceError(
                f"holds {table}, and so does {tables[table].name}",
                file=file,
                mend="pass each of the three files once",
            )
        tables[table] = file
    missing = [table for table in COLUMNS if table not in tables]
    if missing:
        headers = " and ".join(f"the {table} ({','.join(COLUMNS[table])})" for table in missing)
        raise SourceError(
            f"beside this file, {headers} are missing", file=inputs[0], mend="pass all three files"
        )
    return tables


def _table_of(line: bytes, file: Path) -> str:
    header = line.decode("utf-8", "backslashreplace").split(",")
    for table, columns in COLUMNS.items():
        if tuple(header) == columns:
            return table
    known = {"time", "user"}
    table = max(COLUMNS, key=lambda name: len(set(COLUMNS[name]) - known & set(header)))
    columns = COLUMNS[table]
    if not (set(columns) - known) & set(header):
        raise SourceError(
            "is of no form of Hyperliquid files that is read",
            file=file,
            row=1,
            mend="read are node_fills_by_block (JSON lines) and the three CSV files of 2023 with the headers "
            + "; ".join(",".join(names) for names in COLUMNS.values()),
        )
    missing = [column for column in columns if column not in header]
    more = [column for column in header if column not in columns]
    problem = (
        f"lacks the column {', '.join(missing)}"
        if missing
        else f"has the unknown column {', '.join(more)}"
        if more
        else "has its columns in another order"
    )
    raise SourceError(
        f"{problem}, of the file of {table}", file=file, row=1, mend=f"its header is {','.join(columns)}"
    )


def _user(text: str) -> str:
    if not is_address(text):
        raise ValueError(f"user {text!r} is not an address of 0x and 40 hexadecimal digits")
    return text


def _positive(name: str, text: str) -> tuple[int, int]:
    number = _number(name, text)
    if number[0] <= 0:
        raise ValueError(f"{name} {text!r} is not positive")
    return number


def _number(name: str, text: str) -> tuple[int, int]:
    try:
        return parse_number(text)
    except ValueError as failure:
        raise ValueError(f"{name} {failure}") from failure


def _atoms(name: str, text: str) -> tuple[int, bool]:
    _number(name, text)
    return to_atoms(text)


def _transfer(cells: list[str]) -> Transfer:
    time, user, delta = cells
    return Transfer(parse_utc_second(time), _user(user), *_atoms("delta_usd", delta))


def _trade(cells: list[str]) -> Trade:
    time, user, coin, side, price, size, crossed = cells
    if not coin.isalnum() or not coin.isascii():
        raise ValueError(f"coin {coin!r} is not the name of a coin")
    if side not in ("Bid", "Ask"):
        raise ValueError(f"side {side!r} is neither Bid nor Ask")
    if crossed not in ("true", "false"):
        raise ValueError(f"crossed {crossed!r} is neither true nor false")
    return Trade(
        parse_utc_second(time),
        _user(user),
        coin,
        1 if side == "Bid" else -1,
        _positive("px", price),
        _positive("sz", size),
        crossed == "true",
    )


def _liquidation(cells: list[str]) -> Liquidation:
    time, user, notional, equity, mode = cells
    if mode not in ("Cross", "Isolated"):
        raise ValueError(f"leverage_type {mode!r} is neither Cross nor Isolated")
    _positive("liquidated_ntl_pos", notional)
    notional_atoms, notional_rounded = to_atoms(notional)
    equity_atoms, equity_rounded = _atoms("liquidated_account_value", equity)
    rounded = notional_rounded + equity_rounded
    return Liquidation(parse_utc_second(time), _user(user), notional_atoms, equity_atoms, mode, rounded)


_PARSERS: dict[str, Callable[[list[str]], Any]] = {
    TRANSFERS: _transfer,
    TRADES: _trade,
    LIQUIDATIONS: _liquidation,
}


class AlphaRows:
    """The rows of one file, in order of time; rows that are not understood go to the rejects.

    Iterating gives parsed rows; ``count`` is how many rows were met, rejects included.

    Args:
        table: Which of the three files it is.
        lines: Its lines, header first.
        rejects: Where rows go that are not understood.
    """

    def __init__(self, table: str, lines: Lines, rejects: Rejects) -> None:
        self.count = 0
        self.lines = lines
        self._width = len(COLUMNS[table])
        self._parse = _PARSERS[table]
        self._rejects = rejects

    def __iter__(self) -> Iterator[Any]:
        lines = iter(self.lines)
        next(lines)
        last = 0
        for number, line in lines:
            self.count += 1
            try:
                text = line.decode()
                cells = text.split(",")
                if len(cells) != self._width:
                    raise ValueError(f"has {len(cells)} cells, not {self._width}")
                row = self._parse(cells)
                if row.ts < last:
                    raise ValueError("is older than the row before it")
            except ValueError as failure:
                reason = "is not UTF-8" if isinstance(failure, UnicodeDecodeError) else str(failure)
                shown = line.decode("utf-8", "backslashreplace")
                self._rejects.add(reason, file=self.lines.path, line=number, text=shown)
                continue
            last = row.ts
            yield row
