"""Reading public files: what paths stand for, compression by content, damage, provenance, rejects."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import random
import tracemalloc
import zipfile
from pathlib import Path

import lz4.frame
import pytest

from replay.errors import SourceError
from replay.sources import SOURCE_NAMES, _read, import_source, list_sources
from replay.sources._read import Lines, Progress, expand_paths, name_inputs
from replay.sources._rejects import Rejects

TEXT = b"one\ntwo\n\nfour\n"
LINES = [(1, b"one"), (2, b"two"), (4, b"four")]


def read(path: Path) -> list[tuple[int, bytes]]:
    with Lines(path) as lines:
        return list(lines)


def refused(path: Path) -> SourceError:
    with pytest.raises(SourceError) as caught:
        read(path)
    assert caught.value.file == str(path)
    return caught.value


def put(path: Path, data: bytes = b"x\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_paths_become_files_each_once_and_sorted(tmp_path: Path) -> None:
    first, second = put(tmp_path / "day/10.lz4"), put(tmp_path / "day/2.lz4")
    deep = put(tmp_path / "day/more/1.lz4")
    put(tmp_path / "day/.hidden")
    put(tmp_path / "day/.git/config")
    expected = [first, second, deep]
    assert expand_paths([tmp_path / "day"]) == expected
    assert expand_paths([deep, second, first, second, tmp_path / "day"]) == expected
    assert expand_paths([tmp_path / "day/../day/10.lz4", first]) == [tmp_path / "day/../day/10.lz4"]
    assert expand_paths([tmp_path / "day/*.lz4"]) == [first, second]
    assert expand_paths([tmp_path / "*/[12]*.lz4"]) == [first, second]
    assert expand_paths([tmp_path / "**/1.lz4"]) == [deep]


def test_a_linked_file_is_one_file(tmp_path: Path) -> None:
    file = put(tmp_path / "a")
    (tmp_path / "b").symlink_to(file)
    assert expand_paths([tmp_path]) == [file]


@pytest.mark.parametrize("name", ["missing.csv", "missing/", "*.csv", "a" * 300, "a**b"])
def test_paths_that_stand_for_nothing_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError) as caught:
        expand_paths([tmp_path / name])
    assert caught.value.file == str(tmp_path / name)


def test_no_paths_an_empty_folder_and_a_device_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nothing to import"):
        expand_paths([])
    with pytest.raises(SourceError, match="holds no files"):
        expand_paths([tmp_path])
    with pytest.raises(SourceError, match="neither a file nor a folder"):
        expand_paths([Path("/dev/null")])


def test_names_of_inputs_do_not_depend_on_where_they_lie(tmp_path: Path) -> None:
    for root in ("one", "two/deeper"):
        files = [
            put(tmp_path / root / name) for name in ("20251010/20.lz4", "20251010/21.lz4", "20251011/0.lz4")
        ]
        names = name_inputs(files)
        assert [names[file] for file in files] == ["20251010/20.lz4", "20251010/21.lz4", "20251011/0.lz4"]
    alone = put(tmp_path / "x/y/fills.jsonl")
    assert name_inputs([alone]) == {alone: "fills.jsonl"}


@pytest.mark.parametrize(
    "data",
    [
        TEXT,
        TEXT[:-1],
        TEXT.replace(b"\n", b"\r\n"),
        lz4.frame.compress(TEXT),
        lz4.frame.compress(TEXT[:5]) + lz4.frame.compress(TEXT[5:]),
        gzip.compress(TEXT),
        gzip.compress(TEXT[:5]) + gzip.compress(TEXT[5:]),
    ],
    ids=["plain", "no last line end", "windows", "lz4", "two lz4 frames", "gzip", "two gzip members"],
)
def test_lines_are_told_by_content_and_hashed_as_they_lie(tmp_path: Path, data: bytes) -> None:
    path = put(tmp_path / "whatever.zip", data)
    with Lines(path, "name") as lines:
        assert list(lines) == LINES
        expected = {"name": "name", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        assert lines.provenance() == expected
        assert lines.bytes_read == len(data)


def test_provenance_covers_what_was_not_iterated(tmp_path: Path) -> None:
    data = lz4.frame.compress(b"".join(b"%d\n" % i for i in range(300_000)))
    with Lines(put(tmp_path / "a", data)) as lines:
        assert next(iter(lines)) == (1, b"0")
        assert lines.provenance()["sha256"] == hashlib.sha256(data).hexdigest()


def zipped(path: Path) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", TEXT)
    return path.read_bytes()


def test_a_zip_of_one_file_is_read_as_that_file(tmp_path: Path) -> None:
    packed = put(tmp_path / "a.jsonl", zipped(tmp_path / "z"))
    with Lines(packed) as lines, Lines(put(tmp_path / "b", TEXT)) as plain:
        assert list(lines) == list(plain) != []


def test_compressions_that_are_known_but_not_read_are_named(tmp_path: Path) -> None:
    for name, data in {
        "bzip2": bz2.compress(TEXT),
        "xz": lzma.compress(TEXT),
        "Parquet": b"PAR1" + bytes(20),
    }.items():
        assert f"is a {name} file, which is not read yet" in str(refused(put(tmp_path / "a.jsonl", data)))


def test_damage_is_one_error(tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(4096)
    text = b"".join(b"%d\n" % i for i in range(100_000))
    packed, zipped_ = lz4.frame.compress(text), gzip.compress(text)
    for data, problem in {
        b"": "is empty",
        b"\n \n": "holds only blank lines",
        lz4.frame.compress(b""): "is empty inside its compression",
        noise: "is neither text nor a compression",
        b"\xff\xfe1\x00,\x002\x00": "is neither text nor a compression",
        b"\x04\x22\x4d\x18" + noise: "compressed data is damaged",
        packed[: len(packed) // 2]: "compressed data is cut short",
        packed[:2000] + noise + packed[6096:]: "compressed data is damaged",
        packed + b"garbage": "compressed data is damaged",
        zipped_[: len(zipped_) // 2]: "compressed data is cut short",
        zipped_[:2000] + noise + zipped_[6096:]: "compressed data is damaged",
        b"\x1f\x8b" + noise: "compressed data is damaged",
    }.items():
        path = put(tmp_path / "a.lz4", data)
        if problem == "holds only blank lines":
            with pytest.raises(SourceError, match=problem):
                _read.first_line(path)
        else:
            assert problem in str(refused(path))


def test_text_that_is_not_utf8_is_left_to_its_reader(tmp_path: Path) -> None:
    line = "é".encode("latin-1") * 600
    assert read(put(tmp_path / "a", line)) == [(1, line)]


def test_a_line_without_end_is_refused_before_it_fills_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_read, "LONGEST_LINE", 1000)
    fits = put(tmp_path / "fits", b"a\n" + b"x" * 999 + b"\n")
    assert len(read(fits)) == 2
    long = put(tmp_path / "long", b"a\n" + b"x" * 5000)
    assert refused(long).row == 2


def test_a_folder_opened_as_a_file_is_one_error(tmp_path: Path) -> None:
    assert "cannot be read" in str(refused(tmp_path))


def test_reading_is_in_bounded_memory(tmp_path: Path) -> None:
    row = b"x" * 1023 + b"\n"
    path = put(tmp_path / "big.lz4", lz4.frame.compress(row * 32_768))  # 32 MiB of lines
    with Lines(path) as lines:
        tracemalloc.start()
        count = sum(1 for _line in lines)
        _now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert count == 32_768
    assert peak < 12 << 20


def test_progress_runs_from_0_to_1_over_all_files(tmp_path: Path) -> None:
    files = [put(tmp_path / name, b"a\n" * size) for name, size in (("a", 10), ("b", 30))]
    told: list[float] = []
    progress = Progress(files, lambda share, _text: told.append(share))
    for file in files:
        with Lines(file) as lines:
            for _line in lines:
                progress.reading(lines)
            progress.read(lines)
    progress.writing()
    progress.finished()
    assert told == sorted(told)
    assert told[-2:] == [0.9, 1.0]
    assert pytest.approx(0.9 * 20 / 80) in told


def rejects(tmp_path: Path, path: Path | None, *, force: bool = False) -> Rejects:
    return Rejects(path, inputs=[tmp_path / "input"], out=tmp_path / "tape", force=force)


def test_without_a_rejects_file_the_first_row_stops(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught, rejects(tmp_path, None) as aside:
        aside.add("is wrong", file=tmp_path / "input", line=7, text="x", key="px", item=2)
    error = caught.value
    assert (error.file, error.row, error.key) == (str(tmp_path / "input"), 7, "px")
    assert error.problem == "is wrong (row 3 of the line)"


def test_rows_set_aside_are_written_as_they_stood(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    with rejects(tmp_path, path) as aside:
        aside.add("is not JSON", file=Path("a.jsonl"), line=3, text='{"é": 1')
        aside.add("is wrong", file=Path("b.jsonl"), line=1, text="[]", key="px", item=4)
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == [
        {"file": "a.jsonl", "line": 3, "reason": "is not JSON", "text": '{"é": 1'},
        {"file": "b.jsonl", "line": 1, "item": 4, "reason": "px: is wrong", "text": "[]"},
    ]
    assert aside.count == 2
    aside.check(2000)
    with pytest.raises(
        SourceError, match=r"2 of 1,999 rows could not be understood, which is more than 0.1 %"
    ):
        aside.check(1999)


def test_a_rejects_file_never_replaces_what_it_should_not(tmp_path: Path) -> None:
    put(tmp_path / "input")
    for path in (tmp_path / "input", tmp_path / "tape", tmp_path / "tape/rejects"):
        with pytest.raises(SourceError, match=r"is an input|lies in the tape folder"):
            rejects(tmp_path, path, force=True)
    old = put(tmp_path / "old", b"precious")
    with pytest.raises(SourceError, match="already exists"):
        rejects(tmp_path, old)
    with rejects(tmp_path, old, force=True):
        pass
    assert old.read_bytes() == b""
    with (
        pytest.raises(SourceError, match="cannot be written"),
        rejects(tmp_path, tmp_path / "no/such/folder"),
    ):
        pass


def test_a_rejects_file_is_empty_without_rejects_and_gone_after_another_failure(tmp_path: Path) -> None:
    path = tmp_path / "rejects"
    with rejects(tmp_path, path):
        pass
    assert path.read_bytes() == b""
    path.unlink()
    with pytest.raises(SourceError, match="other"), rejects(tmp_path, path):
        raise SourceError("other")
    assert not path.exists()


def test_sources_are_named_and_an_unknown_one_lists_them(tmp_path: Path) -> None:
    assert [source.name for source in list_sources()] == list(SOURCE_NAMES)
    for source in list_sources():
        assert source.has
        assert source.lacks
        assert source.assumes
    with pytest.raises(SourceError, match=f"'okcoin'\n  sources: {', '.join(SOURCE_NAMES)}"):
        import_source("okcoin", [tmp_path], tmp_path / "tape")
