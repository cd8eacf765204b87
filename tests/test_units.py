"""Text to integers and back, against Decimal, Fraction and datetime."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.units import (
    ATOM,
    BOUND,
    MAX_SCALE,
    MONEY_SCALE,
    NS_PER_SECOND,
    day_of,
    divide_half_even,
    format_time,
    format_units,
    parse_decimal,
    parse_time,
    rescale,
    to_atoms,
    to_fraction,
    to_units,
)
from tests.strategies import decimal_texts

EXACT = Context(prec=400)
"""Enough digits for every number these tests write, so that Decimal never rounds on its own."""

FIRST_SECOND = int(datetime(1678, 1, 1, tzinfo=UTC).timestamp())
LAST_SECOND = int(datetime(2261, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
moments = st.builds(
    lambda second, nanos: second * NS_PER_SECOND + nanos,
    st.integers(FIRST_SECOND, LAST_SECOND) | st.integers(0, 2_000_000_000),
    st.just(0) | st.integers(0, NS_PER_SECOND - 1) | st.integers(0, 999).map(lambda ms: ms * 1_000_000),
)


@given(decimal_texts())
def test_a_decimal_keeps_its_value(text: str) -> None:
    mantissa, digits = parse_decimal(text)
    assert Fraction(mantissa, 10**digits) == Fraction(Decimal(text))


@given(decimal_texts())
def test_digits_are_the_fewest_that_hold_the_value(text: str) -> None:
    mantissa, digits = parse_decimal(text)
    assert digits >= 0
    assert digits == 0 or mantissa % 10 != 0


@given(decimal_texts())
def test_to_fraction_is_exact(text: str) -> None:
    assert to_fraction(text) == Fraction(Decimal(text))


@given(decimal_texts(), st.integers(0, MAX_SCALE))
def test_scaling_rounds_half_to_even_as_decimal_does(text: str, scale: int) -> None:
    number = Decimal(text)
    expected = int(EXACT.scaleb(number, scale).to_integral_value(rounding=ROUND_HALF_EVEN))
    if abs(expected) >= BOUND:
        with pytest.raises(ValueError, match="does not fit"):
            to_units(text, scale)
        return
    value, rounded = to_units(text, scale)
    assert value == expected
    assert rounded == (Fraction(number) * 10**scale != expected)


@given(decimal_texts())
def test_money_is_counted_in_atoms(text: str) -> None:
    if abs(Fraction(Decimal(text))) < 1_000_000:
        assert to_atoms(text) == to_units(text, MONEY_SCALE)
        assert abs(to_atoms(text)[0] - Fraction(Decimal(text)) * ATOM) <= Fraction(1, 2)


@pytest.mark.parametrize(
    ("text", "scale", "value", "rounded"),
    [
        ("0.5", 0, 0, True),
        ("1.5", 0, 2, True),
        ("2.5", 0, 2, True),
        ("-0.5", 0, 0, True),
        ("-1.5", 0, -2, True),
        ("2.50000000000000000000000000001", 0, 3, True),
        ("0.123456785", 8, 12345678, True),
        ("0.123456775", 8, 12345678, True),
        ("1.10", 1, 11, False),
        ("+1e-2", 2, 1, False),
        ("1E3", 2, 100_000, False),
        ("-0", 3, 0, False),
        ("0e999", 0, 0, False),
        ("4611686018427387903", 0, 2**62 - 1, False),
        ("-4611686018427387903", 0, -(2**62) + 1, False),
    ],
)
def test_scaling_by_hand(text: str, scale: int, value: int, rounded: bool) -> None:
    assert to_units(text, scale) == (value, rounded)


@pytest.mark.parametrize(
    "text", ["4611686018427387904", "-4611686018427387904", "1e19", "46116860184.27387904e8"]
)
def test_a_number_beyond_its_cell_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        to_units(text, 0)


@pytest.mark.parametrize(
    "text",
    ["", " ", "NaN", "nan", "inf", "-Infinity", "0x10", "1_000", "1,5", ".", "-", "1e", "e5", "--1", " 1",
     "1 ", "1\n", ".5", "١٢", "1e1000", "12a", "1.2.3"],
)  # fmt: skip
def test_what_is_not_a_decimal_number_is_refused(text: str) -> None:
    for read in (parse_decimal, to_fraction, to_atoms, lambda item: to_units(item, 2)):
        with pytest.raises(ValueError, match="is not a decimal number"):
            read(text)


@given(st.text(max_size=12))
def test_any_text_is_a_number_or_a_value_error(text: str) -> None:
    try:
        mantissa, digits = parse_decimal(text)
    except ValueError:
        return
    assert Fraction(mantissa, 10**digits) == Fraction(text)


@given(st.integers(-(10**40), 10**40), st.integers(1, 10**30))
def test_division_rounds_half_to_even_as_fractions_do(numerator: int, denominator: int) -> None:
    assert divide_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**6))
def test_an_exact_half_goes_to_the_even_neighbour(whole: int, half: int) -> None:
    quotient = divide_half_even((2 * whole + 1) * half, 2 * half)
    assert quotient % 2 == 0
    assert abs(quotient - Fraction(2 * whole + 1, 2)) == Fraction(1, 2)


@given(st.integers(-(10**30), 10**30), st.integers(0, 30), st.integers(0, 30))
def test_rescale_tells_whether_it_rounded(mantissa: int, digits: int, scale: int) -> None:
    exact = Fraction(mantissa, 10**digits) * 10**scale
    assert rescale(mantissa, digits, scale) == (round(exact), exact.denominator != 1)


@given(st.integers(-(BOUND - 1), BOUND - 1), st.integers(0, MAX_SCALE))
def test_written_numbers_read_back(value: int, scale: int) -> None:
    text = format_units(value, scale)
    assert Decimal(text) == EXACT.scaleb(Decimal(value), -scale)
    assert to_units(text, scale) == (value, False)
    assert "." not in text or text[-1] not in ".0"


@given(moments)
def test_written_moments_read_back(ts: int) -> None:
    text = format_time(ts)
    assert parse_time(text) == ts
    seconds, nanos = divmod(ts, NS_PER_SECOND)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    assert datetime.fromisoformat(text[:19] + "+00:00") == moment
    assert Fraction("0" + text[19:-1] if len(text) > 20 else "0") == Fraction(nanos, NS_PER_SECOND)
    assert day_of(ts) == moment.date().isoformat()


@given(
    st.datetimes(min_value=datetime(1678, 1, 1), max_value=datetime(2261, 12, 31)),
    st.sampled_from(["T", " "]),
)
def test_moments_agree_with_the_standard_library(moment: datetime, separator: str) -> None:
    elapsed = moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    expected = (elapsed.days * 86_400 + elapsed.seconds) * NS_PER_SECOND + elapsed.microseconds * 1_000
    for zone in ("", "Z", "+00:00", "-00:00"):
        assert parse_time(moment.isoformat(separator) + zone) == expected


@pytest.mark.parametrize("text", ["2023-13-01", "2023-02-29T00:00:00Z", "2023-03-01T25:00"])
def test_a_moment_that_no_calendar_has_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=f"'{text}' is no moment of the calendar: "):
        parse_time(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T00:00", 0),
        ("1970-01-02 00:00:01", 86_401 * NS_PER_SECOND),
        ("1970-01-01T00:00:00.000000001", 1),
        ("1970-01-01T00:00:00.1Z", 100_000_000),
        ("1969-12-31T23:59:59.999999999", -1),
        ("2024-02-29", 1_709_164_800 * NS_PER_SECOND),
        (" 2025-10-10T21:15:00Z\n", 1_760_130_900 * NS_PER_SECOND),
    ],
)
def test_moments_by_hand(text: str, expected: int) -> None:
    assert parse_time(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "now", "2025-10-10T21:15:00+02:00", "2025-10-10T21:15:00.1234567890", "2025-1-1", "2025-13-01",
     "2025-02-29", "2025-10-10T24:00:00", "2025-10-10T21:60:00", "2025-10-10T21:15:60", "0000-01-01",
     "2025-10-10T", "1760130900", "2025-10-10T21", "٢٠٢٥-10-10"],
)  # fmt: skip
def test_what_is_not_a_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_time(text)


@given(st.datetimes() | st.sampled_from([datetime(1677, 12, 31, 23, 59, 59), datetime(2262, 1, 1)]))
def test_a_moment_fits_its_cell_or_is_refused(moment: datetime) -> None:
    if 1678 <= moment.year <= 2261:
        assert -(2**63) < parse_time(moment.isoformat()) < 2**63
    else:
        with pytest.raises(ValueError, match="does not fit"):
            parse_time(moment.isoformat())


@given(st.text(max_size=30))
def test_any_text_is_a_moment_or_a_value_error(text: str) -> None:
    try:
        ts = parse_time(text)
    except ValueError:
        return
    assert format_time(ts)[:10] == text.strip()[:10]
