"""What the waterfall of the reference engine keeps of a liquidation and of an order for deleveraging."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.reference.books import Pool, Position


@dataclass
class Leg:
    """One market of an episode."""

    position: Position
    size: int
    mark: int
    bankruptcy_value: int
    recorded: int
    netted: int = 0
    book: int = 0
    absorbed: int = 0
    adl: int = 0
    left: int = 0
    left_value: int = 0  # of what a takeover asked for and did not get
    surplus: int = 0
    shortfall: int = 0
    vault: int = 0


@dataclass
class Episode:
    id: int
    ts: int
    pool: Pool
    equity: int
    maintenance: int
    legs: list[Leg] = field(default_factory=list)
    socialised: int = 0
    bad_debt: int = 0

    def leg(self, position: Position) -> Leg:
        return next(leg for leg in self.legs if leg.position is position)


@dataclass
class Order:
    """What goes to auto-deleveraging: ``value`` is that of the whole quantity, None for the rule's price."""

    position: Position
    quantity: int
    value: int | None
    origin: str
    equity: int
    episode: Episode | None
    fund: Any = None  # whose own it is, or who did not take it
