"""Nobody is made worse off: pieces of auto-deleveraging that would harm the account that is closed are left out.

Sources: dYdX v4 skips a candidate whom the trade would leave under-collateralised and with less equity for its
maintenance than before; Lighter trades only where the zero prices of both sides cross, so that the ratio of
equity to maintenance of the closed account never falls (at its own zero price it stays as it is).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.exact import FLOOR, muldiv, multiply, signed_value
from replay.kernels import allocating_kernel, i64, kernel
from replay.loop.adl import fee_of
from replay.loop.adl_prices import bankruptcy_part, piece_value
from replay.loop.margin import maintenance_of, notional_at
from replay.loop.ranking import Ranking
from replay.loop.state import Arrays
from replay.rules.plan import Adl

Array = npt.NDArray[Any]

Offer = Callable[[int, Array, Array], Array]
"""What of a need the winners of some rows of a ranking give, of what they have left."""

CLOSED = np.dtype(
    [(name, "i8") for name in ("position", "size", "cost", "left", "equity", "maintenance", "refused")]
)
"""A winner while pieces of it are closed: unsigned size, what of it may still be closed, its pool's standing."""


@kernel
def is_not_worse(
    equity: int, maintenance: int, equity_before: int, maintenance_before: int, always: bool
) -> bool:
    """Tell whether a close leaves a pool no worse: solvent and, below maintenance, with no lower ratio of both.

    Args:
        equity: Equity after it, in atoms.
        maintenance: Maintenance after it, not negative.
        equity_before: Equity before it, above 0.
        maintenance_before: Maintenance before it, not negative.
        always: Whether the ratio may not fall above maintenance either.
    """
    if maintenance == 0:
        return bool(equity >= 0)
    if not always and equity >= maintenance:
        return True
    if equity <= 0:
        return False
    high, low = multiply(equity, maintenance_before)
    other_high, other_low = multiply(equity_before, maintenance)
    return bool(high > other_high or (high == other_high and low >= other_low))


@kernel
def _accepts(
    s: Arrays, market: int, w: Any, piece: int, is_short: bool, value: int, fee: int, always: bool
) -> bool:
    """Close a piece of a winner at a value if it is not worse off by it; its record is what is left then."""
    m = s.markets[market]
    side = -1 if is_short else 1
    inverse = m.inverse != 0
    notional, size = notional_at(m, w.size, m.mark), w.size - piece
    cost = w.cost - (1 if w.cost > 0 else -1) * muldiv(abs(w.cost), piece, w.size, FLOOR)
    rest = notional_at(m, size, m.mark) if size else i64(0)
    # A winner that is short buys the piece back: it pays the signed value of the purchase.
    paid = signed_value(-side * piece, abs(value), inverse)
    worth = signed_value(side * w.size, notional, inverse)
    left = signed_value(side * size, rest, inverse) if size else i64(0)
    equity = w.equity - worth + left - paid - fee
    maintenance = w.maintenance - maintenance_of(s.tiers, m, w.size, w.cost, notional)
    if size:
        maintenance += maintenance_of(s.tiers, m, size, cost, rest)
    if not is_not_worse(equity, maintenance, w.equity, w.maintenance, always):
        return False
    w.size, w.cost, w.equity, w.maintenance = size, cost, equity, maintenance
    w.left -= piece
    return True


@allocating_kernel
def _walk(
    s: Arrays, order: Any, done: Array, winners: Array, offered: Array, price: int, rate: int, always: bool
) -> tuple[Array, Array]:
    """Close a loser against what winners offer, in their order; those who would be worse off refuse.

    Args:
        s: The state.
        order: LOSING record.
        done: int64[2]: quantity and value at bankruptcy of its pieces so far; changed.
        winners: CLOSED records in order of rank; changed.
        offered: What each offers, unsigned.
        price: Place in the list of prices.
        rate: Fee of a winner, in 1e-12.
        always: See :func:`is_not_worse`.

    Returns:
        The winner of each piece, and its quantity.
    """
    who, pieces = np.empty(len(winners), np.int64), np.empty(len(winners), np.int64)
    count = 0
    for i in range(len(winners)):
        w = winners[i]
        piece = min(offered[i], w.left, order.quantity - done[0])
        if piece <= 0:
            continue
        part = i64(0)
        if order.has_value:
            part = bankruptcy_part(s, order, piece, done[0], done[1])
        value = piece_value(s, order, piece, price, part)
        is_short = order.is_short == 0
        fee = fee_of(abs(value), rate)
        if not _accepts(s, i64(order.market), w, piece, is_short, value, fee, always):
            w.refused = 1
            continue
        who[count], pieces[count] = i, piece
        count += 1
        done[0] += piece
        done[1] += part
    return who[:count], pieces[:count]


def guarded_pairs(
    s: Arrays, losing: Array, ranking: Ranking, most: Array, offer: Offer | None, rule: Adl, price: int
) -> tuple[Array, Array, Array]:
    """Pair losers with winners so that nobody is worse off; the loser, winner and quantity of each piece.

    Each loser in turn asks all winners who have something left, whoever refused another. What those who refuse
    it do not give it asks of the others: in a queue of the next in rank, else as the policy shares it anew.

    Args:
        s: The state.
        losing: LOSING records of one market and side, in order.
        ranking: The winners.
        most: The most that each gives, unsigned.
        offer: The policy; None is a queue.
        rule: The rules.
        price: Place in the list of prices.
    """
    winners = np.zeros(len(ranking.size), CLOSED)
    for name in ("position", "size", "cost", "equity"):
        winners[name] = ranking.winners[name]
    winners["maintenance"], winners["left"] = ranking.winners["pool_maintenance"], most
    always = rule.must_not_worsen == "always"
    found: list[tuple[int, Array, Array]] = []
    for number in range(len(losing)):
        order, done = losing[number], np.zeros(2, np.int64)
        winners["refused"] = 0
        while True:
            rows = np.flatnonzero((winners["left"] > 0) & (winners["refused"] == 0))
            need = int(order["quantity"] - done[0])
            if not need or not len(rows):
                break
            offered = np.zeros(len(winners), np.int64)
            left = winners["left"][rows]
            offered[rows] = left if offer is None else offer(need, rows, left)
            refusals = int(winners["refused"].sum())
            who, pieces = _walk(s, order, done, winners, offered, price, rule.winner_fee_rate, always)
            found.append((number, who, pieces))
            if offer is None or int(winners["refused"].sum()) == refusals:
                break
    if not found:
        nothing = np.zeros(0, np.int64)
        return nothing, nothing, nothing
    loser = np.concatenate([np.full(len(who), number, np.int64) for number, who, _ in found])
    return loser, np.concatenate([who for _, who, _ in found]), np.concatenate([p for _, _, p in found])
