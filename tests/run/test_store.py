from __future__ import annotations

import json
import shutil

import pyarrow.parquet as pq
import pytest

from replay.errors import RunError
from replay.run.schema import DIMENSIONS, RUN_TABLES
from replay.run.store import new_run_folder, open_run
from tests.run.tiny import ACCOUNTS, AUDIT, LEDGERS, make_run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


def change_manifest(run, **changes):
    path = run.path / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_run_opens_with_its_tables_and_names(run):
    assert run.account_names == ACCOUNTS
    assert run.market_names == ["ETH", "BTCUSD", "xyz:GOLD"]
    assert run.ledgers == [(dex, currency) for _, dex, currency in LEDGERS]
    assert run.rows("audit") == len(AUDIT) == run.table("audit").num_rows
    assert run.manifest["kind"] == "run"
    assert set(run.manifest["tables"]) == {*RUN_TABLES, *DIMENSIONS}
    run.verify()


def test_the_same_rows_give_the_same_hash_wherever_they_are(run, tmp_path):
    again = make_run(tmp_path / "again")
    assert again.manifest["sha256"] == run.manifest["sha256"]
    assert again.manifest["tables.sha256"] == {k: v["sha256"] for k, v in run.manifest["tables"].items()}
    fewer = make_run(tmp_path / "fewer", tables={})
    assert fewer.manifest["sha256"] != run.manifest["sha256"]


def test_a_missing_folder(tmp_path):
    with pytest.raises(RunError, match="no such folder"):
        open_run(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="is a file, not the folder of a run"):
        open_run(tmp_path / "file")


def test_a_half_written_run(run):
    (run.path / "run.json").unlink()
    with pytest.raises(RunError, match="half written"):
        open_run(run.path)


def test_a_tape_is_not_a_run(run):
    change_manifest(run, kind="tape")
    with pytest.raises(RunError, match="does not describe a run"):
        open_run(run.path)


def test_another_version(run):
    change_manifest(run, format=99)
    with pytest.raises(RunError, match="has format 99"):
        open_run(run.path)


@pytest.mark.parametrize("key", ["rules", "span", "tables", "sha256", "assumptions"])
def test_a_manifest_without_a_key(run, key):
    change_manifest(run, **{key: None})
    with pytest.raises(RunError, match=f"{key}: is missing"):
        open_run(run.path)


def test_a_manifest_that_does_not_describe_a_table(run):
    change_manifest(run, tables={k: v for k, v in run.manifest["tables"].items() if k != "audit"})
    with pytest.raises(RunError, match="does not describe table `audit`"):
        open_run(run.path)


@pytest.mark.parametrize("name", ["audit", "markets", "engagements"])
def test_a_missing_table(run, name):
    run.file(name).unlink()
    with pytest.raises(RunError, match=rf"{name}\.parquet: is missing"):
        open_run(run.path)


def test_a_cut_file(run):
    whole = run.file("audit").read_bytes()
    run.file("audit").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=r"bytes, run\.json says"):
        open_run(run.path)


def test_a_file_of_the_right_size_that_is_not_parquet(run):
    run.file("audit").write_bytes(b"x" * run.file("audit").stat().st_size)
    with pytest.raises(RunError, match="cannot be read"):
        open_run(run.path)


def test_rows_that_do_not_agree(run):
    tables = run.manifest["tables"]
    change_manifest(run, tables=tables | {"audit": tables["audit"] | {"rows": 99}})
    with pytest.raises(RunError, match=r"has 6 rows, run\.json says 99"):
        open_run(run.path)


def test_a_table_with_other_columns(run):
    pq.write_table(run.table("breaks").drop(["found"]), run.file("breaks"))
    tables = run.manifest["tables"]
    size = run.file("breaks").stat().st_size
    change_manifest(run, tables=tables | {"breaks": tables["breaks"] | {"bytes": size}})
    with pytest.raises(RunError, match="other columns"):
        open_run(run.path)


def test_verify_finds_a_changed_byte(run):
    content = bytearray(run.file("audit").read_bytes())
    content[10] ^= 1
    run.file("audit").write_bytes(content)
    with pytest.raises(RunError, match="was changed"):
        open_run(run.path).verify()


def test_verify_finds_a_hash_that_was_changed_with_its_file(run):
    shutil.copy(make_run(run.path.parent / "fewer", tables={}).file("breaks"), run.file("breaks"))
    other = open_run(run.path.parent / "fewer").manifest["tables"]["breaks"]
    change_manifest(run, tables=run.manifest["tables"] | {"breaks": other})
    with pytest.raises(RunError, match="does not fit"):
        open_run(run.path).verify()


def test_a_failed_run_leaves_nothing_behind(tmp_path):
    def stop(folder):
        (folder / "audit.parquet").write_bytes(b"half")
        raise RunError("stopped")

    with pytest.raises(RunError, match="stopped"), new_run_folder(tmp_path / "run", force=False) as folder:
        stop(folder)
    assert list(tmp_path.iterdir()) == []


def test_only_runs_are_replaced_and_only_with_force(run):
    with pytest.raises(RunError, match="already exists"), new_run_folder(run.path, force=False):
        pass
    (run.path / "run.json").unlink()
    with pytest.raises(RunError, match="holds something else"), new_run_folder(run.path, force=True):
        pass
