"""The measures of bench/retrieval.py against their definitions."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))

import _align
import _labels
import _metrics
import _rivals

from plmsearch.search.hits import Hit, Query, SearchOptions
from plmsearch.search.rerank import rerank

INF = np.inf

ranked = st.integers(2, 6).flatmap(
    lambda n: st.tuples(
        st.lists(st.sampled_from([0.0, 0.5, 1.0, -INF]), min_size=n, max_size=n),
        st.lists(st.booleans(), min_size=n, max_size=n).filter(any),
    )
)


def over_every_order(scores: list[float], right: list[bool], r: int) -> float:
    """The mean, over all orders that agree with the scores, of the share of right ones among the first r."""
    found = []
    for order in itertools.permutations(range(len(scores))):
        falling = [scores[i] for i in order]
        if falling == sorted(falling, reverse=True):
            found.append(sum(right[i] and scores[i] > -INF for i in order[:r]) / r)
    return float(np.mean(found))


@given(ranked)
def test_precision_at_1_is_the_mean_over_every_order_of_ties(case):
    scores, right = case
    got = _metrics.precision_at_1(np.array([scores]), np.array([right]))
    assert got[0] == pytest.approx(over_every_order(scores, right, 1))


@given(ranked)
def test_r_precision_is_the_mean_over_every_order_of_ties(case):
    scores, right = case
    got = _metrics.r_precision(np.array([scores]), np.array([right]))
    assert got[0] == pytest.approx(over_every_order(scores, right, sum(right)))


def test_the_bootstrap_draws_whole_groups():
    unit, values = np.array([5, 5, 5, 9]), np.array([1.0, 1.0, 1.0, 0.0])
    bootstrap = _metrics.Bootstrap.of(unit, np.zeros(4, int), n_draws=4000, seed=0)
    draws = bootstrap.draws(values)
    # two groups: both drawn once (1/2) gives 3/4; one of them twice (1/4 each) gives 1 or 0
    assert set(np.round(draws, 6)) == {0.0, 0.75, 1.0}
    assert np.mean(draws == 0.75) == pytest.approx(0.5, abs=0.03)
    assert bootstrap.mean(values) == 0.75


def test_the_macro_average_counts_strata_alike():
    values, stratum = np.array([1.0, 1.0, 1.0, 0.0]), np.array([2, 2, 2, 7])
    bootstrap = _metrics.Bootstrap.of(np.arange(4), stratum, n_draws=50, seed=0)
    assert bootstrap.mean(values) == 0.5
    assert not np.isnan(bootstrap.draws(values)).any()


def test_a_paired_difference_of_a_method_to_its_copy_has_no_width():
    rng = np.random.default_rng(0)
    values = {"a": rng.random(40), "b": np.zeros(40)}
    values["c"] = values["a"] + 0.25
    bootstrap = _metrics.Bootstrap.of(np.arange(40) // 3, np.zeros(40, int), n_draws=200, seed=0)
    found = _metrics.differences(values, "a", bootstrap)
    assert found["c"].low == pytest.approx(0.25) == found["c"].high
    assert found["b"].low < found["b"].value < found["b"].high < 0
    interval = _metrics.estimates(values, bootstrap)["a"]
    assert interval.low < values["a"].mean() < interval.high
    assert interval.value == pytest.approx(values["a"].mean())


@given(st.lists(st.text("AC", min_size=5, max_size=5), min_size=1, max_size=12), st.integers(1, 3))
def test_groups_are_what_chains_of_near_cdr3s_connect(cdr3, n_genes):
    genes = [f"V{i % n_genes}" for i in range(len(cdr3))]
    got = _labels.groups(genes, ["J"] * len(cdr3), cdr3, ["x"] * len(cdr3))
    reached = [{i} for i in range(len(cdr3))]
    for _ in cdr3:
        for i, j in itertools.product(range(len(cdr3)), repeat=2):
            alike = sum(a == b for a, b in zip(cdr3[i], cdr3[j], strict=True)) / 5 >= 0.8
            if alike and genes[i] == genes[j]:
                reached[i] |= reached[j]
    for i, j in itertools.product(range(len(cdr3)), repeat=2):
        assert (got[i] == got[j]) == (j in reached[i])


def test_chains_without_a_gene_or_a_donor_are_in_no_group():
    got = _labels.groups(["V", "", "V", "V"], ["J", "J", "", "J"], ["AAA"] * 4, ["d", "d", "d", ""])
    assert (got >= 0).tolist() == [True, False, False, False]


def test_only_a_chain_of_one_donor_that_is_no_pool_has_a_donor():
    donors = [frozenset({"P1"}), frozenset({"P1", "P2"}), frozenset(), frozenset({"Crowe_Mix"})]
    assert _labels.one_donor(donors, "mix|pool") == ["P1", "", "", ""]


def test_what_is_not_known_counts_as_shared():
    sets = [frozenset({"a", "b"}), frozenset({"b"}), frozenset({"c"}), frozenset()]
    got = _labels.share_any(sets)
    for i, j in itertools.product(range(4), repeat=2):
        assert got[i, j] == (bool(sets[i] & sets[j]) or not sets[i] or not sets[j])
    assert not _labels.share_any([frozenset(), frozenset()]).any()


def test_cdr3_identity_finds_one_length_only():
    got = _rivals.cdr3_identity(["ARDY", "ARDW", "ARD"])
    assert got.tolist() == [[1, 0.75, -INF], [0.75, 1, -INF], [-INF, -INF, 1]]


def test_tfidf_of_3mers_is_that_of_scikit_learn():
    text = pytest.importorskip("sklearn.feature_extraction.text", reason="scikit-learn is not installed")
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACDE"), size)) for size in (3, 9, 30, 30, 41)]
    unit = text.TfidfVectorizer(analyzer="char", ngram_range=(3, 3), lowercase=False).fit_transform(sequences)
    assert _rivals.kmer_tfidf(sequences) == pytest.approx((unit @ unit.T).toarray(), abs=1e-5)


def test_tfidf_of_3mers_by_hand():
    # "AAA" is in both (idf 1), "AAC" in one (idf ln(3/2) + 1)
    rare = np.log(1.5) + 1
    assert _rivals.kmer_tfidf(["AAA", "AAAC"])[0, 1] == pytest.approx(1 / np.hypot(1, rare))


def test_rerankings_are_those_of_the_product():
    rng = np.random.default_rng(3)
    founders = ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 30)) for _ in range(8)]
    domains = [f[: rng.integers(12, 30)] + "WGQG" for f in founders for _ in range(20)] + ["WWWW", "KKKK"]
    scores = rng.normal(scale=0.3, size=(len(domains), len(domains))).astype(np.float32)
    np.fill_diagonal(scores, -INF)
    scores[:, 3] = -INF
    options = SearchOptions(k=10, rerank="align")
    queries = np.array([0, 45, len(domains) - 1])
    got = _align.Reranker(domains).rows(queries, scores[queries])
    for query, row in zip(queries, got, strict=True):
        first = np.lexsort((np.arange(len(domains)), -scores[query]))[: options.n_wanted]
        hits = [
            Hit("q", str(i), rank, float(scores[query, i]), "", residues=domains[i])
            for rank, i in enumerate(first, start=1)
        ]
        ours = rerank(Query("q", residues=domains[query]), hits, sum(map(len, domains)), options)
        assert [int(h.target) for h in ours] == np.argsort(-row, kind="stable")[:10].tolist()
        assert row[3] == -INF
