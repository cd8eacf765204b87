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

from replay.exact import conversion
from replay.kernels import i64, kernel
from replay.rules.plan import ALLOCATIONS, BY_NOTIONAL
from replay.tape.read import Market
from replay.tape.schema import Grade, Payoff, PriceKind
from replay.units import RATE_ONE

Array = npt.NDArray[Any]

_CACHE_LINE = 64
_PSEUDO = "@"  # the names of pseudo accounts begin with it


def _whole_lines(fields: list[tuple[str, str]]) -> np.dtype[np.void]:
    """Return a record type padded to whole cache lines; the first fields share the first line."""
    packed: Any = np.dtype(fields, align=True)
    whole: Any = {
        "names": packed.names,
        "formats": [packed[name] for name in packed.names],
        "offsets": [packed.fields[name][1] for name in packed.names],
        "itemsize": -(-packed.itemsize // _CACHE_LINE) * _CACHE_LINE,
    }
    return np.dtype(whole, align=True)


POOL = _whole_lines(
    [
        ("cash", "i8"),
        ("reserve", "i8"),  # cash + sum of floors: the certificate of loop/watch.py
        ("turnover", "i8"),  # sum of |value| of voluntary and forced fills, for reports
        ("account", "i4"),
        ("market", "i4"),  # of an isolated pool, else -1
        ("first", "i4"),  # head of the chain of its positions, newest first
        ("shadow", "i4"),  # shadow record of its first forced fill in a step
        ("ledger", "i2"),
        ("grade", "u1"),
        ("special", "u1"),  # pseudo account: unlimited credit, never risk-checked
        ("dirty", "u1"),
        ("in_breach", "u1"),  # at the end of the current step: no winner of it
        ("waiting", "u1"),  # in liquidation: judged when a mark moves or something is booked to it
        ("touched", "u1"),  # liquidated or deleveraged by the rules
        ("valued", "i8"),  # counters[MARKS_VERSION] for which Arrays.valuations holds; negative: has no value
        ("episode", "i4"),  # its liquidation, see loop/episodes.py; -1 if it is in none
        ("snapshot", "i4"),  # Arrays.snapshots at whose marks it was last valued for a ranking; 0: none
        ("anchor_ts", "i8"),
        ("anchored", "i8"),  # booked against @unexplained in the step `anchor_ts`
        ("liquidated_ts", "i8"),  # last liquidation by the rules
        ("cooldown_until", "i8"),  # until then book orders of the pool are whole
        ("deferred", "u1"),  # in breach, and something of it waits for its turn: judged in the next step
        ("passed_over", "u1"),  # in breach, and all its positions are in guarded markets: nothing acts on it
    ]
)
POSITION = _whole_lines(
    [
        ("size", "i8"),
        ("cost", "i8"),
        ("recorded_size", "i8"),
        ("floor", "i8"),
        ("lo", "i8"),  # the band of marks for which floor holds; void if hi == 0
        ("hi", "i8"),
        ("pool", "i4"),
        ("next", "i4"),
        ("account", "i4"),
        ("market", "i2"),
        ("mode", "u1"),
        ("flags", "u1"),  # ENTRY_UNKNOWN, LISTED
    ]
)
ENTRY_UNKNOWN, LISTED = 1, 2
"""Of a position: the tape does not tell its entry price; it has not changed since loop/holders.py looked at it."""

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
        ("tick", "i8"),
        ("lot", "i8"),
        ("mark_kinds", "i8"),  # bit mask of PriceKind that set the mark
        ("oracle", "i8"),  # the last price of oracle_kind, 0 before the first
        ("oracle_kind", "i8"),  # PriceKind of the oracle, -1 if the tape has neither oracle nor index
        ("funding_pool", "i4"),
        ("unseen", "i4"),  # position slots of the pseudo accounts
        ("book", "i4"),
        ("positions", "i4"),  # how many slots there are of it
        ("changed", "i4"),  # last changed of its positions that are not LISTED, see Arrays.changed; -1: none
        ("ledger", "i2"),
        ("inverse", "u1"),
        ("spot", "u1"),
        ("has_mark", "u1"),
        ("fills_set_mark", "u1"),
        ("first_tier", "i4"),  # its maintenance tiers are tiers[first_tier:end_tier]
        ("end_tier", "i4"),
        ("own_margin", "u1"),  # whether any of the columns that follow says something
        ("margin_basis", "u1"),  # what picks the tier, see replay.rules.plan.Plan
        ("growth", "i8"),  # what a unit of size adds to the rate, in 1e-12
        ("root", "i8"),  # factor of the root of the size, in 1e-12
        ("unit_num", "i8"),  # units of quantity in a unit of size
        ("unit_den", "i8"),
        ("least", "i8"),  # least maintenance of a position
        ("short_rate", "i8"),  # rate of shorts, in 1e-12; 0: that of the tier
        ("average", "i8"),  # of the mark, in its units, see loop/guard.py
        ("average_rest", "i8"),  # and in 1e-8 of one
        ("slow_average", "i8"),
        ("slow_rest", "i8"),
        ("average_ms", "i8"),  # when they were updated, in ms
        ("held_up", "u1"),  # whether pools in breach are passed over for the mark
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
        ("next", "i4"),  # next record of the same pool and step
        ("kind", "u1"),
        ("known", "u1"),  # whether the pool's equity is: by its grade, or because it was anchored just now
        ("valued", "u1"),  # 0: a market of the pool has no mark yet, equity is not known
    ],
    align=True,
)
"""What the replay held of a position just before the recorded forced fills of a step."""

LEDGER = np.dtype(
    [
        ("external", "i8"),  # flows since the host last drained them
        ("fees_pool", "i4"),
        ("unexplained_pool", "i4"),
    ],
    align=True,
)
TIER = np.dtype(
    [
        ("start", "i8"),
        ("rate", "i8"),  # in 1e-12
        ("deduction", "i8"),
        ("num", "i8"),  # the rate in lowest terms: num / den
        ("den", "i8"),
    ],
    align=True,
)
CELL = np.dtype([("key", "i8"), ("slot", "i8")], align=True)
PLACE = np.dtype([("hash", "u4"), ("slot", "i4")], align=True)
HEAP = np.dtype([("start", "i8"), ("room", "i8"), ("size", "i8")], align=True)
ENTRY = np.dtype([("key", "i8"), ("position", "i8")], align=True)
HOLDERS = np.dtype([("start", "i8"), ("room", "i8"), ("held", "i8")], align=True)
"""Where the open positions of a market are listed, and how many they are."""
LISTED_POSITION = np.dtype([("slot", "i8"), ("break_even", "f8")], align=True)
"""An open position and the mark at which its value is its cost; negative for shorts."""
CANDIDATE = np.dtype(
    [
        ("position", "i8"),
        ("pool", "i8"),
        ("size", "i8"),  # unsigned
        ("cost", "i8"),
        ("value", "i8"),  # signed, at the mark
        ("equity", "i8"),  # of the pool, or at least
        ("notional", "i8"),  # of the pool, or at most
        ("share", "i8"),  # what of the equity the position's own bankruptcy price would use up, or at least
        ("maintenance", "i8"),  # of the position
        ("pool_maintenance", "i8"),  # of the pool, or at most
        ("wallet", "i8"),  # cash of the pool
        ("known", "i8"),  # whether its equity is
        ("standing", "i8"),
        ("score", "f8"),  # or at most
    ]
)
"""A position that may be closed; money in atoms. Share and maintenance are zero where nothing asks for them."""
BREAK = np.dtype(
    [("ts", "i8"), ("seq", "i8"), ("expected", "i8"), ("found", "i8"), ("account", "i4"), ("market", "i4")],
    align=True,
)

# Slots of Arrays.counters.
(
    POOLS,
    POSITIONS,
    DIRTY,
    SHADOWS,
    BREAKS,
    BREACHES,
    WATCHING,
    ANCHORING,
    PENDING,
    STEP_TS,
    STEPS,
    OPENED,
    CLIPPED,
    DROPPED,
    FAULT,
    FAULT_POOL,
    FAULT_MARKET,
    FULL_HEAP,
    RECHECKS,
    SPOT_ROWS,
    CHAINED,
    UNMARKED,
    LEAST_SLACK,
    ATTENDING,
    BUCKET_NS,
    WAITING,
    MARKS_MOVED,
    RESTORED,
    EXECUTING,
    MARKS_VERSION,
    RENEWED,
    SNAPSHOT,
    SNAPSHOT_VERSION,
    SNAPSHOT_TS,
    ALLOCATION,
    EXIT_FEE,
    PERIOD_NS,
    NEXT_ROUND,
    GUARD_MS,
    GUARD_DIVERGENCE,
    GUARD_CLAMP,
    GUARD_CLAMP_MS,
    IN_STEP,
    FORCED_STEPS,
    RANKINGS,
    VALUED_TO_RANK,
    COUNTERS,
) = range(47)

# Values of counters[FAULT].
NO_FAULT, CELL_OVERFLOW, NO_MARK_FOR_FUNDING, BAD_PRICE = 0, 1, 2, 3

NEVER = -(1 << 63)
_KNOWN = int(Grade.KNOWN)
GUESSED = 1_024
"""Rows whose positions are looked up at once: what they touch fits the second cache of a core."""

SNAPSHOTS = 4_096
"""Snapshots of all marks that are kept, the last ones; the last was taken at counters[SNAPSHOT_TS]."""

TOUCHED = 64
"""Pools whose positions are touched at once, see bring_near."""

VALUED = 8
"""Columns of Arrays.valuations: a cache line, not all of which is used."""

BUCKETS = 64
"""Buckets of time in which traded volume is kept; together they are the window of the depth rule."""


class Arrays(NamedTuple):
    """The state as compiled code sees it; see the dtypes above for the columns of the records."""

    pools: Array
    positions: Array
    markets: Array
    counters: Array  # int64[COUNTERS]
    ledgers: Array
    changed: Array  # int32[positions]: the position that changed before it in its market; -1: none
    places: Array  # int32[positions]: see loop/holders.py, as the two that follow
    holders: Array  # HOLDERS records by market
    listed: Array  # LISTED_POSITION records of all markets
    pool_table: Array  # open addressing, key -1 is free
    position_table: Array  # likewise, slot -1 is free; the key itself stands in the position
    dirty: Array  # int32: pools to re-check at the end of the step
    breaches: Array  # int32: pools found in breach, ascending
    waiting: Array  # int32: pools in liquidation, see POOL.waiting
    tiers: Array
    heaps: Array  # heap 2m wakes holders of market m when its mark falls, heap 2m+1 when it rises
    entries: Array  # of all heaps
    valuations: Array  # int64[pools, VALUED]: see margin.valued_pool
    snapshots: Array  # int64[SNAPSHOTS, markets]: marks; snapshot n is row n % SNAPSHOTS
    moves: Array  # float64[SNAPSHOTS, 3]: see candidates._largest_moves
    candidates: Array  # CANDIDATE records to rank in, one more than the longest list has room for
    volumes: Array  # int64[markets, BUCKETS, 2]: number of the bucket of time, quantity traded in it


@kernel
def _hash(key: int) -> int:
    """Spread a key over 32 bits."""
    hashed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    hashed = (hashed ^ (hashed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return i64(hashed >> np.uint64(32))


@kernel
def _probe(table: Array, key: int) -> int:
    """Return the index of a key in an open-addressing table, or of the free cell where it belongs."""
    mask = len(table) - 1
    index = _hash(key) & mask
    while table[index].key != -1 and table[index].key != key:
        index = (index + 1) & mask
    return index


@kernel
def _pool_key(account: int, ledger: int, market: int) -> int:
    return (i64(account) << 32) | (i64(ledger) << 20) | i64(market + 1)


@kernel
def _position_hash(account: int, market: int, mode: int) -> int:
    return _hash((i64(account) << 21) | (i64(market) << 1) | i64(mode))


@kernel
def _place_of(s: Arrays, hashed: int, account: int, market: int, mode: int) -> int:
    """Return the index of a position in its table, or of the free place where it belongs."""
    mask = len(s.position_table) - 1
    index = hashed & mask
    while True:
        place = s.position_table[index]
        if place.slot < 0:
            return index
        if place.hash == hashed:
            p = s.positions[place.slot]
            if p.account == account and p.market == market and p.mode == mode:
                return index
        index = (index + 1) & mask


@kernel
def known_position(s: Arrays, account: int, market: int, mode: int) -> int:
    """Return the position slot of an account in a market and mode, -1 if there is none yet."""
    place = _place_of(s, _position_hash(account, market, mode), account, market, mode)
    return i64(s.position_table[place].slot)


@kernel
def guess_positions(table: Array, accounts: Array, markets: Array, modes: Array, guesses: Array) -> int:
    """Guess the position of each row from the table alone; any position where it holds none.

    It may run beside the loop, which adds positions meanwhile: a guess is checked where it is used
    (:func:`check_guesses`), so a wrong one costs time and never changes a result.

    Returns:
        A sum over what was touched, without meaning: without it the pass would be compiled away.
    """
    mask = len(table) - 1
    touched = i64(0)
    for first in range(0, len(accounts), GUESSED):
        end = min(first + GUESSED, len(accounts))
        for i in range(first, end):
            guesses[i] = _position_hash(i64(accounts[i]), i64(markets[i]), i64(modes[i]))
        # Bring the places near: no row waits for another, and the fewer instructions between two of them,
        # the more of them the processor fetches at a time.
        for i in range(first, end):
            touched += table[np.uint64(guesses[i] & mask)].slot
        for i in range(first, end):
            hashed = guesses[i]
            index = hashed & mask
            while table[index].slot >= 0 and table[index].hash != hashed:
                index = (index + 1) & mask
            guesses[i] = max(i64(table[index].slot), 0)
    return touched


@kernel
def check_guesses(
    s: Arrays,
    accounts: Array,
    markets: Array,
    modes: Array,
    first: int,
    end: int,
    slots: Array,
    near: Array,
) -> int:
    """Turn the guesses of rows ``[first, end)`` into their positions, -1 where there is none yet.

    The positions and pools of the rows are brought near on the way, before they are needed.

    Args:
        s: The state.
        accounts: Accounts of the rows.
        markets: Their markets.
        modes: Their margin modes.
        first: First row.
        end: Row behind the last, at most :data:`GUESSED` further.
        slots: Guesses, each an existing position; overwritten with what is true.
        near: int64[GUESSED] to work in.

    Returns:
        A sum over what was touched, without meaning.
    """
    touched = i64(0)
    if first < 0:  # never: it tells the compiler that no index counts from the back
        return touched
    for i in range(first, end):
        touched += s.positions[np.uint64(slots[i])].account
    for i in range(first, end):
        p = s.positions[np.uint64(slots[i])]
        near[i - first] = p.pool
        if p.account != accounts[i] or p.market != markets[i] or p.mode != modes[i]:
            account, market, mode = i64(accounts[i]), i64(markets[i]), i64(modes[i])
            slots[i] = known_position(s, account, market, mode)
            if slots[i] >= 0:
                near[i - first] = s.positions[slots[i]].pool
            else:
                isolated_market = market if mode == 1 else -1
                key = _pool_key(account, i64(s.markets[market].ledger), isolated_market)
                near[i - first] = max(s.pool_table[_probe(s.pool_table, key)].slot, 0)
    for i in range(end - first):
        touched += s.pools[np.uint64(near[i])].cash
    return touched


@kernel
def bring_near(s: Arrays, pools: Array, first: int, end: int, cursors: Array) -> int:
    """Touch the positions of pools ``[first, end)`` before they are walked one pool after the other.

    A chain of positions is a chain of waits for memory; those of many pools overlap.

    Args:
        s: The state.
        pools: Pools.
        first: First of them.
        end: Behind the last, at most ``len(cursors)`` further.
        cursors: To work in.

    Returns:
        A sum over what was touched, without meaning.
    """
    touched, walking = i64(0), i64(0)
    for i in range(first, end):
        cursors[walking] = s.pools[np.uint64(pools[i])].first
        walking += cursors[walking] >= 0
    while walking > 0:
        still = 0
        for k in range(walking):
            p = s.positions[np.uint64(cursors[k])]
            touched += p.size
            cursors[still] = p.next
            still += cursors[still] >= 0
        walking = still
    return touched


@kernel
def pool_of(s: Arrays, account: int, ledger: int, market: int, grade: int) -> int:
    """Return the pool of an account in a ledger (``market`` -1) or isolated in a market, making it if new."""
    key = _pool_key(account, ledger, market)
    cell = s.pool_table[_probe(s.pool_table, key)]
    if cell.key == key:
        return cell.slot
    pool = s.counters[POOLS]
    s.counters[POOLS] += 1
    cell.key = key
    cell.slot = pool
    record = s.pools[pool]
    record.account = account
    record.ledger = ledger
    record.market = market
    record.first = -1
    record.shadow = -1
    record.episode = -1
    record.grade = grade
    record.liquidated_ts = NEVER
    record.anchor_ts = NEVER
    return pool


@kernel
def position_of(s: Arrays, account: int, market: int, mode: int, grade: int) -> tuple[int, bool]:
    """Return the position slot of an account in a market and mode, and whether it is new."""
    hashed = _position_hash(account, market, mode)
    place = s.position_table[_place_of(s, hashed, account, market, mode)]
    if place.slot >= 0:
        return i64(place.slot), False
    slot = s.counters[POSITIONS]
    s.counters[POSITIONS] += 1
    place.hash = hashed
    place.slot = slot
    isolated_market = market if mode == 1 else -1
    pool = pool_of(s, account, i64(s.markets[market].ledger), isolated_market, grade)
    record = s.positions[slot]
    record.pool = pool
    record.account = account
    record.market = market
    record.mode = mode
    record.next = s.pools[pool].first
    s.pools[pool].first = slot
    s.markets[market].positions += 1
    chain_changed(s, slot)
    return slot, True


@kernel
def chain_changed(s: Arrays, slot: int) -> None:
    """Put a position on the chain of the changed ones of its market, on which it is not yet."""
    m = s.markets[s.positions[slot].market]
    s.changed[slot] = m.changed
    m.changed = slot


@kernel
def note_change(s: Arrays, slot: int) -> None:
    """See that a position whose size or cost changes is on the chain of its market."""
    p = s.positions[slot]
    if p.flags & LISTED:
        p.flags ^= LISTED
        chain_changed(s, slot)


class State:
    """Owner of the arrays; grows them between windows and maps pseudo accounts to ids.

    Args:
        markets: Markets of the tape, by id.
        ledgers: (dex, currency) of the tape, by id.
        account_names: Accounts of the tape, by id; pseudo accounts are appended.
        mark_kinds: Per market the bit mask of price kinds that set its mark.
        oracle_kinds: Per market the price kind of its oracle, -1 for none; left out: none has one.
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
        oracle_kinds: Sequence[int] | None = None,
        fills_set_mark: Sequence[bool],
        plan: Any,
        watching: bool,
        anchoring: bool,
        grade: Grade,
        bucket_ns: int = 0,
    ) -> None:
        self.markets = list(markets)
        self.ledgers = list(ledgers)
        self.account_names = list(account_names)
        self.default_grade = int(grade)
        self._ids = {name: i for i, name in enumerate(self.account_names) if name[:1] == _PSEUDO}
        self._knows_all = False
        self.pseudo_accounts = np.array(list(self._ids.values()), np.int64)
        records = np.zeros(len(markets), MARKET)
        records["changed"] = -1
        for market, record in zip(markets, records, strict=True):
            record["ledger"] = market.ledger
            record["spot"] = market.payoff == Payoff.SPOT
            record["inverse"] = market.payoff == Payoff.INVERSE
            record["mark_factor"] = 10 ** (market.mark_scale - market.price_scale)
            record["tick"], record["lot"] = market.tick, market.lot
            record["mark_ts"] = record["quoted_ts"] = NEVER
            record["mark_kinds"] = mark_kinds[market.id]
            record["oracle_kind"] = -1 if oracle_kinds is None else oracle_kinds[market.id]
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
        counters[BUCKET_NS] = bucket_ns
        counters[LEAST_SLACK] = 1 if plan.breach_at_equal else 0
        counters[MARKS_VERSION] = 1
        counters[ALLOCATION] = ALLOCATIONS.index(plan.allocation)
        counters[EXIT_FEE] = plan.exit_fee_rate
        counters[PERIOD_NS] = plan.period_ns if watching else 0
        counters[NEXT_ROUND] = NEVER
        if watching and plan.stale_guard is not None:
            counters[GUARD_MS] = plan.stale_guard.window_ms
            counters[GUARD_DIVERGENCE] = plan.stale_guard.divergence
            counters[GUARD_CLAMP] = plan.stale_guard.clamp_rate
            counters[GUARD_CLAMP_MS] = plan.stale_guard.clamp_window_ms
        records["first_tier"] = plan.tier_first[:-1]
        records["end_tier"] = plan.tier_first[1:]
        _own_margins(records, plan)
        tiers = np.zeros(len(plan.tier_from), TIER)
        tiers["start"], tiers["rate"], tiers["deduction"] = (
            plan.tier_from,
            plan.tier_rate,
            plan.tier_deduction,
        )
        tiers["den"] = RATE_ONE // np.gcd(plan.tier_rate, RATE_ONE)
        tiers["num"] = plan.tier_rate // (RATE_ONE // tiers["den"])
        self.arrays = Arrays(
            pools=_zeros(0, POOL),
            positions=_zeros(0, POSITION),
            changed=np.zeros(0, np.int32),
            places=np.zeros(0, np.int32),
            holders=np.zeros(len(markets), HOLDERS),
            listed=np.zeros(0, LISTED_POSITION),
            markets=records,
            counters=counters,
            ledgers=np.zeros(len(ledgers), LEDGER),
            pool_table=_empty_table(16),
            position_table=_empty_places(16),
            dirty=np.zeros(0, np.int32),
            breaches=np.zeros(0, np.int32),
            waiting=np.zeros(0, np.int32),
            tiers=tiers,
            heaps=np.zeros(2 * len(markets), HEAP),
            entries=np.zeros(0, ENTRY),
            valuations=np.zeros((0, VALUED), np.int64),
            snapshots=np.zeros((SNAPSHOTS, len(markets)), np.int64),
            moves=np.zeros((SNAPSHOTS, 3)),
            candidates=np.zeros(0, CANDIDATE),
            volumes=np.full((len(markets), BUCKETS, 2), -1, np.int64),
        )
        self.external_flow = [0] * len(ledgers)
        self._add_pseudo_accounts()

    def account(self, name: str) -> int:
        """Return the id of an account, appending one that is not known yet.

        Mostly it is a pseudo account, so the others are looked up only when one of them is asked for.
        """
        if name not in self._ids and not self._knows_all and name[:1] != _PSEUDO:
            self._ids = {known: i for i, known in enumerate(self.account_names)}
            self._knows_all = True
        if name not in self._ids:
            self._ids[name] = len(self.account_names)
            self.account_names.append(name)
        return self._ids[name]

    def pseudo_pool(self, name: str, ledger: int) -> int:
        """Return the pool of a pseudo account: unlimited credit, never risk-checked."""
        self.reserve(1)
        pool = int(pool_of(self.arrays, self.account(name), ledger, -1, _KNOWN))
        self.arrays.pools[pool]["special"] = 1
        return pool

    def pseudo_position(self, name: str, market: int) -> int:
        """Return the position slot of a pseudo account in a market."""
        self.pseudo_pool(name, self.markets[market].ledger)
        slot, _ = position_of(self.arrays, self.account(name), market, 0, _KNOWN)
        return int(slot)

    def _add_pseudo_accounts(self) -> None:
        for ledger in range(len(self.ledgers)):
            self.arrays.ledgers[ledger]["fees_pool"] = self.pseudo_pool("@fees", ledger)
            self.arrays.ledgers[ledger]["unexplained_pool"] = self.pseudo_pool("@unexplained", ledger)
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
        self.reserve_positions(int(counters[POSITIONS]) + rows)

    def _reserve_pools(self, need: int) -> None:
        arrays = self.arrays
        if need > len(arrays.pools):
            size = _power_of_two(need)
            self.arrays = arrays = arrays._replace(
                pools=_grown(arrays.pools, size),
                dirty=_grown(arrays.dirty, size),
                breaches=_grown(arrays.breaches, size),
                waiting=_grown(arrays.waiting, size),
                valuations=_grown(arrays.valuations.ravel(), VALUED * size).reshape(-1, VALUED),
            )
        if 2 * need > len(arrays.pool_table):
            table = _empty_table(_power_of_two(2 * need))
            _move_cells(arrays.pool_table, table)
            self.arrays = arrays._replace(pool_table=table)

    def reserve_positions(self, need: int) -> None:
        """Make room for so many positions; what is not used of it takes no memory of the machine."""
        arrays = self.arrays
        if need > len(arrays.positions):
            size = _power_of_two(need)
            self.arrays = arrays = arrays._replace(
                positions=_grown(arrays.positions, size),
                changed=_grown(arrays.changed, size),
                places=_grown(arrays.places, size),
            )
        if 2 * need > len(arrays.position_table):
            larger = _empty_places(_power_of_two(2 * need))
            _move_places(arrays.position_table, larger)
            self.arrays = arrays._replace(position_table=larger)

    def grow_heap(self, heap: int) -> None:
        """Move a wake-up heap to a place of twice its room, at least of two entries for each position of its market.

        Places are taken one behind the other; where they end all heaps are moved together, with as much room
        behind them.
        """
        heaps, entries = self.arrays.heaps, self.arrays.entries
        least = np.maximum(64, np.repeat(2 * self.arrays.markets["positions"], 2))
        room = max(2 * int(heaps["room"][heap]), int(least[heap]))
        end = int((heaps["start"] + heaps["room"]).max())
        if end + room <= len(entries):
            used = entries[heaps["start"][heap] :][: heaps["size"][heap]]
            copy_records(used, entries[end:])
            heaps["start"][heap], heaps["room"][heap] = end, room
            return
        rooms = np.maximum(least, heaps["room"])
        rooms[heap] = room
        moved = np.empty(2 * int(rooms.sum()), ENTRY)
        starts = np.cumsum(rooms) - rooms
        for before, to in zip(heaps, starts.tolist(), strict=True):
            used = entries[before["start"] :][: before["size"]]
            copy_records(used, moved[to:])
        heaps["start"], heaps["room"] = starts, rooms
        self.arrays = self.arrays._replace(entries=moved)

    def make_lists(self) -> None:
        """Give the list of each market's open positions room for all that it has had, and for half as many more."""
        old, listed = self.arrays.holders, self.arrays.listed
        holders, need = old.copy(), self.arrays.markets["positions"]
        grows = 2 * old["room"] < 3 * need
        holders["room"][grows] = 2 * need[grows]
        holders["start"] = np.cumsum(holders["room"]) - holders["room"]
        moved = np.empty(int(holders["room"].sum()), LISTED_POSITION)
        for before, after in zip(old, holders, strict=True):
            copy_records(listed[before["start"] :][: before["held"]], moved[after["start"] :])
        candidates = np.empty(int(holders["room"].max()) + 1, CANDIDATE)
        self.arrays = self.arrays._replace(holders=holders, listed=moved, candidates=candidates)

    def drain_external(self) -> None:
        """Move the flows booked by compiled code into Python integers, which cannot overflow."""
        for ledger, amount in enumerate(self.arrays.ledgers["external"].tolist()):
            self.external_flow[ledger] += amount
        self.arrays.ledgers["external"] = 0

    @property
    def pools(self) -> Array:
        """The pools made so far, as records."""
        return self.arrays.pools[: self.arrays.counters[POOLS]]

    @property
    def positions(self) -> Array:
        """The positions made so far, as records."""
        return self.arrays.positions[: self.arrays.counters[POSITIONS]]


def mark_sources(
    kind_rows: dict[tuple[int, int], int], markets: Sequence[Market], *, anchoring: bool
) -> tuple[list[int], list[bool]]:
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


def _own_margins(records: Array, plan: Any) -> None:
    """Write what a plan says of maintenance beside tiers by notional."""
    if plan.margin_basis is None:
        return
    records["margin_basis"], records["growth"] = plan.margin_basis, plan.margin_growth
    records["root"], records["least"] = plan.margin_root, plan.margin_least
    records["short_rate"] = plan.margin_short
    records["unit_num"], records["unit_den"] = plan.margin_unit.T
    records["own_margin"] = (
        (plan.margin_basis != BY_NOTIONAL)
        | (plan.margin_growth != 0)
        | (plan.margin_root != 0)
        | (plan.margin_least != 0)
        | (plan.margin_short != 0)
    )


def oracle_sources(kind_rows: dict[tuple[int, int], int], markets: Sequence[Market]) -> list[int]:
    """Choose each market's oracle from the counts of rows per (market, kind): oracle rows, else the index."""
    return [
        next((int(k) for k in (PriceKind.ORACLE, PriceKind.INDEX) if kind_rows.get((m.id, int(k)))), -1)
        for m in markets
    ]


def _power_of_two(need: int) -> int:
    return 1 << max(4, (need - 1).bit_length())


def _zeros(size: int, dtype: Any) -> Array:
    """Return zeros that begin at a cache line, so that a record of one line is read with one miss."""
    item = np.dtype(dtype)
    raw = np.zeros(size * item.itemsize + _CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % _CACHE_LINE
    return raw[start : start + size * item.itemsize].view(item)


def _grown(array: Array, size: int) -> Array:
    grown = _zeros(size, array.dtype)
    copy_records(array, grown)
    return grown


def copy_records(source: Array, target: Array) -> None:
    """Copy records into the first of another array, byte by byte: NumPy would go field by field."""
    target[: len(source)].view(np.uint8)[...] = source.view(np.uint8)


def _empty_table(size: int) -> Array:
    return _all_ones(_zeros(size, CELL))


def _all_ones(table: Array) -> Array:
    """Fill records with -1 in all their fields, byte by byte, as :func:`copy_records` copies them."""
    table.view(np.uint8)[...] = 0xFF
    return table


@kernel
def _move_cells(table: Array, larger: Array) -> None:
    for cell in table:
        if cell.key != -1:
            place = larger[_probe(larger, cell.key)]
            place.key = cell.key
            place.slot = cell.slot


def _empty_places(size: int) -> Array:
    return _all_ones(_zeros(size, PLACE))


@kernel
def _move_places(table: Array, larger: Array) -> None:
    mask = len(larger) - 1
    for place in table:
        if place.slot >= 0:
            index = i64(place.hash) & mask
            while larger[index].slot >= 0:
                index = (index + 1) & mask
            larger[index].hash = place.hash
            larger[index].slot = place.slot
