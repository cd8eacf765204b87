"""Auto-deleveraging by itself: ranking, pairing, booking and the rows, in the middle of a fall.

``python -m benchmarks.adl`` replays a generated fall to a moment in its middle, then has the largest
longs of each market closed against the first of the shorts, a few at a time, as compiled code does it in a step.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.day import VOLUME, fallen_day
from benchmarks.peers import Nothing, versions
from replay.loop.engine import Replay
from replay.loop.queue import close_next_side
from replay.loop.rows import ADL_ROWS, FROM_ABSORBER
from replay.loop.stages import LOSING
from replay.loop.state import RANKINGS, STEP_TS, VALUED_TO_RANK
from replay.rules import compile_rules, load_rules
from replay.tape.read import Tape
from replay.tape.schema import Payoff
from replay.units import NS_PER_MINUTE

_FALL_BEGINS = (21 * 60 + 15) * NS_PER_MINUTE
_MOST_ROWS = 1_000_000
_LOSERS = 5


def in_the_fall(tape: Tape, rules: str, minutes: float) -> Replay:
    """Return a replay that stands so many minutes into the fall."""
    book = load_rules(rules, overrides=VOLUME)
    replay = Replay(tape, compile_rules(book, tape.markets, tape.ledgers), Nothing(), rules_decide=True)
    first = tape.first_ts or 0
    until = first - first % (24 * 60 * NS_PER_MINUTE) + _FALL_BEGINS + round(minutes * NS_PER_MINUTE)
    for _ in replay.run(until=until):
        pass
    return replay


def losers(replay: Replay, market: int, quantity: int) -> Any:
    """Return LOSING records of the largest longs of a market: they are closed at the price of the rules."""
    held = replay.state.positions
    slots = np.argsort(np.where(held["market"] == market, -held["size"], 0), kind="stable")[:_LOSERS]
    slots = np.sort(slots[held["size"][slots] > 0])
    losing = np.zeros(len(slots), LOSING)
    losing["position"], losing["pool"], losing["market"] = slots, held["pool"][slots], market
    losing["quantity"] = np.minimum(quantity, held["size"][slots])
    losing["origin"], losing["episode"] = FROM_ABSORBER, -1
    return losing


def closed(replay: Replay, calls: int, fills: int) -> tuple[float, int, int, int]:
    """Deleverage longs in all markets in turn; return seconds, pieces, rankings and pools valued."""
    state, cascade = replay.state, replay.cascade
    assert cascade is not None
    state.make_lists()
    cascade.rows.reserve(adl=_MOST_ROWS, stages=3 * calls)
    markets = [market.id for market in state.markets if market.payoff != Payoff.SPOT]
    held = state.positions
    shorts = {m: held["size"][(held["market"] == m) & (held["size"] < 0)] for m in markets}
    typical = {m: int(-np.median(sizes)) if len(sizes) else 1 for m, sizes in shorts.items()}
    forcing, ts = cascade.forcing, int(state.arrays.counters[STEP_TS])
    cascade.rows.arrays.counts[ADL_ROWS] = 0
    before = state.arrays.counters[[RANKINGS, VALUED_TO_RANK]]
    seconds = 0.0
    for call in range(calls):
        market = markets[call % len(markets)]
        losing = losers(replay, market, fills * typical[market])
        if not len(losing):
            continue
        began = time.perf_counter()
        close_next_side(
            state.arrays,
            forcing.funds,
            forcing.cases,
            forcing.rows,
            forcing.queue,
            ts,
            losing,
            0,
        )
        seconds += time.perf_counter() - began
    rankings, valued = (state.arrays.counters[[RANKINGS, VALUED_TO_RANK]] - before).tolist()
    return seconds, int(cascade.rows.arrays.counts[ADL_ROWS]), rankings, valued


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--fills", default=400_000, help="Rows of the generated tape.")
@click.option("--accounts", default=20_000, help="Its accounts.")
@click.option("--markets", default=20, help="Its markets.")
@click.option("--leverage", default=6.0, help="Notional over cash of a typical account.")
@click.option("--minutes", default=6.0, help="Minutes into the fall.")
@click.option(
    "--rules", multiple=True, default=("hyperliquid@2025-10-10", "bybit@2025-09-23"), help="Rule books."
)
@click.option("--calls", default=200, help="Sides that are closed.")
@click.option("--closed", "each", default=20, help="How many typical positions each loses at most.")
@click.option("--repeat", default=3, help="Runs, after one that warms.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/bench"), help="Folder of the tape.")
def main(
    fills: int,
    accounts: int,
    markets: int,
    leverage: float,
    minutes: float,
    rules: tuple[str, ...],
    calls: int,
    each: int,
    repeat: int,
    out: Path,
) -> None:
    """Measure deleveraging a second.

    \b
    Example:
      python -m benchmarks.adl --fills 10000000 --accounts 400000 --markets 160 --leverage 1.3
    """  # noqa: D301 - click reads the escape
    tape = fallen_day(out, fills, accounts, markets, leverage)
    for name in rules:
        rates = []
        for turn in range(repeat + 1):
            seconds, pieces, rankings, valued = closed(in_the_fall(tape, name, minutes), calls, each)
            if turn:
                rates.append(pieces / seconds)
        click.echo(
            f"{name}: {statistics.median(rates):,.0f} ADL fills/s ({min(rates):,.0f} to {max(rates):,.0f}); "
            f"{pieces:,} fills in {rankings:,} rankings, {seconds / max(rankings, 1) * 1e6:.0f} us a ranking, "
            f"{valued:,} pools valued"
        )
    click.echo(", ".join(f"{k} {v}" for k, v in versions().items()))


if __name__ == "__main__":
    main()
