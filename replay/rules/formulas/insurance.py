"""What a forced close brings or costs an insurance fund (axes ``ladder.*.fee``, ``surplus_to``)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from replay.rules.formulas.exact import Exact, clamp, round_half_even, round_up


def surplus(side: int, quantity: Exact, bankruptcy_price: Exact, fill_price: Exact) -> Fraction:
    """Return what a fill is better than the bankruptcy price: side x (fill - B) x quantity; negative worse.

    Source: venue-rules.md sections 1.2, 5; all of it goes to or comes from the fund.
    """
    return side * (Fraction(fill_price) - bankruptcy_price) * quantity


def notional_fee(notional: Exact, rate: Exact) -> Fraction:
    """Return a fee as a share of what is closed, always positive."""
    return abs(Fraction(notional)) * rate


def deficit(equity: Exact) -> Fraction:
    """Return what is missing to zero equity."""
    return max(Fraction(0), -Fraction(equity))


def improvement_fee(fill_quote: Exact, bankruptcy_quote: Exact, cap_rate: Exact) -> Fraction:
    """Return the change of the fund: the improvement over bankruptcy, at most a share of the fill.

    Negative where the fill is worse; then the fund pays all of it. Source: venue-rules.md section 7.2.
    """
    better = Fraction(fill_quote) - bankruptcy_quote
    return min(better, Fraction(cap_rate) * abs(Fraction(fill_quote)))


def equity_rate(margin_rate: Exact, shortage: Exact, notional: Exact) -> Fraction:
    """Return equity over notional of a position that is short of its margin by an amount."""
    return Fraction(margin_rate) - Fraction(shortage) / notional


def residual_margin_fee(
    left_rate: Exact, liquidator_fee_rate: Exact, cap_rate: Exact, *, share: Exact = Fraction(19, 20)
) -> Fraction:
    """Return the fund's fee rate: 95 % of the margin left after the liquidator's fee, capped, never negative.

    ``left_rate`` is equity over notional, see :func:`equity_rate`. The fee never makes the account
    bankrupt. Source: venue-rules.md section 8.2.
    """
    return clamp(Fraction(share) * (Fraction(left_rate) - liquidator_fee_rate), 0, cap_rate)


@dataclass(frozen=True, slots=True)
class Cover:
    """How a deficit was paid: by the fund, what is left of the fund, and what nobody has paid yet."""

    paid: Fraction
    fund_after: Fraction
    left: Fraction


def cover(deficit: Exact, fund: Exact) -> Cover:
    """Pay a deficit from a fund as far as it goes."""
    paid = clamp(deficit, 0, max(Fraction(fund), Fraction(0)))
    return Cover(paid, Fraction(fund) - paid, Fraction(deficit) - paid)


def credit_and_cover(deficit: Exact, fund: Exact, inflow: Exact, *, credit_first: bool) -> Cover:
    """Pay a deficit in a step in which the fund also receives fees, before or after it pays.

    Source: adl-paper.md section 1.3: the order changes when deleveraging begins.
    """
    if credit_first:
        return cover(deficit, Fraction(fund) + inflow)
    paid = cover(deficit, fund)
    return Cover(paid.paid, paid.fund_after + inflow, paid.left)


@dataclass(frozen=True, slots=True)
class Settlement:
    """A negative profit: settled against winners, bought with the fund's money, socialised."""

    settled: Fraction
    fund_units: Fraction
    socialised: Fraction


def settle_and_insure(
    health: Exact,
    negative_profit: Exact,
    settle_limit: Exact,
    *,
    fund: Exact | None,
    fee_rate: Exact,
    max_transfer: Exact | None = None,
    unit_price: Exact = 1,
) -> Settlement:
    """Settle a loss, then let the fund buy the rest at a premium, then socialise what is left.

    Settling leaves health unchanged, so ``min(-health, -profit)`` is to be absorbed. The fund pays whole
    units, rounded up, of ``absorbed * (1 + fee)``; only when it is empty is the rest socialised. Source: the
    published cases of Mango v4's bankruptcy waterfall.

    Args:
        health: Health of the account, negative.
        negative_profit: Its unsettled profit, negative.
        settle_limit: How much of it may be settled.
        fund: Units in the fund; None: as many as needed.
        fee_rate: Premium of the liquidator.
        max_transfer: What the liquidator takes on at most, settlement included; None: all.
        unit_price: Price of one unit of the fund.
    """
    settled = clamp(settle_limit, 0, max(0, -negative_profit))
    if max_transfer is not None:
        settled = min(settled, Fraction(max_transfer))
    to_absorb = max(Fraction(0), min(-Fraction(health), -Fraction(negative_profit) - settled))
    taken = to_absorb if max_transfer is None else min(to_absorb, Fraction(max_transfer) - settled)
    premium = 1 + Fraction(fee_rate)
    units = round_up(taken * premium / unit_price)
    if fund is None:
        return Settlement(settled, units, Fraction(0))
    paid = min(units, Fraction(fund))
    insured = min(taken, paid * unit_price / premium)
    left = to_absorb - insured if paid == fund else Fraction(0)
    return Settlement(settled, paid, left)


@dataclass(frozen=True, slots=True)
class FeeSplit:
    """Money of a liquidation with a fee shared by liquidator and fund; what the margin lacks is bad debt."""

    fee: Fraction
    liquidator: Fraction
    fund: Fraction
    margin_left: Fraction
    position_bad_debt: Fraction
    reward_bad_debt: Fraction


def split_fee(
    margin: Exact,
    profit: Exact,
    fee: Exact,
    *,
    liquidator_share: Exact = Fraction(1, 2),
    is_full: bool,
    unit: Exact | None = None,
) -> FeeSplit:
    """Take the profit of what was closed and a fee off a margin; split the fee.

    A full close pays the liquidator first, the fund receives all that is left; a partial one pays each its
    share and leaves the rest. A loss beyond the margin is bad debt of the position, a reward beyond what is
    left is bad debt too. Source: the published cases of Nibiru's first perpetuals.

    Args:
        margin: Margin of the position before.
        profit: Realised profit of the part that is closed.
        fee: Whole fee.
        liquidator_share: The liquidator's part of it.
        is_full: Whether the whole position is closed.
        unit: Payments are rounded to it, half to even; None: not rounded.
    """

    def pay(amount: Fraction) -> Fraction:
        return amount if unit is None else round_half_even(amount, unit)

    rest = Fraction(margin) + profit
    position_bad_debt = max(Fraction(0), -rest)
    rest = max(Fraction(0), rest)
    reward = Fraction(fee) * liquidator_share
    if is_full:
        reward_bad_debt = max(Fraction(0), reward - rest)
        left = max(Fraction(0), rest - reward)
        return FeeSplit(
            Fraction(fee), pay(reward), pay(left), Fraction(0), position_bad_debt, reward_bad_debt
        )
    bad = max(Fraction(0), fee - rest)
    return FeeSplit(
        Fraction(fee),
        pay(reward),
        pay(Fraction(fee) - reward),
        max(Fraction(0), rest - fee),
        position_bad_debt,
        bad,
    )
