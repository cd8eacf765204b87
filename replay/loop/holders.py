"""The open positions of a market, with the mark at which each breaks even, kept from one question to the next.

A market has tens of thousands of positions, and who is in profit at a mark is asked thousands of times in a fall.
The list is read from front to back without a look at the positions. A position that changes in size or cost comes
on the chain of its market's changed ones (``state.note_change``), once, and is entered anew with the next question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from replay.kernels import allocating_kernel, i64, kernel
from replay.loop.state import LISTED, Arrays

if TYPE_CHECKING:
    from replay.loop.state import State

Array = npt.NDArray[Any]

_FLOAT_SLACK = 1e-9
_ALWAYS = 1e-300  # breaks even nowhere: passes as a long at all marks, negative as a short


class Holders(NamedTuple):
    """Open positions of one market in no order; only the first ``held`` rows hold something."""

    slots: Array  # int64, the positions
    break_even: Array  # float64, the mark at which the value is the cost; negative for shorts
    held: Array  # int64[1]: how many they are


def holders_in(state: State, market: int) -> Holders:
    """Return the list of a market, with room for all its positions, for compiled code to bring up to date."""
    holders = state.holders.get(market)
    if holders is None:
        holders = Holders(np.zeros(0, np.int64), np.zeros(0), np.zeros(1, np.int64))
    need = int(state.arrays.markets[market]["positions"])
    if need > len(holders.slots):
        slots, break_even = np.zeros(need + need // 4, np.int64), np.zeros(need + need // 4)
        slots[: len(holders.slots)] = holders.slots
        break_even[: len(holders.slots)] = holders.break_even
        holders = Holders(slots, break_even, holders.held)
    state.holders[market] = holders
    return holders


def holders_of(state: State, market: int) -> Array:
    """Return the slots of the open positions of a market, int64, in no order."""
    holders = holders_in(state, market)
    return holders.slots[: enter_changed(state.arrays, market, holders)]


@allocating_kernel
def in_profit(s: Arrays, market: int, h: Holders, is_long: bool, with_losers: bool) -> Array:
    """Return the open positions of one side of a market that has a mark, int64, in no order.

    Args:
        s: The state.
        market: The market.
        h: Its list.
        is_long: The side.
        with_losers: Whether to return those without profit, too. Those in profit are all returned; among them may be
            some that float arithmetic cannot tell from them.
    """
    count = enter_changed(s, market, h)
    mark = float(s.markets[market].mark)
    above, below = 0.0, np.inf
    if not is_long:
        above, below = -np.inf, 0.0
    if not with_losers:
        below = mark * (1 + _FLOAT_SLACK) if is_long else -mark * (1 - _FLOAT_SLACK)
    found = np.empty(count + 1, np.int64)
    kept = i64(0)
    for i in range(count):
        found[kept] = h.slots[i]
        kept += (h.break_even[i] > above) & (h.break_even[i] < below)
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
def enter_changed(s: Arrays, market: int, h: Holders) -> int:
    """Enter the changed positions of a market into its list; return how many it holds then.

    ``s.places`` holds 1 + the row of each position in the list of its market, 0 if it is not there.
    """
    m, slots, break_even, count = s.markets[market], h.slots, h.break_even, h.held[0]
    slot = i64(m.changed)
    m.changed = -1
    while slot >= 0:
        p = s.positions[slot]
        p.flags |= LISTED
        row = i64(s.places[slot]) - 1
        if p.size == 0:
            if row >= 0:
                count -= 1
                slots[row], break_even[row] = slots[count], break_even[count]
                s.places[slots[row]] = row + 1
                s.places[slot] = 0
        else:
            if row < 0:
                row = count
                count += 1
                slots[row] = slot
                s.places[slot] = row + 1
            break_even[row] = _break_even(m, p.size, p.cost)
        slot = i64(s.changed[slot])
    h.held[0] = count
    return i64(count)
