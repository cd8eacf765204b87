"""A queue that values few pools has the first of the order of all, whatever was booked and moved since."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.loop.candidates import BOUNDED, OPEN, OUT, SETTLED, Asks, keep_worth, list_candidates, settle
from replay.loop.holders import has_list, in_profit
from replay.loop.ledger import add_cash
from replay.loop.margin import valued_pool
from replay.loop.ranking import rank_winners
from replay.loop.state import (
    CANDIDATE,
    MARKS_VERSION,
    SNAPSHOT,
    SNAPSHOT_VERSION,
    STEP_TS,
    TOUCHED,
    State,
)
from replay.rules.compile import NAMED_SCORES
from replay.rules.plan import Adl
from replay.tape.read import Market
from tests.waterfall.small import ATOMS, Array, Margin, hold, inverse, linear, set_mark, state_of

MARKETS = 3
RATE_ONE = 10**12


def tiers(rates: tuple[int, ...], edges: tuple[int, ...]) -> Margin:
    """The same tiers in all markets, in whole percent and whole units; maintenance jumps at an edge."""
    return Margin(
        np.arange(0, MARKETS * len(rates) + 1, len(rates), dtype=np.int64),
        np.array(edges * MARKETS, np.int64) * ATOMS,
        np.array(rates * MARKETS, np.int64) * (RATE_ONE // 100),
        np.zeros(MARKETS * len(rates), np.int64),
    )


def crowd(rng: np.random.Generator, accounts: int) -> State:
    """Accounts with positions in a linear, another linear and an inverse market, at 100 and thereabouts."""
    margin = tiers((1, 3, 10), (0, 5_000, 40_000))
    state = state_of(linear(), linear(1, "ETH"), inverse(2), margin=margin)
    for market in range(MARKETS):
        set_mark(state, 100, market)
    for number in range(accounts):
        for market in range(MARKETS):
            size = int(rng.integers(-200, 200))
            if size and (market == 0 or rng.random() < 0.6):
                cash = int(rng.integers(4_000, 20_000))
                hold(state, f"a{number}", size, int(rng.integers(80, 130)), cash, market=market)
    return state


def rules() -> list[Adl]:
    """Every named score under every loss rule."""
    return [
        Adl(*terms, loss_rule, "mark", 0, 0, lights=5)
        for terms in NAMED_SCORES.values()
        for loss_rule in ("exclude", "divide", "product", "zero", "smaller_abs_first")
    ]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: "-".join([rule.profit_term, rule.loss_rule]))
def test_the_first_of_a_queue_are_the_first_of_all(rule: Adl) -> None:
    """Marks drift by up to 3 % a step and, once, by a fifth; cash comes and goes; every step is ranked twice."""
    rng = np.random.default_rng(11)
    state = crowd(rng, 1_600)
    marks = [100.0] * MARKETS
    for step in range(8):
        for market in range(MARKETS):
            marks[market] *= 0.8 if step == 5 and market == 1 else float(rng.uniform(0.97, 1.02))
            set_mark(state, max(1, round(marks[market])), market)
        for pool in rng.integers(0, len(state.pools), 20).tolist():
            if not state.pools[pool]["special"]:
                add_cash(state.arrays, pool, int(rng.integers(-500, 5_000)) * ATOMS)
        market = step % MARKETS
        need = int(rng.integers(1, 20_000))
        few = rank_winners(state, market, rule, losers_are_long=True, need=need)
        every = rank_winners(state, market, rule, losers_are_long=True)
        assert few.candidates == every.candidates == len(every.position)
        count = min(int(np.searchsorted(np.cumsum(every.size), need)) + 1, len(every.position))
        assert len(few.position) == count, "no more than the need takes"
        for name in ("position", "score", "lights"):
            assert getattr(few, name).tolist() == getattr(every, name)[:count].tolist()


def shorts(state: State) -> Array:
    """The shorts in profit of the first market, those bounded that can be, as CANDIDATE records."""
    if not has_list(state.arrays, 0):
        state.make_lists()
    slots = in_profit(state.arrays, 0, False, False)
    found = np.zeros(len(slots) + 1, CANDIDATE)
    nobody = np.zeros(0, np.int64)
    count, _ = list_candidates(state.arrays, slots, False, nobody, Asks(True, True), found)
    return found[:count]


def standings(state: State) -> list[int]:
    found, near = shorts(state), np.zeros((2, TOUCHED), np.int64)
    settle(state.arrays, found, np.flatnonzero(found["standing"] == OPEN), Asks(True, True), near)
    standings: list[int] = found["standing"].tolist()
    assert set(standings) <= {BOUNDED, SETTLED, OUT}
    return standings


def test_bounds_of_a_pool_end_with_a_booking_to_it_or_when_values_grow() -> None:
    """At 80 a short of 10 from 100 has 200 of profit; a quarter above a mark is the most, below it nothing is."""
    state = state_of(linear())
    set_mark(state, 80)
    slot = hold(state, "short", -10, 100, 1_000)
    assert standings(state) == [SETTLED], "nothing was known before"
    set_mark(state, 75)
    assert standings(state) == [BOUNDED]
    add_cash(state.arrays, int(state.positions[slot]["pool"]), ATOMS)
    assert standings(state) == [SETTLED], "something was booked"
    set_mark(state, 20)
    assert standings(state) == [BOUNDED], "a short alone only gains"
    set_mark(state, 93)
    assert standings(state) == [BOUNDED], "93/75 is 1.240"
    set_mark(state, 94)
    assert standings(state) == [SETTLED], "94/75 is 1.253"


def test_bounds_of_a_pool_end_when_its_longs_may_have_lost_all() -> None:
    """Long 30 ETH with 1,200 and a short with 200 of profit: 3,000 may lose 46 %, not 47 % of 1,400."""
    state = state_of(linear(), linear(1, "ETH"))
    set_mark(state, 80)
    set_mark(state, 100, market=1)
    hold(state, "short", -10, 100, 1_200)
    hold(state, "short", 30, 100, 0, market=1)
    assert standings(state) == [SETTLED]
    set_mark(state, 54, market=1)
    assert standings(state) == [BOUNDED], "1,400 - 0.46 * 3,000 is 20"
    set_mark(state, 53, market=1)
    assert standings(state) == [OUT], "1,400 - 0.47 * 3,000 is below zero, and so is its equity"


def test_bounds_hold_what_a_pool_is_worth_later() -> None:
    """Short 10 at 80, equity 1,200 and notional 800: at 84 at least 1,200 - 800/20 and at most 800 * 84/80."""
    state = state_of(linear())
    set_mark(state, 80)
    hold(state, "short", -10, 100, 1_000)
    standings(state)
    set_mark(state, 84)
    row = shorts(state)[0]
    assert row["equity"] == pytest.approx((1_200 - 800 / 20) * ATOMS, rel=1e-6)
    assert row["notional"] == pytest.approx(800 * 84 / 80 * ATOMS, rel=1e-6)
    assert row["equity"] <= 1_160 * ATOMS, "which is its equity at 84"
    assert row["pool_maintenance"] == pytest.approx(8 * 84 / 80 * ATOMS, rel=1e-6), "1 % of the notional"


@given(
    payoff=st.sampled_from([linear, inverse]),
    before=st.integers(-50, 50),
    after=st.integers(-50, 50),
    cost=st.integers(-5_000, 5_000),
    cash=st.integers(-100, 100),
    then=st.integers(50, 200),
    now=st.integers(50, 200),
    asks=st.booleans(),
)
def test_a_fill_changes_what_a_pool_was_worth_at_a_snapshot_by_its_own_position(
    payoff: Callable[[], Market],
    before: int,
    after: int,
    cost: int,
    cash: int,
    then: int,
    now: int,
    asks: bool,
) -> None:
    """Ranked at one mark, filled at another, valued at the first: three tiers, another position beside it."""
    margin = tiers((1, 3, 10), (0, 1_000, 4_000))
    state = state_of(payoff(), linear(1, "ETH"), inverse(2), margin=margin)
    set_mark(state, 100, market=1)
    hold(state, "a", 7, 100, 10_000, market=1)
    set_mark(state, then)
    slot = hold(state, "a", before, 100, 0) if before else int(state.pseudo_position("a", 0))
    pool = int(state.positions[slot]["pool"])
    state.pools["special"][pool] = 0
    arrays = state.arrays
    assert valued_pool(arrays, pool, asks)
    arrays.counters[[SNAPSHOT, SNAPSHOT_VERSION]] = 1, arrays.counters[MARKS_VERSION]
    arrays.snapshots[1] = arrays.markets["mark"]
    state.pools["snapshot"][pool] = 1
    set_mark(state, now)
    assert keep_worth(arrays, slot, after, cost, cash)
    kept = arrays.valuations[pool].tolist()
    state.positions["size"][slot], state.positions["cost"][slot] = after, cost
    state.pools["cash"][pool] += cash
    set_mark(state, then)
    assert valued_pool(arrays, pool, asks)
    anew = arrays.valuations[pool].tolist()
    assert [abs(number) for number in kept] == [abs(number) for number in anew]
    if kept[3] != anew[3]:
        assert kept[3] < 0, "what was not straight once counts as such"


def test_what_a_pool_was_worth_is_forgotten_ten_seconds_after_the_last_ranking() -> None:
    state = state_of(linear())
    set_mark(state, 80)
    slot = hold(state, "short", -10, 100, 1_000)
    standings(state)
    state.arrays.counters[STEP_TS] += 10 * 10**9
    assert keep_worth(state.arrays, slot, -11, -1_080 * ATOMS, 0)
    state.arrays.counters[STEP_TS] += 1
    assert not keep_worth(state.arrays, slot, -12, -1_160 * ATOMS, 0)


def test_an_inverse_contract_grows_as_its_mark_falls() -> None:
    """A short of 100 x 100 from 10,000 is worth 1.25 coins at 8,000, 1.54 at 6,500, a quarter more below 6,400."""
    state = state_of(inverse())
    set_mark(state, 8_000)
    hold(state, "short", -100, 10_000, 2)
    assert standings(state) == [SETTLED]
    set_mark(state, 6_500)
    row = shorts(state)[0]
    assert row["standing"] == BOUNDED
    assert row["notional"] == pytest.approx(1.25 * 8_000 / 6_500 * ATOMS, rel=1e-6)
    assert row["equity"] == pytest.approx((2 + 0.25) * ATOMS, rel=1e-6), "it gains more than that"
    set_mark(state, 6_300)
    assert standings(state) == [SETTLED]


def test_the_maintenance_bound_of_who_may_reach_a_tier_is_that_of_the_tier() -> None:
    """1 % up to 900, then 3 % of all: short 10 at 80 could owe 3 % of 800 and a quarter, at 81 or wherever."""
    margin = tiers((1, 3), (0, 900))
    state = state_of(linear(), linear(1, "ETH"), inverse(2), margin=margin)
    set_mark(state, 80)
    hold(state, "short", -10, 100, 1_000)
    standings(state)
    set_mark(state, 81)
    row = shorts(state)[0]
    assert row["pool_maintenance"] == pytest.approx(0.03 * 1_000 * ATOMS, rel=1e-6)


def test_the_other_ranking_is_no_shortcut() -> None:
    """A need that takes all of them ranks all of them."""
    state = crowd(np.random.default_rng(3), 200)
    rule = replace(rules()[0], loss_rule="exclude")
    every = rank_winners(state, 0, rule, losers_are_long=True)
    needed = rank_winners(state, 0, rule, losers_are_long=True, need=int(every.size.sum()))
    assert needed.position.tolist() == every.position.tolist()
