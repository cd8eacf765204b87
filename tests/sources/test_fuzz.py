"""Damaged files of every importer but tardis: a tape or one error, never anything else.

``REPLAY_FUZZ=10000 pytest tests/sources/test_fuzz.py`` tries 10,000 of each kind.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from replay.errors import ReplayError
from replay.sources import import_source
from tests.sources import test_deribit as deribit
from tests.sources import test_drift_v1 as drift_v1
from tests.sources import test_drift_v2 as drift_v2
from tests.sources import test_dydx as dydx
from tests.sources.node_fills import ANN, BEN, block, match
from tests.sources.test_book_lines import BYBIT, bybit, instruments, okx
from tests.sources.test_column_maps import FILES as MAPPED
from tests.sources.test_column_maps import MAP
from tests.sources.test_hyperliquid_beside import COLUMNS, book, context, event, update
from tests.sources.test_hyperliquid_older import pairs, trade
from tests.sources.test_hyperliquid_snapshot import NAME as SNAPSHOT
from tests.sources.test_hyperliquid_snapshot import OPEN, VALUES
from tests.sources.test_tardis_fuzz import damaged

TRIES = int(os.environ.get("REPLAY_FUZZ", "25"))
START = 1_760_054_400_000
SCENARIO = Path(__file__).parents[2] / "datasets" / "demo-thin-book" / "scenario.toml"


def _lines(head: str, row: Callable[[int], str], rows: int = 20) -> str:
    return head + "\n" + "".join(f"{row(n)}\n" for n in range(1, rows + 1))


def _candle(n: int) -> str:
    return f"{START + 60_000 * n},20.01,20.05,20.00,20.0{n % 9},0,{START + 60_000 * n + 59_999},0,60,0,0,0"


def _values(cells: dict[str, str]) -> str:
    return ",0\n" + "".join(f'{key},"{value}"\n' for key, value in cells.items())


TRADES = _lines(
    "id,price,qty,quote_qty,time,is_buyer_maker",
    lambda n: f"{n},{100 + n / 10},{n},1,{START + n},{'true' if n % 2 else 'false'}",
)
KLINE = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore"
)
FILLS = "".join(f"{block(n, match(tid=n))}\n" for n in range(1, 15))


def _parquet() -> bytes:
    rows = range(1, 15)
    table = pa.table(
        {
            "at": pa.array([(START + n) * 1000 for n in rows], pa.timestamp("us", "UTC")),
            "symbol": ["BTCUSD" for _ in rows],
            "side": ["buy" if n % 2 else "sell" for n in rows],
            "price": [100 + n / 10 for n in rows],
            "amount": [f"0.{n}" for n in rows],
        }
    )
    content = io.BytesIO()
    pq.write_table(table, content)
    return content.getvalue()


# kind: source, name of the damaged file, its content, other files (name, text), options before the files
KINDS: dict[str, tuple[str, str, str | bytes, list[tuple[str, str]], list[str]]] = {
    "binance trades": ("binance", "BTCUSDT-trades-2025-10-10.csv", TRADES, [], []),
    "binance aggTrades": (
        "binance",
        "BTCUSDT-aggTrades-2025-10-10.csv",
        _lines(
            "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker",
            lambda n: f"{n},{100 + n / 10},{n},{n},{n},{START + n},{'true' if n % 2 else 'false'}",
        ),
        [],
        [],
    ),
    "binance klines": (
        "binance",
        "markPriceKlines/BTCUSDT-1m-2025-10-10.csv",
        _lines(KLINE, _candle),
        [("BTCUSDT-trades-2025-10-10.csv", TRADES)],
        [],
    ),
    "binance funding": (
        "binance",
        "BTCUSDT-fundingRate-2025-10.csv",
        _lines(
            "calc_time,funding_interval_hours,last_funding_rate",
            lambda n: f"{START + n * 28_800_000},8,0.000{n}",
        ),
        [("BTCUSDT-trades-2025-10-10.csv", TRADES)],
        [],
    ),
    "binance bookDepth": (
        "binance",
        "BTCUSDT-bookDepth-2025-10-10.csv",
        _lines(
            "timestamp,percentage,depth,notional",
            lambda n: f"2025-10-10 00:00:{n:02},{(n % 5 + 1) * (1 if n % 2 else -1)},{n * 10},{n * 990}",
        ),
        [],
        [],
    ),
    "binance bookTicker": (
        "binance",
        "BTCUSDT-bookTicker-2024-03-01.csv",
        _lines(
            "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time",
            lambda n: f"{n},{99 + n / 10},{n},{100 + n / 10},{n},{START + n * 400},{START + n * 400}",
        ),
        [],
        [],
    ),
    "binance metrics": (
        "binance",
        "BTCUSDT-metrics-2025-10-10.csv",
        _lines(
            "create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio,"
            "sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio",
            lambda n: f"2025-10-10 00:{n * 2:02}:00,BTCUSDT,8473{n}.1500000000,85000{n},1.1,1.2,1.3,0.9",
        ),
        [("BTCUSDT-trades-2025-10-10.csv", TRADES)],
        [],
    ),
    "binance liquidationSnapshot": (
        "binance",
        "BTCUSD_PERP-liquidationSnapshot-2024-01-02.csv",
        _lines(
            "time,side,order_type,time_in_force,original_quantity,price,average_price,order_status,"
            "last_fill_quantity,accumulated_fill_quantity",
            lambda n: (
                f"{START + n},{'SELL' if n % 2 else 'BUY'},LIMIT,IOC,{n},41000.1,41250.5,FILLED,{n},{n}"
            ),
        ),
        [],
        [],
    ),
    "bybit trades": (
        "bybit",
        "BTCUSDT2025-10-10.csv",
        _lines(
            "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional",
            lambda n: (
                f"{1_760_054_400 + n}.25,BTCUSDT,{'Buy' if n % 2 else 'Sell'},0.{n},121000.{n},PlusTick,a{n},1,1,1"
            ),
        ),
        [],
        [],
    ),
    "bybit order book": (
        "bybit",
        "2025-10-10_BTCUSDT_ob500.data",
        "".join(
            f"{line}\n"
            for line in [
                *BYBIT,
                *(
                    bybit(2_000 + 400 * n, "delta", [(f"9{n % 9}.5", f"{n}")], [], 1 + n)
                    for n in range(1, 12)
                ),
            ]
        ),
        [],
        [],
    ),
    "okx order book": (
        "okx",
        "BTC-USDT-SWAP-L2orderbook-400lv-2025-10-10.data",
        "".join(
            okx(
                400 * n, "update" if n % 5 else "snapshot", [(f"9{n % 9}.5", f"{n}")], [(f"10{n % 9}", "0.5")]
            )
            + "\n"
            for n in range(15)
        ),
        [],
        [],
    ),
    "okx funding": (
        "okx",
        "allswap-fundingrates-2025-10-10.csv",
        _lines(
            "instrument_name,funding_rate,funding_time",
            lambda n: f"BTC-USDT-SWAP,0.0000{n},{START + n * 3_600_000}",
        ),
        [
            (
                "BTC-USDT-SWAP-trades-2025-10-10.csv",
                f"instrument_name,trade_id,side,price,size,created_time\nBTC-USDT-SWAP,1,buy,1.5,3,{START}\n",
            )
        ],
        [],
    ),
    "okx instruments": (
        "okx",
        "instruments.json",
        instruments({"instId": "BTC-USDT-SWAP", "ctVal": "0.01"}),
        [
            (
                "BTC-USDT-SWAP-trades-2025-10-10.csv",
                f"instrument_name,trade_id,side,price,size,created_time\nBTC-USDT-SWAP,1,buy,1.5,3,{START}\n",
            )
        ],
        [],
    ),
    **{
        f"drift-v1 {table}": ("drift-v1", f"{table}.csv", _lines(drift_v1.HEADS[table], row), [], [])
        for table, row in {
            "deposits": lambda n: drift_v1.deposit(n, f"10:00:{n:02}", drift_v1.ANN, n * 10**6, n * 10**5),
            "liquidations": lambda n: drift_v1.liquidation(
                n, f"11:00:{n:02}", collateral=n * 10**6, pnl=-5 * 10**6, fee=(n, n)
            ),
            "funding": lambda n: drift_v1.funding(n, f"{n:02}:00:00", n * 10**9, (n, -n), n % 2),
            "curves": lambda n: (
                f"{drift_v1.DUMP},{drift_v1.at(f'12:00:{n:02}')},{n},1,100500,{n}0000000,12000000"
            ),
        }.items()
    },
    **{
        f"dydx-v4 {name}": (
            "dydx-v4",
            f"BTC-USD_{dydx.ANN}_0.json",
            _lines(json.dumps(head), row, 10),
            [],
            [],
        )
        for name, head, row in (
            (
                "trades",
                {
                    "trades": [
                        dydx.trade(n, f"16:00:{n:02}", "90000.5", "0.1", "SELL", "LIQUIDATED")
                        for n in range(9)
                    ]
                },
                lambda n: json.dumps(dydx.oracle(f"16:00:{n:02}", f"9000{n}.25")),
            ),
            (
                "fills",
                dydx.state(dydx.ANN, "-40000.5", "1.25", "43000.123456789"),
                lambda n: json.dumps(
                    {
                        "fills": [
                            dydx.fill(
                                f"{n}", f"16:0{n % 10}:00", "41000", "0.4", "SELL", "TAKER", "DELEVERAGED"
                            )
                        ]
                    }
                ),
            ),
        )
    },
    "drift-v2 sub-account": (
        "drift-v2",
        f"{drift_v2.ANN}.csv",
        _values(
            drift_v2.user(
                perp0_base_asset_amount="3100000000.0",
                perp0_quote_asset_amount="-52599097.0",
                spot0_scaled_balance="1000000000000.0",
            )
        ),
        [
            ("perp_markets.csv", _values(drift_v2.PERP)),
            ("spot_markets.csv", _values({key: pair[0] for key, pair in drift_v2.SPOTS.items()})),
        ],
        [],
    ),
    "drift-v2 markets": (
        "drift-v2",
        "perp_markets.csv",
        _values(drift_v2.PERP),
        [
            (f"{drift_v2.ANN}.csv", _values(drift_v2.user(perp0_base_asset_amount="3100000000.0"))),
            ("spot_markets.csv", _values({key: pair[0] for key, pair in drift_v2.SPOTS.items()})),
        ],
        [],
    ),
    "deribit trades": (
        "deribit",
        "trades.json",
        "".join(
            json.dumps(
                deribit.answer(deribit.trade(n, n, 100.5 + n, 10, liquidation=("T", "M", "MT")[n % 3]))
            )
            + "\n"
            for n in range(1, 12)
        ),
        [],
        [],
    ),
    "deribit bankruptcies": (
        "deribit",
        "BTC-PERPETUAL.json",
        "".join(
            json.dumps({"result": {"settlements": [deribit.bankruptcy(n * 1_000, n / 8, n / 16)]}}) + "\n"
            for n in range(1, 12)
        ),
        [],
        [],
    ),
    "deribit books": (
        "deribit",
        "book.json",
        "".join(json.dumps(message) + "\n" for message in deribit.BOOK),
        [],
        [],
    ),
    "columns kucoin": ("columns", MAPPED["kucoin"][0], MAPPED["kucoin"][1] * 1, [], ["kucoin"]),
    "columns bitmex": ("columns", MAPPED["bitmex"][0], MAPPED["bitmex"][1] * 1, [], ["bitmex"]),
    "columns parquet": ("columns", "trades.parquet", _parquet(), [("mine.toml", MAP)], []),
    "hyperliquid fills": ("hyperliquid", "10.jsonl", FILLS, [], []),
    "hyperliquid asset_ctxs": (
        "hyperliquid",
        "20251027.csv",
        "\n".join([COLUMNS, *(context(n) for n in range(20))]) + "\n",
        [("10.jsonl", FILLS)],
        [],
    ),
    "hyperliquid misc_events": (
        "hyperliquid",
        "misc.jsonl",
        "".join(
            block(
                n,
                [
                    update([ANN], type="deposit", usdc=f"{n}.5"),
                    event("Funding", deltas=[{"user": BEN, "coin": "BTC", "funding_amount": f"-{n}"}]),
                ],
            )
            + "\n"
            for n in range(1, 15)
        ),
        [("10.jsonl", FILLS)],
        [],
    ),
    "hyperliquid l2Book": (
        "hyperliquid",
        "BTC.jsonl",
        "".join(
            book(n * 700, "BTC", [(f"{99 + n}.5", "1")], [(f"{101 + n}", "2.5")]) + "\n" for n in range(20)
        ),
        [("10.jsonl", FILLS)],
        [],
    ),
    "hyperliquid node_fills": (
        "hyperliquid",
        "10.jsonl",
        "".join(f"{line}\n" for n in range(1, 15) for line in pairs(n, match(tid=n))),
        [],
        [],
    ),
    "hyperliquid node_trades": (
        "hyperliquid",
        "10.jsonl",
        "".join(f"{trade(f'17:00:{n:02}.5')}\n" for n in range(1, 15)),
        [],
        [],
    ),
    "hyperliquid positions": (
        "hyperliquid",
        f"perp_positions_by_market_{SNAPSHOT}.json",
        json.dumps(OPEN, indent=1),
        [("10.jsonl", FILLS)],
        [],
    ),
    "hyperliquid account values": (
        "hyperliquid",
        f"account_value_snapshot_{SNAPSHOT}.json",
        json.dumps(VALUES, indent=1),
        [("10.jsonl", FILLS), (f"perp_positions_by_market_{SNAPSHOT}.json", json.dumps(OPEN))],
        [],
    ),
    "scenario": ("scenario", "scenario.toml", SCENARIO.read_text(encoding="utf-8"), [], []),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_a_tape_or_one_error(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    source, name, text, others, options = KINDS[kind]
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    for other, content in others:
        (tmp_path / other).write_text(content, encoding="utf-8")
    ends: Counter[str] = Counter()
    for number in range(TRIES):
        rng = random.Random(f"{kind} {number}")
        data = damaged(text if isinstance(text, bytes) else text.encode(), rng)
        if rng.random() < 0.3 and source != "scenario":
            data = gzip.compress(data, 1)
            if rng.random() < 0.3:
                data = data[: rng.randrange(len(data))]
        file.write_bytes(data)
        paths = [Path(option) for option in options] + [file, *(tmp_path / other for other, _ in others)]
        try:
            import_source(source, paths, tmp_path / "tape", force=True)
            ends["tape"] += 1
        except ReplayError:
            ends["error"] += 1
    assert ends["error"], f"no damage was found: {ends}"
    assert sum(ends.values()) == TRIES
    assert capfd.readouterr().err == ""
