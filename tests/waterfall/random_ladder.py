"""Steps, ladders and bankruptcy prices of random plans: axes drawn apart from the others, so that their days stay."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any, cast

from replay.rules.compile import OF_ALL
from replay.rules.plan import (
    ALLOCATIONS,
    LIMITS,
    ORDERS,
    SIZES,
    BookOrder,
    Deleverage,
    Plan,
    RateLimit,
    Rung,
    StaleGuard,
    Takeover,
)
from tests.waterfall.small import RATE_ONE, SECOND


def with_ladder_axes(seed: int, plan: Plan, *, has_steps: bool) -> Plan:
    """Return a plan with another bankruptcy price and other sizes and limits of its orders, drawn from a seed."""
    rng = random.Random(f"ladder {seed}")
    has_penalty = any(isinstance(rung, Takeover) and rung.penalty_rate for rung in plan.ladder)
    allocation = "maintenance_proportional" if has_penalty else rng.choice(ALLOCATIONS)
    fee = rng.choice([0, 0, RATE_ONE // 2_000, RATE_ONE // 20])
    ladder = plan.ladder
    if fee:
        ladder = tuple(
            replace(rung, fee_from_improvement=False) if hasattr(rung, "fee_from_improvement") else rung
            for rung in ladder
        )
    if rng.random() < 0.6:
        ladder = tuple(_sized(rng, rung, has_steps=has_steps) for rung in ladder)
    return replace(plan, ladder=ladder, allocation=cast(Any, allocation), exit_fee_rate=fee)


def _sized(rng: random.Random, rung: Rung, *, has_steps: bool) -> Rung:
    """Return an order with another size, limit and order of positions, if it is one."""
    if not isinstance(rung, BookOrder):
        return rung
    needs_steps = ("step_down", "smallest_fix", "minimal_to_exit")
    size = rng.choice([name for name in SIZES if has_steps or name not in needs_steps])
    if size != "full":
        rung = replace(rung, slice_above=0, slice_rate=RATE_ONE, cooldown_ns=0)
    return replace(
        rung,
        size=size,
        tiers=rng.choice([1, 2, 100]),
        share=rng.choice([RATE_ONE // 5, RATE_ONE // 2, RATE_ONE]),
        cap=10 ** rng.randint(6, 13),
        exit=rng.choice([(1, 1), (1, 1), (51, 50), (3, 2), (4, 1)]),
        limit=rng.choice(LIMITS),
        spread=rng.choice([(3, 2), (1, 10), (20, 1)]),
        order=rng.choice(["", *ORDERS]),
    )


def with_shares(seed: int, plan: Plan) -> Plan:
    """Return a plan whose takeovers at the mark take a share of all positions now and then, drawn from a seed.

    Some takeovers at the bankruptcy price are at the mark then.
    """
    rng = random.Random(f"shares {seed}")
    share = rng.choice([0, RATE_ONE // 5, RATE_ONE // 3, 2 * RATE_ONE // 5, RATE_ONE // 100])
    aim = rng.choice([(1, 1), (10, 9), (10, 9), (51, 50), (2, 1)])
    all_at_mark = rng.random() < 0.4
    penalty = rng.choice([0, RATE_ONE // 10]) if plan.allocation == "maintenance_proportional" else 0
    ladder = []
    for rung in plan.ladder:
        if isinstance(rung, Takeover) and share and (rung.price == "mark" or all_at_mark):
            if rung.price != "mark":
                rung = replace(rung, price="mark", penalty_rate=penalty)
            rung = replace(rung, share=share, exit=aim)
        ladder.append(rung)
    return replace(plan, ladder=tuple(ladder))


def with_conditions(seed: int, plan: Plan) -> Plan:
    """Return a plan with rungs that act on what the one before left, drawn from a seed: new orders, and others."""
    rng = random.Random(f"conditions {seed}")
    if rng.random() < 0.5:
        return plan
    rungs: list[Rung] = []
    for rung in plan.ladder:
        before = rungs[-1] if rungs else None
        leaves = isinstance(before, BookOrder | Takeover) and before.level == rung.level
        may_wait = (isinstance(rung, BookOrder) and rung.size not in OF_ALL) or (
            isinstance(rung, Takeover | Deleverage) and not getattr(rung, "share", 0)
        )
        if leaves and may_wait and rng.random() < 0.6:
            rung = cast(Rung, replace(cast(Any, rung), after_unfilled=True))
        rungs.append(rung)
        if isinstance(rung, BookOrder) and rng.random() < 0.4:
            rungs.append(
                replace(
                    rung,
                    size=cast(Any, rng.choice(["full", "full", "fraction_of_remaining"])),
                    slice_above=0,
                    slice_rate=RATE_ONE,
                    cooldown_ns=0,
                    share=RATE_ONE // 2,
                    limit=cast(Any, rng.choice(["bankruptcy_band", "none"])),
                    limit_bp=500,
                    all_or_nothing=rng.random() < 0.5,
                    order="",
                    after_unfilled=True,
                )
            )
    return replace(plan, ladder=tuple(rungs))


def with_rate_limits(seed: int, plan: Plan) -> Plan:
    """Return a plan whose orders and takeovers are held up now and then, drawn from a seed; takeovers all alike."""
    rng = random.Random(f"rates {seed}")
    if rng.random() < 0.6:
        return plan

    def drawn() -> RateLimit:
        if rng.random() < 0.5:
            return RateLimit(step_cap=10 ** rng.randint(4, 13))
        return RateLimit(
            initial_rate=rng.choice([0, RATE_ONE // 10, RATE_ONE // 2]),
            full_after_ns=rng.choice([2_000, 10 * SECOND, 7_200 * SECOND]),
            spared=rng.choice([0, 10**8, 10**12]),
        )

    takeovers = drawn()
    ladder = tuple(
        replace(rung, rate=takeovers if isinstance(rung, Takeover) else drawn())
        if isinstance(rung, BookOrder | Takeover)
        and rng.random() < (1 if isinstance(rung, Takeover) else 0.6)
        else rung
        for rung in plan.ladder
    )
    return replace(plan, ladder=ladder)


def with_guard(seed: int, plan: Plan) -> Plan:
    """Return a plan that passes over markets whose price is far from its average now and then, drawn from a seed."""
    rng = random.Random(f"guard {seed}")
    of_all = any(
        rung.share > 0 if isinstance(rung, Takeover) else getattr(rung, "size", "") in OF_ALL
        for rung in plan.ladder
    )
    if of_all or rng.random() < 0.5:
        return plan
    clamp, clamp_ms = rng.choice([(0, 0), (RATE_ONE // 10, 3_600_000), (RATE_ONE // 100, 10_000)])
    divergence = RATE_ONE // rng.choice([2, 10, 50, 1_000])
    window = rng.choice([1, 1_000, 300_000, 7_200_000])
    return replace(plan, stale_guard=StaleGuard(divergence, window, clamp, clamp_ms))


def with_step_axes(seed: int, plan: Plan) -> Plan:
    """Return a plan that judges in rounds or liquidates or deleverages few at a time now and then, from a seed.

    Steps are 1 ns to 1 h apart.
    """
    rng = random.Random(f"step {seed}")
    period = rng.choice([0, 0, 2_000, 1_500 * SECOND, 7_200 * SECOND])
    plan = replace(plan, period_ns=period, max_liquidations=rng.choice([0, 0, 1, 2]))
    return replace(plan, max_deleveragings=rng.choice([0, 0, 1, 2]) if plan.adl else 0)
