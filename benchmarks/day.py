"""A whole generated day, written with all tables, against what it may take: scan, liquidations, deleveraging.

``python -m benchmarks.day`` prints, for each rule book, the seconds beside ``2 x scan + 60 us a liquidation + 7 us an
ADL fill`` of the same process, and what each liquidation and ADL fill took; the table is also in
``out/bench/day.json``. With ``--fall``, ``--leverage`` and fewer accounts it is a cascade alone.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click

from benchmarks.peers import scan, versions
from benchmarks.tapes import Size, kept_tape
from replay.rules import load_rules
from replay.run.execute import run
from replay.run.store import Run
from replay.tape.read import Tape

VOLUME = (
    "depth.provider=volume",
    "depth.participation=0.2",
    "depth.window=60s",
    "depth.slippage_bp=20",
)
_LIQUIDATION, _ADL_FILL = 60e-6, 7e-6
_COUNTED = ("margin re-checks", "bands renewed alone", "rankings of winners", "pools valued to rank")


@dataclass
class Day:
    """The runs of one day under one rule book; ``recorded`` are runs in which only the tape forces.

    Attributes:
        name: The rule book.
        seconds: Whole runs, opening, closing and tables included.
        recorded: The same with recorded liquidations, of which the tape has none.
        liquidations: How many there were.
        orders: Forced orders.
        adl_fills: Pieces that deleveraging closed.
        counts: What else the run counted.
    """

    name: str
    seconds: list[float] = field(default_factory=list)
    recorded: list[float] = field(default_factory=list)
    liquidations: int = 0
    orders: int = 0
    adl_fills: int = 0
    counts: dict[str, int] = field(default_factory=dict)


def fallen_day(
    out: Path, fills: int, accounts: int, markets: int, leverage: float, fall: float = 0.5
) -> Tape:
    """Return a day with a mark every 3 s on which all marks fall within twelve minutes; made once in a folder."""
    size = Size(fills, accounts, markets, mark_seconds=3, fall=fall, leverage=leverage)
    return kept_tape(out / f"day-{fills}-{accounts}-{markets}-{fall}-{leverage}", size)


def replayed(tape: Tape, rules: str, liquidations: str, out: Path) -> tuple[float, Run]:
    """Run a day; return the seconds and the run."""
    book = load_rules(rules, overrides=VOLUME if liquidations == "rules" else ())
    began = time.perf_counter()
    made = run(tape, book, out, liquidations=liquidations, force=True)
    return time.perf_counter() - began, made


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--fills", default=10_000_000, help="Rows of the generated tape.")
@click.option("--accounts", default=400_000, help="Its accounts.")
@click.option("--markets", default=160, help="Its markets, with a mark every 3 s.")
@click.option("--fall", default=0.5, help="Fall of all marks within twelve minutes.")
@click.option("--leverage", default=1.3, help="Notional over cash of a typical account.")
@click.option(
    "--rules", multiple=True, default=("hyperliquid@2025-10-10", "bybit@2025-09-23"), help="Rule books."
)
@click.option("--repeat", default=3, help="Runs of each row, in turn, after one that warms.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("out/bench"), help="Folder of tape and JSON."
)
def main(
    fills: int,
    accounts: int,
    markets: int,
    fall: float,
    leverage: float,
    rules: tuple[str, ...],
    repeat: int,
    out: Path,
) -> None:
    """Measure whole days under rule books against the bare scan.

    \b
    Example:
      python -m benchmarks.day --fills 400000 --accounts 20000 --markets 20 --leverage 6
    """  # noqa: D301 - click reads the escape
    tape = fallen_day(out, fills, accounts, markets, leverage, fall)
    scans: list[float] = []
    days = [Day(name) for name in rules]
    for turn in range(repeat + 1):
        began = time.perf_counter()
        scan(tape)
        scanned = time.perf_counter() - began
        for day in days:
            recorded, _ = replayed(tape, day.name, "recorded", out / "day-run")
            seconds, made = replayed(tape, day.name, "rules", out / "day-run")
            if turn:  # the first turn compiles and warms
                day.recorded.append(recorded)
                day.seconds.append(seconds)
            counts = made.manifest["counts"]
            day.liquidations = counts["liquidations by the rules"]
            day.orders, day.adl_fills = made.rows("forced_orders"), made.rows("adl_fills")
            day.counts = {name: counts[name] for name in _COUNTED}
        if turn:
            scans.append(scanned)
    _print(days, scans)
    found = {"versions": versions(), "scan": scans, "days": [asdict(day) for day in days]}
    (out / "day.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _print(days: list[Day], scans: list[float]) -> None:
    scanned = statistics.median(scans)
    click.echo(f"bare scan of the fills {scanned:.2f} s ({min(scans):.2f} to {max(scans):.2f})")
    for day in days:
        whole, recorded = statistics.median(day.seconds), statistics.median(day.recorded)
        aim = 2 * scanned + _LIQUIDATION * day.liquidations + _ADL_FILL * day.adl_fills
        forced = max(whole - recorded, 0.0)
        click.echo(
            f"{day.name}: {whole:.2f} s ({min(day.seconds):.2f} to {max(day.seconds):.2f}), recorded {recorded:.2f} s, "
            f"aim {aim:.2f} s: {whole / aim:.1f} times\n"
            f"  {day.liquidations:,} liquidations, {day.orders:,} orders, {day.adl_fills:,} ADL fills beyond the "
            f"recorded run: {forced / max(day.liquidations, 1) * 1e6:.0f} us a liquidation, "
            f"{day.liquidations / max(forced, 1e-9):,.0f} liquidations/s, "
            f"{day.adl_fills / max(forced, 1e-9):,.0f} ADL fills/s\n"
            "  " + ", ".join(f"{name} {count:,}" for name, count in day.counts.items())
        )
    click.echo(", ".join(f"{k} {v}" for k, v in versions().items()))


if __name__ == "__main__":
    main()
