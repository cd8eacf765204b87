"""Kept answers and messages of Deribit's public API: trades, books, tickers, funding, bankruptcies, as whole numbers.

Format from tape-formats.md section 5.2. Amounts are dollars of an inverse contract and coins of a linear one.
"""

from __future__ import annotations

import json
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from replay.errors import SourceError
from replay.sources._book_lines import Level, LineBook, line_level, moment
from replay.sources._books import level_columns
from replay.sources._json import read_values
from replay.sources._merge import Columns
from replay.sources._numbers import number_of
from replay.sources._read import Lines, check_held
from replay.sources._rejects import Rejects
from replay.sources.feeds import BookMessage
from replay.units import (
    MONEY_SCALE,
    NS_PER_SECOND,
    RATE_SCALE,
    parse_decimal,
    rescale,
)

_NAME = re.compile(r"[A-Z0-9]+(?:_(?:USDC|USDT))?-(?:PERPETUAL|\d{1,2}[A-Z]{3}\d{2})")
_IN_FILE = re.compile(rf"(?<![A-Z0-9_])({_NAME.pattern})(?![A-Z0-9-])")
_DIRECTIONS = {"buy": 1, "sell": -1}
FLAGS = {"": 0, "T": 1, "M": 2, "MT": 3}
"""Who was liquidated: bit 0 the taker, bit 1 the maker."""

TRADES = ("ts", "number", "market", "price", "price_digits", "qty", "qty_digits", "side", "flag")
PRICES = ("ts", "place", "market", "is_mark", "price", "price_digits")
FUNDING = ("ts", "market", "rate")
BANKRUPTCIES = ("ts", "market", "is_shared", "amount")
_LOSSES = ("session_bankruptcy", "session_bankrupcy")  # the API spells it both ways


class Table:
    """Rows of whole numbers, one after the other."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.cells = array("q")

    def add(self, *row: int) -> None:
        """Append a row, a number for each name."""
        self.cells.extend(row)

    def __len__(self) -> int:
        return len(self.cells) // len(self.names)


_decimal = lru_cache(maxsize=1 << 14)(parse_decimal)
"""Prices, marks and amounts come again and again."""


def _number(row: Mapping[str, Any], key: str, *, positive: bool = True) -> tuple[int, int]:
    found = row.get(key)
    if type(found) is not str:
        raise ValueError(f"lacks {key}" if found is None else f"{key} is no number")
    return number_of(key, found, positive=positive, parse=_decimal)


def _whole(row: Mapping[str, Any], key: str) -> int:
    mantissa, digits = _number(row, key)
    if digits:
        raise ValueError(f"{key} {row[key]} is no whole number")
    return mantissa


def _text(row: Mapping[str, Any], key: str) -> str:
    if type(row.get(key)) is not str:
        raise ValueError(f"lacks {key}")
    return str(row[key])


def is_future(name: str) -> bool:
    """Tell whether an instrument is a perpetual or a dated future; the others are options, combos and spot."""
    return _NAME.fullmatch(name) is not None


class Reading:
    """What all files hold.

    Args:
        market_of: Gives the number of an instrument.
        rejects: Where rows go that are not understood.
    """

    def __init__(self, market_of: Callable[[str, Path], int], rejects: Rejects) -> None:
        self.trades, self.prices, self.funding = Table(TRADES), Table(PRICES), Table(FUNDING)
        self.bankruptcies = Table(BANKRUPTCIES)
        self.depth: list[Columns] = []
        self.counts: Counter[str] = Counter()
        self._market_of = market_of
        self._rejects = rejects
        self._books: dict[str, LineBook] = {}
        self._changes: dict[str, int] = {}
        self._file = Path()
        self._markets: dict[str, int | None] = {}

    def read(self, lines: Lines) -> None:
        """Read a file.

        Raises:
            SourceError: It is no JSON, or a row is bad while rows are not set aside.
        """
        self._file = lines.path
        for line, document in read_values(lines):
            check_held(self.counts["rows read"], self._file)
            try:
                parts = list(_parts(document))
            except ValueError as failure:
                self.counts["rows read"] += 1
                self._set_aside(failure, line, document)
                continue
            for take, items in parts:
                for place, item in enumerate(items):
                    self.counts["rows read"] += 1
                    try:
                        if not isinstance(item, Mapping):
                            raise ValueError("a row is no object")
                        getattr(self, take)(item)
                    except ValueError as failure:
                        self._set_aside(failure, line, item, place)

    def _set_aside(self, failure: ValueError, line: int, item: Any, place: int | None = None) -> None:
        shown = json.dumps(item, ensure_ascii=False)[:10_000]
        self._rejects.add(str(failure), file=self._file, line=line, text=shown, item=place)

    def finish(self) -> None:
        """Keep what the books stood at in their last second."""
        for symbol, book in self._books.items():
            self._keep(symbol, book)

    def _market(self, row: Mapping[str, Any]) -> int | None:
        """Return the number of a row's market; None for what is no future, which is counted."""
        name = _text(row, "instrument_name")
        if name not in self._markets:
            self._markets[name] = self._market_of(name, self._file) if is_future(name) else None
        market = self._markets[name]
        self.counts["rows of options, combinations and spot left out"] += market is None
        return market

    def _trade(self, row: Mapping[str, Any]) -> None:
        market = self._market(row)
        if market is None:
            return
        ts = moment(row.get("timestamp"))
        side = _DIRECTIONS.get(_text(row, "direction"))
        if side is None:
            raise ValueError(f"direction {row['direction']!r} is none of {', '.join(_DIRECTIONS)}")
        flag = FLAGS.get(row.get("liquidation") or "")
        if flag is None:
            raise ValueError(f"liquidation {row['liquidation']!r} is none of T, M, MT")
        price, amount, number = _number(row, "price"), _number(row, "amount"), _whole(row, "trade_seq")
        told = [
            (kind, _number(row, key)) for key, kind in (("mark_price", 1), ("index_price", 0)) if row.get(key)
        ]
        self.trades.add(ts, number, market, *price, *amount, side, flag)
        for kind, found in told:
            self.prices.add(ts, number, market, kind, *found)

    def _ticker(self, row: Mapping[str, Any]) -> None:
        market = self._market(row)
        if market is None:
            return
        ts, mark, index = (
            moment(row.get("timestamp")),
            _number(row, "mark_price"),
            _number(row, "index_price"),
        )
        self.prices.add(ts, 0, market, 1, *mark)
        self.prices.add(ts, 0, market, 0, *index)

    def _market_of_answer(self, row: Mapping[str, Any]) -> int | None:
        """Return the market of a row that may leave it to the name of its file or folder."""
        name = row.get("instrument_name")
        if name is None:
            match = _IN_FILE.search(self._file.name) or _IN_FILE.search(self._file.parent.name)
            if match is None:
                raise ValueError(
                    "its market is told neither by the answer nor by a file name such as BTC-PERPETUAL.json"
                )
            name = match[1]
        return self._market({"instrument_name": name})

    def _settlement(self, row: Mapping[str, Any]) -> None:
        """Keep the losses of a session beyond what accounts had, and the part of them that was shared."""
        kind = _text(row, "type")
        if kind in ("settlement", "delivery"):
            self.counts["settlements and deliveries left out"] += 1
            return
        if kind != "bankruptcy":
            raise ValueError(f"type {kind!r} is none of settlement, delivery, bankruptcy")
        market = self._market_of_answer(row)
        if market is None:
            return
        ts = moment(row.get("timestamp"))
        lost = next((key for key in _LOSSES if key in row), _LOSSES[0])
        for is_shared, key in ((0, lost), (1, "socialized")):
            amount, _ = rescale(*_number(row, key, positive=False), MONEY_SCALE)
            if amount or not is_shared:
                self.bankruptcies.add(ts, market, is_shared, abs(amount))

    def _interest(self, row: Mapping[str, Any]) -> None:
        market = self._market_of_answer(row)
        if market is None:
            return
        ts = moment(row.get("timestamp"))
        rate, _ = rescale(*_number(row, "interest_1h", positive=False), RATE_SCALE)
        self.funding.add(ts, market, rate)
        self.prices.add(ts - 1, 0, market, 0, *_number(row, "index_price"))

    def _book(self, row: Mapping[str, Any]) -> None:
        if self._market(row) is None:
            return
        symbol, ts, change = (
            _text(row, "instrument_name"),
            moment(row.get("timestamp")),
            _whole(row, "change_id"),
        )
        sides = {side: _levels(row.get(side)) for side in ("bids", "asks")}
        previous = row.get("prev_change_id")
        plain = any(len(level) == 2 for side in sides.values() for level in side)
        is_snapshot = plain or row.get("type") == "snapshot" or previous is None
        levels: tuple[list[Level], list[Level]] = (
            [line_level(*level[-2:]) for level in sides["bids"]],
            [line_level(*level[-2:]) for level in sides["asks"]],
        )
        book = self._books.get(symbol)
        if book is None:
            book = self._books[symbol] = LineBook()
        elif ts < book.ts:
            raise SourceError(
                f"is older than the message of {symbol} before it",
                file=self._file,
                mend="name files of books so that their names sort by time",
            )
        elif ts // NS_PER_SECOND != book.ts // NS_PER_SECOND:
            self._keep(symbol, book)
        follows = str(previous) == str(self._changes.get(symbol))
        number = (book.update or 0) + (1 if follows else 2)
        gap = book.take(BookMessage(symbol, ts, is_snapshot, [], [], number), levels)
        self.counts["gaps in the numbers of books"] += gap and book.has_snapshot
        self._changes[symbol] = change
        book.ts = ts

    def _keep(self, symbol: str, book: LineBook) -> None:
        if book.has_snapshot and (rows := book.rows()):
            self.depth.append(level_columns(book.ts, self._market_of(symbol, self._file), rows))

    def _other(self, _row: Mapping[str, Any]) -> None:
        self.counts["messages of other channels"] += 1


def _levels(found: Any) -> list[list[str]]:
    """Return levels as [action, price, amount] or [price, amount]; a deleted one has the amount 0."""
    if not isinstance(found, list):
        raise ValueError("has no bids or no asks")
    levels = []
    for level in found:
        if (
            not isinstance(level, list)
            or len(level) not in (2, 3)
            or not all(type(part) is str for part in level)
        ):
            raise ValueError(f"{level!r} is no level")
        if len(level) == 3 and level[0] not in ("new", "change", "delete"):
            raise ValueError(f"the action {level[0]!r} of a level is none of new, change, delete")
        levels.append([*level[:2], "0"] if level[0] == "delete" else level)
    return levels


_CHANNELS = {"trades": "_trade", "book": "_book", "ticker": "_ticker"}


def _parts(document: Any) -> Iterator[tuple[str, list[Any]]]:
    """Yield the rows of a document with the method that takes them."""
    if not isinstance(document, Mapping):
        raise ValueError("is no object of Deribit's API")
    if "error" in document:
        raise ValueError(f"is an error of Deribit's API: {json.dumps(document['error'])[:120]}")
    params = document.get("params")
    if isinstance(params, Mapping) and "channel" in params:
        take = _CHANNELS.get(_text(params, "channel").partition(".")[0], "_other")
        data = params.get("data")
        yield take, data if isinstance(data, list) else [data]
        return
    inner = document.get("result", document)
    if isinstance(inner, Mapping) and "trades" in inner:
        if not isinstance(inner["trades"], list):
            raise ValueError("trades is no list")
        yield "_trade", inner["trades"]
    elif isinstance(inner, Mapping) and "settlements" in inner:
        if not isinstance(inner["settlements"], list):
            raise ValueError("settlements is no list")
        yield "_settlement", inner["settlements"]
    elif isinstance(inner, list) and all(isinstance(row, Mapping) and "interest_1h" in row for row in inner):
        yield "_interest", inner
    elif isinstance(inner, Mapping) and {"bids", "asks", "change_id"} <= inner.keys():
        yield "_book", [inner]
        if "mark_price" in inner:
            yield "_ticker", [inner]
    elif isinstance(inner, Mapping) and "trade_seq" in inner:
        yield "_trade", [inner]
    elif isinstance(inner, Mapping) and "interest_1h" in inner:
        yield "_interest", [inner]
    elif "result" in document and "jsonrpc" in document and not isinstance(inner, Mapping):
        yield "_other", [document]  # the confirmation of a subscription, a moment
    else:
        raise ValueError(
            f"has the keys {', '.join(map(str, document))[:120]}, which are of no answer that is read"
        )
