"""A published case, as exact numbers, with the rule values of its venue."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from replay.rules.load import load_rules
from replay.rules.model import RuleBook

RULES = Path(__file__).with_name("rules.toml")


class NoRuleError(Exception):
    """The case cannot be run: no rule takes its inputs, or its venue's value for one is not known."""


def exact(value: Any) -> Any:
    """Turn the numbers of a JSON value into fractions; keep everything else."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [exact(item) for item in value]
    return Fraction(value)


@cache
def venue_rules() -> dict[str, dict[str, dict[str, Any]]]:
    """Return the table of rule values: venue, kind, name."""
    with RULES.open("rb") as file:
        return tomllib.load(file, parse_float=str)


@dataclass(frozen=True, slots=True)
class Case:
    """One case of the file.

    Attributes:
        inputs: Its inputs, numbers as fractions.
        expected: What the source expects, numbers as they are printed (``Decimal``).
    """

    id: str
    venue: str
    kind: str
    title: str
    inputs: Mapping[str, Any]
    expected: Mapping[str, Any]
    tolerance: Fraction | None
    inconsistency: str | None

    def __getitem__(self, name: str) -> Any:
        return self.inputs[name]

    def __contains__(self, name: object) -> bool:
        return name in self.inputs

    def get(self, *names: str, default: Any = None) -> Any:
        """Return the first input that is there under one of the names."""
        return next((self.inputs[name] for name in names if name in self.inputs), default)

    def rule(self, name: str) -> Any:
        """Return an input, or else the value that the table of rules has for the venue and kind."""
        if name in self.inputs:
            return self.inputs[name]
        values = venue_rules().get(self.venue, {}).get(self.kind, {})
        if name not in values:
            raise NoRuleError(f"no `{name}` for {self.venue} / {self.kind} in {RULES.name}")
        value = values[name]
        try:
            return Fraction(value)
        except (TypeError, ValueError):
            return value

    def book(self) -> RuleBook:
        """Return the rule book that the table names for the venue and kind."""
        return load_rules(self.rule("book"))


def read_cases(path: Path) -> list[Case]:
    """Read a file of cases."""
    rows = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    return [
        Case(
            row["id"],
            row["venue"],
            row["kind"],
            row.get("title", ""),
            exact(row["inputs"]),
            row["expected"],
            Fraction(row["tolerance"]) if row.get("tolerance") is not None else None,
            row.get("source_inconsistency"),
        )
        for row in rows
    ]
