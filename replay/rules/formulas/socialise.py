"""Losses that nobody's fund pays, spread over others (axis ``socialise.method``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from replay.rules.formulas.exact import Exact, clamp, round_up


def per_unit_both_sides(
    loss: Exact, long_size: Exact, short_size: Exact, *, quantum: Exact | None = None
) -> Fraction:
    """Return the loss per unit of size that every holder of both sides of a market pays.

    ``loss / (long + |short|)``, rounded up to the quantum. Source: venue-rules.md section 8.5.
    """
    share = Fraction(loss) / (abs(Fraction(long_size)) + abs(Fraction(short_size)))
    return share if quantum is None else round_up(share, quantum)


def per_unit_one_sided(loss: Exact, open_interest: Exact) -> Fraction:
    """Return the loss per unit of size with open interest counted on one side: ``loss / OI / 2``.

    The same amount as :func:`per_unit_both_sides` when both sides hold the open interest.
    Source: venue-rules.md section 10.5.
    """
    return Fraction(loss) / open_interest / 2


def deposit_haircut(loss: Exact, deposits: Exact) -> Fraction:
    """Return the share every depositor loses. Source: venue-rules.md section 8.5."""
    return Fraction(loss) / deposits


def interest_units(haircut: Exact, cumulative_interest: Exact, precision: Exact) -> Fraction:
    """Return a haircut as a cut of cumulative interest in whole units, rounded up."""
    return round_up(Fraction(haircut) * cumulative_interest * precision)


@dataclass(frozen=True, slots=True)
class Distribution:
    """Claims paid from a pot: whole units each, and the units that rounding left over."""

    paid: list[int]
    left: int


def profit_pro_rata(pot: int, claims: Sequence[int]) -> Distribution:
    """Pay claims from what losers could pay: ``floor(pot * claim / claims)``, in full where it suffices.

    The units left over are for the last claimant, which is a matter of the caller's order. Source: the
    published cases of Vega's loss socialisation.
    """
    total = sum(claims)
    if pot >= total:
        return Distribution(list(claims), 0)
    paid = [pot * claim // total for claim in claims]
    return Distribution(paid, pot - sum(paid))


@dataclass(frozen=True, slots=True)
class JuniorLoss:
    """Who bears a deficit when profit is junior to principal."""

    deficit: Fraction
    burned: Fraction
    profit_left: Fraction
    after_burn: Fraction
    fund_paid: Fraction
    left: Fraction


def junior_first(deficit: Exact, junior_profit: Exact, fund: Exact) -> JuniorLoss:
    """Let unvested profit bear a deficit, then the fund; the rest is for equity.

    What the fund pays lowers the deficit; a deficit must therefore not have counted the fund as an asset.
    Source: the published cases of Percolator.
    """
    burned = clamp(deficit, 0, junior_profit)
    rest = Fraction(deficit) - burned
    paid = clamp(rest, 0, max(Fraction(fund), Fraction(0)))
    return JuniorLoss(Fraction(deficit), burned, Fraction(junior_profit) - burned, rest, paid, rest - paid)


@dataclass(frozen=True, slots=True)
class ProfitHaircut:
    """The money left for profit, and the share of every profit that is paid."""

    residual: Fraction
    ratio: Fraction


def residual_for_profit(vault: Exact, principal: Exact, fund: Exact, profits: Exact) -> ProfitHaircut:
    """Return ``residual = max(0, vault - principal - fund)`` and ``min(residual, profits) / profits``.

    Principal is senior and never touched. Source: adl-paper.md section 2.10.
    """
    residual = max(Fraction(0), Fraction(vault) - principal - fund)
    ratio = Fraction(1) if profits <= 0 else min(residual, Fraction(profits)) / profits
    return ProfitHaircut(residual, ratio)


def withdrawal_factor(bankruptcies: Exact, fund: Exact, total_cash: Exact) -> Fraction:
    """Return the haircut of withdrawals: ``E / (total cash + E)`` with ``E = max(0, bankruptcies - fund)``.

    Whether ``total_cash`` has the fund in it is for the caller to say: the documentation fits both.
    Source: venue-rules.md section 12.5.
    """
    short = max(Fraction(0), Fraction(bankruptcies) - fund)
    return short / (Fraction(total_cash) + short) if short else Fraction(0)
