"""Several databases as one, against dictionaries of what the rows must become."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from databases import assert_sound, merged
from hypothesis import given, settings
from hypothesis import strategies as st
from support import assert_same_database, break_seal, cli, contents, ledger, make_db, peptides, records

from plmsearch.database import open_database
from plmsearch.embedding import kmer
from plmsearch.errors import (
    DatabaseLocked,
    DatabaseSpacesMismatch,
    EmbeddingError,
    PlmsearchError,
    StorageError,
    VectorConflict,
)
from plmsearch.exchange import pages, writer
from plmsearch.exchange.importing import ImportOptions, import_vectors
from plmsearch.exchange.merging import MERGE_DUPLICATES
from plmsearch.formats.vectors import open_vectors
from plmsearch.ingest.report import AddReport, Progress
from plmsearch.optimize import optimize
from plmsearch.overview import overview
from plmsearch.sequences import SequenceRecord
from plmsearch.store.connection import sqlite_module
from plmsearch.store.repository import Repository
from plmsearch.store.vector_files import VectorFiles

KMER, COARSE = "kmer/1/whole/mean", "kmer/0/whole/mean"
MINE = "external:mine/0/whole/mean"


def vectors_of(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """The raw vectors by space and record id, of the records that have one."""
    found: dict[str, dict[str, np.ndarray]] = {}
    with open_database(path) as db:
        for space in db.spaces():
            of_space = found[space.spec.name] = {}
            for page in pages.stored_pages(db, space):
                of_space.update({r.record_id: v for r, v in zip(page.records, page.vectors, strict=True)})
    return found


def nothing_is_left_of(target: Path) -> bool:
    return not list(target.parent.glob(f"*{target.name}*"))


def files(path: Path) -> dict[Path, bytes]:
    passing = {"catalog.sqlite-shm", "catalog.sqlite-wal"}
    return {p: p.read_bytes() for p in path.rglob("*") if p.is_file() and p.name not in passing}


# --- What the rows must become -------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A record of a database; `vector` numbers one of `FAR`, where there are no residues."""

    record_id: str
    residues: str
    description: str = ""
    n: str = ""
    vector: int = 0

    @property
    def content(self) -> tuple[str, str, str, int]:
        return self.residues, self.description, self.n, self.vector if not self.residues else -1


@dataclass
class Expected:
    """The merged database: a row by id, and what became of each row that was read."""

    rows: dict[str, Row] = field(default_factory=dict)
    read_from: dict[str, int] = field(default_factory=dict)
    outcomes: list[tuple[int, str, str, str | None]] = field(default_factory=list)


def expected_of(databases: Sequence[Sequence[Row]], policy: str) -> Expected | None:
    """Apply the policy row by row; None if it is to stop."""
    out = Expected()
    for number, rows in enumerate(databases):
        for row in rows:
            name, suffix = row.record_id, 2
            taken = out.rows.get(name)
            if taken is not None and taken.content != row.content:
                if policy == "error":
                    return None
                if policy == "skip":
                    out.outcomes.append((number, row.record_id, "skipped", None))
                    continue
                while name in out.rows and out.rows[name].content != row.content:
                    name, suffix = f"{row.record_id}_{suffix}", suffix + 1
            outcome = "present" if name in out.rows else "added" if name == row.record_id else "renamed"
            out.outcomes.append((number, row.record_id, outcome, name))
            out.rows.setdefault(name, row)
            out.read_from.setdefault(row.residues or name, number)
    return out


SEQUENCES = peptides(4, seed=31, longest=30)
RNG = np.random.default_rng(3)
FAR = RNG.standard_normal((3, 6)).astype(np.float32)
OF_SEQUENCE = dict(zip(SEQUENCES, RNG.standard_normal((4, 6)).astype(np.float32), strict=True))
N = st.sampled_from(["", "7", "2.5", "x"])
TEXT = st.sampled_from(["", "one", "two"])
KNOWN = st.builds(Row, st.sampled_from(["x", "y", "z", "x_2"]), st.sampled_from(SEQUENCES), TEXT, N)
ABSENT = st.builds(Row, st.sampled_from(["x", "y", "z"]), st.just(""), TEXT, N, st.integers(0, len(FAR) - 1))
POLICY = st.sampled_from(MERGE_DUPLICATES)


def databases(row: st.SearchStrategy[Row]) -> st.SearchStrategy[list[list[Row]]]:
    one = st.lists(row, min_size=1, max_size=4, unique_by=lambda r: r.record_id)
    return st.lists(one, min_size=2, max_size=3)


def of_database(row: Row, number: int) -> np.ndarray:
    """The vector of a row in one of the databases: of a sequence, alike in all but not the same."""
    return OF_SEQUENCE[row.residues] * np.float32(1 + 1e-4 * number) if row.residues else FAR[row.vector]


def external(folder: Path, rows: Sequence[Row], number: int = 0, space: str = "mine") -> Path:
    """A database of imported vectors."""
    folder.mkdir(exist_ok=True)
    vectors = np.stack([of_database(r, number) for r in rows])
    np.savez(folder / "x.npz", ids=np.array([r.record_id for r in rows]), embeddings=vectors)
    lines = [f"{r.record_id}\t{r.residues}\t{r.description}\t{r.n}" for r in rows]
    (folder / "x.tsv").write_text("\n".join(["record_id\tsequence\tdescription\tn", *lines]) + "\n")
    file = open_vectors(folder / "x.npz", records=folder / "x.tsv")
    with open_database(folder / "db", create=True) as db:
        import_vectors(db, file, ImportOptions(space))
    return folder / "db"


def type_of_all(values: Sequence[str]) -> str:
    kinds = {"x": "text", "2.5": "float", "7": "int"}
    found = {kinds[v] for v in values if v}
    return "text" if "text" in found else "float" if "float" in found else "int"


def check(
    target: Path, inputs: Sequence[Path], wanted: Expected, report: AddReport, rows: Sequence[Row]
) -> None:
    """Compare records, their order, columns, ledger and report with what is expected."""
    typed = {"text": str, "float": float, "int": int}[type_of_all([r.n for r in rows])]
    assert contents(target) == {
        i: (r.residues, r.description, {"n": typed(r.n)} if r.n else {}) for i, r in wanted.rows.items()
    }
    assert list(contents(target)) == list(wanted.rows)
    written = [(r["input"], r["input_id"], r["outcome"], r["record_id"]) for r in ledger(target, 1)]
    assert written == [(str(inputs[n]), *entry) for n, *entry in wanted.outcomes]
    counts = (report.n_rows, report.n_added, report.n_renamed, report.n_present, report.n_skipped)
    kinds = [o[2] for o in wanted.outcomes]
    assert counts == (len(kinds), *(kinds.count(k) for k in ("added", "renamed", "present", "skipped")))
    with open_database(target) as db:
        (run,) = overview(db).runs
        n_sequences = len({r.residues or i for i, r in wanted.rows.items()})
        assert db.repository.n_sequences() == n_sequences
        assert db.spaces()[0].n_vectors == n_sequences
    assert (run.command, run.status) == ("merge", "finished")
    assert [(i["name"], i["format"]) for i in run.inputs] == [(str(p), "plmsearch") for p in inputs]
    assert_sound(target)


@settings(max_examples=8)
@given(given_=databases(KNOWN | ABSENT), policy=POLICY, rows_of_a_file=st.sampled_from([2, 1000]))
def test_imported_databases_become_what_the_rules_say(given_, policy, rows_of_a_file):
    wanted = expected_of(given_, policy)
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder, target = Path(name), Path(name) / "out"
        patch.setattr(writer, "_MAX_ROWS", rows_of_a_file)
        patch.setattr(pages, "_PAGE_ROWS", rows_of_a_file)
        inputs = [external(folder / str(n), rows, n) for n, rows in enumerate(given_)]
        if wanted is None:
            with pytest.raises(PlmsearchError, match="already taken"):
                merged(inputs, target)
            assert nothing_is_left_of(target)
            return
        report = merged(inputs, target, on_duplicate=policy)
        check(target, inputs, wanted, report, [r for rows in given_ for r in rows])
        found = vectors_of(target)[MINE]
    assert found.keys() == wanted.rows.keys()
    for record_id, row in wanted.rows.items():
        first = wanted.read_from[row.residues or record_id]
        np.testing.assert_array_equal(found[record_id], of_database(row, first))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of two spaces, whose only record was deleted."""
    path = make_db(tmp_path_factory.mktemp("template") / "db", [("x", "MKTAYIAKQR")], layers="1,0")
    with open_database(path) as db:
        db.delete(["x"])
    return path


@settings(max_examples=4)
@given(given_=databases(KNOWN), policy=POLICY, rows_of_a_file=st.sampled_from([2, 1000]))
def test_databases_of_two_spaces_have_each_vector_in_both(template, given_, policy, rows_of_a_file):
    wanted = expected_of(given_, policy)
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder, target = Path(name), Path(name) / "out"
        patch.setattr(writer, "_MAX_ROWS", rows_of_a_file)
        patch.setattr(pages, "_PAGE_ROWS", rows_of_a_file)
        inputs = [Path(shutil.copytree(template, folder / str(n))) for n in range(len(given_))]
        for path, rows in zip(inputs, given_, strict=True):
            with open_database(path) as db:
                metadata = [{"n": r.n} if r.n else {} for r in rows]
                db.add(
                    [
                        SequenceRecord(r.record_id, r.residues, r.description, m)
                        for r, m in zip(rows, metadata, strict=True)
                    ]
                )
        if wanted is None:
            with pytest.raises(PlmsearchError, match="already taken"):
                merged(inputs, target)
            assert nothing_is_left_of(target)
            return
        report = merged(inputs, target, on_duplicate=policy)
        check(target, inputs, wanted, report, [r for rows in given_ for r in rows])
        anew = make_db(
            folder / "anew",
            [
                SequenceRecord(i, r.residues, r.description, {"n": r.n} if r.n else {})
                for i, r in wanted.rows.items()
            ],
            layers="1,0",
        )
        found, computed = vectors_of(target), vectors_of(anew)
    assert list(found) == list(computed) == [KMER, COARSE]
    for space, vectors in computed.items():
        assert found[space].keys() == vectors.keys()
        for record_id, vector in vectors.items():
            np.testing.assert_array_equal(found[space][record_id], vector)


# --- The merged database -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    rows = records(40, seed=1)
    first = make_db(folder / "a", rows[:15])
    make_db(first, rows[15:25])
    second = make_db(folder / "b", [*rows[20:], ("twin", rows[2][1])])
    for path, gone in ((first, ["r0", "r21"]), (second, ["r30"])):
        with open_database(path) as db:
            db.delete(gone)
    return folder


@pytest.fixture
def pair(made, tmp_path):
    """Two databases with records, sequences and ids in common, and tombstones."""
    return [Path(shutil.copytree(made / name, tmp_path / name)) for name in ("a", "b")]


def test_hits_are_those_of_an_exact_search_over_the_union(pair, tmp_path):
    merged(pair, tmp_path / "out")
    union = {**vectors_of(pair[0])[KMER], **vectors_of(pair[1])[KMER]}
    assert contents(tmp_path / "out") == {**contents(pair[0]), **contents(pair[1])}
    matrix = np.stack(list(union.values())).astype(np.float64)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    queries = RNG.standard_normal((5, matrix.shape[1])).astype(np.float32)
    scores = queries / np.linalg.norm(queries, axis=1, keepdims=True) @ matrix.T
    with open_database(tmp_path / "out") as db:
        found = db.search(queries, k=len(union))
    for hits, of_query in zip(found, scores, strict=True):
        by_id = dict(zip(union, of_query, strict=True))
        assert {h.target for h in hits} == set(union)
        np.testing.assert_allclose([h.score for h in hits], sorted(of_query, reverse=True), atol=1e-6)
        np.testing.assert_allclose([h.score for h in hits], [by_id[h.target] for h in hits], atol=1e-6)


@pytest.mark.parametrize("empty_first", [True, False])
def test_with_an_empty_database_the_contents_are_the_same(pair, template, tmp_path, empty_first):
    assert cli("embed", pair[0], "--model", "kmer", "--layers", "0").code == 0
    paths = [template, pair[0]] if empty_first else [pair[0], template]
    merged(paths, tmp_path / "out")
    assert_same_database(pair[0], tmp_path / "out", atol=0)
    assert list(contents(tmp_path / "out")) == list(contents(pair[0]))
    assert_sound(tmp_path / "out")
    with open_database(tmp_path / "out") as db:
        assert db.repository.dead_sequences() == []
        assert db.repository.counters().record_key == len(contents(pair[0])) + 1


def test_what_is_merged_can_be_extended_and_merged_again(pair, tmp_path):
    merged(pair, tmp_path / "out")
    report = merged([tmp_path / "out", *pair], tmp_path / "again")
    assert (report.n_added, report.n_renamed) == (len(contents(tmp_path / "out")), 0)
    assert_same_database(tmp_path / "out", tmp_path / "again", atol=0)
    make_db(tmp_path / "again", [("new", "MKTAYIAKQRQISFVKSHFSRQ")])
    assert "new" in contents(tmp_path / "again")
    assert_sound(tmp_path / "again")


def test_the_others_are_only_read(pair, tmp_path):
    before = {p: files(p) for p in pair}
    merged(pair, tmp_path / "out")
    assert {p: files(p) for p in pair} == before


def test_how_a_vector_was_made_is_kept(pair, tmp_path):
    merged(pair, tmp_path / "out")
    for path, chosen in ((pair[0], ["r1", "r24"]), (pair[1], ["r39"])):
        facts = []
        for one in (path, tmp_path / "out"):
            with open_database(one) as db:
                ids = [db.repository.records_by_id([i])[i].sequence_id for i in chosen]
                facts.append([r[1:] for r in db.repository.vector_rows(db.space().space_id, ids)])
        assert facts[0] == facts[1]


def test_a_record_without_a_sequence_is_told_apart_by_its_vector(tmp_path):
    near = FAR[0] * np.float32(1 + 1e-4)
    given_ = [external(tmp_path / "0", [Row("a", "")]), external(tmp_path / "1", [Row("a", "", vector=1)])]
    again = Path(shutil.copytree(given_[1], tmp_path / "again"))
    np.savez(tmp_path / "near.npz", ids=np.array(["a", "b"]), embeddings=np.stack([near, FAR[2]]))
    assert cli("import", tmp_path / "2", tmp_path / "near.npz", "--space", "mine").code == 0
    assert cli("merge", *given_, "-o", tmp_path / "out").code == 1
    report = merged([*given_, tmp_path / "2", again], tmp_path / "out", on_duplicate="rename")
    assert (report.n_added, report.n_renamed, report.n_present) == (2, 1, 2)
    found = vectors_of(tmp_path / "out")[MINE]
    for record_id, number in (("a", 0), ("a_2", 1), ("b", 2)):
        np.testing.assert_array_equal(found[record_id], FAR[number])
    assert_sound(tmp_path / "out")


def test_a_default_space_in_which_records_have_no_vector_stays_the_default(tmp_path):
    """The space is that of the first database; a record without a sequence has its vector elsewhere."""
    source = make_db(tmp_path / "source", [("p", SEQUENCES[0])])
    vector = vectors_of(source)[KMER]["p"]
    for name, layer, other in (("a", "1", "0"), ("c", "0", "1")):
        np.savez(tmp_path / "x.npz", ids=np.array([name]), embeddings=vector[None])
        imported = cli("import", tmp_path / name, tmp_path / "x.npz", "-m", "kmer", "--layers", layer)
        assert imported.code == 0, imported.err
        assert cli("embed", tmp_path / name, "--model", "kmer", "--layers", other).code == 0
    make_db(tmp_path / "b", records(5), layers="0,1")
    merged([tmp_path / "b", tmp_path / "a"], tmp_path / "out")
    found = vectors_of(tmp_path / "out")
    assert list(found) == [COARSE, KMER]
    assert (set(found[COARSE]), set(found[KMER])) == (
        {i for i, _ in records(5)},
        {"a", *(i for i, _ in records(5))},
    )
    assert_sound(tmp_path / "out")
    make_db(tmp_path / "d", [("a", SEQUENCES[1]), ("d", SEQUENCES[2])], layers="0,1")
    merged([tmp_path / "a", tmp_path / "d"], tmp_path / "fewer", on_duplicate="skip")
    assert {s: set(v) for s, v in vectors_of(tmp_path / "fewer").items()} == {KMER: {"a", "d"}, COARSE: {"d"}}
    with pytest.raises(EmbeddingError, match="no embedding space in which every record"):
        merged([tmp_path / "a", tmp_path / "c"], tmp_path / "none")
    assert nothing_is_left_of(tmp_path / "none")


def test_columns_are_widened_and_said_to_be(tmp_path):
    for name, value in (("a", 1), ("b", 2.5), ("c", "IGHV1")):
        make_db(tmp_path / name, [SequenceRecord(name, SEQUENCES[0], "", {"n": value, name: True})])
    done = cli("merge", tmp_path / "a", tmp_path / "b", tmp_path / "c", "-o", tmp_path / "out")
    assert done.code == 0 and "column 'n' widened from int to text" in done.err
    assert {i: dict(r[2]) for i, r in contents(tmp_path / "out").items()} == {
        "a": {"n": "1", "a": True},
        "b": {"n": "2.5", "b": True},
        "c": {"n": "IGHV1", "c": True},
    }


# --- What is refused -----------------------------------------------------------------------------


def other_layer(path: Path) -> None:
    shutil.rmtree(path)
    make_db(path, records(3), layers="0")


def other_spaces(path: Path) -> None:
    assert cli("embed", path, "--model", "kmer", "--layers", "0").code == 0


def not_a_model(path: Path) -> None:
    shutil.rmtree(path)
    external(path, [Row("a", SEQUENCES[0])])
    shutil.move(path / "db", path.parent / "moved")
    shutil.rmtree(path)
    shutil.move(path.parent / "moved", path)


def incomplete(path: Path) -> None:
    with open_database(path) as db, db.writing(Progress()) as repository:
        repository.drop_segment(1)


def flip(path: Path, name: str, place: int | bytes) -> None:
    """A bit on the disk, as nothing but its checksum would tell."""
    with open_database(path) as db, db.writing(Progress()):
        pass  # notes the files as they lie
    (file,) = path.glob(name)
    status = file.stat()
    data = bytearray(file.read_bytes())
    data[place if isinstance(place, int) else data.index(place)] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def flipped(path: Path) -> None:
    flip(path, "segments/00000001.vec", 200)


def flipped_in_the_catalog(path: Path) -> None:
    flip(path, "catalog.sqlite", b"twin")


def lost(path: Path) -> None:
    """A vector that the catalog does not know any more."""
    with closing(sqlite_module().connect(path / "catalog.sqlite")) as connection:
        connection.execute("DELETE FROM vectors WHERE sequence_id = 2")
        connection.commit()
    break_seal(path)


def missing(path: Path) -> None:
    min((path / "segments").iterdir()).unlink()


def other_sequence(path: Path) -> None:
    shutil.rmtree(path)
    make_db(path, [("r3", "MKTAYIAKQRQISFVKSHFSRQ")])


def nothing(path: Path) -> None:
    shutil.rmtree(path)


REFUSED: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "another layer": (
        other_layer,
        ("'{a}'", "'{b}'", "layer 1", "layer 0", "plmsearch embed {b} --model kmer"),
    ),
    "a space more": (other_spaces, ("'{a}'", "'{b}'", "plmsearch embed {a} --model kmer --layers 0")),
    "imported vectors": (not_a_model, ("external:mine", "never mixed")),
    "an incomplete space": (
        incomplete,
        (KMER, "not complete", "plmsearch embed {b} --model kmer --layers 1"),
    ),
    "a flipped bit": (flipped, ("{b}/segments/", "damaged")),
    "a flipped bit of the catalog": (flipped_in_the_catalog, ("{b}/catalog.sqlite", "damaged")),
    "a lost file": (missing, ("{b}/segments/", "missing")),
    "a lost vector": (lost, ("{b}", "1 sequences have no vector", "plmsearch repair {b}")),
    "a taken id": (other_sequence, ("'r3' ({b}, record 1)", "--on-duplicate rename or skip")),
    "no database": (nothing, ("no database at '{b}'",)),
}


@pytest.mark.parametrize(("change", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_merged_is_named_and_nothing_is_made(pair, tmp_path, change, said):
    a, b = pair
    change(b)
    before = files(a)
    done = cli("merge", a, b, "-o", tmp_path / "out")
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1), done.err
    for text in said:
        assert text.format(a=a, b=b) in done.err
    assert nothing_is_left_of(tmp_path / "out")
    assert files(a) == before


@pytest.mark.parametrize(("policy", "code", "n"), [("rename", 0, 25), ("skip", 3, 24)])
def test_a_taken_id_is_renamed_or_left_out(pair, tmp_path, policy, code, n):
    other_sequence(pair[1])
    done = cli("merge", *pair, "-o", tmp_path / "out", "--on-duplicate", policy)
    assert done.code == code
    n_before = len(contents(pair[0]))
    assert len(contents(tmp_path / "out")) == n_before + (policy == "rename")
    assert ("r3_2" in contents(tmp_path / "out")) == (policy == "rename")
    assert (f"left out: record 'r3' ({pair[1]}, record 1)" in done.err) == (policy == "skip")
    assert f"holds {len(contents(tmp_path / 'out'))} records" in done.err


def test_places_that_would_change_a_database_are_refused(pair, tmp_path):
    a, b = pair
    (tmp_path / "link").symlink_to(a)
    hidden = shutil.copytree(b, tmp_path / ".out.incomplete")
    before = {p: files(p) for p in (a, b, hidden)}
    for arguments, code, said in (
        ((a, "-o", tmp_path / "out"), 2, "two databases"),
        ((a, b), 2, "--output"),
        ((a, b, a, "-o", tmp_path / "out"), 1, "given once"),
        ((a, tmp_path / "link", "-o", tmp_path / "out"), 1, "given once"),
        ((a, b, "-o", b), 1, "exists already"),
        ((a, b, "-o", b / "segments" / "out"), 1, "outside of"),
        ((a, b, "-o", tmp_path / "link" / "new" / "out"), 1, "outside of"),
        ((a, hidden, "-o", tmp_path / "out"), 1, "made there"),
        ((a, b, "-o", tmp_path / "out", "--on-duplicate", "replace"), 1, "one of: error, rename, skip"),
    ):
        done = cli("merge", *arguments)
        assert done.code == code and said in done.err, done.err
    assert {p: files(p) for p in (a, b, hidden)} == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("embed", [False, True], ids=["one space", "two spaces"])
def test_a_sequence_with_another_vector_is_named_with_both_databases(tmp_path, embed):
    a = make_db(tmp_path / "a", [("p", SEQUENCES[0]), ("q", SEQUENCES[1])])
    wrong = vectors_of(a)[KMER]["q"]
    np.savez(
        tmp_path / "x.npz", ids=np.array(["r", "s"]), embeddings=np.stack([vectors_of(a)[KMER]["p"], wrong])
    )
    (tmp_path / "x.tsv").write_text(f"record_id\tsequence\nr\t{SEQUENCES[0]}\ns\t{SEQUENCES[0][:-1]}\n")
    imported = cli(
        "import",
        tmp_path / "b",
        tmp_path / "x.npz",
        "--records",
        tmp_path / "x.tsv",
        "-m",
        "kmer",
        "--layers",
        "1",
    )
    assert imported.code == 0
    make_db(a, [("t", SEQUENCES[0][:-1])])
    if embed:
        # The space that is wrong is not the one that leads.
        for path in ("a", "b"):
            assert cli("embed", tmp_path / path, "--model", "kmer", "--layers", "0").code == 0
        lead = make_db(tmp_path / "lead", [("u", SEQUENCES[2])], layers="0,1")
        paths = [lead, a, tmp_path / "b"]
    else:
        paths = [a, tmp_path / "b"]
    with pytest.raises(VectorConflict, match="another vector") as caught:
        merged(paths, tmp_path / "out")
    assert (caught.value.record_id, caught.value.source, caught.value.row) == ("s", str(tmp_path / "b"), 2)
    assert str(a) in str(caught.value) and KMER in str(caught.value)
    assert nothing_is_left_of(tmp_path / "out")


def test_spaces_of_one_name_and_other_weights_are_told_apart(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(kmer, "_VERSION", "of other weights")
    other = make_db(tmp_path / "other", records(2, seed=9))
    with pytest.raises(DatabaseSpacesMismatch, match="anew"):
        merged([pair[0], other], tmp_path / "out")


# --- While others write, and interrupted ---------------------------------------------------------


class Meanwhile(Progress):
    """Lets something happen once the databases were opened."""

    def __init__(self, event: Callable[[], object]) -> None:
        self._event = event

    def start(self, n_rows: int | None) -> None:
        self._event()


@pytest.mark.parametrize("layers", ["1", "1,0"])
def test_what_is_added_or_optimized_meanwhile_is_left_out(tmp_path, layers, monkeypatch):
    monkeypatch.setattr(pages, "_PAGE_ROWS", 3)
    a = make_db(tmp_path / "a", records(8), layers=layers)
    make_db(a, [("more", SEQUENCES[1])])
    b = make_db(tmp_path / "b", [("other", SEQUENCES[0])], layers=layers)
    before = contents(a)

    def event() -> None:
        make_db(a, [("new", SEQUENCES[2])])
        with open_database(a) as db:
            optimize(db)

    merged([a, b], tmp_path / "out", progress=Meanwhile(event))
    assert contents(tmp_path / "out") == {**before, **contents(b)}
    assert "new" in contents(a)
    assert_sound(tmp_path / "out")


@pytest.mark.parametrize(("owner", "step"), [(Repository, "vector_places"), (VectorFiles, "rows")])
def test_files_that_are_exchanged_between_two_looks_are_looked_up_again(
    pair, tmp_path, monkeypatch, owner, step
):
    real = getattr(owner, step)

    def disturbed(*arguments: object) -> object:
        monkeypatch.setattr(owner, step, real)
        for path in pair:
            with open_database(path) as db:
                optimize(db)
        return real(*arguments)

    def arm() -> None:
        monkeypatch.setattr(owner, step, disturbed)

    before = {**contents(pair[0]), **contents(pair[1])}
    merged(pair, tmp_path / "out", progress=Meanwhile(arm))
    assert getattr(owner, step) is real
    assert contents(tmp_path / "out") == before
    assert_sound(tmp_path / "out")


def test_what_is_deleted_meanwhile_stops_it(pair, tmp_path):
    def event() -> None:
        with open_database(pair[1]) as db:
            db.delete(["r33"])
            optimize(db)

    with pytest.raises(StorageError, match="changed while it was read") as caught:
        merged(pair, tmp_path / "out", progress=Meanwhile(event))
    assert caught.value.path == str(pair[1])
    assert nothing_is_left_of(tmp_path / "out")
    merged(pair, tmp_path / "out")
    assert_sound(tmp_path / "out")


@pytest.mark.parametrize(("layers", "space"), [("1", 0), ("1,0", 0), ("1,0", 1)])
def test_vectors_that_are_lost_meanwhile_stop_it(tmp_path, layers, space):
    a, b = (make_db(tmp_path / n, [(n, s)], layers=layers) for n, s in zip("ab", SEQUENCES, strict=False))

    def event() -> None:
        with open_database(b) as db, db.writing(Progress()) as repository:
            (segment,) = repository.segments(repository.spaces()[space].space_id)
            repository.drop_segment(segment.segment_id)

    with pytest.raises(StorageError, match="changed while it was read") as caught:
        merged([a, b], tmp_path / "out", progress=Meanwhile(event))
    assert caught.value.path == str(b)
    assert nothing_is_left_of(tmp_path / "out")


def test_two_at_once_do_not_make_one_of_both(pair, tmp_path):
    def event() -> None:
        with pytest.raises(DatabaseLocked):
            merged(pair[::-1], tmp_path / "out")

    merged(pair, tmp_path / "out", progress=Meanwhile(event))
    assert next(iter(contents(tmp_path / "out"))) == "r1"
    assert_sound(tmp_path / "out")


def test_what_was_killed_is_made_anew(pair, tmp_path):
    script = (
        "import os, sys; from pathlib import Path\n"
        "from plmsearch.database import open_database; from plmsearch.exchange import merging\n"
        "merging.sync_tree = lambda work: os._exit(9)\n"
        "a, b, out = map(Path, sys.argv[1:])\n"
        "merging.merge([open_database(a), open_database(b)], out)\n"
    )
    died = subprocess.run([sys.executable, "-c", script, *map(str, pair), str(tmp_path / "out")], check=False)
    assert died.returncode == 9 and not (tmp_path / "out").exists()
    assert cli("merge", *pair, "-o", tmp_path / "out").code == 0
    assert_sound(tmp_path / "out")
    assert not (tmp_path / ".out.incomplete").exists()


def test_ctrl_c_says_that_nothing_was_made(pair, tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("plmsearch.exchange.merging.sync_tree", interrupt)
    done = cli("merge", *pair, "-o", tmp_path / "out")
    assert done.code == 130 and "was not made" in done.err
    assert nothing_is_left_of(tmp_path / "out")


AS_NOBODY = """
import json, os, sys
from pathlib import Path
from plmsearch.cli import main
from plmsearch.exchange import merging
from plmsearch.database import open_database
a, b, out, scratch = map(Path, sys.argv[1:])
merging.merge([open_database(a), open_database(b)], scratch)
if os.getuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
report = merging.merge([open_database(a), open_database(b)], out)
print(json.dumps([report.n_rows, os.access(a, os.W_OK)]))
"""


def test_databases_that_may_not_be_written_are_merged(tmp_path_factory):
    with tempfile.TemporaryDirectory(prefix="plmsearch-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "mine").mkdir()
        (folder / "mine").chmod(0o777)
        for one in ("a", "b"):
            make_db(folder / one, [(one, SEQUENCES[0])])
            (folder / one).chmod(0o555)
        paths = [folder / "a", folder / "b", folder / "mine" / "out", folder / "scratch"]
        ran = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, *map(str, paths)], capture_output=True, text=True, check=False
        )
        for one in ("a", "b"):
            (folder / one).chmod(0o755)
        assert ran.returncode == 0, ran.stderr
        assert json.loads(ran.stdout) == [2, False]
        assert list(contents(folder / "mine" / "out")) == ["a", "b"]
