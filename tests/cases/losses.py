"""Calls for kinds `socialised_loss` and `conservation`."""

from __future__ import annotations

from typing import Any

from replay.rules.formulas import insurance, socialise
from replay.rules.formulas.contract import profit
from replay.rules.formulas.fill import best_first, walk_levels
from tests.cases.case import Case

Found = dict[str, Any]


def per_unit_of_base(case: Case) -> Found:
    share = socialise.per_unit_both_sides(
        case["loss_usd"], case["long_base"], case["short_base"], quantum=case.rule("quantum")
    )
    return {"loss_per_base_usd": share}


def per_unit_after_fee_pool(case: Case) -> Found:
    left = insurance.cover(case["bad_debt_usd"], case["fee_pool"]).left
    share = socialise.per_unit_both_sides(
        left, case["long_base"], case["short_base"], quantum=case.rule("quantum")
    )
    return {
        "loss_per_base": share,
        "long_pays": share * case["long_base"],
        "short_pays": share * case["short_base"],
        "market_social_loss": left,
    }


def depositors(case: Case) -> Found:
    haircut = socialise.deposit_haircut(case["bad_debt"], case["total_deposits"])
    return {
        "interest_delta_units": socialise.interest_units(
            haircut, case["cumulative_interest"], case["precision"]
        ),
        "depositor_haircut": haircut,
    }


def winners_of_a_move(case: Case) -> Found:
    """Losers pay what they have, solvent ones all they owe, the fund what is missing; winners share the pot.

    Where the case does not say what the solvent losers pay, they hold what makes the sizes sum to zero.
    """
    losers = case.get("losers") or [case["loser"]]
    winners = case["winners"]
    before, after = case["mark_from"], case["mark_to"]
    claims = [int(profit("linear", size, before, after)) for size in winners.values()]
    owed = [-profit("linear", loser["position"], before, after) for loser in losers]
    paid = sum(min(debt, loser["funds"]) for debt, loser in zip(owed, losers, strict=True))
    if "solvent_short_pays" in case:
        solvent = case["solvent_short_pays"]
    else:
        rest = -sum(winners.values()) - sum(loser["position"] for loser in losers)
        solvent = -profit("linear", rest, before, after)
    covered = insurance.cover(sum(claims) - paid - solvent, case["fund"])
    pot = int(paid + solvent + covered.paid)
    return {"fund_after": covered.fund_after} | _shared(pot, claims, list(winners))


def _shared(pot: int, claims: list[int], names: list[str]) -> Found:
    shares = socialise.profit_pro_rata(pot, claims)
    received = {f"{name}_received": paid for name, paid in zip(names, shares.paid, strict=True)}
    return received | {"rounding_units": shares.left}


def inventory_loses(case: Case) -> Found:
    before, after = case["mark_from"], case["mark_to"]
    owed = -profit("linear", case["network_long"], before, after)
    covered = insurance.cover(owed, case["fund"])
    pot = int(covered.paid + case["other_loser_pays"])
    claims = [int(profit("linear", -size, before, after)) for size in case["shorts"].values()]
    return {"owed": sum(claims), "available": pot} | _shared(pot, claims, list(case["shorts"]))


def junior_profit(case: Case) -> Found:
    short = insurance.deficit(case["collateral"] - case["principal"] - case["warming_pnl"])
    loss = socialise.junior_first(short, case["warming_pnl"], case["insurance"])
    return {
        "deficit": loss.deficit,
        "burned_warming": loss.burned,
        "warming_left": loss.profit_left,
        "equity_haircut": loss.left,
    }


def junior_profit_of_deficit(case: Case) -> Found:
    loss = socialise.junior_first(case["deficit"], case["warming_pnl"], case["insurance"])
    return {
        "insurance_draw": loss.fund_paid,
        "equity_haircut_usd": loss.left,
        "equity_haircut_ratio": socialise.deposit_haircut(loss.left, case["equity"]),
    }


def profit_ratio(case: Case) -> Found:
    haircut = socialise.residual_for_profit(
        case["vault"], case["capital_total"], case["insurance"], case["positive_pnl_total"]
    )
    return {
        "residual": haircut.residual,
        "h": haircut.ratio,
        "payout_of_100_profit": haircut.ratio * 100,
    }


def fund_counted_once(case: Case) -> Found:
    """The fund is among the assets, so what it pays is not an asset any more: paying changes no deficit."""
    assets = case["collateral"] + case["insurance"]
    short = insurance.deficit(assets - case["principal"] - case["warming"])
    loss = socialise.junior_first(short, case["warming"], 0)
    return {
        "deficit_start": loss.deficit,
        "deficit_after_burn": loss.after_burn,
        "deficit_after_draw": loss.left,
        "equity_haircut": socialise.deposit_haircut(loss.left, case["principal"]),
    }


def closed_out_into_bids(case: Case) -> Found:
    """A long closed far below its entry: it pays all it has, the winners of the move receive it."""
    oldest_last = case.rule("equal_price_first") == "last"
    bids = [tuple(level) for level in case["bids"]]
    ordered = best_first(bids, highest=True, newest_last=not oldest_last)
    fills = walk_levels(case["long"], ordered)
    lost = -sum(profit("linear", quantity, case["entry"], price) for price, quantity in fills)
    paid = insurance.cover(lost, case["party_funds"])
    shares = socialise.profit_pro_rata(int(paid.paid), [int(lost)])
    movements = [-paid.paid, *shares.paid, shares.left]
    listed = dict(zip(ordered, fills, strict=False))
    return {
        "total_cash_after": case["total_cash_before"] + sum(movements),
        "fund_after": insurance.cover(paid.left, 0).fund_after,
        "closeout_fills": [list(listed[bid]) for bid in bids if bid in listed],
    }
