"""What a piece of a loser is worth when it is closed: the price of the rules, or its part of a bankruptcy value."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from replay.kernels import i64, kernel
from replay.loop.state import Arrays
from replay.loop.waterfall import part_of_value, value_at
from replay.units import BOUND

Array = npt.NDArray[Any]

PRICES = ("mark", "previous_mark", "bankruptcy", "oracle", "clamped_oracle")
"""The prices of the rules, in the order of their numbers."""

MARK, PREVIOUS_MARK, BANKRUPTCY, ORACLE, CLAMPED_ORACLE = range(5)


@kernel
def rule_price(s: Arrays, market: int, price: int) -> int:
    """Return the price of the rules in the scale of marks; the mark before a market's first oracle."""
    m = s.markets[market]
    if price == PREVIOUS_MARK:
        return i64(m.previous_mark)
    if price in (ORACLE, CLAMPED_ORACLE) and m.oracle:
        return i64(m.oracle)
    return i64(m.mark)


@kernel
def bankruptcy_part(s: Arrays, order: Any, piece: int, closed: int, given: int) -> int:
    """Return a piece's part of the value at which its loser is bankrupt.

    No price is below zero: where a bankruptcy value has the other sign, because the position's share of the
    pool's deficit is larger than its notional, it is closed for nothing and the rest is bad debt. The piece that
    closes a loser takes what rounding left of its value.

    Args:
        s: The state.
        order: LOSING record with a value.
        piece: Unsigned quantity.
        closed: Quantity of the pieces of this loser before.
        given: Their value.
    """
    is_positive = (order.is_short == 0) != (s.markets[order.market].inverse != 0)
    whole = min(max(order.value, 0), BOUND) if is_positive else min(max(order.value, -BOUND), 0)
    if closed + piece == order.quantity:
        return i64(whole - given)
    return i64(part_of_value(whole, piece, order.quantity))


@kernel
def is_at_bankruptcy(order: Any, price: int) -> bool:
    """Tell whether a loser's own value counts: an absorber's, if it has one, or where the rules price by it."""
    return bool(order.has_value and (order.episode < 0 or price in (BANKRUPTCY, CLAMPED_ORACLE)))


@kernel
def piece_value(s: Arrays, order: Any, piece: int, price: int, part: int) -> int:
    """Return the signed value at which a piece is closed. A clamped price is never worse for the loser.

    Args:
        s: The state.
        order: LOSING record.
        piece: Unsigned quantity.
        price: Place in :data:`PRICES`.
        part: Its :func:`bankruptcy_part`, if it has one.
    """
    if is_at_bankruptcy(order, price) and (price != CLAMPED_ORACLE or order.episode < 0):
        return part
    signed = -piece if order.is_short else piece
    value = value_at(s, i64(order.market), signed, rule_price(s, i64(order.market), price))
    return max(value, part) if is_at_bankruptcy(order, price) else value


@kernel
def value_pieces(
    s: Arrays, losing: Array, loser: Array, pieces: Array, price: int, values: Array, parts: Array
) -> None:
    """Fill the signed value of the part of the loser that each piece closes, and its part at bankruptcy.

    The pieces of one loser stand together. A loser without a value of its own has the values as parts.
    """
    closed, given, before = i64(0), i64(0), i64(-1)
    for i in range(len(pieces)):
        order = losing[loser[i]]
        if loser[i] != before:
            closed, given, before = i64(0), i64(0), loser[i]
        part = i64(0)
        if order.has_value:
            part = bankruptcy_part(s, order, pieces[i], closed, given)
            closed += pieces[i]
            given += part
        values[i] = piece_value(s, order, pieces[i], price, part)
        parts[i] = part if order.has_value else values[i]
