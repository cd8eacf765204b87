"""How much each forced order of the ladder asks for, and the worst price it takes: compiled, exact."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from replay.exact import CEIL, FLOOR, OVERFLOW, divided_product, muldiv
from replay.kernels import i64, kernel
from replay.loop.depth import NO_LIMIT
from replay.loop.episodes import Cases
from replay.loop.margin import maintenance_of, notional_at
from replay.loop.state import LEAST_SLACK, Arrays
from replay.loop.waterfall import end_of_pool, limit_at, price_of, value_at
from replay.rules.plan import BY_SIZE, LIMITS, ORDERS, SIZES
from replay.units import BOUND, RATE_ONE

Array = npt.NDArray[Any]

(_FULL, _STEP_DOWN, _SMALLEST_FIX, _OF_REMAINING, _OF_ORIGINAL, _CAPPED, _MINIMAL) = range(len(SIZES))
(_NONE, _BANKRUPTCY, _BANKRUPTCY_BAND, _MARK_BAND, _ORACLE_BAND, _ZERO_EQUITY, _FILLABLE) = range(len(LIMITS))
(_ALL_AT_ONCE, _LARGEST_LOSS, _LARGEST_MAINTENANCE) = range(len(ORDERS))
_POINTS = 10_000
_OPEN = -1
"""Of what a row asks for: that is not settled yet."""


@kernel
def ask(s: Arrays, c: Cases, batch: Array, rung: Any, ts: int) -> None:
    """Fill how much each forced order asks for, whether that is a slice, and its limit."""
    first = 0
    while first < len(batch):
        end = end_of_pool(batch, first)
        rows = batch[first:end]
        if rung.size == _MINIMAL:
            _ask_minimal(s, rows, rung)
        elif rung.size == _SMALLEST_FIX:
            _ask_smallest_fix(s, rows, rung)
        else:
            for i in range(len(rows)):
                _ask_alone(s, c, rows[i], rung, ts)
        if rung.size != _MINIMAL and rung.order != _ALL_AT_ONCE:
            _keep_first(s, rows, rung.order)
        for i in range(len(rows)):
            rows[i].limit = _limit(s, rows[i], rung)
        first = end


@kernel
def _ask_alone(s: Arrays, c: Cases, row: Any, rung: Any, ts: int) -> None:
    """Fill what a row asks for where that does not depend on other positions of the pool."""
    pool, m, whole = s.pools[row.pool], s.markets[row.market], abs(row.size)
    row.asked, row.sliced = whole, 0
    if rung.size == _STEP_DOWN:
        row.asked = _step_down(s, m, row.size, row.mark, rung.tiers)
    elif rung.size == _OF_REMAINING:
        row.asked = _share_of(m, whole, whole, rung.share)
    elif rung.size == _OF_ORIGINAL:
        row.asked = _share_of(m, whole, abs(c.legs[c.leg_of[row.position]].size), rung.share)
    elif rung.size == _CAPPED:
        if notional_at(m, row.size, row.mark) > rung.cap:
            part = worth_at_most(m, rung.cap, row.mark) // m.lot * m.lot
            row.asked = min(whole, max(part, m.lot))
    elif _is_sliced(pool, m, row, rung, ts):
        row.asked = _share_of(m, whole, whole, rung.slice_rate)
        row.sliced = row.asked < whole


@kernel
def _share_of(m: Any, whole: int, base: int, rate: int) -> int:
    """Return a share of a size in whole lots, one at least, at most the whole position."""
    return i64(min(whole, max(muldiv(base, rate, RATE_ONE, FLOOR) // m.lot * m.lot, m.lot)))


@kernel
def maintenance_of_part(s: Arrays, row: Any, size: int) -> int:
    """Return the maintenance that a position would need if it had another unsigned size; none if it had none."""
    if size == 0:
        return 0
    m, signed = s.markets[row.market], size if row.size > 0 else -size
    return maintenance_of(s.tiers, m, signed, s.positions[row.position].cost, notional_at(m, size, row.mark))


@kernel
def _allowed(s: Arrays, row: Any, rung: Any) -> int:
    """Return the largest maintenance of the pool with which it has reached the exit of the rung; -1: with none."""
    equity = i64(row.equity) - s.counters[LEAST_SLACK]
    return -1 if equity < 0 else muldiv(equity, rung.exit_den, rung.exit_num, FLOOR)


@kernel
def _ask_minimal(s: Arrays, rows: Array, rung: Any) -> None:
    """Ask for the least lots with which the pool would be restored at the mark, position after position."""
    total, allowed = rows[0].maintenance, _allowed(s, rows[0], rung)
    for i in range(len(rows)):
        rows[i].asked, rows[i].sliced = _OPEN, 0
    for _ in range(len(rows)):
        row = rows[_first(s, rows, rung.order, True)]
        m, whole = s.markets[row.market], abs(row.size)
        total -= maintenance_of_part(s, row, whole)
        few, many = 0, -(-whole // m.lot)
        while few < many:
            middle = (few + many) // 2
            if total + maintenance_of_part(s, row, max(whole - middle * m.lot, 0)) <= allowed:
                many = middle
            else:
                few = middle + 1
        row.asked = min(whole, few * m.lot)
        total += maintenance_of_part(s, row, whole - row.asked)


@kernel
def _ask_smallest_fix(s: Arrays, rows: Array, rung: Any) -> None:
    """Ask for the fewest tiers with which the pool would be restored at the mark, or all of them."""
    allowed, tiers, deepest = _allowed(s, rows[0], rung), 0, 0
    for i in range(len(rows)):
        rows[i].asked, rows[i].sliced = 0, 0
        m = s.markets[rows[i].market]
        deepest = max(deepest, i64(m.end_tier - m.first_tier))
    total = i64(rows[0].maintenance)
    while total > allowed and tiers < deepest:
        tiers += 1
        total = i64(0)
        for i in range(len(rows)):
            row = rows[i]
            row.asked = _step_down(s, s.markets[row.market], row.size, row.mark, tiers)
            total += maintenance_of_part(s, row, abs(row.size) - row.asked)


@kernel
def place_of(s: Arrays, row: Any, order: int) -> int:
    """Return what an order of positions goes by, the least first."""
    if order == _LARGEST_LOSS:
        return value_at(s, row.market, row.size, row.mark) - i64(s.positions[row.position].cost)
    if order == _LARGEST_MAINTENANCE:
        return -maintenance_of_part(s, row, abs(row.size))
    return 0


@kernel
def _first(s: Arrays, rows: Array, order: int, is_open: bool) -> int:
    """Return the first in an order of the rows that are not settled yet, or else of those that ask for something."""
    lowest, found = i64(0), -1
    for i in range(len(rows)):
        if rows[i].asked == _OPEN if is_open else rows[i].asked > 0:
            place = place_of(s, rows[i], order)
            if found < 0 or place < lowest:
                lowest, found = place, i
    return found


@kernel
def _keep_first(s: Arrays, rows: Array, order: int) -> None:
    """Leave what the first in an order asks for, of the rows that ask for something."""
    found = _first(s, rows, order, False)
    for i in range(len(rows)):
        if i != found:
            rows[i].asked, rows[i].sliced = 0, 0


@kernel
def _limit(s: Arrays, row: Any, rung: Any) -> int:
    """Return the worst price that a forced order takes."""
    m, is_long = s.markets[row.market], row.size > 0
    if rung.limit == _BANKRUPTCY:
        return limit_at(m, row.size, row.bankruptcy_value)
    if rung.limit == _BANKRUPTCY_BAND:
        limit = limit_at(m, row.size, row.bankruptcy_value)
        return limit if limit in (NO_LIMIT, 0, BOUND) else _band(m, is_long, limit, 1, rung.limit_bp)
    if rung.limit == _MARK_BAND:
        return _band(m, is_long, row.mark, m.mark_factor, rung.limit_bp)
    if rung.limit == _ORACLE_BAND:
        base = i64(m.oracle) if m.oracle else i64(row.mark)
        return _band(m, is_long, base, m.mark_factor, rung.limit_bp)
    if rung.limit == _ZERO_EQUITY:
        return limit_at(m, row.size, value_at(s, row.market, row.size, row.mark) - row.equity)
    if rung.limit == _FILLABLE:
        return limit_at(m, row.size, value_at(s, row.market, row.size, row.mark) - _discount(s, row, rung))
    return NO_LIMIT


@kernel
def _discount(s: Arrays, row: Any, rung: Any) -> int:
    """Return ``spread * (1 - equity / maintenance)`` of a position's maintenance, the bracket from 0 to 1."""
    if row.maintenance <= 0:
        return 0
    missing = min(max(row.maintenance - row.equity, 0), row.maintenance)
    whole = muldiv(maintenance_of_part(s, row, abs(row.size)), rung.spread_num, rung.spread_den, FLOOR)
    return muldiv(whole, missing, row.maintenance, FLOOR)


@kernel
def _is_sliced(pool: Any, m: Any, row: Any, rung: Any, ts: int) -> bool:
    """Tell whether only a slice of a position is sent: it is large, and none of the pool was sent of late."""
    if rung.slice_above == 0 or pool.cooldown_until > ts:
        return False
    return bool(notional_at(m, row.size, row.mark) > rung.slice_above)


@kernel
def _band(m: Any, is_long: bool, base: int, scale: int, basis_points: int) -> int:
    """Return the price some basis points beyond a mark or a limit, rounded to the tick as a limit is."""
    factor = _POINTS - basis_points if is_long else _POINTS + basis_points
    if factor <= 0:
        return 0
    ticks = divided_product(base, factor, (_POINTS, scale, m.tick), CEIL if is_long else FLOOR)
    return price_of(m, ticks)


@kernel
def _step_down(s: Arrays, m: Any, size: int, mark: int, tiers: int) -> int:
    """Return the least whole lots that bring a position down by some margin tiers, the lowest at most."""
    by_size = m.margin_basis == BY_SIZE
    key = abs(size) if by_size else notional_at(m, size, mark)
    tier = m.end_tier - 1
    while tier > m.first_tier and s.tiers[tier].start > key:
        tier -= 1
    if tier <= m.first_tier:
        return 0
    edge = s.tiers[max(tier - tiers, m.first_tier) + 1].start
    keep = edge - 1 if by_size else worth_at_most(m, edge, mark)
    cut = abs(size) - keep
    return i64(min(abs(size), -(-cut // m.lot) * m.lot))


@kernel
def worth_at_most(m: Any, value: int, mark: int) -> int:
    """Return the largest size that is worth at most a value at a mark."""
    # The largest size whose exact value rounds to the value: at most half an atom above it.
    above = 2 * value + 1
    if m.inverse:
        keep = divided_product(above, mark, (2, m.mark_num, 1), FLOOR)
    else:
        keep = divided_product(above, m.mark_den, (2, mark, m.mark_num), FLOOR)
    if keep == OVERFLOW:
        return BOUND
    while keep > 0 and notional_at(m, keep, mark) > value:
        keep -= 1
    return keep
