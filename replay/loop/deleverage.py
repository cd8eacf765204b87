"""Auto-deleveraging that the host runs: a policy shares among winners, or winners must not be worse off by it.

A plain queue is compiled whole, see :mod:`replay.loop.queue`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from replay.loop.adl import pair_queue
from replay.loop.closing import CLOSING_COLUMNS, close_side, stages_to_close
from replay.loop.episodes import Episodes
from replay.loop.fund import Funds
from replay.loop.policies.registry import QUEUE, named_policy
from replay.loop.policies.wiring import taken_by
from replay.loop.queue import Queue, price_now
from replay.loop.ranking import Ranking, rank_winners
from replay.loop.rows import Rows
from replay.loop.safeguard import guarded_pairs
from replay.loop.state import State
from replay.rules.plan import Adl
from replay.units import RATE_ONE

Array = npt.NDArray[Any]


class Deleveraging:
    """Closes losers against winners and accounts for it in their liquidations.

    Args:
        state: The state.
        rule: How winners are ranked, priced and charged.
        queue: The same as compiled code sees it.
        rows: Receives the rows.
        episodes: The open liquidations.
    """

    def __init__(self, state: State, rule: Adl, queue: Queue, rows: Rows, episodes: Episodes) -> None:
        self._state = state
        self._rule = rule
        self._queue = queue
        self._rows = rows
        self._episodes = episodes
        self._policy = None if rule.method == QUEUE else named_policy(rule.method)

    def close(self, ts: int, funds: Funds, losing: Array) -> None:
        """Close losers against the ranked winners of their market, one ranking per market and side.

        Args:
            ts: The step.
            funds: The absorbers.
            losing: LOSING records in order, see :func:`replay.loop.queue.sides_in_order`.
        """
        side = 2 * losing["market"] + losing["is_short"]
        starts = np.flatnonzero(np.diff(side, prepend=-1))
        for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(side)], strict=True):
            self._close_side(ts, funds, losing[start:end])

    def _close_side(self, ts: int, funds: Funds, losing: Array) -> None:
        market, need = int(losing["market"][0]), int(losing["quantity"].sum())
        ranking = rank_winners(self._state, market, self._rule, losers_are_long=not losing["is_short"][0])
        price = int(price_now(self._state.arrays, funds, self._queue, market))
        loser, winner, pieces = self._pairs(market, need, losing, ranking, price)
        self._rows.reserve(adl=len(pieces), stages=stages_to_close(funds))
        close_side(
            self._state.arrays,
            funds,
            self._episodes.arrays,
            self._rows.arrays,
            ts,
            losing,
            loser,
            winner,
            pieces,
            ranking.winners,
            ranking.lights,
            ranking.candidates,
            price,
            self._rule.loser_fee_rate,
            self._rule.winner_fee_rate,
            self._rule.residual_to_absorber,
            np.empty((CLOSING_COLUMNS, len(pieces)), np.int64),
            np.zeros((2, len(funds.rule)), np.int64),
        )

    def _pairs(
        self, market: int, need: int, losing: Array, ranking: Ranking, price: int
    ) -> tuple[Array, Array, Array]:
        """Return the loser, the winner and the quantity of each piece."""
        lot, arrays = self._state.markets[market].lot, self._state.arrays
        if not self._rule.must_not_worsen:
            offered = self._capped(ranking.size, lot)
            if self._policy is not None:
                offered = taken_by(self._policy, need, lot, ranking.winners, self._rule.method)
            return pair_queue(losing["quantity"].copy(), offered)
        policy = self._policy
        if policy is None:
            most = self._capped(ranking.size, lot)
            return guarded_pairs(arrays, losing, ranking, most, None, self._rule, price)

        def offer(need: int, rows: Array, left: Array) -> Array:
            some = ranking.winners[rows]
            some["size"] = left
            return taken_by(policy, need, lot, some, self._rule.method)

        return guarded_pairs(arrays, losing, ranking, ranking.size, offer, self._rule, price)

    def _capped(self, sizes: Array, lot: int) -> Array:
        """Return what a queue may close of each winner: a share in whole lots, one at least."""
        if self._rule.winner_cap == RATE_ONE:
            return sizes
        capped = [size * self._rule.winner_cap // RATE_ONE // lot * lot for size in sizes.tolist()]
        return np.minimum(np.maximum(np.array(capped, np.int64), lot), sizes)
