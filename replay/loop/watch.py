"""The trigger certificate: find every pool in breach without looking at every pool (engine.md section 2).

A pool's slack is ``S = cash + sum f_m(P_m)`` with ``f = V - cost - maintenance`` of each position. Each
position holds a band ``[lo, hi]`` of marks and ``floor <= min f`` over it; the pool holds
``reserve = cash + sum floor``. While the reserve is not negative (or, where equality is a breach, not below
one atom) and every mark is inside its band, ``S >= reserve >= 0``: no breach. A mark that leaves a band, or a booking that makes the reserve negative,
makes the pool dirty, and dirty pools are judged exactly at the end of the step. How bands are chosen
changes the cost of watching, never its result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from replay.loop.margin import WORST, is_valued, notional_at, slack, term
from replay.loop.state import (
    BREACHES,
    DIRTY,
    FULL_HEAP,
    POSITIONS,
    RECHECKS,
    STEP_TS,
    Arrays,
)
from replay.tape.schema import Grade

Array = npt.NDArray[Any]

_UNKNOWN = int(Grade.UNKNOWN)
_HIGHEST_MARK = 1 << 61


@njit(cache=True)
def soil(s: Arrays, pool: int) -> None:
    """Note a pool to be judged at the end of the step."""
    p = s.pools[pool]
    if p.dirty or p.special or p.grade == _UNKNOWN:
        return
    p.dirty = 1
    s.dirty[s.counters[DIRTY]] = pool
    s.counters[DIRTY] += 1


@njit(cache=True)
def _first_mark_reaching(s: Arrays, slot: int, notional: int, low: int, high: int) -> int:
    """Return the first mark in ``(low, high]`` at which the notional has crossed a tier's edge.

    The notional is monotone in the mark (rising for linear, falling for inverse contracts), also after
    rounding, so bisection is exact. ``low`` must lie before the edge and ``high`` behind it.
    """
    p = s.positions[slot]
    before = notional_at(s, p.size, p.market, low) >= notional
    while high - low > 1:
        middle = low + (high - low) // 2
        if (notional_at(s, p.size, p.market, middle) >= notional) == before:
            low = middle
        else:
            high = middle
    return high


@njit(cache=True)
def floor_on(s: Arrays, slot: int, low: int, high: int) -> int:
    """Return the least ``f`` of a position over the marks ``[low, high]``.

    ``f`` is monotone between the edges of tiers, so the ends and both sides of each edge inside suffice.
    """
    least = min(term(s, slot, low), term(s, slot, high))
    p = s.positions[slot]
    first, last = s.tier_first[p.market], s.tier_first[p.market + 1]
    if p.size == 0 or last - first <= 1 or least == WORST:
        return least
    at_low, at_high = notional_at(s, p.size, p.market, low), notional_at(s, p.size, p.market, high)
    smaller, larger = min(at_low, at_high), max(at_low, at_high)
    for tier in range(first + 1, last):
        edge = s.tier_from[tier]
        if smaller < edge <= larger:
            mark = _first_mark_reaching(s, slot, edge, low, high)
            least = min(least, min(term(s, slot, mark - 1), term(s, slot, mark)))
    return least


@njit(cache=True)
def _void(s: Arrays, slot: int) -> None:
    p = s.positions[slot]
    s.pools[p.pool].reserve -= p.floor
    p.floor = 0
    p.lo = 0
    p.hi = 0


@njit(cache=True)
def touch(s: Arrays, slot: int) -> None:
    """Bring the certificate up to date after a booking changed a position's size or cost."""
    p = s.positions[slot]
    pool = s.pools[p.pool]
    if pool.special or pool.grade == _UNKNOWN:
        return
    if p.size == 0:
        _void(s, slot)
        if pool.reserve < s.margin[0]:
            soil(s, p.pool)
        return
    mark = s.markets[p.market].mark
    if p.hi == 0 or mark < p.lo or mark > p.hi:
        soil(s, p.pool)
        return
    floor = floor_on(s, slot, p.lo, p.hi)
    if floor == WORST:
        _void(s, slot)
        soil(s, p.pool)
        return
    pool.reserve += floor - p.floor
    p.floor = floor
    if pool.reserve < s.margin[0]:
        soil(s, p.pool)


@njit(cache=True)
def _is_live(s: Arrays, heap: int, key: int, slot: int) -> bool:
    p = s.positions[slot]
    if p.hi == 0 or p.size == 0:
        return False
    return p.hi == key if heap & 1 else -p.lo == key


@njit(cache=True)
def _sift_down(keys: Array, slots: Array, start: int, size: int, index: int) -> None:
    while True:
        child = 2 * index + 1
        if child >= size:
            return
        if child + 1 < size and keys[start + child + 1] < keys[start + child]:
            child += 1
        if keys[start + index] <= keys[start + child]:
            return
        keys[start + index], keys[start + child] = keys[start + child], keys[start + index]
        slots[start + index], slots[start + child] = slots[start + child], slots[start + index]
        index = child


@njit(cache=True)
def _push(s: Arrays, heap: int, key: int, slot: int) -> None:
    start = s.heap_start[heap]
    index = s.heap_size[heap]
    s.heap_size[heap] += 1
    while index > 0:
        parent = (index - 1) // 2
        if s.heap_key[start + parent] <= key:
            break
        s.heap_key[start + index] = s.heap_key[start + parent]
        s.heap_position[start + index] = s.heap_position[start + parent]
        index = parent
    s.heap_key[start + index] = key
    s.heap_position[start + index] = slot


@njit(cache=True)
def _pop(s: Arrays, heap: int) -> None:
    start = s.heap_start[heap]
    s.heap_size[heap] -= 1
    last = s.heap_size[heap]
    s.heap_key[start] = s.heap_key[start + last]
    s.heap_position[start] = s.heap_position[start + last]
    _sift_down(s.heap_key, s.heap_position, start, last, 0)


@njit(cache=True)
def _has_room(s: Arrays, heap: int) -> bool:
    """Make room for one more entry by dropping stale ones; False if the host must grow the heap."""
    start = s.heap_start[heap]
    room = s.heap_start[heap + 1] - start
    if s.heap_size[heap] < room:
        return True
    kept = 0
    for i in range(s.heap_size[heap]):
        key, slot = s.heap_key[start + i], s.heap_position[start + i]
        if _is_live(s, heap, key, slot):
            s.heap_key[start + kept] = key
            s.heap_position[start + kept] = slot
            kept += 1
    s.heap_size[heap] = kept
    for index in range(kept // 2 - 1, -1, -1):
        _sift_down(s.heap_key, s.heap_position, start, kept, index)
    return 2 * kept < room


@njit(cache=True)
def wake(s: Arrays, market: int) -> None:
    """Void the bands that the market's mark has left and make their pools dirty."""
    mark = s.markets[market].mark
    for side in range(2):
        heap = 2 * market + side
        threshold = mark if side == 1 else -mark
        start = s.heap_start[heap]
        while s.heap_size[heap] > 0 and s.heap_key[start] < threshold:
            key, slot = s.heap_key[start], np.int64(s.heap_position[start])
            _pop(s, heap)
            if _is_live(s, heap, key, slot):
                _void(s, slot)
                soil(s, s.positions[slot].pool)


@njit(cache=True)
def soil_holders(s: Arrays, market: int) -> None:
    """Make every holder of a market dirty: its first mark, or a rule that changed for the whole market."""
    for slot in range(s.counters[POSITIONS]):
        if s.positions[slot].market == market and s.positions[slot].size != 0:
            soil(s, s.positions[slot].pool)


@njit(cache=True)
def _band(s: Arrays, slot: int, mark: int, target: int) -> None:
    """Give a position the widest band round the mark, by halving steps, over which ``f >= target``."""
    p = s.positions[slot]
    low, step = 1, mark - 1
    while step > 0 and floor_on(s, slot, low, mark) < target:
        step //= 2
        low = mark - step
    high, step = min(4 * mark, _HIGHEST_MARK), min(3 * mark, _HIGHEST_MARK - mark)
    while step > 0 and floor_on(s, slot, mark, high) < target:
        step //= 2
        high = mark + step
    if p.lo != low:
        _push(s, 2 * p.market, -low, slot)
    if p.hi != high:
        _push(s, 2 * p.market + 1, high, slot)
    p.lo = low
    p.hi = high
    p.floor = floor_on(s, slot, low, high)


@njit(cache=True)
def _rearm(s: Arrays, pool: int, margin: int) -> None:
    """Give a pool with slack ``margin`` >= 0 a new certificate; half of the slack stays in reserve."""
    open_positions = 0
    slot = s.pools[pool].first
    while slot >= 0:
        if s.positions[slot].size != 0:
            open_positions += 1
        slot = s.positions[slot].next
    share = margin // (2 * open_positions)
    reserve = s.pools[pool].cash
    slot = s.pools[pool].first
    while slot >= 0:
        p = s.positions[slot]
        if p.size != 0:
            mark = s.markets[p.market].mark
            _band(s, slot, mark, term(s, slot, mark) - share)
            reserve += p.floor
        slot = p.next
    s.pools[pool].reserve = reserve


@njit(cache=True)
def _heaps_have_room(s: Arrays, pool: int) -> bool:
    slot = s.pools[pool].first
    while slot >= 0:
        p = s.positions[slot]
        if p.size != 0:
            for side in range(2):
                if not _has_room(s, 2 * p.market + side):
                    s.counters[FULL_HEAP] = 2 * p.market + side
                    return False
        slot = p.next
    return True


@njit(cache=True)
def judge(s: Arrays) -> bool:
    """Judge the dirty pools exactly, ascending; breaches go to ``s.breaches``, the others are re-armed.

    Returns:
        False if a wake-up heap is full: grow ``counters[FULL_HEAP]`` and call again.
    """
    count = s.counters[DIRTY]
    s.dirty[:count] = np.sort(s.dirty[:count])
    done = 0
    room = True
    for i in range(count):
        pool = s.dirty[i]
        if not is_valued(s, pool):
            s.pools[pool].dirty = 0
            done += 1
            continue
        if _is_flat(s, pool):
            s.pools[pool].dirty = 0
            done += 1
            continue
        margin = slack(s, pool)
        if margin < s.margin[0]:
            s.breaches[s.counters[BREACHES]] = pool
            s.counters[BREACHES] += 1
        else:
            if not _heaps_have_room(s, pool):
                room = False
                break
            _rearm(s, pool, margin)
        s.counters[RECHECKS] += 1
        s.pools[pool].dirty = 0
        done += 1
    for i in range(done, count):
        s.dirty[i - done] = s.dirty[i]
    s.counters[DIRTY] = count - done
    return room


@njit(cache=True)
def _is_flat(s: Arrays, pool: int) -> bool:
    slot = s.pools[pool].first
    while slot >= 0:
        if s.positions[slot].size != 0:
            return False
        slot = s.positions[slot].next
    return True


@njit(cache=True)
def set_mark(s: Arrays, market: int, mark: int) -> None:
    """Set the mark of a market; ``previous_mark`` is the one at the end of the last step that changed it."""
    m = s.markets[market]
    if m.has_mark and m.mark == mark:
        return
    first = m.has_mark == 0
    if m.mark_ts != s.counters[STEP_TS]:
        m.previous_mark = mark if first else m.mark
        m.mark_ts = s.counters[STEP_TS]
    m.mark = mark
    m.has_mark = 1
    if first:
        soil_holders(s, market)
    else:
        wake(s, market)
