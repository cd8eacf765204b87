"""Limit price of a forced order (axis ``ladder.*.limit``); the bankruptcy limit is in ``bankruptcy.py``."""

from __future__ import annotations

from fractions import Fraction

from replay.rules.formulas.exact import Exact, clamp, round_down, round_up


def fillable(
    oracle: Exact,
    side: int,
    equity: Exact,
    total_maintenance: Exact,
    maintenance_rate: Exact,
    *,
    adjustment: Exact,
    spread: Exact,
    tick: Exact | None = None,
) -> Fraction:
    """Return the worst price of an order whose allowance grows as the account nears zero equity.

    ``oracle * (1 - side * spread * rate * clamp(adjustment * (1 - equity/MM), 0, 1))``: nothing at the
    maintenance line, ``spread * rate`` of the price at zero equity and below. Rounded to the tick up for
    sells, down for buys. Source: venue-rules.md section 7.2.
    """
    used = clamp(Fraction(adjustment) * (1 - Fraction(equity) / total_maintenance), 0, 1)
    price = oracle * (1 - side * Fraction(spread) * maintenance_rate * used)
    if tick is None:
        return price
    return round_up(price, tick) if side > 0 else round_down(price, tick)


def oracle_band(oracle: Exact, side: int, fee_rate: Exact) -> Fraction:
    """Return the oracle less the fee for a long that is sold, plus it for a short that is bought back.

    Source: venue-rules.md section 8.2.
    """
    return oracle * (1 - side * Fraction(fee_rate))


def oracle_haircut(oracle: Exact, maintenance_weight: Exact, share: Exact = Fraction(1, 5)) -> Fraction:
    """Return ``oracle * (1 + (weight - 1) * share)``: a fifth of the maintenance haircut.

    Source: venue-rules.md section 10.2. The weight is below 1 for longs, above 1 for shorts.
    """
    return oracle * (1 + (Fraction(maintenance_weight) - 1) * share)


def bankruptcy_band(bankruptcy_price: Exact, side: int, rate: Exact) -> Fraction:
    """Return a price a rate worse than the bankruptcy price for the account that is closed.

    Source: venue-rules.md section 21 (5 % beyond).
    """
    return bankruptcy_price * (1 - side * Fraction(rate))
