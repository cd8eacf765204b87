"""``replay check``: its lines fit the terminal; what is no tape is one message."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from replay.cli import cli
from replay.cli.check import _print_findings
from replay.tape.findings import CheckReport, Finding, Severity
from tests.sources.node_fills import ANN, block, match, write


def check(path):
    return CliRunner().invoke(cli, ["check", str(path)], prog_name="replay")


@pytest.fixture(scope="module")
def tape(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    source = write(folder / "fills", block(1, match()))
    arguments = ["import", "hyperliquid", str(source), "--out", str(folder / "tape")]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    return folder / "tape"


def test_facts_fit_the_terminal_and_are_not_folded_elsewhere(tape, monkeypatch):
    whole = check(tape)
    assert whole.exit_code == 0
    (chains,) = [line for line in whole.stdout.splitlines() if line.startswith("chains")]
    assert len(chains) > 60
    monkeypatch.setattr("replay.cli.check._width", lambda: 60)
    folded = check(tape)
    assert max(map(len, folded.stdout.splitlines())) <= 60
    assert folded.stdout.split() == whole.stdout.split()


def test_findings_fit_the_terminal_and_shorten_addresses(capsys, monkeypatch):
    monkeypatch.setattr("replay.cli.check._width", lambda: 80)
    message = f"start positions differ from the fill before, in 1 of 9 chains: {ANN} in BTC"
    finding = Finding(Severity.WARNING, "fills", message, 1_234, 1_677_618_623_123_456_789, 12_345)
    _print_findings(CheckReport([finding]))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert f"{ANN[:6]}…{ANN[-4:]}" in " ".join(lines)
    assert lines[-1] == "no errors, 1 warning, no notes"


def test_a_file_is_no_tape(tmp_path):
    (tmp_path / "fills.lz4").touch()
    result = check(tmp_path / "fills.lz4")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {tmp_path / 'fills.lz4'}: is a file, not the folder of a tape\n")
