"""Hill numbers, coverage and estimates: against the definitions, and against published figures."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plmsearch.repertoire import hypergeometric
from plmsearch.repertoire.abundance import (
    Abundance,
    Extrapolation,
    coverage,
    estimated_hill,
    hill,
    rarefied_hill,
    unseen,
)
from plmsearch.repertoire.hypergeometric import log_moments

#: The spiders of Sackett et al. 2011, worked through in Chao et al. 2014 and the package iNEXT.
GIRDLED = [46, 22, 17, 15, 15, 9, 8, 6, 6, 4, *[2] * 4, *[1] * 12]
LOGGED = [88, 22, 16, 15, 13, 10, 8, 8, 7, 7, 7, 5, 4, 4, 4, 3, 3, 3, 3, 2, 2, 2, 2, *[1] * 14]

SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=12)
ORDERS = (0, 0.5, 1, 1.7, 2, 4)


def expected_counts(sizes: list[int], depth: int) -> dict[int, float]:
    """How many clones of k units a sample of `depth` units has, by counting all samples."""
    n = sum(sizes)
    found: dict[int, Fraction] = {}
    for x in sizes:
        for k in range(1, min(x, depth) + 1):
            share = Fraction(math.comb(x, k) * math.comb(n - x, depth - k), math.comb(n, depth))
            found[k] = found.get(k, Fraction(0)) + share
    return {k: float(v) for k, v in found.items()}


def by_definition(counts: dict[int, float], n: int, q: float) -> float:
    if q == 1:
        return math.exp(-sum(f * k / n * math.log(k / n) for k, f in counts.items()))
    return float(sum(f * (k / n) ** q for k, f in counts.items()) ** (1 / (1 - q)))


@given(SIZES, st.data())
def test_rarefied_hill_numbers_are_those_of_the_expected_counts(sizes, data):
    depth = data.draw(st.integers(1, sum(sizes)))
    counts = expected_counts(sizes, depth)
    wanted = [by_definition(counts, depth, q) for q in ORDERS]
    assert rarefied_hill(Abundance.of(sizes), ORDERS, depth) == pytest.approx(wanted, rel=1e-9)


@given(SIZES)
def test_hill_numbers_of_the_sample_follow_their_definition(sizes):
    p = np.array(sizes) / sum(sizes)
    wanted = [np.exp(-(p * np.log(p)).sum()) if q == 1 else (p**q).sum() ** (1 / (1 - q)) for q in ORDERS]
    assert hill(Abundance.of(sizes), ORDERS) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(
    ("sizes", "estimated", "covered"),
    [(GIRDLED, (43.893, 13.826, 8.175), 0.929), (LOGGED, (61.403, 16.337, 6.920), 0.945)],
    ids=["girdled", "logged"],
)
def test_estimates_are_those_that_inext_publishes(sizes, estimated, covered):
    abundance = Abundance.of(sizes)
    assert estimated_hill(abundance) == pytest.approx(estimated, abs=5e-4)
    assert coverage(abundance, abundance.n) == pytest.approx(covered, abs=5e-4)


def test_twice_the_sample_is_as_inext_publishes():
    abundance = Abundance.of(GIRDLED)
    assert Extrapolation.of(abundance).hill_at(336)[0] == pytest.approx(34.731, abs=5e-4)
    assert coverage(abundance, 336) == pytest.approx(0.964, abs=5e-4)


def entropy_as_published(sizes: list[int]) -> float:
    """Chao, Wang & Jost 2013, eq. 7, summed as it is written, in exact arithmetic where it cancels."""
    n, f1, f2 = sum(sizes), sizes.count(1), sizes.count(2)
    first = sum(x / n * sum(1 / k for k in range(x, n)) for x in sizes)
    a = Fraction(2 * f2, (n - 1) * f1 + 2 * f2) if f2 else Fraction(2, (n - 1) * (f1 - 1) + 2)
    if not f1 or a == 1:
        return first
    tail = -math.log(a) - float(sum((1 - a) ** r / r for r in range(1, n)))
    return first + f1 / n * float((1 - a) ** (1 - n)) * tail


@given(st.lists(st.integers(1, 4), min_size=2, max_size=10).filter(lambda s: s.count(1) > s.count(2)))
def test_the_entropy_estimate_is_the_published_sum(sizes):
    # its own rounding grows as (1 - A)^(1 - n): only where that is mild it is an oracle
    found = math.log(estimated_hill(Abundance.of(sizes))[1])
    assert found == pytest.approx(entropy_as_published(sizes), rel=1e-6)


@given(SIZES.filter(lambda s: sum(s) > 1), st.data())
def test_coverage_below_the_sample_is_chao_and_josts_sum(sizes, data):
    n = sum(sizes)
    depth = data.draw(st.integers(1, n - 1))
    lost = sum(Fraction(x, n) * Fraction(math.comb(n - x, depth), math.comb(n - 1, depth)) for x in sizes)
    assert coverage(Abundance.of(sizes), depth) == pytest.approx(1 - float(lost), abs=1e-9)


@settings(max_examples=25)
@given(SIZES)
def test_curves_rise_and_are_joined_at_the_sample(sizes):
    abundance = Abundance.of(sizes)
    n = abundance.n
    below = [rarefied_hill(abundance, (0, 1, 2), m) for m in range(1, n + 1)]
    above = [Extrapolation.of(abundance).hill_at(n + m) for m in range(1, n + 1)]
    assert (np.diff(below + above, axis=0) > -1e-9).all()
    covered = [coverage(abundance, m) for m in range(1, 2 * n)]
    assert (np.diff(covered) > -1e-9).all()
    assert covered[-1] <= 1


def test_unseen_clones_are_estimated_without_doubletons_too():
    assert unseen(Abundance.of([1, 1, 1, 5])) == pytest.approx(7 / 8 * 3)


def test_a_simpson_index_of_singletons_alone_is_not_estimated():
    assert np.isnan(estimated_hill(Abundance.of([1, 1, 1]))[2])


@pytest.mark.parametrize("depth", [40, 4_000, 400_000])
def test_moments_that_are_interpolated_are_close_to_those_that_are_not(depth):
    sizes = np.unique(np.geomspace(1, 50_000, 4_000).astype(np.int64))
    n, orders = int(sizes.sum()), np.array([0.0, 1.0, 2.0, 4.0])
    whole = log_moments(sizes, n, depth, orders)
    some = log_moments(sizes, n, depth, orders, max_knots=500)
    assert np.abs(np.exp(some - whole) - 1).max() < 2e-3


@given(st.integers(1, 60), st.integers(0, 60), st.data())
def test_the_chance_to_be_seen_is_hypergeometric(size, others, data):
    n = size + others
    depth = data.draw(st.integers(1, n))
    seen = np.exp(log_moments(np.array([size]), n, depth, np.zeros(1)))[0, 0]
    assert seen == pytest.approx(1 - math.comb(n - size, depth) / math.comb(n, depth), rel=1e-9)


def test_very_large_clones_are_expanded_without_a_visible_error(monkeypatch):
    sizes, orders = np.array([200_000, 500_000, 3_000_000]), np.array([0, 0.5, 1, 2, 4])
    expanded = log_moments(sizes, 10_000_000, 4_000_000, orders)
    monkeypatch.setattr(hypergeometric, "_WIDE", np.inf)
    summed = log_moments(sizes, 10_000_000, 4_000_000, orders)
    assert not np.array_equal(expanded, summed)
    np.testing.assert_allclose(np.exp(expanded), np.exp(summed), rtol=1e-7)


def test_a_hundred_million_units_are_no_more_work_than_a_thousand():
    abundance = Abundance.of([60_000_000, 30_000_000, 9_000_000, *[1000] * 900, *[1] * 100_000])
    found = rarefied_hill(abundance, (0, 1, 2), 50_000)
    assert found[2] == pytest.approx(1 / (1 / 50_000 + (1 - 1 / 50_000) * simpson(abundance)), rel=1e-9)


def simpson(abundance: Abundance) -> float:
    n = abundance.n
    return float((abundance.values * (abundance.values - 1.0)) @ abundance.times) / (n * (n - 1.0))
