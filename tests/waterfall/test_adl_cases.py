"""Published cases of triggers, queues, lights and scores as whole days, from the case's own numbers.

Three cannot be a day of these rules: R144 is a rule of 2020 (maintenance at entry value, the fee in the
price), the balances of R152 do not fit a cell, and the two positions that R176 ranks have different marks, so
they are in no one queue. They are held to the functions: see test_adl.py, test_absorbers.py and tests/cases.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.waterfall.days import BYBIT, Day, account, fund, marks, replayed

CASES = Path(__file__).parents[2] / "../shared/cases/cases.json"
NO_FEES = ["adl.winner_fee=0", "adl.loser_fee=0", "absorbers.0.work_out=hold"]


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    if not CASES.exists():
        pytest.skip(f"the published cases are not there: {CASES}")
    return {case["id"]: case for case in json.loads(CASES.read_text(encoding="utf-8"))}


def declared(*names: str) -> str:
    listed = ", ".join(f'{{ name = "{name}", tick = 0.01, lot = 0.001 }}' for name in names)
    return f"markets = [{listed}]\n"


# --- a queue of six longs and a bankrupt short ----------------------------------------------------------


@pytest.fixture(scope="module")
def queue_day(cases: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Day:
    """R153, R154: the higher the rank, the lower the entry, at equal margins a contract.

    The isolated margin of the short is spent at 650, and the mark jumps to 700. The fund has nothing, so all
    of it goes to the queue.
    """
    given = cases["R153"]["inputs"]
    short, price, entry = given["liquidated_short"], given["bankruptcy_price"], 500
    text = declared("XBT")
    for row in given["longs"]:
        place = ("XBT", row["qty"], 600 - 10 * row["pnl_rank"])
        text += account(str(row["account"]), 0, place, margin=1_000 * row["qty"])
    others = sum(row["qty"] for row in given["longs"]) - short
    text += account("bankrupt", 0, ("XBT", -short, entry), margin=short * (price - entry))
    text += account("others", 10**6, ("XBT", -others, 1_000)) + fund("@fund:insurance", 0)
    text += marks("XBT", ("+0s", 600), ("+1s", 620), ("+2s", 700))
    folder = tmp_path_factory.mktemp("queue")
    watched = [str(row["account"]) for row in given["longs"]]
    return replayed(folder, text, BYBIT, NO_FEES, watch=watched, sample_ns=10**9)


def test_the_two_highest_ranks_are_closed_at_the_bankruptcy_price(
    cases: dict[str, Any], queue_day: Day
) -> None:
    expected = cases["R153"]["expected"]
    rows = queue_day.rows("SELECT winner, quantity, value / quantity FROM adl_fills ORDER BY rank")
    assert {winner: quantity for winner, quantity, _ in rows} == expected["closed"]
    assert [abs(price) for *_, price in rows] == [expected["close_price"]] * 2
    left = queue_day.one("SELECT size FROM positions_end WHERE account = '5' AND size <> 0")
    assert left == expected["left_account5"]


def test_the_queue_and_its_lights_just_before(cases: dict[str, Any], queue_day: Day) -> None:
    rows = queue_day.rows(
        "SELECT account, lights FROM account_series WHERE ts = (SELECT max(ts) FROM account_series "
        "WHERE ts < (SELECT min(ts) FROM adl_fills)) AND account <> 'others' ORDER BY rank"
    )
    assert [int(name) for name, _ in rows] == cases["R153"]["expected"]["queue"]
    assert {name: 20 * (6 - lights) for name, lights in rows} == cases["R154"]["expected"]["quintile"]


def test_profit_times_leverage_orders_the_published_pair(cases: dict[str, Any], tmp_path: Path) -> None:
    """R177: 1 % on 20x and 50 % on 10x, at one mark; who has taken profit out has cash below zero."""
    case = cases["R177"]
    mark = Decimal("151.5")
    text = declared("XBT")
    for row in case["inputs"]["positions"]:
        entry = mark / (1 + Decimal(str(row["pnl_ratio"])))
        cash = mark / row["leverage"] - (mark - entry)
        text += account(row["id"], cash, ("XBT", 1, entry))
    text += account("bankrupt", 60, ("XBT", -2, 100)) + fund("@fund:insurance", 0)
    text += marks("XBT", ("+0s", mark))
    day = replayed(tmp_path, text, BYBIT, NO_FEES)
    rows = day.rows("SELECT winner, score FROM adl_fills ORDER BY rank")
    assert [winner for winner, _ in rows] == case["expected"]["queue"]
    scores = dict(
        zip((row["id"] for row in case["inputs"]["positions"]), case["expected"]["score"], strict=True)
    )
    for winner, score in rows:
        assert float(score) == pytest.approx(scores[winner], rel=1e-9)


# --- a fund and what it took over -------------------------------------------------------------------------


def taken_over(market: str, size: int, bankrupt: int) -> str:
    """Write who is bankrupt at a price, and who is on the other side with plenty of cash.

    At a first mark that is the bankruptcy price the fund takes over at no gain or loss; there are no bids.
    """
    entry = bankrupt + (100 if size > 0 else -100)
    loser = account(f"loser {market}", 0, (market, size, entry), margin=100 * abs(size))
    return loser + account(f"winner {market}", 10**7, (market, -size, entry))


def test_only_the_loss_beyond_thirty_percent_of_the_peak_goes_to_adl(
    cases: dict[str, Any], tmp_path: Path
) -> None:
    """R149: a long of 10 loses 350,000 while a short of 100 in another symbol brings as much in."""
    given, expected = cases["R149"]["inputs"], cases["R149"]["expected"]
    loss = -given["symbol_pnl_now"]
    text = declared("BTC", "ETH") + taken_over("BTC", 10, 100_000) + taken_over("ETH", -100, 10_000)
    text += fund("@fund:insurance", given["pool_8h_max"])
    text += marks("BTC", ("+0s", 100_000), ("+1s", 100_000 - loss // 10))
    text += marks("ETH", ("+0s", 10_000), ("+1s", 10_000 - loss // 100))
    day = replayed(tmp_path, text, BYBIT, NO_FEES)
    [[market, measured, threshold]] = day.rows(
        "SELECT market, measured, threshold FROM engagements WHERE state = 'start'"
    )
    assert (market, measured) == ("BTC", given["symbol_pnl_now"])
    assert threshold == Decimal(str(given["trigger_ratio"])) * given["pool_8h_max"]
    assert measured / given["pool_8h_max"] == Decimal(str(expected["pnl_ratio"]))
    [[quantity, value, mark]] = day.rows("SELECT sum(quantity), sum(value), any_value(mark) FROM adl_fills")
    moved = value - quantity * mark
    assert moved == expected["loss_moved_to_adl"]
    assert (measured + moved) / given["pool_8h_max"] == Decimal(str(expected["ratio_after"]))


def test_a_pool_at_zero_deleverages_symbols_above_thirty_percent(
    cases: dict[str, Any], tmp_path: Path
) -> None:
    """R151: four symbols lose a quarter of the pool each; none is at -30 %, but nothing is left."""
    given, expected = cases["R151"]["inputs"], cases["R151"]["expected"]
    names = ["M0", "M1", "M2", "M3"]
    loss = given["pool_start"] // len(names)
    text = declared(*names)
    for name in names:
        text += taken_over(name, 10, 100_000)
        text += marks(name, ("+0s", 100_000), ("+1s", 100_000 - loss // 10))
    day = replayed(tmp_path, text + fund("@fund:insurance", given["pool_start"]), BYBIT, NO_FEES)
    started = day.rows(
        "SELECT market, reason, measured, threshold FROM engagements WHERE state = 'start' ORDER BY market"
    )
    reason = "the balance is not above zero"
    assert started == [(name, reason, given["pool_balance"], 0) for name in names]
    assert expected["adl"]
    assert -loss / given["pool_start"] > given["pnl_ratios_above"]
