"""How alike the variable domains of a query and of a hit are: genes, residues and vectors, region by region.

Concepts
--------
The *identity* of two regions is that of CDR3 (`plmsearch.search.cdr3.cdr3_identity`): of one length, the
share of positions with the same letter; else by edit distance. That of the V region is the mean over FWR1 to
FWR3, each by the positions of the longer of the two.

Genes are the *same* if one of those that the query may stem from is one of the target's. A query without
calls has the genes that its residues say, of the species of the target's inferred genes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, lru_cache

from plmsearch.domains import REGION_SETS
from plmsearch.germlines.genes import GermlineSet
from plmsearch.numbering import REGIONS, Domain
from plmsearch.search.cdr3 import cdr3_identity
from plmsearch.search.hits import Hit, Query
from plmsearch.search.receptors import genes_of
from plmsearch.store.rows import StoredDomain

__all__ = ["COSINE_COLUMNS", "LIKENESS_COLUMNS", "inferred_genes"]

_V_REGIONS = REGIONS[: REGIONS.index("cdr3")]


# --- Residues ------------------------------------------------------------------------------------


def _cuts(query: Query, hit: Hit) -> tuple[Mapping[str, str], Mapping[str, str]] | None:
    """Return the residues of both by region."""
    if query.domain is None or hit.domain is None or not query.residues:
        return None
    return _regions(query.residues, query.domain.ends), _regions(hit.residues, hit.domain.ends)


@lru_cache(maxsize=1 << 14)
def _regions(residues: str, ends: tuple[int, ...]) -> Mapping[str, str]:
    starts = (0, *ends[:-1])
    return {name: residues[i:j] for name, i, j in zip(REGIONS, starts, ends, strict=True)}


def _identity(region: str) -> Callable[[Query, Hit], float | None]:
    """Return the identity of a region; None where one of the two lacks it."""

    def identity(query: Query, hit: Hit) -> float | None:
        cuts = _cuts(query, hit)
        own, other = ("", "") if cuts is None else (cut[region] for cut in cuts)
        return cdr3_identity(own, other) if own and other else None

    return identity


def _v_region_identity(query: Query, hit: Hit) -> float | None:
    """Return the identity of FWR1 to FWR3 together, leaving out regions that one of the two lacks."""
    cuts = _cuts(query, hit)
    if cuts is None:
        return None
    pairs = [(cuts[0][name], cuts[1][name]) for name in _V_REGIONS]
    known = [(max(len(own), len(other)), cdr3_identity(own, other)) for own, other in pairs if own and other]
    n_positions = sum(length for length, _ in known)
    return sum(length * share for length, share in known) / n_positions if n_positions else None


# --- Genes ---------------------------------------------------------------------------------------


@cache
def _germlines(species: str) -> GermlineSet | None:
    shipped = GermlineSet.load(None, None)
    return shipped.of_species(species) if species in shipped.species else None


@lru_cache(maxsize=4096)
def inferred_genes(domain: StoredDomain, residues: str, species: str | None) -> StoredDomain:
    """Return a domain with the genes that its residues say, unless it has genes.

    Parameters
    ----------
    domain : StoredDomain
    residues : str
        Of the domain.
    species : str or None
        Of the germlines that are shipped; of another, or None, nothing is inferred.
    """
    germlines = _germlines(species) if species and domain.v_call is None else None
    if germlines is None:
        return domain
    regions = _regions(residues, domain.ends)
    calls = germlines.infer(Domain(domain.locus, 0, domain.ends[-1], regions, 1.0, domain.is_complete))
    return domain._replace(v_call=calls.v_call, j_call=calls.j_call)


def _same(segment: str) -> Callable[[Query, Hit], bool | None]:
    """Return whether query and target share a gene; None where those of one of them are not known."""

    def same(query: Query, hit: Hit) -> bool | None:
        other = genes_of(hit.metadata, hit.domain, segment)
        own = genes_of(query.metadata, query.domain, segment)
        if not own and query.domain is not None and hit.domain is not None:
            domain = inferred_genes(query.domain, query.residues, hit.domain.species)
            own = genes_of(query.metadata, domain, segment)
        return not set(own).isdisjoint(other) if own and other else None

    return same


# --- Vectors -------------------------------------------------------------------------------------

#: Cosine similarity of a region, by name of the column; that of the first space of the ranking with it.
COSINE_COLUMNS: Mapping[str, str] = {f"cosine_{region}": region for region in REGION_SETS}


def _cosine(region: str) -> Callable[[Query, Hit], float | None]:
    return lambda _, hit: None if hit.cosines is None else hit.cosines.get(region)


#: Columns by name; None where there is nothing to say.
LIKENESS_COLUMNS: Mapping[str, Callable[[Query, Hit], object]] = {
    **{f"{region}_identity": _identity(region) for region in REGIONS if region != "cdr3"},
    "v_region_identity": _v_region_identity,
    "same_v": _same("v"),
    "same_j": _same("j"),
    **{column: _cosine(region) for column, region in COSINE_COLUMNS.items()},
}
