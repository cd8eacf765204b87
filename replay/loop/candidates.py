"""Who may be deleveraged, and at most how leveraged each is: compiled, so that a queue values few of them.

A queue closes the first few of thousands. Valuing a pool means walking all its positions, so a pool that was
valued before keeps what it was worth and the marks of that moment. An ordinary fill changes what it would have been
worth at those marks by what its own position would, exactly; anything else that is booked to it ends that. While no
value of a contract has grown by more than a factor ``1 + r`` or shrunk by more than a factor ``1 - f`` since, with
notional ``N``, of which ``P`` has a positive value, and equity ``E`` then::

    notional now <= (1 + r) * N   equity now >= E - f * P - r * (N - P)   maintenance now <= that at (1 + r) * N

where the last is taken on the straight line if all positions stay in their tiers, else at the largest ``r``. Every
score rises with notional and maintenance and falls with equity, so these give a score that is not exceeded, and
a pool whose bound is behind the last that is closed is never valued.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from replay.exact import FLOOR, HALF_EVEN, muldiv, signed_value
from replay.kernels import i64, kernel
from replay.loop.margin import NOT_ASKED, SHARE_WIDER, maintenance_of, notional_at, valued_pool, worth_of_one
from replay.loop.state import (
    GUESSED,
    MARKS_VERSION,
    SNAPSHOT,
    SNAPSHOT_TS,
    SNAPSHOT_VERSION,
    SNAPSHOTS,
    STEP_TS,
    TOUCHED,
    Arrays,
    bring_near,
)
from replay.tape.schema import Grade
from replay.units import BOUND, NS_PER_SECOND

Array = npt.NDArray[Any]

_UNKNOWN = int(Grade.UNKNOWN)

OPEN, BOUNDED, SETTLED, OUT = range(4)
"""Of a candidate: nothing is known of its pool; bounds are; its figures are exact; it is none after all."""

_WIDEST = 1 / SHARE_WIDER
# As long as a fall ranks in each step; after that keeping worths up costs more than valuing now and then.
_KEPT_NS = 10 * NS_PER_SECOND
_FLOAT_SLACK = 1e-9


class Asks(NamedTuple):
    """What a ranking asks for beside equity and notional of the pools."""

    share: bool  # maintenance of the positions and their share of the equity
    maintenance: bool  # of the pools; a share needs it


@kernel
def _largest_moves(s: Arrays, snapshot: int) -> tuple[float, float]:
    """Return by what part values have grown and shrunk at most since a snapshot.

    Both are kept in ``s.moves`` with the version of the marks for which they hold.
    """
    row, moves = snapshot % SNAPSHOTS, s.moves
    if moves[row, 2] != float(s.counters[MARKS_VERSION]):
        moves[row, 2] = float(s.counters[MARKS_VERSION])
        grown, shrunk = 1.0, 1.0
        for market in range(len(s.markets)):
            m, before = s.markets[market], float(s.snapshots[row, market])
            if before > 0.0:
                factor = before / float(m.mark) if m.inverse != 0 else float(m.mark) / before
                grown, shrunk = max(grown, factor), min(shrunk, factor)
        moves[row, 0] = grown * (1 + _FLOAT_SLACK)
        moves[row, 1] = 1.0 - shrunk * (1 - _FLOAT_SLACK)
    return moves[row, 0] - 1.0, moves[row, 1]


@kernel
def _take_snapshot(s: Arrays) -> int:
    """Return the number of the snapshot of the current marks, taking it if there is none yet."""
    if s.counters[SNAPSHOT_VERSION] != s.counters[MARKS_VERSION]:
        s.counters[SNAPSHOT_VERSION] = s.counters[MARKS_VERSION]
        s.counters[SNAPSHOT] += 1
        s.counters[SNAPSHOT_TS] = s.counters[STEP_TS]
        row = s.counters[SNAPSHOT] % SNAPSHOTS
        for market in range(len(s.markets)):
            s.snapshots[row, market] = s.markets[market].mark
    return i64(s.counters[SNAPSHOT])


@kernel
def _is_kept(s: Arrays, pool: Any) -> bool:
    """Tell whether what a pool was worth at a snapshot is still known, and the marks of that."""
    age = s.counters[SNAPSHOT] - pool.snapshot
    return bool(pool.valued > 0 and pool.snapshot != 0 and age < SNAPSHOTS)


@kernel
def keep_worth(s: Arrays, slot: int, size: int, cost: int, cash_change: int) -> bool:
    """Bring what a pool was worth at a snapshot up to date with a position of another size and cost.

    Args:
        s: The state before the booking.
        slot: The position.
        size: Its size after the booking.
        cost: Its cost after it.
        cash_change: What the booking and its fee add to the cash of the pool.

    Returns:
        False if that is not possible, or not worth it as nobody is ranked any more.
    """
    p = s.positions[np.uint64(slot)]
    pool = s.pools[np.uint64(p.pool)]
    if not _is_kept(s, pool) or s.counters[STEP_TS] - s.counters[SNAPSHOT_TS] > _KEPT_NS:
        return False
    m, mark = s.markets[np.uint64(p.market)], s.snapshots[pool.snapshot % SNAPSHOTS, p.market]
    if mark <= 0:
        return False
    worth = s.valuations[np.uint64(p.pool)]
    with_maintenance = worth[1] != NOT_ASKED
    equity, maintenance, notional = worth[0] + cash_change, worth[1], worth[2]
    most, positive, is_straight = abs(worth[3]), worth[4], worth[3] >= 0
    if p.size != 0:
        fits, profit, now, value, part, rising, _ = worth_of_one(
            s.tiers, m, p.size, p.cost, mark, with_maintenance
        )
        if not fits or most >= BOUND:
            return False
        equity -= profit
        maintenance -= now
        notional -= value
        most -= part
        positive -= rising
    if size != 0:
        fits, profit, now, value, part, rising, is_part_straight = worth_of_one(
            s.tiers, m, size, cost, mark, with_maintenance
        )
        if not fits:
            return False
        equity += profit
        maintenance += now
        notional += value
        most = min(most + part, BOUND)
        positive += rising
        is_straight = is_straight and is_part_straight
    worth[0], worth[1], worth[2] = equity, maintenance, notional
    worth[3], worth[4] = most if is_straight else -most, positive
    return True


@kernel
def _bound(s: Arrays, pool: Any, number: int, c: Any, asks: Asks) -> bool:
    """Bound equity, notional and maintenance of a pool by what it was worth before; False if that is too old."""
    if not _is_kept(s, pool):
        return False
    grown, shrunk = _largest_moves(s, i64(pool.snapshot))
    worth = s.valuations[number]
    if grown > _WIDEST or (asks.maintenance and worth[1] == NOT_ASKED):
        return False
    # Each position is rounded to an atom, then and now.
    rounded = 4 * len(s.markets) + 2
    lost = i64(float(worth[4]) * shrunk + float(worth[2] - worth[4]) * grown) + rounded
    equity, most = worth[0] - lost, abs(worth[3])
    if worth[3] > 0:
        most = min(most, worth[1] + i64(float(most - worth[1]) * grown * SHARE_WIDER) + rounded)
    c.equity, c.pool_maintenance = equity, most
    c.notional = worth[2] + i64(float(worth[2]) * grown) + rounded
    c.share = 1
    if asks.share and equity > 0 and most > 0:
        c.share = max(muldiv(equity, min(c.maintenance, most), most, FLOOR), 1)
    return bool(equity > 0)


@kernel
def _in_profit(
    s: Arrays, slots: Array, first: int, end: int, with_losers: bool, candidates: Array, row: int
) -> int:
    """Write those of the slots ``[first, end)`` that may be closed by what they are worth from a row on.

    Returns:
        The row behind them.
    """
    touched = i64(0)
    for i in range(first, end):  # without a branch: the processor fetches many of them at a time
        touched += s.positions[np.uint64(slots[i])].size
    if touched == 1 << 62:  # never: without it the loop before would be compiled away
        return row
    for i in range(first, end):
        p = s.positions[np.uint64(slots[i])]
        m = s.markets[p.market]
        notional = notional_at(m, p.size, m.mark)
        value = signed_value(p.size, notional, m.inverse != 0)
        c = candidates[row]
        c.position, c.pool, c.size = slots[i], p.pool, abs(p.size)
        c.cost, c.value = p.cost, value
        row += (p.cost != 0) & (notional != 0) & (with_losers or value - p.cost > 0)
    return row


@kernel
def _bring_pools_near(s: Arrays, candidates: Array, first: int, end: int) -> int:
    touched = i64(0)
    for i in range(first, end):
        pool = np.uint64(candidates[i].pool)
        touched += s.pools[pool].cash + s.pools[pool].snapshot + s.valuations[pool, 0]
    return touched


@kernel
def _is_spared(spared: Array, account: int) -> bool:
    found = False
    for other in spared:
        found = found or other == account
    return found


@kernel
def list_candidates(
    s: Arrays,
    slots: Array,
    with_losers: bool,
    spared: Array,
    asks: Asks,
    candidates: Array,
) -> tuple[int, int]:
    """List the positions that may be closed.

    Args:
        s: The state at the end of the step.
        slots: Open positions of one side of a market that has a mark.
        with_losers: Whether positions without profit are candidates too.
        spared: int64, accounts that the rules spare.
        asks: What is asked for.
        candidates: CANDIDATE records, filled with what is ``OPEN`` or ``BOUNDED``; one more than there are slots.

    Returns:
        How many were written, and a sum over what was touched, without meaning.
    """
    count, touched = i64(0), i64(0)
    for first in range(0, len(slots), GUESSED):
        behind = _in_profit(s, slots, first, min(first + GUESSED, len(slots)), with_losers, candidates, count)
        touched += _bring_pools_near(s, candidates, count, behind)
        for i in range(count, behind):
            found, c = candidates[i], candidates[count]
            number = i64(found.pool)
            pool = s.pools[np.uint64(number)]
            if pool.special or pool.in_breach or _is_spared(spared, pool.account):
                continue
            c.position, c.pool, c.size = found.position, number, found.size
            c.cost, c.value = found.cost, found.value
            c.known = pool.grade != _UNKNOWN
            notional = abs(c.value)
            c.maintenance = 0
            if asks.share or not c.known:
                p = s.positions[np.uint64(c.position)]
                c.maintenance = maintenance_of(s.tiers, s.markets[p.market], p.size, p.cost, notional)
            c.wallet = pool.cash if c.known else notional
            is_bounded = c.known != 0 and _bound(s, pool, number, c, asks)
            c.standing = BOUNDED if is_bounded else OPEN
            count += 1
    return count, touched


@kernel
def settle(s: Arrays, candidates: Array, which: Array, asks: Asks, near: Array) -> int:
    """Value the pools of some candidates; those whose pool has no value or no equity are out.

    A pool of unknown equity counts as if the position were alone and its equity the position's own value.

    Args:
        s: The state.
        candidates: CANDIDATE records.
        which: int64, the rows.
        asks: What is asked for.
        near: int64[2, TOUCHED] to work in.

    Returns:
        A sum over what was touched, without meaning.
    """
    snapshot = _take_snapshot(s)
    pools, touched = near[0], i64(0)
    for k in range(len(which)):
        if k % TOUCHED == 0:
            count = min(TOUCHED, len(which) - k)
            for other in range(count):
                pools[other] = candidates[which[k + other]].pool
            touched += bring_near(s, pools, 0, count, near[1])
        c = candidates[which[k]]
        number = i64(c.pool)
        if not valued_pool(s, number, asks.maintenance):
            c.standing = OUT
            continue
        worth = s.valuations[number]
        s.pools[number].snapshot = snapshot
        c.standing = SETTLED
        if not c.known:
            c.equity = c.notional = c.share = abs(c.value)
            c.pool_maintenance = c.maintenance
            continue
        if worth[0] <= 0:
            c.standing = OUT
            continue
        c.equity, c.pool_maintenance, c.notional = worth[0], worth[1], worth[2]
        share = i64(0)
        if asks.share and worth[1] > 0:
            share = muldiv(worth[0], c.maintenance, worth[1], HALF_EVEN)
        c.share = max(share, 1)
    return touched
