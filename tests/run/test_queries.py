"""Each named query on the run of ``tiny.py``; expected values are worked out here by hand."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest

from replay.errors import RunError
from replay.run.queries import find_query, list_queries
from replay.run.sql import query
from replay.units import format_time
from tests.run.tiny import LONG, SHORT, leg, make_run, ruled

NAMES = [
    "chain-breaks",
    "engagements",
    "fund-path",
    "hedge-survival",
    "largest-positions",
    "liquidation-audit",
    "liquidation-causes",
    "liquidation-misses",
    "payable-profit",
    "unexplained-equity",
    "waterfall-split",
    "who-was-deleveraged",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("queries") / "run")


def ask(run, name):
    """Return the rows of a named query, times as text."""
    table = query(run, find_query(name).text).table()
    rows = table.cast(pa.schema([_time_as_int(field) for field in table.schema])).to_pylist()
    return [
        {k: format_time(v) if f"_{k}".endswith("_ts") and v is not None else v for k, v in row.items()}
        for row in rows
    ]


def _time_as_int(field):
    return field.with_type(pa.int64()) if pa.types.is_timestamp(field.type) else field


def test_the_queries_are_listed_with_what_they_answer():
    queries = list_queries()
    assert [item.name for item in queries] == NAMES
    for item in queries:
        assert item.text.startswith(f"-- {item.summary}\n")
        assert 20 < len(item.summary) < 110


def test_a_query_may_be_asked_for_by_name(run):
    assert query(run, "chain-breaks").table().equals(query(run, find_query("chain-breaks").text).table())


def test_an_unknown_query_names_the_known_ones():
    with pytest.raises(RunError, match="named queries are chain-breaks, engagements"):
        find_query("audit")


@pytest.mark.parametrize("name", NAMES)
def test_every_query_works_on_an_empty_run_and_is_ordered(tmp_path, name):
    empty = make_run(tmp_path / "run", tables={})
    assert ask(empty, name) == []
    assert re.search(r"\nORDER BY [^;]*;\n\Z", find_query(name).text)


def test_liquidation_audit_has_one_row_per_recorded_liquidation(run):
    rows = ask(run, "liquidation-audit")
    assert [(row["ts"], row["account"], row["legs"]) for row in rows] == [
        ("2023-02-28T21:10:23Z", LONG, 1),
        ("2023-02-28T21:10:23.5Z", SHORT, 1),
        ("2023-02-28T21:10:24Z", SHORT, 2),
        ("2023-02-28T21:10:24Z", LONG, 1),
        ("2023-02-28T21:10:24Z", LONG, 1),
    ]
    assert list(rows[0]) == [
        "ts",
        "account",
        "market",
        "leverage_type",
        "recorded_notional",
        "recorded_equity",
        "implied_mark",
        "fill_price",
        "replayed_size",
        "replayed_equity",
        "bankruptcy_price",
        "replayed_bankruptcy_price",
        "diff_bp",
        "size_after",
        "cost_after",
        "fill_qty",
        "recorded_margin_ratio",
        "legs",
        "verdict",
        "cause",
        "anchored",
    ]


def test_bankruptcy_price_of_a_linear_position(run):
    row = ask(run, "liquidation-audit")[0]
    assert row["implied_mark"] == 1600
    assert row["bankruptcy_price"] == 1600 - 4 / 0.5
    assert row["replayed_equity"] == 3.5  # at the recorded mark, not the 3 at the replay's
    assert row["replayed_bankruptcy_price"] == 1600 - 3.5 / 0.5
    assert row["diff_bp"] == pytest.approx((1592 / 1592.1 - 1) * 1e4, rel=1e-9)
    assert (row["size_after"], row["cost_after"], row["fill_qty"]) == (0, 0, -0.5)
    assert row["recorded_margin_ratio"] == 4 / 800
    assert (row["verdict"], row["leverage_type"]) == ("agrees", "Cross")


def test_bankruptcy_price_of_an_inverse_position(run):
    row = ask(run, "liquidation-audit")[1]
    value = 3 * 100 / 20000  # of a short, in coin: +0.015
    assert row["bankruptcy_price"] == pytest.approx(300 / (value - 0.0002), rel=1e-12)
    assert row["replayed_equity"] == 20_001 / 1e8  # no equity at the recorded mark: the replay's
    assert row["replayed_bankruptcy_price"] == pytest.approx(300 / (value - 0.00020001), rel=1e-12)
    assert row["diff_bp"] == pytest.approx((300 / 0.0148 / 20270.3 - 1) * 1e4, rel=1e-6)
    assert row["leverage_type"] == "Isolated"


@pytest.mark.parametrize(("size", "price"), [(10_000, 98.0), (-10_000, 102.0)])
def test_bankruptcy_price_with_a_multiplier(tmp_path, size, price):
    """100 units of a contract of 1/10 at a mark of 100: an equity of 20 is 2 per unit of the underlying."""
    row = leg(
        1, 0, 2, "agrees", market=2, recorded_equity=20 * 10**8, recorded_mark=100_000, replayed_size=size,
        fill_price=9_800,
    )  # fmt: skip
    (found,) = ask(make_run(tmp_path / "run", tables={"audit": [row]}), "liquidation-audit")
    assert found["bankruptcy_price"] == pytest.approx(price, rel=1e-12)
    assert found["diff_bp"] == pytest.approx((price / 98 - 1) * 1e4, abs=1e-9)


def test_a_flat_replay_or_an_unknown_mark_leaves_prices_unknown(tmp_path):
    audit = [
        leg(
            1,
            0,
            0,
            "flat",
            market=0,
            recorded_equity=10**8,
            recorded_mark=160000,
            replayed_size=0,
            fill_price=1,
        ),
        leg(2, 0, 0, "healthy", market=0, recorded_equity=10**8, replayed_size=5, replayed_equity=7),
        leg(3, 0, 0, "healthy", market=0, recorded_mark=160000, replayed_size=5, fill_price=0),
    ]
    for row in ask(make_run(tmp_path / "run", tables={"audit": audit}), "liquidation-audit"):
        assert row["bankruptcy_price"] is None
        assert row["diff_bp"] is None


def test_a_liquidation_of_several_legs(run):
    row = ask(run, "liquidation-audit")[2]
    assert (row["market"], row["legs"]) == ("ETH+xyz:GOLD", 2)
    assert (row["recorded_equity"], row["replayed_equity"]) == (5.00000001, 1.0)
    assert (row["size_after"], row["cost_after"]) == (0.5 + 0.25, 7 + 2)
    assert row["anchored"] == 4.00000001
    for name in ("implied_mark", "fill_price", "replayed_size", "bankruptcy_price", "diff_bp", "fill_qty"):
        assert row[name] is None
    assert (row["verdict"], row["cause"]) == ("healthy", "equity differs")


def test_a_liquidation_without_a_forced_fill(run):
    rows = ask(run, "liquidation-audit")[3:]
    assert rows[0] == rows[1]
    assert (rows[0]["market"], rows[0]["verdict"], rows[0]["legs"]) == (None, "unmatched", 1)


def test_unexplained_equity_is_exact_and_the_largest_comes_first(run):
    rows = ask(run, "unexplained-equity")
    found = [(row["market"], row["unexplained"], row["turnover_bp"], row["at_recorded_mark"]) for row in rows]
    assert found == [
        ("ETH+xyz:GOLD", 4.00000001, None, False),
        ("ETH", 0.5, 1e4 * 0.5 / 10_000, True),
        ("BTCUSD", -0.00000001, 1e4 * -1e-8 / 0.03, False),
    ]


def test_misses_and_causes_of_a_run_with_ruled_liquidations(tmp_path):
    second = 10**9
    audit = [
        leg(1, 0, 0, "found", market=0, ts=10 * second, replayed_ts=10 * second),
        leg(
            2, 0, 0, "found earlier", market=0, ts=20 * second, replayed_ts=5 * second, cause="equity differs"
        ),
        leg(3, 1, 0, "missed", market=0, ts=30 * second, cause="equity differs"),
        leg(4, 1, 0, "missed", market=0, ts=31 * second, cause="equity differs"),
        leg(5, 1, 0, "missed", ts=32 * second, cause="no forced fill"),
    ]
    liquidations = [
        ruled(0, 1, 0, 0, ts=29 * second, bankruptcy_value=0),
        ruled(1, 1, 2, 2, ts=33 * second, bankruptcy_value=0),
        ruled(2, 1, 0, 0, ts=35 * second, bankruptcy_value=0),
        ruled(3, 1, 0, 0, ts=36 * second, bankruptcy_value=0),
    ]
    run = make_run(tmp_path / "run", tables={"audit": audit, "liquidations": liquidations})
    rows = ask(run, "liquidation-misses")
    at_35 = "1970-01-01T00:00:35Z"  # 29 is before, 33 in another market, 36 not the first
    assert [r["next_ruled_ts"] for r in rows] == [None, None, at_35, at_35, None]
    misses = [(r["ts"][-3:-1], r["verdict"], r["seconds_late"], r["cause"]) for r in rows]
    assert misses == [
        ("10", "found", 0, None),
        ("20", "found earlier", -15, "equity differs"),
        ("30", "missed", None, "equity differs"),
        ("31", "missed", None, "equity differs"),
        ("32", "missed", None, "no forced fill"),
    ]
    causes = [
        (r["verdict"], r["cause"], r["liquidations"], r["share"]) for r in ask(run, "liquidation-causes")
    ]
    assert causes == [
        ("missed", "equity differs", 2, 0.4),
        ("found", None, 1, 0.2),
        ("found earlier", "equity differs", 1, 0.2),
        ("missed", "no forced fill", 1, 0.2),
    ]


def test_engagements(run):
    first, second = ask(run, "engagements")
    assert (first["stage"], first["state"], first["market"], first["quantity"]) == (
        "takeover",
        "engaged",
        "ETH",
        0.5,
    )
    assert (first["measured"], first["threshold"], first["shadow"]) == (3, 8, True)
    assert (second["stage"], second["market"], second["quantity"], second["shadow"]) == (
        "adl",
        None,
        None,
        False,
    )


def test_largest_positions_are_by_notional_within_a_currency_without_pseudo_accounts(run):
    rows = ask(run, "largest-positions")
    assert [(r["currency"], r["account"], r["market"], r["notional"]) for r in rows] == [
        ("BTC", SHORT, "BTCUSD", 0.015),
        ("USDC", SHORT, "ETH", 3200),
        ("USDC", LONG, "ETH", 2400),
    ]
    assert [r["entry_price"] for r in rows] == [pytest.approx(3 * 100 / 0.012), 3000 / 2, 2250 / 1.5]
    assert [r["unrealised"] for r in rows] == [0.003, -200, 150]


def test_only_twenty_positions_of_a_currency(tmp_path):
    positions = [
        {"account": 0, "market": 0, "mode": mode, "size": 1 + i, "recorded_size": 0, "cost": 0, "mark": 1,
         "value": 100 + i, "entry_unknown": 0}
        for i in range(15) for mode in (0, 1)
    ]  # fmt: skip
    rows = ask(make_run(tmp_path / "run", tables={"positions_end": positions}), "largest-positions")
    assert len(rows) == 20
    assert [row["mode"] for row in rows[:2]] == ["cross", "isolated"]


def test_chain_breaks(run):
    (row,) = ask(run, "chain-breaks")
    assert (row["account"], row["market"]) == (LONG, "ETH")
    assert (row["expected"], row["found"], row["missing"]) == (0.5, -0.25, -0.75)
