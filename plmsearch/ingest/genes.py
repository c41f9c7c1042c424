"""Germline genes of the variable domains that come into a database, found by their residues.

Genes are inferred of every domain, also where the input has calls: a domain is stored once for all rows that
hold it. Calls of the input are kept as they are, and count before inferred ones
(`plmsearch.filters.derived.gene_names`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from plmsearch.domains import CutDomain
from plmsearch.embedding.spec import EmbeddingSpec
from plmsearch.errors import ParameterError
from plmsearch.germlines.genes import GermlineSet
from plmsearch.ingest.report import GeneOptions
from plmsearch.numbering import REGIONS, Domain

__all__ = ["GeneFinder", "gene_finder"]

Sample: TypeAlias = Callable[[], Sequence[CutDomain]]


class GeneFinder:
    """Finds the germline genes of domains, of one species at a time: the one that suits an input.

    Parameters
    ----------
    options : GeneOptions
    say : callable
        Told which species was inferred, and from what.

    Attributes
    ----------
    evidence : list of str
        What was told.

    Raises
    ------
    InputNotFoundError, FileFormatError, ParameterError
        If the germlines cannot be read, or there are none of the species.
    """

    def __init__(self, options: GeneOptions, say: Callable[[str], None] = lambda _: None) -> None:
        path = None if options.germlines is None else Path(options.germlines)
        self._options, self._say = options, say
        self._set = GermlineSet.load(path, options.species)
        self._chosen: GermlineSet | None = self._set if len(self._set.species) < 2 else None
        self._sample: Sample = tuple
        self._source = ""
        self.evidence: list[str] = []

    def begin(self, sample: Sample, source: str = "") -> None:
        """Begin with an input: its species is inferred when the first genes are asked for.

        Parameters
        ----------
        sample : callable
            Returns domains of the input. If there are none, the species is the first of the set.
        source : str
            Name of the input, for messages.
        """
        self._sample, self._source = sample, source
        if len(self._set.species) > 1:
            self._chosen = None

    def _germlines(self) -> GermlineSet:
        """Return the germlines of the species of the input."""
        if self._chosen is None:
            evidence = self._set.infer_species([_as_domain(cut) for cut in self._sample()])
            self._chosen = self._set.of_species(evidence.species)
            said = evidence.describe()
            self.evidence.append(f"{self._source}: {said}" if self._source else said)
            self._say(self.evidence[-1])
        return self._chosen

    def find(self, cuts: Sequence[CutDomain]) -> list[dict[str, Any]]:
        """Return the genes of domains, as fields of `plmsearch.store.rows.StoredDomain`.

        A call is empty where no gene is near enough.
        """
        found = self._germlines().infer_all([_as_domain(cut) for cut in cuts])
        return [
            {
                "v_call": call.v_call,
                "j_call": call.j_call,
                "v_identity": None if math.isnan(call.v_identity_aa) else call.v_identity_aa,
                "species": call.species if call.v_call or call.j_call else "",
            }
            for call in found
        ]

    def describe(self) -> dict[str, object]:
        """Return what decides the calls, for the provenance of a run."""
        return {
            **asdict(self._options),
            "source": self._set.source,
            "n_germlines": len(self._set.germlines),
            "sha256": _digest(self._set),
        }


def gene_finder(
    options: GeneOptions, specs: Sequence[EmbeddingSpec], say: Callable[[str], None]
) -> GeneFinder | None:
    """Return what finds genes, if there are spaces of variable domains and genes are wanted.

    Raises
    ------
    ParameterError
        If germlines or a species are given for a database without spaces of variable domains.
    """
    if any(spec.reads_domains for spec in specs):
        return GeneFinder(options, say) if options.infer else None
    if options.is_asked:
        name, value = ("germlines", options.germlines) if options.germlines else ("species", options.species)
        expected = "left out: whole chains are embedded, not variable domains (see --preset antibody)"
        raise ParameterError(name, value, expected)
    return None


def _as_domain(cut: CutDomain) -> Domain:
    regions = {name: cut.region(name) for name in REGIONS}
    return Domain(cut.locus, cut.start, cut.end, regions, 1.0, cut.is_complete)


def _digest(germlines: GermlineSet) -> str:
    """Return the SHA-256 of what the genes are, whatever file they were read from."""
    lines = (
        "\t".join((g.species, g.locus, g.segment, ",".join(g.names), *(g.regions[name] for name in REGIONS)))
        for g in germlines.germlines
    )
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
