"""Text to exact integers: against Decimal, one at a time and by the column."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.sources._numbers import (
    numbers_to_atoms,
    parse_moment,
    parse_number,
    parse_numbers,
    parse_utc_second,
    round_digits,
)
from replay.units import BOUND

PLAIN = st.from_regex(r"-?[0-9]{1,14}(\.[0-9]{1,14})?", fullmatch=True)
ANY = PLAIN | st.text("0123456789.-+eE nNaAiIfF_,", max_size=24) | st.text(max_size=6)


def significant(text: str) -> tuple[int, int]:
    """Return mantissa and digits of a plain decimal without needless zeros, by Decimal."""
    value = Decimal(text)
    _sign, numerals, exponent = value.normalize(Context(prec=60)).as_tuple()
    assert isinstance(exponent, int)
    mantissa = int("".join(map(str, numerals))) * (-1 if value < 0 else 1)
    return (mantissa * 10**exponent, 0) if exponent > 0 else (mantissa, -exponent if mantissa else 0)


@given(PLAIN)
def test_plain_decimals_are_exact(text: str) -> None:
    mantissa, digits = significant(text)
    if abs(mantissa) < 10**18:
        assert parse_number(text) == (mantissa, digits)
    else:
        with pytest.raises(ValueError, match="more than 18 digits"):
            parse_number(text)


@given(st.lists(ANY, max_size=12))
def test_a_column_gives_what_its_cells_give(texts: list[str]) -> None:
    numbers = parse_numbers(pa.array(texts, pa.string()))
    assert not numbers.rounded.any()
    for row, text in enumerate(texts):
        try:
            expected = (*parse_number(text), False)
        except ValueError:
            expected = (0, 0, True)
        assert (numbers.mantissa[row], numbers.digits[row], numbers.bad[row]) == expected, text


def test_a_slice_of_a_column_is_read_at_its_offset() -> None:
    column = pa.array(["1", "2.5", "-3", "x", "4"], pa.string()).slice(1, 3)
    numbers = parse_numbers(column)
    assert numbers.mantissa.tolist() == [25, -3, 0]
    assert numbers.bad.tolist() == [False, False, True]
    assert parse_numbers(pa.array([], pa.string())).mantissa.size == 0


NOT_NUMBERS = (
    "|-|.|1.|.5|-.5|1..2|1.2.3|--1|+1|1e5|1E-3| 1|1 |1\n|1_000|1,5|0x1F|NaN|nan|inf|-Infinity|٣|１|null"
)
TOO_LONG = ("9" * 19, "0." + "0" * 18 + "1")


@pytest.mark.parametrize("text", [*NOT_NUMBERS.split("|"), *TOO_LONG])
def test_what_is_no_plain_decimal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a plain decimal number|more than 18 digits"):
        parse_number(text)
    assert parse_numbers(pa.array([text], pa.string())).bad.tolist() == [True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", (0, 0)),
        ("-0.000", (0, 0)),
        ("007.10", (71, 1)),
        ("1" + "." + "0" * 40, (1, 0)),
        ("0" * 40 + "1", (1, 0)),
        ("9" * 18, (10**18 - 1, 0)),
        ("0." + "0" * 17 + "1", (1, 18)),
        ("-1." + "9" * 17, (-(2 * 10**17 - 1), 17)),
    ],
)
def test_edges_of_plain_decimals(text: str, expected: tuple[int, int]) -> None:
    assert parse_number(text) == expected
    numbers = parse_numbers(pa.array([text], pa.string()))
    assert (numbers.mantissa[0], numbers.digits[0], numbers.bad[0]) == (*expected, False)


@given(st.from_regex(r"-?[0-9]{1,14}(\.[0-9]{1,22})?", fullmatch=True), st.integers(14, 17))
def test_significant_digits_round_half_to_even(text: str, kept: int) -> None:
    numbers = parse_numbers(pa.array([text], pa.string()), significant=kept)
    rounded = Decimal(text).normalize(Context(prec=60))
    expected = Context(prec=kept, rounding=ROUND_HALF_EVEN).create_decimal(rounded)
    mantissa, digits = significant(format(expected, "f"))
    if digits > 18:
        assert numbers.bad[0]
        return
    assert (numbers.mantissa[0], numbers.digits[0], numbers.bad[0]) == (mantissa, digits, False)
    assert numbers.rounded[0] == (expected != rounded)


def test_more_whole_digits_than_are_significant_are_refused() -> None:
    numbers = parse_numbers(pa.array(["1234567890123456", "123456789012345.4"], pa.string()), significant=15)
    assert numbers.bad.tolist() == [True, False]
    assert numbers.mantissa[1] == 123456789012345


@given(st.integers(-(10**15) + 1, 10**15 - 1), st.integers(0, 10))
def test_fifteen_digits_bring_back_what_was_printed_through_a_double(mantissa: int, digits: int) -> None:
    meant = Decimal(mantissa).scaleb(-digits)
    printed = f"{float(meant):.10f}"
    numbers = parse_numbers(pa.array([printed], pa.string()), significant=15)
    assert Decimal(int(numbers.mantissa[0])).scaleb(-int(numbers.digits[0])) == meant


@given(st.lists(PLAIN, min_size=1, max_size=8))
def test_atoms_round_half_to_even(texts: list[str]) -> None:
    numbers = parse_numbers(pa.array(texts, pa.string()))
    atoms, rounded, beyond = numbers_to_atoms(numbers)
    for row in np.flatnonzero(~numbers.bad):
        exact = Decimal(texts[row]).scaleb(8, Context(prec=60))
        expected = exact.quantize(Decimal(1), ROUND_HALF_EVEN, Context(prec=60))
        if beyond[row]:
            assert abs(expected) >= BOUND
            assert atoms[row] == 0
        else:
            assert atoms[row] == int(expected)
            assert rounded[row] == (exact != expected)


@given(st.lists(PLAIN, min_size=1, max_size=8), st.integers(0, 8))
def test_decimals_round_half_to_even(texts: list[str], kept: int) -> None:
    numbers = parse_numbers(pa.array(texts, pa.string()))
    fewer = round_digits(numbers, kept)
    for row in np.flatnonzero(~numbers.bad):
        exact = Decimal(texts[row])
        expected = exact.quantize(Decimal(1).scaleb(-kept), ROUND_HALF_EVEN, Context(prec=60))
        assert Decimal(int(fewer.mantissa[row])).scaleb(-int(fewer.digits[row]), Context(prec=60)) == expected
        assert fewer.digits[row] <= kept
        assert fewer.rounded[row] == (exact != expected)


@given(st.datetimes(datetime(2015, 1, 1), datetime(2035, 12, 31, 23, 59, 59)), st.integers(0, 999_999_999))
def test_moments_are_read_to_the_nanosecond(moment: datetime, nanoseconds: int) -> None:
    whole = moment.replace(microsecond=0)
    since = (whole - datetime(1970, 1, 1)) // timedelta(seconds=1) * 1_000_000_000
    assert parse_moment(f"{whole.isoformat()}.{nanoseconds:09d}") == since + nanoseconds
    assert parse_moment(whole.isoformat()) == since
    assert parse_utc_second(whole.replace(tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")) == since
    assert parse_moment(f"{whole.isoformat()}.5") == since + 500_000_000


DAY = "2025-10-27"
NOT_MOMENTS = (
    "",
    "NaN",
    DAY,
    f"{DAY} 17:00:00",
    f"{DAY}T17:00",
    f"{DAY}T17:00:00+00:00",
    f" {DAY}T17:00:00",
    f"{DAY}T25:00:00",
    "2025-02-30T00:00:00",
    "1970-01-01T00:00:00",
    "2036-01-01T00:00:00",
    "２025-10-27T17:00:00",
)
FRACTIONS = (".", ".1234567890", ".12a", ".-1", ".１")


@pytest.mark.parametrize("text", NOT_MOMENTS)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_moment(text)
    with pytest.raises(ValueError):
        parse_utc_second(f"{text}Z")


def test_each_form_of_moment_is_strict() -> None:
    for fraction in FRACTIONS:
        with pytest.raises(ValueError, match="up to nine digits"):
            parse_moment(f"{DAY}T17:00:00{fraction}")
    with pytest.raises(ValueError, match="is not a time"):
        parse_moment(f"{DAY}T17:00:00Z")
    for text in (f"{DAY}T17:00:00", f"{DAY}T17:00:00.5Z"):
        with pytest.raises(ValueError, match="is not a"):
            parse_utc_second(text)
