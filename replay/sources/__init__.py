"""Public files to tapes: the registry of sources.

A source is a module with a :class:`Source` named ``SOURCE``. Modules are imported when they are asked
for, and load what is heavy (Arrow, kernels) only when they read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from replay.errors import SourceError
from replay.progress import OnProgress

_MODULES = {
    "binance": "replay.sources.binance",
    "bybit": "replay.sources.bybit",
    "columns": "replay.sources.columns",
    "demo-crash": "replay.sources.demo_crash",
    "deribit": "replay.sources.deribit",
    "drift-v1": "replay.sources.drift_v1",
    "drift-v2": "replay.sources.drift_v2",
    "dydx-v4": "replay.sources.dydx",
    "hyperliquid": "replay.sources.hyperliquid",
    "okx": "replay.sources.okx",
    "scenario": "replay.sources.scenario",
    "tardis": "replay.sources.tardis",
}

SOURCE_NAMES = tuple(_MODULES)


class Load(Protocol):
    """What a source does: read input files, write one tape, return its manifest."""

    def __call__(
        self,
        inputs: Sequence[Path],
        out: Path,
        *,
        force: bool,
        rejects: Path | None,
        on_progress: OnProgress | None,
    ) -> dict[str, Any]:
        """Import ``inputs`` (existing files, sorted, each once) as the tape folder ``out``."""


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of public files and what a tape made of it knows.

    Args:
        name: Name on the command line.
        summary: What the files are, in one sentence.
        has: What a tape made of them knows, in sentences.
        lacks: What the files do not tell.
        assumes: What the importer has to assume.
        load: Reads the files and writes the tape.
        named: Puts files that come with the program in the place of their names, if the source has such.
    """

    name: str
    summary: str
    has: tuple[str, ...]
    lacks: tuple[str, ...]
    assumes: tuple[str, ...]
    load: Load
    named: Callable[[Sequence[Path]], list[Path]] | None = None


def find_source(name: str) -> Source:
    """Return a source by name.

    Raises:
        SourceError: No source has this name.
    """
    module = _MODULES.get(name)
    if module is None:
        raise SourceError(f"no source is named {name!r}", mend=f"sources: {', '.join(SOURCE_NAMES)}")
    source: Source = import_module(module).SOURCE
    return source


def list_sources() -> list[Source]:
    """Return all sources in the order of the registry."""
    return [find_source(name) for name in SOURCE_NAMES]


def import_source(
    source: str,
    paths: Sequence[Path],
    out: Path,
    *,
    force: bool = False,
    rejects: Path | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Import public files as a tape and return the tape's manifest.

    Args:
        source: Name of the source, see :data:`SOURCE_NAMES`.
        paths: Files, folders (searched to any depth, hidden files left out) and glob patterns.
        out: Tape folder that is to appear.
        force: Replace an existing tape, and an existing rejects file.
        rejects: Set rows that cannot be understood aside in this file, as JSON lines of file, line,
            reason and text, instead of stopping at the first one.
        on_progress: Called while reading and writing.

    Raises:
        SourceError: Nothing to read, a file or a row that cannot be understood, or more than 0.1 % of
            the rows set aside.
        TapeError: ``out`` exists, or cannot be written.
    """
    from replay.sources._read import expand_paths

    found = find_source(source)
    paths = paths if found.named is None else found.named(paths)
    return found.load(expand_paths(paths), out, force=force, rejects=rejects, on_progress=on_progress)
