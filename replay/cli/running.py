"""``replay run``: a tape and rules become a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from replay.units import parse_time

if TYPE_CHECKING:
    from datetime import date

    from replay.run.summary import Line, Summary
    from replay.tape.read import Tape

_OPENING = ("unknown", "snapshot", "survivor")


def _moment(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    try:
        return parse_time(value)
    except ValueError as failure:
        raise click.BadParameter(str(failure), ctx, param) from None


def _opening(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if value in _OPENING[1:] or value.startswith("leverage:"):
        raise click.BadParameter(f"{value} is not there yet; use unknown", ctx, param)
    if value not in _OPENING:
        raise click.BadParameter(f"{value!r} is none of {', '.join(_OPENING)}, leverage:N", ctx, param)
    return value


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("tape", type=click.Path(path_type=Path))
@click.option(
    "--rules", "rules_name", required=True, metavar="NAME", help="A venue, venue@version, or a TOML file."
)
@click.option(
    "--liquidations",
    type=click.Choice(["recorded", "rules"]),
    default="recorded",
    help="Who forces: the tape, and the rules only judge it, or the rules.",
)
@click.option(
    "--execution",
    type=click.Choice(["recorded", "depth"]),
    help="How forced orders fill.  [default: recorded with recorded liquidations, depth with ruled ones]",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a value of the rules.")
@click.option("--until", callback=_moment, metavar="TIME", help="Last moment to replay, UTC.")
@click.option(
    "--opening-equity",
    default="unknown",
    callback=_opening,
    metavar="HOW",
    help="What accounts whose cash the tape lacks begin with.",
)
@click.option(
    "--anchor-equity",
    type=click.Choice(["recorded"]),
    help="Book the difference to recorded equity against @unexplained before each recorded liquidation.",
)
@click.option(
    "--accept-assumptions", is_flag=True, help="Run rules of status draft: what they assume is then yours."
)
@click.option("--batch-rows", type=click.IntRange(min=1), default=65_536, help="Rows read ahead per table.")
@click.option("--threads", type=click.IntRange(min=1), default=2, help="Threads that read the tape.")
@click.option("--force", is_flag=True, help="Replace an existing run.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="RUN", help="Folder that is to appear."
)
def run(
    tape: Path,
    rules_name: str,
    liquidations: str,
    execution: str | None,
    overrides: tuple[str, ...],
    until: int | None,
    opening_equity: str,
    anchor_equity: str | None,
    accept_assumptions: bool,
    batch_rows: int,
    threads: int,
    force: bool,
    out: Path,
) -> None:
    """Replay TAPE under the rules of an exchange and write a run.

    With recorded liquidations only the tape moves the books, and each recorded forced event is judged by
    the rules: see the audit. With --liquidations rules the margin checks of the rules liquidate, and what the
    tape forced is left out. The result does not depend on --batch-rows and --threads.

    \b
    Examples:
      replay run TAPE --rules hyperliquid@2023-02 --out RUN
      replay run TAPE --rules hyperliquid@2023-02 --liquidations rules --anchor-equity recorded --out RUN
      replay run TAPE --rules mine.toml --set margin.rate=0.02 --until 2023-03-01T00:00:00Z --out RUN
    """  # noqa: D301 - click reads the escape
    _check_switches(liquidations, execution)
    from replay.cli.progress import progress
    from replay.errors import RunError
    from replay.folders import check_free
    from replay.rules import load_rules
    from replay.run.execute import run as make_run
    from replay.run.summary import summarise
    from replay.tape.read import open_tape

    check_free(out, force=force, error=RunError)
    opened = open_tape(tape)
    book = load_rules(rules_name, on=_first_day(opened), overrides=overrides)
    with progress("replaying") as on_progress:
        made = make_run(
            opened,
            book,
            out,
            liquidations=liquidations,
            execution=execution,
            anchor_equity=anchor_equity,
            accept_assumptions=accept_assumptions,
            until=until,
            batch_rows=batch_rows,
            threads=threads,
            force=force,
            on_progress=on_progress,
        )
    print_summary(summarise(made))


def _check_switches(liquidations: str, execution: str | None) -> None:
    """Refuse what has no meaning, and what is only planned."""
    if (liquidations, execution) == ("rules", "recorded"):
        raise click.UsageError(
            "--liquidations rules with --execution recorded has no meaning: the tape holds no fills of "
            "orders that the rules make\n  leave --execution out, or use --execution depth"
        )
    if (liquidations, execution) == ("recorded", "depth"):
        raise click.UsageError(
            "--execution depth with recorded liquidations is not there yet\n"
            "  leave --execution out, or use --liquidations rules"
        )


def _first_day(tape: Tape) -> date | None:
    """Return the UTC day on which a tape begins, by which the rules are chosen."""
    from datetime import UTC, datetime

    from replay.units import NS_PER_SECOND

    return (
        None if tape.first_ts is None else datetime.fromtimestamp(tape.first_ts // NS_PER_SECOND, UTC).date()
    )


def print_summary(summary: Summary) -> None:
    """Draw a summary on stdout."""
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False, emoji=False)

    def lines(title: str, content: tuple[Line, ...], style: str) -> None:
        console.print(title, style="bold" if style == "none" else style)
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="cyan" if style == "none" else style, no_wrap=True)
        grid.add_column(style=style, overflow="fold")
        shown = ""
        for line in content:
            grid.add_row("  " + (line.label if line.label != shown else ""), line.text)
            shown = line.label
        console.print(grid)

    lines(summary.title, summary.facts, "none")
    lines("small print", summary.small_print, "dim")
    console.print("next", style="bold")
    for command in summary.commands:
        console.print(f"  {command}", soft_wrap=True)
