"""Forced orders before they are sent: the open positions of pools in breach, valued, and which rung acts on them.

A batch holds the open positions of pools in breach at the end of a step, in canonical order (pool, then
position); :mod:`replay.loop.asking` says how much of each is sent and at which limit, a stage of
:mod:`replay.loop.stages` takes what it can.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from replay.exact import CEIL, FLOOR, OVERFLOW, divided_product, muldiv, multiply, product, signed_value
from replay.kernels import allocating_kernel, kernel
from replay.loop.bankruptcy import bankruptcy_values
from replay.loop.depth import NO_LIMIT
from replay.loop.margin import notional_at, valuation
from replay.loop.state import Arrays, State
from replay.rules.plan import LIMITS, ORDERS, SIZES, BookOrder, Deleverage, NetOwnHedge, Plan, Takeover
from replay.units import BOUND

Array = npt.NDArray[Any]

FORCED = np.dtype(
    [
        ("pool", "i8"),
        ("position", "i8"),
        ("market", "i8"),
        ("size", "i8"),  # signed
        ("mark", "i8"),
        ("bankruptcy_value", "i8"),  # signed value at which closing it costs the pool its share of equity
        ("worth", "i8"),  # what is left of that after the fee to close that it holds, if any
        ("equity", "i8"),  # of the pool, as maintenance
        ("maintenance", "i8"),
        ("asked", "i8"),  # unsigned, as filled
        ("limit", "i8"),
        ("filled", "i8"),
        ("value", "i8"),  # signed value booked to the position for what was filled
        ("sliced", "i8"),
        ("next", "i8"),  # next row of the same market and side
    ]
)
"""An open position of a pool in breach, and what a stage takes of it; quantities and money as in the ledger."""

RUNG = np.dtype(
    [
        (name, "i8")
        for name in (
            "action",
            "level_num",
            "level_den",
            "size",
            "tiers",
            "share",
            "cap",
            "exit_num",
            "exit_den",
            "order",
            "spread_num",
            "spread_den",
            "slice_above",
            "slice_rate",
            "cooldown_ns",
            "limit",
            "limit_bp",
            "all_or_nothing",
            "surplus_to_absorber",
            "fee_rate",
            "fee_from_improvement",
            "fee_to_absorber",
            "at_mark",
            "penalty_rate",
            "absorber",
            "passes_on",
            "continues",
            "after_unfilled",
            "owed_stays",
            "step_cap",
            "initial_rate",
            "full_after_ns",
            "spared",
        )
    ]
)
"""A rung of the ladder as compiled code sees it; see :mod:`replay.rules.plan`."""

BOOK, TAKEOVER, ADL, NET = range(4)
"""What a rung does, in RUNG.action."""

_ACTIONS = {BookOrder: BOOK, Takeover: TAKEOVER, Deleverage: ADL, NetOwnHedge: NET}


def rungs_of(plan: Plan) -> Array:
    """Return the rungs of a plan as RUNG records."""
    records = np.zeros(len(plan.ladder), RUNG)
    for rung, record in zip(plan.ladder, records, strict=True):
        record["action"] = _ACTIONS[type(rung)]
        record["level_num"], record["level_den"] = rung.level
        if isinstance(rung, BookOrder | Takeover):
            for name in ("step_cap", "initial_rate", "full_after_ns", "spared"):
                record[name] = getattr(rung.rate, name)
        record["after_unfilled"] = not isinstance(rung, NetOwnHedge) and rung.after_unfilled
        if isinstance(rung, BookOrder):
            record["size"], record["limit"] = SIZES.index(rung.size), LIMITS.index(rung.limit)
            record["order"] = ORDERS.index(rung.order)
            record["exit_num"], record["exit_den"] = rung.exit
            record["spread_num"], record["spread_den"] = rung.spread
            for name in ("tiers", "share", "cap"):
                record[name] = getattr(rung, name)
            record["surplus_to_absorber"] = rung.surplus_to == "absorber" and plan.absorber is not None
            record["fee_to_absorber"] = rung.fee_to_absorber and plan.absorber is not None
            for name in ("slice_above", "slice_rate", "cooldown_ns", "limit_bp", "all_or_nothing"):
                record[name] = getattr(rung, name)
            record["fee_rate"], record["fee_from_improvement"] = rung.fee_rate, rung.fee_from_improvement
        elif isinstance(rung, Takeover):
            record["at_mark"] = rung.price == "mark"
            record["absorber"], record["owed_stays"] = rung.absorber, rung.owed_stays
            same = [r for r in plan.ladder if isinstance(r, Takeover) and r.level == rung.level]
            record["passes_on"] = same[-1] is not rung
            # The next takeovers of the level take what the first one left of its share.
            record["share"], record["continues"] = rung.share, rung.share and same[0] is not rung
            record["exit_num"], record["exit_den"] = rung.exit
            record["penalty_rate"] = rung.penalty_rate
    return records


@kernel
def is_open(s: Arrays, pool: int) -> bool:
    """Tell whether a pool has an open position."""
    slot = s.pools[pool].first
    while slot >= 0 and s.positions[slot].size == 0:
        slot = s.positions[slot].next
    return bool(slot >= 0)


@kernel
def open_positions(s: Arrays, pools: Array) -> int:
    """Return how many open positions pools have."""
    count = 0
    for pool in pools:
        slot = s.pools[pool].first
        while slot >= 0:
            count += s.positions[slot].size != 0
            slot = s.positions[slot].next
    return count


@allocating_kernel
def indebted(s: Arrays, pools: Array) -> Array:
    """Return the pools without an open position whose cash is negative, in their order."""
    found = np.empty(len(pools), np.int64)
    count = 0
    for pool in pools:
        if s.pools[pool].cash < 0 and not is_open(s, pool):
            found[count] = pool
            count += 1
    return found[:count]


@allocating_kernel
def forced_batch(s: Arrays, pools: Array) -> Array:
    """Return the open positions of pools as FORCED records, valued at bankruptcy.

    Args:
        s: The state at the end of the step.
        pools: int64 ids of pools in breach, ascending.
    """
    batch = np.zeros(open_positions(s, pools), FORCED)
    _fill_batch(s, pools, batch, np.empty((5, len(batch)), np.int64))
    return batch


@kernel
def _fill_batch(s: Arrays, pools: Array, batch: Array, columns: Array) -> None:
    """Fill the rows of :func:`forced_batch`; ``columns`` is to work in."""
    row = 0
    for pool in pools:
        if not is_open(s, pool):
            continue
        equity, maintenance, _ = valuation(s, pool)
        slots, values, worths = columns[0], columns[1], columns[2]
        count = bankruptcy_values(s, pool, equity, slots, values, worths, columns[3], columns[4])
        for i in range(count):
            p = s.positions[slots[i]]
            forced = batch[row + i]
            forced.pool, forced.position, forced.market = pool, slots[i], p.market
            forced.size, forced.mark = p.size, s.markets[p.market].mark
            forced.bankruptcy_value, forced.worth = values[i], worths[i]
            forced.equity, forced.maintenance = equity, maintenance
        row += count


@kernel
def _is_below_share(equity: int, maintenance: int, num: int, den: int, counts_equal: bool) -> bool:
    """Tell whether equity is below ``num/den`` of maintenance, or equal where that counts."""
    # The magnitudes are 128-bit products; maintenance and the share are not negative.
    high, low = multiply(abs(equity), den)
    other_high, other_low = multiply(maintenance, num)
    is_equal = high == other_high and low == other_low
    is_less = high < other_high or (high == other_high and low < other_low)
    if equity < 0:
        is_equal = is_equal and high == 0 and low == 0
        is_less = not is_equal
    return bool(is_less or (is_equal and counts_equal))


@kernel
def lowest_rungs(s: Arrays, pools: Array, rungs: Array, breach_at_equal: bool, lowest: Array) -> int:
    """Find, per pool in breach, the first rung of the lowest level that applies to it; rungs of a level act.

    Args:
        s: The state.
        pools: int64 ids, valued and open.
        rungs: RUNG records.
        breach_at_equal: Whether equity equal to a share of maintenance counts as below it.
        lowest: int64[pools], filled; the number of rungs where none applies.

    Returns:
        Bit mask of the rungs that were found.
    """
    seen = 0
    for i in range(len(pools)):
        lowest[i] = len(rungs)
        if not is_open(s, pools[i]):
            continue
        equity, maintenance, _ = valuation(s, pools[i])
        for number in range(len(rungs)):
            rung = rungs[number]
            counts_equal = breach_at_equal and rung.level_num != 0
            if not _is_below_share(equity, maintenance, rung.level_num, rung.level_den, counts_equal):
                continue
            best = lowest[i]
            if (
                best == len(rungs)
                or rung.level_num * rungs[best].level_den < rungs[best].level_num * rung.level_den
            ):
                lowest[i] = number
        if lowest[i] < len(rungs):
            seen |= 1 << lowest[i]
    return seen


@kernel
def end_of_pool(batch: Array, first: int) -> int:
    """Return the row behind those of the pool that begins at row ``first`` of a batch."""
    end = first + 1
    while end < len(batch) and batch[end].pool == batch[first].pool:
        end += 1
    return end


@allocating_kernel
def in_turn(s: Arrays, pools: Array, liquidations: Array, most: int) -> Array:
    """Return the pools in breach whose turn has come, in their order: the first to breach; the others are deferred.

    Args:
        s: The state.
        pools: int64 ids of the pools in breach, ascending.
        liquidations: int64, the numbers of their liquidations: by the first breach, then by pool.
        most: How many come in a step, fewer than there are.
    """
    last = np.sort(liquidations)[most - 1]
    chosen = np.empty(len(pools), np.int64)
    count = 0
    for i in range(len(pools)):
        if liquidations[i] <= last:
            chosen[count] = pools[i]
            count += 1
        else:
            s.pools[pools[i]].deferred = 1
    return chosen[:count]


@allocating_kernel
def still_in_breach(s: Arrays, pools: Array, lowest: Array, first: int, breach_at_equal: bool) -> Array:
    """Return the pools on whose lowest level a rung is the first, and that are open and in breach still."""
    found = np.empty(len(pools), np.int64)
    count = 0
    for i in range(len(pools)):
        if lowest[i] != first or not is_open(s, pools[i]):
            continue
        equity, maintenance, _ = valuation(s, pools[i])
        if equity - maintenance < (1 if breach_at_equal else 0):
            found[count] = pools[i]
            count += 1
    return found[:count]


@kernel
def value_at(s: Arrays, market: int, size: int, mark: int) -> int:
    """Return the signed value in atoms of a size at a mark."""
    m = s.markets[market]
    return signed_value(size, notional_at(m, size, mark), m.inverse != 0)


@kernel
def price_of(m: Any, ticks: int) -> int:
    """Return the price of a number of ticks; BOUND, beyond every price, where it leaves its cell."""
    price = OVERFLOW if ticks == OVERFLOW else product(ticks, m.tick)
    return BOUND if price == OVERFLOW else price


@kernel
def limit_at(m: Any, size: int, bankruptcy_value: int) -> int:
    """Return the worst price at which closing a position does not cost more than its share of equity.

    Rounded to the tick against the loser's counterparty: a sale of a long up, a purchase for a short down,
    so that a fill at the limit never makes a new shortfall (engine.md 3.6). BOUND where no price is that high.

    Args:
        m: MARKET record.
        size: The signed position.
        bankruptcy_value: Its signed value at bankruptcy.
    """
    is_long, inverse = size > 0, m.inverse != 0
    worth = bankruptcy_value if is_long != inverse else -bankruptcy_value
    if worth <= 0:
        if inverse:
            return BOUND if is_long else NO_LIMIT
        return NO_LIMIT if is_long else 0
    rounding = CEIL if is_long else FLOOR
    if inverse:
        ticks = divided_product(abs(size), m.price_num, (worth, m.tick, 1), rounding)
    else:
        ticks = divided_product(worth, m.price_den, (abs(size), m.price_num, m.tick), rounding)
    return price_of(m, ticks)


def limit_at_bankruptcy(state: State, market: int, size: int, bankruptcy_value: int) -> int:
    """Return :func:`limit_at` of a position of a market."""
    return int(limit_at(state.arrays.markets[market], size, bankruptcy_value))


@kernel
def part_of_value(value: int, quantity: int, whole: int) -> int:
    """Return the part of a signed value that belongs to part of its quantity: floor of the magnitude."""
    part = muldiv(abs(value), quantity, whole, FLOOR)
    return part if value >= 0 else -part


def value_of_sizes(state: State, markets: Array, sizes: Array, marks: Array) -> Array:
    """Return the signed values in atoms of sizes at marks, row by row."""
    values = np.zeros(len(sizes), np.int64)
    _values(state.arrays, markets, sizes, marks, values)
    return values


@kernel
def _values(s: Arrays, markets: Array, sizes: Array, marks: Array, values: Array) -> None:
    for i in range(len(sizes)):
        values[i] = value_at(s, markets[i], sizes[i], marks[i])
