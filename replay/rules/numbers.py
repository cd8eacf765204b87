"""What rule files are made of: tables, exact numbers, durations, fractions, names, and how they are written.

A number is decimal text, a TOML integer, or a TOML float kept as text; it becomes an integer in a fixed unit
and is written back in one way only, so that equal rules have equal hashes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer
from pydantic_core import PydanticCustomError

from replay.units import (
    BOUND,
    MONEY_SCALE,
    NS_PER_DAY,
    NS_PER_SECOND,
    RATE_ONE,
    RATE_SCALE,
    format_units,
    to_fraction,
    to_units,
)

_LONGEST_NUMBER = 64
_LARGEST_MULTIPLE = 1_000
_LARGEST_DENOMINATOR = 10**6
_LARGEST_FACTOR = 100
_LARGEST_CAP = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_DURATION = 366 * NS_PER_DAY
_UNITS = {
    "d": NS_PER_DAY,
    "h": 3_600 * NS_PER_SECOND,
    "m": 60 * NS_PER_SECOND,
    "s": NS_PER_SECOND,
    "ms": 10**6,
    "us": 10**3,
    "ns": 1,
}
_UNITS_LAST = sorted(_UNITS, key=len, reverse=True)  # "ms" ends with "s" too
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class FloatText:
    """A TOML float as it stands in the file; given to ``tomllib`` in place of ``float``."""

    text: str


class Section(BaseModel):
    """Base of every table of a rule file: nothing unknown, nothing converted, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def problem(text: str, mend: str, key: str = "") -> PydanticCustomError:
    """Return a validation error that carries our own sentence, remedy and (relative) key."""
    return PydanticCustomError(
        "rules",
        "{problem}",
        {"problem": text, "mend": mend, "key": key},
    )


def not_empty(items: tuple[_Item, ...]) -> tuple[_Item, ...]:
    """Refuse an empty list."""
    if not items:
        raise problem("must not be empty", "write at least one")
    return items


def goes_with(said: str, key: str, value: object, *, is_needed: bool, mend: str) -> None:
    """Refuse a key that is missing beside what needs it, or stands where nothing does.

    Args:
        said: What needs it, or does not, as it stands in the file.
        key: The key.
        value: Its value, None if it is left out.
        is_needed: Whether it has to be there; else it must not.
        mend: What to write.
    """
    if (value is None) == is_needed:
        raise problem(f"{said} stands {'without' if value is None else 'beside'} `{key}`", mend, key)


def all_or_none(given: Mapping[str, object], otherwise: str) -> None:
    """Refuse keys of which some are left out and others are not; ``otherwise`` tells what holds without them."""
    missing = [key for key, value in given.items() if value is None]
    if missing and len(missing) < len(given):
        there = next(key for key in given if key not in missing)
        raise problem(
            f"`{there}` stands without `{missing[0]}`",
            f"write {', '.join(given)} together, or none of them: {otherwise}",
            missing[0],
        )


def _text_of(value: object, wanted: str, kind: str = "a number") -> str:
    """Return a number as the text that stands in the file."""
    if isinstance(value, FloatText):
        text = value.text.replace("_", "")
    elif isinstance(value, str):
        text = value
    elif isinstance(value, int) and not isinstance(value, bool):
        if abs(value) >= BOUND:
            raise problem("the number is too large", wanted)
        text = str(value)
    else:
        raise problem(f"must be {kind}", wanted)
    if len(text) > _LONGEST_NUMBER:
        raise problem("the number is too long", wanted)
    return text


def _read_number(value: object, scale: int, example: str) -> int:
    """Read an exact non-negative number as an integer in ``10**-scale``."""
    wanted = f'write a decimal number such as "{example}"'
    text = _text_of(value, wanted)
    try:
        units, rounded = to_units(text, scale)
    except ValueError as failure:
        raise problem(str(failure), wanted) from None
    if rounded:
        kept = f"at most {scale} decimals are kept" if scale else "write a whole number"
        raise problem(f"{text} has more than {scale} decimals" if scale else f"{text} is not whole", kept)
    if units < 0:
        raise problem(f"{text} is negative", wanted)
    return units


def _read_rate(value: object) -> int:
    rate = _read_number(value, RATE_SCALE, "0.01")
    if rate == 0:
        raise problem("a rate of 0 asks for no margin at all", 'write a rate above 0 such as "0.01"')
    return rate


def _read_share(value: object) -> int:
    share = _read_number(value, RATE_SCALE, "0.2")
    if share > RATE_ONE:
        raise problem(
            f"a share of {format_units(share, RATE_SCALE)} is above 1", 'write 20 % as "0.2"; all is "1"'
        )
    return share


def _read_part(value: object) -> int:
    share = _read_share(value)
    if share == 0:
        raise problem("a share of 0 is nothing", 'write a share above 0 and at most 1 such as "0.2"')
    return share


def _read_multiple(value: object) -> int:
    multiple = _read_number(value, RATE_SCALE, "1")
    if not 0 < multiple <= _LARGEST_MULTIPLE * RATE_ONE:
        raise problem(
            f"a multiple of {format_units(multiple, RATE_SCALE)} is not above 0 and at most {_LARGEST_MULTIPLE}",
            'write a multiple such as "1" or "2.5"',
        )
    return multiple


def _read_fee(value: object) -> int:
    fee = _read_number(value, RATE_SCALE, "0.00045")
    if fee > RATE_ONE:
        raise problem(
            f"a fee of {format_units(fee, RATE_SCALE)} is above 1",
            'fees are shares of value: 0.045 % is "0.00045"',
        )
    return fee


def _read_money(value: object) -> int:
    return _read_number(value, MONEY_SCALE, "50000")


def _read_positive_money(value: object) -> int:
    amount = _read_money(value)
    if amount == 0:
        raise problem("an amount of 0 is nothing", 'write an amount above 0 such as "50000"')
    return amount


def _read_basis_points(value: object) -> int:
    points = _read_number(value, 0, "5")
    if points >= 10_000:
        raise problem(
            f"{points} basis points are the whole price", "1 % is 100 basis points; the limit is 9999"
        )
    return points


def _read_count(value: object) -> int:
    count = _read_number(value, 0, "5")
    if not 1 <= count <= 100:
        raise problem(f"{count} is not a number of steps", "write a whole number from 1 to 100")
    return count


def _read_cap(value: object) -> int:
    cap = _read_number(value, 0, "50")
    if not 1 <= cap <= _LARGEST_CAP:
        raise problem(f"{cap} is not from 1 to a million", "write a whole number such as 50")
    return cap


def _fraction_of(text: str, wanted: str) -> Fraction:
    """Return a decimal, or a quotient of two such as ``2/3``."""
    above, slash, below = text.partition("/")
    try:
        divisor = to_fraction(below) if slash else Fraction(1)
        if divisor == 0:
            raise problem(f"{text} divides by 0", wanted)
        return to_fraction(above) / divisor
    except ValueError as failure:
        raise problem(str(failure), wanted) from None


def _read_level(value: object) -> tuple[int, int]:
    """Read a share of maintenance, ``2/3`` or decimal, as a reduced fraction from 0 to 1."""
    wanted = 'write a share of maintenance such as "1", "2/3" or "0"'
    text = _text_of(value, wanted)
    level = _fraction_of(text, wanted)
    if level < 0:
        raise problem(f"{text} is negative", wanted)
    if level > 1:
        raise problem(
            f"{text} is above 1: such a pool is not in breach yet",
            "a level is a share of maintenance, at most 1",
        )
    if level.denominator > _LARGEST_DENOMINATOR:
        raise problem(
            f"{text} is too fine: as a fraction its denominator is above {_LARGEST_DENOMINATOR}",
            'a fraction is written "2/3"',
        )
    return level.numerator, level.denominator


def _read_factor(value: object) -> tuple[int, int]:
    """Read a factor, ``3/2`` or decimal, as a reduced fraction from 0 to 100."""
    wanted = 'write a factor such as "1.5" or "3/2"'
    text = _text_of(value, wanted)
    factor = _fraction_of(text, wanted)
    if not 0 <= factor <= _LARGEST_FACTOR:
        raise problem(f"{text} is not from 0 to {_LARGEST_FACTOR}", wanted)
    if factor.denominator > _LARGEST_DENOMINATOR:
        raise problem(
            f"{text} is too fine: as a fraction its denominator is above {_LARGEST_DENOMINATOR}", wanted
        )
    return factor.numerator, factor.denominator


def level_text(level: tuple[int, int]) -> str:
    """Write a level as rule files do: ``1``, ``2/3``, ``0``."""
    return str(level[0]) if level[1] == 1 else f"{level[0]}/{level[1]}"


def _read_duration(value: object) -> int:
    """Read ``30s``, ``8h``, ``1.5m`` or a number of seconds as whole nanoseconds."""
    wanted = 'write a duration such as "30s", "8h" or "500ms"; a bare number is seconds'
    text = _text_of(value, wanted, "a duration")
    try:
        unit = next((unit for unit in _UNITS_LAST if text.endswith(unit)), "")
        length = to_fraction(text.removesuffix(unit).rstrip(" ")) * _UNITS[unit or "s"]
    except ValueError:
        units = ", ".join(_UNITS)
        raise problem(f"{json.dumps(text)} is not a duration", f"{wanted}; units are {units}") from None
    if length < 0:
        raise problem(f"{text} is negative", wanted)
    if length.denominator != 1:
        raise problem(f"{text} is finer than a nanosecond", wanted)
    if length > _LONGEST_DURATION:
        raise problem(f"{text} is longer than a year", wanted)
    return length.numerator


def _read_positive_duration(value: object) -> int:
    length = _read_duration(value)
    if length == 0:
        raise problem("a duration of 0 is no time at all", 'write a duration above 0 such as "8h"')
    return length


def _read_moment(value: object) -> int:
    """Read a date with time and offset as ns UTC: a TOML datetime, or the same as text."""
    wanted = "write a moment with its offset such as 2025-10-10T20:00:00Z"
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise problem(f"{json.dumps(value)} is not a moment", wanted) from None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise problem("must be a moment with its offset from UTC", wanted)
    return (value - _EPOCH) // timedelta(microseconds=1) * 1_000


def write_moment(moment: int) -> str:
    """Write ns UTC as rule files do: ``2025-10-10T20:00:00Z``."""
    return (_EPOCH + timedelta(microseconds=moment // 1_000)).isoformat().replace("+00:00", "Z")


def write_duration(length: int) -> str:
    """Write nanoseconds in the largest unit of which they are a whole number."""
    if length == 0:
        return "0s"
    unit = next(unit for unit, size in _UNITS.items() if length % size == 0)
    return f"{length // _UNITS[unit]}{unit}"


def _one_line(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise problem("must be one line of printable text", "write a sentence in quotes, without line breaks")
    return value


def _name(value: str) -> str:
    if not value or not all(c.isascii() and (c.islower() or c.isdigit() or c in "-_") for c in value):
        raise problem(
            f"{json.dumps(value)} is not a name", "use lower-case letters, digits, - and _ such as liquidator"
        )
    return value


def _boolean(value: object) -> object:
    if not isinstance(value, bool):
        raise problem("must be true or false", "write true or false without quotes")
    return value


def _decimal(scale: int) -> Callable[[int], str]:
    return lambda value: format_units(value, scale)


_AS_RATE = PlainSerializer(_decimal(RATE_SCALE), return_type=str)
_AS_MONEY = PlainSerializer(_decimal(MONEY_SCALE), return_type=str)
_AS_WHOLE = PlainSerializer(_decimal(0), return_type=str)
_AS_DURATION = PlainSerializer(write_duration, return_type=str)

Rate = Annotated[int, BeforeValidator(_read_rate), _AS_RATE]
"""A rate above 0, an integer in 1e-12."""

Share = Annotated[int, BeforeValidator(_read_share), _AS_RATE]
"""A share from 0 to 1, an integer in 1e-12."""

Part = Annotated[int, BeforeValidator(_read_part), _AS_RATE]
"""A share above 0 and at most 1, an integer in 1e-12."""

Multiple = Annotated[int, BeforeValidator(_read_multiple), _AS_RATE]
"""A multiple above 0, an integer in 1e-12."""

Fee = Annotated[int, BeforeValidator(_read_fee), _AS_RATE]
"""A fee as a share of value, from 0 to 1, an integer in 1e-12."""

Money = Annotated[int, BeforeValidator(_read_money), _AS_MONEY]
"""An amount of money of at least 0, an integer in atoms of 1e-8."""

PositiveMoney = Annotated[int, BeforeValidator(_read_positive_money), _AS_MONEY]
"""An amount of money above 0, an integer in atoms of 1e-8."""

BasisPoints = Annotated[int, BeforeValidator(_read_basis_points), _AS_WHOLE]
"""A distance in whole basis points, from 0 to 9999."""

Count = Annotated[int, BeforeValidator(_read_count), _AS_WHOLE]
"""A small whole number, from 1 to 100."""

Cap = Annotated[int, BeforeValidator(_read_cap), _AS_WHOLE]
"""The most of something that is counted, from 1 to a million."""

Level = Annotated[tuple[int, int], BeforeValidator(_read_level), PlainSerializer(level_text, return_type=str)]
"""A share of maintenance from 0 to 1 as a reduced fraction ``(numerator, denominator)``."""

Factor = Annotated[
    tuple[int, int], BeforeValidator(_read_factor), PlainSerializer(level_text, return_type=str)
]
"""A factor from 0 to 100 as a reduced fraction ``(numerator, denominator)``."""

Duration = Annotated[int, BeforeValidator(_read_duration), _AS_DURATION]
"""A length of time of at least 0, in nanoseconds."""

PositiveDuration = Annotated[int, BeforeValidator(_read_positive_duration), _AS_DURATION]
"""A length of time above 0, in nanoseconds."""

Moment = Annotated[int, BeforeValidator(_read_moment), PlainSerializer(write_moment, return_type=str)]
"""A moment in ns UTC."""

Boolean = BeforeValidator(_boolean)
"""Refuses whatever is not true or false, in words."""

Sentence = Annotated[str, AfterValidator(_one_line)]
"""One line of printable text."""

Name = Annotated[str, AfterValidator(_name)]
"""A lower-case name."""
