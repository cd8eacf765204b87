"""Rows of run tables that the waterfall writes: what was sent, moved, engaged, closed.

Compiled stages write records to buffers, with numbers for words; the host hands them to the journal in bulk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from replay.kernels import i64, kernel
from replay.loop.depth import NO_LIMIT
from replay.loop.fund import STARTS, STARTS_EMPTY, STOPS_EMPTY, Fund, balance, inventory
from replay.loop.margin import fault
from replay.loop.state import CELL_OVERFLOW, Arrays, State, copy_records
from replay.units import BOUND

Array = npt.NDArray[Any]


def _integers(*names: str) -> np.dtype[np.void]:
    return np.dtype([(name, "i8") for name in names])


ORDER = _integers(
    "ts",
    "liquidation",
    "stage",
    "account",
    "market",
    "asked",
    "limit_price",
    "filled",
    "value",
    "mark",
    "reason",
    "taker",
)
MOVEMENT = _integers("ts", "account", "ledger", "market", "kind", "amount", "balance", "inventory")
ENGAGEMENT = _integers(
    "ts",
    "scope",
    "market",
    "ledger",
    "stage",
    "state",
    "reason",
    "count",
    "measured",
    "threshold",
    "fund_balance",
    "has_balance",
    "quantity",
    "has_quantity",
)
LIQUIDATION = _integers(
    "liquidation",
    "ts",
    "ts_end",
    "account",
    "ledger",
    "market",
    "mode",
    "size",
    "asked",
    "netted",
    "book",
    "absorbed",
    "adl",
    "left",
    "bankruptcy_value",
    "mark",
    "equity",
    "maintenance",
    "surplus",
    "shortfall",
    "fund",
    "vault",
    "socialised",
    "bad_debt",
    "recorded",
)
ADL_FILL = np.dtype(
    [
        *(
            (name, "i8")
            for name in (
                "ts",
                "liquidation",
                "loser",
                "winner",
                "market",
                "ledger",
                "origin",
                "rank",
                "candidates",
                "lights",
                "quantity",
                "value",
                "mark",
                "realised",
                "loser_fee",
                "winner_fee",
                "loser_size_before",
                "loser_size_after",
                "winner_size_before",
                "winner_size_after",
                "loser_equity_before",
                "loser_equity_after",
                "winner_equity_before",
                "winner_equity_after",
                "winner_notional_before",
            )
        ),
        ("score", "f8"),
    ]
)

LOSS = _integers("ts", "liquidation", "account", "ledger", "amount")

# Places of Buffers.counts.
ORDER_ROWS, MOVEMENT_ROWS, ENGAGEMENT_ROWS, ADL_ROWS, LIQUIDATION_ROWS, LOSS_ROWS, _COUNTS = range(7)

# Stages, kinds of movements and states of stages, as numbers.
BOOK, TAKEOVER, ADL, NET, SURPLUS, FEE, WORK_OUT, DELEVERAGED, DEBT, RESIDUAL, GUARD = range(11)
_STAGES = (
    "book", "takeover", "adl", "net", "surplus", "fee", "work out", "deleveraged", "debt", "residual",
    "guard",
)  # fmt: skip
ENGAGED, START, STOP = range(3)
_STATES = ("engaged", "start", "stop")

# Scopes of engagements that are no account (a market has scope_of_market), and where losers come from.
AT_BOOK, BY_ABSORBER = range(2)
FROM_LADDER, FROM_TAKEOVER, FROM_ABSORBER = range(3)

# Reasons: why an attempt ended, why a stage engaged.
(
    FILLED,
    USED_UP,
    USED_UP_WITHIN,
    TAKEN_OVER,
    NO_CAPACITY,
    NETTED,
    SENT,
    BELOW_MAINTENANCE,
    NOT_CLOSED,
    EMPTY,
    DRAWDOWN,
    NOT_EMPTY,
    IS_OFF,
    FAR,
    NEAR,
) = range(15)

NOBODY = -1
"""Stands for the account of no absorber."""

_REASONS = (
    "filled",
    "depth used up",
    "depth within the limit used up",
    "taken over by",
    "the absorber's capacity is used up",
    "closed against its own hedge",
    "forced orders sent to the book",
    "equity below maintenance",
    "no stage before could close them",
    "the balance is not above zero",
    "drawdown of the market against the fund's peak",
    "the balance is above zero",
    "the absorber does nothing for the market now",
    "the price is too far from its average",
    "nobody is passed over for the price any more",
)
"""The reasons in words; behind that of a takeover comes who takes."""

_MANY = 16_384
"""Rows that a buffer holds, at least, when it is handed to the journal."""


class Sink(Protocol):
    """Where the loop writes rows of run tables, in units of the tape."""

    def append(self, table: str, columns: Mapping[str, Any]) -> None:
        """Append rows by column."""


def append_rows(sink: Sink, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows that are given one by one; a column missing in a row is unknown."""
    if rows:
        names = list(dict.fromkeys(name for row in rows for name in row))
        sink.append(table, {name: [row.get(name) for row in rows] for name in names})


class Buffers(NamedTuple):
    """The rows that wait, as compiled code sees them; ``counts`` are the rows of each in use."""

    orders: Array
    movements: Array
    engagements: Array
    adl: Array
    liquidations: Array
    losses: Array  # bad debt
    sums: Array  # int64[markets, 5]: to add up rows by market, zero between uses
    counts: Array


def no_rows(markets: int = 0) -> Buffers:
    """Return empty buffers."""
    kinds = (ORDER, MOVEMENT, ENGAGEMENT, ADL_FILL, LIQUIDATION, LOSS)
    sums, counts = np.zeros((markets, 5), np.int64), np.zeros(_COUNTS, np.int64)
    orders, movements, engagements, adl, liquidations, losses = (np.zeros(64, kind) for kind in kinds)
    return Buffers(orders, movements, engagements, adl, liquidations, losses, sums, counts)


@kernel
def has_room(r: Buffers, orders: int, liquidations: int, stages: int, adl: int, losses: int) -> bool:
    """Tell whether there is room for so many rows; each stage may write two movements and four engagements a market."""
    markets = 2 * len(r.sums) * stages
    return bool(
        r.counts[ORDER_ROWS] + orders <= len(r.orders)
        and r.counts[MOVEMENT_ROWS] + markets <= len(r.movements)
        and r.counts[ENGAGEMENT_ROWS] + 2 * markets <= len(r.engagements)
        and r.counts[ADL_ROWS] + adl <= len(r.adl)
        and r.counts[LIQUIDATION_ROWS] + liquidations <= len(r.liquidations)
        and r.counts[LOSS_ROWS] + losses <= len(r.losses)
    )


class Rows:
    """Keeps the rows of one replay's waterfall and hands them to the journal.

    Args:
        state: The state.
        sink: Receives the rows.
    """

    def __init__(self, state: State, sink: Sink) -> None:
        self._state = state
        self._sink = sink
        self.arrays = no_rows(len(state.markets))

    def reserve(
        self, *, orders: int = 0, adl: int = 0, liquidations: int = 0, losses: int = 0, stages: int = 1
    ) -> None:
        """Make room for rows of some stages, see :func:`has_room`.

        A buffer that lacks it is handed over if it holds many rows, for a call costs more than a row; else it grows.
        """
        markets = 2 * len(self._state.markets) * stages
        needs = (orders, markets, 2 * markets, adl, liquidations, losses)
        for place, need in enumerate(needs):
            buffer = self.arrays[place]
            if self.arrays.counts[place] >= _MANY and self.arrays.counts[place] + need > len(buffer):
                self._hand_over(place)
            used = buffer[: self.arrays.counts[place]]
            if len(used) + need > len(buffer):
                longer = np.zeros(2 * (_MANY + need), buffer.dtype)
                copy_records(used, longer)
                self.arrays = self.arrays._replace(**{Buffers._fields[place]: longer})

    def flush(self) -> None:
        """Hand all rows to the journal."""
        for place in range(_COUNTS):
            self._hand_over(place)

    def flush_engagements(self) -> None:
        """Hand the rows of engagements to the journal, before others write some."""
        self._hand_over(ENGAGEMENT_ROWS)

    def _hand_over(self, place: int) -> None:
        """Hand the rows of one buffer to the journal."""
        handed = (
            self._orders,
            self._movements,
            self._engagements,
            self._adl,
            self._liquidations,
            self._losses,
        )
        count = int(self.arrays.counts[place])
        if count:
            handed[place](self.arrays[place][:count])
            self.arrays.counts[place] = 0

    def _orders(self, rows: Array) -> None:
        columns = _columns(rows)
        columns["stage"] = _words(_STAGES, rows["stage"])
        columns["limit_price"] = pa.array(columns["limit_price"], mask=rows["limit_price"] == NO_LIMIT)
        takers = columns.pop("taker")
        reasons = np.where(rows["reason"] == TAKEN_OVER, len(_REASONS) + takers, rows["reason"])
        columns["reason"] = self._with_names(_REASONS, reasons, f"{_REASONS[TAKEN_OVER]} ")
        self._sink.append("forced_orders", columns)

    def _movements(self, rows: Array) -> None:
        columns = _columns(rows)
        columns["kind"] = _words(_STAGES, rows["kind"])
        self._sink.append("absorber_ledger", columns)

    def _engagements(self, rows: Array) -> None:
        columns = _columns(rows)
        has_balance, has_quantity = columns.pop("has_balance"), columns.pop("has_quantity")
        columns["fund_balance"] = pa.array(columns["fund_balance"], mask=has_balance == 0)
        columns["quantity"] = pa.array(columns["quantity"], mask=has_quantity == 0)
        scopes = (*(market.name for market in reversed(self._state.markets)), "@book")
        columns["scope"] = self._with_names(scopes, rows["scope"] + len(scopes))
        columns["stage"] = _words(_STAGES, rows["stage"])
        columns["state"] = _words(_STATES, rows["state"])
        found = pa.array(columns.pop("count") * len(_REASONS) + columns.pop("reason")).dictionary_encode()
        reasons = [self._reason(*divmod(key, len(_REASONS))) for key in found.dictionary.to_pylist()]
        columns["reason"] = _words(reasons, found.indices)
        columns["shadow"] = np.zeros(len(rows), np.int8)
        self._sink.append("engagements", columns)

    def _reason(self, count: int, reason: int) -> str:
        words = _REASONS[reason]
        if reason in (EMPTY, DRAWDOWN, NOT_EMPTY, NEAR):
            return words
        if reason == NOT_CLOSED:
            return f"{words}: {count} orders"
        return f"{words}: {count} pool{'s' if count > 1 else ''}"

    def _adl(self, rows: Array) -> None:
        columns = _columns(rows)
        columns["liquidation"] = pa.array(columns["liquidation"], mask=rows["liquidation"] < 0)
        origins = np.where(rows["origin"] == FROM_ABSORBER, 2 + rows["loser"], rows["origin"])
        columns["origin"] = self._with_names(("ladder", "takeover"), origins)
        self._sink.append("adl_fills", columns)

    def _liquidations(self, rows: Array) -> None:
        columns = _columns(rows)
        columns["ts_end"] = pa.array(columns["ts_end"], mask=rows["ts_end"] < 0)
        self._sink.append("liquidations", columns)

    def _losses(self, rows: Array) -> None:
        self._sink.append("shared_losses", _columns(rows) | {"kind": ["bad_debt"] * len(rows)})

    def shared(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write losses that were shared or not, behind those that wait."""
        self._hand_over(LOSS_ROWS)
        append_rows(self._sink, "shared_losses", rows)

    def _with_names(self, words: Sequence[str], numbers: Array, prefix: str = "") -> pa.Array:
        """Return words by number; behind the last of them come the names of accounts."""
        found = pa.array(numbers).dictionary_encode()
        texts = [
            words[number] if number < len(words) else prefix + self._state.account_names[number - len(words)]
            for number in found.dictionary.to_pylist()
        ]
        return _words(texts, found.indices)

    def opening(self, ts: int, balances: Sequence[tuple[int, int, int]]) -> None:
        """Write what absorbers begin with: account, ledger and amount of each balance."""
        count = len(balances)
        accounts, ledgers, amounts = np.array(balances, np.int64).reshape(-1, 3).T
        self._sink.append(
            "absorber_ledger",
            {
                "ts": np.full(count, ts),
                "account": accounts,
                "ledger": ledgers,
                "market": pa.nulls(count, pa.int64()),
                "kind": ["opening"] * count,
                "amount": amounts,
                "balance": amounts,
                "inventory": pa.nulls(count, pa.int64()),
            },
        )


def _columns(rows: Array) -> dict[str, Any]:
    """Return the columns of records; the sink copies them, for the buffer is used again."""
    return {name: rows[name] for name in rows.dtype.names or ()}


def _words(texts: Sequence[str], numbers: Array | pa.Array) -> pa.Array:
    # With the type named: without it Arrow looks for packages of dates, each time.
    return pa.DictionaryArray.from_arrays(numbers, pa.array(texts, pa.string())).cast(pa.string())


@kernel
def account_of(s: Arrays, f: Fund, market: int) -> int:
    """Return the account of the balance that answers for a market."""
    return i64(s.pools[f.pools[f.markets[market].purse]].account)


@kernel
def scope_of_market(market: int) -> int:
    """Return the scope of an engagement that is a market."""
    return NOBODY - 1 - market


@kernel
def write_movements(s: Arrays, f: Fund, r: Buffers, ts: int, kind: int) -> None:
    """Write what movements brought or cost the absorber at the mark, one row per market.

    ``sums[m]`` holds how many rows of a market there are and what they add up to; it is emptied.
    """
    for market in range(len(r.sums)):
        if r.sums[market, 0] == 0:
            continue
        row = r.movements[r.counts[MOVEMENT_ROWS]]
        r.counts[MOVEMENT_ROWS] += 1
        ledger = i64(s.markets[market].ledger)
        row.ts, row.ledger, row.market, row.kind = ts, ledger, market, kind
        row.account = account_of(s, f, market)
        row.amount = r.sums[market, 1]
        row.balance = balance(s, f, i64(f.markets[market].purse))
        row.inventory = inventory(s, f, market)
        r.sums[market, :] = 0


@kernel
def add_engaged(
    s: Arrays, r: Buffers, pool: int, market: int, equity: int, maintenance: int, quantity: int
) -> None:
    """Add a row of a stage to those of its market, for :func:`write_engaged`."""
    sums = r.sums[market]
    sums[0] += 1
    sums[2] += equity
    sums[3] += maintenance
    sums[4] += quantity
    if abs(sums[2]) >= BOUND or sums[3] >= BOUND or sums[4] >= BOUND:
        fault(s, CELL_OVERFLOW, pool, market)


@kernel
def add_movement(r: Buffers, market: int, amount: int) -> None:
    """Add a movement to those of its market, for :func:`write_movements`."""
    r.sums[market, 0] += 1
    r.sums[market, 1] += amount


@kernel
def write_engaged(s: Arrays, f: Fund, r: Buffers, ts: int, stage: int, scope: int, reason: int) -> None:
    """Write that a stage acted in this step, one row per market that :func:`add_engaged` named."""
    for market in range(len(r.sums)):
        if r.sums[market, 0] == 0:
            continue
        row = r.engagements[r.counts[ENGAGEMENT_ROWS]]
        r.counts[ENGAGEMENT_ROWS] += 1
        ledger = i64(s.markets[market].ledger)
        row.ts, row.market, row.ledger, row.stage = ts, market, ledger, stage
        row.scope = account_of(s, f, market) if scope == BY_ABSORBER else NOBODY
        row.state, row.reason, row.count = ENGAGED, reason, r.sums[market, 0]
        row.measured, row.threshold = r.sums[market, 2], r.sums[market, 3]
        row.has_balance = scope == BY_ABSORBER
        row.fund_balance = balance(s, f, i64(f.markets[market].purse)) if scope == BY_ABSORBER else 0
        row.quantity, row.has_quantity = r.sums[market, 4], 1
        r.sums[market, :] = 0


@kernel
def write_verdict(
    s: Arrays, f: Fund, r: Buffers, ts: int, market: int, found: int, measured: int, threshold: int
) -> None:
    """Write that deleveraging of a market starts or stops by the rules of the absorber."""
    row = r.engagements[r.counts[ENGAGEMENT_ROWS]]
    r.counts[ENGAGEMENT_ROWS] += 1
    ledger = i64(s.markets[market].ledger)
    row.ts, row.market, row.ledger, row.stage = ts, market, ledger, ADL
    row.scope = account_of(s, f, market)
    row.state = START if found in (STARTS, STARTS_EMPTY) else STOP
    row.reason = DRAWDOWN
    if found == STARTS_EMPTY:
        row.reason = EMPTY
    elif found == STOPS_EMPTY:
        row.reason = NOT_EMPTY
    row.count = 0
    row.measured, row.threshold = measured, threshold
    row.fund_balance, row.has_balance = balance(s, f, i64(f.markets[market].purse)), 1
    row.quantity, row.has_quantity = 0, 0
