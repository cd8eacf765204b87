from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from replay.cli import cli
from replay.cli.output import SHOWN_ROWS
from tests.run.tiny import LONG, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("cli") / "run")


def sql(run, *args, **options):
    return CliRunner().invoke(cli, ["sql", str(run.path), *args], prog_name="replay", **options)


def test_a_named_query_as_json(run):
    result = sql(run, "--query", "liquidation-audit", "--format", "json")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = json.loads(result.stdout)
    assert [row["ts"] for row in rows[:3]] == [
        "2023-02-28T21:10:23Z",
        "2023-02-28T21:10:23.5Z",
        "2023-02-28T21:10:24Z",
    ]
    assert rows[0]["account"] == LONG
    assert rows[0]["bankruptcy_price"] == 1592.0
    assert rows[2]["bankruptcy_price"] is None


def test_no_rows_are_an_empty_array(run):
    assert json.loads(sql(run, "FROM audit WHERE false", "--format", "json").stdout) == []


def test_json_never_holds_what_json_cannot(run):
    result = sql(
        run, "SELECT 'NaN'::DOUBLE AS a, 'inf'::DOUBLE AS b, 10::HUGEINT ** 0 AS c", "--format", "json"
    )
    assert json.loads(result.stdout) == [{"a": None, "b": None, "c": 1}]


def test_csv_holds_everything_in_full(run):
    result = sql(
        run,
        "SELECT account, ts, size_after, true AS yes, [1, 2] AS l FROM audit ORDER BY seq",
        "--format",
        "csv",
    )
    rows = list(csv.reader(io.StringIO(result.stdout)))
    assert rows[:3] == [
        ["account", "ts", "size_after", "yes", "l"],
        [LONG, "2023-02-28T21:10:23Z", "0.0", "true", "[1, 2]"],
        ["0x2222222222222222222222222222222222222222", "2023-02-28T21:10:23.5Z", "", "true", "[1, 2]"],
    ]
    assert len(rows) == 7


def test_a_table_shortens_addresses_and_fits_the_width(run, monkeypatch):
    wide = sql(run, "--query", "unexplained-equity").stdout
    assert "0x1111…1111" in wide
    assert LONG not in wide
    names = wide.splitlines()[0].split()
    assert sql(run, "--query", "unexplained-equity", env={"COLUMNS": "60"}).stdout == wide
    monkeypatch.setattr("replay.cli.output._width", lambda: 60)
    narrow = sql(run, "--query", "unexplained-equity")
    assert max(map(len, narrow.stdout.splitlines())) <= 60
    left_out = narrow.stderr.partition(": ")[2].partition(";")[0].split(", ")
    assert left_out == names[-len(left_out) :]
    assert narrow.stderr.startswith(f"+{len(left_out)} columns do not fit: ")
    assert "--format json" in narrow.stderr


def test_a_long_table_is_cut_and_says_so(run):
    result = sql(run, f"SELECT i FROM range({SHOWN_ROWS + 500}) AS r(i) ORDER BY i")
    assert len(result.stdout.splitlines()) == SHOWN_ROWS + 2
    assert "only the first 1,000 rows" in result.stderr
    assert "only" not in sql(run, f"SELECT i FROM range({SHOWN_ROWS}) AS r(i) ORDER BY i").stderr
    assert (
        len(sql(run, f"FROM range({SHOWN_ROWS + 500})", "--format", "csv").stdout.splitlines())
        == SHOWN_ROWS + 501
    )


def test_a_table_in_a_file_has_all_rows(run, tmp_path):
    assert sql(run, f"FROM range({SHOWN_ROWS + 500})", "--out", str(tmp_path / "t.txt")).exit_code == 0
    assert len((tmp_path / "t.txt").read_text().splitlines()) == SHOWN_ROWS + 502


def test_parquet_needs_a_file_and_keeps_types(run, tmp_path):
    result = sql(run, "FROM audit", "--format", "parquet")
    assert result.exit_code == 2
    assert "--out FILE" in result.stderr
    out = tmp_path / "audit.parquet"
    result = sql(run, "SELECT ts, account, replayed_size FROM audit ORDER BY seq", "--out", str(out))
    assert (result.exit_code, result.stdout) == (0, "")
    table = pq.read_table(out)
    assert table.schema.types == [pa.timestamp("ns"), pa.string(), pa.float64()]
    assert table.num_rows == 6


@pytest.mark.parametrize("name", ["rows.json", "rows.csv", "rows.JSON"])
def test_the_suffix_of_the_file_chooses_the_form(run, tmp_path, name):
    sql(run, "SELECT 1 AS a", "--out", str(tmp_path / name))
    assert (tmp_path / name).read_text() in ('[\n{"a": 1}\n]\n', "a\n1\n")


def test_a_file_is_not_overwritten_and_a_failure_leaves_none(run, tmp_path):
    out = tmp_path / "rows.csv"
    late = "SELECT CASE WHEN i = 300000 THEN error('late') ELSE i END AS i FROM range(400000) AS r(i)"
    result = sql(run, late, "--out", str(out))
    assert result.exit_code == 1
    assert "late" in result.stderr
    assert list(tmp_path.iterdir()) == []
    out.write_text("mine")
    assert sql(run, "SELECT 1 AS a", "--out", str(out)).exit_code == 1
    assert out.read_text() == "mine"
    assert sql(run, "SELECT 1 AS a", "--out", str(out), "--force").exit_code == 0
    assert out.read_text() == "a\n1\n"
    missing = sql(run, "SELECT 1 AS a", "--out", str(tmp_path / "no" / "rows.csv"))
    assert (missing.exit_code, "cannot be written" in missing.stderr) == (1, True)


def test_the_list_of_queries(run):
    rows = json.loads(sql(run, "--list", "--format", "json").stdout)
    assert {"liquidation-audit", "engagements", "unexplained-equity", "largest-positions"} <= {
        r["query"] for r in rows
    }


def test_a_statement_may_come_from_stdin(run):
    result = sql(run, "-", "--format", "csv", input="SELECT 2 AS a")
    assert result.stdout == "a\n2\n"


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("SELECT 1", "--query", "engagements"),
        ("--query", "engagements", "--list"),
        ("SELECT 1", "--list"),
    ],
)
def test_one_question_is_asked_for(run, args):
    result = sql(run, *args)
    assert result.exit_code == 2
    assert "--query NAME" in result.stderr
    assert "--list shows the named queries" in result.stderr


def test_the_name_of_a_query_is_no_statement(run):
    result = sql(run, "liquidation-audit")
    assert result.exit_code == 2
    assert "--query liquidation-audit" in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("SELECT colour FROM audit",), "colour"),
        (("--query", "nothing"), "named queries are"),
        (("DROP VIEW audit",), "only read"),
    ],
)
def test_wrong_questions_are_one_message_and_1(run, args, message):
    result = sql(run, *args)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*) AS n FROM range(100000) AS a(i), range(1000000) AS b(j) WHERE i * j % 7 = 3",
        "SELECT i, j FROM range(100000) AS a(i), range(1000000) AS b(j) WHERE i * j % 7 = 3",
    ],
    ids=["before the first row", "between rows"],
)
def test_an_interrupted_query_ends_with_130(run, statement):
    arguments = ["sql", str(run.path), statement, "--format", "csv"]
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    assert child.stderr.readline() == "asking\n"
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=30)[1] == "error: interrupted\n"
    assert child.returncode == 130


INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
import replay.run.sql as sql
connect = sql.connect
def telling(run):
    connection = connect(run)
    print("asking", file=sys.stderr, flush=True)
    return connection
sql.connect = telling
from replay.cli import main
main()
"""


def test_a_damaged_run_is_named_before_it_is_asked(tmp_path):
    damaged = make_run(tmp_path / "run")
    file = damaged.file("audit")
    content = bytearray(file.read_bytes())
    content[60] ^= 0xFF
    file.write_bytes(content)
    result = sql(damaged, "SELECT 1 AS a")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {file}: was changed: its SHA-256 is not that of run.json\n")


def test_a_run_that_is_none(tmp_path):
    result = CliRunner().invoke(cli, ["sql", str(tmp_path / "nowhere"), "SELECT 1"], prog_name="replay")
    assert result.exit_code == 1
    assert "no such folder" in result.stderr
