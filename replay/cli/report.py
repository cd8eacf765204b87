"""``replay report``: a run as one page."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--tape",
    "tape_path",
    type=click.Path(path_type=Path),
    metavar="TAPE",
    help="Read the whole path of marks from the tape of the run.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    metavar="FILE",
    help="File to write.",
)
def report(run: Path, tape_path: Path | None, force: bool, out: Path) -> None:
    """Show RUN on one HTML page: forced flow, fund or vault, who was hit, and what it rests on.

    The page is a single file that loads nothing from the network. A run keeps no price series: without --tape
    it shows the marks that were recorded with forced orders.

    \b
    Example:
      replay report out/run --tape out/tape --out out/report.html
    """  # noqa: D301 - click reads the escape
    from replay.cli.output import new_file
    from replay.errors import RunError
    from replay.report import render
    from replay.run.store import open_run
    from replay.tape.read import open_tape

    opened = open_run(run)
    tape = None if tape_path is None else open_tape(tape_path)
    if tape is not None and tape.manifest["sha256"] != opened.manifest["tape"].get("sha256"):
        raise RunError(
            f"was not made from {tape_path}: the hash of the tape differs",
            file=run,
            mend="give the tape of the run, or leave --tape out",
        )
    with new_file(out, force=force) as partial:
        partial.write_text(render(opened, tape), encoding="utf-8")
    click.echo(f"{out}  {out.stat().st_size / 2**20:.1f} MiB, one file, no network")
