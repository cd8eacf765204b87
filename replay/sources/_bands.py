"""Cumulative percentage bands of depth to price levels."""

from __future__ import annotations

from typing import Any

import numpy as np

from replay.tape.schema import Side

_BAND_DIGITS = 6


def levels_of_bands(columns: dict[str, Any]) -> dict[str, Any]:
    """Turn cumulative percentage bands into price levels.

    A band holds the quantity from the middle to a percentage, negative for bids, with its notional. What lies
    between two bands is one level: the difference of both quantities, at the difference of both notionals
    over it, the mean price of what is there. A band that adds nothing, or nothing that has a price, is no level.

    Args:
        columns: Rows of ``ts``, ``market``, ``percentage``, ``depth`` and ``notional`` (floats), in order of time.
    """
    ts, market = columns["ts"], columns["market"]
    percentage, depth, notional = columns["percentage"], columns["depth"], columns["notional"]
    side = np.where(percentage < 0, int(Side.BID), int(Side.ASK)).astype(np.int8)
    order = np.lexsort((np.abs(percentage), side, market, ts))
    ts, market, side = ts[order], market[order], side[order]
    depth, notional = depth[order], notional[order]
    fresh = np.ones(len(ts), bool)
    fresh[1:] = (ts[1:] != ts[:-1]) | (market[1:] != market[:-1]) | (side[1:] != side[:-1])
    before = np.concatenate(([0.0], depth[:-1]))
    value_before = np.concatenate(([0.0], notional[:-1]))
    qty = depth - np.where(fresh, 0.0, before)
    value = notional - np.where(fresh, 0.0, value_before)
    kept = np.flatnonzero((qty > 0) & (value > 0))
    return {
        "ts": ts[kept],
        "market": market[kept],
        "side": side[kept],
        "price": np.round(value[kept] / qty[kept] * 10**_BAND_DIGITS).astype(np.int64),
        "price_digits": np.full(len(kept), _BAND_DIGITS, np.int8),
        "qty": np.round(qty[kept] * 10**_BAND_DIGITS).astype(np.int64),
        "qty_digits": np.full(len(kept), _BAND_DIGITS, np.int8),
    }
