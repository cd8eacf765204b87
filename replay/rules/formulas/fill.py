"""Orders against the levels of a book."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from replay.rules.formulas.exact import Exact

Level = tuple[Exact, Exact]


def best_first(levels: Sequence[Level], *, highest: bool, newest_last: bool = True) -> list[Level]:
    """Sort levels ``(price, size)`` into the order in which they are taken: price, then time.

    Args:
        levels: Orders of one side, listed in the order of time.
        highest: Whether the highest price is best (bids).
        newest_last: Whether the list begins with the oldest order; at one price the oldest is first.
    """
    in_time = list(levels) if newest_last else list(reversed(levels))
    return sorted(in_time, key=lambda level: -level[0] if highest else level[0])


def walk_levels(quantity: Exact, levels: Sequence[Level]) -> list[tuple[Fraction, Fraction]]:
    """Return the fills ``(price, quantity)`` of an order that takes levels in order until it is filled."""
    fills, left = [], Fraction(quantity)
    for price, size in levels:
        fill = min(left, Fraction(size))
        if fill <= 0:
            break
        fills.append((Fraction(price), fill))
        left -= fill
    return fills
