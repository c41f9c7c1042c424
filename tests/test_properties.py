"""What holds for every record, every vector and every history of a database."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support import VL, contents, make_db, peptides, write_fasta

from plmsearch.database import Database, open_database
from plmsearch.embedding.embed import embed_sequences, plan_of
from plmsearch.embedding.registry import load_embedder
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.errors import InvalidVectorError
from plmsearch.formats.read import open_input
from plmsearch.ingest.report import AddReport
from plmsearch.metadata import TypeInference, as_text, typed
from plmsearch.overview import ledger_rows
from plmsearch.sequences import RESIDUES, SequenceRecord, is_nucleotide

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
SEQUENCE = st.text(RESIDUES, min_size=1, max_size=40).filter(lambda s: not is_nucleotide(s))
VALUE = (
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_infinity=False, allow_nan=False)
    | TEXT
)
RECORD = st.builds(
    SequenceRecord,
    record_id=TEXT,
    sequence=SEQUENCE,
    description=TEXT | st.just(""),
    metadata=st.dictionaries(st.sampled_from(["a", "b b", "ü", "x.y", "'"]), VALUE, max_size=4),
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database to copy: making one takes longer than adding to it."""
    return make_db(tmp_path_factory.mktemp("template") / "db", [("seed", VL)], layers="0,1")


# --- Round trips ---------------------------------------------------------------------------------


@settings(max_examples=15)
@given(records=st.lists(RECORD, min_size=1, max_size=6, unique_by=lambda r: r.record_id))
def test_every_record_comes_back_as_it_went_in(template, records):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copytree(template, Path(folder) / "db"))
        with open_database(path, create=True) as db:
            report = db.add(records)
            assert report.n_added + report.n_renamed == len(records)
            kept = [r for r in records if r.record_id != "seed"]
            found = db.get([r.record_id for r in kept])
            texts = db.repository.records_by_id(r.record_id for r in kept)
            types = db.repository.metadata_columns()
        for given_, stored in zip(kept, found, strict=True):
            assert (stored.record_id, stored.residues) == (given_.record_id, given_.sequence)
            assert stored.description == given_.description
            text = texts[given_.record_id].metadata
            assert text == {n: as_text(v) for n, v in given_.metadata.items() if v is not None}
            assert stored.metadata == {n: typed(v, types[n]) for n, v in text.items()}


@given(st.lists(VALUE.filter(lambda v: v is not None), min_size=1, max_size=5))
def test_values_of_one_type_come_back_as_that_type(values):
    """Through text and the type of a column that held nothing else."""
    inference = TypeInference()
    texts = [as_text(v) for v in values]
    inference.observe(("column", t) for t in texts if t is not None)
    back = [typed(t, inference.types["column"]) for t in texts if t is not None]
    if len({type(v) for v in values}) == 1 and not isinstance(values[0], str):
        assert back == values
        assert {type(v) for v in back} == {type(values[0])}
    else:
        assert {type(v) for v in back} <= {str, int, float, bool}


@settings(max_examples=8)
@given(st.lists(st.tuples(st.text("abc|:._-é抗", min_size=1, max_size=8), SEQUENCE), min_size=1, max_size=6))
def test_fasta_written_from_a_database_gives_the_same_database(template, rows):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first, second = (Path(shutil.copytree(template, folder / n)) for n in ("first", "second"))
        with open_database(first, create=True) as db:
            db.add(rows)
        stored = contents(first)
        source = write_fasta(folder / "out.fasta", [(i, residues) for i, (residues, _, _) in stored.items()])
        with open_input(source) as given_, open_database(second, create=True) as db:
            db.add_inputs([given_])
        assert contents(second) == stored


# --- Vectors -------------------------------------------------------------------------------------

COMPONENT = st.floats(-1e6, 1e6, width=32)


@settings(max_examples=25)
@given(vectors=hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.just(512)), elements=COMPONENT))
def test_any_vectors_give_sorted_scores_in_range_or_an_error(template, vectors):
    with open_database(template) as db:
        if not vectors.any(axis=1).all():
            with pytest.raises(InvalidVectorError):
                db.search(vectors)
            return
        for hits in db.search(vectors, k=3):
            scores = [h.score for h in hits]
            assert scores == sorted(scores, reverse=True)
            assert all(-1 <= s <= 1 for s in scores)


@settings(max_examples=8)
@given(a=SEQUENCE, b=SEQUENCE)
def test_similarity_is_symmetric_and_1_for_a_sequence_with_itself(template, a, b):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copytree(template, Path(folder) / "db"))
        with open_database(path, create=True) as db:
            db.add([("a", a), ("b", b)])
            there = {h.target: h.score for h in db.search([a], k=3)[0]}
            back = {h.target: h.score for h in db.search([b], k=3)[0]}
    assert there["b"] == pytest.approx(back["a"], abs=1e-6)
    assert there["a"] == pytest.approx(1, abs=1e-6)


# --- Histories -----------------------------------------------------------------------------------

IDS = st.sampled_from(["x", "y", "x_2", "z"])
SEQUENCES = peptides(6, seed=21, longest=40)


class History(RuleBasedStateMachine):
    """Adding, embedding and reopening in any order, against a dictionary."""

    @initialize()
    def make(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.db: Database = open_database(self.folder / "db", create=True)
        self.expected: dict[str, str] = {}
        self.layers = {1}
        self.n_runs = 0

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.close()
            shutil.rmtree(self.folder)

    def name_for(self, record_id: str, residues: str) -> str:
        """The rule of renaming: X, X_2, X_3... until free or the same."""
        candidate, n = record_id, 1
        while self.expected.get(candidate, residues) != residues:
            n += 1
            candidate = f"{record_id}_{n}"
        return candidate

    def check(self, report: AddReport, rows: Iterable[tuple[str, str]]) -> None:
        n_new = 0
        for record_id, residues in rows:
            name = self.name_for(record_id, residues)
            n_new += name not in self.expected
            self.expected[name] = residues
        assert report.n_added + report.n_renamed == n_new
        assert report.n_rows == n_new + report.n_present
        self.n_runs += 1

    @rule(rows=st.lists(st.tuples(IDS, st.sampled_from(SEQUENCES)), min_size=1, max_size=5))
    def add(self, rows: list[tuple[str, str]]) -> None:
        self.check(self.db.add(rows, model="kmer"), rows)

    @precondition(lambda self: self.expected)
    @rule(layers=st.sampled_from([(0,), (1,), (0, 1)]))
    def embed(self, layers: tuple[int, ...]) -> None:
        before = self.layers
        self.layers = before | set(layers)
        report = self.db.embed(SpaceRequest("kmer", ",".join(map(str, layers))))
        n_sequences = len(set(self.expected.values()))
        assert report.n_embedded == (n_sequences if set(layers) - before else 0)
        self.n_runs += 1

    @rule()
    def reopen(self) -> None:
        self.db.close()
        self.db = open_database(self.folder / "db", create=True)

    @invariant()
    def it_holds_what_was_added(self) -> None:
        if not self.expected:
            return
        assert len(self.db) == len(self.expected)
        ids = list(self.expected)
        assert {r.record_id: r.residues for r in self.db.get(ids)} == self.expected
        embedder = load_embedder("kmer")
        spaces = {s.spec.layer: s for s in self.db.spaces()}
        assert spaces.keys() == self.layers
        for space in spaces.values():
            assert (space.n_vectors, space.is_complete) == (len(set(self.expected.values())), True)
            made = embed_sequences(embedder, list(self.expected.values()), plan_of([space.spec]))
            np.testing.assert_array_equal(
                self.db.vectors(ids, space=space.spec.name), made.vectors[space.spec.layer]
            )

    @invariant()
    def every_sequence_finds_itself_first(self) -> None:
        if not self.expected:
            return
        for residues, hits in zip(SEQUENCES, self.db.search(SEQUENCES, k=1), strict=True):
            assert (hits[0].residues == residues) == (residues in self.expected.values())

    @invariant()
    def every_run_accounts_for_its_rows(self) -> None:
        if not self.expected:
            return
        runs = self.db.repository.runs()
        assert len(runs) == self.n_runs
        rows = [r["row"] for r in ledger_rows(self.db, runs[-1].run_id)]
        assert rows == list(range(1, len(rows) + 1))


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=8, stateful_step_count=6)
