"""Writing the tape of a scenario."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from replay.errors import SourceError
from replay.folders import sha256_file
from replay.progress import OnProgress
from replay.sources import scenario_rows as entries
from replay.sources.scenario_model import Scenario
from replay.sources.scenario_names import Names
from replay.sources.scenario_read import read_scenario
from replay.tape.write import TapeWriter


def import_scenario(
    inputs: Sequence[Path],
    out: Path,
    *,
    force: bool = False,
    rejects: Path | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Write the tape of one scenario file and return its manifest.

    Raises:
        SourceError: Another count of files, ``rejects`` asked for, or a fault in the file.
        TapeError: The tape exists or cannot be written.
    """
    if len(inputs) != 1:
        raise SourceError(f"a scenario is one file, found {len(inputs)}", mend="pass one FILE.toml")
    path = inputs[0]
    if rejects is not None:
        raise SourceError(
            "a scenario sets no rows aside", file=path, mend="leave out --rejects, mend the file"
        )
    day, page = read_scenario(path)
    if on_progress is not None:
        on_progress(0.5, f"read {path.name}")
    with TapeWriter(out, venue=day.venue, importer="scenario", force=force) as writer:
        names = Names(day, page, writer)
        rows = entries.Rows()
        unbalanced = entries.put_opening(day, page, names, rows)
        entries.put_prices(day, names, rows)
        entries.put_funding(day, names, rows)
        entries.put_transfers(day, page, names, rows)
        entries.put_liquidations(day, page, names, rows)
        entries.put_depth(day, page, names, rows)
        matches = entries.put_fills(day, page, names, rows)
        try:
            rows.write(writer)
            manifest = writer.finish(
                sources=[{"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_file(path)}],
                lacks=_lacks(day),
                assumptions=_assumptions(unbalanced),
                counts={
                    "matches": matches,
                    "numbers rounded": names.rounded,
                    "markets of unbalanced opening sizes": len(unbalanced),
                },
                accounts_start=day.accounts_start,
            )
        except SourceError as failure:
            key = () if failure.key is None else (failure.key,)
            raise page.error(failure.problem, key, failure.mend) from failure
    if on_progress is not None:
        on_progress(1.0, f"wrote {out.name}")
    return manifest


def _lacks(day: Scenario) -> list[str]:
    cash = (
        ["The cash of accounts to which the scenario gives none."] if day.accounts_start == "unknown" else []
    )
    marked = {entry.market for entry in day.marks if entry.kind == "mark"}
    bare = [m.name for m in day.markets if m.payoff != "spot" and m.name not in marked]
    return cash + [f"Marks of {name}." for name in bare]


def _assumptions(unbalanced: dict[str, str]) -> list[str]:
    return [
        "The day was written by hand; it is no record of a market.",
        *(
            f"The opening sizes of {market} sum to {total}; {entries.UNSEEN} holds the opposite."
            for market, total in unbalanced.items()
        ),
    ]
