"""Closing a loser against a winner: who may, for what cash, and what it costs (axis ``adl.price``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from replay.rules.formulas.exact import Exact, clamp


@dataclass(frozen=True, slots=True)
class Pair:
    """Cash and size of both sides after a close."""

    loser_cash: Fraction
    loser_size: Fraction
    winner_cash: Fraction
    winner_size: Fraction


def close_pair(
    loser_cash: Exact,
    loser_size: Exact,
    winner_cash: Exact,
    winner_size: Exact,
    quantity: Exact,
    quote: Exact,
) -> Pair:
    """Close a quantity of a loser against a winner for a quote (the cash the loser receives; signed).

    Nobody pays a fee; cash and sizes of both sides sum to what they were. Whether the winner may be closed
    so is for :func:`not_worse`. Source: venue-rules.md section 7.4.
    """
    closed = quantity if loser_size > 0 else -quantity
    loser_after, winner_after = Fraction(loser_size) - closed, Fraction(winner_size) + closed
    return Pair(Fraction(loser_cash) + quote, loser_after, Fraction(winner_cash) - quote, winner_after)


def not_worse(equity_before: Exact, maintenance_before: Exact, equity: Exact, maintenance: Exact) -> bool:
    """Tell whether an account stays above maintenance or does not lose equity over maintenance.

    Source: venue-rules.md sections 7.4 and 19: the safeguard of the account that is closed.
    """
    if maintenance == 0:
        return equity >= 0
    if equity >= maintenance:
        return True
    return Fraction(equity) * maintenance_before >= Fraction(equity_before) * maintenance


def clamped_oracle(oracle: Exact, bankruptcy_price: Exact, loser_side: int) -> Fraction:
    """Return the oracle, but no price better for the winner than the bankruptcy price of the loser.

    Source: venue-rules.md section 23 (price of the oracle mark, capped at the bankruptcy price).
    """
    if loser_side > 0:
        return max(Fraction(oracle), Fraction(bankruptcy_price))
    return min(Fraction(oracle), Fraction(bankruptcy_price))


def zero_price_cross(loser_zero: Exact, winner_zero: Exact, loser_side: int) -> bool:
    """Tell whether a trade at the loser's zero price is no worse than the winner's own.

    Source: venue-rules.md section 19.
    """
    return (winner_zero - loser_zero) * loser_side >= 0


def kept_gain(equity: Exact, gain: Exact, deficit: Exact) -> Fraction:
    """Return the equity of a winner who is closed and gives up the part of his gain that a deficit needs."""
    return Fraction(equity) + gain - clamp(deficit, 0, max(Fraction(gain), Fraction(0)))


def until_covered(deficit: Exact, gains: Sequence[Exact]) -> int:
    """Return how many winners, in order, are closed until their gains cover a deficit; all if they do not."""
    covered = Fraction(0)
    for index, gain in enumerate(gains):
        if covered >= deficit:
            return index
        covered += gain
    return len(gains)


@dataclass(frozen=True, slots=True)
class Cost:
    """What being closed was worth, in money; negative: the closed account is worse off."""

    immediate: Fraction
    opportunity: Fraction

    @property
    def total(self) -> Fraction:
        """Return both parts together: quantity x (later mark - price)."""
        return self.immediate + self.opportunity


def markout(signed_quantity: Exact, price: Exact, mark: Exact, mark_later: Exact) -> Cost:
    """Split ``Q * (later - price)`` into ``Q * (mark - price)`` at once and ``Q * (later - mark)`` since.

    ``signed_quantity`` is what the account traded: negative when a long was closed. Source: adl-paper.md 1.5.
    """
    quantity = Fraction(signed_quantity)
    return Cost(quantity * (Fraction(mark) - price), quantity * (Fraction(mark_later) - mark))
