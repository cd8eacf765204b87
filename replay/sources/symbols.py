"""What the symbols of venues stand for: coin, payoff, settlement, size of a contract."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

from replay.errors import SourceError
from replay.sources.feeds import Contract
from replay.tape.schema import Payoff

_DOLLARS = ("USDT", "USDC", "FDUSD", "BUSD", "USD", "EUR")
_PAIR = re.compile(rf"(?P<base>[A-Z0-9]+?)[-_/]?(?P<quote>{'|'.join(_DOLLARS)})$")


def split_pair(symbol: str) -> tuple[str, str]:
    """Return base coin and quote currency of a pair such as ``BTCUSDT``, ``AAVE-USD`` or ``ETH_USDT``.

    Raises:
        ValueError: It is no pair against a dollar or euro.
    """
    match = _PAIR.fullmatch(symbol.upper())
    if match is None:
        raise ValueError(f"{symbol!r} is no pair against {', '.join(_DOLLARS)}")
    base = {"XBT": "BTC"}.get(match["base"], match["base"])
    return base, match["quote"]


def spot(symbol: str) -> Contract:
    """Return a spot pair."""
    base, quote = split_pair(symbol)
    return Contract(base, Payoff.SPOT, quote)


def linear(symbol: str, *, multiplier: Fraction = Fraction(1)) -> Contract:
    """Return a perpetual of a pair that settles in its quote currency, ``multiplier`` coins a contract."""
    base, quote = split_pair(symbol)
    return Contract(base, Payoff.LINEAR, quote, multiplier)


def coin_margined(symbol: str, *, contract_usd: Fraction) -> Contract:
    """Return an inverse perpetual that settles in its coin, ``contract_usd`` dollars a contract."""
    base, _ = split_pair(symbol)
    return Contract(base, Payoff.INVERSE, base, contract_usd)


def binance_coin_margined(symbol: str) -> Contract:
    """Return a COIN-M contract: 100 USD a contract of BTC, 10 USD of every other coin.

    Source: Binance's contract specification of COIN-margined futures.
    """
    pair = symbol.split("_", 1)[0]
    return coin_margined(pair, contract_usd=Fraction(100 if split_pair(pair)[0] == "BTC" else 10))


def unknown(symbol: str, file: Path, why: str) -> SourceError:
    """Return the error for a symbol of which it is not known what a contract is."""
    return SourceError(
        f"the symbol {symbol!r} {why}",
        file=file,
        key="symbol",
        mend="import such files by `replay import columns` with a map that states the contract",
    )
