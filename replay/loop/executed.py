"""Recorded forced orders against depth and fund of the rules (``--execution depth``); nothing is booked.

The tape decides what is forced and how much; the rules say how much of it their depth would take, what the
absorber could take of the rest, and what would be left to auto-deleveraging.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from replay.loop.absorbers import AbsorberBook
from replay.loop.depth import NO_LIMIT, Depth
from replay.loop.fund import UNBOUNDED
from replay.loop.limits import allowance, count_paid, fit_inventory, is_off
from replay.loop.state import State
from replay.loop.waterfall import limit_at_bankruptcy, part_of_value, value_of_sizes
from replay.rules.plan import Absorber, BookOrder, Plan, Takeover
from replay.tape.schema import FillKind, Side
from replay.units import BOUND, RATE_ONE

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
        self._takers = [
            Taker(
                state, plan.absorbers[number], start_ts, () if plan.adl is None else plan.adl.exempt_markets
            )
            for number in dict.fromkeys(rung.absorber for rung in plan.ladder if isinstance(rung, Takeover))
        ]
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
            absorbed = self._absorb(ts, market, order, quantity - into_book)
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

    def _absorb(self, ts: int, market: int, order: Any, left: int) -> int:
        """Return how much absorbers could take of a rest, at bankruptcy or else at the recorded price."""
        absorbed = 0
        for taker in self._takers:
            if absorbed < left:
                absorbed += taker.take(ts, market, order, left - absorbed, is_known=self._is_known(order))
        return absorbed


class Taker:
    """What one absorber would take of recorded forced orders; what it pays and holds is kept beside the books.

    Args:
        state: The state.
        rule: The absorber.
        start_ts: Beginning of the tape.
        exempt: Ids of markets without deleveraging.
    """

    def __init__(self, state: State, rule: Absorber, start_ts: int, exempt: Sequence[int]) -> None:
        self._state = state
        self._exempt = exempt
        self._absorber = AbsorberBook(state, rule, start_ts)
        self._tally: dict[int, int] = {}
        self._held = np.zeros(len(state.markets), np.int64)

    def take(self, ts: int, market: int, order: Any, left: int, *, is_known: bool) -> int:
        """Return how much it would take of a rest of a recorded order of a market."""
        absorber, state = self._absorber, self._state
        absorber.make_room()
        if is_off(absorber.arrays, market, ts):
            return 0
        sign = 1 if order["fill_qty"] < 0 else -1
        worth = self._value(market, sign * left, int(order["mark"]))
        if is_known:
            paid = part_of_value(int(order["bankruptcy_value"]), left, abs(int(order["size"])))
        else:
            paid = -part_of_value(int(order["fill_value"]), left, abs(int(order["fill_qty"])))
        loss, taken, lot = paid - worth, left, int(state.markets[market].lot)
        pool = int(state.positions["pool"][int(order["position"])])
        if loss > 0:
            allowed = int(allowance(state.arrays, absorber.arrays, market, pool, ts))
            rooms = [room for room in (self._room(market), allowed) if room not in (None, UNBOUNDED)]
            room = min((room for room in rooms if room is not None), default=loss)
            if loss > room:
                taken = left * max(0, room) // loss // lot * lot
        taken = self._fitting(market, sign, taken)
        if loss > 0:
            count_paid(absorber.arrays, market, pool, ts, -(-loss * taken // left))
        self._tally[market] = self._tally.get(market, 0) - loss * taken // left
        self._held[market] += sign * taken
        return taken

    def _value(self, market: int, size: int, mark: int | None = None) -> int:
        """Return the signed value of a size at a mark, or at that of the market."""
        if mark is None:
            mark = int(self._state.arrays.markets[market]["mark"])
        row = (np.array([x], np.int64) for x in (market, size, mark))
        return int(value_of_sizes(self._state, *row)[0])

    def _spent(self, purse: int) -> int:
        """Return what takeovers have changed a balance by, so far."""
        return sum(v for m, v in self._tally.items() if self._absorber.purse(m) == purse)

    def _fitting(self, market: int, sign: int, taken: int) -> int:
        """Return how much of a quantity fits into what it may hold, see :func:`replay.loop.limits.fit_inventory`."""
        rule, absorber = self._absorber.rule, self._absorber
        if not rule.inventory or not taken:
            return taken
        worth, limits = np.zeros((2, len(absorber.arrays.pools)), np.int64)
        for held in np.flatnonzero(self._held).tolist():
            worth[absorber.purse(held)] += abs(self._value(held, int(self._held[held])))
        purse = absorber.purse(market)
        balance = max(0, absorber.balance(purse) + self._spent(purse))
        limits[purse] = min(balance * rule.inventory // RATE_ONE, BOUND)
        sizes = self._held.copy()
        return int(
            fit_inventory(self._state.arrays, absorber.arrays, market, sign, taken, sizes, worth, limits)
        )

    def _room(self, market: int) -> int | None:
        """Return the loss that the absorber may still take on in a market; None is no bound."""
        if market in self._exempt:
            return None
        rule, purse = self._absorber.rule, self._absorber.purse(market)
        opening = self._absorber.balance(purse)
        rooms = []
        if rule.stops_at_zero:
            rooms.append(opening + self._spent(purse))
        if rule.drawdown is not None:
            rooms.append(rule.drawdown[0] * max(0, opening) // RATE_ONE + self._tally.get(market, 0))
        return max(0, min(rooms)) if rooms else None
