"""Advance the state over a window of events, step by step: the compiled heart of the loop.

A step is all rows of one moment: transfers, funding, prices, anchors, fills, each in order of the tape. At
its end the dirty pools are judged; under rules that judge in rounds, at the end of the first step in each period of
UTC, for which dirty pools and moved marks gather. The kernel returns to the host at the end of the window, at the end
of a step with breaches, when a buffer of the host's is full, or at a fault; called again it goes on from there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from replay.kernels import allocating_kernel, i64, kernel
from replay.loop.bankruptcy import bankruptcy_value_of
from replay.loop.ledger import (
    add_cash,
    book_fill,
    charge_fee,
    continue_chain,
    pay_funding,
    trade_with,
    value_at_price,
)
from replay.loop.margin import fault, is_valued, valuation
from replay.loop.quick import quick_fills
from replay.loop.stages import attend_absorbers
from replay.loop.state import (
    ANCHORING,
    ATTENDING,
    BAD_PRICE,
    BREACHES,
    BUCKET_NS,
    BUCKETS,
    DIRTY,
    EXECUTING,
    FAULT,
    FORCED_STEPS,
    GUESSED,
    IN_STEP,
    MARKS_MOVED,
    NEXT_ROUND,
    NO_MARK_FOR_FUNDING,
    PENDING,
    PERIOD_NS,
    POSITIONS,
    RESTORED,
    SHADOWS,
    SPOT_ROWS,
    STEP_TS,
    STEPS,
    UNMARKED,
    WATCHING,
    Arrays,
    check_guesses,
    pool_of,
    position_of,
)
from replay.loop.step import DONE as STEP_DONE
from replay.loop.step import Forcing, step
from replay.loop.watch import judge, set_mark, soil, wake_waiting
from replay.tape.read import NONE, Fills, Window
from replay.tape.schema import FillKind, Grade
from replay.units import BOUND

Array = npt.NDArray[Any]

DONE, ATTEND, ASKED, JUDGED, HEAP_FULL, FAULTED = range(6)
"""Why :func:`advance` returns: at the end of the window; for the host to execute what the tape forced; because a step
of the waterfall asks for something; behind a step that the tape forced something in and the rules judged; as a heap of
bands is full; at a fault."""

# What becomes of a recorded row (design section 6), read by the kernel from one table.
BOOK, SKIP, OTHER_SIDE = 0, 1, 2

_NO_TS = (1 << 63) - 1
_UNKNOWN = int(Grade.UNKNOWN)
_TRADE = int(FillKind.TRADE)
_LIQUIDATION = int(FillKind.LIQUIDATION)
_SETTLEMENT = int(FillKind.SETTLEMENT)


def row_actions(*, rules_decide: bool) -> Array:
    """Return the action per (kind of fill, whether the row is the victim's own).

    ``BOOK`` books the row. ``SKIP`` leaves it out. ``OTHER_SIDE`` books the row of who traded with a
    recorded liquidation, and the missing victim is @book.
    """
    actions = np.full((len(FillKind), 2), BOOK, np.int8)
    if rules_decide:
        actions[FillKind.LIQUIDATION] = (OTHER_SIDE, SKIP)
        actions[FillKind.BACKSTOP] = (SKIP, SKIP)
        actions[FillKind.ADL] = (SKIP, SKIP)
    return actions


class Scratch(NamedTuple):
    """Buffers of the host that compiled code writes to or reads from."""

    actions: Array  # int8[kinds, 2], see row_actions
    shadows: Array  # SHADOW records of the window
    breaks: Array  # BREAK records of the window
    cursors: Array  # int64[6]: next row of each table of the window
    slots: Array  # int64[fills of the window]: guesses of their positions, up to looked_up[0] checked ones
    rates: Array  # int64[markets]: rates of funding to be paid in one pass, NONE where there is none
    near: Array  # int64[GUESSED], to work in
    looked_up: Array  # int64[2]: the row behind the checked ones, what was touched


@kernel
def _moment(ts: Array, row: int) -> int:
    return ts[row] if row < len(ts) else _NO_TS


@kernel
def _next_beside_fills(w: Window, cursors: Array) -> int:
    ts = min(_moment(w.transfers.ts, cursors[0]), _moment(w.funding.ts, cursors[1]))
    return min(ts, min(_moment(w.prices.ts, cursors[2]), _moment(w.liquidations.ts, cursors[3])))


@kernel
def _next_ts(w: Window, cursors: Array) -> int:
    return min(_next_beside_fills(w, cursors), _moment(w.fills.ts, cursors[4]))


@kernel
def _anchor(s: Arrays, account: int, ledger: int, equity: int, grade: int) -> None:
    """Book the difference between recorded and replayed equity of a cross pool against @unexplained."""
    pool = pool_of(s, account, ledger, -1, grade)
    if not is_valued(s, pool):
        s.counters[UNMARKED] += 1
        return
    replayed, _, _ = valuation(s, pool)
    difference = equity - replayed
    s.pools[pool].anchored = difference
    s.pools[pool].anchor_ts = s.counters[STEP_TS]
    add_cash(s, pool, difference)
    add_cash(s, s.ledgers[ledger].unexplained_pool, -difference)
    if s.counters[WATCHING]:
        soil(s, pool)


@kernel
def _apply_liquidations(s: Arrays, w: Window, x: Scratch, ts: int, grade: int) -> None:
    """Anchor the pools of a step's recorded liquidations, once each, at the marks before its fills."""
    rows = w.liquidations
    i = x.cursors[3]
    while i < len(rows.ts) and rows.ts[i] == ts:
        is_first_leg = i == 0 or rows.liquidation[i - 1] != rows.liquidation[i]
        if (
            s.counters[ANCHORING]
            and is_first_leg
            and rows.cross[i]
            and rows.equity[i] != NONE
            and rows.market[i] >= 0
        ):
            _anchor(
                s,
                i64(rows.account[i]),
                i64(s.markets[rows.market[i]].ledger),
                rows.equity[i],
                grade,
            )
        i += 1
    x.cursors[3] = i


@kernel
def _is_current(s: Arrays, x: Scratch, index: int) -> bool:
    return 0 <= index < s.counters[SHADOWS] and x.shadows[index].ts == s.counters[STEP_TS]


@kernel
def _note_shadow(s: Arrays, x: Scratch, slot: int, kind: int, qty: int, price: int) -> None:
    """Record what the replay holds just before the first forced fill of a position in this step.

    All legs of a pool that are forced in one step are judged on the same equity: that before the first.
    """
    p = s.positions[slot]
    pool = s.pools[p.pool]
    value = value_at_price(s, slot, qty, price)
    first = pool.shadow if _is_current(s, x, pool.shadow) and x.shadows[pool.shadow].pool == p.pool else -1
    known = first
    while known >= 0 and x.shadows[known].position != slot:
        known = x.shadows[known].next
    if known >= 0:
        record = x.shadows[known]
        record.fill_qty += qty
        record.fill_value += value
        if record.fill_price != price:
            record.fill_price = 0
        return
    index = s.counters[SHADOWS]
    record = x.shadows[index]
    record.ts = s.counters[STEP_TS]
    record.pool = p.pool
    record.position = slot
    record.kind = kind
    record.size = p.size
    record.cost = p.cost
    record.mark = s.markets[p.market].mark
    record.turnover = pool.turnover
    record.fill_qty = qty
    record.fill_value = value
    record.fill_price = price
    record.liquidated_ts = pool.liquidated_ts
    is_anchored = pool.anchor_ts == record.ts
    record.anchored = pool.anchored if is_anchored else 0
    record.known = pool.special == 0 and (is_anchored or pool.grade != _UNKNOWN)
    record.next = -1
    if first >= 0:
        opening = x.shadows[first]
        record.valued = opening.valued
        record.equity, record.maintenance, record.notional = (
            opening.equity,
            opening.maintenance,
            opening.notional,
        )
        record.next = opening.next
        opening.next = index
    else:
        pool.shadow = index
        record.valued = is_valued(s, p.pool)
        record.equity, record.maintenance, record.notional = 0, 0, 0
        if record.valued:
            record.equity, record.maintenance, record.notional = valuation(s, p.pool)
    record.bankruptcy_value = 0
    if record.valued and p.size != 0 and record.maintenance > 0:
        record.bankruptcy_value = bankruptcy_value_of(s, slot, record.equity, record.maintenance)
    s.counters[SHADOWS] += 1


@kernel
def close_shadows(s: Arrays, x: Scratch) -> None:
    """Write what is left of each position forced in the current step to its record."""
    index = s.counters[SHADOWS] - 1
    while index >= 0 and x.shadows[index].ts == s.counters[STEP_TS]:
        p = s.positions[x.shadows[index].position]
        x.shadows[index].size_after = p.size
        x.shadows[index].cost_after = p.cost
        index -= 1


@kernel
def _count_volume(s: Arrays, market: int, qty: int) -> None:
    """Add a match to the traded volume of its bucket of time."""
    number = s.counters[STEP_TS] // s.counters[BUCKET_NS]
    bucket = s.volumes[market, number % BUCKETS]
    if bucket[0] != number:
        bucket[0] = number
        bucket[1] = 0
    bucket[1] = min(bucket[1] + qty, BOUND)


@kernel
def _apply_fill(
    s: Arrays,
    x: Scratch,
    seq: int,
    hint: int,
    market: int,
    account: int,
    qty: int,
    price: int,
    fee: int,
    fee_ledger: int,
    kind: int,
    paired: bool,
    victim: int,
    start_position: int,
    mode: int,
    grade: int,
) -> None:
    """Apply one row of `fills`; ``hint`` is its position or -1, the other arguments are its columns."""
    m = s.markets[market]
    if m.spot:
        s.counters[SPOT_ROWS] += 1
        if fee != 0:
            charge_fee(s, pool_of(s, account, fee_ledger, -1, grade), fee_ledger, fee)
        return
    if price <= 0 or qty == 0:
        fault(s, BAD_PRICE, -1, market)
        return
    slot, is_new = hint, False
    if hint < 0:
        slot, is_new = position_of(s, account, market, mode, grade)
    p = s.positions[slot]
    if start_position != NONE:
        continue_chain(s, slot, is_new, seq, start_position, price, x.breaks)
    is_victim = kind != _TRADE and victim == account
    if is_victim:
        _note_shadow(s, x, slot, kind, qty, price)
    action = x.actions[kind, 1 if is_victim else 0]
    if action == SKIP:
        p.recorded_size += qty
        if kind == _LIQUIDATION and not paired:
            value = value_at_price(s, slot, qty, price)
            trade_with(s, m.unseen, -qty, -value, price)
            trade_with(s, m.book, qty, value, price)
        return
    fee_pool = i64(p.pool)
    if fee_ledger != m.ledger:
        fee_pool = pool_of(s, account, fee_ledger, -1, grade)
    has_other_side = paired or action == OTHER_SIDE
    book_fill(s, slot, qty, price, fee, fee_pool, fee_ledger, has_other_side, kind == _SETTLEMENT)
    if action == OTHER_SIDE:
        trade_with(s, m.book, -qty, -value_at_price(s, slot, qty, price), price)
    if kind == _TRADE and s.counters[BUCKET_NS] and (qty > 0 or not paired):
        _count_volume(s, market, abs(qty))
    if kind == _TRADE and m.fills_set_mark and m.quoted_ts != s.counters[STEP_TS]:
        set_mark(s, market, price * m.mark_factor)


@kernel
def _look_up(s: Arrays, f: Fills, x: Scratch, row: int) -> None:
    """See that the position of a row was looked up, with those of the rows that follow it."""
    if row >= x.looked_up[0]:
        end = min(row + GUESSED, len(f.ts))
        x.looked_up[0] = end
        x.looked_up[1] = check_guesses(s, f.account, f.market, f.mode, row, end, x.slots, x.near)


@kernel
def _hurry(s: Arrays, w: Window, x: Scratch, grade: int) -> bool:
    """Book ordinary fills up to the next row that is none, or the next moment of another table.

    Returns:
        Whether they ended a step in which a pool became dirty, so that it has to be judged now.
    """
    before = _next_beside_fills(w, x.cursors)
    if s.counters[PERIOD_NS]:  # the first step of a period is judged whatever is in it
        before = min(before, s.counters[NEXT_ROUND])
    first = row = x.cursors[4]
    while row < len(w.fills.ts):
        _look_up(s, w.fills, x, row)
        end = x.looked_up[0]
        row = quick_fills(s, w.fills, row, end, before, x.slots, grade)
        if row < end:
            break
    x.cursors[4] = row
    is_idle = row == first or s.counters[DIRTY] == 0 or s.counters[PERIOD_NS] != 0
    if is_idle or _next_ts(w, x.cursors) == s.counters[STEP_TS]:
        return False
    s.counters[BREACHES] = 0
    s.counters[RESTORED] = 0
    return s.counters[WATCHING] != 0


@kernel
def _apply_prices(s: Arrays, w: Window, x: Scratch, ts: int) -> bool:
    """Set the marks of a moment; False at a fault."""
    rows, c = w.prices, x.cursors
    while c[2] < len(rows.ts) and rows.ts[c[2]] == ts:
        market, price = i64(rows.market[c[2]]), rows.price[c[2]]
        m = s.markets[market]
        if (m.mark_kinds >> rows.kind[c[2]]) & 1:
            if price <= 0:
                fault(s, BAD_PRICE, -1, market)
                return False
            m.quoted_ts = ts
            if price != m.mark or not m.has_mark:
                set_mark(s, market, price)
        if rows.kind[c[2]] == m.oracle_kind:
            if price <= 0:
                fault(s, BAD_PRICE, -1, market)
                return False
            m.oracle = price
        c[2] += 1
    return True


@kernel
def _is_anywhere_open(s: Arrays, market: int) -> bool:
    """Tell whether anybody has a position in a market, walking all of them."""
    for slot in range(s.counters[POSITIONS]):
        if s.positions[slot].market == market and s.positions[slot].size != 0:
            return True
    return False


@kernel
def _apply_funding(s: Arrays, w: Window, x: Scratch, ts: int) -> bool:
    """Pay the rates of a moment; False at a fault. A second rate of one market is paid after the first.

    Where nobody holds anything a rate pays nothing, whether the market has a mark or not.
    """
    rows, c = w.funding, x.cursors
    waiting = False
    while c[1] < len(rows.ts) and rows.ts[c[1]] == ts:
        market = i64(rows.market[c[1]])
        if s.markets[market].has_mark == 0:
            if _is_anywhere_open(s, market):
                fault(s, NO_MARK_FOR_FUNDING, -1, market)
                return False
            c[1] += 1
            continue
        if x.rates[market] != NONE:
            pay_funding(s, x.rates)
            if s.counters[FAULT]:
                return False
        x.rates[market] = rows.rate[c[1]]
        waiting = True
        c[1] += 1
    if waiting:
        pay_funding(s, x.rates)
    return s.counters[FAULT] == 0


@kernel
def _apply_step(s: Arrays, w: Window, x: Scratch, ts: int, grade: int) -> bool:
    """Apply all rows of one moment; False at a fault, with the cursors at the row that caused it."""
    c = x.cursors
    t = w.transfers
    while c[0] < len(t.ts) and t.ts[c[0]] == ts:
        i = c[0]
        pool = pool_of(s, i64(t.account[i]), i64(t.ledger[i]), i64(t.market[i]), grade)
        add_cash(s, pool, t.amount[i])
        s.ledgers[t.ledger[i]].external += t.amount[i]
        if s.counters[FAULT]:
            return False
        c[0] += 1
    if not _apply_funding(s, w, x, ts):
        return False
    if not _apply_prices(s, w, x, ts):
        return False
    _apply_liquidations(s, w, x, ts, grade)
    f = w.fills
    while c[4] < len(f.ts) and f.ts[c[4]] == ts:
        i = c[4]
        _look_up(s, f, x, i)
        _apply_fill(
            s,
            x,
            f.seq[i],
            x.slots[i],
            i64(f.market[i]),
            i64(f.account[i]),
            f.qty[i],
            f.price[i],
            f.fee[i],
            i64(f.fee_ledger[i]),
            i64(f.kind[i]),
            f.paired[i] != 0,
            i64(f.victim[i]),
            f.start_position[i],
            i64(f.mode[i]),
            grade,
        )
        if s.counters[FAULT]:
            return False
        c[4] += 1
    return True


@kernel
def _is_between_rounds(s: Arrays, ts: int) -> bool:
    """Tell whether the rules do not judge the step at a moment; if they do, the next round is set."""
    period = s.counters[PERIOD_NS]
    if period == 0:
        return False
    if ts < s.counters[NEXT_ROUND]:
        return True
    s.counters[NEXT_ROUND] = (ts // period + 1) * period
    return False


@allocating_kernel
def _forced_by_tape(s: Arrays, x: Scratch) -> Array:
    """Return the positions that the tape forces in the current step, ascending."""
    end = i64(s.counters[SHADOWS])
    first = end
    while first > 0 and _is_current(s, x, first - 1):
        first -= 1
    slots = np.empty(end - first, np.int64)
    for i in range(len(slots)):
        slots[i] = x.shadows[first + i].position
    return np.sort(slots)


@kernel
def _attend(s: Arrays, forcing: Forcing) -> bool:
    """Look after the absorbers, see :func:`replay.loop.stages.attend_absorbers`."""
    return attend_absorbers(s, forcing.book, forcing.funds, forcing.rows, i64(s.counters[STEP_TS]))


@allocating_kernel
def advance(s: Arrays, forcing: Forcing, w: Window, x: Scratch, grade: int) -> int:
    """Advance over the window from where the cursors stand.

    Args:
        s: The state; room for the window's rows must be reserved.
        forcing: The waterfall.
        w: Whole steps of all event tables.
        x: Buffers of the host; ``shadows`` and ``breaks`` hold what the window's steps wrote so far.
        grade: Equity grade of pools that the window brings up.

    Returns:
        ``DONE``, ``ATTEND``, ``ASKED``, ``JUDGED``, ``HEAP_FULL`` or ``FAULTED``.
    """
    while True:
        if not s.counters[PENDING] and not s.counters[IN_STEP]:
            is_over = not s.counters[ANCHORING] and _hurry(s, w, x, grade)
            if not is_over:
                ts = _next_ts(w, x.cursors)
                if ts == _NO_TS:
                    return DONE
                if ts != s.counters[STEP_TS]:
                    s.counters[STEP_TS] = ts
                    s.counters[STEPS] += 1
                s.counters[BREACHES] = 0
                s.counters[RESTORED] = 0
                if not _apply_step(s, w, x, ts, grade):
                    return FAULTED
                if _is_between_rounds(s, ts):
                    close_shadows(s, x)
                    continue
                if s.counters[MARKS_MOVED]:
                    wake_waiting(s)
            s.counters[PENDING] = 1
        if s.counters[PENDING]:
            if s.counters[WATCHING] and not judge(s, x.near):
                return HEAP_FULL
            s.counters[PENDING] = 0
            is_due = s.counters[ATTENDING] and s.counters[MARKS_MOVED]
            s.counters[MARKS_MOVED] = 0
            close_shadows(s, x)
            if s.counters[FAULT]:
                return FAULTED
            if s.counters[EXECUTING] and _is_current(s, x, i64(s.counters[SHADOWS] - 1)):
                return ATTEND
            if s.counters[BREACHES] or s.counters[RESTORED]:
                s.counters[IN_STEP] = 1
            elif is_due:
                s.counters[IN_STEP] = not _attend(s, forcing)
            s.counters[FORCED_STEPS] += s.counters[IN_STEP]
        if s.counters[IN_STEP]:
            is_forced = _is_current(s, x, i64(s.counters[SHADOWS] - 1))
            recorded = _forced_by_tape(s, x) if is_forced else x.slots[:0]
            asked = step(s, forcing, s.counters[STEP_TS], recorded)
            if s.counters[FAULT]:
                return FAULTED
            if asked != STEP_DONE:
                return ASKED
            s.counters[IN_STEP] = 0
            if _is_current(s, x, i64(s.counters[SHADOWS] - 1)):
                close_shadows(s, x)
                return JUDGED
