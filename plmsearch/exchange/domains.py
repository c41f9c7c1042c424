"""Variable domains that come with records from another database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from plmsearch.ingest.batch import Batch
from plmsearch.ingest.domains import as_cut
from plmsearch.sequences import sequence_hash
from plmsearch.store.repository import Repository
from plmsearch.store.rows import StoredDomain

__all__ = ["DomainCopier"]


class DomainCopier:
    """Gives the domains of sequences new ids; what an earlier database said of a sequence stays.

    Parameters
    ----------
    repository : Repository
        Opened for writing, under the lock.
    batch : Batch
        Numbers sequences that are new.

    Attributes
    ----------
    new : dict of int to list of StoredDomain
        Of sequences that wait for the next commit.
    """

    def __init__(self, repository: Repository, batch: Batch) -> None:
        self._repository, self._batch = repository, batch
        self.new: dict[int, list[StoredDomain]] = {}
        self._stored: dict[int, list[StoredDomain]] = {}

    @property
    def loci(self) -> dict[int, str]:
        """Loci of chains that wait and are a variable domain from end to end, by the id of their sequence."""
        return {
            source_id: domain.locus
            for source_id, found in self.new.items()
            for domain in found
            if domain.sequence_id == source_id
        }

    def load(self, given: Iterable[tuple[str, Sequence[StoredDomain] | None]], known: dict[str, int]) -> None:
        """Look up what is stored of sequences, given as residues and domains; `known` learns ids."""
        own = (as_cut(d, residues).residues for residues, found in given for d in found or ())
        known.update(self._batch.known_hashes(map(sequence_hash, own)))
        self._stored = self._repository.domains(known.values())

    def take(
        self, sequence_id: int, residues: str, found: Sequence[StoredDomain] | None, known: dict[str, int]
    ) -> None:
        """Note the domains of a sequence, unless they are known; None: nobody looked for them.

        Genes that were inferred are taken where there were none.
        """
        if found is None:
            return
        before = self.new.get(sequence_id, self._stored.get(sequence_id))
        if before is None or (_has_genes(found) and not _has_genes(before)):
            self.new[sequence_id] = [self._copied(d, sequence_id, residues, known) for d in found]

    def _copied(
        self, domain: StoredDomain, source_id: int, residues: str, known: dict[str, int]
    ) -> StoredDomain:
        own = as_cut(domain, residues).residues
        sequence_id = self._batch.add_sequence(sequence_hash(own), own, known)
        return domain._replace(source_id=source_id, sequence_id=sequence_id)

    def committed(self) -> None:
        """Forget what waited for the commit."""
        self.new = {}


def _has_genes(domains: Sequence[StoredDomain]) -> bool:
    return any(domain.v_call is not None for domain in domains)
