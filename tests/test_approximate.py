"""Approximate search: as good as it says, never short of hits, and never needed."""

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import cli

from plmsearch import indexing
from plmsearch.backup import backup, restore
from plmsearch.database import open_database
from plmsearch.errors import ParameterError, StorageError
from plmsearch.exchange.importing import ImportOptions, import_vectors
from plmsearch.formats.vectors import open_vectors
from plmsearch.index import faiss_index
from plmsearch.index.approximate import ENGINE_KINDS, ApproximateIndex, build_engine, write_engine
from plmsearch.index.base import Block, Neighbours
from plmsearch.index.exact import ExactIndex
from plmsearch.index.faiss_index import inner_products
from plmsearch.index.planner import Costs, choose_search
from plmsearch.index.recall import measure, recalls
from plmsearch.indexing import kind_for
from plmsearch.optimize import optimize
from plmsearch.repair import repair
from plmsearch.search.hits import SearchOptions
from plmsearch.vectors import unit_vectors
from plmsearch.verify import verify

N, DIM, HELD = 4000, 32, 300


def clustered(n, seed):
    """Simulated: clusters, as families of proteins make them, of different width; the same for all seeds."""
    rng = np.random.default_rng(1)
    centres, widths = rng.standard_normal((60, DIM)), rng.uniform(0.1, 0.7, 60)
    rng = np.random.default_rng([1, seed])
    of = rng.integers(0, 60, n)
    return (centres[of] + rng.standard_normal((n, DIM)) * widths[of, None]).astype(np.float32)


# --- Engines -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def blocks():
    unit, ids = unit_vectors(clustered(N, 1), DIM), np.arange(N) * 3 + 7
    return [Block(unit[:1500], ids[:1500]), Block(unit[1500:], ids[1500:])]


@pytest.fixture(scope="module", params=ENGINE_KINDS)
def engine(request, blocks):
    order = np.random.default_rng(2).permutation(N)
    built = build_engine(request.param, blocks, order[:-HELD], seed=0)
    measured = measure(built, blocks, order[-HELD:], 0.95)
    built = build_engine(request.param, blocks, order, seed=0)
    return built, measured


def index_of(engine, covered, effort, fresh=()):
    return ApproximateIndex(covered, ExactIndex(list(fresh), DIM), DIM, engine, effort, ExactIndex)


def test_the_recall_that_is_measured_is_the_recall_of_other_queries(engine, blocks):
    built, measured = engine
    assert measured.recall >= 0.94
    queries = clustered(400, 9)
    truth = ExactIndex(blocks, DIM).search(queries, 10)
    found = index_of(built, blocks, measured.effort).search(queries, 10)
    assert recalls(found, truth).mean() >= measured.recall - 0.03
    # What it does find has the score that exact search gives, and comes in order.
    stored = {i: v for b in blocks for i, v in zip(b.ids.tolist(), b.vectors.astype(np.float64), strict=True)}
    unit = unit_vectors(queries, DIM).astype(np.float64)
    for query in range(0, 400, 40):
        expected = [stored[i] @ unit[query] for i in found.ids[query].tolist()]
        np.testing.assert_allclose(found.scores[query], expected, atol=1e-5)
    assert (np.diff(found.scores, axis=1) <= 0).all()
    assert all(len(set(row)) == 10 for row in found.ids.tolist())


@settings(max_examples=25)
@given(data=st.data())
def test_every_hit_that_a_filter_leaves_is_found_when_there_are_few(engine, blocks, data):
    built, _ = engine
    allowed = np.array(data.draw(st.lists(st.sampled_from(range(7, 7 + 3 * N, 3)), unique=True, max_size=60)))
    dead = (
        np.array(data.draw(st.lists(st.sampled_from(allowed.tolist()), unique=True)))
        if len(allowed)
        else allowed
    )
    covered = [Block(b.vectors, b.ids, np.intersect1d(b.ids, dead)) for b in blocks]
    k = data.draw(st.integers(1, 80))
    queries = clustered(3, data.draw(st.integers(0, 99)))
    found = index_of(built, covered, 8).search(queries, k, allowed=allowed.astype(np.int64))
    expected = ExactIndex(covered, DIM).search(queries, k, allowed=allowed.astype(np.int64))
    n_left = len(set(allowed.tolist()) - set(dead.tolist()))
    assert found.ids.shape == (3, min(k, n_left))
    assert set(found.ids.ravel().tolist()) <= set(allowed.tolist()) - set(dead.tolist())
    if k >= n_left:
        assert [set(r) for r in found.ids.tolist()] == [set(r) for r in expected.ids.tolist()]


def test_what_the_engine_does_not_hold_is_searched_exactly(engine, blocks):
    built, measured = engine
    fresh = unit_vectors(clustered(50, 77), DIM)
    index = index_of(built, blocks, measured.effort, [Block(fresh, np.arange(50) + 10**6)])
    assert index.search(fresh, 1).ids.ravel().tolist() == [i + 10**6 for i in range(50)]
    assert len(index) == N + 50


def test_an_index_file_that_cannot_be_written_is_a_typed_error_and_leaves_nothing(engine, tmp_path):
    """/dev/full is always full."""
    (tmp_path / "x").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="No space left"):
        write_engine(engine[0], tmp_path / "x")
    assert not (tmp_path / "x").is_symlink()


def test_recall_counts_any_of_those_at_the_same_distance():
    truth = Neighbours(np.array([[0.9, 0.5]], "f4"), np.array([[1, 2]]))
    assert recalls(Neighbours(np.array([[0.9, 0.5]], "f4"), np.array([[1, 3]])), truth).tolist() == [1.0]
    assert recalls(Neighbours(np.array([[0.9, 0.4]], "f4"), np.array([[1, 3]])), truth).tolist() == [0.5]


def test_a_recall_that_nothing_reaches_is_not_claimed(blocks):
    order = np.arange(N)
    engine = build_engine("ivf-pq", [Block(b.vectors, b.ids) for b in blocks], order[:-HELD], seed=0)
    shuffled = [Block(np.random.default_rng(5).permutation(b.vectors), b.ids) for b in blocks]
    assert measure(engine, shuffled, order[-HELD:], 0.99) is None


@pytest.mark.parametrize(
    ("n_queries", "n_selected", "file_bytes", "expected"),
    [
        (1, 10**6, 10**9, False),
        (1, 10**6, 0, True),
        (1000, 10**6, 10**9, True),
        (1000, 10**6 // 2, 10**9, True),
        (10**6, 10**4, 0, False),
        (10**6, 0, 0, False),
    ],
    ids=["cold", "warm", "many", "half", "selective", "nothing"],
)
def test_an_index_is_used_where_it_pays_and_never_behind_a_selective_filter(
    n_queries, n_selected, file_bytes, expected
):
    plan = choose_search(n_queries, n_selected, 512, Costs(10**6, file_bytes, 0.0005, 0.008))
    assert plan.use_engine is expected
    assert plan.reason


def test_a_wide_filter_and_deletes_lose_no_hits_and_change_no_scores(engine, blocks):
    """By the engine, which visits more; the oracle is exact search over what is left."""
    built, measured = engine
    rng = np.random.default_rng(6)
    ids = np.concatenate([b.ids for b in blocks])
    allowed, dead = rng.permutation(ids)[: int(0.6 * N)], np.sort(rng.choice(ids, 200, replace=False))
    covered = [Block(b.vectors, b.ids, np.intersect1d(b.ids, dead)) for b in blocks]
    queries = clustered(200, 12)
    for kept in (None, allowed):
        expected = ExactIndex(covered, DIM).search(queries, 10, allowed=kept)
        found = index_of(built, covered, measured.effort).search(queries, 10, allowed=kept)
        assert recalls(found, expected).mean() >= measured.recall - 0.04
        assert found.ids.shape == (200, 10)
        assert not np.isin(found.ids, dead).any()
        assert kept is None or np.isin(found.ids, kept).all()
        stored = {i: v for b in blocks for i, v in zip(b.ids.tolist(), b.vectors, strict=True)}
        unit = unit_vectors(queries, DIM)
        scores = [[stored[i] @ q for i in row] for row, q in zip(found.ids.tolist(), unit, strict=True)]
        np.testing.assert_allclose(found.scores, scores, atol=1e-5)


@pytest.mark.parametrize("sizes", [[N], [1000, 0, 1, 2999], [40] * (N // 40)])
def test_scores_do_not_depend_on_how_vectors_lie_in_files(engine, blocks, sizes):
    built, measured = engine
    vectors, ids = np.concatenate([b.vectors for b in blocks]), np.concatenate([b.ids for b in blocks])
    edges = np.cumsum([0, *sizes])
    cut = [Block(vectors[a:b], ids[a:b]) for a, b in pairwise(edges)]
    queries = clustered(20, 31)
    one = index_of(built, blocks, measured.effort).search(queries, 10)
    other = index_of(built, cut, measured.effort).search(queries, 10)
    assert np.array_equal(one.ids, other.ids)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)


def test_inner_products_are_those_of_numpy_for_mapped_and_strided_vectors(tmp_path):
    rng = np.random.default_rng(0)
    queries, vectors = rng.standard_normal((7, 24), dtype="f4"), rng.standard_normal((50, 24), dtype="f4")
    of, rows = rng.integers(0, 7, 1500), rng.integers(0, 50, 1500)
    np.save(tmp_path / "v.npy", vectors)
    expected = np.einsum("ij,ij->i", queries[of].astype("f8"), vectors[rows].astype("f8"))
    assert len(of) > faiss_index._FEW_PAIRS
    for same in (vectors, np.load(tmp_path / "v.npy", mmap_mode="r"), np.asfortranarray(vectors)):
        np.testing.assert_allclose(inner_products(queries, of, same, rows), expected, atol=1e-5)
        few = inner_products(queries, of[:9], same, rows[:9])
        np.testing.assert_allclose(few, expected[:9], atol=1e-5)
    assert inner_products(queries, of[:0], vectors, rows[:0]).shape == (0,)


@pytest.mark.parametrize(("of", "row"), [(7, 0), (0, 50), (-1, 0), (0, -1)])
def test_a_row_outside_its_array_is_refused_not_read(of, row):
    with pytest.raises(IndexError, match="of an array of"):
        inner_products(np.ones((7, 3), "f4"), np.array([0, of]), np.ones((50, 3), "f4"), np.array([0, row]))


def test_one_deleted_vector_makes_no_search_dearer_and_more_neighbours_make_it_visit_more(engine, blocks):
    built, _ = engine
    asked = []

    class Spy:
        kind, order, is_exact_in_scores = built.kind, built.order, built.is_exact_in_scores

        @staticmethod
        def propose(unit, n, effort, allowed):
            asked.append((effort, allowed is None))
            return built.propose(unit, n, effort, allowed)

    one_dead = [Block(blocks[0].vectors, blocks[0].ids, blocks[0].ids[:1]), blocks[1]]
    query = clustered(1, 2)
    index_of(Spy, blocks, 32).search(query, 10)
    index_of(Spy, one_dead, 32).search(query, 10)
    index_of(Spy, blocks, 32).search(query, 10, allowed=np.concatenate([b.ids for b in blocks])[::2])
    index_of(Spy, blocks, 32).search(query, 40)
    assert asked == [(32, True), (32, False), (61, False), (61, True)]


# --- A database ----------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """Sizes at which an index is of use, made small."""
    monkeypatch.setattr(indexing, "_LEAST_VECTORS", 2000)
    monkeypatch.setattr(indexing, "_HELD", HELD)


def put(path, vectors, prefix):
    folder = path.parent
    np.save(folder / f"{prefix}.npy", vectors)
    (folder / f"{prefix}.txt").write_text("".join(f"{prefix}{i}\n" for i in range(len(vectors))))
    with open_database(path, create=True) as db:
        file = open_vectors(folder / f"{prefix}.npy", records=folder / f"{prefix}.txt")
        import_vectors(db, file, ImportOptions(space="simulated"))


@pytest.fixture
def path(tmp_path, small):
    put(tmp_path / "db", clustered(N, 1), "r")
    return tmp_path / "db"


def targets(db, queries, **options):
    found = db.search(queries, k=10, options=SearchOptions(**options))
    return [[h.target for h in hits] for hits in found]


def index_file(path):
    (file,) = Path(path / "derived").glob("*.faiss")
    return file


def test_optimize_builds_measures_and_keeps_an_index(path):
    queries = clustered(100, 4)
    done = cli("optimize", path)
    assert done.code == 0
    assert "recall@10" in done.err
    with open_database(path) as db:
        facts = db.index_facts(db.ranking())
        assert facts.recall >= 0.98
        assert (facts.kind, facts.n_vectors, facts.n_queries) == ("ivf", N, HELD // 2)
        exact, near = targets(db, queries, index="exact"), targets(db, queries, index="ivf")
        assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, near, strict=True)]) >= 0.97
        assert verify(db, full=True) == []
    assert f"recall@10 {facts.recall:.4f}" in cli("info", path).out
    assert re.search(
        r"ivf \(chosen for 0.0 GB of codes, at most 25% of \d+ GB memory\)", cli("info", path).out
    )
    shown = json.loads(cli("info", path, "--json").out)["rankings"][0]["index"]
    assert shown["recall"] == facts.recall
    file, before = index_file(path), index_file(path).stat()
    again = cli("optimize", path)
    assert "fresh" in again.err
    assert index_file(path).stat() == before
    assert cli("optimize", path, "--index", "none").code == 0
    assert not file.exists()
    with open_database(path) as db:
        assert db.index_facts(db.ranking()) is None
        assert targets(db, queries) == exact


@pytest.mark.parametrize("kind", ENGINE_KINDS)
def test_new_records_are_found_at_once_and_deleted_ones_never(path, kind):
    with open_database(path, create=True) as db:
        optimize(db, index=indexing.IndexOptions(kind, 0.9))
        assert db.index_facts(db.ranking()).kind == kind
    fresh = clustered(30, 50)
    put(path, fresh, "new")
    choice = kind.partition("-")[0]
    with open_database(path, create=True) as db:
        assert [t[0] for t in targets(db, fresh, index=choice)] == [f"new{i}" for i in range(30)]
        doomed = {t for found in targets(db, fresh, index=choice) for t in found[:4]}
        db.delete(doomed)
        after = targets(db, fresh, index=choice)
        assert not doomed & {t for found in after for t in found}
        assert all(len(found) == 10 for found in after)


def test_a_recall_that_is_not_reached_leaves_exact_search_and_says_so(path, monkeypatch):
    monkeypatch.setattr(indexing, "measure", lambda *_: None)
    with open_database(path, create=True) as db:
        for kind in ("auto", "hnsw"):
            (outcome,) = optimize(db, index=indexing.IndexOptions(kind)).indexes
            assert outcome.facts is None
            assert "does not reach recall@10 0.99" in outcome.reason
        queries = clustered(5, 4)
        assert targets(db, queries) == targets(db, queries, index="exact")


@pytest.mark.parametrize(
    ("n_vectors", "dim", "kind"),
    [(49_999, 512, None), (50_000, 512, "ivf"), (10**7, 10**7, "ivf-pq")],
    ids=["small", "fits", "over a quarter of any memory"],
)
def test_the_kind_goes_by_size_and_memory(n_vectors, dim, kind):
    assert kind_for(n_vectors, dim)[0] == kind


def test_many_new_vectors_make_optimize_due(path):
    with open_database(path, create=True) as db:
        optimize(db)
    put(path, clustered(2500, 50), "new")
    out = cli("info", path).out
    assert "2,500 newer vectors are searched exactly" in out
    assert "optimize is due" in out
    assert "built: ivf" in cli("optimize", path).err
    with open_database(path) as db:
        assert db.index_facts(db.ranking()).n_vectors == N + 2500


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_damaged_index_is_not_used_is_named_and_is_made_anew(path, harm):
    queries = clustered(20, 4)
    with open_database(path, create=True) as db:
        optimize(db)
        exact = targets(db, queries, index="exact")
    file = index_file(path)
    content = bytearray(file.read_bytes())
    if harm == "remove":
        file.unlink()
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(content if harm == "flip" else content[:-100])
    with open_database(path, create=True) as db:
        assert targets(db, queries, index="ivf") == exact
        assert "missing or damaged" in db.explain(db.ranking(), SearchOptions(index="ivf"))[-1]
        (finding,) = verify(db) if harm != "flip" else verify(db, full=True)
        assert (finding.severity, finding.where) == ("rebuildable", f"derived/{file.name}")
        assert finding.remedy.startswith("plmsearch repair")
        repair(db)
        assert verify(db, full=True) == []
        assert db.index_facts(db.ranking()) is not None


def test_an_index_that_is_not_there_cannot_be_asked_for(path):
    queries = clustered(1, 4)
    with open_database(path, create=True) as db:
        with pytest.raises(ParameterError, match="plmsearch optimize --index"):
            db.search(queries, options=SearchOptions(index="ivf"))
        with pytest.raises(ParameterError, match="one of"):
            db.search(queries, options=SearchOptions(index="best"))
        optimize(db)
        with pytest.raises(ParameterError, match="there is ivf"):
            db.search(queries, options=SearchOptions(index="hnsw"))


def test_a_filtered_search_by_an_index_has_all_its_hits(path):
    with open_database(path, create=True) as db:
        optimize(db)
        queries = clustered(50, 4)
        for where in ("record_id like 'r1%'", "record_id < 'r5'", "record_id in ('r1', 'r2', 'r3')"):
            exact = targets(db, queries, where=where, index="exact")
            near = targets(db, queries, where=where, index="ivf")
            said = db.explain(db.ranking(), SearchOptions(where=where, index="ivf"))[-1]
            if "in (" in where:
                assert near == exact
                assert "the filter leaves 0.07%" in said
            assert [len(a) for a in near] == [len(a) for a in exact]
            assert np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(exact, near, strict=True)]) >= 0.95


def test_an_interrupted_build_leaves_the_old_index_and_no_file(path, monkeypatch):
    with open_database(path, create=True) as db:
        optimize(db)
        before = index_file(path)

        def interrupted(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(type(db.repository), "set_index", interrupted)
        with pytest.raises(KeyboardInterrupt):
            optimize(db, index=indexing.IndexOptions("ivf", 0.9))
        monkeypatch.undo()
        assert len(list((path / "derived").glob("*.faiss"))) == 2
        db.delete(["r1"])
        assert index_file(path) == before
        assert [f for f in verify(db, full=True) if f.severity != "note"] == []


def test_a_restored_database_is_whole_and_searched_exactly(path, tmp_path):
    queries = clustered(20, 4)
    with open_database(path, create=True) as db:
        optimize(db)
        exact = targets(db, queries, index="exact")
        backup(db, tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "restored")
    with open_database(tmp_path / "restored") as db:
        assert verify(db, full=True) == []
        assert targets(db, queries) == exact
        assert db.index_facts(db.ranking()) is None


def test_a_database_below_the_size_gets_no_index_and_says_why(tmp_path):
    put(tmp_path / "db", clustered(100, 1), "r")
    assert "exact search is quick below 50,000" in cli("optimize", tmp_path / "db").err
    assert "no use below" in cli("optimize", tmp_path / "db", "--index", "ivf").err
    assert cli("optimize", tmp_path / "db", "--index", "best").code == 1
