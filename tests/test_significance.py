"""P-values and E-values of embedding scores, against distances whose law is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plmsearch.search import significance
from plmsearch.search.relatives import Cdr3Relation, HomologyRelation
from plmsearch.search.significance import (
    MIN_UNRELATED,
    N_NEAREST,
    NoNull,
    NullDistribution,
    NullFacts,
    QueryNulls,
    draw_sample,
    evalues,
    fit_null,
)
from plmsearch.vectors import unit_vectors

NEVER = None


def sphere(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    """Uniform on the unit sphere: for small x, P(1 - cosine <= x) is proportional to x**((dim - 1) / 2)."""
    return unit_vectors(rng.normal(size=(n, dim)).astype(np.float32), dim)


def fitted(vectors: np.ndarray, related=NEVER) -> NullDistribution:
    null = fit_null(vectors, np.arange(len(vectors)), related)
    assert isinstance(null, NullDistribution)
    return null


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


# --- Calibration ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [7, 13])
@pytest.mark.parametrize("n_sample", [200, 2000])
def test_unrelated_sequences_have_the_p_values_that_they_should(rng, dim, n_sample):
    sample, targets, queries = (sphere(rng, n, dim) for n in (n_sample, 4000, 500))
    p = fitted(sample).of(queries, sample, NEVER).pvalues(queries @ targets.T)
    for level in (0.3, 0.05, 0.01, 1 / 4000):
        assert level / 1.5 < (p <= level).mean() < level * 1.5, level


def test_the_exponent_is_the_one_of_the_sphere(rng):
    sample = sphere(rng, 4000, 7)
    assert fitted(sample).facts.exponent == pytest.approx(3, rel=0.15)


def test_each_query_is_judged_by_its_own_neighbourhood(rng):
    """Half of the sequences crowd around one point, which one null for all would call significant."""
    centre = np.eye(8)[0] * 6
    crowd = unit_vectors((rng.normal(size=(3000, 8)) + centre).astype(np.float32), 8)
    scattered = sphere(rng, 3000, 8)
    sample = np.concatenate([crowd[:1000], scattered[:1000]])
    targets = np.concatenate([crowd[1000:2000], scattered[1000:2000]])
    null = fitted(sample)
    for queries in (crowd[2000:2500], scattered[2000:2500]):
        p = null.of(queries, sample, NEVER).pvalues(queries @ targets.T)
        assert 0.3 < evalues(p, len(targets)).__le__(1).sum(axis=1).mean() < 3


def test_relatives_that_are_recognised_do_not_count(rng):
    sample, targets, queries = (sphere(rng, n, 9) for n in (1000, 3000, 300))
    near = queries[:, None] + rng.normal(scale=0.02, size=(300, 15, 9))
    mixed = np.concatenate([sample, unit_vectors(near.reshape(-1, 9).astype(np.float32), 9)])

    def related(query: int, rows: np.ndarray) -> np.ndarray:
        return (rows >= 1000) & ((rows - 1000) // 15 == query)

    null = fitted(sample)
    clean = null.of(queries, sample, NEVER).pvalues(queries @ targets.T)
    known = null.of(queries, mixed, related)
    unknown = null.of(queries, mixed, NEVER).pvalues(queries @ targets.T)
    assert (known.n_unrelated == len(mixed) - 15).all()
    assert 0.5 < (known.pvalues(queries @ targets.T) <= 1e-3).mean() / (clean <= 1e-3).mean() < 2
    assert (unknown <= 1e-3).mean() < 0.1 * (clean <= 1e-3).mean()  # on the safe side


def test_a_share_of_unrecognised_relatives_errs_on_the_safe_side(rng):
    sample, targets, queries = (sphere(rng, n, 9) for n in (1000, 3000, 300))
    near = queries + rng.normal(scale=0.02, size=queries.shape)
    mixed = np.concatenate([sample, unit_vectors(near.astype(np.float32), 9)])
    p = fitted(mixed).of(queries, mixed, NEVER).pvalues(queries @ targets.T)
    assert 0.1e-3 < (p <= 1e-3).mean() < 1e-3


# --- Shape ---------------------------------------------------------------------------------------


@given(
    exponent=st.floats(0.5, 80),
    shape=st.floats(0.5, 1000),
    n=st.integers(MIN_UNRELATED, 600),
    seed=st.integers(0, 9),
    scores=st.lists(st.floats(-1, 1), min_size=2, max_size=40),
)
def test_a_higher_score_never_has_a_larger_p(exponent, shape, n, seed, scores):
    rng = np.random.default_rng(seed)
    vectors = sphere(rng, n, 4)
    facts = NullFacts(shape, shape / exponent, N_NEAREST, 1, n, 0.1)
    null = NullDistribution(facts, np.arange(n))
    p = null.of(sphere(rng, 1, 4), vectors, NEVER).pvalues(np.sort(scores)[None, :])[0]
    assert ((p >= 0) & (p <= 1)).all()
    assert (np.diff(p) <= 0).all()


def test_identical_sequences_have_p_0_and_farthest_ones_p_1(rng):
    sample = sphere(rng, 500, 6)
    nulls = fitted(sample).of(sample[:3], sample, lambda query, rows: rows == query)
    rounded = np.float32(1) - np.finfo(np.float32).eps
    p = nulls.pvalues(np.array([[1.0, rounded, -1.0]] * 3))
    assert p[:, :2].tolist() == [[0, 0]] * 3
    assert p[:, 2] == pytest.approx(1)
    assert (nulls.pvalues(np.full((3, 1), 1 - 1e-4)) > 0).all()


def test_p_at_the_kth_neighbour_is_its_share(rng):
    sample, query = sphere(rng, 999, 6), sphere(rng, 1, 6)
    scores = np.sort((query @ sample.T)[0])[::-1]
    p = fitted(sample).of(query, sample, NEVER).pvalues(scores[None, [N_NEAREST - 1, 998]])
    assert p[0] == pytest.approx([N_NEAREST / 1000, 999 / 1000])


def test_p_values_of_the_tail_are_the_average_over_the_posterior_of_m(rng):
    """The closed form against a simulated posterior."""
    facts = NullFacts(12.0, 2.0, N_NEAREST, 500, 200, 0.1)
    nulls = QueryNulls(
        facts, np.log([[0.3, 2.0]]), np.log([[0.05, 1.0]]), np.array([1.5]), np.array([200]), np.array([True])
    )
    m = rng.gamma(12 + N_NEAREST - 1, 1 / (2 + 1.5), size=400_000)
    for distance in (0.25, 0.15, 0.08):
        expected = 0.05 * ((distance / 0.3) ** m).mean()
        assert nulls.pvalues(np.array([[1 - distance]]))[0, 0] == pytest.approx(expected, rel=0.05)


def test_scores_of_several_queries_are_those_of_each_alone(rng):
    sample, queries = sphere(rng, 300, 5), sphere(rng, 120, 5)
    null, scores = fitted(sample), queries @ sample[:7].T
    together = null.of(queries, sample, NEVER).pvalues(scores)
    alone = [null.of(queries[i : i + 1], sample, NEVER).pvalues(scores[i : i + 1])[0] for i in range(120)]
    assert together == pytest.approx(np.array(alone), rel=1e-3)


def test_evalues_count_the_sequences_that_were_searched():
    assert evalues(np.array([[1e-3, np.nan]]), 200)[0] == pytest.approx([0.2, np.nan], nan_ok=True)


# --- Building ------------------------------------------------------------------------------------


def test_the_sample_depends_on_the_set_of_ids_and_the_seed_only(rng):
    ids = rng.permutation(9000)
    first = draw_sample(ids, seed=3)
    assert len(first) == 5000 == len(set(first.tolist()))
    assert np.array_equal(first, draw_sample(np.concatenate([ids[::-1], ids[:50]]), seed=3))
    assert not np.array_equal(first, draw_sample(ids, seed=4))


def test_the_same_seed_gives_the_same_null_and_json_keeps_it(rng):
    vectors = sphere(rng, 800, 6)
    null = fit_null(vectors, np.arange(800) * 3, NEVER, seed=5)
    again = fit_null(vectors, np.arange(800) * 3, NEVER, seed=5)
    assert isinstance(null, NullDistribution)
    assert isinstance(again, NullDistribution)
    assert null.facts == again.facts


def test_a_tiny_database_has_no_null(rng):
    none = fit_null(sphere(rng, MIN_UNRELATED, 5), np.arange(MIN_UNRELATED), NEVER)
    assert none == NoNull("100 distinct sequences, fewer than 101", 100)
    assert isinstance(
        fit_null(sphere(rng, MIN_UNRELATED + 1, 5), np.arange(MIN_UNRELATED + 1), NEVER), NullDistribution
    )


def test_a_database_of_one_family_has_no_null(rng):
    vectors = sphere(rng, 400, 5)
    none = fit_null(vectors, np.arange(400), lambda query, rows: np.ones(len(rows), dtype=bool))
    assert isinstance(none, NoNull)
    assert none.reason == "half of the sequences have 0 unrelated ones or fewer, 100 are needed"


def test_fewer_members_are_asked_where_they_have_very_many_relatives(rng, monkeypatch):
    vectors = sphere(rng, 900, 6)
    facts = []
    for limit in (10**9, 20_000):
        monkeypatch.setattr(significance, "_MANY_RELATIVES", limit)
        asked = set()

        def related(query, rows, asked=asked):
            asked.add(query)
            return (rows < 400) if query < 400 else rows == query

        facts.append(fitted(vectors, related).facts)
        assert len(asked) == facts[-1].n_fitted
    assert [one.n_fitted for one in facts] == [500, 150]
    assert facts[1].exponent == pytest.approx(facts[0].exponent, rel=0.1)


def test_identical_vectors_have_no_null():
    vectors = np.tile(np.eye(4, dtype=np.float32)[0], (300, 1))
    none = fit_null(vectors, np.arange(300), NEVER)
    assert isinstance(none, NoNull)
    assert none.reason == "the distances of unrelated sequences do not vary"


@pytest.mark.parametrize("with_relatives", [False, True])
def test_p_values_are_the_same_where_only_what_is_asked_about_is_computed(rng, with_relatives):
    sample, queries = sphere(rng, 600, 5), sphere(rng, 300, 5)
    related = (lambda query, rows: rows % 7 == query % 7) if with_relatives else NEVER
    null = fitted(sample)
    scores = np.sort(queries @ sample.T, axis=1)[:, ::-1]
    whole = null.of(queries, sample, related).pvalues(scores)
    for h in (3, 9, 30, 600):  # nearer than the 10th nearest unrelated one, and farther
        some = null.of(queries, sample, related, lowest=scores[:, h - 1]).pvalues(scores[:, :h])
        np.testing.assert_allclose(some, whole[:, :h], rtol=1e-12)


def test_p_values_follow_the_definition(rng):
    sample, query = sphere(rng, 300, 4), sphere(rng, 1, 4)
    facts = NullFacts(6.0, 2.0, N_NEAREST, 100, 300, 0.1)
    related = np.zeros(300, dtype=bool)
    related[np.argsort(-(sample @ query[0]))[[0, 3, 17]]] = True  # all within the first 20: all are asked
    distances = np.sort((1 - sample @ query[0])[~related]).astype(float)
    total = np.log(distances[9] / distances[:9]).sum()
    near = distances[9] / np.array([20.0, 3.0, 1.0])
    expected = 10 / 298 * (1 + np.log(distances[9] / near) / (2 + total)) ** -(6 + 9)
    nulls = NullDistribution(facts, np.arange(300)).of(query, sample, lambda _, rows: related[rows])
    assert nulls.pvalues((1 - near)[None])[0] == pytest.approx(expected, rel=1e-3)
    farther = nulls.pvalues((1 - distances[[49, 149, 296]])[None])[0]
    assert farther == pytest.approx(np.array([50, 150, 297]) / 298, rel=0.08)


def test_a_query_that_is_related_to_nearly_all_has_no_p_value(rng):
    sample, queries = sphere(rng, 400, 5), sphere(rng, 2, 5)
    nulls = fitted(sample).of(queries, sample, lambda query, rows: (rows >= 50) if query else rows >= 400)
    assert nulls.usable.tolist() == [True, False]
    assert np.isnan(nulls.pvalues(np.zeros((2, 3)))).tolist() == [[False] * 3, [True] * 3]


# --- Relatives -----------------------------------------------------------------------------------


@given(
    st.lists(st.text("AY", max_size=6), min_size=1, max_size=4),
    st.lists(st.text("AY", max_size=6), min_size=1, max_size=20),
)
def test_cdr3_relatives_are_those_of_the_definition(queries, sample):
    relation = Cdr3Relation(queries, sample)
    for i, query in enumerate(queries):
        expected = [
            len(s) == len(query) > 0 and sum(a == b for a, b in zip(s, query, strict=True)) >= 0.6 * len(s)
            for s in sample
        ]
        assert relation(i, np.arange(len(sample))).tolist() == expected


def test_homologous_proteins_are_relatives_and_shuffled_ones_are_not(rng):
    letters = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    protein = rng.choice(letters, 200)
    changed = np.where(rng.random(200) < 0.5, rng.choice(letters, 200), protein)
    sample = ["".join(x) for x in (changed, rng.permutation(protein), protein)] + [""]
    relation = HomologyRelation(["".join(protein), ""], sample)
    assert relation(0, np.arange(4)).tolist() == [True, False, True, False]
    assert relation(1, np.arange(4)).tolist() == [False] * 4
