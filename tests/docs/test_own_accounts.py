"""The worked hedge of docs/own-accounts.md: what the page shows is what the tool prints."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from replay.cli import cli

PAGE = Path("docs/own-accounts.md").read_text(encoding="utf-8")


def printed(*args: str) -> str:
    result = CliRunner().invoke(cli, list(args))
    assert result.exit_code == 0, result.output
    return result.output


def test_the_page_shows_what_the_tool_prints(tmp_path: Path) -> None:
    tape, run = str(tmp_path / "crash"), str(tmp_path / "hedge")
    printed("import", "demo-crash", "datasets/demo-crash/dataset.toml", "--out", tape)
    book = ["--add", "datasets/demo-crash/own-hedge.toml"]
    printed("run", tape, "--rules", "bybit@2025-09-23", "--liquidations", "rules", *book, "--out", run)
    told = printed("explain", run, "--account", "my hedge")
    assert told in PAGE
    assert "deleveraging" in told.splitlines()[0]
    at = ["--at", "2025-10-10T21:20:00Z", "--account", "my hedge"]
    assert printed("state", run, "--tape", tape, *at) in PAGE
