"""What cannot fit on the disk is refused before anything is computed or written, and nothing else is."""

from __future__ import annotations

import hashlib
import os
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import cli, make_db, peptides, records, write_fasta
from torture import fulldisk

from plmsearch.backup import backup, restore
from plmsearch.database import open_database
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.errors import NotEnoughSpace, StorageError
from plmsearch.exchange.exporting import export
from plmsearch.exchange.importing import import_vectors
from plmsearch.formats.vectors import open_vectors
from plmsearch.ingest.distinct import DistinctCount
from plmsearch.ingest.report import AddOptions
from plmsearch.optimize import optimize
from plmsearch.store import space_left

N = 30
#: A vector of the model `kmer`, as it is and at unit length.
VECTOR = 512 * 4 * 2


@pytest.fixture
def path(tmp_path):
    make_db(tmp_path / "db", records(N)[:10])
    return make_db(tmp_path / "db", records(N))


@pytest.fixture
def free(monkeypatch):
    """Let every file system have so many bytes left."""

    def leave(n_bytes):
        monkeypatch.setattr(space_left, "_free_bytes", lambda _: n_bytes)

    return leave


def tree(folder):
    return {p: p.stat().st_size for p in folder.rglob("*")}


def tasks(path, folder):
    """What can be refused, and the least that it has to write."""
    numbers = np.random.default_rng(2).normal(size=(N, 512)).astype(np.float32)
    (folder / "ids.txt").write_text("\n".join(f"v{n}" for n in range(N)))
    np.save(folder / "vectors.npy", numbers)
    with open_database(path) as db:
        export(db, folder / "out.parquet")
        backup(db, folder / "kept")
    new = [(f"n{i}", s) for i, s in enumerate(peptides(N, seed=9))]

    def with_database(do, where=path):
        def call():
            with open_database(where, create=True) as db:
                return do(db)

        return call

    npy = open_vectors(folder / "vectors.npy", records=folder / "ids.txt")
    parquet = open_vectors(folder / "out.parquet")
    return {
        "index, new": (
            with_database(lambda db: db.add(records(N), model="kmer"), folder / "made"), N * VECTOR,
        ),
        "index": (with_database(lambda db: db.add([*new, *records(N)])), N * VECTOR),
        "embed": (with_database(lambda db: db.embed(SpaceRequest("kmer", "0"))), N * VECTOR / 2),
        "import": (with_database(lambda db: import_vectors(db, npy), folder / "i"), N * VECTOR),
        "import with sequences": (
            with_database(lambda db: import_vectors(db, parquet), folder / "j"), 0.8 * N * VECTOR,
        ),
        "optimize": (with_database(optimize), N * VECTOR),
        "backup": (with_database(lambda db: backup(db, folder / "copy")), N * VECTOR / 2),
        "restore": (lambda: restore(folder / "kept", folder / "back"), N * VECTOR),
        "export": (with_database(lambda db: export(db, folder / "out.npz")), N * VECTOR / 2),
    }  # fmt: skip


TASKS = (
    "index, new", "index", "embed", "import", "import with sequences", "optimize", "backup", "restore",
    "export",
)  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_what_does_not_fit_is_refused_before_anything_is_written(path, tmp_path, free, name):
    task, least = tasks(path, tmp_path)[name]
    before = tree(tmp_path)
    free(int(least) - 1)
    with pytest.raises(NotEnoughSpace) as refused:
        task()
    assert isinstance(refused.value, StorageError)
    assert least <= refused.value.needed_bytes
    assert refused.value.free_bytes == int(least) - 1
    after = {p: size for p, size in tree(tmp_path).items() if not p.name.startswith("catalog.sqlite")}
    assert {p for p in after if p.is_file()} <= set(before), "no file came"
    free(2 * refused.value.needed_bytes)
    task()


def test_what_is_there_already_needs_no_room(path, tmp_path, free):
    with open_database(path) as db:
        export(db, tmp_path / "out.parquet")
    export_of = open_vectors(tmp_path / "out.parquet")
    free(0)
    with open_database(path) as db:
        assert db.add(records(N)).n_present == N
        assert import_vectors(db, export_of).n_present == N
        assert db.embed(SpaceRequest("kmer", "1")).n_embedded == 0
        assert db.add([("another", records(N)[0][1])]).n_added == 1
        many = [(f"copy{n}", records(N)[0][1]) for n in range(2000)]
        assert db.add(many).n_added == 2000
        db.add(
            [(f"r{n}", s) for n, s in enumerate(peptides(5, seed=3))], options=AddOptions(on_duplicate="skip")
        )
        export(db, os.devnull + "") if False else None
    assert given


def test_where_the_system_does_not_say_what_is_free_nothing_is_refused(path, tmp_path, monkeypatch):
    class Silent:
        f_blocks = f_bavail = f_frsize = 0

    monkeypatch.setattr(os, "statvfs", lambda _: Silent)
    with open_database(path) as db:
        assert backup(db, tmp_path / "copy") > 0

    def refused(_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "statvfs", refused)
    with open_database(path) as db:
        assert backup(db, tmp_path / "another") > 0


def test_on_a_small_disk_the_command_says_how_much_is_missing(tmp_path):
    reason = fulldisk.why_not()
    if reason:
        pytest.skip(reason)
    source = write_fasta(tmp_path / "in.fasta", records(N))
    with fulldisk.mounted() as folder:
        fulldisk.leave(folder, N * VECTOR // 2)
        free = shutil.disk_usage(folder).free
        result = cli("index", folder / "db", source, "-m", "kmer")
        assert (result.code, result.out) == (1, "")
        assert f"{N * VECTOR / 1e6:.1f} MB, {free / 1e6:.1f} MB are free" in result.err
        assert not (folder / "db").exists()
        fulldisk.leave(folder, None)
        assert cli("index", folder / "db", source, "-m", "kmer").code == 0


@given(st.integers(0, 3000), st.integers(1, 4))
def test_distinct_values_are_counted_and_never_overestimated(n, times):
    count = DistinctCount()
    for value in [*range(n)] * times:
        count.add(hashlib.sha256(f"{value}".encode()).hexdigest())
    assert 0.7 * n <= count.at_least <= n
    assert n >= 1024 or count.at_least == n


def test_records_of_one_sequence_need_room_for_one_vector(tmp_path, free):
    residues = records(1)[0][1]
    make_db(tmp_path / "db", [(f"copy{n}", residues) for n in range(200)])
    with open_database(tmp_path / "db") as db:
        export(db, tmp_path / "out.parquet")
    free(5 * VECTOR)
    with open_database(tmp_path / "made", create=True) as db:
        assert import_vectors(db, open_vectors(tmp_path / "out.parquet")).n_added == 200
    table = write_table(tmp_path / "rows.tsv", [f"copy{n}\t{residues}" for n in range(200)])
    with open_database(tmp_path / "also made", create=True) as db:
        np.save(tmp_path / "same.npy", np.ones((200, 512), dtype=np.float32))
        given = open_vectors(tmp_path / "same.npy", records=table)
        assert import_vectors(db, given).n_added == 200


def write_table(path, rows):
    path.write_text("\n".join(["id\tsequence", *rows]) + "\n")
    return path
