"""Which call runs a case: one table, keyed by the kind and the names of the inputs.

A row lists the inputs that must be there and those that may be. The first row that fits is taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.cases import deleveraging as adl
from tests.cases import forced, losses, prices
from tests.cases.case import Case, NoRuleError

ANY_TABLES = "*"
"""Among the inputs that may be there: any that are tables, such as the legs of a wallet."""

Call = Callable[[Case], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Row:
    """A call and the inputs it takes; ``positions[id roi]`` is a list of tables with these names."""

    kind: str
    needs: frozenset[str]
    may: frozenset[str]
    run: Call

    def fits(self, case: Case) -> bool:
        """Tell whether the case has all that is needed and nothing that is not known."""
        names = {_described(name, value, self.needs) for name, value in case.inputs.items()}
        if ANY_TABLES in self.may:
            tables = {name for name, value in case.inputs.items() if isinstance(value, dict)}
            return bool(tables) and self.needs == names - tables
        return self.needs <= names <= self.needs | self.may


def _described(name: str, value: Any, needs: frozenset[str]) -> str:
    """Name an input; a list of tables with the names of their columns, where a row asks for them."""
    if name in needs or not (isinstance(value, list) and value and isinstance(value[0], dict)):
        return name
    return f"{name}[{' '.join(value[0])}]"


def _row(kind: str, run: Call, needs: str, may: str = "") -> Row:
    inputs = re.findall(r"\S+\[.*?\]|\S+", needs)
    return Row(kind, frozenset(inputs), frozenset(may.split()), run)


TABLE: tuple[Row, ...] = (
    _row(
        "bankruptcy_price",
        prices.quote_of_part,
        "oracle_usd maint_margin_rate usdc_balance delta_base position_base",
    ),
    _row(
        "bankruptcy_price",
        prices.quote_of_part,
        "oracle_usd maint_margin_rate usdc_balance delta_base position_base_btc",
    ),
    _row(
        "bankruptcy_price",
        prices.quote_of_part,
        "eth_oracle_usd btc_oracle_usd maint_margin_rate eth_position btc_position usdc_balance",
        "eth_delta btc_delta",
    ),
    _row(
        "bankruptcy_price",
        prices.quote_in_quanta,
        "position_base_btc usdc_balance oracle_usd maint_margin_rate delta_base_quantums",
        "base_quantum_per_btc quote_quantum_per_usd",
    ),
    _row(
        "bankruptcy_price",
        prices.inverse_cross_with_fee,
        "qty_usd entry account_balance_btc order_margin mmr taker_fee",
        "contract tick",
    ),
    _row("bankruptcy_price", prices.by_leverage, "entry leverage", "size side"),
    _row("bankruptcy_price", prices.inverse_by_leverage, "qty_usd entry leverage tick", "side"),
    _row("bankruptcy_price", prices.zero_price, "mark maint_fraction account_value total_maintenance side"),
    _row(
        "bankruptcy_price",
        prices.zero_price_keeps_health,
        "mark position entry collateral maint_fraction close_size",
    ),
    _row(
        "liquidation_order_price",
        prices.fillable,
        "oracle_usd maint_margin_rate position_base usdc_balance spread_to_mm_ratio",
        "bankruptcy_adjustment",
    ),
    _row(
        "liquidation_order_price",
        prices.fillable,
        "eth_oracle_usd btc_oracle_usd maint_margin_rate eth_position btc_position usdc_balance "
        "spread_to_mm_ratio",
        "bankruptcy_adjustment",
    ),
    _row(
        "liquidation_price",
        prices.with_wallet,
        "wallet_balance cum_maintenance position entry mmr side",
    ),
    _row(
        "liquidation_price",
        prices.with_wallet,
        "wallet_balance cum_maintenance size entry mmr side",
        "leverage",
    ),
    _row("liquidation_price", prices.cross_legs, "wallet_balance", ANY_TABLES),
    _row(
        "liquidation_price",
        prices.isolated_by_leverage,
        "entry size leverage mmr",
        "side taker_fee mm_deduction maintenance_at",
    ),
    _row("liquidation_price", prices.inverse_isolated, "qty_usd entry leverage mmr"),
    _row(
        "liquidation_price",
        prices.inverse_wallet,
        "wallet_btc entry qty_usd",
        "calculator_result mmr cum_maintenance",
    ),
    _row(
        "liquidation_price",
        prices.from_margin_available,
        "price side size margin_available maintenance_leverage",
    ),
    _row("maintenance_tier", prices.marginal_tiers, "notional tiers"),
    _row("maintenance_tier", prices.next_amount, "floor mmr_level mmr_previous previous_amount"),
    _row("maintenance_tier", prices.next_amount, "floor_btc mmr_level mmr_previous previous_amount_btc"),
    _row("maintenance_tier", prices.bracket_amounts, "notionals mmr amount"),
    _row("maintenance_tier", prices.whole_rates, "tiers notionals"),
    _row(
        "partial_liquidation",
        forced.portion_at_one_price,
        "oracle_usd short_usdc short_btc ask_price max_fee",
        "ask_size_btc max_portion min_notional max_notional_per_block maker_usdc",
    ),
    _row(
        "partial_liquidation",
        forced.portion_at_one_price,
        "oracle_usd long_usdc long_btc bid_price max_fee",
        "bid_size_btc max_portion min_notional max_notional_per_block maker_usdc",
    ),
    _row(
        "partial_liquidation",
        forced.portion_at_one_price,
        "oracle_usd short_usdc short_btc ask_price max_notional_per_block",
        "ask_size_btc maker_usdc",
    ),
    _row(
        "partial_liquidation",
        forced.book_with_fund,
        "oracle_usd asks short_usdc short_btc fund",
        "bankruptcy_price max_fee",
    ),
    _row(
        "partial_liquidation",
        forced.book_with_fund,
        "oracle_usd bids long_usdc long_btc fund",
        "bankruptcy_price max_fee",
    ),
    _row(
        "partial_liquidation",
        forced.base_to_restore,
        "margin_shortage_usd margin_ratio liquidator_fee insurance_fee oracle_usd",
        "quote_price",
    ),
    _row(
        "partial_liquidation",
        forced.restore_with_buffer,
        "oracle_usd long_base entry_usd collateral_usd mm_ratio buffer_ratio liquidator_fee insurance_fee",
    ),
    _row(
        "partial_liquidation",
        forced.restore_with_buffer,
        "oracle_usd short_base entry_usd collateral_usd mm_ratio buffer_ratio liquidator_fee insurance_fee",
    ),
    _row("partial_liquidation", forced.staged, "initial_pct duration_slots small_shortage_usd", "first_slot"),
    _row(
        "partial_liquidation",
        forced.slices,
        "position_usdc threshold_usdc slice equity_over_mm",
        "cooldown_s book",
    ),
    _row(
        "partial_liquidation",
        forced.fee_split_of_margin,
        "margin exchanged liquidation_fee open_fee_to_fund fund_before",
        "leverage liquidator_share",
    ),
    _row(
        "partial_liquidation",
        forced.fee_split_of_part,
        "open_notional margin position_notional partial fee",
        "liquidator_share",
    ),
    _row(
        "liquidation",
        forced.at_oracle_with_fee,
        "oracle_usd long_base quote liquidator_fee",
        "insurance_fee",
    ),
    _row(
        "liquidation",
        forced.at_oracle_with_fee,
        "oracle_usd short_base quote liquidator_fee",
        "insurance_fee",
    ),
    _row(
        "liquidation",
        forced.ramped,
        "base_fee max_fee start_slot current_slot grace_slots increase_per_slot",
    ),
    _row("liquidation", forced.into_bids, "long entry equity mark bids"),
    _row(
        "insurance_delta",
        forced.improvement,
        "is_buy fill_base_btc fill_price_usd bankruptcy_quote_usd max_liquidation_fee",
    ),
    _row(
        "insurance_delta",
        forced.residual_fee,
        "margin_shortage_usd base margin_ratio liquidator_fee oracle_usd max_insurance_fee",
    ),
    _row(
        "insurance_delta",
        forced.residual_fee_of_collateral,
        "oracle_usd short_base collateral_usd liquidator_fee max_insurance_fee",
    ),
    _row(
        "insurance_delta",
        forced.residual_fee_of_collateral,
        "oracle_usd long_base collateral_usd liquidator_fee max_insurance_fee",
    ),
    _row(
        "insurance_delta",
        forced.settle_and_insure,
        "account_health negative_pnl settle_limit liquidation_fee",
        "insurance_balance liquidator_max_transfer insurance_token_price",
    ),
    _row("insurance_delta", forced.fund_path, "fills bankruptcy size", "entry liquidation"),
    _row("insurance_delta", forced.signs, "bankruptcy fills"),
    _row(
        "insurance_delta",
        forced.fund_pays_in_first,
        "short_usdc short_iso long_usdc long_iso match_price insurance_fund",
        "pool_before",
    ),
    _row("insurance_delta", forced.deficit_and_fund, "long entry equity mark fund slippage"),
    _row(
        "insurance_delta",
        forced.fee_split_of_margin,
        "margin leverage exchanged liquidation_fee open_fee_to_fund fund_before",
        "liquidator_share",
    ),
    _row(
        "insurance_delta",
        forced.reward_as_bad_debt,
        "open_notional margin position_notional fee",
        "liquidator_share",
    ),
    _row("insurance_delta", forced.reward_above_margin, "margin notional liquidator_fee"),
    _row("insurance_delta", forced.reward_above_margin, "margin open_notional notional_now liquidator_fee"),
    _row("adl_trigger", adl.fund_sufficient, "fund_balance_usd insurance_delta_usd"),
    _row("adl_trigger", adl.account_negative, "usdc btc_position oracle_usd"),
    _row(
        "adl_trigger",
        adl.profit_to_pool,
        "pool_eth long_size_usd open_price price max_pnl_factor_for_adl min_pnl_factor_after_adl "
        "adl_size_usd",
        "long_collateral_eth",
    ),
    _row(
        "adl_trigger",
        adl.drawdown_of_symbol,
        "pool_8h_max pool_balance symbol_pnl_now symbol_pnl_8h_max trigger_ratio stop_ratio "
        "balance_threshold",
    ),
    _row("adl_trigger", adl.empty_pool, "pool_balance", "pool_start pnl_ratios_above"),
    _row(
        "adl_trigger",
        adl.drawdown_given,
        "pnl_ratio insurance_pnl_ratio balance adl_trigger_threshold",
        "adl_stop_ratio max_balance",
    ),
    _row("adl_trigger", adl.fund_drawdown, "peak_8h balance", "drawdown"),
    _row("adl_trigger", adl.loss_limit, "engine_loss_limit losses"),
    _row(
        "adl_execution",
        adl.close_one,
        "oracle_usd liquidated_usdc liquidated_btc counterparty_usdc counterparty_btc",
        "delta_btc",
    ),
    _row(
        "adl_execution",
        adl.close_several,
        "oracle_usd liquidated_usdc liquidated_btc counterparties",
    ),
    _row("adl_execution", adl.settle_at_oracle, "oracle_usd short_usdc short_btc long_usdc long_btc"),
    _row(
        "adl_execution",
        adl.book_then_deleverage,
        "oracle_usd short_usdc short_btc winner_usdc winner_btc ask fund",
        "max_fee",
    ),
    _row("adl_execution", adl.queue_by_rank, "longs liquidated_short bankruptcy_price"),
    _row("adl_execution", adl.gain_after_deficit, "long entry equity mark fund winner"),
    _row("adl_rank", adl.lights, "longs"),
    _row("adl_rank", adl.return_rate, "entry mark multiplier contracts"),
    _row("adl_rank", adl.opening_leverage_rank, "entries mark_value", "loss_rule"),
    _row("adl_rank", adl.return_times_leverage, "positions[id pnl_pct eff_leverage]", "loss_rule"),
    _row("adl_rank", adl.return_times_rate, "positions[id roi mmr_account]", "loss_rule"),
    _row("adl_rank", adl.price_ratio_times_leverage, "positions[id mark entry notional account]"),
    _row("adl_rank", adl.return_ratio_times_leverage, "positions[id pnl_ratio leverage]", "floor"),
    _row("adl_rank", adl.two_rankings, "long entry equity mark fund", ANY_TABLES),
    _row("adl_rank", adl.equal_scores, "deficit winners"),
    _row("adl_cost", adl.markout, "signed_qty exec_price mark_at_exec mark_later"),
    _row("adl_alternative", adl.equal_leverage, "positions target_notional"),
    _row("socialised_loss", losses.per_unit_of_base, "loss_usd long_base short_base", "quantum"),
    _row(
        "socialised_loss",
        losses.per_unit_after_fee_pool,
        "bad_debt_usd long_base short_base fee_pool",
        "quantum",
    ),
    _row("socialised_loss", losses.depositors, "bad_debt total_deposits cumulative_interest precision"),
    _row(
        "socialised_loss",
        losses.winners_of_a_move,
        "mark_from mark_to loser winners fund",
        "solvent_short_pays note",
    ),
    _row(
        "socialised_loss",
        losses.winners_of_a_move,
        "mark_from mark_to losers winners fund",
        "solvent_short_pays note",
    ),
    _row(
        "socialised_loss",
        losses.inventory_loses,
        "network_long mark_from mark_to fund other_loser_pays shorts",
    ),
    _row("socialised_loss", losses.junior_profit, "principal warming_pnl insurance collateral"),
    _row("socialised_loss", losses.junior_profit_of_deficit, "deficit warming_pnl insurance equity"),
    _row("socialised_loss", losses.profit_ratio, "vault capital_total insurance positive_pnl_total"),
    _row("conservation", losses.closed_out_into_bids, "party_funds long entry bids total_cash_before"),
    _row("conservation", losses.fund_counted_once, "principal warming insurance collateral"),
)


def call_for(case: Case) -> Call:
    """Return the call that runs a case.

    Raises:
        NoRuleError: No row takes these inputs.
    """
    for row in TABLE:
        if row.kind == case.kind and row.fits(case):
            return row.run
    raise NoRuleError(f"no rule of kind {case.kind} for these inputs: {', '.join(sorted(case.inputs))}")
