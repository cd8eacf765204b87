"""Recorded forced orders against depth and fund of the rules (``--execution depth``); nothing is booked.

The tape decides what is forced and how much; the rules say how much of it their depth would take, what the
absorber could take of the rest, and what would be left to auto-deleveraging.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from replay.loop.absorbers import AbsorberBook
from replay.loop.depth import NO_LIMIT, Depth
from replay.loop.state import State
from replay.loop.waterfall import limit_at_bankruptcy, part_of_value, value_of_sizes
from replay.rules.plan import BookOrder, Plan
from replay.tape.schema import FillKind, Side
from replay.units import RATE_ONE

Array = npt.NDArray[Any]


class Executed(NamedTuple):
    """Unsigned quantities of one recorded forced order: into the book, taken over, left to deleveraging."""

    book: int
    absorbed: int
    adl_needed: int


class RecordedExecution:
    """Sends the recorded forced orders of each step through depth and absorber.

    The absorber begins with its balance on the tape; what it would lose or gain by each takeover at the mark
    is kept in a tally beside the books, as they stay those of the record.

    Args:
        state: The state.
        plan: The compiled rules.
        start_ts: Beginning of the tape.
    """

    def __init__(self, state: State, plan: Plan, start_ts: int) -> None:
        self._state = state
        self._rung = next((rung for rung in plan.ladder if isinstance(rung, BookOrder)), None)
        self.depth = None if plan.depth is None else Depth(state, plan.depth)
        self.absorber = None if plan.absorber is None else AbsorberBook(state, plan.absorber, start_ts)
        self._exempt = () if plan.adl is None else plan.adl.exempt_markets
        self._tally: dict[int, int] = {}
        self.results: dict[tuple[int, int], Executed] = {}

    def step(self, ts: int, shadows: Array) -> None:
        """Execute the orders that the tape forced in a step; results are kept by (position, ts)."""
        kinds = (int(FillKind.LIQUIDATION), int(FillKind.BACKSTOP))
        orders = shadows[np.isin(shadows["kind"], kinds) & (shadows["fill_qty"] != 0)]
        orders = orders[np.argsort(orders["position"], kind="stable")]
        markets = self._state.positions["market"][orders["position"]].astype(np.int64)
        for market in np.unique(markets).tolist():
            for side, is_sale in ((Side.BID, True), (Side.ASK, False)):
                mine = orders[(markets == market) & ((orders["fill_qty"] < 0) == is_sale)]
                if len(mine):
                    self._execute(ts, market, side, mine)

    def _execute(self, ts: int, market: int, side: Side, orders: Array) -> None:
        asked = np.abs(orders["fill_qty"])
        filled = np.zeros(len(orders), np.int64)
        if self.depth is not None:
            limits = np.array([self._limit(market, order) for order in orders], np.int64)
            filled, _ = self.depth.fill(market, side, ts, asked, limits, np.zeros(len(orders), bool))
        for order, quantity, into_book in zip(orders, asked.tolist(), filled.tolist(), strict=True):
            absorbed = self._absorb(market, order, quantity - into_book)
            key = (int(order["position"]), ts)
            self.results[key] = Executed(into_book, absorbed, quantity - into_book - absorbed)

    def _limit(self, market: int, order: Any) -> int:
        if self._rung is None or self._rung.limit == "none" or not self._is_known(order):
            return NO_LIMIT
        return limit_at_bankruptcy(self._state, market, int(order["size"]), int(order["bankruptcy_value"]))

    @staticmethod
    def _is_known(order: Any) -> bool:
        """Tell whether the bankruptcy price is: the equity is, and the order closes what the replay holds."""
        closes = int(order["size"]) * int(order["fill_qty"]) < 0
        return bool(order["known"]) and bool(order["valued"]) and closes

    def _absorb(self, market: int, order: Any, left: int) -> int:
        """Return how much the absorber could take of a rest, at bankruptcy or else at the recorded price."""
        if self.absorber is None or left == 0:
            return 0
        sign = 1 if order["fill_qty"] < 0 else -1
        mark = int(order["mark"])
        row = (np.array([x], np.int64) for x in (market, sign * left, mark))
        worth = int(value_of_sizes(self._state, *row)[0])
        if self._is_known(order):
            paid = part_of_value(int(order["bankruptcy_value"]), left, abs(int(order["size"])))
        else:
            paid = -part_of_value(int(order["fill_value"]), left, abs(int(order["fill_qty"])))
        loss = paid - worth
        room = self._room(market)
        taken = left
        if room is not None and loss > room:
            lot = self._state.markets[market].lot
            taken = left * max(0, room) // loss // lot * lot
        self._tally[market] = self._tally.get(market, 0) - loss * taken // left
        return taken

    def _room(self, market: int) -> int | None:
        """Return the loss that the absorber may still take on in a market; None is no bound."""
        assert self.absorber is not None
        if market in self._exempt:
            return None
        rule, purse = self.absorber.rule, self.absorber.purse(market)
        opening = self.absorber.balance(purse)
        rooms = []
        if rule.stops_at_zero:
            spent = (v for m, v in self._tally.items() if self.absorber.purse(m) == purse)
            rooms.append(opening + sum(spent))
        if rule.drawdown is not None:
            rooms.append(rule.drawdown[0] * max(0, opening) // RATE_ONE + self._tally.get(market, 0))
        return max(0, min(rooms)) if rooms else None
