"""Limits of what an absorber pays and holds, and when it does nothing at all.

Source: venue-rules.md section 25, G5 to G7. What it pays is the loss at the mark of a takeover, or a debt.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from replay.exact import FLOOR, OVERFLOW, divided_product, muldiv
from replay.kernels import i64, kernel
from replay.loop.fund import (
    HAS_CAPS,
    INVENTORY,
    LIFETIME,
    PER_ACCOUNT_STEP,
    PER_DAY,
    PER_MARKET_DAY,
    PER_TRADE,
    UNBOUNDED,
    Fund,
    balance,
    inventory,
    value_held,
)
from replay.loop.margin import notional_at
from replay.loop.state import Arrays
from replay.units import (
    BOUND,
    NS_PER_DAY,
    RATE_ONE,
)

Array = npt.NDArray[Any]


@kernel
def is_off(f: Fund, market: int, ts: int) -> bool:
    """Tell whether it does nothing for a market at a moment."""
    found = False
    for i in range(len(f.off)):
        is_for = f.off[i, 0] < 0 or f.off[i, 0] == market
        found = found or (is_for and f.off[i, 1] <= ts < f.off[i, 2])
    return bool(found)


@kernel
def allowance(s: Arrays, f: Fund, market: int, pool: int, ts: int) -> int:
    """Return the most that the limits let it pay now for an order of a market and pool, or UNBOUNDED.

    A share is of the balance when the day first asked for something; a balance below zero has none.
    """
    if not f.rule[HAS_CAPS]:
        return UNBOUNDED
    m, day = f.markets[market], ts // NS_PER_DAY
    today = f.days[m.purse]
    if today[0] != day:
        today[0], today[1], today[2] = day, max(0, balance(s, f, i64(m.purse))), 0
    if m.day != day:
        m.day, m.paid_today = day, 0
    room = BOUND
    if f.rule[PER_TRADE]:
        room = min(room, f.rule[PER_TRADE])
    if f.rule[PER_ACCOUNT_STEP]:
        given = f.given[pool, 1] if f.given[pool, 0] == ts else 0
        room = min(room, f.rule[PER_ACCOUNT_STEP] - given)
    if f.rule[PER_MARKET_DAY]:
        room = min(room, muldiv(today[1], f.rule[PER_MARKET_DAY], RATE_ONE, FLOOR) - m.paid_today)
    if f.rule[PER_DAY]:
        room = min(room, muldiv(today[1], f.rule[PER_DAY], RATE_ONE, FLOOR) - today[2])
    if f.rule[LIFETIME]:
        room = min(room, f.rule[LIFETIME] - m.paid)
    return i64(max(0, room))


@kernel
def count_paid(f: Fund, market: int, pool: int, ts: int, amount: int) -> None:
    """Count what it pays for an order; :func:`allowance` was asked before."""
    if not f.rule[HAS_CAPS] or amount == 0:
        return
    m = f.markets[market]
    m.paid_today += amount
    m.paid += amount
    f.days[m.purse, 2] += amount
    if f.rule[PER_ACCOUNT_STEP]:
        given = f.given[pool, 1] if f.given[pool, 0] == ts else 0
        f.given[pool, 0], f.given[pool, 1] = ts, given + amount


@kernel
def open_inventory(s: Arrays, f: Fund, sizes: Array, worth: Array, limits: Array) -> None:
    """Fill what it holds by market, what that is worth by balance, and the most that it may be.

    Args:
        s: The state.
        f: The absorber.
        sizes: int64[markets], signed.
        worth: int64[purses], sum of absolute values at the marks.
        limits: int64[purses].
    """
    for market in range(len(f.markets)):
        sizes[market] = inventory(s, f, market)
        if sizes[market] != 0:
            held = abs(value_held(s, f, market, i64(s.markets[market].mark)))
            worth[f.markets[market].purse] = min(BOUND, worth[f.markets[market].purse] + held)
    for purse in range(len(limits)):
        if f.pools[purse] >= 0:
            most = divided_product(max(0, balance(s, f, purse)), f.rule[INVENTORY], (RATE_ONE, 1, 1), FLOOR)
            limits[purse] = BOUND if most == OVERFLOW else most


@kernel
def fit_inventory(
    s: Arrays, f: Fund, market: int, size: int, taken: int, sizes: Array, worth: Array, limits: Array
) -> int:
    """Return how much of a quantity of a signed position it may hold, in whole lots, and count that as held."""
    m, purse, held = s.markets[market], f.markets[market].purse, sizes[market]
    own = notional_at(m, held, m.mark) if held != 0 else i64(0)
    others = worth[purse] - own
    room = max(0, limits[purse] - others)
    whole = notional_at(m, taken, m.mark)
    fits = taken
    if room < own + whole:  # the value of a size is proportional to it
        most = divided_product(taken, room, (max(whole, 1), 1, 1), FLOOR)
        fits = min(taken, max(0, most - held if size > 0 else most + held))
    if fits < taken:
        fits = fits // m.lot * m.lot
    sizes[market] = held + fits if size > 0 else held - fits
    worth[purse] = others + (notional_at(m, sizes[market], m.mark) if sizes[market] != 0 else 0)
    return i64(fits)
