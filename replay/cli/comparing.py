"""``replay compare``: runs of one day side by side."""

from __future__ import annotations

from pathlib import Path

import click

_HEADS = (
    "rules",
    "liquidations",
    "in the book",
    "taken over",
    "in ADL",
    "winners",
    "fund pays",
    "vault bears",
    "shared",
    "bad debt",
)


@click.command("compare", context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("runs", type=click.Path(path_type=Path), metavar="RUN...", nargs=-1, required=True)
@click.option("--currency", metavar="NAME", help="Settle currency; left out, that of most liquidations.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "markdown"]),
    default="table",
    help="Of the result.",
)
def compare(runs: tuple[Path, ...], currency: str | None, form: str) -> None:
    """Print who paid what in several runs of one day: what went into the book, to funds, to winners, to nobody.

    Values and amounts are in one settle currency. The price path is that of the tape under all rules.

    \b
    Example:
      for v in bybit hyperliquid; do replay run TAPE --rules $v --liquidations rules --out runs/$v; done
      replay compare runs/bybit runs/hyperliquid
    """  # noqa: D301 - click reads the escape
    from replay.analysis.who_pays import who_pays
    from replay.run.store import open_run

    unit, rows = who_pays([open_run(path) for path in runs], currency)
    cells = [[_cell(value) for value in row] for row in rows]
    if form == "csv":
        import csv
        import sys

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(rows[0]._fields)
        writer.writerows(rows)
        return
    if form == "markdown":
        click.echo(f"| {' | '.join(_HEADS)} |\n|---|{'---:|' * (len(_HEADS) - 1)}")
        for line in cells:
            click.echo(f"| {' | '.join(line)} |")
        return
    from rich.table import Table

    from replay.cli.console import stdout_console

    if len(rows) <= _FEW:
        table = Table(
            "", *(line[0] for line in cells), title=f"who pays what, in {unit}", title_justify="left"
        )
        for column in table.columns[1:]:
            column.justify = "right"
        for number, head in enumerate(_HEADS[1:], start=1):
            table.add_row(head, *(line[number] for line in cells))
    else:
        table = Table(
            title=f"who pays what, in {unit} (k: thousand, M: million)",
            title_justify="left",
            box=None,
            padding=(0, 1, 0, 0),
        )
        for number, head in enumerate(_HEADS):
            table.add_column(
                head, justify="left" if number == 0 else "right", overflow="fold", no_wrap=number == 0
            )
        for row in rows:
            table.add_row(row.rules, *(_short(value) for value in row[1:]))
    stdout_console().print(table)


_FEW = 4


def _short(value: int | float) -> str:
    """Return a number in four or five characters, so that ten columns fit a terminal."""
    for unit, size in (("M", 10**6), ("k", 10**3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def _cell(value: str | int | float) -> str:
    return value if isinstance(value, str) else f"{value:,.0f}"
