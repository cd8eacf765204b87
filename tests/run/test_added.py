"""``--add``: accounts of the user's own in the thin-book day, worked on paper beside the day itself.

Between +10s and +20s the mark of BTC is 95,900, between +20s and +30s 95,600, then 91,000; the vault is
deleveraged at +30s at 95,600 against the winners by (entry / mark) x (notional / equity).
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

import replay
from replay.cli import cli
from replay.errors import RunError, SourceError
from replay.run.store import Run
from replay.units import parse_time
from tests.waterfall.days import Day

DATASET = Path("datasets/demo-thin-book/scenario.toml")
HEDGE = """
[[accounts]]
name = "me"
cash = [{ currency = "USDC", amount = 20_000 }]
positions = [{ market = "BTC", size = -2, at = "+0s" }]
"""


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("added") / "tape"
    replay.import_source("scenario", [DATASET], folder)
    return folder


def added(tape: Path, folder: Path, text: str, **options: object) -> Run:
    book = folder / "book.toml"
    book.write_text(text, encoding="utf-8")
    rules = replay.load_rules("hyperliquid@2025-10-10")
    options = {"liquidations": "rules", "add": book, **options}
    return replay.run_replay(replay.open_tape(tape), rules, folder / "run", **options)


def test_an_added_short_is_ranked_among_the_winners_and_deleveraged(tape: Path, tmp_path: Path) -> None:
    run = added(tape, tmp_path, HEDGE)
    # At 91,000: profit 2 x 9,000 = 18,000 on 20,000 of cash; score 100/91 x 182/38 = 5.26, behind `late`
    # with 100/91 x 273/47 = 6.38 and before `middle` with 3.09.
    found = Day(run).rows(
        "SELECT winner, rank, winner_added, quantity, realised FROM adl_fills ORDER BY rank"
    )
    assert found[:2] == [
        ("late", 1, False, Decimal(3), Decimal(13_200)),
        ("me", 2, True, Decimal(2), Decimal(8_800)),
    ]
    assert Day(run).cash("me") == 28_800


def test_added_cash_is_external_flow_and_the_books_close(tape: Path, tmp_path: Path) -> None:
    run = added(tape, tmp_path, HEDGE)
    [ledger] = run.manifest["conservation"]["ledgers"]
    opening = 50_000 + 100_000 + 60_000 + 20_000 + 30_000
    # Entries of the tape sum to 10 x 100,000 - 4 x 110,000 - 3 x 105,000 - 3 x 100,000 = -55,000: @unseen.
    assert ledger["cash_less_cost"] == ledger["external_flow"]
    assert ledger["external_flow"] == (opening + 20_000) * 10**8


def test_the_other_side_of_an_added_position_is_the_book(tape: Path, tmp_path: Path) -> None:
    text = HEDGE.replace('size = -2, at = "+0s"', 'size = -0.5, at = "+31s"')
    with pytest.raises(SourceError, match="outside the time that is replayed"):
        added(tape, tmp_path, text)
    run = added(tape, tmp_path, text.replace("+31s", "+30s"))
    assert Day(run).size("me") == Decimal("-0.5")
    [[cost]] = Day(run).rows("SELECT cost FROM positions_end WHERE account = 'me' AND added")
    assert cost == -45_500  # half a coin at the mark of its moment, 91,000
    plain = replay.run_replay(
        replay.open_tape(tape),
        replay.load_rules("hyperliquid@2025-10-10"),
        tmp_path / "plain",
        liquidations="rules",
    )
    assert Day(run).size("@book") == Day(plain).size("@book") + Decimal("0.5")


def test_an_added_long_is_liquidated_like_any_other(tape: Path, tmp_path: Path) -> None:
    text = """
[[accounts]]
name = "isolated long"
positions = [{ market = "BTC", size = 0.1, at = "+0s", margin = 200 }]
"""
    run = added(tape, tmp_path, text)
    found = Day(run).rows("SELECT ts::VARCHAR, mode, size, equity, added FROM liquidations WHERE added")
    # 0.1 x (95,900 - 100,000) = -410: the margin of 200 is 210 short.
    assert found == [("2025-10-10 12:00:10", "isolated", Decimal("0.1"), Decimal(-210), True)]


def test_a_position_in_two_parts_that_flips_is_valued_at_the_marks_of_its_moments(
    tape: Path, tmp_path: Path
) -> None:
    text = HEDGE.replace(
        '{ market = "BTC", size = -2, at = "+0s" }',
        '{ market = "BTC", size = 1, at = "+0s" }, { market = "BTC", size = -3, at = "+20s" }',
    )
    day = Day(added(tape, tmp_path, text, until=parse_time("2025-10-10T12:00:20Z")))
    assert day.size("me") == -2
    assert day.cash("me") == 20_000 - 4_400
    assert day.one("SELECT cost FROM positions_end WHERE account = 'me'") == -2 * 95_600


@pytest.mark.parametrize("batch_rows", [1, 3, 1_000])
def test_the_same_bytes_whatever_the_batches(tape: Path, tmp_path: Path, batch_rows: int) -> None:
    text = HEDGE.replace("+0s", "+12s")
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = added(tape, tmp_path / "whole", text)
    cut = added(tape, tmp_path / "cut", text, batch_rows=batch_rows)
    assert whole.manifest["sha256"] == cut.manifest["sha256"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"me"', '"late"'), "there is an account 'late' already"),
        (('"me"', '"@book"'), "is a name of the books"),
        (('"BTC"', '"BTX"'), "did you mean 'BTC'"),
        (("-2,", "-0.0001,"), "no multiple of the lot of BTC"),
        (('"+0s"', '"2025-10-11T00:00:00Z"'), "outside the time that is replayed"),
        (('"USDC"', '"EUR"'), "the tape has no ledger in EUR"),
        (("20_000", "-5"), "must be more than zero"),
        (("size", "sise"), "did you mean `size`"),
    ],
)
def test_a_wrong_book_is_one_clear_error_and_leaves_nothing(
    tape: Path, tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        added(tape, tmp_path, HEDGE.replace(*change))
    assert "book.toml" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_market_without_a_mark_at_that_moment_is_named(tmp_path: Path) -> None:
    text = DATASET.read_text(encoding="utf-8").replace('["+0s", 100_000], ', "")
    scenario = tmp_path / "late-mark.toml"
    scenario.write_text(text, encoding="utf-8")
    replay.import_source("scenario", [scenario], tmp_path / "tape")
    with pytest.raises(RunError, match="BTC has no mark yet"):
        added(tmp_path / "tape", tmp_path, HEDGE)
    assert not (tmp_path / "run").exists()


def test_the_command_takes_the_book_and_says_so(tape: Path, tmp_path: Path) -> None:
    book = tmp_path / "book.toml"
    book.write_text(HEDGE, encoding="utf-8")
    args = ["run", str(tape), "--rules", "hyperliquid@2025-10-10", "--liquidations", "rules"]
    result = CliRunner().invoke(cli, [*args, "--add", str(book), "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    run = replay.open_run(tmp_path / "run")
    assert run.manifest["switches"]["add"] == "book.toml"
    assert any(
        text.startswith("added: the accounts of book.toml (1)") for text in run.manifest["assumptions"]
    )
