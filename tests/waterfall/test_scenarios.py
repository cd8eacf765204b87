"""Days small enough to be worked on paper; every number expected here comes from the arithmetic beside it."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from tests.waterfall.days import BYBIT, HYPERLIQUID, Day, account, depth, fund, marks, replayed

D = Decimal
CASES = Path(__file__).parents[2] / "../shared/cases/cases.json"

MARKETS = 'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }, { name = "ETH", tick = 0.01, lot = 0.01 }]\n'

# One long of 10 BTC from 100,000 with 50,000 of cash, and three shorts that take the other side.
ONE_LONG = (
    MARKETS
    + account("whale", 50_000, ("BTC", 10, 100_000))
    + account("early", 100_000, ("BTC", -4, 110_000))
    + account("middle", 60_000, ("BTC", -3, 105_000))
    + account("late", 20_000, ("BTC", -3, 100_000))
)

ORDERS = (
    "SELECT ts, stage, account, asked, limit_price, filled, value, reason FROM forced_orders ORDER BY seq"
)
CLOSED = (
    "SELECT loser, winner, origin, rank, candidates, lights, quantity, value, realised, winner_fee "
    "FROM adl_fills ORDER BY seq"
)
FUND = "SELECT kind, amount, balance, inventory FROM absorber_ledger ORDER BY seq"
QUANTITIES = """SELECT account, asked, book, absorbed, adl, "left" FROM liquidations ORDER BY liquidation"""
MONEY = "SELECT account, surplus, shortfall, fund, vault, bad_debt FROM liquidations ORDER BY liquidation"


# --- one long, three winners, a thin book: Hyperliquid ---------------------------------------------


@pytest.fixture(scope="module")
def vault_day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    """Maintenance of BTC is 1.25 %.

    10 s  mark 95,900: equity 50,000 - 41,000 = 9,000 of 11,987.50 needed, 75 %: a slice of 20 %, 2 BTC,
          into bids for 1.4: 95,800 + 0.4 x 95,500 = 134,000, fee 0.045 % = 60.30.
          Left: 8.6 BTC, cash 50,000 - 6,000 - 60.30 = 43,939.70.
    20 s  mark 95,600: equity 43,939.70 - 8.6 x 4,400 = 6,099.70 of 10,277 needed, 59 %: below 2/3, the vault
          takes 8.6 BTC, worth 822,160, for 816,060.30, and is 6,099.70 richer: 36,099.70.
    30 s  mark 91,000: the vault stands at 36,099.70 - 8.6 x 4,600 = -3,460.30 and is deleveraged at the mark
          before, 95,600: it ends with 36,099.70 in cash and nothing else.
    """
    return replayed(
        tmp_path_factory.mktemp("vault"),
        ONE_LONG
        + fund("@vault:liquidator", 30_000)
        + marks("BTC", ("+0s", 100_000), ("+10s", 95_900), ("+20s", 95_600), ("+30s", 91_000))
        + depth("+5s", "BTC", bids=[(95_800, 1), (95_500, "0.4")], asks=[(100_100, 1)])
        + depth("+15s", "BTC", asks=[(100_100, 1)]),
        HYPERLIQUID,
    )


def seconds(day: Day, table: str) -> list[int]:
    found = day.rows(f"SELECT epoch_ns(ts::TIMESTAMP_NS) // 1000000000 FROM {table} ORDER BY seq")
    return [moment - 1_760_097_600 for (moment,) in found]


def test_the_slice_goes_to_the_book_and_the_rest_to_the_vault(vault_day: Day) -> None:
    assert [row[1:] for row in vault_day.rows(ORDERS)] == [
        ("book", "whale", D(-2), None, D("-1.4"), D(-134_000), "depth used up"),
        ("takeover", "whale", D("-8.6"), None, D("-8.6"), D("-816060.3"), "taken over by @vault:liquidator"),
    ]
    assert seconds(vault_day, "forced_orders") == [10, 20]
    assert vault_day.cash("whale") == 0
    assert vault_day.size("whale") == 0
    assert vault_day.cash("@fees") == D("60.3")
    assert vault_day.size("@book") == D("1.4")


def test_the_winners_are_closed_by_ratio_times_leverage(vault_day: Day) -> None:
    """At 91,000, scores 100/91 x 273,000/47,000 = 6.38, 105/91 x 273,000/102,000 = 3.09, and 2.5.

    8.6 BTC at 95,600: all 3 of late, all 3 of middle, 2.6 of the 4 of early; no fees.
    """
    gains = [3 * (100_000 - 95_600), 3 * (105_000 - 95_600), D("2.6") * (110_000 - 95_600)]
    assert gains == [13_200, 28_200, 37_440]
    vault = "@vault:liquidator"
    assert vault_day.rows(CLOSED) == [
        (vault, "late", vault, 1, 3, 4, D(3), D(286_800), D(13_200), D(0)),
        (vault, "middle", vault, 2, 3, 3, D(3), D(286_800), D(28_200), D(0)),
        (vault, "early", vault, 3, 3, 1, D("2.6"), D(248_560), D(37_440), D(0)),
    ]
    assert seconds(vault_day, "adl_fills") == [30, 30, 30]
    scores = [float(score) for (score,) in vault_day.rows("SELECT score FROM adl_fills ORDER BY seq")]
    assert scores == pytest.approx([300 / 47, 315 / 102, 2.5])
    assert [vault_day.cash(name) for name in ("late", "middle", "early")] == [33_200, 88_200, 137_440]
    assert [vault_day.size(name) for name in ("late", "middle", "early")] == [0, 0, D("-1.4")]


def test_the_vault_ends_with_what_it_was_given(vault_day: Day) -> None:
    """At the mark it had lost 8.6 x 4,600 = 39,560; deleveraging brought all of that back."""
    assert vault_day.rows(FUND) == [
        ("opening", D(30_000), D(30_000), None),
        ("takeover", D("6099.7"), D("36099.7"), D("8.6")),
        ("deleveraged", D(39_560), D("36099.7"), D(0)),
    ]
    assert vault_day.cash("@vault:liquidator") == D("36099.7")
    assert vault_day.rows("SELECT * FROM shared_losses") == []


def test_one_row_tells_where_the_position_went(vault_day: Day) -> None:
    """1.4 to the book and 8.6 to the vault, in one liquidation that took ten seconds."""
    assert vault_day.rows(QUANTITIES) == [("whale", D(10), D("1.4"), D("8.6"), D(0), D(0))]
    assert vault_day.rows(MONEY) == [("whale", D("6099.7"), D(0), D(0), D(0), D(0))]
    [[took]] = vault_day.rows("SELECT epoch_ns(ts_end) - epoch_ns(ts) FROM liquidations")
    assert took == 10 * 10**9


# --- the same long under Bybit's rules -------------------------------------------------------------


@pytest.fixture(scope="module")
def fund_day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    """Maintenance of BTC is 0.5 % up to 2 million.

    10 s  mark 95,400: equity 50,000 - 46,000 = 4,000 of 4,770 needed. Bankruptcy price 95,000.
          Bids at or above: 2 at 95,200, 1 at 95,000 = 285,400, which is 400 better than bankruptcy:
          156.97 of it is the fee (0.055 %), 243.03 the fund's.
          The fund takes 7 BTC, worth 667,800, for 665,000: 100,000 + 243.03 + 2,800 = 103,043.03,
          and sells 5 of them at 94,000 at once: 7,000 below the mark, 96,043.03.
    20 s  mark 80,000, no bids: 2 x 15,400 lost, 65,243.03. From its peaks of 243.03 and 100,243.03 (seen when
          the fund was judged, before the takeover) the market has lost 35,000 where 30,072.909 may be lost;
          4,927.091 beyond the line. So 2 BTC worth 160,000 are closed at 164,927.091.
    """
    return replayed(
        tmp_path_factory.mktemp("fund"),
        ONE_LONG
        + fund("@fund:insurance", 100_000)
        + marks("BTC", ("+0s", 100_000), ("+10s", 95_400), ("+20s", 80_000))
        + depth("+5s", "BTC", bids=[(95_200, 2), (95_000, 1), (94_000, 5)], asks=[(100_100, 1)])
        + depth("+15s", "BTC", asks=[(100_100, 1)]),
        BYBIT,
    )


def test_the_book_takes_what_is_better_than_bankruptcy_and_the_fund_the_rest(fund_day: Day) -> None:
    rest = "depth within the limit used up"
    assert [row[1:] for row in fund_day.rows(ORDERS)] == [
        ("book", "whale", D(-10), D(95_000), D(-3), D(-285_400), rest),
        ("takeover", "whale", D(-7), None, D(-7), D(-665_000), "taken over by @fund:insurance"),
    ]
    assert fund_day.cash("whale") == 0
    assert fund_day.rows(QUANTITIES) == [("whale", D(10), D(3), D(7), D(0), D(0))]
    assert fund_day.rows(MONEY) == [("whale", D("3043.03"), D(0), D(0), D(0), D(0))]


def test_the_winner_pays_what_lies_beyond_the_line(fund_day: Day) -> None:
    """At 80,000 the scores are 60/300 x 240/80 = 0.6, 75/315 x 240/135 = 0.423, 120/440 x 320/220 = 0.397."""
    gain = 2 * 100_000 - D("164927.091")
    fee = D("164927.091") * D("0.0002")
    assert fund_day.rows(CLOSED) == [
        ("@fund:insurance", "late", "@fund:insurance", 1, 3, 4, D(2), D("164927.091"), gain - fee, fee)
    ]
    assert float(fund_day.one("SELECT score FROM adl_fills")) == pytest.approx(0.6)
    assert fund_day.cash("late") == 20_000 + gain - fee
    assert [fund_day.size(name) for name in ("late", "middle", "early")] == [-1, -3, -4]


def test_the_fund_ends_on_the_line(fund_day: Day) -> None:
    assert fund_day.rows(FUND) == [
        ("opening", D(100_000), D(100_000), None),
        ("surplus", D("243.03"), D("100243.03"), D(0)),
        ("takeover", D(2_800), D("103043.03"), D(7)),
        ("work out", D(-7_000), D("96043.03"), D(2)),
        ("deleveraged", D("4927.091"), D("70170.121"), D(0)),
    ]
    assert D("70170.121") == D("100243.03") * D("0.7")
    assert fund_day.cash("@fund:insurance") == D("70170.121")
    assert fund_day.cash("@fees") == D("156.97") + D("164927.091") * D("0.0002")


def test_the_trigger_is_written_with_what_it_measured(fund_day: Day) -> None:
    start = "SELECT market, state, reason, measured, threshold FROM engagements WHERE state = 'start'"
    reason = "drawdown of the market against the fund's peak"
    assert fund_day.rows(start) == [("BTC", "start", reason, D(-35_000), D("-30072.909"))]


# --- Hyperliquid: slices, cool-down, two thirds of maintenance -------------------------------------

FLAT_BOOK = depth("+0s", "BTC", bids=[(100_000, 100)], asks=[(100_000, 100)])


def r179() -> tuple[dict, dict]:  # type: ignore[type-arg]
    if not CASES.exists():
        pytest.skip(f"the published cases are not there: {CASES}")
    [case] = [c for c in json.loads(CASES.read_text(encoding="utf-8")) if c["id"] == "R179"]
    return case["inputs"], case["expected"]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_published_rule_of_slices_and_backstop(tmp_path: Path, number: int) -> None:
    """R179: 1,000,000 USDC need 12,500 of maintenance; the account has 0.9, 0.7 and 0.66 of that."""
    inputs, expected = r179()
    size = Fraction(inputs["position_usdc"], 100_000)
    cash = Fraction(inputs["position_usdc"]) / 80 * Fraction(str(inputs["equity_over_mm"][number]))
    day = replayed(
        tmp_path,
        MARKETS
        + account("long", cash, ("BTC", size, 100_000))
        + account("short", 10_000_000, ("BTC", -size, 100_000))
        + fund("@vault:liquidator", 0)
        + FLAT_BOOK
        + marks("BTC", ("+0s", 100_000)),
        HYPERLIQUID,
    )
    [(stage, asked, value)] = day.rows("SELECT stage, asked, value FROM forced_orders")
    if expected["backstop"][number]:
        assert (stage, asked) == ("takeover", -10)
        assert -value == inputs["position_usdc"] - cash
    else:
        assert (stage, asked) == ("book", -2)
        assert -value == expected["first_order_usdc"]


def long_day(folder: Path, path: str, books: str, cash: object = 8_750) -> Day:
    text = MARKETS + account("long", cash, ("BTC", 10, 100_000)) + fund("@vault:liquidator", 0)
    return replayed(
        folder, text + account("short", 10_000_000, ("BTC", -10, 100_000)) + books + path, HYPERLIQUID
    )


def test_orders_are_whole_in_the_cool_down(tmp_path: Path) -> None:
    """8,750 of 12,500; the slice costs 90 of fees, which leaves 8,660 of 10,000: the other 8 BTC follow."""
    day = long_day(tmp_path, marks("BTC", ("+0s", 100_000), ("+29s", 99_999)), FLAT_BOOK)
    assert day.rows("SELECT asked, filled FROM forced_orders ORDER BY seq") == [(-2, -2), (-8, -8)]
    # 8 BTC from 100,000 at 100,000, fee 0.045 % of 1,000,000 in all.
    assert day.cash("long") == 8_750 - 450


def test_after_thirty_seconds_there_is_a_slice_again(tmp_path: Path) -> None:
    """20 % of 8 BTC is 1.6; to the nanosecond: the last moment of the cool-down is before 30 s."""
    books = depth("+0s", "BTC", bids=[(100_000, 2)]) + depth("+1s", "BTC", asks=[(100_001, 1)])
    path = marks("BTC", ("+0s", 100_000), ("+29.999999999s", 99_999), ("+30s", 99_998))
    day = long_day(tmp_path, path, books)
    assert day.rows("SELECT asked, filled FROM forced_orders ORDER BY seq") == [
        (D(-2), D(-2)),
        (D(-8), D(0)),
        (D("-1.6"), D(0)),
    ]


def test_a_slice_that_finds_no_depth_starts_no_cool_down(tmp_path: Path) -> None:
    day = long_day(tmp_path, marks("BTC", ("+0s", 100_000), ("+1s", 99_999)), "")
    assert day.rows("SELECT asked, filled FROM forced_orders ORDER BY seq") == [(-2, 0), (-2, 0)]
    assert day.rows(QUANTITIES) == [("long", 2, 0, 0, 0, 2)], "the last attempt is what is left open"


def test_a_slice_may_restore_the_account(tmp_path: Path) -> None:
    """11,250 - 90 of fees is more than the 10,000 that 8 BTC need."""
    day = long_day(tmp_path, marks("BTC", ("+0s", 100_000), ("+1s", 99_999)), FLAT_BOOK, cash=11_250)
    assert day.rows(QUANTITIES) == [("long", 2, 2, 0, 0, 0)]
    assert day.size("long") == 8


def test_small_positions_are_never_sliced(tmp_path: Path) -> None:
    """100,000 USDC is not above 100,000."""
    text = MARKETS + account("long", 1_000, ("BTC", 1, 100_000)) + fund("@vault:liquidator", 0)
    day = replayed(tmp_path, text + FLAT_BOOK + marks("BTC", ("+0s", 100_000)), HYPERLIQUID)
    assert day.rows("SELECT asked, filled FROM forced_orders") == [(-1, -1)]


# --- what a step does first ------------------------------------------------------------------------


def test_all_liquidations_of_a_step_come_before_any_deleveraging(tmp_path: Path) -> None:
    """One step, three longs: the first is below zero, the second below 2/3, the third goes to the book.

    Marks fall from 100 to 90 in ETH (maintenance 2 %). Equity: gone 80 - 100 < 0; deep 105 - 100 = 5 of 18;
    thin 115 - 100 = 15 of 18. The short that lost 1,600 in BTC is in breach as well, 1,300 of 1,450, and so
    no winner, although it ranks first.
    """
    day = replayed(
        tmp_path,
        MARKETS
        + account("gone", 80, ("ETH", 10, 100))
        + account("deep", 105, ("ETH", 10, 100))
        + account("thin", 115, ("ETH", 10, 100))
        + account("torn", 1_900, ("ETH", -100, 100), ("BTC", -1, 100_000))
        + account("wins", 1_000, ("ETH", -5, 100))
        + account("also", 5_000, ("ETH", -7, 100))
        + fund("@vault:liquidator", 1_000)
        + depth("+0s", "ETH", bids=[(89, 4)], asks=[(120, 1)])
        + marks("ETH", ("+0s", 100), ("+1s", 90))
        + marks("BTC", ("+0s", 100_000), ("+1s", 101_600)),
        HYPERLIQUID,
    )
    engaged = day.rows("SELECT stage, market FROM engagements ORDER BY seq")
    stages = [stage for stage, _ in engaged]
    assert stages == sorted(stages, key=["book", "takeover", "adl"].index)
    assert set(stages) == {"book", "takeover", "adl"}
    orders = "SELECT account, stage, filled FROM forced_orders WHERE market = 'ETH' ORDER BY account"
    assert day.rows(orders) == [("deep", "takeover", -10), ("thin", "book", -4), ("torn", "book", 1)]
    assert day.rows("SELECT stage FROM forced_orders ORDER BY seq DESC LIMIT 1") == [("takeover",)]
    assert day.rows("SELECT loser, winner, quantity FROM adl_fills ORDER BY seq") == [
        ("gone", "wins", 5),
        ("gone", "also", 5),
    ]


def test_a_loser_with_nothing_left_is_closed_at_the_mark_before(tmp_path: Path) -> None:
    """80 of cash, 10 ETH from 100; at 90 its equity is -20. Closed at 100 it keeps its 80."""
    day = replayed(
        tmp_path,
        MARKETS
        + account("gone", 80, ("ETH", 10, 100))
        + account("wins", 1_000, ("ETH", -25, 110))
        + fund("@vault:liquidator", 0)
        + marks("ETH", ("+0s", 100), ("+1s", 90)),
        HYPERLIQUID,
    )
    assert day.cash("gone") == 80
    assert day.cash("wins") == 1_000 + 10 * (110 - 100)
    assert (day.size("gone", "ETH"), day.size("wins", "ETH")) == (0, -15)
    assert day.rows(QUANTITIES) == [("gone", 10, 0, 0, 10, 0)]
    assert day.rows(
        "SELECT loser_size_before, loser_size_after, winner_size_before, winner_size_after, "
        "loser_equity_before, loser_equity_after, winner_equity_before, winner_equity_after, "
        "winner_notional_before FROM adl_fills"
    ) == [(10, 0, -25, -15, -20, 80, 1_000 + 25 * 20, 1_000 + 100 + 15 * 20, 25 * 90)]


def test_what_nobody_paid_is_bad_debt(tmp_path: Path) -> None:
    """The first mark, 95, finds 10 ETH from 100 with 30 of cash: closed at 95 the account owes 20."""
    day = replayed(
        tmp_path,
        MARKETS
        + account("gone", 30, ("ETH", 10, 100))
        + account("wins", 1_000, ("ETH", -10, 110))
        + fund("@vault:liquidator", 0)
        + marks("ETH", ("+0s", 95)),
        HYPERLIQUID,
    )
    assert day.rows("SELECT account, kind, amount FROM shared_losses") == [("gone", "bad_debt", 20)]
    assert day.rows(MONEY) == [("gone", 0, 20, 0, 0, 20)]
    assert (day.cash("gone"), day.cash("@bad_debt")) == (0, -20)
    assert day.cash("wins") == 1_000 + 10 * 15


def test_deleveraging_stays_within_its_market(tmp_path: Path) -> None:
    """The only short in ETH is not known to the tape; the winners in BTC are left alone."""
    day = replayed(
        tmp_path,
        MARKETS
        + account("gone", 80, ("ETH", 10, 100))
        + account("wins", 100_000, ("BTC", -1, 100_000))
        + account("other", 200_000, ("BTC", 1, 100_000))
        + fund("@vault:liquidator", 0)
        + marks("BTC", ("+0s", 100_000), ("+1s", 90_000))
        + marks("ETH", ("+0s", 100), ("+1s", 90)),
        HYPERLIQUID,
    )
    assert day.rows("SELECT * FROM adl_fills") == []
    assert day.rows(QUANTITIES) == [("gone", 10, 0, 0, 0, 10)]
    assert (day.size("gone", "ETH"), day.size("wins")) == (10, -1)
    assert day.one("SELECT ts_end FROM liquidations") is None


# --- the vault as loser ----------------------------------------------------------------------------


def test_the_vault_gives_up_its_largest_loss_first_and_no_more_than_needed(tmp_path: Path) -> None:
    """It holds 10 BTC taken at 99,500 and 100 ETH taken at 99.7, with 10,000 of its own.

    Both longs are taken over at the first mark: 5,000 of 12,500 needed, 30 of 200. Then BTC falls by 2,000
    and ETH by 20: 10,000 + 5,000 + 30 - 20,000 - 2,000 < 0. BTC at the mark before brings 20,000: enough.
    """
    day = replayed(
        tmp_path,
        MARKETS
        + account("one", 5_000, ("BTC", 10, 100_000))
        + account("two", 30, ("ETH", 100, 100))
        + account("short", 1_000_000, ("BTC", -10, 100_000), ("ETH", -100, 100))
        + fund("@vault:liquidator", 10_000)
        + marks("BTC", ("+0s", 100_000), ("+1s", 98_000))
        + marks("ETH", ("+0s", 100), ("+1s", 80)),
        HYPERLIQUID,
    )
    assert day.rows("SELECT market, loser, winner, quantity, value FROM adl_fills") == [
        ("BTC", "@vault:liquidator", "short", 10, 1_000_000)
    ]
    assert day.size("@vault:liquidator", "ETH") == 100
    assert day.cash("@vault:liquidator") == 10_000 + 5_000


# --- an inverse market, an isolated pool -----------------------------------------------------------


def test_inverse_contracts_are_taken_over_and_deleveraged_in_coins(tmp_path: Path) -> None:
    """10,000 contracts of 100 dollars from 100,000 are 10 BTC; with 0.5 BTC of cash.

    At 96,000 they are worth 10.41666667: equity 0.08333333. Hyperliquid's table asks for 1.25 %, 0.13020834:
    64 %, below 2/3, and the vault pays 10.5 for what is worth 10.41666667.
    """
    market = 'currency = "BTC"\nmarkets = [{ name = "BTCUSD", payoff = "inverse", multiplier = 100 }]\n'
    day = replayed(
        tmp_path,
        market
        + account("long", "0.5", ("BTCUSD", 10_000, 100_000))
        + account("short", 5, ("BTCUSD", -10_000, 100_000))
        + fund("@vault:liquidator", "0.01")
        + marks("BTCUSD", ("+0s", 100_000), ("+1s", 96_000), ("+2s", 90_000)),
        HYPERLIQUID,
    )
    worth = round(Fraction(1_000_000, 96_000), 8)
    assert day.rows("SELECT stage, filled, value FROM forced_orders") == [("takeover", -10_000, D("10.5"))]
    gain = D("10.5") - D(str(float(worth)))
    # At 90,000 the vault is below zero: its contracts go to the short at 96,000, for 10.41666667.
    assert day.rows("SELECT loser, winner, quantity, value FROM adl_fills") == [
        ("@vault:liquidator", "short", 10_000, -D(str(float(worth))))
    ]
    assert day.cash("@vault:liquidator") == D("0.01") + gain
    assert day.cash("short") == 5 + D(str(float(worth))) - 10


def test_an_isolated_pool_goes_alone(tmp_path: Path) -> None:
    """The isolated 10 ETH have 20 of margin; at 98.5 it is 5 of 19.70: the vault takes them alone."""
    day = replayed(
        tmp_path,
        MARKETS
        + account("both", 100, ("ETH", 10, 100), margin=20).replace(
            "positions = [", 'positions = [{ market = "BTC", size = 0.001, entry = 100_000 }, '
        )
        + account("short", 1_000, ("ETH", -10, 100), ("BTC", "-0.001", 100_000))
        + fund("@vault:liquidator", 0)
        + marks("BTC", ("+0s", 100_000))
        + marks("ETH", ("+0s", 100), ("+1s", "98.5")),
        HYPERLIQUID,
    )
    assert day.rows("SELECT account, market, mode, absorbed, equity, surplus FROM liquidations") == [
        ("both", "ETH", "isolated", D(10), D(5), D(5))
    ]
    assert (day.cash("both"), day.cash("both", "ETH")) == (100, 0)
    assert day.size("both") == D("0.001")
    # It paid 985 - 5 for what is worth 985.
    assert day.one("SELECT balance FROM absorber_ledger WHERE kind = 'takeover'") == 5


# --- a pool in liquidation between marks -----------------------------------------------------------


@pytest.mark.parametrize("others", [False, True], ids=["alone", "while another is liquidated"])
def test_after_a_deposit_the_next_fall_begins_another_liquidation(tmp_path: Path, others: bool) -> None:
    """No bids. 17 of 18 needed at 90: in breach. A deposit of 100 cures it; at 79 it is 7 of 15.80.

    The deposit ends the liquidation in its own step, whatever else happens in it.
    """
    transfers = '[[transfers]]\nat = "+2s"\naccount = "long"\namount = 100\n'
    text = MARKETS + account("long", 117, ("ETH", 10, 100)) + account("short", 1_000, ("ETH", -10, 100))
    if others:
        text += account("other", 1_000, ("ETH", 1, 100))
        transfers += '[[transfers]]\nat = "+2s"\naccount = "other"\namount = -990\n'
    day = replayed(
        tmp_path,
        text
        + fund("@vault:liquidator", 0)
        + marks("ETH", ("+0s", 100), ("+1s", 90), ("+3s", 85), ("+4s", 79))
        + transfers,
        HYPERLIQUID,
    )
    assert day.rows(
        "SELECT (epoch_ns(ts) // 1000000000) % 60, (epoch_ns(ts_end) // 1000000000) % 60 "
        "FROM liquidations WHERE account = 'long' ORDER BY liquidation"
    ) == [(1, 2), (4, 4)]


def test_a_pool_that_waits_in_breach_is_no_winner(tmp_path: Path) -> None:
    """One has 1,201 of 1,269.80 needed, with a loss in BTC and a profit in ETH, and no book takes its orders.

    At +2s nothing moves but a withdrawal, which leaves gone below zero: only calm may be deleveraged.
    """
    withdrawal = '[[transfers]]\nat = "+2s"\naccount = "gone"\namount = -300\n'
    day = replayed(
        tmp_path,
        MARKETS
        + account("gone", 300, ("ETH", 10, 100))
        + account("torn", 11_100, ("BTC", -1, 90_000), ("ETH", -10, 110))
        + account("calm", 100_000, ("ETH", -10, 110))
        + fund("@vault:liquidator", 0)
        + marks("BTC", ("+0s", 90_000), ("+1s", 100_000))
        + marks("ETH", ("+0s", 100), ("+1s", "99.9"))
        + withdrawal,
        HYPERLIQUID,
    )
    assert ("torn", "BTC") in day.rows("SELECT account, market FROM liquidations")
    assert day.rows("SELECT loser, winner, candidates FROM adl_fills") == [("gone", "calm", 1)]


def test_an_account_that_closes_by_itself_below_zero_leaves_bad_debt(tmp_path: Path) -> None:
    """At 90 it has 13 of 18 needed; no book takes it. At 88 it sells to the maker: 113 - 120 is -7."""
    trade = '[[trades]]\nat = "+2s"\nmarket = "ETH"\nbuyer = "maker"\nseller = "long"\n'
    day = replayed(
        tmp_path,
        MARKETS
        + account("long", 113, ("ETH", 10, 100))
        + account("maker", 1_000, ("ETH", -10, 100))
        + fund("@vault:liquidator", 0)
        + marks("ETH", ("+0s", 100), ("+1s", 90), ("+2s", 88))
        + trade
        + "qty = 10\nprice = 88\n",
        HYPERLIQUID,
    )
    assert day.rows("SELECT account, kind, amount FROM shared_losses") == [("long", "bad_debt", 7)]
    assert (day.cash("long"), day.cash("@bad_debt")) == (0, -7)
    assert day.rows(MONEY) == [("long", 0, 7, 0, 0, 7)]


def test_no_bankruptcy_price_is_below_zero(tmp_path: Path) -> None:
    """1 BTC from 100,000 and 10 ETH short from 100, with 10,000; at 50,000 the equity is -40,000.

    Maintenance is 250 and 10, so the ETH bear 10/260 of it: -1,538.46 on a notional of 1,000. The fund is
    empty, all goes to winners: the BTC at 88,461.54, the ETH for nothing, which leaves 538.46 unpaid.
    """
    day = replayed(
        tmp_path,
        MARKETS
        + account("torn", 10_000, ("BTC", 1, 100_000), ("ETH", -10, 100))
        + account("short", 200_000, ("BTC", -1, 150_000))
        + account("long", 200_000, ("ETH", 10, 90))
        + fund("@fund:insurance", 0)
        + marks("BTC", ("+0s", 100_000), ("+1s", 50_000))
        + marks("ETH", ("+0s", 100)),
        BYBIT,
    )
    assert day.rows("SELECT market, winner, quantity, value FROM adl_fills ORDER BY seq") == [
        ("BTC", "short", 1, D("88461.53846154")),
        ("ETH", "long", 10, 0),
    ]
    gap = 10_000 + D("88461.53846154") - 100_000 + 1_000
    assert day.rows("SELECT account, amount FROM shared_losses") == [("torn", -gap)]
    assert (day.cash("torn"), day.cash("long")) == (0, 200_000 - 900)


def test_eleven_thousand_of_each_in_one_step(tmp_path: Path) -> None:
    """What 2025-10-10 shows: in one timestamp first all liquidations, then all deleveragings.

    11,000 longs with 5 of 18 needed go to the vault for 895 each and leave it 5; 11,000 with -20 are closed
    at the mark before against as many shorts. Those rank by equity: the poorer, the higher the leverage.
    """
    count = 11_000
    accounts = [account(f"gone{i}", 80, ("ETH", 10, 100)) for i in range(count)]
    accounts += [account(f"deep{i}", 105, ("ETH", 10, 100)) for i in range(count)]
    accounts += [account(f"short{i}", 1_000 + i, ("ETH", -10, 100)) for i in range(count)]
    path = marks("ETH", ("+0s", 100), ("+1s", 90))
    day = replayed(tmp_path, MARKETS + "".join(accounts) + fund("@vault:liquidator", 0) + path, HYPERLIQUID)
    assert day.rows("SELECT stage, quantity FROM engagements ORDER BY seq") == [
        ("takeover", 10 * count),
        ("adl", 10 * count),
    ]
    assert day.rows("SELECT count(*), count(DISTINCT ts) FROM adl_fills") == [(count, 1)]
    assert day.rows("SELECT count(*), count(DISTINCT ts) FROM forced_orders") == [(count, 1)]
    order = day.rows("SELECT winner FROM adl_fills ORDER BY seq")
    assert order == [(f"short{i}",) for i in range(count)]
    assert day.one("SELECT balance FROM absorber_ledger WHERE kind = 'takeover'") == 5 * count
