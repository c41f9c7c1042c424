"""Regions pooled in the context of their domain, against means over the residues that a model gives."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from antibodies import VH_2, VH_3
from support import VH, VL

from plmsearch.domains import REGION_SETS, cut_domains
from plmsearch.embedding.base import Embedder, ResidueEmbeddings
from plmsearch.embedding.embed import make_specs
from plmsearch.embedding.regions import Unit, embed_units
from plmsearch.embedding.registry import load_embedder, model_card
from plmsearch.errors import ParameterError, SequenceTooLongError
from plmsearch.numbering import REGIONS, ImmunumNumberer

NUMBERER = ImmunumNumberer()
NAMES = tuple(REGION_SETS)
UNITS = [
    Unit(cut.residues, cut.ends) for chain in (VH, VL, VH_2, VH_3) for cut in cut_domains(chain, NUMBERER)
]
#: Without CDR1 and with an FWR4 of one residue.
UNITS.append(Unit("ACDEFGHIKL", (3, 3, 5, 6, 8, 9, 10)))


class Numbers(Embedder):
    """Residue embeddings that say where they are from; what stands at padding must not be read."""

    card = replace(model_card("kmer"), dim=3, n_layers=2, default_layer=1, max_residues=200, family="test")
    weights_digest = "0" * 64

    def residue_embeddings(self, sequences: Sequence[str], layers: Sequence[int]) -> ResidueEmbeddings:
        longest = max(map(len, sequences))
        made = {layer: np.full((len(sequences), longest, 3), np.nan, np.float32) for layer in layers}
        for layer, array in made.items():
            for row, residues in enumerate(sequences):
                array[row, : len(residues)] = of_residues(residues, layer)
        return ResidueEmbeddings(made, np.array([len(s) for s in sequences]))


def of_residues(residues: str, layer: int) -> np.ndarray:
    place = np.arange(len(residues))
    letters = np.frombuffer(residues.encode(), np.uint8)
    return np.column_stack([letters / 64 + layer, np.cos(place), (place * letters) % 7]).astype(np.float32)


def wanted(unit: Unit, array: np.ndarray, region: str, pooling: str) -> np.ndarray:
    """Pool the residues whose region is asked for, one by one."""
    of_residue = [r for r, n in zip(REGIONS, np.diff([0, *unit.ends]), strict=True) for _ in range(n)]
    chosen = array[[r in REGION_SETS[region] for r in of_residue]].astype(np.float64)
    return chosen.max(axis=0) if pooling == "max" else chosen.mean(axis=0)


def specs_of(embedder: Embedder, layers=(1,), pooling="mean", regions=NAMES):
    return make_specs(embedder, layers, pooling=pooling, regions=regions, numbering=NUMBERER.describe())


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_a_vector_is_pooled_over_the_residues_of_its_region(pooling):
    specs = specs_of(Numbers(), layers=(0, 2), pooling=pooling)
    made = embed_units(Numbers(), UNITS, specs, 64)
    for spec in specs:
        for row, unit in enumerate(UNITS):
            if not made.present[spec][row]:
                assert (row, spec.region) == (len(UNITS) - 1, "cdr1")
                assert not made.vectors[spec][row].any()
                continue
            expected = wanted(unit, of_residues(unit.residues, spec.layer), spec.region, pooling)
            np.testing.assert_allclose(made.vectors[spec][row], expected, rtol=1e-5, atol=1e-5)
    assert made.n_used.tolist() == [len(u.residues) for u in UNITS]


def test_neither_order_nor_neighbours_nor_batches_matter():
    specs = specs_of(Numbers())
    once = embed_units(Numbers(), UNITS, specs, 10_000)
    order = list(range(len(UNITS)))
    random.Random(0).shuffle(order)
    for budget in (1, 130, 300):
        again = embed_units(Numbers(), [UNITS[i] for i in order], specs, budget)
        for spec in specs:
            np.testing.assert_allclose(again.vectors[spec], once.vectors[spec][order], atol=1e-5)
    assert embed_units(Numbers(), UNITS, specs, 1).n_forward_passes == len(UNITS)


def test_all_regions_and_layers_come_out_of_the_same_passes():
    specs = specs_of(Numbers(), layers=(0, 1, 2))
    assert len(specs) == 3 * len(NAMES)
    assert embed_units(Numbers(), UNITS, specs, 10_000).n_forward_passes == 1


def test_what_cannot_be_done_is_refused():
    specs = specs_of(Numbers())
    with pytest.raises(SequenceTooLongError):
        embed_units(Numbers(), [Unit("A" * 201, (1, 2, 3, 4, 5, 6, 201))], specs)
    chains = make_specs(Numbers(), (1,), pooling="mean", long="window")
    with pytest.raises(ParameterError, match="alike"):
        embed_units(Numbers(), UNITS, [*specs, *chains])


def test_regions_of_a_real_model_are_means_over_its_residues():
    """In the context of the whole domain: not what the region alone would give."""
    embedder = load_embedder("antiberty", device="cpu", precision="float32")
    units, layer = UNITS[:2], embedder.card.default_layer
    specs = specs_of(embedder, layers=(layer,), regions=("whole", "cdr3", "cdrs"))
    made = embed_units(embedder, units, specs, 10_000)
    alone = [embed_units(embedder, [u], specs, 1) for u in units]
    for row, unit in enumerate(units):
        array = embedder.residue_embeddings([unit.residues], (layer,)).layers[layer][0]
        for spec in specs:
            expected = wanted(unit, array, spec.region, "mean")
            for vector in (made.vectors[spec][row], alone[row].vectors[spec][0]):
                np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-5)
    start, end = units[0].ends[4], units[0].ends[5]
    cdr3 = embedder.residue_embeddings([units[0].residues[start:end]], (layer,)).layers[layer][0].mean(axis=0)
    assert np.abs(cdr3 - made.vectors[specs[1]][0]).max() > 0.05
