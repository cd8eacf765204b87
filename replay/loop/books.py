"""Opening the books from a tape's snapshot, and proving that they close: sums in Python integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.errors import ConservationError, TapeError
from replay.exact import OVERFLOW, contract_value, signed_value
from replay.kernels import allocating_kernel, i64, kernel
from replay.loop.margin import is_valued, notional_at, valuation
from replay.loop.state import (
    ENTRY_UNKNOWN,
    POOLS,
    POSITIONS,
    TOUCHED,
    Arrays,
    State,
    bring_near,
    pool_of,
    position_of,
)
from replay.loop.watch import soil
from replay.tape.read import Tape
from replay.tape.schema import Grade, Payoff
from replay.units import BOUND

Array = npt.NDArray[Any]

_POSITIONS_OF_AN_ACCOUNT = 4  # in a day, thereabouts


@dataclass(frozen=True, slots=True)
class Conservation:
    """Sums over the whole state: sizes per market, and per ledger ``cash - cost`` against external flow."""

    sizes: tuple[int, ...]
    cash_less_cost: tuple[int, ...]
    external_flow: tuple[int, ...]

    @property
    def holds(self) -> bool:
        """Whether every market sums to zero and every ledger to its external flow."""
        return not any(self.sizes) and self.cash_less_cost == self.external_flow


def value_of(state: State, market: int, size: int, price: int, *, at_mark: bool) -> int:
    """Return the signed contract value in atoms of a size at a price or mark of a market."""
    record = state.arrays.markets[market]
    prefix = "mark" if at_mark else "price"
    inverse = bool(record["inverse"])
    magnitude = contract_value(size, price, record[f"{prefix}_num"], record[f"{prefix}_den"], inverse)
    if magnitude < 0:
        raise TapeError(
            f"a position of {size} at {price} leaves the range of 2^62 atoms", key=state.markets[market].name
        )
    return int(signed_value(size, magnitude, inverse))


def open_books(state: State, tape: Tape) -> int:
    """Book the opening snapshot of a tape; return how many markets @unseen had to balance.

    Raises:
        TapeError: A position without entry price, in a spot market, or a value out of range.
    """
    state.reserve(tape.accounts.num_rows + 2 * tape.positions.num_rows)
    # Or they move as they become more.
    state.reserve_positions(_POSITIONS_OF_AN_ACCOUNT * tape.accounts.num_rows)
    arrays = state.arrays
    accounts = tape.accounts
    cash = accounts.column("cash").to_numpy()
    ledgers = accounts.column("ledger").to_numpy()
    ids = accounts.column("account").to_numpy()
    is_pseudo = np.zeros(len(tape.account_names), np.uint8)
    is_pseudo[state.pseudo_accounts] = 1
    _open_pools(
        arrays,
        ids,
        ledgers,
        accounts.column("market").fill_null(-1).to_numpy(),
        cash,
        accounts.column("grade").to_numpy(),
        is_pseudo[ids],
    )
    for ledger, total in enumerate(_sums(cash, ledgers, len(state.ledgers))):
        state.external_flow[ledger] += total
    sizes = [0] * len(state.markets)
    costs = [0] * len(state.markets)
    for number, row in enumerate(tape.positions.to_pylist(), start=1):
        market = row["market"]
        if row["entry_price"] is None or state.markets[market].payoff == Payoff.SPOT:
            raise TapeError(
                "an opening position needs an entry price and a perpetual market",
                file=tape.path / "positions.parquet",
                row=number,
            )
        slot, _ = position_of(arrays, row["account"], market, row["mode"], state.default_grade)
        cost = value_of(state, market, row["size"], row["entry_price"], at_mark=False)
        position = arrays.positions[slot]
        position["size"] += row["size"]
        position["recorded_size"] = position["size"]
        position["cost"] += cost
        sizes[market] += row["size"]
        costs[market] += cost
    balanced = 0
    for market, (size, cost) in enumerate(zip(sizes, costs, strict=True)):
        if size or cost:
            unseen = arrays.positions[arrays.markets[market]["unseen"]]
            unseen["size"] = unseen["recorded_size"] = -size
            if size:
                unseen["cost"] = -cost
            else:  # nothing is left open: what entries differ by was settled before the tape
                arrays.pools[unseen["pool"]]["cash"] += cost
            balanced += 1 if size else 0
    if any(abs(total) >= BOUND for total in (*sizes, *costs)):
        raise TapeError("the opening positions of a market sum to 2^62 or more", file=tape.path)
    _soil_all(arrays)
    return balanced


@kernel
def _open_pools(
    s: Arrays, accounts: Array, ledgers: Array, markets: Array, cash: Array, grades: Array, special: Array
) -> None:
    for i in range(len(accounts)):
        grade = i64(grades[i])
        pool = s.pools[pool_of(s, i64(accounts[i]), i64(ledgers[i]), i64(markets[i]), grade)]
        pool.grade = grade
        if special[i]:
            pool.special = 1
        pool.cash += cash[i]


@kernel
def _soil_all(s: Arrays) -> None:
    for pool in range(s.counters[POOLS]):
        if s.pools[pool].first >= 0:
            soil(s, pool)


def exact_sum(values: Array) -> int:
    """Sum int64 values as a Python integer; no partial sum can wrap."""
    return (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())


def conservation(state: State) -> Conservation:
    """Re-add all arrays in Python integers."""
    state.drain_external()
    halves = np.zeros((2, len(state.markets)), np.int64), *np.zeros((2, 2, len(state.ledgers)), np.int64)
    _add_books(state.arrays, *halves)
    sizes, cash, cost = ([(high << 32) + low for high, low in part.T.tolist()] for part in halves)
    difference = tuple(c - k for c, k in zip(cash, cost, strict=True))
    return Conservation(tuple(sizes), difference, tuple(state.external_flow))


@kernel
def _add_books(s: Arrays, sizes: Array, cash: Array, cost: Array) -> None:
    """Add up sizes by market, cash and cost by ledger; upper and lower halves apart, so that no sum can wrap."""
    for pool in range(s.counters[POOLS]):
        p = s.pools[pool]
        cash[0, p.ledger] += p.cash >> 32
        cash[1, p.ledger] += p.cash & 0xFFFFFFFF
    for slot in range(s.counters[POSITIONS]):
        p = s.positions[slot]
        ledger = s.markets[p.market].ledger
        sizes[0, p.market] += p.size >> 32
        sizes[1, p.market] += p.size & 0xFFFFFFFF
        cost[0, ledger] += p.cost >> 32
        cost[1, ledger] += p.cost & 0xFFFFFFFF


@kernel
def _add_halves(values: Array, groups: Array, high: Array, low: Array) -> None:
    for i in range(len(values)):
        high[groups[i]] += values[i] >> 32
        low[groups[i]] += values[i] & 0xFFFFFFFF


def _sums(values: Array, groups: Array, count: int) -> list[int]:
    """Return exact sums of int64 values by small integer group, as Python integers."""
    high = np.zeros(count, np.int64)
    low = np.zeros(count, np.int64)
    _add_halves(np.ascontiguousarray(values), np.ascontiguousarray(groups), high, low)
    return [(int(h) << 32) + int(part) for h, part in zip(high, low, strict=True)]


def check_conservation(state: State, ts: int) -> Conservation:
    """Re-add the books and stop if they do not close.

    Raises:
        ConservationError: Sizes or money do not sum up; never the input's fault.
    """
    sums = conservation(state)
    if not sums.holds:
        raise ConservationError(
            f"the books do not close at {ts}: sizes {sums.sizes}, cash - cost {sums.cash_less_cost}, "
            f"external flow {sums.external_flow}",
            mend="this is a defect of the program; please report it with the tape and the rules",
        )
    return sums


@dataclass(frozen=True, slots=True)
class Valuations:
    """What every pool is worth at the current marks, in atoms; ``valued`` is 0 where a market has no mark yet."""

    equity: Array
    maintenance: Array
    notional: Array
    valued: Array


def valuations_of(state: State) -> Valuations:
    """Value every pool at the current marks."""
    pools = len(state.pools)
    equity, maintenance, notional = (np.zeros(pools, np.int64) for _ in range(3))
    valued = np.zeros(pools, np.uint8)
    _value_pools(state.arrays, equity, maintenance, notional, valued)
    return Valuations(equity, maintenance, notional, valued)


@allocating_kernel
def _value_pools(s: Arrays, equity: Array, maintenance: Array, notional: Array, valued: Array) -> int:
    """Fill what the pools are worth; the sum over what was touched has no meaning."""
    pools, cursors, touched = np.arange(len(equity)), np.empty(TOUCHED, np.int64), i64(0)
    for pool in range(len(pools)):
        if pool % TOUCHED == 0:
            touched += bring_near(s, pools, pool, min(pool + TOUCHED, len(pools)), cursors)
        valued[pool] = is_valued(s, pool)
        if valued[pool]:
            equity[pool], maintenance[pool], notional[pool] = valuation(s, pool)
    return touched


@kernel
def _values_at_mark(s: Arrays, markets: Array, sizes: Array, values: Array) -> int:
    """Fill the signed values at mark; return a row whose value leaves its range, or -1."""
    for i in range(len(sizes)):
        market = i64(markets[i])
        if s.markets[market].has_mark:
            m = s.markets[market]
            magnitude = notional_at(m, sizes[i], m.mark)
            if magnitude == OVERFLOW:
                return i
            values[i] = signed_value(sizes[i], magnitude, s.markets[market].inverse != 0)
    return -1


def closing_tables(state: State, worth: Valuations) -> dict[str, dict[str, Any]]:
    """Return the rows of ``accounts_end`` and ``positions_end``, in order of pools and positions."""
    pools, positions = state.pools, state.positions
    equity, maintenance, valued = worth.equity, worth.maintenance, worth.valued
    unknown = (valued == 0) | ((pools["special"] == 0) & (pools["grade"] == Grade.UNKNOWN))
    kept = (positions["size"] != 0) | (positions["cost"] != 0) | (positions["recorded_size"] != 0)
    kept &= (
        (state.pools["special"][positions["pool"]] == 0) | (positions["size"] != 0) | (positions["cost"] != 0)
    )
    rows = positions[kept]
    mark = state.arrays.markets["mark"][rows["market"]]
    has_no_mark = state.arrays.markets["has_mark"][rows["market"]] == 0
    values = np.zeros(len(rows), np.int64)
    wrong = int(_values_at_mark(state.arrays, rows["market"], rows["size"], values))
    if wrong >= 0:
        value_of(state, *(int(x[wrong]) for x in (rows["market"], rows["size"], mark)), at_mark=True)
    return {
        "accounts_end": {
            "account": pools["account"],
            "ledger": pools["ledger"],
            "market": _nullable(pools["market"], pools["market"] < 0),
            "cash": pools["cash"],
            "equity": _nullable(equity, unknown),
            "maintenance": _nullable(maintenance, valued == 0),
            "grade": pools["grade"],
            "special": pools["special"],
        },
        "positions_end": {
            "account": state.pools["account"][rows["pool"]],
            "market": rows["market"],
            "mode": rows["mode"],
            "size": rows["size"],
            "recorded_size": rows["recorded_size"],
            "cost": rows["cost"],
            "mark": _nullable(mark, has_no_mark),
            "value": _nullable(values, has_no_mark),
            "entry_unknown": rows["flags"] & ENTRY_UNKNOWN,
        },
    }


def coverage(state: State, worth: Valuations) -> dict[str, dict[str, Any]]:
    """Return, per equity grade, how many pools there are and their open notional by currency, in atoms."""
    pools = state.pools
    result: dict[str, dict[str, Any]] = {}
    for grade in Grade:
        mine = (pools["special"] == 0) & (pools["grade"] == grade)
        by_currency: dict[str, int] = {}
        for ledger, (_, currency) in enumerate(state.ledgers):
            total = exact_sum(worth.notional[mine & (pools["ledger"] == ledger)])
            if total:
                by_currency[currency] = by_currency.get(currency, 0) + total
        result[grade.name.lower()] = {"pools": int(mine.sum()), "notional": by_currency}
    return result


def _nullable(values: Array, missing: Array) -> Any:
    import pyarrow as pa

    return pa.array(values, mask=np.asarray(missing, dtype=bool))
