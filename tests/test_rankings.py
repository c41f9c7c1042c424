"""Rankings: what is searched is what numpy computes from the raw vectors, stored or put together."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import VH, VL, cli, make_db, records

import plmsearch
from plmsearch.database import open_database
from plmsearch.errors import ParameterError
from plmsearch.optimize import optimize
from plmsearch.rankings import RankingChanges
from plmsearch.repair import repair
from plmsearch.store import repository as repository_module
from plmsearch.store.directory import Layout
from plmsearch.verify import verify

N = 150
RECORDS = records(N, seed=5)
IDS = [record_id for record_id, _ in RECORDS]
QUERIES = [residues for _, residues in RECORDS[::31]]
ZERO, ONE = "kmer/0/whole/mean", "kmer/1/whole/mean"
BOTH = f"{ONE}=0.3,{ZERO}=0.7"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    path = tmp_path_factory.mktemp("rankings") / "db"
    make_db(path, RECORDS[:90], layers="1,0")
    make_db(path, RECORDS[90:], layers="1,0")
    return path


@pytest.fixture
def path(kept, tmp_path):
    return shutil.copytree(kept, tmp_path / "db")


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def cosines(db, queries, space, change=lambda x: x):
    """All scores by the definition, in float64: queries are stored sequences."""
    stored = change(db.vectors(IDS, space=space).astype(np.float64))
    places = [[residues for _, residues in RECORDS].index(q) for q in queries]
    return unit(stored[places]) @ unit(stored).T


def scores(db, queries, **how):
    """The scores of every record, in the order of IDS."""
    found = []
    for hits in db.search(queries, k=N, **how):
        by_id = {h.target: h.score for h in hits}
        assert [h.score for h in hits] == sorted(by_id.values(), reverse=True)
        found.append([by_id[i] for i in IDS])
    return np.array(found)


def change(path, **what):
    with open_database(path, create=True) as db:
        optimize(db, rankings=RankingChanges(**what))


# --- Several spaces ------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(a=st.floats(0.01, 100), b=st.floats(0.01, 100))
def test_the_score_is_the_mean_of_the_cosines_by_weight(kept, a, b):
    with open_database(kept) as db:
        found = scores(db, QUERIES, ranking=f"{ONE}={a!r},{ZERO}={b!r}")
        expected = (a * cosines(db, QUERIES, ONE) + b * cosines(db, QUERIES, ZERO)) / (a + b)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_a_stored_ranking_says_the_same_and_goes_on_with_new_and_deleted_records(path):
    fresh = [("new", "WWYYHHKKDDEEFFGGWWYY")]
    with open_database(path) as db:
        before = scores(db, QUERIES, ranking=BOTH)
    change(path, add=BOTH)
    with open_database(path, create=True) as db:
        stored = next(r for r in db.rankings() if r.name == BOTH)
        assert stored.ranking_id
        assert len([s for s in db.repository.segments(1) if stored.ranking_id in s.derived]) == 1
        np.testing.assert_allclose(scores(db, QUERIES, ranking=BOTH), before, atol=2e-6)
        db.add(fresh)
        (hits,) = db.search([fresh[0][1]], k=2, ranking=BOTH)
        assert (hits[0].target, hits[0].score) == ("new", pytest.approx(1, abs=1e-6))
        assert not db.repository.lacks_derived_files()
        db.delete(["new"])
        assert db.search([fresh[0][1]], k=1, ranking=BOTH)[0][0].target != "new"
        assert verify(db, full=True) == []


def test_weights_of_the_same_proportion_are_the_same_ranking(path):
    change(path, add=BOTH)
    with open_database(path) as db:
        same = db.ranking(f"{ONE}=3,{ZERO}=7")
        assert same.name == BOTH
        assert db.ranking(f"{ONE}=3,{ZERO}=6").ranking_id == 0


# --- Transforms ----------------------------------------------------------------------------------


def test_a_fitted_centre_is_the_mean_taken_off(path):
    change(path, fit="centre")
    with open_database(path) as db:
        found = scores(db, QUERIES, ranking=f"{ONE}+centre")
        expected = cosines(db, QUERIES, ONE, lambda x: x - x.mean(axis=0))
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(scores(db, QUERIES), cosines(db, QUERIES, ONE), atol=2e-6)
        assert verify(db, full=True) == []


def test_a_fitted_transform_is_one_of_several_parts(path):
    change(path, fit="centre", space=ZERO)
    with open_database(path) as db:
        found = scores(db, QUERIES, ranking=f"{ONE},{ZERO}+centre=3")
        centred = cosines(db, QUERIES, ZERO, lambda x: x - x.mean(axis=0))
        np.testing.assert_allclose(found, (cosines(db, QUERIES, ONE) + 3 * centred) / 4, atol=1e-5)


def test_fitted_anew_it_counts_up_and_moves_with_the_database(path):
    change(path, fit="centre")
    name = f"{ONE}+centre"
    with open_database(path, create=True) as db:
        before = scores_of(db, IDS, QUERIES, name)
        db.add([(f"new{i}", residues) for i, residues in records(100, seed=9)])
        np.testing.assert_allclose(scores_of(db, IDS, QUERIES, name), before, atol=1e-6)
    change(path, fit="centre")
    found = json.loads(cli("info", path, "--json").out)["rankings"]
    (fitted,) = (r for r in found if r["name"] == name)
    assert (fitted["parts"][0]["version"], fitted["parts"][0]["n_fitted"]) == (2, {"": N + 100})
    assert "version 2" in cli("info", path).out
    with open_database(path) as db:
        assert not np.allclose(scores_of(db, IDS, QUERIES, name), before, atol=1e-4)
        assert verify(db, full=True) == []


def scores_of(db, ids, queries, ranking):
    found = [{h.target: h.score for h in hits} for hits in db.search(queries, k=1000, ranking=ranking)]
    return np.array([[one[i] for i in ids] for one in found])


def test_too_few_vectors_are_refused_and_nothing_is_stored(tmp_path):
    make_db(tmp_path / "db", RECORDS[:20])
    ended = cli("optimize", tmp_path / "db", "--fit-transform", "centre")
    assert ended.code == 1
    assert "at least 100" in ended.err
    with open_database(tmp_path / "db") as db:
        assert [r.name for r in db.rankings()] == [ONE]


# --- Names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a part is empty"),
        ("nonsense", "no space is called 'nonsense'"),
        (f"{ONE}=0", "no number above 0"),
        (f"{ONE}=1e", "no number above 0"),
        (f"{ONE},{ONE}=2", "a space comes twice"),
        (f"{ONE}+whiten", "has the transforms none"),
        (f"{ONE},", "no space is called"),
        (f"{ONE}x", "no space is called"),
    ],
)
def test_what_is_no_ranking_is_refused_with_those_there_are(kept, text, said):
    with open_database(kept) as db, pytest.raises(ParameterError, match=said) as caught:
        db.ranking(text)
    assert ONE in str(caught.value)


def test_a_space_and_a_ranking_cannot_both_be_named(kept):
    ended = cli("query", kept, "--id", IDS[0], "--space", ONE, "--ranking", ONE)
    assert ended.code == 1
    assert "left out" in ended.err


def test_the_default_can_be_chosen_and_dropping_it_goes_back(path):
    change(path, add=BOTH, default=BOTH)
    with open_database(path) as db:
        assert db.ranking().name == BOTH
        expected = 0.3 * cosines(db, QUERIES, ONE) + 0.7 * cosines(db, QUERIES, ZERO)
        np.testing.assert_allclose(scores(db, QUERIES), expected, atol=2e-6)
        n_files = len(list(Layout(path).derived.iterdir()))
    change(path, drop=BOTH)
    with open_database(path) as db:
        assert db.ranking().name == ONE
    assert len(list(Layout(path).derived.iterdir())) == n_files - 1


def test_the_ranking_of_a_space_cannot_be_dropped(path):
    ended = cli("optimize", path, "--drop-ranking", ONE)
    assert ended.code == 1
    assert "came with its space" in ended.err


def test_explain_names_the_ranking(kept):
    ended = cli("query", kept, "--id", IDS[0], "--ranking", BOTH, "--explain")
    assert f"ranking {BOTH}: {N} vectors" in ended.err


# --- Files ---------------------------------------------------------------------------------------


def test_without_derived_files_the_scores_are_the_same_and_repair_makes_them(path):
    change(path, add=BOTH, fit="centre")
    names = [BOTH, f"{ONE}+centre", ONE, ZERO]
    with open_database(path) as db:
        before = [scores(db, QUERIES, ranking=name) for name in names]
    n_files = len(list(Layout(path).derived.iterdir()))
    shutil.rmtree(Layout(path).derived)
    with open_database(path, create=True) as db:
        for name, expected in zip(names, before, strict=True):
            np.testing.assert_array_equal(scores(db, QUERIES, ranking=name), expected)
        assert {f.severity for f in verify(db)} == {"rebuildable"}
        assert len(repair(db).rebuilt) == n_files == 4
        assert verify(db, full=True) == []


# --- Loci ----------------------------------------------------------------------------------------


@pytest.fixture
def centred(monkeypatch):
    """Let `kmer` have a shipped centre by locus, for a model that runs in no time."""
    rng = np.random.default_rng(1)
    centres = {name: rng.random(512).astype(np.float32) / 512 for name in ("", "IGH", "IGK")}
    monkeypatch.setattr(repository_module, "reference_centres", lambda spec: centres)
    return centres


def test_a_transform_by_locus_takes_that_of_each_chain(tmp_path, centred):
    given = [("heavy", VH), ("light", VL), ("other", "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVG")]
    make_db(tmp_path / "db", given)
    with open_database(tmp_path / "db", create=True) as db:
        assert db.ranking().name == f"{ONE}+reference"
        assert db.repository.loci([1, 2, 3]) == {1: "IGH", 2: "IGK", 3: ""}
        raw = db.vectors(["heavy", "light", "other"])
        expected = unit(raw - np.stack([centred[name] for name in ("IGH", "IGK", "")]))
        for hits, row in zip(db.search([residues for _, residues in given], k=3), expected, strict=True):
            for hit in hits:
                place = ["heavy", "light", "other"].index(hit.target)
                assert hit.score == pytest.approx(float(row @ expected[place]), abs=1e-5)
        ((_, hits),) = db.search_stored(["light"], db.ranking(), plmsearch.SearchOptions(k=1))
        assert hits[0].score == pytest.approx(1, abs=1e-6)
        plain = unit(raw) @ unit(raw).T
        (hits,) = db.search([VH], k=3, ranking=f"{ONE}+none")
        assert [h.score for h in hits] == pytest.approx(sorted(plain[0], reverse=True), abs=1e-5)


def test_the_score_of_a_pair_does_not_depend_on_the_rest_of_the_database(tmp_path, centred):
    make_db(tmp_path / "small", [("heavy", VH)])
    make_db(tmp_path / "large", [*RECORDS, ("heavy", VH)])
    query = VH[:60] + "WYWY" + VH[64:]
    found = []
    for name in ("small", "large"):
        with open_database(tmp_path / name) as db:
            found.append({h.target: h.score for h in db.search([query], k=N + 1)[0]}["heavy"])
    assert found[0] == pytest.approx(found[1], abs=1e-6)


def test_imported_vectors_of_a_model_get_their_loci(tmp_path, centred):
    make_db(tmp_path / "db", [("heavy", VH), ("light", VL)])
    assert cli("export", tmp_path / "db", "-o", tmp_path / "v.parquet").code == 0
    assert cli("import", tmp_path / "again", tmp_path / "v.parquet").code == 0
    with open_database(tmp_path / "db") as one, open_database(tmp_path / "again") as other:
        assert other.repository.loci([1, 2]) == {1: "IGH", 2: "IGK"}
        assert not other.repository.lacks_derived_files()
        assert [h.score for h in other.search([VL], k=2)[0]] == pytest.approx(
            [h.score for h in one.search([VL], k=2)[0]], abs=1e-6
        )


def test_a_damaged_file_of_another_space_is_named_and_stops_no_write(path):
    change(path, add=BOTH)
    with open_database(path) as db:
        spaces = {s.spec.name: s.space_id for s in db.spaces()}
        (segment,) = db.repository.segments(spaces[ZERO])
        stored = next(r for r in db.rankings() if r.name == BOTH)
        files = [s.derived[stored.ranking_id].file for s in db.repository.segments(spaces[ONE])]
    damaged = Layout(path).segments / segment.file
    content = bytearray(damaged.read_bytes())
    content[200] ^= 4
    damaged.write_bytes(content)
    for file in files:
        (Layout(path).derived / file).unlink()
    with open_database(path, create=True) as db:
        assert db.add([("new", "WWYYHHKKDDEEFFGGWWYY")]).n_added == 1
        damage = [f.where for f in verify(db, full=True) if f.severity == "damage"]
        assert damage == [f"segments/{segment.file}"]
        assert len(repair(db).quarantined) == 1
        np.testing.assert_allclose(
            scores_of(db, IDS, QUERIES, BOTH),
            0.3 * cosines(db, QUERIES, ONE) + 0.7 * cosines(db, QUERIES, ZERO),
            atol=2e-6,
        )


def test_a_reader_sees_rows_that_another_space_gets_later(path):
    change(path, add=BOTH)
    with open_database(path) as reader, open_database(path, create=True) as db:
        before = scores_of(reader, IDS, QUERIES, BOTH)
        ad_hoc = f"{ONE}=1,{ZERO}=5"
        first = scores_of(reader, IDS, QUERIES, ad_hoc)
        db.add([("late", "WWYYHHKKDDEEFFGGWWYY")])
        for name, expected in ((BOTH, before), (ad_hoc, first)):
            np.testing.assert_allclose(scores_of(reader, IDS, QUERIES, name), expected, atol=2e-6)
            assert reader.search(["WWYYHHKKDDEEFFGGWWYY"], k=1, ranking=name)[0][0].target == "late"
