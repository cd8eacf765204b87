"""Auto-deleveraging: what of which loser is closed against whom, and how that is booked.

One ranking per (market, side, step), see :mod:`replay.loop.ranking`; losers in canonical order meet winners in rank
order by two cumulative sums.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from replay.exact import HALF_EVEN, OVERFLOW, muldiv, signed_value
from replay.kernels import allocating_kernel, kernel
from replay.loop.ledger import add_cash, book
from replay.loop.state import Arrays
from replay.units import RATE_ONE

Array = npt.NDArray[Any]


@allocating_kernel
def pair_queue(losers: Array, winners: Array) -> tuple[Array, Array, Array]:
    """Pair quantities of losers, in order, with quantities of winners, in order: a queue.

    Args:
        losers: Unsigned quantities to close.
        winners: Unsigned quantities available.

    Returns:
        For each piece the index of the loser, the index of the winner, and its quantity. The pieces sum to
        the smaller of both totals.
    """
    most = len(losers) + len(winners)
    loser, winner, pieces = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    count, i, j = 0, 0, 0
    need = losers[0] if len(losers) else 0
    there = winners[0] if len(winners) else 0
    while i < len(losers) and j < len(winners):
        piece = min(need, there)
        if piece > 0:
            loser[count], winner[count], pieces[count] = i, j, piece
            count += 1
        need -= piece
        there -= piece
        if need == 0:
            i += 1
            need = losers[i] if i < len(losers) else 0
        if there == 0:
            j += 1
            there = winners[j] if j < len(winners) else 0
    return loser[:count], winner[:count], pieces[:count]


@kernel
def book_pairs(
    s: Arrays,
    losers: Array,
    winners: Array,
    quantities: Array,
    values: Array,
    loser_rate: int,
    winner_rate: int,
    loser_fees: Array,
    winner_fees: Array,
    realised: Array,
) -> None:
    """Close pieces of losing positions against winning ones.

    Args:
        s: The state.
        losers: Position slots that lose; each piece closes part of them.
        winners: Position slots on the other side.
        quantities: Unsigned quantities of the pieces.
        values: Unsigned contract values of the pieces in atoms.
        loser_rate: Fee of the loser, in 1e-12 of value.
        winner_rate: Fee of the winner.
        loser_fees: Filled with the fees of the losers.
        winner_fees: Filled with the fees of the winners.
        realised: Filled with the changes of the winners' cash, fees included.
    """
    for i in range(len(losers)):
        loser, winner = s.positions[losers[i]], s.positions[winners[i]]
        inverse = s.markets[loser.market].inverse != 0
        quantity = -quantities[i] if loser.size > 0 else quantities[i]
        value = signed_value(quantity, values[i], inverse)
        cash = s.pools[winner.pool].cash
        book(s, losers[i], quantity, value, value)
        book(s, winners[i], -quantity, -value, -value)
        ledger = s.markets[loser.market].ledger
        # A loser closed at its bankruptcy price has nothing left to pay a fee with.
        loser_fees[i] = 0
        if s.pools[loser.pool].special == 0:
            loser_fees[i] = min(fee_of(values[i], loser_rate), max(0, s.pools[loser.pool].cash))
        winner_fees[i] = fee_of(values[i], winner_rate)
        add_cash(s, loser.pool, -loser_fees[i])
        add_cash(s, winner.pool, -winner_fees[i])
        realised[i] = s.pools[winner.pool].cash - cash
        add_cash(s, s.ledgers[ledger].fees_pool, loser_fees[i] + winner_fees[i])


@kernel
def fee_of(value: int, rate: int) -> int:
    """Return the fee of a value at a rate in 1e-12, half to even; none of a value beyond all bounds."""
    fee = muldiv(value, rate, RATE_ONE, HALF_EVEN)
    return 0 if fee == OVERFLOW else fee
