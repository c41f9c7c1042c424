"""Families whose ancestors' junctions differ more than their V regions tell of are kept apart."""

from __future__ import annotations

import math
import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from plmsearch.repertoire.families import find_families
from plmsearch.repertoire.lineages import VARIANCE, chance_of_more, grow
from plmsearch.repertoire.linkage import NUCLEOTIDES, Forest, encode, forest

JUNCTION, V_REGION = 60, 240
RNG = np.random.default_rng(11)


def random_text(n: int) -> str:
    return "".join(RNG.choice(list("ACGT"), n))


def changed(text: str, places) -> str:
    letters = list(text)
    for place in places:
        letters[place] = "ACGT"["ACGT".index(letters[place]) - 1]
    return "".join(letters)


def group(rows: list[str], n_rows=None, least: float = 0.05) -> list[int]:
    """Group rows, junction and V region joined, by every link there is."""
    letters = encode(rows, NUCLEOTIDES)
    counts = np.ones(len(rows), np.int64) if n_rows is None else np.array(n_rows)
    return grow(forest(letters, letters.shape[1]), letters, JUNCTION, counts, least).tolist()


@given(st.integers(0, 30), st.integers(0, 60), st.integers(15, 120), st.integers(20, 300))
def test_the_chance_is_the_tail_of_a_negative_binomial(differ, apart, length, v_length):
    mean, size = (apart + 1) * length / v_length, 1 / (1 / (apart + 1) + VARIANCE)
    rest = math.log(size / (size + mean)), math.log(mean / (size + mean))
    logs = (
        math.lgamma(k + size) - math.lgamma(size) - math.lgamma(k + 1) + k * rest[1] for k in range(differ)
    )
    expected = 1.0 - math.fsum(math.exp(log + size * rest[0]) for log in logs)
    np.testing.assert_allclose(chance_of_more(differ, apart, length, v_length), expected, atol=1e-9)


def test_ancestors_that_differ_in_junctions_alone_are_two():
    """Rows of both have mutations of their own, so that some pairs look like relatives."""
    ancestor = random_text(JUNCTION + V_REGION)
    other = changed(ancestor, [20, 25, 30])
    own = [[70 + 9 * i + k for k in range(4)] for i in range(8)]
    rows = [changed(ancestor, places) for places in own[:4]] + [changed(other, places) for places in own[4:]]
    assert group(rows) == [0] * 4 + [4] * 4
    assert group(rows, least=0.0) == [0] * 8


def test_ancestors_whose_v_regions_differ_too_are_one_family():
    ancestor = random_text(JUNCTION + V_REGION)
    other = changed(ancestor, [20, 25, 30, *range(100, 112)])
    rows = [changed(ancestor, [70 + i]) for i in range(4)] + [changed(other, [80 + i]) for i in range(4)]
    assert group(rows) == [0] * 8


def test_a_row_alone_has_no_ancestor_but_copies_of_it_do():
    ancestor = random_text(JUNCTION + V_REGION)
    rows = [ancestor, changed(ancestor, [200]), changed(ancestor, [20, 25, 30])]
    assert group(rows) == [0, 0, 0]
    assert group(rows, [1, 1, 2]) == [0, 0, 2]


def test_rows_without_a_v_region_are_not_refused():
    ancestor = random_text(JUNCTION)
    rows = [text + "N" * V_REGION for text in (ancestor, changed(ancestor, [20, 25, 30]))]
    assert group(rows, [5, 5]) == [0, 0]


def test_a_refused_link_is_tried_again_when_more_of_a_family_is_known():
    """The first two rows have three letters in common that the others of their family do not have."""
    ancestor = random_text(JUNCTION + V_REGION)
    rows = [changed(ancestor, [20, 22, 24, 90]), changed(ancestor, [20, 22, 24, 95])]
    rows += [changed(ancestor, [100 + i]) for i in range(5)]
    letters = encode(rows, NUCLEOTIDES)
    first, second = np.array([0, 2, 0, 0, 0, 0]), np.array([1, 3, 2, 4, 5, 6])
    for n_links, expected in ((3, [0, 0, 2, 2, 4, 5, 6]), (6, [0] * 7)):
        links = Forest(first[:n_links], second[:n_links], np.arange(n_links))
        assert grow(links, letters, JUNCTION, np.ones(7, np.int64), 0.05).tolist() == expected


def test_the_order_of_rows_does_not_matter():
    """Near families with many equally near links, within one block; 1 in 100 such sets would tell."""
    ancestor = random_text(JUNCTION + V_REGION)
    founders = [ancestor, changed(ancestor, [20, 25]), changed(ancestor, [20, 28, 150])]
    for seed in range(300):
        rng = random.Random(seed)
        rows = [changed(f, rng.sample(range(50, 70), rng.randrange(4))) for f in founders for _ in range(6)]
        order = rng.sample(range(len(rows)), len(rows))
        first, second = _labels(rows), _labels([rows[i] for i in order])
        together = {(first[i], second[k]) for k, i in enumerate(order)}
        assert len(together) == len(set(first)) == len(set(second))


def _labels(rows: list[str]) -> list[int]:
    n = len(rows)
    return find_families(
        [row[:JUNCTION] for row in rows], np.zeros(n, np.int64), ["d\tV\tJ"] * n, ["J"] * n,
        nucleotides=True, same_v=True, threshold=0.2, v=[row[JUNCTION:] for row in rows],
    ).labels.tolist()  # fmt: skip


def test_a_family_of_a_star_stays_whole_however_large():
    """SIMULATED: members that each mutated on their own, at one rate all over the sequence."""
    rng = np.random.default_rng(3)
    ancestor = random_text(JUNCTION + V_REGION)
    n_lost = 0
    for _ in range(10):
        rows = sorted({changed(ancestor, np.flatnonzero(rng.random(300) < 0.05)) for _ in range(40)})
        n_lost += sum(label != 0 for label in group(rows))
    assert n_lost <= 10  # of 400
