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

if TYPE_CHECKING:
    from replay.analysis.explain import Explanation


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--account", required=True, metavar="ACCOUNT", help="Name of the account.")
@click.option("--market", metavar="MARKET", help="Only what happened in this market.")
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="Form of the answer."
)
def explain(run: Path, account: str, market: str | None, form: str) -> None:
    """Tell why an account of RUN was liquidated, deleveraged or spared, step by step.

    The first line answers whether it would have been closed. Ranks and exposures in between are known of
    accounts that were sampled: see --add, --watch and --sample of replay run.

    \b
    Examples:
      replay explain RUN --account "my hedge"
      replay explain RUN --account 0x1f... --market ETH --format json
    """  # noqa: D301 - click reads the escape
    from replay.analysis.explain import explain as tell
    from replay.run.store import open_run

    told = tell(open_run(run), account, market)
    if form == "json":
        click.echo(json.dumps(asdict(told), indent=2, ensure_ascii=False))
    else:
        _print(told)


def _print(told: Explanation) -> None:
    from replay.units import format_time

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    for sentence in told.answer:
        click.secho(textwrap.fill(sentence, width), bold=True)
    for step in told.steps:
        head = f"  {format_time(step.ts)[:23].ljust(24)}{step.what.ljust(10)}"
        text = textwrap.fill(step.text, max(width - len(head), 40), break_on_hyphens=False)
        click.echo(head + textwrap.indent(text, " " * len(head)).lstrip())
    for sentence in told.standing:
        click.secho("  " + sentence, dim=True)
