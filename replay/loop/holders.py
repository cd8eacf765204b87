"""The open positions of a market, with the mark at which each breaks even, kept from one question to the next.

A market has tens of thousands of positions, and who is in profit at a mark is asked thousands of times in a fall.
The list is read from front to back without a look at the positions. A position that changes in size or cost comes
on the chain of its market's changed ones (``state.note_change``), once, and is entered anew with the next question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from replay.kernels import i64, kernel
from replay.loop.state import LISTED, Arrays

if TYPE_CHECKING:
    from replay.loop.state import State

Array = npt.NDArray[Any]

_FLOAT_SLACK = 1e-9
_ALWAYS = 1e-300  # breaks even nowhere: passes as a long at all marks, negative as a short


class Holders:
    """Open positions of one market in no order; only the first ``count`` rows hold something.

    Attributes:
        slots: int64, the positions.
        break_even: float64, the mark at which the value is the cost; negative for shorts.
        count: How many they are.
    """

    def __init__(self) -> None:
        self.slots: Array = np.zeros(0, np.int64)
        self.break_even: Array = np.zeros(0)
        self.count = 0


def _listed(state: State, market: int) -> Holders:
    """Return the list of a market, brought up to date."""
    holders = state.holders.setdefault(market, Holders())
    need = int(state.arrays.markets[market]["positions"])
    if need > len(holders.slots):
        room = np.zeros(need, np.int64)
        holders.slots = np.concatenate((holders.slots, room))
        holders.break_even = np.concatenate((holders.break_even, room.astype(np.float64)))
    holders.count = int(_enter(state.arrays, market, holders.slots, holders.break_even, holders.count))
    return holders


def holders_of(state: State, market: int) -> Array:
    """Return the slots of the open positions of a market, int64, in no order."""
    holders = _listed(state, market)
    return holders.slots[: holders.count]


def holders_in_profit(state: State, market: int, *, is_long: bool, with_losers: bool) -> Array:
    """Return the open positions of one side of a market that has a mark, int64, in no order.

    Args:
        state: The state.
        market: The market.
        is_long: The side.
        with_losers: Whether to return those without profit, too. Those in profit are all returned; among them may be
            some that float arithmetic cannot tell from them.
    """
    holders = _listed(state, market)
    mark = float(state.arrays.markets[market]["mark"])
    if is_long:
        above, below = 0.0, np.inf if with_losers else mark * (1 + _FLOAT_SLACK)
    else:
        above, below = -np.inf, 0.0 if with_losers else -mark * (1 - _FLOAT_SLACK)
    found = np.empty(holders.count + 1, np.int64)
    return found[: _between(holders.slots, holders.break_even, holders.count, above, below, found)]


@kernel
def _between(slots: Array, break_even: Array, count: int, above: float, below: float, found: Array) -> int:
    kept = i64(0)
    for i in range(count):
        found[kept] = slots[i]
        kept += (break_even[i] > above) & (break_even[i] < below)
    return kept


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
def _enter(s: Arrays, market: int, slots: Array, break_even: Array, count: int) -> int:
    """Enter the changed positions of a market into its list; return how many it holds then.

    ``s.places`` holds 1 + the row of each position in the list of its market, 0 if it is not there.
    """
    m = s.markets[market]
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
    return count
