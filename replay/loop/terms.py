"""How much of each position an absorber is asked to take over, and at what value: compiled, exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from replay.exact import CEIL, FLOOR, muldiv
from replay.kernels import allocating_kernel, i64, kernel
from replay.loop.asking import maintenance_of_part
from replay.loop.episodes import Cases
from replay.loop.rates import hold_down
from replay.loop.state import LEAST_SLACK, Arrays
from replay.loop.waterfall import end_of_pool, value_at
from replay.units import RATE_ONE

Array = npt.NDArray[Any]


@allocating_kernel
def ask_to_take_over(s: Arrays, c: Cases, batch: Array, rung: Any, ts: int, values: Array) -> None:
    """Fill how much of each position is to be taken over, and the signed value of that, in atoms.

    Args:
        s: The state.
        c: The open liquidations.
        batch: FORCED records; ``asked`` is filled.
        rung: RUNG record.
        ts: The step.
        values: int64[rows], filled.
    """
    first = 0
    while first < len(batch):
        end = end_of_pool(batch, first)
        rows, worths = batch[first:end], values[first:end]
        if rung.share == 0:
            _ask_all(s, rows, rung, worths)
        elif rung.continues:
            for i in range(len(rows)):
                leg = c.legs[c.leg_of[rows[i].position]]
                rows[i].asked, worths[i] = leg.left, leg.left_value
        else:
            _ask_share(s, rows, rung, worths)
        first = end
    if not rung.continues:
        wanted = np.empty(len(batch), np.int64)
        for i in range(len(batch)):
            wanted[i] = batch[i].asked
        hold_down(s, c, batch, rung, ts)
        for i in range(len(batch)):
            if batch[i].asked < wanted[i]:
                values[i] = _value_of_part(s, batch[i], values[i], wanted[i])


@kernel
def _value_of_part(s: Arrays, row: Any, value: int, whole: int) -> int:
    """Return the value of what a row asks for of a whole with a value: at the mark, less its part of the discount."""
    sign = 1 if row.size > 0 else -1
    discount = value_at(s, row.market, sign * whole, row.mark) - value
    part = muldiv(abs(discount), row.asked, whole, FLOOR)
    return value_at(s, row.market, sign * row.asked, row.mark) - (part if discount >= 0 else -part)


@kernel
def _ask_all(s: Arrays, rows: Array, rung: Any, values: Array) -> None:
    """Ask for every position of a pool, whole."""
    for i in range(len(rows)):
        rows[i].asked = abs(rows[i].size)
        values[i] = _value_of_all(s, rows[i], rung)


@kernel
def _value_of_all(s: Arrays, row: Any, rung: Any) -> int:
    """Return the signed value at which a whole position is taken over, in atoms.

    At the mark it is a penalty less: a share of the pool's maintenance, at most its equity, over its positions by
    maintenance. A pool that owes has its positions taken over at the bankruptcy price: the absorber pays, unless
    what is owed stays with the pool.
    """
    if not rung.at_mark:
        return i64(row.bankruptcy_value)
    worth = value_at(s, row.market, row.size, row.mark)
    if row.equity < 0:
        return worth if rung.owed_stays else i64(row.worth)
    return worth - _penalty_of(s, row, min(row.equity, _whole_penalty(row, rung)))


@kernel
def _whole_penalty(row: Any, rung: Any) -> int:
    """Return the penalty for all positions of a pool, whether it has that or not; rounded up."""
    return muldiv(row.maintenance, rung.penalty_rate, RATE_ONE, CEIL)


@kernel
def _penalty_of(s: Arrays, row: Any, penalty: int) -> int:
    """Return what of a penalty, at most the equity of the pool, a position bears; rounded down."""
    if row.equity == 0:
        return 0
    share = value_at(s, row.market, row.size, row.mark) - row.worth
    return muldiv(share, penalty, row.equity, FLOOR)


@kernel
def _ask_share(s: Arrays, rows: Array, rung: Any, values: Array) -> None:
    """Ask for the least share of all positions of a pool that restores it, or for everything.

    The shares are the multiples of the share of the rung below 1. Of each position the lots are rounded up: rather
    more is taken than the share. The penalty is the share of that for everything, both rounded up, and what a
    position bears of it is rounded down, so the atoms that this leaves are the pool's. Restored is a pool whose
    equity less that penalty is enough for the maintenance of what it keeps, so none that cannot pay it. An inverse
    position in two parts may be worth an atom more or less than whole; that is not reckoned with.
    """
    share, penalty = i64(rung.share), i64(0)
    while share < RATE_ONE:
        penalty = muldiv(_whole_penalty(rows[0], rung), share, RATE_ONE, CEIL)
        needed = i64(0)
        for i in range(len(rows)):
            row = rows[i]
            row.asked = _lots_up(s, row, share)
            needed += maintenance_of_part(s, row, abs(row.size) - row.asked)
        if _is_restored(s, rows[0].equity - penalty, needed, rung):
            break
        share += rung.share
    if share >= RATE_ONE:
        _ask_all(s, rows, rung, values)
        return
    for i in range(len(rows)):
        row = rows[i]
        signed = row.asked if row.size > 0 else -row.asked
        values[i] = value_at(s, row.market, signed, row.mark) - _penalty_of(s, row, penalty)


@kernel
def _lots_up(s: Arrays, row: Any, share: int) -> int:
    """Return a share of a position in whole lots, rounded up, at most all of it."""
    lot, whole = i64(s.markets[row.market].lot), abs(row.size)
    return i64(min(whole, -(-muldiv(whole, share, RATE_ONE, CEIL) // lot) * lot))


@kernel
def _is_restored(s: Arrays, equity: int, needed: int, rung: Any) -> bool:
    """Tell whether equity is enough for maintenance: out of breach, or above a multiple that is larger than 1."""
    if rung.exit_num == rung.exit_den:
        return bool(equity - s.counters[LEAST_SLACK] >= needed)
    return bool(equity >= 0 and muldiv(equity, rung.exit_den, rung.exit_num, CEIL) > needed)
