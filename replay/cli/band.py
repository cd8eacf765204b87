"""``replay band``: an anonymous day under many seeds."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("band", context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("tape", type=click.Path(path_type=Path), metavar="TAPE")
@click.option(
    "--rules", "rules_name", required=True, metavar="NAME", help="A venue, venue@version, or a TOML file."
)
@click.option("--seeds", default=20, type=click.IntRange(min=1), help="How many seeds, from 1.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a value of the rules.")
@click.option("--leverage", default=5.0, type=click.FloatRange(1, 100), help="Median leverage of accounts.")
@click.option(
    "--open-interest",
    default=0.1,
    type=click.FloatRange(0.001, 10),
    help="Open interest, as a share of the day's volume, where the tape does not tell it.",
)
@click.option(
    "--fund", default=0.02, type=click.FloatRange(0, 10), help="Opening fund, as a share of open interest."
)
@click.option(
    "--forced-share",
    default=0.2,
    type=click.FloatRange(0, 1),
    help="Share of taker flow withheld as forced in minutes of stress.",
)
@click.option("--format", "form", type=click.Choice(["table", "csv"]), default="table", help="Of the result.")
def band(
    tape: Path,
    rules_name: str,
    seeds: int,
    overrides: tuple[str, ...],
    leverage: float,
    open_interest: float,
    fund: float,
    forced_share: float,
    form: str,
) -> None:
    """Replay an anonymous day under many seeds: when deleveraging begins, as least, median and largest.

    A market line tells in how many of the seeds deleveraging began, when, how many liquidations there were,
    and which share of what was forced went to it. `csv` writes a row a seed and market.

    \b
    Example:
      replay band TAPE --rules binance-coinm --seeds 20 --fund 0.05
    """  # noqa: D301 - click reads the escape
    from datetime import date

    from replay.analysis.band import bands, draws
    from replay.cli.progress import progress
    from replay.rules import load_rules
    from replay.tape.populate import Population
    from replay.tape.read import open_tape
    from replay.units import day_of, format_time

    opened = open_tape(tape)
    day = date.fromisoformat(day_of(opened.first_ts)) if opened.first_ts is not None else None
    book = load_rules(rules_name, on=day, overrides=overrides)
    model = Population(leverage=leverage, open_interest=open_interest, fund=fund, forced_share=forced_share)
    with progress("replaying seeds") as on_progress:
        found = list(draws(opened, book, model, range(1, seeds + 1), on_progress=on_progress))
    if form == "csv":
        click.echo("seed,market,takeover,adl,liquidations,absorbed,deleveraged,left_open")
        for draw in found:
            moments = ",".join("" if ts is None else format_time(ts) for ts in (draw.takeover, draw.adl))
            click.echo(
                f"{draw.seed},{draw.market},{moments},{draw.liquidations},"
                f"{draw.absorbed:.4f},{draw.deleveraged:.4f},{draw.left_open:.4f}"
            )
        return
    click.secho(f"{book.name} on {tape.name}, {seeds} seeds: least, median, largest", bold=True)
    click.echo(
        f"{'market':<16}{'ADL in':>8}  {'first ADL (UTC)':<32}{'liquidations':>22}{'share in ADL':>18}"
    )
    for line in bands(found):
        moments = "-" if line.first_adl is None else " ".join(format_time(ts)[11:19] for ts in line.first_adl)
        counts = " ".join(f"{count:,.0f}" for count in line.liquidations)
        shares = " ".join(f"{share:.0%}" for share in line.deleveraged)
        click.echo(f"{line.market:<16}{line.engaged:>4} of {seeds:<3}{moments:<32}{counts:>20}{shares:>18}")
