"""Hyperliquid node fills, written by hand: what arrives on the tape, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from replay.errors import SourceError
from replay.sources import hyperliquid_fills, import_source
from replay.tape.read import Tape, open_tape
from replay.tape.schema import FillKind, Payoff, PriceKind, Role
from tests.sources.node_fills import ANN, BEN, VAULT, block, fill, match, time_of, write


def imported(folder: Path, *lines: str, **options: Any) -> Tape:
    source = write(folder / "fills.jsonl", *lines)
    import_source("hyperliquid", [source], folder / "tape", **options)
    return open_tape(folder / "tape")


def rows(tape: Tape, query: str) -> list[tuple[Any, ...]]:
    return tape.connection().execute(query).fetchall()


def refused(folder: Path, *lines: str) -> SourceError:
    source = write(folder / "fills.jsonl", *lines)
    with pytest.raises(SourceError) as caught:
        import_source("hyperliquid", [source], folder / "tape")
    assert caught.value.file == str(source)
    assert [path.name for path in folder.iterdir()] == ["fills.jsonl"], (
        "a failed import leaves nothing behind"
    )
    return caught.value


def kinds(tape: Tape) -> list[tuple[int, str | None]]:
    query = "SELECT kind, name FROM fills LEFT JOIN account_names n ON victim = n.account ORDER BY seq"
    return rows(tape, query)


def test_both_rows_of_a_match_arrive_exactly(tmp_path: Path) -> None:
    tape = imported(
        tmp_path,
        block(5, match(px="115000.5", sz="0.01", sells={"startPosition": "-1.5"})),
        block(6, []),
        block(7, match(BEN, ANN, px="115001", sz="0.00010", tid=78)),
    )
    names = ("ts", "seq", "block", "market", "account", "qty", "price", "fee", "fee_ledger", "role", "kind")
    more = ("match", "paired", "victim", "start_position", "mode")
    taker, maker = Role.TAKER, Role.MAKER
    trade = FillKind.TRADE
    assert rows(tape, f"SELECT {', '.join(names + more)} FROM fills ORDER BY seq") == [
        (time_of(5), 0, 5, 0, 0, 100, 1150005, 51_750_000, 0, taker, trade, 77, 1, None, 0, 0),
        (time_of(5), 1, 5, 0, 1, -100, 1150005, -2_300_000, 0, maker, trade, 77, 1, None, -15_000, 0),
        (time_of(7), 2, 7, 0, 1, 1, 1150010, 51_750_000, 0, taker, trade, 78, 1, None, 0, 0),
        (time_of(7), 3, 7, 0, 0, -1, 1150010, -2_300_000, 0, maker, trade, 78, 1, None, 0, 0),
    ]
    (market,) = tape.markets
    assert (market.name, market.dex, market.payoff, market.price_scale, market.qty_scale) == (
        "BTC",
        "",
        Payoff.LINEAR,
        1,
        4,
    )
    assert tape.account_names == [ANN, BEN]
    assert tape.ledgers == [("", "USDC")]
    assert tape.manifest["accounts_start"] == "unknown"
    assert tape.manifest["counts"]["maker rebates"] == 2
    assert tape.manifest["counts"]["blocks"] == 3


def test_coins_of_builder_dexes_and_of_spot_are_kept_apart(tmp_path: Path) -> None:
    tape = imported(
        tmp_path,
        block(1, match(coin="xyz:GOLD", feeToken="USDH")),
        block(2, match(coin="abc:GOLD", feeToken=None, fee="0.0", sells={"feeToken": None, "fee": "0"})),
        block(3, match(coin="abc:GOLD", feeToken="USDE")),
        block(4, match(coin="@107", dir="Buy", feeToken="HYPE", sells={"dir": "Sell", "feeToken": "USDC"})),
        block(5, match(coin="PURR/USDC", dir="Buy", sells={"dir": "Sell"})),
        block(6, match(coin="#20", dir="Buy", sells={"dir": "Sell"})),
        block(7, match(coin="kPEPE", buys={"feeToken": "HYPE"})),
    )
    ledgers = tape.ledgers
    assert [(m.name, m.dex, m.payoff, ledgers[m.ledger]) for m in tape.markets] == [
        ("xyz:GOLD", "xyz", Payoff.LINEAR, ("xyz", "USDH")),
        ("abc:GOLD", "abc", Payoff.LINEAR, ("abc", "USDC")),
        ("@107", "spot", Payoff.SPOT, ("spot", "USDC")),
        ("PURR/USDC", "spot", Payoff.SPOT, ("spot", "USDC")),
        ("#20", "spot", Payoff.SPOT, ("spot", "USDC")),
        ("kPEPE", "", Payoff.LINEAR, ("", "USDC")),
    ]
    fees = rows(tape, "SELECT dex, currency FROM fills JOIN ledgers ON fee_ledger = ledger ORDER BY seq")
    assert fees == [
        *[("xyz", "USDH")] * 2,
        *[("abc", "USDC")] * 2,
        *[("abc", "USDE")] * 2,
        ("spot", "HYPE"),
        ("spot", "USDC"),
        *[("spot", "USDC")] * 4,
        ("", "HYPE"),
        ("", "USDC"),
    ]
    assert tape.manifest["counts"]["spot fills"] == 6
    assert tape.manifest["counts"]["builder dex fills"] == 6
    starts = rows(
        tape, "SELECT DISTINCT start_position FROM fills JOIN markets USING (market) WHERE payoff = 2"
    )
    assert starts == [(None,)]


def test_dust_of_spot_does_not_push_large_sizes_out_of_their_cells(tmp_path: Path) -> None:
    dust = fill(
        coin="@9", sz="0.0000086141", side="A", dir="Spot Dust Conversion", tid=0, px="0.00000012", fee="0.0"
    )
    large: dict[str, Any] = {
        "coin": "@9",
        "dir": "Buy",
        "sz": "4100000000000.1",
        "startPosition": "1699341329.5351579189",
    }
    large["sells"] = {"dir": "Sell"}
    tape = imported(tmp_path, block(1, [[ANN, dust]]), block(2, match(**large)))
    assert rows(tape, "SELECT qty, paired, match FROM fills ORDER BY seq") == [
        (-9, 0, None),
        (4_100_000_000_000_100_000, 1, 77),
        (-4_100_000_000_000_100_000, 1, 77),
    ]
    assert tape.manifest["counts"]["spot sizes rounded"] == 1


def test_float_noise_in_positions_is_rounded_away_and_counted(tmp_path: Path) -> None:
    noisy = [("3135809.4000000001", 31358094), ("3136695.1999999999", 31366952), ("-0.3", -3)]
    events = [
        [ANN, fill(startPosition=text, sz="0.1", tid=number)] for number, (text, _) in enumerate(noisy, 1)
    ]
    tape = imported(tmp_path, block(1, events))
    assert tape.markets[0].qty_scale == 1
    assert rows(tape, "SELECT start_position FROM fills ORDER BY seq") == [(want,) for _, want in noisy]
    assert tape.manifest["counts"]["positions cleaned of float noise"] == 2


def test_fees_finer_than_an_atom_are_rounded_half_even_and_counted(tmp_path: Path) -> None:
    fees = {"0.000000005": 0, "0.000000015": 2, "-0.000000025": -2, "0.00000001": 1, "12.5": 1_250_000_000}
    events = [[ANN, fill(fee=text, tid=number)] for number, text in enumerate(fees, 1)]
    tape = imported(tmp_path, block(1, events))
    assert [fee for (fee,) in rows(tape, "SELECT fee FROM fills ORDER BY seq")] == list(fees.values())
    assert tape.manifest["counts"]["fees rounded"] == 3


def test_rows_are_paired_by_tid_within_their_block(tmp_path: Path) -> None:
    alone = [ANN, fill(tid=5)]
    nameless = [[ANN, fill(tid=0)], [BEN, fill(tid=0, side="A", dir="Open Short")]]
    tape = imported(tmp_path, block(1, [alone, *match(tid=6)]), block(2, [alone, *nameless]))
    assert rows(tape, "SELECT match, paired FROM fills ORDER BY seq") == [
        (5, 0),
        (6, 1),
        (6, 1),
        (5, 0),
        (None, 0),
        (None, 0),
    ]
    assert tape.manifest["counts"]["fills without their other row"] == 4


def liquidation(victim: Any = ANN, mark: Any = "114990.0", method: Any = "market") -> dict[str, Any]:
    content = {"liquidatedUser": victim, "markPx": mark, "method": method}
    return {"liquidation": {key: value for key, value in content.items() if value is not ...}}


CLOSES = {"side": "A", "dir": "Close Long", "startPosition": "0.01"}
TAKEN = {"side": "A", "dir": "Liquidated Cross Long", "startPosition": "0.01"}
ADLED = {"side": "B", "dir": "Auto-Deleveraging"}


@pytest.mark.parametrize(
    ("sells", "buys", "kind", "victim"),
    [
        (CLOSES | liquidation(), liquidation(), FillKind.LIQUIDATION, ANN),
        (CLOSES | liquidation(), {}, FillKind.LIQUIDATION, ANN),
        (CLOSES, liquidation(), FillKind.LIQUIDATION, ANN),
        (CLOSES | liquidation(method=""), {}, FillKind.LIQUIDATION, ANN),
        (CLOSES | liquidation(victim=...), {}, FillKind.LIQUIDATION, None),
        (TAKEN | liquidation(method="backstop"), liquidation(method="backstop"), FillKind.BACKSTOP, ANN),
        (TAKEN | liquidation(method=...), liquidation(method=...), FillKind.BACKSTOP, ANN),
        (TAKEN, {"dir": "Liquidated Cross Long"}, FillKind.BACKSTOP, ANN),
        (TAKEN, {}, FillKind.BACKSTOP, ANN),
        (TAKEN | liquidation(method="market"), {}, FillKind.LIQUIDATION, ANN),
        (TAKEN | liquidation(VAULT, method="backstop"), ADLED, FillKind.ADL, VAULT),
        (TAKEN, ADLED | liquidation(method="backstop"), FillKind.ADL, ANN),
        (TAKEN, ADLED, FillKind.ADL, ANN),
        (CLOSES, ADLED, FillKind.ADL, None),
        (CLOSES | {"dir": "Settlement"}, {"dir": "Settlement"}, FillKind.SETTLEMENT, None),
        (CLOSES, {"dir": "Settlement"}, FillKind.SETTLEMENT, None),
        (CLOSES | {"dir": "Net Child Vaults"}, {"dir": "Net Child Vaults"}, FillKind.TRADE, None),
        (CLOSES | {"liquidation": None}, {}, FillKind.TRADE, None),
    ],
)
def test_both_rows_of_a_match_share_kind_and_victim(
    tmp_path: Path, sells: dict[str, Any], buys: dict[str, Any], kind: FillKind, victim: str | None
) -> None:
    tape = imported(tmp_path, block(1, match(BEN, ANN, buys=buys, sells=sells)))
    assert kinds(tape) == [(kind, victim)] * 2


def test_a_short_that_is_taken_over_is_the_row_that_buys(tmp_path: Path) -> None:
    short = {"dir": "Liquidated Isolated Short"}
    tape = imported(tmp_path, block(1, match(ANN, BEN, buys=short, sells=short)))
    assert kinds(tape) == [(FillKind.BACKSTOP, ANN)] * 2
    leg = "SELECT account, mode, method, mark, qty, price, price_kind, liquidation FROM liquidations"
    assert rows(tape, leg) == [(0, "Isolated", None, None, 1, 115_000, "fill", 0)]


def test_liquidations_have_a_row_per_row_of_a_victim_and_a_mark_once(tmp_path: Path) -> None:
    forced = {"sells": CLOSES | liquidation(), "buys": liquidation()}
    eth = {
        "coin": "ETH",
        "sells": CLOSES | liquidation(mark="4000.25"),
        "buys": liquidation(mark="4000.25"),
    }
    tape = imported(
        tmp_path,
        block(1, [*match(BEN, ANN, tid=1, **forced), *match(VAULT, ANN, tid=2, **forced)]),
        block(2, [*match(BEN, ANN, tid=3, **forced), *match(BEN, ANN, tid=4, **eth)]),
    )
    marks = "SELECT ts, name, kind, price, mark_scale FROM prices JOIN markets USING (market) ORDER BY seq"
    assert rows(tape, marks) == [
        (time_of(1), "BTC", PriceKind.EVENT, 114_990, 0),
        (time_of(2), "BTC", PriceKind.EVENT, 114_990, 0),
        (time_of(2), "ETH", PriceKind.EVENT, 400_025, 2),
    ]
    legs = "SELECT ts, liquidation, n.name, market, qty, price_kind, mode, method, mark, notional, equity"
    query = f"{legs} FROM liquidations JOIN account_names n USING (account) ORDER BY seq"
    assert rows(tape, query) == [
        (time_of(1), 0, ANN, 0, -1, "fill", None, "market", 114_990, None, None),
        (time_of(1), 1, ANN, 0, -1, "fill", None, "market", 114_990, None, None),
        (time_of(2), 2, ANN, 0, -1, "fill", None, "market", 114_990, None, None),
        (time_of(2), 3, ANN, 1, -1, "fill", None, "market", 400_025, None, None),
    ]
    assert tape.manifest["counts"]["liquidation fills"] == 8


def test_forced_spot_rows_are_kept_apart_from_marks_and_liquidations(tmp_path: Path) -> None:
    dirs = {
        "Partial Borrow Liquidation": FillKind.LIQUIDATION,
        "Backstop Borrow Liquidation": FillKind.BACKSTOP,
    }
    for name, kind in dirs.items():
        folder = tmp_path / name
        folder.mkdir()
        sells = {"dir": name} | liquidation(method="")
        tape = imported(folder, block(1, match(coin="@1", dir="Buy", sells=sells)))
        assert kinds(tape) == [(kind, ANN)] * 2
        assert rows(tape, "SELECT count(*) FROM prices") == [(0,)]
        assert rows(tape, "SELECT count(*) FROM liquidations") == [(0,)]


def test_outcome_shares_may_be_priced_at_nothing_and_stand_alone(tmp_path: Path) -> None:
    events = [
        [ANN, fill(coin="#20", dir="Split Outcome", px="0.0", tid=9)],
        [ANN, fill(coin="#21", dir="Split Outcome", px="0.0", tid=9)],
        [ANN, fill(coin="#20", dir="Settlement", px="0.0", side="A", tid=10)],
    ]
    tape = imported(tmp_path, block(1, events))
    assert rows(tape, "SELECT price, paired FROM fills") == [(0, 0)] * 3


def test_unknown_fields_are_counted_not_refused(tmp_path: Path) -> None:
    events = [*match(newField=1), [ANN, fill(tid=8, **liquidation()) | {"liquidation": {"size": 2}}]]
    tape = imported(tmp_path, block(1, events, shard=3), block(2, match(newField=2)))
    unknown = {key: n for key, n in tape.manifest["counts"].items() if key.startswith("unknown field")}
    assert unknown == {
        "unknown field newField": 4,
        "unknown field liquidation.size": 1,
        "unknown field of the block: shard": 1,
    }


BAD_FILLS: list[tuple[dict[str, Any], str, str]] = [
    ({"px": "NaN"}, "px", "'NaN' is not a plain decimal number"),
    ({"px": "0.0"}, "px", "'0.0' is not a positive price"),
    ({"px": "-1"}, "px", "is not a positive price"),
    ({"px": 115000.0}, "px", "115000.0 is not text"),
    ({"px": None}, "px", "None is not text"),
    ({"px": "1e5"}, "px", "is not a plain decimal number"),
    ({"px": "0.123456789"}, "px", "has more than 8 decimals"),
    ({"sz": "-0.01"}, "sz", "'-0.01' is not a positive size"),
    ({"sz": "0"}, "sz", "is not a positive size"),
    ({"sz": "9" * 19}, "sz", "up to 18 digits"),
    ({"sz": ""}, "sz", "is not a plain decimal number"),
    ({"side": "C"}, "side", "'C' is neither B nor A"),
    ({"side": 1}, "side", "1 is not text"),
    ({"startPosition": "1.2.3"}, "startPosition", "is not a plain decimal number"),
    ({"dir": "Open Sideways"}, "dir", "'Open Sideways' is not a documented dir"),
    ({"dir": "open long"}, "dir", "is not a documented dir"),
    ({"dir": "Open Short"}, "dir", "'Open Short' does not go with side 'B'"),
    ({"dir": "Close Long"}, "dir", "does not go with side"),
    ({"dir": "Buy"}, "dir", "'Buy' does not go with coin 'BTC'"),
    ({"coin": "@107"}, "dir", "'Open Long' does not go with coin '@107'"),
    ({"coin": ""}, "coin", "is not the name of a coin"),
    ({"coin": "B TC"}, "coin", "is not the name of a coin"),
    ({"coin": ":BTC"}, "coin", "is not the name of a coin"),
    ({"coin": "spot:BTC"}, "coin", "is not the name of a coin"),
    ({"crossed": 1}, "crossed", "1 is neither true nor false"),
    ({"crossed": "true"}, "crossed", "'true' is neither true nor false"),
    ({"fee": "inf"}, "fee", "is not a plain decimal number"),
    ({"fee": "9" * 17}, "fee", "does not fit atoms"),
    ({"feeToken": None}, "feeToken", "is null, but the fee is 0.5175"),
    ({"feeToken": "US DC"}, "feeToken", "is not the name of a token"),
    ({"feeToken": 5}, "feeToken", "5 is not text"),
    ({"tid": -1}, "tid", "-1 is not a whole number from 0"),
    ({"tid": 1.5}, "tid", "1.5 is not a whole number"),
    ({"tid": True}, "tid", "True is not a whole number"),
    ({"tid": "77"}, "tid", "'77' is not a whole number"),
    ({"tid": 2**62}, "tid", "is not a whole number"),
    ({"liquidation": 5}, "liquidation", "5 is not an object"),
    ({"liquidation": {"method": "magic"}}, "liquidation", "'magic' is neither market nor backstop"),
    ({"liquidation": {"method": ["market"]}}, "liquidation", "has a value that is not text"),
    ({"liquidation": {"liquidatedUser": "0x12"}}, "liquidation", "is not an address"),
    ({"liquidation": {"markPx": "NaN"}}, "liquidation", "is not a plain decimal number"),
    ({"liquidation": {"markPx": "-1"}}, "liquidation", "is not a positive price"),
    ({"liquidation": {"markPx": 1}}, "liquidation", "is not text"),
    *[
        ({key: ...}, key, "is missing")
        for key in ("coin", "px", "sz", "side", "startPosition", "dir", "crossed", "fee", "tid", "feeToken")
    ],
]


@pytest.mark.parametrize(("change", "key", "problem"), BAD_FILLS, ids=[str(bad[0]) for bad in BAD_FILLS])
def test_a_row_that_cannot_be_understood_stops_the_import(
    tmp_path: Path, change: dict[str, Any], key: str, problem: str
) -> None:
    events = [*match(tid=1), [ANN, fill(**({"tid": 2} | change))]]
    error = refused(tmp_path, block(1, match()), block(2, events), block(3, match()))
    assert (error.row, error.key) == (2, key)
    assert problem in error.problem
    assert error.problem.endswith("(row 3 of the line)")


@pytest.mark.parametrize("user", [None, 5, "", "ann", "@fees", "0x" + "A" * 40, "0x" + "a" * 39])
def test_a_user_is_an_address(tmp_path: Path, user: Any) -> None:
    error = refused(tmp_path, block(1, [[user, fill()]]))
    assert (error.row, error.key) == (1, "user")


@pytest.mark.parametrize("event", [None, 5, "ab", [], [ANN], [ANN, fill(), 1], {"a": 1, "b": 2}, [ANN, "x"]])
def test_an_event_is_a_pair_of_a_user_and_a_fill(tmp_path: Path, event: Any) -> None:
    error = refused(tmp_path, block(1, [*match(), event]))
    assert error.problem == "does not hold pairs of a user and a fill (row 3 of the line)"


@pytest.mark.parametrize(
    ("buys", "sells", "problem"),
    [
        ({}, {"side": "B", "dir": "Open Long"}, "are on the same side"),
        ({"coin": "ETH"}, {}, "differ in coin"),
        ({"px": "1"}, {}, "differ in px"),
        ({}, {"sz": "1.5"}, "differ in sz"),
        (liquidation(), liquidation(BEN), "differ in liquidation"),
        (liquidation(), liquidation(mark="1"), "differ in liquidation"),
        (liquidation(), liquidation(method="backstop"), "differ in liquidation"),
    ],
)
def test_the_two_rows_of_a_match_must_agree(
    tmp_path: Path, buys: dict[str, Any], sells: dict[str, Any], problem: str
) -> None:
    error = refused(tmp_path, block(1, match(buys=buys, sells=sells)))
    assert (error.row, error.key) == (1, "tid")
    assert error.problem == f"the two rows of match 77 {problem} (row 1 of the line)"


def test_the_same_number_written_differently_agrees(tmp_path: Path) -> None:
    tape = imported(
        tmp_path, block(1, match(buys={"sz": "0.010", "px": "1.0"}, sells={"sz": "0.01", "px": "1"}))
    )
    assert rows(tape, "SELECT paired FROM fills") == [(1,), (1,)]


def test_a_tid_on_three_rows_of_a_block_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, block(1, [*match(), [VAULT, fill()]]))
    assert error.problem == "77 stands on more than two rows of its block (row 1 of the line)"


GOOD = block(9, match())


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (GOOD[:-5], "is not JSON: "),
        (GOOD.replace('"px"', "px"), "is not JSON: "),
        ("[1, 2]", "is not a JSON object"),
        ("{}", "lacks block_number"),
        (block(9, [], block_time=...), "lacks block_time"),
        (block(9, ...), "lacks events"),
        (block(9, [], block_number="9"), "block_number '9' is not a whole number"),
        (block(9, [], block_number=-9), "block_number -9 is not a whole number"),
        (block(9, [], block_number=True), "block_number True is not a whole number"),
        (block(9, [], block_time=5), "block_time 5 is not text"),
        (block(9, [], block_time="yesterday"), "is not a time"),
        (block(9, [], block_time="1999-10-27T17:00:00.5"), "is not between 2015 and 2035"),
        (block(9, {}), "events is not a list"),
        (block(8, match()), "block 8 comes after block 8"),
        (block(7, match()), "block 7 comes after block 8"),
        (block(9, match(), block_time="2025-10-27T16:00:00.5"), "block 9 is older than the block before it"),
    ],
)
def test_a_line_that_is_no_block_in_its_place_stops_the_import(
    tmp_path: Path, line: str, problem: str
) -> None:
    error = refused(tmp_path, block(8, match()), line, block(10, match()))
    assert error.row == 2
    assert problem in error.problem


def test_bytes_that_are_not_utf8_stop_the_import(tmp_path: Path) -> None:
    source = write(tmp_path / "fills.jsonl", block(8, match()), GOOD)
    data = source.read_bytes()
    cut = data.rindex(b"BTC")
    source.write_bytes(data[:cut] + b"\xff\xfe" + data[cut:])
    with pytest.raises(SourceError) as caught:
        import_source("hyperliquid", [source], tmp_path / "tape")
    assert caught.value.row == 2
    assert "is not JSON" in caught.value.problem


def test_the_first_fault_in_the_file_is_the_one_reported(tmp_path: Path) -> None:
    bad = [ANN, fill(px="NaN", tid=3)]
    error = refused(tmp_path, block(1, match()), block(2, [bad, *match()]), "{cut")
    assert (error.row, error.key) == (2, "px")


def test_a_file_without_fills_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, block(1, []), block(2, [])).problem == "holds no fills"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            block(1, [{"time": "x", "hash": "0x", "inner": {}}]),
            "holds `misc_events_by_block`, and no file holds fills",
        ),
        ("[1, 2]", "no line of it is a fill"),
        ('{"coin": "BTC", "side_info": []}', "no line of it is a fill"),
        ('{"coin": "BTC"}', "no line of it is a block"),
        ("hello", "is of no form of Hyperliquid files that is read"),
    ],
)
def test_other_files_are_named_for_what_they_are(tmp_path: Path, line: str, problem: str) -> None:
    assert problem in refused(tmp_path, line).problem


def many(*bad: str) -> list[str]:
    """Return 1,000 good rows in 500 blocks, and bad lines after the third block."""
    lines = [block(number, match(tid=number)) for number in range(1, 501)]
    return [*lines[:3], *bad, *lines[3:]]


def test_rows_set_aside_are_counted_and_the_rest_is_imported(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    lines = many()
    bad = fill(px="NaN", tid=3)
    lines[2] = block(3, [*match(tid=2), [ANN, bad], [BEN, fill(side="A", dir="Open Short", tid=3)]])
    tape = imported(tmp_path, *lines, rejects=path)
    (record,) = [json.loads(line) for line in path.read_text().splitlines()]
    assert (record["line"], record["item"]) == (3, 2)
    assert record["file"] == str(tmp_path / "fills.jsonl")
    assert record["reason"] == "px: 'NaN' is not a plain decimal number of up to 18 digits"
    assert json.loads(record["text"]) == [ANN, bad]
    assert tape.manifest["counts"]["rows set aside"] == 1
    assert tape.manifest["counts"]["rows"] == 1002
    assert tape.manifest["counts"]["fills"] == 1001
    assert rows(tape, "SELECT paired FROM fills WHERE block = 3 ORDER BY seq") == [(1,), (1,), (0,)]


def test_a_cut_last_line_is_one_row_set_aside_as_it_stands(tmp_path: Path) -> None:
    cut = block(501, match())[:200]
    tape = imported(tmp_path, *many(), cut, rejects=tmp_path / "rejects")
    record = json.loads((tmp_path / "rejects").read_text())
    assert (record["line"], record["text"]) == (501, cut)
    assert tape.manifest["counts"]["rows"] == 1001
    assert tape.manifest["counts"]["fills"] == 1000


def test_more_than_one_in_a_thousand_set_aside_fails_and_keeps_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rejects"
    source = write(tmp_path / "fills.jsonl", *many("{}", "[]"))
    with pytest.raises(SourceError) as caught:
        import_source("hyperliquid", [source], tmp_path / "tape", rejects=path)
    assert caught.value.file == str(path)
    assert "2 of 1,002 rows could not be understood" in caught.value.problem
    assert [json.loads(line)["line"] for line in path.read_text().splitlines()] == [4, 5]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["fills.jsonl", "rejects"]


def tables(tape: Tape) -> dict[str, Any]:
    return dict(tape.manifest["tables"])


def test_files_are_read_in_the_order_of_their_blocks(tmp_path: Path) -> None:
    whole = imported(tmp_path, *many())
    parts = {"10.lz4": (400, 501), "2.lz4": (1, 150), "9.lz4": (150, 400)}
    (tmp_path / "day").mkdir()
    for name, (first, end) in parts.items():
        write(tmp_path / "day" / name, *[block(number, match(tid=number)) for number in range(first, end)])
    import_source("hyperliquid", [tmp_path / "day"], tmp_path / "parts")
    parted = open_tape(tmp_path / "parts")
    assert tables(parted) == tables(whole)
    assert [source["name"] for source in parted.manifest["sources"]] == ["2.lz4", "9.lz4", "10.lz4"]
    files = [tmp_path / "day" / name for name in parts]
    for order in (files, files[::-1]):
        import_source("hyperliquid", order, tmp_path / "again", force=True)
        names = sorted(
            p.relative_to(tmp_path / "parts") for p in (tmp_path / "parts").rglob("*") if p.is_file()
        )
        for name in names:
            assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_files_that_overlap_are_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "a", *[block(number, match()) for number in (1, 2, 3)])
    second = write(tmp_path / "b", *[block(number, match()) for number in (3, 4)])
    with pytest.raises(SourceError) as caught:
        import_source("hyperliquid", [second, first], tmp_path / "tape", rejects=tmp_path / "rejects")
    assert caught.value.file == str(second)
    assert caught.value.problem == "overlaps another file: block 3 comes after block 3"


def test_two_forms_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path / "a", block(1, match()))
    write(tmp_path / "b", "time,user,delta_usd")
    with pytest.raises(
        SourceError, match="is of the form 'closed alpha 2023', but a is of the form 'node fills'"
    ):
        import_source("hyperliquid", [tmp_path], tmp_path / "tape")


def test_the_tape_does_not_depend_on_how_rows_were_batched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced = {"sells": CLOSES | liquidation(), "buys": liquidation()}
    lines = [
        block(n, match(BEN, ANN, tid=n, **(forced if n % 7 == 0 else {"sells": CLOSES})))
        for n in range(1, 60)
    ]
    whole = imported(tmp_path, *lines)
    monkeypatch.setattr(hyperliquid_fills, "_BATCH_ROWS", 5)
    (tmp_path / "again").mkdir()
    assert tables(imported(tmp_path / "again", *lines)) == tables(whole)
