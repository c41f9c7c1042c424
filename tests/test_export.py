from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from support import all_vectors, assert_same_database, cli, contents, make_db, records

from plmsearch.database import open_database
from plmsearch.errors import ParameterError, StorageError
from plmsearch.exchange import exporting, pages
from plmsearch.sequences import SequenceRecord


@pytest.fixture
def path(tmp_path):
    rows = [
        SequenceRecord(
            i, s, 'tab\t and "quote"', {"n": k, "x": k / 3, "v_call": "IGHV1-2*02", "sequence": "own"}
        )
        for k, (i, s) in enumerate(records(25))
    ]
    made = make_db(tmp_path / "db", rows)
    with open_database(made) as db:
        db.delete(["r3", "r24"])
    return made


def test_a_table_of_records_is_read_back_as_the_same_records(path, tmp_path):
    assert cli("export", path, "-o", tmp_path / "x.tsv").code == 0
    frame = pl.read_csv(tmp_path / "x.tsv", separator="\t")
    assert frame.columns == ["record_id", "sequence", "description", "n", "x", "v_call", "meta.sequence"]
    expected = contents(path)
    assert dict(zip(frame["record_id"], frame["sequence"], strict=True)) == {
        i: r[0] for i, r in expected.items()
    }
    assert frame["x"].to_list() == [r[2]["x"] for r in expected.values()]


@pytest.mark.parametrize("kind", [(), ("--format", "airr")])
def test_standard_output_gets_the_table_and_nothing_else(path, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    where = ("--where", "n < 20", *kind)
    assert cli("export", path, "-o", "x.tsv", *where).code == 0
    ended = cli("export", path, "-o", "-", *where)
    assert ended.code == 0 and ended.out == (tmp_path / "x.tsv").read_text()
    assert "standard output: 19 records" in ended.err and not (tmp_path / "-").exists()
    refused = cli("export", path, "-o", "-", "--space", "kmer/1/whole/mean")
    assert (refused.code, refused.out) == (1, "") and "have no vectors" in refused.err


def test_parquet_has_types_and_vectors_and_makes_the_same_database(path, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "_PAGE_ROWS", 4)
    assert cli("export", path, "-o", tmp_path / "x.parquet").code == 0
    frame = pl.read_parquet(tmp_path / "x.parquet")
    assert frame.schema["n"] == pl.Int64 and frame.schema["embedding"] == pl.Array(pl.Float32, 512)
    assert cli("import", tmp_path / "again", tmp_path / "x.parquet").code == 0
    assert_same_database(path, tmp_path / "again", atol=0)


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_vectors_go_out_and_in_bit_by_bit(path, tmp_path, suffix, monkeypatch):
    if suffix == "h5":
        pytest.importorskip("h5py")
    monkeypatch.setattr(pages, "_PAGE_ROWS", 4)
    assert cli("export", path, "-o", tmp_path / f"x.{suffix}").code == 0
    assert cli("export", path, "-o", tmp_path / "x.tsv").code == 0
    done = cli("import", tmp_path / "again", tmp_path / f"x.{suffix}", "--records", tmp_path / "x.tsv")
    assert done.code == 0, done.err
    assert_same_database(path, tmp_path / "again", atol=0)


def test_an_archive_is_read_by_numpy_without_pickle(path, tmp_path):
    cli("export", path, "-o", tmp_path / "x.npz")
    ((space, vectors),) = all_vectors(path).items()
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        assert arrays["ids"].tolist() == list(vectors)
        np.testing.assert_array_equal(arrays["embeddings"], np.stack(list(vectors.values())))
        assert json.loads(str(arrays["spec"]))["model_id"] == space.split("/")[0]


def test_hdf5_says_what_its_vectors_are(path, tmp_path):
    h5py = pytest.importorskip("h5py")
    cli("export", path, "-o", tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file:
        assert {"model", "layer", "pooling", "dim", "plmsearch_version"} <= set(file.attrs)
        assert (file.attrs["model"], file.attrs["dim"], len(file)) == ("kmer", 512, 23)


def test_a_space_is_chosen_by_name(path, tmp_path):
    assert cli("embed", path, "--model", "kmer", "--layers", "0").code == 0
    assert cli("export", path, "-o", tmp_path / "x.npz", "--space", "kmer/0/whole/mean").code == 0
    with np.load(tmp_path / "x.npz") as arrays:
        expected = np.stack(list(all_vectors(path)["kmer/0/whole/mean"].values()))
        np.testing.assert_array_equal(arrays["embeddings"], expected)


def test_a_name_that_ends_otherwise_is_refused(path, tmp_path):
    with open_database(path) as db, pytest.raises(ParameterError, match=r"\.tsv, \.parquet"):
        exporting.export(db, tmp_path / "x.fasta")


@pytest.mark.parametrize("suffix", exporting.EXPORT_SUFFIXES)
def test_records_deleted_meanwhile_are_an_error_and_leave_no_file(path, tmp_path, suffix, monkeypatch):
    if suffix == ".h5":
        pytest.importorskip("h5py")
    monkeypatch.setattr(pages, "_PAGE_ROWS", 1)
    folder = tmp_path / "out"
    folder.mkdir()
    with open_database(path) as db:
        monkeypatch.setattr(type(db.repository), "n_records", lambda *_: 24)
        with pytest.raises(StorageError, match="changed while it was read"):
            exporting.export(db, folder / f"x{suffix}")
    assert list(folder.iterdir()) == []
