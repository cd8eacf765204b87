"""Exact integer arithmetic in compiled code: 128-bit ``a*b/d`` and the value of a contract.

Products of sizes, prices and money wrap silently in int64, so every product in the kernels goes through
:func:`muldiv`. Values of contracts follow one rule: linear ``V = n*m*P``, inverse ``V = -n*m/P``, rounded
half to even on the magnitude, so that ``V(-n, P) == -V(n, P)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from replay.errors import TapeError
from replay.kernels import i64, kernel
from replay.tape.schema import Payoff
from replay.units import ATOM, BOUND

FLOOR, HALF_EVEN, CEIL = 0, 1, 2

OVERFLOW = -1
"""What the kernels below return for a magnitude of 2**62 or more; magnitudes are never negative."""

_LIMIT = BOUND
_MASK32 = np.uint64(0xFFFFFFFF)
_BITS32 = np.uint64(32)
_ONE = np.uint64(1)
_ZERO = np.uint64(0)


def _emit_product(typing: Any, a: Any, b: Any) -> Any:
    """Return the 128-bit product of two uint64 as (high, low): one instruction, which NumPy has no name for."""
    pair = types.UniTuple(types.uint64, 2)  # type: ignore[no-untyped-call]

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        high = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))
        return context.make_tuple(builder, signature.return_type, (high, builder.trunc(product, high.type)))

    return pair(types.uint64, types.uint64), generate


def _emit_leading_zeros(typing: Any, number: Any) -> Any:
    """Return how many of the highest bits of a uint64 above 0 are zero."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


# The types of numba say what is called while compiling, not what compiled code calls.
_multiply: Callable[[np.uint64, np.uint64], tuple[np.uint64, np.uint64]] = cast(Any, intrinsic(_emit_product))
_leading_zeros: Callable[[np.uint64], np.uint64] = cast(Any, intrinsic(_emit_leading_zeros))


@kernel
def multiply(a: int, b: int) -> tuple[np.uint64, np.uint64]:
    """Return the 128-bit product of two integers that are not negative as (high, low)."""
    return _multiply(np.uint64(a), np.uint64(b))


@kernel
def _divide(high: np.uint64, low: np.uint64, d: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Divide a 128-bit number by ``d`` < 2**63, ``high < d``: Knuth's algorithm D in base 2**32."""
    shift = _leading_zeros(d)
    divisor = d << shift
    d_high, d_low = divisor >> _BITS32, divisor & _MASK32
    if shift > _ZERO:
        high = (high << shift) | (low >> (np.uint64(64) - shift))
        low = low << shift
    quotient = _ZERO
    for digit in (low >> _BITS32, low & _MASK32):
        q = high // d_high
        rest = high - q * d_high
        while q > _MASK32 or q * d_low > ((rest << _BITS32) | digit):
            q -= _ONE
            rest += d_high
            if rest > _MASK32:
                break
        high = ((high << _BITS32) | digit) - q * divisor
        quotient = (quotient << _BITS32) | q
    return quotient, high >> shift


@kernel
def muldiv(a: int, b: int, d: int, rounding: int) -> int:
    """Return ``a*b/d`` rounded, for ``0 <= a, b < 2**62`` and ``0 < d < 2**62``.

    The product is exact to 128 bits. ``rounding`` is :data:`FLOOR`, :data:`HALF_EVEN` or :data:`CEIL`.
    Returns :data:`OVERFLOW` if the result is 2**62 or more.
    """
    ua, ub, ud = np.uint64(a), np.uint64(b), np.uint64(d)
    high, low = _multiply(ua, ub)
    if high == _ZERO:
        quotient = low // ud
        rest = low - quotient * ud
    elif high >= ud:
        return OVERFLOW
    else:
        quotient, rest = _divide(high, low, ud)
    if quotient >= np.uint64(_LIMIT):
        return OVERFLOW
    if rounding == HALF_EVEN:
        left = ud - rest
        if rest > left or (rest == left and quotient & _ONE == _ONE):
            quotient += _ONE
    elif rounding == CEIL and rest > _ZERO:
        quotient += _ONE
    if quotient >= np.uint64(_LIMIT):
        return OVERFLOW
    return i64(quotient)


@kernel
def product_parts(a: int, b: int, d: int) -> tuple[int, int]:
    """Return quotient and rest of ``a*b / d``, for ``0 <= a < 2**62`` and ``0 <= b <= d < 2**62``, ``d`` above 0."""
    high, low = _multiply(np.uint64(a), np.uint64(b))
    quotient, rest = _divide(high, low, np.uint64(d))
    return i64(quotient), i64(rest)


@kernel
def product(a: int, b: int) -> int:
    """Return ``a*b`` for ``0 <= a, b < 2**62``, or :data:`OVERFLOW` if it is 2**62 or more."""
    high, low = _multiply(np.uint64(a), np.uint64(b))
    if high != _ZERO or low >= np.uint64(_LIMIT):
        return OVERFLOW
    return i64(low)


@kernel
def muldiv_floor(a: int, b: int, d: int) -> int:
    """Return ``a*b // d``; see :func:`muldiv`."""
    return muldiv(a, b, d, FLOOR)


@kernel
def muldiv_half_even(a: int, b: int, d: int) -> int:
    """Return ``a*b / d`` rounded half to even; see :func:`muldiv`."""
    return muldiv(a, b, d, HALF_EVEN)


@kernel
def muldiv_ceil(a: int, b: int, d: int) -> int:
    """Return ``a*b / d`` rounded up; see :func:`muldiv`."""
    return muldiv(a, b, d, CEIL)


@kernel
def divided_product(a: int, b: int, divisors: tuple[int, int, int], rounding: int) -> int:
    """Return ``a*b`` divided by three divisors, rounded once, or :data:`OVERFLOW` for 2**62 or more.

    For ``0 <= a, b < 2**63`` and divisors in ``[1, 2**62)``; their product may be larger than any cell. Floors
    of floors are floors of the whole. ``rounding`` is :data:`FLOOR` or :data:`CEIL`.
    """
    high, low = _multiply(np.uint64(a), np.uint64(b))
    is_exact = True
    for divisor in divisors:
        d = np.uint64(divisor)
        rest = high % d
        high = high // d
        low, rest = _divide(rest, low, d)
        is_exact = is_exact and rest == _ZERO
    if rounding == CEIL and not is_exact:
        low += _ONE
    if high != _ZERO or low >= np.uint64(_LIMIT):
        return OVERFLOW
    return i64(low)


@kernel
def contract_value(n: int, price: int, num: int, den: int, inverse: bool) -> int:
    """Return the magnitude in atoms of the value of ``|n|`` at ``price`` > 0, or :data:`OVERFLOW`.

    Linear: ``|n| * price * num / den``. Inverse: ``|n| * num / price`` with ``den == 1``, split into
    ``|n| * (num // price)`` and the rounded rest so that it is exact wherever the result fits.
    """
    magnitude = abs(n)
    if inverse:
        whole = product(magnitude, num // price)
        rest = muldiv(magnitude, num % price, price, HALF_EVEN)
        if whole < 0 or rest < 0 or whole + rest >= _LIMIT:
            return OVERFLOW
        return whole + rest
    scaled = product(magnitude, num)
    if scaled < 0:
        return OVERFLOW
    if den == 1:
        return product(scaled, price)
    return muldiv(scaled, price, den, HALF_EVEN)


@kernel
def signed_value(n: int, magnitude: int, inverse: bool) -> int:
    """Give a magnitude the sign of ``V(n)``: that of n, for an inverse contract its opposite."""
    if n == 0:
        return 0
    return magnitude if (n > 0) != inverse else -magnitude


@dataclass(frozen=True, slots=True)
class Conversion:
    """Integers that turn ``quantity x price`` into atoms: linear ``num/den``, inverse ``num`` with den 1."""

    num: int
    den: int
    inverse: bool


def conversion(
    payoff: Payoff, multiplier: Fraction, price_scale: int, qty_scale: int, *, market: str
) -> Conversion:
    """Return the conversion of a market for prices of one scale (source: design section 4).

    Raises:
        TapeError: The contract cannot be valued exactly in 63-bit integers.
    """
    inverse = payoff == Payoff.INVERSE
    if inverse:
        factor = multiplier * ATOM * Fraction(10) ** (price_scale - qty_scale)
    else:
        factor = multiplier * ATOM / Fraction(10) ** (price_scale + qty_scale)
    if factor <= 0 or factor.numerator >= BOUND or factor.denominator >= BOUND:
        raise TapeError(
            f"market {market}: multiplier {multiplier} with {price_scale} digits of price and {qty_scale} of "
            "quantity leaves the range of 63-bit integers",
            key="markets",
        )
    if inverse and factor.denominator != 1:
        raise TapeError(
            f"market {market}: an inverse contract of {multiplier} in steps of 1e-{qty_scale} at prices of "
            f"{price_scale} digits is no whole number of atoms",
            key="markets",
            mend="quote quantities in whole contracts",
        )
    return Conversion(factor.numerator, factor.denominator, inverse)
