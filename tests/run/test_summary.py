from __future__ import annotations

import pytest

from replay.run.summary import money, summarise
from tests.run.tiny import ATOM, START, make_run, ruled


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("summary")


def facts(summary):
    return {line.label: line.text for line in summary.facts}


def test_a_recorded_run_in_short(folder):
    run = make_run(folder / "recorded")
    summary = summarise(run)
    assert summary.title == "tape under hyperliquid@2023-02"
    assert facts(summary) == {
        "switches": "--liquidations recorded --execution recorded",
        "replayed": "2023-02-28T21:10:23Z to 2023-02-28T21:10:24Z: 3 transfers, 20,000 fills in 12 steps",
        "books": "2 accounts, 2 pools, 3 positions open at the end",
        "forced": "5 recorded liquidations: 2 healthy, 2 unmatched, 1 agrees",
        "would engage": "takeover 1 time, first at 2023-02-28T21:10:23Z",
        "engaged": "adl 1 time, first at 2023-02-28T21:10:23.000000001Z, not stopped in 1 place",
        "conserved": "sizes sum to 0 in 3 markets; cash - cost = external flow in 2 ledgers, to the atom: "
        "100 USDC, 0.00000005 BTC",
        "breaks": "1 start position that earlier fills do not explain",
    }
    assert summary.commands[0] == f"replay sql {run.path} --query liquidation-audit"


def test_the_small_print_begins_with_coverage(folder):
    run = make_run(
        folder / "small print", assumptions=["rules: a", "rules: b", "tape: c", "marks: d", "e", "marks: f"]
    )
    first, *rest = summarise(run).small_print
    assert (first.label, first.text) == (
        "coverage",
        "known equity: 2 pools, 100.0 % of open USDC notional; "
        "unknown equity: 1 pool, 100.0 % of open BTC notional",
    )
    assert [(line.label, line.text) for line in rest] == [
        ("marks", "d; f"),
        ("assumed", "6 assumptions: 2 of the rules, 1 of the tape, 3 of this run"),
        ("effort", "1.2 s, 200 MiB at the most"),
    ]
    assert f"replay sql '{run.path}' \"FROM assumptions\"" in summarise(run).commands


def test_a_run_by_the_rules_in_short(folder):
    """Two positions of one liquidation and one of another: 10 + 20.5 USDC and 0.003 BTC at bankruptcy."""
    tables = {
        "liquidations": [
            ruled(0, 0, 0, 0, bankruptcy_value=10 * ATOM, surplus=3 * ATOM, recorded=1),
            ruled(
                0,
                0,
                2,
                2,
                bankruptcy_value=-2_050_000_000,
                shortfall=ATOM,
                vault=ATOM // 4,
                bad_debt=ATOM * 3 // 4,
            ),
            ruled(1, 1, 1, 1, bankruptcy_value=300_000, left=2, absorbed=3),
        ]
    }
    run = make_run(folder / "rules", tables=tables, switches={"liquidations": "rules", "until": START})
    found = facts(summarise(run))
    assert found["switches"] == "--liquidations rules --until 2023-02-28T21:10:23Z"
    assert found["forced"] == "nothing was recorded as forced"
    assert found["by the rules"] == (
        "2 liquidations of 2 accounts, 30.50 USDC, 0.003000 BTC at bankruptcy; 1 in the same step as recorded"
    )
    assert found["waterfall"] == (
        "3 positions taken over, 1 position with a part nobody took, surplus 3.00 USDC, "
        "shortfall 1.00 USDC (vault 0.2500 USDC, bad debt 0.7500 USDC)"
    )


def test_a_stage_counts_when_it_begins_and_tells_where_it_is_still_on(folder):
    """ETH starts, stops and starts again; BTCUSD starts and stops; xyz:GOLD only stops."""
    states = [(0, "start"), (1, "start"), (0, "stop"), (0, "start"), (1, "stop"), (2, "stop")]
    rows = [
        {
            "ts": START + second * 10**9,
            "scope": "@vault:hlp",
            "market": market,
            "ledger": 0,
            "stage": "adl",
            "state": state,
            "reason": "",
            "measured": 0,
            "threshold": 0,
            "shadow": 0,
        }
        for second, (market, state) in enumerate(states)
    ]
    run = make_run(folder / "stages", tables={"engagements": rows})
    assert facts(summarise(run))["engaged"] == (
        "adl 3 times, first at 2023-02-28T21:10:23Z, not stopped in 1 place"
    )


def test_books_that_do_not_close_are_named(folder):
    sums = {
        "markets": 2,
        "open_markets": ["ETH"],
        "ledgers": [{"dex": "xyz", "currency": "USDC", "cash_less_cost": 1, "external_flow": 2}],
    }
    run = make_run(folder / "open", conservation=sums)
    assert facts(summarise(run))["conserved"] == "NOT closed: ETH, xyz:USDC"


def test_many_ledgers_are_counted(folder):
    ledgers = [
        {"dex": "", "currency": f"C{i}", "cash_less_cost": i * ATOM, "external_flow": i * ATOM}
        for i in range(8)
    ]
    run = make_run(folder / "many", conservation={"markets": 1, "open_markets": [], "ledgers": ledgers})
    assert facts(summarise(run))["conserved"].endswith("to the atom: 0 C0, 1 C1, 2 C2, 3 C3, 4 C4 and 3 more")


def test_an_empty_run(folder):
    run = make_run(folder / "empty", tables={}, span=(None, None), counts={})
    summary = summarise(run)
    assert facts(summary)["replayed"] == "no events"
    assert facts(summary)["books"] == "0 accounts, 0 pools, 0 positions open at the end"
    assert "largest-positions" in summary.commands[0]


@pytest.mark.parametrize(
    ("atoms", "text"),
    [
        (0, "0.00 USDC"),
        (1, "0.00000001 USDC"),
        (12_346, "0.0001235 USDC"),
        (50_000_000, "0.5000 USDC"),
        (123_456_789, "1.23 USDC"),
        (-98_765_432_100_000, "-987,654.32 USDC"),
    ],
)
def test_money_is_written_for_reading(atoms, text):
    assert money(atoms, "USDC") == text
