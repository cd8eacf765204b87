"""Liquidation by keepers who are paid out of the collateral: how much they close, and who has the fee.

Source: venue-rules.md section 8 (the predecessor of that venue), and its 3,382 recorded liquidations of 2021-11 to
2022-01, which these formulas reproduce to the unit. Money is in whole units of the record (1e-6), ratios in basis
points.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from replay.rules.formulas.exact import Exact

_BASIS = 10_000


@dataclass(frozen=True, slots=True)
class KeeperRule:
    """One of the two stages of such a venue.

    Attributes:
        closed: Share of every position that is closed.
        fee: Share of the collateral that is taken.
        keeper: Share of the fee that the keeper has; the rest is the insurance fund's.
    """

    closed: Fraction
    fee: Fraction
    keeper: Fraction


PARTIAL = KeeperRule(Fraction(1, 4), Fraction(25, 1000), Fraction(1, 2))
"""Between the maintenance of a partial and that of a full liquidation."""

FULL = KeeperRule(Fraction(1), Fraction(1), Fraction(1, 20))
"""Below the maintenance of a full liquidation."""


def collateral(deposit: Exact, unrealised: Exact) -> Fraction:
    """Return the collateral that counts: deposit and unrealised profit, never below zero."""
    return max(Fraction(0), Fraction(deposit) + unrealised)


def ratio(total: Exact, value: Exact) -> int:
    """Return collateral over the absolute value of all positions in basis points, rounded down."""
    return int(Fraction(total) * _BASIS // value)


def stage(margin_ratio: int, *, partial: int = 625, full: int = 500) -> KeeperRule | None:
    """Return what a keeper may do at a margin ratio in basis points; None above the partial maintenance."""
    if margin_ratio < full:
        return FULL
    return PARTIAL if margin_ratio <= partial else None


@dataclass(frozen=True, slots=True)
class KeeperFee:
    """What is taken of the collateral, and who has it, in whole units."""

    whole: int
    keeper: int
    fund: int


def fee(total: int, rule: KeeperRule) -> KeeperFee:
    """Return the fee of a liquidation, rounded down, and its parts: the fund has what rounding leaves."""
    whole = int(total * rule.fee // 1)
    keeper = int(whole * rule.keeper // 1)
    return KeeperFee(whole, keeper, whole - keeper)
