"""One day, one changed value: which balance of a fund answers, and how much of it.

A long of 1 BTC from 100,000 with 5,000 of cash falls to 80,000: it owes 15,000 at the mark, and nothing is sold
before the fund takes it over at its bankruptcy price of 95,000.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from replay.errors import RulesError
from replay.rules import load_rules
from tests.waterfall.days import Day, account, fund, marks, replayed

D = Decimal
MARKETS = 'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }, { name = "ETH", tick = 0.01, lot = 0.01 }]\n'
RULES = "kucoin@2025-12-31"
TAKEN = "SELECT absorbed, adl, fund FROM liquidations ORDER BY liquidation"


def fallen(folder: Path, funds: str, *overrides: str) -> Day:
    """The day, with funds on the tape."""
    return replayed(
        folder,
        MARKETS
        + account("long", 5_000, ("BTC", 1, 100_000))
        + account("short", 500_000, ("BTC", -1, 100_000))
        + funds
        + marks("BTC", ("+0s", 100_000), ("+10s", 80_000))
        + marks("ETH", ("+0s", 100)),
        RULES,
        ["absorbers.0.work_out=hold", 'depth={provider="none"}', *overrides],
    )


# --- what a balance serves ---------------------------------------------------------------------------


def test_one_balance_of_the_ledger_answers_for_every_market(tmp_path: Path) -> None:
    """The whole 20,000 stand behind BTC: they pay the 15,000."""
    made = fallen(tmp_path, fund("@fund:insurance", 20_000), "absorbers.0.scope=ledger")
    assert made.rows(TAKEN) == [(D(1), D(0), D(15_000))]


def test_a_balance_of_each_contract_answers_for_its_own(tmp_path: Path) -> None:
    """Of 20,000 shared over two contracts 10,000 stand behind BTC: two thirds of 1 BTC, in lots of 0.001."""
    made = fallen(tmp_path, fund("@fund:insurance", 20_000), "absorbers.0.scope=contract")
    assert made.rows(TAKEN) == [(D("0.666"), D("0.334"), D(9_990))]
    opening = "SELECT account, amount FROM absorber_ledger WHERE kind = 'opening' ORDER BY seq"
    assert made.rows(opening) == [("@fund:insurance:BTC", D(10_000)), ("@fund:insurance:ETH", D(10_000))]
    assert made.size("@fund:insurance:BTC") == D("0.666")
    assert made.one("SELECT scope FROM engagements WHERE stage = 'takeover'") == "@fund:insurance:BTC"
    assert made.one("SELECT reason FROM forced_orders") == "the absorber's capacity is used up"
    assert made.run.manifest["conservation"]


def test_a_tape_may_name_the_balance_of_a_contract(tmp_path: Path) -> None:
    """All 16,000 of BTC's own are there, the 20,000 of ETH are not asked."""
    funds = fund("@fund:insurance:BTC", 16_000) + fund("@fund:insurance:ETH", 20_000)
    made = fallen(tmp_path, funds, "absorbers.0.scope=contract")
    assert made.rows(TAKEN) == [(D(1), D(0), D(15_000))]
    assert made.one("SELECT reason FROM forced_orders") == "taken over by @fund:insurance:BTC"


@pytest.mark.parametrize(("markets", "absorbed"), [('["BTC"]', "0.4"), ('["ETH"]', "0.8")])
def test_a_balance_of_a_group_answers_for_its_markets(tmp_path: Path, markets: str, absorbed: str) -> None:
    """6,000 behind the group, 12,000 behind all other markets: of a loss of 15,000 that is 40 % or 80 %."""
    made = fallen(
        tmp_path,
        fund("@fund:insurance:few", 6_000) + fund("@fund:insurance", 12_000),
        "absorbers.0.scope=group",
        f'absorbers.0.groups=[{{name="few", markets={markets}}}]',
    )
    assert made.rows("SELECT absorbed FROM liquidations") == [(D(absorbed),)]


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["absorbers.0.scope=group"], "without `groups`"),
        (['absorbers.0.groups=[{name="few", markets=["BTC"]}]'], "beside `groups`"),
        (
            [
                "absorbers.0.scope=group",
                'absorbers.0.groups=[{name="a", markets=["BTC"]}, {name="b", markets=["BTC"]}]',
            ],
            "BTC stands in two groups",
        ),
        (
            [
                "absorbers.0.scope=group",
                'absorbers.0.groups=[{name="a", markets=["BTC"]}, {name="a", markets=["ETH"]}]',
            ],
            "two groups are called a",
        ),
        (["absorbers.0.scope=coin"], "not yet"),
    ],
)
def test_what_cannot_go_together_is_refused(overrides: list[str], problem: str) -> None:
    with pytest.raises(RulesError, match=problem):
        load_rules(RULES, overrides=overrides)
