"""The list of a market's open positions holds what is open, whatever happened between two questions."""

from __future__ import annotations

import numpy as np
import pytest

from replay.loop.holders import holders_of, in_profit
from replay.loop.ledger import book
from replay.loop.state import State
from tests.waterfall.small import ATOMS, hold, inverse, linear, set_mark, state_of


def crowd(rng: np.random.Generator) -> State:
    state = state_of(linear(), inverse(1))
    for market in range(2):
        set_mark(state, 100, market)
        for number in range(300):
            size = int(rng.integers(-20, 20))
            if size:
                hold(state, f"a{number}", size, int(rng.integers(60, 150)), 1_000_000, market=market)
    return state


def open_slots(state: State, market: int) -> set[int]:
    is_open = (state.positions["market"] == market) & (state.positions["size"] != 0)
    return set(np.flatnonzero(is_open).tolist())


def profit(state: State, slot: int, mark: int) -> int:
    """Value less cost in atoms; a contract is worth its price, an inverse one 100 by the price."""
    position = state.positions[slot]
    size, cost = int(position["size"]), int(position["cost"])
    if position["market"] == 0:
        return size * mark * ATOMS - cost
    return round(-100 * size * ATOMS / mark) - cost


@pytest.mark.parametrize("market", [0, 1], ids=["linear", "inverse"])
def test_it_follows_bookings_and_marks(market: int) -> None:
    """Positions are enlarged, reduced, closed, turned and opened anew between fifty questions."""
    rng = np.random.default_rng(5)
    state = crowd(rng)
    for _ in range(50):
        for slot in rng.choice(sorted(np.flatnonzero(state.positions["market"] == market)), 20).tolist():
            size, price = int(state.positions[slot]["size"]), int(rng.integers(60, 150))
            qty = (
                -size if rng.random() < 0.3 and size else int(rng.integers(1, 30)) * int(rng.choice([-1, 1]))
            )
            worth = ATOMS * price if market == 0 else -round(100 * ATOMS / price)
            closing = -size * worth if size and (size > 0) != (qty > 0) and abs(qty) > abs(size) else 0
            book(state.arrays, slot, qty, qty * worth, closing)
        assert set(holders_of(state, market).tolist()) == open_slots(state, market)
        mark = int(rng.integers(60, 150))
        set_mark(state, mark, market)
        for is_long in (False, True):
            side = {
                slot for slot in open_slots(state, market) if (state.positions[slot]["size"] > 0) == is_long
            }
            every = in_profit(state.arrays, market, is_long, True).tolist()
            assert sorted(every) == sorted(side)
            found = in_profit(state.arrays, market, is_long, False).tolist()
            winning = {slot for slot in side if profit(state, slot, mark) > 0}
            assert len(set(found)) == len(found)
            assert winning <= set(found) <= side
            assert len(set(found) - winning) < len(side) // 4 + 2, "it leaves most of the losers out"
