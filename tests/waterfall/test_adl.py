"""Auto-deleveraging: the queue, the lights, the scores, and who is a candidate."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.loop.adl import book_pairs, pair_queue
from replay.loop.ranking import Ranking, indicator, rank_winners
from replay.loop.state import State
from replay.rules.compile import NAMED_SCORES
from replay.rules.plan import Adl
from replay.tape.schema import Grade
from tests.waterfall.small import (
    ATOMS,
    Array,
    account_of,
    candidate,
    hold,
    inverse,
    linear,
    scores_of,
    set_mark,
    state_of,
)

CASES = Path(__file__).parents[2] / "../shared/cases/cases.json"


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    if not CASES.exists():
        pytest.skip(f"the published cases are not there: {CASES}")
    return {case["id"]: case for case in json.loads(CASES.read_text(encoding="utf-8"))}


def rule_of(score: str, **changes: Any) -> Adl:
    """A rule with one of the named scores."""
    profit_term, leverage_term, equity_scope = NAMED_SCORES[score]
    rule = Adl(profit_term, leverage_term, equity_scope, "exclude", "mark", 0, 0, lights=5)
    return replace(rule, **changes)


def pieces(losers: list[int], winners: list[int]) -> list[tuple[int, int, int]]:
    found = pair_queue(np.array(losers, np.int64), np.array(winners, np.int64))
    return list(zip(*(column.tolist() for column in found), strict=True))


# --- the queue -------------------------------------------------------------------------------------


def test_losers_in_order_meet_winners_in_order() -> None:
    """5 and 7 to close; 4, 6, 100 to give: 4 + 1 for the first, 5 + 2 for the second."""
    assert pieces([5, 7], [4, 6, 100]) == [(0, 0, 4), (0, 1, 1), (1, 1, 5), (1, 2, 2)]


def test_equal_ends_make_one_piece() -> None:
    assert pieces([4, 6], [4, 6]) == [(0, 0, 4), (1, 1, 6)]


@pytest.mark.parametrize(("losers", "winners"), [([], []), ([5], []), ([], [5]), ([0], [3]), ([3], [0, 0])])
def test_nothing_to_close_or_nobody_to_close(losers: list[int], winners: list[int]) -> None:
    assert pieces(losers, winners) == []


quantities = st.lists(st.integers(0, 10**6) | st.integers(0, 3), max_size=20)


@given(quantities, quantities)
def test_the_queue_closes_as_much_as_both_sides_have(losers: list[int], winners: list[int]) -> None:
    found = pieces(losers, winners)
    assert sum(quantity for _, _, quantity in found) == min(sum(losers), sum(winners))
    assert all(quantity > 0 for _, _, quantity in found)
    assert found == sorted(found, key=lambda piece: piece[:2]), "both orders are kept"
    for who, limits in ((0, losers), (1, winners)):
        for index, limit in enumerate(limits):
            assert sum(piece[2] for piece in found if piece[who] == index) <= limit


@given(quantities, quantities)
def test_nobody_is_closed_before_all_above_him_are(losers: list[int], winners: list[int]) -> None:
    """Contract by contract: the k-th to be closed meets the k-th to be had."""
    plain = list(
        zip(
            [index for index, quantity in enumerate(losers) for _ in range(min(quantity, 50))],
            [index for index, quantity in enumerate(winners) for _ in range(min(quantity, 50))],
            strict=False,
        )
    )
    found = pieces([min(quantity, 50) for quantity in losers], [min(quantity, 50) for quantity in winners])
    assert [(loser, winner) for loser, winner, quantity in found for _ in range(quantity)] == plain


def test_the_published_queue_of_bitmex(cases: dict[str, Any]) -> None:
    """R153: 20 contracts of a bankrupt short at 650 go to the two longs with the highest rank."""
    case = cases["R153"]
    longs = sorted(case["inputs"]["longs"], key=lambda row: -row["pnl_rank"])
    assert [row["account"] for row in longs] == case["expected"]["queue"]
    found = pieces([case["inputs"]["liquidated_short"]], [row["qty"] for row in longs])
    closed = {str(longs[winner]["account"]): quantity for _, winner, quantity in found}
    assert closed == case["expected"]["closed"] == {"2": 10, "5": 10}


def test_the_published_queue_is_closed_at_the_bankruptcy_price(cases: dict[str, Any]) -> None:
    """R153 in the books: six longs from different entries, closed at 650 against the short."""
    case = cases["R153"]
    state = state_of(linear())
    set_mark(state, 700)
    longs = sorted(case["inputs"]["longs"], key=lambda row: -row["pnl_rank"])
    # The higher the rank, the lower the entry: profit per entry decides at equal leverage.
    slots = {
        row["account"]: hold(state, str(row["account"]), row["qty"], 600 - 10 * row["pnl_rank"], 10_000)
        for row in case["inputs"]["longs"]
    }
    loser = hold(state, "bankrupt", -case["inputs"]["liquidated_short"], 500, 3_000)
    before = {account: cash_of(state, slot) for account, slot in slots.items()}
    losers, winners, quantity = pair_queue(
        np.array([20], np.int64), np.array([row["qty"] for row in longs], np.int64)
    )
    fees = [np.zeros(len(quantity), np.int64) for _ in range(3)]
    book_pairs(
        state.arrays,
        np.full(len(losers), loser),
        np.array([slots[longs[w]["account"]] for w in winners.tolist()]),
        quantity,
        quantity * case["inputs"]["bankruptcy_price"] * ATOMS,
        0,
        0,
        *fees,
    )
    assert state.positions[loser]["size"] == 0
    assert cash_of(state, loser) == (3_000 + 20 * (500 - 650)) * ATOMS == 0
    assert state.positions[slots[5]]["size"] == case["expected"]["left_account5"]
    assert state.positions[slots[2]]["size"] == 0
    for account, closed in case["expected"]["closed"].items():
        row = next(row for row in longs if row["account"] == int(account))
        profit = closed * (case["expected"]["close_price"] - (600 - 10 * row["pnl_rank"]))
        assert cash_of(state, slots[int(account)]) - before[int(account)] == profit * ATOMS


def cash_of(state: State, position: int) -> int:
    return int(state.pools[state.positions[position]["pool"]]["cash"])


# --- lights ----------------------------------------------------------------------------------------


def test_the_published_lights_of_bitmex(cases: dict[str, Any]) -> None:
    """R154: cumulative 10, 30, 60, 70, 80, 100 of 100 in steps of 20 %; the first 20 % light all five."""
    case = cases["R154"]
    longs = sorted(case["inputs"]["longs"], key=lambda row: -row["pnl_rank"])
    lights = indicator(np.array([row["qty"] for row in longs], np.int64), 5).tolist()
    assert lights == [5, 4, 3, 2, 2, 1]
    shown = {str(row["account"]): 20 * (6 - lit) for row, lit in zip(longs, lights, strict=True)}
    assert shown == case["expected"]["quintile"]


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=30), st.integers(1, 10))
def test_lights_fall_from_all_to_one(sizes: list[int], lights: int) -> None:
    lit = indicator(np.array(sizes, np.int64), lights).tolist()
    assert lit == sorted(lit, reverse=True)
    assert all(1 <= light <= lights for light in lit)
    assert lit[-1] == 1
    for index, light in enumerate(lit):
        reached = Fraction(sum(sizes[: index + 1]), sum(sizes))
        step = lights + 1 - light
        assert Fraction(step - 1, lights) < reached <= Fraction(step, lights)


def test_nobody_to_light() -> None:
    assert indicator(np.zeros(0, np.int64), 5).tolist() == []


# --- scores ----------------------------------------------------------------------------------------


def winner(
    mark: int,
    entry: int,
    notional: int,
    equity: int,
    *,
    short: bool = False,
    share: int = 1,
    maintenance: int = 1,
    pool_maintenance: int = 1,
    wallet: int = 1,
) -> Array:
    """One candidate with one contract, in whole units."""
    sign = -1 if short else 1
    return candidate(
        size=1,
        cost=sign * entry,
        value=sign * mark,
        equity=equity,
        notional=notional,
        share=share,
        maintenance=maintenance,
        pool_maintenance=pool_maintenance,
        wallet=wallet,
    )


def test_the_published_index_of_hyperliquid(cases: dict[str, Any]) -> None:
    """R176: mark/entry x notional/account value."""
    case = cases["R176"]
    index = [
        scores_of(
            rule_of("leveraged_price_ratio"),
            winner(row["mark"], row["entry"], row["notional"], row["account"]),
        )[0]
        for row in case["inputs"]["positions"]
    ]
    assert index == pytest.approx(case["expected"]["index"], rel=case["tolerance"])
    assert case["expected"]["index"] == [20.2, 15.0]


def test_a_short_is_scored_by_entry_over_mark() -> None:
    """Entry 100, mark 80: 1.25 with leverage 4."""
    assert scores_of(rule_of("leveraged_price_ratio"), winner(80, 100, 400, 100, short=True)) == [5.0]
    assert scores_of(rule_of("leveraged_price_ratio"), winner(100, 80, 400, 100)) == [5.0], (
        "a long of the same ratio"
    )


def test_return_times_leverage(cases: dict[str, Any]) -> None:
    """R177's two: 1 % on 20x scores 0.2 and 50 % on 10x scores 5, the other way round than R176."""
    case = cases["R177"]
    scores = []
    for row in case["inputs"]["positions"]:
        entry = 10_000
        mark = round(entry * (1 + Fraction(str(row["pnl_ratio"]))))
        share = Fraction(mark, row["leverage"])
        scale = share.denominator
        scores.append(
            scores_of(
                rule_of("leveraged_return"), winner(mark * scale, entry * scale, 0, 0, share=share.numerator)
            )[0]
        )
    assert scores == pytest.approx(case["expected"]["score"], rel=case["tolerance"])


def test_return_alone() -> None:
    assert scores_of(rule_of("entry_return"), winner(150, 100, 10, 1)) == [0.5]
    assert scores_of(rule_of("entry_return"), winner(80, 100, 400, 100, short=True)) == [0.2]


def test_return_times_the_risk_of_the_position() -> None:
    """50 % x 6/24; of an equity of half a dollar one dollar counts."""
    one = ATOMS
    found = scores_of(
        rule_of("return_at_risk"), winner(150 * one, 100 * one, 0, 24 * one, maintenance=6 * one)
    )
    assert found == [0.125]
    found = scores_of(
        rule_of("return_at_risk"), winner(150 * one, 100 * one, 0, one // 2, maintenance=6 * one)
    )
    assert found == [3.0]


def test_wallet_return_times_the_risk_of_the_account() -> None:
    """50 of a wallet of 200 x 12/48; of a wallet below one dollar one dollar counts."""
    one = ATOMS
    rule = rule_of("wallet_return_at_risk")
    account = {"pool_maintenance": 12 * one, "maintenance": 5 * one}
    found = scores_of(rule, winner(150 * one, 100 * one, 0, 48 * one, wallet=200 * one, **account))
    assert found == [0.0625]
    found = scores_of(rule, winner(150 * one, 100 * one, 0, 48 * one, wallet=-7 * one, **account))
    assert found == [12.5]


# --- the ranking -----------------------------------------------------------------------------------


def ranked(
    state: State, *, losers_are_long: bool = True, score: str = "leveraged_price_ratio", market: int = 0
) -> Ranking:
    return rank_winners(state, market, rule_of(score), losers_are_long=losers_are_long)


def names(state: State, ranking: Ranking) -> list[str]:
    return [account_of(state, slot) for slot in ranking.position.tolist()]


def test_winners_stand_by_price_ratio_times_leverage() -> None:
    """At 80, shorts from 100 with 100 of cash and 10, 20 contracts, and one from 160 with 10.

    calm:  100/80 x 800/(100 + 200)   = 3.33
    bold:  100/80 x 1600/(100 + 400)  = 4
    early: 160/80 x 800/(100 + 800)   = 1.78
    """
    state = state_of(linear())
    set_mark(state, 80)
    hold(state, "calm", -10, 100, 100)
    hold(state, "bold", -20, 100, 100)
    hold(state, "early", -10, 160, 100)
    ranking = ranked(state)
    assert names(state, ranking) == ["bold", "calm", "early"]
    assert ranking.score.tolist() == pytest.approx([4, 10 / 3, 16 / 9])
    assert ranking.size.tolist() == [20, 10, 10]
    assert ranking.lights.tolist() == [3, 2, 1], "cumulative 20, 30, 40 of 40 in fifths"


def test_winners_stand_by_return_times_leverage() -> None:
    """One position per pool: the leverage is |V| / equity, whatever the maintenance rate.

    calm:  200/1000 x 800/300   = 0.533
    bold:  400/2000 x 1600/500  = 0.64
    early: 800/1600 x 800/900   = 0.444
    """
    state = state_of(linear())
    set_mark(state, 80)
    hold(state, "calm", -10, 100, 100)
    hold(state, "bold", -20, 100, 100)
    hold(state, "early", -10, 160, 100)
    ranking = ranked(state, score="leveraged_return")
    assert names(state, ranking) == ["bold", "calm", "early"]
    assert ranking.score.tolist() == pytest.approx([0.64, 1.6 / 3, 4 / 9])


def test_the_whole_account_counts_for_price_ratio_and_its_share_for_return() -> None:
    """A short of 10 from 100 at 80, hedged by a long of 30 ETH at 100 from 100, with 800 cash: equity 1,000.

    Notional 800 + 3,000; the short's maintenance share is 8 of 38, so it may lose 8/38 of 1,000.
    """
    state = state_of(linear(), linear(1, "ETH"))
    set_mark(state, 80)
    set_mark(state, 100, market=1)
    hold(state, "hedged", -10, 100, 800)
    hold(state, "hedged", 30, 100, 0, market=1)
    assert ranked(state).score.tolist() == pytest.approx([100 / 80 * 3_800 / 1_000])
    assert ranked(state, score="leveraged_return").score.tolist() == pytest.approx(
        [0.2 * 800 / (1_000 * 8 / 38)]
    )


def test_the_other_side_alone_is_ranked() -> None:
    state = state_of(linear())
    set_mark(state, 100)
    hold(state, "long", 10, 90, 100)
    hold(state, "short", -10, 110, 100)
    assert names(state, ranked(state, losers_are_long=True)) == ["short"]
    assert names(state, ranked(state, losers_are_long=False)) == ["long"]


def test_inverse_shorts_and_longs_win_as_prices_say() -> None:
    """Long 100 x 100 from 10,000 at 12,500: entry 1 coin, mark 0.8 coin; mark/entry is 1.25 again."""
    state = state_of(inverse())
    set_mark(state, 12_500)
    hold(state, "long", 100, 10_000, 1)
    hold(state, "short", -100, 10_000, 1)
    longs = ranked(state, losers_are_long=False)
    assert names(state, longs) == ["long"]
    # Equity: 1 + (1 - 0.8); notional 0.8.
    assert longs.score.tolist() == pytest.approx([1.25 * 0.8 / 1.2])
    assert names(state, ranked(state, losers_are_long=True)) == [], "the short loses"


def test_positions_without_a_profit_are_no_candidates() -> None:
    state = state_of(linear())
    set_mark(state, 100)
    hold(state, "loses", -1, 99, 100)
    hold(state, "even", -1, 100, 100)
    hold(state, "wins", -1, 101, 100)
    assert names(state, ranked(state)) == ["wins"]


def test_pools_in_breach_without_equity_and_pseudo_accounts_are_no_candidates() -> None:
    state = state_of(linear(), linear(1, "ETH"))
    set_mark(state, 100)
    set_mark(state, 100, market=1)
    breached = hold(state, "in breach", -1, 101, 100)
    state.pools[state.positions[breached]["pool"]]["in_breach"] = 1
    hold(state, "under water", -1, 101, 100)
    hold(state, "under water", 10, 200, 0, market=1)
    fund = hold(state, "@fund:x", -1, 101, 100)
    state.pools[state.positions[fund]["pool"]]["special"] = 1
    hold(state, "wins", -1, 101, 100)
    assert names(state, ranked(state)) == ["wins"]


def test_a_pool_with_a_market_that_has_no_mark_is_no_candidate() -> None:
    state = state_of(linear(), linear(1, "ETH"))
    set_mark(state, 100)
    hold(state, "half seen", -1, 101, 100)
    hold(state, "half seen", 1, 50, 0, market=1)
    assert names(state, ranked(state)) == []


def test_pools_of_unknown_equity_come_last_by_their_price_ratio() -> None:
    """Leverage 1 is put in for them, and none of it moves them before a known one."""
    state = state_of(linear())
    set_mark(state, 100)
    hold(state, "unknown, 110", -1, 110, 0, grade=Grade.UNKNOWN)
    hold(state, "unknown, 150", -1, 150, 0, grade=Grade.UNKNOWN)
    hold(state, "known, calm", -1, 101, 10_000)
    ranking = ranked(state)
    assert names(state, ranking) == ["known, calm", "unknown, 150", "unknown, 110"]
    assert ranking.score.tolist() == pytest.approx([1.01 * 100 / 10_001, 1.5, 1.1])


@pytest.mark.parametrize("score", sorted(NAMED_SCORES))
def test_equal_scores_go_by_pool(score: str) -> None:
    state = state_of(linear())
    set_mark(state, 90)
    slots = [hold(state, name, -7, 100, 50) for name in ("c", "a", "b")]
    ranking = ranked(state, score=score)
    assert len(set(ranking.score.tolist())) == 1
    assert ranking.pool.tolist() == sorted(ranking.pool.tolist())
    assert ranking.position.tolist() == slots, "c, a, b: the order in which they came, not that of names"


# --- booking ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("market", [linear(), inverse()], ids=["linear", "inverse"])
@pytest.mark.parametrize("loser_is_long", [True, False])
def test_a_piece_moves_value_between_the_two_and_fees_out(market: Any, loser_is_long: bool) -> None:
    """One contract from 100, closed at a value of 0.9 coins or 90 units; taker 1 %, maker 0.5 % of it."""
    state = state_of(market)
    set_mark(state, 100)
    sign = 1 if loser_is_long else -1
    loser, other = hold(state, "loser", sign, 100, 1_000), hold(state, "winner", -sign, 100, 1_000)
    value = 9 * ATOMS // 10 if market.payoff == 1 else 90 * ATOMS
    entry = ATOMS if market.payoff == 1 else 100 * ATOMS
    loser_fees, winner_fees, realised = (np.zeros(1, np.int64) for _ in range(3))
    book_pairs(
        state.arrays,
        np.array([loser]),
        np.array([other]),
        np.array([1]),
        np.array([value]),
        10**10,
        5 * 10**9,
        loser_fees,
        winner_fees,
        realised,
    )
    gain_of_long = (value - entry) * (-1 if market.payoff == 1 else 1)
    loser_gain = gain_of_long if loser_is_long else -gain_of_long
    assert loser_fees.tolist() == [value // 100]
    assert winner_fees.tolist() == [value // 200]
    assert cash_of(state, loser) == 1_000 * ATOMS + loser_gain - value // 100
    assert cash_of(state, other) == 1_000 * ATOMS - loser_gain - value // 200
    assert realised.tolist() == [-loser_gain - value // 200]
    assert cash_of_fees(state) == value // 100 + value // 200


def cash_of_fees(state: State) -> int:
    return int(state.pools[state.arrays.ledgers[0]["fees_pool"]]["cash"])


def test_a_loser_without_cash_pays_no_fee() -> None:
    state = state_of(linear())
    set_mark(state, 100)
    loser, other = hold(state, "loser", 1, 100, 10), hold(state, "winner", -1, 100, 1_000)
    fees = np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64)
    book_pairs(
        state.arrays,
        np.array([loser]),
        np.array([other]),
        np.array([1]),
        np.array([90 * ATOMS]),
        10**10,
        0,
        *fees,
    )
    assert fees[0].tolist() == [0]
    assert cash_of(state, loser) == 0
