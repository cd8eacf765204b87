"""Books of changes as lines of JSON, as Bybit and OKX publish them, to price levels: one book a second.

A message is a snapshot, which replaces the book, or the levels that changed; a quantity of zero takes a level away.
The last state of each second is kept at its own moment. All of a book is kept: the best 25 levels of a side as they
are, those beyond in groups, each a level at the mean price of what is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from replay.sources._books import BOOK_DIGITS, DEEPEST, level_columns, price_digits
from replay.sources._feed_reader import EARLIEST, LATEST, FeedReader
from replay.sources._merge import Columns
from replay.sources._numbers import parse_number
from replay.sources._read import Lines
from replay.sources.feeds import BookMessage
from replay.tape.schema import Side
from replay.units import NS_PER_MS, NS_PER_SECOND, divide_half_even

_BATCH = 65_536
_LARGEST = 10**18

Level = tuple[int, int, int]
"""Price in 1e-12, mantissa and digits of the quantity."""


def moment(found: Any) -> int:
    """Return milliseconds, a whole number or its text, as ns.

    Raises:
        ValueError: It is neither, or not between 2015 and 2035.
    """
    if type(found) is not int and not (type(found) is str and found.isascii() and found.isdecimal()):
        raise ValueError(f"{found!r} is no moment in milliseconds")
    ts = int(found) * NS_PER_MS
    if not EARLIEST <= ts < LATEST:
        raise ValueError(f"the moment {found} is not between 2015 and 2035")
    return ts


@lru_cache(maxsize=1 << 16)
def _price(text: str) -> int:
    """Return a price in 1e-12; 0 for what is none. Prices come again and again, each with other quantities."""
    mantissa, digits = parse_number(text)
    return max(0, mantissa) * int(10 ** (BOOK_DIGITS - digits)) if digits <= BOOK_DIGITS else 0


_amount = lru_cache(maxsize=1 << 16)(parse_number)


def line_level(price: str, qty: str) -> Level:
    """Return a level of two texts; a quantity of zero takes it away.

    Raises:
        ValueError: They are no numbers of a level.
    """
    found = _price(price)
    amount, places = _amount(qty)
    if found == 0 or amount < 0:
        raise ValueError(f"a level of {qty} at {price} is none")
    return found, amount, places


def grouped(levels: list[Level]) -> list[Level]:
    """Return the best levels as they are, and those beyond in groups, each of as many as there are before it.

    A group is one level: its quantity is the sum, its price the mean by quantity, rounded to the decimals of its
    prices. A group whose sum has more than 18 digits stays as it is.
    """
    kept, end = levels[:DEEPEST], DEEPEST
    while end < len(levels):
        group = levels[end : 2 * end]
        end *= 2
        places = max(digits for _, _, digits in group)
        amounts = [amount * 10 ** (places - digits) for _, amount, digits in group]
        if sum(amounts) >= _LARGEST:
            kept += group
            continue
        step = 10 ** (BOOK_DIGITS - max(price_digits(price) for price, _, _ in group))
        value = sum(price * amount for (price, _, _), amount in zip(group, amounts, strict=True))
        kept.append((divide_half_even(value, sum(amounts) * step) * step, sum(amounts), places))
    return kept


class LineBook:
    """The book of one market: quantity (mantissa, digits) by price in 1e-12, on each side."""

    def __init__(self) -> None:
        """Begin with nothing; changes count from the first snapshot on."""
        self.ts = 0
        self.update: int | None = None
        self.has_snapshot = False
        self._sides: tuple[dict[int, tuple[int, int]], dict[int, tuple[int, int]]] = ({}, {})

    def take(self, message: BookMessage, sides: tuple[list[Level], list[Level]]) -> bool:
        """Apply a message; return whether messages before it are missing."""
        gap = not message.is_snapshot and None not in (self.update, message.update)
        gap = gap and message.update != (self.update or 0) + 1
        self.update = message.update
        if message.is_snapshot:
            self.has_snapshot = True
            for levels in self._sides:
                levels.clear()
        if self.has_snapshot:
            for levels, changes in zip(self._sides, sides, strict=True):
                for price, amount, digits in changes:
                    if amount:
                        levels[price] = (amount, digits)
                    else:
                        levels.pop(price, None)
        return gap

    def rows(self) -> list[tuple[Side, int, int, int]]:
        """Return side, price, mantissa and digits of each level, bids before asks, best first."""
        found = []
        for side, levels in zip((Side.BID, Side.ASK), self._sides, strict=True):
            best = [(price, *levels[price]) for price in sorted(levels, reverse=side == Side.BID)]
            found += [(side, *level) for level in grouped(best)]
        return found


class BookLinesReader(FeedReader):
    """Reads lines of JSON by the feed's ``parse``; messages before the first snapshot of a market say nothing."""

    def batches(self, market_of: Callable[[str, Path], int]) -> Iterator[Columns]:
        """Yield the last book of each second and market, in order of time."""
        books: dict[str, LineBook] = {}
        touched: dict[str, LineBook] = {}
        second = 0
        held: list[Columns] = []
        rows = 0
        for ts, message, sides in self._messages():
            if ts // NS_PER_SECOND != second:
                ended = self._ended(touched, market_of)
                held += ended
                rows += sum(len(part["ts"]) for part in ended)
                touched.clear()
                second = ts // NS_PER_SECOND
                if rows >= _BATCH:
                    yield _joined(held)
                    held, rows = [], 0
            book = books.setdefault(message.symbol, LineBook())
            if book.take(message, sides):
                self._counts["gaps in the numbers of books"] = (
                    self._counts.get("gaps in the numbers of books", 0) + 1
                )
            book.ts = ts
            touched[message.symbol] = book
        held += self._ended(touched, market_of)
        if held:
            yield _joined(held)

    def _messages(self) -> Iterator[tuple[int, BookMessage, tuple[list[Level], list[Level]]]]:
        """Yield moment, message and levels; a moment before that of the message before it is moved to that."""
        opened, last = self._opened, 0
        parse = opened.feed.parse
        assert parse is not None
        assert isinstance(opened.lines, Lines)
        for number, line in opened.lines:
            self._counts["rows read"] += 1
            try:
                message = parse(line)
                bids = [line_level(level[0], level[1]) for level in message.bids]
                asks = [line_level(level[0], level[1]) for level in message.asks]
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, IndexError) as failure:
                self._rejects.add(
                    f"is no message of a book that is understood: {type(failure).__name__} {failure}",
                    file=opened.lines.path,
                    line=number,
                    text=line.decode("utf-8", "backslashreplace"),
                )
                continue
            if message.ts < last:
                opened.note_moved(np.array([message.ts]), np.array([last]), self._counts)
            last = max(last, message.ts)
            yield last, message, (bids, asks)

    def _ended(self, touched: dict[str, LineBook], market_of: Callable[[str, Path], int]) -> list[Columns]:
        """Return the books that changed within a second, in order of their last moments."""
        return [
            level_columns(book.ts, market_of(symbol, self._opened.lines.path), book.rows())
            for symbol, book in sorted(touched.items(), key=lambda entry: (entry[1].ts, entry[0]))
            if book.has_snapshot
        ]


def _joined(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
