"""Rows of ``node_fills_by_block`` understood a batch of whole blocks at a time.

Columns are checked and converted by array arithmetic; a row that fails a check is named with the first
check it fails, so that the checks and the reasons given for them are one piece of code.

Meanings (both rows of a match carry them, since the venue writes one row per account):

* ``side`` is the account's own side, ``crossed`` its role, ``startPosition`` its position before the fill.
* A match has one row or two with the same ``tid`` in its block; a ``tid`` of 0 names no match.
* ``liquidation`` stands on both rows of a forced match and names the account that was liquidated. ``dir``
  does not: on a takeover both rows may read ``Liquidated Cross Long``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from re import Pattern
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from replay.sources._numbers import Bools, Ints, Numbers, numbers_to_atoms, parse_numbers
from replay.sources.hyperliquid_words import (
    ADDRESS,
    ADL,
    BACKSTOP_BORROW,
    COIN,
    DIRS,
    KNOWN,
    KNOWN_OF_LIQUIDATION,
    LIQUIDATED,
    PARTIAL_BORROW,
    REQUIRED,
    SETTLEMENT,
    TOKEN,
    Liquidation,
    Method,
    Scope,
    is_spot,
    parse_liquidation,
)
from replay.tape.schema import FillKind
from replay.units import BOUND

Codes = npt.NDArray[np.int32]
Small = npt.NDArray[np.int8]

_MOST_DECIMALS = 8
"""The venue's own limits are 6 for perpetuals and 8 for prices of spot; a finer one is damage."""

_FLOAT_DIGITS = 15
"""``startPosition`` is printed through binary floating point (``3135809.4000000001``): a double brings back
any decimal of 15 significant digits, and what stands beyond them is noise."""

_NAMES = tuple(DIRS)
_CODE = {name: code for code, name in enumerate(_NAMES)}
_SIDE = np.array([d.side for d in DIRS.values()], dtype=np.int8)
_SCOPE = np.array([d.scope for d in DIRS.values()], dtype=np.int8)
_ONE_SIDED = np.array([d.one_sided for d in DIRS.values()])
_IS_LIQUIDATED = np.array([name in LIQUIDATED for name in _NAMES])
_IS_TRADE = np.array([d.side != 0 for d in DIRS.values()])


class Fault(NamedTuple):
    """Why a row is not understood: its place in the batch, the field, and the reason."""

    row: int
    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows that were understood, as arrays of equal length; ``*_codes`` index into ``*_names``."""

    row: Ints
    user_codes: Codes
    user_names: list[str]
    coin_codes: Codes
    coin_names: list[str]
    token_codes: Codes
    token_names: list[str]
    sign: Small
    price: Numbers
    size: Numbers
    start: Numbers
    fee: Ints
    fee_rounded: Bools
    crossed: Bools
    tid: Ints
    partner: Ints
    dir_codes: Small
    kind: Small
    liquidations: dict[int, Liquidation]

    def dir_of(self, row: int) -> str:
        """Return the ``dir`` of a row."""
        return _NAMES[int(self.dir_codes[row])]

    def count_dir(self, name: str) -> int:
        """Return how many rows have a ``dir``."""
        return int(np.count_nonzero(self.dir_codes == _CODE[name]))

    def liquidation_of(self, row: int) -> Liquidation | None:
        """Return the liquidation of the match a row belongs to."""
        return self.liquidations.get(row) or self.liquidations.get(int(self.partner[row]))

    def victim_of(self, row: int) -> str | None:
        """Return the account whose position the match of a forced row closed, if the rows tell.

        That is ``liquidatedUser``; without one, the row that closes the side which its ``dir`` names.
        """
        liquidation = self.liquidation_of(row)
        if liquidation is not None and liquidation.victim is not None:
            return liquidation.victim
        for candidate in (row, int(self.partner[row])):
            if candidate >= 0 and _IS_LIQUIDATED[self.dir_codes[candidate]]:
                closes = -1 if self.dir_of(candidate).endswith("Long") else 1
                if self.sign[candidate] == closes:
                    return self.user_names[int(self.user_codes[candidate])]
        return None


class _Check:
    """Collects faults; a row keeps the first fault found."""

    def __init__(self, rows: int) -> None:
        self.bad = np.zeros(rows, dtype=np.bool_)
        self.faults: list[Fault] = []

    def mark(self, mask: Bools, key: str, reason: Callable[[int], str]) -> None:
        if mask.any():
            for row in np.flatnonzero(mask & ~self.bad).tolist():
                self.faults.append(Fault(row, key, reason(row)))
            self.bad |= mask


def understand(
    users: Sequence[Any], fills: Sequence[Any], block: Ints, unknown: Counter[str]
) -> tuple[Rows, list[Fault]]:
    """Check and convert the rows of whole blocks.

    Args:
        users: First items of the ``[user, fill]`` pairs.
        fills: Second items, as JSON gave them; what is not a pair stands here whole.
        block: A number per row that is equal within a block.
        unknown: Counts fields that are not known, by name; they are left out.

    Returns:
        The rows that were understood and the faults of the others, by row.
    """
    check = _Check(len(fills))
    columns = _columns(fills, check, unknown)

    user_codes, user_names = _encode([*users], "user", check)
    _match(
        user_codes, user_names, ADDRESS, "user", "is not an address of 0x and 40 hexadecimal digits", check
    )
    coin_codes, coin_names = _encode(columns["coin"], "coin", check)
    _match(coin_codes, coin_names, COIN, "coin", "is not the name of a coin", check)
    spot = np.array([is_spot(name) for name in coin_names], dtype=np.bool_)[coin_codes]
    dir_codes = _dirs(columns, check)
    price = _numbers(columns, "px", check)
    least = np.where(spot & ~_IS_TRADE[dir_codes], 0, 1)
    check.mark(price.mantissa < least, "px", lambda row: f"{columns['px'][row]!r} is not a positive price")
    size = _numbers(columns, "sz", check)
    check.mark(size.mantissa <= 0, "sz", lambda row: f"{columns['sz'][row]!r} is not a positive size")
    start = _numbers(columns, "startPosition", check, significant=_FLOAT_DIGITS)
    for key, numbers, applies in (("px", price, True), ("sz", size, ~spot), ("startPosition", start, ~spot)):
        check.mark((numbers.digits > _MOST_DECIMALS) & applies, key, partial(_too_fine, columns[key]))
    fee, fee_rounded, beyond = numbers_to_atoms(_numbers(columns, "fee", check))
    check.mark(beyond, "fee", lambda row: f"{columns['fee'][row]} does not fit atoms of 1e-8 in 62 bits")
    sign = _sides(columns, check)
    crossed = _crossed(columns["crossed"], check)
    tid = _tids(columns["tid"], check)
    token_codes, token_names = _tokens(columns, fee, check)

    wants = _SIDE[dir_codes]
    check.mark(
        (wants != 0) & (sign != wants),
        "dir",
        lambda row: f"{columns['dir'][row]!r} does not go with side {columns['side'][row]!r}",
    )
    scope = _SCOPE[dir_codes]
    check.mark(
        ((scope == Scope.PERP) & spot) | ((scope == Scope.SPOT) & ~spot),
        "dir",
        lambda row: f"{columns['dir'][row]!r} does not go with coin {columns['coin'][row]!r}",
    )
    liquidations = _liquidations(columns["liquidation"], check, unknown)
    partner = _pair(block, tid, dir_codes, (sign, coin_codes, price, size), liquidations, check)

    rows = np.flatnonzero(~check.bad)
    whole = rows.size == check.bad.size
    place = np.full(check.bad.size + 1, -1, dtype=np.int64)
    place[rows] = np.arange(rows.size)
    kept_partner = place[partner[rows]]
    kept_liquidations = (
        liquidations
        if whole
        else {int(place[row]): found for row, found in liquidations.items() if place[row] >= 0}
    )
    kept_dirs = dir_codes[rows]
    understood = Rows(
        row=rows,
        user_codes=user_codes[rows],
        user_names=user_names,
        coin_codes=coin_codes[rows],
        coin_names=coin_names,
        token_codes=token_codes[rows],
        token_names=token_names,
        sign=sign[rows],
        price=price.take(rows),
        size=size.take(rows),
        start=start.take(rows),
        fee=fee[rows],
        fee_rounded=fee_rounded[rows],
        crossed=crossed[rows],
        tid=tid[rows],
        partner=kept_partner,
        dir_codes=kept_dirs,
        kind=_kinds(kept_dirs, kept_partner, kept_liquidations),
        liquidations=kept_liquidations,
    )
    return understood, sorted(check.faults)


def _columns(fills: Sequence[Any], check: _Check, unknown: Counter[str]) -> dict[str, list[Any]]:
    """Turn fills into columns, and count fields that are not known.

    A row that is no object or lacks a field is a fault; its values are ``None``.
    """
    if set(map(type, fills)) <= {dict} and set().union(*fills) <= KNOWN:
        try:
            return _transposed(fills)
        except KeyError:
            pass
    blank = dict.fromkeys(REQUIRED)
    objects = []
    for row, fill in enumerate(fills):
        missing = [key for key in REQUIRED if key not in fill] if type(fill) is dict else ["events"]
        if missing:
            check.bad[row] = True
            problem = "is missing" if type(fill) is dict else "does not hold pairs of a user and a fill"
            check.faults.append(Fault(row, missing[0], problem))
            objects.append(blank)
        else:
            unknown.update(key for key in fill if key not in KNOWN)
            objects.append(fill)
    return _transposed(objects)


def _transposed(fills: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    columns = {key: [fill[key] for fill in fills] for key in REQUIRED}
    columns["liquidation"] = [fill.get("liquidation") for fill in fills]
    return columns


def _texts(values: list[Any], key: str, check: _Check) -> pa.StringArray:
    """Make an Arrow column of texts; what is not text is a fault and becomes the empty text."""
    try:
        texts = pa.array(values, pa.string())
        if texts.null_count == 0:
            return texts
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        pass
    wrong = np.array([type(value) is not str for value in values], dtype=np.bool_)
    check.mark(wrong, key, lambda row: f"{values[row]!r} is not text")
    return pa.array([value if type(value) is str else "" for value in values], pa.string())


def _encode(values: list[Any], key: str, check: _Check) -> tuple[Codes, list[str]]:
    encoded = _texts(values, key, check).dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False), encoded.dictionary.to_pylist()


def _match(codes: Codes, names: list[str], form: Pattern[str], key: str, problem: str, check: _Check) -> None:
    wrong = np.array([form.fullmatch(name) is None for name in names], dtype=np.bool_)
    if wrong.any():
        check.mark(wrong[codes], key, lambda row: f"{names[codes[row]]!r} {problem}")


def _numbers(
    columns: dict[str, list[Any]], key: str, check: _Check, *, significant: int | None = None
) -> Numbers:
    values = columns[key]
    numbers = parse_numbers(_texts(values, key, check), significant=significant)
    check.mark(
        numbers.bad, key, lambda row: f"{values[row]!r} is not a plain decimal number of up to 18 digits"
    )
    return numbers


def _too_fine(values: list[Any], row: int) -> str:
    return f"{values[row]!r} has more than {_MOST_DECIMALS} decimals"


def _crossed(values: list[Any], check: _Check) -> Bools:
    if not set(map(type, values)) <= {bool}:
        wrong = np.array([type(value) is not bool for value in values], dtype=np.bool_)
        check.mark(wrong, "crossed", lambda row: f"{values[row]!r} is neither true nor false")
        values = [value is True for value in values]
    return np.array(values, dtype=np.bool_)


def _tids(values: list[Any], check: _Check) -> Ints:
    if not (
        set(map(type, values)) <= {int} and min(values, default=0) >= 0 and max(values, default=0) < BOUND
    ):
        wrong = [type(value) is not int or not 0 <= value < BOUND for value in values]
        check.mark(
            np.array(wrong, dtype=np.bool_),
            "tid",
            lambda row: f"{values[row]!r} is not a whole number from 0",
        )
        values = [0 if bad else value for value, bad in zip(values, wrong, strict=True)]
    return np.array(values, dtype=np.int64)


def _sides(columns: dict[str, list[Any]], check: _Check) -> Small:
    codes, names = _encode(columns["side"], "side", check)
    sign = np.array([{"B": 1, "A": -1}.get(name, 0) for name in names], dtype=np.int8)[codes]
    check.mark(sign == 0, "side", lambda row: f"{names[codes[row]]!r} is neither B nor A")
    return sign


def _dirs(columns: dict[str, list[Any]], check: _Check) -> Small:
    codes, names = _encode(columns["dir"], "dir", check)
    known = np.array([_CODE.get(name, -1) for name in names], dtype=np.int8)[codes]
    check.mark(known < 0, "dir", lambda row: f"{names[codes[row]]!r} is not a documented dir")
    return np.maximum(known, 0)


def _tokens(columns: dict[str, list[Any]], fee: Ints, check: _Check) -> tuple[Codes, list[str]]:
    """Encode the fee tokens; -1 where a fee of zero has none."""
    values = columns["feeToken"]
    none = np.zeros(len(values), dtype=np.bool_)
    if None in values:
        none = np.array([value is None for value in values], dtype=np.bool_)
        check.mark(
            none & (fee != 0), "feeToken", lambda row: f"is null, but the fee is {columns['fee'][row]}"
        )
        values = ["USDC" if value is None else value for value in values]
    codes, names = _encode(values, "feeToken", check)
    _match(codes, names, TOKEN, "feeToken", "is not the name of a token", check)
    return np.where(none, np.int32(-1), codes), names


def _liquidations(contents: list[Any], check: _Check, unknown: Counter[str]) -> dict[int, Liquidation]:
    found: dict[int, Liquidation] = {}
    rows = [row for row, content in enumerate(contents) if content is not None]
    for row, bad in zip(rows, check.bad[rows].tolist(), strict=True):
        if bad:
            continue
        content = contents[row]
        try:
            found[row] = parse_liquidation(content)
        except ValueError as failure:
            check.bad[row] = True
            check.faults.append(Fault(row, "liquidation", str(failure)))
            continue
        if not content.keys() <= KNOWN_OF_LIQUIDATION:
            unknown.update(f"liquidation.{key}" for key in content if key not in KNOWN_OF_LIQUIDATION)
    return found


def _pair(
    block: Ints,
    tid: Ints,
    dir_codes: Small,
    sides: tuple[Small, Codes, Numbers, Numbers],
    liquidations: dict[int, Liquidation],
    check: _Check,
) -> Ints:
    """Find the other row of each match; -1 where there is none."""
    partner = np.full(tid.size, -1, dtype=np.int64)
    rows = np.flatnonzero(~check.bad & (tid > 0) & ~_ONE_SIDED[dir_codes])
    if rows.size == 0:
        return partner
    order = rows[np.lexsort((tid[rows], block[rows]))]
    fresh = np.ones(order.size + 1, dtype=np.bool_)
    fresh[1:-1] = (tid[order[1:]] != tid[order[:-1]]) | (block[order[1:]] != block[order[:-1]])
    begins = np.flatnonzero(fresh)
    lengths = np.diff(begins)

    crowded = np.zeros(tid.size, dtype=np.bool_)
    crowded[order] = np.repeat(lengths > 2, lengths)
    check.mark(crowded, "tid", lambda row: f"{tid[row]} stands on more than two rows of its block")

    first = order[begins[:-1][lengths == 2]]
    second = order[begins[:-1][lengths == 2] + 1]
    sign, coin, price, size = sides
    differences = {
        "side": sign[first] == sign[second],
        "coin": coin[first] != coin[second],
        "px": (price.mantissa[first] != price.mantissa[second])
        | (price.digits[first] != price.digits[second]),
        "sz": (size.mantissa[first] != size.mantissa[second]) | (size.digits[first] != size.digits[second]),
        "liquidation": _disagree(first, second, liquidations),
    }
    for key, differs in differences.items():
        problem = "are on the same side" if key == "side" else f"differ in {key}"
        mask = np.zeros(tid.size, dtype=np.bool_)
        mask[first[differs]] = mask[second[differs]] = True
        check.mark(mask, "tid", partial(_unmatched, tid, problem))
    agree = ~check.bad[first]
    partner[first[agree]] = second[agree]
    partner[second[agree]] = first[agree]
    return partner


def _unmatched(tid: Ints, problem: str, row: int) -> str:
    return f"the two rows of match {tid[row]} {problem}"


def _disagree(first: Ints, second: Ints, liquidations: dict[int, Liquidation]) -> Bools:
    """Tell which pairs carry two liquidations that differ; one alone speaks for both rows."""
    differs = np.zeros(first.size, dtype=np.bool_)
    if liquidations:
        named = np.fromiter(liquidations, dtype=np.int64)
        for pair in np.flatnonzero(np.isin(first, named) & np.isin(second, named)).tolist():
            differs[pair] = liquidations[int(first[pair])] != liquidations[int(second[pair])]
    return differs


def _kinds(dir_codes: Small, partner: Ints, liquidations: dict[int, Liquidation]) -> Small:
    """Decide why each fill happened; the two rows of a match share the answer.

    ADL and settlement are told by ``dir`` on either row, the rest by the method of the liquidation. One
    with an empty method is a takeover if a row reads ``Liquidated ...`` and went to the book if not; a row
    that reads ``Liquidated ...`` without a liquidation is a takeover.
    """
    kind = np.full(dir_codes.size, FillKind.TRADE, dtype=np.int8)
    forced = ~_IS_TRADE[dir_codes]
    if not liquidations and not forced.any():
        return kind
    method = np.full(dir_codes.size + 1, Method.NONE, dtype=np.int8)
    for row, liquidation in liquidations.items():
        method[row] = liquidation.method
    method[:-1] = np.where(method[:-1] == Method.NONE, method[partner], method[:-1])
    method = method[:-1]

    def either(flags: Bools) -> Bools:
        return flags | (flags[partner] & (partner >= 0))

    def with_dir(name: str) -> Bools:
        return either(dir_codes == _CODE[name])

    kind[method == Method.EMPTY] = FillKind.LIQUIDATION
    kind[with_dir(PARTIAL_BORROW)] = FillKind.LIQUIDATION
    kind[either(_IS_LIQUIDATED[dir_codes]) | with_dir(BACKSTOP_BORROW)] = FillKind.BACKSTOP
    kind[method == Method.MARKET] = FillKind.LIQUIDATION
    kind[method == Method.BACKSTOP] = FillKind.BACKSTOP
    kind[with_dir(SETTLEMENT)] = FillKind.SETTLEMENT
    kind[with_dir(ADL)] = FillKind.ADL
    return kind
