from __future__ import annotations

import math
from datetime import UTC, datetime
from fractions import Fraction
from random import Random

import pytest

from replay.errors import RunError
from replay.run.schema import DIMENSIONS, RUN_TABLES
from replay.run.sql import connect, query
from tests.run.tiny import ATOM, LONG, SHORT, START, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("sql") / "run")


def ask(run, statement):
    return query(run, statement).table().to_pylist()


def test_every_table_has_a_raw_and_a_decoded_view_with_all_rows(run):
    for name in RUN_TABLES:
        assert ask(run, f"SELECT count(*) AS n FROM {name}") == [{"n": run.rows(name)}]
    for name in (*RUN_TABLES, *DIMENSIONS):
        assert ask(run, f"FROM raw.{name}") == run.table(name).to_pylist()


def test_numbers_are_decoded_by_division_with_the_scale_of_their_market(run):
    (row,) = ask(run, "SELECT * REPLACE (epoch_ns(ts) AS ts) FROM audit WHERE liquidation = 7")
    assert row["ts"] == START
    assert (row["account"], row["market"], row["currency"], row["dex"]) == (LONG, "ETH", "USDC", "")
    assert row["recorded_mark"] == 160000 / 100  # mark scale 2
    assert row["fill_price"] == 15921 / 10  # price scale 1
    assert row["fill_qty"] == -5000 / 10_000  # quantity scale 4
    assert row["replayed_equity_recorded_mark"] == 3.5
    assert (row["grade"], row["leverage_type"], row["anchored"]) == ("known", "Cross", None)
    (row,) = ask(run, "SELECT * EXCLUDE (ts) FROM audit WHERE liquidation = 8")
    assert (row["market"], row["currency"]) == ("BTCUSD", "BTC")
    assert (row["recorded_mark"], row["fill_qty"]) == (20000.0, 3.0)
    assert row["replayed_equity"] == 20_001 / ATOM


def test_division_gives_the_nearest_number_where_multiplication_does_not(tmp_path):
    value = 295_649_400_000_003
    assert value / 1e8 != value * 1e-8
    tables = {"accounts_end": [{"account": 0, "ledger": 0, "cash": value, "grade": 0, "special": 0}]}
    run = make_run(tmp_path / "run", tables=tables)
    assert ask(run, "SELECT cash FROM accounts_end") == [{"cash": value / 1e8}]


def test_every_scale_gives_the_nearest_floating_point_number(tmp_path):
    """Up to 2**53 the stored integer is exact as a float, so one division rounds once."""
    random = Random(11)
    markets = [(scale, f"M{scale}", "", 0, 0, 1, 1, scale, scale, scale, 1, 1) for scale in range(19)]
    values = [(market[0], random.randrange(-(2**53), 2**53)) for market in markets for _ in range(20)]
    breaks = [{"ts": 0, "account": 0, "market": m, "expected": value, "found": 0} for m, value in values]
    run = make_run(tmp_path / "run", tables={"breaks": breaks}, markets=markets)
    found = [row["expected"] for row in ask(run, "SELECT expected FROM breaks ORDER BY seq")]
    assert found == [float(Fraction(value, 10**scale)) for scale, value in values]


def test_words_flags_and_unknown_values(run):
    rows = ask(run, "SELECT account, market, grade, special, equity FROM accounts_end ORDER BY account")
    assert rows == [
        {"account": LONG, "market": None, "grade": "known", "special": False, "equity": 12.0},
        {"account": SHORT, "market": "BTCUSD", "grade": "unknown", "special": False, "equity": None},
        {"account": "@unseen", "market": None, "grade": "known", "special": True, "equity": None},
    ]
    modes = ask(run, "SELECT DISTINCT mode, entry_unknown FROM positions_end ORDER BY mode")
    assert modes == [{"mode": "cross", "entry_unknown": False}, {"mode": "isolated", "entry_unknown": True}]


def test_a_number_without_a_word_is_shown_as_it_is(tmp_path):
    tables = {"accounts_end": [{"account": 0, "ledger": 0, "cash": 0, "grade": 77, "special": 0}]}
    assert ask(make_run(tmp_path / "run", tables=tables), "SELECT grade FROM accounts_end") == [
        {"grade": "77"}
    ]


def test_dimension_views(run):
    assert ask(run, "FROM accounts")[0] == {"id": 0, "account": LONG, "added": False}
    assert ask(run, "FROM ledgers")[2] == {"id": 2, "dex": "xyz", "currency": "USDC"}
    gold = ask(run, "FROM markets WHERE id = 2")
    assert gold == [
        {
            "id": 2,
            "market": "xyz:GOLD",
            "dex": "xyz",
            "currency": "USDC",
            "payoff": "linear",
            "multiplier": 0.1,
            "price_scale": 2,
            "mark_scale": 3,
            "qty_scale": 2,
            "tick": 0.01,
            "lot": 0.01,
        }
    ]


def test_the_manifest_is_a_row(run):
    (row,) = ask(run, "FROM run")
    assert (row["rules"], row["venue"], row["liquidations"]) == (
        "hyperliquid@2023-02",
        "hyperliquid",
        "recorded",
    )
    assert row["anchor_equity"] is None
    assert row["sha256"] == run.manifest["sha256"]
    assert row["from"] == datetime(2023, 2, 28, 21, 10, 23, tzinfo=UTC).replace(tzinfo=None)
    assert ask(run, "SELECT (manifest->'counts'->'steps')::INTEGER AS steps FROM run") == [{"steps": 12}]


@pytest.mark.parametrize("name", ["with space", "quote'd", "[0-9]*?", "ünï"])
def test_the_folder_may_have_any_name(tmp_path, name):
    (tmp_path / name).mkdir()
    run = make_run(tmp_path / name / name)
    assert ask(run, "SELECT count(*) AS n FROM audit") == [{"n": 6}]


@pytest.mark.parametrize(
    "statement",
    [
        "COPY audit TO '{folder}/new.csv'",
        "CREATE TABLE copy AS FROM audit",
        "ATTACH '{folder}/new.db'",
        "EXPLAIN ANALYZE COPY audit TO '{folder}/new.csv'",
        "EXPORT DATABASE '{folder}/new'",
        "SET threads = 2",
        "CALL enable_logging()",
        "DROP VIEW audit",
    ],
)
def test_only_reading_is_allowed(run, statement):
    before = sorted(run.path.iterdir())
    with pytest.raises(RunError, match="only read"):
        query(run, statement.format(folder=run.path))
    assert sorted(run.path.iterdir()) == before


def test_functions_cannot_change_settings_either(run):
    statement = f"SELECT * FROM enable_logging(storage := 'file', storage_path := '{run.path}/logs')"
    with pytest.raises(RunError, match="locked"):
        query(run, statement)
    assert not (run.path / "logs").exists()


@pytest.mark.parametrize("statement", ["", "  -- nothing", "SELECT 1; SELECT 2"])
def test_it_is_one_statement(run, statement):
    with pytest.raises(RunError, match="one statement"):
        query(run, statement)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT * FROM nowhere", "nowhere does not exist"),
        ("SELECT colour FROM audit", "colour"),
        ("SELECT 1 AS a, 2 AS a", "two columns are named a"),
        ("SELECT 'x'::INTEGER", "Could not convert"),
        ("FROM run_path", "run_path"),
    ],
)
def test_wrong_sql_is_one_clear_error(run, statement, message):
    run_path = [1]  # a Python variable of this name must not be taken for a table
    assert run_path
    with pytest.raises(RunError, match=message) as caught:
        ask(run, statement)
    assert "Traceback" not in str(caught.value)


def test_an_error_in_a_later_row_is_the_same_kind(run):
    late = "SELECT CASE WHEN i = 300000 THEN error('late') ELSE i END FROM range(400000) AS r(i)"
    with pytest.raises(RunError, match="late"):
        ask(run, late)


def test_sums_of_floating_point_numbers_come_out_the_same(run):
    statement = "SELECT sum(1 / (1 + i)) AS s FROM range(3000000) AS r(i)"
    assert len({ask(run, statement)[0]["s"] for _ in range(3)}) == 1


def test_a_connection_has_the_views_for_python_users(run):
    connection = connect(run)
    assert connection.sql("SELECT count(*) FROM recorded_liquidations").to_arrow_table().to_pylist()[0] == {
        "count_star()": 5
    }
    connection.close()


def test_decoded_zero_scale(run):
    assert ask(run, "SELECT size FROM positions_end WHERE market = 'BTCUSD'") == [{"size": -3.0}]
    assert not math.isnan(ask(run, "SELECT tick FROM markets WHERE id = 1")[0]["tick"])
