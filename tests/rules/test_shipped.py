"""The rule files that come with the program: valid, in their place, and true to what they cite."""

import csv
import json
import shlex
from collections import defaultdict
from datetime import date
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from replay.rules import BookOrder, Deleverage, Takeover, compile_rules, list_rules, load_file, load_rules
from replay.rules.axes import AXES
from replay.rules.margin import Tier, exact_deductions
from replay.rules.model import Rules
from replay.rules.plan import Absorber, Adl
from replay.rules.problems import SECTIONS, fields_of
from replay.tape.read import Market
from replay.tape.schema import Payoff
from tests.rules.books import FLAT, changed, load_text

ROOT = Path(__file__).parents[2]
ALPHA = ROOT / "../shared/data/hyperliquid-2023"
BRACKETS = ROOT / "../shared/data/binance-leverage-tiers"
CASES = ROOT / "../shared/cases/cases.json"


@pytest.mark.parametrize("name", [found.name for found in list_rules()])
def test_every_shipped_file_compiles_and_stands_in_its_place(name):
    book = load_rules(name)
    compile_rules(book, (), (), accept_assumptions=True)
    venue, _, version = name.partition("@")
    assert book.rules.venue == venue
    holds_on_its_day = len(version) == len("2025-10-10") and book.holds_on(date.fromisoformat(version))
    assert str(book.rules.valid_from).startswith(version) or holds_on_its_day
    assert "#" in book.text, "sources belong in comments"
    assert all(sentence.endswith(".") for sentence in book.rules.assumptions)


def test_the_files_of_a_venue_do_not_leave_a_day_to_two_of_them():
    by_venue = defaultdict(list)
    for found in list_rules():
        by_venue[found.venue].append(found)
    for files in by_venue.values():
        for earlier, later in pairwise(files):
            assert earlier.valid_to is not None, earlier.name
            assert earlier.valid_to < later.valid_from, earlier.name


def test_the_closed_alpha_rules():
    book = load_rules("hyperliquid@2023-02")
    assert book.resolved["margin"]["rate"] == "0.01"
    plan = compile_rules(book, (), ())
    assert plan.ladder == (Takeover(level=(1, 1), price="bankruptcy"),)
    assert plan.absorber == Absorber("@vault:liquidator", "hold", False, None, 0, 0, False)
    assert (plan.breach_at_equal, plan.depth, plan.adl) == (False, None, None)


def market(number, name, payoff=Payoff.LINEAR, ledger=0) -> Market:
    return Market(number, name, "", payoff, ledger, Fraction(1), 2, 2, 3, 1, 1)


MARKETS = [
    market(0, "BTC"),
    market(1, "ETH"),
    market(2, "SOL"),
    market(3, "XRP"),
    market(4, "DOGE"),
    market(5, "ZEREBRO"),
    market(6, "PURR/USDC", Payoff.SPOT, 2),
    market(7, "BTCUSD", Payoff.INVERSE, 1),
]
LEDGERS = [("", "USDC"), ("", "BTC"), ("spot", "PURR")]
ONE, ATOM, SECOND = 10**12, 10**8, 10**9


def maintenance(plan, number, notional):
    """Maintenance in atoms of a notional in whole units, by the tiers of a compiled plan."""
    first, last = plan.tier_first[number : number + 2].tolist()
    tier = max(t for t in range(first, last) if plan.tier_from[t] <= notional * ATOM)
    due = -(-int(plan.tier_rate[tier]) * notional * ATOM // ONE)
    return Fraction(due - int(plan.tier_deduction[tier]), ATOM)


def marginal(table, notional):
    """Half of the initial rate at each tier's highest leverage, on the part of notional inside the tier."""
    total = Fraction(0)
    for index, (start, leverage) in enumerate(table):
        end = table[index + 1][0] if index + 1 < len(table) else notional
        total += Fraction(max(0, min(end, notional) - start), 2 * leverage)
    return total


@pytest.mark.parametrize(
    ("number", "table"),
    [
        (0, [(0, 40), (150_000_000, 20)]),
        (1, [(0, 25), (100_000_000, 15)]),
        (2, [(0, 20), (70_000_000, 10)]),
        (3, [(0, 20), (40_000_000, 10)]),
        (4, [(0, 10), (20_000_000, 5)]),
        (5, [(0, 10), (3_000_000, 5)]),
        (7, [(0, 40), (1_500, 20)]),
    ],
)
def test_hyperliquid_maintenance_is_half_of_the_initial_rate_at_the_highest_leverage(number, table):
    plan = compile_rules(load_rules("hyperliquid@2025-10-10"), MARKETS, LEDGERS)
    edge = table[1][0]
    for notional in (0, 1, edge - 1, edge, edge + 1, 3 * edge):
        assert abs(maintenance(plan, number, notional) - marginal(table, notional)) < Fraction(1, 1_000)
    assert plan.tier_first[7] - plan.tier_first[6] == 0, "a spot market has no tiers"


def test_hyperliquid_of_2025():
    book = load_rules("hyperliquid", on=date(2025, 10, 10))
    assert book.name == "hyperliquid@2025-10-10"
    plan = compile_rules(book, MARKETS, LEDGERS)
    assert plan.ladder == (
        BookOrder(
            level=(1, 1),
            size="full",
            slice_above=100_000 * ATOM,
            slice_rate=ONE // 5,
            cooldown_ns=30 * SECOND,
            limit="none",
            all_or_nothing=False,
            surplus_to="trader",
            fee_rate=450_000_000,
        ),
        Takeover(level=(2, 3), price="bankruptcy"),
        Deleverage(level=(0, 1)),
    )
    assert plan.absorber == Absorber("@vault:liquidator", "hold", True, None, 0, 0, False)
    assert plan.adl == Adl(
        "price_ratio", "notional_on_equity", "account", "exclude", "previous_mark", 0, 0, 5
    )
    assert plan.depth is not None
    assert (plan.depth.provider, plan.depth.haircut_rate) == ("levels", 0)
    assert plan.breach_at_equal is False


def test_bybit_of_2025():
    book = load_rules("bybit", on=date(2025, 10, 10))
    assert book.name == "bybit@2025-09-23"
    plan = compile_rules(book, MARKETS, LEDGERS)
    step_down, whole, takeover = plan.ladder
    assert isinstance(step_down, BookOrder)
    assert isinstance(whole, BookOrder)
    assert [rung.level for rung in plan.ladder] == [(1, 1)] * 3
    assert (step_down.size, step_down.limit, step_down.all_or_nothing) == ("step_down", "bankruptcy", True)
    assert (whole.size, whole.limit, whole.all_or_nothing) == ("full", "bankruptcy", False)
    assert (whole.surplus_to, whole.slice_above, whole.fee_rate) == ("absorber", 0, 550_000_000)
    assert takeover == Takeover(level=(1, 1), price="bankruptcy")
    assert plan.absorber == Absorber(
        account="@fund:insurance",
        work_out="book",
        insolvent_below=False,
        drawdown=(3 * ONE // 10, ONE // 4),
        window_ns=28_800 * SECOND,
        least_balance=10_000 * ATOM,
        stops_at_zero=True,
    )
    assert plan.adl == Adl(
        "profit_on_entry",
        "notional_on_equity",
        "position",
        "exclude",
        "bankruptcy",
        200_000_000,
        550_000_000,
        5,
    )
    assert plan.depth is not None
    assert plan.depth.provider == "levels"


@pytest.mark.parametrize(
    ("number", "notional", "due"),
    [
        # the published example of its help page: 0.5 % up to 2 million, 0.56 % on what is above
        (0, 2_000_000, 10_000),
        (0, 2_600_000, 10_000 + 3_360),
        (0, 4_000_000, 4_000_000 * Fraction(71, 10_000) - 5_820),
        (0, 100_000_000, 100_000_000 * Fraction(45, 1_000) - 1_482_000),
        (4, 1_500_000, 10_000 + 7_500),
        (7, 150, Fraction(3, 4)),
        (7, 200, Fraction(3, 4) + Fraction(1, 2)),
    ],
)
def test_bybit_maintenance(number, notional, due):
    plan = compile_rules(load_rules("bybit@2025-09-23"), MARKETS, LEDGERS)
    assert maintenance(plan, number, notional) == due


@pytest.mark.parametrize("name", [found.name for found in list_rules()])
def test_the_hash_of_a_shipped_file_does_not_depend_on_how_it_is_written(name, tmp_path):
    book = load_rules(name)
    assert compile_rules(book, MARKETS, LEDGERS, accept_assumptions=True).sha256 == book.sha256
    bare = tmp_path / "bare.toml"
    bare.write_text("".join(line for line in book.text.splitlines(True) if not line.startswith("#")))
    assert load_file(bare).sha256 == book.sha256
    again = Rules.model_validate(
        {**book.resolved, "valid_from": book.rules.valid_from, "valid_to": book.rules.valid_to}
    )
    assert again == book.rules


@pytest.mark.real
def test_what_bybit_published_of_its_drawdown_rule():
    if not CASES.is_file():
        pytest.skip("the collected cases are not here")
    cases = {case["id"]: case for case in json.loads(CASES.read_text(), parse_float=str)}
    absorber = load_rules("bybit@2025-09-23").resolved["absorbers"][0]
    for case in ("R149", "R152"):
        inputs = cases[case]["inputs"]
        start = inputs.get("trigger_ratio", inputs.get("insurance_pnl_ratio"))
        stop = inputs.get("stop_ratio", inputs.get("adl_stop_ratio"))
        assert Fraction(start) == -Fraction(absorber["drawdown_start"])
        assert Fraction(stop) == -Fraction(absorber["drawdown_stop"])
    assert cases["R152"]["inputs"]["adl_trigger_threshold"] == int(absorber["least_balance"])


@pytest.mark.real
def test_what_hyperliquid_published_of_its_slices():
    if not CASES.is_file():
        pytest.skip("the collected cases are not here")
    cases = {case["id"]: case for case in json.loads(CASES.read_text(), parse_float=str)}
    inputs, rung = cases["R179"]["inputs"], load_rules("hyperliquid@2025-10-10").resolved["ladder"][0]
    assert inputs["threshold_usdc"] == int(rung["slice_above"])
    assert Fraction(inputs["slice"]) == Fraction(rung["slice_share"])
    assert rung["cooldown"] == f"{inputs['cooldown_s']}s"


def test_the_guide_names_every_key_and_value():
    guide = (ROOT / "docs" / "rules.md").read_text()
    for pattern, axis in AXES.items():
        for value in axis.now:
            assert f"`{value}`" in guide, (pattern, value)
    for sections in SECTIONS.values():
        for section in sections:
            for key in fields_of(section):
                assert f"`{key}`" in guide or f".{key}`" in guide or f"[{key}]" in guide, (section, key)
    assert set(fields_of(Rules)) >= {"venue", "margin"}


def test_the_overrides_of_the_guide_load():
    lines = [
        line for line in (ROOT / "docs" / "rules.md").read_text().splitlines() if line.startswith("--set ")
    ]
    assert len(lines) >= 3
    for line in lines:
        overrides = [word for word in shlex.split(line) if word != "--set"]
        compile_rules(load_rules("hyperliquid@2023-02", overrides=overrides), (), ())


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("hyperliquid@2025-10-10", ["ladder.0.slice_share=0.5", "depth.haircut=0.5"]),
        ("bybit@2025-09-23", ["absorbers.0.drawdown_start=0.5", "adl.price=mark"]),
    ],
)
def test_the_large_files_can_be_varied(name, overrides):
    book = load_rules(name, overrides=overrides)
    compile_rules(book, MARKETS, LEDGERS)
    assert book.sha256 != load_rules(name).sha256


def test_the_tiers_of_the_guide_load(tmp_path):
    guide = (ROOT / "docs" / "rules.md").read_text()
    block = guide[guide.index("```toml\n[margin]") + len("```toml\n") :].partition("```")[0]
    book = load_text(tmp_path, changed(FLAT, block))
    tables = book.resolved["margin"]["tables"]
    assert tables[0]["tiers"][1] == {"from": "50000", "rate": "0.02", "deduction": "500"}
    assert [table.get("markets") for table in tables] == [["BTC"], None, None]


# What the closed-alpha file says it observed, counted again on the tape it names.


def read(name):
    if not ALPHA.is_dir():
        pytest.skip("the recorded tapes are not here")
    with (ALPHA / name).open() as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def takeovers():
    """Each recorded liquidation: the size of every coin before its second, the fills in that second."""
    trades = defaultdict(list)
    for row in read("non_mm_trades.csv"):
        sign = 1 if row["side"] == "Bid" else -1
        trades[row["user"]].append(
            (row["time"], row["coin"], sign * Fraction(row["sz"]), Fraction(row["px"]))
        )
    found = []
    for row in read("liquidations.csv"):
        sizes, fills = defaultdict(Fraction), defaultdict(list)
        for time, coin, qty, price in trades[row["user"]]:
            if time < row["time"]:
                sizes[coin] += qty
            elif time == row["time"]:
                fills[coin].append((qty, price))
        equity, notional = Fraction(row["liquidated_account_value"]), Fraction(row["liquidated_ntl_pos"])
        sizes = {coin: size for coin, size in sizes.items() if size}
        found.append((row["leverage_type"], equity, notional, sizes, fills))
    return found


@pytest.mark.real
def test_recorded_equity_is_below_one_percent_of_notional(takeovers):
    ratios = [equity / notional for mode, equity, notional, _, _ in takeovers if mode == "Cross"]
    assert len(ratios) == 54
    assert f"{float(min(ratios)):.2%}" == "0.28%"
    assert f"{float(max(ratios)):.4%}" == "0.9998%"
    isolated = [equity / notional for mode, equity, notional, _, _ in takeovers if mode == "Isolated"]
    assert (len(isolated), sum(ratio > Fraction(1, 100) for ratio in isolated)) == (8, 4)


@pytest.mark.real
def test_no_recorded_liquidation_was_partial(takeovers):
    for mode, _, _, sizes, fills in takeovers:
        for coin, rows in fills.items():
            assert sizes[coin] + sum(qty for qty, _ in rows) == 0
        assert mode == "Isolated" or set(fills) == set(sizes)


@pytest.mark.real
def test_one_coin_goes_at_the_bankruptcy_price(takeovers):
    singles = [row for row in takeovers if row[0] == "Cross" and len(row[3]) == 1]
    assert len(singles) == 49
    for _, equity, notional, sizes, fills in singles:
        ((coin, size),) = sizes.items()
        bankruptcy = (notional - (equity if size > 0 else -equity)) / abs(size)
        for _, price in fills[coin]:
            assert abs(price / bankruptcy - 1) <= Fraction(1, 100_000)


@pytest.mark.real
def test_several_coins_share_equity_by_notional(takeovers):
    misses = []
    for mode, equity, notional, sizes, fills in takeovers:
        if mode == "Cross" and len(sizes) > 1:
            by_notional = by_head = Fraction(0)
            for coin, size in sizes.items():
                sign = 1 if size > 0 else -1
                value = sum(abs(qty) * price for qty, price in fills[coin])
                by_notional += value / (1 - sign * equity / notional)
                by_head += value + sign * equity / len(sizes)
            mixed = len({size > 0 for size in sizes.values()}) == 2
            misses.append((mixed, abs(by_notional / notional - 1), abs(by_head / notional - 1)))
    bp = Fraction(1, 10_000)
    assert len(misses) == 5
    assert all(share < bp / 20 for _, share, _ in misses)
    assert [round(float(head / bp), 1) for mixed, _, head in misses if mixed] == [1.5]


@pytest.mark.real
def test_published_deductions_are_the_computed_ones():
    if not BRACKETS.is_dir():
        pytest.skip("the recorded tapes are not here")
    path = BRACKETS / "binance_leverage_tiers_2025.10.json"
    symbols = json.loads(path.read_text(), parse_float=str)
    checked = 0
    for table in symbols.values():
        tiers = tuple(
            Tier.model_validate({"from": row["minNotional"], "rate": row["maintenanceMarginRate"]})
            for row in table
        )
        given = [Fraction(row["info"]["cum"]) for row in table]
        assert [Fraction(exact, 10**20) for exact in exact_deductions(tiers)] == given
        checked += len(table)
    assert checked == 5584
