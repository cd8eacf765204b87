"""What of a pool's equity each of its positions may lose, and the value at which it is bankrupt: compiled, exact.

The allocations are those of section 0 of the venue rules, in value space ``V(B) = V(M) - share``; the shares of
all positions of a pool sum to its equity, so closing all of them at bankruptcy leaves it with exactly nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from replay.exact import CEIL, FLOOR, HALF_EVEN, OVERFLOW, muldiv, signed_value
from replay.kernels import i64, kernel
from replay.loop.margin import fault, maintenance_of, notional_at
from replay.loop.state import ALLOCATION, CELL_OVERFLOW, EXIT_FEE, Arrays
from replay.rules.plan import ALLOCATIONS
from replay.units import BOUND, RATE_ONE

Array = npt.NDArray[Any]

_BY_MAINTENANCE, _ISOLATED, _ALL = (
    ALLOCATIONS.index(name) for name in ("maintenance_proportional", "isolated", "all")
)


@kernel
def with_exit_fee(s: Arrays, pool: int, market: int, worth: int) -> int:
    """Return the signed value whose amount after the taker fee on it is ``worth``; the fee is rounded up.

    ``V - f * |V| = worth``: a long linear price grows by ``1 / (1 - f)``, a short one by ``1 / (1 + f)``.

    Args:
        s: The state; its rate is 0 where no fee is reserved.
        pool: The pool, for the message of a fault.
        market: The market, likewise.
        worth: Signed value at which closing without a fee leaves nothing.
    """
    rate = s.counters[EXIT_FEE]
    if rate == 0 or worth == 0:
        return worth
    if worth < 0:
        return -muldiv(-worth, RATE_ONE, RATE_ONE + rate, FLOOR)
    value = muldiv(worth, RATE_ONE, RATE_ONE - rate, CEIL)
    if value == OVERFLOW:
        fault(s, CELL_OVERFLOW, pool, market)
        return worth
    return value


@kernel
def _share_out(s: Arrays, pool: int, amount: int, weights: Array, rests: Array, shares: Array) -> None:
    """Split a signed amount by weights: floors of magnitudes, one atom more to the largest remainders."""
    count = len(weights)
    total = i64(0)
    for i in range(count):
        total += weights[i]
        if total >= BOUND:
            fault(s, CELL_OVERFLOW, pool, -1)
            return
    if total == 0:
        weights[:] = 1
        total = i64(count)
    magnitude = abs(amount)
    given = 0
    for i in range(count):
        share = muldiv(magnitude, weights[i], total, FLOOR)
        # The remainder magnitude*w mod total, without the 128-bit product: exact in wrapping arithmetic.
        rests[i] = np.int64(
            np.uint64(magnitude) * np.uint64(weights[i]) - np.uint64(share) * np.uint64(total)
        )
        given += share
        shares[i] = share if amount >= 0 else -share
    for _ in range(magnitude - given):
        largest = 0
        for i in range(1, count):
            if rests[i] > rests[largest]:
                largest = i
        shares[largest] += 1 if amount >= 0 else -1
        rests[largest] = -1


@kernel
def bankruptcy_values(
    s: Arrays,
    pool: int,
    equity: int,
    slots: Array,
    values: Array,
    worths: Array,
    weights: Array,
    rests: Array,
) -> int:
    """Split the equity of a pool over its positions as the rules say; value each at bankruptcy.

    - By maintenance ("mmp"): position i may lose ``equity * MM_i / sum MM``.
    - Isolated ("iso"): its own profit or loss and a part of the cash, by entry value: ``V(entry) - margin``.
    - All: the position with the largest loss since its entry bears the whole equity, the others go at the mark.

    For one position all are the whole equity. Shares are floors of magnitudes, one atom more to the largest
    remainders, ties by position slot, so that they sum to the equity (engine.md 3.7).

    Args:
        s: The state.
        pool: A valued pool with at least one open position.
        equity: Its equity in atoms, of either sign.
        slots: Filled with its open positions, ascending.
        values: Filled with their signed bankruptcy values in atoms, a fee to close included if the rules say so.
        worths: Filled with what is left of these after that fee.
        weights: To work in, as long as the others.
        rests: Likewise.

    Returns:
        How many positions were written.
    """
    count = 0
    slot = i64(s.pools[pool].first)
    while slot >= 0:  # the newest first, so each has a lower slot than the one before
        if s.positions[slot].size != 0:
            slots[count] = slot
            count += 1
        slot = i64(s.positions[slot].next)
    slots, shares = slots[:count], values[:count]
    for i in range(count // 2):
        slots[i], slots[count - 1 - i] = slots[count - 1 - i], slots[i]
    shares[:] = 0
    allocation = s.counters[ALLOCATION]
    bearer, lowest = 0, 0
    for i in range(count):
        p = s.positions[slots[i]]
        m = s.markets[p.market]
        notional = notional_at(m, p.size, m.mark)
        worths[i] = signed_value(p.size, notional, m.inverse != 0)
        if allocation == _BY_MAINTENANCE:
            weights[i] = maintenance_of(s.tiers, m, p.size, p.cost, notional)
        else:
            weights[i] = abs(p.cost)
        profit = worths[i] - p.cost
        if i == 0 or profit < lowest:
            bearer, lowest = i, profit
    if allocation == _ALL:
        shares[bearer] = equity
    else:
        amount = equity if allocation == _BY_MAINTENANCE else i64(s.pools[pool].cash)
        _share_out(s, pool, amount, weights[:count], rests, shares)
    for i in range(count):
        p = s.positions[slots[i]]
        worths[i] = (p.cost if allocation == _ISOLATED else worths[i]) - shares[i]
        values[i] = with_exit_fee(s, pool, i64(p.market), worths[i])
    return count


@kernel
def bankruptcy_value_of(s: Arrays, position: int, equity: int, maintenance: int) -> int:
    """Return the signed bankruptcy value of one position of a valued pool, its share rounded half to even.

    Args:
        s: The state.
        position: Slot of an open position.
        equity: Equity of its pool.
        maintenance: Maintenance of its pool, above 0.
    """
    p = s.positions[position]
    m = s.markets[p.market]
    notional = notional_at(m, p.size, m.mark)
    value = signed_value(p.size, notional, m.inverse != 0)
    allocation = s.counters[ALLOCATION]
    if allocation == _BY_MAINTENANCE:
        own = maintenance_of(s.tiers, m, p.size, p.cost, notional)
        share = muldiv(abs(equity), own, maintenance, HALF_EVEN)
        worth = value - share if equity >= 0 else value + share
    elif allocation == _ISOLATED:
        cash = i64(s.pools[p.pool].cash)
        total = _entry_value(s, i64(p.pool))
        share = muldiv(abs(cash), abs(p.cost), total, HALF_EVEN) if total > 0 else 0
        worth = p.cost - share if cash >= 0 else p.cost + share
    else:
        worth = value - equity if _bears_all(s, position) else value
    return with_exit_fee(s, i64(p.pool), i64(p.market), worth)


@kernel
def _entry_value(s: Arrays, pool: int) -> int:
    """Return the sum of the absolute costs of a pool's open positions."""
    total = i64(0)
    slot = s.pools[pool].first
    while slot >= 0:
        if s.positions[slot].size != 0:
            total += abs(s.positions[slot].cost)
            if total >= BOUND:
                fault(s, CELL_OVERFLOW, pool, -1)
                return 0
        slot = s.positions[slot].next
    return total


@kernel
def _bears_all(s: Arrays, position: int) -> bool:
    """Tell whether no other position of the pool has a larger loss, the first of equals."""
    lowest, bearer = i64(0), i64(-1)
    slot = s.pools[s.positions[position].pool].first
    while slot >= 0:
        p = s.positions[slot]
        if p.size != 0:
            m = s.markets[p.market]
            profit = signed_value(p.size, notional_at(m, p.size, m.mark), m.inverse != 0) - p.cost
            if bearer < 0 or profit < lowest or (profit == lowest and slot < bearer):
                lowest, bearer = profit, i64(slot)
        slot = p.next
    return bool(bearer == position)
