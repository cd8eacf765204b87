"""The shortest way for ordinary fills: one loop without calls, over rows that nothing else happens between.

What :func:`quick_fills` books is what ``advance._apply_fill`` would book, row by row; it stops before the
first row that is not ordinary and leaves it, with everything it has to check, to the general way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from replay.exact import FLOOR, OVERFLOW, contract_value, muldiv
from replay.kernels import i64, kernel
from replay.loop.candidates import keep_worth
from replay.loop.margin import WORST
from replay.loop.state import (
    BUCKET_NS,
    BUCKETS,
    DIRTY,
    LEAST_SLACK,
    PERIOD_NS,
    STEP_TS,
    STEPS,
    WATCHING,
    Arrays,
    note_change,
    position_of,
)
from replay.loop.watch import floor_on, renew
from replay.tape.read import NONE, Fills
from replay.tape.schema import FillKind, Grade
from replay.units import BOUND

Array = npt.NDArray[Any]

_TRADE = int(FillKind.TRADE)
_UNKNOWN = int(Grade.UNKNOWN)


@kernel
def quick_fills(
    s: Arrays,
    f: Fills,
    first: int,
    end: int,
    before: int,
    slots: Array,
    grade: int,
) -> int:
    """Book ordinary fills up to the end of a step in which a pool became dirty, if that is judged.

    Ordinary is a voluntary trade, both sides on the tape, of a position that has not diverged and a pool
    that is not in liquidation, without a start position, with its fee in the ledger of its market, whose
    trades set no marks. Not for anchored runs.

    Args:
        s: The state.
        f: Fills of the window.
        first: First row to book.
        end: Row behind the last.
        before: Moment at which something else happens.
        slots: Positions of the rows, -1 where there is none yet.
        grade: Equity grade of pools that the rows bring up.

    Returns:
        The first row that was not booked.
    """
    positions, pools, markets, ledgers, counters = s.positions, s.pools, s.markets, s.ledgers, s.counters
    if first < 0:  # never: it tells the compiler that no index counts from the back
        return first
    is_watched, least, bucket_ns = counters[WATCHING] != 0, counters[LEAST_SLACK], counters[BUCKET_NS]
    is_judged = is_watched and counters[PERIOD_NS] == 0  # between rounds dirty pools stay so
    i = first
    while i < end:
        ts, qty, price = f.ts[i], f.qty[i], f.price[i]
        slot = slots[i]
        m = markets[np.uint64(f.market[i])]
        is_ordinary = f.kind[i] == _TRADE and f.paired[i] != 0 and f.start_position[i] == NONE
        is_ordinary = is_ordinary and m.spot == 0 and m.fills_set_mark == 0 and f.fee_ledger[i] == m.ledger
        if ts >= before or not is_ordinary or price <= 0 or qty == 0:
            break
        if is_judged and ts != counters[STEP_TS] and counters[DIRTY]:
            break
        if slot < 0:
            slot, _ = position_of(s, i64(f.account[i]), i64(f.market[i]), i64(f.mode[i]), grade)
        p = positions[np.uint64(slot)]
        size = p.size
        if size != p.recorded_size:
            break
        inverse = m.inverse != 0
        value = contract_value(qty, price, m.price_num, m.price_den, inverse)
        if value == OVERFLOW:
            break
        turnover = value
        if (qty > 0) == inverse:
            value = -value
        cost = p.cost
        change = i64(0)
        if size == 0 or (size > 0) == (qty > 0):
            cost += value
        elif abs(qty) < abs(size):
            released = muldiv(abs(cost), abs(qty), abs(size), FLOOR)
            if cost < 0:
                released = -released
            cost -= released
            change = -value - released
        elif qty == -size:
            change = -value - cost
            cost = i64(0)
        else:
            closing = contract_value(size, price, m.price_num, m.price_den, inverse)
            if closing == OVERFLOW:
                break
            if (size > 0) != inverse:
                closing = -closing
            change = -closing - cost
            cost = value - closing
        pool = pools[np.uint64(p.pool)]
        fees = pools[np.uint64(ledgers[np.uint64(m.ledger)].fees_pool)]
        fee = f.fee[i]
        change -= fee
        fits = abs(size + qty) < BOUND and abs(cost) < BOUND and abs(pool.cash) + abs(change) < BOUND
        if not fits or abs(fees.cash) + abs(fee) >= BOUND:
            break
        is_bare, is_dirty = False, False
        reserve = pool.reserve + change
        if is_watched and not pool.special and pool.grade != _UNKNOWN:
            if pool.waiting:
                break
            if size + qty == 0 or p.hi == 0 or m.mark < p.lo or m.mark > p.hi:
                is_bare = size + qty != 0
                is_dirty = m.has_mark == 0
                floor = p.floor
                if size + qty == 0:
                    floor = i64(0)
                    p.lo = 0
                    p.hi = 0
            else:
                floor = floor_on(s.tiers, m, size + qty, cost, p.lo, p.hi)
                if floor == WORST:
                    break
            reserve += floor - p.floor
            p.floor = floor
            is_bare = is_bare or (reserve < least and size + qty != 0)
            if (is_dirty or (reserve < least and not is_bare)) and not pool.dirty:
                pool.dirty = 1
                s.dirty[counters[DIRTY]] = p.pool
                counters[DIRTY] += 1
        if bucket_ns and qty > 0:
            number = ts // bucket_ns
            bucket = s.volumes[i64(f.market[i]), number % BUCKETS]
            if bucket[0] != number:
                bucket[0] = number
                bucket[1] = 0
            bucket[1] = min(bucket[1] + qty, BOUND)
        note_change(s, slot)
        if pool.valued != 0 and not keep_worth(s, slot, size + qty, cost, change):
            pool.valued = 0
        p.size = size + qty
        p.recorded_size = size + qty
        p.cost = cost
        pool.cash += change
        pool.reserve = reserve
        if is_bare and not pool.dirty and not renew(s, slot, -1):
            pool.dirty = 1
            s.dirty[counters[DIRTY]] = p.pool
            counters[DIRTY] += 1
        pool.turnover = min(pool.turnover + turnover, BOUND)
        fees.cash += fee
        fees.reserve += fee
        if ts != counters[STEP_TS]:
            counters[STEP_TS] = ts
            counters[STEPS] += 1
        i += 1
    return i
