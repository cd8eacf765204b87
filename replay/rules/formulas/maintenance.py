"""Maintenance margin by shape (axis ``margin.shape``).

Sources: venue-rules.md sections 1.1, 2.1, 5 (risk steps), 6 (linear in size), 8.1 (square root), 12.1
(share of the initial margin), and section 25 D1. A tier is ``(from, rate)``, rising, the first from 0; a
notional that equals ``from`` is in that tier.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from replay.rules.formulas.exact import Exact, round_up, square_root

Tier = tuple[Exact, Exact]


def tier_of(notional: Exact, tiers: Sequence[Tier]) -> int:
    """Return the index of the tier a notional is in: the last that begins at or below it."""
    return max(index for index, (start, _) in enumerate(tiers) if start <= notional)


def flat(notional: Exact, rate: Exact) -> Fraction:
    """Return ``rate * notional``."""
    return Fraction(rate) * notional


def next_deduction(start: Exact, rate: Exact, lower_rate: Exact, lower_deduction: Exact) -> Fraction:
    """Return the deduction of a tier that keeps maintenance continuous where it begins.

    ``ded_k = ded_{k-1} + from_k * (rate_k - rate_{k-1})``.
    """
    return Fraction(lower_deduction) + Fraction(start) * (Fraction(rate) - lower_rate)


def deductions(tiers: Sequence[Tier]) -> list[Fraction]:
    """Return the continuous deductions of a table, 0 for the first tier."""
    found = [Fraction(0)]
    for (_, lower_rate), (start, rate) in pairwise(tiers):
        found.append(next_deduction(start, rate, lower_rate, found[-1]))
    return found


def bracket_deduction(notional: Exact, rate: Exact, deduction: Exact) -> Fraction:
    """Return ``rate * notional - deduction`` with rate and deduction of the tier the notional is in."""
    return Fraction(rate) * notional - deduction


def bracket_marginal(notional: Exact, tiers: Sequence[Tier]) -> Fraction:
    """Return the sum over tiers of the rate on the part of the notional inside each.

    The same amount as :func:`bracket_deduction` with continuous deductions.
    """
    tier = tier_of(notional, tiers)
    return bracket_deduction(notional, tiers[tier][1], deductions(tiers)[tier])


def whole_rate(notional: Exact, tiers: Sequence[Tier]) -> Fraction:
    """Return the rate that the tier a notional is in puts on the whole of it."""
    return Fraction(tiers[tier_of(notional, tiers)][1])


def bracket_whole(notional: Exact, tiers: Sequence[Tier]) -> Fraction:
    """Return the rate of the tier on the whole notional: maintenance jumps where a tier begins."""
    return whole_rate(notional, tiers) * notional


def risk_steps(
    notional: Exact, base_rate: Exact, step_rate: Exact, base_limit: Exact, step: Exact
) -> Fraction:
    """Return ``(base + k * step_rate) * notional``, k full or begun risk-limit steps above the base limit."""
    steps = max(Fraction(0), round_up((Fraction(notional) - base_limit) / step))
    return (base_rate + steps * step_rate) * Fraction(notional)


def linear_size(notional: Exact, size: Exact, base_rate: Exact, rate_per_unit: Exact) -> Fraction:
    """Return ``(base_rate + |size| * rate_per_unit) * notional``, size in units of the underlying."""
    return (Fraction(base_rate) + abs(Fraction(size)) * rate_per_unit) * notional


def sqrt_size(notional: Exact, size: Exact, base_rate: Exact, factor: Exact, *, digits: int = 12) -> Fraction:
    """Return ``max(base, 0.8*base + factor*sqrt(10*|size| + 1)) * notional``.

    The root is rounded down to ``digits`` decimal digits. Source: venue-rules.md section 8.1.
    """
    premium = Fraction(4, 5) * base_rate + factor * square_root(10 * abs(Fraction(size)) + 1, digits)
    return max(Fraction(base_rate), premium) * notional


def im_fraction(notional: Exact, initial_rate: Exact, share: Exact, exit_fee_rate: Exact = 0) -> Fraction:
    """Return ``(share * initial_rate + exit_fee_rate) * notional``."""
    return (Fraction(share) * initial_rate + exit_fee_rate) * Fraction(notional)


def ceil_twice(notional: Exact, initial_rate: Exact, maintenance_share: Exact) -> Fraction:
    """Return ``ceil(ceil(notional * initial_rate) * maintenance_share)`` in whole quanta of the notional.

    Source: venue-rules.md section 7.1.
    """
    return round_up(round_up(Fraction(notional) * initial_rate) * maintenance_share)
