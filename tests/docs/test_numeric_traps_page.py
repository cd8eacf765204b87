"""docs/numeric-traps.md names a test for every trap, each of which exists, or says that it cannot occur."""

from __future__ import annotations

import re
from pathlib import Path

from tests.rules import test_numeric_traps as traps

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in Path("docs/numeric-traps.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| \d", line)
]


def test_every_trap_has_one_row_in_order() -> None:
    assert [int(row[0]) for row in ROWS] == list(range(1, 35))
    assert all(len(row) == 4 and all(row) for row in ROWS)


def test_a_row_names_the_test_of_its_trap_or_says_why_there_is_none() -> None:
    for number, _, answer, shown in ROWS:
        if int(number) in traps.CANNOT_OCCUR:
            assert answer.startswith("cannot occur: "), number
            continue
        name = shown.strip("`")
        assert name.startswith(f"test_trap_{int(number):02d}_"), number
        assert callable(getattr(traps, name, None)), f"{name} is no test"


def test_every_test_of_a_trap_is_named() -> None:
    named = {row[3].strip("`") for row in ROWS}
    assert {name for name in vars(traps) if name.startswith("test_trap_")} <= named
