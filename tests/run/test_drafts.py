from __future__ import annotations

from pathlib import Path

import pytest

import replay
from replay.errors import RulesError
from replay.rules.load import load_file
from tests.scenario_tape import scenario_tape

DAY = """
venue = "example"
start = "2025-01-01T00:00:00Z"
[[markets]]
name = "BTC"
settle = "USDC"
[[accounts]]
name = "one"
cash = "10"
[[marks]]
at = "+0s"
market = "BTC"
price = "100"
"""


def test_a_draft_runs_only_when_its_assumptions_are_accepted(tmp_path: Path) -> None:
    text = replay.load_rules("hyperliquid@2023-02").text.replace('status = "final"', 'status = "draft"')
    draft = tmp_path / "draft.toml"
    draft.write_text(text)
    book = load_file(draft)
    tape = scenario_tape(tmp_path, DAY)
    with pytest.raises(RulesError, match="--accept-assumptions"):
        replay.run_replay(tape, book, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    run = replay.run_replay(tape, book, tmp_path / "run", accept_assumptions=True)
    assert run.rows("accounts_end") > 0
