"""The compiled rules: all that the loop sees of a rule book."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Takeover:
    """A stage of the ladder: an absorber takes over the whole pool.

    Attributes:
        absorber: The pseudo account that takes over, ``@vault:<name>`` or ``@fund:<name>``; it books in the
            ledger of the pool.
        price: At what value: ``bankruptcy`` leaves the pool with exactly nothing.
    """

    action: ClassVar[str] = "takeover"

    absorber: str
    price: Literal["bankruptcy"]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Rules in arrays, for the markets of one tape.

    The tiers of market ``m`` are rows ``tier_first[m]`` up to ``tier_first[m + 1]``, rising; a spot market
    has none, because it has no positions. Maintenance of a position of absolute value ``v`` at mark is
    ``ceil(rate * v) - deduction`` of the last tier with ``from <= v``.

    Attributes:
        name: Name of the rule book.
        sha256: Hash of the resolved rule book.
        tier_first: int64[markets + 1], offsets into the tier columns.
        tier_from: int64[tiers], notional in atoms at which a tier begins; the first of a market is 0.
        tier_rate: int64[tiers], maintenance rate in 1e-12, above 0 and at most 1.
        tier_deduction: int64[tiers], money in atoms taken off maintenance.
        breach_at_equal: Whether equity equal to maintenance is a breach already.
        ladder: What happens to a pool in breach, in this order.
        allocation: How a pool's equity is shared over its positions for their bankruptcy prices.
        adl_enabled: Whether winners may be closed.
        assumptions: What the rule file assumes because the venue does not publish it.
    """

    name: str
    sha256: str
    tier_first: npt.NDArray[np.int64]
    tier_from: npt.NDArray[np.int64]
    tier_rate: npt.NDArray[np.int64]
    tier_deduction: npt.NDArray[np.int64]
    breach_at_equal: bool
    ladder: tuple[Takeover, ...]
    allocation: Literal["maintenance_proportional"]
    adl_enabled: bool
    assumptions: tuple[str, ...]
