"""The mark at which a position, all else still, is at its maintenance (source: venue-rules.md section 0).

A figure for people: the loop never uses it, because in a cross account every other mark moves it as well
(``engine.md`` section 2). It is solved in value space: ``C + V(P) - V(entry) = MM(P)``.
"""

from __future__ import annotations

from fractions import Fraction

from replay.rules.formulas.contract import Payoff, price_at, value_at
from replay.rules.formulas.exact import Exact, side_of


def at_mark(
    payoff: Payoff,
    size: Exact,
    entry: Exact,
    collateral: Exact,
    rate: Exact,
    *,
    deduction: Exact = 0,
    multiplier: Exact = 1,
) -> Fraction | None:
    """Return the price where ``collateral + profit`` equals ``rate * |V(P)| - deduction``.

    Linear long: ``(n E - C - ded) / (n (1 - rate))``, short ``(n E + C + ded) / (n (1 + rate))``; inverse
    the same in 1/P: ``n (1 +- rate) / P = n/E +- (C + ded)``.

    Args:
        payoff: Payoff of the contract.
        size: Signed contracts.
        entry: Average entry.
        collateral: What backs the position besides its own profit: its margin; in a cross account the
            wallet, plus profit and less maintenance of the other positions (:func:`cross_collateral`).
        rate: Maintenance per value at mark, fees on top included.
        deduction: Of the bracket.
        multiplier: Of the contract.

    Returns:
        The price: not above zero for a linear long that cannot fall that low; None for an inverse position
        that no price brings there.
    """
    worth = value_at(payoff, size, entry, multiplier) - collateral - deduction
    # |V| is side * V, and V keeps its sign at every price.
    side = side_of(value_at(payoff, size, entry, multiplier))
    value = worth / (1 - side * Fraction(rate))
    return price_at(payoff, size, value, multiplier)


def at_entry(
    payoff: Payoff, size: Exact, entry: Exact, margin: Exact, maintenance: Exact, *, multiplier: Exact = 1
) -> Fraction | None:
    """Return the price where the loss is ``margin - maintenance``, both measured at the entry value.

    Linear: ``E - side * (IM - MM) / |n|``; inverse long: ``n / (V + (IM - MM))``.
    Source: venue-rules.md section 1.1, the older form.
    """
    loss = Fraction(margin) - maintenance
    return price_at(payoff, size, value_at(payoff, size, entry, multiplier) - loss, multiplier)


def cross_collateral(wallet: Exact, others: list[tuple[Exact, Exact]]) -> Fraction:
    """Return the wallet with profit and maintenance ``(profit, maintenance)`` of the other positions."""
    return Fraction(wallet) + sum((Fraction(gain) - need for gain, need in others), Fraction(0))


def from_margin_available(
    price: Exact, size: Exact, margin_available: Exact, maintenance_leverage: Exact
) -> Fraction:
    """Return ``price - side * margin_available / |size| / (1 - side / maintenance_leverage)``.

    ``margin_available`` is equity less maintenance at the price, ``maintenance_leverage`` one over the rate:
    the same price as :func:`at_mark`, written from the present. Source: venue-rules.md section 4.1.
    """
    side = side_of(size)
    return price - side * Fraction(margin_available) / abs(Fraction(size)) / (
        1 - Fraction(side) / maintenance_leverage
    )
