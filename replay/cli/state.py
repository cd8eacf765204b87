"""``replay state``: where a replay stood at a moment."""

from __future__ import annotations

from pathlib import Path

import click

from replay.cli.output import chosen_format, output_options, write_result
from replay.cli.times import moment


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--tape",
    "tape_path",
    required=True,
    type=click.Path(path_type=Path),
    metavar="TAPE",
    help="The tape of the run.",
)
@click.option("--at", required=True, callback=moment, metavar="TIME", help="The moment, UTC.")
@click.option(
    "--account", "accounts", multiple=True, metavar="ACCOUNT", help="Only this account (repeatable)."
)
@click.option("--market", metavar="MARKET", help="Only this market.")
@click.option("--limit", type=click.IntRange(min=1), default=20, help="Rows shown, largest value first.")
@output_options
def state(
    run: Path,
    tape_path: Path,
    at: int,
    accounts: tuple[str, ...],
    market: str | None,
    limit: int,
    form: str | None,
    out: Path | None,
    force: bool,
) -> None:
    """Show the open positions of RUN at a moment: equity, margin, rank in the queue of ADL.

    The tape is replayed up to that moment with the rules and switches of the run, so the answer is exact.

    \b
    Examples:
      replay state RUN --tape TAPE --at 2025-10-10T21:17:00Z --account "my hedge"
      replay state RUN --tape TAPE --at 2025-10-10T21:17:00Z --market ETH --limit 100 --format csv
    """  # noqa: D301 - click reads the escape
    chosen_format(form, out)
    from replay.analysis.standing import standing
    from replay.cli.progress import progress
    from replay.run.sql import Result
    from replay.run.store import open_run
    from replay.tape.read import open_tape

    with progress("replaying") as on_progress:
        table = standing(
            open_run(run),
            open_tape(tape_path),
            at,
            accounts=accounts,
            market=market,
            on_progress=on_progress,
        ).slice(0, limit)
    write_result(Result(table.schema, iter(table.to_batches())), form=form, out=out, force=force)
