"""Search: scores and order against plain numpy, and every way to ask."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import VH, VL, cli, make_db, peptides, watched_kmer, write_fasta

from plmsearch.database import open_database
from plmsearch.embedding.embed import embed_sequences, plan_of
from plmsearch.embedding.registry import load_embedder
from plmsearch.errors import (
    DimensionMismatch,
    InvalidResidueError,
    InvalidVectorError,
    NucleotideSequenceError,
    ParameterError,
)
from plmsearch.index import planner
from plmsearch.ingest import chunks, queries
from plmsearch.ingest.report import AddOptions, AddReport
from plmsearch.search.hits import Hit, SearchOptions
from plmsearch.sequences import SequenceRecord

N = 150


def mutated(residues: str, rng: random.Random, n: int) -> str:
    letters = list(residues)
    for place in rng.sample(range(len(letters)), n):
        letters[place] = rng.choice("ACDEFGHIKLMNPQRSTVWY")
    return "".join(letters)


def relatives() -> list[SequenceRecord]:
    """Families of mutants, so that scores differ; a third of the records share a sequence."""
    rng = random.Random(5)
    founders = peptides(10, seed=5, shortest=60)
    made = [mutated(founders[i % 10], rng, i % 25) for i in range(2 * N // 3)]
    made += rng.sample(made, N - len(made))
    return [SequenceRecord(f"r{i}", s, f"family {i % 10}", {"n": i}) for i, s in enumerate(made)]


RECORDS = relatives()
BY_ID = {r.record_id: r for r in RECORDS}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of several segments."""
    folder = tmp_path_factory.mktemp("reader") / "db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "_MAX_ROWS", 40)
        return make_db(folder, RECORDS)


@pytest.fixture
def db(path: Path):
    with open_database(path) as opened:
        yield opened


def oracle(db, vector: np.ndarray) -> dict[str, float]:
    """Cosine similarity to every record, in float64."""
    ids = [r.record_id for r in RECORDS]
    stored = db.vectors(ids).astype(np.float64)
    unit = stored / np.linalg.norm(stored, axis=1, keepdims=True)
    query = vector.astype(np.float64)
    return dict(zip(ids, unit @ (query / np.linalg.norm(query)), strict=True))


def assert_agrees(hits: list[Hit], truth: dict[str, float], k: int) -> None:
    """Scores of the oracle, in its order wherever its scores differ."""
    assert len(hits) == min(k, len(truth))
    assert [h.rank for h in hits] == list(range(1, len(hits) + 1))
    np.testing.assert_allclose([h.score for h in hits], [truth[h.target] for h in hits], atol=1e-6)
    best = sorted(truth.values(), reverse=True)[:k]
    np.testing.assert_allclose([h.score for h in hits], best, atol=1e-6)
    assert len({h.target for h in hits}) == len(hits)


# --- Against the oracle --------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 10, N, N + 7])
@pytest.mark.parametrize("n_pairs", [0, 20_000_000], ids=["faiss", "numpy"])
def test_scores_and_order_are_those_of_plain_numpy(db, monkeypatch, k, n_pairs):
    monkeypatch.setattr(planner, "_NUMPY_PAIRS", n_pairs)
    asked = [mutated(RECORDS[i].sequence, random.Random(i), 4) for i in (0, 7, 33)]
    spec = db.space().spec
    embedded = embed_sequences(load_embedder("kmer"), asked, plan_of([spec])).vectors[spec.layer]
    for hits, vector in zip(db.search(asked, k=k), embedded, strict=True):
        assert_agrees(hits, oracle(db, vector), k)


@pytest.mark.parametrize("by", ["residues", "vectors", "ids"])
def test_every_record_finds_itself_or_its_like_at_rank_1(db, by):
    ids = [r.record_id for r in RECORDS]
    if by == "residues":
        found = db.search([r.sequence for r in RECORDS], k=1)
    elif by == "vectors":
        found = db.search(db.vectors(ids) * 3.7, k=1)
    else:
        found = [hits for _, hits in db.search_stored(ids, db.ranking(), SearchOptions(k=1))]
    for record, hits in zip(RECORDS, found, strict=True):
        assert BY_ID[hits[0].target].sequence == record.sequence
        assert 0.9999 <= hits[0].score <= 1


def test_real_chains_find_themselves_with_a_real_model(tmp_path, shared_data):
    lines = (shared_data / "antibodies" / "sars2_paired.tsv").read_text("utf-8").splitlines()[1:]
    rows = [tuple(line.split("\t")[:2]) for line in random.Random(1).sample(lines, 16)]
    path = make_db(tmp_path / "db", rows, model="antiberty")
    with open_database(path) as db:
        for (_, residues), hits in zip(rows, db.search([s for _, s in rows], k=3), strict=True):
            assert hits[0].residues == residues
            assert hits[0].score >= 0.9999
            assert hits[1].score < hits[0].score


def test_records_of_one_sequence_are_hits_each_in_order_of_insertion(db):
    shared = next(r.sequence for r in RECORDS if sum(o.sequence == r.sequence for o in RECORDS) > 1)
    carriers = [r.record_id for r in RECORDS if r.sequence == shared]
    (hits,) = db.search([shared], k=len(carriers) + 1)
    assert [h.target for h in hits[:-1]] == carriers
    assert len({h.score for h in hits[:-1]}) == 1
    (fewer,) = db.search([shared], k=1)
    assert [h.target for h in fewer] == carriers[:1], "k counts records"


def test_a_hit_carries_its_record(db):
    (hits,) = db.search([SequenceRecord("mine", RECORDS[4].sequence)], k=1)
    (hit,) = hits
    record = BY_ID[hit.target]
    assert (hit.query, hit.residues, hit.description) == ("mine", record.sequence, record.description)
    assert dict(hit.metadata) == {"n": str(record.metadata["n"])}
    assert hit.emb_pvalue is None


def test_nothing_depends_on_the_order_of_the_queries_or_their_neighbours(db):
    asked = [mutated(r.sequence, random.Random(9), 3) for r in RECORDS[:20]]
    together = db.search(asked, k=5)
    turned = db.search(asked[::-1], k=5)[::-1]
    alone = [db.search([s], k=5)[0] for s in asked]
    for a, b, c in zip(together, turned, alone, strict=True):
        assert [h.target for h in a] == [h.target for h in b] == [h.target for h in c]
        np.testing.assert_allclose([h.score for h in a], [h.score for h in c], atol=1e-6)


@settings(max_examples=15)
@given(
    k=st.integers(1, 12),
    min_score=st.none() | st.floats(-1, 1),
    exclude_self=st.booleans(),
    exclude_identical=st.booleans(),
    number=st.integers(0, N - 1),
)
def test_wishes_are_a_filter_over_the_full_ranking(
    path, k, min_score, exclude_self, exclude_identical, number
):
    asked = RECORDS[number]
    with open_database(path) as db:
        (everything,) = db.search([asked], k=N)
        options = SearchOptions(k, min_score, exclude_self, exclude_identical)
        (found,) = db.search([asked], k=k, options=options)
    expected = [
        h.target
        for h in everything
        if not (exclude_identical and BY_ID[h.target].sequence == asked.sequence)
        and not (exclude_self and h.target == asked.record_id)
        and (min_score is None or h.score >= min_score)
    ]
    assert [h.target for h in found] == expected[:k]
    assert [h.rank for h in found] == list(range(1, len(found) + 1))


# --- Ways to ask ---------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_1_is_refused(db, k):
    with pytest.raises(ParameterError, match=f"k is {k}; it must be at least 1"):
        db.search([VH], k=k)


def test_no_queries_give_no_hits(db):
    assert db.search([]) == []
    assert db.search(np.empty((0, 512), dtype=np.float32)) == []


@pytest.mark.parametrize("asked", [VH, np.ones(512, dtype=np.float32)], ids=["string", "vector"])
def test_one_query_that_is_not_in_a_list_is_refused(db, asked):
    with pytest.raises(ParameterError, match="a list of sequences, or an array of shape"):
        db.search(asked)


def test_vectors_that_cannot_be_compared_are_refused(db):
    with pytest.raises(DimensionMismatch, match="vectors have 3 dimensions, the space has 512"):
        db.search(np.ones((2, 3), dtype=np.float32))
    vectors = db.vectors(["r1", "r2"])
    vectors[1, 5] = np.nan
    with pytest.raises(InvalidVectorError, match="vector 1"):
        db.search(vectors)
    with pytest.raises(InvalidVectorError, match="all zero"):
        db.search(np.zeros((1, 512), dtype=np.float32))


def test_vectors_of_any_float_type_are_taken_and_not_changed(db):
    vectors = db.vectors(["r3"]).astype(np.float64) * 2
    before = vectors.copy()
    (hits,) = db.search(vectors, k=1)
    assert hits[0].query == "query_1"
    assert BY_ID[hits[0].target].sequence == BY_ID["r3"].sequence
    np.testing.assert_array_equal(vectors, before)


def test_queries_are_normalised_and_judged_like_records(db):
    (raised,) = db.search([VH.lower() + "*"], k=1)
    (plain,) = db.search([VH], k=1)
    assert raised == plain
    with pytest.raises(InvalidResidueError, match="record 'query_2'"):
        db.search([VH, "EV*QL"])
    with pytest.raises(NucleotideSequenceError):
        db.search(["GAGGTGCAGCTGGTGGAGTCTGG"])


def test_a_file_of_queries_is_validated_whole_before_the_first_forward_pass(path, tmp_path, monkeypatch):
    rows = [(f"q{i}", s) for i, s in enumerate(peptides(600))]
    source = write_fasta(tmp_path / "q.fasta", [*rows, ("last", "EV*QL")])
    with watched_kmer(monkeypatch) as passes:
        ended = cli("query", path, source)
    assert (ended.code, ended.out, passes) == (1, "", [])
    assert f"record 'last' ({source}, record 601)" in ended.err


def test_output_order_is_input_order_across_blocks_of_queries(path, tmp_path):
    rng = random.Random(2)
    rows = [(f"q{i}", rng.choice(RECORDS).sequence) for i in range(1100)]
    ended = cli("query", path, write_fasta(tmp_path / "q.fasta", rows), "-k", 2)
    assert ended.code == 0
    expected = [record_id for record_id, _ in rows for _ in range(2)]
    assert [row[0] for row in ended.rows] == expected
    assert [row[2] for row in ended.rows] == ["1", "2"] * 1100
    found = [BY_ID[row[1]].sequence for row in ended.rows[::2]]
    assert found == [s for _, s in rows]


def test_what_happened_to_the_queries_is_reported(db):
    report = AddReport()
    given = [
        SequenceRecord("a", VH.lower(), row=1),
        SequenceRecord("b", "EV*QL", source="q.fasta", row=2),
        SequenceRecord("c", VL, row=3),
    ]
    policy = AddOptions(on_invalid="skip")
    found = list(db.search_records(given, db.ranking(), SearchOptions(), policy=policy, report=report))
    assert [query.query_id for query, _ in found] == ["a", "c"]
    assert (report.n_rows, report.n_skipped, report.n_embedded) == (3, 1, 2)
    assert report.changes == {"lowercase": 1}
    assert [(s.record_id, s.source, s.row) for s in report.skipped] == [("b", "q.fasta", 2)]


def test_a_damaged_or_missing_derived_file_changes_no_score(path, tmp_path):
    copy = Path(shutil.copytree(path, tmp_path / "db"))
    with open_database(path) as db:
        before = db.search([VH], k=20)
    first, *others = sorted((copy / "derived").iterdir())
    first.write_bytes(b"\0" * first.stat().st_size)
    others[0].unlink()
    with open_database(copy) as db:
        after = db.search([VH], k=20)
    assert [h.target for h in after[0]] == [h.target for h in before[0]]
    np.testing.assert_allclose([h.score for h in after[0]], [h.score for h in before[0]], atol=1e-6)


# --- Output --------------------------------------------------------------------------------------


def test_every_format_says_the_same(path, tmp_path):
    command = (
        "query",
        path,
        "--id",
        "r1",
        "-k",
        4,
        "--format-output",
        "query,target,rank,score,n,description",
    )
    rows = cli(*command, "--format", "tsv").rows
    as_csv = [line.split(",") for line in cli(*command, "--format", "csv").out.splitlines()[1:]]
    assert as_csv == rows
    as_json = [json.loads(line) for line in cli(*command, "--format", "jsonl").out.splitlines()]
    assert [[r["query"], r["target"], r["rank"], r["n"]] for r in as_json] == [
        [r[0], r[1], int(r[2]), int(r[4])] for r in rows
    ]
    assert all(f"{j['score']:.6f}" == r[3] for j, r in zip(as_json, rows, strict=True))
    assert cli(*command, "--format", "parquet", "-o", tmp_path / "hits.parquet").code == 0
    frame = pl.read_parquet(tmp_path / "hits.parquet")
    assert frame.columns == ["query", "target", "rank", "score", "n", "description"]
    assert frame["target"].to_list() == [r[1] for r in rows]
    assert frame["n"].dtype == pl.Int64
    fasta = cli(*command, "--format", "fasta").out
    headers = [line[1:].split()[0] for line in fasta.splitlines() if line.startswith(">")]
    assert headers == [r[1] for r in rows]
    assert BY_ID[headers[0]].sequence in fasta.replace("\n", "")
    assert "score" in cli(*command, "--format", "table").out.splitlines()[0]


@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl", "fasta", "table"])
def test_a_file_holds_what_standard_output_gets(path, tmp_path, kind):
    command = ("query", path, "--id", "r1", "--format", kind)
    out = cli(*command)
    to_file = cli(*command, "-o", tmp_path / "hits")
    assert (to_file.code, to_file.out) == (0, "")
    assert (tmp_path / "hits").read_text("utf-8") == out.out
    assert [p.name for p in tmp_path.iterdir()] == ["hits"]


def test_a_failure_leaves_no_half_file_and_an_older_one_as_it_was(path, tmp_path):
    good = peptides(520)
    source = write_fasta(tmp_path / "q.fasta", [*((f"q{i}", s) for i, s in enumerate(good)), ("bad", "E*V")])
    assert cli("query", path, source, "-o", tmp_path / "hits.tsv").code == 1
    (tmp_path / "old.tsv").write_text("older hits")
    assert cli("query", path, source, "-o", tmp_path / "old.tsv").code == 1
    assert (tmp_path / "old.tsv").read_text() == "older hits"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old.tsv", "q.fasta"]


def test_a_failure_in_the_middle_of_the_output_leaves_no_half_file(path, tmp_path, monkeypatch):
    source = write_fasta(tmp_path / "q.fasta", [(f"q{i}", s) for i, s in enumerate(peptides(1030))])
    with watched_kmer(monkeypatch) as passes:
        embed, calls = queries.embed_units, []

        def failing(*arguments, **named):
            calls.append(1)
            if len(calls) == 2:
                raise ParameterError("device", "cuda:0", "one that does not vanish")
            return embed(*arguments, **named)

        monkeypatch.setattr(queries, "embed_units", failing)
        ended = cli("query", path, source, "-o", tmp_path / "hits.tsv")
    assert ended.code == 1
    assert passes
    assert [p.name for p in tmp_path.iterdir()] == ["q.fasta"]
