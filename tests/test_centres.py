"""The shipped reference centres: whose they are, what is in the file, and what they do."""

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from plmsearch.embedding.centres import reference_centres
from plmsearch.embedding.embed import embed_sequences, make_specs, plan_of
from plmsearch.embedding.registry import load_embedder
from plmsearch.transform import Transform

REPO = Path(__file__).resolve().parents[1]
FILE = REPO / "plmsearch" / "embedding" / "centres.safetensors"
REGIONS = ("whole", "fwr1", "cdr1", "fwr2", "cdr2", "fwr3", "cdr3", "fwr4", "cdrs", "fwr")
LOCI = ("IGH", "IGK", "IGL")


@pytest.fixture(scope="module")
def embedder():
    return load_embedder("antiberty", device="cpu", precision="float32")


@pytest.fixture(scope="module")
def spec(embedder):
    return make_specs(embedder, [6])[0]


# --- Whose they are ------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", range(9))
@pytest.mark.parametrize("region", REGIONS)
def test_every_layer_and_region_has_a_centre_of_each_locus_and_of_none(spec, layer, region):
    found = reference_centres(replace(spec, layer=layer, region=region, numbering="IMGT, immunum"))
    assert found is not None
    assert set(found) == {*LOCI, ""}
    for centre in found.values():
        assert (centre.dtype, centre.shape) == (np.float32, (512,))
        assert np.isfinite(centre).all()
        assert centre.any()


@pytest.mark.parametrize(
    "change",
    [
        {"model_id": "esm2_t6_8M_UR50D"},
        {"weights_digest": "0" * 64},
        {"pooling": "max"},
        {"pooling": "cls"},
        {"layer": 9},
        {"region": "cdr4"},
    ],
    ids=str,
)
def test_any_other_space_has_none(spec, change):
    assert reference_centres(replace(spec, **change)) is None


def test_a_chain_of_unknown_locus_gets_the_mean_of_the_three(spec):
    found = reference_centres(spec)
    mean = np.mean([found[locus].astype(np.float64) for locus in LOCI], axis=0)
    np.testing.assert_allclose(found[""], mean, rtol=1e-6)


def test_loci_layers_and_regions_have_centres_that_differ(spec):
    seen = [
        reference_centres(replace(spec, layer=layer, region=region))[locus].tobytes()
        for layer in range(9)
        for region in REGIONS
        for locus in LOCI
    ]
    assert len(set(seen)) == len(seen)


def test_centres_cannot_be_written(spec):
    found = reference_centres(spec)
    with pytest.raises(ValueError, match="read-only"):
        found["IGH"][0] = 0
    with pytest.raises(TypeError):
        found["IGH"] = found["IGK"]


def test_reading_them_loads_no_torch(spec):
    script = (
        "import sys\nfrom plmsearch.embedding.centres import reference_centres\n"
        "from plmsearch.embedding.spec import EmbeddingSpec\n"
        f"assert reference_centres(EmbeddingSpec.from_json({spec.to_json()!r}))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


# --- The file ------------------------------------------------------------------------------------


def test_the_file_is_small_and_says_what_it_is(embedder):
    assert FILE.stat().st_size < 600_000
    with safe_open(FILE, framework="numpy") as file:
        facts = file.metadata()
    assert "SIMULATED" in facts["what"]
    assert facts["weights_digest"] == embedder.weights_digest
    chains = facts["chains"].split()
    assert tuple(chains[::2]) == LOCI
    assert [int(n) for n in chains[1::2]] == [780, 806, 800]
    assert {"numbering", "seed", "simulator", "mutations"} <= set(facts)


def test_the_regions_of_a_domain_add_up_to_the_whole(spec):
    """Chains weigh alike, residues do not, so this holds roughly, and only if regions are not swapped."""
    n_residues = dict(zip(REGIONS[1:8], (25, 8, 17, 8, 38, 14, 11), strict=True))  # of a heavy chain
    of = {region: reference_centres(replace(spec, region=region))["IGH"] for region in REGIONS}
    for whole, parts in (("whole", REGIONS[1:8]), ("cdrs", REGIONS[2:8:2]), ("fwr", REGIONS[1:8:2])):
        total = sum(n_residues[p] * of[p] for p in parts) / sum(n_residues[p] for p in parts)
        assert np.linalg.norm(total - of[whole]) < 0.12 * np.linalg.norm(of[whole])


@pytest.fixture(scope="module")
def script():
    """``scripts/make_centres.py`` as a module; it needs GenAIRR, a development dependency."""
    pytest.importorskip("GenAIRR")
    found = importlib.util.spec_from_file_location("make_centres", REPO / "scripts" / "make_centres.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_region_means_are_means_over_the_residues_of_the_region(script, embedder):
    (domain,) = script.ImmunumNumberer().domains(founders("heavy", "IGH")[0])
    means = script.region_means(embedder, [domain])
    residues = "".join(domain.regions.values())
    output = embedder.residue_embeddings([residues], range(9))
    at = residues.index(domain.regions["cdr3"])
    expected = output.layers[4][0, at : at + len(domain.regions["cdr3"])].mean(axis=0)
    np.testing.assert_allclose(means[4, REGIONS.index("cdr3"), 0], expected, atol=1e-5)
    np.testing.assert_allclose(means[6, 0, 0], output.layers[6][0].mean(axis=0), atol=1e-5)
    assert tuple(script.POOLED) == REGIONS


def test_the_script_draws_the_same_chains_again_and_first_the_same(script):
    drawn = script.draw_domains("IGK", 3)
    assert script.draw_domains("IGK", 2) == drawn[:2]
    assert all(domain.locus == "IGK" and all(domain.regions.values()) for domain in drawn)
    assert len({domain.regions["cdr3"] for domain in drawn}) == 3


@pytest.mark.slow
def test_the_script_makes_the_first_chains_of_the_file_again(script):
    assert script.check(FILE) < script.TOLERANCE


# --- What they do --------------------------------------------------------------------------------


def founders(name, locus):
    """The first example chain of each clonal family of a locus; see examples/README.md: simulated."""
    lines = (REPO / "examples" / f"{name}.fasta").read_text().splitlines()
    first = {}
    for header, residues in zip(lines[::2], lines[1::2], strict=True):
        words = header.split()
        if locus in words:
            first.setdefault(words[3], residues)
    return list(first.values())


@pytest.mark.parametrize(
    ("name", "locus", "raw_above", "centred_within"),
    [("heavy", "IGH", 0.6, 0.1), ("light", "IGK", 0.5, 0.15), ("light", "IGL", 0.4, 0.15)],
)
def test_unrelated_chains_are_alike_without_a_centre_and_not_with_it(
    embedder, spec, name, locus, raw_above, centred_within
):
    chains = founders(name, locus)  # 40, 12 and 8
    raw = embed_sequences(embedder, chains, plan_of([spec])).vectors[6]
    pairs = np.triu_indices(len(chains), 1)

    def median_cosine(transform):
        unit = transform.apply(raw, [locus] * len(chains))
        return np.median((unit @ unit.T)[pairs])

    assert median_cosine(Transform()) > raw_above
    assert abs(median_cosine(Transform("reference", reference_centres(spec)))) < centred_within
