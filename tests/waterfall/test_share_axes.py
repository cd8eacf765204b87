"""One day, one changed value: which share of all positions an absorber takes over at the mark, and what it costs.

A pool of 10 BTC from 100,000 and 100 ETH from 2,500 has 90,000 of cash. At 96,000 for BTC it is worth 50,000; 5 % of
960,000 and 250,000 is needed: 60,500. All of the penalty is 70 % of that, 42,350.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from replay.errors import RulesError
from replay.rules import compile_rules, load_rules
from tests.waterfall.days import Day, account, fund, marks, replayed

D = Decimal
RULES = "paradex@2026-08-20"
MARKETS = 'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }, { name = "ETH", tick = 0.01, lot = 0.01 }]\n'
FLAT = (
    "margin={shape='flat', size_basis='notional_mark', hedge_basis='net', scope='cross_account', rate='0.05'}"
)
PLAIN = [FLAT, "absorbers.0.work_out=hold", "depth={provider='none'}"]
FREE = "margin_forfeited='none'"
PAID = "margin_forfeited='remaining_maintenance', penalty='0.7'"
TAKEN = "SELECT market, absorbed FROM liquidations ORDER BY liquidation, market"


def rung(keys: str, absorber: str = "insurance") -> str:
    return f"{{action='takeover', level='1', price='mark', absorber='{absorber}', {keys}}}"


def one(keys: str) -> str:
    return f"ladder.0={rung(keys)}"


def two(keys: str, next_keys: str) -> str:
    return f"ladder=[{rung(keys)}, {rung(next_keys, 'second')}]"


def of_all(share: str, more: str = PAID) -> str:
    return f"size='fraction_of_all_positions', share='{share}', {more}"


def taken(
    folder: Path,
    keys: str,
    *overrides: str,
    cash: object = 90_000,
    eth: object = 100,
    mark: int = 96_000,
) -> Day:
    made = replayed(
        folder,
        MARKETS
        + account("pool", cash, ("BTC", 10, 100_000), ("ETH", eth, 2_500))
        + account("short", 2_000_000, ("BTC", -10, 100_000), ("ETH", f"-{eth}", 2_500))
        + fund("@fund:insurance", 100_000)
        + fund("@fund:second", 100_000)
        + marks("BTC", ("+0s", 100_000), ("+10s", mark))
        + marks("ETH", ("+0s", 2_500)),
        RULES,
        [one(keys), *PLAIN, *overrides],
    )
    assert made.run.manifest["conservation"]
    return made


@pytest.mark.parametrize(
    ("keys", "btc", "eth"),
    [
        (f"size='full', {PAID}", "10", "100"),
        # 60 %: 50,000 - 25,410 is enough for 24,200; 40 %: 50,000 - 16,940 is not for 36,300
        (of_all("0.2"), "6", "60"),
        # 10/9 of 24,200 is too much; 80 %: 50,000 - 33,880 is above 10/9 of 12,100
        (of_all("0.2", f"{PAID}, exit='10/9'"), "8", "80"),
        # 18,150 x the share must be 10,500: 57.85... %
        (of_all("0.01"), "5.8", "58"),
        # half: 50,000 - 21,175 is not enough for 30,250
        (of_all("0.5"), "10", "100"),
        (of_all("1"), "10", "100"),
        # without a penalty 50,000 is enough for 80 % of 60,500, and for 10/9 of 60 %
        (of_all("0.2", FREE), "2", "20"),
        (of_all("0.2", f"{FREE}, exit='10/9'"), "4", "40"),
    ],
)
def test_the_least_share_that_restores(tmp_path: Path, keys: str, btc: str, eth: str) -> None:
    assert taken(tmp_path, keys).rows(TAKEN) == [("BTC", D(btc)), ("ETH", D(eth))]


def test_the_penalty_is_the_share_of_it(tmp_path: Path) -> None:
    """60 % of 42,350, less an atom: what a position bears is rounded down. 4 BTC and 40 ETH stay with the rest."""
    made = taken(tmp_path, of_all("0.2"))
    assert made.one("SELECT sum(amount) FROM absorber_ledger WHERE kind = 'takeover'") == D("25409.99999999")
    assert made.one("SELECT equity FROM accounts_end WHERE account = 'pool'") == D("24590.00000001")
    assert (made.size("pool"), made.size("pool", "ETH")) == (D(4), D(40))
    assert (made.size("@fund:insurance"), made.size("@fund:insurance", "ETH")) == (D(6), D(60))
    assert made.one("SELECT count(*) FROM forced_orders WHERE filled <> asked") == 0


def test_who_cannot_pay_the_penalty_loses_everything(tmp_path: Path) -> None:
    """10,000 at 92,000, where 58,500 is needed: a fifth of 40,950 is 8,190, two fifths 16,380."""
    made = taken(tmp_path, of_all("0.2"), mark=92_000)
    assert made.rows(TAKEN) == [("BTC", D(10)), ("ETH", D(100))]
    assert made.one("SELECT sum(amount) FROM absorber_ledger WHERE kind = 'takeover'") == D(10_000)
    assert made.cash("pool") == 0


@pytest.mark.parametrize(("eth", "part"), [("0.03", "0.02"), ("0.01", "0.01")])
def test_lots_are_rounded_up(tmp_path: Path, eth: str, part: str) -> None:
    """40,000 less 60 % of 33,600 is enough for 40 % of 48,000. Of three lots 60 % are 1.8: two; of one lot: one."""
    made = taken(tmp_path, of_all("0.2"), eth=eth, cash=80_000)
    assert made.rows(TAKEN) == [("BTC", D(6)), ("ETH", D(part))]


@pytest.mark.parametrize(
    ("cash", "more", "btc"),
    [
        ("140000", "", "2"),
        ("140000", ", exit='1'", "2"),
        ("140000", ", exit='10/9'", "4"),
        ("140000.00000001", ", exit='10/9'", "2"),
        ("136000", "", "2"),
        ("136000", "trigger.when=equity <= maintenance", "4"),
    ],
)
def test_an_exit_above_maintenance_has_to_be_exceeded(tmp_path: Path, cash: str, more: str, btc: str) -> None:
    """10 BTC from 100,000 at 90,000 need 45,000 and have 40,000 or 36,000.

    8 BTC need 36,000, of which 10/9 are 40,000: a ratio of exactly 90 %. Maintenance itself is enough, unless a pool
    that has just that is in breach.
    """
    overrides = [more] if more.startswith("trigger") else []
    keys = of_all("0.2", f"{FREE}{'' if overrides else more}")
    made = replayed(
        tmp_path,
        MARKETS
        + account("pool", cash, ("BTC", 10, 100_000))
        + account("short", 2_000_000, ("BTC", -10, 100_000))
        + fund("@fund:insurance", 100_000)
        + marks("BTC", ("+0s", 100_000), ("+10s", 90_000)),
        RULES,
        [one(keys), *PLAIN, *overrides],
    )
    assert made.rows(TAKEN) == [("BTC", D(btc))]


# --- what the absorber does not take -----------------------------------------------------------------

ADL = (
    "adl={enabled=true, score='entry_return', loss_rule='zero', price='mark', winner_fee='0', loser_fee='0', "
    "lights=5}"
)
ABSORBER = (
    "{{name='{}', kind='insurance', scope='ledger', balance='tape', inventory='holds', work_out='hold', "
    "outflow_cap='none', insolvent_below_zero=false, stops_at_zero=false}}"
)
SECOND = f"absorbers=[{ABSORBER.format('insurance')}, {ABSORBER.format('second')}]"
ENDED = 'SELECT market, absorbed, adl, "left" FROM liquidations ORDER BY market'


def test_only_the_share_is_deleveraged_in_its_place(tmp_path: Path) -> None:
    made = taken(tmp_path, of_all("0.2"), "overlays=[{absorbers='off'}]", ADL)
    assert made.rows(ENDED) == [("BTC", D(0), D(6), D(0)), ("ETH", D(0), D(60), D(0))]
    assert (made.size("pool"), made.size("pool", "ETH")) == (D(4), D(40))


def test_what_nobody_takes_of_the_share_is_left(tmp_path: Path) -> None:
    made = taken(tmp_path, of_all("0.2"), "overlays=[{absorbers='off'}]")
    assert made.rows(ENDED) == [("BTC", D(0), D(0), D(6)), ("ETH", D(0), D(0), D(60))]


def test_the_next_absorber_takes_what_is_left_of_the_share_on_the_same_terms(tmp_path: Path) -> None:
    """The first may hold what it has, 100,000: 1.041 BTC at 96,000, and 0.02 ETH for the 64 that are left.

    The penalty of BTC is 960,000 of 1,210,000 of 25,410: 20,160, that of ETH 5,250, an atom less in
    all. The first has 1.041 of 6 parts
    of the one and 0.02 of 60 of the other.
    """
    keys = of_all("0.2")
    made = taken(
        tmp_path,
        keys,
        two(keys, keys),
        SECOND,
        "absorbers.0.inventory_cap=1",
    )
    assert made.rows("SELECT market, -asked, -filled FROM forced_orders ORDER BY seq") == [
        ("BTC", D(6), D("1.041")),
        ("ETH", D(60), D("0.02")),
        ("BTC", D("4.959"), D("4.959")),
        ("ETH", D("59.98"), D("59.98")),
    ]
    had = "SELECT account, market, amount FROM absorber_ledger WHERE kind = 'takeover' ORDER BY seq"
    assert made.rows(had) == [
        ("@fund:insurance", "BTC", D("3497.76")),
        ("@fund:insurance", "ETH", D("1.75")),
        ("@fund:second", "BTC", D("16662.23999999")),
        ("@fund:second", "ETH", D("5248.25")),
    ]
    assert made.rows(ENDED) == [("BTC", D(6), D(0), D(0)), ("ETH", D(60), D(0), D(0))]


# --- what cannot be ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "key", "problem"),
    [
        (
            [
                "ladder.0.size=fraction_of_all_positions",
                "ladder.0.share=0.2",
                "ladder.0.price=bankruptcy",
                "ladder.0.margin_forfeited=all_collateral",
            ],
            "ladder.0.size",
            "does not go with price",
        ),
        ([one(f"size='fraction_of_all_positions', {PAID}")], "ladder.0.share", "without `share`"),
        ([one(f"size='full', share='0.2', {PAID}")], "ladder.0.share", "beside `share`"),
        ([one(f"size='full', exit='10/9', {PAID}")], "ladder.0.exit", "beside `exit`"),
        ([one(of_all("0.2", f"{PAID}, exit='0.9'"))], "ladder.0.exit", "a breach still"),
        ([one(of_all("0.0009"))], "ladder.0.share", "more than 1,000 shares"),
        (
            [two(of_all("0.2"), of_all("0.5")), SECOND],
            "ladder.1.share",
            "not on its terms",
        ),
        (
            [two(f"size='full', {PAID}", of_all("0.5")), SECOND],
            "ladder.1.size",
            "not on its terms",
        ),
        (
            [
                "margin={shape='bracket_whole', size_basis='notional_entry', hedge_basis='net', "
                "scope='cross_account', tables=[{currencies=['*'], tiers=[{from=0, rate='0.01'}]}]}"
            ],
            "ladder.0.size",
            "not brought down by closing a part",
        ),
    ],
)
def test_what_cannot_be_is_refused(overrides: list[str], key: str, problem: str) -> None:
    with pytest.raises(RulesError, match=problem) as caught:
        compile_rules(load_rules(RULES, overrides=overrides), (), ())
    assert caught.value.key == key
