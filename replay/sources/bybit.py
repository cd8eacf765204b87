"""``replay import bybit``: day files of trades of Bybit's public archive, gzipped CSV, one a symbol."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replay.progress import OnProgress
from replay.sources import Source

if TYPE_CHECKING:
    from replay.sources.feeds import Contract

LACKS = (
    "Who traded: `replay populate` makes accounts for such a day.",
    "Which trades were forced, marks, index, funding and depth.",
)
ASSUMES = (
    "A symbol against USDT or USDC (or ending in PERP, against USDC) is linear in its coin; one against USD is "
    "inverse, one dollar a contract.",
)


def describe(symbol: str, file: Path) -> Contract:
    """Return what a symbol is; see :data:`ASSUMES`."""
    from replay.sources import symbols

    try:
        if symbol.endswith("PERP"):
            return symbols.linear(f"{symbol.removesuffix('PERP')}USDC")
        if symbol.endswith("USD"):
            return symbols.coin_margined(symbol, contract_usd=Fraction(1))
        return symbols.linear(symbol)
    except ValueError as failure:
        raise symbols.unknown(symbol, file, f"is not understood: {failure}") from failure


def _load(
    inputs: Sequence[Path],
    out: Path,
    *,
    force: bool,
    rejects: Path | None,
    on_progress: OnProgress | None,
) -> dict[str, Any]:
    from replay.sources.feeds import Family, Feed
    from replay.sources.market_data import load_feeds

    trades = Feed(
        name="trades",
        table="trades",
        columns=(
            "timestamp", "symbol", "side", "size", "price", "tickDirection", "trdMatchID", "grossValue",
            "homeNotional", "foreignNotional",
        ),
        time="timestamp",
        unit="s",
        symbol="symbol",
        qty="size",
        side="side",
        sides={"buy": 1, "sell": -1},
    )  # fmt: skip
    family = Family("bybit", "bybit", (trades,), describe, LACKS, ASSUMES)
    return load_feeds(family, inputs, out, force=force, rejects=rejects, on_progress=on_progress)


SOURCE = Source(
    name="bybit",
    summary="Bybit's public archive: day files of trades",
    has=("Trades with taker side.",),
    lacks=LACKS,
    assumes=ASSUMES,
    load=_load,
)
