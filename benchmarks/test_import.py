"""Importers beside just reading the same file with the same decompression: rows a second of both.

``BENCH_ROWS=2000000 make bench ARGS='-k import'`` measures a larger file.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from replay.sources import import_source
from replay.sources._read import Lines
from replay.tape.read import open_tape
from tests.sources import test_drift_v2 as drift_v2
from tests.sources.node_fills import block, match

ROWS = int(os.environ.get("BENCH_ROWS", "200000"))
START = 1_760_054_400_000


def _binance(number: int) -> str:
    side = "true" if number % 2 else "false"
    return f"{number},{100_000 + number % 997}.{number % 10},{number % 7 + 1}.5,1,{START + number // 20},{side}\n"


def _bybit(number: int) -> str:
    side = "Buy" if number % 2 else "Sell"
    return f"{START // 1000 + number // 20_000}.25,BTCUSDT,{side},0.{number % 9 + 1},12100{number % 10}.5,PlusTick,a{number},1,1,1\n"


def _kucoin(number: int) -> str:
    return f"{number},{START + number // 20},62932.{number % 10},{number % 9 + 1},{'buy' if number % 2 else 'sell'}\n"


def _tardis(number: int) -> str:
    ts = (START + number // 20) * 1000
    side = "buy" if number % 2 else "sell"
    return f"binance-futures,BTCUSDT,{ts},{ts},{number},{side},10000{number % 10}.5,0.{number % 9 + 1}\n"


def _drift(number: int) -> str:
    user = "ABCDEFGHJK"[number % 10] * 44
    at = f"2021-12-{1 + number // 86_400 % 30:02} {number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}-05:00"
    return f"{at},{number},{user},{user},True,4000000,1000000,{2 * number},{number},{number},{'L' * 44},8000000,9000000,-1000000,625\n"


def _dydx(number: int) -> str:
    at = f"2025-12-08T{number // 360_000 % 24:02}:{number // 6_000 % 60:02}:{number // 100 % 60:02}.{number % 100 * 10:03}Z"
    side = "BUY" if number % 2 else "SELL"
    return (
        f'{{"id":"{number // 10:08x}00000002{number:08x}","side":"{side}","size":"0.{number % 9 + 1}","ticker":"BTC-USD",'
        f'"price":"{90_000 + number % 997}","type":"LIMIT","createdAt":"{at}","createdAtHeight":"{number // 10}"}}\n'
    )


def _deribit(number: int) -> str:
    return (
        f'{{"trade_seq":{number},"trade_id":"{number}","timestamp":{START + number // 20},"tick_direction":0,'
        f'"price":{100_000 + number % 997}.5,"mark_price":{100_000 + number // 100 % 997}.25,"index_price":100001.5,'
        f'"instrument_name":"BTC-PERPETUAL","direction":"{"buy" if number % 2 else "sell"}","amount":{number % 9 + 1}0.0}}\n'
    )


TABLES = {"drift-v1": "liquidations", "drift-v2": "positions", "hyperliquid": "fills"}
"""Which table has a row for each of the file (of drift-v2: for each sub-account), where it is not `trades`."""

FILES: dict[str, tuple[str, str, Callable[[int], str], list[str]]] = {
    "binance": (
        "BTCUSDT-trades-2025-10-10.csv.gz",
        "id,price,qty,quote_qty,time,is_buyer_maker\n",
        _binance,
        [],
    ),
    "bybit": (
        "BTCUSDT2025-10-10.csv.gz",
        "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional\n",
        _bybit,
        [],
    ),
    "columns": (
        "XBTUSDTM-trades-2025-10-10.csv.gz",
        "trade_id,trade_time,price,size,side\n",
        _kucoin,
        ["kucoin"],
    ),
    "drift-v1": (
        "liquidation_history.csv.gz",
        "ts,record_id,user_authority,user,partial,base_asset_value,base_asset_value_closed,liquidation_fee,"
        "fee_to_liquidator,fee_to_insurance_fund,liquidator,total_collateral,collateral,unrealized_pnl,margin_ratio\n",
        _drift,
        [],
    ),
    "deribit": ("trades.json.gz", "", _deribit, []),
    "dydx-v4": ("BTC-USD_trades.json.gz", "", _dydx, []),
    "tardis": (
        "binance-futures_trades_2025-10-10_BTCUSDT.csv.gz",
        "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n",
        _tardis,
        [],
    ),
}


def _blocks() -> str:
    lines, blocks = [], 20_000  # less than the hour that one file has
    each = ROWS // blocks // 2
    for number in range(1, blocks + 1):
        events = [row for item in range(each) for row in match(tid=number * each + item)]
        lines.append(block(number, events))
    return "\n".join(lines) + "\n"


def _snapshot(file: Path) -> None:
    """Write a tar of sub-accounts, one file and one position each, whose cells together are :data:`ROWS` lines."""
    held = drift_v2.user(
        perp0_base_asset_amount="3100000000.0",
        perp0_quote_asset_amount="-52599097.0",
        spot0_scaled_balance="1000000000000.0",
    )
    members = {
        "perp_markets.csv": drift_v2.PERP,
        "spot_markets.csv": {key: pair[0] for key, pair in drift_v2.SPOTS.items()},
        **{f"users/{f'{number:044}'.replace('0', 'A')}.csv": held for number in range(ROWS // len(held))},
    }
    with tarfile.open(file, "w:gz", compresslevel=1) as archive:
        for name, cells in members.items():
            content = (",0\n" + "".join(f'{key},"{value}"\n' for key, value in cells.items())).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


@pytest.fixture(scope="module", params=[*FILES, "hyperliquid", "drift-v2"])
def source(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, list[Path], Path]:
    """Return the source, what is imported, and the file that is read."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "drift-v2":
        file = folder / "snapshot.tar.gz"
        _snapshot(file)
        return request.param, [file], file
    if request.param == "hyperliquid":
        file = folder / "10.jsonl.gz"
        file.write_bytes(gzip.compress(_blocks().encode(), 1))
        return request.param, [file], file
    name, head, row, options = FILES[request.param]
    file = folder / name
    file.write_bytes(gzip.compress((head + "".join(map(row, range(1, ROWS + 1)))).encode(), 1))
    return request.param, [*map(Path, options), file], file


def test_reading_alone(benchmark: Any, source: tuple[str, list[Path], Path]) -> None:
    _, _, file = source

    def read() -> int:
        if tarfile.is_tarfile(file):
            with tarfile.open(file) as archive:
                return sum(len(opened.read()) for entry in archive if (opened := archive.extractfile(entry)))
        with Lines(file) as lines:
            return sum(len(line) for _number, line in lines)

    benchmark.extra_info["rows"] = ROWS
    assert benchmark.pedantic(read, rounds=3, warmup_rounds=1) > ROWS


def test_import(benchmark: Any, source: tuple[str, list[Path], Path], tmp_path: Path) -> None:
    name, paths, _ = source
    benchmark.extra_info["rows"] = ROWS
    benchmark.pedantic(
        import_source,
        args=(name, paths, tmp_path / "tape"),
        kwargs={"force": True},
        rounds=3,
        warmup_rounds=1,
    )
    ((rows,),) = open_tape(tmp_path / "tape").select(f"SELECT count(*) FROM {TABLES.get(name, 'trades')}")
    assert rows == (ROWS // len(drift_v2.user()) if name == "drift-v2" else ROWS)
