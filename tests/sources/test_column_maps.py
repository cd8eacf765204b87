"""The maps that come with the program, on fixtures of the documented columns (no recorded sample is there)."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from replay.errors import SourceError
from replay.sources import import_source
from replay.sources.columns import shipped_maps
from replay.tape.read import Tape, open_tape

ROOT = Path(__file__).parents[2]
NOON = 1_760_097_600  # 2025-10-10T12:00:00Z

FILES = {
    "bitmex": (
        "20251010.csv",
        "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional\n"
        "2025-10-10D12:00:00.250000000,XBTUSD,Buy,300,121000.5,PlusTick,a1,247933,0.00247933,300\n"
        "2025-10-10D12:00:01.000000000,XBTUSD,Sell,7,121000.0,MinusTick,a2,5785,0.00005785,7\n",
        "XBTUSD",
    ),
    "kraken": (
        "PF_XBTUSD-executions.csv",
        "timestamp,uid,side,quantity,price,markPrice\n"
        f"{NOON}250,u1,buy,300,121000.5,121001\n{NOON + 1}000,u2,sell,7,121000.0,121001\n",
        "PF_XBTUSD",
    ),
    "gate": (
        "BTC_USDT-trades-202510.csv",
        f"{NOON}.25,5,121000.5,300\n{NOON + 1},6,121000.0,-7\n",
        "BTC_USDT",
    ),
    "bitget": (
        "BTCUSDT-trades-2025-10-10_001.csv",
        f"5,{NOON}250,121000.5,buy,300\n6,{NOON + 1}000,121000.0,sell,7\n",
        "BTCUSDT",
    ),
    "kucoin": (
        "XBTUSDTM-trades-2025-10-10.csv",
        f"trade_id,trade_time,price,size,side\n5,{NOON}250,121000.5,300,buy\n6,{NOON + 1}000,121000.0,7,sell\n",
        "XBTUSDTM",
    ),
}


def imported(folder: Path, name: str | Path, text: str, file_name: str) -> Tape:
    file = folder / file_name
    file.write_text(text, encoding="utf-8")
    import_source("columns", [Path(name), file], folder / "tape")
    return open_tape(folder / "tape")


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_shipped_map_reads_two_trades(tmp_path: Path, name: str) -> None:
    """A purchase of 300 at 121,000.5, then a sale of 7 at 121,000."""
    file_name, text, symbol = FILES[name]
    tape = imported(tmp_path, name, text, file_name)
    assert [market.name for market in tape.markets] == [symbol]
    scale = 10 ** tape.markets[0].price_scale
    found = tape.select("SELECT ts, price, qty, taker_side FROM trades ORDER BY ts")
    assert [
        (ts, price / scale, qty / 10 ** tape.markets[0].qty_scale, side) for ts, price, qty, side in found
    ] == [
        (NOON * 10**9 + 250_000_000, 121_000.5, 300, 1),
        ((NOON + 1) * 10**9, 121_000.0, 7, -1),
    ]


def test_every_map_is_tried_and_told() -> None:
    assert set(shipped_maps()) == set(FILES)
    page = (ROOT / "docs" / "column-maps.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in shipped_maps())


def test_the_map_of_the_guide_works(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "column-maps.md").read_text(encoding="utf-8")
    (written,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert tomllib.loads(written)["venue"] == "example"
    (tmp_path / "mine.toml").write_text(written, encoding="utf-8")
    text = f"time,id,side,price,amount\n{NOON}250,5,buy,121000.5,300\n"
    tape = imported(tmp_path, tmp_path / "mine.toml", text, "BTCUSD-trades.csv")
    assert tape.markets[0].multiplier == 100


def test_a_symbol_that_a_shipped_map_lacks_is_one_error(tmp_path: Path) -> None:
    name, text, _ = FILES["kucoin"]
    with pytest.raises(SourceError, match="'DOGEUSDTM' is not in the map kucoin") as caught:
        imported(tmp_path, "kucoin", text, name.replace("XBTUSDTM", "DOGEUSDTM"))
    assert "add [contracts.DOGEUSDTM]" in str(caught.value)
