"""Historical replay of crypto perpetual futures: exact books, exchange rules as configuration.

    import replay

    tape = replay.open_tape("out/tape")
    rules = replay.load_rules("hyperliquid@2023-02")
    run = replay.run_replay(tape, rules, "out/run", liquidations="rules")
    replay.query(run, "SELECT account, market, size, equity FROM liquidations")

The functions mirror the commands of the same names. Heavy modules are imported when a function is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from replay.analysis.explain import Explanation
    from replay.rules import RuleBook
    from replay.run.store import Run
    from replay.tape.read import Tape

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "explain",
    "import_source",
    "load_rules",
    "open_run",
    "open_tape",
    "query",
    "run_replay",
    "state",
]


def import_source(source: str, paths: list[str | Path], out: str | Path, **options: Any) -> Tape:
    """Turn public files into a tape and open it; see :func:`replay.sources.import_source`."""
    from replay.sources import import_source as implementation

    implementation(source, [Path(path) for path in paths], Path(out), **options)
    return open_tape(out)


def open_tape(path: str | Path) -> Tape:
    """Open a tape folder; see :class:`replay.tape.read.Tape`."""
    from replay.tape.read import open_tape as implementation

    return implementation(path)


def load_rules(name: str, **options: Any) -> RuleBook:
    """Load a rule book by ``venue``, ``venue@version`` or path; see :func:`replay.rules.load_rules`."""
    from replay.rules import load_rules as implementation

    return implementation(name, **options)


def run_replay(tape: Tape, rules: RuleBook, out: str | Path, **options: Any) -> Run:
    """Replay a tape under a rule book into a run folder; see :func:`replay.run.execute.run`."""
    from replay.run.execute import run as implementation

    return implementation(tape, rules, Path(out), **options)


def state(run: Run, tape: Tape, at: int, **options: Any) -> pa.Table:
    """Return the open positions of a run at a moment (ns); see :func:`replay.analysis.standing.standing`."""
    from replay.analysis.standing import standing as implementation

    return implementation(run, tape, at, **options)


def explain(run: Run, account: str, market: str | None = None, *, at: int | None = None) -> Explanation:
    """Tell why an account was hit or spared; see :func:`replay.analysis.explain.explain`."""
    from replay.analysis.explain import explain as implementation

    return implementation(run, account, market, at=at)


def open_run(path: str | Path) -> Run:
    """Open a run folder; see :class:`replay.run.store.Run`."""
    from replay.run.store import open_run as implementation

    return implementation(path)


def query(run: Run, sql_or_name: str) -> pa.Table:
    """Ask a run in SQL, or by the name of a query; see :func:`replay.run.sql.query`."""
    from replay.run.sql import query as implementation

    return implementation(run, sql_or_name).table()
