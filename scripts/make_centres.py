"""Make plmsearch/embedding/centres.safetensors: mean vectors of SIMULATED human antibody chains.

    python scripts/make_centres.py            # write the file anew: minutes
    python scripts/make_centres.py --check    # make the first chains of each locus again and compare

For antiberty, each layer 0..8, region and locus: the mean over chains of the mean over the residues of
the region, in the context of the variable domain, which alone is what the model reads. No sequence of
any person goes in: V(D)J recombination and somatic hypermutation (S5F) are GenAIRR's. Each chain is a
rearrangement of its own, so chains are independent. Each V gene has equally many chains, each J gene is
equally likely, and so is each allele of a gene: donors use genes differently, and a fixed centre is to
prefer no donor. docs/decisions/0012-reference-centres.md has the reasons and what was measured.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import GenAIRR
import GenAIRR.data
import numpy as np
from Bio.Seq import Seq
from safetensors import safe_open
from safetensors.numpy import save_file

from plmsearch.embedding.base import Embedder
from plmsearch.embedding.batching import DEFAULT_BATCH_TOKENS, token_batches
from plmsearch.embedding.registry import load_embedder
from plmsearch.numbering import REGIONS, Domain, ImmunumNumberer

Array: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

FILE = Path(__file__).resolve().parents[1] / "plmsearch" / "embedding" / "centres.safetensors"
GENAIRR_VERSION = "2.3.1"  # another version may draw other sequences from the same seed
SEED = 20261124
MODEL = "antiberty"
LOCI = {"IGH": "hh_s5f", "IGK": "hkl_s5f", "IGL": "hkl_s5f"}  # and the S5F table of each

#: Chains of each V gene. The sets have 52, 31 and 40 genes: 780, 806 and 800 chains.
PER_GENE = {"IGH": 15, "IGK": 26, "IGL": 20}

#: Mutations of a chain, with weights: a quarter naive, the others 1 to 40 equally often, which is up
#: to 11% of the bases; memory cells have about 2-8% in their V genes.
MUTATIONS = [(0, 0.25), *((count, 0.75 / 40) for count in range(1, 41))]

#: Pooled region -> the IMGT regions whose residues it averages.
POOLED: dict[str, tuple[str, ...]] = {
    "whole": REGIONS,
    **{region: (region,) for region in REGIONS},
    "cdrs": ("cdr1", "cdr2", "cdr3"),
    "fwr": ("fwr1", "fwr2", "fwr3", "fwr4"),
}

#: The means of the first chains of each locus are stored too, so that `--check` needs no more chains.
N_PROBE = 16
TOLERANCE = 1e-4  # relative; float32 differs by 1e-5 between machines and batches
PROBED = ((6, "whole"), (6, "cdr3"))  # layer, region


# --- Drawing chains ------------------------------------------------------------------------------


def draw_domains(locus: str, n: int) -> list[Domain]:
    """Draw whole variable domains, one of each V gene in turn; the first ones do not depend on n."""
    genes = v_genes(locus)[:n]
    per_gene = -(-n // len(genes))
    drawn = [draw_of_gene(locus, gene, SEED + i, per_gene) for i, gene in enumerate(genes)]
    return [domain for turn in zip(*drawn, strict=True) for domain in turn][:n]


def draw_of_gene(locus: str, gene: str, seed: int, n: int) -> list[Domain]:
    """Draw domains of one V gene; a chain that is not whole, or has a stop, is left out."""
    data = getattr(GenAIRR.data, f"HUMAN_{locus}_OGRDB")
    experiment = GenAIRR.Experiment.on(f"human_{locus.lower()}")
    experiment = experiment.restrict_alleles(v=[allele.name for allele in data.v_alleles[gene]])
    experiment = experiment.recombine(
        j_allele_weights={a.name: 1 / len(alleles) for alleles in data.j_alleles.values() for a in alleles}
    )
    experiment = experiment.mutate(count=MUTATIONS, s5f_model=LOCI[locus]).productive_only()
    for per_chain in (2, 8, 32, 128):  # more records of one seed begin with the same ones
        records = experiment.run_records(n=per_chain * n + 2, seed=seed)
        whole = list(itertools.islice(whole_domains(locus, records), n))
        if len(whole) == n:
            return whole
    raise SystemExit(f"too few chains of {gene} are whole")


def n_chains(locus: str) -> int:
    """Return how many chains of a locus the file is made of."""
    return PER_GENE[locus] * len(v_genes(locus))


def v_genes(locus: str) -> list[str]:
    """Name the V genes of GenAIRR's set of alleles: clusters of alleles, by nucleotides."""
    return sorted(getattr(GenAIRR.data, f"HUMAN_{locus}_OGRDB").v_alleles)


def whole_domains(locus: str, records: Sequence[Mapping[str, Any]]) -> Iterator[Domain]:
    """Number chains; yield those that are one variable domain of the locus, with every region."""
    numberer = ImmunumNumberer()
    for record in records:
        nucleotides = str(record["sequence"]).upper()
        residues = str(Seq(nucleotides[: len(nucleotides) // 3 * 3]).translate())
        domains = numberer.domains(residues, ("IG",))
        if "*" in residues or len(domains) != 1:
            continue
        (domain,) = domains
        covers = (domain.start, domain.end) == (0, len(residues))
        if domain.locus == locus and covers and all(domain.regions.values()):
            yield domain


# --- Region means --------------------------------------------------------------------------------


def region_means(embedder: Embedder, domains: Sequence[Domain]) -> Array:
    """Average each region of each domain: float32, shape (n_layers + 1, n_regions, n, d)."""
    layers = range(embedder.card.n_layers + 1)
    residues = ["".join(domain.regions.values()) for domain in domains]
    means = np.empty((len(layers), len(POOLED), len(domains), embedder.card.dim), dtype=np.float32)
    for batch in token_batches([len(r) for r in residues], DEFAULT_BATCH_TOKENS):
        output = embedder.residue_embeddings([residues[i] for i in batch], layers)
        for row, i in enumerate(batch):
            places = region_places(domains[i])
            for (layer, array), (region, place) in itertools.product(
                output.layers.items(), enumerate(places)
            ):
                means[layer, region, i] = array[row, place].mean(axis=0)
    return means


def region_places(domain: Domain) -> list[list[int]]:
    """Places of the residues of each pooled region, counted from the start of the domain."""
    ends = np.cumsum([len(domain.regions[name]) for name in REGIONS])
    spans = {
        name: range(end - len(domain.regions[name]), end) for name, end in zip(REGIONS, ends, strict=True)
    }
    return [[place for name in names for place in spans[name]] for names in POOLED.values()]


# --- The file ------------------------------------------------------------------------------------


def centres_of(locus: str, means: Array) -> dict[str, Array]:
    """Average over chains in float64, and name each centre."""
    mean = means.mean(axis=2, dtype=np.float64).astype(np.float32)
    return {
        f"{MODEL}/{layer}/{region}/{locus}": mean[layer, i]
        for layer in range(len(mean))
        for i, region in enumerate(POOLED)
    }


def probe_of(locus: str, means: Array) -> dict[str, Array]:
    """Keep those of `PROBED` from the centres of the first chains."""
    first = centres_of(locus, means[:, :, :N_PROBE])
    names = [f"{MODEL}/{layer}/{region}/{locus}" for layer, region in PROBED]
    return {f"probe/{name}": first[name] for name in names}


def facts(embedder: Embedder) -> dict[str, str]:
    """Say what the file holds and how it was made."""
    return {
        "what": "mean raw vectors of SIMULATED human antibody chains, by model/layer/region/locus",
        "model_id": embedder.card.model_id,
        "weights_digest": embedder.weights_digest,
        "pooling": "mean",
        "numbering": ImmunumNumberer().describe(),
        "chains": " ".join(f"{locus} {n_chains(locus)}" for locus in LOCI),
        "seed": str(SEED),
        "simulator": f"GenAIRR {GENAIRR_VERSION}, human OGRDB germline sets, equally many chains per V gene",
        "mutations": "S5F; none in a quarter of the chains, 1 to 40 bases in the others",
    }


def write(path: Path) -> None:
    """Make the file."""
    embedder = load_embedder(MODEL, device="cpu", precision="float32")
    tensors: dict[str, Array] = {}
    for locus in LOCI:
        means = region_means(embedder, draw_domains(locus, n_chains(locus)))
        tensors |= centres_of(locus, means) | probe_of(locus, means)
        say(f"{locus}: {n_chains(locus)} chains")
    save_file(tensors, path, metadata=facts(embedder))
    say(f"{path}: {path.stat().st_size} bytes")


def say(text: str) -> None:
    """Print to standard error."""
    sys.stderr.write(f"{text}\n")


def check(path: Path) -> float:
    """Make the first chains again; return the largest difference from the file, in its largest component."""
    embedder = load_embedder(MODEL, device="cpu", precision="float32")
    worst = 0.0
    with safe_open(path, framework="numpy") as file:
        if file.metadata() != facts(embedder):
            raise SystemExit(f"{path} was made otherwise: {file.metadata()}")
        for locus in LOCI:
            made = probe_of(locus, region_means(embedder, draw_domains(locus, N_PROBE)))
            for name, centre in made.items():
                stored = file.get_tensor(name)
                worst = max(worst, float(np.abs(stored - centre).max() / np.abs(stored).max()))
    return worst


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the file, or check it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("path", nargs="?", type=Path, default=FILE)
    parser.add_argument("--check", action="store_true", help="compare the file with a few chains made anew")
    options = parser.parse_args(arguments)
    if GenAIRR.__version__ != GENAIRR_VERSION:
        raise SystemExit(f"GenAIRR is {GenAIRR.__version__}, the file is of {GENAIRR_VERSION}")
    if not options.check:
        write(options.path)
        return
    worst = check(options.path)
    say(f"largest relative difference {worst:.1e}")
    if worst > TOLERANCE:
        raise SystemExit("the file is not what this script makes")


if __name__ == "__main__":
    main()
