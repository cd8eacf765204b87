"""Prices where a tape has none: an index from spot trades, and a mark from index and smoothed basis.

The last trade of each second and market is kept, so memory is that of the seconds of the span. A row that
is written at a second used only trades before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.kernels import i64, kernel
from replay.units import NS_PER_SECOND

Array = npt.NDArray[Any]

DIGITS = 8
"""Decimals in which prices are compared and averaged; results are rounded to those of the market."""

STALE_SECONDS = 60
OUTLIER_PERCENT = 3
BASIS_SECONDS = 30
"""Time constant of the mean of the basis."""

_POWERS = np.array([10**k for k in range(19)], np.int64)
_NONE = 0


@dataclass(slots=True)
class LastBySecond:
    """The last price of each second of one market, in 1e-8; seconds without a trade are 0."""

    first: int = -1
    prices: Array = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, ts: Array, mantissa: Array, digits: Array) -> None:
        """Take trades in order of time.

        Args:
            ts: int64 ns.
            mantissa: Prices as whole numbers.
            digits: Their decimals, at most :data:`DIGITS` of which count.
        """
        if len(ts) == 0:
            return
        seconds = ts // NS_PER_SECOND
        if self.first < 0:
            self.first = int(seconds[0])
        need = int(seconds[-1]) - self.first + 1
        if need > len(self.prices):
            grown = np.zeros(max(need, 2 * len(self.prices)), np.int64)
            grown[: len(self.prices)] = self.prices
            self.prices = grown
        places = digits.astype(np.int64)
        scaled = mantissa * _POWERS[np.clip(DIGITS - places, 0, 18)]
        scaled //= _POWERS[np.clip(places - DIGITS, 0, 18)]
        last = np.append(np.flatnonzero(np.diff(seconds)), len(seconds) - 1)
        self.prices[seconds[last] - self.first] = scaled[last]

    def over(self, first: int, seconds: int) -> Array:
        """Return the prices of seconds ``[first, first + seconds)``, 0 where there was no trade."""
        result = np.zeros(seconds, np.int64)
        start, end = max(first, self.first), min(first + seconds, self.first + len(self.prices))
        if self.first >= 0 and start < end:
            result[start - first : end - first] = self.prices[start - self.first : end - self.first]
        return result


@dataclass(frozen=True, slots=True)
class Index:
    """An index by second.

    Attributes:
        price: int64 in 1e-8, 0 before the first.
        stale: Seconds in which no venue was fresh and the last index was held.
        left_out: Prices left out as outliers, counted by second.
    """

    price: Array
    stale: int
    left_out: int


def index_of(venues: Sequence[LastBySecond], first: int, seconds: int) -> Index:
    """Return the median over spot venues, second by second.

    A venue counts while its last trade is not older than :data:`STALE_SECONDS`. Where three or more count,
    those further than :data:`OUTLIER_PERCENT` from the median of all are left out, and the median is taken
    again. Where none counts the last index is held. The median of an even count is the mean of the two in
    the middle, rounded down.
    """
    prices = np.stack([venue.over(first, seconds) for venue in venues], axis=1)
    price = np.zeros(seconds, np.int64)
    counts = np.zeros(2, np.int64)
    scratch = np.zeros(prices.shape[1], np.int64)
    _index(prices, STALE_SECONDS, OUTLIER_PERCENT, price, counts, scratch)
    return Index(price, int(counts[0]), int(counts[1]))


@kernel
def _median(values: Array, count: int) -> int:
    for i in range(1, count):
        value, at = values[i], i
        while at > 0 and values[at - 1] > value:
            values[at] = values[at - 1]
            at -= 1
        values[at] = value
    middle = count // 2
    if count % 2:
        return i64(values[middle])
    return i64(values[middle - 1] + (values[middle] - values[middle - 1]) // 2)


@kernel
def _index(prices: Array, stale: int, percent: int, result: Array, counts: Array, fresh: Array) -> None:
    seconds, venues = prices.shape
    held = 0
    for second in range(seconds):
        count = 0
        for venue in range(venues):
            back = second
            while back >= 0 and second - back <= stale and prices[back, venue] == 0:
                back -= 1
            if back >= 0 and second - back <= stale:
                fresh[count] = prices[back, venue]
                count += 1
        if count == 0:
            result[second] = held
            counts[0] += held != 0
            continue
        middle = _median(fresh, count)
        if count >= 3:
            kept = 0
            for i in range(count):
                if 100 * abs(fresh[i] - middle) <= percent * middle:
                    fresh[kept] = fresh[i]
                    kept += 1
            counts[1] += count - kept
            middle = _median(fresh, kept)
        held = middle
        result[second] = middle


def mark_of(index: Array, last: LastBySecond, first: int) -> Array:
    """Return the median of index, index plus smoothed basis, and last trade, second by second, in 1e-8.

    The basis is the last trade less the index; its mean moves by ``1 / BASIS_SECONDS`` of the difference a
    second. Without an index the mark is the last trade. Source: the form in which Binance describes its mark
    price, with the index for the price that adds funding to it.
    """
    own = last.over(first, len(index))
    marks = np.zeros(len(index), np.int64)
    _mark(index, own, 1.0 / BASIS_SECONDS, marks)
    return marks


@kernel
def _mark(index: Array, own: Array, weight: float, marks: Array) -> None:
    traded, basis, known = 0, 0.0, False
    for second in range(len(index)):
        if own[second] != 0:
            traded = own[second]
        if index[second] == 0:
            marks[second] = traded
            continue
        if traded != 0:
            apart = float(traded - index[second])
            basis = basis + weight * (apart - basis) if known else apart
            known = True
        smooth = index[second] + np.int64(np.round(basis))
        low, high = min(index[second], traded), max(index[second], traded)
        marks[second] = index[second] if traded == 0 else max(low, min(smooth, high))


def price_rows(
    series: Sequence[tuple[int, int, Array]], first: int, digits: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Yield rows of ``prices`` in order of time, one where a series changed, at the end of its second.

    Args:
        series: (market, kind, prices by second in 1e-8).
        first: The first second.
        digits: Decimals to which each series is rounded, half up.
    """
    seconds = len(series[0][2]) if series else 0
    rounded = []
    for (_, _, prices), places in zip(series, digits, strict=True):
        unit = 10 ** max(DIGITS - places, 0)
        rounded.append((prices + unit // 2) // unit)
    previous = [0] * len(series)
    for start in range(0, seconds, 3_600):
        end = min(start + 3_600, seconds)
        parts: list[tuple[Array, int, int, int, Array]] = []
        for number, (market, kind, _) in enumerate(series):
            part = rounded[number][start:end]
            before = np.concatenate(([previous[number]], part[:-1]))
            changed = np.flatnonzero((part != before) & (part > 0))
            previous[number] = int(part[-1])
            parts.append((changed, market, kind, min(digits[number], DIGITS), part[changed]))
        rows = np.concatenate([part[0] for part in parts])
        order = np.argsort(rows, kind="stable")
        counts = [len(part[0]) for part in parts]
        yield {
            "ts": ((rows + start + first + 1) * NS_PER_SECOND)[order],
            "market": np.repeat([part[1] for part in parts], counts)[order].astype(np.int32),
            "kind": np.repeat([part[2] for part in parts], counts)[order].astype(np.int8),
            "price": np.concatenate([part[4] for part in parts])[order],
            "price_digits": np.repeat([part[3] for part in parts], counts)[order].astype(np.int8),
        }
