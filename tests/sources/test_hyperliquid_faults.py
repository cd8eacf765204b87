"""Damaged Hyperliquid files: whatever the bytes are, a tape or one clear error, and nothing left behind."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import lz4.frame
import pytest

from replay.errors import SourceError
from replay.sources import import_source
from replay.sources.hyperliquid_words import DIRS
from replay.tape.read import open_tape
from tests.sources.node_fills import ANN, BEN, VAULT, block, match

FORCED = {"liquidation": {"liquidatedUser": BEN, "markPx": "114990.5", "method": "market"}}
TAKEN = {"dir": "Liquidated Cross Long", "liquidation": {**FORCED["liquidation"], "method": "backstop"}}
BLOCKS = [
    block(1, match(ANN, BEN)),
    block(2, []),
    block(3, [*match(BEN, ANN, tid=3, coin="ETH"), *match(coin="@107", dir="Buy", sells={"dir": "Sell"})]),
    block(4, match(ANN, BEN, buys=FORCED, sells={**FORCED, "dir": "Close Long"})),
    block(5, match(VAULT, BEN, coin="xyz:GOLD", buys=TAKEN, sells=TAKEN)),
    block(6, match(ANN, BEN, buys={"dir": "Auto-Deleveraging"}, sells=TAKEN)),
]
ALPHA = {
    "trades.csv": [
        "time,user,coin,side,px,sz,crossed",
        f"2023-03-01T00:01:00Z,{ANN},ETH,Bid,1000,2,true",
        f"2023-03-01T00:01:00Z,{BEN},SOL,Ask,20.5,10,true",
        f"2023-03-01T00:05:00Z,{ANN},ETH,Ask,980,2,false",
        f"2023-03-01T00:06:00Z,{BEN},SOL,Bid,20.5,1,false",
    ],
    "ledger.csv": [
        "time,user,delta_usd",
        f"2023-03-01T00:00:00Z,{ANN},100",
        f"2023-03-01T00:00:30Z,{BEN},50.25",
        f"2023-03-01T00:07:00Z,{ANN},-1.000001",
    ],
    "liquidations.csv": [
        "time,user,liquidated_ntl_pos,liquidated_account_value,leverage_type",
        f"2023-03-01T00:05:00Z,{ANN},1970,12.5,Cross",
    ],
}
WORDS = [
    "NaN",
    "-1",
    "1e9",
    "null",
    "true",
    '"',
    "{",
    "]",
    ",",
    "9" * 40,
    "0.0",
    "",
    "\n",
    "\x00",
    "ﬀ",
    *DIRS,
]


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Return a file with one to three things wrong with it."""
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.randint(1, 30))
        lines = data.splitlines(keepends=True)
        way = chance.randrange(8)
        if way == 0:
            data = data[:at]
        elif way == 1:
            data = data[:at] + data[end:]
        elif way == 2:
            data = data[:at] + chance.randbytes(chance.randint(1, 8)) + data[at:]
        elif way == 3:
            data = data[:at] + chance.choice(WORDS).encode() + data[end:]
        elif way == 4 and lines:
            lines.insert(chance.randrange(len(lines)), chance.choice(lines))
            data = b"".join(lines)
        elif way == 5:
            chance.shuffle(lines)
            data = b"".join(lines)
        elif way == 6 and at < len(data):
            data = data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]
        elif way == 7:
            digits = [place for place, byte in enumerate(data) if chr(byte).isdigit()]
            if digits:
                place = chance.choice(digits)
                data = (
                    data[:place] + chance.choice([b"9", b"0", b"-", b".", b"99999999999"]) + data[place + 1 :]
                )
    return data


def outcome(folder: Path, paths: list[Path], *, rejects: bool) -> str:
    """Import, and check that the result is whole or the error is one, with nothing left behind."""
    before = {path.name for path in folder.iterdir()}
    aside = folder / "rejects" if rejects else None
    try:
        manifest = import_source("hyperliquid", paths, folder / "tape", rejects=aside)
    except SourceError:
        if {path.name for path in folder.iterdir()} - before - {"rejects"}:
            pytest.fail("a failed import left something behind")
        return "error"
    tape = open_tape(folder / "tape")
    counts = manifest["counts"]
    assert tape.rows("fills") == counts["fills"] > 0
    assert counts["rows set aside"] == 0, "one of so few rows is more than 0.1 %"
    return "tape"


def run(folder: Path, seed: int, files: dict[str, bytes]) -> str:
    chance = random.Random(seed)
    place = folder / str(seed)
    place.mkdir()
    victim = chance.choice(sorted(files))
    paths = []
    for name, data in files.items():
        content = damaged(data, chance) if name == victim else data
        (place / name).write_bytes(content)
        paths.append(place / name)
    return outcome(place, paths, rejects=chance.random() < 0.3)


def test_damaged_blocks_give_a_tape_or_one_error(tmp_path: Path) -> None:
    files = {"fills.jsonl": "".join(f"{line}\n" for line in BLOCKS).encode()}
    seen = {run(tmp_path, seed, files) for seed in range(300)}
    assert seen == {"error", "tape"}


def test_damaged_lz4_files_give_a_tape_or_one_error(tmp_path: Path) -> None:
    files = {"fills.lz4": lz4.frame.compress("".join(f"{line}\n" for line in BLOCKS).encode())}
    seen = {run(tmp_path, seed, files) for seed in range(100)}
    assert "error" in seen


def test_damaged_closed_alpha_files_give_a_tape_or_one_error(tmp_path: Path) -> None:
    files = {name: "".join(f"{line}\n" for line in lines).encode() for name, lines in ALPHA.items()}
    seen = {run(tmp_path, seed, files) for seed in range(300)}
    assert seen == {"error", "tape"}


JUNK: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    2**63,
    2**70,
    "",
    "NaN",
    "-1",
    "1e5",
    [],
    {},
    [1],
    {"a": 1},
    "x" * 500,
]


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values within a JSON value."""
    items = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    return [path, *[deeper for key, value in items for deeper in places(value, (*path, key))]]


def replaced(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = content.copy()
    copy[path[0]] = replaced(content[path[0]], path[1:], value)
    return copy


@pytest.mark.parametrize("line", [0, 3, 5])
def test_any_value_of_a_block_may_be_junk(tmp_path: Path, line: int) -> None:
    content = json.loads(BLOCKS[line])
    chance = random.Random(line)
    seen = set()
    for number, path in enumerate(places(content)):
        for value in chance.sample(JUNK, 3):
            place = tmp_path / f"{number}-{len(list(tmp_path.iterdir()))}"
            place.mkdir()
            lines = [*BLOCKS]
            lines[line] = json.dumps(replaced(content, path, value))
            (place / "fills").write_text("".join(f"{text}\n" for text in lines))
            seen.add(outcome(place, [place / "fills"], rejects=False))
    assert "error" in seen
