"""``replay explain``: what happened to an account, and why."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from replay.cli.times import moment

if TYPE_CHECKING:
    from replay.analysis.explain import Explanation


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--account", required=True, metavar="ACCOUNT", help="Name of the account.")
@click.option("--market", metavar="MARKET", help="Only what happened in this market.")
@click.option(
    "--at", callback=moment, metavar="TIME", help="Work out the last moment kept at or before this one, UTC."
)
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="Form of the answer."
)
def explain(run: Path, account: str, market: str | None, at: int | None, form: str) -> None:
    """Tell why an account of RUN was liquidated, deleveraged or spared, step by step.

    The first line answers whether it would have been closed. Then its margin is worked out, to be done again
    by hand: equity, maintenance by tier, liquidation and bankruptcy price, rank - at each breach, at the last
    sample before it was deleveraged, or where it came closest. Last is why an exchange's own display may show
    other figures. Samples are kept of accounts that were added, watched or touched: see --add, --watch and
    --sample of replay run.

    \b
    Examples:
      replay explain RUN --account "my hedge"
      replay explain RUN --account "my hedge" --at 2025-10-10T21:15:00Z
      replay explain RUN --account 0x1f... --market ETH --format json
    """  # noqa: D301 - click reads the escape
    from replay.analysis.explain import explain as tell
    from replay.run.store import open_run

    told = tell(open_run(run), account, market, at=at)
    if form == "json":
        content = asdict(told)
        content["arithmetic"] = [sheet.figures for sheet in told.arithmetic]
        click.echo(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        _print(told)


_WIDTH = 100
"""Columns of the text; fewer on a narrow terminal."""


def _print(told: Explanation) -> None:
    from replay.units import format_time

    width = min(shutil.get_terminal_size().columns, _WIDTH) if sys.stdout.isatty() else _WIDTH
    for sentence in told.answer:
        click.secho(_filled(sentence, width), bold=True)
    for step in told.steps:
        head = f"  {format_time(step.ts)[:23].ljust(24)}{step.what.ljust(10)}"
        text = textwrap.fill(step.text, max(width - len(head), 40), break_on_hyphens=False)
        click.echo(head + textwrap.indent(text, " " * len(head)).lstrip())
    for sentence in told.standing:
        click.secho(_filled(f"  {sentence}", width), dim=True)
    for sheet in told.arithmetic:
        click.echo()
        click.secho(_filled(sheet.lines[0], width), bold=True)
        for line in sheet.lines[1:]:
            click.echo(_filled(line, width))
    if told.differences:
        click.echo()
        click.secho("Why an exchange's own display may differ", bold=True)
    for sentence in told.differences:
        click.echo(_filled(f"  {sentence}", width))


def _filled(line: str, width: int) -> str:
    """Wrap a line, what continues it two further in than it begins."""
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.fill(
        line.lstrip(),
        width,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
