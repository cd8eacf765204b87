"""A state with a few markets and positions, for the stages of the waterfall by themselves."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.loop.candidates import SETTLED
from replay.loop.ledger import add_cash, book
from replay.loop.scoring import fill_scores, scoring_of
from replay.loop.state import CANDIDATE, MARKS_VERSION, State, pool_of, position_of
from replay.rules.plan import Adl, DepthRule
from replay.tape.read import DepthRows, Fills, Market
from replay.tape.schema import FillKind, Grade, Payoff, Side
from replay.units import NS_PER_SECOND, RATE_SCALE

Array = npt.NDArray[Any]

ATOMS = 10**8
RATE_ONE = 10**RATE_SCALE
SECOND = NS_PER_SECOND


@dataclass
class Margin:
    """What a state asks of a plan: one rate for all positions."""

    tier_first: npt.NDArray[np.int64]
    tier_from: npt.NDArray[np.int64]
    tier_rate: npt.NDArray[np.int64]
    tier_deduction: npt.NDArray[np.int64]
    breach_at_equal: bool = False
    margin_basis: None = None
    allocation: str = "maintenance_proportional"
    exit_fee_rate: int = 0
    period_ns: int = 0
    stale_guard: None = None


def linear(number: int = 0, name: str = "BTC", *, ledger: int = 0) -> Market:
    """A market with whole prices and whole contracts of 1 coin: a value is quantity x price x 1e8 atoms."""
    return Market(number, name, "", Payoff.LINEAR, ledger, Fraction(1), 0, 0, 0, 1, 1)


def inverse(number: int = 0, name: str = "BTCUSD") -> Market:
    """Contracts of 100 quote units, whole prices: n contracts are worth 100 n / price coins."""
    return Market(number, name, "", Payoff.INVERSE, 0, Fraction(100), 0, 0, 0, 1, 1)


def state_of(
    *markets: Market, rate: Fraction = Fraction(1, 100), bucket_ns: int = 0, margin: Margin | None = None
) -> State:
    """A state with these markets, maintenance at a flat rate or by tables, and one ledger."""
    count = len(markets)
    margin = margin or Margin(
        np.arange(count + 1, dtype=np.int64),
        np.zeros(count, np.int64),
        np.full(count, int(rate * RATE_ONE), np.int64),
        np.zeros(count, np.int64),
    )
    return State(
        markets,
        [("", "USDC")],
        [],
        mark_kinds=[1] * count,
        fills_set_mark=[False] * count,
        plan=margin,
        watching=True,
        anchoring=False,
        grade=Grade.KNOWN,
        bucket_ns=bucket_ns,
    )


def set_mark(state: State, mark: int, market: int = 0) -> None:
    """Move a mark; the one before becomes the previous mark."""
    record = state.arrays.markets[market]
    record["previous_mark"] = record["mark"] if record["has_mark"] else mark
    record["mark"], record["has_mark"] = mark, 1
    state.arrays.counters[MARKS_VERSION] += 1


def hold(
    state: State,
    name: str,
    size: int,
    entry: int,
    cash: int,
    *,
    market: int = 0,
    grade: Grade = Grade.KNOWN,
) -> int:
    """Give an account cash in whole units and a position at a whole price; return its slot."""
    state.reserve(4)
    account = state.account(name)
    pool = pool_of(state.arrays, account, state.markets[market].ledger, -1, int(grade))
    slot, _ = position_of(state.arrays, account, market, 0, int(grade))
    state.pools[pool]["grade"] = int(grade)
    add_cash(state.arrays, pool, cash * ATOMS)
    value = value_of(state, size, entry, market)
    book(state.arrays, slot, size, value, value)
    return int(slot)


def value_of(state: State, size: int, price: int, market: int = 0) -> int:
    """The signed value in atoms of the markets above, from the formulas of contracts."""
    if state.markets[market].payoff == Payoff.INVERSE:
        return -round(Fraction(size * 100 * ATOMS, price))
    return size * price * ATOMS


def account_of(state: State, position: int) -> str:
    """The name of who holds a position."""
    return state.account_names[int(state.pools[state.positions[position]["pool"]]["account"])]


def depth_rule(**changes: Any) -> DepthRule:
    """Levels of the tape, whole, with no memory; changed as given."""
    known: dict[str, Any] = {
        "provider": "levels",
        "haircut_rate": 0,
        "half_life_ns": 0,
        "participation_rate": 0,
        "window_ns": 0,
        "slippage_bp": 0,
        "static": (),
    }
    return DepthRule(**(known | changes))


def depth_rows(*rows: tuple[int, int, Side, int, int]) -> DepthRows:
    """Rows of ``depth``: (moment, market, side, price, quantity)."""
    columns = np.array(rows, np.int64).reshape(-1, 5).T
    return DepthRows(*(np.ascontiguousarray(column) for column in columns))


def forced_fills(*rows: tuple[int, int, int, int]) -> Fills:
    """Rows of recorded liquidations as the accounts that they hit: (moment, market, quantity, price)."""
    ts, market, qty, price = np.array(rows, np.int64).reshape(-1, 4).T
    same = np.zeros(len(ts), np.int64)
    known: dict[str, Any] = dict.fromkeys(Fills._fields, same)
    known |= {"ts": ts, "market": market, "qty": qty, "price": price}
    known |= {"kind": np.full(len(ts), FillKind.LIQUIDATION, np.int64), "victim": same, "account": same}
    return Fills(**known)


def candidate(**columns: int) -> Array:
    """One candidate of settled figures, as CANDIDATE records."""
    records = np.zeros(1, CANDIDATE)
    records["known"], records["standing"] = 1, SETTLED
    for name, value in columns.items():
        records[name] = value
    return records


def scores_of(rule: Adl, candidates: Array) -> list[float]:
    """The scores of CANDIDATE records under a rule."""
    fill_scores(candidates, np.arange(len(candidates)), scoring_of(rule))
    found: list[float] = candidates["score"].tolist()
    return found
