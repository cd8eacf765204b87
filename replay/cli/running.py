"""``replay run``: a tape and rules become a run."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from replay.cli.times import duration, moment

if TYPE_CHECKING:
    from datetime import date

    from replay.run.summary import Line, Summary
    from replay.tape.read import Tape

_OPENING = ("unknown", "snapshot", "survivor")


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
@click.option(
    "--add",
    type=click.Path(path_type=Path),
    metavar="BOOK.toml",
    help="Accounts of your own to put into the day; see docs/own-accounts.md.",
)
@click.option("--watch", multiple=True, metavar="ACCOUNT", help="Sample this account from the start.")
@click.option(
    "--sample",
    callback=duration,
    metavar="TIME",
    help="How often markets and followed accounts are sampled, such as 1m; 0 is never.  "
    "[default: 1m with --add or --watch, else never]",
)
@click.option("--until", callback=moment, metavar="TIME", help="Last moment to replay, UTC.")
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
@click.option("--batch-rows", type=click.IntRange(min=1), default=131_072, help="Rows read ahead per table.")
@click.option("--threads", type=click.IntRange(min=1), default=1, help="Threads that read the tape.")
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
    add: Path | None,
    watch: tuple[str, ...],
    sample: int | None,
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
      replay run TAPE --rules bybit --liquidations rules --add book.toml --out RUN
      replay run TAPE --rules mine.toml --set margin.rate=0.02 --until 2023-03-01T00:00:00Z --out RUN
    """  # noqa: D301 - click reads the escape
    _check_switches(liquidations, execution)
    from replay.cli.progress import progress
    from replay.errors import RunError
    from replay.folders import check_free
    from replay.kernels import is_compiled
    from replay.rules import load_rules
    from replay.run.execute import run as make_run
    from replay.run.summary import summarise
    from replay.tape.read import open_tape

    check_free(out, force=force, error=RunError)
    opened = open_tape(tape)
    book = load_rules(rules_name, on=_first_day(opened), overrides=overrides)
    if sys.stderr.isatty() and not is_compiled():
        click.echo("compiling the kernels of this version, once; this takes some minutes", err=True)
    with progress("replaying") as on_progress:
        made = make_run(
            opened,
            book,
            out,
            liquidations=liquidations,
            execution=execution,
            anchor_equity=anchor_equity,
            accept_assumptions=accept_assumptions,
            add=add,
            watch=watch,
            sample_ns=sample,
            until=until,
            batch_rows=batch_rows,
            threads=threads,
            force=force,
            on_progress=on_progress,
        )
    print_summary(summarise(made))


def _check_switches(liquidations: str, execution: str | None) -> None:
    """Refuse before any work what has no meaning, and what is only planned."""
    from replay.errors import RunError
    from replay.run.switches import chosen_execution

    try:
        chosen_execution(liquidations, execution)
    except RunError as failure:
        raise click.UsageError(failure.message()) from None


def _first_day(tape: Tape) -> date | None:
    """Return the UTC day on which a tape begins, by which the rules are chosen."""
    from datetime import UTC, datetime

    from replay.units import NS_PER_SECOND

    return (
        None if tape.first_ts is None else datetime.fromtimestamp(tape.first_ts // NS_PER_SECOND, UTC).date()
    )


def print_summary(summary: Summary, width: int | None = None) -> None:
    """Print a summary to stdout.

    Args:
        summary: The summary.
        width: Characters of a line; None is the terminal's, or no limit where stdout is none.
    """
    if width is None and sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
    labels = [line.label for line in (*summary.facts, *summary.small_print)]
    indent = max(map(len, [*labels, "next"])) + 4

    def entry(line: Line, *, dim: bool) -> None:
        folded = _folded(line.text, None if width is None else width - indent)
        heads = [f"  {line.label}", *[""] * (len(folded) - 1)]
        for head, text in zip(heads, folded, strict=True):
            shown = head.ljust(indent) + text
            click.echo(click.style(shown, dim=True) if dim else shown)

    click.secho(summary.title, bold=True)
    for line in summary.facts:
        entry(line, dim=False)
    click.secho("small print", dim=True)
    for line in summary.small_print:
        entry(line, dim=True)
    for place, command in enumerate(summary.commands):
        click.echo(("next" if place == 0 else "").ljust(6) + command)


def _folded(text: str, width: int | None) -> list[str]:
    """Fold a text between words, not within them."""
    if width is None:
        return [text]
    return textwrap.wrap(text, max(width, 20), break_long_words=False, break_on_hyphens=False) or [""]
