"""Haircuts of profit: money is taken, no position is closed (axis ``socialise.method``).

The same rules as in ``proportional.py``, in money instead of lots, with caps on the rate of each haircut.
Source: adl-paper.md sections 2.2, 2.4 and 2.10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

Exact = int | Fraction


@dataclass(frozen=True, slots=True)
class Seized:
    """Money taken of each endowment, and what could not be taken within the caps."""

    amounts: list[Fraction]
    residual: Fraction


def in_turn(budget: Exact, endowments: Sequence[Exact], order: Sequence[int]) -> Seized:
    """Take whole endowments in order: at most one is taken in part."""
    amounts = [Fraction(0)] * len(endowments)
    left = Fraction(budget)
    for row in order:
        amounts[row] = min(left, Fraction(endowments[row]))
        left -= amounts[row]
    return Seized(amounts, left)


def pro_rata(budget: Exact, endowments: Sequence[Exact]) -> Seized:
    """Take one rate of every endowment, ``h = B / U``, at most all: the haircut of variation-margin gains.

    Source: CPMI-IOSCO's guidance on recovery (variation margin gains haircutting), which is profit pro-rata.
    """
    total = sum((Fraction(w) for w in endowments), Fraction(0))
    rate = min(Fraction(1), Fraction(budget) / total) if total else Fraction(0)
    return Seized([rate * w for w in endowments], budget - rate * total)


def capped(
    budget: Exact, endowments: Sequence[Exact], caps: Sequence[Exact], prices: Sequence[Exact] | None = None
) -> Seized:
    """Take ``h_i = min(cap_i, tau * price_i)`` of each endowment, tau such that the budget is met.

    With equal prices this is capped pro-rata, with ``price = leverage * g(leverage)`` the risk-aware family.
    Water-filling: rows are settled in the order in which they reach their caps. What all caps together
    cannot give is the residual.
    """
    rates = [Fraction(1)] * len(endowments) if prices is None else [Fraction(price) for price in prices]
    amounts = [Fraction(0)] * len(endowments)
    rows = sorted(
        (row for row, rate in enumerate(rates) if rate > 0), key=lambda row: Fraction(caps[row]) / rates[row]
    )
    left = Fraction(budget)
    mass = sum((rates[row] * endowments[row] for row in rows), Fraction(0))
    for place, row in enumerate(rows):
        if mass > 0 and left * rates[row] <= caps[row] * mass:
            for other in rows[place:]:
                amounts[other] = left * rates[other] * endowments[other] / mass
            return Seized(amounts, Fraction(0))
        amounts[row] = Fraction(caps[row]) * endowments[row]
        left -= amounts[row]
        mass -= rates[row] * endowments[row]
    return Seized(amounts, left)


def projected(budget: Exact, endowments: Sequence[Exact]) -> list[Fraction]:
    """Return the rates ``clip(t * w_i, 0, 1)`` with ``sum w_i * rate_i = budget``: a projection of zero.

    The amounts grow with the square of the endowment, so large accounts bear most: the "vector" policy of
    the paper as it was shipped, kept for comparison.
    """
    rates = [Fraction(0)] * len(endowments)
    rows = sorted(range(len(endowments)), key=lambda row: -Fraction(endowments[row]))
    left = Fraction(budget)
    squares = sum((Fraction(w) ** 2 for w in endowments), Fraction(0))
    for place, row in enumerate(rows):
        step = left / squares if squares else Fraction(0)
        if step * endowments[row] <= 1:
            for other in rows[place:]:
                rates[other] = step * endowments[other]
            return rates
        rates[row] = Fraction(1)
        left -= endowments[row]
        squares -= Fraction(endowments[row]) ** 2
    return rates


def junior_profit(vault: int, principal: int, fund: int, profits: Sequence[int]) -> tuple[list[int], int]:
    """Pay every profit ``floor(profit * h)``, ``h = min(R, profits) / profits``, from what principal leaves.

    ``R = max(0, vault - principal - fund)``; losses are no claims. Source: adl-paper.md section 2.10.

    Returns:
        What each profit is worth in whole units, and the units that rounding leaves in the vault.
    """
    residual = max(0, vault - principal - fund)
    total = sum(max(gain, 0) for gain in profits)
    payable = min(residual, total)
    paid = [max(gain, 0) * payable // total if total else 0 for gain in profits]
    return paid, payable - sum(paid)
