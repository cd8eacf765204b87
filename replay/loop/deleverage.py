"""Auto-deleveraging of one step: losers of all pools and of the absorber against ranked winners."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from replay.kernels import i64, kernel
from replay.loop.absorbers import AbsorberBook
from replay.loop.adl import Ranking, book_pairs, pair_queue, rank_winners
from replay.loop.books import value_of
from replay.loop.episodes import Episodes
from replay.loop.margin import valued_pool
from replay.loop.policies.registry import QUEUE, named_policy
from replay.loop.policies.wiring import taken_by
from replay.loop.rows import CascadeRows, Sink, append_rows
from replay.loop.state import Arrays, State
from replay.loop.waterfall import parts_of_values, signed_like, value_of_sizes
from replay.rules.plan import Adl
from replay.units import BOUND, RATE_ONE

Array = npt.NDArray[Any]


@dataclass(slots=True)
class Losing:
    """A position, or part of one, that goes to auto-deleveraging.

    ``value`` is the signed contract value of the whole quantity at which it is closed, or None for the price
    of the rules. ``origin`` says where it comes from: the pool's own ladder, or an absorber.
    """

    position: int
    pool: int
    market: int
    quantity: int
    value: int | None
    origin: str
    equity: int
    episode: int


class Deleveraging:
    """Closes losers against winners and accounts for it in their liquidations.

    Args:
        state: The state.
        rule: How winners are ranked, priced and charged.
        sink: Receives the rows.
        rows: Writes the absorber's movements.
        episodes: The open liquidations.
        absorber: The fund or vault, if the rules have one.
    """

    def __init__(
        self,
        state: State,
        rule: Adl,
        sink: Sink,
        rows: CascadeRows,
        episodes: Episodes,
        absorber: AbsorberBook | None,
    ) -> None:
        self._state = state
        self._rule = rule
        self._sink = sink
        self._rows = rows
        self._episodes = episodes
        self._absorber = absorber
        self._policy = None if rule.method == QUEUE else named_policy(rule.method)
        self._is_plain_queue = self._policy is None and rule.winner_cap == RATE_ONE

    def close(self, ts: int, losing: list[Losing]) -> set[int]:
        """Close losers against the ranked winners of their market, one ranking per market and side.

        Returns:
            The accounts of the winners that were closed.
        """
        winners: set[int] = set()
        losing.sort(key=lambda order: (order.episode < 0, order.pool, order.position))
        sizes = self._state.positions["size"][[order.position for order in losing]].tolist()
        sides: dict[tuple[int, bool], list[Losing]] = {}
        for order, size in zip(losing, sizes, strict=True):
            sides.setdefault((order.market, size < 0), []).append(order)
        for market, is_short in sorted(sides):
            winners |= self._close_side(ts, market, not is_short, sides[market, is_short])
        return winners

    def _close_side(self, ts: int, market: int, is_long: bool, orders: list[Losing]) -> set[int]:
        state, rule = self._state, self._rule
        arrays = state.arrays
        quantities = np.array([order.quantity for order in orders], np.int64)
        ranking = rank_winners(
            state,
            market,
            rule,
            losers_are_long=is_long,
            need=int(quantities.sum()) if self._is_plain_queue else None,
        )
        loser, winner, pieces = pair_queue(quantities, self._offered(market, quantities, ranking))
        values = self._piece_values(market, is_long, orders, loser, pieces)
        loser_slots = np.array([order.position for order in orders], np.int64)[loser]
        winner_slots = ranking.position[winner]
        before = _Sides(state, loser_slots, winner_slots)
        loser_fees, winner_fees, realised = (np.zeros(len(pieces), np.int64) for _ in range(3))
        book_pairs(
            arrays,
            loser_slots,
            winner_slots,
            pieces,
            np.abs(values),
            rule.loser_fee_rate,
            rule.winner_fee_rate,
            loser_fees,
            winner_fees,
            realised,
        )
        after = _Sides(state, loser_slots, winner_slots)
        for index, value in zip(loser.tolist(), values.tolist(), strict=True):
            order = orders[index]
            if order.episode < 0 and self._absorber is not None:
                self._absorber.book(market, value)
        is_leg = np.array([order.episode >= 0 for order in orders], bool)[loser]
        legs = self._episodes.rows(loser_slots[is_leg])
        np.add.at(self._episodes.legs["adl"], legs, pieces[is_leg])
        np.subtract.at(self._episodes.legs["left"], legs, pieces[is_leg])
        self._write(
            ts,
            market,
            orders,
            loser,
            winner,
            pieces,
            values,
            ranking,
            before,
            after,
            loser_fees,
            winner_fees,
            realised,
        )
        return set(state.pools["account"][ranking.pool[winner]].tolist())

    def _offered(self, market: int, quantities: Array, ranking: Ranking) -> Array:
        """Return what each winner gives: in a queue the whole position up to the cap, else what the policy says.

        A cap is rounded down to lots, and to one lot at least.
        """
        if self._is_plain_queue:
            return ranking.size
        if self._policy is None:
            one = self._state.markets[market].lot
            capped = [size * self._rule.winner_cap // RATE_ONE // one * one for size in ranking.size.tolist()]
            return np.minimum(np.maximum(np.array(capped, np.int64), one), ranking.size)
        lot = self._state.markets[market].lot
        return taken_by(self._policy, int(quantities.sum()), lot, ranking.winners, self._rule.method)

    def _piece_values(
        self, market: int, is_long: bool, orders: list[Losing], loser: Array, pieces: Array
    ) -> Array:
        """Return the signed value of the part of the loser that each piece closes.

        No price is below zero: where a bankruptcy value has the other sign, because the position's share of
        the pool's deficit is larger than its notional, it is closed for nothing and the rest is bad debt.
        """
        arrays = self._state.arrays
        record = arrays.markets[market]
        is_positive = is_long != bool(record["inverse"])
        mark = self._price(record)
        quantities = pieces if is_long else -pieces
        values = value_of_sizes(
            self._state, np.full(len(pieces), market), quantities, np.full(len(pieces), mark)
        )
        least, most = (0, BOUND) if is_positive else (-BOUND, 0)
        # The pieces of a loser stand together, in the order of the losers.
        ends = np.searchsorted(loser, np.arange(len(orders)), side="right").tolist()
        start = 0
        for order, end in zip(orders, ends, strict=True):
            if order.value is not None and end > start:
                whole = min(max(order.value, least), most)
                parts = _shared(whole, order.quantity, pieces[start:end])
                if self._rule.price == "clamped_oracle" and order.episode >= 0:
                    parts = np.maximum(values[start:end], parts)  # never worse for the loser
                values[start:end] = parts
            start = end
        return values

    def _price(self, record: Any) -> int:
        """Return the price of the rules in the scale of marks; the mark before a market's first oracle."""
        if self._rule.price == "previous_mark":
            return int(record["previous_mark"])
        if self._rule.price in ("oracle", "clamped_oracle") and record["oracle"]:
            return int(record["oracle"])
        return int(record["mark"])

    def _write(
        self,
        ts: int,
        market: int,
        orders: list[Losing],
        loser: Array,
        winner: Array,
        pieces: Array,
        values: Array,
        ranking: Ranking,
        before: _Sides,
        after: _Sides,
        loser_fees: Array,
        winner_fees: Array,
        realised: Array,
    ) -> None:
        state = self._state
        info = state.markets[market]
        count = len(pieces)
        episodes = np.array([order.episode for order in orders], np.int64)[loser]
        accounts = state.pools["account"]
        if count:
            self._sink.append(
                "adl_fills",
                {
                    "ts": np.full(count, ts),
                    "liquidation": pa.array(episodes, mask=episodes < 0),
                    "loser": accounts[np.array([order.pool for order in orders], np.int64)[loser]],
                    "winner": accounts[ranking.pool[winner]],
                    "market": np.full(count, market),
                    "ledger": np.full(count, info.ledger),
                    "origin": [orders[index].origin for index in loser.tolist()],
                    "rank": winner + 1,
                    "candidates": np.full(count, ranking.candidates),
                    "score": ranking.score[winner],
                    "lights": ranking.lights[winner],
                    "quantity": pieces,
                    "value": values,
                    "mark": np.full(count, int(state.arrays.markets[market]["mark"])),
                    "realised": realised,
                    "loser_fee": loser_fees,
                    "winner_fee": winner_fees,
                    "loser_size_before": before.loser_size,
                    "loser_size_after": after.loser_size,
                    "winner_size_before": before.winner_size,
                    "winner_size_after": after.winner_size,
                    "loser_equity_before": before.loser_equity,
                    "loser_equity_after": after.loser_equity,
                    "winner_equity_before": before.winner_equity,
                    "winner_equity_after": after.winner_equity,
                    "winner_notional_before": before.winner_notional,
                },
            )
        needed = sum(order.quantity for order in orders)
        scope = self._absorber.rule.account if self._absorber is not None else "@book"
        append_rows(
            self._sink,
            "engagements",
            [
                {
                    "ts": ts,
                    "scope": scope,
                    "market": market,
                    "ledger": info.ledger,
                    "stage": "adl",
                    "state": "engaged",
                    "reason": f"no stage before could close them: {len(orders)} orders",
                    "measured": sum(order.equity for order in orders),
                    "threshold": 0,
                    "fund_balance": None if self._absorber is None else self._absorber.balance(info.ledger),
                    "quantity": needed,
                    "shadow": 0,
                }
            ],
        )
        if self._absorber is not None:
            own = [i for i, index in enumerate(loser.tolist()) if orders[index].episode < 0]
            if own:
                worth = sum(
                    value_of(
                        state,
                        market,
                        signed_like(int(pieces[i]), int(before.loser_size[i])),
                        int(state.arrays.markets[market]["mark"]),
                        at_mark=True,
                    )
                    for i in own
                )
                gained = sum(int(values[i]) for i in own) - worth
                self._rows.movements(ts, "deleveraged", np.array([market]), np.array([gained]))


def _shared(whole: int, quantity: int, pieces: Array) -> Array:
    """Share a signed value over pieces of its quantity; the piece that closes it takes the rest."""
    values = parts_of_values(np.full(len(pieces), whole), pieces, np.full(len(pieces), quantity))
    if int(pieces.sum()) == quantity:
        values[-1] = whole - int(values[:-1].sum())
    return values


class _Sides:
    """Sizes and equities of both sides of ADL pieces at one moment."""

    def __init__(self, state: State, losers: Array, winners: Array) -> None:
        positions = state.positions
        self.loser_size = positions["size"][losers].copy()
        self.winner_size = positions["size"][winners].copy()
        loser_pools, winner_pools = positions["pool"][losers], positions["pool"][winners]
        self.loser_equity, _ = _equities(state, loser_pools)
        self.winner_equity, self.winner_notional = _equities(state, winner_pools)


def _equities(state: State, pools: Array) -> tuple[Array, Array]:
    """Return equity and notional of pools at the marks, in atoms; 0 of those without a value."""
    equity, notional = np.zeros(len(pools), np.int64), np.zeros(len(pools), np.int64)
    _value(state.arrays, pools, equity, notional)
    return equity, notional


@kernel
def _value(s: Arrays, pools: Array, equity: Array, notional: Array) -> None:
    for i in range(len(pools)):
        if valued_pool(s, i64(pools[i])):
            equity[i], notional[i] = s.valuations[pools[i]][0], s.valuations[pools[i]][2]
