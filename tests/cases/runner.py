"""Run cases through the product's functions and say how each one went."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from replay.errors import ReplayError
from tests.cases.case import Case, NoRuleError
from tests.cases.compare import differences
from tests.cases.table import call_for

FACTS = "event_fact"
"""Kind of the cases that tell what happened on a day: for comparison with a run, nothing to compute."""

SOURCES_OWN = "source_"
"""Expected names that begin so are figures of the source in its own terms: told, not compared."""

Verdict = Literal["passed", "failed", "skipped", "agrees", "differs"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a case went.

    A case whose source contradicts itself ``agrees`` or ``differs``: it counts as passed if we find the
    figures that the source prints, and as skipped if not, never as failed.
    """

    case: Case
    verdict: Verdict
    reason: str = ""

    def line(self) -> str:
        """Return the line of the case."""
        return f"{self.verdict:8}{self.case.id:6}{self.case.kind:25}{self.case.title}" + (
            f"\n        {self.reason}" if self.reason else ""
        )


def run_case(case: Case) -> Outcome:
    """Run a case and compare all that it expects."""
    if case.kind == FACTS:
        return Outcome(case, "skipped", "a fact of the day, for comparison with a run")
    printed = {name: v for name, v in case.expected.items() if not name.startswith(SOURCES_OWN)}
    try:
        found = call_for(case)(case)
    except (NoRuleError, ReplayError) as refusal:
        return Outcome(case, "skipped", str(refusal))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as failure:
        return Outcome(case, "failed", f"not computed: {type(failure).__name__}: {failure}")
    missing = [name for name in printed if name not in found]
    if missing:
        return Outcome(case, "skipped", f"no rule for the result {', '.join(missing)}")
    wrong = [
        line
        for name, value in printed.items()
        for line in differences(found[name], value, case.tolerance, name)
    ]
    if case.inconsistency is not None:
        verdict: Verdict = "differs" if wrong else "agrees"
        return Outcome(case, verdict, "; ".join([*wrong, f"source: {case.inconsistency}"]))
    return Outcome(case, "failed" if wrong else "passed", "; ".join(wrong))


def summary(outcomes: list[Outcome]) -> str:
    """Return the closing lines: what was skipped, then the counts."""
    counts = Counter(outcome.verdict for outcome in outcomes)
    facts = sum(outcome.case.kind == FACTS for outcome in outcomes)
    return (
        f"skipped are {facts} facts of a day, {counts['skipped'] - facts} without a rule and "
        f"{counts['differs']} where we differ from a source that contradicts itself; "
        f"passed are {counts['agrees']} where we agree with one\n"
        f"{counts['passed'] + counts['agrees']} passed, {counts['failed']} failed, "
        f"{counts['skipped'] + counts['differs']} skipped"
    )
