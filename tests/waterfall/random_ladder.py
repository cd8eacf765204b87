"""Ladders and bankruptcy prices of random plans: axes drawn apart from the others, so that their days stay."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any, cast

from replay.rules.plan import ALLOCATIONS, Plan, Takeover
from tests.waterfall.small import RATE_ONE


def with_ladder_axes(seed: int, plan: Plan) -> Plan:
    """Return a plan with another bankruptcy price, drawn from a seed."""
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
    return replace(plan, ladder=ladder, allocation=cast(Any, allocation), exit_fee_rate=fee)
