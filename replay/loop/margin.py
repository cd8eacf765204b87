"""Equity, maintenance and slack of a pool: compiled, exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from replay.exact import CEIL, FLOOR, OVERFLOW, contract_value, muldiv, signed_value
from replay.kernels import i64, kernel
from replay.loop.state import (
    CELL_OVERFLOW,
    FAULT,
    FAULT_MARKET,
    FAULT_POOL,
    MARKS_VERSION,
    Arrays,
)
from replay.rules.plan import BY_ENTRY, BY_NOTIONAL
from replay.units import BOUND, RATE_ONE

Array = npt.NDArray[Any]

SHARE_WIDER = 4
"""Bounds on what a pool is worth hold until a value has grown by this part, see loop/candidates.py."""

_RATE_UNIT = (1 + 1e-9) / RATE_ONE  # widened by more than what floats lose

WORST = -BOUND
"""Stands for a value below every slack: a position whose value leaves its cell at some price."""


@kernel
def fault(s: Arrays, code: int, pool: int, market: int) -> None:
    """Note the first fault of a kernel; the loop stops at the row that caused it."""
    if s.counters[FAULT] == 0:
        s.counters[FAULT] = code
        s.counters[FAULT_POOL] = pool
        s.counters[FAULT_MARKET] = market


@kernel
def notional_at(m: Any, size: int, mark: int) -> int:
    """Return ``|V(size, mark)|`` in atoms of a MARKET record, or OVERFLOW."""
    return contract_value(size, mark, m.mark_num, m.mark_den, m.inverse != 0)


_ROOT_SCALE = 10**5


@kernel
def _root(y: int) -> int:
    """Return the root of a number below 2**62, rounded down."""
    root = i64(np.sqrt(y))
    while root * root > y:
        root -= 1
    while (root + 1) * (root + 1) <= y:
        root += 1
    return root


@kernel
def _own_maintenance(tiers: Array, m: Any, size: int, cost: int, notional: int) -> int:
    """Return the maintenance where something else picks the tier, or the rate grows with size or differs by side.

    The root is taken to five decimals, rounded down; additions to a rate are rounded up, and a rate ends at 1.
    """
    amount = abs(cost) if m.margin_basis == BY_ENTRY else abs(size)
    key = notional if m.margin_basis == BY_NOTIONAL else amount
    tier = i64(m.end_tier) - 1
    while tier > m.first_tier and tiers[tier].start > key:
        tier -= 1
    rate = tiers[tier].rate
    if size < 0 and m.short_rate != 0:
        rate = m.short_rate
    if m.growth != 0:
        more = muldiv(amount, m.growth * m.unit_den, m.unit_num, CEIL)
        rate = RATE_ONE if more == OVERFLOW else min(rate + more, RATE_ONE)
    if m.root != 0:
        square = muldiv(10 * amount * m.unit_den + m.unit_num, _ROOT_SCALE * _ROOT_SCALE, m.unit_num, FLOOR)
        more = OVERFLOW if square == OVERFLOW else muldiv(m.root, _root(square), _ROOT_SCALE, CEIL)
        least = muldiv(rate, 4, 5, CEIL)
        rate = RATE_ONE if more == OVERFLOW else min(max(rate, least + more), RATE_ONE)
    return max(muldiv(notional, rate, RATE_ONE, CEIL) - tiers[tier].deduction, m.least)


@kernel
def _tier_from(tiers: Array, m: Any, tier: int, notional: int) -> int:
    """Return the tier of a notional that is in a tier of the market or above it."""
    while tier + 1 < m.end_tier and tiers[tier + 1].start <= notional:
        tier += 1
    return tier


@kernel
def maintenance_of(tiers: Array, m: Any, size: int, cost: int, notional: int) -> int:
    """Return the maintenance margin of a position: rate of its tier, rounded up, less the deduction.

    Args:
        tiers: The tiers of all markets.
        m: MARKET record of the position.
        size: Its size.
        cost: Its cost.
        notional: Its absolute value at the mark.
    """
    if m.own_margin != 0:
        return _own_maintenance(tiers, m, size, cost, notional)
    tier = _tier_from(tiers, m, i64(m.first_tier), notional)
    return muldiv(notional, tiers[tier].num, tiers[tier].den, CEIL) - tiers[tier].deduction


@kernel
def _maintenance_and_most(tiers: Array, m: Any, size: int, cost: int, notional: int) -> tuple[int, int, bool]:
    """Return :func:`maintenance_of` and what it is at most up to a notional larger by the share of the bounds.

    And whether it grows in a straight line up to there.
    """
    wider = min(notional + notional // SHARE_WIDER + 1, BOUND)
    if m.own_margin != 0:
        now = maintenance_of(tiers, m, size, cost, notional)
        return now, maintenance_of(tiers, m, size, cost, wider), False
    tier = _tier_from(tiers, m, i64(m.first_tier), notional)
    now = muldiv(notional, tiers[tier].num, tiers[tier].den, CEIL) - tiers[tier].deduction
    is_straight = tier + 1 >= m.end_tier or tiers[tier + 1].start > wider
    tier = _tier_from(tiers, m, tier, wider)
    most = i64(float(wider) * (float(tiers[tier].rate) * _RATE_UNIT)) + 1 - tiers[tier].deduction
    return now, most, is_straight


@kernel
def term(tiers: Array, m: Any, p: Any, mark: int) -> int:
    """Return a position's part of the slack at a mark: ``V - cost - maintenance``, or WORST on overflow.

    Args:
        tiers: The tiers of all markets.
        m: MARKET record of the position.
        p: POSITION record.
        mark: The mark.
    """
    return term_of(tiers, m, p.size, p.cost, mark)


@kernel
def term_of(tiers: Array, m: Any, size: int, cost: int, mark: int) -> int:
    """Return :func:`term` of a position of a size and cost."""
    if size == 0:
        return -cost
    notional = notional_at(m, size, mark)
    return WORST if notional == OVERFLOW else term_at(tiers, m, size, cost, notional)


@kernel
def term_at(tiers: Array, m: Any, size: int, cost: int, notional: int) -> int:
    """Return :func:`term_of` where the position is worth ``notional``."""
    value = signed_value(size, notional, m.inverse != 0)
    return value - cost - maintenance_of(tiers, m, size, cost, notional)


@kernel
def is_valued(s: Arrays, pool: int) -> bool:
    """Tell whether every market the pool has a position in has a mark."""
    slot = s.pools[pool].first
    while slot >= 0:
        p = s.positions[slot]
        if p.size != 0 and s.markets[p.market].has_mark == 0:
            return False
        slot = p.next
    return True


@kernel
def slack(s: Arrays, pool: int) -> int:
    """Return equity less maintenance of a valued pool at the current marks."""
    total = s.pools[pool].cash
    slot = s.pools[pool].first
    while slot >= 0:
        p = s.positions[slot]
        if p.size != 0:
            m = s.markets[p.market]
            total += term(s.tiers, m, p, m.mark)
        slot = p.next
    return total


@kernel
def valuation(s: Arrays, pool: int) -> tuple[int, int, int]:
    """Return equity, maintenance and notional of a valued pool at the current marks, in atoms."""
    _, equity, maintenance, notional, _, _ = _worth(s, pool, True)
    return equity, maintenance, notional


NOT_ASKED = -BOUND
"""Of a maintenance in ``Arrays.valuations``: nobody asked for it."""


@kernel
def worth_of_one(
    tiers: Array, m: Any, size: int, cost: int, mark: int, with_maintenance: bool
) -> tuple[bool, int, int, int, int, int, bool]:
    """Return what a position adds to each column of ``Arrays.valuations`` at a mark.

    Args:
        tiers: The tiers of all markets.
        m: MARKET record of the position.
        size: Its size, not 0.
        cost: Its cost.
        mark: The mark.
        with_maintenance: Whether to ask for maintenance; else it is 0.

    Returns:
        Whether its value fits a cell; profit, maintenance, notional, the most of the maintenance, what of the notional
        has a positive value; whether maintenance grows in a straight line.
    """
    notional = notional_at(m, size, mark)
    if notional == OVERFLOW:
        return False, i64(0), i64(0), i64(0), i64(0), i64(0), True
    value = signed_value(size, notional, m.inverse != 0)
    now, most, is_straight = i64(0), i64(0), True
    if with_maintenance:
        now, most, is_straight = _maintenance_and_most(tiers, m, size, cost, notional)
    return True, value - cost, now, notional, most, max(value, 0), is_straight


@kernel
def _worth(s: Arrays, pool: int, with_maintenance: bool) -> tuple[bool, int, int, int, int, int]:
    """Return whether a pool has a value, and its row of ``Arrays.valuations``; zeros without one."""
    equity, maintenance, total, most, positive = s.pools[pool].cash, i64(0), i64(0), i64(0), i64(0)
    is_straight = True
    slot = s.pools[pool].first
    while slot >= 0:
        p = s.positions[slot]
        if p.size != 0:
            m = s.markets[p.market]
            if m.has_mark == 0:
                return False, i64(0), i64(0), i64(0), i64(0), i64(0)
            fits, profit, now, notional, part, rising, is_part_straight = worth_of_one(
                s.tiers, m, p.size, p.cost, m.mark, with_maintenance
            )
            if not fits:
                fault(s, CELL_OVERFLOW, pool, p.market)
                return False, i64(0), i64(0), i64(0), i64(0), i64(0)
            equity += profit
            maintenance += now
            total += notional
            positive += rising
            most = min(most + part, BOUND)
            is_straight = is_straight and is_part_straight
        slot = p.next
    if not with_maintenance:
        maintenance = i64(NOT_ASKED)
    return True, equity, maintenance, total, most if is_straight else -most, positive


@kernel
def valued_pool(s: Arrays, pool: int, with_maintenance: bool) -> bool:
    """See that ``s.valuations`` holds a pool at the current marks.

    Its columns are equity, maintenance and notional, the most that the maintenance can be while no notional is
    larger by more than one part in :data:`SHARE_WIDER`, negative if it does not grow in a straight line up to there,
    and what of the notional is of positions of positive value, which lose when values shrink.
    A pool is valued again only after a mark moved or something was booked to it.

    Args:
        s: The state.
        pool: The pool.
        with_maintenance: Whether to see to its maintenance, too; else that may be :data:`NOT_ASKED`.

    Returns:
        False for a pool that has no value: a market it has a position in has no mark yet.
    """
    p, row = s.pools[pool], s.valuations[pool]
    version = s.counters[MARKS_VERSION]
    is_known = p.valued == version and (row[1] != NOT_ASKED or not with_maintenance)
    if not is_known and p.valued != -version:
        has_value, row[0], row[1], row[2], row[3], row[4] = _worth(s, pool, with_maintenance)
        p.valued = version if has_value else -version
        p.snapshot = 0
    return bool(p.valued == version)
