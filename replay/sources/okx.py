"""``replay import okx``: day files of trades of OKX's public archive, zipped CSV, one an instrument."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replay.progress import OnProgress
from replay.sources import Source

if TYPE_CHECKING:
    from replay.sources.feeds import Contract

LACKS = (
    "Who traded: `replay populate` makes accounts for such a day.",
    "Which trades were forced, marks, index and depth.",
    "Sizes of contracts: they are not in the files, so that quantities of swaps are contracts of one coin.",
)
ASSUMES = (
    "A day of the archive is a day of UTC+8: the file of the 10th holds the 9th from 16:00 to the 10th 16:00 UTC.",
    "A linear swap is one coin a contract. That is wrong where the contract value is not 1; multiply, or import by "
    "`columns` with the contract value.",
    "An inverse swap (against USD) is 100 USD a contract of BTC, 10 USD of any other coin.",
)
_SWAP = re.compile(r"(?P<base>[A-Z0-9]+)-(?P<quote>USDT|USDC|USD)(-SWAP)?$")


def describe(symbol: str, file: Path) -> Contract:
    """Return what an instrument is; see :data:`ASSUMES`."""
    from replay.sources import symbols

    match = _SWAP.fullmatch(symbol)
    if match is None:
        raise symbols.unknown(symbol, file, "is no pair or swap against USDT, USDC or USD")
    pair = match["base"] + match["quote"]
    if not symbol.endswith("-SWAP"):
        return symbols.spot(pair)
    return symbols.binance_coin_margined(pair) if match["quote"] == "USD" else symbols.linear(pair)


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
        columns=("instrument_name", "trade_id", "side", "price", "size", "created_time"),
        time="created_time",
        unit="ms",
        symbol="instrument_name",
        qty="size",
        side="side",
        sides={"buy": 1, "sell": -1},
        trade_id="trade_id",
    )
    family = Family("okx", "okx", (trades,), describe, LACKS, ASSUMES)
    return load_feeds(family, inputs, out, force=force, rejects=rejects, on_progress=on_progress)


SOURCE = Source(
    name="okx",
    summary="OKX's public archive: day files of trades",
    has=("Trades with taker side and number.",),
    lacks=LACKS,
    assumes=ASSUMES,
    load=_load,
)
