"""When pools are judged (``[step]``).

A long of 1 BTC from 100,000 with 1,300 of cash needs 1.25 %: in breach below 98,700 / 0.9875 = 99,949.4; at
99,900 it has 1,200 of 1,248.75, more than 2/3, so that it goes to the book.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

import replay
from replay.errors import RulesError
from tests.scenario_tape import scenario_tape
from tests.waterfall.days import HYPERLIQUID, Day, account, depth, marks, replayed

D = Decimal
ROUNDS = ['step={kind="periodic", period="10s"}']
MARKETS = 'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }]\n'
QUIET = ("+0s", 100_000), ("+10s", 99_990)  # the first steps of the first two periods
AT = "date_diff('millisecond', TIMESTAMP '2025-10-10 12:00:00', ts)"
ORDERS = f"SELECT {AT}, account, filled FROM forced_orders ORDER BY seq"


def trade(at: str, buyer: str, seller: str, qty: object, price: object) -> str:
    sides = f'buyer = "{buyer}"\nseller = "{seller}"'
    return f'[[trades]]\nat = "{at}"\nmarket = "BTC"\n{sides}\nqty = {qty}\nprice = {price}\n'


def day(
    folder: Path,
    overrides: list[str],
    path: list[tuple[str, object]],
    text: str = "",
    batch_rows: int = 65_536,
) -> Day:
    return replayed(
        folder,
        MARKETS
        + account("long", 1_300, ("BTC", 1, 100_000))
        + account("short", 50_000, ("BTC", -1, 100_000))
        + account("other", 50_000)
        + marks("BTC", *QUIET, *path)
        + text,
        HYPERLIQUID,
        overrides,
        batch_rows=batch_rows,
    )


DEEP = depth("+9s", "BTC", bids=[(99_900, 4)]) + depth("+20s", "BTC", bids=[(99_900, 4)])
FALLS_AND_RISES = [("+12s", 99_900), ("+14s", 99_990), ("+20s", 99_990)]
FALLS = [("+12s", 99_900), ("+19.999s", 99_899), ("+23s", 99_898)]


@pytest.mark.parametrize("batch_rows", [65_536, 1])
@pytest.mark.parametrize(
    ("overrides", "path", "text", "orders"),
    [
        ([], FALLS_AND_RISES, DEEP, [12_000]),
        (ROUNDS, FALLS_AND_RISES, DEEP, []),
        ([], FALLS, DEEP, [12_000]),
        (ROUNDS, FALLS, DEEP, [23_000]),
        # Whatever the first step of a period is, it is judged: here a trade of others.
        (ROUNDS, FALLS, DEEP + trade("+20.5s", "other", "short", 1, 99_900), [20_500]),
        # What is between the rounds is booked: with 100 more the pool is sound before the next.
        (ROUNDS, FALLS, DEEP + '[[transfers]]\nat = "+19.5s"\naccount = "long"\namount = 100\n', []),
        ([], FALLS, DEEP + '[[transfers]]\nat = "+19.5s"\naccount = "long"\namount = 100\n', [12_000]),
        # A period longer than the tape has one round.
        (['step={kind="periodic", period="1d"}'], FALLS, DEEP, []),
        # One as short as the steps are apart changes nothing.
        (['step={kind="periodic", period="1ns"}'], FALLS, DEEP, [12_000]),
    ],
)
def test_pools_are_judged_in_the_first_step_of_a_period(
    tmp_path: Path,
    overrides: list[str],
    path: list[tuple[str, object]],
    text: str,
    orders: list[int],
    batch_rows: int,
) -> None:
    made = day(tmp_path, overrides, path, text, batch_rows)
    assert made.rows(ORDERS) == [(at, "long", D(-1)) for at in orders]


@pytest.mark.parametrize("batch_rows", [65_536, 1])
@pytest.mark.parametrize(
    ("overrides", "orders"),
    [
        ([], [12_000, 15_000, 19_000, 29_000]),
        (ROUNDS, [20_000, 31_000]),
    ],
)
def test_a_pool_in_liquidation_is_asked_again_in_the_next_round(
    tmp_path: Path, overrides: list[str], orders: list[int], batch_rows: int
) -> None:
    """It waits for a mark, which may move between two rounds: none does in the step of +31s itself."""
    text = (
        depth("+9s", "BTC", bids=[(99_900, 0.01)])
        + depth("+30s", "BTC", bids=[(99_899, 4)])
        + trade("+20s", "other", "short", 1, 99_900)
        + trade("+31s", "other", "short", 1, 99_900)
    )
    path = [("+12s", 99_900), ("+15s", 99_899), ("+19s", 99_898), ("+29s", 99_897)]
    made = day(tmp_path, [*overrides, "depth.half_life=100d"], path, text, batch_rows)
    assert [at for at, _, _ in made.rows(ORDERS)] == orders


def three(
    folder: Path, overrides: list[str], cash: list[int], path: list[tuple[str, object]], text: str = ""
) -> Day:
    names = ("a", "b", "c")
    return replayed(
        folder,
        MARKETS
        + "".join(account(name, own, ("BTC", 1, 100_000)) for name, own in zip(names, cash, strict=True))
        + account("short", 50_000, ("BTC", -3, 100_000))
        + account("other", 50_000)
        + marks("BTC", *QUIET, *path)
        + depth("+9s", "BTC", bids=[(99_900, 4)])
        + text,
        HYPERLIQUID,
        overrides,
    )


NO_BOOK = 'depth={provider="none"}'
DELEVERAGED_AT_ONCE = 'ladder=[{action="adl", level="1", size="full"}]'
TRADES = "".join(trade(f"+{at}s", "other", "short", 1, 99_900) for at in (13, 14))


@pytest.mark.parametrize(
    ("overrides", "orders"),
    [
        ([], [(12, "a"), (12, "b"), (12, "c")]),
        (["step.max_liquidations=1"], [(12, "a"), (13, "b"), (14, "c")]),
        (["step.max_liquidations=2"], [(12, "a"), (12, "b"), (13, "c")]),
        (["step.max_liquidations=3"], [(12, "a"), (12, "b"), (12, "c")]),
        (['step={kind="periodic", period="4s", max_liquidations=2}'], [(12, "a"), (12, "b"), (20, "c")]),
    ],
)
def test_a_step_liquidates_so_many(
    tmp_path: Path, overrides: list[str], orders: list[tuple[int, str]]
) -> None:
    """All are in breach at +12s and stay so; in the steps that follow no mark moves."""
    text = TRADES + trade("+20s", "other", "short", 1, 99_900)
    made = three(tmp_path, overrides, [1_300, 1_300, 1_300], [("+12s", 99_900)], text)
    assert made.rows(ORDERS) == [(1_000 * at, name, D(-1)) for at, name in orders]
    found = made.rows(
        f"SELECT {AT}, {AT.replace('ts', 'ts_end')}, account FROM liquidations ORDER BY account"
    )
    assert found == [(12_000, 1_000 * at, name) for at, name in orders]


def test_the_longest_in_breach_come_first(tmp_path: Path) -> None:
    """The first account has 100 more and breaches at 98,600 / 0.9875 = 99,848.1, when the third still waits."""
    path = [("+12s", 99_900), ("+13s", 99_840), ("+14s", 99_839)]
    made = three(tmp_path, ["step.max_liquidations=1"], [1_400, 1_300, 1_300], path)
    assert made.rows(ORDERS) == [
        (at, name, D(-1)) for at, name in ((12_000, "b"), (13_000, "c"), (14_000, "a"))
    ]


def test_who_recovers_while_it_waits_is_not_asked(tmp_path: Path) -> None:
    made = three(
        tmp_path, ["step.max_liquidations=1"], [1_300, 1_300, 1_300], [("+12s", 99_900), ("+13s", 99_990)]
    )
    assert made.rows(ORDERS) == [(12_000, "a", D(-1))]
    found = made.rows(
        f"SELECT account, {AT.replace('ts', 'ts_end')}, asked FROM liquidations ORDER BY account"
    )
    assert found == [("a", 12_000, D(1)), ("b", 13_000, D(0)), ("c", 13_000, D(0))]


def test_who_waits_for_its_turn_pays_nobodys_loss(tmp_path: Path) -> None:
    """At 98,000 each owes 700 at the mark; the first is closed into the book, and only the sound share its loss."""
    made = three(
        tmp_path,
        [
            "step.max_liquidations=1",
            "socialise.method=deposit_haircut",
            "absorbers=[]",
            'ladder=[{action="book_order", level="1", size="full", limit="none", tif="ioc", '
            'surplus_to="trader", fee="0"}]',
            "adl={enabled=false}",
        ],
        [1_300, 1_300, 1_300],
        [("+12s", 98_000)],
        depth("+11s", "BTC", bids=[(98_000, 4)]),
    )
    payers = made.rows("SELECT account, sum(amount) FROM shared_losses GROUP BY account ORDER BY account")
    assert payers == [("other", D(350)), ("short", D(350))]


CLOSES = f"SELECT {AT}, loser, quantity FROM adl_fills ORDER BY seq"
TWO_MARKETS = MARKETS.replace("}]", "}, { name = 'ETH', tick = 0.1, lot = 0.001 }]")


@pytest.mark.parametrize(
    ("overrides", "closes"),
    [
        ([], [(12, "a"), (12, "b"), (12, "c")]),
        (["step.max_deleveragings=1"], [(12, "a"), (13, "b"), (14, "c")]),
        (["step.max_deleveragings=2"], [(12, "a"), (12, "b"), (13, "c")]),
        (["step.max_deleveragings=3"], [(12, "a"), (12, "b"), (12, "c")]),
        (['step={kind="periodic", period="4s", max_deleveragings=2}'], [(12, "a"), (12, "b"), (20, "c")]),
        # Whose turn for the ladder has not come is not among those who are tried.
        (['step={kind="per_timestamp", max_liquidations=1, max_deleveragings=2}'],
         [(12, "a"), (13, "b"), (14, "c")]),
    ],
)  # fmt: skip
def test_a_step_deleverages_so_many(
    tmp_path: Path, overrides: list[str], closes: list[tuple[int, str]]
) -> None:
    """At 98,000 each owes 700 and goes to deleveraging at once; no mark moves in the steps that follow."""
    text = TRADES + trade("+20s", "other", "short", 1, 99_900)
    made = three(tmp_path, overrides, [1_300, 1_300, 1_300], [("+12s", 98_000)], text)
    assert made.rows(CLOSES) == [(1_000 * at, name, D(1)) for at, name in closes]
    found = made.rows(
        f"SELECT {AT}, {AT.replace('ts', 'ts_end')}, account FROM liquidations ORDER BY account"
    )
    assert found == [(12_000, 1_000 * at, name) for at, name in closes]


def test_the_longest_in_breach_are_deleveraged_first(tmp_path: Path) -> None:
    """The last two are in breach at +12s; the first has 2,000 more and comes after both, from +13s on."""
    path = [("+12s", 98_000), ("+13s", 97_000)]
    made = three(tmp_path, ["step.max_deleveragings=1", "absorbers=[]", DELEVERAGED_AT_ONCE, NO_BOOK],
                 [3_300, 1_300, 1_300], path, TRADES)  # fmt: skip
    assert made.rows(CLOSES) == [
        (at, name, D(1)) for at, name in ((12_000, "b"), (13_000, "c"), (14_000, "a"))
    ]


@pytest.mark.parametrize(("most", "left"), [(1, 1), (2, 0)])
def test_a_try_is_at_one_position_of_a_pool_and_counts_without_a_winner(
    tmp_path: Path, most: int, left: int
) -> None:
    """In BTC nobody is in profit: its position is tried in each step, and the one in ETH waits behind it.

    The long of one of each from 100,000 and 1,000 with 2,000 of cash owes at 98,000 and 990.
    """
    text = (
        TWO_MARKETS
        + account("long", 2_000, ("BTC", 1, 100_000), ("ETH", 1, 1_000))
        + account("short", 50_000, ("BTC", -1, 90_000), ("ETH", -1, 1_000))
        + account("other", 50_000)
        + marks("BTC", *QUIET, ("+12s", 98_000))
        + marks("ETH", ("+0s", 1_000), ("+12s", 990))
        + trade("+13s", "other", "short", 1, 99_900)
    )
    made = replayed(tmp_path, text, HYPERLIQUID, [f"step.max_deleveragings={most}"])
    assert (made.size("long", "BTC"), made.size("long", "ETH")) == (D(1), D(left))


def test_rounds_do_not_go_with_anchored_equity(tmp_path: Path) -> None:
    tape = scenario_tape(
        tmp_path, 'venue = "example"\nstart = "2025-10-10T12:00:00Z"\n' + MARKETS + marks("BTC", *QUIET)
    )
    book = replay.load_rules(HYPERLIQUID, overrides=ROUNDS)
    with pytest.raises(RulesError, match="pools are judged in rounds, and anchored equity"):
        replay.run_replay(tape, book, tmp_path / "run", liquidations="rules", anchor_equity="recorded")
    assert replay.run_replay(tape, book, tmp_path / "run", anchor_equity="recorded")
