"""The account of a fund or vault in arrays: profit by market, rolling peaks, start and stop of deleveraging.

All of it is compiled, because a step in which nothing of it has to act must cost next to nothing. Source of
the drawdown rule: Bybit's adlAlert, (profit of the symbol - its peak) / (peak balance of the pool), both over
a rolling window, against the start ratio; only what lies beyond the line is deleveraged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from replay.exact import CEIL, FLOOR, OVERFLOW, muldiv, signed_value
from replay.kernels import allocating_kernel, i64, kernel
from replay.loop.margin import fault, notional_at, valuation, valued_pool
from replay.loop.state import CELL_OVERFLOW, Arrays
from replay.units import BOUND, RATE_ONE

Array = npt.NDArray[Any]

FUND_MARKET = np.dtype(
    [
        ("slot", "i8"),  # its position, -1 until it has one
        ("purse", "i8"),  # the balance that answers for it
        ("flow", "i8"),  # changes of its cash - cost that came from the market
        ("booked", "u1"),  # whether there were any
        ("active", "u1"),  # whether deleveraging is on
        ("exempt", "u1"),  # whether there is none whatever happens: no trigger holds
        ("day", "i8"),  # the day (UTC) that paid_today is of
        ("paid_today", "i8"),
        ("paid", "i8"),  # what was paid for it so far
    ],
    align=True,
)

# Places of Fund.rule.
(
    EXISTS,
    DELEVERAGES,  # whether the rules have deleveraging
    WORKS_OUT,
    INSOLVENT_BELOW,
    HAS_DRAWDOWN,
    START,
    STOP,
    WINDOW_NS,
    LEAST_BALANCE,
    STOPS_AT_ZERO,
    WORKED_OUT_TS,  # the last step in which its inventory was sold
    HAS_CAPS,  # whether what it pays is limited in one of the five ways that follow
    PER_TRADE,
    PER_ACCOUNT_STEP,
    PER_MARKET_DAY,
    PER_DAY,
    LIFETIME,
    INVENTORY,  # multiple of a balance that its positions may be worth, in 1e-12; 0: any
    NUMBER,  # its place among the absorbers
    IS_VAULT,
    SUSPENDS_BOOK,  # whether nothing is sold into the book of a market while deleveraging is on there
    RULES,
) = range(22)

# What `judge` finds.
UNCHANGED, STARTS_EMPTY, STARTS, STOPS_EMPTY, STOPS = range(5)

UNBOUNDED = -1
"""Stands for a capacity without bound."""


class Fund(NamedTuple):
    """The absorber as compiled code sees it."""

    rule: Array  # int64[RULES]
    markets: Array  # FUND_MARKET records
    pools: Array  # int64[purses]: the pool of each of its balances, -1 where no market is settled
    peaks: Array  # int64[markets + purses, room, 2]: rings of (moment, value), room a power of two
    ends: Array  # int64[markets + purses, 2]: place of the oldest sample, and how many there are
    days: Array  # int64[purses, 3]: the day last asked, the balance when it was, and what was paid since
    given: Array  # int64[pools or 0, 2]: the step a pool was last paid for in, and how much
    off: Array  # int64[spans, 3]: market or -1 for all, first moment, end


def no_fund() -> Fund:
    """Return the account of nobody."""
    return Fund(
        np.zeros(RULES, np.int64),
        np.zeros(0, FUND_MARKET),
        np.zeros(0, np.int64),
        np.zeros((0, 1, 2), np.int64),
        np.zeros((0, 2), np.int64),
        np.zeros((0, 3), np.int64),
        np.zeros((0, 2), np.int64),
        np.zeros((0, 3), np.int64),
    )


class Funds(NamedTuple):
    """All absorbers, one behind the other: the arrays of :class:`Fund` with a first axis for the absorber."""

    rule: Array
    markets: Array
    pools: Array
    peaks: Array
    ends: Array
    days: Array
    given: Array
    off: Array


@kernel
def fund_at(funds: Funds, number: int) -> Fund:
    """Return one of the absorbers, for callers that do not count references; see :func:`counted_fund_at`."""
    return Fund(
        funds.rule[number],
        funds.markets[number],
        funds.pools[number],
        funds.peaks[number],
        funds.ends[number],
        funds.days[number],
        funds.given[number],
        funds.off[number],
    )


@allocating_kernel
def counted_fund_at(funds: Funds, number: int) -> Fund:
    """Return one of the absorbers, for callers that count references.

    They give up what a call has returned, so that it must have been counted: :func:`fund_at` does not, and its
    arrays would be freed under their owner.
    """
    return Fund(
        funds.rule[number],
        funds.markets[number],
        funds.pools[number],
        funds.peaks[number],
        funds.ends[number],
        funds.days[number],
        funds.given[number],
        funds.off[number],
    )


def part_of(funds: Funds, number: int) -> Fund:
    """Return one of the absorbers, for the host: views of their arrays."""
    return Fund(*(whole[number] for whole in funds))


def stacked(each: Sequence[Fund]) -> Funds:
    """Return absorbers one behind the other; where one has fewer balances or spans, nothing stands behind them."""
    wholes = []
    for name, parts in zip(Fund._fields, zip(*each, strict=True), strict=True):
        shape = np.max([part.shape for part in parts], axis=0)
        whole = np.zeros((len(parts), *shape), parts[0].dtype)
        if name in ("pools", "days"):
            whole[...] = -1
        for place, part in zip(whole, parts, strict=True):
            place[tuple(slice(length) for length in part.shape)] = part
        wholes.append(whole)
    return Funds(*wholes)


@kernel
def peak(f: Fund, key: int, at: int, value: int) -> int:
    """Take a sample and return the largest of the window, both ends included.

    Only what can still become the largest is kept. The ring must have room, see :func:`is_full`.
    """
    last = f.peaks.shape[1] - 1
    first, count = f.ends[key, 0], f.ends[key, 1]
    while count > 0 and f.peaks[key, (first + count - 1) & last, 1] <= value:
        count -= 1
    if count == 0 or f.peaks[key, (first + count - 1) & last, 0] != at:
        f.peaks[key, (first + count) & last, 0] = at
        f.peaks[key, (first + count) & last, 1] = value
        count += 1
    while f.peaks[key, first & last, 0] < at - f.rule[WINDOW_NS]:
        first += 1
        count -= 1
    f.ends[key, 0] = first & last
    f.ends[key, 1] = count
    return i64(f.peaks[key, first & last, 1])


@kernel
def is_full(f: Fund) -> bool:
    """Tell whether a ring may be too small for the samples of one more moment: the host has to grow them."""
    longest = 0
    for key in range(len(f.ends)):
        longest = max(longest, f.ends[key, 1])
    return bool(longest + 1 >= f.peaks.shape[1])


@kernel
def inventory(s: Arrays, f: Fund, market: int) -> int:
    """Return its signed size in a market."""
    slot = f.markets[market].slot
    return s.positions[slot].size if slot >= 0 else 0


@kernel
def balance(s: Arrays, f: Fund, purse: int) -> int:
    """Return one of its balances: the equity of a pool at the marks, in atoms."""
    pool = f.pools[purse]
    if valued_pool(s, pool, False):
        return i64(s.valuations[pool][0])
    return valuation(s, pool)[0]


@kernel
def note(s: Arrays, f: Fund, market: int, amount: int) -> None:
    """Note a change of its ``cash - cost`` that came from a market."""
    m = f.markets[market]
    m.booked = 1
    m.flow += amount
    if abs(m.flow) >= BOUND:
        fault(s, CELL_OVERFLOW, f.pools[m.purse], market)


@kernel
def value_held(s: Arrays, f: Fund, market: int, mark: int) -> int:
    """Return the signed value of its inventory of a market at a mark, in atoms."""
    size = inventory(s, f, market)
    if size == 0:
        return 0
    m = s.markets[market]
    notional = notional_at(m, size, mark)
    if notional == OVERFLOW:
        fault(s, CELL_OVERFLOW, f.pools[f.markets[market].purse], market)
        return 0
    return signed_value(size, notional, m.inverse != 0)


@kernel
def profit(s: Arrays, f: Fund, market: int) -> int:
    """Return what a market has brought it so far, inventory at mark, in atoms."""
    return i64(f.markets[market].flow) + value_held(s, f, market, s.markets[market].mark)


@kernel
def balance_peak(s: Arrays, f: Fund, purse: int, ts: int) -> int:
    """Return the highest value of a balance over the window, the present one included."""
    return peak(f, len(f.markets) + purse, ts, balance(s, f, purse))


@kernel
def profit_peak(s: Arrays, f: Fund, market: int, ts: int) -> int:
    """Return the highest profit of a market over the window, the present one and the start included."""
    if f.ends[market, 1] == 0:
        peak(f, market, ts, 0)
    return peak(f, market, ts, profit(s, f, market))


@kernel
def _share(rate: int, amount: int) -> int:
    """Return a rate in 1e-12 of an amount of either sign, rounded down."""
    part = muldiv(abs(amount), rate, RATE_ONE, FLOOR if amount >= 0 else CEIL)
    return part if amount >= 0 else -part


@kernel
def headroom(s: Arrays, f: Fund, market: int, ts: int) -> int:
    """Return how much more a market may lose before the drawdown line; negative beyond it."""
    line = _share(f.rule[START], balance_peak(s, f, f.markets[market].purse, ts))
    return line + profit(s, f, market) - profit_peak(s, f, market, ts)


@kernel
def capacity(s: Arrays, f: Fund, market: int, ts: int) -> int:
    """Return the loss at mark that it may take on in a market now, in atoms, or UNBOUNDED."""
    room = UNBOUNDED
    if f.markets[market].exempt:
        return room
    if f.rule[HAS_DRAWDOWN]:
        room = max(0, headroom(s, f, market, ts))
    if f.markets[market].active:
        return 0
    if f.rule[STOPS_AT_ZERO]:
        rest = max(0, balance(s, f, f.markets[market].purse))
        return rest if room == UNBOUNDED else min(room, rest)
    return room


@kernel
def judge(s: Arrays, f: Fund, market: int, ts: int) -> tuple[int, int, int]:
    """Judge start and stop of a market's deleveraging; nothing is changed but the peaks.

    Returns:
        What was found, what was measured and what it was compared with, the last two in atoms.
    """
    if f.markets[market].exempt or not (f.rule[HAS_DRAWDOWN] or f.rule[STOPS_AT_ZERO]):
        return UNCHANGED, 0, 0
    purse = f.markets[market].purse
    rest = balance(s, f, purse)
    was = f.markets[market].active != 0
    fall, start_line, stop_line = 0, 0, 0
    starts = stops = False
    if f.rule[HAS_DRAWDOWN]:
        highest = balance_peak(s, f, purse, ts)
        fall = profit(s, f, market) - profit_peak(s, f, market, ts)
        start_line, stop_line = -_share(f.rule[START], highest), -_share(f.rule[STOP], highest)
        starts = rest > f.rule[LEAST_BALANCE] and fall < 0 and fall <= start_line
        stops = fall > stop_line
    empty = f.rule[STOPS_AT_ZERO] != 0 and rest <= 0
    if not was and empty:
        return STARTS_EMPTY, rest, 0
    if not was and starts:
        return STARTS, fall, start_line
    if was and not empty and not f.rule[HAS_DRAWDOWN]:
        return STOPS_EMPTY, rest, 0
    if was and not empty and stops:
        return STOPS, fall, stop_line
    return UNCHANGED, 0, 0


@kernel
def is_held(s: Arrays, f: Fund, market: int) -> bool:
    """Tell whether it holds inventory that forced orders brought."""
    return f.markets[market].booked != 0 and inventory(s, f, market) != 0


@kernel
def may_lose(s: Arrays, f: Fund, market: int) -> bool:
    """Tell whether it holds inventory that deleveraging could close."""
    return bool(f.markets[market].exempt == 0 and is_held(s, f, market))


@kernel
def is_quiet(s: Arrays, f: Fund, ts: int) -> bool:
    """Tell whether no trigger of the absorber's changes in a step; its peaks are sampled on the way."""
    if not f.rule[EXISTS]:
        return True
    if f.rule[HAS_DRAWDOWN] or f.rule[STOPS_AT_ZERO]:
        for market in range(len(f.markets)):
            if not may_lose(s, f, market):
                continue
            if f.rule[DELEVERAGES] and judge(s, f, market, ts)[0] != UNCHANGED:
                return False
            beyond = f.rule[HAS_DRAWDOWN] != 0 and headroom(s, f, market, ts) < 0
            if beyond and f.markets[market].active:
                return False
            if f.rule[STOPS_AT_ZERO] and balance(s, f, f.markets[market].purse) < 0:
                return False
    if f.rule[INSOLVENT_BELOW] and f.rule[DELEVERAGES]:
        for purse in range(len(f.pools)):
            if f.pools[purse] >= 0 and balance(s, f, purse) < 0:
                return False
    return True
