"""Funding rates from tickers that tell the next payment: paid is the last rate told before its moment passed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from replay.sources._csv import Texts
from replay.sources._feed_reader import FeedReader
from replay.sources._merge import Columns
from replay.sources._numbers import parse_numbers


class NextFundingReader(FeedReader):
    """Reads rows of (moment of the next payment, rate so far); a payment is known when the next one is told.

    The rate of a payment that the file does not see pass is left out.
    """

    def batches(self, market_of: Callable[[str, Path], int]) -> Iterator[Columns]:
        """Yield a row a payment, in order of payments."""
        told: dict[int, tuple[int, int, int]] = {}
        last = -(1 << 63)
        for texts in self._texts():
            rows = sorted(self._payments(texts, told, market_of))
            moments = [max(last, row[0]) for row in rows]
            last = max([last, *moments])
            yield {
                "ts": np.array(moments, np.int64),
                "rate": np.array([row[2] for row in rows], np.int64),
                "rate_digits": np.array([row[3] for row in rows], np.int64),
                "market": np.array([row[1] for row in rows], np.int32),
            }

    def _payments(
        self, texts: Texts, told: dict[int, tuple[int, int, int]], market_of: Callable[[str, Path], int]
    ) -> list[tuple[int, int, int, int]]:
        """Return (moment, market, rate, digits) of the payments that a batch saw pass."""
        feed = self._opened.feed
        due, rate = (parse_numbers(texts.columns[name]) for name in (feed.due, feed.price))
        is_told = ~due.bad & ~rate.bad & (due.digits == 0) & (due.mantissa > 0)
        for name, numbers in ((feed.due, due), (feed.price, rate)):
            for row in np.flatnonzero(numbers.bad).tolist():
                text: Any = texts.columns[name][row].as_py()
                if text:
                    self._rejects.add(
                        f"{text!r} is no plain decimal number",
                        file=texts.file,
                        line=texts.line + row,
                        key=name,
                        text=texts.text(row),
                    )
        kept = np.flatnonzero(is_told)
        market = self._markets(texts, market_of)[kept]
        moment = due.mantissa[kept] * 1_000  # microseconds
        passed = []
        for number in np.unique(market).tolist():
            mine = np.flatnonzero(market == number)
            at, rates, places = (
                moment[mine].tolist(),
                rate.mantissa[kept][mine].tolist(),
                rate.digits[kept][mine].tolist(),
            )
            ends = [i for i in range(len(at) - 1) if at[i + 1] != at[i]]
            before = told.get(number)
            if before is not None and before[0] != at[0]:
                passed.append((before[0], number, before[1], before[2]))
            passed += [(at[i], number, rates[i], places[i]) for i in ends]
            told[number] = (at[-1], rates[-1], places[-1])
        return passed
