"""P-values and E-values of hits: through a database they are what the method says of its vectors."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support import cli, make_db, peptides

from plmsearch.backup import backup, restore
from plmsearch.database import open_database
from plmsearch.errors import ParameterError
from plmsearch.exchange.merging import merge
from plmsearch.formats.fasta import read_fasta
from plmsearch.index.base import Block
from plmsearch.nulls import refresh_nulls
from plmsearch.numbering import ImmunumNumberer
from plmsearch.optimize import optimize
from plmsearch.overview import overview
from plmsearch.rankings import RankingChanges
from plmsearch.repair import repair
from plmsearch.search.hits import SearchOptions
from plmsearch.search.nulls import KnownNull, gather, read_null
from plmsearch.search.relatives import Cdr3Relation, HomologyRelation
from plmsearch.search.significance import NoNull, NullDistribution, NullFacts, draw_sample, fit_null
from plmsearch.sequences import SequenceRecord
from plmsearch.store import repository as repository_module
from plmsearch.store.directory import Layout
from plmsearch.store.repository import Repository
from plmsearch.store.rows import StoredNull
from plmsearch.store.session import open_writer
from plmsearch.verify import verify

N = 240


def mutated(residues: str, seed: int) -> str:
    rng = random.Random(seed)
    return "".join(rng.choice("ACDEFGHIKLMNPQRSTVWY") if rng.random() < 0.2 else r for r in residues)


RANDOM = peptides(N, seed=21, shortest=60)
#: Families of four in the midst of strangers, and records that share a sequence.
RECORDS = [SequenceRecord(f"r{i}", s, "", {"half": str(i % 2), "n": str(i)}) for i, s in enumerate(RANDOM)]
RECORDS += [
    SequenceRecord(f"m{i}", mutated(RANDOM[i // 3], i), "", {"half": "0", "n": str(N + i)}) for i in range(30)
]
RECORDS += [SequenceRecord(f"twin{i}", RANDOM[i], "", {"half": "1", "n": str(N + 30 + i)}) for i in range(5)]
SEQUENCES = [r.sequence for r in RECORDS[:-5]]
QUERIES = [*RANDOM[:6], mutated(RANDOM[3], 99), *peptides(3, seed=31)]


#: Vectors have no residues, so p-values have to be asked for.
ASKED = SearchOptions(significance=True)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return make_db(tmp_path_factory.mktemp("nulls") / "db", RECORDS)


@pytest.fixture
def path(kept, tmp_path):
    return shutil.copytree(kept, tmp_path / "db")


def unit(vectors):
    vectors = vectors.astype(np.float64)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def stored_nulls(path):
    with open_database(path) as db:
        return {
            (r.name, n.locus): read_null(n) for r in db.rankings() for n in db.repository.nulls(r.ranking_id)
        }


def only_null(path):
    (found,) = stored_nulls(path).values()
    return found


def by_target(hits):
    return {h.target: h for h in hits}


def forget(path):
    """Leave a database as an upgrade leaves it."""
    with open_writer(path) as repository:
        for ranking in repository.rankings():
            repository.set_nulls(
                ranking.ranking_id, [], {n.locus for n in repository.nulls(ranking.ranking_id)}
            )


# --- The oracle ----------------------------------------------------------------------------------


def test_the_stored_null_is_the_one_of_the_method(kept):
    with open_database(kept) as db:
        vectors = unit(db.vectors([r.record_id for r in RECORDS[:-5]]))
    ids = np.arange(1, len(SEQUENCES) + 1)
    expected = fit_null(vectors, ids, HomologyRelation(SEQUENCES, SEQUENCES))
    found = only_null(kept)
    assert isinstance(expected, NullDistribution)
    assert isinstance(found.null, NullDistribution)
    assert (found.n_sequences, found.seed, found.null.facts.n_sample) == (len(SEQUENCES), 0, len(SEQUENCES))
    assert found.null.facts.exponent == pytest.approx(expected.facts.exponent, rel=1e-4)
    assert found.null.facts.median_distance == pytest.approx(expected.facts.median_distance, rel=1e-4)
    np.testing.assert_array_equal(found.null.ids, ids)


def expected_pvalues(path, queries, vectors):
    """By the method, from all stored vectors; column i is that of sequence i + 1."""
    with open_database(path) as db:
        stored = unit(db.vectors([r.record_id for r in RECORDS[:-5]]))
    null = only_null(path).null
    relation = HomologyRelation(queries, SEQUENCES) if any(queries) else None
    return null.of(unit(vectors), stored, relation).pvalues(unit(vectors) @ stored.T)


def query_vectors(tmp_path, queries):
    made = make_db(tmp_path / "queries", [(f"q{i}", q) for i, q in enumerate(queries)])
    with open_database(made) as db:
        return db.vectors([f"q{i}" for i in range(len(queries))])


@pytest.mark.parametrize("k", [3, 400])
def test_hits_have_the_p_values_of_the_method_and_e_values_for_distinct_sequences(kept, tmp_path, k):
    vectors = query_vectors(tmp_path, QUERIES)
    expected = expected_pvalues(kept, QUERIES, vectors)
    with open_database(kept) as db:
        answers = db.search(QUERIES, k=k)
    places = {r.record_id: SEQUENCES.index(r.sequence) for r in RECORDS}
    for row, hits in zip(expected, answers, strict=True):
        assert len(hits) == min(k, len(RECORDS))
        for hit in hits:
            # Among the sample itself p is a share of ranks: two that score the same may change places.
            rel = 5e-3 if hit.emb_pvalue < 9.9 / len(SEQUENCES) else 0.12
            assert hit.emb_pvalue == pytest.approx(row[places[hit.target]], rel=rel, abs=1e-15)
            assert hit.emb_evalue == pytest.approx(len(SEQUENCES) * hit.emb_pvalue)
        p = [hit.emb_pvalue for hit in hits]
        assert p == sorted(p)
    assert answers[0][0].emb_pvalue == 0  # itself


def test_queries_that_are_vectors_have_p_values_without_relatives_left_out(kept, tmp_path):
    vectors = query_vectors(tmp_path, QUERIES)
    expected = expected_pvalues(kept, [""] * len(QUERIES), vectors)
    with open_database(kept) as db:
        answers = db.search(vectors, k=5, options=SearchOptions(unique=True, significance=True))
        unasked = db.search(vectors, k=5)
    for row, hits in zip(expected, answers, strict=True):
        np.testing.assert_allclose([h.emb_pvalue for h in hits], np.sort(row)[:5], rtol=5e-3, atol=1e-9)
    assert {h.emb_pvalue for hits in unasked for h in hits} == {None}, "only where residues are known"


def test_all_ways_to_ask_say_the_same(kept):
    ids = ["r1", "m4", "twin2"]
    with open_database(kept) as db:
        stored = {q.query_id: hits for q, hits in db.search_all(db, k=6)}
        by_id = dict(
            zip(ids, (h for _, h in db.search_stored(ids, db.ranking(), SearchOptions(k=6))), strict=True)
        )
        by_residues = dict(zip(ids, db.search([r.residues for r in db.get(ids)], k=6), strict=True))
    for name in ids:
        for way in (by_id, by_residues):
            assert [h.target for h in way[name]] == [h.target for h in stored[name]]
            expected = [h.emb_pvalue for h in stored[name]]
            assert [h.emb_pvalue for h in way[name]] == pytest.approx(expected, rel=1e-3, abs=1e-9)
    assert [h.emb_evalue for h in stored["twin2"]] == [h.emb_evalue for h in stored["r2"]]  # remembered


def test_vectors_without_residues_have_a_null_too(tmp_path):
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(200, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", vectors)
    (tmp_path / "x.tsv").write_text("id\n" + "".join(f"v{i}\n" for i in range(200)))
    assert cli("import", tmp_path / "db", tmp_path / "x.npy", "--records", tmp_path / "x.tsv").code == 0
    expected = fit_null(unit(vectors), np.arange(200), None)
    assert isinstance(expected, NullDistribution)
    queries = rng.normal(size=(7, 8)).astype(np.float32)
    p = expected.of(unit(queries), unit(vectors), None).pvalues(unit(queries) @ unit(vectors).T)
    with open_database(tmp_path / "db") as db:
        for row, hits in zip(p, db.search(queries, k=4, options=ASKED), strict=True):
            np.testing.assert_allclose([h.emb_pvalue for h in hits], np.sort(row)[:4], rtol=5e-3)


# --- What was searched ---------------------------------------------------------------------------


@pytest.mark.parametrize(("where", "keep"), [("half = 1", lambda r: r.metadata["half"] == "1"), (None, bool)])
def test_e_values_count_distinct_sequences_after_filters_and_deletes(path, where, keep):
    with open_database(path, create=True) as db:
        db.delete(["r0", "r7", "twin1", "m2"])  # r0 and twin1 share their sequence with a live record
        options = SearchOptions(where=where)
        gone = {"r0", "r7", "twin1", "m2"}
        n_searched = len({r.sequence for r in RECORDS if keep(r) and r.record_id not in gone})
        for hits in db.search(QUERIES, options=options):
            for hit in hits:
                assert hit.emb_evalue == pytest.approx(n_searched * hit.emb_pvalue)


def test_other_options_keep_the_values(kept):
    with open_database(kept) as db:
        plain = [by_target(hits) for hits in db.search(QUERIES, k=300)]
        for options in (
            SearchOptions(rerank="align", sort="bits"),
            SearchOptions(threshold=0.1),
            SearchOptions(unique=True, exclude_self=True),
        ):
            for known, hits in zip(plain, db.search(QUERIES, k=4, options=options), strict=True):
                for hit in hits:
                    expected = known[hit.target]
                    assert hit.emb_evalue == pytest.approx(expected.emb_evalue, rel=1e-3, abs=1e-9)


def test_max_emb_evalue_leaves_out_what_is_larger(kept):
    with open_database(kept) as db:
        whole = db.search(QUERIES, k=20)
        for largest in (0.0, 0.01, 1.0):
            kept_hits = db.search(QUERIES, k=20, options=SearchOptions(max_emb_evalue=largest))
            expected = [[h.target for h in hits if h.emb_evalue <= largest] for hits in whole]
            assert [[h.target for h in hits] for hits in kept_hits] == expected
            assert 0 < sum(map(len, expected)) < 200


def test_significance_can_be_left_out(kept):
    with open_database(kept) as db:
        (hits,) = db.search(QUERIES[:1], options=SearchOptions(significance=False))
    assert {h.emb_pvalue for h in hits} == {None}
    with pytest.raises(ParameterError, match="left out where significance is"):
        SearchOptions(max_emb_evalue=1, significance=False)
    with pytest.raises(ParameterError, match="0 or more"):
        SearchOptions(max_emb_evalue=-1)


# --- Where there is none -------------------------------------------------------------------------


def refused(path, **how):
    with open_database(path) as db:
        hits = db.search(QUERIES[:2], **how)
        assert {h.emb_evalue for one in hits for h in one} == {None}
        with pytest.raises(ParameterError) as told:
            db.search(QUERIES[:2], options=SearchOptions(max_emb_evalue=1), **how)
    return str(told.value)


def test_a_tiny_database_says_why(tmp_path):
    make_db(tmp_path / "db", RECORDS[:60])
    assert "60 distinct sequences, fewer than 101" in refused(tmp_path / "db")


def test_a_database_of_one_family_says_why(tmp_path):
    make_db(tmp_path / "db", [(f"f{i}", mutated(RANDOM[0], i)) for i in range(140)])
    assert "half of the sequences have" in refused(tmp_path / "db")


def test_a_ranking_that_was_put_together_says_why(tmp_path):
    make_db(tmp_path / "db", RECORDS, layers="1,0")
    both = "kmer/1/whole/mean=1,kmer/0/whole/mean=1"
    assert "put together for this search" in refused(tmp_path / "db", ranking=both)
    with open_database(tmp_path / "db", create=True) as db:
        optimize(db, rankings=RankingChanges(add=both))
        (hits,) = db.search(QUERIES[:1], ranking=both)
        assert None not in {h.emb_evalue for h in hits}


def test_before_the_first_build_after_an_upgrade_it_says_so(path):
    forget(path)
    assert "no null distribution has been built yet: plmsearch optimize" in refused(path)
    assert "no emb_evalue: no null distribution yet" in cli("info", path).out
    with open_database(path, create=True) as db:
        db.add([("late", "WWYYHHKKDDEEFFGGWWYY")])
        assert None not in {h.emb_evalue for h in db.search(QUERIES[:1])[0]}


# --- Built and refreshed -------------------------------------------------------------------------


@pytest.fixture
def builds(monkeypatch):
    """The builds so far."""
    found = []
    known = Repository.set_nulls

    def watched(self, ranking_id, made, loci):
        found.append([m.locus for m in made])
        known(self, ranking_id, made, loci)

    monkeypatch.setattr(Repository, "set_nulls", watched)
    return found


def test_a_null_is_built_anew_when_a_fifth_of_the_sequences_is_new(path, builds):
    n = len(SEQUENCES)
    fresh = [(f"x{i}", s) for i, s in enumerate(peptides(n // 5 + 1, seed=77, shortest=60))]
    with open_database(path, create=True) as db:
        db.add(RECORDS)
        assert builds == []
        db.add(fresh[: n // 5])
        assert builds == []
        assert only_null(path).n_sequences == n
        db.add(fresh)
        assert builds == [[""]]
        assert only_null(path).n_sequences == n + n // 5 + 1
        optimize(db)
        assert builds == [[""], [""]]


def test_deletes_are_noticed_by_the_next_index(path, builds):
    with open_database(path, create=True) as db:
        db.delete(where="n < 70")
        assert builds == []
        db.add([("late", "WWYYHHKKDDEEFFGGWWYY")])
        assert builds == [[""]]
        live = {r.sequence for r in RECORDS if int(r.metadata["n"]) >= 70}
        assert only_null(path).n_sequences == len(live) + 1


def test_optimize_draws_by_its_seed_and_drops_what_is_gone(path):
    with open_database(path, create=True) as db:
        db.delete(["r9", "r10"])
        (hits,) = db.search(QUERIES[:1])  # the sample still has the sequences of deleted records
        assert hits[0].emb_pvalue == 0
    assert cli("optimize", path, "--seed", 4).code == 0
    found = only_null(path)
    assert (found.seed, found.n_sequences) == (4, len(SEQUENCES) - 2)
    assert not {10, 11}.intersection(found.null.ids.tolist())


def test_a_sample_whose_vectors_are_partly_gone_still_serves(path):
    """As between two commits of an optimization."""
    with open_database(path, create=True) as db:
        before = only_null(path)
        db.delete(["r9", "r10"])
        optimize(db)
        with open_writer(path) as repository:
            repository.set_nulls(1, [before.stored(1)], set())
        (hits,) = db.search(QUERIES[:1])
        assert 0 < hits[5].emb_pvalue < 1


def test_a_fitted_transform_gets_a_null_of_its_own(path):
    with open_database(path, create=True) as db:
        optimize(db, rankings=RankingChanges(fit="centre"))
        nulls = stored_nulls(path)
        assert {name for name, _ in nulls} == {"kmer/1/whole/mean", "kmer/1/whole/mean+centre"}
        (hits,) = db.search(QUERIES[:1], ranking="kmer/1/whole/mean+centre")
        assert None not in {h.emb_evalue for h in hits}
        optimize(db, rankings=RankingChanges(drop="kmer/1/whole/mean+centre"))
        assert {name for name, _ in stored_nulls(path)} == {"kmer/1/whole/mean"}


def test_a_query_changes_no_file(path):
    def files():
        return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in path.rglob("*") if p.is_file()}

    forget(path)
    before = files()
    with open_database(path) as db:
        db.search(QUERIES)
    assert cli("query", path, "--seq", QUERIES[0]).code == 0
    assert files() == before


def test_a_damaged_vector_file_does_not_stop_index(path):
    with open_database(path, create=True) as db:
        for file in Layout(path).segments.iterdir():
            file.write_bytes(file.read_bytes()[:-8])
        shutil.rmtree(Layout(path).derived)
        forget(path)
        db.add([("late", "WWYYHHKKDDEEFFGGWWYY")])
        assert stored_nulls(path) == {}
        repair(db)
    assert isinstance(only_null(path).null, NullDistribution)


# --- By locus ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def antibodies(tmp_path_factory, examples):
    """Simulated chains with k-mer vectors that a transform by locus moves."""
    rng = np.random.default_rng(1)
    centres = {name: rng.random(512).astype(np.float32) / 512 for name in ("", "IGH", "IGK", "IGL")}
    heavy, light = (
        [(r.record_id, r.sequence) for r in read_fasta(examples / f, f)]
        for f in ("heavy.fasta", "light.fasta")
    )
    path = tmp_path_factory.mktemp("antibodies") / "db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repository_module, "reference_centres", lambda spec: centres)
        make_db(path, [*heavy, *light, ("other", RANDOM[0])])
    return path, centres, heavy, light


@pytest.fixture(scope="module")
def examples():
    return Path(__file__).resolve().parents[1] / "examples"


def cdr3_of(residues):
    return ImmunumNumberer().domains(residues)[0].regions["cdr3"]


def test_each_locus_has_its_own_null_or_its_own_reason(antibodies):
    path, centres, heavy, _ = antibodies
    found = {locus: known for (_, locus), known in stored_nulls(path).items()}
    assert found.keys() == {"", "IGH", "IGK", "IGL"}
    distinct = sorted({s for _, s in heavy}, key=[s for _, s in heavy].index)
    with open_database(path) as db:
        raw = db.vectors([next(i for i, s in heavy if s == one) for one in distinct])
    vectors = unit(raw - centres["IGH"])
    cdr3 = [cdr3_of(s) for s in distinct]
    expected = fit_null(vectors, np.arange(len(distinct)), Cdr3Relation(cdr3, cdr3))
    assert isinstance(expected, NullDistribution)
    assert isinstance(found["IGH"].null, NullDistribution)
    assert found["IGH"].null.facts.exponent == pytest.approx(expected.facts.exponent, rel=1e-3)
    assert (found["IGH"].n_sequences, list(found["IGH"].cdr3)) == (len(distinct), cdr3)
    for locus in ("IGK", "IGL"):
        assert isinstance(found[locus].null, NoNull)
        assert "fewer than 101" in found[locus].null.reason
    assert "no locus can be told" in found[""].null.reason
    assert found[""].n_sequences == 1


def test_only_targets_of_the_query_s_locus_have_values_and_only_they_are_counted(antibodies):
    path, _, heavy, light = antibodies
    is_heavy = {i for i, _ in heavy}
    n_heavy = len({s for _, s in heavy})
    with open_database(path) as db:
        (hits,) = db.search([heavy[0][1]], k=len(heavy) + len(light) + 1)
        for hit in hits:
            assert (hit.emb_pvalue is not None) == (hit.target in is_heavy)
            if hit.emb_pvalue is not None:
                assert hit.emb_evalue == pytest.approx(n_heavy * hit.emb_pvalue)
        for other in (light[0][1], RANDOM[1]):
            assert {h.emb_pvalue for h in db.search([other])[0]} == {None}
        vectors = db.vectors([heavy[0][0]])
        for locus, is_known in (("IGH", True), ("IGL", False), ("", False)):
            (found,) = db.search(vectors, k=1, loci=[locus], options=ASKED)
            assert (found[0].emb_pvalue is not None) == is_known
        strict = db.search([heavy[0][1], light[0][1]], k=400, options=SearchOptions(max_emb_evalue=1e9))
        assert [len(one) for one in strict] == [len(heavy), 0]


def test_relatives_by_cdr3_are_left_out_of_the_null_of_a_query(antibodies):
    path, centres, heavy, _ = antibodies
    known = next(n for (_, locus), n in stored_nulls(path).items() if locus == "IGH")
    with open_database(path) as db:
        ids = [r.record_id for r in db.get([i for i, _ in heavy])]
        by_sequence = {}
        for name, s in heavy:
            by_sequence.setdefault(s, name)
        vectors = unit(db.vectors(list(by_sequence.values())) - centres["IGH"])
        queries = list(by_sequence)[::40]
        answers = [by_target(hits) for hits in db.search(queries, k=2000)]
    relation = Cdr3Relation([cdr3_of(q) for q in queries], known.cdr3)
    own = vectors[::40]
    expected = known.null.of(own, vectors, relation).pvalues(own @ vectors.T)
    for row, hits in zip(expected, answers, strict=True):
        found = [hits[name].emb_pvalue for name in by_sequence.values()]
        np.testing.assert_allclose(found, row, rtol=0.02, atol=1e-9)
    assert ids


def test_heavy_chains_of_the_examples_that_align_with_each_other_say_why(tmp_path, examples):
    make_db(
        tmp_path / "db", [(r.record_id, r.sequence) for r in read_fasta(examples / "heavy.fasta", "heavy")]
    )
    assert "half of the sequences have 0 unrelated ones" in refused(tmp_path / "db")


# --- Commands ------------------------------------------------------------------------------------


def test_every_format_has_the_values(kept, tmp_path):
    with open_database(kept) as db:
        (expected,) = db.search(QUERIES[6:7], k=3)
    command = ("query", kept, "--seq", QUERIES[6], "-k", 3)
    tsv = cli(*command)
    assert [row[4:6] for row in tsv.rows] == [
        [f"{h.emb_pvalue:.3g}", f"{h.emb_evalue:.3g}"] for h in expected
    ]
    assert "empty" not in tsv.err
    lines = [json.loads(line) for line in cli(*command, "--format", "jsonl").out.splitlines()]
    assert [line["emb_evalue"] for line in lines] == pytest.approx([h.emb_evalue for h in expected])
    file = tmp_path / "hits.parquet"
    assert cli(*command, "--format", "parquet", "-o", file).code == 0
    assert pl.read_parquet(file)["emb_pvalue"].to_list() == pytest.approx([h.emb_pvalue for h in expected])
    assert f"{expected[0].emb_evalue:.3g}" in cli(*command, "--format", "table").out
    chosen = cli(*command, "--format-output", "emb_evalue,target")
    assert chosen.rows == [[f"{h.emb_evalue:.3g}", h.target] for h in expected]
    few = cli(*command, "--unique", "--max-emb-evalue", expected[0].emb_evalue * 1.01)
    assert [row[1] for row in few.rows] == [expected[0].target]


def test_a_run_without_any_value_says_why_once(path):
    forget(path)
    command = ("query", path, "--seq", QUERIES[0], "--seq", QUERIES[1])
    told = "plmsearch: emb_pvalue and emb_evalue are empty: no null distribution has been built yet"
    assert cli(*command).err.count(told) == 1
    assert cli(*command, "-q").err == ""
    assert told not in cli(*command, "--no-significance").err
    assert told not in cli(*command, "--format-output", "target").err
    ended = cli(*command, "--max-emb-evalue", 1)
    assert ended.code == 1
    assert "no null distribution has been built yet" in ended.err


def test_a_run_whose_queries_have_none_says_so(antibodies):
    ended = cli("query", antibodies[0], "--seq", antibodies[3][0][1])
    assert "each query is of a locus without a null distribution" in ended.err


def test_info_shows_what_there_is(antibodies, kept):
    text = cli("info", kept).out
    assert f"null distribution of {len(SEQUENCES)} of {len(SEQUENCES)} sequences, exponent " in text
    with open_database(antibodies[0]) as db:
        (ranking,) = overview(db).rankings
    shown = {n.locus: n for n in ranking.nulls}
    assert shown["IGH"].exponent > 0
    assert (shown["IGK"].exponent, shown["IGK"].reason) == (None, shown["IGK"].description.partition(": ")[2])
    assert json.loads(cli("info", antibodies[0], "--json").out)["rankings"][0]["nulls"][1]["locus"] == "IGH"
    assert "            IGH: null distribution of" in cli("info", antibodies[0]).out


def test_optimize_prints_what_it_built(path):
    assert (
        f"significance of kmer/1/whole/mean: null distribution of {len(SEQUENCES)}"
        in cli("optimize", path).err
    )


# --- Storage -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cdr3", [(), ("ARDY", "", "AR")])
def test_what_is_stored_is_read_back(cdr3):
    null = NullDistribution(NullFacts(6.5, 2.25, 10, 3, 3, 0.125), np.array([4, 9, 2**40]))
    known = KnownNull("IGH", null, 17, 5, cdr3)
    back = read_null(known.stored(7))
    assert (back.null.facts, back.cdr3, back.n_sequences, back.seed) == (null.facts, cdr3, 17, 5)
    np.testing.assert_array_equal(back.null.ids, null.ids)
    none = KnownNull("", NoNull("tiny", 3), 3, 0)
    assert read_null(none.stored(7)) == none


WHOLE = KnownNull(
    "", NullDistribution(NullFacts(6.5, 2.25, 10, 3, 3, 0.1), np.arange(3)), 3, 0, ("A", "AA", "")
).stored(1)


@pytest.mark.parametrize(
    ("facts", "data"),
    [
        ("", WHOLE.data),
        ("{}", WHOLE.data),
        ("[1]", WHOLE.data),
        (WHOLE.facts.replace("rate", "rates"), WHOLE.data),
        (WHOLE.facts, WHOLE.data[:-1]),
        (WHOLE.facts, WHOLE.data + b"A"),
        (WHOLE.facts, WHOLE.data[:10]),
        (WHOLE.facts, b""),
        (WHOLE.facts, WHOLE.data[:-1] + b"\xff"),
    ],
)
def test_what_cannot_be_read_is_told(facts, data, path):
    with pytest.raises(ValueError, match="cannot be read"):
        read_null(StoredNull(1, "", facts, data))
    with open_writer(path) as repository:
        repository.set_nulls(1, [StoredNull(1, "", facts, data)], set())
    with open_database(path, create=True) as db:
        (found,) = verify(db)
        assert (found.severity, found.where) == ("rebuildable", "ranking kmer/1/whole/mean")
        assert found.remedy == f"plmsearch optimize {path}"
        assert "cannot be read: plmsearch optimize" in refused(path)
        optimize(db)
        assert verify(db) == []


def test_a_null_of_a_ranking_that_is_gone_is_damage(path):
    with sqlite3.connect(path / "catalog.sqlite") as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("UPDATE nulls SET ranking_id = 99")
    with open_database(path) as db:
        problems = [f.problem for f in verify(db)]
    assert any("nulls refers to rows of rankings that are not there" in p for p in problems)


def test_vectors_are_gathered_by_id_from_many_blocks():
    rng = np.random.default_rng(0)
    ids = rng.permutation(100)
    vectors = rng.random((100, 3)).astype(np.float32)
    blocks = [Block(vectors[a : a + 30], ids[a : a + 30]) for a in range(0, 100, 30)]
    wanted = np.array([3, 50, 99, 200])
    places, found = gather(blocks, wanted)
    assert places.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(found, vectors[[int(np.flatnonzero(ids == i)[0]) for i in (3, 50, 99)]])


def test_backup_restore_and_merge_bring_nulls(path, tmp_path):
    with open_database(path) as db:
        before = [h.emb_evalue for h in db.search(QUERIES[:1])[0]]
        backup(db, tmp_path / "copy")
    restore(tmp_path / "copy", tmp_path / "back")
    with open_database(tmp_path / "back") as db:
        assert [h.emb_evalue for h in db.search(QUERIES[:1])[0]] == before
    make_db(tmp_path / "second", [(f"x{i}", s) for i, s in enumerate(peptides(130, seed=5, shortest=60))])
    with open_database(path) as one, open_database(tmp_path / "second") as two:
        merge([one, two], tmp_path / "merged")
    assert only_null(tmp_path / "merged").n_sequences == len(SEQUENCES) + 130


def test_the_sample_is_the_one_that_is_drawn_by_the_seed(path, monkeypatch):
    monkeypatch.setattr(draw_sample, "__defaults__", (150,))
    with open_writer(path) as repository:
        (outcome,) = refresh_nulls(repository, Layout(path), anew=True, seed=9)
    found = only_null(path)
    assert outcome.description.startswith(f"null distribution of 150 of {len(SEQUENCES)} sequences")
    expected = np.sort(np.random.default_rng(9).choice(np.arange(1, len(SEQUENCES) + 1), 150, replace=False))
    np.testing.assert_array_equal(found.null.ids, expected)
    np.testing.assert_array_equal(draw_sample(np.arange(1, len(SEQUENCES) + 1), 9), expected)
