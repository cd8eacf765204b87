"""Whole lots out of an order or of proportions: greedy, largest remainder, redistribution after caps."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm

import numpy as np

from replay.loop.policies.winners import Array, Lots

Weight = int | Fraction
"""An exact, not negative share of the need in the same unit for all."""


def greedy(need: int, lots: Array, order: Array) -> Lots:
    """Close candidates in order until the need is met; one at most is closed in part."""
    taken = np.zeros(len(lots), np.int64)
    reached = np.cumsum(lots[order]) if len(order) else np.zeros(0, np.int64)
    before = reached - lots[order]
    taken[order] = np.clip(need - before, 0, lots[order])
    return taken


def largest_remainder(need: int, weights: Sequence[Weight], caps: Sequence[int]) -> Lots:
    """Share lots in proportion to weights, capped; what a cap cuts off is shared again among the others.

    Rounds of ``need * weight / sum of weights``: whoever would get its cap or more gets the cap and leaves;
    when nobody is above its cap any more the rest is rounded: floors first, then one lot each to the largest
    remainders, ties by row. The lots sum to the smaller of the need and what candidates of positive weight
    have.

    Args:
        need: Lots to share, not negative.
        weights: Not negative; a weight of zero gets nothing.
        caps: Lots each one has.
    """
    taken = np.zeros(len(caps), np.int64)
    whole = _as_integers(weights)
    rows = [row for row, weight in enumerate(whole) if weight > 0 and caps[row] > 0]
    left = min(need, sum(int(caps[row]) for row in rows))
    while rows and left > 0:
        total = sum(whole[row] for row in rows)
        full = [row for row in rows if left * whole[row] >= int(caps[row]) * total]
        if not full:
            _round(taken, left, rows, whole, total)
            break
        for row in full:
            taken[row] = caps[row]
            left -= int(caps[row])
        rows = [row for row in rows if taken[row] == 0]
    return taken


def _as_integers(weights: Sequence[Weight]) -> list[int]:
    """Multiply weights by their common denominator."""
    exact = [Fraction(weight) for weight in weights]
    common = lcm(*(weight.denominator for weight in exact))
    return [weight.numerator * (common // weight.denominator) for weight in exact]


def _round(taken: Lots, left: int, rows: list[int], weights: list[int], total: int) -> None:
    """Share what is left by floors and largest remainders; nobody reaches its cap."""
    rests = []
    given = 0
    for row in rows:
        floor, rest = divmod(left * weights[row], total)
        taken[row] = floor
        given += floor
        rests.append((-rest, row))
    for _, row in sorted(rests)[: left - given]:
        taken[row] += 1
