"""Reading public files: paths to files, compression by content, lines in bounded memory, provenance.

A file is read once: the bytes that pass on their way to the decompressor are counted and hashed.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

from replay.errors import SourceError
from replay.progress import OnProgress

LONGEST_LINE = 64 << 20
"""Bytes of the longest line read; the largest block of a crash day is about 10 MB."""

MOST_HELD = 8_000_000
"""Rows that an importer takes which holds them to sort them, at 0.5 to 1.1 KiB each."""

_CHUNK = 1 << 20
_SHARE_OF_READING = 0.9
"""Part of the progress of an import that is reading; the rest is scaling and writing."""

_MAGIC = (
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "zip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x02\x21\x4c\x18", "legacy lz4"),
    (b"PAR1", "Parquet"),
)
_SUPPORTED = ("lz4", "gzip", "zstd", "zip")
_CONTROL = frozenset(range(32)) - frozenset(b"\t\n\r")
"""Bytes that text does not have."""


def expand_paths(paths: Sequence[Path]) -> list[Path]:
    """Return the files that files, folders and glob patterns stand for: sorted, each once.

    Folders are searched to any depth; hidden files in them are left out.

    Raises:
        SourceError: A path does not exist or is no file, a folder or pattern holds nothing, or no path.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for file in _expand(path):
            found.setdefault(file.resolve(), file)
    if not found:
        raise SourceError("there is nothing to import", mend="name files, folders or glob patterns")
    return [found[key] for key in sorted(found)]


def _expand(path: Path) -> list[Path]:
    try:
        if path.is_file():
            return [path]
        if path.is_dir():
            return _files_in(path)
        if path.exists():
            raise SourceError("is neither a file nor a folder", file=path)
        matches = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    except (OSError, ValueError) as failure:
        raise SourceError(f"cannot be looked up: {failure}", file=path) from failure
    if not matches:
        raise SourceError("no such file or folder", file=path, mend="check the spelling of the path")
    return [file for match in matches for file in _expand(match)]


def _files_in(folder: Path) -> list[Path]:
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )
    if not files:
        raise SourceError("this folder holds no files", file=folder)
    return files


def name_inputs(inputs: Sequence[Path]) -> dict[Path, str]:
    """Name each input for provenance: its path below the folder that holds all inputs.

    The names do not depend on where that folder is, nor on the order or form the paths were given in.
    """
    resolved = {file: file.resolve() for file in inputs}
    common = Path(os.path.commonpath([file.parent for file in resolved.values()]))
    return {file: real.relative_to(common).as_posix() for file, real in resolved.items()}


_TAR_HEAD = 512


def _is_tar(head: bytes) -> bool:
    """Tell whether bytes begin a tar archive: its mark stands at byte 257 of the first header."""
    return head[257:262] == b"ustar"


class _Counted(io.RawIOBase):
    """A raw file that counts and hashes what is read from it."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self.count = 0
        self.hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._raw.read(len(buffer))
        buffer[: len(data)] = data
        self.count += len(data)
        self.hash.update(data)
        return len(data)


class _TarMember(io.RawIOBase):
    """The one file of a tar archive, read as the archive streams by; at its end the archive is read to its end."""

    def __init__(self, stream: io.BufferedReader[Any], path: Path) -> None:
        import tarfile

        self._broken = tarfile.TarError
        self._stream = stream
        self._path = path
        self._is_done = False
        try:
            self._archive = tarfile.open(fileobj=stream, mode="r|")  # noqa: SIM115 - closed with its stream
            self._member = self._next()
        except tarfile.TarError as failure:
            raise self._damaged(failure) from failure
        if self._member is None:
            raise SourceError("is a tar archive without a file", file=path)

    def _next(self) -> IO[bytes] | None:
        while (entry := self._archive.next()) is not None:
            if entry.isfile():
                return self._archive.extractfile(entry)
        return None

    def _damaged(self, failure: Exception) -> SourceError:
        return SourceError(
            f"its tar archive is damaged: {failure}", file=self._path, mend="fetch the file again"
        )

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._is_done or self._member is None:
            return 0
        try:
            data = self._member.read(len(buffer))
            if not data:
                if self._next() is not None:
                    raise SourceError(
                        "holds several files, one is read",
                        file=self._path,
                        mend="unpack it into a folder and name that",
                    )
                while self._stream.read(_CHUNK):
                    pass
                self._is_done = True
        except self._broken as failure:
            raise self._damaged(failure) from failure
        buffer[: len(data)] = data
        return len(data)


class Lines:
    """The lines of one file, decompressed by its content; a context manager, read once.

    Iterating gives ``(number, line)`` with numbers from 1 and lines without their line end. Blank lines
    are left out. A last line without a line end is given like any other.

    Args:
        path: The file, as the user named it.
        name: Its name for provenance.

    Raises:
        SourceError: On opening or iterating: the file cannot be read, is empty, is compressed in a way
            that is not supported, is damaged, is not text, or has a line beyond :data:`LONGEST_LINE`.
    """

    def __init__(self, path: Path, name: str = "") -> None:
        self.path = path
        self.name = name or path.name
        self._number = 0
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._counted = _Counted(self._exit.enter_context(self.path.open("rb", buffering=0)))
            buffered = self._exit.enter_context(io.BufferedReader(self._counted, _CHUNK))
            self._stream = self._unpacked(self._decompressed(buffered))
        except OSError as failure:
            self._exit.close()
            raise SourceError(f"cannot be read: {failure.strerror}", file=self.path) from failure
        except SourceError:
            self._exit.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    @property
    def bytes_read(self) -> int:
        """Bytes of the file itself read so far, compressed if it is."""
        return self._counted.count

    def _decompressed(self, stream: io.BufferedReader[Any]) -> io.BufferedReader[Any]:
        head = stream.peek(512)[:512]
        if not head:
            raise SourceError("is empty", file=self.path)
        form = next((form for magic, form in _MAGIC if head.startswith(magic)), None)
        if form is None:
            if _CONTROL & set(head) and not _is_tar(head):
                raise SourceError(
                    "is neither text nor a compression that is known",
                    file=self.path,
                    mend="text, lz4, gzip, zstd and zip are read; their content tells them, not their name",
                )
            return stream
        if form not in _SUPPORTED:
            raise SourceError(
                f"is a {form} file, which is not read yet",
                file=self.path,
                mend="unpack it first; plain text, lz4, gzip, zstd and zip are read",
            )
        if form == "gzip":
            return io.BufferedReader(self._exit.enter_context(gzip.GzipFile(fileobj=stream)), _CHUNK)
        if form == "zstd":
            import pyarrow as pa

            raw = pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd")
            return io.BufferedReader(self._exit.enter_context(raw), _CHUNK)
        if form == "zip":
            return self._member(stream)
        import lz4.frame

        return io.BufferedReader(self._exit.enter_context(lz4.frame.LZ4FrameFile(stream)), _CHUNK)

    def _unpacked(self, stream: io.BufferedReader[Any]) -> io.BufferedReader[Any]:
        """Return the one file of a tar archive, or the stream itself where it is none."""
        if not _is_tar(self._checked(stream.peek, _TAR_HEAD)):
            return stream
        return io.BufferedReader(self._exit.enter_context(_TarMember(stream, self.path)), _CHUNK)

    def _member(self, stream: io.BufferedReader[Any]) -> io.BufferedReader[Any]:
        """Open the one file of a zip archive; its directory stands at the end, so it is read twice."""
        try:
            archive = self._exit.enter_context(zipfile.ZipFile(self.path))
            members = [item for item in archive.infolist() if not item.is_dir()]
            if len(members) != 1:
                raise SourceError(
                    f"holds {len(members)} files, one is read",
                    file=self.path,
                    mend="unpack it into a folder and name that",
                )
            opened = self._exit.enter_context(archive.open(members[0]))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as failure:
            raise SourceError(
                f"its compressed data is damaged: {failure}", file=self.path, mend="fetch the file again"
            ) from failure
        while stream.read(_CHUNK):  # what is hashed is the archive as it stands
            pass
        return io.BufferedReader(opened, _CHUNK)

    @property
    def stream(self) -> io.BufferedReader[Any]:
        """The decompressed bytes, for a reader of its own."""
        return self._stream

    def read(self, size: int) -> bytes:
        """Read up to ``size`` decompressed bytes; none at the end.

        Raises:
            SourceError: The compressed data is damaged.
        """
        return self._checked(self._stream.read, size)

    def is_at_end(self) -> bool:
        """Tell whether nothing is left to read.

        Raises:
            SourceError: The compressed data is damaged.
        """
        return not self._checked(self._stream.peek, 1)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        readline = self._stream.readline
        while line := self._checked(readline, LONGEST_LINE + 1):
            self._number += 1
            if len(line) > LONGEST_LINE:
                raise SourceError(
                    f"has a line of more than {LONGEST_LINE >> 20} MiB",
                    file=self.path,
                    row=self._number,
                    mend="this is not a file of lines, or it is damaged",
                )
            line = line.rstrip(b"\r\n")
            if line and not line.isspace():
                yield self._number, line
        if self._number == 0:
            raise SourceError("is empty inside its compression", file=self.path)

    def _checked(self, read: Any, size: int) -> bytes:
        """Read from the decompressed stream; a damaged or cut one is an error of this file."""
        try:
            data: bytes = read(size)
        except (EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, OSError) as failure:
            cut = isinstance(failure, EOFError)
            raise SourceError(
                "its compressed data is cut short" if cut else f"its compressed data is damaged: {failure}",
                file=self.path,
                row=self._number + 1,
                mend="fetch the file again",
            ) from failure
        return data

    def provenance(self) -> dict[str, Any]:
        """Read what is left of the file and return its name, size in bytes and SHA-256."""
        while self._checked(self._stream.read, _CHUNK):
            pass
        return {
            "name": self.name,
            "bytes": self._counted.count,
            "sha256": self._counted.hash.hexdigest(),
        }


def check_held(rows: int, file: Path) -> None:
    """Refuse more rows than an importer may hold that has to sort them, before memory ends.

    Raises:
        SourceError: There are more than :data:`MOST_HELD`.
    """
    if rows > MOST_HELD:
        raise SourceError(
            f"is beyond the {MOST_HELD:,} rows that this importer holds in memory to sort them",
            file=file,
            mend="import a shorter span, such as one day, or fewer markets",
        )


def first_line(path: Path) -> bytes:
    """Return the first line of a file that is not blank.

    Raises:
        SourceError: As :class:`Lines`, and if the file has blank lines only.
    """
    with Lines(path) as lines:
        for _number, line in lines:
            return line
    raise SourceError("holds only blank lines", file=path)


def first_bytes(path: Path, size: int) -> bytes:
    """Return up to ``size`` decompressed bytes from the beginning of a file.

    Raises:
        SourceError: As :class:`Lines`.
    """
    with Lines(path) as lines:
        return lines.read(size)


def is_parquet(path: Path) -> bool:
    """Tell whether a file begins as Parquet does; one that cannot be opened does not."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError:
        return False


class Reading(Protocol):
    """A file that is being read."""

    name: str

    @property
    def bytes_read(self) -> int:
        """Bytes of the file itself read so far."""


class Progress:
    """Turns bytes read of several files into shares of an import.

    Args:
        inputs: The files of the import.
        on_progress: Who is told; may be ``None``.
    """

    def __init__(self, inputs: Iterable[Path], on_progress: OnProgress | None) -> None:
        self._total = max(1, sum(file.stat().st_size for file in inputs))
        self._done = 0
        self._on_progress = on_progress

    def reading(self, lines: Reading, text: str = "") -> None:
        """Tell how far the reading is, while ``lines`` is read."""
        self._tell(self._done + lines.bytes_read, text or f"reading {lines.name}")

    def read(self, lines: Reading) -> None:
        """Note that a file was read to its end."""
        self._done += lines.bytes_read
        self._tell(self._done, f"read {lines.name}")

    def read_whole(self, path: Path) -> None:
        """Note that a file was read to its end by a reader of its own."""
        self._done += path.stat().st_size
        self._tell(self._done, f"read {path.name}")

    def _tell(self, done: int, text: str) -> None:
        if self._on_progress is not None:
            self._on_progress(_SHARE_OF_READING * min(1.0, done / self._total), text)

    def writing(self) -> None:
        """Note that all is read and the tape is being written."""
        if self._on_progress is not None:
            self._on_progress(_SHARE_OF_READING, "writing the tape")

    def finished(self) -> None:
        """Note that the tape is there."""
        if self._on_progress is not None:
            self._on_progress(1.0, "done")
