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
    ("start", "paid"),
    [
        ("8h", {"winner": 6_400, "other": 3_200, "ether": 400}),
        ("43205s", {"winner": D(10_000) * 2 / 3, "other": D(10_000) / 3}),
    ],
)
def test_those_who_gained_in_the_session_pay_by_their_gain(
    tmp_path: Path, start: str, paid: dict[str, D]
) -> None:
    """8 and 4 BTC gained 48,000 and 24,000; 30 ETH gained 3,000 three seconds before 12:00:05; a deposit is no gain."""
    made = replayed(
        tmp_path,
        MARKETS
        + account("long", 50_000, ("BTC", 10, 100_000))
        + account("winner", 120_000, ("BTC", -8, 100_000))
        + account("other", 120_000, ("BTC", -4, 100_000))
        + account("small", 190_000, ("BTC", 2, 100_000))
        + account("idle", 70_000)
        + account("ether", 20_000, ("ETH", 30, 100))
        + '[[transfers]]\nat = "+6s"\naccount = "idle"\namount = 9000\n'
        + marks("BTC", ("+0s", 100_000), ("+10s", 94_000))
        + marks("ETH", ("+0s", 100), ("+2s", 200)),
        HYPERLIQUID,
        ["adl.price=mark", "socialise.method=session_profit_pro_rata", f"socialise.session_start={start}"],
    )
    found = {name: amount for name, kind, amount in made.rows(LOSSES) if kind == "socialised"}
    assert sum(found.values()) == 10_000
    assert set(found) == set(paid)
    for name, amount in found.items():
        assert abs(amount - D(paid[name])) * 10**8 < 1
    assert made.one("SELECT sum(bad_debt) FROM liquidations") == 0


def test_nobody_pays_more_than_the_gain(tmp_path: Path) -> None:
    """The only one who gained has 6,000 of it: the other 4,000 are bad debt."""
    made = replayed(
        tmp_path,
        MARKETS
        + account("long", 50_000, ("BTC", 10, 100_000))
        + account("winner", 120_000, ("BTC", -1, 100_000))
        + account("idle", 70_000)
        + marks("BTC", ("+0s", 100_000), ("+10s", 94_000))
        + '[[depth]]\nat = "+10s"\nmarket = "BTC"\nbids = [[94000, 100]]\n',
        HYPERLIQUID,
        [
            "socialise.method=session_profit_pro_rata",
            "socialise.session_start=0s",
            "ladder=[{action='book_order', level='1', size='full', limit='none', tif='ioc', "
            "surplus_to='trader', fee='0'}]",
            "absorbers=[]",
            "adl={enabled=false}",
        ],
    )
    assert made.rows(LOSSES) == [("winner", "socialised", D(6_000)), ("long", "bad_debt", D(4_000))]


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["ladder.1.price=mark"], "does not go with price"),
        (["ladder.1.price=mark", "ladder.1.margin_forfeited=remaining_maintenance"], "without `penalty`"),
        (["absorbers.0.balance=constant"], "without `amount`"),
        (["absorbers.0.amount=5"], "beside `amount`"),
        (["socialise.method=lp_pool"], "not yet"),
        (["socialise.method=session_profit_pro_rata"], "without `session_start`"),
        (["socialise.session_start=8h"], "beside `session_start`"),
        (["socialise.method=session_profit_pro_rata", "socialise.session_start=24h"], "not within a day"),
    ],
)
def test_what_cannot_go_together_is_refused(overrides: list[str], problem: str) -> None:
    with pytest.raises(RulesError, match=problem):
        compile_rules(load_rules(HYPERLIQUID, overrides=overrides), (), ())
