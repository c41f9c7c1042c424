"""What a space of variable domains is written as, and that it is not read as if it were of records."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from antibodies import (
    KMER_CDR3,
    KMER_CHAIN,
    KMER_DOMAIN,
    LEADER,
    NO_DOMAIN,
    SCFV,
    VH_2,
    VH_3,
    antibody_db,
    unit_vectors_of,
)
from support import VH, VL, cli

from plmsearch.database import open_database
from plmsearch.sequences import SequenceRecord

RECORDS = [
    SequenceRecord("scfv", SCFV, "two", {"domain": "mine", "id": "x7", "n": 1}),
    SequenceRecord("chain", LEADER + VH_2, "", {"n": 2}),
    SequenceRecord("none", NO_DOMAIN, "", {"n": 3}),
    SequenceRecord("pair", f"{VL};{VH_3}", "", {"n": 4}),
]
NAMES = ["scfv#1", "scfv#2", "chain", "pair#1", "pair#2"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return antibody_db(tmp_path_factory.mktemp("export") / "db", RECORDS, chains=True)


def expected(path: Path, space: str) -> np.ndarray:
    found = unit_vectors_of(path)[space]
    return np.stack([found.get(name, found.get(f"{name}#1")) for name in NAMES])


@pytest.mark.parametrize("space", [KMER_DOMAIN, KMER_CDR3])
def test_an_archive_names_every_domain(path, tmp_path, space):
    done = cli("export", path, "-o", tmp_path / "x.npz", "--space", space)
    assert done.code == 0, done.err
    assert "3 records, 5 variable domains" in done.err and "1 record has no vector" in done.err
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        assert arrays["ids"].tolist() == NAMES
        np.testing.assert_array_equal(arrays["embeddings"], expected(path, space))
        assert json.loads(str(arrays["spec"]))["region"] == space.split("/")[2]
    with open_database(path) as db:
        np.testing.assert_array_equal(db.vectors(NAMES, space=space), expected(path, space))


def test_hdf5_names_every_domain(path, tmp_path):
    h5py = pytest.importorskip("h5py")
    assert cli("export", path, "-o", tmp_path / "x.h5").code == 0
    with h5py.File(tmp_path / "x.h5") as file:
        found = np.stack([file[name][()] for name in NAMES])
        assert len(file) == len(NAMES)
    np.testing.assert_array_equal(found, expected(path, KMER_DOMAIN))


def test_parquet_has_record_and_domain_of_every_row(path, tmp_path):
    assert cli("export", path, "-o", tmp_path / "x.parquet").code == 0
    frame = pl.read_parquet(tmp_path / "x.parquet")
    assert frame["id"].to_list() == NAMES
    assert frame["record_id"].to_list() == ["scfv", "scfv", "chain", "pair", "pair"]
    assert frame["domain"].to_list() == [1, 2, 1, 1, 2]
    assert frame["locus"].to_list() == ["IGH", "IGK", "IGH", "IGK", "IGH"]
    assert frame["domain_sequence"].to_list() == [VH, VL, VH_2, VL, VH_3]
    assert frame["sequence"].to_list() == [SCFV, SCFV, LEADER + VH_2, f"{VL};{VH_3}", f"{VL};{VH_3}"]
    assert frame["n"].to_list() == [1, 1, 2, 4, 4]
    assert frame["meta.domain"].to_list() == ["mine", "mine", None, None, None]
    assert frame["meta.id"].to_list() == ["x7", "x7", None, None, None]
    np.testing.assert_array_equal(frame["embedding"].to_numpy(), expected(path, KMER_DOMAIN))


def test_a_space_of_chains_is_written_by_record(path, tmp_path):
    done = cli("export", path, "-o", tmp_path / "x.parquet", "--space", KMER_CHAIN, "--where", "n < 4")
    assert "3 records" in done.err and "left out" not in done.err
    frame = pl.read_parquet(tmp_path / "x.parquet")
    assert frame["record_id"].to_list() == ["scfv", "chain", "none"] and frame["id"].to_list()[0] == "x7"
    done = cli("export", path, "-o", tmp_path / "y.npz", "--space", KMER_CHAIN)
    assert "1 record has no vector in this space" in done.err


@pytest.mark.parametrize("suffix", ["parquet", "npz"])
@pytest.mark.parametrize("into", ["new", "same"])
def test_vectors_of_domains_are_not_imported(path, tmp_path, suffix, into):
    assert cli("export", path, "-o", tmp_path / f"x.{suffix}").code == 0
    target = (
        tmp_path / "new" if into == "new" else antibody_db(tmp_path / "one", [("v", VH)], regions="whole")
    )
    done = cli("import", target, tmp_path / f"x.{suffix}")
    assert done.code == 1 and "variable domains" in done.err and "plmsearch merge" in done.err
    assert not (tmp_path / "new").exists()


def test_a_space_of_domains_that_is_named_takes_no_vectors(tmp_path):
    one = antibody_db(tmp_path / "one", [("v", VH)], regions="whole")
    np.savez(tmp_path / "x.npz", ids=np.array(["a"]), embeddings=np.ones((1, 512), dtype=np.float32))
    for flags in ([], ["--space", KMER_DOMAIN], ["-m", "kmer"]):
        done = cli("import", one, tmp_path / "x.npz", *flags)
        assert done.code == 1 and "variable domains" in done.err, done.err
    with open_database(one) as db:
        assert len(db) == 1


def test_what_is_exported_as_records_is_indexed_as_the_same(path, tmp_path):
    """A table of records and the numbering give the domains back; vectors are made again."""
    assert cli("export", path, "-o", tmp_path / "x.tsv").code == 0
    flags = ("-m", "kmer", "--preset", "antibody", "--id-col", "record_id")
    done = cli("index", tmp_path / "again", tmp_path / "x.tsv", *flags)
    assert done.code == 0, done.err
    ours, theirs = unit_vectors_of(path), unit_vectors_of(tmp_path / "again")
    for space in (KMER_DOMAIN, KMER_CDR3):
        assert ours[space].keys() == theirs[space].keys()
        for name, vector in ours[space].items():
            np.testing.assert_array_equal(vector, theirs[space][name])
