"""All against all: every stored record as a query, against plain numpy over all pairs."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support import cli, make_db, peptides, watched_kmer

from plmsearch import all_pairs, searcher
from plmsearch.database import Database, open_database
from plmsearch.errors import (
    DatabaseSpacesMismatch,
    EmbeddingError,
    EmbeddingSpecMismatch,
    FilterError,
    ParameterError,
)
from plmsearch.ingest import chunks, queries
from plmsearch.ingest.report import AddReport
from plmsearch.optimize import optimize
from plmsearch.search.hits import Found, Hit, Query, SearchOptions
from plmsearch.search.remembered import Remembered
from plmsearch.sequences import SequenceRecord

ATOL = 1e-6
DELETED = ("r3", "r40", "r77")


def family_records(n: int, seed: int, prefix: str = "r") -> list[SequenceRecord]:
    """Mutants of a few random strings; every third record has the sequence of an earlier one, far away."""
    rng = random.Random(seed)
    founders = peptides(6, seed=seed, shortest=60)
    made: list[str] = []
    for i in range(n):
        if i % 3 == 2:
            made.append(rng.choice(made))
            continue
        letters = list(founders[i % 6])
        for place in rng.sample(range(len(letters)), 1 + i % 20):
            letters[place] = rng.choice("ACDEFGHIKLMNPQRSTVWY")
        made.append("".join(letters))
    return [SequenceRecord(f"{prefix}{i}", s, f"about {i}", {"n": i}) for i, s in enumerate(made)]


RECORDS = family_records(90, seed=1)
OTHERS = [*family_records(40, seed=1, prefix="o"), RECORDS[5]]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two databases of several segments; three records of the first are deleted."""
    folder = tmp_path_factory.mktemp("all-pairs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "_MAX_ROWS", 25)
        make_db(folder / "one", RECORDS)
        make_db(folder / "two", OTHERS)
    with open_database(folder / "one") as db:
        db.delete(DELETED)
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "copy"))


@pytest.fixture
def one(folder: Path) -> Iterator[Database]:
    with open_database(folder / "one") as db:
        yield db


@pytest.fixture
def two(folder: Path) -> Iterator[Database]:
    with open_database(folder / "two") as db:
        yield db


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pages for the queries, and several for the records of their hits."""
    monkeypatch.setattr(queries, "QUERIES_AT_ONCE", 8)
    monkeypatch.setattr(searcher, "_JOINED_AT_ONCE", 30)


def live(db: Database) -> list[SequenceRecord]:
    given = RECORDS if db.path.name == "one" else OTHERS
    return [r for r in given if db.path.name != "one" or r.record_id not in DELETED]


def cosines(theirs: Database, ours: Database) -> np.ndarray:
    """Cosine similarity of each query with each target, in float64."""
    q, t = (db.vectors([r.record_id for r in live(db)]).astype(np.float64) for db in (theirs, ours))
    return (q / np.linalg.norm(q, axis=1)[:, None]) @ (t / np.linalg.norm(t, axis=1)[:, None]).T


Allowed = Callable[[SequenceRecord, SequenceRecord], bool]


def expected(theirs: Database, ours: Database, allowed: Allowed, *, unique: bool) -> list[dict[str, float]]:
    """The score of every target that may be a hit, for each query."""
    answers = []
    for query, row in zip(live(theirs), cosines(theirs, ours), strict=True):
        scores: dict[str, float] = {}
        seen: set[str] = set()
        for target, score in zip(live(ours), row.tolist(), strict=True):
            if allowed(query, target) and not (unique and target.sequence in seen):
                scores[target.record_id] = score
                seen.add(target.sequence)
        answers.append(scores)
    return answers


WISHES: dict[str, tuple[SearchOptions, Allowed]] = {
    "plain": (SearchOptions(), lambda q, t: True),
    "exclude self": (
        SearchOptions(exclude_self=True),
        lambda q, t: (q.record_id, q.sequence) != (t.record_id, t.sequence),
    ),
    "exclude identical": (SearchOptions(exclude_identical=True), lambda q, t: q.sequence != t.sequence),
    "unique": (SearchOptions(unique=True), lambda q, t: True),
    "where": (
        SearchOptions(where="n < 30 or n > 80", exclude_identical=True),
        lambda q, t: not 30 <= t.metadata["n"] <= 80 and q.sequence != t.sequence,
    ),
}


@pytest.mark.parametrize("n_bytes", [0, 1500, 64 << 20])
@pytest.mark.parametrize("queried", ["one", "two"])
@pytest.mark.parametrize("wish", WISHES)
def test_hits_are_those_of_numpy_over_all_pairs(one, two, monkeypatch, wish, queried, n_bytes):
    monkeypatch.setattr(all_pairs, "_REMEMBERED_BYTES", n_bytes)
    options, allowed = WISHES[wish]
    theirs = one if queried == "one" else two
    found = list(one.search_all(theirs, k=7, options=options))
    assert [q.query_id for q, _ in found] == [r.record_id for r in live(theirs)]
    truth = expected(theirs, one, allowed, unique=options.unique)
    for (query, hits), scores in zip(found, truth, strict=True):
        best = sorted(scores.values(), reverse=True)[:7]
        assert {h.query for h in hits} == {query.query_id}
        assert [h.rank for h in hits] == list(range(1, len(best) + 1))
        np.testing.assert_allclose([h.score for h in hits], best, atol=ATOL)
        np.testing.assert_allclose([h.score for h in hits], [scores[h.target] for h in hits], atol=ATOL)


@pytest.mark.parametrize("threshold", [-1, 0.3, 0.7, 1])
@pytest.mark.parametrize("unique", [False, True])
def test_a_threshold_gives_every_pair_above_it(one, two, threshold, unique):
    options = SearchOptions(threshold=threshold, unique=unique, exclude_self=True)
    allowed = WISHES["exclude self"][1]
    for theirs in (one, two):
        truth = expected(theirs, one, allowed, unique=unique)
        found = list(one.search_all(theirs, options=options))
        for (_, hits), scores in zip(found, truth, strict=True):
            surely = {t for t, score in scores.items() if score >= threshold + ATOL}
            perhaps = {t for t, score in scores.items() if score >= threshold - ATOL}
            assert surely <= {h.target for h in hits} <= perhaps
            assert len({h.target for h in hits}) == len(hits)
            assert hits == sorted(hits, key=lambda h: -h.score)


def test_each_distinct_sequence_is_searched_once_and_no_model_is_loaded(one, monkeypatch):
    n_searched = []
    real = searcher._neighbours

    def counted(index, vectors, *wishes):
        n_searched.append(len(vectors))
        return real(index, vectors, *wishes)

    monkeypatch.setattr(searcher, "_neighbours", counted)
    with watched_kmer(monkeypatch) as passes:
        assert len(list(one.search_all(one, k=3))) == len(live(one))
    assert passes == []
    assert sum(n_searched) == len({r.sequence for r in live(one)}) < len(live(one))
    assert max(n_searched) <= 8


def test_hits_are_those_of_asking_for_each_record_by_its_id(one):
    options = SearchOptions(k=4, rerank="align", n_candidates=20)
    ids = [r.record_id for r in live(one)][:20]
    by_id = list(one.search_stored(ids, one.ranking(), options))
    assert list(one.search_all(one, k=4, options=options))[:20] == by_id


def test_hits_come_while_queries_are_still_read(one, monkeypatch):
    n_read = []
    real = one.repository.all_records

    def watched(**wishes):
        for record in real(**wishes):
            n_read.append(record)
            yield record

    monkeypatch.setattr(one.repository, "all_records", watched)
    results = one.search_all(one, k=1)
    assert n_read == []
    next(results)
    assert len(n_read) == 8


def test_what_is_added_or_deleted_meanwhile_is_no_query_and_what_is_gone_no_hit(one, folder):
    results = one.search_all(one, k=5)
    first = [next(results) for _ in range(8)]
    with open_database(folder / "one") as writer:
        writer.add([SequenceRecord("new", RECORDS[0].sequence)])
        gone = [r.record_id for r in live(one)][-20:]
        writer.delete(gone)
        optimize(writer)
    rest = list(results)
    assert [q.query_id for q, _ in [*first, *rest]] == [r.record_id for r in live(one)][:-20]
    assert not {h.target for _, hits in rest[8:] for h in hits} & set(gone)
    assert all(len(hits) == 5 for _, hits in rest)


def test_an_empty_database_has_no_hits(one, folder):
    with open_database(folder / "one") as db:
        db.delete([r.record_id for r in live(one)])
        assert list(db.search_all(db)) == []


@pytest.mark.parametrize(
    ("wishes", "error"),
    [
        ({"k": 0}, ParameterError),
        ({"space": "kmer/0/whole/mean"}, ParameterError),
        ({"options": SearchOptions(where="nn = 3")}, FilterError),
        ({"options": SearchOptions(index="hnsw")}, ParameterError),
    ],
)
def test_what_can_be_refused_is_refused_by_the_call(one, wishes, error):
    with pytest.raises(error):
        one.search_all(one, **wishes)


# --- Spaces --------------------------------------------------------------------------------------


def test_another_space_is_a_mismatch_that_names_both_and_the_command_that_mends_it(one, tmp_path):
    path = make_db(tmp_path / "layer0", OTHERS[:4], layers="0")
    with open_database(path) as other:
        with pytest.raises(DatabaseSpacesMismatch) as caught:
            one.search_all(other)
        error = caught.value
        assert isinstance(error, EmbeddingSpecMismatch)
        assert error.stored == one.space().spec.describe()
        assert error.asked == other.space().spec.describe()
    command = f"plmsearch embed {path} --model kmer --layers 1 --pool mean --preset whole"
    assert str(error).endswith(command)
    assert cli(*command.split()[1:]).code == 0
    with open_database(path) as other:
        assert [h[0].score for _, h in one.search_all(other, k=1)] == pytest.approx([1] * 4)


def test_a_database_without_vectors_is_refused(one, tmp_path):
    path = make_db(tmp_path / "empty", OTHERS[:1])
    with open_database(path) as other:
        other.delete([OTHERS[0].record_id])
        assert list(one.search_all(other)) == []
    with open_database(path) as other, pytest.MonkeyPatch.context() as patch:
        patch.setattr(other, "spaces", list)
        with pytest.raises(EmbeddingError, match="holds no vectors yet"):
            one.search_all(other)


@pytest.fixture
def mixed(folder: Path, tmp_path: Path) -> Path:
    """A database where two records are vectors of one space, and another space was computed later."""
    path = make_db(tmp_path / "mixed", OTHERS[:5])
    vectors = np.random.default_rng(0).standard_normal((2, 512)).astype(np.float32)
    np.savez(tmp_path / "x.npz", ids=np.array(["x0", "x1"]), embeddings=vectors)
    assert cli("import", path, tmp_path / "x.npz", "--space", "kmer/1/whole/mean").code == 0
    for database in (path, folder / "one"):
        assert cli("embed", database, "--layers", 0).code == 0
    return path


def test_records_without_a_vector_in_the_space_are_named_and_the_others_searched(one, mixed):
    report = AddReport()
    with open_database(mixed) as other:
        found = list(one.search_all(other, k=1, space="kmer/0/whole/mean", report=report))
        assert len(list(one.search_all(other, k=1))) == 7
    assert [q.query_id for q, _ in found] == [r.record_id for r in OTHERS[:5]]
    assert (report.n_rows, report.n_skipped) == (7, 2)
    assert [(row.source, row.record_id) for row in report.skipped] == [(str(mixed), "x0"), (str(mixed), "x1")]
    assert {row.reason for row in report.skipped} == {"it has no vector in the space kmer/0/whole/mean"}


def test_records_without_residues_are_named_where_hits_are_aligned(one, mixed):
    report, options = AddReport(), SearchOptions(rerank="align")
    with open_database(mixed) as other:
        found = list(one.search_all(other, k=1, options=options, report=report))
    assert [q.query_id for q, _ in found] == [r.record_id for r in OTHERS[:5]]
    assert [row.record_id for row in report.skipped] == ["x0", "x1"]
    assert {row.reason for row in report.skipped} == {"its sequence is not known: it cannot be aligned"}


def test_external_vectors_are_searched_too(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    np.savez(tmp_path / "x.npz", ids=np.array([f"x{i}" for i in range(6)]), embeddings=vectors)
    assert cli("import", tmp_path / "db", tmp_path / "x.npz", "--space", "mine").code == 0
    with open_database(tmp_path / "db") as db:
        found = list(db.search_all(db, k=1))
    assert [(q.query_id, hits[0].target) for q, hits in found] == [(f"x{i}", f"x{i}") for i in range(6)]


# --- Command line --------------------------------------------------------------------------------


def rows_of(found: Iterator[tuple[Query, list[Hit]]]) -> list[list[str]]:
    return [[h.query, h.target, str(h.rank), f"{h.score:.6f}"] for _, hits in found for h in hits]


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        (("-k", 3), SearchOptions(k=3)),
        (("-k", 3, "--exclude-self", "--unique"), SearchOptions(k=3, exclude_self=True, unique=True)),
        (("--threshold", 0.8), SearchOptions(threshold=0.8)),
        (("-k", 2, "--where", "n > 50"), SearchOptions(k=2, where="n > 50")),
    ],
)
@pytest.mark.parametrize("queried", ["one", "two"])
def test_the_command_prints_what_the_method_finds(one, two, folder, flags, options, queried):
    ended = cli("query", folder / "one", folder / queried, *flags)
    assert ended.code == 0, ended.err
    theirs = one if queried == "one" else two
    assert [row[:4] for row in ended.rows] == rows_of(one.search_all(theirs, k=options.k, options=options))


@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl", "parquet", "fasta", "table", "m8", "pairwise"])
def test_every_format_takes_them(folder, tmp_path, kind):
    aligned = ("--rerank", "align") if kind in {"m8", "pairwise"} else ()
    ended = cli(
        "query", folder / "one", folder / "two", "-k", 1, "--format", kind, "-o", tmp_path / "out", *aligned
    )
    assert ended.code == 0, ended.err
    assert (tmp_path / "out").stat().st_size > 0


def test_left_out_records_are_named_and_end_in_exit_code_3(folder, mixed):
    ended = cli("query", folder / "one", mixed, "-k", 1, "--space", "kmer/0/whole/mean")
    assert ended.code == 3
    assert [row[0] for row in ended.rows] == [r.record_id for r in OTHERS[:5]]
    reason = "it has no vector in the space kmer/0/whole/mean"
    assert f"left out: record 'x1' ({mixed}): {reason}" in ended.err


def test_a_database_stands_alone(folder, tmp_path):
    (tmp_path / "in.fasta").write_text(">a\nEVQLVESGGGLVQPGG\n")
    for inputs in ((folder / "two", tmp_path / "in.fasta"), (folder / "one", folder / "two")):
        ended = cli("query", folder / "one", *inputs)
        assert ended.code == 2
        assert "is a database: give it alone" in " ".join(ended.err.replace("│", " ").split())
    assert cli("query", folder / "one", folder / "two", "--id", "r1").code == 2


def test_a_mismatch_ends_in_exit_code_1_and_prints_no_hit(folder, tmp_path):
    path = make_db(tmp_path / "layer0", OTHERS[:4], layers="0")
    ended = cli("query", folder / "one", path)
    assert (ended.code, ended.out) == (1, "")
    assert "plmsearch embed" in ended.err


def test_explain_counts_on_all_queries(folder):
    ended = cli("query", folder / "one", folder / "one", "-k", 1, "--explain")
    assert ended.code == 0
    assert "search: exact" in ended.err


# --- Memory --------------------------------------------------------------------------------------


def test_what_is_remembered_is_bounded_and_forgotten():
    found = Found(np.zeros(10, dtype=np.float32), np.arange(10), np.ones(10), np.ones(10))
    remembered = Remembered(3 * (280 + 700))
    for i in (1, 2, 3, 4, 1):
        remembered.keep(i, found)
    assert [i in remembered for i in (1, 2, 3, 4)] == [True, True, True, False]
    np.testing.assert_array_equal(remembered[2][1], np.arange(10))
    remembered.drop(2)
    remembered.drop(9)
    remembered.keep(4, found)
    assert 4 in remembered
    remembered.clear()
    remembered.keep(5, found)
    assert 1 not in remembered and 5 in remembered


@pytest.mark.parametrize(
    ("n_wanted", "n_vectors", "n"), [(10, 10**6, 512), (10**9, 10**6, 16), (10**9, 10**9, 1), (10, 0, 512)]
)
def test_fewer_queries_are_searched_at_once_where_each_finds_many(monkeypatch, n_wanted, n_vectors, n):
    monkeypatch.setattr(queries, "QUERIES_AT_ONCE", 512)
    assert queries.queries_at_once(n_wanted, n_vectors) == n
