"""``replay import``: public files become a tape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from replay.sources import SOURCE_NAMES


class _ImportCommand(click.Command):
    """The command with what each source has, lacks and assumes in its help."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sources, from the sources themselves."""
        from replay.sources import list_sources

        for source in list_sources():
            with formatter.section(f"Source {source.name}"):
                formatter.write_text(source.summary)
                for title, sentences in (
                    ("has", source.has),
                    ("lacks", source.lacks),
                    ("assumes", source.assumes),
                ):
                    formatter.write_dl([(title, sentence) for sentence in sentences])


@click.command("import", cls=_ImportCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", type=click.Choice(SOURCE_NAMES))
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="TAPE", help="Folder that is to appear."
)
@click.option(
    "--rejects",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Set rows that cannot be understood aside in FILE, as JSON lines of file, line, reason and text, "
    "instead of stopping at the first. More than 0.1 % of them fail the import all the same.",
)
@click.option("--force", is_flag=True, help="Replace an existing tape, and an existing rejects file.")
def import_(source: str, paths: tuple[Path, ...], out: Path, rejects: Path | None, force: bool) -> None:
    """Turn public files into a tape.

    PATH is a file, a folder (all files in it, to any depth) or a pattern in quotes. Compression and form are
    told by content, not by name: plain text, lz4 frames, gzip, zstd and zip are read, and a tar of one file in
    them. The same files give the same bytes, in whatever order they are named.

    \b
    Examples:
      replay import hyperliquid node_fills_by_block/hourly/20251010 --out TAPE
      replay import hyperliquid 'fills/2*.lz4' --out TAPE --rejects rejects.jsonl
      replay import scenario day.toml --out TAPE
    """  # noqa: D301 - click reads the escape
    from replay.cli.progress import progress
    from replay.sources import import_source

    with progress("importing") as on_progress:
        manifest = import_source(source, paths, out, force=force, rejects=rejects, on_progress=on_progress)
    _print_result(manifest, out)


def _print_result(manifest: dict[str, Any], out: Path) -> None:
    """Say on stdout what is on the tape."""
    from replay.units import format_time

    rows = {name: table["rows"] for name, table in manifest["tables"].items()}
    first, last = manifest["from"], manifest["until"]
    facts = [("span", "no events" if first is None else f"{format_time(first)} to {format_time(last)}")]
    facts += [(_TITLES.get(name, name), f"{count:,}") for name, count in rows.items() if count]
    told = [f"{count:,} {name}" for name, count in manifest["counts"].items() if count and name not in rows]
    facts += [("counted" if place == 0 else "", text) for place, text in enumerate(told)]
    width = max(len(title) for title, _text in facts)
    click.secho(f"{out}  {manifest['importer']['name']}", bold=True)
    for title, text in facts:
        click.echo(f"  {title:<{width}}  {text}")
    click.echo(f"next  replay check {out}")


_TITLES = {"account_names": "accounts", "accounts": "opening accounts", "positions": "opening positions"}
