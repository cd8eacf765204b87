"""Why an exchange's own display may show other figures than a run: what applies to the run's rule book."""

from __future__ import annotations

from collections.abc import Collection

from replay.analysis.bench import Bench
from replay.run.store import Run
from replay.tape.read import Market
from replay.tape.schema import Payoff
from replay.units import MONEY_SCALE, RATE_SCALE, format_units


def differences(run: Run, bench: Bench, markets: Collection[Market], *, shared: bool) -> tuple[str, ...]:
    """Return a sentence for each reason, of those that the rules and the tape of the run leave.

    Args:
        run: The run.
        bench: Its rules and markets.
        markets: The markets of the account's positions.
        shared: Whether several positions share a pool.
    """
    margin = bench.rules.margin
    found = []
    if margin.exit_fee:
        fee = format_units(margin.exit_fee * 100, RATE_SCALE)
        found.append(
            f"Fee to close: maintenance holds {fee} % of notional for it; a display may leave it out."
        )
    else:
        found.append("Fee to close: maintenance holds none; a display that adds it shows an earlier price.")
    if bench.rules.bankruptcy.fee_in_price == "none":
        found.append(
            "Bankruptcy price: no fee is in it; a display that adds one shows a price nearer the mark."
        )
    if bench.rules.price.risk_price == "mark":
        found.append(
            "Price: judged at the mark of the tape; a display in last prices follows trades instead."
        )
    ticks = ", ".join(
        f"{format_units(market.tick, market.price_scale)} of {market.name}"
        for market in sorted(markets, key=lambda market: market.id)
    )
    found.append(f"Tick: prices here are not rounded to the tick ({ticks}); a display rounds to it.")
    if shared:
        found.append(
            "Cross margin: the other marks are held still here; each of them that moves, moves the price."
        )
    if any(market.payoff == Payoff.INVERSE for market in markets):
        found.append(
            "Entry: the average of an inverse contract is harmonic here (contracts over coins); an arithmetic "
            "one shows another profit, at the same equity."
        )
    if any(len(bench.margins[market.id].tiers) > 1 for market in markets):
        found.append(
            "Tier: the liquidation price takes the rate that applies at that price; a display that keeps the "
            "present tier is off once the position changes tiers on the way."
        )
    if margin.least:
        least = format_units(margin.least, MONEY_SCALE)
        found.append(f"Least: a position needs {least} of its currency at least, whatever its notional.")
    if run.manifest["counts"]["rows"].get("funding", 0):
        found.append("Funding: booked when it is due; what has accrued since then is not in equity.")
    else:
        found.append(
            "Funding: the tape has none, so none was paid; an exchange's equity is less or more by it."
        )
    found += [f"Assumed: {text}" for text in bench.rules.assumptions if text.startswith("margin")]
    return tuple(found)
