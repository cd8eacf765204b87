"""Snapshots of the books on the crash day: ten levels a side round the mark, thin when it falls."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from replay.sources.demo_crash_markets import (
    MARK_ONE,
    MARKETS,
    PRICE_ONE,
    column,
    lots_of,
    whole,
)
from replay.sources.demo_crash_prices import WATCHFUL_BEFORE, Paths
from replay.tape.schema import Side

CALM_EVERY = 60
CRASH_EVERY = 6
_OFFSETS = np.array([1.0, 2.5, 5.0, 10.0, 18.0, 30.0, 50.0, 85.0, 130.0, 200.0]) * 1e-4
_SHARES = np.array([0.03, 0.05, 0.06, 0.08, 0.10, 0.12, 0.14, 0.14, 0.14, 0.14])
_THIN = 0.4  # books of less liquidity reach further
_WIDENING = 2.0  # by so much, without any


def make_depth(rng: np.random.Generator, paths: Paths, percent: int) -> dict[str, npt.NDArray[Any]]:
    """Make the rows of ``depth``.

    Args:
        rng: Random numbers.
        paths: Marks and liquidity.
        percent: Depth in percent of the normal one.
    """
    seconds = whole(paths.seconds)
    every = np.where(seconds < -WATCHFUL_BEFORE, CALM_EVERY, CRASH_EVERY)
    steps = np.flatnonzero(seconds % every == 0)
    shape = (len(steps), len(MARKETS), len(Side), len(_OFFSETS))
    mark = (paths.marks[steps] / MARK_ONE)[:, :, None, None]
    liquidity = paths.liquidity[steps][:, :, None, None]
    reach = _OFFSETS * (1.0 + _WIDENING * np.clip(1.0 - liquidity / _THIN, 0.0, 1.0))
    reach = reach * rng.uniform(0.9, 1.05, shape)
    sign = np.where(np.arange(len(Side)) == int(Side.BID), -1.0, 1.0)[None, None, :, None]
    exact = mark * (1.0 + sign * reach) * PRICE_ONE[None, :, None, None]
    rank = np.arange(len(_OFFSETS))
    # A level may not share its tick with the one before it: the running maximum of what is left once each
    # level's rank in ticks is taken off, with the rank put back.
    outward = np.maximum.accumulate(np.ceil(sign * exact).astype(np.int64) - rank, axis=3) + rank
    ticks = np.maximum(sign.astype(np.int64) * outward, 1)
    side_depth = column("depth")[None, :, None, None] * liquidity * (percent / 100.0)
    noise = np.clip(1.0 + 0.35 * rng.standard_normal(shape), 0.2, 2.5)
    usd = side_depth * _SHARES * noise
    market = np.broadcast_to(np.arange(len(MARKETS))[None, :, None, None], shape).ravel()
    price = ticks.ravel() / PRICE_ONE[market]
    qty = lots_of(market, usd.ravel(), price)
    return {
        "ts": np.broadcast_to(paths.ts[steps][:, None, None, None], shape).ravel(),
        "market": market,
        "side": np.broadcast_to(np.arange(len(Side))[None, None, :, None], shape).ravel(),
        "price": ticks.ravel(),
        "qty": qty,
    }
