"""Whole lots out of an order or of proportions: greedy, largest remainder, redistribution after caps."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from replay.loop.policies.winners import Array, Lots


def greedy(need: int, lots: Array, order: Array) -> Lots:
    """Close candidates in order until the need is met; one at most is closed in part."""
    taken = np.zeros(len(lots), np.int64)
    for row in order.tolist():
        if need <= 0:
            break
        taken[row] = min(need, int(lots[row]))
        need -= int(taken[row])
    return taken


def largest_remainder(need: int, weights: Sequence[int | Fraction], caps: Sequence[int]) -> Lots:
    """Share lots in proportion to weights, capped; what a cap cuts off is shared again among the others.

    Rounds of ``need * weight / sum of weights``: whoever would get its cap or more gets the cap and leaves;
    when nobody is left above its cap the rest is rounded: floors first, then one lot each to the largest
    remainders, ties by row. A lot whose owner is full goes to the next. The lots sum to the smaller of the
    need and what candidates of positive weight have.

    Args:
        need: Lots to share, not negative.
        weights: Exact and not negative; a weight of zero gets nothing.
        caps: Lots each one has.
    """
    taken = np.zeros(len(caps), np.int64)
    open_rows = [row for row, weight in enumerate(weights) if weight > 0 and caps[row] > 0]
    left = min(need, sum(int(caps[row]) for row in open_rows))
    while open_rows and left > 0:
        total = sum((weights[row] for row in open_rows), Fraction(0))
        full = [row for row in open_rows if left * weights[row] >= caps[row] * total]
        if not full:
            break
        for row in full:
            taken[row] = int(caps[row])
        left -= sum(int(caps[row]) for row in full)
        open_rows = [row for row in open_rows if row not in set(full)]
    if not open_rows or left <= 0:
        return taken
    ideal = {row: Fraction(left) * weights[row] / total for row in open_rows}
    for row in open_rows:
        taken[row] = int(ideal[row])
    rest = left - sum(int(ideal[row]) for row in open_rows)
    by_remainder = sorted(open_rows, key=lambda row: (-(ideal[row] % 1), row))
    for row in by_remainder[:rest]:
        taken[row] += 1
    return taken
