"""The compiled rules: all that the loop sees of a rule book."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt

BY_NOTIONAL, BY_ENTRY, BY_SIZE = 0, 1, 2
"""What picks the tier of a position: its value at mark, its entry value, or its quantity."""


Allocation = Literal["maintenance_proportional", "isolated", "all"]
ALLOCATIONS: tuple[str, ...] = get_args(Allocation)
"""How a pool's equity is shared over its positions, see ``replay.loop.bankruptcy``."""


OrderSize = Literal[
    "full",
    "step_down",
    "smallest_fix",
    "fraction_of_remaining",
    "fraction_of_original",
    "notional_cap",
    "minimal_to_exit",
]
SIZES: tuple[str, ...] = get_args(OrderSize)
"""How much of a position an order asks for, see :class:`BookOrder`."""

OrderLimit = Literal[
    "none", "bankruptcy", "bankruptcy_band", "mark_band", "oracle_band", "zero_equity", "fillable"
]
LIMITS: tuple[str, ...] = get_args(OrderLimit)
"""The worst price an order takes, see :class:`BookOrder`."""

PositionOrder = Literal["largest_loss", "largest_maintenance"]
ORDERS: tuple[str, ...] = ("", *get_args(PositionOrder))
"""The order of a pool's positions; empty: all at once."""


@dataclass(frozen=True, slots=True)
class StaleGuard:
    """When nothing is liquidated in a market, because its price is far from its average.

    Attributes:
        divergence: How far from the average the price is then at least, in 1e-12 of the average.
        window_ms: Over what time it is an average: an update moves it by the share of this that passed since the last.
        clamp_rate: How far from the slower average a price counts at most in an update, in 1e-12 of that; 0: as it is.
        clamp_window_ms: Over what time the slower one is an average.
    """

    divergence: int
    window_ms: int
    clamp_rate: int = 0
    clamp_window_ms: int = 0


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How much of what a rung asks for may go in a step; nothing is limited where all are 0.

    Attributes:
        step_cap: The most that the rung asks for of a pool in a step, at the mark in atoms; 0: any.
        initial_rate: The share of a position that may be closed as soon as the liquidation began, in 1e-12. It grows by
            the time since over ``full_after_ns``.
        full_after_ns: How long after the liquidation began all may be closed at the latest; 0: at once.
        spared: In atoms: positions that are worth no more, and pools that lack less for their maintenance, do not wait.
    """

    step_cap: int = 0
    initial_rate: int = 0
    full_after_ns: int = 0
    spared: int = 0


@dataclass(frozen=True, slots=True)
class BookOrder:
    """A rung of the ladder: forced orders into the book, one for each position of the pool.

    Attributes:
        level: The rung applies while equity is below ``level[0] / level[1]`` of maintenance.
        size: ``full``; ``step_down``: what brings the position down by ``tiers`` margin tiers, at most to the
            lowest (nothing in that); ``smallest_fix``: by the fewest tiers with which the pool reaches ``exit``, or
            to the lowest; ``fraction_of_remaining`` and ``fraction_of_original``: ``share`` of what the position is
            or was at the first breach, one lot at least; ``notional_cap``: what is worth at most ``cap``, one lot
            at least; ``minimal_to_exit``: the least lots with which the pool reaches ``exit``, position after
            position. What restores is reckoned at the mark, without fees.
        slice_above: Notional in atoms above which only a slice is sent; 0 never slices.
        slice_rate: Share of the position in a slice, in 1e-12.
        cooldown_ns: How long after a filled slice orders of the pool are whole.
        limit: Worst price taken: ``none``; ``bankruptcy``: the bankruptcy price of the position;
            ``bankruptcy_band``, ``mark_band`` and ``oracle_band``: ``limit_bp`` basis points beyond that, the mark or
            the oracle; ``zero_equity``: the price at which the pool has nothing left if this position alone is
            closed; ``fillable``: ``spread * maintenance * (1 - equity / maintenance of the pool)`` from the mark.
        all_or_nothing: Whether an order that cannot fill whole fills nothing.
        surplus_to: Who gets what a fill is better than the bankruptcy price: ``trader`` or ``absorber``.
        fee_rate: Fee of the forced order, in 1e-12 of its value.
        limit_bp: Width of a band, in basis points.
        fee_from_improvement: Whether the fee is at most what a fill is better than the bankruptcy price.
        fee_to_absorber: Whether the absorber has the fee; else @fees.
        tiers: How many tiers ``step_down`` goes.
        share: The share of a fraction, in 1e-12.
        cap: The most that ``notional_cap`` asks for, in atoms.
        exit: Equity over maintenance at which the pool is restored, as a fraction of at least 1.
        spread: Factor of a ``fillable`` price, as a fraction.
        order: Of :data:`ORDERS`: in each step only the first position that asks for something is sent;
            ``minimal_to_exit`` closes in this order.
        after_unfilled: Whether it acts only on positions of which the rung before it did not fill all that it
            asked for in the step.
        rate: How much of what it asks for may go in a step.
    """

    action: ClassVar[str] = "book"

    level: tuple[int, int]
    size: str
    slice_above: int
    slice_rate: int
    cooldown_ns: int
    limit: str
    all_or_nothing: bool
    surplus_to: Literal["trader", "absorber"]
    fee_rate: int
    limit_bp: int = 0
    fee_from_improvement: bool = False
    fee_to_absorber: bool = False
    tiers: int = 1
    share: int = 0
    cap: int = 0
    exit: tuple[int, int] = (1, 1)
    spread: tuple[int, int] = (0, 1)
    order: str = ""
    after_unfilled: bool = False
    rate: RateLimit = RateLimit()


@dataclass(frozen=True, slots=True)
class Takeover:
    """A rung of the ladder: an absorber takes over the positions of the pool, whole or a share of each.

    Attributes:
        level: The rung applies while equity is below ``level[0] / level[1]`` of maintenance.
        price: At what value: ``bankruptcy`` leaves the pool with exactly nothing; ``mark`` leaves it what it has
            less the penalty, or nothing if it owes.
        penalty_rate: The share of maintenance that goes to the absorber at the mark, in 1e-12.
        absorber: Place of the absorber. What it cannot take goes to the next takeover of the same level.
        owed_stays: Whether a pool that owes has its positions taken over at the mark, too, and owes on.
        share: Of each position the same share is taken over, in 1e-12: the least multiple of this below 1 that
            restores the pool, else all; at the mark only. 0: all. Takeovers of one level have the same.
        exit: Equity over maintenance at which the pool is restored, as a fraction of at least 1; one above 1 has to
            be exceeded.
        after_unfilled: See :class:`BookOrder`.
        rate: See :class:`BookOrder`; takeovers of one level have the same.
    """

    action: ClassVar[str] = "takeover"

    level: tuple[int, int]
    price: Literal["bankruptcy", "mark"]
    penalty_rate: int = 0
    absorber: int = 0
    owed_stays: bool = False
    share: int = 0
    exit: tuple[int, int] = (1, 1)
    after_unfilled: bool = False
    rate: RateLimit = RateLimit()


@dataclass(frozen=True, slots=True)
class Deleverage:
    """A rung of the ladder: the pool's positions are closed against winners at once.

    Attributes:
        level: The rung applies while equity is below ``level[0] / level[1]`` of maintenance; 0 is equity.
        after_unfilled: See :class:`BookOrder`.
    """

    action: ClassVar[str] = "adl"

    level: tuple[int, int]
    after_unfilled: bool = False


@dataclass(frozen=True, slots=True)
class NetOwnHedge:
    """A rung of the ladder: positions close against the account's own of the other side and margin mode.

    Attributes:
        level: The rung applies while equity is below ``level[0] / level[1]`` of maintenance.
    """

    action: ClassVar[str] = "net"

    level: tuple[int, int]


Rung = BookOrder | Takeover | Deleverage | NetOwnHedge


@dataclass(frozen=True, slots=True)
class Absorber:
    """Who takes over, from what money, and what it does with what it took.

    Attributes:
        account: Pseudo account: ``@vault:<name>`` or ``@fund:<name>``; it books in the ledger of the pool. A
            balance of one market or group has that behind its name, ``@fund:<name>:<market>``.
        work_out: ``hold`` keeps the inventory; ``book`` sells it into the book each step, at any price.
        insolvent_below: Whether its own positions are deleveraged while its equity is negative.
        drawdown: Start and stop ratios in 1e-12 (0.3 and 0.25 mean -30 % and -25 %) of a market's profit
            against the fund's highest balance, both over ``window_ns``; None: no such rule.
        window_ns: Length of the rolling window.
        least_balance: Balance in atoms below which the drawdown rule does not start.
        stops_at_zero: Whether all of its markets deleverage while its balance is not above zero.
        amount: What it opens with in atoms, whatever the tape gives it; None: what the tape gives it.
        currencies: The currencies in which it opens with the amount.
        scope: What one of its balances serves: all markets of a ``ledger``, one market (``contract``), or those
            of a ``group``.
        groups: Names of groups with the names of their markets; markets in none share one balance per ledger.
        per_trade: The most that it pays for one forced order, in atoms; 0, as of the four that follow: any.
        per_account_step: The most that it pays for a pool at one step, in atoms.
        per_market_day: The most that it pays for a market in a day (UTC), in 1e-12 of the balance that it had
            when it was first asked that day.
        per_day: The most that one of its balances pays in a day, likewise.
        lifetime: The most that it pays for a market in the whole replay, in atoms.
        inventory: What the positions of one of its balances may be worth, in 1e-12 of the balance; 0: any.
        pays_debts: Whether it pays what flat pools owe, as far as its balance goes.
        off: Spans in which it does nothing for some markets: their names (None: all), first moment and end in
            ns, the latter not in it.
    """

    account: str
    work_out: Literal["hold", "book"]
    insolvent_below: bool
    drawdown: tuple[int, int] | None
    window_ns: int
    least_balance: int
    stops_at_zero: bool
    amount: int | None = None
    currencies: tuple[str, ...] = ()
    scope: Literal["ledger", "contract", "group"] = "ledger"
    groups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    per_trade: int = 0
    per_account_step: int = 0
    per_market_day: int = 0
    per_day: int = 0
    lifetime: int = 0
    inventory: int = 0
    pays_debts: bool = False
    off: tuple[tuple[tuple[str, ...] | None, int, int], ...] = ()

    @property
    def is_vault(self) -> bool:
        """Whether it is a vault; else it is a fund."""
        return self.account.startswith("@vault")

    @property
    def has_caps(self) -> bool:
        """Whether what it pays is limited in any way but by its balance."""
        return any((self.per_trade, self.per_account_step, self.per_market_day, self.per_day, self.lifetime))


@dataclass(frozen=True, slots=True)
class Adl:
    """How winners are chosen and closed.

    Attributes:
        profit_term: Name of the profit part of the score, see ``replay.loop.policies.scores``.
        leverage_term: Name of its leverage part.
        equity_scope: Whose equity, notional and maintenance the score takes, see ``replay.loop.scoring.SCOPES``.
        loss_rule: What becomes of candidates at a loss.
        price: ``previous_mark``, ``mark``, ``bankruptcy`` of the loser, ``oracle``, or ``clamped_oracle``: the
            oracle, but no better for the winner than the loser's bankruptcy price.
        winner_fee_rate: Fee of a winner, in 1e-12 of value.
        loser_fee_rate: Fee of a loser that is no absorber.
        lights: Steps of the indicator.
        winner_cap: The most of a position that a step closes, in 1e-12 of its size.
        method: ``queue``: winners are closed whole in the order of their score; else the name of a policy
            with its options, see ``replay.loop.policies.registry``.
        exempt_markets: Ids of markets without auto-deleveraging: the triggers of the absorber do not hold there.
        exempt_accounts: Names of accounts that are no winners.
        must_not_worsen: Whom a close may not harm: nobody who ends ``below_maintenance``, nobody ``always``;
            empty: no test.
        fallback_price: The price while the absorber has little left; empty: none.
        fallback_below: The share of its opening balance, in 1e-12, at or below which it has.
        residual_to_absorber: Whether the absorber has, or pays, what the price differs from the loser's
            bankruptcy price; else the loser.
        tie_break: What decides among equal scores, before the pool; see ``replay.loop.scoring.TIE_BREAKS``.
        suspends_book: Whether nothing is sent into the book of a market while a rule of the absorber has
            deleveraging on there.
    """

    profit_term: str
    leverage_term: str
    equity_scope: str
    loss_rule: str
    price: Literal["previous_mark", "mark", "bankruptcy", "oracle", "clamped_oracle"]
    winner_fee_rate: int
    loser_fee_rate: int
    lights: int
    winner_cap: int = 10**12
    method: str = "queue"
    exempt_markets: tuple[int, ...] = ()
    exempt_accounts: tuple[str, ...] = ()
    must_not_worsen: Literal["", "below_maintenance", "always"] = ""
    fallback_price: Literal["", "previous_mark", "mark", "bankruptcy", "oracle", "clamped_oracle"] = ""
    fallback_below: int = 0
    residual_to_absorber: bool = False
    tie_break: tuple[str, ...] = ()
    suspends_book: bool = False

    @property
    def needs_bankruptcy(self) -> bool:
        """Whether the bankruptcy price of a loser may count."""
        prices = {self.price, self.fallback_price}
        return self.residual_to_absorber or not prices.isdisjoint(("bankruptcy", "clamped_oracle"))


@dataclass(frozen=True, slots=True)
class DepthRule:
    """What the book takes of forced orders.

    Attributes:
        provider: ``levels`` of the tape, traded ``volume``, or a ``static`` table.
        haircut_rate: Share of the levels that is not there in need, in 1e-12.
        half_life_ns: In what time half of what forced orders took has come back; 0: at once.
        participation_rate: Share of the traded volume of the window that is offered (``volume``).
        window_ns: Window of the traded volume.
        slippage_bp: How far behind the mark that volume is offered, in basis points.
        static: (basis points behind the mark, notional in atoms) per level (``static``).
        cap_rate: The most of what a side offers that forced orders take in one step, in 1e-12.
    """

    provider: Literal["levels", "volume", "static"]
    haircut_rate: int
    half_life_ns: int
    participation_rate: int
    window_ns: int
    slippage_bp: int
    static: tuple[tuple[int, int], ...]
    cap_rate: int = 10**12


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Rules in arrays, for the markets of one tape.

    The tiers of market ``m`` are rows ``tier_first[m]`` up to ``tier_first[m + 1]``, rising; a spot market
    has none, because it has no positions. Maintenance of a position of absolute value ``v`` at mark is
    ``ceil(rate * v) - deduction`` of the last tier with ``from <= v``.

    Attributes:
        name: Name of the rule book.
        sha256: Hash of the resolved rule book.
        tier_first: int64[markets + 1], offsets into the tier columns.
        tier_from: int64[tiers], notional in atoms at which a tier begins; the first of a market is 0.
        tier_rate: int64[tiers], maintenance rate in 1e-12, above 0 and at most 1.
        tier_deduction: int64[tiers], money in atoms taken off maintenance.
        breach_at_equal: Whether equity equal to maintenance is a breach already.
        ladder: Rungs. Of those that apply to a pool in breach the ones with the lowest level act, in the
            order of the file; what one leaves goes to the next.
        absorbers: Who takes over, has surpluses and fees (the first), and pays debts, in this order.
        depth: What the book takes; None where the ladder has no book orders and the absorber holds.
        adl: How winners are closed; None where that never happens.
        allocation: How a pool's equity is shared over its positions for their bankruptcy prices, of
            :data:`ALLOCATIONS`.
        assumptions: What the rule file assumes because the venue does not publish it.
        margin_basis: int64[markets], what picks the tier and is what ``tier_from`` counts: :data:`BY_NOTIONAL`,
            :data:`BY_ENTRY` or :data:`BY_SIZE`; None, as of the five that follow: by notional everywhere.
        margin_growth: int64[markets], what a unit of size adds to the rate, in 1e-12.
        margin_root: int64[markets], factor of ``sqrt(10 * size + 1)``, in 1e-12: with it the rate is the larger
            of the tier's rate and 4/5 of that rate plus the factor times the root.
        margin_unit: int64[markets, 2], units of quantity in a unit of size, as numerator and denominator.
        margin_least: int64[markets], least maintenance of a position in atoms.
        socialise: How what nobody paid is shared: ``none``, ``deposit_haircut``, ``session_profit_pro_rata``,
            ``oi_pro_rata_same_market``.
        session_start_ns: At what time of the day (UTC) a session begins.
        risk_price: Which price of the tape is the mark: ``mark``, ``oracle`` (the index where a tape has none), or
            ``index``.
        margin_short: int64[markets], rate of shorts in 1e-12, instead of that of the tier; 0: the same.
        oracle_key: The key of the rule file that needs oracle prices; empty: none does.
        exit_fee_rate: The taker fee that a bankruptcy price leaves room for, in 1e-12 of its value.
        period_ns: Pools are judged at the end of the first step in each period of UTC of this length; 0: at the
            end of each step.
        max_liquidations: How many of the pools in breach go through the ladder in a step; 0: all. First are those
            longest in breach, of them the older pools. The others stay in breach until their turn.
        max_deleveragings: How many positions of pools in breach are tried at auto-deleveraging in a step, in the order
            of their liquidations, then of the positions; 0: all. The others are tried in the next.
        stale_guard: When nothing is liquidated in a market for its price; None: whatever it is.
    """

    name: str
    sha256: str
    tier_first: npt.NDArray[np.int64]
    tier_from: npt.NDArray[np.int64]
    tier_rate: npt.NDArray[np.int64]
    tier_deduction: npt.NDArray[np.int64]
    breach_at_equal: bool
    ladder: tuple[Rung, ...]
    absorbers: tuple[Absorber, ...]
    depth: DepthRule | None
    adl: Adl | None
    allocation: Allocation
    assumptions: tuple[str, ...]
    socialise: str = "none"
    session_start_ns: int = 0
    risk_price: Literal["mark", "oracle", "index"] = "mark"
    oracle_key: str = ""
    exit_fee_rate: int = 0
    period_ns: int = 0
    max_liquidations: int = 0
    max_deleveragings: int = 0
    stale_guard: StaleGuard | None = None
    margin_basis: npt.NDArray[np.int64] | None = None
    margin_growth: npt.NDArray[np.int64] | None = None
    margin_root: npt.NDArray[np.int64] | None = None
    margin_unit: npt.NDArray[np.int64] | None = None
    margin_least: npt.NDArray[np.int64] | None = None
    margin_short: npt.NDArray[np.int64] | None = None

    @property
    def absorber(self) -> Absorber | None:
        """The first of the absorbers; None if there is none."""
        return self.absorbers[0] if self.absorbers else None
