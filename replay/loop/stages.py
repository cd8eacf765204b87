"""Stages of the waterfall over batches of forced orders: own hedge, order book, takeover, the absorber's own.

A stage books what it takes, accounts for it in the legs of the liquidations, and writes its rows; what is left
to auto-deleveraging it returns as LOSING records.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from replay.exact import CEIL, FLOOR, HALF_EVEN, muldiv
from replay.kernels import allocating_kernel, i64, kernel
from replay.loop import rows as of
from replay.loop.depth import NO_LIMIT, Book, close_levels, open_levels, walk
from replay.loop.episodes import Cases
from replay.loop.fund import (
    DELEVERAGES,
    EXISTS,
    HAS_DRAWDOWN,
    INSOLVENT_BELOW,
    INVENTORY,
    IS_VAULT,
    NUMBER,
    STARTS,
    STARTS_EMPTY,
    STOPS_AT_ZERO,
    SUSPENDS_BOOK,
    UNBOUNDED,
    UNCHANGED,
    WORKED_OUT_TS,
    WORKS_OUT,
    Fund,
    Funds,
    balance,
    capacity,
    fund_at,
    headroom,
    inventory,
    is_full,
    is_held,
    is_quiet,
    judge,
    may_lose,
    note,
    profit,
    value_held,
)
from replay.loop.ledger import add_cash, book, take_other_side
from replay.loop.limits import allowance, count_paid, fit_inventory, is_off, open_inventory
from replay.loop.rows import (
    Buffers,
    add_engaged,
    add_movement,
    write_engaged,
    write_movements,
    write_verdict,
)
from replay.loop.state import Arrays, known_position
from replay.loop.terms import ask_to_take_over
from replay.loop.waterfall import part_of_value, value_at
from replay.units import BOUND, RATE_ONE

Array = npt.NDArray[Any]

LOSING = np.dtype(
    [
        ("position", "i8"),
        ("pool", "i8"),
        ("market", "i8"),
        ("is_short", "i8"),
        ("quantity", "i8"),
        ("value", "i8"),  # signed value of the whole quantity at which it is closed
        ("has_value", "i8"),  # 0: closed at the price of the rules
        ("origin", "i8"),  # see replay.loop.rows
        ("equity", "i8"),
        ("episode", "i8"),  # id of its liquidation, -1 of an absorber
        ("absorber", "i8"),  # place of the absorber that it is of, or that did not take it
    ]
)
"""A position, or part of one, that goes to auto-deleveraging."""


@kernel
def _write_orders(s: Arrays, f: Fund, c: Cases, r: Buffers, batch: Array, stage: int, ts: int) -> None:
    """Write an attempt per row that asked for something; ``next`` holds its reason."""
    for i in range(len(batch)):
        mine = batch[i]
        if mine.asked == 0:
            continue
        row = r.orders[r.counts[of.ORDER_ROWS]]
        r.counts[of.ORDER_ROWS] += 1
        sign = -1 if mine.size > 0 else 1
        row.ts, row.stage, row.market, row.reason = ts, stage, mine.market, mine.next
        row.liquidation = c.legs[c.leg_of[mine.position]].liquidation
        row.account = s.pools[mine.pool].account
        row.asked, row.filled, row.value = sign * mine.asked, sign * mine.filled, mine.value
        row.limit_price, row.mark = mine.limit, mine.mark
        row.taker = of.account_of(s, f, i64(mine.market)) if stage == of.TAKEOVER else of.NOBODY


@kernel
def _book_row(s: Arrays, row: Any, taker: int) -> None:
    """Book what a forced order filled to its position and to who takes the other side."""
    if row.filled != 0:
        signed = -row.filled if row.size > 0 else row.filled
        book(s, row.position, signed, row.value, row.value)
        take_other_side(s, taker, -signed, -row.value)


@kernel
def _walk_book(s: Arrays, d: Book, batch: Array, all_or_nothing: bool, ts: int, heads: Array) -> None:
    """Let the orders of each market and side walk its levels, in the order of the batch.

    ``heads`` holds -1 for each market and side, and does so again afterwards.
    """
    for i in range(len(batch) - 1, -1, -1):
        if batch[i].asked > 0:
            key = 2 * batch[i].market + (batch[i].size < 0)
            batch[i].next = heads[key]
            heads[key] = i
    for i in range(len(batch)):
        market, is_long = batch[i].market, batch[i].size > 0
        key = 2 * market + (not is_long)
        if heads[key] != i:
            continue
        inverse = s.markets[market].inverse != 0
        levels, total, place = open_levels(s, d, market, is_long, ts), 0, i64(i)
        while place >= 0:
            row = batch[place]
            filled, magnitude = walk(s, d, market, is_long, levels, row.asked, row.limit, all_or_nothing)
            # The loser's booking has the sign of the quantity that closes: V(-n) of a long.
            row.filled, row.value = filled, -magnitude if is_long != inverse else magnitude
            total += filled
            place = row.next
        close_levels(d, market, is_long, ts, levels, total)
        heads[key] = -1


@kernel
def send_to_book(
    s: Arrays, d: Book, f: Fund, c: Cases, r: Buffers, batch: Array, rung: Any, ts: int, heads: Array
) -> None:
    """Send forced orders to the book (stage ``book``): fills, fees, surplus.

    Args:
        s: The state.
        d: The book; what is taken is missing for later orders.
        f: The absorber.
        c: The open liquidations.
        r: Receives the rows.
        batch: FORCED records of which :func:`replay.loop.waterfall.ask` filled quantity and limit.
        rung: RUNG record.
        ts: The step.
        heads: int64[2 * markets], all -1.
    """
    _walk_book(s, d, batch, rung.all_or_nothing != 0, ts, heads)
    for i in range(len(batch)):
        _book_row(s, batch[i], i64(s.markets[batch[i].market].book))
    gives = rung.surplus_to_absorber != 0
    if gives:
        for i in range(len(batch)):
            row = batch[i]
            kept = max(0, _surplus(row) - _fee(row, rung))
            _give(s, f, row, kept)
            c.legs[c.leg_of[row.position]].surplus += kept
            add_movement(r, row.market, kept)
        write_movements(s, f, r, ts, of.SURPLUS)
    for i in range(len(batch)):
        row = batch[i]
        fee = _fee(row, rung)
        if rung.fee_to_absorber:
            _give(s, f, row, fee)
            add_movement(r, row.market, fee)
        elif fee != 0:
            add_cash(s, row.pool, -fee)
            add_cash(s, i64(s.ledgers[s.pools[row.pool].ledger].fees_pool), fee)
    if rung.fee_to_absorber:
        write_movements(s, f, r, ts, of.FEE)
    for i in range(len(batch)):
        row = batch[i]
        if row.sliced and row.filled > 0:
            s.pools[row.pool].cooldown_until = ts + rung.cooldown_ns
        leg = c.legs[c.leg_of[row.position]]
        leg.book += row.filled
        leg.left = row.asked - row.filled
        if row.asked > 0:
            add_engaged(s, r, row.pool, row.market, row.equity, row.maintenance, row.filled)
        row.next = of.FILLED
        if row.filled < row.asked:
            row.next = of.USED_UP if row.limit == NO_LIMIT else of.USED_UP_WITHIN
    _write_orders(s, f, c, r, batch, of.BOOK, ts)
    write_engaged(s, f, r, ts, of.BOOK, of.AT_BOOK, of.SENT)


@kernel
def _surplus(row: Any) -> int:
    """Return what a fill is better for the pool than bankruptcy, in atoms, never negative.

    A fee to close that the bankruptcy price holds is part of it: the fee of the order comes out of it.
    """
    if row.filled == 0:
        return 0
    return i64(max(0, -part_of_value(row.worth, row.filled, abs(row.size)) - row.value))


@kernel
def _fee(row: Any, rung: Any) -> int:
    """Return the fee of a forced order: half to even on the magnitude, maybe out of its surplus alone."""
    fee = muldiv(abs(row.value), rung.fee_rate, RATE_ONE, HALF_EVEN)
    if rung.surplus_to_absorber or rung.fee_from_improvement:
        fee = min(fee, _surplus(row))
    return fee


@kernel
def _give(s: Arrays, f: Fund, row: Any, amount: int) -> None:
    """Move a fee, or what a fill was better than bankruptcy, to the absorber."""
    if amount != 0:
        add_cash(s, row.pool, -amount)
        add_cash(s, i64(f.pools[f.markets[row.market].purse]), amount)
        note(s, f, row.market, amount)


@kernel
def net_own_hedges(s: Arrays, f: Fund, c: Cases, r: Buffers, batch: Array, ts: int) -> None:
    """Close positions at the mark against the account's own of the other side and margin mode."""
    for i in range(len(batch)):
        row = batch[i]
        p = s.positions[row.position]
        row.asked = 0
        hedge = known_position(s, i64(p.account), i64(p.market), 1 - i64(p.mode))
        if hedge < 0 or (p.size > 0) == (s.positions[hedge].size > 0) or s.positions[hedge].size == 0:
            continue
        if p.size == 0:
            continue
        row.asked = min(abs(p.size), abs(s.positions[hedge].size))
        row.filled, row.size = row.asked, p.size
        row.value = value_at(s, row.market, -row.filled if p.size > 0 else row.filled, row.mark)
        row.limit, row.next = NO_LIMIT, of.NETTED
        _book_row(s, row, hedge)
        c.legs[c.leg_of[row.position]].netted += row.filled
        other = c.leg_of[hedge]
        if other >= 0:
            c.legs[other].left = min(c.legs[other].left, abs(s.positions[hedge].size))
    _write_orders(s, f, c, r, batch, of.NET, ts)


@kernel
def _judge(s: Arrays, f: Fund, r: Buffers, market: int, ts: int) -> None:
    """Let the absorber's start and stop rules judge a market; write the change."""
    if not f.rule[DELEVERAGES]:
        return
    found, measured, threshold = judge(s, f, market, ts)
    if found != UNCHANGED:
        f.markets[market].active = found in (STARTS, STARTS_EMPTY)
        write_verdict(s, f, r, ts, market, found, measured, threshold)


@allocating_kernel
def _markets_of(s: Arrays, batch: Array) -> Array:
    """Return the markets of a batch, ascending."""
    named = np.zeros(len(s.markets), np.uint8)
    for i in range(len(batch)):
        named[batch[i].market] = 1
    return np.flatnonzero(named)


@kernel
def judge_held(s: Arrays, f: Fund, r: Buffers, ts: int) -> None:
    """Let the absorber's rules judge every market in which it holds something, before anything is sold."""
    for market in range(len(f.markets)):
        if may_lose(s, f, market):
            _judge(s, f, r, market, ts)


@allocating_kernel
def hold_back(s: Arrays, f: Fund, r: Buffers, batch: Array, ts: int) -> None:
    """Send no order of a batch into the book of a market that is being deleveraged; judged now."""
    for market in _markets_of(s, batch):
        _judge(s, f, r, market, ts)
    for i in range(len(batch)):
        if f.markets[batch[i].market].active:
            batch[i].asked = 0


@kernel
def _lesser(one: int, other: int) -> int:
    """Return the lesser of two amounts of which each may be UNBOUNDED."""
    if one == UNBOUNDED or other == UNBOUNDED:
        return max(one, other)
    return min(one, other)


@kernel
def _pay_exit_fee(s: Arrays, row: Any) -> None:
    """Let a pool pay the fee to close that its bankruptcy price holds, for what was taken over."""
    fee = row.bankruptcy_value - row.worth
    if fee > 0 and row.filled > 0:
        due = muldiv(fee, row.filled, abs(row.size), FLOOR)
        add_cash(s, row.pool, -due)
        add_cash(s, i64(s.ledgers[s.pools[row.pool].ledger].fees_pool), due)


@allocating_kernel
def _of_what_is_asked(c: Cases, batch: Array, values: Array) -> tuple[Array, Array]:
    """Return the rows that ask for something, with their values; of the others nothing is left to another stage."""
    rows = np.empty(len(batch), np.int64)
    count = 0
    for i in range(len(batch)):
        if batch[i].asked > 0:
            rows[count] = i
            count += 1
        else:
            leg = c.legs[c.leg_of[batch[i].position]]
            leg.left, leg.left_value = 0, 0
    return batch[rows[:count]], values[rows[:count]]


@allocating_kernel
def take_over(
    s: Arrays, f: Fund, c: Cases, r: Buffers, batch: Array, rung: Any, ts: int, at_bankruptcy: bool
) -> Array:
    """Hand positions, or shares of them, to the absorber as far as its capacity goes; return the rest, for ADL.

    Args:
        s: The state.
        f: The absorber, with a position in each market of the batch.
        c: The open liquidations.
        r: Receives the rows.
        batch: FORCED records.
        rung: RUNG record.
        ts: The step.
        at_bankruptcy: Whether ADL closes losers at their bankruptcy price.
    """
    wanted = np.empty(len(batch), np.int64)
    ask_to_take_over(s, c, batch, rung, ts, wanted)
    batch, values = _of_what_is_asked(c, batch, wanted)
    room, sizes = np.zeros(len(s.markets), np.int64), np.zeros(len(s.markets), np.int64)
    markets, worths, limits = _markets_of(s, batch), np.zeros_like(f.pools), np.zeros_like(f.pools)
    beyond = _fit(s, f, r, batch, values, ts, markets, room, sizes, worths, limits)
    losing = np.zeros(beyond, LOSING)
    _hand_over(s, f, c, r, batch, values, rung, ts, losing, at_bankruptcy)
    return losing


@kernel
def _fit(
    s: Arrays,
    f: Fund,
    r: Buffers,
    batch: Array,
    values: Array,
    ts: int,
    markets: Array,
    room: Array,
    sizes: Array,
    worths: Array,
    limits: Array,
) -> int:
    """Fill what the absorber takes of each order of :func:`take_over`; return of how many it takes not all.

    ``room`` and ``sizes`` by market, ``worths`` and ``limits`` by purse are zeros to work in.
    """
    for market in markets:
        _judge(s, f, r, market, ts)
        room[market] = capacity(s, f, market, ts)
    has_limit = f.rule[INVENTORY] != 0
    if has_limit:
        open_inventory(s, f, sizes, worths, limits)
    beyond = i64(0)
    for i in range(len(batch)):
        row = batch[i]
        asked = i64(row.asked)
        worth = value_at(s, row.market, asked if row.size > 0 else -asked, row.mark)
        loss, absorbed = values[i] - worth, asked
        if loss > 0:
            left = _lesser(room[row.market], allowance(s, f, i64(row.market), i64(row.pool), ts))
            if left != UNBOUNDED and loss > left:
                lot = s.markets[row.market].lot
                absorbed = muldiv(asked, left, loss, FLOOR) // lot * lot
        if is_off(f, i64(row.market), ts):
            absorbed = i64(0)
        elif has_limit:
            absorbed = fit_inventory(s, f, i64(row.market), i64(row.size), absorbed, sizes, worths, limits)
        if loss > 0:
            paid = muldiv(loss, absorbed, asked, CEIL)
            count_paid(f, i64(row.market), i64(row.pool), ts, paid)
            if room[row.market] != UNBOUNDED:
                room[row.market] = 0 if loss > room[row.market] else room[row.market] - paid
        row.filled, row.limit = absorbed, NO_LIMIT
        row.value = -part_of_value(values[i], absorbed, asked)
        row.next = of.TAKEN_OVER if absorbed == asked else of.NO_CAPACITY
        if absorbed < asked and is_off(f, i64(row.market), ts):
            row.next = of.IS_OFF
        beyond += absorbed < asked
    return beyond


@kernel
def _hand_over(
    s: Arrays,
    f: Fund,
    c: Cases,
    r: Buffers,
    batch: Array,
    values: Array,
    rung: Any,
    ts: int,
    losing: Array,
    at_bankruptcy: bool,
) -> None:
    """Book what it takes of each order of :func:`take_over`, write its rows, fill ``losing`` with the rest."""
    for i in range(len(batch)):
        _book_row(s, batch[i], f.markets[batch[i].market].slot)
        if not rung.at_mark:
            _pay_exit_fee(s, batch[i])
    count = 0
    for i in range(len(batch)):
        row = batch[i]
        gain = value_at(s, row.market, row.filled if row.size > 0 else -row.filled, row.mark) + row.value
        leg = c.legs[c.leg_of[row.position]]
        leg.absorbed += row.filled
        leg.left, leg.left_value = row.asked - row.filled, values[i] + row.value
        leg.surplus += max(gain, 0)
        leg.shortfall += max(-gain, 0)
        if f.rule[IS_VAULT]:
            leg.vault += max(-gain, 0)
        note(s, f, row.market, row.value)
        add_movement(r, row.market, gain)
        if row.filled < row.asked:
            _lose(c, losing[count], row, leg.left, leg.left_value, of.FROM_TAKEOVER, at_bankruptcy)
            losing[count].absorber = f.rule[NUMBER]
            count += 1
    _write_orders(s, f, c, r, batch, of.TAKEOVER, ts)
    write_movements(s, f, r, ts, of.TAKEOVER)
    for i in range(len(batch)):
        row = batch[i]
        add_engaged(s, r, row.pool, row.market, row.equity, row.maintenance, row.filled)
    write_engaged(s, f, r, ts, of.TAKEOVER, of.BY_ABSORBER, of.BELOW_MAINTENANCE)


@kernel
def _lose(
    c: Cases, order: Any, row: Any, quantity: int, value: int, origin: int, at_bankruptcy: bool
) -> None:
    """Fill a LOSING record with what is left of a forced order, priced as the rules say."""
    leg = c.legs[c.leg_of[row.position]]
    leg.left = quantity
    order.position, order.pool, order.market = row.position, row.pool, row.market
    order.is_short, order.quantity = row.size < 0, quantity
    order.value, order.has_value = value, at_bankruptcy
    order.origin, order.equity, order.episode = origin, row.equity, leg.liquidation


@allocating_kernel
def give_up(c: Cases, batch: Array, at_bankruptcy: bool) -> Array:
    """Return all positions of a batch as losers: a rung that deleverages at once."""
    losing = np.zeros(len(batch), LOSING)
    for i in range(len(batch)):
        row = batch[i]
        _lose(c, losing[i], row, abs(row.size), row.bankruptcy_value, of.FROM_LADDER, at_bankruptcy)
    return losing


@kernel
def work_out(s: Arrays, d: Book, f: Fund, r: Buffers, ts: int) -> None:
    """Sell the absorber's inventory into what depth is left, at any price; once a step."""
    if not f.rule[WORKS_OUT] or f.rule[WORKED_OUT_TS] == ts:
        return
    f.rule[WORKED_OUT_TS] = ts
    for market in range(len(f.markets)):
        if not is_held(s, f, market) or (f.rule[SUSPENDS_BOOK] and f.markets[market].active):
            continue
        m, slot, size = s.markets[market], f.markets[market].slot, inventory(s, f, market)
        is_long, inverse = size > 0, m.inverse != 0
        levels = open_levels(s, d, market, is_long, ts)
        filled, magnitude = walk(s, d, market, is_long, levels, abs(size), NO_LIMIT, False)
        close_levels(d, market, is_long, ts, levels, filled)
        if filled == 0:
            continue
        value = -magnitude if is_long != inverse else magnitude
        closed = value_at(s, market, filled if is_long else -filled, m.mark)
        signed = -filled if is_long else filled
        book(s, slot, signed, value, value)
        take_other_side(s, i64(m.book), -signed, -value)
        note(s, f, market, -value)
        add_movement(r, market, -value - closed)
        write_movements(s, f, r, ts, of.WORK_OUT)


@kernel
def attend_absorbers(s: Arrays, d: Book, funds: Funds, r: Buffers, ts: int) -> bool:
    """Look after the absorbers in a step in which no pool was judged; False if it takes a whole step."""
    is_done = True
    for number in range(len(funds.rule)):
        f = fund_at(funds, number)
        if not f.rule[EXISTS]:
            return True
        if is_full(f) or r.counts[of.MOVEMENT_ROWS] + len(f.markets) > len(r.movements):
            return False
        if f.rule[SUSPENDS_BOOK] and not is_quiet(s, f, ts):
            return False
        work_out(s, d, f, r, ts)
    for number in range(len(funds.rule)):
        is_done = is_done and is_quiet(s, fund_at(funds, number), ts)
    return is_done


@allocating_kernel
def absorber_losing(s: Arrays, f: Fund, r: Buffers, ts: int) -> Array:
    """Judge the absorber's triggers and return what of its own positions goes to ADL."""
    losing = np.zeros(len(f.markets), LOSING)
    count = 0
    if f.rule[HAS_DRAWDOWN] or f.rule[STOPS_AT_ZERO]:
        for market in range(len(f.markets)):
            if not may_lose(s, f, market):
                continue
            _judge(s, f, r, market, ts)
            beyond = _beyond_the_line(s, f, market, ts)
            if beyond == 0:
                continue
            at_mark = value_held(s, f, market, s.markets[market].mark)
            # Winners make good what the inventory lost, never what others lost before it: at most its cost.
            cost = s.positions[f.markets[market].slot].cost
            _lose_own(s, f, losing[count], market)
            losing[count].value = max(at_mark, min(at_mark + beyond, cost))
            losing[count].has_value = 1
            count += 1
    if f.rule[INSOLVENT_BELOW] and f.rule[DELEVERAGES]:
        count = _insolvent(s, f, losing, count)
    return losing[:count]


@kernel
def _lose_own(s: Arrays, f: Fund, order: Any, market: int) -> None:
    """Fill a LOSING record with the absorber's position in a market, at the price of the rules."""
    slot, size = f.markets[market].slot, inventory(s, f, market)
    order.position, order.pool, order.market = slot, s.positions[slot].pool, market
    order.is_short, order.quantity = size < 0, abs(size)
    order.value, order.has_value, order.origin, order.episode = 0, 0, of.FROM_ABSORBER, -1
    order.equity, order.absorber = balance(s, f, i64(f.markets[market].purse)), f.rule[NUMBER]


@kernel
def _beyond_the_line(s: Arrays, f: Fund, market: int, ts: int) -> int:
    """Return the loss of a market beyond the absorber's line, or its share of a negative balance."""
    beyond = 0
    if f.rule[HAS_DRAWDOWN]:
        room = headroom(s, f, market, ts)
        if f.markets[market].active:
            beyond = max(0, -room)
    if f.rule[STOPS_AT_ZERO]:
        beyond = max(beyond, _share_of_deficit(s, f, market))
    return beyond


@kernel
def _share_of_deficit(s: Arrays, f: Fund, market: int) -> int:
    """Return a market's share of a negative balance, by the losses of the markets held (rounded up)."""
    purse = f.markets[market].purse
    rest = balance(s, f, i64(purse))
    if rest >= 0:
        return 0
    total = 0
    for other in range(len(f.markets)):
        if f.markets[other].purse == purse and is_held(s, f, other):
            total = min(total + max(0, -profit(s, f, other)), BOUND - 1)
    if total == 0:
        return 0
    return muldiv(-rest, max(0, -profit(s, f, market)), total, CEIL)


@kernel
def _insolvent(s: Arrays, f: Fund, losing: Array, already: int) -> int:
    """Add the vault's positions to be closed at the previous mark until its equity is not negative.

    The largest losses since that mark come first. ``already`` are positions of it that another rule closes in
    this step, and what that brings counts.

    Returns:
        How many losers there are.
    """
    count = already
    for purse in range(len(f.pools)):
        if f.pools[purse] < 0:
            continue
        equity = balance(s, f, purse)
        for i in range(already):
            if f.markets[losing[i].market].purse == purse:
                now = value_held(s, f, losing[i].market, s.markets[losing[i].market].mark)
                equity += losing[i].value - now
        while equity < 0:
            worst, found = 0, -1
            for market in range(len(f.markets)):
                m = s.markets[market]
                is_mine = f.markets[market].purse == purse and may_lose(s, f, market)
                if not is_mine or _is_losing(losing[:count], market):
                    continue
                change = value_held(s, f, market, m.mark) - value_held(s, f, market, m.previous_mark)
                if change < worst:
                    worst, found = change, market
            if found < 0:
                break
            _lose_own(s, f, losing[count], found)
            count += 1
            equity -= worst
    return count


@kernel
def _is_losing(losing: Array, market: int) -> bool:
    found = False
    for order in losing:
        found = found or order.market == market
    return found
