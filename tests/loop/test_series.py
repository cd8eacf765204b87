"""Samples: the state at the end of the last step at or before each moment, whatever the windows."""

from __future__ import annotations

from pathlib import Path

import pytest

import replay
from replay.run.store import Run
from tests.waterfall.days import Day

DATASET = Path("datasets/demo-thin-book/scenario.toml")


def sampled(folder: Path, **options: object) -> Run:
    folder.mkdir()
    replay.import_source("scenario", [DATASET], folder / "tape")
    rules = replay.load_rules("hyperliquid@2025-10-10")
    options = {"liquidations": "rules", "sample_ns": 10**10, **options}
    return replay.run_replay(replay.open_tape(folder / "tape"), rules, folder / "run", **options)


def test_a_sample_shows_mark_interest_depth_and_the_vault(tmp_path: Path) -> None:
    day = Day(sampled(tmp_path / "day"))
    rows = day.rows(
        "SELECT ts::VARCHAR, mark, open_interest, bid_depth, ask_depth, book_size, fund_balance, fund_size "
        "FROM market_series ORDER BY ts"
    )
    # +10s: the slice took all 1.4 of the bids; +20s: the vault holds 8.6; +30s: it was deleveraged.
    assert [tuple(map(str, row)) for row in rows] == [
        ("2025-10-10 12:00:00", "100000.0", "10.0", "0.0", "0.0", "0.0", "30000.0", "0.0"),
        ("2025-10-10 12:00:10", "95900.0", "10.0", "0.0", "1.0", "1.4", "30000.0", "0.0"),
        ("2025-10-10 12:00:20", "95600.0", "10.0", "0.0", "1.0", "1.4", "36099.7", "8.6"),
        ("2025-10-10 12:00:30", "91000.0", "1.4", "0.0", "1.0", "1.4", "36099.7", "0.0"),
    ]


def test_accounts_are_sampled_from_the_moment_they_are_touched_or_watched(tmp_path: Path) -> None:
    day = Day(sampled(tmp_path / "day", watch=["early"]))
    rows = day.rows("SELECT account, min(ts)::VARCHAR FROM account_series GROUP BY 1 ORDER BY 1")
    # `late` and `middle` are touched at +30s, by an ADL that leaves them nothing to sample.
    assert rows == [("early", "2025-10-10 12:00:00"), ("whale", "2025-10-10 12:00:10")]


def test_without_sampling_the_series_are_empty_and_the_other_tables_the_same(tmp_path: Path) -> None:
    with_samples, without = sampled(tmp_path / "a"), sampled(tmp_path / "b", sample_ns=0)
    assert (without.rows("market_series"), without.rows("account_series")) == (0, 0)
    for table, digest in without.manifest["tables.sha256"].items():
        if not table.endswith("_series"):
            assert with_samples.manifest["tables.sha256"][table] == digest, table


@pytest.mark.parametrize("batch_rows", [1, 2, 5])
def test_the_same_samples_whatever_the_batches(tmp_path: Path, batch_rows: int) -> None:
    whole, cut = sampled(tmp_path / "a"), sampled(tmp_path / "b", batch_rows=batch_rows)
    assert whole.manifest["sha256"] == cut.manifest["sha256"]
