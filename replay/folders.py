"""Folders that appear whole or not at all: tapes and runs are written beside their place and renamed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from replay.errors import ReplayError


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove_leftovers(target: Path) -> None:
    """Remove the half-written folders of killed processes that aimed at the same target."""
    for leftover in target.parent.glob(f".{target.name}.partial-*"):
        pid = leftover.name.rpartition("-")[2]
        if not (pid.isdigit() and _is_alive(int(pid))):
            shutil.rmtree(leftover, ignore_errors=True)


def check_free(target: Path, *, force: bool, error: type[ReplayError]) -> None:
    """Refuse to overwrite: raise ``error`` if ``target`` exists, unless ``force`` is given."""
    if not target.exists():
        return
    if not force:
        raise error("already exists", file=target, mend="choose another --out, or pass --force to replace it")
    if not target.is_dir():
        raise error("is a file, not a folder", file=target, mend="choose another --out")


@contextmanager
def atomic_folder(
    target: Path, *, force: bool, error: type[ReplayError], replaceable: Callable[[Path], bool]
) -> Iterator[Path]:
    """Yield a fresh folder beside ``target``; rename it there on success, remove it on any failure.

    Args:
        target: Where the folder is to appear.
        force: Replace an existing folder, but only one for which ``replaceable`` holds.
        error: Class of the error to raise if the target may not be written.
        replaceable: Tells whether an existing folder is of the kind this call writes.
    """
    check_free(target, force=force, error=error)
    if target.exists() and any(target.iterdir()) and not replaceable(target):
        raise error(
            "exists and holds something else",
            file=target,
            mend="--force replaces only folders of the same kind",
        )
    parent = target.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        partial = parent / f".{target.name}.partial-{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
    except OSError as failure:
        raise error(f"cannot be written: {failure.strerror}", file=target) from failure
    try:
        yield partial
        retired = parent / f".{target.name}.partial-old-{os.getpid()}"
        if target.exists():
            target.rename(retired)
        partial.rename(target)
        shutil.rmtree(retired, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal text."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8 as hexadecimal text."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON that people can read and that is the same for the same value."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_manifest(
    folder: Path, name: str, *, kind: str, version: int, error: type[ReplayError]
) -> dict[str, Any]:
    """Read and check the manifest of a tape or run folder.

    Raises:
        ReplayError: Of class ``error``: no folder, no manifest, not JSON, another kind or version.
    """
    article = f"a {kind} folder has a {name}"
    if folder.is_file():
        raise error(f"is a file, not the folder of a {kind}", file=folder, mend=article)
    if not folder.is_dir():
        raise error("no such folder", file=folder, mend=article)
    path = folder / name
    if not path.is_file():
        raise error(
            f"is not a {kind}, or was only half written: {name} is missing", file=folder, mend=article
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as failure:
        raise error(f"cannot be read: {failure}", file=path, mend=f"make the {kind} again") from failure
    if not isinstance(manifest, dict) or manifest.get("kind") != kind:
        raise error(f"does not describe a {kind}", file=path, mend=article)
    if manifest.get("format") != version:
        raise error(
            f"has format {manifest.get('format')!r}, this version reads {version}",
            file=path,
            mend=f"make the {kind} again with this version",
        )
    return manifest
