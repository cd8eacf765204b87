"""Calls for kinds `partial_liquidation`, `liquidation`, `insurance_delta`."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from replay.rules.formulas import insurance, order_price, partial
from replay.rules.formulas.account import (
    Account,
    ForcedClose,
    Holding,
    close_in_book,
    fund_before_payout,
    quote_at_bankruptcy,
)
from replay.rules.formulas.contract import kept_cost, profit, value_at
from replay.rules.formulas.fill import walk_levels
from replay.rules.formulas.triggers import equity_negative
from tests.cases.case import Case, NoRuleError

Found = dict[str, Any]
UNLIMITED = 10**18


def traded(case: Case) -> tuple[Account, str]:
    """Return the account of a case named by its side, and the side's name."""
    side = "short" if "short_btc" in case else "long"
    return Account(case[f"{side}_usdc"], (Holding(case[f"{side}_btc"], case["oracle_usd"]),)), side


def _after(closed: ForcedClose, side: str) -> Found:
    account = closed.account
    return {
        f"{side}_usdc_after": account.cash,
        f"{side}_btc_after": account.holdings[0].size,
        "filled_btc": closed.filled,
        "insurance_gain": closed.fund_change,
        "fund_change": closed.fund_change,
    }


def portion_at_one_price(case: Case) -> Found:
    """The size is measured at the oracle, the fill is at the price of the book."""
    account, side = traded(case)
    quantity = partial.capped_portion(
        account.holdings[0].size,
        case["oracle_usd"],
        portion=case.get("max_portion", default=1),
        min_notional=case.get("min_notional", default=0),
        max_notional=case.get("max_notional_per_block"),
    )
    price = case.get("ask_price", "bid_price")
    size = case.get("ask_size_btc", "bid_size_btc", default=UNLIMITED)
    closed = close_in_book(account, 0, quantity, [(price, size)], fee_cap=case["max_fee"])
    found = _after(closed, side)
    if "ask_size_btc" in case or "bid_size_btc" in case:
        maker = Account(case.rule("maker_usdc"), (Holding(0, price),))
        quote = value_at("linear", closed.filled, price) * (1 if side == "short" else -1)
        found["maker_usdc_after"] = maker.after(0, -closed.filled, quote).cash
    return found


def book_with_fund(case: Case) -> Found:
    account, side = traded(case)
    quantity = abs(account.holdings[0].size)
    levels = [tuple(level) for level in case.get("asks", "bids")]
    closed = close_in_book(account, 0, quantity, levels, fee_cap=case.rule("max_fee"), fund=case["fund"])
    found = _after(closed, side)
    found["fund_after"] = case["fund"] + closed.fund_change
    # Only an order that found nothing at all makes its account a candidate.
    found["adl"] = closed.filled == 0 and equity_negative(closed.account.equity)
    return found


def base_to_restore(case: Case) -> Found:
    return {
        "base_to_transfer": partial.minimal_to_exit(
            case["margin_shortage_usd"],
            case["oracle_usd"],
            case["margin_ratio"],
            taker_fee_rate=case["liquidator_fee"],
            insurance_fee_rate=case["insurance_fee"],
            quote_price=case.get("quote_price", default=1),
        )
    }


def restore_with_buffer(case: Case) -> Found:
    """A position whose quote is its entry, in an account with collateral besides."""
    oracle, fee = case["oracle_usd"], case["liquidator_fee"]
    size = case.get("long_base", default=0) - case.get("short_base", default=0)
    side = 1 if size > 0 else -1
    quote = -value_at("linear", size, case["entry_usd"])
    rate = case["mm_ratio"] + case["buffer_ratio"]
    account = Account(case["collateral_usd"] + quote, (Holding(size, oracle, rate),))
    closed = partial.minimal_to_exit(
        account.maintenance - account.equity,
        oracle,
        rate,
        taker_fee_rate=fee,
        insurance_fee_rate=case["insurance_fee"],
    )
    if closed is None:
        raise NoRuleError("no size frees margin at these fees")
    paid = value_at("linear", side * closed, order_price.oracle_band(oracle, side, fee))
    fund_fee = insurance.notional_fee(closed * oracle, case["insurance_fee"])
    after = account.after(0, -side * closed, paid - fund_fee)
    left = after.holdings[0].size
    return {
        "base_liquidated": closed,
        "base_left": abs(left),
        "quote_entry_left": kept_cost(quote, left, size),
        "quote_left": after.cash - case["collateral_usd"],
        "insurance_fee_usd": fund_fee,
        "liquidator_quote": -paid,
        "margin_ratio_after": after.equity / abs(after.holdings[0].value),
    }


def staged(case: Case) -> Found:
    """Asked for the share at any slot, counted from the slot in which the liquidation begins."""
    initial, duration, small = case["initial_pct"], case["duration_slots"], case["small_shortage_usd"]
    first = case.rule("first_slot")
    found: Found = {}
    for name in case.expected:
        number = Fraction(name.rsplit("_", 1)[1])
        if name.startswith("pct_at_slot_"):
            found[name] = partial.staged_share(number - first, duration, initial)
        elif name.startswith("full_if_shortage_below_"):
            below, at = (
                partial.staged_share(0, duration, initial, shortage=s, small=small)
                for s in (number - Fraction(1, 10**6), number)
            )
            found[name] = below == 1 and at == initial
    return found


def slices(case: Case) -> Found:
    """Threshold and slice of the case; the level of the takeover is in the rule book."""
    takeover = next(rung for rung in case.book().rules.ladder if rung.action == "takeover")
    level = Fraction(*takeover.level)
    order = partial.slice_above(case["position_usdc"], case["threshold_usdc"], case["slice"])
    return {
        "first_order_usdc": order,
        "backstop": [partial.below_level(ratio, 1, level) for ratio in case["equity_over_mm"]],
    }


def at_oracle_with_fee(case: Case) -> Found:
    """Closed whole at the oracle less or plus the fee; the fund's fee is taken of what equity is left."""
    size = case.get("long_base", default=0) - case.get("short_base", default=0)
    side = 1 if size > 0 else -1
    oracle, fee = case["oracle_usd"], case["liquidator_fee"]
    account = Account(case["quote"], (Holding(size, oracle, 1),))
    paid = value_at("linear", size, order_price.oracle_band(oracle, side, fee))
    rate = insurance.residual_margin_fee(
        account.equity / account.maintenance, fee, case.get("insurance_fee", default=0)
    )
    fund_fee = insurance.notional_fee(account.maintenance, rate)
    return {
        "user_quote_after": account.after(0, -size, paid - fund_fee).cash,
        "liquidator_quote": -paid,
        "insurance_fee": fund_fee,
    }


def ramped(case: Case) -> Found:
    return {
        "fee": partial.ramped_fee(
            case["base_fee"],
            case["max_fee"],
            case["current_slot"] - case["start_slot"],
            case["grace_slots"],
            case["increase_per_slot"],
        )
    }


def into_bids(case: Case) -> Found:
    """A liquidation happens as far as there are bids."""
    fills = walk_levels(case["long"], [tuple(level) for level in case["bids"]])
    left = case["long"] - sum(quantity for _, quantity in fills)
    return {"liquidations": int(bool(fills)), "positions_left": int(left > 0)}


def improvement(case: Case) -> Found:
    sign = -1 if case["is_buy"] else 1
    quote = value_at("linear", sign * case["fill_base_btc"], case["fill_price_usd"])
    change = insurance.improvement_fee(quote, case["bankruptcy_quote_usd"], case["max_liquidation_fee"])
    return {"insurance_fund_delta_usd": change}


def residual_fee(case: Case) -> Found:
    notional = value_at("linear", case["base"], case["oracle_usd"])
    rate = insurance.residual_margin_fee(
        insurance.equity_rate(case["margin_ratio"], case["margin_shortage_usd"], notional),
        case["liquidator_fee"],
        case["max_insurance_fee"],
    )
    return {"insurance_fee_rate": rate}


def residual_fee_of_collateral(case: Case) -> Found:
    size = case.get("short_base", "long_base")
    notional = value_at("linear", size, case["oracle_usd"])
    rate = insurance.residual_margin_fee(
        case["collateral_usd"] / notional, case["liquidator_fee"], case["max_insurance_fee"]
    )
    return {"insurance_fee_rate": rate, "insurance_fee_usd": insurance.notional_fee(notional, rate)}


def settle_and_insure(case: Case) -> Found:
    found = insurance.settle_and_insure(
        case["account_health"],
        case["negative_pnl"],
        case["settle_limit"],
        fund=case.get("insurance_balance"),
        fee_rate=case["liquidation_fee"],
        max_transfer=case.get("liquidator_max_transfer"),
        unit_price=case.get("insurance_token_price", default=1),
    )
    return {
        "settled": found.settled,
        "insurance_transfer": found.fund_units,
        "insurance_tokens": found.fund_units,
        "socialised_loss": found.socialised,
    }


def fund_path(case: Case) -> Found:
    """Longs closed one after the other, the fund empty at first."""
    fund, path, adl = Fraction(0), [], False
    for fill in case["fills"]:
        change = insurance.surplus(1, case["size"], case["bankruptcy"], fill)
        covered = insurance.cover(-change, fund) if change < 0 else None
        fund = covered.fund_after if covered else fund + change
        adl |= covered is not None and covered.left > 0
        path.append(fund)
    return {"fund_path": path, "adl": adl}


def signs(case: Case) -> Found:
    gains = [insurance.surplus(1, 1, case["bankruptcy"], fill) for fill in case["fills"]]
    return {"sign": ["gain" if gain > 0 else "loss" if gain < 0 else "none" for gain in gains]}


def fund_pays_in_first(case: Case) -> Found:
    price = case["match_price"]
    short = Account(case["short_usdc"], (Holding(case["short_iso"], price),))
    long = Account(case["long_usdc"], (Holding(case["long_iso"], price),))
    pool = fund_before_payout(short, long, price)
    covered = insurance.cover(-pool.fund_change, case["insurance_fund"])
    at_zero = quote_at_bankruptcy(short, 0, -short.holdings[0].size)
    found = {
        "insurance_delta": -covered.paid,
        "pool_after_fund_payment": pool.after_fund,
        "short_usdc_after": short.after(0, -short.holdings[0].size, at_zero).cash,
        "long_usdc_after": pool.needed,
        "needed": pool.needed,
    }
    if not pool.pays_without_fund:
        found["wrong_order_fails_with_pool"] = pool.before
    return found


def deficit_and_fund(case: Case) -> Found:
    size, entry, mark = case["long"], case["entry"], case["mark"]
    gain = profit("linear", size, entry, mark - case["slippage"])
    deficit = insurance.deficit(case["equity"] + gain)
    covered = insurance.cover(deficit, case["fund"])
    return {"pnl": gain, "deficit": deficit, "fund_after": covered.fund_after, "adl": int(covered.left > 0)}


def fee_split_of_margin(case: Case) -> Found:
    """Closed at no loss: a fee on what is exchanged; the whole position is the margin times its leverage."""
    margin, exchanged = case["margin"], case["exchanged"]
    whole = value_at("linear", margin, case.get("leverage", default=1))
    split = insurance.split_fee(
        margin,
        0,
        insurance.notional_fee(exchanged, case["liquidation_fee"]),
        liquidator_share=case.rule("liquidator_share"),
        is_full=exchanged == whole,
    )
    return {
        "liquidator": split.liquidator,
        "fund_after": case["fund_before"] + case["open_fee_to_fund"] + split.fund,
        "margin_left": split.margin_left,
        "size_left_fraction": 1 - exchanged / whole,
    }


def fee_split_of_part(case: Case) -> Found:
    part, opened, worth = case["partial"], case["open_notional"], case["position_notional"]
    realised = part * (worth - opened)
    fee = insurance.notional_fee(part * worth, case["fee"])
    share = case.rule("liquidator_share")
    split = insurance.split_fee(case["margin"], realised, fee, liquidator_share=share, is_full=False, unit=1)
    return {
        "exchanged": part * worth,
        "fee_total": split.fee,
        "liquidator": split.liquidator,
        "fund": split.fund,
        "margin_left": split.margin_left,
        "open_notional_left": kept_cost(opened, 1 - part, 1),
        "upnl_left": kept_cost(worth - opened, 1 - part, 1),
    }


def reward_as_bad_debt(case: Case) -> Found:
    worth, opened = case["position_notional"], case["open_notional"]
    fee = insurance.notional_fee(worth, case["fee"])
    share = case.rule("liquidator_share")
    split = insurance.split_fee(
        case["margin"], worth - opened, fee, liquidator_share=share, is_full=True, unit=1
    )
    return {
        "liquidator": split.liquidator,
        "fund": split.fund,
        "position_bad_debt": split.position_bad_debt,
        "reward_bad_debt": split.reward_bad_debt,
    }


def reward_above_margin(case: Case) -> Found:
    """A reward in money, all of it the liquidator's."""
    opened = case.get("open_notional", "notional")
    realised = case.get("notional_now", "notional") - opened
    split = insurance.split_fee(
        case["margin"], realised, case["liquidator_fee"], liquidator_share=1, is_full=True
    )
    total = split.position_bad_debt + split.reward_bad_debt
    return {
        "liquidator": split.liquidator,
        "fund": split.fund,
        "bad_debt": total,
        "total_bad_debt": total,
        "position_bad_debt": split.position_bad_debt,
        "realised_pnl": realised,
    }
