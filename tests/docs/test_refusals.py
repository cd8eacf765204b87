"""docs/rules.md says of every key and value that is refused why it is."""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path

from replay.rules.axes import AXES, LATER_KEYS

PAGE = Path(__file__).parents[2] / "docs" / "rules.md"
REASONS = {"tape", "pool", "unpublished", "elsewhere"}


def rows() -> list[list[str]]:
    """Return the cells of the table, with an empty key filled in from above."""
    _, _, rest = PAGE.read_text(encoding="utf-8").partition("### What is refused, and why\n")
    table = [line for line in rest.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    found: list[list[str]] = []
    for line in table[1:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        found.append([cells[0] or found[-1][0], *cells[1:]])
    return found


def words(cell: str) -> list[str]:
    """Return what stands in backquotes, separated by commas; an empty cell is the whole key."""
    return [word.strip("`") for word in cell.split(", ")]


def test_the_table_has_what_is_refused_once_each_and_nothing_else() -> None:
    told = Counter(pair for key, value, *_ in rows() for pair in product(words(key), words(value)))
    values = [(pattern, value) for pattern, axis in AXES.items() for value in axis.later]
    keys = [(f"{pattern}.{key}".lstrip("."), "") for pattern, keys in LATER_KEYS.items() for key in keys]
    assert told == Counter((pattern.replace(".*", ""), value) for pattern, value in values + keys)


def test_each_has_one_of_four_reasons() -> None:
    assert {reason for _, _, reason, _ in rows()} == REASONS
    assert all(text for *_, text in rows())
