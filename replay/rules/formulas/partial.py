"""How much of a position a forced order closes (axis ``ladder.*.size``)."""

from __future__ import annotations

from fractions import Fraction

from replay.rules.formulas.exact import Exact, clamp, round_down, round_up, square_root


def capped_portion(
    size: Exact,
    price: Exact,
    *,
    portion: Exact = 1,
    min_notional: Exact = 0,
    max_notional: Exact | None = None,
    step: Exact | None = None,
) -> Fraction:
    """Return the magnitude to close: a portion, at least a minimum notional, at most a cap, all at one price.

    Rounded down to the step, at least one step, at most the position. Source: venue-rules.md section 7.2.
    """
    notional = abs(Fraction(size)) * price
    wanted = max(Fraction(min_notional), Fraction(portion) * notional)
    if max_notional is not None:
        wanted = min(wanted, Fraction(max_notional))
    if wanted >= notional:
        return abs(Fraction(size))
    quantity = wanted / price
    if step is not None:
        quantity = max(round_down(quantity, step), Fraction(step))
    return min(quantity, abs(Fraction(size)))


def slice_above(notional: Exact, threshold: Exact, share: Exact) -> Fraction:
    """Return the notional of the first order: a share of positions above the threshold, others whole.

    Source: venue-rules.md section 4.2.
    """
    return Fraction(share) * notional if notional > threshold else Fraction(notional)


def minimal_to_exit(
    shortage: Exact,
    oracle: Exact,
    margin_rate: Exact,
    *,
    taker_fee_rate: Exact = 0,
    insurance_fee_rate: Exact = 0,
    quote_price: Exact = 1,
    step: Exact | None = None,
) -> Fraction | None:
    """Return the base quantity whose closing frees a shortage of margin, fees paid; None if none does.

    ``shortage / (oracle * quote * (rate - taker fee) - oracle * insurance fee)``, rounded up to the step.
    Source: venue-rules.md section 8.2.
    """
    freed = Fraction(oracle) * quote_price * (Fraction(margin_rate) - taker_fee_rate)
    freed -= Fraction(oracle) * insurance_fee_rate
    if freed <= 0:
        return None
    quantity = Fraction(shortage) / freed
    return quantity if step is None else round_up(quantity, step)


def staged_share(
    elapsed: Exact, duration: Exact, initial: Exact, *, shortage: Exact | None = None, small: Exact = 0
) -> Fraction:
    """Return the share of the shortage that may be freed by now: initial + elapsed/duration, at most all.

    Below ``small`` everything goes at once. Source: venue-rules.md section 8.2.
    """
    if shortage is not None and shortage < small:
        return Fraction(1)
    return clamp(Fraction(initial) + Fraction(elapsed) / duration, 0, 1)


def ramped_fee(base: Exact, cap: Exact, elapsed: Exact, grace: Exact, increase_per_unit: Exact) -> Fraction:
    """Return a fee rate that grows with the time an account was left unliquidated.

    Unchanged within the grace period; afterwards it grows by the whole time elapsed, the grace included.
    Source: venue-rules.md section 8.2 (0.01 bp per slot after 1,500 slots).
    """
    if elapsed < grace:
        return Fraction(base)
    return min(Fraction(cap), base + Fraction(elapsed) * increase_per_unit)


def share_grid(ratio_after: list[Exact], grid: list[Exact], below: Exact) -> Fraction:
    """Return the smallest share of all positions after which the margin ratio is below a bound, else all.

    Args:
        ratio_after: Maintenance over account value after closing each share of the grid.
        grid: Shares, rising.
        below: The bound.

    Source: venue-rules.md section 12.2.
    """
    for share, ratio in zip(grid, ratio_after, strict=True):
        if ratio < below:
            return Fraction(share)
    return Fraction(1)


def below_level(equity: Exact, maintenance: Exact, level: Exact) -> bool:
    """Tell whether equity is below a share of maintenance: the next rung (strict)."""
    return equity < level * Fraction(maintenance)


def restoring_slice(
    mark: Exact,
    size: Exact,
    equity: Exact,
    ratio: Exact,
    side: int,
    exec_price: Exact,
    *,
    mark_fee_rate: Exact = 0,
) -> Fraction:
    """Return the least slice after which equity is ``ratio`` of the notional left, at one execution price.

    ``(mu p q - e) / (b (p_exec - p) - phi p + mu p)``, clipped to the position.
    Source: adl-paper.md section 1.2.
    """
    need = Fraction(ratio) * mark * size - equity
    freed = side * (Fraction(exec_price) - mark) - Fraction(mark_fee_rate) * mark + Fraction(ratio) * mark
    if need <= 0:
        return Fraction(0)
    return Fraction(size) if freed <= 0 else clamp(need / freed, 0, size)


def restoring_slice_with_impact(
    mark: Exact, size: Exact, equity: Exact, ratio: Exact, impact: Exact, *, fee: Exact = 0, digits: int = 12
) -> Fraction | None:
    """Return the least slice that restores a ratio when each unit moves the price by ``impact``.

    The smaller root of ``impact/2 * dq^2 - mu*p*dq + (mu*p*q - e + fee) = 0``, rounded down to ``digits``
    decimal digits; None where no slice restores it. Source: adl-paper.md section 1.2.
    """
    need = Fraction(ratio) * mark * size - equity + fee
    slope = Fraction(ratio) * mark
    inside = slope * slope - 2 * Fraction(impact) * need
    if inside < 0:
        return None
    return clamp((slope - square_root(inside, digits)) / impact, 0, size)
