"""Blocks of rows whose genes agree, calls that list several genes included."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from plmsearch.repertoire.blocks import gene_blocks, key_blocks, merge_genes

genes = st.frozensets(st.sampled_from("ABCDE"), min_size=1, max_size=3)
calls = st.lists(st.tuples(genes, genes), min_size=1, max_size=12)


def slow_merge(items):
    """Merge any two groups that share a V gene and a J gene, until there are none."""
    groups = [(set(v), set(j), {(v, j)}) for v, j in items]
    while True:
        for a, b in itertools.combinations(groups, 2):
            if a[0] & b[0] and a[1] & b[1]:
                groups = [g for g in groups if g is not a and g is not b]
                groups.append((a[0] | b[0], a[1] | b[1], a[2] | b[2]))
                break
        else:
            return {call: i for i, (_, _, members) in enumerate(groups) for call in members}


def partition(numbers):
    found = {}
    for item, number in numbers.items():
        found.setdefault(number, set()).add(item)
    return {frozenset(items) for items in found.values()}


@given(calls)
def test_groups_share_a_gene_of_each_kind(items):
    assert partition(merge_genes(items)) == partition(slow_merge(items))


@given(calls, st.randoms())
def test_the_order_of_calls_does_not_matter(items, random):
    shuffled = random.sample(items, len(items))
    assert partition(merge_genes(items)) == partition(merge_genes(shuffled))


def test_rows_of_other_donors_or_lengths_are_never_in_one_block():
    one = (frozenset("A"), frozenset("J"))
    assert gene_blocks(["x", "y", "x", "x"], [9, 9, 12, 9], [one] * 4).tolist() == [0, 1, 2, 0]
    assert key_blocks([("x", 9), ("y", 9), ("x", 9)]).tolist() == [0, 1, 0]


def test_an_ambiguous_row_joins_the_two_genes_it_lists():
    one, two, j = frozenset({"IGHV1-2"}), frozenset({"IGHV1-3"}), frozenset({"IGHJ4"})
    rows = [(one, j), (two, j), (one | two, j)]
    assert len(set(gene_blocks([""] * 3, [9] * 3, rows).tolist())) == 1
    assert len(set(gene_blocks([""] * 2, [9] * 2, rows[:2]).tolist())) == 2
