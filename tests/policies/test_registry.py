"""Policies by name, and a user's own."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from replay.errors import RulesError
from replay.loop.policies import registry
from replay.loop.policies.registry import checked, policy
from replay.loop.policies.winners import Winners, candidates

OWN = """
import numpy as np

def smallest_first(need, winners, *, spare=0):
    order = np.argsort(winners.lots, kind="stable")
    taken = np.zeros(len(winners), np.int64)
    for row in order[spare:]:
        taken[row] = min(need, winners.lots[row])
        need -= taken[row]
    return taken
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    file = tmp_path / "mine.py"
    file.write_text(OWN, encoding="utf-8")
    return f"{file}:smallest_first"


def three() -> Winners:
    return candidates(np.array([5, 1, 3]))


def test_a_function_in_a_file(own: str) -> None:
    assert policy(own)(4, three()).tolist() == [0, 1, 3]
    assert policy(own, spare=1)(4, three()).tolist() == [1, 0, 3]


def test_a_function_in_a_module() -> None:
    name = "replay.loop.policies.proportional:contract_pro_rata"
    assert policy(name)(9, three()).tolist() == [5, 1, 3]


def test_a_function_of_an_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", "replay.loop.policies.queues:lexicographic", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "replay.policies" else [])
    assert policy("mine")(5, three()).tolist() == [1, 1, 3]  # equal leverage and profit: the newest first


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("alphabetical", {}, "there is no policy alphabetical"),
        ("nowhere.py:f", {}, "cannot be loaded"),
        ("replay.nowhere:f", {}, "cannot be loaded"),
        ("replay.loop.policies.queues:nothing", {}, "cannot be loaded"),
        ("replay.loop.policies.registry:ENTRY_POINTS", {}, "is no function"),
        ("random_walk", {"sed": 1}, "has no option `sed`"),
    ],
)
def test_what_cannot_be_a_policy_is_one_clear_error(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RulesError, match=message):
        policy(name, **options)


@pytest.mark.parametrize(
    "taken", [[6, 0, 0], [-1, 0, 0], [5, 1, 0], [1, 1]], ids=["cap", "negative", "need", "length"]
)
def test_a_policy_that_takes_too_much_is_refused(taken: list[int]) -> None:
    with pytest.raises(RulesError, match=r"adl\.method"):
        checked(np.array(taken), 5, three(), "mine")


def test_a_policy_that_returns_parts_of_lots_is_refused() -> None:
    with pytest.raises(RulesError, match="whole lots"):
        checked(np.array([0.5, 0.5, 0.0]), 5, three(), "mine")


def test_the_random_walk_is_its_seed_and_stops_at_its_limit() -> None:
    many = candidates(np.ones(1000, np.int64))
    first, second = (policy("random_walk", seed=seed)(600, many) for seed in (1, 1))
    assert first.tolist() == second.tolist()
    assert int(first.sum()) == 500
    assert (
        policy("random_walk", seed=2)(10, many).tolist() != policy("random_walk", seed=1)(10, many).tolist()
    )


def test_ties_of_the_lexicographic_queue() -> None:
    """Equal leverage: the larger profit; equal profit: the smaller wallet; equal wallet: the newest."""
    winners = candidates(
        np.ones(5, np.int64),
        notional=np.array([9, 5, 5, 5, 5]),
        profit=np.array([1, 7, 3, 3, 3]),
        wallet=np.array([9, 9, 4, 2, 4]),
        account=np.arange(5),
    )
    taken = [policy("lexicographic")(need, winners) for need in range(1, 6)]
    order = [int(np.flatnonzero(a - b)[0]) for a, b in zip(taken, [0 * taken[0], *taken], strict=False)]
    assert order == [0, 1, 3, 4, 2]
