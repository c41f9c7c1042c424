"""A backup is one committed state, whole and checked; what is restored answers as the original did."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
from support import cli, contents, make_db, records
from torture.backups import back_up_beside_a_writer

from plmsearch.backup import MANIFEST, backup, restore
from plmsearch.database import open_database
from plmsearch.errors import FileFormatError, InputNotFoundError, SegmentDamaged, StorageError
from plmsearch.store.directory import Layout
from plmsearch.verify import verify

RECORDS = records(40)


@pytest.fixture
def path(tmp_path):
    make_db(tmp_path / "db", RECORDS[:25])
    make_db(tmp_path / "db", RECORDS)
    with open_database(tmp_path / "db") as db:
        db.delete(["r3", "r30"])
    return tmp_path / "db"


def copy(path, target):
    with open_database(path) as db:
        return backup(db, target)


def test_what_is_restored_has_the_same_records_vectors_and_hits(path, tmp_path):
    generation = copy(path, tmp_path / "backup")
    shutil.rmtree(tmp_path / "db" / "segments")
    assert restore(tmp_path / "backup", tmp_path / "again") >= generation
    original = tmp_path / "original"
    make_db(original, [r for r in RECORDS if r[0] not in {"r3", "r30"}])
    assert contents(tmp_path / "again") == contents(original)
    with open_database(tmp_path / "again") as db, open_database(original) as expected:
        assert verify(db, full=True) == []
        names = sorted(contents(original))
        np.testing.assert_allclose(db.vectors(names), expected.vectors(names), atol=1e-6)
        assert [h.target for h in db.search([RECORDS[9][1]], k=40)[0]] == [
            h.target for h in expected.search([RECORDS[9][1]], k=40)[0]
        ]


def test_the_manifest_is_one_that_sha256sum_checks(path, tmp_path):
    copy(path, tmp_path / "backup")
    checked = subprocess.run(
        ["sha256sum", "-c", MANIFEST], cwd=tmp_path / "backup", capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    files = {p.relative_to(tmp_path / "backup") for p in (tmp_path / "backup").rglob("*") if p.is_file()}
    assert len(checked.stdout.splitlines()) == len(files) - 1


@pytest.mark.parametrize("kind", ["flip", "truncate", "delete"])
def test_no_damaged_backup_is_restored(path, tmp_path, kind):
    copy(path, tmp_path / "backup")
    names = [line.split("  ")[1] for line in (tmp_path / "backup" / MANIFEST).read_text().splitlines()]
    for name in names:
        broken = tmp_path / "broken"
        shutil.copytree(tmp_path / "backup", broken)
        content = (broken / name).read_bytes()
        if kind == "delete":
            (broken / name).unlink()
        else:
            middle = len(content) // 2
            flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            (broken / name).write_bytes(flipped if kind == "flip" else content[:middle])
        with pytest.raises(FileFormatError):
            restore(broken, tmp_path / "again")
        assert not (tmp_path / "again").exists()
        shutil.rmtree(broken)


def test_a_manifest_that_leads_elsewhere_is_refused(path, tmp_path):
    copy(path, tmp_path / "backup")
    with (tmp_path / "backup" / MANIFEST).open("a") as manifest:
        manifest.write(f"{'0' * 64}  ../../etc/passwd\n")
    with pytest.raises(FileFormatError, match="no checksum"):
        restore(tmp_path / "backup", tmp_path / "again")


def test_damage_is_found_when_the_backup_is_made_not_when_it_is_needed(path, tmp_path):
    segment = sorted(Layout(path).segments.iterdir())[0]
    content = bytearray(segment.read_bytes())
    content[100] ^= 1
    segment.write_bytes(content)
    with pytest.raises(SegmentDamaged):
        copy(path, tmp_path / "backup")
    assert not list(tmp_path.glob("*backup*"))


def test_nothing_that_exists_is_written_over(path, tmp_path):
    with pytest.raises(StorageError, match="exists already"):
        copy(path, path)
    copy(path, tmp_path / "backup")
    with pytest.raises(StorageError, match="exists already"):
        restore(tmp_path / "backup", path)
    with pytest.raises(InputNotFoundError, match="no backup"):
        restore(path, tmp_path / "again")


def test_a_backup_made_while_another_process_writes_is_one_committed_state(path, tmp_path):
    tally = back_up_beside_a_writer(path, tmp_path, 4)
    assert (tally.tried, tally.survived) == (4, 4), tally.examples


def test_the_commands_say_what_was_copied(path, tmp_path):
    result = cli("backup", path, tmp_path / "backup")
    assert (result.code, result.out) == (0, "")
    assert "generation" in result.err
    assert cli("restore", tmp_path / "backup", tmp_path / "again").code == 0
    assert cli("verify", tmp_path / "again", "--full").code == 0
    assert cli("restore", tmp_path / "backup", tmp_path / "again").code == 1
