"""What holds for every policy, whoever the candidates are."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.loop.policies import wealth
from replay.loop.policies.allocate import greedy, largest_remainder
from replay.loop.policies.leverage import cut_to_equal_leverage
from replay.loop.policies.registry import POLICIES, checked, policy
from replay.loop.policies.winners import Winners, candidates

SPARE_SOMEBODY = {"capped_pro_rata", "risk_cvar", "random_walk"}
"""Policies whose rule may leave lots although somebody has some."""

rows = st.tuples(
    st.integers(1, 10_000),  # lots
    st.integers(1, 10**9),  # profit
    st.integers(1, 10**9),  # equity
    st.integers(1, 10**9),  # notional
    st.integers(1, 10**9),  # entry
)


def winners_of(found: list[tuple[int, ...]]) -> Winners:
    lots, profit, equity, notional, entry = (
        np.array(column, np.int64) for column in zip(*found, strict=True)
    )
    return candidates(lots, profit=profit, equity=equity, notional=notional, entry=entry)


many = st.lists(rows, min_size=1, max_size=12).map(winners_of)
needs = st.integers(0, 50_000)


@pytest.mark.parametrize("name", sorted(POLICIES))
@given(need=needs, winners=many)
def test_nobody_gives_more_than_he_has_and_all_no_more_than_is_needed(
    name: str, need: int, winners: Winners
) -> None:
    taken = checked(policy(name)(need, winners), need, winners, name)
    available = int(winners.lots.sum())
    if name not in SPARE_SOMEBODY:
        assert int(taken.sum()) == min(need, available)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_nobody_to_close(name: str) -> None:
    assert policy(name)(10, candidates(np.zeros(0, np.int64))).tolist() == []


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"random_walk"}))
@given(need=needs, winners=many)
def test_the_same_candidates_give_the_same_lots(name: str, need: int, winners: Winners) -> None:
    assert policy(name)(need, winners).tolist() == policy(name)(need, winners).tolist()


@pytest.mark.parametrize(
    ("name", "column"),
    [("contract_pro_rata", "lots"), ("profit_pro_rata", "profit"), ("equity_pro_rata", "equity")],
)
@given(need=needs, winners=many)
def test_who_has_more_of_what_is_shared_by_pays_at_least_as_much(
    name: str, column: str, need: int, winners: Winners
) -> None:
    """Up to what he has, and up to the one lot that equal remainders give to the earlier row."""
    taken = policy(name)(need, winners)
    by = getattr(winners, column)
    for i in range(len(winners)):
        for j in range(len(winners)):
            if by[i] > by[j]:
                assert taken[i] >= min(taken[j], winners.lots[i])


@pytest.mark.parametrize("name", ["score_queue", "lexicographic"])
@given(need=needs, more=needs, winners=many)
def test_a_queue_only_grows_with_the_need(name: str, need: int, more: int, winners: Winners) -> None:
    assert (policy(name)(need, winners) <= policy(name)(need + more, winners)).all()


@given(need=needs, winners=many)
def test_at_most_one_of_a_queue_is_closed_in_part(need: int, winners: Winners) -> None:
    taken = policy("score_queue")(need, winners)
    assert int(((taken > 0) & (taken < winners.lots)).sum()) <= 1


@given(need=needs, winners=many, factor=st.integers(2, 1000))
def test_shares_do_not_depend_on_the_unit_of_money(need: int, winners: Winners, factor: int) -> None:
    other = candidates(
        winners.lots,
        profit=winners.profit * factor,
        equity=winners.equity * factor,
        notional=winners.notional * factor,
        entry=winners.entry * factor,
    )
    for name in ("profit_pro_rata", "equity_pro_rata", "levered_pro_rata", "risk_linear", "minimax_leverage"):
        assert policy(name)(need, winners).tolist() == policy(name)(need, other).tolist()


@given(
    need=st.integers(0, 5000),
    weights=st.lists(st.integers(0, 10**6), min_size=1, max_size=8),
    data=st.data(),
)
def test_uncapped_shares_are_within_a_lot_of_the_exact_ones(
    need: int, weights: list[int], data: st.DataObject
) -> None:
    caps = [need + 1] * len(weights)
    taken = largest_remainder(need, weights, caps)
    total = sum(weights)
    if total:
        assert int(taken.sum()) == need
        for lots, weight in zip(taken.tolist(), weights, strict=True):
            assert abs(lots - Fraction(need * weight, total)) < 1
    else:
        assert not taken.any()


@given(need=st.integers(0, 10**6), winners=many)
def test_no_other_cut_leaves_a_lower_highest_leverage(need: int, winners: Winners) -> None:
    """At the level l nobody is above it, and whoever is below has not been touched."""
    n, e = winners.lots.tolist(), winners.equity.tolist()
    level, cuts = cut_to_equal_leverage(need, n, e)
    assert sum(cuts) == min(need, sum(n))
    for size, equity, cut in zip(n, e, cuts, strict=True):
        assert 0 <= cut <= size
        left = Fraction(size) - cut
        assert left <= level * equity or level == 0
        assert cut == 0 or left == level * equity


money = st.lists(
    st.tuples(st.integers(1, 10**6), st.fractions(0, 1, max_denominator=100), st.integers(1, 100)),
    min_size=1,
    max_size=8,
)


@given(budget=st.integers(0, 10**6), found=money)
def test_water_filling_meets_the_budget_or_every_cap(budget: int, found: list[Any]) -> None:
    w, caps, prices = (list(column) for column in zip(*found, strict=True))
    seized = wealth.capped(budget, w, caps, prices)
    assert sum(seized.amounts) + seized.residual == budget
    rates = [amount / endowment for amount, endowment in zip(seized.amounts, w, strict=True)]
    assert all(0 <= rate <= cap for rate, cap in zip(rates, caps, strict=True))
    if seized.residual:
        assert rates == caps
    # Optimality: below their caps all pay the same rate per price, and no less than who is at the cap.
    free = {rate / price for rate, cap, price in zip(rates, caps, prices, strict=True) if rate < cap}
    assert len(free) <= 1
    for rate, cap, price in zip(rates, caps, prices, strict=True):
        if free and rate == cap:
            assert Fraction(cap) / price <= free.copy().pop() or cap == 0


@given(budget=st.integers(0, 10**6), found=money)
def test_a_pro_rata_haircut_is_one_rate(budget: int, found: list[Any]) -> None:
    w = [endowment for endowment, _, _ in found]
    seized = wealth.pro_rata(budget, w)
    assert len({amount / x for amount, x in zip(seized.amounts, w, strict=True)}) == 1
    assert sum(seized.amounts) + seized.residual == budget
    assert seized.residual >= 0


@given(
    vault=st.integers(0, 10**9),
    principal=st.integers(0, 10**9),
    fund=st.integers(0, 10**6),
    profits=st.lists(st.integers(-(10**6), 10**6), max_size=8),
)
def test_junior_profit_pays_no_more_than_principal_leaves(
    vault: int, principal: int, fund: int, profits: list[int]
) -> None:
    paid, dust = wealth.junior_profit(vault, principal, fund, profits)
    assert sum(paid) + dust == min(max(0, vault - principal - fund), sum(max(p, 0) for p in profits))
    assert all(0 <= have <= max(gain, 0) for have, gain in zip(paid, profits, strict=True))


def test_one_whole_lot_goes_to_the_first_of_equals() -> None:
    assert largest_remainder(1, [1, 1, 1], [5, 5, 5]).tolist() == [1, 0, 0]
    assert greedy(7, np.array([5, 5]), np.array([1, 0])).tolist() == [2, 5]
