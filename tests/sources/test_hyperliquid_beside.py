"""Asset contexts and other events beside node fills: fixtures of the documented columns and fields."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from replay.errors import SourceError
from replay.sources import import_source
from replay.sources.hyperliquid_contexts import COLUMNS
from replay.tape.read import Tape, open_tape
from replay.tape.schema import PriceKind, Side, TransferKind
from tests.sources.node_fills import ANN, BEN, START_NS, VAULT, block, fill, match, time_of, write

MINUTE = 60 * 10**9
USD = 10**8


def context(minute: int, coin: str = "BTC", mark: str = "115000.5", oracle: str = "115010.0") -> str:
    return (
        f"2025-10-27T{17 + minute // 60}:{minute % 60:02}:00Z,{coin},0.00001,100,1,2,null,{oracle},{mark},,,"
    )


def event(kind: str, **content: Any) -> dict[str, Any]:
    return {"time": "x", "hash": "0x0", "inner": {kind: content}}


def update(users: list[str], **delta: Any) -> dict[str, Any]:
    return event("LedgerUpdate", users=users, delta=delta)


def imported(
    folder: Path, *, contexts: Sequence[str] = (), events: Sequence[str] = (), fills: Sequence[str] = ()
) -> Tape:
    files = [write(folder / "10.jsonl", *(fills or [block(1, match())]))]
    if contexts:
        files.append(write(folder / "20251027.csv", COLUMNS, *contexts))
    if events:
        files.append(write(folder / "misc.jsonl", *events))
    import_source("hyperliquid", files, folder / "tape")
    return open_tape(folder / "tape")


def test_marks_and_oracles_by_the_minute(tmp_path: Path) -> None:
    tape = imported(
        tmp_path, contexts=[context(0), context(1, mark="114000"), context(1, "ETH", "4000.1", "4001")]
    )
    names = {market.id: (market.name, 10**market.mark_scale) for market in tape.markets}
    found = tape.select("SELECT ts, market, kind, price FROM prices ORDER BY seq")
    assert [(ts, names[m][0], kind, price / names[m][1]) for ts, m, kind, price in found] == [
        (START_NS, "BTC", PriceKind.MARK, 115_000.5),
        (START_NS, "BTC", PriceKind.ORACLE, 115_010),
        (START_NS + MINUTE, "BTC", PriceKind.MARK, 114_000),
        (START_NS + MINUTE, "BTC", PriceKind.ORACLE, 115_010),
        (START_NS + MINUTE, "ETH", PriceKind.MARK, 4_000.1),
        (START_NS + MINUTE, "ETH", PriceKind.ORACLE, 4_001),
    ]
    assert "marks, index and oracle prices except at liquidations" not in tape.manifest["lacks"]
    assert any("marks and oracles are those of the minute" in text for text in tape.manifest["assumptions"])


def test_marks_of_liquidations_stand_between_the_minutes(tmp_path: Path) -> None:
    """Blocks 80 ms apart: block 500 is 40.1 s after the hour, between the first and the second minute."""
    cause = {"liquidatedUser": ANN, "markPx": "114500.0", "method": "market"}
    fills = [
        block(1, match()),
        block(
            500,
            match(BEN, ANN, tid=78, liquidation=cause, sells={"dir": "Close Long", "startPosition": "0.01"}),
        ),
    ]
    tape = imported(tmp_path, contexts=[context(1, mark="114000"), context(0)], fills=fills)
    scale = 10 ** tape.markets[0].mark_scale
    found = tape.select("SELECT ts, kind, price FROM prices WHERE kind <> 2 ORDER BY seq")
    assert [(ts, kind, price / scale) for ts, kind, price in found] == [
        (START_NS, PriceKind.MARK, 115_000.5),
        (time_of(500), PriceKind.EVENT, 114_500),
        (START_NS + MINUTE, PriceKind.MARK, 114_000),
    ]


def test_coins_of_builder_dexes_are_left_out(tmp_path: Path) -> None:
    tape = imported(tmp_path, contexts=[context(0, "xyz:GOLD"), context(0)])
    assert [market.name for market in tape.markets] == ["BTC"]


def book(ms: int, coin: str, bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> str:
    levels = [[{"px": px, "sz": sz, "n": 1} for px, sz in side] for side in (bids, asks)]
    data = {"coin": coin, "time": START_NS // 10**6 + ms, "levels": levels}
    return json.dumps({"time": "x", "ver_num": 1, "raw": {"channel": "l2Book", "data": data}})


def with_books(folder: Path, **files: list[str]) -> Tape:
    paths = [write(folder / "10.jsonl", block(1, match()))]
    paths += [write(folder / f"{coin}.jsonl", *lines) for coin, lines in files.items()]
    import_source("hyperliquid", paths, folder / "tape")
    return open_tape(folder / "tape")


def test_books_of_several_coins_by_the_second(tmp_path: Path) -> None:
    """Two states in the first second of BTC, of which the last counts; ETH stands between its seconds."""
    tape = with_books(
        tmp_path,
        BTC=[
            book(100, "BTC", [("114999", "1")], [("115001", "2")]),
            book(900, "BTC", [("114998", "3"), ("114990.5", "4")], [("115002", "5")]),
            book(1500, "BTC", [("114000", "1")], []),
        ],
        ETH=[book(1200, "ETH", [("4000", "7")], [("4001", "8")])],
        BTC_of_the_next_hour=[book(3_600_100, "BTC", [("113000", "1")], [])],
    )
    names = {
        market.id: (market.name, 10**market.price_scale, 10**market.qty_scale) for market in tape.markets
    }
    found = tape.select(
        "SELECT (ts - 1761584400000000000) // 1000000, market, side, price, qty FROM depth ORDER BY seq"
    )
    assert [
        (ms, names[m][0], side, price / names[m][1], qty / names[m][2]) for ms, m, side, price, qty in found
    ] == [
        (900, "BTC", Side.BID, 114_998, 3),
        (900, "BTC", Side.BID, 114_990.5, 4),
        (900, "BTC", Side.ASK, 115_002, 5),
        (1200, "ETH", Side.BID, 4_000, 7),
        (1200, "ETH", Side.ASK, 4_001, 8),
        (1500, "BTC", Side.BID, 114_000, 1),
        (3_600_100, "BTC", Side.BID, 113_000, 1),
    ]
    assert tape.manifest["counts"]["book snapshots kept"] == 4
    assert "depth of the order book" not in tape.manifest["lacks"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (book(50, "BTC", [("1", "1")], []), "is older than the one before it"),
        (book(200, "BTC", [("-1", "1")], []), "a level of 1 at -1 is none"),
        (book(200, "BTC", [("x", "1")], []), "'x' is not a plain decimal number"),
        ('{"raw": {"data": {"levels": []}}}', "is no book that is understood"),
    ],
)
def test_a_book_that_is_not_understood(tmp_path: Path, line: str, problem: str) -> None:
    with pytest.raises(SourceError, match=problem):
        with_books(tmp_path, BTC=[book(100, "BTC", [("114999", "1")], [("115001", "2")]), line])


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        ({"type": "deposit", "usdc": "100.5"}, [(ANN, 100.5, TransferKind.DEPOSIT)]),
        ({"type": "withdraw", "usdc": "50", "nonce": 1, "fee": "1"}, [(ANN, -51, TransferKind.WITHDRAWAL)]),
        ({"type": "accountClassTransfer", "usdc": "7", "toPerp": True}, [(ANN, 7, TransferKind.DEPOSIT)]),
        ({"type": "accountClassTransfer", "usdc": "7", "toPerp": False}, [(ANN, -7, TransferKind.WITHDRAWAL)]),
        (
            {"type": "internalTransfer", "usdc": "10", "user": ANN, "destination": BEN, "fee": "1"},
            [(ANN, -11, TransferKind.MOVE), (BEN, 10, TransferKind.MOVE)],
        ),
        (
            {"type": "subAccountTransfer", "usdc": "10", "user": ANN, "destination": BEN},
            [(ANN, -10, TransferKind.MOVE), (BEN, 10, TransferKind.MOVE)],
        ),
        (
            {"type": "vaultDeposit", "vault": VAULT, "usdc": "3"},
            [(ANN, -3, TransferKind.MOVE), (VAULT, 3, TransferKind.MOVE)],
        ),
        (
            {"type": "vaultWithdraw", "vault": VAULT, "user": ANN, "requestedUsd": "5", "netWithdrawnUsd": "4.5"},
            [(VAULT, -4.5, TransferKind.MOVE), (ANN, 4.5, TransferKind.MOVE)],
        ),
        ({"type": "rewardsClaim", "token": "USDC", "amount": "2"}, [(ANN, 2, TransferKind.OTHER)]),
        ({"type": "rewardsClaim", "token": "HYPE", "amount": "2"}, []),
        (
            {
                "type": "send", "user": ANN, "destination": BEN, "sourceDex": "spot", "destinationDex": "",
                "token": "USDC", "amount": "9", "usdcValue": "9",
            },
            [(BEN, 9, TransferKind.MOVE)],
        ),
        ({"type": "spotTransfer", "token": "HYPE", "amount": "9", "usdcValue": "300"}, []),
    ],
)  # fmt: skip
def test_what_a_ledger_update_does_to_perpetual_accounts(
    tmp_path: Path, delta: dict[str, Any], expected: list[tuple[str, float, int]]
) -> None:
    tape = imported(tmp_path, events=[block(1, [update([ANN], **delta)])])
    found = tape.select("SELECT ts, account, amount, kind FROM transfers ORDER BY seq") if expected else []
    assert [(tape.account_names[who], amount / USD, kind) for _, who, amount, kind in found] == expected
    assert all(ts == time_of(1) for ts, *_ in found)
    assert tape.manifest["counts"][f"ledger updates: {delta['type']}"] == 1


def test_funding_is_booked_to_each_account(tmp_path: Path) -> None:
    deltas = [
        {"user": ANN, "coin": "BTC", "funding_amount": "-1.25"},
        {"user": BEN, "coin": "BTC", "funding_amount": "1.25"},
        {"user": BEN, "coin": "xyz:GOLD", "funding_amount": "0.5"},
    ]
    tape = imported(
        tmp_path, events=[block(3, [event("Funding", deltas=deltas), event("Delegation", amount="1")])]
    )
    found = tape.select("SELECT account, ledger, amount, kind FROM transfers ORDER BY seq")
    assert [
        (tape.account_names[who], tape.ledgers[ledger], amount / USD, kind)
        for who, ledger, amount, kind in found
    ] == [
        (ANN, ("", "USDC"), -1.25, TransferKind.FUNDING),
        (BEN, ("", "USDC"), 1.25, TransferKind.FUNDING),
        (BEN, ("xyz", "USDC"), 0.5, TransferKind.FUNDING),
    ]
    assert "funding payments, deposits, withdrawals and transfers" not in tape.manifest["lacks"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (block(1, [update([ANN], type="airdrop", usdc="1")]), "the ledger update 'airdrop' is not known"),
        (block(1, [event("Fork", x=1), ]), "the kind 'Fork' is not known"),
        (block(1, [event("Funding", deltas=[{"user": ANN, "coin": "BTC", "usd": "1"}])]), "lacks funding_amount"),
        (block(1, [update([ANN], type="deposit", amount="1")]), "lacks usdc"),
        ('{"inner": 1', "is no block of events"),
    ],
)  # fmt: skip
def test_what_is_not_understood_stops_the_import(tmp_path: Path, content: str, problem: str) -> None:
    good = block(0, [update([ANN], type="deposit", usdc="1")])
    with pytest.raises(SourceError, match=problem):
        imported(tmp_path, events=[good, content])


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("2025-10-27T17:00:00Z,BTC,1", "has 3 columns, not 12"),
        (context(0, mark="null"), "'null' is not a plain decimal number"),
        (context(0, mark="-1"), "the price -1 is not above zero"),
        (context(0).replace("Z", ""), "is not a UTC time"),
    ],
)
def test_a_context_that_is_not_understood(tmp_path: Path, row: str, problem: str) -> None:
    with pytest.raises(SourceError, match=problem) as caught:
        imported(tmp_path, contexts=[context(0), row])
    assert caught.value.row == 3


def test_they_stand_beside_fills_only(tmp_path: Path) -> None:
    file = write(tmp_path / "20251027.csv", COLUMNS, context(0))
    with pytest.raises(SourceError, match="holds `asset_ctxs`, and no file holds fills"):
        import_source("hyperliquid", [file], tmp_path / "tape")


def test_a_fill_is_what_it_was_without_them(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    plain = imported(tmp_path / "a")
    beside = imported(
        tmp_path / "b", contexts=[context(0)], events=[block(1, []), block(2, [event("Delegation")])]
    )
    sql = "SELECT ts, market, account, qty, price, fee FROM fills ORDER BY seq"
    assert plain.select(sql) == beside.select(sql)
    assert fill()["px"] == "115000.0"
