"""Samples of a replay: markets, and the positions of accounts that are followed.

A sample of moment T is the state at the end of the last step at or before T, whatever comes later. Where no
step has happened since the sample before, there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from replay.loop.cascade import Cascade
from replay.loop.margin import is_valued, valuation
from replay.loop.ranking import Ranking, rank_winners
from replay.loop.rows import Sink
from replay.loop.state import State
from replay.loop.waterfall import value_of_sizes
from replay.rules.plan import Adl
from replay.tape.schema import Grade, Payoff, Side

Array = npt.NDArray[Any]


class Sampler:
    """Writes ``market_series`` and ``account_series``.

    Args:
        state: The state.
        cascade: The waterfall, for depth and absorber; None where the rules only judge.
        adl: How winners are ranked; None without ADL.
        sink: Receives the rows.
        watched: Accounts followed from the start; those that the waterfall touches are followed from then on.
    """

    def __init__(
        self, state: State, cascade: Cascade | None, adl: Adl | None, sink: Sink, watched: Sequence[int]
    ) -> None:
        self._state = state
        self._cascade = cascade
        self._adl = adl
        self._sink = sink
        self._watched = set(watched)
        self._markets = [market.id for market in state.markets if market.payoff != Payoff.SPOT]

    def sample(self, ts: int) -> None:
        """Write the samples of moment ``ts``."""
        self._sample_markets(ts)
        self._sample_accounts(ts)

    def _sample_markets(self, ts: int) -> None:
        state, cascade = self._state, self._cascade
        positions = state.positions
        longs = positions["size"] > 0
        interest = np.zeros(len(state.markets), np.int64)
        np.add.at(interest, positions["market"][longs], positions["size"][longs])
        marked = [m for m in self._markets if state.arrays.markets[m]["has_mark"]]
        if not marked:
            return
        depth = None if cascade is None else cascade.depth
        absorbers = None if cascade is None else cascade.absorbers
        offered = [
            (None, None)
            if depth is None
            else tuple(depth.offered(m, side, ts) for side in (Side.BID, Side.ASK))
            for m in marked
        ]
        books = state.arrays.markets["book"][marked]
        self._sink.append(
            "market_series",
            {
                "ts": np.full(len(marked), ts),
                "market": marked,
                "ledger": [state.markets[m].ledger for m in marked],
                "mark": state.arrays.markets["mark"][marked],
                "open_interest": interest[marked],
                "bid_depth": pa.array([bid for bid, _ in offered], pa.int64()),
                "ask_depth": pa.array([ask for _, ask in offered], pa.int64()),
                "book_size": state.arrays.positions["size"][books],
                "fund_balance": pa.array(
                    [None if absorbers is None else absorbers.balance(m) for m in marked], pa.int64()
                ),
                "fund_size": pa.array(
                    [None if absorbers is None else absorbers.size(m) for m in marked], pa.int64()
                ),
            },
        )

    def _sample_accounts(self, ts: int) -> None:
        state = self._state
        touched = state.pools["account"][state.pools["touched"] != 0].tolist()
        followed = np.array(sorted({*self._watched, *touched}), np.int64)
        if not len(followed):
            return
        positions = state.positions
        mine = np.isin(state.pools["account"][positions["pool"]], followed) & (positions["size"] != 0)
        append_standing(state, self._adl, self._sink, ts, np.flatnonzero(mine))


def append_standing(state: State, adl: Adl | None, sink: Sink, ts: int, slots: Array) -> None:
    """Write where open positions stand: equity, maintenance and rank; one row of ``account_series`` each.

    Args:
        state: The state.
        adl: How winners are ranked; None without ADL.
        sink: Receives the rows.
        ts: Moment of the rows.
        slots: Position slots, ascending.
    """
    records = state.positions[slots]
    marked = state.arrays.markets["has_mark"][records["market"]] != 0
    slots, records = slots[marked], records[marked]
    if not len(slots):
        return
    markets = records["market"].astype(np.int64)
    marks = state.arrays.markets["mark"][markets]
    pools = state.pools[records["pool"]]
    equity, maintenance, judged = _equities(state, records["pool"])
    ranks, candidates, lights = _ranks(state, adl, slots, markets, records["size"])
    sink.append(
        "account_series",
        {
            "ts": np.full(len(slots), ts),
            "account": pools["account"],
            "ledger": pools["ledger"],
            "market": markets,
            "mode": records["mode"],
            "size": records["size"],
            "cost": records["cost"],
            "mark": marks,
            "value": value_of_sizes(state, markets, records["size"], marks),
            "equity": pa.array(equity, mask=~judged),
            "maintenance": pa.array(maintenance, mask=~judged),
            "rank": pa.array(ranks, mask=ranks == 0),
            "candidates": pa.array(candidates, mask=ranks == 0),
            "lights": pa.array(lights, mask=ranks == 0),
        },
    )


def _equities(state: State, pools: Array) -> tuple[Array, Array, Array]:
    """Return equity and maintenance of pools, row by row, and whether both are known."""
    known: dict[int, tuple[int, int, bool]] = {}
    for pool in np.unique(pools).tolist():
        record = state.pools[pool]
        is_known = bool(record["special"]) or int(record["grade"]) != Grade.UNKNOWN
        if is_known and is_valued(state.arrays, pool):
            equity, maintenance, _ = valuation(state.arrays, pool)
            known[pool] = (int(equity), int(maintenance), True)
        else:
            known[pool] = (0, 0, False)
    rows = [known[pool] for pool in pools.tolist()]
    return (
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], bool),
    )


def _ranks(
    state: State, adl: Adl | None, slots: Array, markets: Array, sizes: Array
) -> tuple[Array, Array, Array]:
    """Return rank (0: no candidate), number of candidates and lights of positions, row by row."""
    ranks, candidates, lights = (np.zeros(len(slots), np.int64) for _ in range(3))
    if adl is None:
        return ranks, candidates, lights
    for rows, ranking in _rankings(state, adl, markets, sizes):
        order = np.argsort(ranking.position)
        place = np.searchsorted(ranking.position, slots[rows], sorter=order)
        place = order[np.minimum(place, len(order) - 1)] if len(order) else place
        for row, rank in zip(rows.tolist(), place.tolist(), strict=True):
            if rank < len(ranking.position) and ranking.position[rank] == slots[row]:
                ranks[row], candidates[row] = rank + 1, len(ranking.position)
                lights[row] = ranking.lights[rank]
    return ranks, candidates, lights


def _rankings(state: State, adl: Adl, markets: Array, sizes: Array) -> Iterator[tuple[Array, Ranking]]:
    """Yield, per market and side, the rows there and the ranking of the winners of that side."""
    for market in np.unique(markets).tolist():
        for is_long in (True, False):
            rows = np.flatnonzero((markets == market) & ((sizes > 0) == is_long))
            if len(rows):
                yield (
                    rows,
                    rank_winners(state, market, adl, losers_are_long=not is_long),
                )
