"""One day, one changed value of ``[adl]``: who is closed, at what price, how much is left.

At 94,000 a long of 10 BTC from 100,000 with 50,000 of cash stands at -10,000, so that its bankruptcy price is
95,000. Maintenance is 1.25 %.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from replay.errors import RulesError
from replay.rules import load_rules
from replay.rules.compile import compile_rules
from replay.rules.plan import Adl
from replay.units import ATOM
from tests.waterfall.days import HYPERLIQUID, Day, account, marks, replayed
from tests.waterfall.small import candidate, scores_of

D = Decimal
MARKET = 'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }]\n'


def day(folder: Path, *overrides: str, oracle: int = 94_500, long: int = 10, cash: int = 50_000) -> Day:
    """The day with two winners of 6 BTC each, one of them bold."""
    return replayed(
        folder,
        MARKET
        + account("loser", cash, ("BTC", long, 100_000))
        + account("calm", 200_000, ("BTC", -6, 101_000))
        + account("bold", 20_000, ("BTC", -6, 99_000))
        + marks("BTC", ("+0s", 100_000), ("+10s", 94_000))
        + marks("BTC", ("+0s", 99_900), ("+10s", oracle)).replace("path", 'kind = "oracle"\npath'),
        HYPERLIQUID,
        overrides,
    )


@pytest.mark.parametrize(
    ("price", "oracle", "value"),
    [
        ("previous_mark", 94_500, 1_000_000),
        ("mark", 94_500, 940_000),
        ("bankruptcy", 94_500, 950_000),
        ("oracle", 94_500, 945_000),
        ("oracle", 95_500, 955_000),
        ("clamped_oracle", 94_500, 950_000),
        ("clamped_oracle", 95_500, 955_000),
    ],
)
def test_the_price_alone_decides_what_the_ten_are_worth(
    tmp_path: Path, price: str, oracle: int, value: int
) -> None:
    """Oracle prices below the bankruptcy price are clamped to it: a buyer is not to get it cheaper."""
    made = day(tmp_path, f"adl.price={price}", oracle=oracle)
    assert made.one("SELECT sum(value) FROM adl_fills") == value
    assert made.cash("loser") == max(0, 50_000 - 1_000_000 + value)


def test_a_short_is_clamped_from_above(tmp_path: Path) -> None:
    """A short of 10 from 100,000 with 50,000: at 106,000 its bankruptcy price is 105,000; the oracle 105,500."""
    made = replayed(
        tmp_path,
        MARKET
        + account("loser", 50_000, ("BTC", -10, 100_000))
        + account("winner", 200_000, ("BTC", 10, 100_000))
        + marks("BTC", ("+0s", 100_000), ("+10s", 106_000))
        + marks("BTC", ("+10s", 105_500)).replace("path", 'kind = "oracle"\npath'),
        HYPERLIQUID,
        ["adl.price=clamped_oracle"],
    )
    assert made.rows("SELECT quantity, value FROM adl_fills") == [(D(10), D(-1_050_000))]


def test_a_cap_spreads_what_is_closed(tmp_path: Path) -> None:
    """Half of 6 and half of 6: 4 of the 10 stay open; without the cap 6 of one and 4 of the other."""
    closed = "SELECT winner, quantity FROM adl_fills ORDER BY rank"
    assert day(tmp_path).rows(closed) == [("bold", D(6)), ("calm", D(4))]


def test_half_of_each_is_what_a_cap_of_half_takes(tmp_path: Path) -> None:
    """3 + 3 in the first step, 1.5 + 1.5 of what is left in the next, at which the loser stands as it stood."""
    made = day(tmp_path, "adl.winner_cap=0.5")
    found = made.rows("SELECT winner, quantity FROM adl_fills ORDER BY ts, rank")
    assert found[:2] == [("bold", D(3)), ("calm", D(3))]


@pytest.mark.parametrize(
    ("deep", "slight", "rule", "then"),
    [
        (412_000, 100_000, "exclude", []),
        (412_000, 100_000, "smaller_abs_first", ["slight"]),
        (412_000, 100_000, "zero", ["slight"]),
        (52_000, 100_000, "divide", ["deep"]),
        (52_000, 100_000, "product", ["slight"]),
        (240_000, 22_000, "product", ["deep"]),
        (240_000, 22_000, "divide", ["slight"]),
        (240_000, 22_000, "zero", ["slight"]),
    ],
)
def test_the_loss_rule_decides_who_follows_when_no_winner_is_left(
    tmp_path: Path, deep: int, slight: int, rule: str, then: list[str]
) -> None:
    """16 to close, 12 of them winners' ones; at 94,000 deep has lost 4/90 and slight 1/93, 10 BTC each.

    Equity 12,000 on 940,000 is a leverage of 78: 4/90 / 78 is less than 1/93 / 10.4 (equity 90,000), and
    1/93 x 78 more than 4/90 x 4.7 (equity 200,000). Where all score zero the older pool goes first. Nobody
    is in breach before: a million of each is withdrawn in the moment of the fall.
    """
    made = replayed(
        tmp_path,
        MARKET
        + account("loser", 86_000 + 10**6, ("BTC", 16, 100_000))
        + account("calm", 200_000, ("BTC", -6, 101_000))
        + account("bold", 20_000, ("BTC", -6, 99_000))
        + account("slight", slight + 10**6, ("BTC", -10, 93_000))
        + account("deep", deep + 10**6, ("BTC", -10, 90_000))
        + marks("BTC", ("+0s", 100_000), ("+10s", 94_000))
        + "".join(
            f'[[transfers]]\nat = "+10s"\naccount = "{name}"\namount = -1_000_000\n'
            for name in ("loser", "slight", "deep")
        ),
        HYPERLIQUID,
        [
            f"adl.loss_rule={rule}",
            "adl.score=leveraged_return",
            "adl.price=mark",
        ],
    )
    closed = [name for (name,) in made.rows("SELECT winner FROM adl_fills ORDER BY rank")]
    assert closed == ["bold", "calm", *then]
    assert made.one('SELECT sum("left") FROM liquidations') == (0 if then else 4)


def scored(profit_term: str, leverage_term: str, equity_scope: str, **columns: int) -> float:
    """The score of a long of 2 from 100 at 150 in a pool of 1,000 notional; money in whole units."""
    whole = {"cost": 200, "value": 300, "equity": 50, "notional": 1_000, "share": 20, "maintenance": 3}
    whole |= {"pool_maintenance": 10, "wallet": 25} | columns
    scaled = {name: value * ATOM for name, value in whole.items()}
    rule = Adl(profit_term, leverage_term, equity_scope, "exclude", "mark", 0, 0, lights=5)
    return scores_of(rule, candidate(size=2, **scaled))[0]


@pytest.mark.parametrize(
    ("term", "value"),
    [
        ("profit_on_entry", 100 / 200),
        ("price_ratio", 300 / 200),
        ("profit_on_wallet", 100 / 25),
        ("profit_on_equity", 100 / 50),
        ("profit", 100 * ATOM),
        ("entry_value", 100 * ATOM),
    ],
)
def test_the_profit_term_alone(term: str, value: float) -> None:
    """A profit of 100 on an entry of 200; 100 a lot at the entry."""
    assert scored(term, "one", "account") == pytest.approx(value)


@pytest.mark.parametrize(
    ("term", "scope", "value"),
    [
        ("one", "account", 1),
        ("notional_on_equity", "account", 1_000 / 50),
        ("notional_on_equity", "position", 300 / 20),
        ("notional_on_equity", "position_on_account", 1_000 / 50),
        ("maintenance_on_equity", "account", 10 / 50),
        ("maintenance_on_equity", "position", 3 / 20),
        ("maintenance_on_equity", "position_on_account", 3 / 50),
    ],
)
def test_the_leverage_term_and_whose_equity_it_takes(term: str, scope: str, value: float) -> None:
    """The pool has 50 on 1,000 with a maintenance of 10; the position 20 of them on 300 with 3."""
    assert scored("profit_on_entry", term, scope) == pytest.approx(0.5 * value)


def test_an_equity_below_one_counts_as_one() -> None:
    assert scored("profit_on_entry", "maintenance_on_equity_of_one", "account", equity=0) == pytest.approx(5)


def test_terms_make_the_named_score(tmp_path: Path) -> None:
    terms = "profit_term='profit_on_entry', leverage_term='notional_on_equity', equity_scope='position'"
    rest = "enabled=true, loss_rule='exclude', price='mark', winner_fee=0, loser_fee=0, lights=5"
    written = load_rules(HYPERLIQUID, overrides=[f"adl={{score='terms', {terms}, {rest}}}"])
    named = load_rules(HYPERLIQUID, overrides=[f"adl={{score='leveraged_return', {rest}}}"])
    assert compile_rules(written, (), ()).adl == compile_rules(named, (), ()).adl


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["adl.score=terms"], 'score = "terms" stands without `profit_term`'),
        (["adl.profit_term=profit"], "`profit_term` stands beside score"),
        (["adl.winner_cap=0.5", "adl.method=contract_pro_rata"], "says itself how much of each it takes"),
        (["adl.loss_rule=zero", "adl.method=profit_pro_rata"], "shares by profit"),
        (["adl.price=zero_price"], "not yet"),
    ],
)
def test_what_cannot_go_together_is_refused(overrides: list[str], problem: str) -> None:
    with pytest.raises(RulesError, match=problem):
        compile_rules(load_rules(HYPERLIQUID, overrides=overrides), (), ())


def test_oracle_prices_must_be_on_the_tape(tmp_path: Path) -> None:
    text = MARKET + account("loser", 50_000, ("BTC", 10, 100_000)) + marks("BTC", ("+0s", 100_000))
    with pytest.raises(RulesError, match="neither oracle nor index of BTC"):
        replayed(tmp_path, text, HYPERLIQUID, ["adl.price=oracle"])
