"""The directory: what is taken for a database, what is refused, and durable file steps."""

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from plmsearch._version import __version__
from plmsearch.errors import DatabaseNotFound, NotADatabase, SchemaTooNewError, StorageError
from plmsearch.store.directory import (
    FORMAT_VERSION,
    Layout,
    is_database,
    publish,
    read_format,
    storage_errors,
    sync_directory,
)

MARKER = "plmsearch.json"


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "db")


@pytest.fixture
def made(layout):
    layout.make()
    layout.mark()
    return layout


# --- Layout and marker ---------------------------------------------------------------------------


def test_all_paths_lie_in_the_directory(made):
    paths = {made.marker, made.catalog, made.segments, made.derived, made.tmp}
    assert {p.parent for p in paths} == {made.root}
    assert sorted(p.name for p in made.root.iterdir()) == ["derived", MARKER, "segments", "tmp"]


def test_the_marker_names_format_time_and_author(made):
    content = json.loads(made.marker.read_text())
    assert content["format_version"] == FORMAT_VERSION
    assert content["created_by"] == f"plmsearch {__version__}"
    assert content["created"].endswith("+00:00")
    assert content["database_id"]


def test_every_database_has_an_id_of_its_own(tmp_path):
    ids = set()
    for name in ("a", "b"):
        layout = Layout(tmp_path / name)
        layout.make()
        layout.mark()
        ids.add(json.loads(layout.marker.read_text())["database_id"])
    assert len(ids) == 2


def test_making_is_harmless_to_what_is_there(made):
    kept = made.segments / "00000001.vec"
    kept.write_bytes(b"x")
    made.make()
    assert kept.read_bytes() == b"x"


def test_only_the_marker_makes_a_directory_a_database(layout):
    assert not is_database(layout.root)
    layout.make()
    assert not is_database(layout.root)
    layout.mark()
    assert is_database(layout.root)
    read_format(layout)


def test_sweeping_empties_tmp_and_nothing_else(made):
    (made.tmp / "00000009.vec").write_bytes(b"half")
    (made.segments / "00000001.vec").write_bytes(b"x")
    made.sweep()
    assert list(made.tmp.iterdir()) == []
    assert [p.name for p in made.segments.iterdir()] == ["00000001.vec"]
    read_format(made)


# --- Reading the format --------------------------------------------------------------------------


def test_nothing_at_the_path(layout):
    with pytest.raises(DatabaseNotFound, match="plmsearch index"):
        read_format(layout)


def test_a_file_at_the_path(layout):
    layout.root.write_text(">a\nEVQL\n")
    with pytest.raises(NotADatabase, match="it is a file"):
        read_format(layout)


def test_a_directory_without_a_marker(tmp_path):
    with pytest.raises(NotADatabase, match=MARKER):
        read_format(Layout(tmp_path))


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b'"1"',
        b"{}",
        b"\xff\xfe",
        b"\0" * 100,
        b'{"format_version": null}',
        b'{"format_version": "1"}',
        b'{"format_version": 1.0}',
        b'{"format_version": true}',
        b'{"format_version": 0}',
        b'{"format_version": -1}',
    ],
)
def test_a_marker_that_is_garbage(made, garbage):
    made.marker.write_bytes(garbage)
    with pytest.raises(NotADatabase) as caught:
        read_format(made)
    assert caught.value.path == str(made.root)


def test_a_marker_that_is_a_directory(layout):
    layout.marker.mkdir(parents=True)
    with pytest.raises(StorageError) as caught:
        read_format(layout)
    assert caught.value.path == str(layout.marker)


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 10**30])
def test_a_newer_format_names_both_versions(made, version):
    made.marker.write_text(json.dumps({"format_version": version}))
    with pytest.raises(SchemaTooNewError) as caught:
        read_format(made)
    assert (caught.value.found, caught.value.supported) == (f"format {version}", f"format {FORMAT_VERSION}")
    assert "newer plmsearch" in caught.value.hint


# --- Where a database may be made ----------------------------------------------------------------


@pytest.mark.parametrize("foreign", ["reads.fastq", ".git", "segments/other.vec", "tmp/thesis.doc"])
def test_a_directory_with_foreign_files_is_refused_and_left_alone(tmp_path, foreign):
    """Also where the folders have the names of ours: a writer empties some of them."""
    path = tmp_path / foreign
    path.parent.mkdir(exist_ok=True)
    path.write_text("precious")
    with pytest.raises(NotADatabase, match="other files") as caught:
        Layout(tmp_path).refuse_unusable()
    assert foreign in str(caught.value)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("names", [[], ["LOCK"], ["segments", "derived", "tmp", "LOCK"]])
def test_an_empty_or_unfinished_directory_will_do(tmp_path, names):
    for name in names:
        if name == "LOCK":
            (tmp_path / name).touch()
        else:
            (tmp_path / name).mkdir()
    Layout(tmp_path).refuse_unusable()


def test_a_database_is_usable_whatever_lies_beside_its_files(made):
    (made.root / "NOTES.txt").write_text("heavy chains of donor 3")
    made.refuse_unusable()


def test_a_path_yet_to_be_made_will_do(tmp_path):
    Layout(tmp_path / "a" / "b" / "db").refuse_unusable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "db", "a/b/db"])
def test_a_path_at_or_below_a_file_is_refused(tmp_path, below):
    file = tmp_path / "seqs.fasta"
    file.write_text(">a\nEVQL\n")
    with pytest.raises(NotADatabase, match="it is a file"):
        Layout(file / below).refuse_unusable()


def test_a_relative_path_is_looked_for_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layout = Layout(Path("db"))
    layout.refuse_unusable()
    layout.make()
    layout.mark()
    assert is_database(tmp_path / "db")


# --- File steps ----------------------------------------------------------------------------------


def test_publishing_renames_and_then_syncs_the_directory(tmp_path, monkeypatch):
    steps = []
    rename, fsync = os.rename, os.fsync

    def recording_fsync(descriptor):
        steps.append(f"sync {'directory' if stat.S_ISDIR(os.fstat(descriptor).st_mode) else 'file'}")
        fsync(descriptor)

    monkeypatch.setattr(os, "rename", lambda *a, **k: (steps.append("rename"), rename(*a, **k)))
    monkeypatch.setattr(os, "fsync", recording_fsync)
    temporary, final = tmp_path / "x.tmp", tmp_path / "x"
    temporary.write_text("content")
    publish(temporary, final)
    assert final.read_text() == "content"
    assert not temporary.exists()
    assert steps == ["rename", "sync directory"]


def test_the_marker_is_synced_before_it_has_its_name(layout, monkeypatch):
    layout.make()
    steps = []
    rename, fsync = os.rename, os.fsync
    monkeypatch.setattr(os, "fsync", lambda d: (steps.append(is_database(layout.root)), fsync(d)))
    monkeypatch.setattr(os, "rename", lambda *a, **k: (steps.append("rename"), rename(*a, **k)))
    layout.mark()
    # The file; then the name; then the directory, and the one that holds the directory's name.
    assert steps == [False, "rename", True, True]


def test_syncing_leaves_no_open_file(tmp_path):
    before = len(list(Path("/dev/fd").iterdir()))
    sync_directory(tmp_path)
    with pytest.raises(NotADirectoryError):
        (tmp_path / "file").touch()
        sync_directory(tmp_path / "file")
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_what_the_system_refuses_becomes_a_storage_error_that_names_the_file(tmp_path):
    with pytest.raises(StorageError, match="No such file") as caught, storage_errors(tmp_path):
        (tmp_path / "absent").read_bytes()
    assert caught.value.path == str(tmp_path / "absent")
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_full_disk_says_how_to_go_on(tmp_path):
    with pytest.raises(StorageError, match="run the same command again") as caught, storage_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.path == str(tmp_path)


def test_other_errors_pass_unchanged(tmp_path):
    with pytest.raises(KeyError), storage_errors(tmp_path):
        raise KeyError
