"""Text of public files to exact integers, one at a time or a whole column by compiled code.

Only plain decimals are numbers here: an optional minus, digits, and perhaps a point and more digits.
Exponents, plus signs, white space, ``NaN`` and the like are not, since no source documents them. A number
has at most 18 digits that count on each side of the bounds of int64, so nothing wraps.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from replay.kernels import kernel
from replay.units import BOUND, MAX_SCALE, MONEY_SCALE, parse_decimal, parse_time

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_PLAIN = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
_SECOND = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII)
_EARLIEST, _LATEST = parse_time("2015-01-01"), parse_time("2036-01-01")
_MINUS, _POINT, _ZERO, _NINE = 45, 46, 48, 57
_POWERS = np.array([10**k for k in range(MAX_SCALE + 1)], dtype=np.int64)


def parse_number(text: str) -> tuple[int, int]:
    """Read a plain decimal as ``(mantissa, digits)`` with the fewest digits that hold it.

    Raises:
        ValueError: Not a plain decimal, or one of more than 18 digits.
    """
    if _PLAIN.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a plain decimal number")
    mantissa, digits = parse_decimal(text)
    if digits > MAX_SCALE or abs(mantissa) >= 10**MAX_SCALE:
        raise ValueError(f"{text!r} has more than {MAX_SCALE} digits")
    return mantissa, digits


def number_of(
    field: str, text: str, *, positive: bool, parse: Callable[[str], tuple[int, int]] = parse_decimal
) -> tuple[int, int]:
    """Read what a field holds as a decimal ``(mantissa, digits)``.

    Args:
        field: What the message calls it.
        text: What it holds.
        positive: Whether it has to be above zero.
        parse: :func:`replay.units.parse_decimal`, or what remembers its results.

    Raises:
        ValueError: It holds no number, one of more than 18 digits, or one that is not above zero.
    """
    try:
        mantissa, digits = parse(text)
    except ValueError as failure:
        raise ValueError(f"{field} {failure}") from None
    if digits > MAX_SCALE or abs(mantissa) >= 10**MAX_SCALE:
        raise ValueError(f"{field} {text} has more than {MAX_SCALE} digits")
    if positive and mantissa <= 0:
        raise ValueError(f"{field} {text} is not above zero")
    return mantissa, digits


class Numbers(NamedTuple):
    """A column of numbers; 0 where ``bad`` (not a number); ``rounded`` where digits were dropped."""

    mantissa: Ints
    digits: npt.NDArray[np.int8]
    bad: Bools
    rounded: Bools

    def take(self, rows: Ints) -> Numbers:
        """Return the numbers of some rows."""
        return Numbers(self.mantissa[rows], self.digits[rows], self.bad[rows], self.rounded[rows])


@kernel
def _parse(  # pragma: no cover - compiled
    data: npt.NDArray[np.uint8],
    ends: npt.NDArray[np.int32],
    most: int,
    rounds: bool,
    out: Ints,
    places: Ints,
    bad: Bools,
    rounded: Bools,
) -> None:
    for row in range(out.size):
        at, end = ends[row], ends[row + 1]
        negative = at < end and data[at] == _MINUS
        if negative:
            at += 1
        first = at
        point = -1
        fine = at < end
        while fine and at < end:
            byte = data[at]
            if byte == _POINT and point < 0 and at > first and at + 1 < end:
                point = at
            elif byte < _ZERO or byte > _NINE:
                fine = False
            at += 1
        if not fine:
            bad[row] = True
            continue
        if point >= 0:
            while data[end - 1] == _ZERO:
                end -= 1
            if end - 1 == point:
                end = point
                point = -1
        mantissa = np.int64(0)
        counted = 0
        dropped = 0
        dropped_first = np.int64(0)
        dropped_more = False
        for at in range(first, end):
            if at == point:
                continue
            digit = np.int64(data[at]) - _ZERO
            if counted < most:
                mantissa = mantissa * 10 + digit
                if mantissa > 0:
                    counted += 1
            elif not rounds or point < 0 or at < point:
                fine = False
                break
            else:
                if dropped == 0:
                    dropped_first = digit
                elif digit > 0:
                    dropped_more = True
                dropped += 1
        digits = end - 1 - point - dropped if point >= 0 else 0
        if not fine or digits > MAX_SCALE:
            bad[row] = True
            continue
        if dropped > 0:
            rounded[row] = True
            if dropped_first > 5 or (dropped_first == 5 and (dropped_more or mantissa % 2 == 1)):
                mantissa += 1
            while digits > 0 and mantissa % 10 == 0:
                mantissa //= 10
                digits -= 1
        out[row] = -mantissa if negative else mantissa
        places[row] = digits


def parse_numbers(texts: pa.StringArray, *, significant: int | None = None) -> Numbers:
    """Read a column of plain decimals: the numbers of :func:`parse_number`, with a mask of what is none.

    Args:
        texts: The column, without nulls.
        significant: Round the fraction half to even so that no more significant digits are left. For
            columns that a source printed through binary floating point, where 15 digits bring back the
            number that was meant.
    """
    rows = len(texts)
    mantissa = np.zeros(rows, dtype=np.int64)
    places = np.zeros(rows, dtype=np.int64)
    bad = np.zeros(rows, dtype=np.bool_)
    rounded = np.zeros(rows, dtype=np.bool_)
    if rows:
        _valid, offsets, data = texts.buffers()
        ends = np.frombuffer(offsets, dtype=np.int32)[texts.offset : texts.offset + rows + 1]
        content = np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, dtype=np.uint8)
        most = MAX_SCALE if significant is None else significant
        _parse(content, ends, most, significant is not None, mantissa, places, bad, rounded)
    return Numbers(mantissa, places.astype(np.int8), bad, rounded)


def round_digits(numbers: Numbers, digits: int) -> Numbers:
    """Round a column half to even so that no number has more than ``digits`` digits after the point."""
    mantissa, rounded = numbers.mantissa.copy(), numbers.rounded.copy()
    fine = np.flatnonzero(numbers.digits > digits)
    mantissa[fine], rounded[fine] = _divide(mantissa[fine], numbers.digits[fine].astype(np.int64) - digits)
    return Numbers(mantissa, np.minimum(numbers.digits, np.int8(digits)), numbers.bad, rounded)


def _divide(mantissa: Ints, digits: Ints) -> tuple[Ints, Bools]:
    """Divide by ``10**digits``, half to even; return the quotients and which of them were rounded."""
    divisor = _POWERS[digits]
    whole, rest = np.divmod(np.abs(mantissa), divisor)
    whole += (2 * rest > divisor) | ((2 * rest == divisor) & (whole % 2 == 1))
    return np.sign(mantissa) * whole, rest != 0


def numbers_to_atoms(numbers: Numbers) -> tuple[Ints, Bools, Bools]:
    """Bring a column to atoms of 1e-8, rounding half to even.

    Returns:
        The atoms, which of them were rounded, and which leave a cell of 2**62 (their atoms are 0).
    """
    mantissa, digits = numbers.mantissa, numbers.digits.astype(np.int64)
    factor = _POWERS[np.maximum(MONEY_SCALE - digits, 0)]
    beyond = np.abs(mantissa) > (BOUND - 1) // factor
    atoms = np.where(beyond, 0, mantissa) * factor
    rounded = np.zeros(mantissa.size, dtype=np.bool_)
    fine = np.flatnonzero(digits > MONEY_SCALE)
    atoms[fine], rounded[fine] = _divide(mantissa[fine], digits[fine] - MONEY_SCALE)
    return atoms, rounded, beyond


def is_supported_moment(ts: int) -> bool:
    """Tell whether a moment lies in the years 2015 to 2035, of which every tape is."""
    return _EARLIEST <= ts < _LATEST


@lru_cache(maxsize=4096)
def _parse_second(text: str) -> int:
    if _SECOND.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a time such as 2023-02-28T21:10:23")
    ts = parse_time(text)
    if not is_supported_moment(ts):
        raise ValueError(f"the time {text} is not between 2015 and 2035")
    return ts


def parse_moment(text: str) -> int:
    """Read ``2025-10-27T17:00:00.063787823``, zone-less UTC with up to nine digits, as nanoseconds.

    Raises:
        ValueError: Another form, no such moment, or one outside 2015 to 2035.
    """
    second, point, fraction = text.partition(".")
    ts = _parse_second(second)
    if point and not (fraction.isascii() and fraction.isdecimal() and len(fraction) <= 9):
        raise ValueError(f"{text!r} is not a time with up to nine digits after the second")
    return ts + int(fraction.ljust(9, "0")) if point else ts


def parse_utc_second(text: str) -> int:
    """Read ``2023-02-28T21:10:23Z`` as nanoseconds.

    Raises:
        ValueError: Another form, no such moment, or one outside 2015 to 2035.
    """
    if not text.endswith("Z"):
        raise ValueError(f"{text!r} is not a UTC time such as 2023-02-28T21:10:23Z")
    return _parse_second(text[:-1])
