"""A snapshot of positions and account values beside fills: fixtures of the documented fields."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from replay.errors import SourceError
from replay.sources import import_source
from replay.tape.read import Tape, open_tape
from replay.tape.schema import Grade, Mode, PriceKind
from tests.sources.node_fills import ANN, BEN, START_NS, VAULT, block, match, time_of, write
from tests.sources.test_hyperliquid_beside import COLUMNS, book, context, update

BLOCK = 5
MS = time_of(BLOCK) // 10**6
NAME = f"{BLOCK}_{MS}"
USD = 10**8


def position(
    user: str, size: float, notional: float, entry: float, value: float, **changes: Any
) -> dict[str, Any]:
    return {
        "user": user,
        "size": size,
        "notional_size": notional,
        "funding_pnl": -1.5,
        "entry_price": entry,
        "is_cross": True,
        "leverage": 20,
        "liquidation_price": None,
        "account_value": value,
        **changes,
    }


def markets(**positions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"market_name": f"hyperliquid:{coin}", "positions": rows} for coin, rows in positions.items()]


def value(user: str, amount: float) -> dict[str, Any]:
    return {"user": user, "account_value": amount, "total_long_notional": 1.0, "total_short_notional": 2.0}


# Marks: 115,000.5 of BTC and 4,000 of ETH. Ann has made 0.01 x (115,000.5 - 114,000) = 10.005 on BTC and lost
# 2 x (4,000 - 3,900) = 200 short of ETH; Ben the opposite of other entries.
OPEN = markets(
    BTC=[
        position(ANN, 0.01, 1150.005, 114000.0, 1000.0),
        position(BEN, -0.010000000000000002, 1150.0050000000001, 116000.0, 50.5, is_cross=False),
    ],
    ETH=[position(ANN, -2.0, 8000.0, 3900.0, 1000.0), position(BEN, 2.0, 8000.0, 4000.0, 50.5)],
)
VALUES = [value(ANN, 1000.0), value(BEN, 50.5), value(VAULT, 7e-05)]
FILLS = [block(5, match(tid=1)), block(6, match(tid=2, buys={"startPosition": "0.01"}))]


def put(folder: Path, name: str, content: Any) -> Path:
    file = folder / name
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def imported(folder: Path, *others: Path, positions: Any = OPEN, values: Any = VALUES) -> Tape:
    files = [write(folder / "10.jsonl", *FILLS), *others]
    files += [] if positions is None else [put(folder, f"perp_positions_by_market_{NAME}.json", positions)]
    files += [] if values is None else [put(folder, f"account_value_snapshot_{NAME}.json", values)]
    import_source("hyperliquid", files, folder / "tape")
    return open_tape(folder / "tape")


def cash(tape: Tape) -> dict[str, tuple[Fraction, int]]:
    names = tape.account_names
    return {
        names[account]: (Fraction(amount, USD), grade)
        for account, amount, grade in tape.select("SELECT account, cash, grade FROM accounts")
    }


def test_positions_cash_and_marks_open_the_tape(tmp_path: Path) -> None:
    tape = imported(tmp_path)
    names = {market.id: market for market in tape.markets}
    found = [
        (
            tape.account_names[account],
            names[market].name,
            Fraction(size, 10 ** names[market].qty_scale),
            Fraction(entry, 10 ** names[market].price_scale),
            mode,
        )
        for account, market, size, entry, mode in tape.select(
            "SELECT account, market, size, entry_price, mode FROM positions"
        )
    ]
    assert found == [
        (ANN, "BTC", Fraction(1, 100), 114_000, Mode.CROSS),
        (BEN, "BTC", Fraction(-1, 100), 116_000, Mode.CROSS),
        (ANN, "ETH", -2, 3_900, Mode.CROSS),
        (BEN, "ETH", 2, 4_000, Mode.CROSS),
    ]
    known = int(Grade.KNOWN)
    assert cash(tape) == {
        ANN: (1_000 - Fraction("10.005") + 200, known),
        BEN: (Fraction("50.5") - Fraction("9.995"), known),
        VAULT: (Fraction("0.00007"), known),
    }
    prices = tape.select("SELECT ts, market, kind, price FROM prices ORDER BY seq")
    assert [(ts, names[m].name, k, Fraction(p, 10 ** names[m].mark_scale)) for ts, m, k, p in prices] == [
        (MS * 10**6, "BTC", PriceKind.EVENT, Fraction("115000.5")),
        (MS * 10**6, "ETH", PriceKind.EVENT, 4_000),
    ]
    counts = tape.manifest["counts"]
    assert counts["opening positions"] == 4
    assert counts["opening positions that are isolated"] == 1
    assert counts["opening accounts"] == 3
    assert counts["opening markets whose sizes do not sum to zero"] == 0


def test_what_happened_up_to_the_snapshot_is_left_out(tmp_path: Path) -> None:
    """Block 5 is the snapshot's; the minute at 17:00 and the book and event before it are in the snapshot, too."""
    others = [
        write(tmp_path / "20251027.csv", COLUMNS, context(0), context(1)),
        write(
            tmp_path / "misc.jsonl",
            block(5, [update([ANN], type="deposit", usdc="5")]),
            block(6, [update([ANN], type="deposit", usdc="6")]),
        ),
        write(tmp_path / "BTC.jsonl", *(book(ms, "BTC", [("114999", "1")], []) for ms in (100, 1_500))),
    ]
    tape = imported(tmp_path, *others)
    assert tape.select("SELECT match FROM fills") == [(2,), (2,)]
    assert tape.select("SELECT amount FROM transfers") == [(6 * USD,)]
    assert tape.select("SELECT ts FROM depth") == [(START_NS + 1_500_000_000,)]
    assert tape.select(f"SELECT ts FROM prices WHERE kind = {PriceKind.MARK}") == [(START_NS + 60 * 10**9,)]
    assert tape.manifest["counts"]["rows up to the snapshot left out"] == 2
    assert tape.manifest["accounts_start"] == "known"
    assert "cash and equity of accounts" not in tape.manifest["lacks"]


def test_without_events_accounts_outside_the_snapshot_stay_unknown(tmp_path: Path) -> None:
    assert imported(tmp_path).manifest["accounts_start"] == "unknown"


def test_positions_alone_tell_the_values_of_their_accounts(tmp_path: Path) -> None:
    tape = imported(tmp_path, values=None)
    assert set(cash(tape)) == {ANN, BEN}
    assert cash(tape)[ANN] == (1_000 - Fraction("10.005") + 200, Grade.KNOWN)


def parquet(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), folder / name)
    return folder / name


def test_parquet_and_a_builder_dex(tmp_path: Path) -> None:
    """Columns as documented: positions with leverage_type, values by dex with the token it settles in."""
    shared = {"funding_pnl": 0.0, "liquidation_price": None, "leverage": 5, "account_mode": "standard"}
    positions = [
        {
            "user": ANN,
            "market": market,
            "size": size,
            "notional": abs(size) * mark,
            "entry_price": entry,
            "leverage_type": "cross",
            "account_value": amount,
            **shared,
        }
        for market, size, mark, entry, amount in (
            ("BTC", 0.5, 110_000.0, 100_000.0, 6_000.0),
            ("xyz:GOLD", -2.0, 4_000.0, 4_100.0, 900.0),
        )
    ]
    values = [
        {
            "user": ANN,
            "dex": dex,
            "collateral_token": token,
            "account_value": amount,
            "total_long_notional": 0.0,
            "total_short_notional": 0.0,
        }
        for dex, token, amount in (("hyperliquid", "USDC", 6_000.0), ("xyz", "USDH", 900.0))
    ]
    files = [
        write(tmp_path / "10.jsonl", *FILLS),
        parquet(tmp_path, f"{NAME}.parquet", positions),
        parquet(tmp_path, f"values_{NAME}.parquet", values),
    ]
    import_source("hyperliquid", files, tmp_path / "tape")
    tape = open_tape(tmp_path / "tape")
    ledgers = tape.select("SELECT l.dex, l.currency, a.cash FROM accounts a JOIN ledgers l USING (ledger)")
    assert ledgers == [("", "USDC", 1_000 * USD), ("xyz", "USDH", 700 * USD)]
    assert [(market.name, market.dex) for market in tape.markets] == [("BTC", ""), ("xyz:GOLD", "xyz")]
    assert [entry["name"] for entry in tape.manifest["sources"]][:2] == [
        f"{NAME}.parquet",
        f"values_{NAME}.parquet",
    ]


def test_a_list_over_several_lines_is_read(tmp_path: Path) -> None:
    file = tmp_path / f"perp_positions_by_market_{NAME}.json"
    file.write_text(json.dumps(OPEN, indent=2), encoding="utf-8")
    tape = imported(tmp_path, file, positions=None, values=None)
    assert tape.select("SELECT count(*) FROM positions") == [(4,)]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (position("0x1", 1, 1, 1, 1), "user '0x1' is not an address"),
        (position(VAULT, 0, 1, 1, 1), "size 0 is not a size"),
        (position(VAULT, 1e-9, 1, 1, 1), "is not a size of at most 8 decimals"),
        (position(VAULT, 1, 0, 1, 1), "a position of no notional has no mark"),
        (position(VAULT, 1, 1, 0, 1), "entry_price 0 is not a positive price"),
        (position(VAULT, 1, 1, 1, 1, entry_price=None), "lacks entry_price"),
        (position(VAULT, 1, 1, 1, 1, is_cross="yes"), "is_cross is neither true nor false"),
        (position(ANN, 1, 1, 1, 1000.0), "its account holds this market twice"),
        (position(VAULT, 1e300, 1, 1, 1), "has more than 18 digits"),
        ("text", "lacks"),
    ],
)
def test_a_position_that_is_not_understood(tmp_path: Path, row: Any, problem: str) -> None:
    broken = markets(BTC=[position(ANN, 0.01, 1150.005, 114000.0, 1000.0), row])
    with pytest.raises(SourceError) as caught:
        imported(tmp_path, positions=broken)
    assert problem in caught.value.problem
    assert "(row 2 of the line)" in caught.value.problem
    assert not (tmp_path / "tape").exists()


def test_an_account_with_two_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="its account has a value before"):
        imported(tmp_path, values=[*VALUES, value(ANN, 3.0)])


def test_files_that_are_not_one_snapshot_are_refused(tmp_path: Path) -> None:
    other = put(tmp_path, f"account_value_snapshot_7_{MS}.json", VALUES)
    with pytest.raises(SourceError, match=r"is a snapshot of block 7, but .* is one of block 5"):
        imported(tmp_path, other, values=None)


def test_a_name_without_the_moment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="its name does not tell the block"):
        imported(tmp_path, put(tmp_path, "positions.json", OPEN), positions=None, values=None)


def test_values_without_positions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds account values, and no file holds the positions"):
        imported(tmp_path, positions=None)


def test_another_parquet_file_is_refused(tmp_path: Path) -> None:
    file = parquet(tmp_path, f"spot_{NAME}.parquet", [{"user": ANN, "token": "HYPE", "balance": 1.0}])
    with pytest.raises(SourceError, match="neither perpetual positions nor account values"):
        imported(tmp_path, file, positions=None, values=None)
