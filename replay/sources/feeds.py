"""Market data files of comma-separated text, by declaration: which columns are what, and in which unit.

A :class:`Feed` declares one kind of file; a venue's module declares its feeds and says what its symbols are.
``market_data`` puts the rows of files of several kinds in one order of time and writes a tape.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from replay.errors import SourceError
from replay.sources._csv import Texts, read_texts
from replay.sources._merge import Columns
from replay.sources._numbers import Numbers, parse_number, parse_numbers
from replay.sources._read import Lines, first_line
from replay.sources._rejects import Rejects
from replay.tape.schema import Payoff, PriceKind, Side
from replay.units import parse_time

Array = npt.NDArray[Any]
TableName = Literal["trades", "liquidations", "prices", "funding", "depth", "bands"]

_UNITS = {"ns": 0, "us": 3, "ms": 6, "s": 9}
_EARLIEST, _LATEST = parse_time("2015-01-01"), parse_time("2036-01-01")


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


@dataclass(frozen=True, slots=True)
class Feed:
    """One kind of file.

    Attributes:
        name: What the source calls it.
        table: What its rows become: ``trades``; ``liquidations`` of nobody in particular; ``prices`` of
            :attr:`kind`; ``funding`` rates; ``depth``; ``bands``, which become depth, too.
        columns: All column names in the order of the file.
        time: Column of the moment.
        unit: Unit of the moment: ``ns``, ``us``, ``ms``, ``s``, or ``iso`` for text.
        symbol: Column of the symbol, or empty where the file's name tells it.
        file_symbol: Pattern whose first group is the symbol in a file's name.
        price: Column of price, or of the funding rate.
        qty: Column of quantity.
        side: Column of the taker's side; the column of quantity itself where its sign tells.
        sides: Words of that column: 1 bought, -1 sold; any other word is a bad row.
        trade_id: Column of the venue's number.
        kind: What a row of ``prices`` is.
        header: Whether files may begin with a line of names, which then tells the feed.
        by_arrival: Whether rows are in order of arrival, so that a moment may lie before that of the row
            before; such a row takes the later one and is counted.
        skips_blank: Whether a row without a price says nothing and is left out.
        added: Nanoseconds after :attr:`time` at which the value was known (the length of a candle).
        due: Column of the moment at which a funding rate is to be paid, where rows tell the next one's.
        levels: Side, price column and quantity column of each level of a whole book.
        snapshot: Column that tells whether a row of a book of changes is of a snapshot.
        also: What else the rows of the same file become.
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
    """An open file, its feed, the names of its columns, and whether its first line names them."""

    lines: Lines
    feed: Feed
    names: tuple[str, ...]
    has_header: bool


def find_feed(family: Family, file: Path) -> tuple[Feed, tuple[str, ...], bool]:
    """Return a file's feed, the names of its columns, and whether its first line names them.

    Raises:
        SourceError: No feed of the family has these columns.
    """
    line = first_line(file).decode("utf-8", "replace").lstrip("\ufeff").strip()
    found = tuple(name.strip().strip('"') for name in line.split(","))
    by_name = family.identify(file)
    candidates = family.feeds if by_name is None else (by_name,)
    for feed in candidates:
        if feed.header and set(feed.wanted) <= set(found):
            return feed, found, True
    if by_name is not None and len(found) == len(by_name.columns):
        return by_name, by_name.columns, False
    known = "; ".join(f"{feed.name} ({','.join(feed.wanted)})" for feed in family.feeds)
    raise SourceError(
        f"has the columns {line[:120]!r}, which are of no file of {family.importer}",
        file=file,
        row=1,
        mend=f"known are {known}",
    )


class FeedReader:
    """Reads one file of a feed as columns of a table, batch by batch."""

    def __init__(self, opened: Opened, rejects: Rejects, counts: dict[str, int]) -> None:
        self._opened = opened
        self._rejects = rejects
        self._counts = counts
        self._last = -(1 << 63)

    def batches(self, market_of: Callable[[str, Path], int]) -> Iterator[Columns]:
        """Yield rows in order of the file.

        Args:
            market_of: Gives the number of a symbol.
        """
        opened, feed = self._opened, self._opened.feed
        for texts in read_texts(
            opened.lines,
            self._rejects,
            names=opened.names,
            has_header=opened.has_header,
            wanted=feed.wanted,
        ):
            self._counts["rows read"] += texts.rows
            yield self._columns(texts, market_of)

    def _columns(self, texts: Texts, market_of: Callable[[str, Path], int]) -> Columns:
        feed = self._opened.feed
        if feed.skips_blank:
            texts = _with_text(texts, feed.price)
        problems: list[tuple[Array, str, str]] = []
        ts = self._moments(texts, problems)
        if feed.table == "bands":
            return self._bands(texts, ts, problems, market_of)
        price = _numbers(texts.columns[feed.price])
        problems.append((price.bad, feed.price, "is no plain decimal number"))
        columns: Columns = {"ts": ts}
        if feed.table == "funding":
            columns |= {"rate": price.mantissa, "rate_digits": price.digits.astype(np.int64)}
        else:
            problems.append((~price.bad & (price.mantissa <= 0), feed.price, "is not above zero"))
            columns |= {"price": price.mantissa, "price_digits": price.digits}
        if feed.table in ("trades", "liquidations"):
            qty = _numbers(texts.columns[feed.qty])
            if feed.side == feed.qty:
                columns["taker_side"] = np.sign(qty.mantissa).astype(np.int8)
                qty = qty._replace(mantissa=np.abs(qty.mantissa))
            problems.append((qty.bad, feed.qty, "is no plain decimal number"))
            problems.append((~qty.bad & (qty.mantissa <= 0), feed.qty, "is not above zero"))
            columns |= {"qty": qty.mantissa, "qty_digits": qty.digits}
            if feed.side != feed.qty:
                columns["taker_side"] = self._sides(texts, problems)
        if feed.table == "trades":
            columns["trade_id"] = self._ids(texts)
        columns["market"] = self._markets(texts, market_of)
        return self._kept(texts, columns, problems)

    def _bands(
        self,
        texts: Texts,
        ts: Array,
        problems: list[tuple[Array, str, str]],
        market_of: Callable[[str, Path], int],
    ) -> Columns:
        """Return rows of percentage bands as they stand, for :func:`market_data.levels_of_bands`."""
        feed = self._opened.feed
        columns: Columns = {"ts": ts}
        for name, key in (("percentage", feed.side), ("depth", feed.qty), ("notional", feed.price)):
            numbers = _numbers(texts.columns[key])
            problems.append((numbers.bad, key, "is no plain decimal number"))
            columns[name] = numbers.mantissa / 10.0**numbers.digits
        columns["market"] = self._markets(texts, market_of)
        return self._kept(texts, columns, problems)

    def _moments(self, texts: Texts, problems: list[tuple[Array, str, str]]) -> Array:
        feed = self._opened.feed
        column = texts.columns[feed.time]
        if feed.unit == "iso":
            column = pc.replace_substring_regex(column, "^([0-9-]{10})D", "\\1T")  # BitMEX writes D for T
            try:
                ts = column.cast(pa.timestamp("ns")).cast(pa.int64()).to_numpy()
            except pa.ArrowInvalid:
                ts = np.array([_iso(text) for text in column.to_pylist()], np.int64)
            bad = ts == 0
        else:
            numbers: Numbers = parse_numbers(column)
            power = _UNITS[feed.unit]
            places = numbers.digits.astype(np.int64)
            factor = 10 ** np.clip(power - places, 0, 18)
            beyond = np.abs(numbers.mantissa) > (1 << 62) // factor
            ts = np.where(beyond, 0, numbers.mantissa) * factor // 10 ** np.clip(places - power, 0, 18)
            bad = numbers.bad | beyond
        problems.append((bad, feed.time, "is no moment"))
        outside = ~bad & ((ts < _EARLIEST) | (ts >= _LATEST))
        problems.append((outside, feed.time, "is not between 2015 and 2035"))
        return np.asarray(ts + feed.added, np.int64)

    def _sides(self, texts: Texts, problems: list[tuple[Array, str, str]]) -> Array:
        feed = self._opened.feed
        if not feed.side:
            return np.zeros(texts.rows, np.int8)
        words = pc.utf8_lower(texts.columns[feed.side])
        sides = np.full(texts.rows, 2, np.int8)
        for word, side in feed.sides.items():
            sides[pc.equal(words, word).to_numpy(zero_copy_only=False)] = side
        problems.append((sides == 2, feed.side, f"is none of {', '.join(feed.sides)}"))
        return sides

    def _ids(self, texts: Texts) -> Array:
        feed = self._opened.feed
        if not feed.trade_id:
            return np.full(texts.rows, -1, np.int64)
        numbers = parse_numbers(texts.columns[feed.trade_id])
        is_id = ~numbers.bad & (numbers.digits == 0)
        self._counts["trade ids that are no numbers"] += int((~is_id).sum())
        return np.asarray(np.where(is_id, numbers.mantissa, -1))

    def _markets(self, texts: Texts, market_of: Callable[[str, Path], int]) -> Array:
        feed, file = self._opened.feed, texts.file
        if feed.symbol:
            encoded = texts.columns[feed.symbol].dictionary_encode()
            numbers = np.array(
                [market_of(symbol, file) for symbol in encoded.dictionary.to_pylist()], np.int32
            )
            return np.asarray(numbers[encoded.indices.to_numpy(zero_copy_only=False)])
        match = re.search(feed.file_symbol, file.name)
        if match is None:
            raise SourceError(
                "its name does not tell the symbol",
                file=file,
                mend=f"expected is a name like {feed.file_symbol}",
            )
        return np.full(texts.rows, market_of(match.group(1), file), np.int32)

    def _kept(self, texts: Texts, columns: Columns, problems: list[tuple[Array, str, str]]) -> Columns:
        """Set bad rows aside, then see that the rest is in order of time."""
        bad = np.zeros(texts.rows, bool)
        for mask, key, reason in problems:
            for row in np.flatnonzero(mask & ~bad).tolist():
                found = texts.columns[key][row].as_py()
                self._rejects.add(
                    f"{found!r} {reason}",
                    file=texts.file,
                    line=texts.line + row,
                    key=key,
                    text=texts.text(row),
                )
            bad |= mask
        kept = np.flatnonzero(~bad)
        if len(kept) != texts.rows:
            columns = {name: column[kept] for name, column in columns.items()}
        ts = columns["ts"]
        if len(ts) and self._opened.feed.by_arrival:
            later = np.maximum.accumulate(np.concatenate(([self._last], ts)))[1:]
            self._counts["moments before that of the row before"] += int((later != ts).sum())
            ts = columns["ts"] = later
        if len(ts):
            before = np.concatenate(([self._last], ts[:-1]))
            late = np.flatnonzero(ts < before)
            if len(late):
                raise SourceError(
                    "is older than the row before it: the file is not in order of time",
                    file=texts.file,
                    row=texts.line + int(kept[late[0]]),
                    key=self._opened.feed.time,
                    mend="sort the file by its time",
                )
            self._last = int(ts[-1])
        return columns


_EXPONENT = re.compile(r"\d+(\.\d+)?e[+-]?\d{1,2}", re.ASCII | re.IGNORECASE)


def _numbers(column: pa.StringArray) -> Numbers:
    """Read plain decimals, and those of an exponent (``1e-8``), as which some writers print small numbers."""
    numbers = parse_numbers(column)
    for row in np.flatnonzero(numbers.bad).tolist():
        text = column[row].as_py()
        if _EXPONENT.fullmatch(text):
            try:
                numbers.mantissa[row], numbers.digits[row] = parse_number(f"{Decimal(text):f}")
            except ValueError:
                continue
            numbers.bad[row] = False
    return numbers


def _with_text(texts: Texts, column: str) -> Texts:
    """Return the rows that have something in a column; lines of errors are then approximate."""
    kept = pc.not_equal(texts.columns[column], "")
    columns = {name: values.filter(kept) for name, values in texts.columns.items()}
    return Texts(texts.file, texts.line, columns, len(columns[column]))


def _iso(text: str) -> int:
    try:
        return parse_time(text)
    except ValueError:
        return 0
