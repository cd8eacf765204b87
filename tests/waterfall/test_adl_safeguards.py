"""One changed value of ``[adl]``: who is left out, the price in need, who has the rest, ties, and the silent book."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from replay.errors import RulesError
from replay.rules import load_rules
from replay.rules.compile import compile_rules
from tests.waterfall.days import BYBIT, HYPERLIQUID, Day, account, depth, fund, marks, replayed

D = Decimal
MARKETS = 'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }, { name = "ETH", tick = 0.01, lot = 0.01 }]\n'
CLOSED = "SELECT winner, quantity FROM adl_fills ORDER BY rank"


def withdrawal(name: str) -> str:
    """Nobody is in breach before the fall: a million is withdrawn in its moment."""
    return f'[[transfers]]\nat = "+10s"\naccount = "{name}"\namount = -1_000_000\n'


# --- must_not_worsen_counterparty ---------------------------------------------------------------------


def harmed(folder: Path, equity: int, *overrides: str) -> Day:
    """At 94,000 the loser stands at -50,000 with 10 BTC: whoever closes at 99,000 loses 5,000 for each.

    Thin is short 6 BTC and long 100 ETH at 4,000, needs 7,050 + 8,000 and comes first; safe is the other.
    Without the BTC it needs 8,000 and has 30,000 less.
    """
    return replayed(
        folder,
        MARKETS
        + account("loser", 10_000 + 10**6, ("BTC", 10, 100_000))
        + account("thin", equity - 6_000 + 10**6, ("BTC", -6, 95_000), ("ETH", 100, 4_000))
        + account("safe", 2_000_000, ("BTC", -10, 101_000), ("ETH", -100, 4_000))
        + marks("BTC", ("+0s", 100_000), ("+10s", 94_000))
        + marks("ETH", ("+0s", 4_000))
        + withdrawal("loser")
        + withdrawal("thin"),
        HYPERLIQUID,
        ["adl.price=bankruptcy", "adl.score=leveraged_price_ratio", *overrides],
    )


ALL, SPARED = [("thin", D(6)), ("safe", D(4))], [("safe", D(10))]


@pytest.mark.parametrize(
    ("equity", "rule", "closed"),
    [
        (36_000, None, ALL),
        (36_000, "below_maintenance", SPARED),  # 6,000 of 8,000 left, after 36,000 of 15,050
        (40_000, "below_maintenance", ALL),  # 10,000 of 8,000
        (40_000, "always", SPARED),  # 1.25 after 2.66
        (60_000, "always", SPARED),  # 3.75 after 3.99
        (65_000, "always", ALL),  # 4.38 after 4.32
    ],
)
def test_who_would_be_harmed_is_left_out(
    tmp_path: Path, equity: int, rule: str | None, closed: list[tuple[str, Decimal]]
) -> None:
    overrides = [f"adl.must_not_worsen_counterparty={rule}"] if rule else []
    assert harmed(tmp_path, equity, *overrides).rows(CLOSED) == closed


def test_a_policy_shares_anew_what_somebody_refuses(tmp_path: Path) -> None:
    """By size thin would give 3.75 of 10 and lose 18,750 of 36,000, which leaves it above maintenance: it may.

    That its equity falls from 2.39 to 1.59 times what 2.25 BTC and the ETH need is worse: it may not always.
    """
    pro_rata = "adl.method=contract_pro_rata"
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    once = harmed(tmp_path / "a", 36_000, pro_rata, "adl.must_not_worsen_counterparty=below_maintenance")
    assert sorted(once.rows(CLOSED)) == [("safe", D("6.25")), ("thin", D("3.75"))]
    never = harmed(tmp_path / "b", 36_000, pro_rata, "adl.must_not_worsen_counterparty=always")
    assert never.rows("SELECT winner, sum(quantity) FROM adl_fills GROUP BY winner") == SPARED


# --- fallback_price, residual_to ----------------------------------------------------------------------


def funded(folder: Path, *overrides: str, oracle: int = 94_000) -> Day:
    """Ten BTC with a bankruptcy price of 95,000 at 94,000. A fund of 4,000 takes 1.2 for 1,200; ADL the rest."""
    return replayed(
        folder,
        'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }]\n'
        + account("loser", 50_000, ("BTC", 10, 100_000))
        + account("winner", 2_000_000, ("BTC", -10, 101_000))
        + fund("@fund:insurance", 4_000)
        + marks("BTC", ("+0s", 100_000), ("+10s", 94_000))
        + marks("BTC", ("+0s", 100_000), ("+10s", oracle)).replace("path", 'kind = "oracle"\npath'),
        BYBIT,
        ["adl.price=mark", "adl.loser_fee=0", *overrides],
    )


@pytest.mark.parametrize(("below", "price"), [("0.69", 94_000), ("0.7", 95_000), ("1", 95_000)])
def test_another_price_holds_while_the_fund_has_little_left(tmp_path: Path, below: str, price: int) -> None:
    """2,800 of 4,000 are 70 %."""
    made = funded(tmp_path, "adl.fallback_price=bankruptcy", f"adl.fallback_below={below}")
    assert made.rows("SELECT quantity, value FROM adl_fills") == [(D("8.8"), D("8.8") * price)]


@pytest.mark.parametrize(
    ("overrides", "oracle", "balance", "bad_debt", "cash"),
    [
        ([], 94_000, 2_800, 8_800, 0),
        (["adl.residual_to=absorber"], 94_000, -6_000, 0, 0),
        (["adl.price=oracle"], 95_500, 2_800, 0, 4_400),
        (["adl.price=oracle", "adl.residual_to=absorber"], 95_500, 7_200, 0, 0),
    ],
)
def test_who_has_what_the_price_differs_from_bankruptcy(
    tmp_path: Path, overrides: list[str], oracle: int, balance: int, bad_debt: int, cash: int
) -> None:
    """8.8 BTC are closed 1,000 below the bankruptcy price, or 500 above."""
    made = funded(tmp_path, *overrides, oracle=oracle)
    assert made.one("SELECT balance FROM absorber_ledger ORDER BY seq DESC LIMIT 1") == balance
    assert made.rows("SELECT fund, bad_debt FROM liquidations") == [
        (1_200 + (8_800 if balance < 0 else 0), bad_debt)
    ]
    assert made.cash("loser") == cash
    assert (balance != 2_800) == bool(made.rows("SELECT 1 FROM absorber_ledger WHERE kind = 'residual'"))


# --- tie_break ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "deep_cash", "then"),
    [
        (None, 412_000, "slight"),
        (["newer"], 412_000, "deep"),
        (["larger_profit", "newer"], 412_000, "slight"),
        (["larger_value", "newer"], 412_000, "deep"),
        (["smaller_wallet"], 412_000, "slight"),
        (["smaller_wallet"], 52_000, "deep"),
    ],
)
def test_what_decides_among_equal_scores(
    tmp_path: Path, words: list[str] | None, deep_cash: int, then: str
) -> None:
    """Of 16, 12 are winners' ones; slight and deep have lost 10,000 and 40,000 with 10 BTC each and score zero."""
    made = replayed(
        tmp_path,
        MARKETS
        + account("loser", 86_000 + 10**6, ("BTC", 16, 100_000))
        + account("calm", 200_000, ("BTC", -12, 101_000))
        + account("slight", 100_000 + 10**6, ("BTC", -10, 93_000))
        + account("deep", deep_cash + 10**6, ("BTC", -10, 90_000))
        + marks("BTC", ("+0s", 100_000), ("+10s", 94_000))
        + "".join(map(withdrawal, ("loser", "slight", "deep"))),
        HYPERLIQUID,
        [
            "adl.loss_rule=zero",
            "adl.score=leveraged_return",
            "adl.price=mark",
            *([f"adl.tie_break={words}"] if words else []),
        ],
    )
    assert made.rows(CLOSED) == [("calm", D(12)), (then, D(4))]


# --- suspends_book_liquidation ------------------------------------------------------------------------


@pytest.mark.parametrize(("suspends", "book", "adl"), [("false", 10, 0), ("true", 0, 10)])
def test_the_book_is_left_alone_while_a_market_is_deleveraged(
    tmp_path: Path, suspends: str, book: int, adl: int
) -> None:
    """The fund is empty, so its market deleverages; the book would take all ten above the bankruptcy price."""
    made = replayed(
        tmp_path,
        MARKETS
        + account("loser", 50_000, ("BTC", 10, 100_000))
        + account("winner", 2_000_000, ("BTC", -10, 101_000))
        + marks("BTC", ("+0s", 100_000), ("+10s", 94_000))
        + depth("+9s", "BTC", bids=[(95_500, 20)]),
        BYBIT,
        [f"adl.suspends_book_liquidation={suspends}"],
    )
    assert made.rows("SELECT book, adl FROM liquidations") == [(D(book), D(adl))]


@pytest.mark.parametrize(("suspends", "sold"), [("false", [D(10)]), ("true", [])])
def test_the_fund_keeps_what_it_has_while_its_market_is_deleveraged(
    tmp_path: Path, suspends: str, sold: list[Decimal]
) -> None:
    """A fund of 100,000 loses 30,000 by ten BTC and stops; at 94,200 it is 28,000, and it goes on above 25,000."""
    made = replayed(
        tmp_path,
        MARKETS
        + account("loser", 30_000, ("BTC", 10, 100_000))
        + account("winner", 2_000_000, ("BTC", -10, 101_000))
        + fund("@fund:insurance", 100_000)
        + marks("BTC", ("+0s", 100_000), ("+10s", 94_000), ("+20s", 94_200))
        + depth("+19s", "BTC", bids=[(94_200, 10)]),
        BYBIT,
        [f"adl.suspends_book_liquidation={suspends}"],
    )
    assert made.rows("SELECT state, reason FROM engagements WHERE stage = 'adl'") == [
        ("start", "drawdown of the market against the fund's peak")
    ]
    assert made.one("SELECT sum(absorbed) FROM liquidations") == 10
    left = made.rows("SELECT inventory FROM absorber_ledger WHERE kind = 'work out'")
    assert [D(10) - inventory for (inventory,) in left] == sold


# --- what cannot go together --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "overrides", "problem"),
    [
        (BYBIT, ["adl.fallback_price=mark"], "`fallback_price` stands without `fallback_below`"),
        (BYBIT, ["adl.fallback_below=0.1"], "`fallback_below` stands without `fallback_price`"),
        (BYBIT, ["adl.fallback_price=bankruptcy", "adl.fallback_below=1"], "is the price at all times"),
        (BYBIT, ["adl.residual_to=absorber"], "at the bankruptcy price nothing is over"),
        (BYBIT, ["adl.residual_to=absorber", "adl.price=mark"], "nothing to pay a fee with"),
        (BYBIT, ["adl.tie_break=[]"], "must not be empty"),
        (BYBIT, ["adl.tie_break=['newer', 'newer']"], '"newer" stands twice'),
        (BYBIT, ["adl.tie_break=['older']"], '"older" does not decide among equal scores'),
        (BYBIT, ["adl.tie_break=['newer']", "adl.method=lexicographic"], "says itself who comes first"),
        (HYPERLIQUID, ["adl.suspends_book_liquidation=true"], "while when a market is being deleveraged"),
        ("hyperliquid-dex@2025-10-13", ["adl.residual_to=absorber"], "there is no absorber"),
        (BYBIT, ["adl.must_not_worsen_counterparty=true"], "is not a value of it"),
        (BYBIT, ["adl.score=set_leverage"], "not yet"),
    ],
)
def test_what_cannot_go_together_is_refused(rules: str, overrides: list[str], problem: str) -> None:
    with pytest.raises(RulesError, match=problem):
        compile_rules(load_rules(rules, overrides=overrides), (), ())
