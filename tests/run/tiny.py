"""A run written by hand: three markets, three ledgers, five recorded liquidations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from replay.run.journal import Journal
from replay.run.schema import DIMENSIONS
from replay.run.store import Run, new_run_folder, open_run, write_dimensions, write_run_manifest

LONG = "0x1111111111111111111111111111111111111111"
SHORT = "0x2222222222222222222222222222222222222222"
ACCOUNTS = [LONG, SHORT, "@unseen", "@vault:hlp"]
MARKETS = [
    # id, name, dex, payoff, ledger, multiplier, price, mark and quantity scales, tick, lot
    (0, "ETH", "", 0, 0, 1, 1, 1, 2, 4, 1, 1),
    (1, "BTCUSD", "", 1, 1, 100, 1, 1, 1, 0, 5, 1),
    (2, "xyz:GOLD", "xyz", 0, 2, 1, 10, 2, 3, 2, 1, 1),
]
LEDGERS = [(0, "", "USDC"), (1, "", "BTC"), (2, "xyz", "USDC")]
SECOND = 1_000_000_000
START = 1_677_618_623 * SECOND  # 2023-02-28T21:10:23Z
ATOM = 10**8


def rows(table: str, content: list[tuple[Any, ...]]) -> pa.Table:
    schema = DIMENSIONS[table].arrow()
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in content], schema=schema)


def leg(liquidation: int, account: int, ledger: int, verdict: str, **columns: Any) -> dict[str, Any]:
    """One row of the audit; money, marks, prices and quantities as integers."""
    return {
        "ts": START,
        "liquidation": liquidation,
        "account": account,
        "ledger": ledger,
        "market": None,
        "legs": 1,
        "leverage_type": "Cross",
        "grade": 0,
        "verdict": verdict,
        **columns,
    }


def ruled(number: int, account: int, market: int, ledger: int, **columns: Any) -> dict[str, Any]:
    """One row of `liquidations`: 5 lots taken over whole."""
    zero = (
        "netted",
        "book",
        "adl",
        "left",
        "surplus",
        "shortfall",
        "fund",
        "vault",
        "socialised",
        "bad_debt",
    )
    return {
        **dict.fromkeys(zero, 0),
        "liquidation": number,
        "ts": START,
        "ts_end": START,
        "account": account,
        "ledger": ledger,
        "market": market,
        "mode": 0,
        "size": -5,
        "asked": 5,
        "absorbed": 5,
        "mark": 1,
        "equity": 1,
        "maintenance": 2,
        "recorded": 0,
        **columns,
    }


AUDIT = [
    # ETH, 0.5 long at an implied mark of 1600.00: B = 1600 - 4 / 0.5 = 1592; replayed 1600 - 3.5 / 0.5 = 1593
    leg(
        7,
        0,
        0,
        "agrees",
        market=0,
        recorded_notional=800 * ATOM,
        recorded_equity=4 * ATOM,
        recorded_mark=160000,
        fill_qty=-5000,
        fill_price=15921,
        replayed_size=5000,
        mark=159900,
        replayed_equity=3 * ATOM,
        replayed_equity_recorded_mark=350_000_000,
        replayed_maintenance=8 * ATOM,
        replayed_notional=799 * ATOM,
        size_after=0,
        cost_after=0,
        turnover=10_000 * ATOM,
    ),
    # BTCUSD, 3 contracts of 100 USD short at 20000: V = 0.015, less 0.0002 of equity is 0.0148 = 300 / B
    leg(
        8,
        1,
        1,
        "healthy",
        ts=START + SECOND // 2,
        market=1,
        recorded_notional=1_500_000,
        recorded_equity=20_000,
        recorded_mark=200000,
        fill_qty=3,
        fill_price=202703,
        replayed_size=-3,
        replayed_equity=20_001,
        cause="equity differs",
        turnover=3_000_000,
        leverage_type="Isolated",
    ),
    # two legs: ETH and BTCUSD's neighbour xyz:GOLD are of one account; the pool's equity counts
    leg(
        9,
        1,
        0,
        "healthy",
        ts=START + SECOND,
        market=0,
        legs=2,
        recorded_equity=500_000_001,
        replayed_size=20000,
        replayed_equity=100_000_000,
        fill_qty=-20000,
        size_after=-5000,
        cost_after=-7 * ATOM,
        cause="equity differs",
        anchored=400_000_001,
    ),
    leg(
        9,
        1,
        0,
        "healthy",
        ts=START + SECOND,
        market=2,
        legs=2,
        recorded_equity=500_000_001,
        replayed_size=100,
        replayed_equity=100_000_000,
        fill_qty=-100,
        size_after=25,
        cost_after=2 * ATOM,
        cause="equity differs",
    ),
    # no forced fill on the tape, the same liquidation printed twice
    leg(10, 0, 0, "unmatched", ts=START + SECOND, recorded_equity=5 * ATOM, cause="no forced fill"),
    leg(11, 0, 0, "unmatched", ts=START + SECOND, recorded_equity=5 * ATOM, cause="no forced fill"),
]

TABLES: dict[str, list[dict[str, Any]]] = {
    "audit": AUDIT,
    "engagements": [
        {
            "ts": START,
            "scope": "@vault:hlp",
            "market": 0,
            "ledger": 0,
            "stage": "takeover",
            "state": "engaged",
            "reason": "equity below maintenance",
            "measured": 3 * ATOM,
            "threshold": 8 * ATOM,
            "quantity": 5000,
            "shadow": 1,
        },
        {
            "ts": START + 1,
            "scope": "@vault:hlp",
            "ledger": 2,
            "stage": "adl",
            "state": "start",
            "reason": "nothing left",
            "measured": 0,
            "threshold": 0,
            "shadow": 0,
        },
    ],
    "breaks": [{"ts": START, "account": 0, "market": 0, "expected": 5000, "found": -2500}],
    "accounts_end": [
        {
            "account": 0,
            "ledger": 0,
            "cash": 12 * ATOM,
            "equity": 12 * ATOM,
            "maintenance": 0,
            "grade": 0,
            "special": 0,
        },
        {"account": 1, "ledger": 1, "market": 1, "cash": -1, "grade": 3, "special": 0},
        {"account": 2, "ledger": 0, "cash": -12 * ATOM, "grade": 0, "special": 1},
    ],
    "positions_end": [
        {
            "account": 0,
            "market": 0,
            "mode": 0,
            "size": 15000,
            "recorded_size": 15000,
            "cost": 2_250 * ATOM,
            "mark": 160000,
            "value": 2_400 * ATOM,
            "entry_unknown": 0,
        },
        {
            "account": 1,
            "market": 1,
            "mode": 1,
            "size": -3,
            "recorded_size": -3,
            "cost": 1_200_000,
            "mark": 200000,
            "value": 1_500_000,
            "entry_unknown": 1,
        },
        {
            "account": 1,
            "market": 0,
            "mode": 0,
            "size": -20000,
            "recorded_size": 0,
            "cost": -3_000 * ATOM,
            "mark": 160000,
            "value": -3_200 * ATOM,
            "entry_unknown": 0,
        },
        {
            "account": 2,
            "market": 0,
            "mode": 0,
            "size": 5000,
            "recorded_size": 0,
            "cost": 750 * ATOM,
            "mark": 160000,
            "value": 800 * ATOM,
            "entry_unknown": 0,
        },
    ],
}

MANIFEST: dict[str, Any] = {
    "rules": {"name": "hyperliquid@2023-02", "sha256": "ab" * 32, "resolved": {"name": "hyperliquid"}},
    "tape": {"name": "tape", "sha256": "cd" * 32, "venue": "hyperliquid"},
    "span": (START, START + SECOND),
    "switches": {"liquidations": "recorded", "execution": "recorded", "anchor_equity": None, "until": None},
    "assumptions": ["A market without marks is valued at its last trade."],
    "coverage": {
        "known": {"pools": 2, "notional": {"USDC": 5_600 * ATOM}},
        "unknown": {"pools": 1, "notional": {"BTC": 1_500_000}},
    },
    "counts": {"steps": 12, "rows": {"transfers": 3, "fills": 20_000}},
    "conservation": {
        "markets": 3,
        "open_markets": [],
        "ledgers": [
            {"dex": "", "currency": "USDC", "cash_less_cost": 100 * ATOM, "external_flow": 100 * ATOM},
            {"dex": "", "currency": "BTC", "cash_less_cost": 5, "external_flow": 5},
        ],
    },
    "timings": {"total": 1.25},
    "memory": {"peak_bytes": 200 * 2**20},
}


def make_run(
    path: Path,
    *,
    tables: Mapping[str, list[dict[str, Any]]] = TABLES,
    markets: list[tuple[Any, ...]] = MARKETS,
    **manifest: Any,
) -> Run:
    """Write the run (or one with other tables, markets, or keys in its manifest) and open it."""
    with new_run_folder(path, force=False) as folder:
        with Journal(folder) as journal:
            for name, content in tables.items():
                for row in content:
                    journal.append(name, {column: [value] for column, value in row.items()})
            entries = journal.close()
        entries |= write_dimensions(
            folder, markets=rows("markets", markets), ledgers=rows("ledgers", LEDGERS), account_names=ACCOUNTS
        )
        write_run_manifest(folder, tables=entries, **{**MANIFEST, **manifest})
    return open_run(path)
