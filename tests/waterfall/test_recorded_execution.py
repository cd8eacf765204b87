"""``--liquidations recorded --execution depth``: what depth and fund would have taken of the record."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

import replay
from tests.scenario_tape import scenario_tape
from tests.waterfall.days import BYBIT, HYPERLIQUID, Day, account, depth, fund, marks

D = Decimal

MARKETS = (
    'venue = "example"\nstart = "2025-10-10T12:00:00Z"\nmarkets = [{ name = "BTC", tick = 1, lot = 1 }]\n'
)
FORCED = """
[[trades]]
at = "+2s"
kind = "liquidation"
victim = "long"
market = "BTC"
buyer = "maker"
seller = "long"
qty = 10
price = 90
"""


def executed(
    folder: Path,
    *,
    fund_cash: int,
    bids: list[tuple[int, int]],
    price: int = 90,
    mark: int = 90,
    overrides: Sequence[str] = (),
    **options: object,
) -> Day:
    """A long of 10 from 100 with 105 of cash: bankrupt at 89.50; the tape forces all of it at a price."""
    text = (
        MARKETS
        + account("long", 105, ("BTC", 10, 100))
        + account("maker", 10_000, ("BTC", -10, 100))
        + fund("@fund:insurance", fund_cash)
        + marks("BTC", ("+0s", 100), ("+1s", mark))
        + depth("+0s", "BTC", bids=bids)
        + FORCED.replace("price = 90", f"price = {price}")
    )
    book = replay.load_rules(BYBIT, overrides=["depth.half_life=0s", *overrides])
    options = {"liquidations": "recorded", "execution": "depth", **options}
    return Day(replay.run_replay(scenario_tape(folder, text), book, folder / "run", **options))


def split(day: Day) -> tuple[object, ...]:
    [row] = day.rows("SELECT fill_qty, booked, absorbed, adl_needed FROM audit")
    return row


def test_depth_within_the_bankruptcy_price_takes_first_the_fund_the_rest(tmp_path: Path) -> None:
    """Bids of 3 at 90, and 4 at 89, beyond 89.50; the 10 that were recorded at 90 were there, too."""
    day = executed(tmp_path, fund_cash=1_000, bids=[(90, 3), (89, 4)])
    assert split(day) == (D(-10), D(10), D(0), D(0))


def test_what_was_recorded_below_bankruptcy_is_no_depth_for_the_rules(tmp_path: Path) -> None:
    day = executed(tmp_path, fund_cash=1_000, bids=[(90, 3), (89, 4)], price=89)
    # 3 into the book; 7 at 89.50 are worth 7 x 90: the fund gains
    assert split(day) == (D(-10), D(3), D(7), D(0))


def test_a_fund_takes_the_loss_it_may_and_adl_is_needed_for_the_rest(tmp_path: Path) -> None:
    """At a mark of 80 each of 10 costs 9.50 over its worth: 30 % of a fund of 100 pay for 3."""
    day = executed(tmp_path, fund_cash=100, bids=[(75, 50)], price=70, mark=80)
    assert split(day) == (D(-10), D(0), D(3), D(7))
    assert day.rows("SELECT stage, quantity, shadow FROM engagements ORDER BY stage") == [
        ("adl", D(7), True),
        ("takeover", D(3), True),
    ]


@pytest.mark.parametrize(
    ("overrides", "absorbed"),
    [
        ([], 10),
        (["absorbers.0.outflow_cap=limits", "absorbers.0.per_trade=19"], 2),
        (["absorbers.0.outflow_cap=limits", "absorbers.0.per_day=0.04"], 4),
        (["absorbers.0.inventory_cap=0.24"], 3),
        (['overlays=[{absorbers="off"}]'], 0),
        (["absorbers.0.scope=contract"], 10),
    ],
)
def test_a_fund_keeps_its_limits(tmp_path: Path, overrides: list[str], absorbed: int) -> None:
    """Each costs a fund of 1,000 the 9.50: 19 pay for 2, 4 % for 4; 24 % of it are 3 at 80."""
    day = executed(tmp_path, fund_cash=1_000, bids=[(75, 50)], price=70, mark=80, overrides=overrides)
    assert split(day) == (D(-10), D(0), D(absorbed), D(10 - absorbed))


def test_the_books_stay_those_of_the_record(tmp_path: Path) -> None:
    day = executed(tmp_path, fund_cash=1_000, bids=[(90, 3)])
    (tmp_path / "again").mkdir()
    same = executed(tmp_path / "again", fund_cash=1_000, bids=[(90, 3)], execution="recorded")
    for table in ("accounts_end", "positions_end"):
        assert day.run.manifest["tables.sha256"][table] == same.run.manifest["tables.sha256"][table]
    assert same.rows("SELECT booked FROM audit") == [(None,)]


@pytest.mark.parametrize("batch_rows", [1, 2])
def test_the_same_whatever_the_batches(tmp_path: Path, batch_rows: int) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    whole = executed(tmp_path / "a", fund_cash=100, bids=[(90, 3)])
    cut = executed(tmp_path / "b", fund_cash=100, bids=[(90, 3)], batch_rows=batch_rows)
    assert whole.run.manifest["sha256"] == cut.run.manifest["sha256"]


# --- the rules force just what the tape forced --------------------------------------------------------


def test_the_book_ends_flat_where_the_rules_force_what_the_tape_forced(tmp_path: Path) -> None:
    """At 90.50 a long of 10 from 100 has 10 of 11.31 needed: both sell all of it at 90.30 in that step."""
    text = (
        MARKETS.replace("tick = 1,", "tick = 0.01,")
        + account("long", 105, ("BTC", 10, 100))
        + account("maker", 10_000, ("BTC", -10, 100))
        + fund("@vault:liquidator", 1_000)
        + marks("BTC", ("+0s", 100), ("+2s", 90.5))
        + FORCED.replace("price = 90", "price = 90.3")
    )
    rules = replay.load_rules(HYPERLIQUID, overrides=["ladder.0.fee=0"])
    day = Day(replay.run_replay(scenario_tape(tmp_path, text), rules, tmp_path / "run", liquidations="rules"))
    assert day.rows("SELECT stage, filled, value, reason FROM forced_orders") == [
        ("book", D(-10), D(-903), "filled")
    ]
    assert day.one("SELECT recorded FROM liquidations")
    assert (day.size("@book"), day.cash("@book")) == (0, 0)
    assert day.size("maker") == 0
    assert day.cash("long") == 105 - 97


@pytest.mark.parametrize(
    ("kind", "book", "long"),
    [
        ("trade", 0, 0),  # booked: the long sells all of it to the maker
        ("liquidation", -10, 10),  # the victim's row is left out, the maker's stands against @book
        ("backstop", 0, 10),  # both rows are left out
        ("adl", 0, 10),  # both rows are left out
        ("settlement", 0, 0),  # applied at the recorded price
    ],
)
def test_what_becomes_of_each_kind_of_recorded_row_under_rules(
    tmp_path: Path, kind: str, book: int, long: int
) -> None:
    """A long with plenty of cash, so that the rules force nothing themselves."""
    forced = FORCED if kind != "trade" else FORCED.replace('victim = "long"\n', "")
    text = (
        MARKETS
        + account("long", 10_000, ("BTC", 10, 100))
        + account("maker", 10_000, ("BTC", -10, 100))
        + fund("@vault:liquidator", 1_000)
        + marks("BTC", ("+0s", 100), ("+1s", 90))
        + forced.replace('"liquidation"', f'"{kind}"')
    )
    rules = replay.load_rules(HYPERLIQUID)
    day = Day(replay.run_replay(scenario_tape(tmp_path, text), rules, tmp_path / "run", liquidations="rules"))
    assert (day.size("@book"), day.size("long")) == (book, long)
    again = replay.run_replay(scenario_tape(tmp_path, text, "again"), rules, tmp_path / "recorded")
    assert (Day(again).size("@book"), Day(again).size("long")) == (0, 0), "recorded: every row is booked"
