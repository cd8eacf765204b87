"""dYdX v4's indexer: recorded answers and messages, and fixtures of the documented rows where none is recorded.

Recorded in ../shared/data are answers without a forced trade or fill, but for one message of a liquidation; matches of
two accounts, liquidations and deleveragings of accounts are written here after tape-formats.md, section 7.1.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from replay.errors import SourceError
from replay.rules import load_rules
from replay.run.execute import run
from replay.sources import import_source
from replay.tape.schema import FillKind, Grade, PriceKind, Role, TransferKind
from replay.units import parse_time
from tests.end_to_end.recordings import recording
from tests.sources.kept_answers import checked_tape, write
from tests.sources.test_recorded_messages import recorded

ANN, BEN, CARL = (f"dydx1{letter * 38}" for letter in "abc")
DAY = "2025-12-08T"
HEIGHT = 66_624_000


def at(clock: str) -> int:
    return parse_time(f"{DAY}{clock}Z")


def trade(
    number: int, clock: str, price: str, size: str, side: str = "BUY", kind: str = "LIMIT"
) -> dict[str, Any]:
    """A trade; its id is the place on the chain: block, transaction, event."""
    return {
        "id": f"{HEIGHT:08x}00000002{number:08x}",
        "side": side,
        "size": size,
        "price": price,
        "type": kind,
        "createdAt": f"{DAY}{clock}Z",
        "createdAtHeight": f"{HEIGHT}",
    }


def fill(
    uid: str, clock: str, price: str, size: str, side: str, liquidity: str, kind: str = "LIMIT"
) -> dict[str, Any]:
    return {
        "id": uid,
        "side": side,
        "liquidity": liquidity,
        "type": kind,
        "market": "BTC-USD",
        "marketType": "PERPETUAL",
        "price": price,
        "size": size,
        "fee": "0.5" if liquidity == "TAKER" else "-0.11",
        "createdAt": f"{DAY}{clock}Z",
        "createdAtHeight": f"{HEIGHT + int(clock[3:5])}",
        "subaccountNumber": 0,
    }


def state(
    address: str, usdc: str, size: str, entry: str, side: str = "LONG", height: int = HEIGHT
) -> dict[str, Any]:
    position = {"market": "BTC-USD", "side": side, "size": size, "entryPrice": entry}
    cash = {"size": usdc.lstrip("-"), "symbol": "USDC", "side": "SHORT" if usdc.startswith("-") else "LONG"}
    return {
        "subaccount": {
            "address": address,
            "subaccountNumber": 0,
            "openPerpetualPositions": {"BTC-USD": position} if size else {},
            "assetPositions": {"USDC": cash},
            "latestProcessedBlockHeight": f"{height}",
        }
    }


def oracle(clock: str, price: str) -> dict[str, Any]:
    told = {"BTC-USD": {"oraclePrice": price, "effectiveAt": f"{DAY}{clock}Z", "effectiveAtHeight": "1"}}
    return {"type": "channel_data", "channel": "v4_markets", "contents": {"oraclePrices": told}}


imported = partial(checked_tape, "dydx-v4")


# --- recorded answers and messages


@pytest.mark.real
def test_recorded_answers_are_on_the_tape_row_by_row(tmp_path: Path) -> None:
    """The expected rows are those of the answers, read by hand: prices of BTC-USD in their five decimals."""
    payloads = recording("payloads") / "dydx"
    folder = tmp_path / "answers"
    folder.mkdir()
    address = "dydx1n56z5fhmemtffzkt2eqyf9kuc7ycjfs86mvqy7"
    for name, copy in {
        "trades": "BTC-USD_trades",
        "fills": f"{address}_fills",
        "candles": "candles",
        "historical_funding": "funding",
        "transfers": "transfers",
        "perpetual_markets": "markets",
    }.items():
        (folder / f"{copy}.json").write_bytes((payloads / f"http_get_{name}.json").read_bytes())
    tape = imported(folder, tmp_path / "tape")
    (market,) = tape.markets
    assert (market.name, market.price_scale, market.mark_scale, market.qty_scale) == ("BTC-USD", 0, 5, 4)
    assert tape.account_names[0] == f"{address}/0"
    assert tape.select("SELECT ts, price, qty, taker_side FROM trades ORDER BY seq") == [
        (at("16:11:29.425"), 89_969, 1_763, 1),
        (at("16:11:29.425"), 89_970, 365, 1),
        (at("16:11:30.590"), 89_942, 1, 1),
    ]
    assert tape.select("SELECT block, price, qty, fee, role, kind, paired FROM fills ORDER BY seq")[-1] == (
        63_049_869, 105_117, 1, 0, Role.TAKER, FillKind.TRADE, 0,
    )  # fmt: skip
    assert tape.select("SELECT rate FROM funding ORDER BY ts") == [(625_000,), (375_000,), (2_375_000,)]
    prices = tape.select("SELECT ts, kind, price FROM prices ORDER BY seq")
    assert prices[:2] == [
        (at("14:00:00.112") - 1, PriceKind.ORACLE, 9_145_959_191),
        (at("14:00:00.112") - 1, PriceKind.MARK, 9_145_959_191),
    ]
    lasts = [(ts, price) for ts, kind, price in prices if kind == PriceKind.LAST]
    assert lasts == [
        (at("16:10:00"), 9_003_500_000),
        (at("16:11:00"), 8_993_100_000),
        (at("16:12:00"), 8_994_100_000),
    ]
    assert tape.select("SELECT amount, kind FROM transfers") == [(4_533_470_300, TransferKind.DEPOSIT)]


@pytest.mark.real
def test_a_recorded_state_is_the_opening(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    name = "http_get_subaccount.json"
    (folder / name).write_bytes((recording("payloads") / "dydx" / name).read_bytes())
    tape = imported(folder, tmp_path / "tape")
    assert tape.select("SELECT cash, grade FROM accounts") == [(4_520_129_600, Grade.KNOWN)]
    assert tape.select("SELECT * FROM positions") == []


@pytest.mark.real
def test_recorded_messages_are_what_another_program_makes_of_them(tmp_path: Path) -> None:
    """Trades, a liquidation by the side of its order, and oracle prices."""
    recording("payloads")
    mine = recorded("dydx-v4")
    tape = imported(
        write(tmp_path / "messages", messages=[message for message, _ in mine]), tmp_path / "tape"
    )
    expected = [row for _, rows in mine for row in rows]

    def shown(table: str, columns: str) -> list[tuple[Any, ...]]:
        return tape.select(f"SELECT name, {table}.ts, {columns} FROM {table} JOIN markets USING (market)")

    def told(kind: str) -> list[tuple[Any, ...]]:
        return [
            (
                row["symbol"],
                parse_time(row["timestamp"]),
                float(row["price"]),
                float(row["amount"]),
                row["side"],
            )
            for row in expected
            if row["type"] == kind
        ]

    trades = shown("trades", "price / 10.0**price_scale, trades.qty / 10.0**qty_scale, taker_side")
    assert sorted((*row, "buy" if side > 0 else "sell") for *row, side in trades) == sorted(told("trade"))
    forced = shown("liquidations", "price / 10.0**price_scale, abs(qty) / 10.0**qty_scale, sign(qty)")
    assert [(*row, "buy" if side > 0 else "sell") for *row, side in forced] == told("liquidation")
    oracles = {(name, price) for name, _, price in shown("prices", "price / 10.0**mark_scale")}
    tickers = [
        row for row in expected if row["type"] == "derivative_ticker" and "2623.3521" in str(row["markPrice"])
    ]
    assert oracles == {(row["symbol"], float(row["markPrice"])) for row in tickers}
    assert tickers


@pytest.mark.real
def test_the_steps_of_the_genesis(tmp_path: Path) -> None:
    """At the start of the chain BTC moved by a dollar and 0.0001; the answer of 2025 still says so."""
    genesis = recording("dydx-v4-genesis") / "genesis.json"
    folder = write(
        tmp_path / "trades", **{"BTC-USD_trades": {"trades": [trade(1, "16:00:00", "90000", "0.01")]}}
    )
    (folder / "genesis.json").write_bytes(genesis.read_bytes())
    (market,) = imported(folder, tmp_path / "tape").markets
    assert (market.price_scale, market.tick, market.qty_scale, market.lot) == (0, 1, 4, 1)


# --- fixtures of the documented rows


def liquidation_day(folder: Path) -> Path:
    """Ann, 1 BTC long with 3,000, sells 0.4 by force to Ben at 41,000; the rest is deleveraged against Carl."""
    return write(
        folder,
        states=[
            state(ANN, "-40000", "1", "43000"),
            state(BEN, "100000", "", ""),
            state(CARL, "90000", "-1", "43000", "SHORT"),
        ],
        oracle=[oracle("16:00:30", "43000"), oracle("16:01:30", "41000"), oracle("16:02:30", "40200")],
        **{
            f"{ANN}_0_fills": {
                "fills": [
                    fill("a2", "16:03:00", "40600", "0.6", "SELL", "TAKER", "DELEVERAGED"),
                    fill("a1", "16:02:00", "41000", "0.4", "SELL", "TAKER", "LIQUIDATED"),
                ]
            },
            f"{BEN}_0_fills": {
                "fills": [fill("b1", "16:02:00", "41000.0", "0.40", "BUY", "MAKER", "LIQUIDATION")]
            },
            f"{CARL}_0_fills": {
                "fills": [fill("c1", "16:03:00", "40600", "0.6", "BUY", "MAKER", "OFFSETTING")]
            },
        },
    )


def test_forced_fills_have_both_rows_and_their_victim(tmp_path: Path) -> None:
    """Cash is what the chain has (-40,000) and what the position cost (43,000); the fee is in atoms of 1e-8."""
    tape = imported(liquidation_day(tmp_path / "day"), tmp_path / "tape")
    names = [name.split("/")[0] for name in tape.account_names]
    assert tape.select("SELECT account, cash, grade FROM accounts ORDER BY account") == [
        (names.index(ANN), 300_000_000_000, Grade.KNOWN),
        (names.index(BEN), 10_000_000_000_000, Grade.KNOWN),
        (names.index(CARL), 4_700_000_000_000, Grade.KNOWN),  # 90,000 less what the short brought in
    ]
    assert tape.select("SELECT account, size, entry_price FROM positions ORDER BY account") == [
        (names.index(ANN), 10, 43_000),
        (names.index(CARL), -10, 43_000),
    ]
    liquidation, adl = FillKind.LIQUIDATION, FillKind.ADL
    columns = "ts, account, qty, price, fee, role, kind, paired, victim"
    assert tape.select(f"SELECT {columns} FROM fills ORDER BY ts, account") == [
        (
            at("16:02:00"),
            names.index(ANN),
            -4,
            41_000,
            50_000_000,
            Role.TAKER,
            liquidation,
            1,
            names.index(ANN),
        ),
        (
            at("16:02:00"),
            names.index(BEN),
            4,
            41_000,
            -11_000_000,
            Role.MAKER,
            liquidation,
            1,
            names.index(ANN),
        ),
        (at("16:03:00"), names.index(ANN), -6, 40_600, 50_000_000, Role.TAKER, adl, 1, names.index(ANN)),
        (at("16:03:00"), names.index(CARL), 6, 40_600, -11_000_000, Role.MAKER, adl, 1, names.index(ANN)),
    ]
    assert tape.select(
        "SELECT ts, account, qty, price, price_kind, method FROM liquidations ORDER BY seq"
    ) == [
        (at("16:02:00"), names.index(ANN), -4, 41_000, "fill", "LIQUIDATED"),
        (at("16:03:00"), names.index(ANN), -6, 40_600, "bankruptcy", "DELEVERAGED"),
    ]


def test_such_a_day_runs_and_its_books_close(tmp_path: Path) -> None:
    """Of her 3,000 Ann loses 2,000 on each of 0.4 BTC, 2,400 on each of 0.6, and two fees of 0.5."""
    tape = imported(liquidation_day(tmp_path / "day"), tmp_path / "tape")
    made = run(tape, load_rules("dydx-v4@2023-10-24"), tmp_path / "run")
    ends = {row["account"]: row["cash"] for row in made.table("accounts_end").to_pylist()}
    ann = tape.account_names.index(f"{ANN}/0")
    assert ends[ann] == (3_000 - 2_000 * 4 // 10 - 2_400 * 6 // 10 - 1) * 10**8
    assert len(made.table("audit")) == 2
    assert not made.manifest["conservation"]["open_markets"]


def test_without_the_other_account_a_row_is_alone(tmp_path: Path) -> None:
    """Ben's row tells that it faced a liquidation, and not whose."""
    folder = write(
        tmp_path / "fills",
        **{
            f"{BEN}_0_fills": {
                "fills": [fill("b1", "16:02:00", "41000", "0.4", "BUY", "MAKER", "LIQUIDATION")]
            }
        },
    )
    tape = imported(folder, tmp_path / "tape")
    assert tape.select("SELECT kind, paired, match, victim FROM fills") == [
        (FillKind.LIQUIDATION, 0, None, None)
    ]
    assert tape.select("SELECT * FROM liquidations") == []
    assert tape.manifest["counts"]["fills without their other row"] == 1


def test_trades_print_liquidations_of_nobody_once(tmp_path: Path) -> None:
    """Two pages overlap by a trade; the forced trade that Ann's fill tells is hers alone."""
    forced = [
        trade(3, "16:02:00.5", "40900", "1", "SELL", "LIQUIDATED"),
        trade(2, "16:02:00.0", "41000", "0.4", "SELL", "LIQUIDATED"),
    ]
    folder = write(
        tmp_path / "day",
        **{
            "BTC-USD_page2": {"trades": [*forced, trade(1, "16:01:00", "41500", "0.1")]},
            "BTC-USD_page1": {"trades": [trade(1, "16:01:00", "41500", "0.1")]},
            f"{ANN}_0_fills": {
                "fills": [fill("a1", "16:02:00", "41000", "0.4", "SELL", "TAKER", "LIQUIDATED")]
            },
        },
    )
    tape = imported(folder, tmp_path / "tape")
    assert tape.manifest["counts"]["rows that stand there twice"] == 1
    assert [row[0] for row in tape.select("SELECT ts FROM trades ORDER BY seq")] == [
        at("16:01:00"),
        at("16:02:00"),
        at("16:02:00.5"),
    ]
    found = tape.select(
        "SELECT name, qty, price FROM liquidations JOIN account_names USING (account) ORDER BY seq"
    )
    assert found == [(f"{ANN}/0", -4, 41_000), ("@unseen", -10, 40_900)]


def test_fills_up_to_the_opening_are_in_it(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "day",
        states=state(ANN, "-40000", "1", "43000", height=HEIGHT + 2),
        **{
            f"{ANN}_0_fills": {
                "fills": [
                    fill("a2", "16:03:00", "41000", "0.25", "SELL", "TAKER"),
                    fill("a1", "16:02:00", "43000", "1", "BUY", "TAKER"),
                ]
            }
        },
    )
    tape = imported(folder, tmp_path / "tape")
    assert tape.select("SELECT block, qty FROM fills") == [(HEIGHT + 3, -25)]
    assert tape.manifest["counts"]["fills up to the opening left out"] == 1


def test_a_transfer_between_two_accounts_sums_to_zero(tmp_path: Path) -> None:
    move = {
        "id": "t1",
        "sender": {"address": ANN, "subaccountNumber": 0},
        "recipient": {"address": BEN, "subaccountNumber": 128},
        "size": "12.345678",
        "symbol": "USDC",
        "type": "TRANSFER_OUT",
        "createdAt": f"{DAY}16:00:00.000Z",
        "createdAtHeight": f"{HEIGHT}",
    }
    tape = imported(write(tmp_path / "day", transfers={"transfers": [move]}), tmp_path / "tape")
    assert tape.account_names == [f"{ANN}/0", f"{BEN}/128"]
    assert tape.select("SELECT account, amount, kind FROM transfers ORDER BY seq") == [
        (0, -1_234_567_800, TransferKind.MOVE),
        (1, 1_234_567_800, TransferKind.MOVE),
    ]


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"trades": [trade(1, "16:00:00", "0", "1")]}, "price 0 is not above zero (row 1 of the line)"),
        ({"trades": [trade(1, "16:00:00", "1e", "1")]}, "price '1e' is not a decimal number"),
        (
            {"trades": [trade(1, "25:00:00", "1", "1")]},
            "createdAt '2025-12-08T25:00:00Z' is no moment of the calendar",
        ),
        ({"trades": [trade(1, "16:00:00", "1", "1", "LONG")]}, "side 'LONG' is none of BUY, SELL"),
        (
            {"trades": [trade(1, "16:00:00", "1", "1", kind="ADL")]},
            "type 'ADL' is none of LIMIT, MARKET, TWAP_SUBORDER",
        ),
        (
            {"fills": [fill("1", "16:00:00", "1", "1", "BUY", "TAKER")]},
            "its account is told neither by the answer nor by",
        ),
        ({"trades": 3}, "trades is no list"),
        ({"positions": []}, "has the keys positions, which are of no answer of the indexer"),
        ([1], "is no object of the indexer"),
        (state(ANN, "5", "-1", "43000"), "size -1 is below zero, and its side is LONG"),
    ],
)
def test_a_row_that_cannot_be_understood_is_named(tmp_path: Path, document: Any, problem: str) -> None:
    folder = write(tmp_path / "bad", **{"BTC-USD": [{"trades": []}, document]})
    with pytest.raises(SourceError) as caught:
        import_source("dydx-v4", [folder], tmp_path / "tape")
    assert problem in caught.value.problem
    assert (caught.value.file, caught.value.row) == (str(folder / "BTC-USD.json"), 2)
    assert not (tmp_path / "tape").exists()


def test_a_file_that_does_not_tell_its_market_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "bad", trades={"trades": [trade(1, "16:00:00", "1", "1")]})
    with pytest.raises(SourceError, match="its market is told neither by the answer nor by"):
        import_source("dydx-v4", [folder], tmp_path / "tape")


def test_answers_without_rows_are_no_tape(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no row of a tape"):
        import_source("dydx-v4", [write(tmp_path / "bad", **{"BTC-USD": {"trades": []}})], tmp_path / "tape")
