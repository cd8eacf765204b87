"""Exact numbers of the formulas, and rounding to a step."""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

Exact = int | Fraction
"""A number without rounding error."""


def side_of(size: Exact) -> int:
    """Return 1 for a long, -1 for a short, 0 for no position."""
    return (size > 0) - (size < 0)


def clamp(value: Exact, low: Exact, high: Exact) -> Fraction:
    """Return the nearest value within ``[low, high]``."""
    return Fraction(min(max(value, low), high))


def round_down(value: Exact, step: Exact = 1) -> Fraction:
    """Return the largest multiple of a step that is not above the value (toward minus infinity)."""
    return Fraction(value // Fraction(step)) * step


def round_up(value: Exact, step: Exact = 1) -> Fraction:
    """Return the smallest multiple of a step that is not below the value (toward plus infinity)."""
    return -round_down(-value, step)


def round_half_even(value: Exact, step: Exact = 1) -> Fraction:
    """Return the nearest multiple of a step, ties to the even one."""
    return Fraction(round(Fraction(value) / step)) * step


def square_root(value: Exact, digits: int) -> Fraction:
    """Return the square root of a fraction, rounded down to so many decimal digits."""
    scale = 10**digits
    whole = Fraction(value) * scale * scale
    return Fraction(isqrt(whole.numerator // whole.denominator), scale)
