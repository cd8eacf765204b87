"""``replay import demo-crash DATASET.toml``: a crash day of many accounts, made by a seeded model.

The parameters stand in the file (``datasets/demo-crash/dataset.toml``); ``docs/demo-crash.md`` says what is
in the day and why. The same file gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from replay.progress import OnProgress
from replay.sources import Source


def _load(
    inputs: Sequence[Path],
    out: Path,
    *,
    force: bool,
    rejects: Path | None,
    on_progress: OnProgress | None,
) -> dict[str, Any]:
    from replay.sources.demo_crash_write import import_demo_crash

    return import_demo_crash(inputs, out, force=force, rejects=rejects, on_progress=on_progress)


SOURCE = Source(
    name="demo-crash",
    summary="A crash day of 24,000 accounts, made by a seeded model from the parameters in its dataset.toml; "
    "see docs/demo-crash.md.",
    has=(
        "Twelve linear markets and an inverse one; cash and positions of every account at the start.",
        "Marks, index prices, depth, funding, transfers and voluntary trades with both sides, through eight "
        "calm hours, a crash of twelve minutes and the recovery.",
        "Opening cash of the vault and the insurance funds, as the file says.",
    ),
    lacks=("Forced fills: on this day nobody was ever liquidated; the rules of a replay decide who is.",),
    assumes=(
        "Prices, accounts and trades come from a model shaped on 2025-10-10; they are no record of a market.",
        "The price path does not react to what a replay forces.",
    ),
    load=_load,
)
