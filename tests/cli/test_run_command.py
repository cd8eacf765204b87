"""``replay run`` on a day small enough for pencil and paper: 2 BTC long at 20,000 with 1,000 of cash.

Equity at a mark of 19,690 is 1,000 - 2 x 310 = 380; one percent of the notional of 39,380 is 393.80, more.
The bankruptcy price is 20,000 - 1,000 / 2 = 19,500.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from replay.cli import cli
from replay.cli.running import print_summary
from replay.run.store import open_run
from replay.run.summary import summarise
from tests.scenario_tape import scenario_tape

DAY = """
venue = "hyperliquid"
start = "2023-03-01T00:00:00Z"
currency = "USDC"
markets = [{ name = "BTC" }]

[[accounts]]
name = "long"
cash = 1_000
positions = [{ market = "BTC", size = 2, entry = 20_000 }]

[[accounts]]
name = "short"
cash = 50_000
positions = [{ market = "BTC", size = -2, entry = 20_000 }]

[[marks]]
market = "BTC"
path = [["+0s", 20_000], ["+1m", 19_690], ["+2m", 19_800]]
"""


@pytest.fixture(scope="module")
def tape(tmp_path_factory):
    return scenario_tape(tmp_path_factory.mktemp("run"), DAY).path


def run(tape, out, *args):
    arguments = ["run", str(tape), "--rules", "hyperliquid@2023-02", "--out", str(out), *args]
    return CliRunner().invoke(cli, arguments, prog_name="replay")


def ask(out, statement):
    result = CliRunner().invoke(cli, ["sql", str(out), statement, "--format", "json"], prog_name="replay")
    return json.loads(result.stdout)


def test_the_recorded_day_forces_nothing(tape, tmp_path):
    result = run(tape, tmp_path / "run")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "nothing was recorded as forced" in result.stdout
    assert f"replay sql {tmp_path / 'run'} --query" in result.stdout
    assert ask(tmp_path / "run", "FROM liquidations") == []
    open_run(tmp_path / "run").verify()


def test_the_summary_is_not_folded_where_stdout_is_no_terminal(tape, tmp_path):
    out = tmp_path / ("long" * 30)
    text = run(tape, out, "--liquidations", "rules").stdout
    assert all(line == line.rstrip() for line in text.splitlines())
    assert f'replay sql {out} "FROM assumptions"' in text
    assert sum(line.startswith("  marks ") for line in text.splitlines()) == 1
    assert len(text.splitlines()) <= 18


def test_the_summary_fits_a_terminal_and_commands_stay_whole(tape, tmp_path, capsys):
    run(tape, tmp_path / ("long" * 30))
    path = tmp_path / ("long" * 30)
    print_summary(summarise(open_run(path)), 80)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80] == [line for line in lines if str(path) in line]
    assert f"      replay sql {path} --list" in lines
    assert len(lines) <= 21


def test_a_reader_that_leaves_ends_the_run_quietly(tape, tmp_path):
    command = [sys.executable, "-m", "replay", "run", tape, "--rules", "hyperliquid@2023-02"]
    child = subprocess.Popen(
        [*map(str, command), "--out", str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    child.stdout.close()
    assert child.stderr is not None
    assert child.stderr.read() == ""
    child.stderr.close()
    assert child.wait() == 141
    open_run(tmp_path / "run").verify()


def test_the_rules_take_the_pool_over_at_its_bankruptcy_price(tape, tmp_path):
    result = run(tape, tmp_path / "run", "--liquidations", "rules")
    assert (result.exit_code, result.stderr) == (0, "")
    (row,) = ask(
        tmp_path / "run", "SELECT ts, account, size, equity, maintenance, bankruptcy_value FROM liquidations"
    )
    assert row == {
        "ts": "2023-03-01T00:01:00Z",
        "account": "long",
        "size": 2.0,
        "equity": 1_000 - 2 * 310.0,
        "maintenance": 2 * 19_690 / 100,
        "bankruptcy_value": 2 * 19_500.0,
    }
    assert ask(tmp_path / "run", "SELECT cash FROM accounts_end WHERE account = 'long'") == [{"cash": 0.0}]
    assert "1 liquidation of 1 account, 39,000.00 USDC at bankruptcy" in result.stdout


@pytest.mark.parametrize("args", [("--until", "2023-03-01T00:00:30Z"), ("--set", "margin.rate=0.001")])
def test_an_earlier_end_or_a_lower_rate_liquidates_nobody(tape, tmp_path, args):
    assert run(tape, tmp_path / "run", "--liquidations", "rules", *args).exit_code == 0
    assert ask(tmp_path / "run", "FROM liquidations") == []


def test_batches_and_threads_do_not_change_the_result(tape, tmp_path):
    run(tape, tmp_path / "a", "--liquidations", "rules")
    run(tape, tmp_path / "b", "--liquidations", "rules", "--batch-rows", "1", "--threads", "1")
    assert open_run(tmp_path / "a").manifest["sha256"] == open_run(tmp_path / "b").manifest["sha256"]


def test_rules_with_recorded_execution_have_no_meaning(tape, tmp_path):
    result = run(tape, tmp_path / "run", "--liquidations", "rules", "--execution", "recorded")
    assert result.exit_code == 2
    assert "--execution recorded: has no meaning with --liquidations rules" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "args",
    [
        ("--opening-equity", "snapshot"),
        ("--opening-equity", "survivor"),
        ("--opening-equity", "leverage:10"),
    ],
)
def test_what_is_planned_is_refused_as_not_yet(tape, tmp_path, args):
    result = run(tape, tmp_path / "run", *args)
    assert result.exit_code == 2
    assert "not there yet" in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("--opening-equity", "plenty"),
        ("--until", "tomorrow"),
        ("--batch-rows", "0"),
        ("--liquidations", "none"),
    ],
)
def test_values_that_make_no_sense_are_misuse(tape, tmp_path, args):
    assert run(tape, tmp_path / "run", *args).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_not_overwritten_without_force(tape, tmp_path):
    assert run(tape, tmp_path / "run").exit_code == 0
    again = run(tape, tmp_path / "run")
    assert again.exit_code == 1
    assert "already exists" in again.stderr
    assert run(tape, tmp_path / "run", "--force").exit_code == 0


def test_a_missing_tape_is_one_message(tmp_path):
    result = run(tmp_path / "nowhere", tmp_path / "run")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "no such folder" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_unknown_rules_name_what_there_is(tape, tmp_path):
    arguments = ["run", str(tape), "--rules", "hyperliquit", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(cli, arguments, prog_name="replay")
    assert result.exit_code == 1
    assert "did you mean hyperliquid?" in result.stderr


def test_the_rules_of_the_day_are_chosen_by_the_tape(tape, tmp_path):
    arguments = ["run", str(tape), "--rules", "hyperliquid", "--out", str(tmp_path / "run")]
    assert CliRunner().invoke(cli, arguments, prog_name="replay").exit_code == 0
    assert open_run(tmp_path / "run").manifest["rules"]["name"] == "hyperliquid@2023-02"
