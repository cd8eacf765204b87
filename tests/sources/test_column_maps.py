"""The maps that come with the program, on fixtures of the documented columns (no recorded sample is there)."""

from __future__ import annotations

import hashlib
import re
import tomllib
from decimal import Context, Decimal
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
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


MAP = """
venue = "example"
[[feed]]
name = "trades"
table = "trades"
columns = ["at", "symbol", "side", "price", "amount"]
time = "at"
unit = "iso"
symbol = "symbol"
price = "price"
qty = "amount"
side = "side"
sides = { buy = 1, sell = -1 }
[contracts.BTCUSD]
base = "BTC"
payoff = "linear"
settle = "USD"
"""


def parquet(folder: Path, **columns: pa.Array) -> tuple[Path, Path]:
    """Write a map and a file of two trades in which some columns are others."""
    told = {
        "at": pa.array([NOON * 10**6 + 250_000, (NOON + 1) * 10**6], pa.timestamp("us", "Europe/Berlin")),
        "symbol": pa.array(["BTCUSD", "BTCUSD"]).dictionary_encode(),
        "side": pa.array(["buy", "sell"], pa.large_string()),
        "price": pa.array([121_000.5, 0.1 + 0.2]),
        "amount": pa.array(["0.000000012", "7"]),
    } | columns
    (folder / "mine.toml").write_text(MAP, encoding="utf-8")
    pq.write_table(pa.table(told), folder / "trades.parquet")
    return folder / "mine.toml", folder / "trades.parquet"


AMOUNTS = {
    "text": (pa.array(["0.5", "7"]), [0.5, 7]),
    "floating point": (pa.array([1.2e-5, 7.0]), [0.000012, 7]),
    "whole numbers": (pa.array([3, 7], pa.int32()), [3, 7]),
    "decimals": (pa.array([Decimal("0.50"), Decimal("7.25")], pa.decimal128(9, 2)), [0.5, 7.25]),
}


@pytest.mark.parametrize("kind", AMOUNTS)
def test_a_map_reads_parquet(tmp_path: Path, kind: str) -> None:
    """0.1 + 0.2 of floating point is 0.3 in 15 digits; a moment is UTC whatever its zone."""
    column, amounts = AMOUNTS[kind]
    mine, file = parquet(tmp_path, amount=column)
    manifest = import_source("columns", [mine, file], tmp_path / "tape")
    tape = open_tape(tmp_path / "tape")
    market = tape.markets[0]
    found = tape.select("SELECT ts, price, qty, taker_side FROM trades ORDER BY ts")
    assert [row[0] for row in found] == [NOON * 10**9 + 250_000_000, (NOON + 1) * 10**9]
    assert [Fraction(row[1], 10**market.price_scale) for row in found] == [
        Fraction("121000.5"),
        Fraction("0.3"),
    ]
    assert [row[2] / 10**market.qty_scale for row in found] == amounts
    assert [row[3] for row in found] == [1, -1]
    (source,) = manifest["sources"]
    assert source["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"price": pa.array([1.5, None])}, "trades.parquet:2: price: '' is no plain decimal number"),
        ({"price": pa.array([1.5, float("inf")])}, "price: 'Infinity' is no plain decimal number"),
        ({"price": pa.array([[1.5], [2.5]])}, "price: is a column of list"),
    ],
)
def test_a_bad_cell_or_column_of_parquet_is_one_error(
    tmp_path: Path, columns: dict[str, pa.Array], problem: str
) -> None:
    with pytest.raises(SourceError, match=re.escape(problem)):
        import_source("columns", parquet(tmp_path, **columns), tmp_path / "tape")


def test_a_damaged_parquet_is_one_error(tmp_path: Path) -> None:
    mine, file = parquet(tmp_path)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(SourceError, match="is damaged Parquet"):
        import_source("columns", [mine, file], tmp_path / "tape")


def test_text_of_parquet_that_is_no_utf8_is_one_error(tmp_path: Path) -> None:
    """The text stands in the file as it is, uncompressed; one byte of it is made another."""
    mine, file = parquet(tmp_path, side=pa.array(["buy", "quite-another"]))
    pq.write_table(pq.read_table(file), file, compression="none", use_dictionary=False)
    file.write_bytes(file.read_bytes().replace(b"quite-another", b"quite\xb4another"))
    with pytest.raises(SourceError, match=r"is damaged Parquet: .*UTF-?8"):
        import_source("columns", [mine, file], tmp_path / "tape")


CANDLES = ROOT.parent / "shared" / "data" / "funding-oi" / "candles.parquet"


@pytest.mark.skipif(not CANDLES.is_file(), reason="the recordings in ../shared/data are not here")
def test_a_recorded_parquet_row_by_row(tmp_path: Path) -> None:
    """Hourly candles of five coins: each opening price is the number of 15 digits next to that of the file."""
    nearest = Context(prec=15).create_decimal_from_float
    told = pq.read_table(CANDLES, columns=["timestamp", "coin", "o"]).to_pydict()
    entries = "".join(
        f'[contracts.{coin}]\nbase = "{coin}"\npayoff = "linear"\nsettle = "USD"\n'
        for coin in sorted(set(told["coin"]))
    )
    (tmp_path / "mine.toml").write_text(
        'venue = "example"\n[[feed]]\nname = "candles"\ntable = "prices"\nkind = "mark"\ntime = "timestamp"\n'
        'columns = ["timestamp", "coin", "o"]\nunit = "iso"\nsymbol = "coin"\nprice = "o"\n' + entries,
        encoding="utf-8",
    )
    import_source("columns", [tmp_path / "mine.toml", CANDLES], tmp_path / "tape")
    tape = open_tape(tmp_path / "tape")
    found = [
        (ts // 10**9, tape.markets[market].name, Fraction(price, 10 ** tape.markets[market].mark_scale))
        for ts, market, price in tape.select("SELECT ts, market, price FROM prices ORDER BY seq")
    ]
    assert found == [
        (int(ts.timestamp()), coin, Fraction(nearest(price)))
        for ts, coin, price in zip(told["timestamp"], told["coin"], told["o"], strict=True)
    ]


def test_a_symbol_that_a_shipped_map_lacks_is_one_error(tmp_path: Path) -> None:
    name, text, _ = FILES["kucoin"]
    with pytest.raises(SourceError, match="'DOGEUSDTM' is not in the map kucoin") as caught:
        imported(tmp_path, "kucoin", text, name.replace("XBTUSDTM", "DOGEUSDTM"))
    assert "add [contracts.DOGEUSDTM]" in str(caught.value)
