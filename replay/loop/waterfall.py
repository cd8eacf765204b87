"""The waterfall: stages over batches of forced orders, in the order book, takeover, ADL, bad debt.

A batch holds the open positions of pools in breach at the end of a step, in canonical order (pool, then
position). A stage is a function from the batch and the market's state to what it takes of each order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.exact import (
    CEIL,
    FLOOR,
    HALF_EVEN,
    OVERFLOW,
    muldiv,
    muldiv_floor,
    multiply,
    product,
    signed_value,
)
from replay.kernels import allocating_kernel, i64, kernel
from replay.loop.books import value_of
from replay.loop.depth import NO_LIMIT, Depth
from replay.loop.margin import bankruptcy_values, notional_at, valuation
from replay.loop.state import Arrays, State, known_position
from replay.rules.plan import BY_SIZE, BookOrder
from replay.tape.schema import Side
from replay.units import BOUND, RATE_ONE

Array = npt.NDArray[Any]


@dataclass(slots=True)
class ForcedBatch:
    """The open positions of pools in breach, one row each; quantities and money as in the ledger.

    ``size`` is the signed position, ``bankruptcy_value`` the signed value at which closing it costs the pool
    exactly its share of equity. Equity and maintenance are those of the pool.
    """

    ts: int
    pool: Array
    position: Array
    market: Array
    size: Array
    mark: Array
    bankruptcy_value: Array
    equity: Array
    maintenance: Array

    def rows(self, index: Array) -> ForcedBatch:
        """Return some of the rows."""
        return ForcedBatch(
            self.ts,
            self.pool[index],
            self.position[index],
            self.market[index],
            self.size[index],
            self.mark[index],
            self.bankruptcy_value[index],
            self.equity[index],
            self.maintenance[index],
        )


@kernel
def _open_positions(s: Arrays, pools: Array) -> int:
    count = 0
    for pool in pools:
        slot = s.pools[pool].first
        while slot >= 0:
            count += s.positions[slot].size != 0
            slot = s.positions[slot].next
    return count


@allocating_kernel
def _forced_orders(s: Arrays, pools: Array, rows: int) -> tuple[Array, Array, Array, Array, Array]:
    pool_of_row = np.empty(rows, np.int64)
    position = np.empty(rows, np.int64)
    bankruptcy = np.empty(rows, np.int64)
    equities = np.empty(rows, np.int64)
    maintenances = np.empty(rows, np.int64)
    row = 0
    for pool in pools:
        equity, maintenance, _ = valuation(s, pool)
        count = bankruptcy_values(s, pool, equity, position[row:], bankruptcy[row:])
        pool_of_row[row : row + count] = pool
        equities[row : row + count] = equity
        maintenances[row : row + count] = maintenance
        row += count
    return pool_of_row, position, bankruptcy, equities, maintenances


def forced_batch(state: State, ts: int, pools: Array) -> ForcedBatch:
    """Return the open positions of pools, valued at bankruptcy.

    Args:
        state: The state at the end of the step.
        ts: Moment of the step.
        pools: int64 ids of pools in breach, ascending.
    """
    arrays = state.arrays
    rows = int(_open_positions(arrays, pools))
    pool, position, bankruptcy, equity, maintenance = _forced_orders(arrays, pools, rows)
    records = arrays.positions[position]
    market = records["market"].astype(np.int64)
    return ForcedBatch(
        ts=ts,
        pool=pool,
        position=position,
        market=market,
        size=records["size"].copy(),
        mark=arrays.markets["mark"][market],
        bankruptcy_value=bankruptcy,
        equity=equity,
        maintenance=maintenance,
    )


def own_hedges(state: State, slots: Array) -> Array:
    """Return, per position, the slot of the same account and market in the other margin mode, or -1."""
    found = np.full(len(slots), -1, np.int64)
    _own_hedges(state.arrays, slots, found)
    return found


@kernel
def _own_hedges(s: Arrays, slots: Array, found: Array) -> None:
    for i in range(len(slots)):
        p = s.positions[slots[i]]
        found[i] = known_position(s, i64(p.account), i64(p.market), 1 - i64(p.mode))


@kernel
def _pool_states(s: Arrays, pools: Array, equity: Array, maintenance: Array, is_open: Array) -> None:
    for i in range(len(pools)):
        is_open[i] = False
        slot = s.pools[pools[i]].first
        while slot >= 0:
            if s.positions[slot].size != 0:
                is_open[i] = True
            slot = s.positions[slot].next
        if is_open[i]:
            equity[i], maintenance[i], _ = valuation(s, pools[i])


def pool_states(state: State, pools: Array) -> tuple[Array, Array, Array]:
    """Return equity, maintenance and whether a position is open, for valued pools (0 of flat ones)."""
    equity, maintenance = np.zeros(len(pools), np.int64), np.zeros(len(pools), np.int64)
    is_open = np.zeros(len(pools), bool)
    _pool_states(state.arrays, pools, equity, maintenance, is_open)
    return equity, maintenance, is_open


def value_of_sizes(state: State, markets: Array, sizes: Array, marks: Array) -> Array:
    """Return the signed values in atoms of sizes at marks, row by row."""
    values = np.zeros(len(sizes), np.int64)
    _values(state.arrays, markets, sizes, marks, values)
    return values


@kernel
def _values(s: Arrays, markets: Array, sizes: Array, marks: Array, values: Array) -> None:
    for i in range(len(sizes)):
        m = s.markets[markets[i]]
        values[i] = signed_value(sizes[i], notional_at(m, sizes[i], marks[i]), m.inverse != 0)


@dataclass(slots=True)
class BookFills:
    """What the book took of a batch: unsigned quantities, signed values booked to the loser, limits."""

    asked: Array
    limit: Array
    filled: Array
    value: Array
    sliced: Array
    reason: list[str] = field(default_factory=list)


def send_to_book(batch: ForcedBatch, state: State, depth: Depth, rung: BookOrder) -> BookFills:
    """Let forced orders walk the book (stage ``book``); nothing is booked yet.

    Args:
        batch: The positions.
        state: The state.
        depth: The book; what is taken is missing for later orders.
        rung: Size, slices, limit and time in force of the rules.
    """
    rows = len(batch.pool)
    asked, sliced = _asked(batch, state, rung)
    limit = np.full(rows, NO_LIMIT, np.int64)
    if rung.limit in ("bankruptcy", "bankruptcy_band"):
        _limits(state.arrays, batch.market, batch.size, batch.bankruptcy_value, _ticks(state), limit)
        for i in np.flatnonzero(limit == _TOO_LARGE).tolist():
            limit[i] = limit_at_bankruptcy(
                state, int(batch.market[i]), int(batch.size[i]), int(batch.bankruptcy_value[i])
            )
    if rung.limit.endswith("_band"):
        for i in range(rows):
            base = int(batch.mark[i]) if rung.limit == "mark_band" else int(limit[i])
            limit[i] = _band(state, int(batch.market[i]), int(batch.size[i]) > 0, base, rung)
    filled, value = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    whole = np.full(rows, rung.all_or_nothing)
    for market in np.unique(batch.market):
        inverse = bool(state.arrays.markets[market]["inverse"])
        for side, is_long in ((Side.BID, True), (Side.ASK, False)):
            mine = np.flatnonzero((batch.market == market) & ((batch.size > 0) == is_long) & (asked > 0))
            if len(mine) == 0:
                continue
            taken, magnitude = depth.fill(int(market), side, batch.ts, asked[mine], limit[mine], whole[mine])
            filled[mine] = taken
            # The loser's booking has the sign of the quantity that closes: V(-n) of a long.
            value[mine] = -magnitude if is_long != inverse else magnitude
    return BookFills(asked, limit, filled, value, sliced, _reasons(asked, filled, limit))


def _band(state: State, market: int, is_long: bool, base: int, rung: BookOrder) -> int:
    """Return the price some basis points beyond a mark or a limit, rounded to the tick as a limit is."""
    if rung.limit == "bankruptcy_band" and base in (NO_LIMIT, 0, BOUND):
        return base
    record, tick = state.arrays.markets[market], state.markets[market].tick
    scale = int(record["mark_factor"]) if rung.limit == "mark_band" else 1
    numerator = base * (_POINTS - rung.limit_bp if is_long else _POINTS + rung.limit_bp)
    ticks, rest = divmod(numerator, _POINTS * scale * tick)
    return max(ticks + (1 if rest and is_long else 0), 0) * tick


_POINTS = 10_000


def _reasons(asked: Array, filled: Array, limit: Array) -> list[str]:
    reasons = []
    for want, have, worst in zip(asked.tolist(), filled.tolist(), limit.tolist(), strict=True):
        if want == 0:
            reasons.append("nothing to reduce")
        elif have == want:
            reasons.append("filled")
        elif worst == NO_LIMIT:
            reasons.append("depth used up")
        else:
            reasons.append("depth within the limit used up")
    return reasons


def _asked(batch: ForcedBatch, state: State, rung: BookOrder) -> tuple[Array, Array]:
    """Return the unsigned quantity each order asks for, and whether it is a slice."""
    asked = np.abs(batch.size)
    sliced = np.zeros(len(asked), bool)
    if rung.size == "step_down":
        for i in range(len(asked)):
            market, size, mark = int(batch.market[i]), int(batch.size[i]), int(batch.mark[i])
            asked[i] = _step_down(state, market, size, mark, state.markets[market].lot)
    elif rung.slice_above:
        cooling = state.pools["cooldown_until"][batch.pool] > batch.ts
        notionals = np.abs(value_of_sizes(state, batch.market, batch.size, batch.mark))
        for i in np.flatnonzero(~cooling & (notionals > rung.slice_above)).tolist():
            lot, whole = state.markets[int(batch.market[i])].lot, int(asked[i])
            part = int(muldiv_floor(whole, rung.slice_rate, RATE_ONE)) // lot * lot
            asked[i] = min(whole, max(part, lot))
            sliced[i] = asked[i] < whole
    return asked, sliced


def _step_down(state: State, market: int, size: int, mark: int, lot: int) -> int:
    """Return the least whole lots that bring a position to the lower edge of its margin tier."""
    record, tiers = state.arrays.markets[market], state.arrays.tiers
    by_size = record["margin_basis"] == BY_SIZE
    key = abs(size) if by_size else abs(value_of(state, market, size, mark, at_mark=True))
    mine = tiers["start"][record["first_tier"] : record["end_tier"]]
    tier = int(np.searchsorted(mine, key, side="right")) - 1
    if tier <= 0:
        return 0
    edge = int(mine[tier])
    keep = edge - 1 if by_size else _worth_at_most(state, market, edge, mark)
    cut = abs(size) - keep
    return min(abs(size), -(-cut // lot) * lot)


def _worth_at_most(state: State, market: int, value: int, mark: int) -> int:
    """Return the largest size that is worth at most a value at a mark."""
    record = state.arrays.markets[market]
    num, den = int(record["mark_num"]), int(record["mark_den"])
    # The largest size whose exact value rounds to the value: at most half an atom above it.
    above = 2 * value + 1
    keep = above * mark // (2 * num) if record["inverse"] else above * den // (2 * mark * num)
    while keep > 0 and abs(value_of(state, market, keep, mark, at_mark=True)) > value:
        keep -= 1
    return keep


def limit_at_bankruptcy(state: State, market: int, size: int, bankruptcy_value: int) -> int:
    """Return the worst price at which closing a position does not cost more than its share of equity.

    Rounded to the tick against the loser's counterparty: a sale of a long up, a purchase for a short down,
    so that a fill at the limit never makes a new shortfall (engine.md 3.6).
    """
    record, tick = state.arrays.markets[market], state.markets[market].tick
    num, den, quantity = int(record["price_num"]), int(record["price_den"]), abs(size)
    is_long = size > 0
    if record["inverse"]:
        worth = -bankruptcy_value if is_long else bankruptcy_value
        if worth <= 0:
            return BOUND if is_long else NO_LIMIT
        numerator, denominator = quantity * num, worth
    else:
        worth = bankruptcy_value if is_long else -bankruptcy_value
        if worth <= 0:
            return NO_LIMIT if is_long else 0
        numerator, denominator = worth * den, quantity * num
    ticks, rest = divmod(numerator, denominator * tick)
    return (ticks + (1 if rest and is_long else 0)) * tick


_TOO_LARGE = -2
"""Stands for a limit whose terms leave 62 bits; Python works it out."""


def _ticks(state: State) -> Array:
    return np.array([market.tick for market in state.markets], np.int64)


@kernel
def _limits(s: Arrays, markets: Array, sizes: Array, values: Array, ticks: Array, limit: Array) -> None:
    """Fill :func:`limit_at_bankruptcy` of each order, or _TOO_LARGE."""
    for i in range(len(markets)):
        m, tick = s.markets[markets[i]], ticks[markets[i]]
        is_long, quantity = sizes[i] > 0, abs(sizes[i])
        inverse = m.inverse != 0
        worth = values[i] if is_long != inverse else -values[i]
        if worth <= 0:
            if inverse:
                limit[i] = BOUND if is_long else NO_LIMIT
            else:
                limit[i] = NO_LIMIT if is_long else 0
            continue
        per_price = product(quantity, m.price_num)
        below = product(worth, tick) if inverse else OVERFLOW
        if not inverse and per_price != OVERFLOW:
            below = product(per_price, tick)
        if per_price == OVERFLOW or below == OVERFLOW:
            limit[i] = _TOO_LARGE
            continue
        rounding = CEIL if is_long else FLOOR
        if inverse:
            count = muldiv(quantity, m.price_num, below, rounding)
        else:
            count = muldiv(worth, m.price_den, below, rounding)
        reached = OVERFLOW if count == OVERFLOW else product(count, tick)
        limit[i] = _TOO_LARGE if reached == OVERFLOW else reached


def surplus_over_bankruptcy(batch: ForcedBatch, fills: BookFills) -> Array:
    """Return what each fill is better for the pool than its bankruptcy price, in atoms, never negative."""
    at_bankruptcy = -parts_of_values(batch.bankruptcy_value, fills.filled, np.abs(batch.size))
    return np.where(fills.filled > 0, np.maximum(0, at_bankruptcy - fills.value), 0)


def fees_of(values: Array, rate: int) -> Array:
    """Return the fees on values, half to even on the magnitude, in atoms."""
    fees = np.zeros(len(values), np.int64)
    _fees(values, rate, fees)
    return fees


@kernel
def _fees(values: Array, rate: int, fees: Array) -> None:
    for i in range(len(values)):
        fees[i] = muldiv(abs(values[i]), rate, RATE_ONE, HALF_EVEN)


def is_below_share(equity: Array, maintenance: Array, num: int, den: int, counts_equal: bool) -> Array:
    """Tell per pool whether its equity is below ``num/den`` of maintenance, or equal where that counts."""
    below = np.zeros(len(equity), bool)
    _below_share(equity, maintenance, num, den, counts_equal, below)
    return below


@kernel
def _below_share(
    equity: Array, maintenance: Array, num: int, den: int, counts_equal: bool, below: Array
) -> None:
    for i in range(len(equity)):
        # The magnitudes are 128-bit products; maintenance and the share are not negative.
        high, low = multiply(abs(equity[i]), den)
        other_high, other_low = multiply(maintenance[i], num)
        is_equal = high == other_high and low == other_low
        is_less = high < other_high or (high == other_high and low < other_low)
        if equity[i] < 0:
            is_equal = is_equal and high == 0 and low == 0
            is_less = not is_equal
        below[i] = is_less or (is_equal and counts_equal)


def parts_of_values(values: Array, quantities: Array, wholes: Array) -> Array:
    """Return :func:`part_of_value` row by row."""
    parts = np.zeros(len(values), np.int64)
    _parts(values, quantities, wholes, parts)
    return parts


@kernel
def _parts(values: Array, quantities: Array, wholes: Array, parts: Array) -> None:
    for i in range(len(values)):
        part = muldiv(abs(values[i]), quantities[i], wholes[i], FLOOR)
        parts[i] = part if values[i] >= 0 else -part


def part_of_value(value: int, quantity: int, whole: int) -> int:
    """Return the part of a signed value that belongs to part of its quantity: floor of the magnitude."""
    part = abs(value) * quantity // whole
    return part if value >= 0 else -part


def signed_like(quantity: int, size: int) -> int:
    """Give an unsigned quantity the sign of a position."""
    return quantity if size > 0 else -quantity
