from __future__ import annotations

from datetime import date
from decimal import Decimal

import pyarrow as pa
import pytest

from replay.cli.values import plain_values


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (pa.array([1677618623 * 10**9, None], pa.timestamp("ns")), ["2023-02-28T21:10:23Z", None]),
        (pa.array([1677618623 * 10**9 + 50], pa.timestamp("ns")), ["2023-02-28T21:10:23.00000005Z"]),
        (pa.array([1500], pa.timestamp("ms")), ["1970-01-01T00:00:01.5Z"]),
        (pa.array([2**63 - 1], pa.timestamp("us")), ["infinity"]),
        (pa.array([1.5, float("nan"), float("inf"), None]), [1.5, None, None, None]),
        (pa.array([Decimal(2**70), None], pa.decimal128(38, 0)), [2**70, None]),
        (pa.array([Decimal("1.25"), Decimal("2.00")]), [1.25, 2]),
        (pa.array([True, None, False]), [True, None, False]),
        (pa.array([date(2023, 2, 28)]), ["2023-02-28"]),
        (pa.array([b"\xab"]), ["ab"]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (pa.array([[1, None], None, [], [3]]), [[1, None], None, [], [3]]),
        (pa.array([[1500]], pa.list_(pa.timestamp("ms"))), [["1970-01-01T00:00:01.5Z"]]),
        (pa.array([{"a": 1.0, "b": "x"}, None]), [{"a": 1.0, "b": "x"}, None]),
        (pa.array([[("k", 1.5)], None], pa.map_(pa.string(), pa.float64())), [{"k": 1.5}, None]),
    ],
)
def test_arrow_columns_become_plain_values(column, values):
    assert plain_values(column) == values
    padded = pa.concat_arrays([column, column])
    assert plain_values(padded.slice(len(column))) == values
