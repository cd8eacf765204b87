"""``replay datasets``: days that can be replayed, and what was published about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from replay.datasets import Dataset

_HELP = {"help_option_names": ["-h", "--help"], "show_default": True}


@click.group(name="datasets", context_settings=_HELP)
def datasets() -> None:
    """List days that can be replayed, build their tapes, and compare runs with what was published.

    \b
    Example:
      replay datasets list
    """  # noqa: D301 - click reads the escape


@datasets.command("list", context_settings=_HELP)
def list_command() -> None:
    """List the days of the registry: how their data is had, and whose accounts they have.

    \b
    Example:
      replay datasets list
    """  # noqa: D301 - click reads the escape
    from replay.datasets import list_datasets

    found = list_datasets()
    widest = max(len(day.name) for day in found)
    for day in found:
        click.echo(f"{day.name:<{widest}}  {day.how:<8}  accounts {day.accounts:<8}  {day.title}")


@datasets.command("show", context_settings=_HELP)
@click.argument("day", metavar="DAY")
def show_command(day: str) -> None:
    """Show what the day DAY holds and lacks, where it comes from, and what is known of it.

    \b
    Example:
      replay datasets show binance-coinm-2025-10-10
    """  # noqa: D301 - click reads the escape
    from replay.datasets import dataset

    found = dataset(day)
    click.echo(f"{found.name}: {found.title}\n\n{found.summary.strip()}\n")
    click.echo(f"venue    {found.venue}\nrules    {', '.join(found.rules)}\naccounts {found.accounts}")
    click.echo(f"licence  {found.licence.name}: {' '.join(found.licence.text.split())}")
    for label, lines in (("has", found.has), ("lacks", found.lacks)):
        for line in lines:
            click.echo(f"{label:<8} {line}")
    click.echo("\nsources")
    for source in found.sources:
        click.echo(f"- {source.origin} (`replay import {source.importer}`)")
    _tell_commands(found)
    if found.facts:
        click.echo("\npublished")
    for fact in found.facts:
        about = f" ({fact.of})" if fact.of else ""
        number = "" if fact.value is None else f": {_number(fact.value, fact.unit)}"
        click.echo(f"- {fact.what}{about}{number}\n  {fact.source}")


def _tell_commands(found: Dataset) -> None:
    for source in found.sources:
        for command in source.commands:
            click.echo(f"    {command}")
        if source.cost:
            click.echo(f"  cost: {source.cost}")


@datasets.command("build", context_settings=_HELP)
@click.argument("day", metavar="DAY")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="TAPE", help="Tape that is to appear."
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where downloads stay; left out, beside TAPE.",
)
@click.option(
    "--from", "base", metavar="URL", help="Download from here, such as a mirror, instead of the source."
)
@click.option("--force", is_flag=True, help="Replace TAPE.")
@click.option(
    "--rejects", type=click.Path(path_type=Path), metavar="FILE", help="Set unreadable rows aside here."
)
def build_command(
    day: str, out: Path, cache: Path | None, base: str | None, force: bool, rejects: Path | None
) -> None:
    """Build the tape of the day DAY: download what is free, then import it.

    Downloads are checked against the checksums of the source, tried again when a transfer breaks, and gone on
    with by the next command. For sources that are not free the commands and the cost are printed, nothing else
    is done.

    \b
    Examples:
      replay datasets build demo-crash --out crash
      replay datasets build binance-coinm-2025-10-10 --out coinm
    """  # noqa: D301 - click reads the escape
    from replay.cli.progress import progress
    from replay.datasets import dataset, fetch
    from replay.errors import TapeError
    from replay.folders import check_free
    from replay.sources import import_source

    found = dataset(day)
    if found.how == "by hand":
        click.echo(f"{found.name} cannot be downloaded for you. Fetch it yourself:\n")
        _tell_commands(found)
        importers = ", ".join(dict.fromkeys(source.importer for source in found.sources))
        click.echo(f"\nthen: replay import {importers} FOLDER --out {out}")
        return
    check_free(out, force=force, error=TapeError)  # before anything is downloaded
    folder = cache or out.with_name(f"{out.name}.download")
    inputs = []
    with progress("fetch") as on_progress:

        def on_bytes(path: str, there: int, size: int | None) -> None:
            on_progress(there / size if size else 0.0, f"{path.rpartition('/')[2]} {there >> 20} MiB")

        for source in found.sources:
            if source.base is not None:
                fetch(source, folder, base=base, on_bytes=on_bytes)
                inputs.append(folder)
            elif source.file is not None:
                inputs.append(found.folder / source.file)
    with progress("import") as on_progress:
        manifest = import_source(
            found.sources[0].importer,
            list(dict.fromkeys(inputs)),
            out,
            force=force,
            rejects=rejects,
            on_progress=on_progress,
        )
    rows = ", ".join(f"{count:,} {name}" for name, count in _rows(manifest).items())
    click.echo(f"{out}: {rows}")
    if found.accounts == "modelled":
        click.echo(f"its accounts are to be modelled: replay populate {out} --out {out}-accounts")
    click.echo(f"rules: {', '.join(found.rules)}")


def _rows(manifest: dict[str, object]) -> dict[str, int]:
    tables = manifest["tables"]
    assert isinstance(tables, dict)
    return {name: entry["rows"] for name, entry in tables.items() if entry.get("rows")}


@datasets.command("compare", context_settings=_HELP)
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@click.option(
    "--dataset", "day", required=True, metavar="DAY", help="The day whose published facts are meant."
)
@click.option(
    "--tape",
    "tape_path",
    type=click.Path(path_type=Path),
    metavar="TAPE",
    help="The tape of RUN, which is asked what was recorded.",
)
def compare_command(run: Path, day: str, tape_path: Path | None) -> None:
    """Print what was published about a day beside what RUN, and its tape, say.

    A tape should agree, as should a replay of the record; a counterfactual run need not.

    \b
    Example:
      replay datasets compare RUN --dataset hyperliquid-2023
      replay datasets compare RUN --dataset binance-coinm-2025-10-10 --tape TAPE
    """  # noqa: D301 - click reads the escape
    from rich.table import Table

    from replay.cli.console import stdout_console
    from replay.datasets import compare, dataset
    from replay.run.store import open_run
    from replay.tape.read import open_tape

    tape = None if tape_path is None else open_tape(tape_path)
    table = Table("published about the day", "published", *(["tape"] if tape else []), "run", "verdict")
    for column in table.columns[1:-1]:
        column.justify = "right"
    for row in compare(open_run(run), dataset(day), tape):
        told = [row.published, *([row.recorded] if tape else []), row.found]
        table.add_row(row.what, *(_number(number, row.unit) for number in told), row.verdict)
    stdout_console().print(table)


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    text = f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:,.6g}"
    return f"{text} {unit}".strip()
