"""The history of Drift v1: the recorded files row by row, and what is refused."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from replay.errors import SourceError
from replay.rules import load_rules
from replay.run.execute import run
from replay.sources import import_source
from replay.tape.check import check_tape
from replay.tape.read import Tape, open_tape
from replay.tape.schema import PriceKind, TransferKind
from replay.units import parse_time
from tests.end_to_end.recordings import recording

ANN, BEN, KEEPER = "A" * 44, "B" * 43, "K" * 44
DUMP = "2021-12-05 01:50:36.504518"
HEADS = {
    "deposits": ",ts,record_id,user_authority,user,direction,collateral_before,cumulative_deposits_before,amount",
    "liquidations": ",ts,record_id,user_authority,user,partial,base_asset_value,base_asset_value_closed,"
    "liquidation_fee,fee_to_liquidator,fee_to_insurance_fund,liquidator,total_collateral,collateral,unrealized_pnl,"
    "margin_ratio",
    "funding": ",ts,record_id,market_index,funding_rate,cumulative_funding_rate_long,cumulative_funding_rate_short,"
    "oracle_price_twap,mark_price_twap",
    "curves": ",ts,record_id,market_index,peg_multiplier_after,base_asset_reserve_after,quote_asset_reserve_after",
}
NULL = f"{DUMP},1969-12-31 19:00:00-05:00,0,{'1' * 32},{'1' * 32},False,0,0,0,0,0,{'1' * 32},0,0,0,0"


def at(clock: str) -> str:
    """A moment of 2 December 2021 in the recorder's zone, five hours behind UTC."""
    return f"2021-12-02 {clock}-05:00"


def utc(clock: str) -> int:
    return parse_time(f"2021-12-02T{clock}Z")


def deposit(record: int, clock: str, user: str, before: int, amount: int, word: str = "DEPOSIT") -> str:
    return f"{DUMP},{at(clock)},{record},{'H' * 44},{user},DepositDirection.{word}(),{before},0,{amount}"


def liquidation(
    record: int, clock: str, *, collateral: int, pnl: int, fee: tuple[int, int], **cells: Any
) -> str:
    found = {"ts": at(clock), "user": ANN, "partial": "True", "total": max(0, collateral + pnl), **cells}
    return (
        f"{DUMP},{found['ts']},{record},{'H' * 44},{found['user']},{found['partial']},4000000,1000000,"
        f"{sum(fee)},{fee[0]},{fee[1]},{KEEPER},{found['total']},{collateral},{pnl},625"
    )


def funding(
    record: int, clock: str, rate: int, sums: tuple[int, int], market: int = 0, mark: int = 2_000_000_000_000
) -> str:
    return f"{DUMP},{at(clock)},{record},{market},{rate},{sums[0]},{sums[1]},1990000000000,{mark}"


def file(folder: Path, table: str, *rows: str) -> Path:
    path = folder / f"{table}.csv"
    path.write_text("\n".join((HEADS[table], *rows)) + "\n", encoding="utf-8")
    return path


def imported(folder: Path, *files: Path) -> Tape:
    import_source("drift-v1", files, folder / "tape", force=True)
    return open_tape(folder / "tape")


def cash(tape: Tape) -> list[tuple[int, str, int, int]]:
    """Moves of cash as (moment, account, amount in 1e-6, kind)."""
    found = tape.select(
        "SELECT ts, name, amount, kind FROM transfers JOIN account_names USING (account) ORDER BY seq"
    )
    return [(ts, name, amount // 100, kind) for ts, name, amount, kind in found]


def test_cash_is_what_each_record_says_it_was(tmp_path: Path) -> None:
    """Ann had 30 before she put in 100; trading then took 50 of 130; a fee of 2 goes to keeper and fund in halves."""
    tape = imported(
        tmp_path,
        file(
            tmp_path,
            "deposits",
            deposit(1, "10:00:00", ANN, 30_000_000, 100_000_000),
            deposit(2, "12:00:00", ANN, 60_000_000, 60_000_000, "WITHDRAW"),
        ),
        file(
            tmp_path,
            "liquidations",
            NULL,
            liquidation(7, "11:00:00", collateral=80_000_000, pnl=-1_500_000, fee=(1_000_000, 1_000_000)),
        ),
    )
    other, move = TransferKind.OTHER, TransferKind.MOVE
    assert cash(tape) == [
        (utc("15:00:00"), ANN, 30_000_000, other),
        (utc("15:00:00"), ANN, 100_000_000, TransferKind.DEPOSIT),
        (utc("16:00:00"), ANN, -50_000_000, other),
        (utc("16:00:00"), ANN, -2_000_000, move),
        (utc("16:00:00"), KEEPER, 1_000_000, move),
        (utc("16:00:00"), "@fund:insurance", 1_000_000, move),
        (utc("17:00:00"), ANN, -18_000_000, other),  # 78 after the fee, 60 at the next record
        (utc("17:00:00"), ANN, -60_000_000, TransferKind.WITHDRAWAL),
    ]
    columns = "ts, liquidation, account, market, qty, price, mode, method, notional, equity"
    assert tape.select(f"SELECT {columns} FROM liquidations") == [
        (utc("16:00:00"), 0, 0, None, None, None, "cross", "partial", 400_000_000, 7_850_000_000)
    ]
    assert tape.manifest["counts"]["null records"] == 1
    assert tape.manifest["accounts_start"] == "unknown"


def test_an_account_that_owed_has_equity_below_zero(tmp_path: Path) -> None:
    row = liquidation(1, "11:00:00", collateral=5_000_000, pnl=-5_000_001, fee=(0, 0), partial="False")
    tape = imported(tmp_path, file(tmp_path, "liquidations", row))
    assert tape.select("SELECT method, equity FROM liquidations") == [("full", -100)]
    assert tape.manifest["counts"]["liquidations of accounts that owed"] == 1


def test_funding_is_a_share_of_its_mark_and_waits_for_the_first(tmp_path: Path) -> None:
    """0.05 USDC a SOL at a mark of 200 is 0.00025; the pool paid a part where longs did not pay what shorts got."""
    tape = imported(
        tmp_path,
        file(
            tmp_path,
            "funding",
            funding(1, "10:00:00", 1, (100, -100)),
            funding(2, "11:00:00", 5_000_000_000_000, (5_000_000_000_100, 4_999_999_999_900)),
            funding(3, "12:00:00", -1_000, (5_000_000_000_100, 4_999_999_998_900)),
        ),
    )
    assert tape.select("SELECT ts, market, rate FROM funding ORDER BY seq") == [
        (utc("16:00:00"), 0, 250_000_000),
        (utc("17:00:00"), 0, 0),
    ]
    prices = tape.select("SELECT ts, kind, price FROM prices ORDER BY seq LIMIT 2")
    assert tape.markets[0].mark_scale == 10
    assert prices == [
        (utc("15:00:00"), PriceKind.ORACLE, 1_990_000_000_000),
        (utc("15:00:00"), PriceKind.MARK, 2_000_000_000_000),
    ]
    counts = tape.manifest["counts"]
    assert (
        counts["funding before the first mark left out"],
        counts["funding of which the pool paid a part"],
    ) == (1, 1)


def test_a_curve_gives_the_mark_after_its_change(tmp_path: Path) -> None:
    """12 quote over 8 base at a peg of 100.5 is 150.75."""
    row = f"{DUMP},{at('10:00:00')},1,1,100500,{8 * 10**13},{12 * 10**13}"
    again = row.replace(DUMP, "2021-12-06 00:00:00.000001")
    tape = imported(tmp_path, file(tmp_path, "curves", row, again))
    assert tape.markets[0].name == "BTC-PERP"
    assert tape.select("SELECT ts, kind, price FROM prices") == [
        (utc("15:00:00"), PriceKind.MARK, 1_507_500_000_000)
    ]
    assert tape.manifest["counts"]["records that stand there twice"] == 1


FINE = {"collateral": 80, "pnl": -1, "fee": (1, 1)}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (liquidation(1, "10:00:00", **FINE, partial="maybe"), "partial 'maybe' is none of True, False"),
        (liquidation(1, "10:00:00", **FINE, total=80), "total_collateral is not collateral and unrealized_pnl"),
        (liquidation(1, "10:00:00", **FINE, user="0x12"), "user '0x12' is not an address of 32 to 44 base-58"),
        (liquidation(1, "10:00:00", **FINE, ts="2021-12-02 10:00:00"), "does not tell its zone"),
        (liquidation(1, "10:00:00", **FINE, ts="1969-12-31 19:00:00-05:00"), "is not between 2015 and 2035"),
        (liquidation(1, "10:00:00", **FINE, ts="noon"), "ts 'noon' is not a moment such as 2021-11-02 23:44:44-04:00"),
        (liquidation(1, "10:00:00", **FINE).replace(",2,1,1,", ",3,1,1,"), "liquidation_fee is not fee_to_liquidator"),
        (liquidation(1, "10:00:00", **FINE).replace(",80,", ",8e1,"), "collateral '8e1' is no whole number"),
        (liquidation(1, "10:00:00", **FINE) + ",1", "has 17 cells, not 16"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_understood_is_named(tmp_path: Path, row: str, problem: str) -> None:
    path = file(tmp_path, "liquidations", NULL, row)
    with pytest.raises(SourceError) as caught:
        imported(tmp_path, path)
    assert problem in caught.value.problem
    assert (caught.value.file, caught.value.row) == (str(path), 3)
    assert not (tmp_path / "tape").exists()


def test_other_files_and_empty_histories_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "trades.csv"
    other.write_text("ts,record_id,price\n", encoding="utf-8")
    with pytest.raises(SourceError, match="are of no history of Drift v1"):
        imported(tmp_path, other)
    with pytest.raises(SourceError, match="holds no record"):
        imported(tmp_path, file(tmp_path, "liquidations", NULL))


# --- the recorded history


def table(name: str) -> list[dict[str, str]]:
    with (recording("drift-v1-2021") / f"{name}_history_hist.csv").open(
        newline="", encoding="utf-8"
    ) as stream:
        return [row for row in csv.DictReader(stream) if row["record_id"] != "0"]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Tape:
    out: Path = tmp_path_factory.mktemp("drift") / "tape"
    import_source("drift-v1", [recording("drift-v1-2021")], out)
    return open_tape(out)


@pytest.mark.real
def test_every_recorded_liquidation_is_there_with_its_margin_ratio(history: Tape) -> None:
    """The venue printed ratios in whole basis points, rounded down; owed money counts as a ratio of zero."""
    found = history.select(
        "SELECT name, method, notional, equity FROM liquidations JOIN account_names USING (account) ORDER BY seq"
    )
    rows = sorted(table("liquidation"), key=lambda row: int(row["record_id"]))
    assert len(found) == len(rows) == 3_382
    for (user, method, notional, equity), row in zip(found, rows, strict=True):
        assert (user, method == "partial") == (row["user"], row["partial"] == "True")
        assert max(0, equity) * 10_000 // notional == int(row["margin_ratio"])
    assert sum(equity < 0 for *_, equity in found) == 18
    assert check_tape(history).ok


@pytest.mark.real
def test_recorded_collateral_is_the_cash_of_the_tape(history: Tape) -> None:
    """Adding the moves up gives, before each deposit and withdrawal, the collateral that its record states."""
    booked: defaultdict[str, int] = defaultdict(int)
    stated: list[tuple[str, int, int]] = []
    for _ts, name, amount, kind in cash(history):
        if kind in (TransferKind.DEPOSIT, TransferKind.WITHDRAWAL):
            stated.append((name, booked[name], amount))
        booked[name] += amount
    sign = {"DepositDirection.DEPOSIT()": 1, "DepositDirection.WITHDRAW()": -1}
    assert stated == [
        (row["user"], int(row["collateral_before"]), sign[row["direction"]] * int(row["amount"]))
        for row in table("deposit")
    ]
    assert booked["@fund:insurance"] == sum(int(row["fee_to_insurance_fund"]) for row in table("liquidation"))


@pytest.mark.real
def test_the_history_runs_and_the_fund_ends_with_what_it_was_paid(history: Tape, tmp_path: Path) -> None:
    made = run(history, load_rules("drift-v2@2023-01-10"), tmp_path / "run")
    assert len(made.table("audit")) == 3_382
    fund = history.account_names.index("@fund:insurance")
    ends = {row["account"]: row["cash"] for row in made.table("accounts_end").to_pylist()}
    assert ends[fund] == 100 * sum(int(row["fee_to_insurance_fund"]) for row in table("liquidation"))
