"""Every value of every axis stands in a test of what it does, beside those that check files or draw at random."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from replay.rules.axes import AXES

TESTS = Path(__file__).parents[1]
NOT_OF_EFFECT = {
    "random_plans.py",
    "random_ladder.py",
    "campaign.py",
    "test_problems.py",
    "test_load.py",
    "test_model.py",
}
"""Files that name values without running a day or working a sum under them."""

CHOICES = [(axis, value) for axis, choice in AXES.items() if len(choice.now) > 1 for value in choice.now]


@pytest.fixture(scope="module")
def tests_of_effect() -> str:
    folders = [TESTS / name for name in ("waterfall", "rules", "loop", "run", "end_to_end", "policies")]
    found = [path for folder in folders for path in folder.rglob("*.py") if path.name not in NOT_OF_EFFECT]
    return "\n".join(path.read_text(encoding="utf-8") for path in found if path != Path(__file__))


@pytest.mark.parametrize(("axis", "value"), CHOICES, ids=lambda part: part)
def test_a_value_has_a_test_of_what_it_does(tests_of_effect: str, axis: str, value: str) -> None:
    key = axis.rsplit(".", 1)[-1]
    written = rf'["\']{re.escape(value)}["\']|{key}\s*=\s*"?{re.escape(value)}\b'
    assert re.search(written, tests_of_effect), f"no test changes {axis} to {value}"
