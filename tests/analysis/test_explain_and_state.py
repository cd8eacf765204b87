"""``replay explain`` and ``replay state`` on the thin-book day, whose numbers are worked in its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import replay
from replay.cli import cli
from replay.errors import RunError
from replay.run.store import Run
from replay.units import parse_time

DATASET = Path("datasets/demo-thin-book/scenario.toml")
BOOK = """
[[accounts]]
name = "me"
cash = [{ currency = "USDC", amount = 20_000 }]
positions = [{ market = "BTC", size = -2, at = "+0s" }]

[[accounts]]
name = "calm"
cash = [{ currency = "USDC", amount = 1_000_000 }]
positions = [{ market = "BTC", size = -1, at = "+0s" }]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    folder = tmp_path_factory.mktemp("explained")
    replay.import_source("scenario", [DATASET], folder / "tape")
    (folder / "book.toml").write_text(BOOK, encoding="utf-8")
    run = replay.run_replay(
        replay.open_tape(folder / "tape"),
        replay.load_rules("hyperliquid@2025-10-10"),
        folder / "run",
        liquidations="rules",
        add=folder / "book.toml",
        sample_ns=10**9,
    )
    return run, folder / "tape"


def test_a_deleveraged_hedge_is_answered_first_with_its_rank(made: tuple[Run, Path]) -> None:
    told = replay.explain(made[0], "me")
    assert told.verdict == "deleveraged"
    # late 6.38, me 5.26 (100/91 x 182/38), middle 3.09, early 2.50, calm 1.10: rank 2 of 5
    assert told.answer[0] == (
        "Yes: 2 of its 2 BTC short were closed by auto-deleveraging, first at 2025-10-10T12:00:30Z "
        "from rank 2 of 5."
    )
    [step] = told.steps
    assert step.what == "adl"
    # at 95,600 instead of the mark of 91,000: 2 x 4,600 worse; 2 x 4,400 realised
    assert "9,200.00 USDC worse for it than the mark; 8,800.00 USDC realised" in step.text


def test_a_spared_account_is_told_where_it_came_closest(made: tuple[Run, Path]) -> None:
    told = replay.explain(made[0], "calm")
    assert (told.verdict, told.steps) == ("spared", ())
    assert told.answer == ("No: calm was neither liquidated nor deleveraged.",)
    # equity 1,000,000 + 9,000 at the end, profit of one coin from 100,000 to 91,000
    assert "at the end: 1 BTC short, profit 9,000.00 USDC" in told.standing


def test_a_liquidated_account_is_told_stage_by_stage(made: tuple[Run, Path]) -> None:
    told = replay.explain(made[0], "whale")
    assert told.verdict == "liquidated"
    assert [step.what for step in told.steps] == ["breach", "book", "takeover", "end"]
    breach, book, takeover, _ = (step.text for step in told.steps)
    assert "equity 9,000.00 USDC is below the maintenance of 11,987.50 USDC, 75.1 % of it" in breach
    assert "sell 2 BTC: 1.4 done at 95,714.286 (mark 95,900); depth used up" in book  # 134,000 / 1.4
    assert "sell 8.6 BTC: 8.6 done" in takeover


def rows(made: tuple[Run, Path], at: str, **options: Any) -> list[dict[str, Any]]:
    found = replay.state(made[0], replay.open_tape(made[1]), parse_time(at), **options)
    return list(found.to_pylist())


def test_the_state_of_a_moment_has_equity_margin_and_rank(made: tuple[Run, Path]) -> None:
    [row] = rows(made, "2025-10-10T12:00:20Z", accounts=["me"])
    assert (row["market"], row["size"], row["entry"], row["mark"]) == ("BTC", -2.0, 100_000.0, 95_600.0)
    assert (row["profit"], row["equity"]) == (8_800.0, 28_800.0)
    assert row["maintenance"] == 2 * 95_600 * 0.0125
    assert (row["rank"], row["candidates"]) == (2, 5)


def test_the_state_before_is_not_that_after(made: tuple[Run, Path]) -> None:
    assert {row["account"] for row in rows(made, "2025-10-10T12:00:29Z", market="BTC")} >= {"me", "late"}
    after = {row["account"] for row in rows(made, "2025-10-10T12:00:30Z", market="BTC")}
    assert after.isdisjoint({"me", "late"})


def test_the_state_at_a_sample_is_the_sample(made: tuple[Run, Path]) -> None:
    sampled = replay.query(
        made[0],
        "SELECT size, value, equity, rank, candidates FROM account_series WHERE account = 'me' "
        "AND ts = TIMESTAMP '2025-10-10 12:00:20'",
    ).to_pylist()
    [row] = rows(made, "2025-10-10T12:00:20Z", accounts=["me"])
    assert sampled == [{key: row[key] for key in ("size", "value", "equity", "rank", "candidates")}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"account": "mee"}, "did you mean 'me'"),
        ({"account": "me", "market": "ETH"}, "the run has no market 'ETH'"),
    ],
)
def test_an_unknown_name_is_one_clear_error(made: tuple[Run, Path], options: Any, message: str) -> None:
    with pytest.raises(RunError, match=message):
        replay.explain(made[0], **options)


def test_a_moment_outside_the_run_and_another_tape_are_refused(
    made: tuple[Run, Path], tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="outside the run"):
        rows(made, "2025-10-10T13:00:00Z")
    replay.import_source("scenario", [Path("datasets/demo-squeeze/scenario.toml")], tmp_path / "other")
    with pytest.raises(RunError, match="the hash of the tape differs"):
        replay.state(made[0], replay.open_tape(tmp_path / "other"), parse_time("2025-10-10T12:00:20Z"))


def test_the_commands_print_them(made: tuple[Run, Path]) -> None:
    run, tape = made
    told = CliRunner().invoke(cli, ["explain", str(run.path), "--account", "me"])
    assert told.exit_code == 0, told.output
    assert told.output.startswith("Yes: 2 of its 2 BTC short were closed by auto-deleveraging")
    as_json = CliRunner().invoke(cli, ["explain", str(run.path), "--account", "calm", "--format", "json"])
    assert json.loads(as_json.output)["verdict"] == "spared"
    at = ["--at", "2025-10-10T12:00:20Z", "--account", "me", "--format", "json"]
    stood = CliRunner().invoke(cli, ["state", str(run.path), "--tape", str(tape), *at])
    assert stood.exit_code == 0, stood.output
    assert json.loads(stood.output)[0]["rank"] == 2
