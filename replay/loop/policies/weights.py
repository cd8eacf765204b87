"""What a candidate bears in proportion to: exact weights from integer or fractional columns."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from replay.loop.policies.winners import Array, Winners

Exact = int | Fraction
Risk = Callable[[Fraction], Fraction]
"""A price of leverage: not negative, and larger for larger leverage."""


def exact(column: Array) -> list[Exact]:
    """Return the rows of a column as exact numbers; a float is what its binary digits say."""
    return [_exact(value) for value in column.tolist()]


def _exact(value: Any) -> Exact:
    return value if isinstance(value, int | Fraction) else Fraction(value)


def positive(value: Exact) -> Exact:
    """Return a number, or zero where it is negative."""
    return max(value, 0)


def profits(winners: Winners) -> list[Exact]:
    """Profit, zero for losers: the endowment of the corrected paper, ``(PNL_i)_+``."""
    return [positive(gain) for gain in exact(winners.profit)]


def equities(winners: Winners) -> list[Exact]:
    """Equity, zero where it is negative: ``(e_i)_+``, the endowment of the paper's first version."""
    return [positive(equity) for equity in exact(winners.equity)]


def wealths(winners: Winners) -> list[Exact]:
    """The smaller of profit and equity: what can be taken without a debt."""
    return [min(gain, equity) for gain, equity in zip(profits(winners), equities(winners), strict=True)]


def leverages(winners: Winners) -> list[Fraction]:
    """Effective leverage: notional over equity, zero without equity."""
    rows = zip(exact(winners.notional), exact(winners.equity), strict=True)
    return [Fraction(notional) / equity if equity > 0 else Fraction(0) for notional, equity in rows]


def levered(winners: Winners) -> list[Exact]:
    """Leverage times profit: the budget-exact form of levered pro-rata."""
    return [lev * gain for lev, gain in zip(leverages(winners), profits(winners), strict=True)]


def risk_mass(winners: Winners, price: Risk) -> list[Exact]:
    """Notional times the price of its leverage, ``n_i * g(lambda_i)``: the mass of the risk-aware family."""
    rows = zip(exact(winners.notional), leverages(winners), strict=True)
    return [notional * price(leverage) for notional, leverage in rows]


def linear(leverage: Fraction) -> Fraction:
    """``g = lambda``."""
    return leverage


def power(exponent: int) -> Risk:
    """``g = lambda ** exponent``."""
    return lambda leverage: leverage**exponent


def beyond(cutoff: Exact) -> Risk:
    """``g = (lambda - cutoff)_+``: nothing below the cutoff, the shape of a conditional value at risk."""
    return lambda leverage: max(Fraction(0), leverage - cutoff)
