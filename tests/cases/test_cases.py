"""The published cases, and the runner that anybody can start with a file of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.cases.__main__ import main
from tests.cases.case import read_cases
from tests.cases.compare import agrees
from tests.cases.runner import FACTS, run_case

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "../shared/cases/cases.json"
NOT_THERE = not PUBLISHED.exists()


def published() -> list[Any]:
    return [] if NOT_THERE else read_cases(PUBLISHED)


@pytest.mark.skipif(NOT_THERE, reason=f"the published cases are not there: {PUBLISHED}")
def test_all_published_cases_pass_unless_their_source_contradicts_itself() -> None:
    outcomes = [run_case(case) for case in published() if case.kind != FACTS]
    wrong = [o.line() for o in outcomes if o.verdict != "passed" and o.case.inconsistency is None]
    assert not wrong
    assert sum(outcome.verdict == "passed" for outcome in outcomes) > 100


def write(path: Path, **changes: Any) -> Path:
    case = {
        "id": "mine",
        "venue": "Somewhere",
        "kind": "liquidation_price",
        "inputs": {
            "entry": 10,
            "size": 1,
            "mmr": 0.01,
            "cum_maintenance": 0.01,
            "side": -1,
            "wallet_balance": 2.0,
        },
        # (10 + 2 + 0.01) / 1.01
        "expected": {"liquidation_price": 11.8910891089},
    }
    path.write_text(json.dumps([case | changes]), encoding="utf-8")
    return path


def verdict(path: Path) -> str:
    (case,) = read_cases(path)
    return run_case(case).verdict


def test_a_case_of_a_venue_nobody_knows_runs_by_the_names_of_its_inputs(tmp_path: Path) -> None:
    assert verdict(write(tmp_path / "cases.json")) == "passed"


def test_another_number_than_the_rules_give_fails(tmp_path: Path) -> None:
    assert verdict(write(tmp_path / "cases.json", expected={"liquidation_price": 11.8910891})) == "passed"
    assert verdict(write(tmp_path / "cases.json", expected={"liquidation_price": 11.8910892})) == "failed"


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": {"moon_phase": 3}},
        {"kind": "horoscope"},
        {"expected": {"liquidation_price": 11.8910891089, "mood": "bearish"}},
    ],
)
def test_what_no_rule_is_known_for_is_skipped(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert verdict(write(tmp_path / "cases.json", **changes)) == "skipped"


def test_a_rule_that_depends_on_the_venue_is_skipped_for_one_that_is_not_in_the_table(tmp_path: Path) -> None:
    inputs = {"entry": 10, "size": 1, "leverage": 5, "mmr": 0.01, "side": 1}
    changes = {"inputs": inputs, "expected": {"liquidation_price": 8.1}}
    assert verdict(write(tmp_path / "cases.json", **changes)) == "skipped"
    assert verdict(write(tmp_path / "cases.json", venue="Bybit", **changes)) == "passed"


def test_inputs_of_another_shape_fail_and_do_not_crash(tmp_path: Path) -> None:
    assert (
        verdict(
            write(
                tmp_path / "cases.json",
                kind="adl_cost",
                inputs=dict.fromkeys(("signed_qty", "exec_price", "mark_at_exec", "mark_later"), "many"),
            )
        )
        == "failed"
    )


def test_a_source_that_contradicts_itself_is_never_failed(tmp_path: Path) -> None:
    changes = {"expected": {"liquidation_price": 12}, "source_inconsistency": "prints two prices"}
    assert verdict(write(tmp_path / "cases.json", **changes)) == "differs"


@pytest.mark.parametrize(
    ("found", "printed", "tolerance", "same"),
    [
        (Fraction(1, 2), "0.5", None, True),
        (Fraction(1, 2), "0.50", None, True),
        (Fraction(51, 100), "0.5", None, False),
        (Fraction(2, 3), "0.6666667", None, True),
        (Fraction(2, 3), "0.6666666", None, False),
        (Fraction(2, 3), "0.67", None, False),
        (Fraction(2, 3), "0.67", "0.01", True),
        (Fraction(68, 100), "0.66", "0.01", False),
    ],
)
def test_numbers_agree_exactly_or_in_the_digits_printed_or_within_the_tolerance(
    found: Fraction, printed: str, tolerance: str | None, same: bool
) -> None:
    assert agrees(found, Decimal(printed), Fraction(tolerance) if tolerance else None) is same


def test_truth_is_no_number() -> None:
    assert not agrees(1, True, None)
    assert not agrees(True, Decimal(1), None)


def test_the_command_prints_a_line_a_case_and_the_counts(tmp_path: Path, capsys: Any) -> None:
    assert main([str(write(tmp_path / "cases.json"))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("passed  mine")
    assert lines[-1] == "1 passed, 0 failed, 0 skipped"
    assert main([str(write(tmp_path / "cases.json", expected={"liquidation_price": 1}))]) == 1
    assert main([str(tmp_path / "nowhere.json")]) == 1
    assert main([]) == 2


def test_the_code_of_the_runner_names_no_venue_and_no_case() -> None:
    cases = published()
    words = {case.venue.split()[0] for case in cases} - {"Market", "analysis"} | {case.id for case in cases}
    for file in Path(__file__).parent.glob("*.py"):
        if file.name != Path(__file__).name:
            text = file.read_text(encoding="utf-8")
            assert not [word for word in words if word in text], file.name


def test_it_starts_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.cases", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "usage: python -m tests.cases FILE" in done.stderr
