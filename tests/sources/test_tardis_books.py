"""Day files of tardis.dev beside trades: books, liquidations, tickers. Built from the documented columns.

The recordings in ../shared/data hold trades only, so these files are written here, by the recorder's documentation.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from replay.errors import SourceError
from replay.rules import load_rules
from replay.run.execute import run
from replay.sources import import_source
from replay.tape.check import check_tape
from replay.tape.populate import Population, populate
from replay.tape.read import Tape, open_tape
from replay.tape.schema import PriceKind, Side

START = 1_760_054_400_000_000  # 2025-10-10T00:00:00Z in microseconds
HEAD = "exchange,symbol,timestamp,local_timestamp,"
VENUE = "binance-futures"
BID, ASK = int(Side.BID), int(Side.ASK)


def row(at_us: int, *cells: object) -> str:
    moment = START + at_us
    return f"{VENUE},BTCUSDT,{moment},{moment + 5_000}," + ",".join(map(str, cells)) + "\n"


def put(folder: Path, kind: str, header: str, *rows: str) -> Path:
    file = folder / f"{VENUE}_{kind}_2025-10-10_BTCUSDT.csv.gz"
    file.write_bytes(gzip.compress((HEAD + header + "\n" + "".join(rows)).encode()))
    return file


def trades(folder: Path, *rows: str) -> Path:
    return put(folder, "trades", "id,side,price,amount", *(rows or (row(0, 1, "buy", "100.5", "2.5"),)))


def imported(folder: Path, *files: Path) -> Tape:
    import_source("tardis", files, folder / "tape")
    return open_tape(folder / "tape")


def depth(tape: Tape) -> list[tuple[int, int, float, float]]:
    """Rows as (microseconds from the start, side, price, quantity)."""
    market = tape.markets[0]
    found = tape.select("SELECT ts, side, price, qty FROM depth ORDER BY seq")
    return [
        (ts // 1_000 - START, side, price / 10**market.price_scale, qty / 10**market.qty_scale)
        for ts, side, price, qty in found
    ]


def test_of_quotes_the_last_of_each_second_is_kept_at_its_own_moment(tmp_path: Path) -> None:
    quotes = put(
        tmp_path,
        "quotes",
        "ask_amount,ask_price,bid_price,bid_amount",
        row(100_000, "1", "101", "100", "2"),
        row(900_000, "3", "101.5", "100.25", "0.125"),
        row(2_000_000, "", "", "99", "7"),
    )
    assert depth(imported(tmp_path, quotes, trades(tmp_path))) == [
        (900_000, ASK, 101.5, 3.0),
        (900_000, BID, 100.25, 0.125),
        (2_000_000, BID, 99.0, 7.0),
    ]


@pytest.mark.parametrize("deep", [5, 25])
def test_a_snapshot_has_its_levels_and_blank_cells_are_none(tmp_path: Path, deep: int) -> None:
    names = [
        f"{s}[{n}].{what}" for n in range(deep) for s in ("asks", "bids") for what in ("price", "amount")
    ]
    cells = ["101", "1", "100", "2", "102", "3"] + [""] * (4 * deep - 6)
    file = put(tmp_path, f"book_snapshot_{deep}", ",".join(names), row(500_000, *cells))
    assert depth(imported(tmp_path, file, trades(tmp_path))) == [
        (500_000, ASK, 101.0, 1.0),
        (500_000, BID, 100.0, 2.0),
        (500_000, ASK, 102.0, 3.0),
    ]


CHANGES = "is_snapshot,side,price,amount"


def test_a_book_of_changes_is_put_together(tmp_path: Path) -> None:
    """A change before the first snapshot says nothing; zero takes a level away; a second snapshot clears the book."""
    file = put(
        tmp_path,
        "incremental_book_L2",
        CHANGES,
        row(0, "false", "bid", "50", "9"),
        row(100_000, "true", "bid", "100", "2"),
        row(100_000, "true", "bid", "99.5", "4"),
        row(100_000, "true", "ask", "101", "1"),
        row(600_000, "false", "bid", "100", "0"),
        row(700_000, "false", "ask", "100.75", "0.5"),
        row(1_200_000, "false", "ask", "100.75", "0.25"),
        row(2_500_000, "true", "bid", "90", "1"),
        row(2_500_000, "true", "ask", "91", "1"),
    )
    assert depth(imported(tmp_path, file, trades(tmp_path))) == [
        (700_000, BID, 99.5, 4.0),
        (700_000, ASK, 100.75, 0.5),
        (700_000, ASK, 101.0, 1.0),
        (1_200_000, BID, 99.5, 4.0),
        (1_200_000, ASK, 100.75, 0.25),
        (1_200_000, ASK, 101.0, 1.0),
        (2_500_000, BID, 90.0, 1.0),
        (2_500_000, ASK, 91.0, 1.0),
    ]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (("true", "bit", "100", "2"), "side: 'bit' is neither bid nor ask"),
        (("yes", "bid", "100", "2"), "is_snapshot: 'yes' is neither true nor false"),
        (("true", "bid", "-1", "2"), "price: '-1' is no plain decimal number above 0"),
        (("true", "bid", "1", "x"), "amount: 'x' is no plain decimal number of 0 or more"),
    ],
)
def test_a_wrong_cell_of_a_book_is_one_error(tmp_path: Path, cells: tuple[str, ...], message: str) -> None:
    good = row(0, "true", "bid", "1", "2")
    file = put(tmp_path, "incremental_book_L2", CHANGES, good, row(1, *cells))
    with pytest.raises(SourceError, match=rf"gz:3: {message}"):
        imported(tmp_path, file, trades(tmp_path))
    assert not (tmp_path / "tape").exists()


def test_two_kinds_of_books_are_refused(tmp_path: Path) -> None:
    quotes = put(
        tmp_path, "quotes", "ask_amount,ask_price,bid_price,bid_amount", row(0, "1", "101", "100", "2")
    )
    changes = put(tmp_path, "incremental_book_L2", CHANGES, row(0, "true", "bid", "1", "2"))
    with pytest.raises(SourceError, match="import one kind of books"):
        imported(tmp_path, quotes, changes, trades(tmp_path))


def test_a_crossed_book_is_found_by_the_check(tmp_path: Path) -> None:
    quotes = put(
        tmp_path, "quotes", "ask_amount,ask_price,bid_price,bid_amount", row(0, "1", "99", "100", "2")
    )
    (finding,) = check_tape(imported(tmp_path, quotes, trades(tmp_path))).findings
    assert (finding.message, finding.ts) == ("snapshots of BTCUSDT are crossed", START * 1_000)


def test_liquidations_are_of_nobody_in_particular_and_buy_closes_a_short(tmp_path: Path) -> None:
    """The recorder's side is that of the order: `buy` buys back a short, so the quantity is above zero."""
    file = put(
        tmp_path,
        "liquidations",
        "id,side,price,amount",
        row(0, "", "buy", "101.5", "3"),
        row(10, "", "sell", "98", "0.5"),
    )
    tape = imported(tmp_path, file, trades(tmp_path))
    found = tape.select("SELECT liquidation, account, qty, price, price_kind FROM liquidations ORDER BY seq")
    assert found == [(0, 0, 30, 1015, "order_limit"), (1, 0, -5, 980, "order_limit")]
    assert tape.account_names == ["@unseen"]
    assert tape.rows("trades") == 1


TICKER = (
    "funding_timestamp,funding_rate,predicted_funding_rate,open_interest,last_price,index_price,mark_price"
)


def test_a_ticker_gives_mark_index_and_the_rate_that_was_last_told_before_its_payment(tmp_path: Path) -> None:
    """Payment at second 5: the rate told last before is 0.0002; that of second 10 is not seen to pass."""
    five, ten = START + 5_000_000, START + 10_000_000
    file = put(
        tmp_path,
        "derivative_ticker",
        TICKER,
        row(0, "", "", "", "", "", "", "100"),
        row(1_000_000, five, "0.0001", "", "77", "99", "99.5", "100.25"),
        row(4_000_000, five, "0.0002", "", "77", "99", "99.5", "100.5"),
        row(6_000_000, ten, "0.0003", "", "77", "99", "98", "98.5"),
    )
    tape = imported(tmp_path, file, trades(tmp_path))
    assert tape.select("SELECT ts, rate FROM funding") == [(five * 1_000, 200_000_000)]
    kinds = {kind: [] for kind in (PriceKind.MARK, PriceKind.INDEX)}
    for kind, price in tape.select("SELECT kind, price FROM prices ORDER BY seq"):
        kinds[PriceKind(kind)].append(price / 10 ** tape.markets[0].mark_scale)
    assert kinds == {PriceKind.MARK: [100, 100.25, 100.5, 98.5], PriceKind.INDEX: [99.5, 99.5, 98]}


def test_a_day_without_rows_is_an_empty_file_and_is_counted(tmp_path: Path) -> None:
    empty = tmp_path / f"{VENUE}_liquidations_2025-10-10_ETHUSDT.csv.gz"
    empty.write_bytes(gzip.compress(b""))
    assert imported(tmp_path, empty, trades(tmp_path)).manifest["counts"]["files without rows"] == 1


def test_all_files_empty_is_an_error(tmp_path: Path) -> None:
    empty = tmp_path / f"{VENUE}_trades_2025-10-10_ETHUSDT.csv.gz"
    empty.write_bytes(gzip.compress(b""))
    with pytest.raises(SourceError, match="none of the 1 files has a row"):
        imported(tmp_path, empty)


def test_a_day_with_all_of_them_is_populated_and_replayed(tmp_path: Path) -> None:
    """What nobody in particular was liquidated of stays apart from the modelled accounts."""
    step = 1_000_000
    prices = [100 - at // 20 for at in range(400)]
    made = trades(
        tmp_path, *(row(at * step, at, "sell" if at % 3 else "buy", prices[at], 5) for at in range(400))
    )
    quotes = put(
        tmp_path,
        "quotes",
        "ask_amount,ask_price,bid_price,bid_amount",
        *(row(at * step, 1, prices[at] + 1, prices[at] - 1, 1) for at in range(400)),
    )
    forced = put(tmp_path, "liquidations", "id,side,price,amount", row(100 * step, "", "sell", "98", "0.5"))
    tape = imported(tmp_path, made, quotes, forced)
    populate(tape, tmp_path / "peopled", Population(accounts=100, makers=5))
    peopled = open_tape(tmp_path / "peopled")
    ((account,),) = peopled.select("SELECT account FROM liquidations")
    assert peopled.account_names[account] == "@unseen"
    book = load_rules("hyperliquid@2025-10-10")  # its orders meet the levels of the tape
    result = run(peopled, book, tmp_path / "run", liquidations="rules", execution="depth")
    assert not result.manifest["conservation"]["open_markets"]
