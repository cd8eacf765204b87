"""Measures of deleveraging from the literature: waves, undone closes, the next deficit, the fund that pays.

Source: adl-paper.md sections 1.3, 1.6, 2.2 and 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from math import ceil

Exact = int | Fraction


def wave_numbers(times: Sequence[int], gap: int) -> list[int]:
    """Number the waves of sorted times from 1: a new one begins where the gap is exceeded, strictly."""
    numbers = [1] * min(1, len(times))
    for before, after in pairwise(times):
        numbers.append(numbers[-1] + (after - before > gap))
    return numbers


def undo_fraction(reduced: Exact, opposite: Exact) -> Fraction:
    """Return the share of a forced reduction that the account's own fills made undone, at most 1."""
    return min(abs(Fraction(reduced)), abs(Fraction(opposite))) / abs(Fraction(reduced))


def shocked_deficit(notionals: Sequence[Exact], equities: Sequence[Exact], shock: Exact) -> Fraction:
    """Return the mean deficit after the price rises or falls by a share: every long loses once, every short.

    ``1/2 * sum (shock * n_i - e_i)_+``, both moves being equally likely.
    """
    rows = zip(notionals, equities, strict=True)
    lost = (max(Fraction(0), Fraction(shock) * notional - equity) for notional, equity in rows)
    return sum(lost, Fraction(0)) / 2


def static_fund(deficits: Sequence[Exact], cost: Exact) -> Exact:
    """Return the fund whose capital costs as much as it saves: the quantile ``1 - cost`` of the deficits.

    ``cost`` is the cost of capital over the cost of a shortfall, between 0 and 1.
    """
    place = ceil((1 - Fraction(cost)) * len(deficits))
    return sorted(deficits)[max(place, 1) - 1]


def fund_cost(fund: Exact, deficits: Sequence[Exact], cost: Exact) -> Fraction:
    """Return ``cost * fund + mean (deficit - fund)_+``, what :func:`static_fund` makes least."""
    short = sum((max(Fraction(0), Fraction(deficit) - fund) for deficit in deficits), Fraction(0))
    return Fraction(cost) * fund + short / len(deficits)
