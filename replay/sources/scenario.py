"""``replay import scenario FILE.toml``: a day written by hand; the form is in ``docs/scenarios.md``.

The same file gives the same bytes: entries are sorted by time and keep their order in the file within a
moment, and ids are given in the order of the file.
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
    from replay.sources.scenario_write import import_scenario

    return import_scenario(inputs, out, force=force, rejects=rejects, on_progress=on_progress)


SOURCE = Source(
    name="scenario",
    summary="A day written by hand in one TOML file; see docs/scenarios.md.",
    has=(
        "Markets, accounts with cash and opening positions, insurance funds and vaults.",
        "Marks, trades with both sides, transfers, funding, recorded liquidations, depth, as far as written.",
    ),
    lacks=("What the file leaves out; nothing is filled in.",),
    assumes=(
        "A side that a trade does not name, and opening sizes that do not sum to zero, are held by @unseen.",
        "Entries of one moment happen in the order of the file, trades before single fills.",
    ),
    load=_load,
)
