"""The shadow waterfall: what the rules say of each forced event that the tape recorded.

In every mode the replay notes what it holds of a position just before the first recorded forced fill of a
step. Here that is set beside what the venue recorded, and the rules give their verdict. Nothing is booked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy.typing as npt

from replay.loop.books import value_of
from replay.loop.executed import Executed
from replay.loop.margin import maintenance_of
from replay.loop.state import NEVER, State
from replay.rules.plan import Plan
from replay.tape.read import NONE, Liquidations
from replay.tape.schema import FillKind, Grade
from replay.units import divide_half_even

Array = npt.NDArray[Any]

_METHODS = {
    FillKind.LIQUIDATION: "liquidation",
    FillKind.BACKSTOP: "backstop",
    FillKind.ADL: "adl",
    FillKind.SETTLEMENT: "settlement",
}


@dataclass(frozen=True, slots=True)
class _Recorded:
    liquidation: int
    legs: int
    notional: int | None
    equity: int | None
    mark: int | None
    cross: bool
    mode: str | None
    method: str | None


def _known(value: int) -> int | None:
    return None if value == NONE else value


class ShadowAudit:
    """Turns shadow records and recorded liquidations of a window into rows of ``audit`` and ``engagements``.

    Args:
        state: The state of the replay.
        plan: The compiled rules.
        words: Margin modes and methods of recorded liquidations, in the source's words.
        rules_decide: Whether the rules make the liquidations (then the question is whether they found each).
        executed: What depth and fund of the rules would have taken, by (position, ts); None if not asked.
    """

    def __init__(
        self,
        state: State,
        plan: Plan,
        words: Sequence[str],
        *,
        rules_decide: bool,
        executed: Mapping[tuple[int, int], Executed] | None = None,
    ) -> None:
        self._state = state
        self._plan = plan
        self._words = [*words, None]  # -1 is unknown
        self._rules_decide = rules_decide
        self._executed = executed
        self._unreported = 0

    def rows(
        self, recorded: Liquidations, shadows: Array, ruled: set[tuple[int, int]]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return rows for ``audit`` and for ``engagements``.

        Args:
            recorded: Recorded liquidations of the window.
            shadows: Shadow records of the window, in order of steps.
            ruled: (pool, ts) of every liquidation the rules made in the window.
        """
        reports = self._reports(recorded)
        audit = []
        for shadow in shadows:
            pool = self._state.pools[shadow["pool"]]
            market = int(self._state.positions[shadow["position"]]["market"])
            reported = reports.pop((int(shadow["ts"]), int(pool["account"]), market), [None])
            audit += [self._judged(shadow, pool, market, report, ruled) for report in reported]
        for (ts, account, market), reported in reports.items():
            audit += [self._unmatched(ts, account, market, report) for report in reported if report]
        audit.sort(key=lambda row: (row["ts"], row["liquidation"] < 0, row["liquidation"]))
        seen: set[int] = set()
        for row in audit:
            if row["liquidation"] in seen:
                row["anchored"] = None
            seen.add(row["liquidation"])
        return audit, self._engagements(audit)

    def _reports(self, recorded: Liquidations) -> dict[tuple[int, int, int], list[_Recorded | None]]:
        """Return the reports by (ts, account, market).

        Sources that print every fill of a forced order as a row of its own give one report for all; reports
        with an equity are each kept.
        """
        legs: dict[int, set[int]] = {}
        for liquidation, market in zip(recorded.liquidation.tolist(), recorded.market.tolist(), strict=True):
            legs.setdefault(liquidation, set()).add(market)
        reports: dict[tuple[int, int, int], list[_Recorded | None]] = {}
        for ts, liquidation, account, market, cross, notional, equity, mark, mode, method in zip(
            *(column.tolist() for column in recorded), strict=True
        ):
            report = _Recorded(
                liquidation,
                len(legs[liquidation]),
                _known(notional),
                _known(equity),
                _known(mark),
                bool(cross),
                self._words[mode],
                self._words[method],
            )
            same = reports.setdefault((ts, account, market), [])
            if not (same and same[0] and report.equity is None):  # further fills of one forced order
                same.append(report)
        return reports

    def _judged(
        self, shadow: Any, pool: Any, market: int, report: _Recorded | None, ruled: set[tuple[int, int]]
    ) -> dict[str, Any]:
        if report is None:
            self._unreported += 1
            report = _Recorded(-self._unreported, 1, None, None, None, True, None, None)
        valued, size, mark = bool(shadow["valued"]), int(shadow["size"]), int(shadow["mark"])
        equity, maintenance = int(shadow["equity"]), int(shadow["maintenance"])
        known = bool(shadow["known"])
        at_recorded_mark = None
        if valued and size and report.mark is not None:
            at_recorded_mark = (
                equity
                - value_of(self._state, market, size, mark, at_mark=True)
                + value_of(self._state, market, size, report.mark, at_mark=True)
            )
        breach = valued and equity - maintenance < int(self._plan.breach_at_equal)
        row = {
            "ts": int(shadow["ts"]),
            "liquidation": report.liquidation,
            "account": int(pool["account"]),
            "ledger": int(pool["ledger"]),
            "market": market,
            "legs": report.legs,
            "leverage_type": report.mode,
            "method": self._method(report, FillKind(int(shadow["kind"]))),
            "recorded_notional": report.notional,
            "recorded_equity": report.equity,
            "recorded_mark": report.mark,
            "fill_qty": int(shadow["fill_qty"]),
            "fill_value": int(shadow["fill_value"]),
            "fill_price": self._fill_price(shadow, market),
            "replayed_size": size,
            "replayed_cost": int(shadow["cost"]),
            "mark": mark if valued and mark else None,
            "replayed_equity": equity if valued else None,
            "replayed_equity_recorded_mark": at_recorded_mark,
            "replayed_maintenance": maintenance if valued else None,
            "replayed_notional": int(shadow["notional"]) if valued else None,
            "bankruptcy_value": int(shadow["bankruptcy_value"]) if valued and size else None,
            "grade": int(pool["grade"]),
            "anchored": int(shadow["anchored"]) or None,
            "size_after": int(shadow["size_after"]),
            "cost_after": int(shadow["cost_after"]),
            "turnover": int(shadow["turnover"]),
        }
        judged = known and valued and size != 0
        if judged and breach:
            row["stage"] = self._stage(equity, maintenance)
            row["absorbed"] = abs(size) if row["stage"] == "takeover" else None
            exempt = self._plan.adl is not None and market in self._plan.adl.exempt_markets
            row["adl_needed"] = abs(size) if row["stage"] == "adl" and not exempt else 0
        if self._executed is not None:
            taken = self._executed.get((int(shadow["position"]), int(shadow["ts"])))
            if taken is not None:
                row["booked"], row["absorbed"], row["adl_needed"] = taken
        key = (int(shadow["pool"]), int(shadow["ts"]))
        if not known or not valued:
            row["verdict"] = "unknown equity"
            row["cause"] = "cash of the account is not on the tape" if valued else "a market has no mark yet"
        elif self._rules_decide and key in ruled:
            row["verdict"], row["replayed_ts"] = "found", int(shadow["ts"])
        elif self._rules_decide and size == 0 and int(shadow["liquidated_ts"]) != NEVER:
            row["verdict"], row["replayed_ts"] = "found earlier", int(shadow["liquidated_ts"])
            row["cause"] = "the replayed equity fell below maintenance before the recorded one"
        elif size == 0:
            row["verdict"] = "flat"
            row["cause"] = "the replay holds no position here"
        elif breach and self._rules_decide:
            row["verdict"] = "missed"
            row["cause"] = "a breach before the step's fills, none at its end, when the rules judge"
        elif breach:
            row["verdict"] = "agrees"
        else:
            row["verdict"] = "missed" if self._rules_decide else "healthy"
            row["cause"] = self._cause(report, market, size, at_recorded_mark, maintenance, shadow)
        return row

    def _stage(self, equity: int, maintenance: int) -> str:
        """Return the action of the rung that the rules would begin with."""
        levels = [
            (Fraction(*rung.level), number)
            for number, rung in enumerate(self._plan.ladder)
            if equity * rung.level[1] - rung.level[0] * maintenance
            < int(self._plan.breach_at_equal and rung.level[0] > 0)
        ]
        return self._plan.ladder[min(levels)[1]].action

    @staticmethod
    def _method(report: _Recorded, kind: FillKind) -> str:
        """Return how it was closed in the source's words; those of ADL are its loser's takeover."""
        return _METHODS[kind] if kind == FillKind.ADL or report.method is None else report.method

    def _cause(
        self,
        report: _Recorded,
        market: int,
        size: int,
        at_recorded_mark: int | None,
        maintenance: int,
        shadow: Any,
    ) -> str:
        """Say why the rules see no breach where the tape recorded one."""
        if not report.cross:
            return "isolated margin is not on the tape"
        if report.equity is None:
            return "the tape does not tell the recorded equity"
        if at_recorded_mark is None or report.mark is None:
            return "equity differs from the recorded one: flows or marks that are not on the tape"
        others = maintenance - self._maintenance(market, size, int(shadow["cost"]), int(shadow["mark"]))
        there = others + self._maintenance(market, size, int(shadow["cost"]), report.mark)
        if report.equity - there >= int(self._plan.breach_at_equal):
            return "rules: the recorded equity is not below their maintenance"
        if at_recorded_mark - there < int(self._plan.breach_at_equal):
            return "mark: a breach at the recorded mark, none at the replay's"
        return "equity: the tape lacks flows that the venue booked (fees, funding, ...)"

    def _maintenance(self, market: int, size: int, cost: int, mark: int) -> int:
        arrays = self._state.arrays
        notional = abs(value_of(self._state, market, size, mark, at_mark=True))
        return int(maintenance_of(arrays.tiers, arrays.markets[market], size, cost, notional))

    def _fill_price(self, shadow: Any, market: int) -> int:
        """Return the price of the forced fills, or where they differ the price of their summed value."""
        if shadow["fill_price"]:
            return int(shadow["fill_price"])
        record = self._state.arrays.markets[market]
        num, den = int(record["price_num"]), int(record["price_den"])
        quantity, value = abs(int(shadow["fill_qty"])), abs(int(shadow["fill_value"]))
        if record["inverse"]:
            return divide_half_even(quantity * num, value)
        return divide_half_even(value * den, quantity * num)

    def _unmatched(self, ts: int, account: int, market: int, report: _Recorded) -> dict[str, Any]:
        return {
            "ts": ts,
            "liquidation": report.liquidation,
            "account": account,
            "ledger": 0 if market < 0 else self._state.markets[market].ledger,
            "market": None if market < 0 else market,
            "legs": report.legs,
            "leverage_type": report.mode,
            "method": report.method,
            "recorded_notional": report.notional,
            "recorded_equity": report.equity,
            "recorded_mark": report.mark,
            "grade": int(Grade.UNKNOWN),
            "verdict": "unmatched",
            "cause": "the tape has no forced fill for it",
        }

    def _engagements(self, audit: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the engagements the rules see on the recorded day, one per step and market."""
        if self._rules_decide:
            return []
        if self._executed is not None:
            return self._executions(audit)
        groups: dict[tuple[int, int, str], list[Mapping[str, Any]]] = {}
        for row in audit:
            if row["verdict"] == "agrees":
                groups.setdefault((row["ts"], row["market"], row["stage"]), []).append(row)
        absorber = self._plan.absorber
        return [
            {
                "ts": ts,
                "scope": absorber.account if absorber is not None and stage == "takeover" else "@book",
                "market": market,
                "ledger": rows[0]["ledger"],
                "stage": stage,
                "state": "engaged",
                "reason": f"equity below maintenance in {len(rows)} pool{'s' if len(rows) > 1 else ''}",
                "measured": sum(row["replayed_equity"] for row in rows),
                "threshold": sum(row["replayed_maintenance"] for row in rows),
                "fund_balance": None,
                "quantity": sum(abs(row["replayed_size"]) for row in rows),
                "shadow": 1,
            }
            for (ts, market, stage), rows in groups.items()
        ]

    def _executions(self, audit: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return what of the recorded forced orders each stage would have taken, one per step and market."""
        groups: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
        for row in audit:
            if row.get("booked") is not None:
                groups.setdefault((row["ts"], row["market"]), []).append(row)
        absorber = self._plan.absorber
        scope = "@book" if absorber is None else absorber.account
        stages = (("book", "booked", "@book"), ("takeover", "absorbed", scope), ("adl", "adl_needed", scope))
        return [
            {
                "ts": ts,
                "scope": where,
                "market": market,
                "ledger": rows[0]["ledger"],
                "stage": stage,
                "state": "engaged",
                "reason": f"recorded forced orders of {len(rows)} position{'s' if len(rows) > 1 else ''}",
                "measured": sum(abs(row["fill_value"]) for row in rows),
                "threshold": 0,
                "fund_balance": None,
                "quantity": sum(row[column] for row in rows),
                "shadow": 1,
            }
            for (ts, market), rows in groups.items()
            for stage, column, where in stages
            if any(row[column] for row in rows)
        ]
