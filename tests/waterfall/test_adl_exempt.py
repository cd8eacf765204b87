"""Who is spared (``adl.exempt``): a market without deleveraging, an account whose positions are never closed by it.

At 94,000 a long of 10 BTC from 100,000 with 50,000 of cash stands at -10,000: its bankruptcy price is 95,000.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from replay.errors import RulesError
from replay.rules import load_rules
from replay.rules.compile import compile_rules
from tests.waterfall.days import BYBIT, HYPERLIQUID, Day, account, fund, marks, replayed

D = Decimal
MARKETS = 'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }, { name = "ETH", tick = 0.01, lot = 0.01 }]\n'
CLOSED = "SELECT winner, quantity FROM adl_fills ORDER BY rank"


def day(folder: Path, *overrides: str, rules: str = HYPERLIQUID, cash: int = 0) -> Day:
    """Ten are to be closed; bold, of the higher leverage, and calm have 6 each on the other side."""
    return replayed(
        folder,
        MARKETS
        + account("loser", 50_000, ("BTC", 10, 100_000))
        + account("calm", 200_000, ("BTC", -6, 101_000))
        + account("bold", 20_000, ("BTC", -6, 99_000))
        + (fund("@fund:insurance", cash) if cash else "")
        + marks("BTC", ("+0s", 100_000), ("+10s", 94_000)),
        rules,
        overrides,
    )


@pytest.mark.parametrize(
    ("spared", "closed", "left"),
    [
        ('["bold"]', [("calm", D(6))], 4),
        ('["calm"]', [("bold", D(6))], 4),
        ('["loser"]', [("bold", D(6)), ("calm", D(4))], 0),
    ],
)
def test_a_spared_account_is_no_winner(
    tmp_path: Path, spared: str, closed: list[tuple[str, Decimal]], left: int
) -> None:
    """Without it bold gives 6 and calm 4; the rest waits. Who loses is closed all the same."""
    made = day(tmp_path, f"adl.exempt.accounts={spared}")
    assert made.rows(CLOSED) == closed
    assert made.one('SELECT sum("left") FROM liquidations') == left


def test_a_spared_account_has_no_rank(tmp_path: Path) -> None:
    text = MARKETS + account("long", 50_000, ("BTC", 1, 100_000)) + account("a", 50_000, ("BTC", -1, 100_000))
    made = replayed(
        tmp_path,
        text + marks("BTC", ("+0s", 100_000), ("+10s", 99_000)),
        HYPERLIQUID,
        ['adl.exempt.accounts=["a"]'],
        watch=["a"],
        sample_ns=10 * 10**9,
    )
    assert set(made.rows("SELECT rank, candidates FROM account_series")) == {(None, None)}


def test_what_a_spared_market_leaves_stays_open(tmp_path: Path) -> None:
    """The rung of the ladder has nobody to turn to: nothing is closed, and no deleveraging is told of."""
    made = day(tmp_path, 'adl.exempt.markets=["BTC"]')
    assert made.rows(CLOSED) == []
    assert made.rows("SELECT stage FROM engagements WHERE stage = 'adl'") == []
    assert made.rows('SELECT adl, "left" FROM liquidations') == [(D(0), D(10))]


@pytest.mark.parametrize(
    ("overrides", "absorbed", "balance"),
    [
        ([], D("1.2"), None),
        (['adl.exempt.markets=["BTC"]'], D(10), -6_000),
        (['adl.exempt.markets=["ETH"]'], D("1.2"), None),
    ],
)
def test_the_fund_takes_what_a_spared_market_would_have_deleveraged(
    tmp_path: Path, overrides: list[str], absorbed: Decimal, balance: int | None
) -> None:
    """Taking 10 over costs 10,000, a thousand each. A fund of 4,000 stops at 30 % of that: 1.2 of them.

    In a spared market neither its line nor its emptiness stops it: 4,000 - 10,000.
    """
    made = day(tmp_path, *overrides, rules=BYBIT, cash=4_000)
    assert made.rows("SELECT absorbed, adl FROM liquidations") == [(absorbed, 10 - absorbed)]
    if balance is not None:
        assert made.one("SELECT balance FROM absorber_ledger ORDER BY seq DESC LIMIT 1") == balance
        assert made.rows("SELECT stage FROM engagements WHERE stage = 'adl'") == []


def test_an_account_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match="no account called maker"):
        day(tmp_path, 'adl.exempt.accounts=["maker"]')


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("adl.exempt={}", "nothing is spared"),
        ("adl.exempt={markets=[]}", "must not be empty"),
        ("adl.exempt={makers=true}", "unknown key `makers` in .adl.exempt."),
    ],
)
def test_a_table_that_spares_nobody_is_refused(override: str, problem: str) -> None:
    with pytest.raises(RulesError, match=problem):
        compile_rules(load_rules(HYPERLIQUID, overrides=[override]), (), ())
