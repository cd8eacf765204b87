"""``replay check``: whether a tape is whole, in order, and in agreement with itself.

Errors are what would make a replay wrong or impossible. Warnings are holes and contradictions with which
the replay copes by a stated rule (broken chains of start positions, reports without fills, depth that is
frozen). Notes are worth knowing. Tables are read as streams; what must be grouped or sorted is spilled to
a temporary folder beyond :data:`MEMORY_LIMIT`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable

import duckdb

from replay.progress import OnProgress
from replay.tape.check_books import (
    check_chains,
    check_funding,
    check_matches,
    check_moves,
    check_opening,
    check_reports,
)
from replay.tape.check_depth import check_depth
from replay.tape.check_feed import check_feed
from replay.tape.check_files import check_files, check_order
from replay.tape.check_rows import check_rows
from replay.tape.findings import CheckReport, Finding, Severity
from replay.tape.read import Tape
from replay.tape.schema import EVENT_TABLES

__all__ = ["CheckReport", "Finding", "Severity", "check_tape"]

MEMORY_LIMIT = "1GiB"
"""Of DuckDB; beyond it grouping and sorting use the disk."""

_FILES_SHARE = 0.4  # hashing every byte is the longest part


def check_tape(tape: Tape, on_progress: OnProgress | None = None) -> CheckReport:
    """Check a tape and report what was found.

    If files are missing, changed or of another schema, their content is not looked at: the report then
    has only these errors. If ids or order are wrong, the rows are not compared with each other.

    Args:
        tape: The tape.
        on_progress: Called while the check goes on.
    """
    tell = on_progress or (lambda _share, _text: None)
    report = CheckReport()
    report.findings += check_files(tape, lambda share: tell(_FILES_SHARE * share, "comparing files"))
    if report.ok:
        tell(_FILES_SHARE, "checking order")
        report.findings += check_order(tape)
        report.facts.update(
            events=sum(tape.rows(table) for table in EVENT_TABLES),
            accounts=len(tape.account_names),
            markets=len(tape.markets),
        )
        with tempfile.TemporaryDirectory(prefix="replay-check-") as spill:
            connection = tape.connection()
            connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'; SET temp_directory = '{spill}'")
            try:
                _check_content(tape, connection, report, tell)
            finally:
                connection.close()
    order = list(Severity)
    report.findings.sort(key=lambda finding: order.index(finding.severity))
    tell(1.0, "done")
    return report


def _check_content(
    tape: Tape, connection: duckdb.DuckDBPyConnection, report: CheckReport, tell: OnProgress
) -> None:
    tell(0.5, "checking rows")
    report.findings += check_rows(tape, connection)
    if not report.ok:
        return
    checks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("the opening", lambda: check_opening(tape, connection)),
        ("matches", lambda: check_matches(connection, report.facts)),
        ("chains", lambda: check_chains(tape, connection, report.facts)),
        ("moves", lambda: check_moves(connection)),
        ("liquidations", lambda: check_reports(tape, connection)),
        ("funding", lambda: check_funding(tape, connection)),
        ("depth", lambda: check_depth(tape, connection)),
        ("trades", lambda: check_feed(tape, connection)),
    ]
    for number, (name, check) in enumerate(checks):
        tell(0.6 + 0.4 * number / len(checks), f"checking {name}")
        report.findings += check()
