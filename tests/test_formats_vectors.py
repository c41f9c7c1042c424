from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from plmsearch.errors import FileFormatError, MissingDependencyError, ParameterError, TableFormatError
from plmsearch.formats.hdf5 import open_hdf5, write_hdf5
from plmsearch.formats.vectors import open_vectors

IDS = ["a", "b/c", "..", "d e", "original_id:1"]
VECTORS = np.arange(1, 16, dtype=np.float32).reshape(5, 3)


def read(path: Path, n_rows: int = 2, **flags: object) -> tuple[list[str], np.ndarray]:
    pages = list(open_vectors(path, **flags).pages(n_rows))  # type: ignore[arg-type]
    return [i for p in pages for i in p.ids], np.concatenate([p.vectors for p in pages])


def npz(path: Path, **arrays: object) -> Path:
    np.savez(path, **{"ids": np.array(IDS), "embeddings": VECTORS, **arrays})  # type: ignore[arg-type]
    return path


def assert_same(found: tuple[list[str], np.ndarray]) -> None:
    assert found[0] == IDS
    np.testing.assert_array_equal(found[1], VECTORS)
    assert found[1].dtype == np.float32


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
def test_an_archive_is_read_in_pages_of_any_size(tmp_path, dtype):
    path = npz(tmp_path / "x.npz", embeddings=VECTORS.astype(dtype))
    for n_rows in (1, 2, 5, 100):
        assert_same(read(path, n_rows))


def test_an_array_takes_its_ids_from_a_list_or_a_table(tmp_path):
    np.save(tmp_path / "x.npy", VECTORS)
    (tmp_path / "ids.txt").write_text("\n".join(IDS))
    (tmp_path / "ids.tsv").write_text("id\tv_call\n" + "".join(f"{i}\tV{i}\n" for i in IDS))
    assert_same(read(tmp_path / "x.npy", records=tmp_path / "ids.txt"))
    assert_same(read(tmp_path / "x.npy", records=tmp_path / "ids.tsv"))
    assert next(open_vectors(tmp_path / "x.npy", records=tmp_path / "ids.txt").pages(9)).records is None
    page = next(open_vectors(tmp_path / "x.npy", records=tmp_path / "ids.tsv").pages(9))
    assert [r.metadata for r in page.records or ()] == [{"v_call": f"V{i}"} for i in IDS]


def test_an_array_without_ids_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", VECTORS)
    with pytest.raises(ParameterError, match="a table with the ids"):
        open_vectors(tmp_path / "x.npy")


@pytest.mark.parametrize(("ids", "problem"), [(IDS[:4], "fewer rows"), ([*IDS, "f"], "more rows")])
def test_a_table_of_another_length_is_refused(tmp_path, ids, problem):
    np.save(tmp_path / "x.npy", VECTORS)
    (tmp_path / "ids.txt").write_text("\n".join(ids))
    with pytest.raises(FileFormatError, match=problem):
        read(tmp_path / "x.npy", records=tmp_path / "ids.txt")


def test_a_table_in_another_order_is_refused(tmp_path):
    (tmp_path / "ids.txt").write_text("\n".join(reversed(IDS)))
    with pytest.raises(FileFormatError, match="names 'a' where row 1"):
        read(npz(tmp_path / "x.npz"), records=tmp_path / "ids.txt")


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"embeddings": VECTORS.astype(int)}, "holds int64"),
        ({"embeddings": VECTORS.astype(object)}, "Python objects"),
        ({"embeddings": VECTORS[0]}, r"shape \(3,\)"),
        ({"embeddings": VECTORS[:0]}, "shape"),
        ({"embeddings": np.asfortranarray(VECTORS)}, "Fortran order"),
        ({"ids": np.arange(5)}, "ids of shape"),
        ({"ids": np.array(IDS[:4])}, "ids of shape"),
        ({"ids": np.array(["a", "", "b", "c", "d"])}, "row 2 has the id ''"),
        ({"layer_1": VECTORS}, "exactly one array"),
    ],
)
def test_an_archive_of_something_else_is_refused(tmp_path, arrays, problem):
    with pytest.raises(FileFormatError, match=problem):
        read(npz(tmp_path / "x.npz", **arrays))


def test_every_cut_of_an_archive_is_an_error(tmp_path):
    data = npz(tmp_path / "x.npz").read_bytes()
    for n in range(0, len(data), 37):
        (tmp_path / "cut.npz").write_bytes(data[:n])
        with pytest.raises(FileFormatError):
            read(tmp_path / "cut.npz")


def test_a_flipped_bit_in_the_vectors_is_found(tmp_path):
    path = npz(tmp_path / "x.npz")
    with zipfile.ZipFile(path) as archive:
        vectors = archive.getinfo("embeddings.npy")
    data = bytearray(path.read_bytes())
    data[data.index(VECTORS.tobytes()) + 1] ^= 1
    path.write_bytes(data)
    assert vectors.file_size > VECTORS.nbytes
    with pytest.raises(FileFormatError, match="CRC"):
        read(path)


@pytest.mark.parametrize("kind", [pl.Array(pl.Float32, 3), pl.List(pl.Float64)])
def test_a_column_of_vectors_is_read_with_the_rest_of_its_table(tmp_path, kind):
    frame = pl.DataFrame(
        {"accession": IDS, "n": range(5), "meta.sequence": "x", "seq": ["EV", "NA", None, "", "L"]}
    )
    frame.with_columns(pl.Series("emb", VECTORS.tolist(), dtype=kind)).write_parquet(tmp_path / "x.parquet")
    assert_same(read(tmp_path / "x.parquet"))
    records = next(open_vectors(tmp_path / "x.parquet").pages(9)).records or ()
    assert [r.sequence for r in records] == ["EV", "", "", "", "L"]
    assert [r.metadata for r in records] == [{"n": n, "sequence": "x"} for n in range(5)]


@pytest.mark.parametrize(
    ("vectors", "problem"),
    [
        ([[1.0, 2], [3.0]], "without a vector of 2"),
        ([[1.0], None], "without a vector"),
        ([[1.0], [None]], "missing component"),
    ],
)
def test_a_ragged_column_of_vectors_is_refused(tmp_path, vectors, problem):
    frame = pl.DataFrame({"id": ["a", "b"]})
    frame = frame.with_columns(pl.Series("emb", vectors, dtype=pl.List(pl.Float32)))
    frame.write_parquet(tmp_path / "x.parquet")
    with pytest.raises(FileFormatError, match=problem):
        read(tmp_path / "x.parquet")


def test_a_table_without_vectors_names_the_flag(tmp_path):
    pl.DataFrame({"id": ["a"]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(TableFormatError, match="--vector-col"):
        read(tmp_path / "x.parquet")


def test_any_id_goes_through_hdf5_and_back_in_order(tmp_path):
    pytest.importorskip("h5py")
    assert (
        write_hdf5([(IDS[:2], VECTORS[:2]), (IDS[2:], VECTORS[2:])], {"model": "m"}, tmp_path / "x.h5") == 5
    )
    assert_same(read(tmp_path / "x.h5"))


@pytest.mark.parametrize("wrong", ["group", "residues", "ragged", "integers"])
def test_an_hdf5_file_of_something_else_is_refused(tmp_path, wrong):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["b"] = np.ones(3, np.float16)
        if wrong == "group":
            file.create_group("a")
        else:
            file["a"] = {"residues": np.ones((4, 3)), "ragged": np.ones(2), "integers": np.ones(3, int)}[
                wrong
            ]
    with pytest.raises(FileFormatError):
        read(tmp_path / "x.h5")


def test_an_hdf5_file_that_is_cut_is_an_error(tmp_path):
    pytest.importorskip("h5py")
    write_hdf5([(IDS, VECTORS)], {}, tmp_path / "x.h5")
    data = (tmp_path / "x.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(FileFormatError):
        read(tmp_path / "cut.h5")


def test_without_h5py_the_error_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "plmsearch\[export\]"'):
        open_hdf5(tmp_path / "x.h5")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "x.npz").write_text(json.dumps({}))
    with pytest.raises(FileFormatError, match=r"no \.npy"):
        open_vectors(tmp_path / "x.npz")
