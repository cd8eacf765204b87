"""The open positions of a market, with the mark at which each breaks even, kept from one question to the next.

A market has tens of thousands of positions, and who is in profit at a mark is asked thousands of times in a fall.
The list is read from front to back without a look at the positions. A position that changes in size or cost comes
on the chain of its market's changed ones (``state.note_change``), once, and is entered anew with the next question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from replay.kernels import allocating_kernel, i64, kernel
from replay.loop.state import LISTED, Arrays

if TYPE_CHECKING:
    from replay.loop.state import State

Array = npt.NDArray[Any]

_FLOAT_SLACK = 1e-9
_ALWAYS = 1e-300  # breaks even nowhere: passes as a long at all marks, negative as a short


@kernel
def has_list(s: Arrays, market: int) -> bool:
    """Tell whether the list of a market has room for all its positions; else the host has to make it."""
    return bool(s.holders[market].room >= s.markets[market].positions)


def holders_of(state: State, market: int) -> Array:
    """Return the slots of the open positions of a market, int64, in no order."""
    if not has_list(state.arrays, market):
        state.make_lists()
    start, count = state.arrays.holders[market]["start"], enter_changed(state.arrays, market)
    slots: Array = state.arrays.listed["slot"][start : start + count].copy()
    return slots


@allocating_kernel
def in_profit(s: Arrays, market: int, is_long: bool, with_losers: bool) -> Array:
    """Return the open positions of one side of a market, int64, in no order; none while it has no mark.

    Args:
        s: The state.
        market: The market, see :func:`has_list`.
        is_long: The side.
        with_losers: Whether to return those without profit, too. Those in profit are all returned; among them may be
            some that float arithmetic cannot tell from them.
    """
    if s.markets[market].has_mark == 0:
        return np.empty(0, np.int64)
    count, start = enter_changed(s, market), s.holders[market].start
    mark = float(s.markets[market].mark)
    above, below = 0.0, np.inf
    if not is_long:
        above, below = -np.inf, 0.0
    if not with_losers:
        below = mark * (1 + _FLOAT_SLACK) if is_long else -mark * (1 - _FLOAT_SLACK)
    found = np.empty(count + 1, np.int64)
    kept = i64(0)
    for i in range(start, start + count):
        found[kept] = s.listed[i].slot
        kept += (s.listed[i].break_even > above) & (s.listed[i].break_even < below)
    return found[:kept]


@kernel
def _break_even(m: Any, size: int, cost: int) -> float:
    """Return the mark at which a position is worth its cost, negative for shorts."""
    sign = 1.0 if size > 0 else -1.0
    if cost == 0 or (cost > 0) != ((size > 0) != (m.inverse != 0)):
        return sign * _ALWAYS if size > 0 else sign / _ALWAYS
    lots, worth = abs(float(size)) * float(m.mark_num), abs(float(cost))
    if m.inverse != 0:
        return sign * lots / worth
    return sign * worth * float(m.mark_den) / lots


@kernel
def enter_changed(s: Arrays, market: int) -> int:
    """Enter the changed positions of a market into its list; return how many it holds then.

    ``s.places`` holds 1 + the row of each position in the list of its market, 0 if it is not there.
    """
    m, h = s.markets[market], s.holders[market]
    start, count = h.start, h.held
    slot = i64(m.changed)
    m.changed = -1
    while slot >= 0:
        p = s.positions[slot]
        p.flags |= LISTED
        row = i64(s.places[slot]) - 1
        if p.size == 0:
            if row >= 0:
                count -= 1
                last, here = s.listed[start + count], s.listed[start + row]
                here.slot, here.break_even = last.slot, last.break_even
                s.places[here.slot] = row + 1
                s.places[slot] = 0
        else:
            if row < 0:
                row = count
                count += 1
                s.listed[start + row].slot = slot
                s.places[slot] = row + 1
            s.listed[start + row].break_even = _break_even(m, p.size, p.cost)
        slot = i64(s.changed[slot])
    h.held = count
    return i64(count)
