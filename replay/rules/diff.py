"""Two rule books side by side: the values that differ."""

from __future__ import annotations

from typing import Any, NamedTuple

from replay.rules.explain import TABLES
from replay.rules.model import RuleBook
from replay.rules.problems import pattern_of

_NOT_THERE = "-"


class Difference(NamedTuple):
    """A key that two rule books do not say the same of; ``-`` where one has no such key."""

    key: str
    first: str
    second: str


def diff(first: RuleBook, second: RuleBook) -> list[Difference]:
    """Return what differs between two rule books, in the order of the file format.

    Rungs of the ladder and absorbers are compared in their order. Tables of tiers are compared by the markets
    and currencies they are for, each as one value. Title, dates and assumptions are left out: they are about
    the file, not about the exchange.
    """
    mine, theirs = _values(first), _values(second)
    keys = [*mine, *(key for key in theirs if key not in mine)]
    order = {section: number for number, section in enumerate(type(first.rules).model_fields)}
    keys.sort(key=lambda key: (order[key.partition(".")[0]], _number(key)))
    return [
        Difference(key, mine.get(key, _NOT_THERE), theirs.get(key, _NOT_THERE))
        for key in keys
        if mine.get(key) != theirs.get(key)
    ]


def _number(key: str) -> int:
    """Return the index of a rung or absorber, so that what both say of it stands together."""
    parts = key.split(".")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdecimal() else 0


def _values(book: RuleBook) -> dict[str, str]:
    found: dict[str, str] = {}
    for section, value in book.resolved.items():
        if section not in ("venue", "title", "valid_from", "valid_to", "status", "assumptions"):
            _collect(found, (section,), value)
    return found


def _collect(found: dict[str, str], parts: tuple[str | int, ...], value: Any) -> None:
    key = ".".join(map(str, parts))
    if isinstance(value, dict):
        for name, inner in value.items():
            _collect(found, (*parts, name), inner)
    elif isinstance(value, list) and pattern_of((*parts, 0)) in TABLES:
        for table in value:
            whose = f"{_names(table.get('markets', ['all others']))} in {_names(table['currencies'])}"
            found[f"{key} for {whose}"] = _table(table)
    elif isinstance(value, list) and pattern_of(parts) == "depth.static":
        found[key] = ", ".join(f"{level['notional']} at {level['bp']} bp" for level in value)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            _collect(found, (*parts, index), item)
    elif isinstance(value, list):
        found[key] = ", ".join(map(str, value)) or "none"
    else:
        found[key] = str(value).lower() if isinstance(value, bool) else str(value)


def _names(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} more"


def _table(table: dict[str, Any]) -> str:
    tiers = table.get("tiers")
    if tiers is None:
        return ", ".join(f"{k} {v}" for k, v in table.items() if k not in ("markets", "currencies"))
    return "; ".join(f"{tier['rate']} from {tier['from']}" for tier in tiers)
