"""Many seeds of one anonymous day: when a fund and deleveraging engage, as a band instead of a number."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from replay.progress import OnProgress
from replay.rules import RuleBook
from replay.run.execute import run
from replay.run.sql import query
from replay.run.store import Run
from replay.tape.populate import Population, populate
from replay.tape.read import Tape, open_tape

Ordered = TypeVar("Ordered", int, float, str)

_FIRST = """
SELECT m.name AS market,
       min(e.ts) FILTER (e.stage = 'takeover') AS takeover,
       min(e.ts) FILTER (e.stage = 'adl') AS adl
FROM raw.engagements e JOIN raw.markets m USING (market)
WHERE e.shadow = 0 GROUP BY m.name
"""
_SPLIT = """
SELECT m.name AS market, count(*) AS liquidations, sum(asked)::DOUBLE AS asked,
       sum(absorbed)::DOUBLE AS absorbed, sum(adl)::DOUBLE AS adl, sum("left")::DOUBLE AS left_open
FROM raw.liquidations l JOIN raw.markets m USING (market) GROUP BY m.name
"""


@dataclass(frozen=True, slots=True)
class Draw:
    """One market in one run of one seed; moments in ns or None, shares of the quantity that was forced."""

    seed: int
    market: str
    takeover: int | None
    adl: int | None
    liquidations: int
    absorbed: float
    deleveraged: float
    left_open: float


@dataclass(frozen=True, slots=True)
class Band:
    """Least, median and largest of what the seeds gave for one market; None where the seeds never did."""

    market: str
    seeds: int
    engaged: int
    first_adl: tuple[int, int, int] | None
    liquidations: tuple[float, float, float]
    deleveraged: tuple[float, float, float]


def draws(
    tape: Tape,
    book: RuleBook,
    model: Population,
    seeds: Sequence[int],
    *,
    on_progress: OnProgress | None = None,
) -> Iterator[Draw]:
    """Populate and replay a tape once a seed; yield what each market gave.

    Args:
        tape: A tape of anonymous trades.
        book: The rule book.
        model: The population; its seed is replaced.
        seeds: The seeds.
        on_progress: Called after each seed.
    """
    for number, seed in enumerate(seeds):
        with tempfile.TemporaryDirectory(prefix="replay-band-") as folder:
            peopled = Path(folder) / "tape"
            populate(tape, peopled, replace(model, seed=seed))
            made = run(open_tape(peopled), book, Path(folder) / "run", liquidations="rules")
            yield from _of_run(made, seed)
        if on_progress is not None:
            on_progress((number + 1) / len(seeds), f"seed {seed}")


def _of_run(made: Run, seed: int) -> Iterator[Draw]:
    first = {row["market"]: row for row in query(made, _FIRST).table().to_pylist()}
    split = {row["market"]: row for row in query(made, _SPLIT).table().to_pylist()}
    for market in sorted(made.market_names):
        moments, parts = first.get(market), split.get(market)
        asked = float(parts["asked"]) if parts else 0.0

        def share(column: str, parts: Any = parts, asked: float = asked) -> float:
            return float(parts[column]) / asked if asked else 0.0

        yield Draw(
            seed,
            market,
            moments["takeover"] if moments else None,
            moments["adl"] if moments else None,
            int(parts["liquidations"]) if parts else 0,
            share("absorbed"),
            share("adl"),
            share("left_open"),
        )


def bands(found: Sequence[Draw]) -> list[Band]:
    """Sum up draws by market."""
    result = []
    for market in sorted({draw.market for draw in found}):
        mine = [draw for draw in found if draw.market == market]
        moments = [draw.adl for draw in mine if draw.adl is not None]
        result.append(
            Band(
                market,
                len(mine),
                len(moments),
                three(moments) if moments else None,
                three([float(draw.liquidations) for draw in mine]),
                three([draw.deleveraged for draw in mine]),
            )
        )
    return result


def three(values: Sequence[Ordered]) -> tuple[Ordered, Ordered, Ordered]:
    """Return least, median (of an even number the upper of the two in the middle) and largest of some values."""
    ordered = sorted(values)
    return ordered[0], ordered[len(ordered) // 2], ordered[-1]
