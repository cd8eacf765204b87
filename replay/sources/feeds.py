"""Market data files of comma-separated text or Parquet, by declaration: which columns are what, and in which unit.

A :class:`Feed` declares one kind of file; a venue's module declares its feeds and says what its symbols are.
``market_data`` puts the rows of files of several kinds in one order of time and writes a tape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from replay.errors import SourceError
from replay.sources._parquet import ParquetRows, parquet_columns
from replay.sources._read import Lines, first_line, is_parquet
from replay.tape.schema import Payoff, PriceKind, Side

Array = npt.NDArray[Any]
TableName = Literal["trades", "liquidations", "prices", "funding", "depth", "bands", "open_interest"]


@dataclass(frozen=True, slots=True)
class Contract:
    """What a symbol is.

    Attributes:
        base: The coin whose price it is, by which spot markets are found for it.
        payoff: Linear, inverse or spot.
        settle: Currency of profit and loss.
        multiplier: Base coins (linear) or quote units (inverse) per unit of quantity.
        liquidation_price: What the venue prints as the price of a liquidation, see the table `liquidations`.
    """

    base: str
    payoff: Payoff
    settle: str
    multiplier: Fraction = Fraction(1)
    liquidation_price: str | None = None


class BookMessage(NamedTuple):
    """A message of a book of changes: moment in ns, levels as (price, quantity, ...) of texts.

    ``update`` numbers the messages of a market one by one, where the venue does.
    """

    symbol: str
    ts: int
    is_snapshot: bool
    bids: list[list[str]]
    asks: list[list[str]]
    update: int | None = None


@dataclass(frozen=True, slots=True)
class Feed:
    """One kind of file.

    Attributes:
        name: What the source calls it.
        table: What its rows become: ``trades``; ``liquidations`` of nobody in particular; ``prices`` of
            :attr:`kind`; ``funding`` rates; ``depth``; ``bands``, which become depth, too; ``open_interest``.
        columns: All column names in the order of the file.
        time: Column of the moment.
        unit: Unit of the moment: ``ns``, ``us``, ``ms``, ``s``, or ``iso`` for text.
        symbol: Column of the symbol, or empty where the file's name tells it.
        file_symbol: Pattern whose first group is the symbol in a file's name.
        price: Column of price, or of the funding rate.
        qty: Column of quantity, or of open interest.
        side: Column of the taker's side; the column of quantity itself where its sign tells.
        sides: Words of that column: 1 bought, -1 sold; any other word is a bad row.
        trade_id: Column of the venue's number.
        kind: What a row of ``prices`` is.
        header: Whether files may begin with a line of names, which then tells the feed.
        by_arrival: Whether rows are in order of arrival, so that a moment may lie before that of the row
            before; such a row takes the later one and is counted.
        skips_blank: Whether a row without a price (without open interest) says nothing and is left out.
        added: Nanoseconds after :attr:`time` at which the value was known (the length of a candle).
        due: Column of the moment at which a funding rate is to be paid, where rows tell the next one's.
        levels: Side, price column and quantity column of each level of a whole book.
        snapshot: Column that tells whether a row of a book of changes is of a snapshot.
        also: What else the rows of the same file become.
        parse: Reads a line of JSON as a message of a book; such a file has no columns.
        unordered: Whether rows are in any order; the file is small and is sorted.
        beside: Whether rows of markets that no other file names are left out and counted.
    """

    name: str
    table: TableName
    columns: tuple[str, ...]
    time: str
    unit: str
    symbol: str = ""
    file_symbol: str = ""
    price: str = "price"
    qty: str = ""
    side: str = ""
    sides: Mapping[str, int] = field(default_factory=dict)
    trade_id: str = ""
    kind: PriceKind = PriceKind.LAST
    header: bool = True
    by_arrival: bool = False
    skips_blank: bool = False
    added: int = 0
    due: str = ""
    levels: tuple[tuple[Side, str, str], ...] = ()
    snapshot: str = ""
    also: tuple[Feed, ...] = ()
    parse: Callable[[bytes], BookMessage] | None = None
    unordered: bool = False
    beside: bool = False

    @property
    def wanted(self) -> list[str]:
        """Columns that are read."""
        names = [
            self.time,
            self.symbol,
            self.price,
            self.qty,
            self.side,
            self.trade_id,
            self.due,
            self.snapshot,
            *(name for _, *pair in self.levels for name in pair),
        ]
        return list(dict.fromkeys(name for name in names if name))


Describe = Callable[[str, Path], Contract]


@dataclass(frozen=True, slots=True)
class Family:
    """The feeds of one source.

    Attributes:
        venue: Venue of the tape.
        importer: Name for provenance.
        feeds: Its kinds of files.
        describe: Tells what a symbol is, or raises a SourceError.
        lacks: What the files do not tell.
        assumes: What is assumed.
        identify: Tells the feed of a file without a header from its name; None where there is none.
        may_be_empty: Whether a file without a row stands for a day without one.
    """

    venue: str
    importer: str
    feeds: tuple[Feed, ...]
    describe: Describe
    lacks: tuple[str, ...]
    assumes: tuple[str, ...]
    identify: Callable[[Path], Feed | None] = lambda _: None
    may_be_empty: bool = False


@dataclass(slots=True)
class Opened:
    """An open file, its feed, the names of its columns, and whether its first line names them.

    ``first_moved`` is the moment that the first row took whose own lay before that of the row before it.
    """

    lines: Lines | ParquetRows
    feed: Feed
    names: tuple[str, ...]
    has_header: bool
    first_moved: int | None = None

    def note_moved(self, told: Array, taken: Array, counts: dict[str, int]) -> None:
        """Note rows that take a later moment than they tell, both in ns, and count them."""
        moved = np.flatnonzero(taken != told)
        counts["moments before that of the row before"] += len(moved)
        if len(moved) and self.first_moved is None:
            self.first_moved = int(taken[moved[0]])

    def provenance(self) -> dict[str, Any]:
        """Return name, bytes and SHA-256 of the file, and the first moment that was moved."""
        moved = {} if self.first_moved is None else {"first_moved": self.first_moved}
        return {**self.lines.provenance(), **moved}


def find_feed(family: Family, file: Path) -> tuple[Feed, tuple[str, ...], bool]:
    """Return a file's feed, the names of its columns, and whether its first line names them.

    Raises:
        SourceError: No feed of the family has these columns.
    """
    in_columns = is_parquet(file)
    if in_columns:
        found = parquet_columns(file)
        line = ",".join(found)
    else:
        line = first_line(file).decode("utf-8", "replace").lstrip("\ufeff").strip()
        found = tuple(name.strip().strip('"') for name in line.split(","))
    by_name = family.identify(file)
    candidates = family.feeds if by_name is None else (by_name,)
    for feed in candidates:
        if feed.parse is not None:
            if line.startswith("{") and not in_columns:
                return feed, (), False
            continue
        if (feed.header or in_columns) and set(feed.wanted) <= set(found):
            return feed, found, True
    if by_name is not None and not in_columns and len(found) == len(by_name.columns):
        return by_name, by_name.columns, False
    known = "; ".join(
        f"{feed.name} ({'lines of JSON' if feed.parse else ','.join(feed.wanted)})" for feed in family.feeds
    )
    raise SourceError(
        f"has the columns {line[:120]!r}, which are of no file of {family.importer}",
        file=file,
        row=1,
        mend=f"known are {known}",
    )
