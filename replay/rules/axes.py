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
        {
            "per_timestamp": "All events of one moment are booked, then every pool is judged once.",
            "periodic": "Pools are judged in rounds, each at the end of the first step in its period of UTC;",
        },
        ("per_mark_update", "per_block", "continuous"),
    ),
    "price.risk_price": Axis(
        {
            "mark": "Equity and maintenance are measured at the mark price.",
            "oracle": (
                "Equity and maintenance are measured at the oracle price, or the index where a tape has no "
                "oracle; what a run calls the mark is that price."
            ),
            "index": "Equity and maintenance are measured at the index; what a run calls the mark is the index.",
        },
        ("fair",),
    ),
    "price.mark_source": Axis({"tape": "Marks are taken from the tape, never recomputed."}, ("computed",)),
    "margin.shape": Axis(
        {
            "flat": "One rate holds for positions of every size.",
            "bracket_deduction": (
                "The rate rises with notional in tiers; a deduction keeps maintenance from jumping at a tier."
            ),
            "bracket_whole": "The rate of the tier holds for the whole position; maintenance jumps at a tier.",
            "im_fraction": "Maintenance is a share of the initial margin, whose rates rise in tiers.",
            "risk_steps": "The rate rises by the same for each full or begun step of value above a limit.",
            "linear_size": "The rate grows evenly with the size of the position.",
            "sqrt_size": "The rate grows with the root of the size of the position.",
            "adjustment_factor": (
                "Maintenance is a factor, by tier, of the margin a position occupies: its value over the leverage."
            ),
            "weights": "A long counts less than its value and a short more; the difference is its maintenance.",
        },
        ("scenario_table", "external"),
    ),
    "margin.size_basis": Axis(
        {
            "notional_mark": "A position's size for margin is its absolute contract value at mark.",
            "notional_entry": "A position's size for the choice of its tier is its entry value.",
            "base_size": "A position's size for margin is its quantity of the underlying.",
            "contracts": "A position's size for margin is its number of contracts.",
        },
        ("adtv_share",),
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
        {
            "book_order": "Forced orders go into the order book, one for each position of the pool.",
            "takeover": "An absorber takes the positions over, away from the order book.",
            "adl": "The positions are closed against winners at once.",
            "cancel_orders": "Resting orders are cancelled; no tape has them, so nothing changes.",
            "net_own_hedge": (
                "A position closes at the mark against the account's own of the other side and margin mode."
            ),
        },
        (
            "assign",
            "auction",
            "pool_close",
            "seize_collateral",
        ),
    ),
    "ladder.*.size": Axis(
        {
            "full": "Every position of the pool goes, whole.",
            "step_down": (
                "Of each position, what brings it down to the edge of its margin tier; in the lowest nothing."
            ),
            "smallest_fix": (
                "Of each position, what brings it down by the fewest tiers that restore the pool, or to the lowest."
            ),
            "fraction_of_remaining": "Of each position a share of what is left of it.",
            "fraction_of_original": "Of each position a share of what it was at the first breach.",
            "notional_cap": "Of each position at most a notional.",
            "minimal_to_exit": "The least that restores the pool at the mark, position after position.",
            "fraction_of_all_positions": (
                "Of each position the same share, the least of a grid that restores the pool, or all."
            ),
        },
        ("window_capacity",),
    ),
    "ladder.*.enter": Axis(
        {
            "previous_unfilled": (
                "It acts on those positions of which the rung before it did not fill all that it asked for."
            )
        }
    ),
    "ladder.*.limit": Axis(
        {
            "none": "The order takes any price.",
            "bankruptcy": "The order takes no price worse than the position's bankruptcy price.",
            "bankruptcy_band": "The order takes no price that is further beyond the bankruptcy price than a band.",
            "mark_band": "The order takes no price that is further from the mark than a band.",
            "oracle_band": "The order takes no price that is further from the oracle than a band.",
            "zero_equity": "The order takes no price at which it alone would leave the pool less than nothing.",
            "fillable": "The order takes no price further from the mark than grows with what is missing.",
        }
    ),
    "ladder.*.rate_limit.kind": Axis(
        {
            "notional_per_step": "Of a pool the rung asks for no more than a notional in a step;",
            "time_ramp": "Of a position no more is closed than a share that grows while the liquidation lasts;",
        }
    ),
    "ladder.*.position_order": Axis(
        {
            "largest_loss": "Of the pool's positions the one with the largest loss since its entry goes first.",
            "largest_maintenance": "Of the pool's positions the one that needs most maintenance goes first.",
        }
    ),
    "ladder.*.fee_from": Axis(
        {
            "value": "The fee is taken of what is traded.",
            "improvement": "The fee is at most what a fill is better than the bankruptcy price.",
        }
    ),
    "ladder.*.fee_to": Axis(
        {
            "exchange": "The exchange has the fee; it is booked as @fees.",
            "absorber": "The absorber has the fee.",
        }
    ),
    "ladder.*.tif": Axis(
        {
            "ioc": "It takes what is there; the rest is left to the next rung of its level or the next step.",
            "fok": "It is filled whole or not at all.",
        },
        ("resting", "post_only", "dutch"),
    ),
    "ladder.*.surplus_to": Axis(
        {
            "trader": "What a fill is better than the bankruptcy price stays in the pool.",
            "absorber": "What a fill is better than the bankruptcy price goes to the absorber.",
        },
        ("liquidator", "pool"),
    ),
    "ladder.*.price": Axis(
        {
            "bankruptcy": "Each position changes hands at its bankruptcy price.",
            "mark": "Each position changes hands at the mark, or at its bankruptcy price if the pool owes.",
        },
        ("oracle", "oracle_haircut"),
    ),
    "ladder.*.margin_forfeited": Axis(
        {
            "all_collateral": "What the pool still had, or owed, goes along: it ends with nothing.",
            "none": "What the pool still had stays in it; what it owed goes along.",
            "remaining_maintenance": "Of what the pool still had a share of maintenance goes along.",
        }
    ),
    "ladder.*.owed": Axis(
        {
            "goes_along": "A pool that owes is taken over at its bankruptcy price: the absorber pays.",
            "stays": "What the pool owes stays with it, for absorbers that pay debts and those who share losses.",
        }
    ),
    "bankruptcy.allocation": Axis(
        {
            "maintenance_proportional": (
                "The pool's equity is shared over its positions in proportion to their maintenance."
            ),
            "isolated": (
                "A position may lose its own profit and a part of the pool's cash, in proportion to entry value."
            ),
            "all": (
                "The position with the largest loss since its entry bears the pool's equity; the others go at "
                "the mark."
            ),
        }
    ),
    "bankruptcy.fee_in_price": Axis(
        {
            "none": "No exit fee is reserved in the bankruptcy price.",
            "taker": "The bankruptcy price leaves room for the taker fee of closing at it, paid to the exchange.",
        }
    ),
    "absorbers.*.kind": Axis(
        {
            "vault": "A vault that trades for its depositors; booked as @vault:<name>.",
            "insurance": "An insurance fund; booked as @fund:<name>.",
        },
        ("lp_pool", "fee_pool", "liquidity_pool"),
    ),
    "absorbers.*.scope": Axis(
        {
            "ledger": "It keeps one balance per ledger (dex and currency) and serves every market there.",
            "contract": "It keeps a balance for each market; what the tape gives it whole is shared evenly.",
            "group": "It keeps a balance for each group of markets, and one for all others.",
        },
        ("coin", "product_line", "dex", "strategy", "global"),
    ),
    "absorbers.*.balance": Axis(
        {
            "tape": "It opens with the cash the tape gives it, or with none.",
            "constant": "It opens with an amount of the rules, whatever the tape gives it.",
        }
    ),
    "absorbers.*.inventory": Axis(
        {"holds": "The positions it takes over are booked to it, at their takeover value."}, ("none",)
    ),
    "absorbers.*.work_out": Axis(
        {
            "hold": "It keeps them.",
            "book": "It sells them into the book at each step, at any price.",
        },
        ("scheduled",),
    ),
    "absorbers.*.outflow_cap": Axis(
        {
            "none": "It takes all it is handed; its equity may fall below zero.",
            "limits": "It pays no more than the limits that follow; what is beyond them it does not take.",
        },
    ),
    "absorbers.*.pays_debts": Axis(
        {
            "true": "It pays what a flat pool owes, as far as its balance goes.",
            "false": "It pays for what it takes over only.",
        }
    ),
    "absorbers.*.insolvent_below_zero": Axis(
        {
            "true": "While its own equity is below zero its positions are deleveraged, like any loser's.",
            "false": "Its own positions are never deleveraged for what its equity is.",
        }
    ),
    "absorbers.*.stops_at_zero": Axis(
        {
            "true": "While its balance is not above zero it takes nothing; all its markets deleverage.",
            "false": "It takes over whatever its balance is.",
        }
    ),
    "adl.enabled": Axis(
        {
            "false": "Nobody's winning position is ever closed to pay a loss.",
            "true": "Winning positions are closed to pay what nobody else can.",
        }
    ),
    "adl.score": Axis(
        {
            "leveraged_price_ratio": (
                "First is the highest (mark / entry, inverted for shorts) x (notional / account value)."
            ),
            "leveraged_return": "First is the highest (profit / entry value) x (effective leverage).",
            "entry_return": "First is the highest profit / entry value.",
            "return_at_risk": (
                "First is the highest (profit / entry value) x (the position's maintenance / equity)."
            ),
            "wallet_return_at_risk": (
                "First is the highest (profit / wallet) x (the account's maintenance / equity)."
            ),
            "terms": "First is the highest product of the two terms that follow.",
        },
        ("set_leverage", "opening_leverage"),
    ),
    "adl.profit_term": Axis(
        {
            "profit_on_entry": "The profit part is profit / entry value.",
            "price_ratio": "The profit part is mark / entry, inverted for shorts.",
            "profit_on_wallet": "The profit part is profit / the account's cash, which is at least 1.",
            "profit_on_equity": "The profit part is profit / equity.",
            "profit": "The profit part is the profit itself.",
            "entry_value": "The profit part is the entry value of a lot.",
        }
    ),
    "adl.leverage_term": Axis(
        {
            "one": "There is no leverage part.",
            "notional_on_equity": "The leverage part is notional / equity.",
            "maintenance_on_equity": "The leverage part is maintenance / equity.",
            "maintenance_on_equity_of_one": "The leverage part is maintenance / equity, which is at least 1.",
        }
    ),
    "adl.equity_scope": Axis(
        {
            "account": "Notional, maintenance and equity are those of the whole pool.",
            "position": "They are those of the position, with its share of the pool's equity by maintenance.",
            "position_on_account": "The maintenance is the position's, equity and notional are the pool's.",
        }
    ),
    "adl.loss_rule": Axis(
        {
            "exclude": "Only positions in profit are closed.",
            "divide": "Positions at a loss come last: their loss is divided by the leverage part.",
            "product": "Positions at a loss come last: their loss is multiplied by the leverage part.",
            "zero": "Positions at a loss come last: they score zero.",
            "smaller_abs_first": "Positions at a loss come last, the smaller loss first.",
        }
    ),
    "adl.price": Axis(
        {
            "previous_mark": "Both sides trade at the mark before the one that brought the loser down.",
            "mark": "Both sides trade at the mark.",
            "bankruptcy": "Both sides trade at the loser's bankruptcy price.",
            "oracle": (
                "Both sides trade at the oracle price, or the index where a tape has no oracle; before a "
                "market's first, at the mark."
            ),
            "clamped_oracle": (
                "Both sides trade at the oracle price, but no better for the winner than the loser's "
                "bankruptcy price."
            ),
        },
        ("zero_price",),
    ),
    "adl.fallback_price": Axis(
        {
            "previous_mark": "While the absorber has little left both sides trade at the mark before the last,",
            "mark": "While the absorber has little left both sides trade at the mark,",
            "bankruptcy": "While the absorber has little left both sides trade at the loser's bankruptcy price,",
            "oracle": "While the absorber has little left both sides trade at the oracle price,",
            "clamped_oracle": (
                "While the absorber has little left both sides trade at the oracle price, but no better for the "
                "winner than the loser's bankruptcy price,"
            ),
        },
        ("zero_price",),
    ),
    "adl.residual_to": Axis(
        {
            "loser": "What the price differs from the bankruptcy price the loser has, or owes.",
            "absorber": "What the price differs from the bankruptcy price the absorber has, or pays.",
        },
        ("pool",),
    ),
    "adl.must_not_worsen_counterparty": Axis(
        {
            "below_maintenance": (
                "Nobody is closed whom it would leave below maintenance and with less equity for it than before."
            ),
            "always": "Nobody is closed whom it would leave with less equity for its maintenance than before.",
        }
    ),
    "adl.suspends_book_liquidation": Axis(
        {
            "true": "While a market is being deleveraged nothing goes into its book.",
            "false": "Forced orders go into the book also while a market is being deleveraged.",
        }
    ),
    "depth.provider": Axis(
        {
            "none": "No forced order reaches the book.",
            "levels": "The book holds the levels on the tape.",
            "volume": "The book holds a share of what was traded lately.",
            "static": "The book holds the same table of levels at all times.",
        }
    ),
    "socialise.method": Axis(
        {
            "none": "Losses are not spread over other accounts.",
            "deposit_haircut": "What nobody paid is taken from all pools of the ledger, in proportion to their cash.",
            "session_profit_pro_rata": (
                "What nobody paid is taken from those who gained in the session, in proportion to their gain."
            ),
            "oi_pro_rata_same_market": (
                "What nobody paid is taken from both sides of the markets it was lost in, in proportion to size."
            ),
        },
        ("withdrawal_haircut", "lp_pool", "pnl_cap"),
    ),
    "overlays.*.absorbers": Axis({"off": "No absorber takes anything over or pays for anything."}),
}
"""Every key with a closed list of values."""

LATER_KEYS: Mapping[str, Mapping[str, str]] = {
    "": {
        "contract": "rounding and settlement; payoff, multiplier and steps come with the tape",
        "gates": "limits on withdrawals and transfers",
        "tape": "what the rows of a tape mean is the importer's business",
    },
    "step": {
        "phase_order": "another order of phases",
    },
    "price": {"price_pair": "minimum and maximum prices"},
    "margin": {
        "levels": "named levels below maintenance",
        "collateral": "haircuts and weights of collateral",
    },
    "margin.tables.*": {"dex": "tables of one dex"},
    "ladder.*": {
        "scope": "a rung for a part of the pool",
    },
    "bankruptcy": {"rounding": "rounding of the price", "recompute": "a new price after each partial fill"},
    "absorbers.*": {
        "inflows": "a choice of what flows in",
    },
    "adl": {
        "start": "when it begins",
        "stop": "when it ends",
        "amount": "how much is closed",
        "combine": "how the score is put together",
        "net_hedges": "hedges netted first",
        "queue_scope": "one queue for what",
        "refresh": "when ranks are made anew",
        "cancel_winner_orders": "open orders of the closed",
        "mode": "how it is booked",
        "unfilled": "what happens to the rest",
    },
    "depth": {"forced_share": "the forced part of anonymous volume"},
    "socialise": {"order": "before, instead of or after ADL", "factor": "the share that is spread"},
}
"""Keys of the axes to come, by section, with what they will say."""
