"""Pools in breach whose markets are guarded: they are passed over until the guard lifts (:mod:`replay.loop.guard`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from replay.kernels import allocating_kernel, i64, kernel
from replay.loop import rows as of
from replay.loop.guard import is_guarded
from replay.loop.margin import valuation
from replay.loop.rows import Buffers, add_engaged
from replay.loop.state import Arrays

Array = npt.NDArray[Any]


@kernel
def look_for_guards(s: Arrays, r: Buffers, pools: Array, ts: int) -> None:
    """Note which pools in breach have no open position in a market that is not guarded: they are passed over.

    All pools with one in a guarded market are judged in the next step: a guard may lift while no mark moves. To be
    called in steps in which pools were judged, whatever else the absorbers have to do in others.

    Args:
        s: The state.
        r: Receives a row for each market in which pools begin to wait for a guard, or no longer do.
        pools: int64 ids of the pools in breach, ascending.
        ts: The step.
    """
    for pool in pools:
        s.pools[pool].passed_over = 1
        slot = i64(s.pools[pool].first)
        while slot >= 0:
            p = s.positions[slot]
            if p.size != 0:
                if is_guarded(s, i64(p.market), ts):
                    s.pools[pool].deferred = 1
                    equity, maintenance, _ = valuation(s, pool)
                    add_engaged(s, r, pool, i64(p.market), equity, maintenance, abs(p.size))
                else:
                    s.pools[pool].passed_over = 0
            slot = i64(p.next)
    for market in range(len(s.markets)):
        m = s.markets[market]
        is_held_up = r.sums[market, 0] > 0
        if is_held_up != (m.held_up != 0):
            m.held_up = is_held_up
            _write(s, r, market, ts)
        r.sums[market, :] = 0


@allocating_kernel
def not_passed_over(s: Arrays, pools: Array) -> Array:
    """Return the pools that are not passed over in this step, in their order."""
    chosen = np.empty(len(pools), np.int64)
    count = 0
    for pool in pools:
        if s.pools[pool].passed_over == 0:
            chosen[count] = pool
            count += 1
    return chosen[:count]


@kernel
def _write(s: Arrays, r: Buffers, market: int, ts: int) -> None:
    """Write that pools begin to wait for the guard of a market, or that none does any more."""
    row, sums = r.engagements[r.counts[of.ENGAGEMENT_ROWS]], r.sums[market]
    r.counts[of.ENGAGEMENT_ROWS] += 1
    begins = s.markets[market].held_up != 0
    row.ts, row.market, row.ledger, row.stage = ts, market, s.markets[market].ledger, of.GUARD
    row.scope = of.scope_of_market(market)
    row.state, row.reason = (of.START, of.FAR) if begins else (of.STOP, of.NEAR)
    row.count, row.measured, row.threshold = sums[0], sums[2], sums[3]
    row.fund_balance, row.has_balance = 0, 0
    row.quantity, row.has_quantity = sums[4], begins


@allocating_kernel
def of_free_markets(s: Arrays, batch: Array, ts: int) -> Array:
    """Return the rows of a batch in markets that are not guarded."""
    rows = np.empty(len(batch), np.int64)
    count = 0
    for i in range(len(batch)):
        if not is_guarded(s, i64(batch[i].market), ts):
            rows[count] = i
            count += 1
    return batch[rows[:count]]
