"""How the opening pools would fare through the crash if nobody traded: who is in distress, and when.

It keeps the day plausible: who has nothing left does not trade, and who deposits does so in time. It decides
no liquidation; that is left to the rules of a replay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replay.sources.demo_crash_accounts import People
from replay.sources.demo_crash_markets import (
    CONTRACT_USD,
    INVERSE,
    LOT_ONE,
    MARKETS,
    PRICE_ONE,
    Floats,
    Ints,
    coin_value,
)
from replay.sources.demo_crash_prices import WATCHFUL_BEFORE, Paths
from replay.units import ATOM

DISTRESS = 0.06
"""A pool is in distress when its equity is below this share of its gross notional."""
NEVER = (1 << 62) - 1


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of the opening pools, by pool id.

    Attributes:
        gross: Gross notional at the start, in the currency of the pool.
        leverage: Gross notional over equity at the start; infinite without equity.
        distress: First moment of distress from shortly before the crash on, ns; :data:`NEVER` if none.
        lowest: Lowest equity less the share that means distress, in the currency of the pool.
    """

    gross: Floats
    leverage: Floats
    distress: Ints
    lowest: Floats


def foresee(people: People, paths: Paths) -> Fate:
    """Value every opening pool at every mark of the crash and after."""
    pools, markets = len(people.pool_cash), len(MARKETS)
    sizes = np.zeros((markets, pools))
    sizes[people.market, people.pool] = people.size
    cost = np.zeros(pools)
    entry = people.entry / PRICE_ONE[people.market]
    np.add.at(cost, people.pool, coin_value(people.market, people.size, entry))
    base = people.pool_cash / ATOM - cost
    worth = paths.prices / LOT_ONE
    worth[:, INVERSE] = -CONTRACT_USD / paths.prices[:, INVERSE]
    equity, gross = _value(sizes, base, worth[0])
    with np.errstate(divide="ignore"):
        leverage = np.where(equity > 0.0, gross / np.maximum(equity, 0.0), np.inf)
    distress = np.full(pools, NEVER, np.int64)
    lowest = np.full(pools, np.inf)
    for step in range(int(np.searchsorted(paths.seconds, -WATCHFUL_BEFORE)), len(paths.ts)):
        now, notional = _value(sizes, base, worth[step])
        margin = now - DISTRESS * notional
        np.minimum(lowest, margin, out=lowest)
        distress[(margin < 0.0) & (distress == NEVER)] = paths.ts[step]
    return Fate(gross, leverage, distress, lowest)


def _value(sizes: Floats, base: Floats, worth: Floats) -> tuple[Floats, Floats]:
    """Return equity and gross notional of the pools, summed market by market in a fixed order."""
    equity = base.copy()
    gross = np.zeros_like(base)
    for held, unit in zip(sizes, worth, strict=True):
        value = held * unit
        equity += value
        gross += np.abs(value)
    return equity, gross
