"""The first mark at which a pool comes into breach through one of its positions, the others held still.

Found with the judgement of the replay itself, so it is exact also where maintenance jumps between tiers.
Within a tier equity less maintenance moves one way with the mark (rates are at most 1), so each tier is
halved in turn, from the present mark outwards.
"""

from __future__ import annotations

from collections.abc import Callable

from replay.analysis.bench import Bench
from replay.exact import OVERFLOW
from replay.units import BOUND


def first_breach(bench: Bench, market: int, size: int, cost: int, mark: int, rest: int) -> int | None:
    """Return the mark at which the judgement flips, nearest to the present one.

    For a healthy pool it is the first mark in breach on the way down (of a long) or up (of a short); for one
    in breach the last that still is, on the way back. Either way the mark beside it is healthy.

    Args:
        bench: The rules and markets.
        market: Id of the market.
        size: Signed size, not 0.
        cost: Signed entry value in atoms.
        mark: The present mark in units of its scale.
        rest: What the pool has beside the position: cash, and value less cost less maintenance of the
            others, in atoms.

    Returns:
        The mark in units of its scale; None where no mark above zero changes the judgement.
    """

    def breached(at: int) -> bool:
        return rest + bench.term(market, size, cost, at) < bench.least_slack

    adverse = -1 if size > 0 else 1
    now = breached(mark)
    direction = -adverse if now else adverse
    at = mark
    while 0 < at < BOUND and bench.notional(market, size, at) != OVERFLOW:
        edge = _last(at, direction, _inside(bench, market, size, cost, bench.tier(market, size, cost, at)))
        if breached(edge) != now:
            stays = _last(at, direction, lambda p: breached(p) == now) if breached(at) == now else None
            flipped = at if stays is None else stays + direction
            return flipped - direction if now else flipped
        at = edge + direction
    return None


def _inside(bench: Bench, market: int, size: int, cost: int, tier: int) -> Callable[[int], bool]:
    """Return a test of whether a mark has a value and leaves the position in a tier."""

    def inside(at: int) -> bool:
        return bench.notional(market, size, at) != OVERFLOW and bench.tier(market, size, cost, at) == tier

    return inside


def _last(start: int, direction: int, holds: Callable[[int], bool]) -> int:
    """Return the farthest mark from ``start`` in a direction up to which a condition holds."""
    limit = start - 1 if direction < 0 else BOUND - 1 - start
    reach, step = 0, 1
    while reach < limit:
        step = min(step, limit - reach)
        if not holds(start + direction * (reach + step)):
            break
        reach += step
        step *= 2
    else:
        return start + direction * reach
    low, high = reach, reach + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(start + direction * middle) else (low, middle)
    return start + direction * low
