"""Variable domains of rows on their way into a database, or of queries."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence

from plmsearch.domains import CHAIN_SEPARATOR, CutDomain, chains_without, cut_domains
from plmsearch.embedding.regions import Unit
from plmsearch.formats.tables import is_missing
from plmsearch.ingest.batch import Batch
from plmsearch.ingest.genes import GeneFinder
from plmsearch.ingest.prepare import Prepared
from plmsearch.numbering import REGIONS, ImmunumNumberer, is_t_cell_receptor
from plmsearch.sequences import sequence_hash
from plmsearch.store.repository import Repository
from plmsearch.store.rows import StoredDomain
from plmsearch.translation import codes_for

__all__ = [
    "DomainFinder",
    "as_stored",
    "disagreements",
    "find_domains",
    "idle_chains",
    "misplaced_chains",
    "numbering_in_use",
    "why_no_domain",
]

#: Columns that an input may bring and numbering gives too.
_COMPARED = ("locus", "junction_aa", *(f"{region}_aa" for region in REGIONS))


@functools.cache
def _numberer() -> ImmunumNumberer:
    return ImmunumNumberer()


def numbering_in_use() -> str:
    """Return scheme, tool and version, as a space of domains records them."""
    return _numberer().describe()


@functools.lru_cache(maxsize=4096)
def find_domains(residues: str) -> tuple[CutDomain, ...]:
    """Return the immunoglobulin variable domains of a record, in order of place."""
    return cut_domains(residues, _numberer())


def why_no_domain(residues: str) -> str:
    """Say why a record has no place in a space of antibody variable domains."""
    if not residues:
        return "its sequence is not known"
    if is_t_cell_receptor(residues):
        return "it is a T-cell receptor, no antibody"
    return "it holds no antibody variable domain with its CDR3 and the residues that anchor it"


def idle_chains(residues: str, starts: Sequence[int]) -> str:
    """Say which chains of a record that holds domains hold none, and why; '' if there are none.

    Parameters
    ----------
    residues : str
    starts : sequence of int
        Where its domains begin.
    """
    chains = residues.split(CHAIN_SEPARATOR)
    numbers = chains_without(residues, starts) if starts and len(chains) > 1 else []
    return ", ".join(f"chain {n} of {len(chains)}: {why_no_domain(chains[n - 1])}" for n in numbers)


def as_stored(domain: CutDomain, *, source_id: int, sequence_id: int) -> StoredDomain:
    """Return a domain as the catalog holds it."""
    return StoredDomain(
        source_id, domain.number, sequence_id, domain.locus, domain.start, domain.ends, domain.is_complete
    )


def as_cut(domain: StoredDomain, residues: str) -> CutDomain:
    """Return a stored domain with its residues, cut from those of its source."""
    end = domain.start + domain.ends[-1]
    own = residues[domain.start : end]
    return CutDomain(domain.number, domain.locus, domain.start, end, own, domain.ends, domain.is_complete)


def disagreements(metadata: Mapping[str, str], residues: str, domains: Sequence[StoredDomain]) -> list[str]:
    """Return the columns in which a row says otherwise than its residues do, or than another column.

    The value of the input is kept; a row with several domains agrees if one of them does.

    Parameters
    ----------
    metadata : mapping of str to str
        ``locus``, ``junction_aa``, ``cdr3_aa`` and the other regions in AIRR's spelling are compared with
        what numbering gives, if there are domains, and ``junction`` with ``junction_aa``.
    residues : str
    domains : sequence of StoredDomain
        Of the residues.
    """
    given = {name: value.upper() for name in _COMPARED if (value := metadata.get(name))}
    found = (
        [] if codes_for(*(_cell(metadata, name) for name in ("junction", "junction_aa"))) else ["junction"]
    )
    if not given or not domains:
        return found
    cuts = [as_cut(domain, residues) for domain in domains]
    return found + [name for name, value in given.items() if value not in {_value(cut, name) for cut in cuts}]


def misplaced_chains(kinds: Sequence[str], residues: str, domains: Sequence[CutDomain | StoredDomain]) -> int:
    """Count the chains of a record that are not of the kind that their column is said to hold.

    Parameters
    ----------
    kinds : sequence of str
        Of its chains: `plmsearch.sequences.SequenceRecord.chain_kinds`.
    residues : str
    domains : sequence of CutDomain or StoredDomain
        Of the residues. A chain that holds none, or one of either kind, is not counted.
    """
    found: dict[int, set[str]] = {}
    for domain in domains:
        chain = residues.count(CHAIN_SEPARATOR, 0, domain.start)
        found.setdefault(chain, set()).add("heavy" if domain.locus == "IGH" else "light")
    return sum(kind not in found.get(chain, {kind}) for chain, kind in enumerate(kinds))


def _cell(metadata: Mapping[str, str], name: str) -> str:
    """Return what a cell says, upper case; "" if it stands for nothing."""
    value = metadata.get(name, "")
    return "" if is_missing(value) else value.strip().upper()


def _value(cut: CutDomain, name: str) -> str:
    if name == "locus":
        return cut.locus
    return cut.junction if name == "junction_aa" else cut.region(name.removesuffix("_aa"))


class DomainFinder:
    """Finds the variable domains of rows, and gives each a sequence id.

    Parameters
    ----------
    repository : Repository
        Opened for writing, under the lock.
    batch : Batch
        Numbers sequences that are new.
    genes : GeneFinder, optional
        Finds the germline genes of domains that are new.

    Attributes
    ----------
    new : dict of int to list of StoredDomain
        Of sequences that were looked at since the last commit.
    """

    def __init__(self, repository: Repository, batch: Batch, genes: GeneFinder | None = None) -> None:
        self._repository, self._batch, self._genes = repository, batch, genes
        self._without_genes: dict[int, CutDomain] = {}
        self.new: dict[int, list[StoredDomain]] = {}
        self._stored: dict[int, list[StoredDomain]] = {}
        self._before: dict[int, list[StoredDomain]] = {}
        self._loci: dict[int, str] = {}

    def look(self, rows: Iterable[Prepared], known: dict[str, int]) -> list[int]:
        """Look at rows that come next; `known` learns the ids of domains that are stored.

        Returns
        -------
        list of int
            Ids of all sequences that the rows need and that are stored or wait to be.
        """
        given = list(rows)
        self._before = self._stored  # rows of the part before may still wait for their commit
        self._stored = self._repository.domains(known[r.hash_hex] for r in given if r.hash_hex in known)
        unseen = [r for r in given if known.get(r.hash_hex, 0) not in self._stored]
        cuts = (cut for r in unseen for cut in find_domains(r.residues) if cut.residues != r.residues)
        known.update(self._batch.known_hashes(sequence_hash(cut.residues) for cut in cuts))
        stored = {d.sequence_id for domains in self._stored.values() for d in domains}
        return [*known.values(), *stored]

    def look_at_stored(self, sequences: Sequence[tuple[int, str]]) -> None:
        """Look at sequences that are stored, given by id."""
        cuts = {i: find_domains(residues) for i, residues in sequences}
        known = self._batch.known_hashes(sequence_hash(c.residues) for of in cuts.values() for c in of)
        for sequence_id, found in cuts.items():
            self.new[sequence_id] = [self._as_stored(sequence_id, cut, known) for cut in found]

    def look_for_genes(self, sequences: Sequence[tuple[int, str]]) -> None:
        """Look for the genes of stored domains of sequences, given by id."""
        residues = dict(sequences)
        for source_id, found in self._repository.domains(residues).items():
            self.new[source_id] = found
            lacking = [d for d in found if d.v_call is None]
            self._without_genes.update((d.sequence_id, as_cut(d, residues[source_id])) for d in lacking)

    def units(self, sequence_id: int, row: Prepared, known: dict[str, int]) -> dict[int, Unit]:
        """Return what of a row a model reads, by sequence id."""
        if sequence_id not in self._stored and sequence_id not in self.new:
            known[row.hash_hex] = sequence_id
            cuts = find_domains(row.residues)
            self.new[sequence_id] = [self._as_stored(sequence_id, cut, known) for cut in cuts]
        found = self.of(sequence_id)
        self._loci.update((d.sequence_id, d.locus) for d in found)
        return {d.sequence_id: Unit(as_cut(d, row.residues).residues, d.ends) for d in found}

    def _as_stored(self, source_id: int, cut: CutDomain, known: dict[str, int]) -> StoredDomain:
        sequence_id = self._batch.add_sequence(sequence_hash(cut.residues), cut.residues, known)
        self._loci[sequence_id] = cut.locus
        self._without_genes[sequence_id] = cut
        return as_stored(cut, source_id=source_id, sequence_id=sequence_id)

    def find_genes(self) -> None:
        """Give domains that were found since the last call their germline genes."""
        if self._genes is not None and self._without_genes:
            facts = self._genes.find(list(self._without_genes.values()))
            genes = dict(zip(self._without_genes, facts, strict=True))
            for source_id, found in self.new.items():
                self.new[source_id] = [
                    d if d.v_call is not None else d._replace(**genes.get(d.sequence_id, {})) for d in found
                ]
        self._without_genes = {}

    def of(self, sequence_id: int) -> list[StoredDomain]:
        """Return the domains of a sequence that was looked at."""
        for known in (self.new, self._stored, self._before):
            if sequence_id in known:
                return known[sequence_id]
        return self._repository.domains([sequence_id]).get(sequence_id, [])

    def loci(self, sequence_ids: Iterable[int]) -> dict[int, str]:
        """Return the loci of domains that were found in a row or are stored, by the id of their sequence."""
        found = {i: self._loci.get(i) for i in sequence_ids}
        stored = self._repository.loci((i for i, locus in found.items() if locus is None), by_domain=True)
        return {i: stored[i] if locus is None else locus for i, locus in found.items()}

    def committed(self) -> None:
        """Forget what waited for the commit."""
        self._before = {**self._stored, **self.new}
        self.new = {}
        self._loci = {}
