"""``replay compare``: one small day under two rule books, worked on paper."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from docs.who_pays import table
from replay.cli.comparing import compare
from replay.errors import RunError
from replay.rules import list_rules
from tests.waterfall.days import BYBIT, HYPERLIQUID, account, fund, marks, replayed

ROOT = Path(__file__).parents[2]
DAY = (
    'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }]\n'
    + account("long", 50_000, ("BTC", 10, 100_000))
    + account("short", 500_000, ("BTC", -10, 100_000))
    + fund("@fund:insurance", 3_000)
    + marks("BTC", ("+0s", 100_000), ("+10s", 94_000))
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """At 94,000 the long owes 10,000; nothing can be sold.

    Hyperliquid closes it against the short at the mark before, 100,000: 50,000 are left, nobody pays. Bybit's
    fund takes over what 30 % of its 3,000 can bear, at 1,000 a BTC: 0.9 of 10 BTC at the bankruptcy price, 95,000;
    the rest is closed against the short at that price.
    """
    folder = tmp_path_factory.mktemp("compare")
    for name, rules in (("hyperliquid", HYPERLIQUID), ("bybit", BYBIT)):
        (folder / name).mkdir()
        replayed(folder / name, DAY, rules)
    return [str(folder / name / "run") for name in ("hyperliquid", "bybit")]


def call(*arguments: str) -> Any:
    return CliRunner().invoke(compare, list(arguments), catch_exceptions=False)


def test_who_paid_what(runs: list[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(call(*runs, "--format", "csv").stdout)))
    first, second = rows
    assert (first["rules"], first["liquidations"], first["winners"]) == (HYPERLIQUID, "1", "1")
    assert float(first["adl"]) == 10 * 100_000
    assert [float(first[part]) for part in ("book", "taken_over", "fund", "bad_debt")] == [0, 0, 0, 0]
    assert float(second["taken_over"]) == 0.9 * 95_000
    assert float(second["adl"]) == 9.1 * 95_000
    assert float(second["fund"]) == 900
    assert float(second["bad_debt"]) == 0


def test_few_runs_stand_side_by_side_and_many_below_each_other(runs: list[str]) -> None:
    few = [line.split("│") for line in call(*runs).stdout.splitlines()]
    assert ["in ADL", "1,000,000", "864,500"] in [[cell.strip() for cell in line[1:-1]] for line in few]
    many = call(*runs, *runs, *runs).stdout
    assert many.count("864k") == 3
    assert max(map(len, many.splitlines())) <= 80


def test_runs_of_several_days_are_not_compared(runs: list[str], tmp_path: Path) -> None:
    other = replayed(tmp_path, DAY.replace("94_000", "93_000").replace("94000", "93000"), BYBIT).run
    with pytest.raises(RunError, match="several tapes"):
        call(runs[0], str(other.path))


def test_a_currency_without_liquidations(runs: list[str]) -> None:
    with pytest.raises(RunError, match="no run has liquidations in DOGE"):
        call(*runs, "--currency", "DOGE")


def test_the_page_has_what_the_command_prints() -> None:
    page = (ROOT / "docs" / "who-pays-what.md").read_text(encoding="utf-8")
    for line in table([BYBIT]).splitlines():
        assert line in page, "run `python docs/who_pays.py`"
    for rule_file in list_rules():
        assert (f"| {rule_file.name} |" in page) == (rule_file.status == "final"), rule_file.name
