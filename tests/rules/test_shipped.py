"""The rule files that come with the program: valid, in their place, and true to what they cite."""

import csv
import json
import shlex
from collections import defaultdict
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from replay.rules import compile_rules, list_rules, load_rules
from replay.rules.axes import AXES
from replay.rules.model import Rules, Tier, exact_deductions
from replay.rules.problems import SECTIONS, fields_of
from tests.rules.books import FLAT, changed, load_text

ROOT = Path(__file__).parents[2]
ALPHA = ROOT / "../shared/data/hyperliquid-2023"
BRACKETS = ROOT / "../shared/data/binance-leverage-tiers"


@pytest.mark.parametrize("name", [found.name for found in list_rules()])
def test_every_shipped_file_compiles_and_stands_in_its_place(name):
    book = load_rules(name)
    compile_rules(book, (), (), accept_assumptions=True)
    venue, _, version = name.partition("@")
    assert book.rules.venue == venue
    assert str(book.rules.valid_from).startswith(version)
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
    assert plan.ladder[0].absorber == "@vault:liquidator"
    assert (plan.breach_at_equal, plan.adl_enabled) == (False, False)


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


def test_the_tiers_of_the_guide_load(tmp_path):
    guide = (ROOT / "docs" / "rules.md").read_text()
    block = guide[guide.index("```toml\n") + len("```toml\n") :].partition("```")[0]
    book = load_text(tmp_path, changed(FLAT, block))
    assert book.resolved["margin"]["tiers"][1] == {"from": "50000", "rate": "0.02", "deduction": "500"}


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
