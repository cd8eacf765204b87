"""The ledger: the only code that writes cash, cost and size.

Every booking of signed value v to a pool changes its ``cash - cost`` by exactly ``-v``, whatever part is
opened, closed or flipped and however released cost is rounded (engine.md 3.5). So per currency the sum over
all pools is the external flow, to the atom, after every event.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from replay.exact import FLOOR, HALF_EVEN, OVERFLOW, contract_value, muldiv, signed_value
from replay.kernels import i64, kernel
from replay.loop.margin import fault, is_valued, notional_at, slack
from replay.loop.state import (
    BREAKS,
    CELL_OVERFLOW,
    CHAINED,
    CLIPPED,
    DROPPED,
    ENTRY_UNKNOWN,
    LEAST_SLACK,
    OPENED,
    POSITIONS,
    STEP_TS,
    WATCHING,
    Arrays,
    note_change,
)
from replay.loop.watch import soil, touch
from replay.tape.read import NONE
from replay.tape.schema import Grade
from replay.units import BOUND, RATE_ONE

Array = npt.NDArray[Any]

_UNKNOWN = int(Grade.UNKNOWN)


@kernel
def add_cash(s: Arrays, pool: int, amount: int) -> None:
    """Change the cash of a pool, and with it the reserve of its certificate.

    Nothing is booked by an amount of 0, such as funding below half an atom: a pool in liquidation goes on waiting.
    """
    _change_cash(s, pool, amount)
    p = s.pools[pool]
    if amount != 0 and s.counters[WATCHING] and (p.reserve < s.counters[LEAST_SLACK] or p.waiting):
        soil(s, pool)


@kernel
def _change_cash(s: Arrays, pool: int, amount: int) -> None:
    p = s.pools[pool]
    cash = p.cash + amount
    if abs(cash) >= BOUND:
        fault(s, CELL_OVERFLOW, pool, -1)
        return
    p.cash = cash
    p.reserve += amount
    p.valued = 0


@kernel
def apply_booking(s: Arrays, slot: int, qty: int, value: int, closing_value: int) -> None:
    """Change size, cost and cash for a booking of ``value``, without its watch; see :func:`book`."""
    note_change(s, slot)
    p = s.positions[slot]
    size = p.size
    cash_change = 0
    if size == 0 or (size > 0) == (qty > 0):
        p.cost += value
    elif abs(qty) <= abs(size):
        if qty == -size:
            released = p.cost
        else:
            released = muldiv(abs(p.cost), abs(qty), abs(size), FLOOR)
            if p.cost < 0:
                released = -released
        p.cost -= released
        cash_change = -value - released
    else:
        cash_change = -closing_value - p.cost
        p.cost = value - closing_value
    p.size = size + qty
    if abs(p.size) >= BOUND or abs(p.cost) >= BOUND:
        fault(s, CELL_OVERFLOW, p.pool, p.market)
        return
    _change_cash(s, i64(p.pool), cash_change)


@kernel
def book(s: Arrays, slot: int, qty: int, value: int, closing_value: int) -> None:
    """Book a signed quantity at a signed value to a position.

    Args:
        s: The state.
        slot: The position.
        qty: Signed quantity, not 0.
        value: Signed value of the whole booking in atoms; ``cash - cost`` falls by exactly this.
        closing_value: ``V`` of the part that closes, used only by a flip; the opening part is the rest.
    """
    apply_booking(s, slot, qty, value, closing_value)
    if s.counters[WATCHING]:
        touch(s, slot)


@kernel
def value_at_price(s: Arrays, slot: int, qty: int, price: int) -> int:
    """Return the signed value of a quantity at an execution price of the position's market."""
    m = s.markets[s.positions[slot].market]
    magnitude = contract_value(qty, price, m.price_num, m.price_den, m.inverse != 0)
    if magnitude == OVERFLOW:
        fault(s, CELL_OVERFLOW, s.positions[slot].pool, s.positions[slot].market)
        return 0
    return signed_value(qty, magnitude, m.inverse != 0)


@kernel
def value_at_mark_or(s: Arrays, slot: int, qty: int, price: int) -> int:
    """Return the signed value of a quantity at the market's mark or, before its first mark, at ``price``."""
    market = s.positions[slot].market
    m = s.markets[market]
    if m.has_mark == 0:
        return value_at_price(s, slot, qty, price)
    magnitude = notional_at(m, qty, m.mark)
    if magnitude == OVERFLOW:
        fault(s, CELL_OVERFLOW, s.positions[slot].pool, market)
        return 0
    return signed_value(qty, magnitude, m.inverse != 0)


@kernel
def closing_part(s: Arrays, slot: int, qty: int, price: int) -> int:
    """Return ``V`` of the part of a booking that closes a position which flips, else 0."""
    size = s.positions[slot].size
    if size != 0 and (size > 0) != (qty > 0) and abs(qty) > abs(size):
        return value_at_price(s, slot, -size, price)
    return 0


@kernel
def trade_with(s: Arrays, slot: int, qty: int, value: int, price: int) -> None:
    """Book a fill at its price; ``value`` is that of the match, so that both sides book the same."""
    if qty != 0:
        book(s, slot, qty, value, closing_part(s, slot, qty, price))


@kernel
def charge_fee(s: Arrays, pool: int, ledger: int, fee: int) -> None:
    """Move a fee (or, negative, a rebate) from a pool to @fees of the same ledger."""
    if fee != 0:
        add_cash(s, pool, -fee)
        add_cash(s, s.ledgers[ledger].fees_pool, fee)


@kernel
def continue_chain(
    s: Arrays, slot: int, is_new: bool, seq: int, start: int, price: int, breaks: Array
) -> None:
    """Hold a position against the ``start_position`` of its next fill.

    A pair seen for the first time is opened at the mark, its entry flagged as unknown; a position that
    differs is a break, reported and set right. Both are balanced by @unseen, so the books stay closed.
    """
    p = s.positions[slot]
    difference = start - p.recorded_size
    if not is_new:
        s.counters[CHAINED] += 1
    if difference == 0:
        return
    unseen = i64(s.markets[p.market].unseen)
    if is_new:
        s.counters[OPENED] += 1
        p.flags |= ENTRY_UNKNOWN
    else:
        record = breaks[s.counters[BREAKS]]
        record.ts = s.counters[STEP_TS]
        record.seq = seq
        record.expected = p.recorded_size
        record.found = start
        record.account = s.pools[p.pool].account
        record.market = p.market
        s.counters[BREAKS] += 1
    follows = p.size == p.recorded_size
    p.recorded_size = start
    if not follows:
        return
    value = value_at_mark_or(s, slot, difference, price)
    part = 0
    if p.size != 0 and (p.size > 0) != (difference > 0) and abs(difference) > abs(p.size):
        part = value_at_mark_or(s, slot, -p.size, price)
    book(s, slot, difference, value, part)
    q = s.positions[unseen]
    part = 0
    if q.size != 0 and (q.size > 0) != (difference < 0) and abs(difference) > abs(q.size):
        part = value_at_mark_or(s, unseen, -q.size, price)
    book(s, unseen, -difference, -value, part)


@kernel
def clipped(s: Arrays, slot: int, qty: int, price: int) -> int:
    """Return how much of a recorded fill a diverged position takes (design section 6, ``clip``).

    What reduced the recorded position reduces the replayed one, at most to zero; what increased it is taken
    only if the pool then still stands above maintenance. Call before ``recorded_size`` follows the fill.
    """
    p = s.positions[slot]
    recorded = p.recorded_size
    reducing = 0
    if recorded != 0 and (recorded > 0) != (qty > 0):
        reducing = min(abs(qty), abs(recorded))
    increasing = abs(qty) - reducing
    sign = 1 if qty > 0 else -1
    taken = 0
    if reducing and p.size != 0 and (p.size > 0) == (recorded > 0):
        taken = sign * min(reducing, abs(p.size))
    if increasing == 0:
        return taken
    pool = p.pool
    if s.pools[pool].special or s.pools[pool].grade == _UNKNOWN:
        return taken + sign * increasing
    whole = taken + sign * increasing
    cash, reserve, size, cost = s.pools[pool].cash, s.pools[pool].reserve, p.size, p.cost
    apply_booking(s, slot, whole, value_at_price(s, slot, whole, price), closing_part(s, slot, whole, price))
    stands = not is_valued(s, pool) or slack(s, pool) >= s.counters[LEAST_SLACK]
    s.pools[pool].cash = cash
    s.pools[pool].reserve = reserve
    s.positions[slot].size = size
    s.positions[slot].cost = cost
    if stands:
        return whole
    s.counters[DROPPED] += 1
    return taken


@kernel
def book_fill(
    s: Arrays,
    slot: int,
    qty: int,
    price: int,
    fee: int,
    fee_pool: int,
    fee_ledger: int,
    paired: bool,
    settles: bool,
) -> None:
    """Book one recorded row to its account, the part it cannot take to @book, the unnamed side to @unseen.

    A settlement that closes the recorded position closes the replayed one, whatever its size.
    """
    p = s.positions[slot]
    value = value_at_price(s, slot, qty, price)
    taken = qty
    if p.size != p.recorded_size:
        if settles and qty == -p.recorded_size:
            taken = -p.size
        else:
            taken = clipped(s, slot, qty, price)
    p.recorded_size += qty
    if taken == qty:
        trade_with(s, slot, qty, value, price)
    else:
        s.counters[CLIPPED] += 1
        part = value_at_price(s, slot, taken, price) if taken != 0 else 0
        trade_with(s, slot, taken, part, price)
        trade_with(s, s.markets[p.market].book, qty - taken, value - part, price)
        kept = muldiv(abs(fee), abs(taken), abs(qty), HALF_EVEN)
        fee = kept if fee >= 0 else -kept
    charge_fee(s, fee_pool, fee_ledger, fee)
    if not paired:
        trade_with(s, s.markets[p.market].unseen, -qty, -value, price)
    pool = s.pools[p.pool]
    pool.turnover = min(pool.turnover + abs(value), BOUND)


@kernel
def pay_funding(s: Arrays, rates: Array) -> None:
    """Let all positions pay or receive funding at the marks, in one pass; longs pay positive rates.

    Args:
        s: The state.
        rates: int64[markets], rates in 1e-12; NONE where a market pays nothing now. Emptied again.
    """
    for slot in range(s.counters[POSITIONS]):
        p = s.positions[slot]
        if p.size == 0:
            continue
        market = i64(p.market)
        rate = rates[market]
        if rate == NONE:
            continue
        m = s.markets[market]
        notional = notional_at(m, p.size, m.mark)
        amount = OVERFLOW if notional == OVERFLOW else muldiv(notional, abs(rate), RATE_ONE, HALF_EVEN)
        if amount == OVERFLOW:
            fault(s, CELL_OVERFLOW, p.pool, market)
            return
        if (p.size > 0) != (rate > 0):
            amount = -amount
        add_cash(s, p.pool, -amount)
        add_cash(s, m.funding_pool, amount)
    rates[:] = NONE


@kernel
def take_other_side(s: Arrays, slot: int, qty: int, value: int) -> None:
    """Book a whole value to a position that may flip: the closing part is its share of the value."""
    held = s.positions[slot].size
    part = 0
    if held != 0 and (held > 0) != (qty > 0) and abs(qty) > abs(held):
        part = muldiv(abs(value), abs(held), abs(qty), FLOOR)
        if value < 0:
            part = -part
    book(s, slot, qty, value, part)


@kernel
def book_forced(s: Arrays, slots: Array, quantities: Array, values: Array, takers: Array) -> None:
    """Book forced orders to the positions they close and to those that take the other side.

    Args:
        s: The state.
        slots: Positions that are closed, wholly or in part.
        quantities: Signed quantities booked to them: negative closes a long.
        values: Signed values booked to them, in atoms; the takers book the opposite.
        takers: Position slots of who takes them (an absorber, @book), of the same market.
    """
    for i in range(len(slots)):
        if quantities[i] != 0:
            book(s, slots[i], quantities[i], values[i], values[i])
            take_other_side(s, takers[i], -quantities[i], -values[i])


@kernel
def move_cash(s: Arrays, sources: Array, targets: Array, amounts: Array) -> None:
    """Move cash between pools of one ledger: fees, surplus, bad debt."""
    for i in range(len(sources)):
        if amounts[i] != 0:
            add_cash(s, sources[i], -amounts[i])
            add_cash(s, targets[i], amounts[i])
