"""`replay check` on anonymous trades: what is impossible in a row, and what a feed left out, doubled or misdated."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from replay.sources import import_source
from replay.tape.check import check_tape
from replay.tape.check_feed import CLAMPED
from replay.tape.read import Tape, open_tape
from replay.tape.write import TapeWriter
from replay.units import parse_time
from tests.end_to_end.recordings import recording

NOON = parse_time("2025-10-10T12:00:00Z")
SECOND = 1_000_000_000
COUNT = 1_000


def anonymous(path: Path, *, counts: dict[str, int] | None = None, **changes: dict[int, Any]) -> Tape:
    """A thousand trades, one a second, ids from 500 without a gap; ``changes`` replaces cells by row."""
    rows: dict[str, list[Any]] = {
        "ts": [NOON + SECOND * row for row in range(COUNT)],
        "market": [0] * COUNT,
        "price": [2737] * COUNT,
        "price_digits": [1] * COUNT,
        "qty": [12] * COUNT,
        "qty_digits": [0] * COUNT,
        "taker_side": [1, -1] * (COUNT // 2),
        "trade_id": [500 + row for row in range(COUNT)],
    }
    for name, cells in changes.items():
        for row, value in cells.items():
            rows[name][row] = value
    with TapeWriter(path, venue="test", importer="test") as writer:
        writer.market("AAVEUSD", settle="USD")
        writer.append("trades", rows)
        writer.finish(sources=[], lacks=[], assumptions=[], counts=counts or {}, accounts_start="unknown")
    return open_tape(path)


def findings(tape: Tape) -> list[tuple[str, str, int, int | None, int | None]]:
    report = check_tape(tape)
    return [(f.severity.value, f.message, f.count, f.ts, f.row) for f in report.findings]


def test_a_feed_without_a_fault_has_no_finding(tmp_path: Path) -> None:
    assert findings(anonymous(tmp_path / "t")) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"taker_side": {7: 2}}, "has a taker_side other than -1, 0, 1"),
        ({"qty": {7: 0}}, "has a qty not above zero"),
        ({"price": {7: 0}}, "has a price not above zero"),
    ],
)
def test_an_impossible_row_is_an_error(
    tmp_path: Path, changes: dict[str, dict[int, Any]], message: str
) -> None:
    assert findings(anonymous(tmp_path / "t", **changes)) == [("error", message, 1, NOON + 7 * SECOND, 7)]


def test_missing_ids_are_counted_and_dated(tmp_path: Path) -> None:
    """From row 600 on three ids later, from row 900 on one more: 4 ids are missing, in 2 gaps."""
    later = {row: 500 + row + 3 + (row >= 900) for row in range(600, COUNT)}

    assert findings(anonymous(tmp_path / "t", trade_id=later)) == [
        ("note", "lacks ids of AAVEUSD in 2 gaps, the last at 12:15:00", 4, NOON + 600 * SECOND, 600)
    ]


def test_ids_that_are_not_consecutive_lack_none(tmp_path: Path) -> None:
    assert findings(anonymous(tmp_path / "t", trade_id={row: 7 * row for row in range(COUNT)})) == []


def test_an_id_twice_is_a_warning(tmp_path: Path) -> None:
    found = findings(anonymous(tmp_path / "t", trade_id={10: 509}))

    assert found[0] == ("warning", "has ids of AAVEUSD more than once", 1, NOON + 9 * SECOND, 9)


def test_ids_that_fall_are_a_jump_of_the_clock(tmp_path: Path) -> None:
    """Rows 20 and 21 stand in the other order: one step back, at row 21."""
    ((severity, message, count, ts, row),) = findings(anonymous(tmp_path / "t", trade_id={20: 521, 21: 520}))

    assert (severity, count, ts, row) == ("warning", 1, NOON + 21 * SECOND, 21)
    assert "its clock jumped, or rows are out of order" in message


def test_rows_of_the_day_before_are_named(tmp_path: Path) -> None:
    """Two of a thousand trades happened before midnight, as in files cut by the clock of a recorder."""
    midnight = parse_time("2025-10-10T00:00:00Z")
    moments = {row: midnight + SECOND * (row - 2) for row in range(COUNT)}

    assert findings(anonymous(tmp_path / "t", ts=moments)) == [
        ("note", "has rows of AAVEUSD of another day than nearly all others", 2, midnight - 2 * SECOND, 0)
    ]


def test_moments_that_the_importer_moved_are_counted(tmp_path: Path) -> None:
    ((severity, message, count, _, _),) = findings(anonymous(tmp_path / "t", counts={CLAMPED: 3}))

    assert (severity, count) == ("note", 3)
    assert "a moment before that of the row before" in message


def test_a_silence_of_trades_is_noted(tmp_path: Path) -> None:
    moments = {row: NOON + SECOND * (row + 3_600 * (row >= 500)) for row in range(COUNT)}
    ((severity, message, count, ts, _),) = findings(anonymous(tmp_path / "t", ts=moments))

    assert (severity, count, ts) == ("note", 1, NOON + 499 * SECOND)
    assert "at most for 1.0 h" in message


@pytest.mark.real
def test_what_the_feed_of_the_crash_day_left_out(tmp_path: Path) -> None:
    """Ids of TRXUSD_PERP in the file: 60,772 rows, 60,765 steps of one, 10 ids missing, the first at 21:17:10."""
    folder = recording("tardis-2025-10-10") / "perp"
    import_source(
        "tardis", [folder / "binance-delivery_trades_2025-10-10_TRXUSD_PERP.csv.gz"], tmp_path / "t"
    )
    missing = [
        finding for finding in check_tape(open_tape(tmp_path / "t")).findings if "lacks" in finding.message
    ]

    assert [(finding.count, finding.ts) for finding in missing] == [
        (10, parse_time("2025-10-10T21:17:10.263Z"))
    ]


def printed(path: Path, moments: list[int]) -> Tape:
    """Prints of liquidations of nobody in particular at some moments."""
    count = len(moments)
    with TapeWriter(path, venue="test", importer="test") as writer:
        writer.market("AAVEUSD", settle="USD")
        account = writer.account("@unseen")
        writer.append(
            "liquidations",
            {
                "ts": moments,
                "liquidation": list(range(count)),
                "account": [account] * count,
                "market": [0] * count,
                "qty": [-3] * count,
                "qty_digits": [0] * count,
                "price": [2737] * count,
                "price_digits": [1] * count,
                "price_kind": ["fill"] * count,
            },
        )
        writer.finish(sources=[], lacks=[], assumptions=[], counts={}, accounts_start="unknown")
    return open_tape(path)


def test_a_feed_that_prints_one_a_second_is_a_sample_and_its_coverage_is_estimated(tmp_path: Path) -> None:
    """3,000 liquidations at random in ten minutes are five a second: with one a second about a fifth is there."""
    rng = random.Random(5)
    moments = sorted(NOON + rng.randrange(600 * SECOND) for _ in range(3000))
    assert findings(printed(tmp_path / "whole", moments)) == []
    last = {moment // SECOND: moment for moment in moments}
    kept = sorted(last.values())
    ((severity, message, count, ts, _row),) = findings(printed(tmp_path / "sample", kept))
    assert (severity, count, ts) == ("note", len(kept), kept[0])
    assert message.startswith("of AAVEUSD are a sample: no second has two")
    (share,) = re.findall(r"about (\d+) %", message)
    assert abs(int(share) - 100 * len(kept) / 3000) < 5


def test_a_sparse_feed_says_nothing_of_itself(tmp_path: Path) -> None:
    """20 in ten minutes: that no second has two is no surprise."""
    assert findings(printed(tmp_path / "t", [NOON + 30 * SECOND * n for n in range(20)])) == []
