"""``replay import drift-v2``: a snapshot of Drift v2 on Solana, its files or their tar archive, as an opening."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from replay.progress import OnProgress
from replay.sources import Source

if TYPE_CHECKING:
    from replay.sources._rejects import Rejects
    from replay.sources.drift_v2_rows import Perp, Position, Spot, User
    from replay.tape.write import TapeWriter

FUND = "@vault:keepers"
"""The insurance fund of USDC, by the name under which the rules of `drift-v2` pay from it."""

HAS = (
    "Sub-accounts with positions, entries and cash (USDC with interest, profit not yet settled, funding not yet paid).",
    "Oracle prices at the snapshot, which are the marks; steps of price and size; the insurance fund of USDC.",
)
LACKS = (
    "Everything after the snapshot: without other events a run only judges the opening.",
    "The venue's own position: it holds the other side of what the sub-accounts do not sum to (`@unseen` on the tape).",
    "What providers of liquidity to the venue have not settled yet.",
    "Open orders; weights of collateral and interest after the snapshot.",
)
ASSUMES = (
    "Cash is USDC, plus what a position has brought in beyond its entry, less funding of it that is due; equity then "
    "is that of the protocol before weights.",
    "Other tokens than USDC are cash at their oracle price of the snapshot, without their weight; such accounts are of "
    "the grade `assumed`, all others `known`.",
    "The address of a sub-account is the name of its file. Zone-less moments are UTC.",
    "A position that cost nothing, or less, has the oracle price for its entry.",
    "Two of the three perpetuals have no name in the snapshot: names are those of the protocol's client.",
)
_LARGEST = 16 << 20


def _load(
    inputs: Sequence[Path],
    out: Path,
    *,
    force: bool,
    rejects: Path | None,
    on_progress: OnProgress | None,
) -> dict[str, Any]:
    from replay.sources._read import Progress
    from replay.sources._rejects import Rejects
    from replay.tape.write import TapeWriter

    progress = Progress(inputs, on_progress)
    sources: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    with TapeWriter(out, venue="drift-v2", importer="drift-v2", force=force) as writer:
        with Rejects(rejects, inputs=inputs, out=out, force=force) as aside:
            perps, spots, users = _read(inputs, aside, counts, sources, progress)
        aside.check(counts["sub-accounts read"])
        progress.writing()
        _write(perps, spots, users, writer, counts)
        manifest = writer.finish(
            sources=sources,
            lacks=LACKS,
            assumptions=ASSUMES,
            counts={**counts, "rows set aside": aside.count},
            accounts_start="known",
        )
    progress.finished()
    return manifest


def _read(
    inputs: Sequence[Path], aside: Rejects, counts: Counter[str], sources: list[dict[str, Any]], progress: Any
) -> tuple[dict[int, Perp], dict[int, Spot], list[User]]:
    from replay.errors import SourceError
    from replay.sources.drift_v2_rows import OTHER, PERPS, SPOTS, parse_perp, parse_spot, parse_user, table_of

    perps: dict[int, Perp] = {}
    spots: dict[int, Spot] = {}
    users: dict[str, User] = {}
    places: dict[str, Path] = {}
    for file, text in _texts(inputs, sources, progress):
        try:
            kind, columns = table_of(text)
            if kind == OTHER:
                counts["other files left out"] += 1
            elif kind == PERPS:
                perps.update(parse_perp(cells) for cells in columns)
            elif kind == SPOTS:
                spots.update(parse_spot(cells) for cells in columns)
            else:
                counts["sub-accounts read"] += 1
                user = parse_user(file.name.partition(".")[0], columns[0])
                if user.name in users:
                    raise ValueError("this sub-account stands there twice")
                users[user.name], places[user.name] = user, file
        except ValueError as failure:
            aside.add(str(failure), file=file, line=1, text=text[:10_000])
    if not perps or not spots or not users:
        missing = {"perp_markets.csv": perps, "spot_markets.csv": spots, "users/ADDRESS.csv": users}
        names = ", ".join(name for name, found in missing.items() if not found)
        raise SourceError(
            f"of the snapshot, {names} is missing", file=inputs[0], mend="pass the whole folder, or its tar"
        )
    for name, user in users.items():
        strange = {position.market for position in user.positions} - perps.keys()
        tokens = {balance.token for balance in user.balances} - spots.keys()
        if strange or tokens:
            raise SourceError(
                f"holds what no file of markets has: perpetuals {sorted(strange)}, tokens {sorted(tokens)}",
                file=places[name],
                mend="pass the markets of the same snapshot",
            )
    return perps, spots, [users[name] for name in sorted(users)]


def _texts(
    inputs: Sequence[Path], sources: list[dict[str, Any]], progress: Any
) -> Iterator[tuple[Path, str]]:
    """Yield each file of the snapshot with its text, those of a tar archive with their place in it."""
    import tarfile
    import zlib

    from replay.errors import SourceError
    from replay.folders import sha256_file
    from replay.sources._read import Lines, name_inputs

    names = name_inputs(inputs)
    for file in inputs:
        if _is_archive(file):
            try:
                with tarfile.open(file) as archive:
                    for entry in archive:
                        opened = archive.extractfile(entry) if entry.isfile() else None
                        if opened is not None and entry.name.endswith(".csv"):
                            place = Path(file, PurePosixPath(entry.name))
                            yield place, _decoded(opened.read(_LARGEST + 1), place)
            except (tarfile.TarError, OSError, EOFError, zlib.error) as failure:
                raise SourceError(
                    f"its tar archive is damaged: {failure}", file=file, mend="fetch the file again"
                ) from failure
            sources.append({"name": names[file], "bytes": file.stat().st_size, "sha256": sha256_file(file)})
            progress.read_whole(file)
            continue
        with Lines(file, names[file]) as lines:
            yield file, _decoded(lines.read(_LARGEST + 1), file)
            progress.read(lines)
            sources.append(lines.provenance())


def _is_archive(file: Path) -> bool:
    """Tell whether a file is a tar archive, compressed or not; one that is cut short is none."""
    import tarfile
    import zlib

    try:
        return tarfile.is_tarfile(file)
    except (OSError, EOFError, zlib.error):
        return False


def _decoded(data: bytes, file: Path) -> str:
    from replay.errors import SourceError

    if len(data) > _LARGEST:
        raise SourceError(
            "is larger than any file of a snapshot", file=file, mend="pass the files of one snapshot"
        )
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise SourceError("is not UTF-8 text", file=file, mend="fetch the file again") from None


def _write(
    perps: dict[int, Perp],
    spots: dict[int, Spot],
    users: list[User],
    writer: TapeWriter,
    counts: Counter[str],
) -> None:
    from replay.sources.drift_v2_rows import tokens_of
    from replay.tape.schema import MAIN_DEX, Grade, Mode, PriceKind
    from replay.units import rescale

    ledger = writer.ledger(MAIN_DEX, "USDC")
    markets = {
        index: writer.market(perp.name, settle="USDC", tick=perp.tick, lot=perp.lot)
        for index, perp in sorted(perps.items())
    }
    pools, positions = [], []
    for user in users:
        cash, grade = 0, Grade.KNOWN
        for balance in user.balances:
            spot = spots[balance.token]
            mantissa, digits = spot.oracle
            if balance.token:
                grade = Grade.ASSUMED
            cash += rescale(tokens_of(balance, spot) * mantissa, spot.decimals + digits, _ATOM)[0]
        held = [_opened(position, perps[position.market]) for position in user.positions]
        cash += sum(brought for brought, _ in held)
        counts["positions of providers of liquidity"] += sum(
            position.is_provider for position in user.positions
        )
        if not cash and not held:
            counts["empty sub-accounts left out"] += 1
            continue
        account = writer.account(user.name)
        counts["accounts with other tokens than USDC"] += grade == Grade.ASSUMED
        pools.append((account, ledger, cash, int(grade)))
        positions += [
            (account, markets[position.market], int(Mode.CROSS), position.size, 9, entry, _ENTRY_DIGITS)
            for position, (_, entry) in zip(user.positions, held, strict=True)
            if position.size
        ]
    fund = next((spot for index, spot in spots.items() if index == 0), None)
    if fund is not None and fund.fund:
        amount = rescale(fund.fund, fund.decimals, _ATOM)[0]
        pools.append((writer.account(FUND), ledger, amount, int(Grade.KNOWN)))
    writer.append_rows("accounts", "account ledger cash grade", pools)
    writer.append_rows(
        "positions", "account market mode size size_digits entry_price entry_price_digits", positions
    )
    prices = [
        (perp.ts, markets[index], *perp.oracle, int(kind))
        for index, perp in sorted(perps.items(), key=lambda item: (item[1].ts, item[0]))
        for kind in (PriceKind.ORACLE, PriceKind.MARK)
    ]
    writer.append_rows("prices", "ts market price price_digits kind", prices)


_ATOM = 8
_ENTRY_DIGITS = 6


def _opened(position: Position, perp: Perp) -> tuple[int, int]:
    """Return what a position adds to cash in atoms, and its entry price in 1e-6.

    Its profit is ``size * oracle + quote`` less funding that is due; the tape's is ``size * (mark - entry)``. So cash
    takes ``quote + size * entry``, and neither rounding an entry nor taking the oracle where there is none changes what
    the account is worth.
    """
    from replay.units import divide_half_even, rescale

    paid = perp.long_funding if position.size > 0 else perp.short_funding
    due = (paid - position.funding) * position.size  # in 1e-18
    entry = 0
    if position.size:
        entry = divide_half_even(
            -position.entry * 10**9 * (1 if position.size > 0 else -1), abs(position.size)
        )
    if entry <= 0:
        entry = max(1, rescale(*perp.oracle, _ENTRY_DIGITS)[0])
    brought = position.quote * 10**12 + position.size * entry * 10**3 - due
    return divide_half_even(brought, 10**10), entry


SOURCE = Source(
    name="drift-v2",
    summary="Drift v2 on Solana: a snapshot of markets and sub-accounts (CSV, a folder or its tar) as an opening",
    has=HAS,
    lacks=LACKS,
    assumes=ASSUMES,
    load=_load,
)
