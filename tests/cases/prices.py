"""Calls for kinds `bankruptcy_price`, `liquidation_order_price`, `liquidation_price`, `maintenance_tier`."""

from __future__ import annotations

from typing import Any

from replay.rules.formulas import bankruptcy, liquidation_price, maintenance, order_price
from replay.rules.formulas.account import Account, Holding, quote_at_bankruptcy
from replay.rules.formulas.contract import initial_margin, profit, value_at
from tests.cases.case import Case, NoRuleError

Found = dict[str, Any]


def account_of(case: Case) -> Account:
    """Return the account of a case with one position, or with one each in ETH and BTC, ETH first."""
    rate = case["maint_margin_rate"]
    if "oracle_usd" in case:
        size = case.get("position_base", "position_base_btc")
        return Account(case["usdc_balance"], (Holding(size, case["oracle_usd"], rate),))
    return Account(
        case["usdc_balance"],
        (
            Holding(case["eth_position"], case["eth_oracle_usd"], rate),
            Holding(case["btc_position"], case["btc_oracle_usd"], rate),
        ),
    )


def quote_of_part(case: Case) -> Found:
    account = account_of(case)
    index = 1 if "btc_delta" in case else 0
    change = case.get("delta_base", "eth_delta", "btc_delta")
    quote = quote_at_bankruptcy(account, index, change)
    return {"bankruptcy_quote_usd": quote, "implied_price_usd": -quote / change}


def quote_in_quanta(case: Case) -> Found:
    change = case["delta_base_quantums"] / case.rule("base_quantum_per_btc")
    unit = case.rule("quote_quantum_per_usd")
    account = account_of(case)
    return {
        "bankruptcy_quote_quantums": quote_at_bankruptcy(account, 0, change, quantum=1 / unit) * unit,
        "unrounded": quote_at_bankruptcy(account, 0, change) * unit,
    }


def fillable(case: Case) -> Found:
    account = account_of(case)
    held = account.holdings[0]
    price = order_price.fillable(
        held.price,
        1 if held.size > 0 else -1,
        account.equity,
        account.maintenance,
        held.rate,
        adjustment=case.get("bankruptcy_adjustment", default=1),
        spread=case["spread_to_mm_ratio"],
    )
    return {"fillable_price_usd": price}


def by_leverage(case: Case) -> Found:
    side = int(case.get("side", default=1))
    return {"bankruptcy_price": bankruptcy.by_leverage("linear", side, case["entry"], case["leverage"])}


def inverse_by_leverage(case: Case) -> Found:
    side = int(case.get("side", default=1))
    price = bankruptcy.by_leverage("inverse", side, case["entry"], case["leverage"])
    if price is None:
        raise NoRuleError("no price ends this position")
    return {
        "bankruptcy_price_raw": price,
        "bankruptcy_price_used": bankruptcy.to_tick(price, side, case["tick"]),
    }


def inverse_cross_with_fee(case: Case) -> Found:
    size, entry, fee = case["qty_usd"], case["entry"], case["taker_fee"]
    margin = case["account_balance_btc"] - case["order_margin"]
    price = bankruptcy.isolated("inverse", size, entry, margin, exit_fee_rate=fee)
    if price is None:
        raise NoRuleError("no price ends this position")
    need = maintenance.flat(abs(value_at("inverse", size, entry)), case["mmr"])
    need += maintenance.flat(abs(value_at("inverse", size, price)), fee)
    mark = liquidation_price.at_entry("inverse", size, entry, margin, need)
    if mark is None:
        raise NoRuleError("no price liquidates this position")
    return {
        "bankruptcy_price": price,
        "liquidation_price": bankruptcy.to_tick(mark, 1 if size > 0 else -1, case.rule("tick")),
    }


def zero_price(case: Case) -> Found:
    """A position with unknown size: the price does not depend on it, its maintenance is the rate."""
    price = bankruptcy.maintenance_proportional(
        "linear",
        case["side"],
        case["mark"],
        case["account_value"],
        maintenance.flat(case["mark"], case["maint_fraction"]),
        case["total_maintenance"],
    )
    return {"zero_price": price}


def zero_price_keeps_health(case: Case) -> Found:
    size, mark, rate = case["position"], case["mark"], case["maint_fraction"]
    cash = case["collateral"] - value_at("linear", size, case["entry"])
    account = Account(cash, (Holding(size, mark, rate),))
    price = bankruptcy.maintenance_proportional(
        "linear", size, mark, account.equity, account.maintenance, account.maintenance
    )
    change = -case["close_size"] if size > 0 else case["close_size"]
    after = account.after(0, change, quote_at_bankruptcy(account, 0, change))
    return {
        "account_value": account.equity,
        "maintenance": account.maintenance,
        "zero_price": price,
        "ratio_before": account.equity / account.maintenance,
        "ratio_after": after.equity / after.maintenance,
    }


def with_wallet(case: Case) -> Found:
    size = case["side"] * case.get("position", "size")
    return {
        "liquidation_price": liquidation_price.at_mark(
            "linear",
            size,
            case["entry"],
            case["wallet_balance"],
            case["mmr"],
            deduction=case["cum_maintenance"],
        )
    }


def cross_legs(case: Case) -> Found:
    """Each leg of a wallet, the other legs still."""
    legs = {name: leg for name, leg in case.inputs.items() if isinstance(leg, dict)}

    def price_of(name: str) -> Any:
        others = [
            (
                profit("linear", leg["size"], leg["entry"], leg["mark"]),
                maintenance.bracket_deduction(
                    abs(value_at("linear", leg["size"], leg["mark"])), leg["mmr"], leg["cum"]
                ),
            )
            for other, leg in legs.items()
            if other != name
        ]
        leg = legs[name]
        collateral = liquidation_price.cross_collateral(case["wallet_balance"], others)
        return liquidation_price.at_mark(
            "linear", leg["size"], leg["entry"], collateral, leg["mmr"], deduction=leg["cum"]
        )

    return {f"liquidation_price_{name}": price_of(name) for name in legs}


def isolated_by_leverage(case: Case) -> Found:
    """Isolated linear position; whether maintenance is measured at mark or at entry is the venue's rule."""
    size, entry = case.get("side", default=1) * case["size"], case["entry"]
    at_entry = abs(value_at("linear", size, entry))
    margin = initial_margin(at_entry, case["leverage"])
    rate = case["mmr"] + case.get("taker_fee", default=0)
    deduction = case.get("mm_deduction", default=0)
    need = maintenance.bracket_deduction(at_entry, rate, deduction)
    if case.rule("maintenance_at") == "entry":
        price = liquidation_price.at_entry("linear", size, entry, margin, need)
    else:
        price = liquidation_price.at_mark("linear", size, entry, margin, rate, deduction=deduction)
    return {
        "initial_margin": margin,
        "position_margin": margin,
        "maintenance_margin": need,
        "liquidation_price": price,
    }


def inverse_isolated(case: Case) -> Found:
    quantity, entry = case["qty_usd"], case["entry"]
    worth = abs(value_at("inverse", quantity, entry))
    margin = initial_margin(worth, case["leverage"])
    need = maintenance.flat(worth, case["mmr"])
    return {
        "position_value_btc": worth,
        "initial_margin_btc": margin,
        "maintenance_margin_btc": need,
        "liquidation_price_if_long": liquidation_price.at_entry("inverse", quantity, entry, margin, need),
        "liquidation_price_if_short": liquidation_price.at_entry("inverse", -quantity, entry, margin, need),
    }


def inverse_wallet(case: Case) -> Found:
    price = liquidation_price.at_mark(
        "inverse",
        case["qty_usd"],
        case["entry"],
        case["wallet_btc"],
        case.rule("mmr"),
        deduction=case.rule("cum_maintenance"),
    )
    return {"user_code_result": price}


def from_margin_available(case: Case) -> Found:
    price = liquidation_price.from_margin_available(
        case["price"], case["side"] * case["size"], case["margin_available"], case["maintenance_leverage"]
    )
    return {"liquidation_price": price}


def marginal_tiers(case: Case) -> Found:
    """Tiers written as (up to, rate): each begins where the one before it ends."""
    starts = [0, *(upper for upper, _ in case["tiers"][:-1])]
    tiers = [(start, rate) for start, (_, rate) in zip(starts, case["tiers"], strict=True)]
    return {"maintenance_margin": maintenance.bracket_marginal(case["notional"], tiers)}


def next_amount(case: Case) -> Found:
    amount = maintenance.next_deduction(
        case.get("floor", "floor_btc"),
        case["mmr_level"],
        case["mmr_previous"],
        case.get("previous_amount", "previous_amount_btc"),
    )
    return {"maintenance_amount": amount, "maintenance_amount_btc": amount}


def bracket_amounts(case: Case) -> Found:
    rate, amount = case["mmr"], case["amount"]
    return {"maintenance": [maintenance.bracket_deduction(n, rate, amount) for n in case["notionals"]]}


def whole_rates(case: Case) -> Found:
    tiers = [tuple(tier) for tier in case["tiers"]]
    return {
        "mm_fraction": [maintenance.whole_rate(n, tiers) for n in case["notionals"]],
        "maintenance": [maintenance.bracket_whole(n, tiers) for n in case["notionals"]],
    }
