"""Marks against waiting positions: what a mark update costs, and how that grows with the accounts.

``python -m benchmarks.marks`` prints mark updates a second beside flox-py's walk over all positions, and the
cost of a re-check with ten times the accounts on the same path; the table is also in ``out/bench/marks.json``.
"""

from __future__ import annotations

try:  # before anything else: its library needs room in the static thread-local block
    from lrvx import LiquidationEngine  # type: ignore[import-not-found]
except ModuleNotFoundError:
    LiquidationEngine = None

# isort: split
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.peers import Decoded, Nothing, versions
from replay.loop.added import cut_window
from replay.loop.engine import Replay
from replay.loop.state import RECHECKS, RENEWED
from replay.rules import compile_rules, load_rules
from replay.tape.read import Tape, open_tape
from replay.tape.schema import Grade, PriceKind
from replay.tape.write import TapeWriter

Floats = npt.NDArray[np.float64]

_START = 1_760_054_400_000_000_000  # 2025-10-10T00:00:00Z
_PRICE = 100_000  # of the one market at the start, in dollars
_CENTS = 100
_ATOMS = 10**8
_RULES = "hyperliquid@2023-02"


@dataclass(frozen=True)
class Marked:
    """What marks did to a crowd of positions.

    Attributes:
        name: Whose positions.
        positions: How many of them.
        marks: Mark updates.
        seconds: Seconds of each run.
        rechecks: Pools judged again because a mark left a band of theirs.
        renewed: Bands renewed alone, without judging the whole pool.
        crossings: Pools that fell below maintenance.
    """

    name: str
    positions: int
    marks: int
    seconds: tuple[float, ...]
    rechecks: int = 0
    renewed: int = 0
    crossings: int = 0

    @property
    def rate(self) -> float:
        """Mark updates a second in the median run."""
        return self.marks / statistics.median(self.seconds)


def path_of(marks: int, seed: int = 7) -> npt.NDArray[np.int64]:
    """Return a path of marks in cents: a walk of 0.02 % a step, some 3.4 % a day of one step each 3 s."""
    rng = np.random.Generator(np.random.PCG64(seed))
    walk = np.exp(rng.normal(0, 2e-4, marks).cumsum())
    return np.maximum(np.round(_PRICE * _CENTS * walk), 1).astype(np.int64)


def crowd(positions: int, least: float, most: float, seed: int = 7) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return signed sizes in thousandths and cash in dollars of pools with one position each.

    Args:
        positions: How many.
        least: Lowest leverage.
        most: Highest leverage; in between it is uniform.
        seed: Everything random follows from it.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    size = np.maximum(np.round(np.exp(rng.normal(3, 1.5, positions))), 1).astype(np.int64)
    size[1::2] *= -1
    cash = np.abs(size) / 1000 * _PRICE / rng.uniform(least, most, positions)
    return size, cash


def make_marks(path: Path, size: npt.NDArray[np.int64], cash: Floats, marks: npt.NDArray[np.int64]) -> None:
    """Write a tape of one market: an opening snapshot, then nothing but marks each three seconds."""
    count = len(size)
    with TapeWriter(path, venue="generated", importer="benchmarks.marks", force=True) as writer:
        writer.market("M000", settle="USDC", tick=(1, 2), lot=(1, 3))
        for account in range(count):
            writer.account(f"0x{account:040x}")
        numbers = np.arange(count)
        writer.append(
            "accounts",
            {
                "account": numbers,
                "ledger": np.zeros(count, np.int16),
                "market": pa.nulls(count, pa.int32()),
                "cash": np.round(cash * _ATOMS).astype(np.int64),
                "grade": np.full(count, int(Grade.KNOWN), np.int8),
            },
        )
        writer.append(
            "positions",
            {
                "account": numbers,
                "market": np.zeros(count, np.int32),
                "mode": np.zeros(count, np.int8),
                "size": size,
                "size_digits": np.full(count, 3, np.int8),
                "entry_price": np.full(count, _PRICE * _CENTS, np.int64),
                "entry_price_digits": np.full(count, 2, np.int8),
            },
        )
        first = np.array([_PRICE * _CENTS])
        path_ts = _START + np.arange(len(marks) + 1) * 3_000_000_000
        writer.append(
            "prices",
            {
                "ts": path_ts,
                "market": np.zeros(len(marks) + 1, np.int32),
                "kind": np.full(len(marks) + 1, int(PriceKind.MARK), np.int8),
                "price": np.concatenate((first, marks)),
                "price_digits": np.full(len(marks) + 1, 2, np.int8),
            },
        )
        writer.finish(
            sources=[{"name": "seed 7", "bytes": 0, "sha256": ""}],
            lacks=[],
            assumptions=["The day is generated for benchmarks."],
            counts={},
            accounts_start="known",
        )


def marked(name: str, tape: Tape, marks: int, repeat: int) -> Marked:
    """Replay the marks of a tape, every pool watched by the rules; the time is the loop's alone."""
    memory: Any = Decoded(tape)
    memory.decoded[:1] = cut_window(memory.decoded[0], _START + 3_000_000_000)
    plan = compile_rules(load_rules(_RULES), tape.markets, tape.ledgers)
    seconds = []
    for turn in range(repeat + 1):
        loop = Replay(memory, plan, Nothing(), rules_decide=True)
        steps = loop.run(batch_rows=131_072)
        next(steps)  # the snapshot is booked, and every pool judged once at its first mark
        counters = loop.state.arrays.counters
        armed = int(counters[RECHECKS]), int(counters[RENEWED])
        began = time.perf_counter()
        for _ in steps:
            pass
        if turn:  # the first turn compiles and warms
            seconds.append(time.perf_counter() - began)
    positions = len(tape.select("SELECT account FROM positions"))
    return Marked(
        name,
        positions,
        marks,
        tuple(seconds),
        int(counters[RECHECKS]) - armed[0],
        int(counters[RENEWED]) - armed[1],
        loop.outcome.liquidations,
    )


def flox_walk(size: npt.NDArray[np.int64], cash: Floats, marks: list[float]) -> Callable[[], int] | None:
    """Return a run of flox-py's margin walk over the same positions, if it is installed."""
    if LiquidationEngine is None:
        return None

    def run() -> int:
        engine = LiquidationEngine.binance_um_futures()
        for account, (thousandths, money) in enumerate(zip(size.tolist(), cash.tolist(), strict=True)):
            engine.open_position(account, 1, thousandths / 1000, float(_PRICE), money)
        began = time.perf_counter()
        for mark in marks:
            engine.on_mark(1, mark)
        run.inner = time.perf_counter() - began  # type: ignore[attr-defined]
        return len(marks)

    return run


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--positions", default=100_000, help="Positions beside flox-py; ten times as many in the last row."
)
@click.option("--marks", default=200_000, help="Mark updates of the replay.")
@click.option(
    "--walked", default=200, help="Mark updates of flox-py, which walks over all positions for each."
)
@click.option("--repeat", default=3, help="Runs of each row, in turn.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("out/bench"), help="Folder of tapes and JSON."
)
def main(positions: int, marks: int, walked: int, repeat: int, out: Path) -> None:
    """Measure mark updates, beside flox-py if it is installed, and what ten times the accounts cost.

    \b
    Example:
      python -m benchmarks.marks --positions 100000
    """  # noqa: D301 - click reads the escape
    path = path_of(marks)
    rows = []
    size, cash = crowd(positions, 1.5, 8.0)
    make_marks(out / "marks-calm", size, cash, path)
    rows.append(marked("replay, leverage to 8", open_tape(out / "marks-calm"), marks, repeat))
    walk = flox_walk(size, cash, (path[:walked] / _CENTS).tolist())
    if walk is not None:
        seconds = []
        for _ in range(repeat):
            walk()
            seconds.append(walk.inner)  # type: ignore[attr-defined]
        rows.append(Marked("flox-py, the same", positions, walked, tuple(seconds)))
    for count in (positions, 10 * positions):
        size, cash = crowd(count, 1.5, 30.0)
        folder = out / f"marks-{count}"
        make_marks(folder, size, cash, path[:28_800])
        rows.append(marked(f"replay, {count:,} pools", open_tape(folder), min(marks, 28_800), repeat))
    _print(rows)
    found = {"versions": versions(), "rows": [asdict(row) for row in rows]}
    (out / "marks.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _print(rows: list[Marked]) -> None:
    heads = ("positions", "marks", "marks/s", "re-checks", "renewed", "crossings", "us each")
    click.echo(f"{'':24}" + "".join(f"{head:>12}" for head in heads))
    for row in rows:
        checks = row.rechecks + row.renewed
        each = statistics.median(row.seconds) / checks * 1e6 if checks else float("nan")
        click.echo(
            f"{row.name:24}{row.positions:>12,}{row.marks:>12,}{row.rate:>12,.0f}{row.rechecks:>12,}"
            f"{row.renewed:>12,}{row.crossings:>12,}{each:>12.2f}"
        )


if __name__ == "__main__":
    main()
