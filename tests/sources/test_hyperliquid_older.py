"""Hyperliquid's older forms: a fill a line, and trades with both sides; fixtures of the documented fields."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from replay.errors import SourceError
from replay.sources import import_source
from replay.tape.read import Tape, open_tape
from replay.tape.schema import FillKind, Role
from tests.sources.node_fills import ANN, BEN, START_NS, VAULT, block, fill, match, write

MS = START_NS // 10**6
RECORDED = Path(__file__).parents[2] / "../shared/data/hyperliquid-node-fills"


def pairs(ms: int, events: list[Any]) -> list[str]:
    """Return a line a row, each with its own time as `node_fills` have it."""
    return [json.dumps([user, {**content, "time": MS + ms}]) for user, content in events]


def trade(moment: str = "17:00:00.899", **changes: Any) -> str:
    """Return a line of `node_trades`; a change to ``...`` leaves a field out."""
    sides = [
        {"user": ANN, "start_pos": "996.67", "oid": 1, "twap_id": None, "cloid": None},
        {"user": BEN, "start_pos": "-996.7", "oid": 2, "twap_id": None, "cloid": None},
    ]
    content = {
        "coin": "COMP",
        "side": "B",
        "time": f"2025-10-27T{moment}",
        "px": "51.367",
        "sz": "0.31",
        "hash": "0x" + "0" * 64,
        "trade_dir_override": "Na",
        "side_info": sides,
        **changes,
    }
    return json.dumps({key: value for key, value in content.items() if value is not ...})


def imported(folder: Path, *lines: str, **options: Any) -> Tape:
    import_source("hyperliquid", [write(folder / "10.jsonl", *lines)], folder / "tape", **options)
    return open_tape(folder / "tape")


def refused(folder: Path, *lines: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        imported(folder, *lines)
    assert not (folder / "tape").exists()
    return caught.value


FILLS = "SELECT ts, block, account, qty, price, fee, role, kind, match, paired, start_position FROM fills ORDER BY seq"


def test_fills_one_a_line(tmp_path: Path) -> None:
    """Two matches: a trade, and a liquidation 40 ms later; scales are 1 of prices and 2 of sizes, fees 1e-8."""
    cause = {"liquidatedUser": ANN, "markPx": "114500.5", "method": "market"}
    closes = {"dir": "Close Long", "startPosition": "0.01", "px": "114000.5"}
    tape = imported(
        tmp_path,
        *pairs(5, match()),
        *pairs(45, match(BEN, ANN, tid=78, liquidation=cause, buys={"px": "114000.5"}, sells=closes)),
    )
    assert tape.select(FILLS) == [
        (START_NS + 5_000_000, None, 0, 1, 1_150_000, 51_750_000, Role.TAKER, FillKind.TRADE, 77, 1, 0),
        (START_NS + 5_000_000, None, 1, -1, 1_150_000, -2_300_000, Role.MAKER, FillKind.TRADE, 77, 1, 0),
        (
            START_NS + 45_000_000,
            None,
            1,
            1,
            1_140_005,
            51_750_000,
            Role.TAKER,
            FillKind.LIQUIDATION,
            78,
            1,
            0,
        ),
        (
            START_NS + 45_000_000,
            None,
            0,
            -1,
            1_140_005,
            -2_300_000,
            Role.MAKER,
            FillKind.LIQUIDATION,
            78,
            1,
            1,
        ),
    ]
    assert tape.select("SELECT ts, price FROM prices") == [(START_NS + 45_000_000, 1_145_005)]
    assert tape.manifest["importer"]["name"] == "hyperliquid (node fills, one a line)"
    assert "blocks" in tape.manifest["lacks"]
    assert tape.manifest["counts"]["fills without their other row"] == 0


def test_rows_of_a_match_stay_together_across_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replay.sources.hyperliquid_fills._BATCH_ROWS", 1)
    tape = imported(tmp_path, *pairs(5, match(tid=1)), *pairs(5, match(tid=2)), *pairs(6, match(tid=3)))
    assert tape.select("SELECT match, paired FROM fills ORDER BY seq") == [(n, 1) for n in (1, 1, 2, 2, 3, 3)]


def test_a_row_set_aside_does_not_part_a_match(tmp_path: Path) -> None:
    rows = [line for n in range(1, 1_001) for line in pairs(n, match(tid=n))]
    rows.insert(1, "[cut")
    tape = imported(tmp_path, *rows, rejects=tmp_path / "rejects")
    assert tape.select("SELECT count(*), min(paired) FROM fills") == [(2_000, 1)]
    assert tape.manifest["counts"]["rows set aside"] == 1


def test_files_of_fills_are_read_in_order_of_time(tmp_path: Path) -> None:
    late = write(tmp_path / "1.jsonl", *pairs(3_600_000, match(tid=2)))
    early = write(tmp_path / "2.jsonl", *pairs(0, match(tid=1)))
    import_source("hyperliquid", [late, early], tmp_path / "tape")
    assert open_tape(tmp_path / "tape").select("SELECT match FROM fills ORDER BY seq") == [
        (1,),
        (1,),
        (2,),
        (2,),
    ]


def test_trades_give_a_row_for_each_side(tmp_path: Path) -> None:
    """The side is the taker's: the buyer of the first trade takes, the seller of the second does."""
    tape = imported(tmp_path, trade(), trade("17:00:01.216798262", side="A", sz="1"))
    second = START_NS + 10**9 + 216_798_262
    assert tape.select(FILLS) == [
        (START_NS + 899_000_000, None, 0, 31, 51_367, 0, Role.TAKER, FillKind.TRADE, 1, 1, 99_667),
        (START_NS + 899_000_000, None, 1, -31, 51_367, 0, Role.MAKER, FillKind.TRADE, 1, 1, -99_670),
        (second, None, 0, 100, 51_367, 0, Role.MAKER, FillKind.TRADE, 2, 1, 99_667),
        (second, None, 1, -100, 51_367, 0, Role.TAKER, FillKind.TRADE, 2, 1, -99_670),
    ]
    assert {"fees", "marks, index and oracle prices"} <= set(tape.manifest["lacks"])


@pytest.mark.parametrize(
    ("line", "key", "problem"),
    [
        (
            trade(trade_dir_override="Liquidated"),
            None,
            "trade_dir_override 'Liquidated' is not the documented 'Na'",
        ),
        (trade(side_info=[{"user": ANN, "start_pos": "0"}]), None, "side_info is not a buyer and a seller"),
        (trade(side_info=[{"user": ANN}, {"user": BEN}]), "start_pos", "is missing"),
        (trade(side="buy"), None, "side 'buy' is neither B nor A"),
        (trade(px="-1"), "px", "'-1' is not a positive price"),
        (trade(time=...), None, "lacks time"),
        (trade("16:00:00"), None, "comes after 2025-10-27T17:00:00.899Z"),
        (json.dumps([ANN, fill()]), None, "is not a JSON object"),
    ],
)
def test_a_trade_that_is_not_understood(tmp_path: Path, line: str, key: str | None, problem: str) -> None:
    error = refused(tmp_path, trade(), line)
    assert (error.row, error.key) == (2, key)
    assert problem in error.problem


@pytest.mark.parametrize(
    ("line", "key", "problem"),
    [
        (json.dumps([ANN, fill(time=...)]), None, "time None is not milliseconds"),
        (json.dumps([ANN, fill(time=1_761_584_400)]), None, "is not milliseconds between 2015 and 2035"),
        (json.dumps([ANN]), None, "is not a pair of a user and a fill"),
        (json.dumps([ANN, fill(px=1.5)]), "px", "1.5 is not text"),
        (json.dumps([ANN, fill(time=MS - 1)]), None, "comes after"),
    ],
)
def test_a_fill_that_is_not_understood(tmp_path: Path, line: str, key: str | None, problem: str) -> None:
    error = refused(tmp_path, *pairs(0, match()), line)
    assert (error.row, error.key) == (3, key)
    assert problem in error.problem


def test_two_forms_are_two_tapes(tmp_path: Path) -> None:
    blocks = write(tmp_path / "a.jsonl", block(1, match(VAULT, BEN)))
    older = write(tmp_path / "b.jsonl", *pairs(0, match()))
    with pytest.raises(
        SourceError, match=r"of the form 'node fills', but b\.jsonl is of the form 'node fills, one a"
    ):
        import_source("hyperliquid", [blocks, older], tmp_path / "tape")


@pytest.mark.real
@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded tapes are not in ../shared/data")
def test_the_recorded_blocks_one_fill_a_line_give_the_same_rows(tmp_path: Path) -> None:
    """The recording's own rows, taken out of their blocks: all but the block and the nanoseconds is the same."""
    columns = "market, account, qty, price, fee, role, kind, match, paired, victim, start_position"
    lines = []
    for file in sorted(RECORDED.iterdir()):
        for line in file.read_text(encoding="utf-8").splitlines():
            lines += [json.dumps(event) for event in json.loads(line)["events"]]
    older = imported(tmp_path, *lines)
    import_source("hyperliquid", [RECORDED], tmp_path / "blocks")
    blocks = open_tape(tmp_path / "blocks")
    query = f"SELECT ts // 1000000, {columns} FROM fills ORDER BY seq"
    assert len(lines) > 1_000
    assert older.select(query) == blocks.select(query)
    assert older.account_names == blocks.account_names
