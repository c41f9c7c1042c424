"""The threshold: what is expected of unrelated junctions, and what was simulated."""

from __future__ import annotations

import math

import numpy as np
import pytest

from plmsearch.repertoire.families import find_families
from plmsearch.repertoire.linkage import NUCLEOTIDES, encode
from plmsearch.repertoire.null import FALSE_LINKS, Null, null_distances, reference_counts


def random_junctions(rng, n, length, alphabet="ACGT"):
    """Unrelated strings between a start and an end that all share, as V and J genes give them."""
    middle = rng.choice(list(alphabet), (n, length - 18))
    return ["TGTGCGAGA" + "".join(row) + "GACTACTGG" for row in middle]


def binomial_tail(most, n, p=0.75):
    return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(most + 1))


def measured(rng, n=400, lengths=(36, 39, 42, 45)):
    return {length: (encode(random_junctions(rng, n, length), NUCLEOTIDES), ["J"] * n) for length in lengths}


def test_distances_of_random_junctions_are_binomial():
    null = null_distances(measured(np.random.default_rng(0)), 3, same_v=True)
    counts = null.counts[36]
    seen = np.cumsum(counts) / counts.sum()
    for most in (8, 10, 12, 14):
        assert seen[most] == pytest.approx(binomial_tail(most, 18), rel=0.15)


def test_junctions_of_one_length_are_never_compared():
    rng = np.random.default_rng(1)
    family = encode(random_junctions(rng, 1, 36) * 50, NUCLEOTIDES)
    null = null_distances({36: (family, ["J"] * 50)}, 3, same_v=True)
    assert null.n_pairs == 0


def test_only_junctions_of_one_group_are_compared():
    parts = measured(np.random.default_rng(2), n=50, lengths=(36, 39))
    parts[36] = parts[36][0], ["J1"] * 50
    parts[39] = parts[39][0], ["J2"] * 25 + ["J1"] * 25
    assert null_distances(parts, 3, same_v=True).n_pairs == 50 * 25


def test_the_threshold_is_the_largest_that_keeps_to_the_expected_links():
    n_pairs = 10**6
    counts = np.array([1, 99, 900, 9000, 90_000, 900_000] + [0] * 5)
    null = Null({10: counts})
    assert counts.sum() == n_pairs
    # one pair in a thousand is within 2: ten opportunities make an expected 0.01 of it
    assert null.most_mismatches(10, 0.9) == 2
    assert null.most_mismatches(10, 9.9) == 2
    assert null.most_mismatches(10, 10.1) == 1
    assert null.most_mismatches(10, 101.0) == 0


@pytest.mark.parametrize("nucleotides", [True, False])
@pytest.mark.parametrize("same_v", [True, False])
def test_simulated_pairs_stand_in_where_an_input_has_none(nucleotides, same_v):
    reference = reference_counts(nucleotides=nucleotides, same_v=same_v)
    null = Null({}, reference)
    lengths = range(36, 91, 3) if nucleotides else range(12, 31)
    shares = [null.most_mismatches(length, 1) / length for length in lengths]
    assert 0.05 < min(shares) <= max(shares) < 0.35
    assert Null({}).most_mismatches(45, 1) == 0
    own = {45: np.bincount([20] * 10**6, minlength=46)}
    assert Null(own, reference).most_mismatches(45, 1) == Null(own).most_mismatches(45, 1)


@pytest.mark.parametrize("n_pairs", [0, 1, 50, 1000])
def test_too_few_pairs_never_loosen_the_threshold(n_pairs):
    few = Null({40: np.bincount([20] * n_pairs, minlength=41)})
    many = Null({40: np.bincount([20] * 100_000, minlength=41)})
    for opportunities in (1, 10, 1000, 10**6):
        assert few.most_mismatches(40, opportunities) <= many.most_mismatches(40, opportunities)
        assert few.most_mismatches(40, opportunities) >= 0


def test_the_threshold_falls_as_there_is_more_to_meet():
    null = null_distances(measured(np.random.default_rng(3)), 3, same_v=True)
    limits = [null.most_mismatches(36, m) for m in (1, 10, 100, 1000, 10**5)]
    assert limits == sorted(limits, reverse=True)
    assert limits[0] > limits[-1]


@pytest.mark.parametrize("n", [300, 3000])
def test_unrelated_junctions_stay_apart_at_every_size(n):
    rng = np.random.default_rng(n)
    junctions = [j for length in (36, 39, 42, 45, 48) for j in random_junctions(rng, n // 5, length)]
    blocks = np.array([len(j) for j in junctions])
    found = find_families(junctions, blocks, ["x"] * n, [""] * n, nucleotides=True, same_v=False)
    joined = n - len(np.unique(found.labels))
    assert joined <= 2 * FALSE_LINKS * n
    assert found.null is not None and found.null.n_pairs > n
