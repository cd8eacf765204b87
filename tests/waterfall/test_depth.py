"""What the book takes of forced orders: levels, limits, memory, providers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.loop.depth import NO_LIMIT, Depth
from replay.loop.state import BUCKETS, State
from replay.rules.plan import DepthRule
from replay.tape.read import DepthRows, Fills
from replay.tape.schema import Side
from tests.waterfall.small import (
    ATOMS,
    RATE_ONE,
    SECOND,
    depth_rows,
    depth_rule,
    forced_fills,
    inverse,
    linear,
    set_mark,
    state_of,
)

BIDS = ((100, 3), (99, 4), (97, 5))
ASKS = ((101, 2), (103, 6))


def book_of(ts: int = 0, *, bids: object = BIDS, asks: object = ASKS, market: int = 0) -> DepthRows:
    rows = [(ts, market, Side.BID, price, qty) for price, qty in bids]  # type: ignore[attr-defined]
    rows += [(ts, market, Side.ASK, price, qty) for price, qty in asks]  # type: ignore[attr-defined]
    return depth_rows(*rows)


def depth_of(
    rows: DepthRows, rule: DepthRule | None = None, *, state: State | None = None, fills: Fills | None = None
) -> Depth:
    depth = Depth(state or state_of(linear()), rule or depth_rule())
    depth.open_window(rows, fills or forced_fills())
    return depth


def send(
    depth: Depth,
    *orders: tuple[int, int],
    side: Side = Side.BID,
    ts: int = 0,
    whole: bool = False,
    market: int = 0,
) -> tuple[list[int], list[int]]:
    """Send orders of (quantity, limit); return what each filled and at which value."""
    asked, limits = np.array(orders, np.int64).reshape(-1, 2).T
    filled, values = depth.fill(
        market,
        side,
        ts,
        np.ascontiguousarray(asked),
        np.ascontiguousarray(limits),
        np.full(len(asked), whole),
    )
    return filled.tolist(), values.tolist()


# --- walking levels --------------------------------------------------------------------------------


def test_a_sale_walks_the_bids_from_the_highest_down() -> None:
    """8 = 3 at 100, 4 at 99, 1 at 97."""
    assert send(depth_of(book_of()), (8, NO_LIMIT)) == ([8], [(3 * 100 + 4 * 99 + 97) * ATOMS])


def test_a_purchase_walks_the_asks_from_the_lowest_up() -> None:
    """5 = 2 at 101, 3 at 103."""
    assert send(depth_of(book_of()), (5, NO_LIMIT), side=Side.ASK) == ([5], [(2 * 101 + 3 * 103) * ATOMS])


def test_levels_may_stand_in_any_order_on_the_tape() -> None:
    shuffled = book_of(bids=(BIDS[1], BIDS[2], BIDS[0]))
    assert send(depth_of(shuffled), (8, NO_LIMIT)) == send(depth_of(book_of()), (8, NO_LIMIT))


def test_an_order_beyond_the_book_fills_what_there_is() -> None:
    assert send(depth_of(book_of()), (100, NO_LIMIT)) == ([12], [(300 + 396 + 485) * ATOMS])


def test_orders_are_served_in_their_order() -> None:
    """The first takes the 3 at 100 and 1 at 99; the second the other 3 at 99 and 1 at 97."""
    filled, values = send(depth_of(book_of()), (4, NO_LIMIT), (4, NO_LIMIT))
    assert filled == [4, 4]
    assert values == [(300 + 99) * ATOMS, (3 * 99 + 97) * ATOMS]


@pytest.mark.parametrize(
    ("side", "limit", "filled"),
    [
        (Side.BID, 100, 3),
        (Side.BID, 99, 7),
        (Side.BID, 98, 7),
        (Side.BID, 101, 0),
        (Side.ASK, 101, 2),
        (Side.ASK, 102, 2),
        (Side.ASK, 103, 8),
        (Side.ASK, 100, 0),
        (Side.ASK, 0, 0),
    ],
)
def test_no_level_beyond_the_limit_is_taken(side: Side, limit: int, filled: int) -> None:
    assert send(depth_of(book_of()), (50, limit), side=side)[0] == [filled]


def test_what_a_limited_order_leaves_is_there_for_the_next() -> None:
    assert send(depth_of(book_of()), (9, 100), (9, NO_LIMIT))[0] == [3, 9]


def test_fill_or_kill_fills_whole_or_not_at_all() -> None:
    depth = depth_of(book_of())
    assert send(depth, (8, 99), (7, 99), whole=True)[0] == [0, 7], "7 stand at 99 or better"
    assert depth.taken(0, Side.BID, 0) == 7


def test_a_killed_order_takes_nothing_from_those_behind_it() -> None:
    depth = depth_of(book_of())
    assert send(depth, (13, NO_LIMIT), whole=True) == ([0], [0])
    assert send(depth, (12, NO_LIMIT), whole=True)[0] == [12]


def test_a_haircut_takes_a_share_of_each_level_rounded_down() -> None:
    """30 % off 3, 4, 5 leaves 2.1, 2.8, 3.5: 2, 2, 3."""
    depth = depth_of(book_of(), depth_rule(haircut_rate=3 * RATE_ONE // 10))
    assert depth.levels(0, Side.BID, 0)[1].tolist() == [2, 2, 3]
    assert send(depth, (50, NO_LIMIT)) == ([7], [(200 + 198 + 291) * ATOMS])


def test_without_a_snapshot_there_is_no_depth() -> None:
    assert send(depth_of(depth_rows()), (5, NO_LIMIT)) == ([0], [0])
    assert send(depth_of(book_of(ts=10)), (5, NO_LIMIT), ts=9) == ([0], [0]), "a snapshot of later is unknown"


def test_each_market_has_its_own_book() -> None:
    depth = depth_of(book_of(market=1), state=state_of(linear(), linear(1, "ETH")))
    assert send(depth, (5, NO_LIMIT), market=0)[0] == [0]
    assert send(depth, (5, NO_LIMIT), market=1)[0] == [5]


def test_inverse_contracts_are_valued_level_by_level() -> None:
    """Three contracts of 100 at 100 are 3 coins; 4 at 99 are 4.04040404 coins, rounded half-even."""
    depth = depth_of(book_of(), state=state_of(inverse()))
    expected = 3 * ATOMS + round(Fraction(4 * 100 * ATOMS, 99))
    assert send(depth, (7, NO_LIMIT)) == ([7], [expected])
    assert expected == 704_040_404


# --- memory ----------------------------------------------------------------------------------------


def test_what_was_taken_is_missing_from_the_best_levels_first() -> None:
    """After 5 (3 at 100, 2 at 99) the next finds 2 at 99."""
    depth = depth_of(book_of(), depth_rule(half_life_ns=10 * SECOND))
    send(depth, (5, NO_LIMIT))
    assert send(depth, (3, NO_LIMIT)) == ([3], [(2 * 99 + 97) * ATOMS])
    assert depth.taken(0, Side.BID, 0) == 8


def test_half_of_what_was_taken_comes_back_each_half_life() -> None:
    depth = depth_of(book_of(bids=((100, 64),)), depth_rule(half_life_ns=10 * SECOND))
    send(depth, (64, NO_LIMIT))
    missing = [depth.taken(0, Side.BID, 10 * SECOND * lives) for lives in range(9)]
    assert missing == [64, 32, 16, 8, 4, 2, 1, 0, 0]
    assert depth.taken(0, Side.BID, 5 * SECOND) == 48, "a straight line from 64 to 32"
    assert depth.taken(0, Side.BID, 10**6 * SECOND) == 0


@given(
    st.integers(1, 10**8), st.integers(1, 10**12), st.lists(st.integers(0, 10**13), min_size=2, max_size=8)
)
def test_what_is_missing_only_ever_shrinks(taken: int, half_life: int, moments: list[int]) -> None:
    depth = depth_of(book_of(bids=((100, taken),)), depth_rule(half_life_ns=half_life))
    send(depth, (taken, NO_LIMIT))
    missing = [depth.taken(0, Side.BID, ts) for ts in sorted(moments)]
    assert missing == sorted(missing, reverse=True)
    assert all(0 <= left <= taken for left in missing)


def test_without_a_half_life_all_is_back_in_the_next_step() -> None:
    depth = depth_of(book_of())
    assert send(depth, (12, NO_LIMIT))[0] == [12]
    assert send(depth, (12, NO_LIMIT))[0] == [0]
    assert send(depth, (12, NO_LIMIT), ts=1)[0] == [12]


def test_what_is_missing_adds_up_over_steps() -> None:
    """8 taken; after a half-life 4 are missing, 4 more are taken: 8 missing again."""
    depth = depth_of(book_of(), depth_rule(half_life_ns=SECOND))
    send(depth, (8, NO_LIMIT))
    send(depth, (4, NO_LIMIT), ts=SECOND)
    assert depth.taken(0, Side.BID, SECOND) == 8
    assert depth.taken(0, Side.ASK, SECOND) == 0, "the other side is another book"


# --- snapshots and windows -------------------------------------------------------------------------


def test_a_later_snapshot_replaces_the_one_before() -> None:
    both = depth_rows(
        (0, 0, Side.BID, 100, 3),
        (0, 0, Side.BID, 99, 3),
        (5, 0, Side.BID, 90, 7),
    )
    depth = depth_of(both)
    assert [depth.levels(0, Side.BID, ts)[0].tolist() for ts in (0, 4, 5, 6)] == [
        [100, 99],
        [100, 99],
        [90],
        [90],
    ]


def test_a_snapshot_without_a_side_leaves_that_side_empty() -> None:
    depth = depth_of(depth_rows((0, 0, Side.BID, 100, 3), (5, 0, Side.ASK, 101, 2)))
    assert depth.levels(0, Side.BID, 5)[0].tolist() == []
    assert depth.levels(0, Side.ASK, 5)[0].tolist() == [101]


def test_the_last_snapshot_of_a_window_holds_until_the_next_one() -> None:
    state = state_of(linear(), linear(1, "ETH"))
    depth = depth_of(book_of(0), state=state)
    depth.open_window(book_of(10, bids=((50, 1),), market=1), forced_fills())
    assert depth.levels(0, Side.BID, 12)[0].tolist() == [100, 99, 97]
    assert depth.levels(1, Side.BID, 12)[0].tolist() == [50]
    depth.open_window(book_of(20, bids=((80, 1),)), forced_fills())
    assert depth.levels(0, Side.BID, 19)[0].tolist() == [100, 99, 97]
    assert depth.levels(0, Side.BID, 20)[0].tolist() == [80]
    assert depth.levels(1, Side.BID, 20)[0].tolist() == [50]


def test_what_was_taken_outlives_window_and_snapshot() -> None:
    depth = depth_of(book_of(0), depth_rule(half_life_ns=SECOND))
    send(depth, (4, NO_LIMIT))
    depth.open_window(book_of(SECOND, bids=((98, 10),)), forced_fills())
    assert send(depth, (20, NO_LIMIT), ts=SECOND)[0] == [8], "half of the 4 is missing from the new levels"


# --- recorded forced fills that the rules leave out ------------------------------------------------


def test_what_recorded_forced_sales_took_is_offered_at_their_prices() -> None:
    """The tape sold 5 by force at 96 in this step; a sale of 14 takes the 12 of the snapshot first."""
    depth = depth_of(book_of(), fills=forced_fills((7, 0, -5, 96)))
    assert send(depth, (14, NO_LIMIT), ts=7) == ([14], [(300 + 396 + 485 + 2 * 96) * ATOMS])


def test_it_stands_among_the_levels_by_its_price() -> None:
    depth = depth_of(book_of(), fills=forced_fills((7, 0, -5, 98)))
    assert send(depth, (13, NO_LIMIT), ts=7) == ([13], [(300 + 396 + 5 * 98 + 97) * ATOMS])


def test_it_is_offered_to_its_own_side_and_step_alone() -> None:
    depth = depth_of(depth_rows(), fills=forced_fills((7, 0, -5, 98), (7, 0, 2, 99)))
    assert send(depth, (9, NO_LIMIT), ts=6)[0] == [0]
    assert send(depth, (9, NO_LIMIT), ts=7)[0] == [5]
    assert send(depth, (9, NO_LIMIT), side=Side.ASK, ts=7)[0] == [2]
    assert send(depth, (9, NO_LIMIT), ts=8)[0] == [0]


def test_it_is_offered_once() -> None:
    """The second order of the step finds what the first has left, whichever rung sends it."""
    depth = depth_of(depth_rows(), fills=forced_fills((7, 0, -5, 98)))
    assert send(depth, (3, NO_LIMIT), ts=7)[0] == [3]
    assert send(depth, (9, NO_LIMIT), ts=7)[0] == [2]
    assert send(depth, (9, NO_LIMIT), ts=7)[0] == [0]


def test_what_is_taken_of_it_is_not_missing_from_the_snapshot() -> None:
    """Those orders are no part of the snapshot: the levels of the next step are whole."""
    depth = depth_of(
        book_of(bids=((97, 5),)), depth_rule(half_life_ns=SECOND), fills=forced_fills((7, 0, -5, 98))
    )
    assert send(depth, (5, NO_LIMIT), ts=7)[0] == [5]
    assert send(depth, (5, NO_LIMIT), ts=8) == ([5], [5 * 97 * ATOMS])


def test_a_haircut_leaves_it_whole() -> None:
    """It was there in need: the tape shows it."""
    rule = depth_rule(haircut_rate=RATE_ONE // 2)
    depth = depth_of(depth_rows(), rule, fills=forced_fills((7, 0, -5, 98)))
    assert send(depth, (9, NO_LIMIT), ts=7)[0] == [5]


# --- the other providers ---------------------------------------------------------------------------


def test_a_static_table_stands_behind_the_mark() -> None:
    """Mark 20,000: 5 bp behind are 19,990 and 20,010, 50 bp 19,900 and 20,100."""
    state = state_of(linear())
    set_mark(state, 20_000)
    rule = depth_rule(provider="static", static=((5, 199_900 * ATOMS), (50, 398_000 * ATOMS)))
    depth = depth_of(depth_rows(), rule, state=state)
    assert [x.tolist() for x in depth.levels(0, Side.BID, 0)] == [[19_990, 19_900], [10, 20]]
    assert [x.tolist() for x in depth.levels(0, Side.ASK, 0)] == [
        [20_010, 20_100],
        [round(Fraction(199_900, 20_010)), round(Fraction(398_000, 20_100))],
    ]
    assert send(depth, (11, NO_LIMIT)) == ([11], [(10 * 19_990 + 19_900) * ATOMS])


def test_prices_behind_the_mark_go_to_the_tick_away_from_it() -> None:
    """Mark 101, 50 bp: 100.495 and 101.505, so bids at 100, asks at 102."""
    state = state_of(linear())
    set_mark(state, 101)
    depth = depth_of(depth_rows(), depth_rule(provider="static", static=((50, 10_000 * ATOMS),)), state=state)
    assert depth.levels(0, Side.BID, 0)[0].tolist() == [100]
    assert depth.levels(0, Side.ASK, 0)[0].tolist() == [102]


def test_a_static_table_without_a_mark_offers_nothing() -> None:
    depth = depth_of(depth_rows(), depth_rule(provider="static", static=((5, ATOMS),)))
    assert depth.levels(0, Side.BID, 0)[0].tolist() == []


def test_a_static_table_of_inverse_contracts_is_in_coins() -> None:
    """2 coins at 10,000 are 200 contracts of 100."""
    state = state_of(inverse())
    set_mark(state, 10_000)
    depth = depth_of(depth_rows(), depth_rule(provider="static", static=((0, 2 * ATOMS),)), state=state)
    assert [x.tolist() for x in depth.levels(0, Side.BID, 0)] == [[10_000], [200]]
    assert send(depth, (200, NO_LIMIT)) == ([200], [2 * ATOMS])


def test_volume_offers_a_share_of_what_was_traded_in_the_window() -> None:
    """64 buckets of one second; 30 and 50 traded in them, 1,000 before: 10 % of 80, 20 bp behind 1,000."""
    state = state_of(linear(), bucket_ns=SECOND)
    set_mark(state, 1_000)
    now = 100 * SECOND
    state.arrays.volumes[0, 0] = (100, 30)
    state.arrays.volumes[0, 1] = (100 - BUCKETS + 1, 50)
    state.arrays.volumes[0, 2] = (100 - BUCKETS, 1_000)
    rule = depth_rule(
        provider="volume", participation_rate=RATE_ONE // 10, window_ns=BUCKETS * SECOND, slippage_bp=20
    )
    depth = depth_of(depth_rows(), rule, state=state)
    assert [x.tolist() for x in depth.levels(0, Side.BID, now)] == [[998], [8]]
    assert [x.tolist() for x in depth.levels(0, Side.ASK, now)] == [[1_002], [8]]
    assert send(depth, (20, NO_LIMIT), ts=now) == ([8], [8 * 998 * ATOMS])
    assert send(depth, (20, 999), ts=now)[0] == [0], "the limit is better than where it is offered"


# --- more depth ------------------------------------------------------------------------------------

levels = st.lists(st.tuples(st.integers(90, 110), st.integers(1, 50)), max_size=6)
orders = st.lists(
    st.tuples(st.integers(1, 60), st.integers(88, 112) | st.just(NO_LIMIT)), min_size=1, max_size=6
)


@given(levels, orders, st.integers(0, 6), st.integers(1, 30), st.sampled_from(list(Side)))
def test_more_depth_never_fills_less(
    book: list[tuple[int, int]], wanted: list[tuple[int, int]], place: int, more: int, side: Side
) -> None:
    """Order by order: one level that holds more, or one level in addition."""
    deeper = [*book[:place], (100, more), *book[place:]]

    def filled(book: list[tuple[int, int]]) -> list[int]:
        rows = depth_rows(*((0, 0, side, price, qty) for price, qty in book))
        return send(depth_of(rows), *wanted, side=side)[0]

    before, after = filled(book), filled(deeper)
    assert all(less <= greater for less, greater in zip(before, after, strict=True))
    assert sum(after) <= sum(qty for _, qty in deeper)


@given(levels, orders, st.sampled_from(list(Side)))
def test_nothing_within_the_limit_is_left_to_an_order_that_is_not_filled(
    book: list[tuple[int, int]], wanted: list[tuple[int, int]], side: Side
) -> None:
    """Against the plainest of books: a list of single contracts, best first."""
    contracts = sorted((price for price, qty in book for _ in range(qty)), reverse=side == Side.BID)
    expected, values = [], []
    for quantity, limit in wanted:
        within = [
            p for p in contracts if limit == NO_LIMIT or (p >= limit if side == Side.BID else p <= limit)
        ]
        taken = within[:quantity]
        for price in taken:
            contracts.remove(price)
        expected.append(len(taken))
        values.append(sum(taken) * ATOMS)
    rows = depth_rows(*((0, 0, side, price, qty) for price, qty in book))
    assert send(depth_of(rows), *wanted, side=side) == (expected, values)
