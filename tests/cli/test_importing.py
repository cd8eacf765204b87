"""`replay import`: what it prints, its help, its exit codes; nothing left behind by a failure."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from replay.cli import cli
from replay.cli.progress import progress
from tests.sources.node_fills import ANN, BEN, block, fill, match, write

GOOD = [block(1, match()), block(2, match(BEN, ANN))]


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args], prog_name="replay")


def test_the_result_goes_to_stdout_and_says_what_is_on_the_tape(tmp_path: Path) -> None:
    source = write(tmp_path / "fills", *GOOD)
    result = run("import", "hyperliquid", source, "--out", tmp_path / "tape")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        f"{tmp_path / 'tape'}  hyperliquid (node fills)",
        "  span      2025-10-27T17:00:00.203456789Z to 2025-10-27T17:00:00.283456789Z",
        "  markets   1",
        "  accounts  2",
        "  ledgers   1",
        "  fills     4",
        "  counted   2 blocks",
        "            4 rows",
        "            2 maker rebates",
        f"next  replay check {tmp_path / 'tape'}",
    ]


def test_a_day_without_events_is_a_tape(tmp_path: Path) -> None:
    opening = """
        venue = "hyperliquid"
        start = "2023-03-01T00:00:00Z"
        currency = "USDC"
        markets = [{ name = "BTC" }]
        accounts = [{ name = "saver", cash = 100 }]
    """
    (tmp_path / "day.toml").write_text(opening)
    result = run("import", "scenario", tmp_path / "day.toml", "--out", tmp_path / "tape")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "span              no events" in result.stdout
    assert "opening accounts  1" in result.stdout


def test_the_help_names_each_source_with_what_it_has_lacks_and_assumes() -> None:
    text = run("import", "--help").stdout
    for word in (
        "Source hyperliquid",
        "Source scenario",
        "has",
        "lacks",
        "assumes",
        "Examples:",
        "--rejects FILE",
    ):
        assert word in text
    assert "\\b" not in text


def test_an_existing_tape_is_replaced_only_by_force(tmp_path: Path) -> None:
    source = write(tmp_path / "fills", *GOOD)
    command = ("import", "hyperliquid", source, "--out", tmp_path / "tape")
    assert run(*command).exit_code == 0
    again = run(*command)
    assert again.exit_code == 1
    assert "already exists" in again.stderr
    assert run(*command, "--force").exit_code == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other/precious").touch()
    assert run(*command[:-1], tmp_path / "other", "--force").exit_code == 1
    assert (tmp_path / "other/precious").exists()


BAD = {
    "a truncated line": (GOOD[0] + "\n" + GOOD[1][:-9]).encode(),
    "an empty file": b"",
    "random bytes": random.Random(7).randbytes(2000),
    "a negative size": block(1, match(sz="-0.01")).encode(),
    "a price NaN": block(1, match(px="NaN")).encode(),
    "an unknown dir": block(1, [[ANN, fill(dir="Open Sideways")]]).encode(),
    "a missing column": b"time,user,coin,side,px,crossed\n",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_message_and_exit_code_1(tmp_path: Path, name: str) -> None:
    source = tmp_path / "fills.lz4"
    source.write_bytes(BAD[name])
    result = run("import", "hyperliquid", source, "--out", tmp_path / "tape")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {source}")
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["fills.lz4"]


def test_headers_without_a_fill_name_the_file_of_fills(tmp_path: Path) -> None:
    headers = {
        "a.csv": "time,user,liquidated_ntl_pos,liquidated_account_value,leverage_type",
        "b.csv": "time,user,delta_usd",
        "c.csv": "time,user,coin,side,px,sz,crossed",
    }
    (tmp_path / "in").mkdir()
    for name, header in headers.items():
        write(tmp_path / "in" / name, header)
    result = run("import", "hyperliquid", tmp_path / "in", "--out", tmp_path / "tape")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {tmp_path / 'in/c.csv'}: holds no fills\n")


def test_misuse_is_exit_code_2(tmp_path: Path) -> None:
    assert run("import", "okcoin", tmp_path, "--out", tmp_path / "tape").exit_code == 2
    assert run("import", "hyperliquid", "--out", tmp_path / "tape").exit_code == 2
    assert run("import", "hyperliquid", tmp_path).exit_code == 2


def test_progress_is_silent_where_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("importing") as on_progress:
        on_progress(0.5, "half")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_progress_draws_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with progress("importing") as on_progress:
        on_progress(0.5, "reading [a].lz4")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "importing" in captured.err
    assert "reading [a].lz4" in captured.err
