"""Market data files of comma-separated text, by declaration: which columns are what, and in which unit.

A :class:`Feed` declares one kind of file; :func:`load_feeds` reads files of several kinds side by side, puts
their rows in one order of time and writes a tape. A venue's module declares its feeds and says what its
symbols are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
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
from replay.progress import OnProgress
from replay.sources._csv import Texts, read_texts
from replay.sources._merge import Columns, merge_by_time
from replay.sources._numbers import Numbers, parse_number, parse_numbers
from replay.sources._read import Lines, Progress, first_line, name_inputs
from replay.sources._rejects import Rejects
from replay.tape.prices import LastBySecond, index_of, mark_of, price_rows
from replay.tape.schema import Payoff, PriceKind
from replay.tape.write import TapeWriter
from replay.units import parse_time

Array = npt.NDArray[Any]
TableName = Literal["trades", "prices", "funding", "depth", "bands"]

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
    """

    base: str
    payoff: Payoff
    settle: str
    multiplier: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class Feed:
    """One kind of file.

    Attributes:
        name: What the source calls it.
        table: What its rows become: ``trades``; ``prices`` of :attr:`kind`; ``funding`` rates.
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

    @property
    def wanted(self) -> list[str]:
        """Columns that are read."""
        names = (self.time, self.symbol, self.price, self.qty, self.side, self.trade_id)
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
    """

    venue: str
    importer: str
    feeds: tuple[Feed, ...]
    describe: Describe
    lacks: tuple[str, ...]
    assumes: tuple[str, ...]
    identify: Callable[[Path], Feed | None] = lambda _: None


@dataclass(slots=True)
class _Opened:
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


class _Reader:
    """Reads one file of a feed as columns of a table, batch by batch."""

    def __init__(self, opened: _Opened, rejects: Rejects, counts: dict[str, int]) -> None:
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
        price = _numbers(texts.columns[feed.price])
        problems.append((price.bad, feed.price, "is no plain decimal number"))
        columns: Columns = {"ts": ts}
        if feed.table == "funding":
            columns |= {"rate": price.mantissa, "rate_digits": price.digits.astype(np.int64)}
        else:
            problems.append((~price.bad & (price.mantissa <= 0), feed.price, "is not above zero"))
            columns |= {"price": price.mantissa, "price_digits": price.digits}
        if feed.table == "trades":
            qty = _numbers(texts.columns[feed.qty])
            if feed.side == feed.qty:
                columns["taker_side"] = np.sign(qty.mantissa).astype(np.int8)
                qty = qty._replace(mantissa=np.abs(qty.mantissa))
            problems.append((qty.bad, feed.qty, "is no plain decimal number"))
            problems.append((~qty.bad & (qty.mantissa <= 0), feed.qty, "is not above zero"))
            columns |= {"qty": qty.mantissa, "qty_digits": qty.digits}
            if feed.side != feed.qty:
                columns["taker_side"] = self._sides(texts, problems)
            columns["trade_id"] = self._ids(texts)
        columns["market"] = self._markets(texts, market_of)
        return self._kept(texts, columns, problems)

    def _moments(self, texts: Texts, problems: list[tuple[Array, str, str]]) -> Array:
        feed = self._opened.feed
        column = texts.columns[feed.time]
        if feed.unit == "iso":
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
        return np.where(is_id, numbers.mantissa, -1)

    def _markets(self, texts: Texts, market_of: Callable[[str, Path], int]) -> Array:
        feed, file = self._opened.feed, texts.file
        if feed.symbol:
            encoded = texts.columns[feed.symbol].dictionary_encode()
            numbers = np.array(
                [market_of(symbol, file) for symbol in encoded.dictionary.to_pylist()], np.int32
            )
            return numbers[encoded.indices.to_numpy(zero_copy_only=False)]
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


class _Markets:
    """Numbers of symbols: markets of the tape, and spot markets apart from it."""

    def __init__(self, family: Family, writer: TapeWriter) -> None:
        self._family = family
        self._writer = writer
        self.contracts: list[Contract] = []
        self.tape_market: list[int] = []  # -1 for spot
        self._numbers: dict[tuple[str, bool], int] = {}

    def number(self, symbol: str, file: Path) -> int:
        """Return the number of a symbol, describing it on first sight."""
        contract = self._family.describe(symbol, file)
        key = (f"{file.name.split('_', 1)[0]}:{symbol}" if contract.payoff == Payoff.SPOT else symbol, True)
        known = self._numbers.get(key)
        if known is not None:
            return known
        number = self._numbers[key] = len(self.contracts)
        self.contracts.append(contract)
        market = -1
        if contract.payoff != Payoff.SPOT:
            market = self._writer.market(
                symbol, settle=contract.settle, payoff=contract.payoff, multiplier=contract.multiplier
            )
        self.tape_market.append(market)
        return number


def load_feeds(
    family: Family,
    inputs: Sequence[Path],
    out: Path,
    *,
    force: bool,
    rejects: Path | None,
    on_progress: OnProgress | None,
) -> dict[str, Any]:
    """Import files of a family as a tape; see :class:`replay.sources.Load`.

    Raises:
        SourceError: A file of no known kind, or a row that cannot be understood.
        TapeError: ``out`` exists, or cannot be written.
    """
    found = [find_feed(family, file) for file in inputs]
    names = name_inputs(inputs)
    progress = Progress(inputs, on_progress)
    counts = {"rows read": 0, "trade ids that are no numbers": 0, "moments before that of the row before": 0}
    lasts: dict[int, LastBySecond] = {}
    digits: dict[int, int] = {}
    sources = []
    with TapeWriter(out, venue=family.venue, importer=family.importer, force=force) as writer:
        markets = _Markets(family, writer)
        with Rejects(rejects, inputs=inputs, out=out, force=force) as aside:
            for table in ("trades", "prices", "funding"):
                mine = [
                    (file, feed, columns, header)
                    for file, (feed, columns, header) in zip(inputs, found, strict=True)
                    if feed.table == table
                ]
                with ExitStack() as stack:
                    opened = [
                        _Opened(stack.enter_context(Lines(file, names[file])), feed, columns, header)
                        for file, feed, columns, header in mine
                    ]
                    streams = [
                        _with_kind(_Reader(part, aside, counts).batches(markets.number), part.feed)
                        for part in opened
                    ]
                    for batch in merge_by_time(streams, passed=_tells(progress, opened)):
                        _append(table, batch, markets, writer, lasts, digits, counts)
                    for part in opened:
                        progress.read(part.lines)
                        sources.append(part.lines.provenance())
        aside.check(counts["rows read"])
        assumed = list(family.assumes)
        has_marks = any(feed.table == "prices" and feed.kind == PriceKind.MARK for feed, _, _ in found)
        if not has_marks and any(market >= 0 for market in markets.tape_market):
            assumed += _make_prices(markets, lasts, digits, writer, counts)
        if not any(market >= 0 for market in markets.tape_market):
            raise SourceError(
                "no file holds a derivative",
                file=inputs[0],
                mend="add trades of a perpetual; spot alone is no tape",
            )
        progress.writing()
        manifest = writer.finish(
            sources=sources,
            lacks=family.lacks,
            assumptions=assumed,
            counts={**counts, "rows set aside": aside.count},
            accounts_start="unknown",
        )
    progress.finished()
    return manifest


def _tells(progress: Progress, opened: Sequence[_Opened]) -> Callable[[], None]:
    def tell() -> None:
        if opened:
            progress.reading(max((part.lines for part in opened), key=lambda lines: lines.bytes_read))

    return tell


def _with_kind(batches: Iterator[Columns], feed: Feed) -> Iterator[Columns]:
    for batch in batches:
        batch["kind"] = np.full(len(batch["ts"]), int(feed.kind), np.int8)
        yield batch


def _append(
    table: str,
    batch: Columns,
    markets: _Markets,
    writer: TapeWriter,
    lasts: dict[int, LastBySecond],
    digits: dict[int, int],
    counts: dict[str, int],
) -> None:
    """Append rows of derivatives to the tape; of spot only the last price by second is kept."""
    numbers = batch.pop("market")
    kind = batch.pop("kind")
    tape_market = np.array(markets.tape_market, np.int32)[numbers]
    if table == "trades":
        for number in np.unique(numbers).tolist():
            rows = np.flatnonzero(numbers == number)
            last = lasts.setdefault(number, LastBySecond())
            last.add(batch["ts"][rows], batch["price"][rows], batch["price_digits"][rows])
            digits[number] = max(digits.get(number, 0), int(batch["price_digits"][rows].max()))
        counts["spot trades"] = counts.get("spot trades", 0) + int((tape_market < 0).sum())
    mine = np.flatnonzero(tape_market >= 0)
    columns: dict[str, Any] = {name: column[mine] for name, column in batch.items()}
    columns["market"] = tape_market[mine]
    if table == "trades":
        columns["trade_id"] = pa.array(columns["trade_id"], mask=columns["trade_id"] < 0)
    elif table == "prices":
        columns["kind"] = kind[mine]
    else:
        places = columns.pop("rate_digits")
        columns["rate"] = (
            columns["rate"] * 10 ** np.clip(12 - places, 0, 12) // 10 ** np.clip(places - 12, 0, 18)
        )
    writer.append(table, columns)


def _make_prices(
    markets: _Markets,
    lasts: dict[int, LastBySecond],
    digits: dict[int, int],
    writer: TapeWriter,
    counts: dict[str, int],
) -> list[str]:
    """Write index and mark of each derivative; return what was assumed."""
    first = min(last.first for last in lasts.values())
    end = max(last.first + len(np.trim_zeros(last.prices, "b")) for last in lasts.values())
    seconds = end - first
    series: list[tuple[int, int, Array]] = []
    places: list[int] = []
    with_index, without, stale, left_out = 0, [], 0, 0
    for number, market in enumerate(markets.tape_market):
        if market < 0 or number not in lasts:
            continue
        base = markets.contracts[number].base
        spot = [
            lasts[other]
            for other, contract in enumerate(markets.contracts)
            if contract.payoff == Payoff.SPOT and contract.base == base and other in lasts
        ]
        index = np.zeros(seconds, np.int64)
        fine = digits[number] + 2
        if spot:
            made = index_of(spot, first, seconds)
            index, stale, left_out = made.price, stale + made.stale, left_out + made.left_out
            series.append((market, int(PriceKind.INDEX), index))
            places.append(fine)
            with_index += 1
        else:
            without.append(base)
        series.append((market, int(PriceKind.MARK), mark_of(index, lasts[number], first)))
        places.append(fine)
    for rows in price_rows(series, first, places):
        writer.append("prices", rows)
    counts["seconds with a held index"] = stale
    counts["spot prices left out"] = left_out
    assumed = []
    if with_index:
        assumed.append(
            f"Index of {with_index} markets: each second the median of the last spot trades that are not older "
            "than 60 s, without those 3 % from the median where three or more are fresh."
        )
        assumed.append(
            f"Mark of {with_index} markets: the median of index, last trade, and index plus basis "
            "smoothed over 30 s. "
            "The venue's published mark is not on the tape."
        )
    if without:
        names = ", ".join(sorted(set(without)))
        assumed.append(f"Mark of {names}: the last trade of each second, for want of spot trades.")
    return assumed
