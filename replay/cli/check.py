"""``replay check``: whether a tape can be relied on."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from replay.tape.findings import CheckReport, Finding
    from replay.tape.read import Tape


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("tape", type=click.Path(path_type=Path))
@click.pass_context
def check(ctx: click.Context, tape: Path) -> None:
    """Check TAPE: files, order, gaps, matches, chains of positions, depth; exit with 1 if there are errors.

    An error would make a replay wrong or impossible. A warning is a hole or a contradiction with which a
    replay copes and which it lists. A note is worth knowing.

    \b
    Example:
      replay check out/tape
    """  # noqa: D301 - click reads the escape
    from replay.cli.progress import progress
    from replay.tape.check import check_tape
    from replay.tape.read import open_tape

    opened = open_tape(tape)
    with progress("checking") as on_progress:
        report = check_tape(opened, on_progress)
    _print_facts(opened, report)
    click.echo()
    _print_findings(report)
    if not report.ok:
        ctx.exit(1)


def _print_facts(tape: Tape, report: CheckReport) -> None:
    from replay.tape.schema import EVENT_TABLES
    from replay.units import format_time

    facts = report.facts
    lines = {"venue": tape.venue, "span": "no events"}
    if tape.first_ts is not None and tape.last_ts is not None:
        lines["span"] = f"{format_time(tape.first_ts)} to {format_time(tape.last_ts)}"
    counted = [f"{tape.rows(table):,} {table}" for table in EVENT_TABLES if tape.rows(table)]
    lines["rows"] = ", ".join(counted) or "none"
    lines["accounts"] = f"{len(tape.account_names):,}"
    lines["markets"] = f"{len(tape.markets):,}"
    if "chains" in facts:
        lines["spot"] = f"{facts['spot_rows']:,} fills, set apart"
        lines["matches"] = (
            f"{facts['matches']:,} paired; {facts['unpaired_rows']:,} fills without the other side"
        )
        lines["chains"] = (
            f"{facts['chains']:,} of start positions, {facts['links']:,} links checked; "
            f"{facts['broken_links']:,} links broken in {facts['broken_chains']:,} chains"
        )
    width = _width()
    for label, value in lines.items():
        line = f"{label:<9} {value}"
        click.echo(line if width is None else textwrap.fill(line, width, subsequent_indent=" " * 10))


def _print_findings(report: CheckReport) -> None:
    from replay.cli.tables import format_table
    from replay.tape.findings import Severity

    if report.findings:
        names = ["severity", "table", "count", "finding", "at"]
        columns = [list(column) for column in zip(*map(_cells, report.findings), strict=True)]
        click.echo(format_table(names, columns, _width()).text)
    click.echo(", ".join(_counted(report.count(severity), severity) for severity in Severity))


def _width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _cells(finding: Finding) -> tuple[str, str, int, str, str]:
    from replay.cli.tables import shorten_addresses

    message = shorten_addresses(finding.message)
    return finding.severity.value, finding.table, finding.count, message, finding.place()


def _counted(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count or 'no'} {name}s"
