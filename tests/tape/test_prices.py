"""Index and mark of a tape that has none: medians, guards, and no look ahead, by hand."""

from __future__ import annotations

import numpy as np

from replay.tape.prices import LastBySecond, index_of, mark_of, price_rows

SECOND = 1_000_000_000
ONE = 10**8


def last(*trades: tuple[float, int]) -> LastBySecond:
    """Trades as (seconds, price)."""
    made = LastBySecond()
    ts = np.array([int(at * SECOND) for at, _ in trades], np.int64)
    made.add(ts, np.array([price for _, price in trades], np.int64), np.zeros(len(trades), np.int64))
    return made


def test_the_last_trade_of_a_second_counts():
    assert (last((10.1, 5), (10.9, 6), (12.0, 7)).over(10, 4) // ONE).tolist() == [6, 0, 7, 0]


def test_trades_in_several_pieces_are_one_series():
    made = LastBySecond()
    for second, price in ((3, 1), (4, 2), (9, 3)):
        made.add(np.array([second * SECOND]), np.array([price]), np.zeros(1, np.int64))
    assert (made.over(3, 7) // ONE).tolist() == [1, 2, 0, 0, 0, 0, 3]
    assert (made.over(0, 5) // ONE).tolist() == [0, 0, 0, 1, 2]


def test_the_index_is_the_median_and_of_an_even_count_the_mean_of_the_two_in_the_middle():
    venues = [last((0, 100)), last((0, 102)), last((0, 101)), last((0, 101))]
    assert (index_of(venues, 0, 1).price / ONE).tolist() == [101.0]
    assert (index_of(venues[:2], 0, 1).price / ONE).tolist() == [101.0]


def test_a_venue_without_a_trade_for_a_minute_is_left_out_and_then_the_index_is_held():
    """One venue trades at 100 and never again, the other at 110 until second 100."""
    other = last(*((second, 110) for second in range(101)))
    made = index_of([last((0, 100)), other], 0, 200)
    price = made.price // ONE
    assert price[0] == 105
    assert price[60] == 105  # 60 seconds old: still fresh
    assert price[61] == 110
    assert price[199] == 110
    assert made.stale == 200 - 161  # the last trade of all is of second 100


def test_of_three_venues_one_three_percent_off_is_left_out():
    """Of 100, 101 and 105 the median is 101; 105 is 3.96 % above it: the median of the others is 100.5."""
    made = index_of([last((0, 100)), last((0, 101)), last((0, 105))], 0, 1)
    assert (made.price / ONE).tolist() == [100.5]
    assert made.left_out == 1


def test_the_mark_follows_the_basis_with_a_time_constant_of_thirty_seconds():
    """Index 100; own trades at 100, then at 94: each second the basis moves by a thirtieth of what is missing."""
    index = np.full(32, 100 * ONE)
    own = last((0, 100), *((second, 94) for second in range(1, 32)))
    marks = mark_of(index, own, 0) / ONE
    assert marks[0] == 100.0
    assert marks[1] == 100 - 6 / 30
    assert abs(marks[31] - (94 + 6 * (29 / 30) ** 31)) < 1e-6


def test_the_mark_is_never_beyond_index_and_last_trade():
    """After a fall the trade is back at the index at once, while the smoothed basis still lags: the mark is 100."""
    index = np.full(4, 100 * ONE)
    own = last((0, 50), (1, 50), (2, 100), (3, 101))
    assert (mark_of(index, own, 0) / ONE).tolist()[2] == 100.0


def test_without_an_index_the_mark_is_the_last_trade():
    assert (mark_of(np.zeros(3, np.int64), last((1, 7)), 0) / ONE).tolist() == [0.0, 7.0, 7.0]


def test_rows_stand_at_the_end_of_their_second_and_only_where_a_price_changed():
    series = [(3, 1, np.array([0, 5, 5, 6]) * ONE), (4, 0, np.array([9, 9, 9, 9]) * ONE)]
    rows = [row for part in price_rows(series, 100, [0, 2]) for row in zip(*part.values(), strict=True)]
    assert [tuple(int(x) for x in row) for row in rows] == [
        (101 * SECOND, 4, 0, 900, 2),
        (102 * SECOND, 3, 1, 5, 0),
        (104 * SECOND, 3, 1, 6, 0),
    ]
