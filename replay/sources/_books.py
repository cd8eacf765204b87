"""Recorded order books in columns of text to price levels: one snapshot a second, in bounded memory.

A recorder writes a book at each change, many times a second. Of each second the last state is kept, at its own
moment, so that nothing is known before it happened. Rows of one moment and market are one snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from replay.sources._csv import Texts
from replay.sources._feed_reader import FeedReader
from replay.sources._merge import Columns
from replay.sources._numbers import Numbers, parse_numbers
from replay.tape.schema import Side
from replay.units import NS_PER_SECOND

Ints = npt.NDArray[np.int64]

DEEPEST = 25
"""Levels of a side that are kept of a book of changes."""

BOOK_DIGITS = 12
"""Decimals in which prices of a book of changes are compared; a finer price is set aside."""

_POWERS = [10**k for k in range(BOOK_DIGITS + 1)]


class SnapshotReader(FeedReader):
    """Reads rows that each hold a whole book, best levels first: quotes, snapshots of 5 or 25 levels.

    Empty cells and quantities of zero are no levels.
    """

    def batches(self, market_of: Callable[[str, Path], int]) -> Iterator[Columns]:
        """Yield the levels of the last book of each second, in order of the file."""
        held: _Rows | None = None
        for rows in self._rows():
            if held is not None:
                rows = held.followed_by(rows)
            ends = np.flatnonzero(np.diff(rows.ts // NS_PER_SECOND))
            held = rows.take(np.array([len(rows.ts) - 1]))
            if len(ends):
                yield self._levels(rows.take(ends), market_of)
        if held is not None:
            yield self._levels(held, market_of)

    def _rows(self) -> Iterator[_Rows]:
        """Yield the rows that have a moment; moments never fall."""
        last = -(1 << 63)
        for texts in self._texts():
            self._counts["rows read"] += texts.rows
            problems: list[tuple[Any, str, str]] = []
            ts = self._moments(texts, problems)
            rows = _Rows(texts, ts, texts.line + np.arange(texts.rows))
            bad = np.zeros(texts.rows, bool)
            for mask, key, reason in problems:
                self._set_aside(rows, mask & ~bad, key, reason)
                bad |= mask
            rows = rows.take(np.flatnonzero(~bad))
            if len(rows.ts):
                later = np.maximum.accumulate(np.concatenate(([last], rows.ts)))[1:]
                self._opened.note_moved(rows.ts, later, self._counts)
                last = int(later[-1])
                yield replace(rows, ts=later)

    def _set_aside(self, rows: _Rows, mask: npt.NDArray[np.bool_], key: str, reason: str) -> None:
        for row in np.flatnonzero(mask).tolist():
            self._rejects.add(
                f"{rows.texts.columns[key][row].as_py()!r} {reason}",
                file=rows.texts.file,
                line=int(rows.lines[row]),
                key=key,
                text=rows.texts.text(row),
            )

    def _levels(self, rows: _Rows, market_of: Callable[[str, Path], int]) -> Columns:
        count, levels = len(rows.ts), self._opened.feed.levels
        bad = np.zeros(count, bool)
        parts: list[tuple[Side, Numbers, Numbers]] = []
        for side, *names in levels:
            numbers = [_numbers_or_zero(rows.texts.columns[name]) for name in names]
            for name, column in zip(names, numbers, strict=True):
                wrong = column.bad | (column.mantissa < 0)
                self._set_aside(rows, wrong & ~bad, name, "is no plain decimal number of 0 or more")
                bad |= wrong
            parts.append((side, numbers[0], numbers[1]))
        columns = {
            "ts": np.tile(rows.ts, len(parts)),
            "market": np.tile(self._markets(rows.texts, market_of), len(parts)),
            "side": np.repeat(np.array([int(part[0]) for part in parts], np.int8), count),
            "price": np.concatenate([part[1].mantissa for part in parts]),
            "price_digits": np.concatenate([part[1].digits for part in parts]),
            "qty": np.concatenate([part[2].mantissa for part in parts]),
            "qty_digits": np.concatenate([part[2].digits for part in parts]),
        }
        fine = (columns["price"] > 0) & (columns["qty"] > 0) & ~np.tile(bad, len(parts))
        kept = np.flatnonzero(fine)
        kept = kept[np.argsort(kept % count, kind="stable")]
        return {name: column[kept] for name, column in columns.items()}


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of a file with their moments and line numbers."""

    texts: Texts
    ts: Ints
    lines: Ints

    def take(self, rows: Ints) -> _Rows:
        """Return some rows."""
        if len(rows) == len(self.ts):
            return self
        columns = {name: column.take(pa.array(rows)) for name, column in self.texts.columns.items()}
        return _Rows(replace(self.texts, columns=columns, rows=len(rows)), self.ts[rows], self.lines[rows])

    def followed_by(self, other: _Rows) -> _Rows:
        """Return these rows and others after them."""
        columns = {
            name: pa.concat_arrays([column, other.texts.columns[name]])
            for name, column in self.texts.columns.items()
        }
        ts, lines = np.concatenate((self.ts, other.ts)), np.concatenate((self.lines, other.lines))
        return _Rows(replace(other.texts, columns=columns, rows=len(ts)), ts, lines)


def _numbers_or_zero(column: pa.StringArray) -> Numbers:
    """Read a column of plain decimals in which a blank cell is 0."""
    return parse_numbers(pc.if_else(pc.equal(column, ""), "0", column))


class ChangesReader(SnapshotReader):
    """Reads a book of changes: each row sets the quantity of one level, zero takes it away.

    Rows before the first snapshot say nothing. A run of snapshot rows after changes clears the book, since the
    recorder was connected anew.
    """

    def batches(self, market_of: Callable[[str, Path], int]) -> Iterator[Columns]:
        """Yield the best levels of the book at the end of each second, in order of the file."""
        books: dict[int, _Book] = {}
        for rows in self._rows():
            done = list(self._apply(rows, books, market_of))
            if done:
                yield {name: np.concatenate([part[name] for part in done]) for name in done[0]}
        for market in sorted(books, key=lambda market: (books[market].ts, market)):
            if books[market].has_snapshot:
                yield books[market].levels(market)

    def _apply(
        self, rows: _Rows, books: dict[int, _Book], market_of: Callable[[str, Path], int]
    ) -> Iterator[Columns]:
        feed, columns = self._opened.feed, rows.texts.columns
        price, qty = (parse_numbers(columns[name]) for name in (feed.price, feed.qty))
        sides = _coded(columns[feed.side], ("bid", "ask"))
        flags = _coded(columns[feed.snapshot], ("false", "true"))
        bad = np.zeros(len(rows.ts), bool)
        for mask, key, reason in (
            (sides < 0, feed.side, "is neither bid nor ask"),
            (flags < 0, feed.snapshot, "is neither true nor false"),
            (price.bad | (price.mantissa <= 0), feed.price, "is no plain decimal number above 0"),
            (price.digits > BOOK_DIGITS, feed.price, f"has more than {BOOK_DIGITS} decimals"),
            (qty.bad | (qty.mantissa < 0), feed.qty, "is no plain decimal number of 0 or more"),
        ):
            self._set_aside(rows, mask & ~bad, key, reason)
            bad |= mask
        markets = self._markets(rows.texts, market_of)
        kept = np.flatnonzero(~bad)
        columns_kept = (
            rows.ts,
            markets,
            flags,
            sides,
            price.mantissa,
            price.digits,
            qty.mantissa,
            qty.digits,
        )
        for ts, market, flag, side, mantissa, digits, amount, places in zip(
            *(column[kept].tolist() for column in columns_kept), strict=True
        ):
            book = books.get(market)
            if book is None:
                book = books[market] = _Book()
            elif book.has_snapshot and ts // NS_PER_SECOND != book.ts // NS_PER_SECOND:
                yield book.levels(market)
            book.set(ts, flag, side, mantissa * _POWERS[BOOK_DIGITS - digits], (amount, places))


def _coded(column: pa.StringArray, words: tuple[str, str]) -> npt.NDArray[np.int8]:
    """Return 0 or 1 for each of two words, -1 for any other."""
    codes = np.full(len(column), -1, np.int8)
    for code, word in enumerate(words):
        codes[pc.equal(column, word).to_numpy(zero_copy_only=False)] = code
    return codes


class _Book:
    """The levels of one market: quantity (mantissa, digits) by price in 1e-12."""

    def __init__(self) -> None:
        self.ts = 0
        self.has_snapshot = False
        self._was_snapshot = False
        self._sides: tuple[dict[int, tuple[int, int]], dict[int, tuple[int, int]]] = ({}, {})

    def set(self, ts: int, snapshot: int, side: int, price: int, qty: tuple[int, int]) -> None:
        """Take one row; ``snapshot`` is 1 or 0."""
        if snapshot and not self._was_snapshot:
            for levels in self._sides:
                levels.clear()
            self.has_snapshot = True
        self._was_snapshot = bool(snapshot)
        if not self.has_snapshot:
            return
        self.ts = ts
        if qty[0]:
            self._sides[side][price] = qty
        else:
            self._sides[side].pop(price, None)

    def levels(self, market: int) -> Columns:
        """Return the best :data:`DEEPEST` levels of each side."""
        rows = [
            (side, price, *self._sides[side][price])
            for side in (Side.BID, Side.ASK)
            for price in sorted(self._sides[side], reverse=side == Side.BID)[:DEEPEST]
        ]
        return level_columns(self.ts, market, rows)


def level_columns(ts: int, market: int, rows: list[tuple[Side, int, int, int]]) -> Columns:
    """Return rows of (side, price in 1e-12, mantissa and digits of the quantity) as columns of a table."""
    places = [price_digits(price) for _, price, _, _ in rows]
    return {
        "ts": np.full(len(rows), ts, np.int64),
        "market": np.full(len(rows), market, np.int32),
        "side": np.array([int(row[0]) for row in rows], np.int8),
        "price": np.array(
            [row[1] // 10 ** (BOOK_DIGITS - d) for row, d in zip(rows, places, strict=True)], np.int64
        ),
        "price_digits": np.array(places, np.int8),
        "qty": np.array([row[2] for row in rows], np.int64),
        "qty_digits": np.array([row[3] for row in rows], np.int8),
    }


@lru_cache(maxsize=1 << 16)
def price_digits(price: int) -> int:
    """Return the fewest decimals that hold a price in 1e-12."""
    digits = BOOK_DIGITS
    while digits and price % 10 == 0:
        price //= 10
        digits -= 1
    return digits
