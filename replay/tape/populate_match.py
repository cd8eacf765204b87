"""Who trades with whom on a modelled day: trades to pieces between accounts, compiled.

Lists of holders, by market and side, let a closing account be drawn in constant time.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from replay.kernels import kernel
from replay.units import NS_PER_HOUR, NS_PER_MINUTE

Array = npt.NDArray[Any]


@kernel
def list_holders(size: Array, market: Array, holders: Array, held: Array, place: Array) -> None:
    """List the accounts of each market and side, and the place of each in its list."""
    for account in range(len(size)):
        _note(account, size[account], market[account], holders, held, place)


@kernel
def _note(account: int, size: int, market: int, holders: Array, held: Array, place: Array) -> None:
    """List an account among the holders of its side."""
    if size != 0:
        side = 0 if size > 0 else 1
        holders[market, side, held[market, side]] = account
        place[account] = held[market, side]
        held[market, side] += 1


@kernel
def _forget(account: int, size: int, market: int, holders: Array, held: Array, place: Array) -> None:
    """Take an account off the list of the side it held."""
    if size != 0:
        side = 0 if size > 0 else 1
        last = holders[market, side, held[market, side] - 1]
        holders[market, side, place[account]] = last
        place[last] = place[account]
        held[market, side] -= 1


@kernel
def _move(
    account: int,
    change: int,
    market: int,
    size: Array,
    opened: Array,
    holders: Array,
    held: Array,
    place: Array,
) -> None:
    """Change the size of an account, with open interest and the lists of holders."""
    before = size[account]
    after = before + change
    opened[market] += max(after, 0) - max(before, 0)
    if (before > 0) != (after > 0) or (before < 0) != (after < 0):
        _forget(account, before, market, holders, held, place)
        _note(account, after, market, holders, held, place)
    size[account] = after


@kernel
def _drawn(weight: Array, first: int, count: int, draw: float) -> int:
    """Return the account at which the cumulative weights of a market pass a draw."""
    low, high = first, first + count - 1
    while low < high:
        middle = (low + high) // 2
        if weight[middle] <= draw:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def match_trades(
    ts: Array,
    market: Array,
    price: Array,
    qty: Array,
    taker_side: Array,
    draws: Array,
    first: Array,
    count: int,
    makers: int,
    weight: Array,
    size: Array,
    cap: Array,
    opened: Array,
    target: Array,
    holders: Array,
    held: Array,
    place: Array,
    minute: Array,
    strayed: Array,
    start: int,
    forced_share: float,
    stress_percent: float,
    trade: Array,
    taker: Array,
    maker: Array,
    quantity: Array,
    sums: Array,
) -> int:
    """Turn trades into pieces between accounts; return how many there are.

    ``target`` is the open interest that each trade steers to.
    """
    pieces = 0
    for i in range(len(ts)):
        m = market[i]
        buys = taker_side[i] > 0 or (taker_side[i] == 0 and draws[i, 0] < 0.5)
        sign = 1 if buys else -1
        now = ts[i] // NS_PER_MINUTE
        if minute[m, 0] != now:
            minute[m, 0] = now
            minute[m, 1] = price[i]
        move = 100.0 * (price[i] - minute[m, 1]) / minute[m, 1]
        if move * sign >= stress_percent and draws[i, 3] < forced_share:
            sums[0] += qty[i]
            continue
        left = qty[i]
        base = first[m]
        closing_side = 1 if buys else 0  # a buyer may close a short
        # More is closed the further open interest is above its target.
        closes = draws[i, 1] < 0.5 * opened[m] / max(target[i], 1)
        for attempt in range(3):
            if left == 0:
                break
            if closes and held[m, closing_side] > 0:
                chance = draws[i, 2] * (attempt + 1) % 1.0
                account = holders[m, closing_side, int(chance * held[m, closing_side])]
                piece = min(left, abs(size[account]))
            else:
                account = _drawn(weight, base, count, draws[i, 2] * (attempt + 1) % 1.0)
                piece = min(left, max(cap[account] - sign * size[account], 0))
            other = base + int(draws[i, 0] * 7919 * (attempt + 1) % 1.0 * makers)
            # The maker is a market maker while it has room, else a holder of the other side.
            if abs(size[other] - sign * piece) > cap[other]:
                side = 0 if buys else 1
                if held[m, side] > 0:
                    other = holders[m, side, int(draws[i, 1] * held[m, side])]
                    piece = min(piece, abs(size[other])) if abs(size[other]) > 0 else piece
            if piece <= 0 or account == other:
                continue
            _move(account, sign * piece, m, size, opened, holders, held, place)
            _move(other, -sign * piece, m, size, opened, holders, held, place)
            trade[pieces], taker[pieces], maker[pieces] = i, account, other
            quantity[pieces] = sign * piece
            pieces += 1
            left -= piece
            sums[1] += piece
        if left > 0:
            # What nobody had room for goes between two market makers: volume is kept exactly.
            account = base + int(draws[i, 2] * makers)
            other = base + (account - base + 1) % makers
            _move(account, sign * left, m, size, opened, holders, held, place)
            _move(other, -sign * left, m, size, opened, holders, held, place)
            trade[pieces], taker[pieces], maker[pieces] = i, account, other
            quantity[pieces] = sign * left
            pieces += 1
            sums[1] += left
        hour = (ts[i] - start) // NS_PER_HOUR
        off = abs(opened[m] - target[i]) / max(target[i], 1)
        strayed[m, hour] = max(strayed[m, hour], off)
    return pieces
