"""Order books of Bybit and OKX as lines of JSON, funding rates of OKX: fixtures of the documented forms.

No recorded day file is in ../shared/data, so these are written here after tape-formats.md, sections 3 and 4.
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from replay.errors import SourceError
from replay.sources import import_source
from replay.sources._book_lines import grouped
from replay.tape.read import Tape, open_tape
from replay.tape.schema import Payoff, Side

START = 1_760_054_400_000  # 2025-10-10T00:00:00Z in milliseconds
BID, ASK = int(Side.BID), int(Side.ASK)
Pairs = list[tuple[str, str]]


def bybit(at: int, kind: str, bids: Pairs, asks: Pairs, update: int, symbol: str = "BTCUSDT") -> str:
    """One message; the venue sends it 3 ms after its matching engine's moment."""
    data = {"s": symbol, "b": bids, "a": asks, "u": update, "seq": 7 * update}
    return json.dumps(
        {
            "topic": f"orderbook.500.{symbol}",
            "type": kind,
            "ts": START + at + 3,
            "data": data,
            "cts": START + at,
        }
    )


def okx(at: int, action: str, bids: Pairs, asks: Pairs, symbol: str = "BTC-USDT-SWAP") -> str:
    sides = {
        name: [[price, qty, "2"] for price, qty in pairs] for name, pairs in (("asks", asks), ("bids", bids))
    }
    return json.dumps({"instId": symbol, "action": action, "ts": str(START + at), **sides})


def zipped(path: Path, *lines: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(path.name.removesuffix(".zip"), "\n".join(lines) + "\n")
    return path


def tarred(path: Path, **files: str) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"{name}.data")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


def imported(source: str, folder: Path, *files: Path, **options: Any) -> Tape:
    import_source(source, files, folder / "tape", force=True, **options)
    return open_tape(folder / "tape")


def depth(tape: Tape) -> list[tuple[int, int, float, float]]:
    """Rows as (milliseconds from the start, side, price, quantity)."""
    market = tape.markets[0]
    found = tape.select("SELECT ts, side, price, qty FROM depth ORDER BY seq")
    return [
        (ts // 1_000_000 - START, side, price / 10**market.price_scale, qty / 10**market.qty_scale)
        for ts, side, price, qty in found
    ]


BYBIT = (
    bybit(100, "snapshot", [("100.5", "2"), ("100", "1")], [("101", "1"), ("102.50", "3")], 5),
    bybit(900, "delta", [("100.5", "0"), ("100.25", "0.125")], [("101", "4")], 6),
    bybit(1_200, "delta", [], [("101.0", "0")], 7),
    bybit(2_000, "snapshot", [("99", "7")], [], 1),
)
BYBIT_ROWS = [
    (900, BID, 100.25, 0.125),
    (900, BID, 100.0, 1.0),
    (900, ASK, 101.0, 4.0),
    (900, ASK, 102.5, 3.0),
    (1_200, BID, 100.25, 0.125),
    (1_200, BID, 100.0, 1.0),
    (1_200, ASK, 102.5, 3.0),
    (2_000, BID, 99.0, 7.0),
]


def test_of_bybits_books_the_last_of_each_second_is_kept(tmp_path: Path) -> None:
    """Zero takes a level away however it is spelled; a snapshot replaces the book; the moment is `cts`."""
    tape = imported("bybit", tmp_path, zipped(tmp_path / "2025-10-10_BTCUSDT_ob500.data.zip", *BYBIT))
    assert depth(tape) == BYBIT_ROWS
    counts = tape.manifest["counts"]
    assert (counts["rows read"], counts.get("gaps in the numbers of books", 0)) == (4, 0)


def test_a_restart_of_bybits_service_clears_the_book_and_a_gap_is_counted(tmp_path: Path) -> None:
    """`u` 1 replaces the book though its type says delta; from 1 to 3 one message is missing."""
    lines = (
        BYBIT[0],
        bybit(1_000, "delta", [("99", "1")], [], 1),
        bybit(1_100, "delta", [("98", "2")], [], 3),
    )
    tape = imported("bybit", tmp_path, zipped(tmp_path / "2025-10-10_BTCUSDT_ob500.data.zip", *lines))
    assert depth(tape)[4:] == [(1_100, BID, 99.0, 1.0), (1_100, BID, 98.0, 2.0)]
    assert tape.manifest["counts"]["gaps in the numbers of books"] == 1


def test_changes_before_the_first_snapshot_say_nothing(tmp_path: Path) -> None:
    early = bybit(0, "delta", [("99", "1")], [], 4)
    tape = imported("bybit", tmp_path, zipped(tmp_path / "2025-10-10_BTCUSDT_ob500.data.zip", early, *BYBIT))
    assert depth(tape) == BYBIT_ROWS


@pytest.mark.parametrize("name", ["book.tar.gz", "book.tar"])
def test_okx_books_in_a_tar(tmp_path: Path, name: str) -> None:
    lines = (
        okx(100, "snapshot", [("100.5", "2")], [("101", "1")]),
        okx(1_500, "update", [("100.5", "0"), ("100", "3")], []),
        okx(1_700, "snapshot", [("90", "1")], [("91", "5")]),
    )
    file = tarred(
        tmp_path / f"BTC-USDT-SWAP-L2orderbook-400lv-2025-10-10-{name}", book="\n".join(lines) + "\n"
    )
    tape = imported("okx", tmp_path, file)
    assert depth(tape) == [
        (100, BID, 100.5, 2.0),
        (100, ASK, 101.0, 1.0),
        (1_700, BID, 90.0, 1.0),
        (1_700, ASK, 91.0, 5.0),
    ]
    (source,) = tape.manifest["sources"]
    assert source["bytes"] == file.stat().st_size


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"one": "{}\n", "two": "{}\n"}, "holds several files"),
        ({}, "without a file|is empty|is neither text"),
    ],
)
def test_a_tar_of_none_or_several_files_is_one_error(
    tmp_path: Path, files: dict[str, str], problem: str
) -> None:
    text = okx(100, "snapshot", [("100.5", "2")], [("101", "1")]) + "\n"
    file = tarred(tmp_path / "b.tar", **dict.fromkeys(files, text))
    with pytest.raises(SourceError, match=problem):
        imported("okx", tmp_path, file)


def test_a_cut_tar_is_one_error(tmp_path: Path) -> None:
    text = "\n".join(okx(n, "update", [("100.5", "2")], []) for n in range(500))
    file = tarred(tmp_path / "b.tar", book=text)
    file.write_bytes(file.read_bytes()[:20_000])
    with pytest.raises(SourceError, match="tar archive is damaged"):
        imported("okx", tmp_path, file)


BAD = {
    "no JSON": '{"topic":',
    "another topic": BYBIT[1].replace("orderbook.500", "publicTrade"),
    "a price that is a number": BYBIT[1].replace('"100.25"', "100.25"),
    "a negative quantity": BYBIT[1].replace('"0.125"', '"-0.125"'),
    "a price of zero": BYBIT[1].replace('"100.25"', '"0"'),
    "no moment": BYBIT[1].replace(str(START + 900), "900"),
    "no levels": BYBIT[1].replace('"b":', '"x":'),
}


@pytest.mark.parametrize("what", sorted(BAD))
def test_a_bad_message_changes_nothing_of_the_book(tmp_path: Path, what: str) -> None:
    """A thousand good messages and a bad one: it is set aside with its line, and the book is what it was."""
    good = [bybit(2_000 + n, "delta", [("99", "7")], [], 2 + n) for n in range(1_000)]
    file = zipped(tmp_path / "2025-10-10_BTCUSDT_ob500.data.zip", BYBIT[0], BAD[what], *BYBIT[2:], *good)
    with pytest.raises(SourceError, match=r"ob500.data.zip:2: is no message of a book"):
        imported("bybit", tmp_path, file)
    rejects = tmp_path / "rejects.jsonl"
    tape = imported("bybit", tmp_path, file, rejects=rejects)
    assert json.loads(rejects.read_text(encoding="utf-8"))["line"] == 2
    assert depth(tape)[:4] == [
        (100, BID, 100.5, 2.0),
        (100, BID, 100.0, 1.0),
        (100, ASK, 101.0, 1.0),
        (100, ASK, 102.5, 3.0),
    ]


def test_levels_beyond_the_best_are_grouped_at_their_mean_price() -> None:
    """100 bids of 1 at 1000, 999 ..: 25 alone, then 25 of mean 963, then the 50 of mean 925.5, rounded to even."""
    scale = 10**12
    levels = [((1_000 - n) * scale, 1, 0) for n in range(100)]
    found = grouped(levels)
    assert found[:25] == levels[:25]
    assert found[25:] == [(963 * scale, 25, 0), (926 * scale, 50, 0)]


def test_the_mean_of_a_group_is_by_quantity() -> None:
    """Beyond 25 levels: 0.5 at 10.1 and 1.5 at 10.3 are 2 at (5.05 + 15.45) / 2 = 10.25, to a tenth, even: 10.2."""
    tenth = 10**11
    levels = [((50 + n) * tenth, 1, 0) for n in range(25)] + [(101 * tenth, 5, 1), (103 * tenth, 15, 1)]
    assert grouped(levels)[25:] == [(102 * tenth, 20, 1)]


def test_a_group_too_large_for_one_number_stays_as_it_is() -> None:
    levels = [((50 + n) * 10**12, 9 * 10**17, 0) for n in range(30)]
    assert grouped(levels) == levels


def test_okx_funding_of_the_markets_of_the_tape_in_any_order(tmp_path: Path) -> None:
    """Sorted by moment; of the swap that no other file names the row is left out and counted."""
    trades = tmp_path / "BTC-USDT-SWAP-trades-2025-10-10.csv"
    trades.write_text(
        f"instrument_name,trade_id,side,price,size,created_time\nBTC-USDT-SWAP,1,buy,121000.5,3,{START}\n",
        encoding="utf-8",
    )
    funding = tmp_path / "allswap-fundingrates-2025-10-10.csv"
    funding.write_text(
        "instrument_name,funding_rate,funding_time\n"
        f"BTC-USDT-SWAP,-0.0000125,{START + 28_800_000}\n"
        f"BTC-USDT-SWAP,0.0001,{START}\n"
        f"XYZ-USD_UM-SWAP,0.0003,{START}\n",
        encoding="utf-8",
    )
    tape = imported("okx", tmp_path, trades, funding)
    assert tape.select("SELECT ts, market, rate FROM funding ORDER BY seq") == [
        (START * 10**6, 0, 100_000_000),
        ((START + 28_800_000) * 10**6, 0, -12_500_000),
    ]
    assert tape.manifest["counts"]["rows of other markets"] == 1


def instruments(*swaps: dict[str, str]) -> str:
    kinds = {"instType": "SWAP", "ctMult": "1", "ctType": "linear", "settleCcy": "USDT"}
    return json.dumps({"code": "0", "msg": "", "data": [kinds | swap for swap in swaps]}, indent=1)


def okx_trade(folder: Path, symbol: str) -> Path:
    file = folder / f"{symbol}-trades-2025-10-10.csv"
    file.write_text(
        f"instrument_name,trade_id,side,price,size,created_time\n{symbol},1,buy,121000.5,3,{START}\n",
        encoding="utf-8",
    )
    return file


@pytest.mark.parametrize(
    ("swap", "payoff", "multiplier", "settle"),
    [
        ({"instId": "BTC-USDT-SWAP", "ctVal": "0.01"}, Payoff.LINEAR, Fraction(1, 100), "USDT"),
        (
            {"instId": "SHIB-USDT-SWAP", "ctVal": "1000", "ctMult": "10"},
            Payoff.LINEAR,
            Fraction(10_000),
            "USDT",
        ),
        (
            {"instId": "BTC-USD-SWAP", "ctVal": "100", "ctType": "inverse", "settleCcy": "BTC"},
            Payoff.INVERSE,
            Fraction(100),
            "BTC",
        ),
    ],
)
def test_a_file_of_instruments_tells_what_a_contract_of_okx_is(
    tmp_path: Path, swap: dict[str, str], payoff: Payoff, multiplier: Fraction, settle: str
) -> None:
    """A swap that no other file names does not matter."""
    strange = {"instId": "XYZ-ABC_UM-SWAP", "ctVal": "1"}
    (tmp_path / "instruments.json").write_text(instruments(swap, strange), encoding="utf-8")
    trades = okx_trade(tmp_path, swap["instId"])
    tape = imported("okx", tmp_path, trades, tmp_path / "instruments.json")
    (market,) = tape.markets
    assert (market.payoff, market.multiplier) == (payoff, multiplier)
    assert tape.ledgers == [("", settle)]
    assert any("instruments.json, SHA-256" in text for text in tape.manifest["assumptions"])


def test_a_swap_that_the_file_of_instruments_lacks_is_one_error(tmp_path: Path) -> None:
    text = instruments({"instId": "ETH-USDT-SWAP", "ctVal": "0.1"})
    (tmp_path / "instruments.json").write_text(text, encoding="utf-8")
    with pytest.raises(
        SourceError, match=r"'BTC-USDT-SWAP' is not understood from instruments\.json: it is not there"
    ):
        imported("okx", tmp_path, okx_trade(tmp_path, "BTC-USDT-SWAP"), tmp_path / "instruments.json")


@pytest.mark.parametrize("value", ["0", "-1", "x", ""])
def test_a_contract_value_that_is_none_is_one_error(tmp_path: Path, value: str) -> None:
    strange = {"instId": "XYZ-ABC_UM-SWAP", "ctVal": "1"}
    text = instruments({"instId": "BTC-USDT-SWAP", "ctVal": value}, strange)
    (tmp_path / "instruments.json").write_text(text, encoding="utf-8")
    with pytest.raises(
        SourceError, match=r"'BTC-USDT-SWAP' is not understood from instruments\.json: ValueError"
    ):
        imported("okx", tmp_path, okx_trade(tmp_path, "BTC-USDT-SWAP"), tmp_path / "instruments.json")


RECORDED = (
    Path(__file__).parents[3] / "shared" / "data" / "payloads" / "okx" / "http_get_instruments_swap.json"
)


@pytest.mark.skipif(not RECORDED.is_file(), reason="the recordings in ../shared/data are not here")
def test_a_recorded_answer_of_instruments(tmp_path: Path) -> None:
    """0.01 BTC a contract, as the answer has it."""
    tape = imported("okx", tmp_path, okx_trade(tmp_path, "BTC-USDT-SWAP"), RECORDED)
    assert tape.markets[0].multiplier == Fraction(1, 100)
