"""Which chains are a pair, held against pandas; and every pair against every pair, held against numpy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plmsearch.index.base import Block
from plmsearch.search import pair_scores
from plmsearch.search.pair_scores import UnitRows, nearest_pairs, rescored, tiles
from plmsearch.search.pairs import UNKNOWN, Chain, Pairs, chain_of, is_paired_locus, pair_chains


def sorted_chains(chains: list[Chain]) -> list[Chain]:
    return sorted(chains, key=lambda c: (c.group, c.record, c.number))


def rows_of(pairs: Pairs) -> list[tuple[int, ...]]:
    columns = (pairs.heavy_record, pairs.light_record, pairs.n_heavy, pairs.n_light)
    return list(zip(*(c.tolist() for c in columns), strict=True))


# --- Chains of cells, one a record ---------------------------------------------------------------

COUNTS = st.sampled_from([UNKNOWN, 1.0, 2.0, 3.0])


@st.composite
def cells(draw: st.DrawFn) -> list[Chain]:
    """One chain a record, of few cells and samples, so that all ways to share them occur."""
    n = draw(st.integers(0, 14))
    return [
        Chain(
            record,
            1,
            draw(st.integers(0, 5)),
            draw(st.sampled_from(["IGH", "IGH", "IGK", "IGL"])),
            draw(st.sampled_from(["", "s1", "s2"])),
            draw(st.sampled_from(["", "c1", "c2", "c3"])),
            draw(COUNTS),
            draw(COUNTS),
            draw(st.booleans()),
        )
        for record in range(n)
    ]


def paired_by_pandas(chains: list[Chain]) -> list[tuple[int, ...]]:
    """The rules of the module docstring, in the words of a data frame."""
    frame = pd.DataFrame([c._asdict() for c in chains], columns=list(Chain._fields))
    frame = frame[(frame.cell != "") & frame.is_productive.astype(bool)]
    frame["kind"] = np.where(frame.locus == "IGH", "heavy", "light")
    by_merit = frame.sort_values(
        ["umi_count", "duplicate_count", "record"], ascending=[False, False, True], kind="stable"
    )
    best = by_merit.groupby(["sample", "cell", "kind"]).agg(record=("record", "first"), n=("unit", "nunique"))
    wide = best.unstack("kind")
    wide = wide.reindex(columns=pd.MultiIndex.from_product([["record", "n"], ["heavy", "light"]])).dropna()
    columns = [("record", "heavy"), ("record", "light"), ("n", "heavy"), ("n", "light")]
    return sorted(map(tuple, wide[columns].astype(int).values.tolist()))


@settings(max_examples=40)
@given(cells())
def test_cells_are_paired_as_pandas_pairs_them(chains):
    assert rows_of(pair_chains(sorted_chains(chains))) == paired_by_pandas(chains)


@given(cells())
def test_every_chain_is_of_a_pair_or_counted_once(chains):
    pairs = pair_chains(sorted_chains(chains))
    lone = [c for c in chains if c.record in set(pairs.lone.tolist())]
    assert 2 * len(pairs) + len(lone) + pairs.n_spare + pairs.n_unproductive == len(chains)
    assert {c.record for c in lone}.isdisjoint([*pairs.heavy_record.tolist(), *pairs.light_record.tolist()])


def test_equal_barcodes_of_two_samples_are_two_cells_and_repertoire_id_stands_in_for_sample_id():
    def chain(record: int, locus: str, **values: str) -> Chain:
        return chain_of(record, 1, record, locus, {"cell_id": "AAAC-1", **values})

    chains = [
        chain(1, "IGH", sample_id="a"),
        chain(2, "IGK", repertoire_id="b"),
        chain(3, "IGK", sample_id="a", repertoire_id="b"),
        chain(4, "IGH", repertoire_id="b"),
    ]
    pairs = pair_chains(sorted_chains(chains))
    assert rows_of(pairs) == [(1, 3, 1, 1), (4, 2, 1, 1)]
    assert pairs.n_without_sample == 0


@pytest.mark.parametrize(
    ("text", "count"),
    [("12", 12), ("1e3", 1000), ("", UNKNOWN), ("nan", UNKNOWN), ("-3", UNKNOWN), ("x", UNKNOWN)],
)
def test_what_is_no_count_is_not_known(text, count):
    assert chain_of(1, 1, 1, "IGH", {"umi_count": text}).umi_count == count


def test_only_chains_of_antibodies_are_paired():
    assert [locus for locus in ("IGH", "IGK", "IGL", "TRA", "TRB", "") if is_paired_locus(locus)] == [
        "IGH",
        "IGK",
        "IGL",
    ]


# --- Several domains of one record ---------------------------------------------------------------


@given(st.lists(st.sampled_from(["IGH", "IGK", "IGL"]), max_size=6), st.sampled_from(["", "c"]))
def test_domains_of_one_record_are_paired_in_order_of_place(loci, cell):
    chains = [Chain(7, n, 10 + n, locus, "s", cell) for n, locus in enumerate(loci, start=1)]
    heavy = [c.number for c in chains if c.locus == "IGH"]
    light = [c.number for c in chains if c.locus != "IGH"]
    pairs = pair_chains(chains)
    assert list(zip(pairs.heavy_number.tolist(), pairs.light_number.tolist(), strict=True)) == list(
        zip(heavy, light, strict=False)
    )
    assert pairs.has_siblings.tolist() == [len(pairs) > 1] * len(pairs)
    assert pairs.lone.tolist() == ([7] if chains and not len(pairs) else [])


def test_a_record_that_is_a_pair_takes_no_chain_from_its_cell():
    scfv = [Chain(1, 1, 10, "IGH", "s", "c"), Chain(1, 2, 11, "IGK", "s", "c")]
    pairs = pair_chains([*scfv, Chain(2, 1, 12, "IGH", "s", "c"), Chain(3, 1, 13, "IGL", "s", "c")])
    assert rows_of(pairs) == [(1, 1, 1, 1), (2, 3, 1, 1)]
    assert pairs.light_locus.tolist() == [0, 1]


# --- Scores --------------------------------------------------------------------------------------


def unit(rng: np.random.Generator, n: int, dim: int = 8) -> np.ndarray:
    vectors = rng.normal(size=(n, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def made(
    rng: np.random.Generator, n_units: int, n_pairs: int
) -> tuple[Pairs, UnitRows, dict[int, np.ndarray]]:
    """Pairs over vectors that lie in three blocks in no order of id, some units in several pairs."""
    ids = rng.permutation(3 * n_units)[:n_units] + 5
    vectors = unit(rng, n_units)
    cuts = [0, n_units // 4, n_units // 2, n_units]
    blocks = [Block(vectors[a:b], ids[a:b].astype(np.int64)) for a, b in pairwise(cuts)]
    chains = []
    for n in range(n_pairs):
        heavy, light = rng.choice(ids, 2)
        chains += [Chain(n, 1, int(heavy), "IGH"), Chain(n, 2, int(light), "IGK")]
    return pair_chains(chains), UnitRows(blocks, 8), dict(zip(ids.tolist(), vectors, strict=True))


@pytest.mark.parametrize("k", [1, 4, 60])
def test_nearest_pairs_are_those_of_a_plain_product(monkeypatch, k):
    monkeypatch.setattr(pair_scores, "_TILE", 7)
    rng = np.random.default_rng(k)
    pairs, rows, known = made(rng, 20, 50)
    heavy, light = unit(rng, 6), unit(rng, 6)
    excluded = [np.array([], np.int64), np.array([0, 13, 49]), *[np.array([], np.int64)] * 4]
    best = nearest_pairs(heavy, light, tiles(pairs, np.arange(50), rows), k, excluded)
    targets = [np.array([known[i] for i in ids.tolist()], np.float64) for ids in (pairs.heavy, pairs.light)]
    truth = (heavy.astype(np.float64) @ targets[0].T + light.astype(np.float64) @ targets[1].T) / 2
    truth[1, [0, 13, 49]] = -np.inf
    for query in range(6):
        order = np.lexsort((np.arange(50), -truth[query].round(6)))[:k]
        np.testing.assert_allclose(best.scores[query], truth[query][order], atol=1e-6)
        found = best.ids[query][best.scores[query] > -np.inf]
        near = rescored(heavy[query], light[query], found, pairs, rows, None)
        np.testing.assert_allclose(near.scores, truth[query][near.places], atol=1e-6)
        np.testing.assert_allclose(near.heavy, heavy[query] @ targets[0][near.places].T, atol=1e-6)
        np.testing.assert_allclose(near.light, light[query] @ targets[1][near.places].T, atol=1e-6)
        assert (np.diff(near.scores) <= 0).all()


def test_a_score_too_low_is_left_out():
    rng = np.random.default_rng(0)
    pairs, rows, _ = made(rng, 20, 50)
    heavy, light = unit(rng, 1)[0], unit(rng, 1)[0]
    every = rescored(heavy, light, np.arange(50), pairs, rows, None)
    some = rescored(heavy, light, np.arange(50), pairs, rows, 0.2)
    assert 0 < len(some.places) < 50
    assert some.places.tolist() == every.places[every.scores >= 0.2].tolist()


def test_units_of_blocks_are_found_by_id():
    rng = np.random.default_rng(1)
    _, rows, known = made(rng, 20, 1)
    asked = np.array([*known][::-1])
    np.testing.assert_array_equal(rows.take(asked), np.array([known[i] for i in asked.tolist()]))
    assert rows.has(np.array([*known, 1, 2])).tolist() == [True] * 20 + [False] * 2
    assert UnitRows([], 8).take(np.array([], np.int64)).shape == (0, 8)
