"""Every recorded liquidation of a keeper venue, 2021-11 to 2022-01, against its published rule, to the unit."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from replay.rules.formulas import keeper

FILE = Path(__file__).parents[2] / "../shared/data/drift-v1-2021/liquidation_history_hist.csv"
pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def records() -> list[dict[str, str]]:
    """The records without the null record that stands before them."""
    if not FILE.exists():
        pytest.skip(f"the recorded liquidations are not there: {FILE}")
    with FILE.open(newline="", encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if row["record_id"] != "0"]


def test_a_quarter_or_all_is_closed_by_the_margin_ratio(records: list[dict[str, str]]) -> None:
    """A quarter of each position is rounded down by itself: a whole is short by some units."""
    stages: Counter[bool] = Counter()
    for row in records:
        value, closed = int(row["base_asset_value"]), int(row["base_asset_value_closed"])
        total = keeper.collateral(int(row["collateral"]), int(row["unrealized_pnl"]))
        assert total == int(row["total_collateral"])
        assert keeper.ratio(total, value) == int(row["margin_ratio"])
        rule = keeper.stage(int(row["margin_ratio"]))
        assert rule == (keeper.PARTIAL if row["partial"] == "True" else keeper.FULL)
        assert 0 <= value * rule.closed - closed < 6, row["record_id"]
        stages[rule is keeper.PARTIAL] += 1
    assert stages == {True: 3150, False: 232}


def test_the_fee_and_who_has_it(records: list[dict[str, str]]) -> None:
    """2.5 % of the collateral, half to the keeper; or all of it, a twentieth to the keeper."""
    fund = 0
    for row in records:
        rule = keeper.stage(int(row["margin_ratio"]))
        assert rule is not None
        found = keeper.fee(int(row["total_collateral"]), rule)
        recorded = (row["liquidation_fee"], row["fee_to_liquidator"], row["fee_to_insurance_fund"])
        assert (found.whole, found.keeper, found.fund) == tuple(map(int, recorded)), row["record_id"]
        fund += found.fund
    assert fund == sum(int(row["fee_to_insurance_fund"]) for row in records)


def test_the_bankruptcies_have_nothing_to_take(records: list[dict[str, str]]) -> None:
    """18 accounts owed money: their collateral counts as zero, nobody earned, and the two largest owed most."""
    owed = {
        int(row["record_id"]): -(int(row["collateral"]) + int(row["unrealized_pnl"]))
        for row in records
        if int(row["collateral"]) + int(row["unrealized_pnl"]) < 0
    }
    assert len(owed) == 18
    broke = [row for row in records if int(row["total_collateral"]) == 0]
    assert {int(row["record_id"]) for row in broke} == set(owed)
    assert all(row["partial"] == "False" and row["liquidation_fee"] == "0" for row in broke)
    largest = sorted(owed, key=owed.__getitem__)[-2:]
    assert sorted(largest) == [499, 500]
    assert [round(owed[number] / 1e6) for number in (499, 500)] == [73_183, 59_919]


def test_above_the_maintenance_of_a_partial_liquidation_nothing_happens() -> None:
    assert keeper.stage(626) is None
    assert keeper.stage(625) is keeper.PARTIAL
    assert keeper.stage(500) is keeper.PARTIAL
    assert keeper.stage(499) is keeper.FULL
