"""The arithmetic of ``replay explain`` against values worked by hand, and against what the run recorded."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import replay
from replay.analysis.bench import Bench
from replay.analysis.worksheet import Untold, Worksheet, worksheets
from replay.cli import cli
from replay.errors import RunError
from replay.run.store import Run
from replay.tape.schema import Mode
from replay.units import parse_time
from tests.analysis.test_liquidation_mark import SHAPES, TABLE
from tests.rules.books import BRACKETS, FLAT, changed
from tests.waterfall.days import account, marks, replayed

ATOM = 10**8
HEAD = 'size_basis = "{}"\nhedge_basis = "net"\nscope = "cross_account"\n'


def run_of(folder: Path, text: str, margin: str, watch: str, *overrides: str) -> Run:
    """Replay a day under the rules of the tests with a margin section, one account sampled each second."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.toml").write_text(changed(FLAT, margin), encoding="utf-8")
    rules = str(folder / "mine.toml")
    return replayed(folder, text, rules, overrides, watch=[watch], sample_ns=10**9).run


def sheets(run: Run, table: str, name: str) -> list[Worksheet]:
    """Return the worksheets of all rows a run keeps of an account."""
    number = run.account_names.index(name)
    rows = [row for row in run.table(table).to_pylist() if row["account"] == number]
    rows.sort(key=lambda row: (row["ts"], row["market"] if row["mode"] == Mode.ISOLATED else -1))
    found = worksheets(Bench.of(run), run.ledgers, rows)
    assert not [sheet for sheet in found if isinstance(sheet, Untold)]
    return [sheet for sheet in found if isinstance(sheet, Worksheet)]


TWO = (
    'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }, { name = "ETH", tick = 0.1, lot = 0.001 }]\n'
    + account("two", 6_700, ("BTC", 1, 100_000), ("ETH", -10, 3_000))
    + account("other", 10**7, ("BTC", -1, 100_000), ("ETH", 10, 3_000))
    + marks("BTC", ("+0s", 100_000), ("+2s", 96_000))
    + marks("ETH", ("+0s", 3_000), ("+2s", 3_100))
)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_of(tmp_path_factory.mktemp("two"), TWO, BRACKETS, "two")


def test_a_sample_of_two_positions_is_worked_by_tier(two: Run) -> None:
    """Cash 6,700; 100,000 is in the tier of 2 % less 50,000 x (2 % - 1 %) = 500; 30,000 in that of 1 %."""
    sheet = sheets(two, "account_series", "two")[0]
    assert (sheet.what, sheet.cash, sheet.equity, sheet.breached) == (
        "sample",
        6_700 * ATOM,
        6_700 * ATOM,
        False,
    )
    btc, eth = sheet.legs
    assert [leg.cost for leg in sheet.legs] == [100_000 * ATOM, -30_000 * ATOM]
    assert (btc.need.tier, btc.need.rate, btc.need.deduction) == (1, 2 * 10**10, 500 * ATOM)
    assert (btc.need.result, eth.need.result) == (1_500 * ATOM, 300 * ATOM)
    assert sheet.maintenance == 1_800 * ATOM
    # 100,000 - (6,700 - 300) - 500 at 98 %; the first tenth below that is in breach
    assert btc.liquidation.exact == Fraction(93_100) / Fraction(98, 100)  # 95,000
    assert btc.liquidation.mark == 949_999  # at 95,000.0 equity is 1,700 - 300 = 1,400 = 1,900 - 500
    # the short leaves the tier of 1 % at 5,000: (30,000 + 6,700 - 1,500) / 1.01 = 34,851.48 is below 50,000
    assert eth.liquidation.exact == Fraction(35_200) / Fraction(101, 100) / 10
    assert eth.liquidation.mark == 34_852  # 3,485.148 rounded up to the tenth
    assert (btc.share, eth.share) == (558_333_333_333, 111_666_666_667)  # 6,700 x 15/18, the rest to .67
    assert btc.bankruptcy_price == Fraction(100_000 * ATOM - 558_333_333_333, ATOM)


def test_a_breach_is_what_the_run_recorded_to_the_atom(two: Run) -> None:
    """Equity 6,700 - 4,000 - 1,000; maintenance 96,000 x 2 % - 500 and 31,000 x 1 %."""
    [sheet] = sheets(two, "liquidations", "two")
    rows = two.table("liquidations").to_pylist()
    assert (sheet.equity, sheet.maintenance) == (1_700 * ATOM, 1_730 * ATOM)
    assert {(row["equity"], row["maintenance"]) for row in rows} == {(sheet.equity, sheet.maintenance)}
    assert sheet.breached
    assert not sheet.entries_known
    assert sheet.cash == (6_700 - 100_000 + 30_000) * ATOM  # cash less both entry values
    assert [leg.need.result for leg in sheet.legs] == [1_420 * ATOM, 310 * ATOM]
    shares = [1_700 * ATOM * part // 1_730 for part in (1_420, 310)]
    rests = [1_700 * ATOM * part % 1_730 for part in (1_420, 310)]
    shares[rests.index(max(rests))] += 1
    values = [96_000 * ATOM - shares[0], -31_000 * ATOM - shares[1]]
    assert [leg.bankruptcy_value for leg in sheet.legs] == values
    assert [row["bankruptcy_value"] for row in rows] == values
    btc, eth = sheet.legs
    assert btc.liquidation.exact == Fraction(96_000 - (1_700 - 310) - 500) / Fraction(98, 100)  # 96,030.61
    assert btc.liquidation.mark == 960_306
    assert eth.liquidation.exact == Fraction(31_000 + (1_700 - 1_420)) / Fraction(101, 100) / 10  # 3,097.03
    assert eth.liquidation.mark == 30_971


def test_an_inverse_position_is_worked_in_coins(tmp_path: Path) -> None:
    """10,000 dollars at 50,000 with a hundredth of a coin: V = -0.2; bankrupt at 10,000 / 0.21."""
    text = (
        'markets = [{ name = "BTCUSD", payoff = "inverse", settle = "BTC", tick = 0.5, lot = 1 }]\n'
        + account("coin", 0, ("BTCUSD", 10_000, 50_000), margin='"0.01"')
        + account("other", 100, ("BTCUSD", -10_000, 50_000))
        + marks("BTCUSD", ("+0s", 50_000), ("+2s", 48_000))
    )
    run = run_of(tmp_path, text, FLAT, "coin")
    before, breach = sheets(run, "account_series", "coin")[0], sheets(run, "liquidations", "coin")[0]
    assert (before.isolated, before.currency, before.cash) == (True, "BTC", 1_000_000)
    for sheet in (before, breach):
        [leg] = sheet.legs
        # 10,000 x 1.01 / P = 0.2 + 0.01
        assert leg.liquidation.exact is not None
        assert leg.liquidation.mark is not None
        assert abs(leg.liquidation.exact - Fraction(10_100) / Fraction(21, 100)) < Fraction(1, 100)
        assert leg.liquidation.mark == 480_952  # 48,095.238 rounded down to the tenth
        assert leg.bankruptcy_value == -21_000_000
        assert leg.bankruptcy_price == Fraction(10_000) / Fraction(21, 100)
    # at 48,000: V = -0.20833333, so 0.00166667 is left; 1 % of 0.20833333 rounds up to 0.00208334
    assert (breach.equity, breach.maintenance) == (166_667, 208_334)


def short_day(*path: tuple[str, object]) -> str:
    return (
        'markets = [{ name = "BTC", tick = 0.01, lot = 1 }]\n'
        + account("short", 60, ("BTC", -10, 25))
        + account("other", 10**6, ("BTC", 10, 25))
        + marks("BTC", ("+0s", 25), *path)
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_the_replay_liquidates_at_the_printed_mark_and_not_one_before(tmp_path: Path, shape: str) -> None:
    name, basis, rest = SHAPES[shape]
    margin = f'[margin]\nshape = "{name}"\n{HEAD.format(basis)}{rest}'
    calm = run_of(tmp_path / "calm", short_day(("+2s", 25)), margin, "short")
    [leg] = sheets(calm, "account_series", "short")[0].legs
    mark = leg.liquidation.mark
    assert mark is not None
    scale = 10**leg.market.mark_scale
    path = [("+2s", f"{(mark - 1) / scale:.2f}"), ("+5s", f"{mark / scale:.2f}")]
    assert scale == 100
    day = run_of(tmp_path / "day", short_day(*path), margin, "short")
    [row] = day.table("liquidations").to_pylist()
    assert (row["ts"], row["mark"]) == (parse_time("2025-10-10T12:00:05Z"), mark)


def test_where_maintenance_jumps_there_is_no_price_of_equality(tmp_path: Path) -> None:
    """At 29.99 equity is 10.10 and 1 % of 299.90 is due; at 30 it is 10 and 5 % of 300 is 15."""
    margin = f'[margin]\nshape = "bracket_whole"\n{HEAD.format("notional_mark")}{TABLE}'
    run = run_of(tmp_path, short_day(("+2s", 25)), margin, "short")
    [leg] = sheets(run, "account_series", "short")[0].legs
    assert (leg.liquidation.mark, leg.liquidation.jump) == (3_000, True)
    told = replay.explain(run, "short").arithmetic[0]
    assert any("jumps where another tier begins" in line for line in told.lines)
    assert told.figures["positions"][0]["liquidation"]["price"] is None


def test_the_rate_that_grows_is_shown_with_its_parts(tmp_path: Path) -> None:
    """2 % x 4/5 + 0.4 % x root(10 x 10 + 1) = 1.6 % + 0.4 % x 10.04987 = 5.619948 %."""
    name, basis, rest = SHAPES["root"]
    run = run_of(
        tmp_path,
        short_day(("+2s", 25)),
        f'[margin]\nshape = "{name}"\n{HEAD.format(basis)}{rest}',
        "short",
    )
    sheet = sheets(run, "account_series", "short")[0]
    assert sheet.legs[0].need.root == Fraction("10.04987")
    assert sheet.legs[0].need.rate == 56_199_480_000
    assert sheet.maintenance == -(-250 * ATOM * 5_619_948 // 10**8)


def test_entry_values_decide_and_a_breach_lacks_them(tmp_path: Path) -> None:
    name, basis, rest = SHAPES["whole by entry"]
    margin = f'[margin]\nshape = "{name}"\n{HEAD.format(basis)}{rest}'
    run = run_of(tmp_path, short_day(("+2s", 33)), margin, "short")
    told = replay.explain(run, "short", at=parse_time("2025-10-10T12:00:02Z")).arithmetic
    assert "entry value" in told[0].figures["untold"]
    assert "no arithmetic, because maintenance goes by the entry value" in told[0].lines[0]


def invoked(*args: str) -> str:
    result = CliRunner().invoke(cli, ["explain", *args])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_text_fits_and_says_what_the_json_says(two: Run) -> None:
    at = ["--at", "2025-10-10T12:00:01Z"]
    text = invoked(str(two.path), "--account", "two", *at)
    assert max(map(len, text.splitlines())) <= 100
    for line in (
        "    cash 6,700",
        "    BTC long: value 1 x 100,000 = 100,000; profit over its entry value 100,000 - 100,000 = 0",
        "      100,000 x 2 % - 500 = 1,500",
        "    equal at a value of (100,000 - 6,400 - 500) / (1 - 2 %) = 95,000",
        "    first mark in breach: 94,999.9 (now 100,000)",
    ):
        assert line in text.splitlines()
    told: dict[str, Any] = json.loads(invoked(str(two.path), "--account", "two", *at, "--format", "json"))
    [sheet] = told["arithmetic"]
    assert (sheet["cash"], sheet["equity"], sheet["maintenance"]) == ("6700", "6700", "1800")
    btc = sheet["positions"][0]
    assert btc["maintenance"]["deduction"] == "500"
    assert btc["liquidation"]["price"] == "95000"
    assert btc["liquidation"]["mark_in_breach"] == "94999.9"
    whole = " ".join(text.split())
    assert all(sentence in whole for sentence in told["differences"])


def test_only_reasons_that_apply_are_given(two: Run, tmp_path: Path) -> None:
    kinds = {sentence.partition(":")[0] for sentence in replay.explain(two, "two").differences}
    assert {"Fee to close", "Price", "Tick", "Cross margin", "Tier", "Funding"} <= kinds
    assert not kinds & {"Entry", "Least"}
    alone = run_of(tmp_path, short_day(("+2s", 25)), FLAT + 'exit_fee = "0.0006"\nleast = 3\n', "short")
    told = replay.explain(alone, "short").differences
    kinds = {sentence.partition(":")[0] for sentence in told}
    assert "Least" in kinds
    assert not kinds & {"Cross margin", "Tier", "Entry"}
    assert any("holds 0.06 % of notional" in sentence for sentence in told)


def test_a_moment_before_all_that_is_kept_is_one_clear_error(two: Run) -> None:
    with pytest.raises(RunError, match="keeps no sample and no breach of 'two'"):
        replay.explain(two, "two", at=parse_time("2025-10-10T11:00:00Z"))


ALLOCATIONS = {
    # cash 6,700 by entry values of 100,000 and 30,000
    "isolated": ([515_384_615_385, 154_615_384_615], "its own profit and its part of the cash"),
    "all": ([670_000_000_000, 0], "it has the largest loss and may lose the whole equity, 6,700"),
}


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_equity_is_shared_as_the_rules_say(tmp_path: Path, allocation: str) -> None:
    """Before the fall no position has a profit: of two equals the first bears all."""
    shares, words = ALLOCATIONS[allocation]
    run = run_of(tmp_path, TWO, BRACKETS, "two", f"bankruptcy.allocation={allocation}")
    sheet = sheets(run, "account_series", "two")[0]
    assert [leg.share for leg in sheet.legs] == shares
    assert sum(leg.share for leg in sheet.legs) == 6_700 * ATOM
    told = replay.explain(run, "two", at=parse_time("2025-10-10T12:00:01Z")).arithmetic[0]
    assert any(words in line for line in told.lines)
    [breach] = sheets(run, "liquidations", "two")
    values = {row["market"]: row["bankruptcy_value"] for row in run.table("liquidations").to_pylist()}
    assert [leg.bankruptcy_value for leg in breach.legs] == [values[0], values[1]]


def test_a_fee_in_the_price_stands_beside_the_share(tmp_path: Path) -> None:
    """A long of 1 BTC with 1,500: 98,500 must be left after 0.1 %, so it is closed for 98,500 / 0.999."""
    text = (
        'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }]\n'
        + account("one", 1_500, ("BTC", 1, 100_000))
        + account("other", 10**7, ("BTC", -1, 100_000))
        + marks("BTC", ("+0s", 100_000), ("+2s", 99_400))
    )
    fee = ["bankruptcy.fee_in_price=taker", "bankruptcy.fee_rate=0.001"]
    run = run_of(tmp_path, text, FLAT, "one", *fee)
    exact = Fraction(98_500 * ATOM * 1000, 999)
    for sheet in (sheets(run, "account_series", "one")[0], sheets(run, "liquidations", "one")[0]):
        [leg] = sheet.legs
        assert leg.bankruptcy_value == -(-exact.numerator // exact.denominator)
        assert leg.exit_fee == leg.bankruptcy_value - 98_500 * ATOM
    told = replay.explain(run, "one", at=parse_time("2025-10-10T12:00:01Z")).arithmetic[0]
    assert any(" for the fee to close = " in line for line in told.lines)
    assert told.figures["positions"][0]["bankruptcy"]["exit_fee"] == "98.5985986"
