"""Value of a contract by payoff, its inverse function, and average entry (axis ``contract.payoff``).

Source: venue-rules.md section 0. ``V(P)`` is ``n*m*P`` for linear and quanto contracts (quanto: ``m`` in
settle currency per point of the index) and ``-n*m/P`` for inverse ones; profit is ``V(mark) - V(entry)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from replay.rules.formulas.exact import Exact, side_of

Payoff = Literal["linear", "inverse", "quanto"]


def value_at(payoff: Payoff, size: Exact, price: Exact, multiplier: Exact = 1) -> Fraction:
    """Return the signed contract value of ``size`` contracts at a price, in the settle currency."""
    if payoff == "inverse":
        return -Fraction(size) * multiplier / price
    return Fraction(size) * multiplier * price


def price_at(payoff: Payoff, size: Exact, value: Exact, multiplier: Exact = 1) -> Fraction | None:
    """Return the price at which a position has a value; None where no positive price does.

    A linear position may reach zero or a negative price; that is returned as it is.
    """
    if payoff != "inverse":
        return Fraction(value) / (Fraction(size) * multiplier)
    if value == 0 or side_of(value) == side_of(size):
        return None
    return -Fraction(size) * multiplier / value


def profit(payoff: Payoff, size: Exact, entry: Exact, mark: Exact, multiplier: Exact = 1) -> Fraction:
    """Return the unrealised profit of a position, in the settle currency."""
    return value_at(payoff, size, mark, multiplier) - value_at(payoff, size, entry, multiplier)


def return_on_entry(payoff: Payoff, size: Exact, entry: Exact, mark: Exact) -> Fraction:
    """Return profit over the magnitude of the entry value; the multiplier cancels."""
    return profit(payoff, size, entry, mark) / abs(value_at(payoff, size, entry))


def initial_margin(value: Exact, leverage: Exact) -> Fraction:
    """Return the margin that a chosen leverage asks of a value."""
    return abs(Fraction(value)) / leverage


def opening_leverage(entries: Sequence[tuple[Exact, Exact]]) -> Fraction:
    """Return the leverage of ``(value, leverage)`` entries together: value over the margin they posted."""
    value = sum((Fraction(amount) for amount, _ in entries), Fraction(0))
    return value / sum((initial_margin(amount, leverage) for amount, leverage in entries), Fraction(0))


def return_on_margin(gain: Exact, margin: Exact) -> Fraction:
    """Return profit over the margin posted for it."""
    return Fraction(gain) / margin


def kept_cost(cost: Exact, left: Exact, whole: Exact) -> Fraction:
    """Return what stays of a cost, or of any amount that belongs to a position, after part was closed."""
    return Fraction(cost) * left / whole


def average_entry(payoff: Payoff, fills: Sequence[tuple[Exact, Exact]]) -> Fraction:
    """Return the average entry of ``(size, price)`` fills: arithmetic, for inverse contracts harmonic."""
    size = sum((Fraction(n) for n, _ in fills), Fraction(0))
    if payoff == "inverse":
        return size / sum((Fraction(n) / price for n, price in fills), Fraction(0))
    return sum((Fraction(n) * price for n, price in fills), Fraction(0)) / size
