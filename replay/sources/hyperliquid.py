"""Hyperliquid: raw node fills of any day, and the venue's own closed-alpha files of 2023.

This module tells the two forms apart by their content and frames the import; ``hyperliquid_fills`` and
``hyperliquid_alpha`` read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from replay.errors import SourceError
from replay.progress import OnProgress
from replay.sources import Source


class Form(NamedTuple):
    """What a tape of one form of files knows, lacks and assumes, and what its accounts start from."""

    title: str
    has: tuple[str, ...]
    lacks: tuple[str, ...]
    assumes: tuple[str, ...]
    accounts_start: str


FILLS = Form(
    title="node fills",
    has=(
        "both accounts of every match, with role, fee, block and position before the fill",
        "forced fills by kind (in the book, taken over, auto-deleveraged, settled) and whose position it was",
        "the mark at which each liquidation was made",
        "perpetuals of the main venue and of builder dexes, and spot fills set apart",
        "with asset_ctxs beside them: mark and oracle by the minute",
        "with l2Book beside them: twenty levels a side of the book, each second",
        "with misc_events_by_block beside them: funding payments, deposits, withdrawals and moves by account",
    ),
    lacks=(
        "cash and equity of accounts",
        "funding payments, deposits, withdrawals and transfers",
        "margin mode and leverage of positions",
        "marks, index and oracle prices except at liquidations",
        "balances of spot tokens, and sizes of spot fills beyond six decimals",
        "depth of the order book",
        "entry prices of positions that were open before the recording",
        "price tick and size step of markets",
    ),
    assumes=(
        "a fill happened at the time of its block",
        "`fee` is all an account paid: builder and deployer fees are parts of it",
        "positions before a fill are printed through binary floating point, and beyond 15 significant digits "
        "they are noise",
        "a builder dex settles a market in the fee token of the market's first row, USDC if it has none",
        "a liquidation with an empty method was a takeover if a row of the match reads `Liquidated ...`, "
        "else an order in the book",
        "every position is cross: the margin mode is told only of positions that are taken over, as they are",
        "spot balances are quoted in USDC",
    ),
    accounts_start="unknown",
)
ALPHA = Form(
    title="closed alpha 2023",
    has=(
        "fills of every account that was not a market maker, from its first",
        "deposits and withdrawals",
        "recorded notional and equity of every liquidated account, and the mark they imply",
    ),
    lacks=(
        "the other side of fills, which mostly was a market maker",
        "fees and funding payments",
        "what is left of the margin after a liquidation and who received it",
        "which positions were isolated before they were liquidated",
        "moments finer than a second",
        "marks except those implied by liquidations",
        "depth of the order book",
        "price tick and size step of markets",
    ),
    assumes=(
        "accounts start from zero; one that traded before any deposit is of unknown equity",
        "resting fills that take a position to zero in the second of its account's liquidation are the "
        "takeover at bankruptcy price",
        "recorded notional divided by the size taken over is the mark, where the account held nothing else",
        "every position is cross, also those liquidated as isolated",
        "rows of one second happened in the order of the file",
    ),
    accounts_start="known",
)


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
    form = ALPHA if "alpha" in kinds else FILLS
    progress = Progress(inputs, on_progress)
    with TapeWriter(out, venue="hyperliquid", importer=f"hyperliquid ({form.title})", force=force) as writer:
        with Rejects(rejects, inputs=inputs, out=out, force=force) as aside:
            if form is ALPHA:
                outcome = read_alpha(inputs, writer, aside, progress)
            else:
                beside = [kinds.get(kind, []) for kind in (CONTEXTS, EVENTS, BOOKS)]
                outcome = read_blocks(kinds["fills"], writer, aside, progress, *beside)
        aside.check(outcome.rows)
        if outcome.counts["fills"] == 0:
            raise _no_fills(inputs, form)
        progress.writing()
        manifest = writer.finish(
            sources=outcome.sources,
            lacks=[sentence for sentence in form.lacks if _BESIDE.get(sentence) not in kinds],
            assumptions=[*form.assumes, *(text for kind, text in _ASSUMED.items() if kind in kinds)],
            counts={**outcome.counts, "rows set aside": aside.count},
            accounts_start=form.accounts_start,
        )
    progress.finished()
    return manifest


def _no_fills(inputs: Sequence[Path], form: Form) -> SourceError:
    """Return the error for files without a fill, which names the file that should hold them."""
    from replay.sources.hyperliquid_alpha_rows import TRADES, identify

    file = identify(inputs)[TRADES] if form is ALPHA else inputs[0]
    others = f", and neither does any of the {len(inputs)} files" if form is FILLS and len(inputs) > 1 else ""
    return SourceError(f"holds no fills{others}", file=file, mend="a tape needs at least one")


CONTEXTS, EVENTS, BOOKS = "asset_ctxs", "misc_events_by_block", "l2Book"

_BESIDE = {
    "marks, index and oracle prices except at liquidations": CONTEXTS,
    "funding payments, deposits, withdrawals and transfers": EVENTS,
    "depth of the order book": BOOKS,
}
"""What fills lack and another kind of file has."""

_ASSUMED = {
    CONTEXTS: "marks and oracles are those of the minute, and between them the marks printed with liquidations",
    BOOKS: "of a book the last state of each second is kept; beyond twenty levels a side nothing is known",
    EVENTS: "moves of USDC between perpetual accounts count; spot tokens, staking and lending do not",
}


def tell_kinds(inputs: Sequence[Path]) -> dict[str, list[Path]]:
    """Tell from their first lines what kind each file is of: ``fills`` and what stands beside them, or ``alpha``.

    Raises:
        SourceError: A kind that is not read yet, files of 2023 beside others, or no fills.
    """
    kinds: dict[str, list[Path]] = {}
    for file in inputs:
        kinds.setdefault(_kind_of(_telling_line(file), file), []).append(file)
    if "alpha" in kinds and len(kinds) > 1:
        other = next(kind for kind in kinds if kind != "alpha")
        raise SourceError(
            f"is of the form {ALPHA.title!r}, but {kinds[other][0].name} is of the form "
            f"{FILLS.title if other == 'fills' else other!r}",
            file=kinds["alpha"][0],
            mend="import them as two tapes",
        )
    if "alpha" not in kinds and "fills" not in kinds:
        raise SourceError(
            f"holds `{next(iter(kinds))}`, and no file holds fills",
            file=inputs[0],
            mend="pass `node_fills_by_block` too: the others stand beside fills",
        )
    return kinds


_BLOCKS_LOOKED_AT = 10_000


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
        raise SourceError(
            "holds a [user, fill] pair a line (`node_fills`), which is not read yet",
            file=file,
            row=1,
            mend="`node_fills_by_block`, from 2025-07-27 on, is read",
        )
    if start.startswith(b"time,coin,funding,"):
        return CONTEXTS
    if not start.startswith(b"{"):
        return "alpha"
    if b'"side_info":' in start:
        raise SourceError(
            "holds `node_trades`, which is not read yet", file=file, row=1, mend="pass only fills"
        )
    if b'"levels":' in start:
        return BOOKS
    return EVENTS if b'"inner":' in start else "fills"


SOURCE = Source(
    name="hyperliquid",
    summary="Hyperliquid: node fills by block (JSON lines), with asset_ctxs, misc_events_by_block and l2Book beside "
    "them, or the three CSV files of its closed alpha",
    has=tuple(f"{form.title}: {'; '.join(form.has)}" for form in (FILLS, ALPHA)),
    lacks=tuple(f"{form.title}: {'; '.join(form.lacks)}" for form in (FILLS, ALPHA)),
    assumes=tuple(f"{form.title}: {'; '.join(form.assumes)}" for form in (FILLS, ALPHA)),
    load=load,
)
