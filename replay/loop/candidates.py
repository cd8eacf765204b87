"""Who may be deleveraged, and at most how leveraged each is: compiled, so that a queue values few of them.

A queue closes the first few of thousands. Valuing a pool means walking all its positions, so a pool that was
valued before keeps what it was worth and the marks of that moment. While nothing is booked to it and no mark has
moved by more than a factor ``x`` since, with notional ``N`` and equity ``E`` then::

    notional now <= x * N        equity now >= E - (x - 1) * N        maintenance now <= that at x * N

Every score rises with notional and maintenance and falls with equity, so these give a score that is not
exceeded, and a pool whose bound is behind the last that is closed is never valued.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from replay.exact import FLOOR, HALF_EVEN, muldiv, signed_value
from replay.kernels import allocating_kernel, i64, kernel
from replay.loop.margin import SHARE_WIDER, maintenance_of, notional_at, valued_pool
from replay.loop.state import (
    GUESSED,
    MARKS_VERSION,
    SNAPSHOT,
    SNAPSHOT_VERSION,
    SNAPSHOTS,
    TOUCHED,
    Arrays,
    bring_near,
)
from replay.tape.schema import Grade

Array = npt.NDArray[Any]

_UNKNOWN = int(Grade.UNKNOWN)

CANDIDATE = np.dtype(
    [
        ("position", "i8"),
        ("pool", "i8"),
        ("size", "i8"),  # unsigned
        ("cost", "i8"),
        ("value", "i8"),  # signed, at the mark
        ("equity", "i8"),  # of the pool, or at least
        ("notional", "i8"),  # of the pool, or at most
        ("share", "i8"),  # what of the equity the position's own bankruptcy price would use up, or at least
        ("maintenance", "i8"),  # of the position
        ("pool_maintenance", "i8"),  # of the pool, or at most
        ("wallet", "i8"),  # cash of the pool
        ("known", "u1"),  # whether its equity is
        ("standing", "u1"),
    ],
    align=True,
)
"""A position that may be closed; money in atoms."""

OPEN, BOUNDED, SETTLED, OUT = range(4)
"""Of a candidate: nothing is known of its pool; bounds are; its figures are exact; it is none after all."""

_WIDEST = 1 + 1 / SHARE_WIDER
_FLOAT_SLACK = 1e-9


@kernel
def _largest_move(s: Arrays, snapshot: int, moves: Array) -> float:
    """Return the largest factor by which a mark is above or below that of a snapshot; kept in ``moves``."""
    row = snapshot % SNAPSHOTS
    if moves[row] == 0.0:
        largest = 1.0
        for market in range(len(s.markets)):
            before, now = float(s.snapshots[row, market]), float(s.markets[market].mark)
            if before > 0.0:
                largest = max(largest, max(before / now, now / before))
        moves[row] = largest * (1 + _FLOAT_SLACK)
    return float(moves[row])


@kernel
def _take_snapshot(s: Arrays) -> int:
    """Return the number of the snapshot of the current marks, taking it if there is none yet."""
    if s.counters[SNAPSHOT_VERSION] != s.counters[MARKS_VERSION]:
        s.counters[SNAPSHOT_VERSION] = s.counters[MARKS_VERSION]
        s.counters[SNAPSHOT] += 1
        row = s.counters[SNAPSHOT] % SNAPSHOTS
        for market in range(len(s.markets)):
            s.snapshots[row, market] = s.markets[market].mark
    return i64(s.counters[SNAPSHOT])


@kernel
def _bound(s: Arrays, pool: Any, number: int, row: Any, moves: Array) -> bool:
    """Bound equity, notional and maintenance of a pool by what it was worth before; False if that is too old."""
    age = s.counters[SNAPSHOT] - pool.snapshot
    if pool.valued <= 0 or pool.snapshot == 0 or age >= SNAPSHOTS:
        return False
    x = _largest_move(s, i64(pool.snapshot), moves)
    if x > _WIDEST:
        return False
    worth = s.valuations[number]
    # Each position is rounded to an atom, then and now.
    more = i64(float(worth[2]) * (x - 1.0)) + 4 * len(s.markets) + 2
    row.equity, row.notional, row.pool_maintenance = worth[0] - more, worth[2] + more, worth[3]
    row.share = 1
    if row.equity > 0 and worth[3] > 0:
        share = muldiv(row.equity, min(row.maintenance, worth[3]), worth[3], FLOOR)
        row.share = max(share, 1)
    return bool(row.equity > 0)


@kernel
def _near(
    s: Arrays, slots: Array, first: int, end: int, losers_are_long: bool, rows: Array, count: int
) -> int:
    """Write the open positions of a side from slots ``[first, end)`` behind ``count`` rows; return how many then.

    Without a branch, and nothing but the positions is read: the processor fetches many of them at a time.
    """
    sign = -1 if losers_are_long else 1
    for i in range(first, end):
        p = s.positions[np.uint64(slots[i])]
        rows[count].position = slots[i]
        count += (sign * p.size > 0) & (p.cost != 0)
    return count


@kernel
def _in_profit(s: Arrays, first: int, end: int, with_losers: bool, rows: Array) -> int:
    """Keep of the rows ``[first, end)`` those that may be closed by what they are worth; return the new end."""
    kept = first
    for i in range(first, end):
        p = s.positions[np.uint64(rows[i].position)]
        m = s.markets[p.market]
        notional = notional_at(m, p.size, m.mark)
        value = signed_value(p.size, notional, m.inverse != 0)
        row = rows[kept]
        row.position, row.pool, row.size = rows[i].position, p.pool, abs(p.size)
        row.cost, row.value = p.cost, value
        kept += (notional != 0) & (with_losers or value - p.cost > 0)
    return kept


@kernel
def _bring_pools_near(s: Arrays, first: int, end: int, rows: Array) -> int:
    touched = i64(0)
    for i in range(first, end):
        pool = np.uint64(rows[i].pool)
        touched += s.pools[pool].cash + s.pools[pool].snapshot + s.valuations[pool, 0]
    return touched


@kernel
def list_candidates(
    s: Arrays, slots: Array, losers_are_long: bool, with_losers: bool, moves: Array, rows: Array
) -> tuple[int, int]:
    """List the positions on the other side of the losers that may be closed.

    Args:
        s: The state at the end of the step.
        slots: Positions of one market that has a mark.
        losers_are_long: Side of the losers; candidates are on the other.
        with_losers: Whether positions without profit are candidates too.
        moves: float64[SNAPSHOTS] of zeros to work in.
        rows: Filled with CANDIDATE records, ``OPEN`` or ``BOUNDED``; one more than there are slots.

    Returns:
        How many were written, and a sum over what was touched, without meaning.
    """
    count, touched = 0, i64(0)
    for first in range(0, len(slots), GUESSED):
        behind = _near(s, slots, first, min(first + GUESSED, len(slots)), losers_are_long, rows, count)
        behind = _in_profit(s, count, behind, with_losers, rows)
        touched += _bring_pools_near(s, count, behind, rows)
        for i in range(count, behind):
            pool = s.pools[np.uint64(rows[i].pool)]
            if pool.special or pool.in_breach:
                continue
            if i != count:
                rows[count] = rows[i]
            row = rows[count]
            m, notional = s.markets[s.positions[row.position].market], abs(row.value)
            size = s.positions[row.position].size
            row.maintenance = maintenance_of(s.tiers, m, size, row.cost, notional)
            row.known = pool.grade != _UNKNOWN
            row.wallet = pool.cash if row.known else notional
            row.standing = OPEN
            if row.known and _bound(s, pool, i64(row.pool), row, moves):
                row.standing = BOUNDED
            count += 1
    return count, touched


@allocating_kernel
def settle(s: Arrays, rows: Array, which: Array) -> int:
    """Value the pools of some candidates; those whose pool has no value or no equity are out.

    A pool of unknown equity counts as if the position were alone and its equity the position's own value.

    Returns:
        A sum over what was touched, without meaning.
    """
    snapshot = _take_snapshot(s)
    pools, cursors, touched = rows["pool"][which], np.empty(TOUCHED, np.int64), i64(0)
    for k in range(len(which)):
        if k % TOUCHED == 0:
            touched += bring_near(s, pools, k, min(k + TOUCHED, len(which)), cursors)
        row = rows[which[k]]
        pool = s.pools[row.pool]
        if not valued_pool(s, i64(row.pool)):
            row.standing = OUT
            continue
        worth = s.valuations[row.pool]
        pool.snapshot = snapshot
        row.standing = SETTLED
        if not row.known:
            row.equity = row.notional = row.share = abs(row.value)
            row.pool_maintenance = row.maintenance
            continue
        if worth[0] <= 0:
            row.standing = OUT
            continue
        row.equity, row.pool_maintenance, row.notional = worth[0], worth[1], worth[2]
        share = 0
        if worth[1] > 0:
            share = muldiv(worth[0], row.maintenance, worth[1], HALF_EVEN)
        row.share = max(share, 1)
    return touched
