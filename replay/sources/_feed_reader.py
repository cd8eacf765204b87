"""Rows of one file of a feed as columns of a table, batch by batch; bad rows are set aside."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from replay.errors import SourceError
from replay.sources._csv import Texts, read_texts
from replay.sources._merge import Columns
from replay.sources._numbers import Numbers, parse_number, parse_numbers
from replay.sources._parquet import ParquetRows
from replay.sources._rejects import Rejects
from replay.sources.feeds import Opened
from replay.units import parse_time

Array = npt.NDArray[Any]

_INTEREST_DIGITS = 17  # of open interest, which some archives print with the noise of binary floating point
_UNITS = {"ns": 0, "us": 3, "ms": 6, "s": 9}
EARLIEST, LATEST = parse_time("2015-01-01"), parse_time("2036-01-01")


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
        for texts in self._texts():
            self._counts["rows read"] += texts.rows
            yield self._columns(texts, market_of)

    def _texts(self) -> Iterator[Texts]:
        """Yield the wanted columns as text, batch by batch."""
        opened = self._opened
        if isinstance(opened.lines, ParquetRows):
            return opened.lines.texts(opened.feed.wanted)
        return read_texts(
            opened.lines,
            self._rejects,
            names=opened.names,
            has_header=opened.has_header,
            wanted=opened.feed.wanted,
        )

    def _columns(self, texts: Texts, market_of: Callable[[str, Path], int]) -> Columns:
        feed = self._opened.feed
        if feed.skips_blank:
            texts = _with_text(texts, feed.price or feed.qty)
        problems: list[tuple[Array, str, str]] = []
        ts = self._moments(texts, problems)
        if feed.table == "bands":
            return self._bands(texts, ts, problems, market_of)
        if feed.table == "open_interest":
            return self._open_interest(texts, ts, problems, market_of)
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

    def _open_interest(
        self,
        texts: Texts,
        ts: Array,
        problems: list[tuple[Array, str, str]],
        market_of: Callable[[str, Path], int],
    ) -> Columns:
        """Return rows of open interest, which may be zero."""
        key = self._opened.feed.qty
        qty = parse_numbers(texts.columns[key], significant=_INTEREST_DIGITS)
        problems.append((qty.bad, key, "is no plain decimal number"))
        problems.append((~qty.bad & (qty.mantissa < 0), key, "is below zero"))
        columns: Columns = {"ts": ts, "qty": qty.mantissa, "qty_digits": qty.digits}
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
        outside = ~bad & ((ts < EARLIEST) | (ts >= LATEST))
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
            self._opened.note_moved(ts, later, self._counts)
            ts = columns["ts"] = later
        if len(ts) and not self._opened.feed.unordered:
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


class UnorderedReader(FeedReader):
    """Reads a small file whose rows are in any order, and sorts it; rows of other markets may be left out."""

    def batches(self, market_of: Callable[[str, Path], int]) -> Iterator[Columns]:
        """Yield all rows in order of time."""
        parts = list(super().batches(market_of))
        if not parts:
            return
        rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        kept = np.flatnonzero(rows["market"] >= 0)
        others = len(rows["ts"]) - len(kept)
        if others:
            self._counts["rows of other markets"] = self._counts.get("rows of other markets", 0) + others
        order = kept[np.argsort(rows["ts"][kept], kind="stable")]
        yield {name: column[order] for name, column in rows.items()}


_EXPONENT = re.compile(r"-?\d+(\.\d+)?e[+-]?\d{1,2}", re.ASCII | re.IGNORECASE)


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
