"""The reference engine on days worked by hand; a unit of value is one atom, so V(n, P) = n * P."""

from __future__ import annotations

from fractions import Fraction

import pytest

from replay.tape.schema import FillKind, Grade, Mode, Payoff, PriceKind
from tests.reference import (
    Books,
    Break,
    Day,
    Fill,
    Funding,
    Liquidation,
    Market,
    OpeningCash,
    OpeningPosition,
    Price,
    Rules,
    Takeover,
    Tier,
    Transfer,
    contract_value,
    replay,
    split,
)

UNIT = Market("UNIT", Payoff.LINEAR, 0, Fraction(1, 10**8), 0, 0, 0)
INVERSE = Market("INVERSE", Payoff.INVERSE, 0, Fraction(100), 1, 1, 0)
SPOT = Market("SPOT", Payoff.SPOT, 0, Fraction(1), 0, 0, 0)
TENTH = Rules({market: [Tier(0, Fraction(1, 10), 0)] for market in range(3)}, absorber="@vault:v")


def day(*markets: Market, accounts_start: str = "known") -> Day:
    return Day(list(markets or (UNIT,)), [("", "USDC"), ("spot", "HYPE")], ["a", "b"], accounts_start)


def fill(
    ts: int,
    account: str,
    qty: int,
    price: int,
    *,
    market: int = 0,
    fee: int = 0,
    fee_ledger: int = 0,
    kind: FillKind = FillKind.TRADE,
    paired: bool = False,
    victim: str | None = None,
    start: int | None = None,
    mode: Mode = Mode.CROSS,
) -> Fill:
    return Fill(ts, market, account, qty, price, fee, fee_ledger, kind, int(paired), victim, start, mode)


def mark(ts: int, price: int, market: int = 0, kind: PriceKind = PriceKind.MARK) -> Price:
    return Price(ts, market, kind, price)


def cash_and_position(books: Books, account: str, market: int = 0) -> tuple[int, int, int]:
    position = books.positions[account, market, Mode.CROSS]
    return position.pool.cash, position.size, position.cost


def test_open_increase_reduce_flip_close() -> None:
    tape = day()
    expected = []
    for ts, qty, price, after in [
        (1, 3, 100, (0, 3, 300)),
        (2, 4, 107, (0, 7, 728)),  # 300 + 428
        (3, -2, 110, (12, 5, 520)),  # releases floor(728 * 2 / 7) = 208 and gets 220
        (4, -8, 90, (-58, -3, -270)),  # closes 5 for 450 at a cost of 520, opens -3 at 90
        (5, 3, 80, (-28, 0, 0)),  # buys back for 240 what was sold for 270
    ]:
        tape.fills.append(fill(ts, "a", qty, price))
        expected.append(after)
        assert cash_and_position(replay(tape, TENTH), "a") == after
    unseen = replay(tape, TENTH).positions["@unseen", 0, Mode.CROSS]
    assert (unseen.pool.cash, unseen.size, unseen.cost) == (28, 0, 0)


def test_a_short_releases_its_cost_toward_zero() -> None:
    tape = day()
    tape.fills = [fill(1, "a", -3, 100), fill(2, "a", -4, 107), fill(3, "a", 2, 110)]
    assert cash_and_position(replay(tape, TENTH), "a") == (-12, -5, -520)  # 208 of 728 released, 220 paid


def test_both_rows_of_a_match_and_fees() -> None:
    tape = day()
    tape.fills = [
        fill(1, "a", 3, 100, fee=7, paired=True),
        fill(1, "b", -3, 100, fee=-2, paired=True),
        fill(2, "a", -1, 100, fee=5, fee_ledger=1),
    ]
    books = replay(tape, TENTH)
    assert cash_and_position(books, "a") == (-7, 2, 200)
    assert cash_and_position(books, "b") == (2, -3, -300)
    assert books.pools["@fees", 0, None].cash == 5
    assert books.pools["@fees", 1, None].cash == 5
    assert books.pools["a", 1, None].cash == -5
    assert not books.external[0]


def test_a_match_with_one_row_missing_is_refused() -> None:
    tape = day()
    tape.fills = [fill(1, "a", 3, 100, paired=True)]
    with pytest.raises(AssertionError, match="only one of its two rows"):
        replay(tape, TENTH)


def test_inverse_profit_is_in_coin() -> None:
    """100 contracts of 100 USD: 10,000 USD bought at 20,000.0 (0.5 BTC) and sold at 25,000.0 (0.4 BTC)."""
    tape = day(INVERSE)
    tape.fills = [fill(1, "a", 100, 200_000), fill(2, "a", -100, 250_000)]
    assert cash_and_position(replay(tape, TENTH), "a") == (10_000_000, 0, 0)  # 0.1 BTC
    assert contract_value(INVERSE, 1, 300_000, 1) == -333_333  # 100 / 30,000 BTC = 0.00333333
    assert contract_value(INVERSE, -1, 300_000, 1) == 333_333


@pytest.mark.parametrize(("size", "value"), [(1, 0), (3, 2), (5, 2), (7, 4), (-1, 0), (-3, -2), (-7, -4)])
def test_half_an_atom_goes_to_the_even_neighbour(size: int, value: int) -> None:
    half = UNIT._replace(multiplier=Fraction(1, 2 * 10**8))
    assert contract_value(half, size, 1, 0) == value


def test_the_flip_of_an_inverse_position_closes_at_its_own_value() -> None:
    """Long 1 at 30,000.0 (cost -333,333), then sell 3 at 35,000.0.

    V(-3) = 857,142.857 = 857,143; the closing V(-1) = 285,714, so 571,429 is left to the opening of -2.
    """
    tape = day(INVERSE)
    tape.fills = [fill(1, "a", 1, 300_000), fill(2, "a", -3, 350_000)]
    assert cash_and_position(replay(tape, TENTH), "a") == (333_333 - 285_714, -2, 857_143 - 285_714)


def test_opening_positions_that_do_not_sum_to_zero_are_balanced_by_the_unseen() -> None:
    tape = day()
    tape.opening_cash = [OpeningCash("a", 0, None, 1_000, Grade.KNOWN)]
    tape.opening_positions = [OpeningPosition("a", 0, 0, 5, 100), OpeningPosition("b", 0, 0, -2, 90)]
    books = replay(tape, TENTH)
    assert cash_and_position(books, "a") == (1_000, 5, 500)
    assert cash_and_position(books, "b") == (0, -2, -180)
    assert cash_and_position(books, "@unseen") == (0, -3, -320)
    assert books.external[0] == 1_000


def test_opening_sizes_that_sum_to_zero_at_unequal_cost() -> None:
    """What was earned between the two entries is in nobody's cash yet: the unseen accounts have it."""
    tape = day()
    tape.opening_positions = [OpeningPosition("a", 0, 0, 2, 100), OpeningPosition("b", 0, 0, -2, 90)]
    assert cash_and_position(replay(tape, TENTH), "@unseen") == (20, 0, 0)


def test_start_positions_open_and_mend_the_chain() -> None:
    tape = day()
    tape.prices = [mark(2, 120)]
    tape.fills = [
        fill(1, "a", 1, 100, start=4),  # opened at its own price, for lack of a mark
        fill(2, "a", 1, 110, start=5),
        fill(3, "a", 1, 110, start=9),  # three are missing: bought at the mark of 120
    ]
    books = replay(tape, TENTH)
    assert books.breaks == [Break(3, 2, "a", 0, 6, 9)]
    assert books.positions["a", 0, Mode.CROSS].entry_unknown
    assert cash_and_position(books, "a") == (0, 10, 500 + 110 + 360 + 110)
    assert books.positions["a", 0, Mode.CROSS].recorded_size == 10


def test_transfers_and_funding() -> None:
    """At a rate of 1.5 %, 3 at a mark of 100 pay 4.5 atoms, which is 4; 1 pays 1.5, which is 2."""
    tape = day()
    tape.transfers = [
        Transfer(1, "a", 0, None, 50),
        Transfer(1, "a", 0, 0, 20),
        Transfer(4, "a", 0, None, -10),
    ]
    tape.prices = [mark(2, 100)]
    tape.fills = [
        fill(2, "a", 3, 100),
        fill(2, "b", -4, 100),
        fill(2, "a", 1, 100, mode=Mode.ISOLATED),
    ]
    tape.funding = [Funding(3, 0, 15 * 10**9)]
    books = replay(tape, TENTH)
    assert books.pools["a", 0, None].cash == 50 - 4 - 10
    assert books.pools["a", 0, 0].cash == 20 - 2
    assert books.pools["b", 0, None].cash == 6
    assert books.pools["@funding:UNIT", 0, None].cash == 0
    assert books.external[0] == 60


def test_funding_of_what_nobody_holds_needs_no_mark() -> None:
    tape = day()
    tape.funding = [Funding(1, 0, 1)]
    replay(tape, TENTH)


def test_funding_before_the_first_mark_is_refused() -> None:
    """Somebody holds a unit of the market, and nothing says what it is worth."""
    tape = day()
    tape.opening_positions = [OpeningPosition("a", 0, Mode.CROSS, 1, 10)]
    tape.funding = [Funding(1, 0, 1)]
    with pytest.raises(ValueError, match="funding before first mark"):
        replay(tape, TENTH)


def test_which_rows_set_the_mark() -> None:
    tape = day()
    tape.fills = [fill(1, "a", 1, 100)]
    assert replay(tape, TENTH).marks == {0: 100}
    tape.fills.append(fill(2, "a", -1, 90, kind=FillKind.LIQUIDATION, victim="a"))
    assert replay(tape, TENTH).marks == {0: 100}  # a forced fill sets none
    tape.prices = [mark(2, 95, kind=PriceKind.EVENT), mark(2, 94, kind=PriceKind.ORACLE)]
    tape.fills.append(fill(2, "a", 1, 91))
    assert replay(tape, TENTH).marks == {0: 95}  # a price of the step outranks a fill of the step
    tape.prices.append(mark(3, 80, kind=PriceKind.IMPLIED))
    assert replay(tape, TENTH).marks == {0: 95}
    assert replay(tape, TENTH, anchored=True).marks == {0: 80}
    tape.fills.append(fill(4, "a", 1, 99))
    assert replay(tape, TENTH).marks == {0: 99}
    tape.prices.insert(0, mark(1, 101, kind=PriceKind.LAST))
    assert replay(tape, TENTH).marks == {0: 95}  # where there are last prices, fills set no mark
    tape.prices.append(mark(5, 93, kind=PriceKind.LAST))
    assert replay(tape, TENTH).marks == {0: 93}
    tape.prices.append(mark(3, 102))
    assert replay(tape, TENTH).marks == {0: 102}  # where there are published marks, last prices set none


def test_marks_from_fills_have_the_scale_of_marks() -> None:
    tape = day(UNIT._replace(mark_scale=2))
    tape.fills = [fill(1, "a", 1, 100)]
    assert replay(tape, TENTH).marks == {0: 10_000}


def test_spot_rows_book_their_fee_only() -> None:
    tape = day(SPOT)
    tape.fills = [fill(1, "a", 5, 100, fee=3, fee_ledger=1)]
    books = replay(tape, TENTH)
    assert not books.positions
    assert books.pools["a", 1, None].cash == -3


def test_maintenance_tiers_round_up_and_deduct() -> None:
    """5 % to 1,000 atoms, then 10 % less 50: at 999 it is 49.95, at 1,000 it is 50, at 1,501 it is 100.1."""
    rules = Rules({0: [Tier(0, Fraction(1, 20), 0), Tier(1_000, Fraction(1, 10), 50)]}, absorber="@vault:v")
    for size, expected in [(999, 50), (1_000, 50), (1_501, 151 - 50)]:
        tape = day()
        tape.fills = [fill(1, "a", -size, 1)]
        books = replay(tape, rules)
        assert books.maintenance(books.pools["a", 0, None]) == expected


@pytest.mark.parametrize(
    ("cash", "at_equal", "breach"), [(10, False, False), (9, False, True), (10, True, True)]
)
def test_the_boundary_of_a_breach(cash: int, at_equal: bool, breach: bool) -> None:
    """A long of 1 at 100 needs 10: equity of 10 is enough, unless the rule is strict."""
    tape = day()
    tape.opening_cash = [OpeningCash("a", 0, None, cash, Grade.KNOWN)]
    tape.fills = [fill(1, "a", 1, 100)]
    rules = Rules(TENTH.tiers, TENTH.absorber, breach_at_equal=at_equal)
    assert bool(replay(tape, rules, ruled=True).takeovers) == breach


@pytest.mark.parametrize("grade", [Grade.KNOWN, Grade.BOUNDED, Grade.ASSUMED, Grade.UNKNOWN])
def test_pools_of_unknown_equity_are_not_judged(grade: Grade) -> None:
    tape = day()
    tape.opening_cash = [OpeningCash("a", 0, None, 9, grade)]
    tape.fills = [fill(1, "a", 1, 100)]
    assert bool(replay(tape, TENTH, ruled=True).takeovers) == (grade != Grade.UNKNOWN)
    unknown = day(accounts_start="unknown")
    unknown.fills = [fill(1, "a", 1, 100)]
    assert not replay(unknown, TENTH, ruled=True).takeovers


def test_a_takeover_leaves_exactly_nothing() -> None:
    """10 of the first at 100 and -30 of the second at 100, cash 500; then the second rises to 111.

    Equity is 500 - 330 = 170, maintenance 100 + 333 = 433. Shares of 170: 170 * 100 / 433 = 39.26 and
    170 * 333 / 433 = 130.74, so 39 and 131. Values: 1,000 - 39 = 961 and -3,330 - 131 = -3,461.
    """
    tape = day(UNIT, UNIT._replace(name="SECOND"))
    tape.opening_cash = [OpeningCash("a", 0, None, 500, Grade.KNOWN)]
    tape.prices = [mark(1, 100), mark(1, 100, 1), mark(2, 111, 1)]
    tape.fills = [fill(1, "a", 10, 100), fill(1, "a", -30, 100, market=1)]
    books = replay(tape, TENTH, ruled=True)
    assert books.takeovers == [
        Takeover(2, "a", 0, 0, 0, 10, 961, 170, 433, 100),
        Takeover(2, "a", 0, 1, 0, -30, -3_461, 170, 433, 111),
    ]
    assert cash_and_position(books, "a") == (0, 0, 0)
    assert cash_and_position(books, "@vault:v") == (0, 10, 961)
    assert cash_and_position(books, "@vault:v", 1) == (0, -30, -3_461)


def test_a_bankrupt_pool_is_taken_over_beyond_the_mark() -> None:
    """Long 10 at 100 with cash 50 at a mark of 90: equity -50, so the absorber takes 900 at 950."""
    tape = day()
    tape.opening_cash = [OpeningCash("a", 0, None, 150, Grade.KNOWN)]
    tape.prices = [mark(1, 100), mark(2, 80)]
    tape.fills = [fill(1, "a", 10, 100)]
    (taken,) = replay(tape, TENTH, ruled=True).takeovers
    assert (taken.equity, taken.value) == (-50, 850)


def test_splits_give_the_rest_to_the_largest_rests() -> None:
    assert split(10, [1, 1, 1]) == [4, 3, 3]
    assert split(-11, [1, 1, 1]) == [-4, -4, -3]
    assert split(10, [5, 4, 2]) == [4, 4, 2]  # 4.55, 3.64, 1.82
    assert split(0, [2, 3]) == [0, 0]


def liquidated_day() -> Day:
    """`a` breaches at the end of step 2; the tape goes on as if it had not."""
    tape = day()
    tape.opening_cash = [OpeningCash("a", 0, None, 150, Grade.KNOWN)]
    tape.prices = [mark(1, 100), mark(2, 90)]
    tape.fills = [fill(1, "a", 10, 100)]
    return tape


def test_a_fill_that_reduced_the_record_finds_nothing_to_reduce() -> None:
    tape = liquidated_day()
    tape.fills.append(fill(3, "a", -4, 95, fee=8))
    books = replay(tape, TENTH, ruled=True)
    assert cash_and_position(books, "a") == (0, 0, 0)
    assert books.positions["a", 0, Mode.CROSS].recorded_size == 6
    assert books.positions["@book", 0, Mode.CROSS].size == -4
    assert books.positions["@book", 0, Mode.CROSS].cost == -380
    assert books.pools["@fees", 0, None].cash == 0
    assert books.reasons["clipped"] == 1


def test_a_fill_that_increased_the_record_is_dropped_where_margin_lacks() -> None:
    tape = liquidated_day()
    tape.fills.append(fill(3, "a", 2, 90, fee=8))
    books = replay(tape, TENTH, ruled=True)
    assert cash_and_position(books, "a") == (0, 0, 0)
    assert books.positions["@book", 0, Mode.CROSS].size == 2
    assert books.reasons["dropped"] == 1


def test_a_fill_that_increased_the_record_is_applied_where_margin_suffices() -> None:
    tape = liquidated_day()
    tape.transfers = [Transfer(3, "a", 0, None, 18)]
    tape.fills.append(fill(3, "a", 2, 90, fee=0))
    books = replay(tape, TENTH, ruled=True)
    assert cash_and_position(books, "a") == (18, 2, 180)
    assert books.positions["a", 0, Mode.CROSS].recorded_size == 12
    assert ("@book", 0, Mode.CROSS) not in books.positions


def test_a_part_applied_pays_its_part_of_the_fee() -> None:
    """The replay holds 3 where the record has 13: of 7 sold, 3 are, with 3/7 of a fee of 11: 4.71 -> 5."""
    tape = liquidated_day()
    tape.transfers = [Transfer(3, "a", 0, None, 100)]
    tape.fills += [fill(3, "a", 3, 90), fill(4, "a", -7, 91, fee=11)]
    books = replay(tape, TENTH, ruled=True)
    assert cash_and_position(books, "a") == (100 + 3 - 5, 0, 0)
    assert books.positions["@book", 0, Mode.CROSS].size == -4
    assert books.positions["a", 0, Mode.CROSS].recorded_size == 6


def test_the_vault_may_flip() -> None:
    """It holds -5 (of `b`) when it is given 10 (of `a`) for 850: the 5 that close count as half of that."""
    tape = day()
    tape.opening_cash = [
        OpeningCash("b", 0, None, 60, Grade.KNOWN),
        OpeningCash("a", 0, None, 150, Grade.KNOWN),
    ]
    tape.prices = [mark(1, 100), mark(2, 110), mark(3, 90)]
    tape.fills = [fill(1, "b", -5, 100), fill(1, "a", 10, 100)]
    books = replay(tape, TENTH, ruled=True)
    short, long = books.takeovers
    assert (short.account, short.value) == ("b", -550 - 10)
    assert (long.account, long.value) == ("a", 900 - 50)
    assert cash_and_position(books, "@vault:v") == (560 - 425, 5, 425)


def forced_day(kind: FillKind) -> Day:
    """`a` is long 10, and the tape forces it to sell to `b`."""
    tape = day()
    tape.opening_cash = [OpeningCash(name, 0, None, 1_000, Grade.KNOWN) for name in ("a", "b")]
    tape.fills = [
        fill(1, "a", 10, 100),
        fill(2, "a", -10, 90, kind=kind, paired=True, victim="a", fee=3),
        fill(2, "b", 10, 90, kind=kind, paired=True, victim="a", fee=1),
    ]
    return tape


@pytest.mark.parametrize(
    ("kind", "a", "b", "book"),
    [
        (FillKind.LIQUIDATION, (1_000, 10, 1_000), (999, 10, 900), -10),
        (FillKind.BACKSTOP, (1_000, 10, 1_000), (1_000, 0, 0), 0),
        (FillKind.ADL, (1_000, 10, 1_000), (1_000, 0, 0), 0),
        (FillKind.SETTLEMENT, (897, 0, 0), (999, 10, 900), 0),
    ],
)
def test_what_the_rules_leave_out(
    kind: FillKind, a: tuple[int, int, int], b: tuple[int, int, int], book: int
) -> None:
    tape = forced_day(kind)
    recorded = replay(tape, TENTH)
    assert cash_and_position(recorded, "a") == (1_000 - 100 - 3, 0, 0)
    assert cash_and_position(recorded, "b") == (1_000 - 1, 10, 900)
    ruled = replay(tape, TENTH, ruled=True)
    assert cash_and_position(ruled, "a") == a
    assert cash_and_position(ruled, "b") == b
    assert ruled.positions["a", 0, Mode.CROSS].recorded_size == 0
    assert ruled.positions["b", 0, Mode.CROSS].recorded_size == 10
    assert sum(p.size for p in ruled.positions.values() if p.pool.account == "@book") == book


def test_a_settlement_closes_what_the_replay_holds() -> None:
    tape = forced_day(FillKind.LIQUIDATION)  # left out under rules: `a` still holds 10, recorded 0
    tape.fills += [fill(3, "a", 4, 90), fill(4, "a", -4, 80, kind=FillKind.SETTLEMENT)]
    books = replay(tape, TENTH, ruled=True)
    assert cash_and_position(books, "a") == (1_000 - 200 - 40, 0, 0)
    assert books.positions["@book", 0, Mode.CROSS].size == -10 + 10


def test_facts_are_of_the_moment_before_the_first_forced_fill() -> None:
    tape = forced_day(FillKind.LIQUIDATION)
    tape.prices = [mark(1, 100), mark(2, 95)]
    tape.fills.insert(1, fill(2, "a", 2, 95))
    (facts,) = replay(tape, TENTH).facts
    assert (facts.size, facts.cost, facts.mark) == (12, 1_190, 95)
    assert facts.standing == (1_000 - 50, 114, 1_140, True, False)
    assert facts.bankruptcy_value == 1_140 - 950
    assert (facts.filled, facts.filled_value, facts.size_after, facts.cost_after) == (-10, -900, 2, 199)


def test_positions_forced_together_are_seen_with_the_pool_before_the_first() -> None:
    """Equity 40 of maintenance 30: the first has 10 and 13.33 of the equity, the second 20 and 26.67."""
    tape = day(UNIT, UNIT._replace(name="SECOND"))
    tape.opening_cash = [OpeningCash("a", 0, None, 40, Grade.KNOWN)]
    tape.fills = [
        fill(1, "a", 1, 100),
        fill(1, "a", -2, 100, market=1),
        fill(2, "a", -1, 95, kind=FillKind.LIQUIDATION, victim="a"),
        fill(2, "a", 2, 105, kind=FillKind.LIQUIDATION, victim="a", market=1),
    ]
    first, second = replay(tape, TENTH).facts
    assert first.standing == second.standing == (40, 30, 300, True, False)
    assert (first.bankruptcy_value, second.bankruptcy_value) == (100 - 13, -200 - 27)


def test_anchoring_books_the_difference_as_unexplained() -> None:
    tape = forced_day(FillKind.LIQUIDATION)
    tape.prices = [mark(1, 100), mark(2, 95)]
    tape.liquidations = [
        Liquidation(2, 7, "a", 0, "Cross", 8),
        Liquidation(2, 7, "a", 0, "Cross", 8),  # a second leg is of the same pool
        Liquidation(2, 8, "b", 0, "Isolated", 8),
    ]
    books = replay(tape, TENTH, anchored=True)
    assert dict(books.anchors) == {7: 8 - 950}
    assert books.pools["@unexplained", 0, None].cash == 942
    (facts,) = books.facts
    assert (facts.standing.equity, facts.standing.short) == (8, True)
    ruled = replay(tape, TENTH, ruled=True, anchored=True)
    assert [(taken.ts, taken.size, taken.value) for taken in ruled.takeovers] == [(2, 10, 950 - 8)]
    assert cash_and_position(ruled, "a") == (0, 0, 0)
