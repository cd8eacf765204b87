"""One day, one changed value: how much of what a rung asks for may go in a step.

A long of 10 BTC from 100,000 with 50,000 of cash stands at 96,000 with 10,000 of equity; maintenance is 1.25 %, 12,000.
What is sold fetches 95,000: with each BTC sold equity falls by 1,000 and maintenance by 1,200, so the pool stays at 5/6
of it. No mark moves after +10s; in the steps that follow, one a second, others trade.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from replay.errors import RulesError
from replay.rules import compile_rules, load_rules
from tests.waterfall.days import HYPERLIQUID, Day, account, depth, fund, marks, replayed

D = Decimal
MARKETS = 'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }, { name = "ETH", tick = 0.01, lot = 0.01 }]\n'
BOOK = "ladder.0={action='book_order', level='1', size='full', limit='none', tif='ioc', surplus_to='trader', fee='0'"
TAKEN = "absorber='liquidator', price='mark', action='takeover', level='1', size='full'"
ALONE = ["adl={enabled=false}", "depth={provider='none'}", "absorbers.0.insolvent_below_zero=false"]
SECOND = "date_diff('second', TIMESTAMP '2025-10-10 12:00:00', ts)"
ASKED = f"SELECT {SECOND}, -asked FROM forced_orders ORDER BY seq"
FLAT = "margin={shape='flat', rate='0.0125', size_basis='notional_mark', hedge_basis='net', scope='cross_account'}"


def cap(notional: str) -> str:
    return f", rate_limit={{kind='notional_per_step', notional='{notional}'}}"


def ramp(initial: str, full_after: str, *, more: str = "") -> str:
    return f", rate_limit={{kind='time_ramp', initial='{initial}', full_after='{full_after}'{more}}}"


def day(folder: Path, overrides: list[str], text: str = "") -> Day:
    trades = "".join(
        f'[[trades]]\nat = "+{at}s"\nmarket = "BTC"\nbuyer = "other"\nseller = "short"\nqty = 1\nprice = 96000\n'
        for at in (11, 12, 13)
    )
    return replayed(
        folder,
        MARKETS
        + (text or account("long", 50_000, ("BTC", 10, 100_000)))
        + account("short", 500_000, ("BTC", -10, 100_000), ("ETH", -100, 2_500))
        + account("other", 500_000)
        + fund("@vault:liquidator", 100_000)
        + marks("BTC", ("+0s", 100_000), ("+10s", 96_000))
        + marks("ETH", ("+0s", 2_500), ("+10s", 2_400))
        + depth("+5s", "BTC", bids=[(95_000, 100)])
        + depth("+5s", "ETH", bids=[(2_400, 1_000)])
        + trades,
        HYPERLIQUID,
        overrides,
    )


@pytest.mark.parametrize(
    ("limit", "asked"),
    [
        ("", [(10, "10")]),
        (cap("300000"), [(10, "3.125"), (11, "3.125"), (12, "3.125"), (13, "0.625")]),  # 300,000 / 96,000
        (cap("960000"), [(10, "10")]),
        (cap("959999"), [(10, "9.999"), (11, "0.001")]),
        (cap("1"), [(10, "0.001"), (11, "0.001"), (12, "0.001"), (13, "0.001")]),  # one lot at least
        (ramp("0.1", "10s"), [(10, "1"), (11, "1"), (12, "1"), (13, "1")]),
        (ramp("0", "10s"), [(11, "1"), (12, "1"), (13, "1")]),
        (ramp("0.5", "4s"), [(10, "5"), (11, "2.5"), (12, "2.5")]),
        (
            ramp("0.0001", "3m"),
            [(10, "0.001"), (11, "0.055"), (12, "0.056"), (13, "0.055")],
        ),  # 10,000 lots / 180
        (ramp("1", "1h"), [(10, "10")]),
        (ramp("0.1", "10s", more=", whole_below='960000'"), [(10, "10")]),
        (ramp("0.1", "10s", more=", whole_below='2001'"), [(10, "10")]),  # it lacks 2,000
        (ramp("0.5", "4s", more=", whole_below='2000'"), [(10, "5"), (11, "5")]),  # then 1,000
    ],
)
def test_the_limit_alone_decides_how_much_is_sent_when(
    tmp_path: Path, limit: str, asked: list[tuple[int, str]]
) -> None:
    assert day(tmp_path, [f"{BOOK}{limit}}}"]).rows(ASKED) == [(at, D(lots)) for at, lots in asked]


@pytest.mark.parametrize(
    ("limit", "asked"),
    [
        ("", [("BTC", "1"), ("ETH", "100")]),
        (cap("200000"), [("BTC", "1"), ("ETH", "43.33")]),  # 104,000 / 2,400
        (cap("96000"), [("BTC", "1")]),
        (cap("200000") + ", position_order='largest_loss'", [("ETH", "83.33")]),
    ],
)
def test_the_cap_is_that_of_the_pool(tmp_path: Path, limit: str, asked: list[tuple[str, str]]) -> None:
    """1 BTC and 100 ETH have lost 4,000 and 10,000 of 17,500, and need 1.25 % of 336,000: 4,200."""
    text = account("long", 17_500, ("BTC", 1, 100_000), ("ETH", 100, 2_500))
    made = day(tmp_path, [FLAT, f"{BOOK}{limit}}}"], text)
    rows = made.rows("SELECT market, -asked FROM forced_orders WHERE ts = TIMESTAMP '2025-10-10 12:00:10'")
    assert sorted(rows) == [(market, D(lots)) for market, lots in asked]


@pytest.mark.parametrize(
    ("margin", "limit", "taken"),
    [
        # At the mark: with 8 BTC the pool needs 9,600 of the 10,000 that it keeps.
        ("margin_forfeited='none'", "", [(10, 10, 960_000)]),
        ("margin_forfeited='none'", ramp("0.1", "10s"), [(10, 1, 96_000), (11, 1, 96_000)]),
        ("margin_forfeited='none'", cap("200000"), [(10, "2.083", 199_968)]),
        # Half of maintenance goes along, 600 for each BTC: 7,600 are enough for 6 BTC, 8,200 not for 7.
        ("margin_forfeited='remaining_maintenance', penalty='0.5'", "", [(10, 10, 954_000)]),
        (
            "margin_forfeited='remaining_maintenance', penalty='0.5'",
            ramp("0.1", "10s"),
            [(at, 1, 95_400) for at in (10, 11, 12, 13)],
        ),
    ],
)
def test_a_takeover_is_held_up_likewise(
    tmp_path: Path, margin: str, limit: str, taken: list[tuple[int, object, int]]
) -> None:
    made = day(tmp_path, [*ALONE, f"ladder=[{{{TAKEN}, {margin}{limit}}}]"])
    rows = made.rows(f"SELECT {SECOND}, -filled, -value FROM forced_orders ORDER BY seq")
    assert rows == [(at, D(str(lots)), D(value)) for at, lots, value in taken]
    assert made.one("SELECT count(*) FROM liquidations") == 1


@pytest.mark.parametrize(("limit", "asked"), [("", "2"), (ramp("0.5", "1h"), "1"), (cap("96000"), "1")])
def test_a_share_of_all_positions_is_held_up_too(tmp_path: Path, limit: str, asked: str) -> None:
    """A fifth, 2 BTC, restores the pool."""
    rung = f"{TAKEN.replace('full', 'fraction_of_all_positions')}, share='0.2', margin_forfeited='none'"
    assert day(tmp_path, [*ALONE, f"ladder=[{{{rung}{limit}}}]"]).rows(ASKED)[0] == (10, D(asked))


def test_takeovers_of_one_level_have_one_rate() -> None:
    rungs = [f"{{{TAKEN}, margin_forfeited='none'{limit}}}" for limit in (cap("1000"), cap("2000"))]
    absorbers = ", ".join(
        f"{{name='{name}', kind='vault', scope='ledger', balance='tape', inventory='holds', work_out='hold', "
        "outflow_cap='none', insolvent_below_zero=false, stops_at_zero=false}"
        for name in ("liquidator", "second")
    )
    ladder = f"ladder=[{rungs[0]}, {rungs[1].replace('liquidator', 'second')}]"
    book = load_rules(HYPERLIQUID, overrides=[*ALONE[:2], f"absorbers=[{absorbers}]", ladder])
    with pytest.raises(RulesError, match="takes what rung 0 leaves, and not at the same rate"):
        compile_rules(book, [], [])
