"""Tapes for tests, from scenario text."""

from __future__ import annotations

from pathlib import Path

from replay.sources import import_source
from replay.tape.read import Tape, open_tape


def scenario_tape(folder: Path, text: str, name: str = "tape") -> Tape:
    """Import a scenario given as text into ``folder / name`` and open the tape."""
    file = folder / f"{name}.toml"
    file.write_text(text, encoding="utf-8")
    import_source("scenario", [file], folder / name)
    return open_tape(folder / name)
