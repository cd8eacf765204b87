"""Compiled integer arithmetic against Python's own integers and fractions."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba import njit

from replay.errors import TapeError
from replay.exact import (
    CEIL,
    FLOOR,
    HALF_EVEN,
    OVERFLOW,
    contract_value,
    conversion,
    divided_product,
    muldiv,
    muldiv_ceil,
    muldiv_floor,
    muldiv_half_even,
    product_parts,
    signed_value,
)
from replay.tape.schema import Payoff
from replay.units import BOUND
from tests.reference import Market
from tests.reference import contract_value as plain_contract_value
from tests.strategies import muldiv_triples, near_powers, random_triple

Rounding = Callable[[Fraction], int]
PLAIN: dict[int, Rounding] = {
    FLOOR: lambda exact: exact.numerator // exact.denominator,
    HALF_EVEN: round,
    CEIL: lambda exact: -(-exact.numerator // exact.denominator),
}
COMPILED = {FLOOR: muldiv_floor, HALF_EVEN: muldiv_half_even, CEIL: muldiv_ceil}


def plain_muldiv(a: int, b: int, d: int, rounding: int) -> int:
    exact = PLAIN[rounding](Fraction(a * b, d))
    return OVERFLOW if exact >= BOUND else exact


def _muldiv_rows(rows: npt.NDArray[np.int64], rounding: int) -> npt.NDArray[np.int64]:
    results = np.empty(len(rows), dtype=np.int64)
    for i in range(len(rows)):
        results[i] = muldiv(rows[i, 0], rows[i, 1], rows[i, 2], rounding)
    return results


muldiv_rows: Callable[..., Any] = njit(_muldiv_rows)


@pytest.mark.parametrize("rounding", [FLOOR, HALF_EVEN, CEIL])
def test_muldiv_on_100_000_random_cases(rounding: int) -> None:
    rng = random.Random(20_251_010)
    cases = [random_triple(rng) for _ in range(100_000)]
    results = muldiv_rows(np.array(cases, dtype=np.int64), rounding).tolist()
    wrong = [
        (case, result)
        for case, result in zip(cases, results, strict=True)
        if result != plain_muldiv(*case, rounding)
    ]
    assert wrong == []
    wide = sum(a * b >= 1 << 64 for a, b, _ in cases)
    fitting = sum(plain_muldiv(*case, rounding) != OVERFLOW for case in cases)
    assert wide > 30_000, "the cases must leave 64 bits"
    assert fitting > 50_000, "most cases must have a result"


@settings(max_examples=1_000)
@given(muldiv_triples())
@example((0, 0, 1))
@example((BOUND - 1, BOUND - 1, BOUND - 1))
@example((BOUND - 1, 1, 1))
@example((BOUND - 1, BOUND - 1, 1))
@example(((1 << 61), 2, 1))
@example((BOUND - 1, 1 << 61, (1 << 61) - 1))
@example((2_348_293_295_766_635_038, 3_999_353_478_321_062_088, 509_122_635_572_712_522))
def test_muldiv_near_the_bounds(case: tuple[int, int, int]) -> None:
    for rounding, compiled in COMPILED.items():
        assert compiled(*case) == plain_muldiv(*case, rounding), rounding
        assert muldiv(*case, rounding) == plain_muldiv(*case, rounding), rounding


@given(muldiv_triples())
def test_the_parts_of_a_product(case: tuple[int, int, int]) -> None:
    a, *others = case
    b, d = sorted(others)
    assert product_parts(a, b, d) == divmod(a * b, d)


@given(st.integers(0, BOUND // 2), st.integers(1, 1 << 30), st.integers(1, 1 << 30))
def test_an_exact_half_goes_to_the_even_neighbour(quotient: int, half: int, factor: int) -> None:
    """(2q + 1) * h * f / (2 * h * f) = q + 1/2, for any h and f."""
    a, b, d = 2 * quotient + 1, half, 2 * half
    if a < BOUND:
        assert muldiv_half_even(a, b, d) == quotient + (quotient & 1)
    if a * factor < BOUND:
        assert muldiv_half_even(a * factor, b, d * factor) == quotient + (quotient & 1)


def market(payoff: Payoff, multiplier: Fraction, price_scale: int, qty_scale: int) -> Market:
    return Market("M", payoff, 0, multiplier, price_scale, price_scale, qty_scale)


multipliers = st.sampled_from(
    [
        Fraction(1),
        Fraction(10),
        Fraction(100),
        Fraction(1, 1000),
        Fraction(1, 100),
        Fraction(5),
        Fraction(1, 3),
    ]
) | st.builds(Fraction, st.integers(1, 10_000), st.integers(1, 10_000))


@settings(max_examples=500)
@given(st.data(), multipliers, st.integers(0, 9), st.integers(0, 9))
def test_linear_value(data: st.DataObject, multiplier: Fraction, price_scale: int, qty_scale: int) -> None:
    known = conversion(Payoff.LINEAR, multiplier, price_scale, qty_scale, market="M")
    size = data.draw(near_powers(58)) * data.draw(st.sampled_from([1, -1]))
    price = max(1, data.draw(near_powers(max(1, 61 - abs(size).bit_length()))))
    expected = plain_contract_value(
        market(Payoff.LINEAR, multiplier, price_scale, qty_scale), size, price, price_scale
    )
    magnitude = contract_value(size, price, known.num, known.den, known.inverse)
    if abs(size) * known.num < BOUND and abs(expected) < BOUND:
        assert signed_value(size, magnitude, known.inverse) == expected
    else:
        assert magnitude in (OVERFLOW, abs(expected))


@settings(max_examples=500)
@given(
    st.data(),
    st.sampled_from([Fraction(1), Fraction(10), Fraction(100)]) | st.integers(1, 10_000).map(Fraction),
    st.integers(0, 6),
    st.integers(0, 4),
)
def test_inverse_value(data: st.DataObject, multiplier: Fraction, price_scale: int, qty_scale: int) -> None:
    known = conversion(Payoff.INVERSE, multiplier, price_scale, qty_scale, market="M")
    size = data.draw(near_powers(61)) * data.draw(st.sampled_from([1, -1]))
    price = max(1, data.draw(near_powers(61)))
    expected = plain_contract_value(
        market(Payoff.INVERSE, multiplier, price_scale, qty_scale), size, price, price_scale
    )
    magnitude = contract_value(size, price, known.num, known.den, known.inverse)
    if abs(expected) < BOUND:
        assert signed_value(size, magnitude, known.inverse) == expected
    else:
        assert magnitude == OVERFLOW


@given(st.integers(1, 10**5), st.integers(1, 10**5), st.booleans())
def test_both_sides_of_a_match_have_one_value(size: int, price: int, inverse: bool) -> None:
    payoff = Payoff.INVERSE if inverse else Payoff.LINEAR
    known = conversion(payoff, Fraction(100), 2, 0, market="M")
    magnitude = contract_value(size, price, known.num, known.den, known.inverse)
    assert contract_value(-size, price, known.num, known.den, known.inverse) == magnitude
    assert signed_value(size, magnitude, inverse) == -signed_value(-size, magnitude, inverse)
    assert (signed_value(size, magnitude, inverse) > 0) == (not inverse) or magnitude == 0
    assert signed_value(0, 0, inverse) == 0


def test_values_by_hand() -> None:
    """0.5 BTC at 60,000.0 USD; 100 contracts of 100 USD at 60,000.0 USD are 1/6 BTC, 16666666.67 satoshi."""
    linear = conversion(Payoff.LINEAR, Fraction(1), 1, 5, market="BTC")
    assert contract_value(50_000, 600_000, linear.num, linear.den, linear.inverse) == 30_000 * 10**8
    inverse = conversion(Payoff.INVERSE, Fraction(100), 1, 0, market="BTC-USD")
    magnitude = contract_value(100, 600_000, inverse.num, inverse.den, inverse.inverse)
    assert signed_value(100, magnitude, True) == -16_666_667
    assert signed_value(-100, magnitude, True) == 16_666_667


@pytest.mark.parametrize(
    ("payoff", "multiplier", "price_scale", "qty_scale"),
    [
        (Payoff.INVERSE, Fraction(1, 3), 1, 0),
        (Payoff.INVERSE, Fraction(1), 0, 9),
        (Payoff.INVERSE, Fraction(10**9), 18, 0),
        (Payoff.LINEAR, Fraction(10**12), 0, 0),
        (Payoff.LINEAR, Fraction(1), 18, 18),
        (Payoff.LINEAR, Fraction(0), 0, 0),
        (Payoff.LINEAR, Fraction(-1), 0, 0),
    ],
)
def test_a_contract_that_cannot_be_valued_is_refused(
    payoff: Payoff, multiplier: Fraction, price_scale: int, qty_scale: int
) -> None:
    with pytest.raises(TapeError, match="market M"):
        conversion(payoff, multiplier, price_scale, qty_scale, market="M")


_sixty_three = st.integers(0, 2**63 - 1)
_divisor = st.integers(1, 2**62 - 1)


@given(_sixty_three, _sixty_three, st.tuples(_divisor, _divisor, _divisor), st.sampled_from([FLOOR, CEIL]))
@example(2**63 - 1, 2**63 - 1, (1, 1, 1), FLOOR)
@example(2**62 - 1, 1, (1, 1, 1), FLOOR)
@example(2**62 - 1, 2, (2, 1, 1), CEIL)
@example(2**63 - 1, 1, (2, 1, 1), CEIL)  # rounds up to 2**62, which is out of range
@example(7, 3, (2, 2, 2), CEIL)
def test_a_product_over_three_divisors_is_rounded_once(
    a: int, b: int, divisors: tuple[int, int, int], rounding: int
) -> None:
    exact = PLAIN[rounding](Fraction(a * b, divisors[0] * divisors[1] * divisors[2]))
    assert divided_product(a, b, divisors, rounding) == (OVERFLOW if exact >= BOUND else exact)
