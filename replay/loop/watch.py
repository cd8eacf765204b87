"""The trigger certificate: find every pool in breach without looking at every pool (engine.md section 2).

A pool's slack is ``S = cash + sum f_m(P_m)`` with ``f = V - cost - maintenance`` of each position. Each
position holds a band ``[lo, hi]`` of marks and ``floor <= min f`` over it; the pool holds
``reserve = cash + sum floor``. While the reserve is not negative (where equality is a breach: not below one
atom) and every mark is inside its band, ``S >= reserve >= 0``: no breach. A mark that leaves a band, or a
booking that makes the reserve negative, makes the pool dirty, and dirty pools are judged exactly at the end
of the step. How bands are chosen changes the cost of watching, never its result.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from replay.exact import OVERFLOW
from replay.kernels import i64, kernel
from replay.loop.guard import follow
from replay.loop.margin import WORST, notional_at, slack, term, term_at, term_of
from replay.loop.state import (
    ANCHORING,
    BREACHES,
    DIRTY,
    FULL_HEAP,
    GUARD_MS,
    LEAST_SLACK,
    MARKS_MOVED,
    MARKS_VERSION,
    POSITIONS,
    RECHECKS,
    RENEWED,
    RESTORED,
    STEP_TS,
    TOUCHED,
    WAITING,
    Arrays,
    bring_near,
)
from replay.rules.plan import BY_NOTIONAL
from replay.tape.schema import Grade

Array = npt.NDArray[Any]

_UNKNOWN = int(Grade.UNKNOWN)
_HIGHEST_MARK = 1 << 61
_FLOAT_SLACK = 1e-9
_NEVER = -(1 << 63)


@kernel
def soil(s: Arrays, pool: int) -> None:
    """Note a pool to be judged at the end of the step.

    In an anchored run the equity of a pool counts as known in the steps in which it was anchored, and only
    there; in any other run unless its grade is unknown.
    """
    p = s.pools[pool]
    if p.dirty or p.special:
        return
    if s.counters[ANCHORING]:
        if p.anchor_ts != s.counters[STEP_TS]:
            return
    elif p.grade == _UNKNOWN:
        return
    p.dirty = 1
    s.dirty[s.counters[DIRTY]] = pool
    s.counters[DIRTY] += 1


@kernel
def _first_mark_reaching(m: Any, size: int, notional: int, low: int, high: int) -> int:
    """Return the first mark in ``(low, high]`` at which the notional has crossed a tier's edge.

    The notional is monotone in the mark (rising for linear, falling for inverse contracts), also after
    rounding, so bisection is exact; it starts close to where float arithmetic has the edge. ``low`` must lie before
    the edge and ``high`` behind it.
    """
    before = notional_at(m, size, low) >= notional
    lots = float(abs(size)) * float(m.mark_num)
    edge = lots / float(notional) if m.inverse != 0 else float(notional) * float(m.mark_den) / lots
    width = edge * _FLOAT_SLACK + 2.0
    for end in (edge - width, edge + width):
        if float(low) + 1.0 < end < float(high) - 1.0:
            middle = i64(end)
            if (notional_at(m, size, middle) >= notional) == before:
                low = middle
            else:
                high = middle
    while high - low > 1:
        middle = low + (high - low) // 2
        if (notional_at(m, size, middle) >= notional) == before:
            low = middle
        else:
            high = middle
    return high


@kernel
def _least_at_edges(
    tiers: Array, m: Any, size: int, cost: int, marks: tuple[int, int], notionals: tuple[int, int], least: int
) -> int:
    """Return the lesser of ``least`` and of ``f`` on both sides of each edge of a tier between two marks, ascending."""
    first, last = i64(m.first_tier), i64(m.end_tier)
    if last - first <= 1 or m.margin_basis != BY_NOTIONAL:
        return least
    smaller, larger = min(notionals[0], notionals[1]), max(notionals[0], notionals[1])
    for tier in range(first + 1, last):
        edge = tiers[tier].start
        if edge > larger:
            break
        if edge > smaller:
            mark = _first_mark_reaching(m, size, edge, marks[0], marks[1])
            least = min(least, term_of(tiers, m, size, cost, mark - 1))
            least = min(least, term_of(tiers, m, size, cost, mark))
    return least


@kernel
def floor_on(tiers: Array, m: Any, size: int, cost: int, low: int, high: int) -> int:
    """Return the least ``f`` of a position of a size and cost over the marks ``[low, high]``.

    A rate is at most 1, so between the edges of tiers a long has its least ``f`` at the lower end, a short at the upper
    one, for any payoff: that end and both sides of each edge inside suffice.
    """
    if size == 0:
        return -cost
    at_low, at_high = notional_at(m, size, low), notional_at(m, size, high)
    if at_low == OVERFLOW or at_high == OVERFLOW:
        return WORST
    least = term_at(tiers, m, size, cost, at_low if size > 0 else at_high)
    return _least_at_edges(tiers, m, size, cost, (low, high), (at_low, at_high), least)


@kernel
def _floor_to(
    tiers: Array, m: Any, size: int, cost: int, mark: int, notional: int, now: int, end: int
) -> int:
    """Return :func:`floor_on` between a mark, at which notional and ``f`` are known, and another on either side."""
    at_end = notional_at(m, size, end)
    if at_end == OVERFLOW:
        return WORST
    least = now
    if (end < mark) == (size > 0):
        least = term_at(tiers, m, size, cost, at_end)
    if end < mark:
        return _least_at_edges(tiers, m, size, cost, (end, mark), (at_end, notional), least)
    return _least_at_edges(tiers, m, size, cost, (mark, end), (notional, at_end), least)


@kernel
def _void(s: Arrays, slot: int) -> None:
    p = s.positions[slot]
    s.pools[p.pool].reserve -= p.floor
    p.floor = 0
    p.lo = 0
    p.hi = 0


@kernel
def touch(s: Arrays, slot: int) -> None:
    """Bring the certificate up to date after a booking changed a position's size or cost."""
    p = s.positions[slot]
    pool = s.pools[p.pool]
    if pool.special or pool.grade == _UNKNOWN:
        return
    if pool.waiting:
        soil(s, p.pool)
    if p.size == 0:
        _void(s, slot)
        # Without its position in a market that has no mark yet, the pool may be valued for the first time.
        if pool.reserve < s.counters[LEAST_SLACK] or not s.markets[p.market].has_mark:
            soil(s, p.pool)
        return
    mark = s.markets[p.market].mark
    if p.hi == 0 or mark < p.lo or mark > p.hi:
        if not s.markets[p.market].has_mark or not renew(s, slot, -1):
            soil(s, p.pool)
        return
    floor = floor_on(s.tiers, s.markets[p.market], p.size, p.cost, p.lo, p.hi)
    if floor == WORST:
        _void(s, slot)
        soil(s, p.pool)
        return
    pool.reserve += floor - p.floor
    p.floor = floor
    if pool.reserve < s.counters[LEAST_SLACK] and not renew(s, slot, -1):
        soil(s, p.pool)


@kernel
def _is_live(s: Arrays, heap: int, key: int, slot: int) -> bool:
    p = s.positions[slot]
    if p.hi == 0 or p.size == 0:
        return False
    return p.hi == key if heap & 1 else -p.lo == key


@kernel
def _sift_down(entries: Array, start: int, size: int, index: int) -> None:
    """Let an entry find its place below, in a heap of which each has four below it: they share a cache line."""
    key, position = entries[start + index].key, entries[start + index].position
    while True:
        first = 4 * index + 1
        if first >= size:
            break
        child, least = first, entries[start + first].key
        for other in range(first + 1, min(first + 4, size)):
            if entries[start + other].key < least:
                child, least = other, entries[start + other].key
        if key <= least:
            break
        entries[start + index].key, entries[start + index].position = least, entries[start + child].position
        index = child
    entries[start + index].key, entries[start + index].position = key, position


@kernel
def _push(s: Arrays, heap: int, key: int, slot: int) -> None:
    start = s.heaps[heap].start
    index = s.heaps[heap].size
    s.heaps[heap].size += 1
    while index > 0:
        parent = (index - 1) // 4
        if s.entries[start + parent].key <= key:
            break
        s.entries[start + index].key = s.entries[start + parent].key
        s.entries[start + index].position = s.entries[start + parent].position
        index = parent
    s.entries[start + index].key = key
    s.entries[start + index].position = slot


@kernel
def _pop(s: Arrays, heap: int) -> None:
    start = s.heaps[heap].start
    s.heaps[heap].size -= 1
    last = s.heaps[heap].size
    s.entries[start].key = s.entries[start + last].key
    s.entries[start].position = s.entries[start + last].position
    _sift_down(s.entries, start, last, 0)


@kernel
def _enter(s: Arrays, heap: int, key: int, slot: int, first: int) -> None:
    """Enter a position into a heap, in place of the first entry where that is stale."""
    if heap == first:
        start = s.heaps[heap].start
        s.entries[start].key, s.entries[start].position = key, slot
        _sift_down(s.entries, start, s.heaps[heap].size, 0)
    else:
        _push(s, heap, key, slot)


@kernel
def _has_room(s: Arrays, heap: int) -> bool:
    """Make room for one more entry by dropping stale ones; False if the host must grow the heap."""
    start = s.heaps[heap].start
    room = s.heaps[heap].room
    if s.heaps[heap].size < room:
        return True
    kept = 0
    for i in range(s.heaps[heap].size):
        key, slot = s.entries[start + i].key, s.entries[start + i].position
        if _is_live(s, heap, key, slot):
            s.entries[start + kept].key = key
            s.entries[start + kept].position = slot
            kept += 1
    s.heaps[heap].size = kept
    for index in range((kept - 2) // 4, -1, -1):
        _sift_down(s.entries, start, kept, index)
    return 2 * kept < room


@kernel
def _band(s: Arrays, slot: int, share: int, first: int) -> None:
    """Give a position a wide band round the mark over which ``f`` falls by no more than a share.

    ``first`` is a heap whose first entry is of the band that the mark has left, -1: none.

    On the side on which the position loses the search starts where a straight line reaches the target, and
    halves the step until the exact floor does; on the other side it starts with the band that it has, if that is
    wide, else with the widest.
    """
    p = s.positions[slot]
    m, size, cost = s.markets[p.market], p.size, p.cost
    mark = m.mark
    notional = notional_at(m, size, mark)
    now = term_at(s.tiers, m, size, cost, notional)
    target = now - share
    straight = i64(min(float(mark) * float(share) / max(float(notional), 1.0) * 0.98, float(_HIGHEST_MARK)))
    low, step = 1, mark - 1
    if size > 0:
        step = min(step, straight)
        low = mark - step
    below = _floor_to(s.tiers, m, size, cost, mark, notional, now, low)
    while step > 0 and below < target:
        step //= 2
        low = mark - step
        below = _floor_to(s.tiers, m, size, cost, mark, notional, now, low)
    high = p.hi if p.hi > 2 * mark else min(4 * mark, _HIGHEST_MARK)
    step = high - mark
    if size < 0:
        step = min(step, straight)
        high = mark + step
    above = _floor_to(s.tiers, m, size, cost, mark, notional, now, high)
    while step > 0 and above < target:
        step //= 2
        high = mark + step
        above = _floor_to(s.tiers, m, size, cost, mark, notional, now, high)
    if p.lo != low:
        _enter(s, 2 * p.market, -low, slot, first)
    if p.hi != high:
        _enter(s, 2 * p.market + 1, high, slot, first)
    p.lo = low
    p.hi = high
    p.floor = min(below, above)


@kernel
def wake(s: Arrays, market: int) -> None:
    """Renew the bands that the market's mark has left; pools whose reserve cannot pay for it become dirty."""
    mark = s.markets[market].mark
    for side in range(2):
        heap = 2 * market + side
        threshold = mark if side == 1 else -mark
        start = s.heaps[heap].start
        while s.heaps[heap].size > 0 and s.entries[start].key < threshold:
            key, slot = s.entries[start].key, i64(s.entries[start].position)
            is_live = _is_live(s, heap, key, slot)
            if is_live and renew(s, slot, heap):
                continue
            _pop(s, heap)
            if is_live:
                _void(s, slot)
                soil(s, s.positions[slot].pool)


@kernel
def renew(s: Arrays, slot: int, first: int) -> bool:
    """Give one position a new band from the reserve of its pool, so that its others need not be looked at.

    Most of what the pool then has left goes into the band: what is kept is for fees and for its other positions. The
    certificate holds as before: the reserve stays ``cash + sum floor`` and every other band is as it was.

    Args:
        s: The state.
        slot: An open position of a watched pool in a market with a mark.
        first: A heap whose first entry is the position's, with a band that the mark has left; -1: none.

    Returns:
        False if the pool has to be judged: it is dirty already, or its reserve would be used up.
    """
    p = s.positions[slot]
    pool, market = s.pools[p.pool], i64(p.market)
    down, up = s.heaps[2 * market], s.heaps[2 * market + 1]
    if pool.dirty or pool.waiting or s.counters[ANCHORING] or down.size >= down.room or up.size >= up.room:
        return False
    now = term(s.tiers, s.markets[market], p, s.markets[market].mark)
    if now == WORST:
        return False
    left = pool.reserve - p.floor + now
    share = left - left // 8
    if share <= 0 or left - share < s.counters[LEAST_SLACK]:
        return False
    pool.reserve -= p.floor
    _band(s, slot, share, first)
    pool.reserve += p.floor
    s.counters[RENEWED] += 1
    return True


@kernel
def soil_holders(s: Arrays, market: int) -> None:
    """Make every holder of a market dirty: its first mark, or a rule that changed for the whole market."""
    for slot in range(s.counters[POSITIONS]):
        if s.positions[slot].market == market and s.positions[slot].size != 0:
            soil(s, s.positions[slot].pool)


@kernel
def _mend(s: Arrays, pool: int) -> bool:
    """Give the open positions of a pool that have no band one from its reserve; False if it is too small.

    The other positions keep their bands: a pool with hundreds of positions is not looked at as a whole because
    it opened one more. The reserve that is left proves that the pool is not in breach.
    """
    p = s.pools[pool]
    slot = p.first
    while slot >= 0:
        position = s.positions[slot]
        if position.size != 0 and position.hi == 0:
            m = s.markets[position.market]
            now = term(s.tiers, m, position, m.mark)
            left = p.reserve + now
            if now == WORST or left // 2 < s.counters[LEAST_SLACK] or left < 0:
                return False
            _band(s, slot, left // 4, -1)
            p.reserve += position.floor
        slot = position.next
    return p.reserve >= s.counters[LEAST_SLACK]


@kernel
def _rearm(s: Arrays, pool: int, open_positions: int, margin: int) -> None:
    """Give a pool with slack ``margin`` >= 0 a new certificate; half of the slack stays in reserve."""
    share = margin // (2 * open_positions)
    reserve = s.pools[pool].cash
    slot = s.pools[pool].first
    while slot >= 0:
        p = s.positions[slot]
        if p.size != 0:
            _band(s, slot, share, -1)
            reserve += p.floor
        slot = p.next
    s.pools[pool].reserve = reserve


@kernel
def _look_over(s: Arrays, pool: int) -> tuple[int, int]:
    """Return how many positions of a pool are open, -1 if one has no mark, and how many have no band."""
    count, bare = i64(0), i64(0)
    slot = s.pools[pool].first
    while slot >= 0:
        p = s.positions[slot]
        if p.size != 0:
            if s.markets[p.market].has_mark == 0:
                return i64(-1), bare
            count += 1
            bare += p.hi == 0
        slot = p.next
    return count, bare


@kernel
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


@kernel
def _sort(numbers: Array) -> None:
    """Sort numbers in place, without the arrays that NumPy's sort makes: Shell's method with Knuth's gaps."""
    gap = 1
    while 3 * gap + 1 < len(numbers):
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, len(numbers)):
            number, place = numbers[i], i
            while place >= gap and numbers[place - gap] > number:
                numbers[place] = numbers[place - gap]
                place -= gap
            numbers[place] = number
        gap //= 3


@kernel
def judge(s: Arrays, cursors: Array) -> bool:
    """Judge the dirty pools exactly, ascending; breaches go to ``s.breaches``, the others are re-armed.

    A pool in liquidation that is not in breach any more, or flat, waits no longer and is counted as restored.

    Args:
        s: The state at the end of a step.
        cursors: int64, at least TOUCHED, to work in.

    Returns:
        False if a wake-up heap is full: grow ``counters[FULL_HEAP]`` and call again.
    """
    count = s.counters[DIRTY]
    if count == 0:
        return True
    _sort(s.dirty[:count])
    done = 0
    room, touched = True, i64(0)
    for i in range(count):
        if i % TOUCHED == 0 and count > 1:
            touched += bring_near(s, s.dirty, i, min(i + TOUCHED, count), cursors)
        pool = s.dirty[i]
        expired = s.counters[ANCHORING] and s.pools[pool].anchor_ts != s.counters[STEP_TS]
        open_positions, bare = _look_over(s, pool)
        if expired or open_positions < 0:
            s.pools[pool].dirty = 0
            done += 1
            continue
        is_flat, is_proved = open_positions == 0, s.pools[pool].reserve >= s.counters[LEAST_SLACK]
        if not is_flat and (bare or not is_proved) and not _heaps_have_room(s, pool):
            room = False
            break
        is_sound = is_flat or (is_proved if bare == 0 else _mend(s, pool))
        margin = i64(0) if is_sound else slack(s, pool)
        s.pools[pool].in_breach = not is_sound and margin < s.counters[LEAST_SLACK]
        if s.pools[pool].in_breach:
            s.breaches[s.counters[BREACHES]] = pool
            s.counters[BREACHES] += 1
        elif not is_sound:
            _rearm(s, pool, open_positions, margin)
        if s.pools[pool].waiting and not s.pools[pool].in_breach:
            s.pools[pool].waiting = 0
            s.counters[RESTORED] += 1
        if not is_flat:
            s.counters[RECHECKS] += 1
        s.pools[pool].dirty = 0
        done += 1
    for i in range(done, count):
        s.dirty[i - done] = s.dirty[i]
    s.counters[DIRTY] = count - done
    return room or touched == _NEVER  # which no sum is: without it bring_near would be compiled away


@kernel
def wait_for_marks(s: Arrays, pools: Array) -> None:
    """Let the pools in liquidation that still have positions wait.

    They are judged again at the end of the next step in which a mark moves or the tape books something to
    them; what their own forced orders booked does not count. Those whose turn did not come are judged in the next
    step, whatever happens in it.
    """
    s.counters[WAITING] = 0
    for pool in pools:
        s.pools[pool].in_breach = False
        s.pools[pool].dirty = 0
        s.pools[pool].waiting = not _is_flat(s, pool)
        if s.pools[pool].waiting:
            s.waiting[s.counters[WAITING]] = pool
            s.counters[WAITING] += 1
    kept = 0
    for i in range(s.counters[DIRTY]):
        if s.pools[s.dirty[i]].dirty:
            s.dirty[kept] = s.dirty[i]
            kept += 1
    s.counters[DIRTY] = kept
    for pool in pools:
        if s.pools[pool].deferred:
            s.pools[pool].deferred = 0
            if s.pools[pool].waiting:
                soil(s, pool)


@kernel
def wake_waiting(s: Arrays) -> None:
    """Have the waiting pools judged at the end of this step."""
    for i in range(s.counters[WAITING]):
        soil(s, i64(s.waiting[i]))


@kernel
def _is_flat(s: Arrays, pool: int) -> bool:
    slot = s.pools[pool].first
    while slot >= 0:
        if s.positions[slot].size != 0:
            return False
        slot = s.positions[slot].next
    return True


@kernel
def set_mark(s: Arrays, market: int, mark: int) -> None:
    """Set the mark of a market; ``previous_mark`` is the one at the end of the last step that changed it."""
    m = s.markets[market]
    if m.has_mark and m.mark == mark:
        return
    if s.counters[GUARD_MS]:
        follow(s, market, mark)
    first = m.has_mark == 0
    if m.mark_ts != s.counters[STEP_TS]:
        m.previous_mark = mark if first else m.mark
        m.mark_ts = s.counters[STEP_TS]
    m.mark = mark
    m.has_mark = 1
    s.counters[MARKS_MOVED] += 1
    s.counters[MARKS_VERSION] += 1
    if first:
        soil_holders(s, market)
    else:
        wake(s, market)
