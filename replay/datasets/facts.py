"""What was published about a day beside what a run and its tape say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from replay.datasets.registry import Dataset, Fact
from replay.errors import ReplayError, TapeError
from replay.run.sql import query
from replay.run.store import Run
from replay.tape.read import Tape

_NONE = "has none"
_UNASKED = "--tape TAPE has an answer"


class Compared(NamedTuple):
    """A published fact beside the answers of a tape and of a run.

    Attributes:
        what: The fact.
        unit: What is counted.
        published: The published number; None if the fact is no number.
        recorded: The answer of the tape; None if it has none, or none is asked for.
        found: The answer of the run; None if the run has no answer, or none is asked for.
        verdict: ``agrees``, ``differs``, or why there is nothing to compare; of the tape and the run where both
            are asked.
        source: Where it is published.
    """

    what: str
    unit: str
    published: float | None
    recorded: float | None
    found: float | None
    verdict: str
    source: str


def compare(run: Run, day: Dataset, tape: Tape | None = None) -> list[Compared]:
    """Return every fact of a dataset beside what a run, and its tape, say of it.

    A question that cannot be answered is told as such: a run without ADL has no ADL to compare.

    Args:
        run: The run.
        day: The dataset.
        tape: The tape of the run; without it no question to a tape is asked.

    Raises:
        RunError: The run cannot be opened.
        TapeError: The tape is not that of the run.
    """
    if tape is not None and tape.manifest["sha256"] != run.manifest["tape"]["sha256"]:
        raise TapeError(
            f"is another tape than that of the run {run.path}",
            file=tape.path,
            key="--tape",
            mend=f"name the tape that was replayed; it was called {run.manifest['tape']['name']}",
        )
    return [_compared(run, tape, fact) for fact in day.facts]


def _compared(run: Run, tape: Tape | None, fact: Fact) -> Compared:
    recorded, of_tape = None, ""
    found, of_run = None, ""
    if fact.value is not None and fact.tape_sql is not None:
        question = fact.tape_sql
        recorded, of_tape = (
            (None, _UNASKED)
            if tape is None
            else _judged(fact, lambda: next(iter(tape.select(question)), (None,))[0])
        )
    if fact.value is not None and fact.sql is not None:
        asked = fact.sql
        found, of_run = _judged(fact, lambda: _first(query(run, asked).table().to_pylist()))
    return Compared(fact.what, fact.unit, fact.value, recorded, found, _verdict(of_tape, of_run), fact.source)


def _verdict(of_tape: str, of_run: str) -> str:
    """Return the verdict of whichever was asked, told apart where both were."""
    if of_tape == _UNASKED:
        return f"{_verdict('', of_run)}; {_UNASKED}" if of_run else _UNASKED
    if of_tape and of_run:
        return f"tape {of_tape}, run {of_run}"
    if _NONE in (of_tape, of_run):
        return f"the {'tape' if of_tape else 'run'} {_NONE}"
    return of_tape or of_run or "to read"


def _first(rows: list[dict[str, Any]]) -> Any:
    return next(iter(rows[0].values())) if rows else None


def _judged(fact: Fact, ask: Callable[[], Any]) -> tuple[float | None, str]:
    """Return the answer to a fact's question, and the verdict."""
    try:
        answer = ask()
    except ReplayError as failure:
        return None, f"no answer: {failure.problem}"
    if answer is None or fact.value is None:
        return None, _NONE
    found = float(answer)
    agrees = abs(found - fact.value) <= fact.tolerance * abs(fact.value)
    return found, "agrees" if agrees else "differs"
