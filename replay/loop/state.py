"""The state of a replay: pools, positions and markets in arrays, everything a checkpoint would need.

Compiled code sees the arrays as one :class:`Arrays` tuple; :class:`State` owns them, grows them between
batches, and knows the names. A position's slot is kept when it is closed: it is the memory that the pair of
account and market was seen, so that a later ``start_position`` can be checked against it. Bytes are therefore
bounded by the distinct pairs of a tape, not by its length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from replay.exact import conversion
from replay.tape.read import Market
from replay.tape.schema import Grade, Payoff, PriceKind

Array = npt.NDArray[Any]

POOL = np.dtype(
    [
        ("cash", "i8"),
        ("reserve", "i8"),  # cash + sum of floors: the certificate of loop/watch.py
        ("turnover", "i8"),  # sum of |value| of voluntary and forced fills, for reports
        ("liquidated_ts", "i8"),  # last liquidation by the rules
        ("anchored", "i8"),  # booked against @unexplained in the step `anchor_ts`
        ("anchor_ts", "i8"),
        ("account", "i4"),
        ("market", "i4"),  # of an isolated pool, else -1
        ("first", "i4"),  # head of the chain of its positions, newest first
        ("shadow", "i4"),  # shadow record of its first forced fill in a step
        ("ledger", "i2"),
        ("grade", "u1"),
        ("special", "u1"),  # pseudo account: unlimited credit, never risk-checked
        ("dirty", "u1"),
    ],
    align=True,
)
POSITION = np.dtype(
    [
        ("size", "i8"),
        ("cost", "i8"),
        ("recorded_size", "i8"),
        ("floor", "i8"),
        ("lo", "i8"),  # the band of marks for which floor holds; void if hi == 0
        ("hi", "i8"),
        ("pool", "i4"),
        ("next", "i4"),
        ("market", "i4"),
        ("mode", "u1"),
        ("entry_unknown", "u1"),
    ],
    align=True,
)
MARKET = np.dtype(
    [
        ("mark", "i8"),
        ("previous_mark", "i8"),
        ("mark_ts", "i8"),  # step of the last change
        ("quoted_ts", "i8"),  # step in which a row of `prices` last set the mark
        ("price_num", "i8"),
        ("price_den", "i8"),
        ("mark_num", "i8"),
        ("mark_den", "i8"),
        ("mark_factor", "i8"),  # 10**(mark_scale - price_scale)
        ("mark_kinds", "i8"),  # bit mask of PriceKind that set the mark
        ("funding_pool", "i4"),
        ("unseen", "i4"),  # position slots of the pseudo accounts
        ("book", "i4"),
        ("ledger", "i2"),
        ("inverse", "u1"),
        ("spot", "u1"),
        ("has_mark", "u1"),
        ("fills_set_mark", "u1"),
    ],
    align=True,
)
SHADOW = np.dtype(
    [
        ("ts", "i8"),
        ("equity", "i8"),
        ("maintenance", "i8"),
        ("notional", "i8"),
        ("turnover", "i8"),
        ("size", "i8"),
        ("cost", "i8"),
        ("mark", "i8"),
        ("bankruptcy_value", "i8"),
        ("fill_qty", "i8"),
        ("fill_value", "i8"),
        ("fill_price", "i8"),  # of all fills of the record, 0 if they differ
        ("size_after", "i8"),
        ("cost_after", "i8"),
        ("anchored", "i8"),
        ("liquidated_ts", "i8"),
        ("pool", "i4"),
        ("position", "i4"),
        ("kind", "u1"),
        ("valued", "u1"),  # 0: a market of the pool has no mark yet, equity is not known
    ],
    align=True,
)
"""What the replay held of a position just before the recorded forced fills of a step."""

BREAK = np.dtype(
    [("ts", "i8"), ("seq", "i8"), ("expected", "i8"), ("found", "i8"), ("account", "i4"), ("market", "i4")],
    align=True,
)

# Slots of Arrays.counters.
(POOLS, POSITIONS, DIRTY, SHADOWS, BREAKS, BREACHES, WATCHING, ANCHORING, PENDING, STEP_TS, STEPS, OPENED, CLIPPED,
 DROPPED, FAULT, FAULT_POOL, FAULT_MARKET, FULL_HEAP, RECHECKS, SPOT_ROWS, CHAINED, UNMARKED) = range(22)  # fmt: skip
COUNTERS = 22

# Values of counters[FAULT].
NO_FAULT, CELL_OVERFLOW, NO_MARK_FOR_FUNDING, BAD_PRICE = 0, 1, 2, 3

NEVER = -(1 << 63)


class Arrays(NamedTuple):
    """The state as compiled code sees it; see the dtypes above for the columns of the records."""

    pools: Array
    positions: Array
    markets: Array
    counters: Array  # int64[COUNTERS]
    external: Array  # int64[ledgers]: flows since the host last drained them
    fees_pool: Array  # int32[ledgers]
    unexplained_pool: Array  # int32[ledgers]
    pool_keys: Array  # open addressing tables, -1 is free
    pool_slots: Array
    position_keys: Array
    position_slots: Array
    dirty: Array  # int32: pools to re-check at the end of the step
    breaches: Array  # int32: pools found in breach, ascending
    shadow_of: Array  # int32[positions]: last shadow record of a position
    tier_first: Array
    tier_from: Array
    tier_rate: Array
    tier_deduction: Array
    margin: Array  # int64[1]: least slack that is no breach (0 strict, 1 where equality is a breach)
    heap_key: Array
    heap_position: Array
    heap_start: Array  # int64[2*markets+1]; heap 2m of market m wakes on falls, 2m+1 on rises
    heap_size: Array  # int64[2*markets]


@njit(cache=True)
def _probe(keys: Array, key: int) -> int:
    """Return the index of a key in an open-addressing table, or of the free cell where it belongs."""
    mask = len(keys) - 1
    hashed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    index = np.int64(hashed >> np.uint64(20)) & mask
    while keys[index] != -1 and keys[index] != key:
        index = (index + 1) & mask
    return index


@njit(cache=True)
def pool_of(s: Arrays, account: int, ledger: int, market: int, grade: int) -> int:
    """Return the pool of an account in a ledger (``market`` -1) or isolated in a market, making it if new."""
    key = (np.int64(account) << 32) | (np.int64(ledger) << 20) | np.int64(market + 1)
    index = _probe(s.pool_keys, key)
    if s.pool_keys[index] == key:
        return np.int64(s.pool_slots[index])
    pool = s.counters[POOLS]
    s.counters[POOLS] += 1
    s.pool_keys[index] = key
    s.pool_slots[index] = pool
    record = s.pools[pool]
    record.account = account
    record.ledger = ledger
    record.market = market
    record.first = -1
    record.shadow = -1
    record.grade = grade
    record.liquidated_ts = NEVER
    record.anchor_ts = NEVER
    return pool


@njit(cache=True)
def position_of(s: Arrays, account: int, market: int, mode: int, grade: int) -> tuple[int, bool]:
    """Return the position slot of an account in a market and mode, and whether it is new."""
    key = (np.int64(account) << 21) | (np.int64(market) << 1) | np.int64(mode)
    index = _probe(s.position_keys, key)
    if s.position_keys[index] == key:
        return np.int64(s.position_slots[index]), False
    slot = s.counters[POSITIONS]
    s.counters[POSITIONS] += 1
    s.position_keys[index] = key
    s.position_slots[index] = slot
    isolated_market = market if mode == 1 else -1
    pool = pool_of(s, account, s.markets[market].ledger, isolated_market, grade)
    record = s.positions[slot]
    record.pool = pool
    record.market = market
    record.mode = mode
    record.next = s.pools[pool].first
    s.pools[pool].first = slot
    s.shadow_of[slot] = -1
    return slot, True


class State:
    """Owner of the arrays; grows them between windows and maps pseudo accounts to ids.

    Args:
        markets: Markets of the tape, by id.
        ledgers: (dex, currency) of the tape, by id.
        account_names: Accounts of the tape, by id; pseudo accounts are appended.
        mark_kinds: Per market the bit mask of price kinds that set its mark.
        fills_set_mark: Per market whether trades set its mark.
        plan: Object with the tier arrays and ``breach_at_equal`` (a compiled rule book).
        watching: Whether breaches are searched for (the rules decide who is liquidated).
    """

    def __init__(
        self,
        markets: Sequence[Market],
        ledgers: Sequence[tuple[str, str]],
        account_names: Sequence[str],
        *,
        mark_kinds: Sequence[int],
        fills_set_mark: Sequence[bool],
        plan: Any,
        watching: bool,
        anchoring: bool,
        grade: Grade,
    ) -> None:
        self.markets = list(markets)
        self.ledgers = list(ledgers)
        self.account_names = list(account_names)
        self.default_grade = int(grade)
        self._ids = {name: i for i, name in enumerate(self.account_names)}
        records = np.zeros(len(markets), MARKET)
        for market, record in zip(markets, records, strict=True):
            record["ledger"] = market.ledger
            record["spot"] = market.payoff == Payoff.SPOT
            record["inverse"] = market.payoff == Payoff.INVERSE
            record["mark_factor"] = 10 ** (market.mark_scale - market.price_scale)
            record["mark_ts"] = record["quoted_ts"] = NEVER
            record["mark_kinds"] = mark_kinds[market.id]
            record["fills_set_mark"] = fills_set_mark[market.id]
            if market.payoff != Payoff.SPOT:
                for name, scale in (("price", market.price_scale), ("mark", market.mark_scale)):
                    exact = conversion(
                        market.payoff, market.multiplier, scale, market.qty_scale, market=market.name
                    )
                    record[f"{name}_num"], record[f"{name}_den"] = exact.num, exact.den
        counters = np.zeros(COUNTERS, np.int64)
        counters[WATCHING] = watching
        counters[ANCHORING] = anchoring
        heaps = 2 * len(markets)
        self.arrays = Arrays(
            pools=np.zeros(0, POOL),
            positions=np.zeros(0, POSITION),
            markets=records,
            counters=counters,
            external=np.zeros(len(ledgers), np.int64),
            fees_pool=np.full(len(ledgers), -1, np.int32),
            unexplained_pool=np.full(len(ledgers), -1, np.int32),
            pool_keys=np.full(16, -1, np.int64),
            pool_slots=np.zeros(16, np.int32),
            position_keys=np.full(16, -1, np.int64),
            position_slots=np.zeros(16, np.int32),
            dirty=np.zeros(0, np.int32),
            breaches=np.zeros(0, np.int32),
            shadow_of=np.zeros(0, np.int32),
            tier_first=np.ascontiguousarray(plan.tier_first, np.int64),
            tier_from=np.ascontiguousarray(plan.tier_from, np.int64),
            tier_rate=np.ascontiguousarray(plan.tier_rate, np.int64),
            tier_deduction=np.ascontiguousarray(plan.tier_deduction, np.int64),
            margin=np.array([1 if plan.breach_at_equal else 0], np.int64),
            heap_key=np.zeros(heaps, np.int64),
            heap_position=np.zeros(heaps, np.int32),
            heap_start=np.arange(heaps + 1, dtype=np.int64),
            heap_size=np.zeros(heaps, np.int64),
        )
        self.external_flow = [0] * len(ledgers)
        self._add_pseudo_accounts()

    def account(self, name: str) -> int:
        """Return the id of an account, appending a pseudo account that is not known yet."""
        known = self._ids.get(name)
        if known is None:
            known = self._ids[name] = len(self.account_names)
            self.account_names.append(name)
        return known

    def pseudo_pool(self, name: str, ledger: int) -> int:
        """Return the pool of a pseudo account: unlimited credit, never risk-checked."""
        self.reserve(1)
        pool = int(pool_of(self.arrays, self.account(name), ledger, -1, Grade.KNOWN))
        self.arrays.pools[pool]["special"] = 1
        return pool

    def pseudo_position(self, name: str, market: int) -> int:
        """Return the position slot of a pseudo account in a market."""
        self.pseudo_pool(name, self.markets[market].ledger)
        slot, _ = position_of(self.arrays, self.account(name), market, 0, Grade.KNOWN)
        return int(slot)

    def _add_pseudo_accounts(self) -> None:
        for ledger in range(len(self.ledgers)):
            self.arrays.fees_pool[ledger] = self.pseudo_pool("@fees", ledger)
            self.arrays.unexplained_pool[ledger] = self.pseudo_pool("@unexplained", ledger)
        for market in self.markets:
            if market.payoff == Payoff.SPOT:
                continue
            record = self.arrays.markets[market.id]
            record["unseen"] = self.pseudo_position("@unseen", market.id)
            record["book"] = self.pseudo_position("@book", market.id)
            record["funding_pool"] = self.pseudo_pool(f"@funding:{market.name}", market.ledger)

    def reserve(self, rows: int) -> None:
        """Make room for the pools and positions that ``rows`` more events may need."""
        counters = self.arrays.counters
        self._reserve_pools(int(counters[POOLS]) + 2 * rows)
        self._reserve_positions(int(counters[POSITIONS]) + rows)

    def _reserve_pools(self, need: int) -> None:
        arrays = self.arrays
        if need > len(arrays.pools):
            size = _power_of_two(need)
            self.arrays = arrays = arrays._replace(
                pools=_grown(arrays.pools, size),
                dirty=_grown(arrays.dirty, size),
                breaches=_grown(arrays.breaches, size),
            )
        if 2 * need > len(arrays.pool_keys):
            keys, slots = _rehashed(arrays.pool_keys, arrays.pool_slots, _power_of_two(2 * need))
            self.arrays = arrays._replace(pool_keys=keys, pool_slots=slots)

    def _reserve_positions(self, need: int) -> None:
        arrays = self.arrays
        if need > len(arrays.positions):
            size = _power_of_two(need)
            self.arrays = arrays = arrays._replace(
                positions=_grown(arrays.positions, size), shadow_of=_grown(arrays.shadow_of, size)
            )
        if 2 * need > len(arrays.position_keys):
            keys, slots = _rehashed(arrays.position_keys, arrays.position_slots, _power_of_two(2 * need))
            self.arrays = arrays._replace(position_keys=keys, position_slots=slots)

    def grow_heap(self, heap: int) -> None:
        """Double the room of one wake-up heap."""
        arrays = self.arrays
        sizes = np.diff(arrays.heap_start)
        sizes[heap] = max(16, 2 * sizes[heap])
        start = np.concatenate(([0], np.cumsum(sizes)))
        key = np.zeros(start[-1], np.int64)
        position = np.zeros(start[-1], np.int32)
        for h, (new, old, used) in enumerate(zip(start, arrays.heap_start, arrays.heap_size, strict=False)):
            key[new : new + used] = arrays.heap_key[old : old + used]
            position[new : new + used] = arrays.heap_position[old : old + used]
            del h
        self.arrays = arrays._replace(heap_key=key, heap_position=position, heap_start=start)

    def drain_external(self) -> None:
        """Move the flows booked by compiled code into Python integers, which cannot overflow."""
        for ledger, amount in enumerate(self.arrays.external.tolist()):
            self.external_flow[ledger] += amount
        self.arrays.external[:] = 0

    @property
    def pools(self) -> Array:
        """The pools made so far, as records."""
        return self.arrays.pools[: self.arrays.counters[POOLS]]

    @property
    def positions(self) -> Array:
        """The positions made so far, as records."""
        return self.arrays.positions[: self.arrays.counters[POSITIONS]]


def mark_sources(kind_rows: dict[tuple[int, int], int], markets: Sequence[Market], *, anchoring: bool) -> tuple[
    list[int], list[bool]
]:
    """Choose what sets each market's mark, from the counts of rows per (market, kind).

    ``mark`` rows if the tape has them, else ``last`` rows, else trades; prices printed with forced
    fills always; prices implied by recorded liquidations only if the run is anchored to them.
    """
    kinds, from_fills = [], []
    for market in markets:
        has = {kind for (m, kind), rows in kind_rows.items() if m == market.id and rows}
        mask = 1 << PriceKind.EVENT
        if anchoring:
            mask |= 1 << PriceKind.IMPLIED
        if PriceKind.MARK in has:
            mask |= 1 << PriceKind.MARK
        elif PriceKind.LAST in has:
            mask |= 1 << PriceKind.LAST
        kinds.append(mask)
        from_fills.append(PriceKind.MARK not in has and PriceKind.LAST not in has)
    return kinds, from_fills


def _power_of_two(need: int) -> int:
    return 1 << max(4, (need - 1).bit_length())


def _grown(array: Array, size: int) -> Array:
    grown = np.zeros(size, array.dtype)
    grown[: len(array)] = array
    return grown


@njit(cache=True)
def _fill_table(keys: Array, slots: Array, new_keys: Array, new_slots: Array) -> None:
    for i in range(len(keys)):
        if keys[i] != -1:
            index = _probe(new_keys, keys[i])
            new_keys[index] = keys[i]
            new_slots[index] = slots[i]


def _rehashed(keys: Array, slots: Array, size: int) -> tuple[Array, Array]:
    new_keys = np.full(size, -1, np.int64)
    new_slots = np.zeros(size, np.int32)
    _fill_table(keys, slots, new_keys, new_slots)
    return new_keys, new_slots
