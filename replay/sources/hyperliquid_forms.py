"""What tapes of each form of Hyperliquid's files know, lack and assume."""

from __future__ import annotations

from typing import NamedTuple


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
        "with a snapshot of positions and account values beside them: opening positions, entries and cash",
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
PAIRS = FILLS._replace(
    title="node fills, one a line",
    has=("both accounts of every match, with role, fee and position before the fill", *FILLS.has[1:4]),
    lacks=("blocks", *FILLS.lacks),
    assumes=(
        "a fill happened at its own time, the time of its block cut to the millisecond",
        "rows of one millisecond with one `tid` are the two of one match",
        *FILLS.assumes[1:],
    ),
)
TRADES = FILLS._replace(
    title="node trades",
    has=(
        "both accounts of every match, with role and position before it",
        "perpetuals of the main venue and of builder dexes, and spot fills set apart",
    ),
    lacks=(
        "blocks",
        "fees",
        "which trades were liquidations, takeovers or auto-deleveraging",
        *(text.replace(" except at liquidations", "") for text in FILLS.lacks),
    ),
    assumes=(
        "`side` is the side of the taker",
        FILLS.assumes[2],
        "every market settles in USDC",
        "every position is cross",
        FILLS.assumes[6],
    ),
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
