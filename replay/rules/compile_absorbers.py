"""The absorbers of a plan: who is handed something, within which limits, and when."""

from __future__ import annotations

from itertools import pairwise

from replay.rules import plan
from replay.rules.absorbers import Absorber
from replay.rules.model import RuleBook
from replay.rules.numbers import write_moment
from replay.rules.waterfall import BookOrderRung, TakeoverRung
from replay.units import BOUND

_FIRST, _LAST = -BOUND, BOUND


def absorbers_of(book: RuleBook) -> tuple[plan.Absorber, ...]:
    """Return the absorbers, after checking that each name fits and each has something to do."""
    absorbers = book.rules.absorbers
    names: list[str] = []
    for index, absorber in enumerate(absorbers):
        if absorber.name in names:
            raise book.refusal(
                f"absorbers.{index}.name",
                f"two absorbers are called {absorber.name}",
                "give each of the [[absorbers]] a name of its own",
            )
        names.append(absorber.name)
    used, takers = _used_absorbers(book, names)
    for index, name in enumerate(names):
        if name not in used:
            raise book.refusal(
                f"absorbers.{index}",
                f"no rung of the ladder hands anything to {name}",
                "name it as the absorber of a [[ladder]] rung, write pays_debts = true, or take it out",
                "ladder",
            )
    for index, absorber in enumerate(absorbers):
        idle = absorber.triggers + (["work_out"] if absorber.work_out == "book" else [])
        idle += ["inventory_cap"] if absorber.inventory_cap is not None else []
        if absorber.outflow_cap == "limits" and not absorber.pays_debts:
            idle.append("outflow_cap")
        if idle and absorber.name not in takers:
            raise book.refusal(
                f"absorbers.{index}.{idle[0]}",
                f"{absorber.name} never takes a position over: it is only handed what fills are better",
                'name it as the absorber of a [[ladder]] rung with action = "takeover", or switch this off',
                "ladder",
            )
    return tuple(_compiled(book, absorber) for absorber in absorbers)


def _compiled(book: RuleBook, only: Absorber) -> plan.Absorber:
    drawdown = None
    if only.drawdown_start is not None and only.drawdown_stop is not None:
        drawdown = (only.drawdown_start, only.drawdown_stop)
    return plan.Absorber(
        account=only.account,
        work_out=only.work_out,
        insolvent_below=only.insolvent_below_zero,
        drawdown=drawdown,
        window_ns=only.window or 0,
        least_balance=only.least_balance or 0,
        stops_at_zero=only.stops_at_zero,
        amount=only.amount,
        currencies=only.currencies or (),
        scope=only.scope,
        groups=tuple((group.name, group.markets) for group in only.groups or ()),
        per_trade=only.per_trade or 0,
        per_account_step=only.per_account_and_step or 0,
        per_market_day=only.per_market_and_day or 0,
        per_day=only.per_day or 0,
        lifetime=only.lifetime or 0,
        inventory=only.inventory_cap or 0,
        pays_debts=bool(only.pays_debts),
        off=_off(book, only),
    )


def _used_absorbers(book: RuleBook, names: list[str]) -> tuple[set[str], set[str]]:
    """Return the absorbers that rungs hand to, and those of them that take positions over."""
    used: set[str] = set()
    takers: set[str] = set()
    used.update(absorber.name for absorber in book.rules.absorbers if absorber.pays_debts)
    for index, rung in enumerate(book.rules.ladder):
        if isinstance(rung, TakeoverRung):
            if rung.absorber not in names:
                raise book.refusal(
                    f"ladder.{index}.absorber",
                    f"there is no absorber called {rung.absorber}",
                    f"the [[absorbers]] of the file are: {', '.join(names) or 'none'}",
                    "absorbers",
                )
            takers.add(rung.absorber)
        elif isinstance(rung, BookOrderRung) and "absorber" in (rung.surplus_to, rung.fee_to):
            if not names:
                key, other = (
                    ("surplus_to", "trader") if rung.surplus_to == "absorber" else ("fee_to", "exchange")
                )
                raise book.refusal(
                    f"ladder.{index}.{key}",
                    f"there is no absorber to take the {'surplus' if key == 'surplus_to' else 'fee'}",
                    f'write one of the [[absorbers]], or {key} = "{other}"',
                    "absorbers",
                )
            used.update(names[:1])
    return used | takers, takers


def _off(book: RuleBook, absorber: Absorber) -> tuple[tuple[tuple[str, ...] | None, int, int], ...]:
    """Return the spans in which an absorber does nothing, with the markets: outside its windows, in overlays."""
    spans: list[tuple[tuple[str, ...] | None, int, int]] = []
    windows = sorted((window.start, window.until) for window in absorber.active_windows or ())
    if windows:
        ends = [_FIRST, *(until for _, until in windows)]
        starts = [*(start for start, _ in windows), _LAST]
        for (start, until), after in pairwise(windows):
            if after[0] < until:
                raise book.refusal(
                    f"absorbers.{book.rules.absorbers.index(absorber)}.active_windows",
                    f"one begins at {write_moment(after[0])}, before that of {write_moment(start)} has ended",
                    "write spans that do not overlap",
                )
        spans += [(None, end, start) for end, start in zip(ends, starts, strict=True) if end < start]
    for overlay in book.rules.overlays or ():
        window = overlay.window
        spans.append(
            (overlay.markets, _FIRST, _LAST)
            if window is None
            else (overlay.markets, window.start, window.until)
        )
    return tuple(spans)
