"""``replay import dydx-v4``: kept answers of dYdX v4's indexer (REST and websocket), a genesis file for the steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from replay.progress import OnProgress
from replay.sources import Source

HAS = (
    "Trades with taker side; those of liquidations and of deleveragings are told apart, the latter at the bankruptcy "
    "price.",
    "With fills of subaccounts: both rows of a match where both accounts were asked for, role, fee, who was forced.",
    "With states of subaccounts: opening cash, positions and entries; with transfers: deposits, withdrawals, moves.",
    "Hourly funding with its oracle price, oracle prices of the markets channel, closes of candles as last prices.",
    "Steps of price and size, from an answer of /perpetualMarkets or from a genesis file.",
)
LACKS = (
    "Fills of subaccounts that were not asked for: the indexer has no list of accounts.",
    "Depth: the messages of its order book have no moment.",
    "Order of fills within a block, beyond that of the answer; which row is the other one of a match (see below).",
    "Leverage and margin mode: a subaccount is cross.",
)
ASSUMES = (
    "An answer that does not name its market or subaccount has it in the name of its file or folder, such as "
    "BTC-USD_trades.json or dydx1.../0/fills.json.",
    "Answers are newest first, messages oldest first. Pages may overlap: a row is known by its id.",
    "Two fills of one block, market, price and size, one taker and one maker, of opposite sides, are one match.",
    "The mark is the oracle price; that of a funding row stands a nanosecond before it, so that it is paid at it.",
    "A state of a subaccount is that after its block: its fills and transfers up to it are left out. Of several states "
    "the first is the opening.",
    "An account pays `builderFee` beside `fee`.",
    "Prices of deleveragings are bankruptcy prices, which those of a final settlement (at the oracle price) are not.",
)


def _load(
    inputs: Sequence[Path],
    out: Path,
    *,
    force: bool,
    rejects: Path | None,
    on_progress: OnProgress | None,
) -> dict[str, Any]:
    from replay.errors import SourceError
    from replay.sources._read import Lines, Progress, name_inputs
    from replay.sources._rejects import Rejects
    from replay.sources.dydx_read import Found, read_file
    from replay.sources.dydx_tape import DydxTape
    from replay.tape.write import TapeWriter

    progress, names = Progress(inputs, on_progress), name_inputs(inputs)
    found, sources = Found(), []
    with TapeWriter(out, venue="dydx-v4", importer="dydx-v4", force=force) as writer:
        with Rejects(rejects, inputs=inputs, out=out, force=force) as aside:
            for file in inputs:
                with Lines(file, names[file]) as lines:
                    read_file(lines, found, aside)
                    progress.read(lines)
                    sources.append(lines.provenance())
        aside.check(found.counts["rows read"])
        rows = found.rows
        if not any(rows[table] for table in rows if table != "markets"):
            raise SourceError("holds no row of a tape", file=inputs[0], mend="a tape needs at least one")
        progress.writing()
        tape = DydxTape(writer, rows["markets"])
        opened = tape.add_opening(rows["subaccounts"])
        tape.add_transfers(rows["transfers"], opened)
        tape.add_fills(rows["fills"], opened)
        tape.add_trades(rows["trades"])
        tape.add_liquidations()
        tape.add_prices(rows["historicalFunding"], [*rows["candles"], *rows["oraclePrices"]])
        manifest = writer.finish(
            sources=sources,
            lacks=LACKS,
            assumptions=ASSUMES,
            counts={**found.counts, **tape.counts, "rows set aside": aside.count},
            accounts_start="unknown",
        )
    progress.finished()
    return manifest


SOURCE = Source(
    name="dydx-v4",
    summary="dYdX v4: kept answers of its indexer (trades, fills, transfers, subaccounts, historicalFunding, candles, "
    "perpetualMarkets; JSON, REST or websocket)",
    has=HAS,
    lacks=LACKS,
    assumes=ASSUMES,
    load=_load,
)
