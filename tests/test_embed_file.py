"""An input straight to a NumPy archive, without a database."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support import DNA, VH, VL, all_vectors, cli, make_db, peptides, records, write_fasta

from plmsearch.embedding.options import ModelOptions
from plmsearch.embedding.spec import EmbeddingSpec, SpaceRequest
from plmsearch.errors import InputError, SequenceTooLongError
from plmsearch.ingest.embed_file import embed_inputs, write_npz
from plmsearch.ingest.report import AddOptions, Progress
from plmsearch.ingest.scan import RecordList
from plmsearch.sequences import SequenceRecord


def embedded(rows: list[tuple[str, str]], options: AddOptions | None = None, model: str = "kmer"):
    given = RecordList([SequenceRecord(i, s) for i, s in rows])
    request = SpaceRequest(model, None)
    return embed_inputs([given], request, options or AddOptions(), ModelOptions(), Progress())


def test_an_archive_holds_what_a_database_of_the_same_input_holds(tmp_path):
    rows = records(12)
    source, target = write_fasta(tmp_path / "in.fasta", rows), tmp_path / "out.npz"
    ended = cli("embed", source, "-o", target, "-m", "kmer", "--layers", "0,1")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    stored = all_vectors(make_db(tmp_path / "db", rows, layers="0,1"))
    with np.load(target, allow_pickle=False) as archive:
        assert archive["ids"].tolist() == [record_id for record_id, _ in rows]
        for layer in (0, 1):
            vectors = archive[f"layer_{layer}"]
            assert vectors.dtype == np.float32
            for record_id, vector in zip(archive["ids"], vectors, strict=True):
                np.testing.assert_array_equal(vector, stored[f"kmer/{layer}/whole/mean"][record_id])
            spec = EmbeddingSpec.from_json(str(archive[f"spec_{layer}"]))
            assert (spec.model_id, spec.layer, spec.dim) == ("kmer", layer, vectors.shape[1])
        assert set(archive.files) == {
            *("ids", "n_windows", "n_used", "n_unknown"),
            *("layer_0", "spec_0", "layer_1", "spec_1"),
        }


def test_repeated_ids_and_sequences_stay_repeated_in_input_order(tmp_path):
    a, b = peptides(2)
    found = embedded([("x", a), ("y", b), ("x", b), ("y", a)])
    assert found.record_ids == ["x", "y", "x", "y"]
    (vectors,) = found.vectors.values()
    np.testing.assert_array_equal(vectors[0], vectors[3])
    np.testing.assert_array_equal(vectors[1], vectors[2])


def test_odd_ids_survive_without_pickle(tmp_path):
    ids = ["sp|P1|X", "two words", "抗体", 'q"', "x" * 300]
    write_npz(embedded(list(zip(ids, peptides(5), strict=True))), tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz", allow_pickle=False) as archive:
        assert archive["ids"].tolist() == ids
        assert json.loads(str(archive["spec_1"]))["model_id"] == "kmer"


def test_rows_left_out_are_named_and_the_exit_code_is_3(tmp_path):
    source = write_fasta(tmp_path / "in.fasta", [("a", VH), ("dna", DNA), ("b", VL.lower())])
    target = tmp_path / "out.npz"
    ended = cli("embed", source, "-o", target, "-m", "kmer", "--on-invalid", "skip")
    assert ended.code == 3
    assert f"left out: record 'dna' ({source}, record 2): this is a nucleotide sequence" in ended.err
    assert "1 row: lower-case letters raised" in ended.err
    with np.load(target) as archive:
        assert archive["ids"].tolist() == ["a", "b"]
        assert archive["layer_1"].shape == (2, 512)


def test_a_bad_row_writes_nothing(tmp_path):
    source = write_fasta(tmp_path / "in.fasta", [("a", VH), ("dna", DNA)])
    ended = cli("embed", source, "-o", tmp_path / "out.npz", "-m", "kmer")
    assert ended.code == 1
    assert "record 'dna'" in ended.err
    assert not (tmp_path / "out.npz").exists()


def test_an_input_without_a_usable_row_is_an_error():
    with pytest.raises(InputError, match="no row of the input holds a usable sequence"):
        embedded([("dna", DNA)], AddOptions(on_invalid="skip"))


def test_long_sequences_are_windowed_cut_left_out_or_refused_as_asked():
    rows = [("fits", VH), ("long", VH * 5), ("odd", VL + "X")]
    windowed = embedded(rows, model="antiberty")
    assert windowed.n_windows.tolist() == [1, 2, 1]
    assert windowed.n_used.tolist() == [120, 600, 108]
    assert windowed.n_unknown.tolist() == [0, 0, 1]
    assert (windowed.report.n_windowed, windowed.report.n_unknown_residues) == (1, 1)
    cut = embedded(rows, AddOptions(long="truncate"), model="antiberty")
    assert (cut.n_used.tolist(), cut.report.n_truncated) == ([120, 510, 108], 1)
    left_out = embedded(rows, AddOptions(long="skip"), model="antiberty")
    assert left_out.record_ids == ["fits", "odd"]
    assert [s.record_id for s in left_out.report.skipped] == ["long"]
    with pytest.raises(SequenceTooLongError, match="record 'long'"):
        embedded(rows, AddOptions(long="error"), model="antiberty")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("in.fasta",), 2, "give --output"),
        (("-",), 2, "give --output"),
        (("db", "-o", "out.npz"), 2, "a database keeps its own vectors"),
        (("absent",), 1, "no database at 'absent'"),
        (("absent", "-o", "out.npz"), 1, "cannot read 'absent': no such file"),
        ((".",), 1, "not a plmsearch database"),
        ((".", "-o", "out.npz"), 1, "is a directory"),
        (("in.fasta", "-o", "no/such/out.npz", "-m", "kmer"), 1, "no/such/out.npz"),
        (("in.fasta", "-o", "out.npz", "-m", "esm9"), 1, "unknown model 'esm9'"),
    ],
)
def test_what_does_not_go_together_is_said(tmp_path, monkeypatch, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    write_fasta(tmp_path / "in.fasta", records(1))
    make_db(tmp_path / "db", records(1))
    before = sorted(tmp_path.rglob("*.npz"))
    ended = cli("embed", *arguments)
    assert ended.code == code
    assert said in " ".join(ended.err.replace("│", " ").split())
    assert sorted(tmp_path.rglob("*.npz")) == before
