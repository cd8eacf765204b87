"""``replay populate``: accounts for a tape of anonymous trades."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("populate", context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("tape", type=click.Path(path_type=Path), metavar="TAPE")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="TAPE", help="Folder that is to appear."
)
@click.option("--seed", default=7, help="Everything random follows from it.")
@click.option("--accounts", default=2_000, type=click.IntRange(min=50), help="Accounts a market.")
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
@click.option("--force", is_flag=True, help="Replace an existing tape.")
def populate_(
    tape: Path,
    out: Path,
    seed: int,
    accounts: int,
    leverage: float,
    open_interest: float,
    fund: float,
    forced_share: float,
    force: bool,
) -> None:
    """Give a tape of anonymous trades accounts, by a seeded model.

    Prices and volume are those of the tape; who traded, with what margin, is modelled, so that every number
    about accounts is an estimate. docs/anonymous-days.md tells the model and when not to believe it;
    `replay band` runs many seeds.

    \b
    Example:
      replay import tardis perp spot --out TAPE
      replay populate TAPE --out PEOPLED --seed 1
      replay run PEOPLED --rules binance-coinm --liquidations rules --out RUN
    """  # noqa: D301 - click reads the escape
    from replay.cli.progress import progress
    from replay.tape.populate import Population, populate
    from replay.tape.read import open_tape

    model = Population(
        seed=seed,
        accounts=accounts,
        leverage=leverage,
        open_interest=open_interest,
        fund=fund,
        forced_share=forced_share,
    )
    with progress("populating") as on_progress:
        manifest = populate(open_tape(tape), out, model, force=force, on_progress=on_progress)
    rows = {name: table["rows"] for name, table in manifest["tables"].items()}
    click.secho(f"{out}  populated", bold=True)
    click.echo(f"  accounts  {rows['account_names']:,} (modelled)")
    click.echo(f"  fills     {rows['fills']:,} of {manifest['counts']['trades']:,} trades")
    for sentence in manifest["assumptions"]:
        click.echo(f"  assumes   {sentence}")
