"""Hyperliquid's closed-alpha files, written by hand: what arrives on the tape, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from replay.errors import SourceError
from replay.sources import hyperliquid_alpha, import_source
from replay.tape.read import Tape, open_tape
from replay.tape.schema import FillKind, Grade, PriceKind, Role, TransferKind
from replay.units import parse_time
from tests.sources.node_fills import ANN, BEN, write

TRADES = "time,user,coin,side,px,sz,crossed"
TRANSFERS = "time,user,delta_usd"
LIQUIDATIONS = "time,user,liquidated_ntl_pos,liquidated_account_value,leverage_type"
DAY = "2023-03-01T"


def at(clock: str) -> int:
    return parse_time(f"{DAY}{clock}Z")


def trade(clock: str, coin: str, side: str, px: str, sz: str, crossed: str = "true", user: str = ANN) -> str:
    return f"{DAY}{clock}Z,{user},{coin},{side},{px},{sz},{crossed}"


def paid(clock: str, amount: str, user: str = ANN) -> str:
    return f"{DAY}{clock}Z,{user},{amount}"


def liquidated(clock: str, notional: str, equity: str, mode: str = "Cross", user: str = ANN) -> str:
    return f"{DAY}{clock}Z,{user},{notional},{equity},{mode}"


DEPOSIT = paid("00:00:01", "100")
OPEN = trade("00:01:00", "ETH", "Bid", "1000", "2")


def files(
    folder: Path,
    trades: list[str],
    liquidations: list[str] | None = None,
    transfers: list[str] | None = None,
) -> list[Path]:
    return [
        write(folder / "a.csv", LIQUIDATIONS, *(liquidations or [])),
        write(folder / "b.csv", TRADES, *trades),
        write(folder / "c.csv", TRANSFERS, *([DEPOSIT] if transfers is None else transfers)),
    ]


def imported(folder: Path, *rows: list[str], **options: Any) -> Tape:
    import_source("hyperliquid", files(folder, *rows), folder / "tape", **options)
    return open_tape(folder / "tape")


def select(tape: Tape, query: str) -> list[tuple[Any, ...]]:
    return tape.connection().execute(query).fetchall()


def refused(folder: Path, paths: list[Path]) -> SourceError:
    before = sorted(folder.iterdir())
    with pytest.raises(SourceError) as caught:
        import_source("hyperliquid", paths, folder / "tape")
    assert sorted(folder.iterdir()) == before, "a failed import leaves nothing behind"
    return caught.value


def test_trades_and_transfers_arrive_exactly_duplicates_too(tmp_path: Path) -> None:
    sold = trade("00:02:00", "DOGE", "Ask", "0.085193", "9653", "false", BEN)
    deposits = [DEPOSIT, paid("00:00:02", "0.000001", BEN), paid("00:09:00", "-12.5")]
    tape = imported(tmp_path, [OPEN, sold, sold], [], deposits)
    names = "ts, seq, block, market, account, qty, price, fee, fee_ledger, role, kind, match, paired, victim"
    query = f"SELECT {names}, start_position, mode FROM fills ORDER BY seq"
    trades = FillKind.TRADE
    tail = (None, 0, None, None, 0)
    assert select(tape, query) == [
        (at("00:01:00"), 0, None, 0, 0, 2, 1000, 0, 0, Role.TAKER, trades, *tail),
        (at("00:02:00"), 1, None, 1, 1, -9653, 85_193, 0, 0, Role.MAKER, trades, *tail),
        (at("00:02:00"), 2, None, 1, 1, -9653, 85_193, 0, 0, Role.MAKER, trades, *tail),
    ]
    assert select(tape, "SELECT ts, account, ledger, market, amount, kind FROM transfers ORDER BY seq") == [
        (at("00:00:01"), 0, 0, None, 10_000_000_000, TransferKind.DEPOSIT),
        (at("00:00:02"), 1, 0, None, 100, TransferKind.DEPOSIT),
        (at("00:09:00"), 0, 0, None, -1_250_000_000, TransferKind.WITHDRAWAL),
    ]
    assert tape.manifest["accounts_start"] == "known"
    assert select(tape, "SELECT * FROM accounts") == []


def test_the_resting_fills_that_end_at_zero_are_the_takeover(tmp_path: Path) -> None:
    second = [
        trade("00:05:00", "ETH", "Bid", "990", "0.5", "true"),
        trade("00:05:00", "BTC", "Bid", "20000", "0.1", "false", BEN),
        trade("00:05:00", "ETH", "Ask", "980", "1.5", "false"),
        trade("00:05:00", "ETH", "Ask", "980.0", "1", "false"),
    ]
    tape = imported(tmp_path, [OPEN, *second], [liquidated("00:05:00", "2462.5", "12.5")])
    assert select(tape, "SELECT kind, victim FROM fills ORDER BY seq") == [
        (FillKind.TRADE, None),
        (FillKind.TRADE, None),
        (FillKind.TRADE, None),
        (FillKind.BACKSTOP, 0),
        (FillKind.BACKSTOP, 0),
    ]
    columns = "ts, liquidation, account, market, qty, price, price_kind, mode, method, notional, equity, mark"
    assert select(tape, f"SELECT {columns} FROM liquidations") == [
        # 2462.5 / 2.5 = 985
        (at("00:05:00"), 0, 0, 0, -25, 980, "fill", "Cross", None, 246_250_000_000, 1_250_000_000, 985)
    ]
    prices = "SELECT ts, market, kind, price FROM prices"
    assert select(tape, prices) == [(at("00:05:00"), 0, PriceKind.IMPLIED, 985)]


def test_a_liquidation_of_several_markets_has_a_leg_each_and_no_mark(tmp_path: Path) -> None:
    trades = [
        OPEN,
        trade("00:01:00", "SOL", "Ask", "20", "10"),
        trade("00:05:00", "ETH", "Ask", "980", "2", "false"),
        trade("00:05:00", "SOL", "Bid", "21", "4", "false"),
        trade("00:05:00", "SOL", "Bid", "21.5", "6", "false"),
    ]
    tape = imported(tmp_path, trades, [liquidated("00:05:00", "2170", "-3.25", "Isolated")])
    query = "SELECT liquidation, m.name, qty, price, price_kind, l.mode, notional, equity, mark"
    assert select(tape, f"{query} FROM liquidations l JOIN markets m USING (market) ORDER BY seq") == [
        (0, "ETH", -2, 980, "fill", "Isolated", 217_000_000_000, -325_000_000, None),
        (0, "SOL", 10, None, None, "Isolated", 217_000_000_000, -325_000_000, None),
    ]
    assert select(tape, "SELECT * FROM prices") == []
    assert tape.manifest["counts"]["liquidations of several markets"] == 1


def test_no_mark_is_implied_where_the_account_held_something_else(tmp_path: Path) -> None:
    trades = [
        OPEN,
        trade("00:01:00", "SOL", "Ask", "20", "10"),
        trade("00:05:00", "ETH", "Ask", "980", "2", "false"),
    ]
    tape = imported(tmp_path, trades, [liquidated("00:05:00", "2170", "3", "Isolated")])
    assert select(tape, "SELECT qty, price, mark FROM liquidations") == [(-2, 980, None)]
    assert select(tape, "SELECT * FROM prices") == []
    assert tape.manifest["counts"]["implied marks left out beside other positions"] == 1


def test_an_implied_mark_that_does_not_end_is_rounded_and_counted(tmp_path: Path) -> None:
    trades = [trade("00:01:00", "ETH", "Bid", "1", "3"), trade("00:05:00", "ETH", "Ask", "1", "3", "false")]
    tape = imported(tmp_path, trades, [liquidated("00:05:00", "2", "0.000001")])
    assert select(tape, "SELECT price, mark_scale FROM prices JOIN markets USING (market)") == [
        (66_666_667, 8)
    ]
    assert tape.manifest["counts"]["implied marks rounded"] == 1


@pytest.mark.parametrize(
    "closing",
    [
        [],
        [trade("00:05:00", "ETH", "Ask", "980", "2", "true")],
        [trade("00:05:00", "ETH", "Ask", "980", "1.9", "false")],
        [trade("00:05:00", "ETH", "Ask", "980", "2.1", "false")],
        [trade("00:05:01", "ETH", "Ask", "980", "2", "false")],
        [trade("00:04:59", "ETH", "Ask", "980", "2", "false")],
        [trade("00:05:00", "ETH", "Ask", "980", "2", "false", BEN)],
    ],
    ids=["nothing", "taker", "not all", "too much", "later", "earlier", "another account"],
)
def test_a_liquidation_without_a_takeover_names_no_market(tmp_path: Path, closing: list[str]) -> None:
    tape = imported(tmp_path, [OPEN, *closing], [liquidated("00:05:00", "1960", "3")])
    query = "SELECT ts, account, market, qty, price, price_kind, mode, notional, mark FROM liquidations"
    assert select(tape, query) == [
        (at("00:05:00"), 0, None, None, None, None, "Cross", 196_000_000_000, None)
    ]
    assert select(tape, "SELECT DISTINCT kind FROM fills") == [(FillKind.TRADE,)]
    assert tape.manifest["counts"]["liquidations without forced fills"] == 1


def test_liquidations_before_and_after_all_trades_are_kept(tmp_path: Path) -> None:
    times = ["00:00:30", "00:05:00", "00:05:00", "09:00:00"]
    users = [BEN, ANN, BEN, BEN]
    reports = [liquidated(clock, "1", "1", user=user) for clock, user in zip(times, users, strict=True)]
    tape = imported(tmp_path, [OPEN, trade("00:05:00", "ETH", "Ask", "1", "2", "false")], reports)
    query = "SELECT liquidation, ts, market IS NULL FROM liquidations ORDER BY seq"
    assert select(tape, query) == [
        (0, at("00:00:30"), True),
        (1, at("00:05:00"), False),
        (2, at("00:05:00"), True),
        (3, at("09:00:00"), True),
    ]


def test_two_reports_of_one_account_in_a_second_share_no_fill(tmp_path: Path) -> None:
    reports = [liquidated("00:05:00", "1960", "3"), liquidated("00:05:00", "5", "1", "Isolated")]
    tape = imported(tmp_path, [OPEN, trade("00:05:00", "ETH", "Ask", "980", "2", "false")], reports)
    assert select(tape, "SELECT liquidation, qty FROM liquidations ORDER BY seq") == [(0, -2), (1, None)]


def test_accounts_that_trade_before_a_deposit_are_of_unknown_equity(tmp_path: Path) -> None:
    late, never = "0x" + "d" * 40, "0x" + "e" * 40
    trades = [OPEN, *(trade("00:01:00", "ETH", "Bid", "1000", "1", user=user) for user in (BEN, late, never))]
    transfers = [
        DEPOSIT,
        paid("00:01:00", "5", BEN),
        paid("00:01:01", "5", late),
        paid("00:02:00", "-1", never),
    ]
    tape = imported(tmp_path, trades, [], transfers)
    query = "SELECT n.name, ledger, market, cash, grade FROM accounts JOIN account_names n USING (account)"
    assert select(tape, query) == [(late, 0, None, 0, Grade.UNKNOWN), (never, 0, None, 0, Grade.UNKNOWN)]
    assert tape.manifest["counts"]["accounts that traded before any deposit"] == 2


BAD_ROWS = [
    ("b.csv", OPEN.replace(",2,", ",-2,"), "sz '-2' is not positive"),
    ("b.csv", OPEN.replace(",2,", ",0,"), "sz '0' is not positive"),
    ("b.csv", OPEN.replace("1000", "NaN"), "px 'NaN' is not a plain decimal number"),
    ("b.csv", OPEN.replace("1000", "1e3"), "px '1e3' is not a plain decimal number"),
    ("b.csv", OPEN.replace("1000", "-1"), "px '-1' is not positive"),
    ("b.csv", OPEN.replace("1000", '"1000"'), "is not a plain decimal number"),
    ("b.csv", OPEN.replace("Bid", "Buy"), "side 'Buy' is neither Bid nor Ask"),
    ("b.csv", OPEN.replace("true", "True"), "crossed 'True' is neither true nor false"),
    ("b.csv", OPEN.replace("true", "tr"), "crossed 'tr' is neither true nor false"),
    ("b.csv", OPEN.replace("ETH", ""), "coin '' is not the name of a coin"),
    ("b.csv", OPEN.replace(ANN, "0xabc"), "user '0xabc' is not an address"),
    ("b.csv", OPEN.replace("Z,", ","), "is not a UTC time"),
    ("b.csv", OPEN.replace("2023-03-01", "2023-02-31"), "day is out of range"),
    ("b.csv", OPEN.replace("2023", "1969"), "is not between 2015 and 2035"),
    ("b.csv", OPEN[:-6], "has 6 cells, not 7"),
    ("b.csv", OPEN + ",", "has 8 cells, not 7"),
    ("b.csv", OPEN.replace("00:01:00", "00:00:59"), "is older than the row before it"),
    ("c.csv", paid("00:01:00", "inf"), "delta_usd 'inf' is not a plain decimal number"),
    ("c.csv", paid("00:01:00", "9" * 18), "does not fit"),
    ("c.csv", paid("00:00:00", "5"), "is older than the row before it"),
    ("a.csv", liquidated("00:01:00", "-5", "1"), "liquidated_ntl_pos '-5' is not positive"),
    (
        "a.csv",
        liquidated("00:01:00", "5", "nan"),
        "liquidated_account_value 'nan' is not a plain decimal number",
    ),
    (
        "a.csv",
        liquidated("00:01:00", "5", "1", "cross"),
        "leverage_type 'cross' is neither Cross nor Isolated",
    ),
]


@pytest.mark.parametrize(("name", "row", "problem"), BAD_ROWS, ids=[problem for _, _, problem in BAD_ROWS])
def test_a_row_that_cannot_be_understood_stops_the_import(
    tmp_path: Path, name: str, row: str, problem: str
) -> None:
    paths = files(tmp_path, [OPEN])
    file = tmp_path / name
    file.write_text(file.read_text() + row + "\n")
    error = refused(tmp_path, paths)
    assert error.file == str(file)
    assert error.row == len(file.read_text().splitlines())
    assert problem in error.problem


def test_a_row_that_is_not_utf8_stops_the_import(tmp_path: Path) -> None:
    paths = files(tmp_path, [OPEN])
    with paths[1].open("ab") as stream:
        stream.write(b"\xff\xfe,x\n")
    error = refused(tmp_path, paths)
    assert (error.row, error.problem) == (3, "is not UTF-8")


def test_rows_set_aside_stand_as_they_were_and_too_many_fail(tmp_path: Path) -> None:
    good = [trade("00:01:00", "ETH", "Bid", "1000", "1")] * 998
    bad = trade("00:02:00", "ETH", "Bid", "NaN", "1")
    path = tmp_path / "rejects"
    tape = imported(tmp_path, [*good, bad], rejects=path)
    record = json.loads(path.read_text())
    assert (record["file"], record["line"], record["text"]) == (str(tmp_path / "b.csv"), 1000, bad)
    assert tape.manifest["counts"]["fills"] == 998
    assert tape.manifest["counts"]["rows set aside"] == 1
    with pytest.raises(SourceError, match="2 of 1,001 rows could not be understood"):
        import_source(
            "hyperliquid", files(tmp_path, [*good, bad, bad]), tmp_path / "other", rejects=path, force=True
        )
    assert len(path.read_text().splitlines()) == 2
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("time,user,coin,side,px,crossed", "lacks the column sz, of the file of trades"),
        ("user,coin,px", "lacks the column time, side, sz, crossed, of the file of trades"),
        (TRADES + ",fee", "has the unknown column fee, of the file of trades"),
        ("user,time,coin,side,px,sz,crossed", "has its columns in another order, of the file of trades"),
        ("time,user", "is of no form of Hyperliquid files that is read"),
        (LIQUIDATIONS, "holds liquidations, and so does a.csv"),
    ],
)
def test_headers_tell_the_files_and_must_be_whole(tmp_path: Path, header: str, problem: str) -> None:
    paths = files(tmp_path, [OPEN])
    write(paths[1], header, OPEN)
    error = refused(tmp_path, paths)
    assert error.file == str(paths[1])
    assert problem in error.problem


def test_each_of_the_three_files_is_needed(tmp_path: Path) -> None:
    paths = files(tmp_path, [OPEN])
    for missing in range(3):
        given = [path for place, path in enumerate(paths) if place != missing]
        assert "are missing" in refused(tmp_path, given).problem


def test_files_without_rows_or_without_trades_are_refused(tmp_path: Path) -> None:
    paths = files(tmp_path, [])
    assert refused(tmp_path, paths).problem == "holds no fills"
    paths[1].write_bytes(b"")
    assert refused(tmp_path, paths).problem == "is empty"


def test_the_tape_depends_neither_on_names_and_order_of_files_nor_on_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trades = [OPEN, *[trade("00:02:00", "ETH", "Ask", "1000", "0.1")] * 10]
    trades += [trade("00:05:00", "ETH", "Ask", "980", "1", "false")]
    paths = files(tmp_path, trades, [liquidated("00:05:00", "1000", "3")])
    import_source("hyperliquid", paths, tmp_path / "one")
    monkeypatch.setattr(hyperliquid_alpha, "_BATCH_ROWS", 3)
    import_source("hyperliquid", paths[::-1], tmp_path / "two")
    one, two = (
        {p.relative_to(t): p.read_bytes() for p in t.rglob("*") if p.is_file()}
        for t in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two
