"""Index and mark of an import whose files give no marks: made of spot trades, or of the last trade."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from replay.sources._feed_markets import FeedMarkets
from replay.tape.prices import LastBySecond, index_of, mark_of, price_rows
from replay.tape.schema import Payoff, PriceKind
from replay.tape.write import TapeWriter

Array = npt.NDArray[Any]


def without_marks(markets: FeedMarkets) -> list[str]:
    """Say which markets have no mark, where files give marks of others: none is then made."""
    bare = [
        contract.base
        for contract, market in zip(markets.contracts, markets.tape_market, strict=True)
        if market >= 0 and market not in markets.marked
    ]
    if not bare:
        return []
    return [
        f"{', '.join(sorted(set(bare)))}: no file gives a mark, and none is made where files give those of other "
        "markets; the last trade stands in for it."
    ]


def make_prices(
    markets: FeedMarkets,
    lasts: dict[int, LastBySecond],
    digits: dict[int, int],
    writer: TapeWriter,
    counts: dict[str, int],
) -> list[str]:
    """Write index and mark of each derivative; return what was assumed."""
    if not lasts:
        return ["The tape has no marks and no trades to make them of."]
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
