"""What a check of a tape found, and what it counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from replay.units import format_time


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"  # a replay of this tape would be wrong, or could not be made
    WARNING = "warning"  # the tape lacks or contradicts something; the replay copes and says so
    NOTE = "note"  # worth knowing


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found in one table.

    Args:
        severity: How much it matters.
        table: Table it was found in, or ``tape.json``.
        message: What was found, in a sentence.
        count: How often.
        ts: Moment of the first case in ns, where there is one.
        row: ``seq`` of the first case in an event table, or the id in another, where there is one.
    """

    severity: Severity
    table: str
    message: str
    count: int = 1
    ts: int | None = None
    row: int | None = None

    def place(self) -> str:
        """Return where the first case is, as text; empty if it is nowhere in particular."""
        parts = [] if self.ts is None else [format_time(self.ts)]
        if self.row is not None:
            parts.append(f"row {self.row}")
        return ", ".join(parts)


@dataclass(slots=True)
class CheckReport:
    """Findings and facts of one check.

    Args:
        findings: Errors first, then warnings, then notes; within these in the order of the checks.
        facts: What was counted, by name: ``events`` (rows of the event tables), ``accounts``,
            ``markets``, ``spot_rows`` (fills set apart), ``matches`` (paired), ``unpaired_rows``,
            ``chains`` (of start positions), ``links`` (of these chains, checked), ``broken_links``,
            ``broken_chains``; only those that could be counted.
    """

    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, int] = field(default_factory=dict)

    def count(self, severity: Severity) -> int:
        """Return how many findings are of a severity."""
        return sum(finding.severity is severity for finding in self.findings)

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return self.count(Severity.ERROR) == 0
