"""The thirteen markets of the crash day."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from replay.tape.schema import Payoff
from replay.units import MONEY_SCALE

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CONTRACT_USD = 100
"""Dollars of one contract of the inverse market."""

LEDGERS = ("USDC", "BTC")
"""Currencies of the ledgers, by id."""


@dataclass(frozen=True, slots=True)
class CrashMarket:
    """One market and what the model knows of it.

    Attributes:
        name: Name on the tape.
        price: Mark at the start of the day.
        price_digits: A tick is ``10**-price_digits``.
        mark_digits: Digits of mark and index, more than of prices.
        lot_digits: A lot is ``10**-lot_digits``.
        fall: Deepest mark of the crash below the mark at its start, as a share.
        beta: How much it moves when everything moves by one, on a calm day.
        popularity: Share of the orders and positions of the public.
        depth: Dollars on each side of the book within 2 % of the mark, normally.
        leverage: Most leverage the venue gives in it.
        payoff: Linear in USDC or inverse in BTC.
    """

    name: str
    price: float
    price_digits: int
    mark_digits: int
    lot_digits: int
    fall: float
    beta: float
    popularity: float
    depth: float
    leverage: float
    payoff: Payoff = Payoff.LINEAR

    @property
    def is_inverse(self) -> bool:
        """Whether the contract is worth a fixed amount of dollars in coin."""
        return self.payoff is Payoff.INVERSE

    @property
    def ledger(self) -> int:
        """Id of the ledger that margins the market."""
        return 1 if self.is_inverse else 0


MARKETS = (
    CrashMarket("BTC", 121_400.0, 1, 3, 3, 0.13, 1.0, 0.250, 12e6, 40),
    CrashMarket("ETH", 4_330.0, 2, 4, 2, 0.20, 1.3, 0.210, 8e6, 25),
    CrashMarket("SOL", 219.5, 2, 5, 2, 0.40, 1.6, 0.120, 3e6, 20),
    CrashMarket("XRP", 2.79, 4, 6, 0, 0.53, 1.5, 0.080, 2e6, 20),
    CrashMarket("HYPE", 44.60, 3, 5, 2, 0.45, 2.0, 0.090, 2e6, 10),
    CrashMarket("DOGE", 0.2475, 5, 7, 0, 0.58, 1.8, 0.060, 1.2e6, 10),
    CrashMarket("BNB", 1_255.0, 1, 4, 3, 0.40, 1.2, 0.050, 1e6, 10),
    CrashMarket("SUI", 3.42, 4, 6, 0, 0.75, 2.2, 0.045, 6e5, 10),
    CrashMarket("LINK", 22.20, 3, 5, 1, 0.62, 1.8, 0.035, 6e5, 10),
    CrashMarket("AVAX", 28.34, 3, 5, 1, 0.70, 1.9, 0.030, 5e5, 10),
    CrashMarket("AAVE", 277.6, 2, 4, 2, 0.66, 1.9, 0.020, 4e5, 10),
    CrashMarket("WIF", 0.7343, 5, 7, 0, 0.74, 2.6, 0.010, 2.5e5, 10),
    CrashMarket("BTCUSD_PERP", 121_350.0, 1, 3, 0, 0.135, 1.0, 0.0, 3e6, 30, Payoff.INVERSE),
)
BTC = 0
INVERSE = len(MARKETS) - 1
LINEAR = INVERSE
"""So many linear markets come first."""


def column(attribute: str) -> Floats:
    """Return an attribute of all markets, by market id."""
    return np.array([getattr(market, attribute) for market in MARKETS], np.float64)


LEDGER_OF = np.array([market.ledger for market in MARKETS], np.int64)
PRICE_ONE = 10.0 ** column("price_digits")
MARK_ONE = 10.0 ** column("mark_digits")
LOT_ONE = 10.0 ** column("lot_digits")


def curve(points: tuple[tuple[float, float], ...]) -> tuple[Floats, Floats]:
    """Return the first and the second numbers of pairs as arrays."""
    table = np.array(points, np.float64)
    return table[:, 0], table[:, 1]


def whole(values: Floats) -> Ints:
    """Round to whole numbers, half to even."""
    rounded: Ints = np.rint(values).astype(np.int64)
    return rounded


def dollars(market: npt.NDArray[np.integer], lots: Ints | Floats, price: Floats) -> Floats:
    """Return the signed dollar notional of quantities at prices; market ids and arrays of one shape."""
    return np.where(market == INVERSE, lots * float(CONTRACT_USD), lots * price / LOT_ONE[market])


def lots_of(market: npt.NDArray[np.integer], amount: Floats, price: Floats) -> Ints:
    """Return the signed quantity in lots nearest to a signed dollar notional, never zero."""
    exact = np.where(market == INVERSE, amount / CONTRACT_USD, amount * LOT_ONE[market] / price)
    lots = whole(exact)
    return np.where(lots == 0, np.where(amount < 0, -1, 1), lots)


def coin_value(market: npt.NDArray[np.integer], lots: Ints | Floats, price: Floats) -> Floats:
    """Return the signed contract value ``V`` of quantities, in the currency of each market's ledger."""
    value: Floats = np.where(
        market == INVERSE, -lots * float(CONTRACT_USD) / price, lots * price / LOT_ONE[market]
    )
    return value


def value_atoms(market: npt.NDArray[np.integer], lots: Ints, price: Ints) -> Ints:
    """Return the unsigned value in atoms, exact or rounded down, of quantities at integer prices.

    Args:
        market: Market ids.
        lots: Quantities in lots.
        price: Prices in ``10**-price_digits``.
    """
    digits = np.array([m.price_digits + m.lot_digits for m in MARKETS], np.int64)[market]
    is_inverse = market == INVERSE
    value: Ints = np.abs(lots) * np.where(is_inverse, 1, price * 10 ** (MONEY_SCALE - digits))
    contract = CONTRACT_USD * 10 ** (MONEY_SCALE + MARKETS[INVERSE].price_digits)
    value[is_inverse] = value[is_inverse] * contract // price[is_inverse]
    return value
