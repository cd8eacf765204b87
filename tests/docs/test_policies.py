"""docs/policies.md: the policy of one's own on that page runs, and every registered one is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from replay.cli import cli
from replay.loop.policies.registry import POLICIES, QUEUE
from replay.loop.policies.scores import LEVERAGE_TERMS, LOSS_RULES, PROFIT_TERMS

PAGE = Path("docs/policies.md").read_text(encoding="utf-8")


def printed(*args: str, exit_code: int = 0) -> str:
    result = CliRunner().invoke(cli, list(args))
    assert result.exit_code == exit_code, result.output
    return result.output


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("paper") / "tape")
    printed("import", "scenario", "datasets/demo-thin-book/scenario.toml", "--out", folder)
    return folder


def closed(tape: str, run: Path, method: str) -> str:
    rules = ["--rules", "hyperliquid@2025-10-10", "--set", f"adl.method={method}"]
    printed("run", tape, *rules, "--liquidations", "rules", "--out", str(run))
    return printed("sql", str(run), "SELECT winner, rank, quantity, realised FROM adl_fills ORDER BY seq")


def test_the_policy_on_the_page_does_what_the_page_shows(tape: str, tmp_path: Path) -> None:
    code = re.search(r"```python\n(# mine\.py\n.*?)```", PAGE, re.DOTALL)
    assert code is not None
    file = tmp_path / "mine.py"
    file.write_text(code[1], encoding="utf-8")
    assert closed(tape, tmp_path / "run", f"{file}:smallest_first spare=1") in PAGE


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("queue", {"late": "3.0", "middle": "3.0", "early": "2.6"}),
        ("contract_pro_rata", {"late": "2.58", "middle": "2.58", "early": "3.44"}),
        ("capped_pro_rata cap=1/4", {"late": "0.75", "middle": "0.75", "early": "1.00"}),
    ],
)
def test_changing_the_policy_alone_changes_who_is_closed(
    tape: str, tmp_path: Path, method: str, expected: dict[str, str]
) -> None:
    """8.6 of shorts of 3, 3 and 4: in turn, in proportion to size, and at most a quarter of each."""
    lines = closed(tape, tmp_path / "run", method).splitlines()[2:]
    assert {line.split()[0]: line.split()[2] for line in lines} == expected


def test_a_policy_that_fails_is_one_clear_error(tape: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def broken(need, winners):\n    return winners.luck\n", encoding="utf-8")
    rules = ["--rules", "hyperliquid@2025-10-10", "--set", f"adl.method={file}:broken"]
    told = printed(
        "run", tape, *rules, "--liquidations", "rules", "--out", str(tmp_path / "run"), exit_code=1
    )
    assert f"the policy {file}:broken failed: AttributeError" in told
    assert not (tmp_path / "run").exists()


def test_every_policy_and_term_is_named() -> None:
    for name in (QUEUE, *POLICIES, *PROFIT_TERMS, *LEVERAGE_TERMS, *LOSS_RULES):
        assert f"`{name}`" in PAGE, name
