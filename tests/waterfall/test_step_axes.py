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


def test_rounds_do_not_go_with_anchored_equity(tmp_path: Path) -> None:
    tape = scenario_tape(
        tmp_path, 'venue = "example"\nstart = "2025-10-10T12:00:00Z"\n' + MARKETS + marks("BTC", *QUIET)
    )
    book = replay.load_rules(HYPERLIQUID, overrides=ROUNDS)
    with pytest.raises(RulesError, match="pools are judged in rounds, and anchored equity"):
        replay.run_replay(tape, book, tmp_path / "run", liquidations="rules", anchor_equity="recorded")
    assert replay.run_replay(tape, book, tmp_path / "run", anchor_equity="recorded")
