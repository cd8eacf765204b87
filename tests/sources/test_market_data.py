"""Files of trades, prices and funding of several venues: what becomes of each column."""

from __future__ import annotations

import gzip
import hashlib
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from replay.errors import SourceError
from replay.sources import import_source
from replay.tape.check import check_tape
from replay.tape.read import Tape, open_tape
from replay.tape.schema import Payoff, PriceKind
from replay.units import parse_time

SHARED = Path(__file__).parents[3] / "shared" / "data"
TARDIS = SHARED / "tardis-2025-10-10"
DEPTH = SHARED / "binance-2025-10-10" / "BTCUSDT-bookDepth-2025-10-10.csv"

needs_data = pytest.mark.skipif(not TARDIS.is_dir(), reason="the recordings in ../shared/data are not here")

TICKER = (
    "exchange,symbol,timestamp,local_timestamp,funding_timestamp,funding_rate,predicted_funding_rate,"
    "open_interest,last_price,index_price,mark_price\n"
)
TRADES = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def imported(source: str, out: Path, *paths: Path) -> Tape:
    import_source(source, paths, out, force=True)
    return open_tape(out)


def rows(tape: Tape, sql: str) -> list[Any]:
    return tape.select(sql)


def test_a_day_file_of_tardis_row_by_row(tmp_path):
    """Columns of the recorder's documentation; 1 us = 1,000 ns; a moment before the last takes the later one."""
    file = put(
        tmp_path / "binance-delivery_trades_2025-10-10_AAVEUSD_PERP.csv.gz",
        TRADES
        + "binance-delivery,AAVEUSD_PERP,1760054400543000,1760054400737905,43162911,buy,273.7,1\n"
        + "binance-delivery,AAVEUSD_PERP,1760054400542000,1760054400737906,43162912,sell,273.65,20\n"
        + "binance-delivery,AAVEUSD_PERP,1760054401000000,1760054401000001,43162913,unknown,273.6,3\n",
    )
    tape = imported("tardis", tmp_path / "tape", file)
    assert rows(tape, "SELECT ts, price, qty, taker_side, trade_id FROM trades ORDER BY seq") == [
        (1_760_054_400_543_000_000, 27_370, 1, 1, 43162911),
        (1_760_054_400_543_000_000, 27_365, 20, -1, 43162912),
        (1_760_054_401_000_000_000, 27_360, 3, 0, 43162913),
    ]
    (market,) = tape.markets
    assert (market.payoff, market.multiplier, tape.ledgers) == (Payoff.INVERSE, Fraction(10), [("", "AAVE")])
    assert tape.manifest["counts"]["moments before that of the row before"] == 1
    (note,) = (
        found for found in check_tape(tape).findings if "stood in the files with a moment" in found.message
    )
    assert (note.count, note.ts) == (1, 1_760_054_400_543_000_000)


def test_spot_files_make_index_and_mark_but_no_trades(tmp_path):
    """Two venues at 100 and 101: the index is 100.5; the perpetual trades at 99, a basis of -1.5 from the start."""
    perp = put(
        tmp_path / "binance-delivery_trades_2025-10-10_AAVEUSD_PERP.csv",
        TRADES + "binance-delivery,AAVEUSD_PERP,1760054400500000,1760054400500000,1,buy,99.0,1\n",
    )
    one = put(
        tmp_path / "coinbase_trades_2025-10-10_AAVE-USD.csv",
        TRADES + "coinbase,AAVE-USD,1760054400100000,1760054400100000,1,buy,100.0,1e-8\n",
    )
    other = put(
        tmp_path / "gemini_trades_2025-10-10_AAVEUSD.csv",
        TRADES + "gemini,AAVEUSD,1760054400200000,1760054400200000,1,buy,101.0,2\n",
    )
    tape = imported("tardis", tmp_path / "tape", perp, one, other)
    assert tape.rows("trades") == 1
    scale = 10 ** tape.markets[0].mark_scale
    assert rows(tape, "SELECT ts, kind, price FROM prices ORDER BY kind") == [
        (1_760_054_401_000_000_000, PriceKind.MARK, 99 * scale),
        (1_760_054_401_000_000_000, PriceKind.INDEX, 100.5 * scale),
    ]


def test_marks_of_derivative_ticker_are_taken_as_they_are(tmp_path):
    ticker = put(
        tmp_path / "binance-futures_derivative_ticker_2025-10-10_BTCUSDT.csv",
        TICKER
        + "binance-futures,BTCUSDT,1760054400500000,1760054400500000,,,,,,,\n"
        + "binance-futures,BTCUSDT,1760054401500000,1760054401500000,,0.0001,,,,,121000.25\n",
    )
    trades = put(
        tmp_path / "binance-futures_trades_2025-10-10_BTCUSDT.csv",
        TRADES + "binance-futures,BTCUSDT,1760054400500000,1760054400500000,1,buy,121000.5,0.001\n",
    )
    tape = imported("tardis", tmp_path / "tape", ticker, trades)
    assert rows(tape, "SELECT ts, kind, price FROM prices") == [
        (1_760_054_401_500_000_000, PriceKind.MARK, 12_100_025)
    ]
    assert tape.markets[0].payoff == Payoff.LINEAR


def test_a_market_without_a_ticker_is_named_where_others_have_one(tmp_path):
    ticker = put(
        tmp_path / "binance-futures_derivative_ticker_2025-10-10_BTCUSDT.csv",
        TICKER + "binance-futures,BTCUSDT,1760054401500000,1760054401500000,,,,,,,121000.25\n",
    )
    files = [
        put(
            tmp_path / f"binance-futures_trades_2025-10-10_{coin}USDT.csv",
            TRADES + f"binance-futures,{coin}USDT,1760054400500000,1760054400500000,1,buy,100.5,1\n",
        )
        for coin in ("BTC", "ETH")
    ]
    tape = imported("tardis", tmp_path / "tape", ticker, *files)
    told = [text for text in tape.manifest["assumptions"] if "no file gives a mark" in text]
    assert [text.split(":")[0] for text in told] == ["ETH"]


@pytest.mark.parametrize("has_header", [True, False])
def test_binance_trades_zipped_with_and_without_a_header(tmp_path, has_header):
    """A fixture of the documented columns: is_buyer_maker true means that the taker sold."""
    text = "id,price,qty,quote_qty,time,is_buyer_maker\n" if has_header else ""
    text += "10,100.50,2.5,251.25,1760054400123,true\n11,100.60,1,100.6,1760054400124,false\n"
    path = tmp_path / "BTCUSDT-trades-2025-10-10.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("BTCUSDT-trades-2025-10-10.csv", text)
    tape = imported("binance", tmp_path / "tape", path)
    assert rows(tape, "SELECT ts, price, qty, taker_side, trade_id FROM trades ORDER BY seq") == [
        (1_760_054_400_123_000_000, 1_005, 25, -1, 10),
        (1_760_054_400_124_000_000, 1_006, 10, 1, 11),
    ]


def test_a_candle_is_known_at_its_end_and_funding_at_its_moment(tmp_path):
    """Fixtures of the documented columns."""
    head = (
        "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
        "taker_buy_quote_volume,ignore\n"
    )
    put(
        tmp_path / "d/markPriceKlines/BTCUSDT-1m-2025-10-10.csv",
        head + "1760054400000,1,2,0.5,1.5,0,0,0,60,0,0,0\n",
    )
    put(
        tmp_path / "d/fundingRate/BTCUSDT-fundingRate-2025-10.csv",
        "calc_time,funding_interval_hours,last_funding_rate\n1760054400001,8,-0.00012345\n",
    )
    tape = imported("binance", tmp_path / "tape", tmp_path / "d")
    assert rows(tape, "SELECT ts, kind, price FROM prices") == [
        (1_760_054_460_000_000_000, PriceKind.MARK, 15)
    ]
    assert rows(tape, "SELECT ts, rate FROM funding") == [(1_760_054_400_001_000_000, -123_450_000)]


def test_bands_become_levels_at_the_mean_price_between_two_bands(tmp_path):
    """Bids of 10 for 990 to -1 %, 30 for 2,930 to -2 %: 10 at 99 and 20 at 97."""
    file = put(
        tmp_path / "BTCUSDT-bookDepth-2025-10-10.csv",
        "timestamp,percentage,depth,notional\n"
        "2025-10-10 00:00:07,-2,30,2930\n2025-10-10 00:00:07,-1,10,990\n2025-10-10 00:00:07,1,5,505\n",
    )
    tape = imported("binance", tmp_path / "tape", file)
    assert rows(tape, "SELECT side, price / 1e6, qty / 1e6 FROM depth ORDER BY side, price DESC") == [
        (0, 99.0, 10.0),
        (0, 97.0, 20.0),
        (1, 101.0, 5.0),
    ]


def test_the_best_of_the_book_by_second(tmp_path):
    """A fixture of the documented columns: two states in the first second, of which the last is kept."""
    file = put(
        tmp_path / "BTCUSDT-bookTicker-2024-03-01.csv",
        "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time\n"
        "1,99.5,2,100.5,3,1760054400100,1760054400101\n2,99.6,4,100.4,5,1760054400900,1760054400901\n"
        "3,99.0,1,101.0,1,1760054401100,1760054401101\n",
    )
    tape = imported("binance", tmp_path / "tape", file)
    found = rows(tape, "SELECT ts // 1000000000, side, price / 10.0, qty FROM depth ORDER BY ts, side")
    assert [row[1:] for row in found] == [(0, 99.6, 4), (1, 100.4, 5), (0, 99.0, 1), (1, 101.0, 1)]


METRICS = (
    "create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio,"
    "sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio\n"
)


def test_open_interest_of_metrics_is_sorted_and_no_finer_than_trades(tmp_path):
    """A fixture of the documented columns, not in order of time; of 84,736.1 and .2 the half goes to the even."""
    put(
        tmp_path / "d/BTCUSDT-metrics-2025-10-10.csv",
        METRICS
        + "2025-10-10 00:10:00,BTCUSDT,0.0000000000000000,0,,,,\n"
        + "2025-10-10 00:05:00,BTCUSDT,84736.1500000000000000,8.5e9,1.1,1.2,1.3,0.9\n"
        + "2025-10-10 00:00:00,BTCUSDT,90000.0000000000000000,9e9,1.1,1.2,1.3,0.9\n"
        + "2025-10-10 00:15:00,BTCUSDT,,,,,,\n",
    )
    put(
        tmp_path / "d/BTCUSDT-trades-2025-10-10.csv",
        "id,price,qty,quote_qty,time,is_buyer_maker\n10,100.50,2.5,251.25,1760054400123,true\n",
    )
    tape = imported("binance", tmp_path / "tape", tmp_path / "d")
    assert tape.markets[0].qty_scale == 1
    assert rows(
        tape, "SELECT (ts - 1760054400000000000) // 1000000000, qty FROM open_interest ORDER BY seq"
    ) == [
        (0, 900_000),
        (300, 847_362),
        (600, 0),
    ]
    assert tape.manifest["counts"]["open interest rounded"] == 1


def test_open_interest_below_zero_is_a_bad_row(tmp_path):
    file = put(
        tmp_path / "BTCUSDT-metrics-2025-10-10.csv", METRICS + "2025-10-10 00:10:00,BTCUSDT,-1,0,,,,\n"
    )
    with pytest.raises(SourceError, match=r"'-1' is below zero"):
        imported("binance", tmp_path / "tape", file)


def test_open_interest_of_a_ticker_is_written_where_it_changes(tmp_path):
    ticker = put(
        tmp_path / "binance-futures_derivative_ticker_2025-10-10_BTCUSDT.csv",
        TICKER
        + "".join(
            f"binance-futures,BTCUSDT,{1760054400000000 + n},{1760054400000000 + n},,,,{told},,,121000\n"
            for n, told in enumerate(("", "70", "70", "70.5", "70"))
        ),
    )
    tape = imported("tardis", tmp_path / "tape", ticker)
    assert rows(tape, "SELECT ts - 1760054400000000000, qty FROM open_interest ORDER BY seq") == [
        (1_000, 700),
        (3_000, 705),
        (4_000, 700),
    ]


@pytest.mark.parametrize("with_symbol", [True, False])
def test_forced_orders_at_their_average_fill(tmp_path, with_symbol):
    """A fixture of the documented columns, of which older files have the symbol: SELL closed a long of 3."""
    symbol, value = ("symbol,", "BTCUSD_PERP,") if with_symbol else ("", "")
    file = put(
        tmp_path / "BTCUSD_PERP-liquidationSnapshot-2024-01-02.csv",
        f"time,{symbol}side,order_type,time_in_force,original_quantity,price,average_price,order_status,"
        "last_fill_quantity,accumulated_fill_quantity\n"
        f"1760054400123,{value}SELL,LIMIT,IOC,4,41000.1,41250.5,FILLED,3,3\n",
    )
    tape = imported("binance", tmp_path / "tape", file)
    assert rows(tape, "SELECT ts, qty, price, price_kind FROM liquidations") == [
        (1_760_054_400_123_000_000, -3, 412_505, "fill")
    ]


def test_a_checksum_beside_a_file_is_held_against_it(tmp_path):
    text = "id,price,qty,quote_qty,time,is_buyer_maker\n10,100.50,2.5,251.25,1760054400123,true\n"
    file = put(tmp_path / "d" / "BTCUSDT-trades-2025-10-10.csv", text)
    beside = put(
        tmp_path / "d" / "BTCUSDT-trades-2025-10-10.csv.CHECKSUM",
        f"{hashlib.sha256(text.encode()).hexdigest()}  BTCUSDT-trades-2025-10-10.csv\n",
    )
    imported("binance", tmp_path / "good", tmp_path / "d")
    beside.write_text(f"{'0' * 64}  BTCUSDT-trades-2025-10-10.csv\n")
    with pytest.raises(SourceError, match="CHECKSUM says 0000") as caught:
        imported("binance", tmp_path / "bad", tmp_path / "d")
    assert caught.value.file == str(file)
    assert not (tmp_path / "bad").exists()


def test_bybit_and_okx_trades(tmp_path):
    """Fixtures of the documented columns: seconds with a fraction; contracts of one dollar, inverse."""
    bybit = put(
        tmp_path / "BTCUSD2025-10-10.csv.gz",
        "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional\n"
        "1760054400.0647,BTCUSD,Sell,250,121000.5,MinusTick,a1b2,1,1,1\n",
    )
    tape = imported("bybit", tmp_path / "bybit", bybit)
    assert rows(tape, "SELECT ts, price, qty, taker_side, trade_id FROM trades") == [
        (1_760_054_400_064_700_000, 1_210_005, 250, -1, None)
    ]
    assert (tape.markets[0].payoff, tape.markets[0].multiplier) == (Payoff.INVERSE, Fraction(1))
    okx = put(
        tmp_path / "BTC-USDT-SWAP-trades-2025-10-10.csv",
        "instrument_name,trade_id,side,price,size,created_time\nBTC-USDT-SWAP,7,buy,121000.1,3,1760054400999\n",
    )
    tape = imported("okx", tmp_path / "okx", okx)
    assert rows(tape, "SELECT ts, price, qty, taker_side, trade_id FROM trades") == [
        (1_760_054_400_999_000_000, 1_210_001, 3, 1, 7)
    ]


MAP = """
venue = "gate"

[[feed]]
name = "trades"
table = "trades"
columns = ["timestamp", "id", "price", "size"]
header = false
time = "timestamp"
unit = "s"
file_symbol = "^([A-Z_]+)-trades"
qty = "size"
side = "size"
trade_id = "id"

[contracts.BTC_USDT]
base = "BTC"
payoff = "linear"
settle = "USDT"
multiplier = "0.0001"
"""


def test_a_map_of_columns_reads_files_without_a_header_whose_size_has_the_takers_sign(tmp_path):
    """Gate's form: seconds, contracts of 0.0001 BTC, a negative size is a sale."""
    mapped = put(tmp_path / "gate.toml", MAP)
    file = put(
        tmp_path / "BTC_USDT-trades-202510.csv", "1760054400.25,5,121000.5,-30\n1760054401,6,121000.6,2\n"
    )
    tape = imported("columns", tmp_path / "tape", mapped, file)
    assert rows(tape, "SELECT ts, qty, taker_side, trade_id FROM trades ORDER BY seq") == [
        (1_760_054_400_250_000_000, 30, -1, 5),
        (1_760_054_401_000_000_000, 2, 1, 6),
    ]
    assert tape.markets[0].multiplier == Fraction(1, 10_000)


def test_a_map_of_open_interest(tmp_path):
    """Contracts of 0.0001 BTC: open interest is counted in contracts, as trades are; a map may leave the price out."""
    mapped = put(
        tmp_path / "gate.toml",
        'venue = "gate"\n[[feed]]\nname = "stats"\ntable = "open_interest"\ncolumns = ["time", "symbol", "oi"]\n'
        'time = "time"\nunit = "s"\nsymbol = "symbol"\nqty = "oi"\n' + MAP[MAP.index("[contracts") :],
    )
    file = put(tmp_path / "stats.csv", "time,symbol,oi\n1760054400,BTC_USDT,1234\n1760054700,BTC_USDT,0\n")
    tape = imported("columns", tmp_path / "tape", mapped, file)
    assert rows(tape, "SELECT ts // 1000000000, qty FROM open_interest ORDER BY seq") == [
        (1_760_054_400, 1_234),
        (1_760_054_700, 0),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "are of no file of tardis"),
        (TRADES + "binance-futures,BTCUSDT,x,1,1,buy,1,1\n", "'x' is no moment"),
        (TRADES + "binance-futures,BTCUSDT,1760054400500000,1,1,buy,-1,1\n", "'-1' is not above zero"),
        (TRADES + "binance-futures,BTCUSDT,1760054400500000,1,1,hold,1,1\n", "is none of buy, sell, unknown"),
        (TRADES + "binance-futures,BTCUSDT,1760054400,1,1,buy,1,1\n", "is not between 2015 and 2035"),
        (TRADES + "binance-futures,BTCUSDT,1760054400500000,1\n", "has 4 columns, 8 are named"),
        (
            TRADES + "okex-swap,BTC-USDT-SWAP,1760054400500000,1,1,buy,1,1\n",
            "contract sizes are not known here",
        ),
    ],
)
def test_a_bad_row_is_one_error_that_names_it_and_leaves_nothing(tmp_path, text, message):
    exchange = "okex-swap" if "okex" in text else "binance-futures"
    file = put(tmp_path / f"{exchange}_trades_2025-10-10_BTCUSDT.csv", text)
    with pytest.raises(SourceError, match=message):
        import_source("tardis", [file], tmp_path / "tape")
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name]


def test_a_stray_quote_harms_its_own_row_and_quoted_cells_are_read(tmp_path):
    """2,000 rows after the stray quote stay; the row is one of 2,002, within what may be set aside."""
    good = "binance-futures,BTCUSDT,1760054400{:06d},1,{},{},100,1\n"
    rows = [good.format(row, row, "sell") for row in range(2_000)]
    file = put(
        tmp_path / "binance-futures_trades_2025-10-10_BTCUSDT.csv",
        TRADES + good.format(0, 7, '"buy"') + good.format(0, 8, '"buy') + "".join(rows),
    )
    aside = tmp_path / "aside.jsonl"
    import_source("tardis", [file], tmp_path / "tape", rejects=aside)
    tape = open_tape(tmp_path / "tape")
    assert rows_by_side(tape) == {1: 1, -1: 2_000}
    assert '"line": 3' in aside.read_text()


def rows_by_side(tape: Tape) -> dict[int, int]:
    return dict(tape.select("SELECT taker_side, count(*) FROM trades GROUP BY 1"))


def test_bytes_that_are_no_text_are_one_error_with_their_line(tmp_path, capfd):
    """The bad byte stands in line 3, in a row that has too few columns, too: no traceback of the parser is shown."""
    file = tmp_path / "binance-futures_trades_2025-10-10_BTCUSDT.csv"
    row = b"binance-futures,BTCUSDT,1760054400500000,1,1,buy,1,1\n"
    file.write_bytes(TRADES.encode() + row + b"bin\xa2,BTC\n" + row)
    with pytest.raises(SourceError, match=r"BTCUSDT.csv:3: is not UTF-8 text"):
        import_source("tardis", [file], tmp_path / "tape")
    assert capfd.readouterr().err == ""


def test_damaged_compression_is_one_error(tmp_path):
    file = tmp_path / "binance-futures_trades_2025-10-10_BTCUSDT.csv.gz"
    file.write_bytes(gzip.compress((TRADES + "x" * 1_000).encode())[:40])
    with pytest.raises(SourceError, match="its compressed data is cut short"):
        import_source("tardis", [file], tmp_path / "tape")


def test_spot_alone_is_no_tape(tmp_path):
    file = put(
        tmp_path / "coinbase_trades_2025-10-10_AAVE-USD.csv",
        TRADES + "coinbase,AAVE-USD,1760054400100000,1760054400100000,1,buy,100.0,1\n",
    )
    with pytest.raises(SourceError, match="no file holds a derivative"):
        import_source("tardis", [file], tmp_path / "tape")


LOWS = {
    "AAVE": 63.42, "ATOM": 1.055, "AVAX": 6.02, "DOT": 0.696, "ETC": 4.743, "TRX": 0.30054, "WIF": 0.1252,
    "XLM": 0.16514,
}  # fmt: skip


@needs_data
def test_lows_of_the_crash_day_are_those_of_the_recording(tmp_path):
    """Rows and lows, all between 21:15 and 21:30, are those counted in the recordings' own notes."""
    tape = imported("tardis", tmp_path / "tape", TARDIS / "perp")
    found = rows(
        tape,
        "SELECT split_part(m.name, 'USD', 1), min(price) / 10.0 ** any_value(price_scale), arg_min(ts, price), "
        "count(*) FROM trades JOIN markets m USING (market) GROUP BY 1 ORDER BY 1",
    )
    assert {name: low for name, low, _, _ in found} == LOWS
    crash = parse_time("2025-10-10T21:15:00Z"), parse_time("2025-10-10T21:30:00Z")
    assert all(crash[0] <= ts < crash[1] for _, _, ts, _ in found)
    assert {name: count for name, _, _, count in found if name in ("ATOM", "TRX")} == {
        "ATOM": 116_501,
        "TRX": 60_772,
    }


@needs_data
def test_the_frozen_book_of_the_crash_day_is_found(tmp_path):
    """Bids of 17.654 BTC at 121,363 stand while asks fall to 114,000: crossed from 15:30:42 on."""
    from replay.tape.check import check_tape

    tape = imported("binance", tmp_path / "tape", DEPTH)
    (finding,) = check_tape(tape).findings
    assert "snapshots of BTCUSDT are crossed" in finding.message
    assert finding.count == 969
    assert finding.ts == 1_760_110_242_000_000_000  # 2025-10-10T15:30:42Z
