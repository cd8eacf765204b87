"""How much of what a rung asks for may go in a step: so much of a pool, or the more the longer it lasts."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from replay.exact import FLOOR, muldiv
from replay.kernels import i64, kernel
from replay.loop.asking import place_of, worth_at_most
from replay.loop.episodes import Cases
from replay.loop.margin import notional_at
from replay.loop.state import Arrays
from replay.loop.waterfall import end_of_pool
from replay.units import RATE_ONE

Array = npt.NDArray[Any]


@kernel
def hold_down(s: Arrays, c: Cases, batch: Array, rung: Any, ts: int) -> None:
    """Cut what the rows of a batch ask for down to what may go now; of what is cut the pools wait for the next step.

    Args:
        s: The state.
        c: The open liquidations.
        batch: FORCED records; ``asked`` is changed.
        rung: RUNG record.
        ts: The step.
    """
    first = 0
    while first < len(batch) and (rung.step_cap > 0 or rung.full_after_ns > 0):
        end = end_of_pool(batch, first)
        rows = batch[first:end]
        if rung.full_after_ns > 0:
            _hold_by_time(s, c, rows, rung, ts)
        if rung.step_cap > 0:
            _hold_by_value(s, rows, rung)
        first = end


@kernel
def _cut(s: Arrays, row: Any, most: int) -> None:
    if most < row.asked:
        row.asked = most
        s.pools[row.pool].deferred = 1


@kernel
def _hold_by_time(s: Arrays, c: Cases, rows: Array, rung: Any, ts: int) -> None:
    """Let no more of a position be closed, with what was before, than its share by now; lots are rounded up.

    Source: Drift's ``calculate_max_pct_to_liquidate``, for sizes in place of the margin that they free.
    """
    elapsed = ts - c.episodes[s.pools[rows[0].pool].episode].ts
    if elapsed >= rung.full_after_ns or rows[0].maintenance - rows[0].equity < rung.spared:
        return
    share = min(RATE_ONE, rung.initial_rate + muldiv(elapsed, RATE_ONE, rung.full_after_ns, FLOOR))
    for i in range(len(rows)):
        row = rows[i]
        m, leg = s.markets[row.market], c.legs[c.leg_of[row.position]]
        if notional_at(m, row.size, row.mark) > rung.spared:
            closed = leg.netted + leg.book + leg.absorbed + leg.adl
            most = max(muldiv(row.asked + closed, share, RATE_ONE, FLOOR) - closed, 0)
            _cut(s, row, -(-most // m.lot) * m.lot)


@kernel
def _hold_by_value(s: Arrays, rows: Array, rung: Any) -> None:
    """Let positions in their order ask until the cap is used up: one that does not fit is cut, those behind it wait.

    One lot of the first is asked for, whatever it is worth.
    """
    left, is_first, place, number = i64(rung.step_cap), True, i64(0), -1
    for _ in range(len(rows)):
        number = _next(s, rows, rung.order, place, number)
        row = rows[number]
        place = place_of(s, row, rung.order)
        if row.asked == 0:
            continue
        m, worth = s.markets[row.market], notional_at(s.markets[row.market], row.asked, row.mark)
        if worth <= left:
            left -= worth
        else:
            part = worth_at_most(m, left, row.mark) // m.lot * m.lot if left > 0 else i64(0)
            _cut(s, row, max(part, i64(m.lot)) if is_first else part)
            left = i64(0)
        is_first = False


@kernel
def _next(s: Arrays, rows: Array, order: int, place: int, number: int) -> int:
    """Return the row behind one, given with its place, in an order of positions; behind -1 comes the first."""
    found, lowest = -1, i64(0)
    for i in range(len(rows)):
        other = place_of(s, rows[i], order)
        is_behind = number < 0 or other > place or (other == place and i > number)
        if is_behind and (found < 0 or other < lowest):
            found, lowest = i, other
    return found
