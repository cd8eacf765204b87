"""What a rule file may choose: each axis with the values of this version and those still to come.

The file format is laid out for every axis that real exchanges differ on, so that a file keeps its shape
as the replay learns more of them. A value or key listed here as *later* is understood and refused with
"not yet"; anything else is a mistake in the file. Keys are dotted, ``*`` stands for a list index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Axis:
    """One choice of a rule file.

    Attributes:
        now: Values of this version, each with the sentence that says what it does.
        later: Values that exchanges use and this version does not have yet.
    """

    now: Mapping[str, str]
    later: tuple[str, ...] = ()


AXES: Mapping[str, Axis] = {
    "status": Axis(
        {
            "final": "Everything a replay needs is published or can be read off recorded data.",
            "draft": "Something a replay needs is not known; a run has to accept the assumptions.",
        }
    ),
    "step.kind": Axis(
        {"per_timestamp": "All events of one moment are booked, then every pool is judged once."},
        ("per_mark_update", "per_block", "periodic", "continuous"),
    ),
    "price.risk_price": Axis(
        {"mark": "Equity and maintenance are measured at the mark price."}, ("oracle", "index", "fair")
    ),
    "price.mark_source": Axis({"tape": "Marks are taken from the tape, never recomputed."}, ("computed",)),
    "margin.shape": Axis(
        {
            "flat": "One rate holds for positions of every size.",
            "bracket_deduction": (
                "The rate rises with notional in tiers; a deduction keeps maintenance from jumping at a tier."
            ),
        },
        (
            "bracket_whole",
            "risk_steps",
            "linear_size",
            "sqrt_size",
            "im_fraction",
            "adjustment_factor",
            "weights",
            "scenario_table",
            "external",
        ),
    ),
    "margin.size_basis": Axis(
        {"notional_mark": "A position's size for margin is its absolute contract value at mark."},
        ("notional_entry", "base_size", "contracts", "adtv_share"),
    ),
    "margin.hedge_basis": Axis(
        {"net": "An account holds one net position per market and margin mode."}, ("larger_side", "both")
    ),
    "margin.scope": Axis(
        {
            "cross_account": (
                "All cross positions of an account in one ledger share one pool; a position the tape calls "
                "isolated is a pool of its own."
            )
        },
        ("isolated", "strict_isolated", "cross_pool", "portfolio"),
    ),
    "trigger.when": Axis(
        {
            "equity < maintenance": "A pool is in breach when its equity is below maintenance.",
            "equity <= maintenance": "A pool is in breach when its equity is at or below maintenance.",
        }
    ),
    "ladder.*.action": Axis(
        {"takeover": "An absorber takes the positions over, away from the order book."},
        (
            "cancel_orders",
            "net_own_hedge",
            "book_order",
            "step_down",
            "assign",
            "auction",
            "pool_close",
            "seize_collateral",
        ),
    ),
    "ladder.*.size": Axis(
        {"full": "Every position of the pool goes, whole."},
        (
            "fraction_of_remaining",
            "fraction_of_original",
            "fraction_of_all_positions",
            "minimal_to_exit",
            "notional_cap",
            "window_capacity",
        ),
    ),
    "ladder.*.price": Axis(
        {"bankruptcy": "Each position changes hands at its bankruptcy price."},
        ("mark", "oracle", "oracle_haircut"),
    ),
    "ladder.*.margin_forfeited": Axis(
        {"all_collateral": "What the pool still had, or owed, goes along: it ends with nothing."},
        ("none", "remaining_maintenance"),
    ),
    "bankruptcy.allocation": Axis(
        {
            "maintenance_proportional": (
                "The pool's equity is shared over its positions in proportion to their maintenance."
            )
        },
        ("isolated", "all"),
    ),
    "bankruptcy.fee_in_price": Axis({"none": "No exit fee is reserved in the bankruptcy price."}, ("taker",)),
    "absorbers.*.kind": Axis(
        {
            "vault": "A vault that trades for its depositors; booked as @vault:<name>.",
            "insurance": "An insurance fund; booked as @fund:<name>.",
        },
        ("lp_pool", "fee_pool", "liquidity_pool"),
    ),
    "absorbers.*.scope": Axis(
        {"ledger": "It keeps one balance per ledger (dex and currency) and serves every market there."},
        ("contract", "group", "coin", "product_line", "dex", "strategy", "global"),
    ),
    "absorbers.*.balance": Axis(
        {"tape": "It opens with the cash the tape gives it, or with none."}, ("constant",)
    ),
    "absorbers.*.inventory": Axis(
        {"holds": "It keeps the positions it takes over, at their takeover value."}, ("none",)
    ),
    "absorbers.*.outflow_cap": Axis(
        {"none": "It takes all it is handed; its equity may fall below zero."},
        ("per_trade", "per_account_and_step", "per_market_and_day", "per_day", "lifetime"),
    ),
    "adl.enabled": Axis({"false": "Nobody's winning position is ever closed to pay a loss."}, ("true",)),
    "socialise.method": Axis(
        {"none": "Losses are not spread over other accounts."},
        (
            "oi_pro_rata_same_market",
            "session_profit_pro_rata",
            "withdrawal_haircut",
            "deposit_haircut",
            "lp_pool",
            "pnl_cap",
        ),
    ),
}
"""Every key with a closed list of values."""

LATER_KEYS: Mapping[str, Mapping[str, str]] = {
    "": {
        "selector": "rules for a part of the markets",
        "window": "rules that hold for a limited time of a day",
        "contract": "rounding and settlement; payoff, multiplier and steps come with the tape",
        "gates": "limits on withdrawals and transfers",
        "tape": "what the rows of a tape mean is the importer's business",
    },
    "step": {
        "phase_order": "another order of phases",
        "caps_per_step": "limits per step",
        "period": "its length",
    },
    "price": {"price_pair": "minimum and maximum prices", "stale_guard": "a guard against stale prices"},
    "margin": {
        "addons": "fees on top of maintenance",
        "levels": "named levels below maintenance",
        "collateral": "haircuts and weights of collateral",
    },
    "margin.tiers.*": {"market": "tiers of one market", "markets": "tiers of some markets"},
    "trigger": {"level": "a breach at a multiple of maintenance"},
    "ladder.*": {
        "enter": "a stage's own condition",
        "exit": "a stage's own end",
        "scope": "a stage for a part of the pool",
        "tif": "how long an order stands",
        "limit": "a price limit of an order",
        "position_order": "an order among the positions",
        "fee": "a liquidation fee",
        "surplus_to": "a receiver of what is left over",
        "rate_limit": "cool-downs and caps",
    },
    "bankruptcy": {"rounding": "rounding of the price", "recompute": "a new price after each partial fill"},
    "absorbers.*": {
        "start": "a constant opening balance",
        "inflows": "a choice of what flows in",
        "inventory_cap": "a cap on what it holds",
        "workout": "how fast it sells what it holds",
        "active_windows": "hours in which it is on",
    },
    "adl": {
        "start": "when it begins",
        "stop": "when it ends",
        "suspends_book_liquidation": "no forced orders in the book meanwhile",
        "amount": "how much is closed",
        "exempt": "markets and accounts that are spared",
        "method": "how the closed are chosen",
        "profit_term": "the profit part of the score",
        "leverage_term": "the leverage part of the score",
        "combine": "how the score is put together",
        "loss_rule": "the score of losers",
        "equity_scope": "whose equity counts",
        "net_hedges": "hedges netted first",
        "queue_scope": "one queue for what",
        "tie_break": "order of equal scores",
        "refresh": "when ranks are made anew",
        "price": "the price of the closing",
        "fallback_price": "another price in need",
        "per_counterparty_cap": "a cap per account",
        "must_not_worsen_counterparty": "a safeguard of the closed account",
        "fees": "fees of the closing",
        "cancel_winner_orders": "open orders of the closed",
        "mode": "how it is booked",
        "residual_to": "who gets what is left",
        "lights": "the displayed rank",
        "unfilled": "what happens to the rest",
    },
    "socialise": {"order": "before, instead of or after ADL", "factor": "the share that is spread"},
}
"""Keys of the axes to come, by section, with what they will say."""
