"""One day, one changed value: what a takeover leaves, what the fund opens with, who pays what nobody took.

A long of 10 BTC from 100,000 falls; maintenance is 1.25 %, nothing can be sold into the book.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from replay.errors import RulesError
from replay.rules import compile_rules, load_rules
from tests.waterfall.days import BYBIT, HYPERLIQUID, Day, account, fund, marks, replayed

D = Decimal
MARKETS = 'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }, { name = "ETH", tick = 0.01, lot = 0.01 }]\n'
LOSSES = "SELECT account, kind, amount FROM shared_losses ORDER BY seq"


# --- the price of a takeover -------------------------------------------------------------------------


def taken_over(folder: Path, fall: int, *overrides: str) -> Day:
    """50,000 of cash; at 95,600 equity is 6,000 of 11,950 needed, below 2/3: the vault takes the pool."""
    return replayed(
        folder,
        MARKETS
        + account("long", 50_000, ("BTC", 10, 100_000))
        + account("short", 500_000, ("BTC", -10, 100_000))
        + fund("@vault:liquidator", 100_000)
        + marks("BTC", ("+0s", 100_000), ("+10s", fall)),
        HYPERLIQUID,
        overrides,
    )


AT_MARK = "ladder.1.price=mark"


@pytest.mark.parametrize(
    ("overrides", "left"),
    [
        ([], 0),
        ([AT_MARK, "ladder.1.margin_forfeited=none"], 6_000),
        ([AT_MARK, "ladder.1.margin_forfeited=remaining_maintenance", "ladder.1.penalty=0.2"], 3_610),
        ([AT_MARK, "ladder.1.margin_forfeited=remaining_maintenance", "ladder.1.penalty=1"], 0),
    ],
)
def test_what_the_pool_keeps(tmp_path: Path, overrides: list[str], left: int) -> None:
    """All goes at the bankruptcy price; at the mark nothing, or 20 % of 11,950, or 11,950 of which 6,000 is there."""
    made = taken_over(tmp_path, 95_600, *overrides)
    assert made.cash("long") == left
    balance = made.one("SELECT balance FROM absorber_ledger ORDER BY seq DESC LIMIT 1")
    assert balance == 100_000 + 6_000 - left
    assert made.one("SELECT surplus FROM liquidations") == 6_000 - left


def test_what_the_pool_owes_goes_along_at_the_mark_too(tmp_path: Path) -> None:
    """At 94,000 it owes 10,000: without a rung for that, the vault takes the pool and pays them."""
    no_adl = [
        "ladder.2={action='takeover', level='0', size='full', absorber='liquidator', price='mark', "
        "margin_forfeited='none'}",
        "adl={enabled=false}",
        "absorbers.0.insolvent_below_zero=false",
    ]
    made = taken_over(tmp_path, 94_000, *no_adl)
    assert made.cash("long") == 0
    assert made.one("SELECT vault FROM liquidations") == 10_000


# --- the opening balance -------------------------------------------------------------------------------


@pytest.mark.parametrize(("currency", "opening"), [("USDC", 7_000), ("USDT", 20_000)])
def test_a_constant_opening_balance_replaces_that_of_the_tape(
    tmp_path: Path, currency: str, opening: int
) -> None:
    """Of the currencies it names; in others what the tape says stays."""
    overrides = [
        "absorbers.0.balance=constant",
        "absorbers.0.amount=7000",
        f'absorbers.0.currencies=["{currency}"]',
    ]
    made = replayed(
        tmp_path,
        MARKETS
        + account("long", 50_000, ("BTC", 1, 100_000))
        + fund("@fund:insurance", 20_000)
        + marks("BTC", ("+0s", 100_000)),
        BYBIT,
        overrides,
    )
    assert made.rows("SELECT kind, amount, balance FROM absorber_ledger") == [
        ("opening", D(opening), D(opening))
    ]
    assert made.run.manifest["conservation"]


# --- who pays what nobody took ---------------------------------------------------------------------------


def unpaid(folder: Path, method: str) -> Day:
    """At 94,000 the long owes 10,000, is closed at the mark against the only winner, and cannot pay.

    Beside it a holder of 30 ETH, one of 2 BTC with 10,000 of cash, and one with 70,000 and no position.
    """
    return replayed(
        folder,
        MARKETS
        + account("long", 50_000, ("BTC", 10, 100_000))
        + account("winner", 120_000, ("BTC", -12, 100_000))
        + account("small", 190_000, ("BTC", 2, 100_000))
        + account("idle", 70_000)
        + account("ether", 20_000, ("ETH", 30, 100))
        + marks("BTC", ("+0s", 100_000), ("+10s", 94_000))
        + marks("ETH", ("+0s", 100)),
        HYPERLIQUID,
        ["adl.price=mark", f"socialise.method={method}"],
    )


def test_nobody_is_asked(tmp_path: Path) -> None:
    assert unpaid(tmp_path, "none").rows(LOSSES) == [("long", "bad_debt", D(10_000))]


def test_all_who_have_cash_pay_by_it(tmp_path: Path) -> None:
    """Cash after the winner's gain of 10 x 6,000: 180,000 + 190,000 + 70,000 + 20,000 = 460,000."""
    made = unpaid(tmp_path, "deposit_haircut")
    cash = {"winner": 180_000, "small": 190_000, "idle": 70_000, "ether": 20_000}
    exact = {name: 10_000 * D(10**8) * own / 460_000 for name, own in cash.items()}
    paid = {name: amount for name, _, amount in made.rows(LOSSES)}
    assert sum(paid.values()) == 10_000
    for name, amount in paid.items():
        assert abs(amount * 10**8 - exact[name]) < 1
    assert made.rows("SELECT sum(shortfall), sum(socialised), sum(bad_debt) FROM liquidations") == [
        (D(10_000), D(10_000), D(0))
    ]


def test_both_sides_of_the_market_pay_by_size(tmp_path: Path) -> None:
    """The winner has 2 BTC left, the small long 2: 5,000 each; ether and idle have none of it."""
    made = unpaid(tmp_path, "oi_pro_rata_same_market")
    assert made.rows(LOSSES) == [("winner", "socialised", D(5_000)), ("small", "socialised", D(5_000))]
    assert made.cash("small") == 185_000


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["ladder.1.price=mark"], "does not go with price"),
        (["ladder.1.price=mark", "ladder.1.margin_forfeited=remaining_maintenance"], "without `penalty`"),
        (["absorbers.0.balance=constant"], "without `amount`"),
        (["absorbers.0.amount=5"], "beside `amount`"),
        (["socialise.method=lp_pool"], "not yet"),
    ],
)
def test_what_cannot_go_together_is_refused(overrides: list[str], problem: str) -> None:
    with pytest.raises(RulesError, match=problem):
        compile_rules(load_rules(HYPERLIQUID, overrides=overrides), (), ())
