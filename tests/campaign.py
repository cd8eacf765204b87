"""Many random days of the whole waterfall against the reference engine.

``python -m tests.campaign --days N`` prints how many days, steps and cells were compared, how many differed,
and how often each stage and reason was reached; its exit code is 1 if a cell differed or a stage was missed.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from multiprocessing import get_context

import click

from tests.waterfall.campaign import STAGES, Tally, compare

_CHUNK = 50


def _chunk(first: int) -> Tally:
    """Compare the days of a range of seeds; how large a day is follows from its seed."""
    tally = Tally()
    for seed in range(first, first + _CHUNK):
        rng = random.Random(f"size {seed}")
        steps, accounts = (200, 50) if rng.random() < 0.005 else (rng.randint(5, 40), rng.randint(2, 12))
        tally.add(compare(seed, steps=steps, accounts=accounts))
    return tally


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--days", default=1_000, help="Days to compare.")
@click.option("--first", default=0, help="Seed of the first day.")
@click.option("--workers", default=2, help="Processes.")
@click.option("--minutes", type=float, help="Stop after so long, with what was compared by then.")
def main(days: int, first: int, workers: int, minutes: float | None) -> None:
    """Compare the loop with the reference engine on random days under random rules.

    \b
    Example:
      python -m tests.campaign --days 100000 --workers 2
    """  # noqa: D301 - click reads the escape
    began = time.monotonic()
    tally = Tally()
    for found in _tallies(range(first, first + days, _CHUNK), workers):
        tally.add(found)
        if sys.stderr.isatty():
            click.echo(f"\r{tally.days:,} days, {len(tally.differences)} differences", nl=False, err=True)
        if tally.differences or (minutes is not None and time.monotonic() - began > 60 * minutes):
            break
    for difference in tally.differences[:20]:
        click.echo(difference)
    never = [stage for stage in STAGES if not tally.hits[stage]]
    for name, count in sorted(tally.hits.items()):
        click.echo(f"  {count:>12,}  {name}")
    click.echo(
        f"{tally.days:,} days, {tally.steps:,} steps, {tally.cells:,} cells compared: "
        f"{len(tally.differences):,} differences; never reached: {', '.join(never) or 'nothing'}"
    )
    sys.exit(1 if tally.differences or never else 0)


def _tallies(seeds: range, workers: int) -> Iterator[Tally]:
    if workers == 1:
        yield from map(_chunk, seeds)
        return
    with get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(_chunk, seeds)


if __name__ == "__main__":
    main()
