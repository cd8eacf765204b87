"""Deribit's public API: recorded answers and messages row by row, and fixtures of what no recording has.

Recorded in ../shared/data are one liquidated taker and one liquidated maker; a trade of two liquidations, a history of
funding and overlapping pages are written here after tape-formats.md, section 5.2.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from replay.errors import SourceError
from replay.rules import load_rules
from replay.run.execute import run
from replay.run.sql import query
from replay.sources import _read, import_source
from replay.tape.populate import Population, populate
from replay.tape.read import open_tape
from replay.tape.schema import Payoff, PriceKind, Side
from replay.units import parse_time
from tests.end_to_end.recordings import recording
from tests.sources import test_drift_v1 as drift_v1
from tests.sources import test_dydx as dydx
from tests.sources.kept_answers import checked_tape, write
from tests.sources.test_recorded_messages import recorded

START = 1_760_130_900_000  # 2025-10-10T21:15:00Z
NS = 10**6


def trade(
    number: int,
    at: int,
    price: float,
    amount: float,
    direction: str = "buy",
    name: str = "BTC-PERPETUAL",
    **more: Any,
) -> dict[str, Any]:
    return {
        "trade_seq": number,
        "trade_id": str(5_000 + number),
        "timestamp": START + at,
        "tick_direction": 0,
        "price": price,
        "mark_price": price + 0.25,
        "index_price": price - 1,
        "instrument_name": name,
        "direction": direction,
        "amount": amount,
        **more,
    }


def answer(*trades: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "result": {"trades": list(trades), "has_more": False}}


def book(at: int, change: int, previous: int | None, bids: list[Any], asks: list[Any]) -> dict[str, Any]:
    data: dict[str, Any] = {
        "type": "snapshot" if previous is None else "change",
        "instrument_name": "BTC-PERPETUAL",
        "timestamp": START + at,
        "change_id": change,
        "bids": bids,
        "asks": asks,
    }
    if previous is not None:
        data["prev_change_id"] = previous
    return {
        "jsonrpc": "2.0",
        "method": "subscription",
        "params": {"channel": "book.BTC-PERPETUAL.raw", "data": data},
    }


BOOK = (
    book(0, 10, None, [["new", 100.5, 20.0], ["new", 100.0, 10.0]], [["new", 101.0, 30.0]]),
    book(400, 12, 10, [["delete", 100.5, 0.0]], [["change", 101.0, 5.0]]),
    book(1_100, 15, 12, [["new", 100.25, 7.0]], []),
)


imported = partial(checked_tape, "deribit")


# --- recorded answers and messages


@pytest.mark.real
def test_recorded_trades_are_on_the_tape_with_their_marks(tmp_path: Path) -> None:
    """A mark and an index are told where they change: 4 of the 10 trades have the mark of the trade before."""
    payload = json.loads(
        (recording("payloads") / "deribit" / "http_get_last_trades.json").read_text(encoding="utf-8")
    )
    rows = payload["result"]["trades"]
    tape = imported(write(tmp_path / "answers", trades=payload), tmp_path / "tape")
    (market,) = tape.markets
    assert (market.name, market.payoff, market.multiplier) == ("ETH-PERPETUAL", Payoff.INVERSE, 1)
    assert (market.price_scale, market.mark_scale, market.qty_scale) == (1, 2, 0)
    assert tape.select("SELECT ts, price, qty, taker_side, trade_id FROM trades ORDER BY seq") == [
        (
            row["timestamp"] * NS,
            round(row["price"] * 10),
            round(row["amount"]),
            1 if row["direction"] == "buy" else -1,
            row["trade_seq"],
        )
        for row in rows
    ]
    for kind, key in ((PriceKind.MARK, "mark_price"), (PriceKind.INDEX, "index_price")):
        told = [(row["timestamp"] * NS, round(row[key] * 100)) for row in rows]
        changed = [
            row
            for before, row in zip([None, *told], told, strict=False)
            if before is None or before[1] != row[1]
        ]
        assert tape.select(f"SELECT ts, price FROM prices WHERE kind = {kind:d} ORDER BY seq") == changed


@pytest.mark.real
def test_combinations_are_left_out_and_a_book_answer_is_a_snapshot(tmp_path: Path) -> None:
    folder = tmp_path / "answers"
    folder.mkdir()
    for name in ("http_get_last_trades_future_combo.json", "http_get_order_book.json"):
        (folder / name).write_bytes((recording("payloads") / "deribit" / name).read_bytes())
    tape = imported(folder, tmp_path / "tape")
    assert tape.manifest["counts"]["rows of options, combinations and spot left out"] == 3
    assert not tape.rows("trades")
    levels = tape.select("SELECT side, price, qty FROM depth ORDER BY seq")
    bids, asks = ([row[1:] for row in levels if row[0] == side] for side in (Side.BID, Side.ASK))
    assert (len(bids), len(asks)) == (20, 20)
    assert (bids[0], asks[0]) == ((870_025, 199_190), (870_030, 125_090))
    mark = tape.select(f"SELECT price FROM prices WHERE kind = {PriceKind.MARK:d}")
    assert mark == [(8_700_621,)]


@pytest.mark.real
def test_recorded_messages_are_what_another_program_makes_of_them(tmp_path: Path) -> None:
    """Trades, the two liquidations of 2020-03-13 with the side of their orders, and marks of tickers."""
    recording("payloads")
    mine = recorded("deribit")
    tape = imported(write(tmp_path / "messages", all=[message for message, _ in mine]), tmp_path / "tape")
    expected = [row for _, rows in mine for row in rows]

    def told(kind: str) -> list[tuple[Any, ...]]:
        return sorted(
            (
                row["symbol"],
                parse_time(row["timestamp"]),
                float(row["price"]),
                float(row["amount"]),
                row["side"],
            )
            for row in expected
            if row["type"] == kind
        )

    def shown(table: str, side: str) -> list[tuple[Any, ...]]:
        columns = f"name, t.ts, price / 10.0**price_scale, abs(t.qty) / 10.0**qty_scale, {side}"
        found = tape.select(f"SELECT {columns} FROM {table} t JOIN markets USING (market)")
        return sorted((*row, "buy" if sign > 0 else "sell") for *row, sign in found)

    assert shown("trades", "taker_side") == told("trade")
    assert shown("liquidations", "sign(t.qty)") == told("liquidation")
    marks = tape.select(
        "SELECT ts, price / 10.0**mark_scale FROM prices JOIN markets USING (market) "
        f"WHERE kind = {PriceKind.MARK:d} ORDER BY seq"
    )
    tickers = [
        row for row in expected if row["type"] == "derivative_ticker" and row["symbol"] == "BTC-PERPETUAL"
    ]
    assert marks == sorted((parse_time(row["timestamp"]), float(row["markPrice"])) for row in tickers)
    assert len(tickers) == 2


# --- fixtures of the documented rows


def test_who_was_liquidated_closed_by_its_own_side(tmp_path: Path) -> None:
    """A seller's trade: the taker was long, the maker short; `MT` is both, and one print is two liquidations."""
    trades = [
        trade(1, 0, 100.5, 10, "sell"),
        trade(2, 0, 100.0, 20, "sell", liquidation="T"),
        trade(3, 5, 99.5, 30, "sell", liquidation="M"),
        trade(4, 5, 99.0, 40, "sell", liquidation="MT"),
    ]
    tape = imported(write(tmp_path / "day", trades=answer(*trades)), tmp_path / "tape")
    assert tape.account_names == ["@unseen"]
    assert tape.select("SELECT ts, qty, price, price_kind, method FROM liquidations ORDER BY seq") == [
        (START * NS, -20, 1_000, "fill", "T"),
        ((START + 5) * NS, 30, 995, "fill", "M"),
        ((START + 5) * NS, -40, 990, "fill", "MT"),
        ((START + 5) * NS, 40, 990, "fill", "MT"),
    ]
    assert tape.manifest["counts"]["trades with two liquidations"] == 1


def test_pages_overlap_in_any_order(tmp_path: Path) -> None:
    """Newest first or oldest first: a trade is known by its instrument and number, and sorted by them."""
    one = answer(trade(3, 10, 101, 10), trade(2, 10, 100, 10), trade(1, 0, 99, 10))
    two = answer(
        trade(3, 10, 101, 10), trade(4, 20, 102, 10), trade(3, 15, 1.5, 10, name="XRP_USDC-PERPETUAL")
    )
    tape = imported(write(tmp_path / "day", one=one, two=two), tmp_path / "tape")
    found = tape.select("SELECT name, trade_id FROM trades JOIN markets USING (market) ORDER BY seq")
    assert found == [
        ("BTC-PERPETUAL", 1),
        ("BTC-PERPETUAL", 2),
        ("BTC-PERPETUAL", 3),
        ("XRP_USDC-PERPETUAL", 3),
        ("BTC-PERPETUAL", 4),
    ]
    assert [(market.payoff, tape.ledgers[market.ledger]) for market in tape.markets] == [
        (Payoff.INVERSE, ("", "BTC")),
        (Payoff.LINEAR, ("", "USDC")),
    ]
    assert tape.manifest["counts"]["trades that stand there twice"] == 1


def test_of_a_book_the_last_of_each_second_is_kept(tmp_path: Path) -> None:
    tape = imported(write(tmp_path / "day", book=BOOK), tmp_path / "tape")
    assert tape.select("SELECT ts, side, price, qty FROM depth ORDER BY seq") == [
        ((START + 400) * NS, Side.BID, 10_000, 10),
        ((START + 400) * NS, Side.ASK, 10_100, 5),
        ((START + 1_100) * NS, Side.BID, 10_025, 7),
        ((START + 1_100) * NS, Side.BID, 10_000, 10),
        ((START + 1_100) * NS, Side.ASK, 10_100, 5),
    ]
    assert "gaps in the numbers of books" not in {key for key, n in tape.manifest["counts"].items() if n}


def test_a_broken_chain_of_changes_is_counted(tmp_path: Path) -> None:
    tape = imported(write(tmp_path / "day", book=[BOOK[0], BOOK[2]]), tmp_path / "tape")
    assert tape.manifest["counts"]["gaps in the numbers of books"] == 1


def test_a_history_of_funding_belongs_to_the_market_of_its_file(tmp_path: Path) -> None:
    """1.5e-05 of an hour is 15,000,000 in 1e-12; two answers overlap by an hour."""
    hours = [
        {"timestamp": START + hour * 3_600_000, "interest_1h": rate, "interest_8h": 1, "index_price": 100.5}
        for hour, rate in enumerate((1.5e-05, -2e-06))
    ]
    documents = [{"jsonrpc": "2.0", "result": hours}, {"jsonrpc": "2.0", "result": hours[1:]}]
    folder = write(tmp_path / "day", **{"BTC-PERPETUAL_funding": documents})
    tape = imported(folder, tmp_path / "tape")
    assert tape.select("SELECT ts, rate FROM funding ORDER BY seq") == [
        (START * NS, 15_000_000),
        ((START + 3_600_000) * NS, -2_000_000),
    ]
    (folder / "BTC-PERPETUAL_funding.json").rename(folder / "funding.json")
    with pytest.raises(SourceError, match="its market is told neither by the answer nor by a file name"):
        import_source("deribit", [folder], tmp_path / "other")


def bankruptcy(at: int, lost: float, shared: float, spelled: str = "session_bankruptcy") -> dict[str, Any]:
    """A settlement of the type bankruptcy, as documented: the fund paid what was not shared."""
    return {
        "type": "bankruptcy",
        "timestamp": START + at,
        "session_profit_loss": 12.5,
        spelled: lost,
        "funded": 0,
        "session_tax": shared,
        "session_tax_rate": 0.0001,
        "socialized": shared,
    }


def test_losses_that_were_shared_are_liquidations_of_nobody_without_a_fill(tmp_path: Path) -> None:
    """A fixture of the documented keys: 0.5 BTC lost, 0.2 of them shared, told with either sign; pages overlap.

    A trade that liquidated its taker stands between; a delivery is left out and counted.
    """
    pages = [
        {"result": {"settlements": rows, "continuation": "x"}}
        for rows in (
            [bankruptcy(2_000, 0.5, -0.2), {"type": "delivery", "timestamp": START, "instrument_name": "x"}],
            [bankruptcy(2_000, 0.5, -0.2), bankruptcy(0, 0.25, 0, "session_bankrupcy")],
        )
    ]
    folder = write(
        tmp_path / "day",
        **{
            "BTC-PERPETUAL_bankruptcies": pages,
            "trades": answer(trade(1, 1_000, 100.5, 10, liquidation="T")),
        },
    )
    tape = imported(folder, tmp_path / "tape")
    assert tape.select(
        "SELECT ts, qty, price, price_kind, method, equity FROM liquidations ORDER BY seq"
    ) == [
        (START * NS, None, None, None, "bankruptcy", -25_000_000),
        ((START + 1_000) * NS, 10, 1_005, "fill", "T", None),
        ((START + 2_000) * NS, None, None, None, "bankruptcy", -50_000_000),
        ((START + 2_000) * NS, None, None, None, "socialized", -20_000_000),
    ]
    assert tape.select("SELECT DISTINCT account, market FROM liquidations") == [
        (tape.account_names.index("@unseen"), 0)
    ]
    assert tape.manifest["counts"]["settlements and deliveries left out"] == 1
    populate(tape, tmp_path / "peopled", Population(accounts=50))
    made = run(open_tape(tmp_path / "peopled"), load_rules("deribit@2022-01-11"), tmp_path / "run")
    told = query(
        made,
        "SELECT method, recorded_equity, verdict FROM recorded_liquidations "
        "WHERE method IN ('bankruptcy', 'socialized') ORDER BY ts, method",
    )
    assert [tuple(row.values()) for row in told.table().to_pylist()] == [
        ("bankruptcy", -0.25, "unmatched"),
        ("bankruptcy", -0.5, "unmatched"),
        ("socialized", -0.2, "unmatched"),
    ]


def test_a_populated_day_runs_under_the_rules_of_the_venue(tmp_path: Path) -> None:
    """A minute of trades, falling by a tenth: the made accounts are liquidated by the rules, and the books close."""
    trades = [
        trade(n, n * 100, 100_000 - 20 * n, 1_000 + 10 * (n % 7), "buy" if n % 3 else "sell")
        for n in range(1, 600)
    ]
    tape = imported(write(tmp_path / "day", trades=answer(*trades)), tmp_path / "tape")
    populate(tape, tmp_path / "peopled", Population(accounts=50))
    made = run(
        open_tape(tmp_path / "peopled"),
        load_rules("deribit@2022-01-11"),
        tmp_path / "run",
        liquidations="rules",
        execution="depth",
    )
    assert not made.manifest["conservation"]["open_markets"]


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (answer(trade(1, 0, -5, 1)), "price -5 is not above zero (row 1 of the line)"),
        (answer(trade(1, 0, 5, 1, "long")), "direction 'long' is none of buy, sell"),
        (answer(trade(1, 0, 5, 1, liquidation="X")), "liquidation 'X' is none of T, M, MT"),
        (answer(trade(1, -START, 5, 1)), "the moment 0 is not between 2015 and 2035"),
        (answer({"instrument_name": "BTC-PERPETUAL"}), "None is no moment in milliseconds"),
        ({"result": {"trades": 5}}, "trades is no list"),
        ({"result": {"settlements": 5}}, "settlements is no list"),
        (
            {"result": {"settlements": [{"type": "x"}]}},
            "type 'x' is none of settlement, delivery, bankruptcy",
        ),
        (
            {"result": {"settlements": [bankruptcy(0, 1, 0)]}},
            "its market is told neither by the answer nor by",
        ),
        ({"error": {"code": 10_028, "message": "too_many_requests"}}, "is an error of Deribit's API"),
        ({"foo": 1}, "has the keys foo, which are of no answer that is read"),
        (
            book(0, 1, None, [["add", 1.5, 2.0]], []),
            "the action 'add' of a level is none of new, change, delete",
        ),
        ([5], "is no object of Deribit's API"),
    ],
)
def test_a_row_that_cannot_be_understood_is_named(tmp_path: Path, document: Any, problem: str) -> None:
    folder = write(tmp_path / "bad", trades=[answer(), document])
    with pytest.raises(SourceError) as caught:
        import_source("deribit", [folder], tmp_path / "tape")
    assert problem in caught.value.problem
    assert (caught.value.file, caught.value.row) == (str(folder / "trades.json"), 2)
    assert not (tmp_path / "tape").exists()


@pytest.mark.parametrize("source", ["deribit", "dydx-v4", "drift-v1"])
def test_more_rows_than_may_be_held_are_refused_before_memory_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """Importers that sort what they read hold it; of eight rows the fifth is one too many."""
    monkeypatch.setattr(_read, "MOST_HELD", 4)
    rows = range(1, 9)
    if source == "drift-v1":
        file = tmp_path / "liquidations.csv"
        lines = [drift_v1.liquidation(n, f"11:00:{n:02}", collateral=1, pnl=-1, fee=(n, n)) for n in rows]
        file.write_text("\n".join([drift_v1.HEADS["liquidations"], *lines]) + "\n")
    elif source == "dydx-v4":
        documents = [
            {"trades": [dydx.trade(n, f"16:00:{n:02}", "90000.5", "0.1", "SELL", "LIMIT")]} for n in rows
        ]
        file = write(tmp_path / "day", **{"BTC-USD_trades": documents})
    else:
        file = write(tmp_path / "day", trades=[answer(trade(n, n, 100, 1)) for n in rows])
    with pytest.raises(
        SourceError, match="is beyond the 4 rows that this importer holds in memory"
    ) as caught:
        import_source(source, [file], tmp_path / "tape")
    assert "a shorter span" in str(caught.value)
    assert not (tmp_path / "tape").exists()


def test_books_that_go_back_in_time_and_answers_without_futures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is older than the message of BTC-PERPETUAL before it"):
        import_source("deribit", [write(tmp_path / "a", book=[*BOOK, BOOK[0]])], tmp_path / "tape")
    option = answer(trade(1, 0, 0.05, 1, name="BTC-27MAR26-90000-C"))
    with pytest.raises(SourceError, match="holds no row of a future"):
        import_source("deribit", [write(tmp_path / "b", trades=option)], tmp_path / "tape")
