"""Calls for kinds `adl_trigger`, `adl_execution`, `adl_rank`, `adl_cost`, `adl_alternative`."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from replay.loop.policies.allocate import greedy
from replay.loop.policies.leverage import cut_to_equal_leverage
from replay.loop.policies.scores import in_order, score
from replay.loop.policies.winners import Winners, candidates
from replay.loop.ranking import indicator
from replay.rules.formulas import bankruptcy, deleverage, insurance, triggers
from replay.rules.formulas.account import Account, Holding, close_in_book, quote_at_bankruptcy
from replay.rules.formulas.contract import (
    initial_margin,
    opening_leverage,
    profit,
    return_on_entry,
    return_on_margin,
    value_at,
)
from tests.cases.case import Case

Found = dict[str, Any]


def btc(cash: Any, size: Any, price: Any) -> Account:
    return Account(cash, (Holding(size, price),))


# --- triggers --------------------------------------------------------------------------------------


def fund_sufficient(case: Case) -> Found:
    return {
        "liquidation_match_allowed": triggers.fund_covers(
            case["fund_balance_usd"], case["insurance_delta_usd"]
        )
    }


def account_negative(case: Case) -> Found:
    account = btc(case["usdc"], case["btc_position"], case["oracle_usd"])
    return {"can_deleverage_at_bankruptcy": triggers.equity_negative(account.equity)}


def profit_to_pool(case: Case) -> Found:
    claim = triggers.profit_to_pool(
        case["pool_eth"], case["long_size_usd"], case["open_price"], case["price"]
    )
    allowed = triggers.allowed_reduction(
        claim,
        case["long_size_usd"],
        case["adl_size_usd"],
        start=case["max_pnl_factor_for_adl"],
        floor=case["min_pnl_factor_after_adl"],
    )
    return {
        "long_tokens": claim.tokens,
        "pending_pnl_usd": claim.pending_profit,
        "pool_value_usd": claim.pool_value,
        "pnl_to_pool_factor": claim.factor,
        "adl_enabled": claim.factor > case["max_pnl_factor_for_adl"],
        "adl_allowed_size_usd": allowed,
    }


def drawdown_of_symbol(case: Case) -> Found:
    now, peak, pool = case["symbol_pnl_now"], case["symbol_pnl_8h_max"], case["pool_8h_max"]
    ratio = triggers.drawdown_of_profit(now, peak, pool)
    starts = triggers.drawdown_starts(
        ratio, case["trigger_ratio"], balance=case["pool_balance"], least_balance=case["balance_threshold"]
    )
    moved = triggers.beyond_drawdown(now, peak, pool, case["trigger_ratio"])
    after = triggers.drawdown_of_profit(now + moved, peak, pool)
    return {
        "pnl_ratio": ratio,
        "adl": starts,
        "loss_moved_to_adl": moved,
        "ratio_after": after,
        "adl_continues": triggers.drawdown_continues(ratio, case["stop_ratio"]),
    }


def empty_pool(case: Case) -> Found:
    empty = triggers.pool_empty(case["pool_balance"])
    return {"adl": empty, "stop_when_balance_above": triggers.EMPTY}


def drawdown_given(case: Case) -> Found:
    return {
        "adl": triggers.drawdown_starts(
            case["pnl_ratio"],
            case["insurance_pnl_ratio"],
            balance=case["balance"],
            least_balance=case["adl_trigger_threshold"],
        )
    }


def fund_drawdown(case: Case) -> Found:
    share = case.rule("drawdown")
    return {"adl": [triggers.balance_drawdown(b, case["peak_8h"], share) for b in case["balance"]]}


def loss_limit(case: Case) -> Found:
    limit = case["engine_loss_limit"]
    return {"adl": [triggers.loss_beyond_share(loss, limit) for loss in case["losses"]]}


# --- execution -------------------------------------------------------------------------------------


def _paid(loser: Account, change: Any) -> Any:
    return quote_at_bankruptcy(loser, 0, change)


def close_one(case: Case) -> Found:
    oracle, size = case["oracle_usd"], case["liquidated_btc"]
    loser = btc(case["liquidated_usdc"], size, oracle)
    quantity = case.get("delta_btc", default=abs(size))
    change = quantity if size < 0 else -quantity
    pair = deleverage.close_pair(
        loser.cash, size, case["counterparty_usdc"], case["counterparty_btc"], quantity, _paid(loser, change)
    )
    rate = case.rule("maintenance_rate")
    before = Account(case["counterparty_usdc"], (Holding(case["counterparty_btc"], oracle, rate),))
    after = Account(pair.winner_cash, (Holding(pair.winner_size, oracle, rate),))
    spared = not deleverage.not_worse(before.equity, before.maintenance, after.equity, after.maintenance)
    if spared:
        return {"allowed": False}
    return {
        "allowed": True,
        "liquidated_usdc_after": pair.loser_cash,
        "liquidated_btc_after": pair.loser_size,
        "counterparty_usdc_after": pair.winner_cash,
        "counterparty_btc_after": pair.winner_size,
    }


def close_several(case: Case) -> Found:
    loser = btc(case["liquidated_usdc"], case["liquidated_btc"], case["oracle_usd"])
    cash_after = []
    for cash, size in case["counterparties"]:
        held = loser.holdings[0].size
        quantity = min(abs(held), abs(size))
        change = quantity if held < 0 else -quantity
        quote = _paid(loser, change) if quantity else Fraction(0)
        pair = deleverage.close_pair(loser.cash, held, cash, size, quantity, quote)
        if quantity:
            loser = loser.after(0, change, quote)
        cash_after.append(pair.winner_cash)
    return {
        "counterparties_usdc_after": cash_after,
        "base_remaining": abs(loser.holdings[0].size),
        "liquidated_usdc_after": loser.cash,
    }


def settle_at_oracle(case: Case) -> Found:
    price = case["oracle_usd"]
    pair = deleverage.close_pair(
        case["short_usdc"],
        case["short_btc"],
        case["long_usdc"],
        case["long_btc"],
        abs(case["short_btc"]),
        value_at("linear", case["short_btc"], price),
    )
    return {"short_usdc_after": pair.loser_cash, "long_usdc_after": pair.winner_cash}


def book_then_deleverage(case: Case) -> Found:
    """An order that the fund cannot pay for fills nothing; the account below zero is then deleveraged."""
    size = case["short_btc"]
    short = btc(case["short_usdc"], size, case["oracle_usd"])
    closed = close_in_book(
        short, 0, abs(size), [tuple(case["ask"])], fee_cap=case.rule("max_fee"), fund=case["fund"]
    )
    found: Found = {"book_fill_btc": closed.filled, "deleveraged_btc": 0, "short_usdc_after": short.cash}
    if closed.filled == 0 and triggers.equity_negative(closed.account.equity):
        quantity = min(abs(size), case["winner_btc"])
        quote = _paid(short, quantity)
        pair = deleverage.close_pair(
            short.cash, size, case["winner_usdc"], case["winner_btc"], quantity, quote
        )
        found |= {
            "deleveraged_btc": quantity,
            "deleverage_price": -quote / quantity,
            "winner_usdc_after": pair.winner_cash,
            "short_usdc_after": pair.loser_cash,
        }
    return found


def _ranked(case: Case) -> tuple[list[int], list[int], np.ndarray]:
    accounts = [int(row["account"]) for row in case["longs"]]
    lots = [int(row["qty"]) for row in case["longs"]]
    order = in_order(np.array([row["pnl_rank"] for row in case["longs"]]), np.array(accounts))
    return accounts, lots, order


def queue_by_rank(case: Case) -> Found:
    accounts, lots, order = _ranked(case)
    taken = greedy(int(case["liquidated_short"]), np.array(lots), order)
    found: Found = {
        "queue": [accounts[row] for row in order],
        "closed": {accounts[row]: int(taken[row]) for row in order if taken[row]},
        "close_price": case["bankruptcy_price"],
    }
    return found | {f"left_account{a}": n - int(t) for a, n, t in zip(accounts, lots, taken, strict=True)}


def lights(case: Case) -> Found:
    """All five lights are the first 20 %, one light the last."""
    accounts, lots, order = _ranked(case)
    lit = indicator(np.array(lots)[order], 5)
    return {"quintile": {accounts[row]: (6 - int(n)) * 20 for row, n in zip(order, lit, strict=True)}}


def gain_after_deficit(case: Case) -> Found:
    size, entry, mark, winner = case["long"], case["entry"], case["mark"], case["winner"]
    lost = profit("linear", size, entry, mark)
    covered = insurance.cover(insurance.deficit(case["equity"] + lost), case["fund"])
    gain = profit("linear", winner["position"], winner["entry"], mark)
    price = bankruptcy.isolated("linear", size, entry, case["equity"])
    return {
        "deficit": covered.left,
        "winner_equity_after": deleverage.kept_gain(winner["equity"], gain, covered.left),
        "bankruptcy_price": price,
    }


# --- ranks -----------------------------------------------------------------------------------------


def return_rate(case: Case) -> Found:
    payoff = "inverse" if case["multiplier"] < 0 else "linear"
    return {"return_rate": return_on_entry(payoff, case["contracts"], case["entry"], case["mark"])}


def opening_leverage_rank(case: Case) -> Found:
    entries = [(row["value"], row["leverage"]) for row in case["entries"]]
    value = sum(amount for amount, _ in entries)
    margin = sum((initial_margin(amount, lev) for amount, lev in entries), Fraction(0))
    winner = candidates([1], entry=[value], profit=[case["mark_value"] - value], margin=[margin])
    joined = score(
        winner,
        profit_term="profit_on_margin",
        leverage_term="entry_on_margin",
        loss_rule=case.rule("loss_rule"),
    )
    return {
        "opening_leverage": opening_leverage(entries),
        "initial_margin": margin,
        "pnl_pct": return_on_margin(case["mark_value"] - value, margin),
        "priority": joined[0],
    }


def _queue(case: Case, winners: Winners, profit_term: str, leverage_term: str) -> tuple[list[Any], Any]:
    """Return the queue by id, and the scores in the order of the queue."""
    ids = [row["id"] for row in case["positions"]]
    scores = score(
        winners, profit_term=profit_term, leverage_term=leverage_term, loss_rule=case.rule("loss_rule")
    )
    order = in_order(scores)
    return [ids[row] for row in order], scores


def _terms(case: Case, return_name: str, leverage_name: str) -> Winners:
    rows = case["positions"]
    return candidates(
        [1] * len(rows),
        entry=[Fraction(1)] * len(rows),
        profit=[row[return_name] for row in rows],
        notional=[row[leverage_name] for row in rows],
        equity=[Fraction(1)] * len(rows),
    )


def return_times_leverage(case: Case) -> Found:
    winners = _terms(case, "pnl_pct", "eff_leverage")
    queue, scores = _queue(case, winners, "profit_on_entry", "notional_on_equity")
    return {"queue": queue, "scores": sorted(scores, reverse=True)}


def return_times_rate(case: Case) -> Found:
    winners = _terms(case, "roi", "mmr_account")
    queue, scores = _queue(case, winners, "profit_on_entry", "notional_on_equity")
    return {"queue": queue, "scores": sorted(scores, reverse=True)}


def return_ratio_times_leverage(case: Case) -> Found:
    winners = _terms(case, "pnl_ratio", "leverage")
    queue, scores = _queue(case, winners, "profit_on_entry", "notional_on_equity")
    return {"queue": queue, "score": list(scores)}


def price_ratio_times_leverage(case: Case) -> Found:
    rows = case["positions"]
    winners = candidates(
        [1] * len(rows),
        entry=[row["entry"] for row in rows],
        value=[row["mark"] for row in rows],
        profit=[row["mark"] - row["entry"] for row in rows],
        notional=[row["notional"] for row in rows],
        equity=[row["account"] for row in rows],
    )
    queue, scores = _queue(case, winners, "price_ratio", "notional_on_equity")
    return {"queue": queue, "index": list(scores)}


def two_rankings(case: Case) -> Found:
    mark = case["mark"]
    lost = profit("linear", case["long"], case["entry"], mark)
    covered = insurance.cover(insurance.deficit(case["equity"] + lost), case["fund"])
    rows = {name: row for name, row in case.inputs.items() if isinstance(row, dict)}
    names = list(rows)
    gains = [profit("linear", row["position"], row["entry"], mark) for row in rows.values()]
    winners = candidates(
        [abs(row["position"]) for row in rows.values()],
        profit=gains,
        notional=[abs(value_at("linear", row["position"], mark)) for row in rows.values()],
        equity=[row["equity"] for row in rows.values()],
    )

    def closed(scores: Any) -> list[str]:
        order = in_order(scores)
        count = deleverage.until_covered(covered.left, [gains[row] for row in order])
        return [names[row] for row in order[:count]]

    ratio = score(winners, profit_term="profit_on_equity", leverage_term="one", loss_rule="exclude")
    second = score(winners, profit_term="profit", leverage_term="notional_on_equity", loss_rule="exclude")
    return {
        "deficit": covered.left,
        "pnl_ratio": dict(zip(names, ratio, strict=True)),
        "closed_by_pnl_ratio": closed(ratio),
        "score2": dict(zip(names, second, strict=True)),
        "closed_by_score2": closed(second),
    }


def equal_scores(case: Case) -> Found:
    rows = case["winners"]
    ids = [int(row["id"]) for row in rows]
    winners = candidates(
        [1] * len(rows), profit=[row["pnl"] for row in rows], equity=[row["equity"] for row in rows]
    )
    scores = score(winners, profit_term="profit_on_equity", leverage_term="one", loss_rule="exclude")
    order = in_order(scores, np.array(ids))
    count = deleverage.until_covered(case["deficit"], [rows[row]["pnl"] for row in order])
    return {"closed": [ids[row] for row in order[:count]]}


# --- cost and alternatives -------------------------------------------------------------------------


def markout(case: Case) -> Found:
    cost = deleverage.markout(
        case["signed_qty"], case["exec_price"], case["mark_at_exec"], case["mark_later"]
    )
    return {"immediate": cost.immediate, "opportunity": cost.opportunity, "total": cost.total}


def equal_leverage(case: Case) -> Found:
    level, cuts = cut_to_equal_leverage(
        case["target_notional"],
        [notional for notional, _ in case["positions"]],
        [equity for _, equity in case["positions"]],
    )
    return {"threshold_leverage": level, "taken": cuts}
