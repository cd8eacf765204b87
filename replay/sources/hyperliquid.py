"""Hyperliquid: raw node fills of any day, and the venue's own closed-alpha files of 2023.

This module tells the forms apart by their content and frames the import; ``hyperliquid_fills`` and
``hyperliquid_alpha`` read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from replay.errors import SourceError
from replay.progress import OnProgress
from replay.sources import Source
from replay.sources.hyperliquid_forms import ALPHA, FILLS, PAIRS, TRADES, Form

_FORMS = {"fills": FILLS, "node_fills": PAIRS, "node_trades": TRADES, "alpha": ALPHA}


class Outcome(NamedTuple):
    """What reading gave: provenance of each file, counts, and how many rows there were, rejects included."""

    sources: list[dict[str, Any]]
    counts: dict[str, int]
    rows: int


def load(
    inputs: Sequence[Path],
    out: Path,
    *,
    force: bool,
    rejects: Path | None,
    on_progress: OnProgress | None,
) -> dict[str, Any]:
    """Import node fills or the three files of 2023 as a tape; see :class:`replay.sources.Load`."""
    from replay.sources._read import Progress
    from replay.sources._rejects import Rejects
    from replay.sources.hyperliquid_alpha import read_alpha
    from replay.sources.hyperliquid_fills import read_blocks
    from replay.tape.write import TapeWriter

    kinds = tell_kinds(inputs)
    form = next(form for kind, form in _FORMS.items() if kind in kinds)
    progress = Progress(inputs, on_progress)
    with TapeWriter(out, venue="hyperliquid", importer=f"hyperliquid ({form.title})", force=force) as writer:
        with Rejects(rejects, inputs=inputs, out=out, force=force) as aside:
            if form is ALPHA:
                outcome = read_alpha(inputs, writer, aside, progress)
            else:
                outcome = read_blocks(kinds, writer, aside, progress)
        aside.check(outcome.rows)
        if outcome.counts["fills"] == 0:
            raise _no_fills(inputs, form)
        progress.writing()
        manifest = writer.finish(
            sources=outcome.sources,
            lacks=[sentence for sentence in form.lacks if not kinds.keys() & set(_BESIDE.get(sentence, ()))],
            assumptions=[*form.assumes, *(text for kind, text in _ASSUMED.items() if kind in kinds)],
            counts={**outcome.counts, "rows set aside": aside.count},
            accounts_start="known" if {VALUES, EVENTS} <= kinds.keys() else form.accounts_start,
        )
    progress.finished()
    return manifest


def _no_fills(inputs: Sequence[Path], form: Form) -> SourceError:
    """Return the error for files without a fill, which names the file that should hold them."""
    from replay.sources.hyperliquid_alpha_rows import TRADES, identify

    file = identify(inputs)[TRADES] if form is ALPHA else inputs[0]
    others = (
        f", and neither does any of the {len(inputs)} files" if form is not ALPHA and len(inputs) > 1 else ""
    )
    return SourceError(f"holds no fills{others}", file=file, mend="a tape needs at least one")


CONTEXTS, EVENTS, BOOKS = "asset_ctxs", "misc_events_by_block", "l2Book"
POSITIONS, VALUES = "perp_positions", "account_values"

_BESIDE = {
    "marks, index and oracle prices except at liquidations": (CONTEXTS,),
    "marks, index and oracle prices": (CONTEXTS,),
    "funding payments, deposits, withdrawals and transfers": (EVENTS,),
    "depth of the order book": (BOOKS,),
    "cash and equity of accounts": (POSITIONS,),
    "entry prices of positions that were open before the recording": (POSITIONS,),
}
"""What fills lack and other kinds of files have."""

_ASSUMED = {
    CONTEXTS: "marks and oracles are those of the minute, and between them the marks printed with liquidations",
    BOOKS: "of a book the last state of each second is kept; beyond twenty levels a side nothing is known",
    EVENTS: "moves of USDC between perpetual accounts count; spot tokens, staking and lending do not",
    POSITIONS: "the snapshot is the state after its block, and what happened up to it is left out; cash is the account "
    "value less the unrealised profit at the snapshot's marks, which are notional over size of each market's largest "
    "position; isolated positions are backed by the cash of their account, since their own margin is not told",
}


def tell_kinds(inputs: Sequence[Path]) -> dict[str, list[Path]]:
    """Tell from their first lines what kind each file is of: a form of fills and what stands beside it, or ``alpha``.

    Raises:
        SourceError: A kind that is not read, two forms of fills, or none.
    """
    kinds: dict[str, list[Path]] = {}
    for file in inputs:
        kinds.setdefault(_kind_of_file(file), []).append(file)
    forms = [kind for kind in _FORMS if kind in kinds]
    clash = forms[:2]
    if "alpha" in kinds and len(kinds) > 1:
        clash = ["alpha", next(kind for kind in kinds if kind != "alpha")]
    if len(clash) == 2:
        one, other = clash
        raise SourceError(
            f"is of the form {_title(one)!r}, but {kinds[other][0].name} is of the form {_title(other)!r}",
            file=kinds[one][0],
            mend="import them as two tapes",
        )
    if not forms:
        raise SourceError(
            f"holds `{next(iter(kinds))}`, and no file holds fills",
            file=inputs[0],
            mend="pass `node_fills_by_block` too: the others stand beside fills",
        )
    if VALUES in kinds and POSITIONS not in kinds:
        raise SourceError(
            "holds account values, and no file holds the positions of that snapshot",
            file=kinds[VALUES][0],
            mend="pass both files of the snapshot: cash is the value less what positions have gained",
        )
    return kinds


def _title(kind: str) -> str:
    return _FORMS[kind].title if kind in _FORMS else kind


_BLOCKS_LOOKED_AT = 10_000
_HEAD = 4096


def _kind_of_file(file: Path) -> str:
    from replay.sources._read import first_bytes, is_parquet

    if is_parquet(file):
        from replay.sources.hyperliquid_snapshot_rows import parquet_columns

        return _kind_of_snapshot(set(parquet_columns(file)), file)
    head = first_bytes(file, _HEAD).lstrip()
    if head.startswith(b"[") and head[1:].lstrip()[:1] == b"{":
        names = {name for name in _TELLING if f'"{name}"'.encode() in head}
        return _kind_of_snapshot(names, file)
    return _kind_of(_telling_line(file), file)


_TELLING = ("market_name", "size", "account_value", "entry_price", "total_long_notional")


def _kind_of_snapshot(names: set[str], file: Path) -> str:
    if {"market_name", "size"} & names and {"market_name", "entry_price"} & names:
        return POSITIONS
    if {"account_value", "total_long_notional"} <= names:
        return VALUES
    raise SourceError(
        "is a snapshot of neither perpetual positions nor account values",
        file=file,
        mend="of a snapshot `perp_positions_by_market` (or `perp`) and `account_value` files are read",
    )


def _telling_line(file: Path) -> bytes:
    """Return the first line, or of a file of blocks the first that is not empty."""
    from itertools import islice

    from replay.sources._read import Lines, first_line

    with Lines(file) as lines:
        for place, (_number, line) in enumerate(islice(lines, _BLOCKS_LOOKED_AT)):
            is_block = place > 0 or line.lstrip().startswith(b"{")
            if not is_block or any(word in line for word in (b'"inner":', b'"px":', b'"side_info":')):
                return line
    return first_line(file)


def _kind_of(line: bytes, file: Path) -> str:
    start = line.lstrip()
    if start.startswith(b"["):
        return "node_fills"
    if start.startswith(b"time,coin,funding,"):
        return CONTEXTS
    if not start.startswith(b"{"):
        return "alpha"
    if b'"side_info":' in start:
        return "node_trades"
    if b'"levels":' in start:
        return BOOKS
    return EVENTS if b'"inner":' in start else "fills"


SOURCE = Source(
    name="hyperliquid",
    summary="Hyperliquid: node fills by block, a line or as node trades (JSON lines), with asset_ctxs, "
    "misc_events_by_block, l2Book and a snapshot of positions and account values (JSON, Parquet) beside them, or the "
    "three CSV files of its closed alpha",
    has=tuple(f"{form.title}: {'; '.join(form.has)}" for form in _FORMS.values()),
    lacks=tuple(f"{form.title}: {'; '.join(form.lacks)}" for form in _FORMS.values()),
    assumes=tuple(f"{form.title}: {'; '.join(form.assumes)}" for form in _FORMS.values()),
    load=load,
)
