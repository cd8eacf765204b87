"""The README's day on paper: every command there is run, and prints what stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from replay.cli import cli

ROOT = Path(__file__).parents[2]


def commands() -> list[tuple[list[str], list[str]]]:
    """Return the commands of the section and the lines printed below each."""
    section = (ROOT / "README.md").read_text().split("## A day on paper")[1].split("## ")[0]
    match = re.search(r"```console\n(.*?)```", section, re.DOTALL)
    assert match is not None
    found: list[tuple[list[str], list[str]]] = []
    for line in match[1].splitlines():
        if line.startswith("$ replay "):
            found.append((shlex.split(line)[2:], []))
        else:
            found[-1][1].append(line)
    return found


def test_every_number_of_the_day_on_paper_comes_out_of_the_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "datasets").symlink_to(ROOT / "datasets")
    told = commands()
    assert [arguments[0] for arguments, _ in told] == ["import", "run", "sql", "sql", "sql"]
    for arguments, lines in told:
        result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        if lines:
            assert [line.rstrip() for line in result.stdout.rstrip().splitlines()] == lines
