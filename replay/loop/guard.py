"""The average of a market's mark, and whether the mark is too far from it to liquidate.

An average over a window ``W`` moves towards a price by ``s / W`` of the distance, where ``s`` is the time since its
last update, at most ``W``. It is updated where the mark changes, with the mark that stood until then, and is asked with
the one that stands, so it depends on the marks as a function of time alone. A price counts as at most a share from a
slower average. Averages are kept in units of the mark and of 1e-8 of one, rounded down; time is in whole milliseconds.

Source: Drift, ``calculate_new_oracle_price_twap``, ``sanitize_new_price``, ``is_oracle_too_divergent_with_twap_5min``.
"""

from __future__ import annotations

from typing import Any

from replay.exact import FLOOR, muldiv, multiply, product_parts
from replay.kernels import i64, kernel
from replay.loop.state import GUARD_CLAMP, GUARD_CLAMP_MS, GUARD_DIVERGENCE, GUARD_MS, STEP_TS, Arrays
from replay.units import NS_PER_MS, RATE_ONE

_FINE = 10**8


@kernel
def _moved(whole: int, rest: int, price: int, since: int, window: int) -> tuple[int, int]:
    """Return an average, as units and 1e-8 of one, after an update with a price."""
    if since >= window:
        return i64(price), i64(0)
    quotient, left = product_parts(abs(price - whole), since, window)
    if price >= whole:
        part = (rest * (window - since) + _FINE * left) // window
        return i64(whole + quotient + part // _FINE), i64(part % _FINE)
    part = (rest * (window - since) - _FINE * left) // window
    return i64(whole - quotient + part // _FINE), i64(part % _FINE)


@kernel
def _counted(s: Arrays, m: Any) -> int:
    """Return the mark as an update takes it."""
    if s.counters[GUARD_CLAMP] == 0:
        return i64(m.mark)
    most = muldiv(m.slow_average, s.counters[GUARD_CLAMP], RATE_ONE, FLOOR)
    return i64(min(max(m.mark, m.slow_average - most), m.slow_average + most))


@kernel
def follow(s: Arrays, market: int, mark: int) -> None:
    """Update the averages of a market before its mark changes; they begin at its first."""
    m = s.markets[market]
    now = s.counters[STEP_TS] // NS_PER_MS
    if m.has_mark == 0:
        m.average = mark
        m.slow_average = mark
    else:
        price, since = _counted(s, m), now - m.average_ms
        m.average, m.average_rest = _moved(m.average, m.average_rest, price, since, s.counters[GUARD_MS])
        if s.counters[GUARD_CLAMP] > 0:
            m.slow_average, m.slow_rest = _moved(
                m.slow_average, m.slow_rest, price, since, s.counters[GUARD_CLAMP_MS]
            )
    m.average_ms = now


@kernel
def is_guarded(s: Arrays, market: int, ts: int) -> bool:
    """Tell whether the mark of a market is now too far from its average for anything to be liquidated there."""
    m = s.markets[market]
    since = ts // NS_PER_MS - m.average_ms
    average, _ = _moved(m.average, m.average_rest, _counted(s, m), since, s.counters[GUARD_MS])
    high, low = multiply(abs(m.mark - average), RATE_ONE)
    line_high, line_low = multiply(average, s.counters[GUARD_DIVERGENCE])
    return bool(high > line_high or (high == line_high and low >= line_low))
