"""What a rule book says, value by value, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from replay.rules.axes import AXES
from replay.rules.model import RuleBook
from replay.rules.problems import pattern_of
from replay.units import format_units, parse_decimal


class Explained(NamedTuple):
    """One value of a rule book: its dotted key, the value as text, and what it means."""

    key: str
    value: str
    sentence: str


def _percent(rate: str) -> str:
    mantissa, digits = parse_decimal(rate)
    return f"{format_units(mantissa * 100, digits)} %"


FREE: Mapping[str, Callable[[str], str]] = {
    "venue": lambda value: f"The exchange is {value}.",
    "title": lambda _value: "What the file describes.",
    "valid_from": lambda value: f"The rules hold from the beginning of {value}, UTC.",
    "valid_to": lambda value: f"They hold until the end of {value}, UTC.",
    "margin.rate": lambda value: f"Maintenance is {_percent(value)} of notional, rounded up to the atom.",
    "margin.currency": lambda value: f"The notional of the tiers is in {value}.",
    "margin.tiers.*.from": lambda value: f"This tier holds for a notional of {value} and more.",
    "margin.tiers.*.rate": lambda value: f"In it maintenance is {_percent(value)} of the whole notional,",
    "margin.tiers.*.deduction": lambda value: (
        f"less {value}, so that it does not jump where the tier begins."
    ),
    "ladder.*.absorber": lambda value: f"The taker is the absorber called {value}.",
    "absorbers.*.name": lambda value: f"The ladder calls it {value}.",
}
"""The sentence of every key without a closed list of values."""


def explain(book: RuleBook) -> list[Explained]:
    """Return every value of a rule book with a sentence, in the order of the file format.

    The assumptions are left out: they are sentences themselves.
    """
    found = []
    for parts, value in _leaves(book.resolved, ()):
        if parts[0] == "assumptions":
            continue
        pattern, key = pattern_of(parts), ".".join(map(str, parts))
        text = str(value).lower() if isinstance(value, bool) else value
        axis = AXES.get(pattern)
        found.append(Explained(key, text, axis.now[text] if axis else FREE[pattern](text)))
    return found


def _leaves(value: Any, parts: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*parts, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*parts, index))
    else:
        yield parts, value
