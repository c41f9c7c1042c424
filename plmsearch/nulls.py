"""Build the null distributions of a database's scores, and keep them fresh.

A sample of the sequences that are stored is compared with itself, as the ranking compares vectors, once per
locus where it does so by locus (`plmsearch.search.significance`). Only the holder of the lock builds; a query
never writes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from plmsearch.errors import SegmentDamaged
from plmsearch.index.base import Block
from plmsearch.numbering import locus_and_cdr3
from plmsearch.search.judge import known_nulls
from plmsearch.search.nulls import NO_LOCUS, KnownNull, gather, is_stale, relation
from plmsearch.search.significance import NoNull, draw_sample, fit_null
from plmsearch.store.directory import Layout
from plmsearch.store.rankings import StoredRanking
from plmsearch.store.repository import Repository
from plmsearch.store.vector_files import VectorFiles
from plmsearch.types import Int1D

__all__ = ["NullOutcome", "refresh_nulls"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NullOutcome:
    """A null distribution that was built, or why there is none; `locus` is '' where there are none."""

    ranking: str
    locus: str
    description: str


def refresh_nulls(
    repository: Repository, layout: Layout, *, anew: bool = False, seed: int = 0
) -> list[NullOutcome]:
    """Build the nulls that are missing, or whose database has grown or shrunk by more than 20% since.

    Rankings of a space that is not complete are left alone: they are not searched. Each ranking is one
    commit; one that is interrupted is built by the next writer.

    Parameters
    ----------
    repository : Repository
        Opened for writing, under the lock; derived files are in order.
    layout : Layout
    anew : bool
        Build all of them.
    seed : int
        Of the draw of the samples.

    Returns
    -------
    list of NullOutcome
        What was built.

    Raises
    ------
    StorageError
        If the operating system refuses a step.
    SegmentDamaged
        If a vector file is not what was written, and all are to be built; else its rankings are left alone.
    """
    made = []
    for ranking in repository.rankings():
        if not all(part.space.is_complete for part in ranking.parts):
            continue
        counts, known = _counts(repository, ranking), known_nulls(repository.nulls(ranking.ranking_id))
        if anew or is_stale(known, counts):
            started = time.perf_counter()
            try:
                built = _built(repository, layout, ranking, counts, seed)
            except SegmentDamaged as error:
                if anew:
                    raise
                _log.warning("no null distributions for %s: %s", ranking.name, error)
                continue
            gone = known.keys() - counts.keys()
            repository.set_nulls(ranking.ranking_id, [b.stored(ranking.ranking_id) for b in built], gone)
            made += [NullOutcome(ranking.name, b.locus, b.describe()) for b in built]
            _log.info("null distributions of %s in %.2f s", ranking.name, time.perf_counter() - started)
    return made


def _counts(repository: Repository, ranking: StoredRanking) -> Mapping[str, int]:
    """Count the distinct sequences of live records that can be compared, by locus if the ranking does so."""
    spaces = [part.space.space_id for part in ranking.parts]
    if ranking.needs_locus:
        return repository.n_by_locus(spaces, by_domain=ranking.reads_domains)
    n_sequences = repository.searched_size(spaces, by_domain=ranking.reads_domains).n_sequences
    return {"": n_sequences} if n_sequences else {}


def _built(
    repository: Repository, layout: Layout, ranking: StoredRanking, counts: Mapping[str, int], seed: int
) -> list[KnownNull]:
    dead = np.array(repository.dead_sequences(by_domain=ranking.reads_domains), dtype=np.int64)
    segments = repository.segments(ranking.space.space_id)
    blocks = VectorFiles(layout).blocks(repository, ranking, segments, dead)
    live: Int1D = np.concatenate([*(b.ids for b in blocks), np.empty(0, dtype=np.int64)])
    live = np.setdiff1d(live, dead)
    found = []
    for locus, n_sequences in counts.items():
        if ranking.needs_locus and not locus:
            found.append(KnownNull("", NoNull(NO_LOCUS, 0), n_sequences, seed))
            continue
        ids = live
        if ranking.needs_locus:
            of_locus = repository.sequences_of_locus(locus, by_domain=ranking.reads_domains)
            ids = np.intersect1d(live, of_locus, assume_unique=True)
        found.append(_of_locus(repository, blocks, ids, locus, seed, by_cdr3=ranking.needs_locus))
    return found


def _of_locus(
    repository: Repository, blocks: Sequence[Block], ids: Int1D, locus: str, seed: int, *, by_cdr3: bool
) -> KnownNull:
    sample = draw_sample(ids, seed)
    _, vectors = gather(blocks, sample)
    residues = repository.residues(sample.tolist())
    texts = [residues[i] for i in sample.tolist()]
    if by_cdr3:
        texts = [cdr3 if own == locus else "" for own, cdr3 in map(locus_and_cdr3, texts)]
    null = fit_null(vectors, sample, relation(texts, texts, by_cdr3=by_cdr3), seed=seed)
    cdr3 = tuple(texts) if by_cdr3 and not isinstance(null, NoNull) else ()
    return KnownNull(locus, null, len(ids), seed, cdr3)
