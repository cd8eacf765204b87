"""Units of the books, and the exact way from text to integers.

Money is int64 in atoms of 1e-8 of its currency. Prices, marks and quantities are int64 in
``10**-scale``, the scale constant per market and tape. Rates are int64 in 1e-12. Time is int64
nanoseconds since 1970-01-01 UTC. No number read from text ever passes through binary floating point.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from fractions import Fraction

MONEY_SCALE = 8
ATOM = 10**MONEY_SCALE
RATE_SCALE = 12
RATE_ONE = 10**RATE_SCALE
"""A rate of 1."""

BOUND = 1 << 62
"""Largest magnitude (exclusive) a cell of size, cash or cost may hold; the kernels stop at it."""

MAX_SCALE = 18
NS_PER_MS = 1_000_000
NS_PER_SECOND = 1_000_000_000
NS_PER_MINUTE = 60 * NS_PER_SECOND
NS_PER_DAY = 86_400 * NS_PER_SECOND
NS_PER_HOUR = 60 * NS_PER_MINUTE

_NUMBER = re.compile(r"([+-]?)(\d+)(?:\.(\d*))?(?:[eE]([+-]?\d{1,3}))?", re.ASCII)
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?(Z|[+-]00:00)?", re.ASCII
)


def parse_decimal(text: str) -> tuple[int, int]:
    """Split a decimal literal into ``(mantissa, digits)`` with value ``mantissa / 10**digits``.

    Trailing zeros of the fraction are dropped, so ``digits`` is the least scale that holds the value.

    Raises:
        ValueError: The text is not a finite decimal number (``NaN``, ``inf``, empty, hexadecimal, ...).
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a decimal number")
    sign, whole, fraction, exponent = match.groups()
    fraction = (fraction or "").rstrip("0") if exponent is None else (fraction or "")
    mantissa = int(whole + fraction)
    digits = len(fraction) - int(exponent or 0)
    if exponent is not None:
        while digits > 0 and mantissa % 10 == 0:
            mantissa //= 10
            digits -= 1
        if digits < 0:
            mantissa *= 10**-digits
            digits = 0
    if mantissa == 0:
        digits = 0
    return (-mantissa if sign == "-" else mantissa), digits


def divide_half_even(numerator: int, denominator: int) -> int:
    """Divide Python integers and round half to even; ``denominator`` is positive."""
    quotient, rest = divmod(numerator, denominator)
    twice = 2 * rest
    if twice > denominator or (twice == denominator and quotient & 1):
        quotient += 1
    return quotient


def rescale(mantissa: int, digits: int, scale: int) -> tuple[int, bool]:
    """Bring ``mantissa / 10**digits`` to ``10**-scale``; return the integer and whether it was rounded."""
    if digits <= scale:
        return mantissa * 10 ** (scale - digits), False
    divisor = 10 ** (digits - scale)
    return divide_half_even(mantissa, divisor), mantissa % divisor != 0


def to_units(text: str, scale: int) -> tuple[int, bool]:
    """Read a decimal literal as an integer in ``10**-scale`` and say whether it had to be rounded.

    Raises:
        ValueError: Not a finite decimal number, or beyond the range of a cell (2**62).
    """
    mantissa, digits = parse_decimal(text)
    value, rounded = rescale(mantissa, digits, scale)
    if abs(value) >= BOUND:
        raise ValueError(f"{text} does not fit: at a scale of {scale} digits the limit is {BOUND}")
    return value, rounded


def to_atoms(text: str) -> tuple[int, bool]:
    """Read an amount of money as atoms of 1e-8; see :func:`to_units`."""
    return to_units(text, MONEY_SCALE)


def to_fraction(text: str) -> Fraction:
    """Read a decimal literal as an exact fraction (contract multipliers, rates of rule books)."""
    mantissa, digits = parse_decimal(text)
    return Fraction(mantissa, 10**digits)


def format_units(value: int, scale: int) -> str:
    """Write an integer in ``10**-scale`` as plain decimal text without trailing zeros."""
    sign = "-" if value < 0 else ""
    text = str(abs(value)).rjust(scale + 1, "0")
    if scale == 0:
        return sign + text
    whole, fraction = text[:-scale], text[-scale:].rstrip("0")
    return f"{sign}{whole}.{fraction}" if fraction else sign + whole


def parse_time(text: str) -> int:
    """Read an ISO-8601 moment as nanoseconds UTC; up to nine digits of fraction; no zone means UTC.

    Raises:
        ValueError: Not a moment, no such calendar day, another zone than UTC, or beyond the years 1678 to
            2261, which are what 64 bits of nanoseconds hold.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a UTC time such as 2025-10-10T21:15:00.123456789Z")
    year, month, day, hour, minute, second, fraction, _zone = match.groups()
    try:
        moment = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC
        )
    except ValueError as failure:
        raise ValueError(f"{text!r} is no moment of the calendar: {failure}") from None
    if not 1678 <= moment.year <= 2261:
        raise ValueError(f"{text!r} does not fit: moments of the years 1678 to 2261 are supported")
    return int(moment.timestamp()) * NS_PER_SECOND + int((fraction or "").ljust(9, "0"))


def format_time(ts: int) -> str:
    """Write nanoseconds UTC as ISO-8601 with ``Z``, the fraction only as long as needed."""
    seconds, nanos = divmod(ts, NS_PER_SECOND)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{nanos:09d}".rstrip("0") + "Z" if nanos else text + "Z"


def day_of(ts: int) -> str:
    """Return the UTC day of a moment as ``YYYY-MM-DD``."""
    return format_time(ts)[:10]
