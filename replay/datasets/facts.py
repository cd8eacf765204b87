"""What was published about a day beside what a run says."""

from __future__ import annotations

from typing import NamedTuple

from replay.datasets.registry import Dataset
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
    return [
        _compared(run, *fact)
        for fact in ((f.what, f.unit, f.value, f.tolerance, f.sql, f.source) for f in day.facts)
    ]


def _compared(
    run: Run, what: str, unit: str, value: float | None, tolerance: float, sql: str | None, source: str
) -> Compared:
    if sql is None or value is None:
        return Compared(what, unit, value, None, "to read", source)
    try:
        rows = query(run, sql).table().to_pylist()
    except ReplayError as failure:
        return Compared(what, unit, value, None, f"no answer: {failure.problem}", source)
    answer = next(iter(rows[0].values())) if rows else None
    if answer is None:
        return Compared(what, unit, value, None, "the run has none", source)
    found = float(answer)
    agrees = abs(found - value) <= tolerance * abs(value)
    return Compared(what, unit, value, found, "agrees" if agrees else "differs", source)
