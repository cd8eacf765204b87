"""``replay import columns MAP FILE...``: any comma-separated or Parquet files, by a map that says what is what.

The map is TOML: ``venue``; for each kind of file a ``[[feed]]``; for each symbol a ``[contracts.SYMBOL]``. See
``docs/column-maps.md``. Those of BitMEX, Kraken, Gate, Bitget and KuCoin come with the program, by name.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replay.errors import SourceError
from replay.progress import OnProgress
from replay.sources import Source

if TYPE_CHECKING:
    from replay.sources.feeds import Contract, Feed

LACKS = ("Who traded: `replay populate` makes accounts for such a day.", "What the map does not name.")
ASSUMES = (
    "The map says what the columns are, their unit of time, and what a contract is.",
    "Floating point in Parquet is meant to 15 significant digits, a moment without a zone in UTC.",
)

_MAPS = Path(__file__).with_name("maps")
_PAYOFFS = {"linear": 0, "inverse": 1, "spot": 2}
_KINDS = {"mark": 0, "index": 1, "oracle": 2, "last": 3}
_FEED_KEYS = {
    "name", "table", "columns", "time", "unit", "symbol", "file_symbol", "price", "qty", "side", "sides",
    "trade_id", "kind", "header", "by_arrival",
}  # fmt: skip


def read_map(path: Path) -> dict[str, Any]:
    """Read a map.

    Raises:
        SourceError: It is no TOML, or lacks feeds or contracts.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as failure:
        raise SourceError(
            f"cannot be read as a map: {failure}", file=path, mend="see docs/column-maps.md"
        ) from failure
    unknown = content.keys() - {"venue", "feed", "contracts"}
    if unknown:
        raise SourceError(
            f"has no key {', '.join(sorted(unknown))}",
            file=path,
            mend="a map has venue, [[feed]] and [contracts]",
        )
    for key in ("venue", "feed", "contracts"):
        if key not in content:
            raise SourceError("is missing", file=path, key=key, mend="see docs/column-maps.md")
    return content


def shipped_maps() -> list[str]:
    """Return the names of the maps that come with the program."""
    return sorted(path.stem for path in _MAPS.glob("*.toml"))


def with_shipped_map(paths: Sequence[Path]) -> list[Path]:
    """Put the file of a shipped map in the place of its name, such as ``bitmex``; a file of that name goes before."""
    return [
        _MAPS / f"{path}.toml" if str(path) in shipped_maps() and not path.exists() else path
        for path in paths
    ]


def feed_of(entry: dict[str, Any], path: Path, number: int) -> Feed:
    """Return the feed of a ``[[feed]]`` of a map.

    Raises:
        SourceError: A key that is not known, missing, or of another type.
    """
    from replay.sources.feeds import Feed
    from replay.tape.schema import PriceKind

    unknown = entry.keys() - _FEED_KEYS
    if unknown:
        raise SourceError(
            f"there is no key {', '.join(sorted(unknown))}",
            file=path,
            key=f"feed.{number}",
            mend=f"keys: {', '.join(sorted(_FEED_KEYS))}",
        )
    given = dict(entry)
    if given.get("table") == "open_interest":
        given.setdefault("price", "")
    for key, allowed in (
        ("table", ("trades", "prices", "funding", "open_interest")),
        ("unit", ("ns", "us", "ms", "s", "iso")),
    ):
        if given.get(key) not in allowed:
            raise SourceError(
                f"is {given.get(key)!r}",
                file=path,
                key=f"feed.{number}.{key}",
                mend=f"one of {', '.join(allowed)}",
            )
    kind = given.pop("kind", "last")
    if kind not in _KINDS:
        raise SourceError(
            f"is {kind!r}", file=path, key=f"feed.{number}.kind", mend=f"one of {', '.join(_KINDS)}"
        )
    try:
        given["columns"] = tuple(given["columns"])
        feed = Feed(kind=PriceKind(_KINDS[kind]), **given)
    except (KeyError, TypeError) as failure:
        raise SourceError(f"is incomplete: {failure}", file=path, key=f"feed.{number}") from failure
    missing = [name for name in feed.wanted if name not in feed.columns]
    if (
        missing
        or (feed.table in ("trades", "open_interest") and not feed.qty)
        or not (feed.symbol or feed.file_symbol)
    ):
        what = (
            f"names {', '.join(missing)}, which are not in its columns" if missing else "lacks qty or symbol"
        )
        raise SourceError(what, file=path, key=f"feed.{number}", mend="see docs/column-maps.md")
    return feed


def contract_of(content: dict[str, Any], symbol: str, path: Path, file: Path) -> Contract:
    """Return what a symbol of a map is.

    Raises:
        SourceError: The map does not name it, or its entry is wrong.
    """
    from replay.sources.feeds import Contract
    from replay.tape.schema import Payoff

    entry = content["contracts"].get(symbol)
    if entry is None:
        raise SourceError(
            f"the symbol {symbol!r} is not in the map {path.name}",
            file=file,
            key="symbol",
            mend=f"add [contracts.{symbol}] with base, payoff, settle and multiplier",
        )
    try:
        payoff = Payoff(_PAYOFFS[entry["payoff"]])
        return Contract(entry["base"], payoff, entry["settle"], Fraction(str(entry.get("multiplier", "1"))))
    except (KeyError, ValueError, TypeError) as failure:
        raise SourceError(
            f"is wrong: {failure}",
            file=path,
            key=f"contracts.{symbol}",
            mend='base = "BTC", payoff = "linear", "inverse" or "spot", settle = "USDT", multiplier = "0.001"',
        ) from failure


def _load(
    inputs: Sequence[Path],
    out: Path,
    *,
    force: bool,
    rejects: Path | None,
    on_progress: OnProgress | None,
) -> dict[str, Any]:
    from replay.sources.feeds import Family
    from replay.sources.market_data import load_feeds

    maps = [file for file in inputs if file.suffix == ".toml"]
    files = [file for file in inputs if file.suffix != ".toml"]
    if len(maps) != 1 or not files:
        raise SourceError(
            f"{len(maps)} maps and {len(files)} files were named",
            file=inputs[0],
            mend="name one map (MAP.toml) and the files it is for",
        )
    content = read_map(maps[0])
    feeds = tuple(feed_of(entry, maps[0], number) for number, entry in enumerate(content["feed"]))
    family = Family(
        venue=str(content["venue"]),
        importer="columns",
        feeds=feeds,
        describe=lambda symbol, file: contract_of(content, symbol, maps[0], file),
        lacks=LACKS,
        assumes=ASSUMES,
        identify=lambda file: next(
            (feed for feed in feeds if not feed.header and feed.name in file.name), None
        ),
    )
    return load_feeds(family, files, out, force=force, rejects=rejects, on_progress=on_progress)


SOURCE = Source(
    name="columns",
    summary="Any comma-separated or Parquet files of trades, prices, funding or open interest, by a map of their "
    "columns: MAP.toml, or bitmex, kraken, gate, bitget, kucoin",
    has=("What the map names: trades with taker side and number, prices, funding rates, open interest.",),
    lacks=LACKS,
    assumes=ASSUMES,
    load=_load,
    named=with_shipped_map,
)
