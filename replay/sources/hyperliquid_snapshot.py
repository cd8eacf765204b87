"""A snapshot of Hyperliquid's state as the opening of a tape: positions with entry, cash, and the marks they imply.

Cash is what the snapshot implies: account value less the unrealised profit at the snapshot's own marks. What happened
up to the snapshot's block is left out of the tape, since the snapshot is the state after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from replay.errors import SourceError
from replay.folders import sha256_file
from replay.sources._read import Lines, Progress, is_parquet
from replay.sources._rejects import Rejects
from replay.sources.hyperliquid import POSITIONS, VALUES
from replay.sources.hyperliquid_blocks import EARLIEST_MS, LATEST_MS
from replay.sources.hyperliquid_snapshot_rows import (
    POSITION_COLUMNS,
    VALUE_COLUMNS,
    Number,
    Position,
    Row,
    json_rows,
    moment_of,
    parquet_rows,
    parse_position,
    parse_value,
)
from replay.tape.schema import MAIN_DEX, Grade, Mode, Payoff, PriceKind
from replay.tape.write import TapeWriter
from replay.units import BOUND, MAX_SCALE, MONEY_SCALE, NS_PER_MS, divide_half_even

_DOLLAR = "USDC"
_MARK_DIGITS = 6
"""Decimals of prices of perpetuals, at most."""

_SIZE_DIGITS = 8
_BATCH = 16_384
_TO_ATOMS = 10 ** (MAX_SCALE - MONEY_SCALE)

Parsed = TypeVar("Parsed")


class Opening:
    """Reads a snapshot onto the opening of a tape; without one it says that nothing comes before the tape.

    Args:
        writer: The tape.
        rejects: Where rows go that cannot be understood.
    """

    def __init__(self, writer: TapeWriter, rejects: Rejects) -> None:
        self._writer = writer
        self._rejects = rejects
        self._unrealised: Counter[tuple[str, str]] = Counter()  # 1e-18 by user and dex
        self._values: dict[tuple[str, str], Number] = {}
        self._marks: dict[str, tuple[Number, Number]] = {}
        self._tokens: dict[str, str] = {}
        self.is_given = False
        self.block = -1
        self.ts = -1
        self.rows = 0
        self.counts: dict[str, int] = {}

    def covers(self, block: int, ts: int) -> bool:
        """Tell whether a block (-1 if it has no number) lies before the opening."""
        return block <= self.block if block >= 0 else ts <= self.ts

    def read(
        self, kinds: Mapping[str, Sequence[Path]], names: dict[Path, str], progress: Progress
    ) -> list[dict[str, Any]]:
        """Read the files of a snapshot, if there are any; return their provenance.

        Raises:
            SourceError: Files that are not one snapshot, a file that cannot be read, or a row that cannot be
                understood while none is set aside.
        """
        positions, values = kinds.get(POSITIONS, ()), kinds.get(VALUES, ())
        if not positions and not values:
            return []
        self._settle_moment([*positions, *values])
        self.is_given = True
        self.counts = dict.fromkeys(
            (
                "opening positions",
                "opening positions that are isolated",
                "opening accounts",
                "opening markets whose sizes do not sum to zero",
            ),
            0,
        )
        for file in values:
            self._note_tokens(file)
        sources = self._read_positions(positions, names, progress)
        sources += self._read_values(values, names, progress)
        self._append_marks()
        return sources

    def _settle_moment(self, files: Sequence[Path]) -> None:
        moments = {file: moment_of(file) for file in files}
        first = files[0]
        for file, moment in moments.items():
            if moment != moments[first]:
                raise SourceError(
                    f"is a snapshot of block {moment[0]}, but {first.name} is one of block {moments[first][0]}",
                    file=file,
                    mend="a tape has one opening: pass the files of one snapshot",
                )
        self.block, milliseconds = moments[first]
        if not EARLIEST_MS <= milliseconds < LATEST_MS or self.block >= BOUND:
            raise SourceError(
                "its name tells no moment between 2015 and 2035",
                file=first,
                mend="..._BLOCK_MILLISECONDS.json",
            )
        self.ts = milliseconds * NS_PER_MS

    def _note_tokens(self, file: Path) -> None:
        """Note what each dex settles in; only Parquet files tell."""
        if is_parquet(file):
            for row in parquet_rows(file, VALUE_COLUMNS):
                try:
                    found = parse_value(row.fields)
                except ValueError:
                    continue  # told when the row is read for its value
                self._tokens.setdefault(found.dex, found.token)

    def _rows(
        self,
        file: Path,
        columns: tuple[str, ...],
        parse: Callable[[dict[str, Any]], Parsed],
        names: dict[Path, str],
        progress: Progress,
        sources: list[dict[str, Any]],
    ) -> Iterator[tuple[Row, Parsed]]:
        """Yield the rows of a file that are understood; the others are set aside."""
        if is_parquet(file):
            yield from self._understood(file, parquet_rows(file, columns), parse)
            sources.append({"name": names[file], "bytes": file.stat().st_size, "sha256": sha256_file(file)})
            progress.read_whole(file)
            return
        with Lines(file, names[file]) as lines:
            yield from self._understood(file, json_rows(lines), parse)
            sources.append(lines.provenance())
            progress.read(lines)

    def _understood(
        self, file: Path, rows: Iterator[Row], parse: Callable[[dict[str, Any]], Parsed]
    ) -> Iterator[tuple[Row, Parsed]]:
        for row in rows:
            self.rows += 1
            try:
                found = parse(row.fields)
            except ValueError as failure:
                self._refuse(str(failure), file, row)
                continue
            yield row, found

    def _refuse(self, reason: str, file: Path, row: Row) -> None:
        self._rejects.add(reason, file=file, line=row.line, text=row.text, item=row.item)

    def _read_positions(
        self, files: Sequence[Path], names: dict[Path, str], progress: Progress
    ) -> list[dict[str, Any]]:
        sources: list[dict[str, Any]] = []
        seen: set[tuple[int, int]] = set()
        sums: Counter[int] = Counter()
        batch: list[tuple[int, int, Position]] = []
        for file in files:
            for row, found in self._rows(file, POSITION_COLUMNS, parse_position, names, progress, sources):
                market = self._writer.market(
                    found.coin, settle=self._token(found.dex), dex=found.dex, payoff=Payoff.LINEAR
                )
                account = self._writer.account(found.user)
                if (account, market) in seen:
                    self._refuse("its account holds this market twice", file, row)
                    continue
                seen.add((account, market))
                if self._values.setdefault((found.user, found.dex), found.value) != found.value:
                    self._refuse("account_value is not that of the account's row before", file, row)
                    continue
                self._note(found)
                sums[market] += found.size[0] * 10 ** (_SIZE_DIGITS - found.size[1])
                batch.append((account, market, found))
                if len(batch) == _BATCH:
                    self._append_positions(batch)
        self._append_positions(batch)
        self.counts["opening markets whose sizes do not sum to zero"] = sum(map(bool, sums.values()))
        return sources

    def _token(self, dex: str) -> str:
        return self._tokens.get(dex, _DOLLAR)

    def _note(self, found: Position) -> None:
        """Add a position to the unrealised profit of its account, and keep a market's largest for its mark."""
        size, entry, notional = found.size, found.entry, found.notional
        worth = notional[0] * 10 ** (MAX_SCALE - notional[1])
        paid = size[0] * entry[0] * 10 ** (MAX_SCALE - size[1] - entry[1])
        self._unrealised[found.user, found.dex] += (worth if size[0] > 0 else -worth) - paid
        self.counts["opening positions"] += 1
        self.counts["opening positions that are isolated"] += found.is_isolated
        known = self._marks.get(found.coin)
        if known is None or worth > known[0][0] * 10 ** (MAX_SCALE - known[0][1]):
            self._marks[found.coin] = (notional, (abs(size[0]), size[1]))

    def _append_positions(self, batch: list[tuple[int, int, Position]]) -> None:
        if not batch:
            return
        rows = [found for _, _, found in batch]
        self._writer.append(
            "positions",
            {
                "account": [account for account, _, _ in batch],
                "market": [market for _, market, _ in batch],
                "mode": [int(Mode.CROSS)] * len(batch),
                "size": [row.size[0] for row in rows],
                "size_digits": [row.size[1] for row in rows],
                "entry_price": [row.entry[0] for row in rows],
                "entry_price_digits": [row.entry[1] for row in rows],
            },
        )
        batch.clear()

    def _read_values(
        self, files: Sequence[Path], names: dict[Path, str], progress: Progress
    ) -> list[dict[str, Any]]:
        """Append the cash of accounts: those of the files of values, then those only positions tell."""
        sources: list[dict[str, Any]] = []
        seen: set[tuple[int, int]] = set()
        batch: list[tuple[int, int, int]] = []

        def add(user: str, dex: str, token: str, value: Number) -> None:
            cash = self._cash(user, dex, value)
            key = (self._writer.account(user), self._writer.ledger(dex, token))
            if key in seen:
                raise ValueError("its account has a value before")
            seen.add(key)
            self._values.pop((user, dex), None)
            batch.append((*key, cash))
            if len(batch) == _BATCH:
                self._append_accounts(batch)

        for file in files:
            for row, found in self._rows(file, VALUE_COLUMNS, parse_value, names, progress, sources):
                try:
                    add(*found)
                except ValueError as failure:
                    self._refuse(str(failure), file, row)
        for (user, dex), value in list(self._values.items()):
            try:
                add(user, dex, self._token(dex), value)
            except ValueError as failure:
                raise SourceError(f"{failure}: the account {user}", key="account_value") from failure
        self._append_accounts(batch)
        self.counts["opening accounts"] = len(seen)
        return sources

    def _cash(self, user: str, dex: str, value: Number) -> int:
        """Return the cash of an account in atoms.

        Raises:
            ValueError: It does not fit.
        """
        exact = value[0] * 10 ** (MAX_SCALE - value[1]) - self._unrealised[user, dex]
        cash = divide_half_even(exact, _TO_ATOMS)
        if abs(cash) >= BOUND:
            raise ValueError("the cash that its account value implies does not fit 62 bits of 1e-8")
        return cash

    def _append_accounts(self, batch: list[tuple[int, int, int]]) -> None:
        if batch:
            account, ledger, cash = zip(*batch, strict=True)
            columns = {"account": account, "ledger": ledger, "cash": cash}
            self._writer.append("accounts", {**columns, "grade": [int(Grade.KNOWN)] * len(batch)})
            batch.clear()

    def _append_marks(self) -> None:
        """Append the mark of each market at the snapshot: notional over size of its largest position."""
        if not self._marks:
            return
        marks = []
        for notional, size in self._marks.values():
            exact = notional[0] * 10 ** (_MARK_DIGITS + size[1])
            marks.append(max(1, divide_half_even(exact, size[0] * 10 ** notional[1])))
        rows = len(marks)
        dex_of = {coin: coin.rpartition(":")[0] for coin in self._marks}
        self._writer.append(
            "prices",
            {
                "ts": [self.ts] * rows,
                "market": [
                    self._writer.market(coin, settle=self._token(dex or MAIN_DEX))
                    for coin, dex in dex_of.items()
                ],
                "kind": [int(PriceKind.EVENT)] * rows,
                "price": marks,
                "price_digits": [_MARK_DIGITS] * rows,
            },
        )
