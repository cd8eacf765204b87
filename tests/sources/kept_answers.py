"""Kept answers of an exchange as files of JSON lines, and the tape that an importer makes of them."""

import json
from pathlib import Path
from typing import Any

from replay.sources import import_source
from replay.tape.check import check_tape
from replay.tape.read import Tape, open_tape


def write(folder: Path, **files: Any) -> Path:
    """Write a file of lines for each name: of the documents of a list or tuple, or of one document."""
    folder.mkdir(exist_ok=True)
    for name, documents in files.items():
        lines = documents if isinstance(documents, list | tuple) else [documents]
        (folder / f"{name}.json").write_text(
            "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
        )
    return folder


def checked_tape(source: str, path: Path, out: Path) -> Tape:
    """Return the tape of a source, in which nothing is wrong."""
    import_source(source, [path], out, force=True)
    tape = open_tape(out)
    assert check_tape(tape).ok
    return tape
