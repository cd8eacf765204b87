"""What stands in a fill of Hyperliquid: fields, ``dir`` values, coins, accounts, liquidations."""

from __future__ import annotations

import re
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

from replay.sources._numbers import parse_number


class Scope(IntEnum):
    """Which coins a ``dir`` belongs to."""

    ANY = 0
    PERP = 1
    SPOT = 2


class Dir(NamedTuple):
    """What a ``dir`` says: side of its row (1 buys, -1 sells, 0 either), coins, and if it stands alone."""

    side: int
    scope: Scope
    one_sided: bool = False


LIQUIDATED = (
    "Liquidated Cross Long",
    "Liquidated Cross Short",
    "Liquidated Isolated Long",
    "Liquidated Isolated Short",
)
ADL = "Auto-Deleveraging"
SETTLEMENT = "Settlement"
NET_CHILD_VAULTS = "Net Child Vaults"
PARTIAL_BORROW = "Partial Borrow Liquidation"
BACKSTOP_BORROW = "Backstop Borrow Liquidation"

DIRS: dict[str, Dir] = {
    "Open Long": Dir(1, Scope.PERP),
    "Close Short": Dir(1, Scope.PERP),
    "Short > Long": Dir(1, Scope.PERP),
    "Open Short": Dir(-1, Scope.PERP),
    "Close Long": Dir(-1, Scope.PERP),
    "Long > Short": Dir(-1, Scope.PERP),
    **dict.fromkeys(LIQUIDATED, Dir(0, Scope.PERP)),
    ADL: Dir(0, Scope.PERP),
    NET_CHILD_VAULTS: Dir(0, Scope.ANY),
    SETTLEMENT: Dir(0, Scope.ANY),
    "Buy": Dir(1, Scope.SPOT),
    "Sell": Dir(-1, Scope.SPOT),
    "Spot Dust Conversion": Dir(0, Scope.SPOT, one_sided=True),
    "Split Outcome": Dir(0, Scope.SPOT, one_sided=True),
    "Merge Outcome": Dir(0, Scope.SPOT, one_sided=True),
    "Merge Question": Dir(0, Scope.SPOT, one_sided=True),
    "Negate Outcome": Dir(0, Scope.SPOT, one_sided=True),
    PARTIAL_BORROW: Dir(0, Scope.SPOT),
    BACKSTOP_BORROW: Dir(0, Scope.SPOT),
}
"""Every ``dir`` that is documented. The venue adds to them; a row with another one is not understood."""

REQUIRED = ("coin", "px", "sz", "side", "startPosition", "dir", "crossed", "fee", "tid", "feeToken")
_UNUSED = (
    "time",
    "closedPnl",
    "hash",
    "oid",
    "cloid",
    "twapId",
    "builder",
    "builderFee",
    "deployerFee",
    "priorityGas",
)
KNOWN = frozenset((*REQUIRED, *_UNUSED, "liquidation"))
KNOWN_OF_LIQUIDATION = frozenset(("liquidatedUser", "markPx", "method"))

ADDRESS = re.compile(r"0x[0-9a-f]{40}")
COIN = re.compile(r"(?!:|spot:)[!-~]{1,64}")
TOKEN = re.compile(r"[!-~]{1,32}")


class Method(IntEnum):
    """How a liquidation was closed: ``NONE`` no liquidation, ``EMPTY`` one whose method is not given."""

    NONE = 0
    MARKET = 1
    BACKSTOP = 2
    EMPTY = 3


_METHODS = {"market": Method.MARKET, "backstop": Method.BACKSTOP, "": Method.EMPTY, None: Method.EMPTY}


class Liquidation(NamedTuple):
    """The ``liquidation`` object of a row; ``mark`` as (mantissa, digits)."""

    victim: str | None
    mark: tuple[int, int] | None
    method: Method


def is_spot(coin: str) -> bool:
    """Tell whether a coin is a balance, not a perpetual: ``@107``, ``PURR/USDC``, outcome share ``#20``."""
    return coin.startswith(("@", "#")) or "/" in coin


def is_address(text: str) -> bool:
    """Tell whether a text is an account of the venue: ``0x`` and 40 hexadecimal digits in lower case."""
    return ADDRESS.fullmatch(text) is not None


def parse_liquidation(content: Any) -> Liquidation:
    """Read a ``liquidation`` object; the account, the mark and the method may each be left out.

    Raises:
        ValueError: It is not such an object; the text says why.
    """
    if type(content) is not dict:
        raise ValueError(f"{content!r} is not an object")
    try:
        return _liquidation(content.get("liquidatedUser"), content.get("markPx"), content.get("method"))
    except TypeError as failure:  # a list or an object, which no cache can look up
        raise ValueError(f"{content!r} has a value that is not text") from failure


@lru_cache(maxsize=16_384)
def _liquidation(victim: str | None, mark: str | None, method: str | None) -> Liquidation:
    """Check the parts of a liquidation; its rows repeat them many times."""
    for part in (victim, mark, method):
        if not (part is None or isinstance(part, str)):
            raise ValueError(f"{part!r} is not text")
    if victim is not None and not is_address(victim):
        raise ValueError(f"liquidatedUser {victim!r} is not an address of 0x and 40 hexadecimal digits")
    if method not in _METHODS:
        raise ValueError(f"method {method!r} is neither market nor backstop")
    number = None if mark is None else parse_number(mark)
    if number is not None and number[0] <= 0:
        raise ValueError(f"markPx {mark!r} is not a positive price")
    return Liquidation(victim, number, _METHODS[method])
