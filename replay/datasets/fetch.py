"""Download the free files of a day: resumed, checked, tried again, written whole or not at all."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from replay.datasets.registry import Source
from replay.errors import SourceError
from replay.folders import sha256_file

OnBytes = Callable[[str, int, int | None], None]
"""Called with the path of a file, the bytes that are there, and how many there will be if that is known."""

_CHUNK = 1 << 15
_TRIES = 4
_SECONDS = 30.0


def fetch(
    source: Source,
    folder: Path,
    *,
    base: str | None = None,
    on_bytes: OnBytes | None = None,
    backoff: float = 0.5,
) -> list[Path]:
    """Download the files of a source into a folder, under the paths they have there.

    A file that is there with its checksum is not downloaded again; a broken download is gone on with where it
    stopped, if the server can. What a server answers with 429 or 5xx, and transfers that break, are tried again.

    Args:
        source: A source with a base.
        folder: Where the files go.
        base: Another base, such as a mirror.
        on_bytes: Told of the progress.
        backoff: Seconds before the second attempt; they double with each.

    Raises:
        SourceError: No such file, a wrong checksum, a transfer that breaks time and again, or urllib3 is missing.
    """
    if importlib.util.find_spec("urllib3") is None:
        raise SourceError(
            "downloading needs urllib3", mend="install it: pip install 'perp-replay[fetch]', or fetch by hand"
        )
    import urllib3

    retry = urllib3.Retry(
        total=_TRIES,
        backoff_factor=backoff,
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,
    )
    moved = source if base is None else source.model_copy(update={"base": base})
    files = []
    with urllib3.PoolManager(
        retries=retry, timeout=urllib3.Timeout(total=None, connect=_SECONDS, read=_SECONDS)
    ) as pool:
        for path, url in moved.urls():
            target = folder / path
            wanted = _checksum(pool, url + source.checksum) if source.checksum else None
            if not (target.exists() and (wanted is None or sha256_file(target) == wanted)):
                _download(pool, url, target, wanted, backoff, partial(_tell, on_bytes, path))
            files.append(target)
    return files


def _tell(on_bytes: OnBytes | None, path: str, there: int, size: int | None) -> None:
    if on_bytes is not None:
        on_bytes(path, there, size)


def _checksum(pool: Any, url: str) -> str:
    """Return the SHA-256 that stands first in a checksum file."""
    import urllib3

    try:
        answer = pool.request("GET", url)
    except urllib3.exceptions.HTTPError as failure:
        raise _broken(url, failure) from None
    _refuse_status(url, answer.status)
    word = answer.data.decode("ascii", "replace").split()
    if not word or len(word[0]) != 64:
        raise SourceError(
            "is no SHA-256 checksum", file=url, mend="look at the address; the source has changed"
        )
    return str(word[0]).lower()


def _download(
    pool: Any,
    url: str,
    target: Path,
    wanted: str | None,
    backoff: float,
    told: Callable[[int, int | None], None],
) -> None:
    """Download a file beside its place, going on with what is there, and move it there when it is whole."""
    import time

    import urllib3

    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    failure: Exception | None = None
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(backoff * 2 ** (attempt - 1))
        try:
            there, size = _go_on(pool, url, part, told)
        except urllib3.exceptions.HTTPError as broken:
            failure = broken
            continue
        if size is not None and there != size:
            failure = SourceError(f"{there} of {size} bytes came", file=url)
            continue
        found = sha256_file(part)
        if wanted is not None and found != wanted:
            part.unlink()
            raise SourceError(
                f"has the SHA-256 {found}, the source says {wanted}",
                file=url,
                mend="try again; if it stays so the file was damaged or replaced at the source",
            )
        part.replace(target)
        return
    raise _broken(url, failure)


def _go_on(
    pool: Any, url: str, part: Path, told: Callable[[int, int | None], None]
) -> tuple[int, int | None]:
    """Append what is missing of a file; return how many bytes are there and how many there should be."""
    there = part.stat().st_size if part.exists() else 0
    answer = pool.request(
        "GET", url, preload_content=False, headers={"Range": f"bytes={there}-"} if there else {}
    )
    try:
        if answer.status == 416:  # what is there is as long as the file, or longer: begin anew
            part.unlink()
            return 0, there
        _refuse_status(url, answer.status)
        there = there if answer.status == 206 else 0
        length = answer.headers.get("Content-Length")
        size = None if length is None else there + int(length)
        with part.open("ab" if there else "wb") as stream:
            for chunk in answer.stream(_CHUNK):
                stream.write(chunk)
                there += len(chunk)
                told(there, size)
        return there, size
    finally:
        answer.close()


def _refuse_status(url: str, status: int) -> None:
    if status in (200, 206):
        return
    mend = (
        "the source has no such file: look at the day and the symbol" if status == 404 else "try again later"
    )
    raise SourceError(f"the server answers {status}", file=url, mend=mend)


def _broken(url: str, failure: Exception | None) -> SourceError:
    return SourceError(
        f"the transfer broke {_TRIES} times: {failure}",
        file=url,
        mend="run the command again: it goes on where it stopped",
    )
