from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.errors import RunError
from replay.folders import sha256_file
from replay.run.journal import Journal
from replay.run.schema import RUN_TABLES
from replay.tape.schema import ROW_GROUP_ROWS

BREAK = {"ts": 0, "account": 1, "market": 2, "expected": 3, "found": 4}


def breaks(start: int, end: int) -> dict[str, np.ndarray]:
    number = np.arange(start, end, dtype=np.int64)
    return {
        "ts": number // 7,
        "account": (number % 1000).astype(np.int32),
        "market": np.zeros(end - start, np.int32),
        "expected": number * 31 % 1009,
        "found": -number,
    }


def engagements(start: int, end: int) -> dict[str, list[object]]:
    numbers = range(start, end)
    return {
        "ts": list(numbers),
        "scope": [f"@fund:{n % 3}" for n in numbers],
        "market": [None if n % 2 else n % 5 for n in numbers],
        "ledger": [0 for _ in numbers],
        "stage": ["adl" for _ in numbers],
        "state": ["start" for _ in numbers],
        "reason": [f"reason {n}" for n in numbers],
        "measured": list(numbers),
        "threshold": [-n for n in numbers],
        "shadow": [n % 2 for n in numbers],
    }


def write(folder: Path, total: int, cuts: list[int]) -> dict[str, dict[str, object]]:
    folder.mkdir()
    edges = sorted({0, total, *(cut % (total + 1) for cut in cuts)})
    with Journal(folder) as journal:
        for start, end in pairwise(edges):
            journal.append("breaks", breaks(start, end))
            journal.append("engagements", engagements(start, end))
        return journal.close()


@settings(max_examples=20, deadline=None)
@given(total=st.integers(0, 400), cuts=st.lists(st.integers(0, 400), max_size=12))
def test_bytes_do_not_depend_on_how_rows_were_split(tmp_path_factory, total, cuts):
    folder = tmp_path_factory.mktemp("journal")
    assert write(folder / "whole", total, []) == write(folder / "split", total, cuts)


def test_row_groups_are_cut_by_count_over_appends(tmp_path):
    total = 2 * ROW_GROUP_ROWS + 5
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with Journal(tmp_path / "a") as whole:
        whole.append("breaks", breaks(0, total))
        expected = whole.close()
    with Journal(tmp_path / "b") as split:
        for start in range(0, total, 99_991):
            split.append("breaks", breaks(start, min(total, start + 99_991)))
        found = split.close()
    assert found == expected
    metadata = pq.read_metadata(tmp_path / "b" / "breaks.parquet")
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert sizes == [ROW_GROUP_ROWS, ROW_GROUP_ROWS, 5]


def test_many_single_rows_give_the_bytes_of_one_append(tmp_path):
    cuts = list(range(1, 700))
    assert write(tmp_path / "single", 700, cuts) == write(tmp_path / "whole", 700, [])


def test_every_table_is_written_with_its_columns(tmp_path):
    with Journal(tmp_path) as journal:
        entries = journal.close()
    assert list(entries) == list(RUN_TABLES)
    for name, table in RUN_TABLES.items():
        path = tmp_path / f"{name}.parquet"
        assert pq.read_schema(path).equals(table.arrow())
        assert entries[name] == {"rows": 0, "sha256": sha256_file(path), "bytes": path.stat().st_size}


def test_seq_counts_the_rows_of_the_table(tmp_path):
    with Journal(tmp_path) as journal:
        journal.append("breaks", {name: [value] * 2 for name, value in BREAK.items()})
        journal.append("breaks", {name: [value] for name, value in BREAK.items()})
        assert journal.rows("breaks") == 3
        assert journal.rows("audit") == 0
        journal.close()
    assert pq.read_table(tmp_path / "breaks.parquet").column("seq").to_pylist() == [0, 1, 2]


def test_a_column_left_out_is_null(tmp_path):
    with Journal(tmp_path) as journal:
        journal.append("engagements", {k: v for k, v in engagements(0, 2).items() if k != "market"})
        journal.close()
    table = pq.read_table(tmp_path / "engagements.parquet")
    assert table.column("market").to_pylist() == [None, None]
    assert table.column("fund_balance").to_pylist() == [None, None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "takes no column colour"),
        ({"seq": 1}, "takes no column seq"),
        ({"account": None}, "breaks.account` may not be unknown"),
    ],
)
def test_columns_that_do_not_fit_the_table_are_refused(tmp_path, change, message):
    with Journal(tmp_path) as journal:
        journal.append("breaks", {name: [value] for name, value in (BREAK | change).items()})
        with pytest.raises(ValueError, match=message):
            journal.close()


def test_columns_of_unequal_length_are_refused(tmp_path):
    columns = {name: [value] for name, value in BREAK.items()} | {"found": [1, 2]}
    with Journal(tmp_path) as journal, pytest.raises(ValueError, match="found` has 2 rows"):
        journal.append("breaks", columns)


@pytest.mark.parametrize("value", [2**63, 1.5, "x", np.array([1 << 40])])
def test_a_number_that_does_not_fit_its_cell_is_refused(tmp_path, value):
    columns = {name: [given] for name, given in BREAK.items()}
    columns["account"] = value if isinstance(value, np.ndarray) else [value]
    with Journal(tmp_path) as journal:
        journal.append("breaks", columns)
        with pytest.raises(RunError, match=r"breaks\.account"):
            journal.close()


def test_arrow_arrays_are_taken_as_they_are(tmp_path):
    columns = {name: pa.array([value]) for name, value in BREAK.items()}
    with Journal(tmp_path) as journal:
        journal.append("breaks", columns)
        journal.close()
    assert pq.read_table(tmp_path / "breaks.parquet").to_pylist() == [BREAK | {"seq": 0}]
