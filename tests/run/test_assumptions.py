"""What a rule file assumes names the key it stands for, and the run says what each assumption decided."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import replay
from replay.cli import cli
from replay.rules import load_rules
from replay.rules.load import list_rules
from tests.waterfall.days import Day

KEY = re.compile(r"([a-z_]+(?:\.[a-z_0-9]+)*): ")


@pytest.mark.parametrize("name", [found.name for found in list_rules()])
def test_the_key_of_an_assumption_is_one_of_its_file(name: str) -> None:
    book = load_rules(name)
    keyed = 0
    for sentence in book.rules.assumptions:
        match = KEY.match(sentence)
        if match is None:
            continue
        keyed += 1
        node = book.resolved
        for part in match.group(1).split("."):
            node = node[int(part)] if isinstance(node, list) else node.get(part, {})
        assert node != {}, sentence
    assert keyed >= len(book.rules.assumptions) - 1


def test_the_run_says_what_each_assumption_decided(tmp_path: Path) -> None:
    """The thin-book day: one order met too few bids, one takeover, the vault closed against three winners."""
    replay.import_source("scenario", [Path("datasets/demo-thin-book/scenario.toml")], tmp_path / "tape")
    args = ["run", str(tmp_path / "tape"), "--rules", "hyperliquid@2025-10-10", "--liquidations", "rules"]
    printed = CliRunner().invoke(cli, [*args, "--out", str(tmp_path / "run")])
    assert printed.exit_code == 0, printed.output
    day = Day(replay.open_run(tmp_path / "run"))
    decided = dict(
        day.rows(
            "SELECT regexp_extract(assumption, '^rules: ([a-z_.0-9]+):', 1), any_value(decided) "
            "FROM assumptions WHERE decided IS NOT NULL GROUP BY 1"
        )
    )
    assert decided["depth.half_life"] == "1 orders into the book, 1 of them not filled whole"
    assert decided["absorbers.0.work_out"] == "1 takeovers, 3 closings of its own positions"
    assert decided["adl.score"] == "3 closings of 3 winners"
    assert decided["adl.winner_fee"] == "fees of 0.00 USDC"
    assert decided["margin.tables"] == "1 liquidations"
    assert "rest on it" in printed.output
    assert "3 closings of 3 winners" in printed.output
