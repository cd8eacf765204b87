"""Runs on disk: writing the manifest and the dimensions, opening a run, checking its hashes.

``run.json`` holds, beside the keys ``kind``, ``format`` and ``version``:

- ``rules``: ``name``, ``sha256`` and ``resolved`` (the whole rule book as it was used);
- ``tape``: ``name`` (of its folder), ``sha256``, ``venue``;
- ``span``: ``from`` and ``until``, first and last moment replayed in ns, or null;
- ``switches``: ``liquidations``, ``execution``, ``anchor_equity``, ... as chosen;
- ``added``: ``name`` and ``text`` of the book of accounts that the user added, or null;
- ``assumptions``: sentences, of the rules, the tape and the switches;
- ``coverage``: equity grade -> ``pools`` (count) and ``notional`` (open notional at the last marks,
  atoms by currency);
- ``counts``: ``steps``, ``rows`` (table -> rows replayed) and whatever else was counted;
- ``conservation``: ``markets`` (count), ``open_markets`` (names of markets whose sizes do not sum to 0) and
  ``ledgers``, each with ``dex``, ``currency``, ``cash_less_cost``, ``external_flow`` (atoms);
- ``timings`` (stage -> seconds) and ``memory`` (``peak_bytes``);
- ``tables`` (table -> ``rows``, ``sha256``, ``bytes``), ``tables.sha256`` (table -> hash) and ``sha256``, the
  hash over them, which is the same for every run of the same inputs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from replay import __version__
from replay.errors import RunError
from replay.folders import atomic_folder, read_manifest, sha256_file, sha256_text, write_json
from replay.run.journal import file_entry, parquet_writer
from replay.run.schema import DIMENSIONS, FORMAT, MANIFEST, RUN_TABLES
from replay.tape.schema import Table

_MEND = "the run is damaged or was copied in part; make it again"
_KEYS: dict[str, type] = {
    **dict.fromkeys(
        ("rules", "tape", "span", "switches", "coverage", "counts", "conservation", "tables"), dict
    ),
    "assumptions": list,
    "sha256": str,
}


@dataclass(frozen=True)
class Run:
    """A run on disk.

    Attributes:
        path: Its folder.
        manifest: The content of ``run.json``; see :mod:`replay.run.store`.
    """

    path: Path
    manifest: dict[str, Any]

    def file(self, table: str) -> Path:
        """Return the Parquet file of a table."""
        return self.path / f"{table}.parquet"

    def rows(self, table: str) -> int:
        """Return the count of rows of a table."""
        return int(self.manifest["tables"][table]["rows"])

    def table(self, table: str) -> pa.Table:
        """Read a whole table, integers as stored."""
        return pq.read_table(self.file(table), partitioning=None)

    @cached_property
    def account_names(self) -> list[str]:
        """Names of accounts by id, pseudo accounts last."""
        return list(self.table("account_names").column("name").to_pylist())

    @cached_property
    def market_names(self) -> list[str]:
        """Names of markets by id."""
        return list(self.table("markets").column("name").to_pylist())

    @cached_property
    def ledgers(self) -> list[tuple[str, str]]:
        """Dex and currency of ledgers by id."""
        return [(row["dex"], row["currency"]) for row in self.table("ledgers").to_pylist()]

    def verify(self) -> None:
        """Recompute the hashes of all tables.

        Raises:
            RunError: A file is not the one the run wrote.
        """
        for name, entry in self.manifest["tables"].items():
            if sha256_file(self.file(name)) != entry["sha256"]:
                raise RunError(
                    f"was changed: its SHA-256 is not that of {MANIFEST}", file=self.file(name), mend=_MEND
                )
        if _hash_of(self.manifest["tables"]) != self.manifest["sha256"]:
            raise RunError(
                "has a hash over the tables that does not fit them", file=self.path / MANIFEST, mend=_MEND
            )


@contextmanager
def new_run_folder(path: Path, *, force: bool) -> Iterator[Path]:
    """Yield a fresh folder that becomes ``path`` on success and vanishes on failure."""

    def is_run(old: Path) -> bool:
        return (old / MANIFEST).is_file()

    with atomic_folder(path, force=force, error=RunError, replaceable=is_run) as folder:
        yield folder


def write_dimensions(
    folder: Path,
    *,
    markets: pa.Table,
    ledgers: pa.Table,
    account_names: Sequence[str],
    added: Collection[str] = (),
) -> dict[str, dict[str, Any]]:
    """Write the dimension tables that make a run self-contained; return their manifest entries.

    Args:
        folder: Folder of the run.
        markets: The tape's table of markets.
        ledgers: The tape's table of ledgers.
        account_names: Names by id: the tape's, then the pseudo and the added accounts of the run.
        added: Those that the user put into the day.
    """
    names = pa.table(
        {
            "account": range(len(account_names)),
            "name": list(account_names),
            "added": [int(name in added) for name in account_names],
        },
        schema=DIMENSIONS["account_names"].arrow(),
    )
    entries = {}
    for name, content in (("markets", markets), ("account_names", names), ("ledgers", ledgers)):
        path = folder / f"{name}.parquet"
        schema = DIMENSIONS[name].arrow()
        with parquet_writer(path, schema) as writer:
            writer.write_table(content.select(schema.names).cast(schema).combine_chunks())
        entries[name] = file_entry(path, content.num_rows)
    return entries


def write_run_manifest(
    folder: Path,
    *,
    tables: Mapping[str, Mapping[str, Any]],
    rules: Mapping[str, Any],
    tape: Mapping[str, Any],
    span: tuple[int | None, int | None],
    switches: Mapping[str, Any],
    added: Mapping[str, str] | None = None,
    assumptions: Sequence[str],
    coverage: Mapping[str, Any],
    counts: Mapping[str, Any],
    conservation: Mapping[str, Any],
    timings: Mapping[str, float],
    memory: Mapping[str, int],
) -> dict[str, Any]:
    """Write ``run.json`` as the last file of a run; return its content.

    ``tables`` are the entries of the journal and of :func:`write_dimensions`; the meaning of all other
    arguments is that of the keys described at the head of this module.
    """
    entries = {name: dict(tables[name]) for name in (*RUN_TABLES, *DIMENSIONS)}
    manifest = {
        "kind": "run",
        "format": FORMAT,
        "version": __version__,
        "rules": dict(rules),
        "tape": dict(tape),
        "span": {"from": span[0], "until": span[1]},
        "switches": dict(switches),
        "added": added if added is None else dict(added),
        "assumptions": list(assumptions),
        "coverage": dict(coverage),
        "counts": dict(counts),
        "conservation": dict(conservation),
        "timings": dict(timings),
        "memory": dict(memory),
        "tables": entries,
        "tables.sha256": {name: entry["sha256"] for name, entry in entries.items()},
        "sha256": _hash_of(entries),
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def open_run(path: str | Path) -> Run:
    """Open a run folder.

    Raises:
        RunError: No run, half-written, of another format, or a table missing, of another size, with other
            columns or another count of rows than the manifest says.
    """
    folder = Path(path)
    manifest = read_manifest(folder, MANIFEST, kind="run", version=FORMAT, error=RunError)
    for key, kind in _KEYS.items():
        if not isinstance(manifest.get(key), kind):
            raise RunError("is missing or of the wrong kind", file=folder / MANIFEST, key=key, mend=_MEND)
    run = Run(folder, manifest)
    for name, table in {**RUN_TABLES, **DIMENSIONS}.items():
        _check_table(run, name, table)
    return run


def _check_table(run: Run, name: str, table: Table) -> None:
    try:
        entry = run.manifest["tables"][name]
        rows, size = int(entry["rows"]), int(entry["bytes"])
        str(entry["sha256"])
    except (KeyError, TypeError, ValueError) as failure:
        raise RunError(f"does not describe table `{name}`", file=run.path / MANIFEST, mend=_MEND) from failure
    path = run.file(name)
    if not path.is_file():
        raise RunError("is missing", file=path, mend=_MEND)
    if path.stat().st_size != size:
        raise RunError(f"has {path.stat().st_size} bytes, {MANIFEST} says {size}", file=path, mend=_MEND)
    try:
        metadata = pq.read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
    except (pa.ArrowException, OSError) as failure:
        raise RunError(f"cannot be read: {failure}", file=path, mend=_MEND) from failure
    if metadata.num_rows != rows:
        raise RunError(f"has {metadata.num_rows} rows, {MANIFEST} says {rows}", file=path, mend=_MEND)
    if not schema.equals(table.arrow()):
        mend = "make the run again with this version"
        raise RunError("has other columns than this version writes", file=path, mend=mend)


def _hash_of(tables: Mapping[str, Mapping[str, Any]]) -> str:
    return sha256_text("".join(f"{name} {entry['sha256']}\n" for name, entry in tables.items()))
