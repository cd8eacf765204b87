"""The formulas of the rules: worked numbers, and the compiled engine beside them."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.loop.bankruptcy import bankruptcy_values
from replay.loop.margin import maintenance_of, valuation
from replay.loop.policies.scores import score
from replay.loop.policies.winners import candidates
from replay.loop.waterfall import limit_at_bankruptcy
from replay.rules.formulas import bankruptcy, deleverage, liquidation_price, maintenance, order_price, partial
from replay.rules.formulas.contract import profit, value_at
from replay.rules.formulas.fill import best_first, walk_levels
from tests.waterfall.small import ATOMS, Margin, hold, inverse, linear, set_mark, state_of

# --- worked numbers --------------------------------------------------------------------------------


def test_an_inverse_long_at_its_liquidation_mark_and_at_zero_equity() -> None:
    """Kraken's example: 1,000 contracts at 8,000 on 0.01 coins, maintenance 1 %: 7,481 and 7,407."""
    margin = Fraction(1, 100)
    mark = liquidation_price.at_mark("inverse", 1_000, 8_000, margin, Fraction(1, 100))
    zero = bankruptcy.isolated("inverse", 1_000, 8_000, margin)
    assert mark is not None
    assert zero is not None
    assert (int(mark), int(zero)) == (7_481, 7_407)


def test_maintenance_that_grows_with_size() -> None:
    """1 % + 0.005 % a coin: 1.5 % of 100 coins. 0.8 x 5 % + 1 % x sqrt(10 x 8 + 1): 13 %, at least 5 %."""
    assert maintenance.linear_size(1_000, 100, Fraction(1, 100), Fraction(5, 100_000)) == 15
    assert maintenance.linear_size(1_000, -100, Fraction(1, 100), Fraction(5, 100_000)) == 15
    assert maintenance.sqrt_size(1_000, 8, Fraction(5, 100), Fraction(1, 100)) == 130
    assert maintenance.sqrt_size(1_000, 8, Fraction(5, 100), 0) == 50


@pytest.mark.parametrize(("notional", "rate"), [(200, 4), (201, 8), (300, 8), (301, 12), (50, 4)])
def test_maintenance_in_risk_steps(notional: int, rate: int) -> None:
    """0.4 % to 200, and 0.4 % more for every 100 begun beyond."""
    step = Fraction(4, 1000)
    assert maintenance.risk_steps(notional, step, step, 200, 100) == Fraction(rate, 1000) * notional


def test_half_of_the_initial_margin_and_the_exit_fee() -> None:
    assert maintenance.im_fraction(1_000, Fraction(1, 10), Fraction(1, 2), Fraction(3, 10_000)) == Fraction(
        503, 10
    )


def test_limits_of_forced_orders() -> None:
    """A long at 1 % fee, a fifth of a 10 % haircut, 5 % beyond bankruptcy; shorts the other way."""
    assert order_price.oracle_band(100, 1, Fraction(1, 100)) == 99
    assert order_price.oracle_band(100, -1, Fraction(1, 100)) == 101
    assert order_price.oracle_haircut(100, Fraction(9, 10)) == 98
    assert order_price.oracle_haircut(100, Fraction(11, 10)) == 102
    assert order_price.bankruptcy_band(200, 1, Fraction(5, 100)) == 190
    assert order_price.bankruptcy_band(200, -1, Fraction(5, 100)) == 210


def test_the_smallest_share_of_all_positions_that_is_enough() -> None:
    grid = [Fraction(n, 5) for n in range(1, 6)]
    after = [Fraction(110, 100), Fraction(9, 10), Fraction(89, 100), Fraction(1, 2), Fraction(0)]
    assert partial.share_grid(after, grid, Fraction(9, 10)) == Fraction(3, 5)
    assert partial.share_grid([Fraction(2)] * 5, grid, Fraction(9, 10)) == 1


def test_prices_that_do_not_favour_the_winner() -> None:
    """A long loser is closed at the oracle, but not below where it is bankrupt; a short not above."""
    assert deleverage.clamped_oracle(95, 90, 1) == 95
    assert deleverage.clamped_oracle(85, 90, 1) == 90
    assert deleverage.clamped_oracle(115, 110, -1) == 110
    assert deleverage.zero_price_cross(90, 92, 1)
    assert not deleverage.zero_price_cross(90, 89, 1)
    assert deleverage.zero_price_cross(110, 109, -1)


def test_a_winner_must_not_be_worse() -> None:
    assert deleverage.not_worse(50, 100, 100, 100)
    assert deleverage.not_worse(50, 100, 25, 50)
    assert not deleverage.not_worse(50, 100, 24, 50)
    assert deleverage.not_worse(-5, 10, 0, 0)
    assert not deleverage.not_worse(-5, 10, -1, 0)


def test_levels_are_taken_by_price_then_time() -> None:
    bids = [(1, 200), (2, 3), (1, 1)]
    assert best_first(bids, highest=True) == [(2, 3), (1, 200), (1, 1)]
    assert best_first(bids, highest=True, newest_last=False) == [(2, 3), (1, 1), (1, 200)]
    assert best_first(bids, highest=False) == [(1, 200), (1, 1), (2, 3)]
    assert walk_levels(4, best_first(bids, highest=True)) == [(2, 3), (1, 1)]
    assert walk_levels(0, bids) == []


# --- identities ------------------------------------------------------------------------------------

payoffs = st.sampled_from(["linear", "inverse"])
prices = st.fractions(1, 10_000, max_denominator=100)
sizes = st.integers(-1000, 1000).filter(bool)
Payoff = Literal["linear", "inverse"]


@given(payoff=payoffs, size=sizes, entry=prices, margin=st.fractions(0, 100, max_denominator=100))
def test_at_the_isolated_price_the_margin_is_lost(
    payoff: Payoff, size: int, entry: Fraction, margin: Fraction
) -> None:
    price = bankruptcy.isolated(payoff, size, entry, margin)
    if price is not None and price > 0:
        assert profit(payoff, size, entry, price) == -margin


@given(
    payoff=payoffs,
    size=sizes,
    entry=prices,
    collateral=st.fractions(0, 100, max_denominator=100),
    rate=st.fractions(0, Fraction(1, 2), max_denominator=1000),
)
def test_at_the_liquidation_price_equity_is_the_maintenance(
    payoff: Payoff, size: int, entry: Fraction, collateral: Fraction, rate: Fraction
) -> None:
    price = liquidation_price.at_mark(payoff, size, entry, collateral, rate)
    if price is not None and price > 0:
        needed = maintenance.flat(abs(value_at(payoff, size, price)), rate)
        assert collateral + profit(payoff, size, entry, price) == needed


@given(
    size=sizes,
    mark=prices,
    equity=st.integers(-1000, 1000),
    rate=st.fractions(Fraction(1, 1000), Fraction(1, 2), max_denominator=1000),
    others=st.fractions(0, 1000, max_denominator=10),
)
def test_closing_at_a_shared_price_leaves_the_margin_ratio(
    size: int, mark: Fraction, equity: int, rate: Fraction, others: Fraction
) -> None:
    own = maintenance.flat(abs(value_at("linear", size, mark)), rate)
    price = bankruptcy.maintenance_proportional("linear", size, mark, equity, own, own + others)
    assert price is not None
    after = equity + profit("linear", size, mark, price)
    assert after * (own + others) == equity * others


@given(price=prices, size=sizes, collateral=st.integers(0, 10**6), leverage=st.integers(2, 100))
def test_the_two_ways_to_write_a_liquidation_price(
    price: Fraction, size: int, collateral: int, leverage: int
) -> None:
    rate = Fraction(1, leverage)
    spare = collateral - maintenance.flat(abs(value_at("linear", size, price)), rate)
    found = liquidation_price.from_margin_available(price, size, spare, leverage)
    assert found == liquidation_price.at_mark("linear", size, price, collateral, rate)


tiers = st.lists(
    st.tuples(st.integers(1, 10**6), st.integers(1, 50)), min_size=0, max_size=4, unique_by=lambda t: t[0]
)


@given(notional=st.integers(0, 2 * 10**6), found=tiers)
def test_marginal_tiers_are_the_rate_of_each_part(notional: int, found: list[tuple[int, int]]) -> None:
    starts = sorted(start for start, _ in found)
    rates = sorted(rate for _, rate in found)
    table = [(0, Fraction(1, 1000))] + [(s, Fraction(r, 100)) for s, r in zip(starts, rates, strict=True)]
    ends = [*(start for start, _ in table[1:]), None]
    parts = [
        max(0, (notional if end is None else min(notional, end)) - start) * rate
        for (start, rate), end in zip(table, ends, strict=True)
    ]
    assert maintenance.bracket_marginal(notional, table) == sum(parts)


# --- the engine beside the formulas ----------------------------------------------------------------


@given(
    first=sizes,
    second=sizes,
    marks=st.tuples(st.integers(1, 10**5), st.integers(1, 10**5)),
    cash=st.integers(-(10**6), 10**6),
)
def test_the_engine_shares_equity_as_the_formula_does(
    first: int, second: int, marks: tuple[int, int], cash: int
) -> None:
    """To the atom that rounding gives to one of them."""
    state = state_of(linear(0), linear(1, "ETH"), rate=Fraction(1, 50))
    slots = [hold(state, "a", size, 100, cash, market=m) for m, size in enumerate((first, second))]
    for market, mark in enumerate(marks):
        set_mark(state, mark, market)
    pool = int(state.positions[slots[0]]["pool"])
    equity, total, _ = valuation(state.arrays, pool)
    positions, values, *others = np.zeros((5, 2), np.int64)
    assert bankruptcy_values(state.arrays, pool, equity, positions, values, *others) == 2
    worth = [value_at("linear", size, mark, ATOMS) for size, mark in zip((first, second), marks, strict=True)]
    for value, held, size, mark in zip(values.tolist(), worth, (first, second), marks, strict=True):
        share = bankruptcy.maintenance_share(equity, maintenance.flat(abs(held), Fraction(1, 50)), total)
        assert abs(held - share - value) <= 1
        price = bankruptcy.maintenance_proportional(
            "linear",
            size,
            mark,
            equity,
            maintenance.flat(abs(held), Fraction(1, 50)),
            total,
            multiplier=ATOMS,
        )
        assert price is not None
        if price > 0:
            limit = limit_at_bankruptcy(state, 0, size, value)
            assert abs(limit - bankruptcy.to_tick(price, 1 if size > 0 else -1, 1)) <= 1
    assert sum(values.tolist()) == sum(worth) - equity


@given(notional=st.integers(0, 3 * 10**14))
def test_the_engine_takes_the_tiers_of_the_formula(notional: int) -> None:
    """Rounded up to the atom, less a deduction rounded down."""
    table = [(0, Fraction(1, 200)), (10**13, Fraction(1, 100)), (10**14, Fraction(1, 40))]
    state = state_of(linear(), margin=tiered(table))
    exact = maintenance.bracket_marginal(notional, table)
    assert exact <= maintenance_of(state.arrays.tiers, state.arrays.markets[0], 1, 0, notional) < exact + 2


def tiered(table: list[tuple[int, Fraction]]) -> Margin:
    return Margin(
        np.array([0, len(table)], np.int64),
        np.array([start for start, _ in table], np.int64),
        np.array([int(rate * 10**12) for _, rate in table], np.int64),
        np.array([int(deduction) for deduction in maintenance.deductions(table)], np.int64),
    )


def test_the_engine_scores_inverse_positions_in_value() -> None:
    """A long of 300 contracts at 100 from 50: 3 coins made of 6, a return of 1/2, in both."""
    state = state_of(inverse())
    slot = hold(state, "w", 3, 50, 10)
    set_mark(state, 100)
    gain = profit("inverse", 3, 50, 100, 100)
    winner = candidates([1], entry=[abs(value_at("inverse", 3, 50, 100))], profit=[gain])
    found = score(winner, profit_term="profit_on_entry", leverage_term="one", loss_rule="exclude")
    assert (gain, found[0]) == (3, Fraction(1, 2))
    assert valuation(state.arrays, int(state.positions[slot]["pool"]))[0] == (10 + 3) * ATOMS
