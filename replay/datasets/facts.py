"""What was published about a day beside what a run says."""

from __future__ import annotations

from typing import NamedTuple

from replay.datasets.registry import Dataset, Fact
from replay.errors import ReplayError
from replay.run.sql import query
from replay.run.store import Run


class Compared(NamedTuple):
    """A published fact beside the answer of a run.

    Attributes:
        what: The fact.
        unit: What is counted.
        published: The published number; None if the fact is no number.
        found: The answer of the run; None if the run has no answer, or none is asked for.
        verdict: ``agrees``, ``differs``, or why there is nothing to compare.
        source: Where it is published.
    """

    what: str
    unit: str
    published: float | None
    found: float | None
    verdict: str
    source: str


def compare(run: Run, day: Dataset) -> list[Compared]:
    """Return every fact of a dataset beside what a run says of it.

    A question that the run cannot answer is told as such: a run without ADL has no ADL to compare.

    Raises:
        RunError: The run cannot be opened.
    """
    return [_compared(run, fact) for fact in day.facts]


def _compared(run: Run, fact: Fact) -> Compared:
    found, verdict = _answer(run, fact)
    return Compared(fact.what, fact.unit, fact.value, found, verdict, fact.source)


def _answer(run: Run, fact: Fact) -> tuple[float | None, str]:
    """Return what a run says of a fact, and the verdict."""
    if fact.sql is None or fact.value is None:
        return None, "to read"
    try:
        rows = query(run, fact.sql).table().to_pylist()
    except ReplayError as failure:
        return None, f"no answer: {failure.problem}"
    answer = next(iter(rows[0].values())) if rows else None
    if answer is None:
        return None, "the run has none"
    found = float(answer)
    agrees = abs(found - fact.value) <= fact.tolerance * abs(fact.value)
    return found, "agrees" if agrees else "differs"
