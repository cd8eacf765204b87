"""Whether a computed value is what a case prints."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

ROUNDED_FROM = 7
"""A number printed with that many significant digits may be a rounded one; shorter ones are exact."""


def differences(found: Any, printed: Any, tolerance: Fraction | None, name: str) -> list[str]:
    """Return what differs, in words; nothing where all agrees."""
    if isinstance(printed, dict):
        if not isinstance(found, dict) or set(map(str, found)) != set(printed):
            return [f"{name}: {show(found)}, expected {show(printed)}"]
        by_name = {str(key): value for key, value in found.items()}
        return [
            line
            for key, value in printed.items()
            for line in differences(by_name[key], value, tolerance, f"{name}.{key}")
        ]
    if isinstance(printed, list):
        if not isinstance(found, list | tuple) or len(found) != len(printed):
            return [f"{name}: {show(found)}, expected {show(printed)}"]
        return [
            line
            for index, value in enumerate(printed)
            for line in differences(found[index], value, tolerance, f"{name}[{index}]")
        ]
    if agrees(found, printed, tolerance):
        return []
    return [f"{name}: {show(found)}, expected {show(printed)}"]


def agrees(found: Any, printed: Any, tolerance: Fraction | None) -> bool:
    """Tell whether a value agrees: exactly, within the tolerance, or in the digits that are printed."""
    if isinstance(printed, bool | str) or printed is None:
        return type(found) is type(printed) and found == printed
    if isinstance(found, bool | str | list | tuple | dict) or found is None:
        return False
    if isinstance(found, float | np.floating) and not np.isfinite(found):
        return False
    value, expected = as_fraction(found), Fraction(printed)
    if value == expected:
        return True
    if tolerance is not None:
        return abs(value - expected) <= tolerance
    digits = Decimal(printed).as_tuple()
    if len(digits.digits) < ROUNDED_FROM:
        return False
    return abs(value - expected) <= Fraction(10) ** int(digits.exponent) / 2


def as_fraction(value: Any) -> Fraction:
    """Return a number of any type as a fraction."""
    return Fraction(value.item() if isinstance(value, np.generic) else value)


def show(value: Any) -> str:
    """Write a value for people."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {show(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(show(item) for item in value) + "]"
    if isinstance(value, Fraction):
        return f"{float(value):.10g}"
    return str(value)
