"""The printed liquidation price is the first mark at which the judgement of the replay flips.

Judged mark by mark beside the search, with the kernel the loop uses, for every shape of margin and payoff.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.analysis.bench import Bench
from replay.analysis.liquidation_mark import first_breach
from replay.loop.margin import term_of
from replay.loop.state import State
from replay.rules import RuleBook, compile_rules
from replay.tape.read import Market
from replay.tape.schema import Grade, Payoff
from tests.rules.books import FLAT, changed, load_text

ATOM = 10**8
LINEAR = Market(0, "BTC-PERP", "", Payoff.LINEAR, 0, Fraction(1, 100), 0, 0, 0, 1, 1)
INVERSE = Market(0, "BTCUSD", "", Payoff.INVERSE, 0, Fraction(100), 0, 0, 0, 1, 1)
LEDGERS = [("", "USDC")]
TABLE = """[[margin.tables]]
currencies = ["USDC"]
tiers = [{ from = 0, rate = "0.01" }, { from = 300, rate = "0.05" }, { from = 900, rate = "0.2" }]
"""
SHAPES = {
    "flat": ("flat", "notional_mark", 'rate = "0.03"\n'),
    "least": ("flat", "notional_mark", 'rate = "0.03"\nleast = 12\n'),
    "deduction": ("bracket_deduction", "notional_mark", TABLE),
    "whole": ("bracket_whole", "notional_mark", TABLE),
    "whole by size": ("bracket_whole", "contracts", TABLE),
    "whole by entry": ("bracket_whole", "notional_entry", TABLE),
    "share": ("im_fraction", "notional_mark", 'share = "0.5"\nexit_fee = "0.001"\n' + TABLE),
    "steps": (
        "risk_steps",
        "notional_mark",
        '[[margin.steps]]\ncurrencies = ["USDC"]\nbase_limit = 200\nbase_rate = "0.01"\nstep = 100\n'
        'step_rate = "0.02"\nsteps = 8\n',
    ),
    "grows": (
        "linear_size",
        "contracts",
        '[[margin.sizes]]\ncurrencies = ["USDC"]\nbase_rate = "0.01"\nrate_per_unit = "0.001"\n',
    ),
    "root": (
        "sqrt_size",
        "contracts",
        '[[margin.roots]]\ncurrencies = ["USDC"]\nbase_rate = "0.02"\nfactor = "0.004"\n',
    ),
}


def book(folder: Path, shape: str) -> RuleBook:
    name, basis, rest = SHAPES[shape]
    head = f'size_basis = "{basis}"\nhedge_basis = "net"\nscope = "cross_account"\n'
    loaded: RuleBook = load_text(folder, changed(FLAT, f'[margin]\nshape = "{name}"\n{head}{rest}'))
    return loaded


class Judge:
    """Equity less maintenance by the loop's own kernel, on arrays that the search does not share."""

    def __init__(self, rules: RuleBook, market: Market) -> None:
        plan = compile_rules(rules, [market], LEDGERS)
        self.arrays = State(
            [market],
            LEDGERS,
            [],
            mark_kinds=[0],
            fills_set_mark=[False],
            plan=plan,
            watching=True,
            anchoring=False,
            grade=Grade.KNOWN,
        ).arrays

    def in_breach(self, size: int, cost: int, mark: int, rest: int) -> bool:
        return rest + int(term_of(self.arrays.tiers, self.arrays.markets[0], size, cost, mark)) < 0


@pytest.fixture(scope="module", params=[(shape, m) for shape in SHAPES for m in (LINEAR, INVERSE)], ids=str)
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Bench, Judge, Market]:
    shape, market = request.param
    rules = book(tmp_path_factory.mktemp("shape"), shape)
    return Bench(rules, [market], LEDGERS), Judge(rules, market), market


@given(
    size=st.integers(1, 60),
    is_long=st.booleans(),
    mark=st.integers(1, 4_000),
    entry=st.integers(1, 4_000),
    cushion=st.integers(-300 * ATOM, 600 * ATOM),
)
@settings(max_examples=60, deadline=None)
def test_the_price_is_the_first_mark_that_flips_the_judgement(
    both: tuple[Bench, Judge, Market], size: int, is_long: bool, mark: int, entry: int, cushion: int
) -> None:
    bench, judge, _ = both
    size = size if is_long else -size
    cost = bench.value(0, size, entry)
    rest = cost - bench.value(0, size, mark) + cushion  # equity at the mark is the cushion
    found = first_breach(bench, 0, size, cost, mark, rest)
    now = judge.in_breach(size, cost, mark, rest)
    adverse = -1 if is_long else 1
    direction = -adverse if now else adverse
    scan = range(mark, 0, -1) if direction < 0 else range(mark, 20_000)
    flips = next((at for at in scan if judge.in_breach(size, cost, at, rest) != now), None)
    if flips is None:
        assert found is None or found >= 19_999, "the scan found none as far as it goes"
        return
    assert found == (flips - direction if now else flips)
    assert judge.in_breach(size, cost, found, rest)
    assert not judge.in_breach(size, cost, found - adverse, rest)
