"""Clusters of a database: records whose embeddings are linked, directly or through others.

Concepts
--------
A *cluster* holds records whose embeddings are near each other in one ranking. It is a statement about
vectors: no clonal family (`plmsearch.repertoire`), no homology and no common function. Sequences of
different loci are never linked.

Distinct sequences are the nodes of a graph; records that share a sequence are in one cluster. The id of a
cluster is the id of its oldest record. So at a given threshold, and by connected components, adding records
joins clusters but divides none; a joined cluster has the id of the oldest of them, and one that no new
record touches keeps its id and its members.

Limitations
-----------
Every sequence is compared with every other: time grows with the square of their number, memory with their
number (Leiden: with the number of links). A deleted oldest record gives its cluster another id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from plmsearch.analysis.cutoff_rule import MAX_EMB_EVALUE, Cutoffs, given_cutoffs, null_cutoffs
from plmsearch.analysis.grouping import Links, by_communities, by_components
from plmsearch.analysis.links import Rows, exact_links
from plmsearch.analysis.medoids import medoids
from plmsearch.errors import ParameterError
from plmsearch.filters.tree import Condition
from plmsearch.ingest.report import Progress, SkippedRow, check_choice
from plmsearch.searcher import Searcher
from plmsearch.sequences import sequence_hash
from plmsearch.slices import slices
from plmsearch.store.rankings import StoredRanking
from plmsearch.store.rows import StoredDomain, StoredRecord
from plmsearch.store.vector_files import loci_of
from plmsearch.types import Int1D
from plmsearch.wording import counted

__all__ = ["CLUSTER_COLUMNS", "METHODS", "ClusterOptions", "Clusters", "cluster"]

_Float64 = np.ndarray[Any, np.dtype[np.float64]]

#: Ways to make clusters of links; the first is the default: its ids are stable, and it has no seed.
METHODS = ("components", "leiden")

#: Columns of a table of clusters, and their types.
CLUSTER_COLUMNS: dict[str, type] = {
    "record_id": str,
    "cluster_id": str,
    "representative": str,
    "score_to_representative": float,
    "cluster_size": int,
}

_LOCI_AT_ONCE = 50_000
_READ_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """How records are clustered.

    Parameters
    ----------
    method : {"components", "leiden"}
    threshold : float or None
        Lowest score of a link. None: from the null distribution of the ranking.
    max_emb_evalue : float or None
        Largest E-value of a link, from both sides. None: 0.01 if there is no threshold, else not asked for.
    resolution : float
        Of Leiden: pairs inside a community are linked at this share or more, above 0 and up to 1.
    seed : int
        Of Leiden.
    where : str or None
        Only the records that meet this condition.
    """

    method: str = "components"
    threshold: float | None = None
    max_emb_evalue: float | None = None
    resolution: float = 0.5
    seed: int = 0
    where: str | None = None

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise ParameterError("threshold", self.threshold, "between -1 and 1")
        if self.max_emb_evalue is not None and not 0 < self.max_emb_evalue < np.inf:
            raise ParameterError("max_emb_evalue", self.max_emb_evalue, "more than 0 and finite")
        if not 0 < self.resolution <= 1:
            raise ParameterError("resolution", self.resolution, "above 0 and at most 1")

    @property
    def evalue(self) -> float | None:
        """The largest E-value of a link, if it counts."""
        if self.max_emb_evalue is None and self.threshold is None:
            return MAX_EMB_EVALUE
        return self.max_emb_evalue


@dataclass(slots=True)
class Clusters:
    """The clusters of a database.

    Parameters
    ----------
    record_ids : list of str, length n
        In order of insertion. Of a ranking of variable domains a record with several comes once for each,
        as ``id#1``, ``id#2``.
    cluster, representative : ndarray, dtype=int64, shape=(n,)
        The oldest record of each record's cluster, and the first that has its medoid's sequence, as places
        in `record_ids`; -1: the record is in none.
    score : ndarray, dtype=float64, shape=(n,)
        Of each record with the representative; 1 for the same sequence.
    size : ndarray, dtype=int64, shape=(n,)
        Records of the cluster.
    n_sequences : int
        Distinct sequences that were compared.
    n_links : int
    cutoffs : Cutoffs
        Of these sequences.
    max_emb_evalue : float or None
        What the cutoffs follow from; None: a threshold alone.
    left_out : list of SkippedRow
        Every record that is in no cluster, and why.
    """

    record_ids: list[str]
    cluster: Int1D
    representative: Int1D
    score: _Float64
    size: Int1D
    n_sequences: int
    n_links: int
    cutoffs: Cutoffs
    max_emb_evalue: float | None = None
    left_out: list[SkippedRow] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of clusters."""
        return len(np.unique(self.cluster[self.cluster >= 0]))

    def rows(self) -> Iterator[dict[str, object]]:
        """Yield a row of a table for each record, in order of insertion; None where it is in no cluster."""
        for place, record_id in enumerate(self.record_ids):
            cluster = int(self.cluster[place])
            if cluster < 0:
                yield {"record_id": record_id}
                continue
            yield {
                "record_id": record_id,
                "cluster_id": self.record_ids[cluster],
                "representative": self.record_ids[int(self.representative[place])],
                "score_to_representative": float(self.score[place]),
                "cluster_size": int(self.size[place]),
            }

    def summary(self) -> list[str]:
        """Say in lines what was linked, and what came of it."""
        scores = self.cutoffs.scores[~np.isnan(self.cutoffs.scores)]
        lines = []
        if len(scores):
            low, middle, high = np.quantile(scores, (0.05, 0.5, 0.95))
            spread = f"{middle:.4f}" if low == high else f"{middle:.4f} (median; 90% in {low:.4f}-{high:.4f})"
            asked = (
                [] if self.max_emb_evalue is None else [f"emb_evalue <= {self.max_emb_evalue:g} both ways"]
            )
            linked = counted(self.n_links, "pair", style=",")
            lines.append(f"linked: {', '.join([*asked, f'score >= {spread}'])}; {linked}")
        if self.cutoffs.n_median:
            median = counted(self.cutoffs.n_median, "sequence has", "sequences have", style=",")
            lines.append(f"{median} the median score: too few are unrelated to them")
        _, sizes = np.unique(self.cluster[self.cluster >= 0], return_counts=True)
        n_alone, largest = int((sizes == 1).sum()), int(sizes.max(initial=0))
        lines.append(
            f"{counted(len(self.record_ids) - len(self.left_out), 'record', style=',')}, "
            f"{counted(self.n_sequences, 'sequence', style=',')}: "
            f"{counted(len(sizes), 'cluster', style=',')}, "
            f"{n_alone:,} of one record, the largest of {largest:,}"
        )
        return lines

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield representative and member, cluster by cluster as MMseqs2 does, the representative first."""
        is_member = np.arange(len(self.record_ids)) != self.representative
        order = np.lexsort((np.arange(len(self.record_ids)), is_member, self.cluster))
        for place in order[self.cluster[order] >= 0].tolist():
            yield self.record_ids[int(self.representative[place])], self.record_ids[place]


@dataclass(frozen=True, slots=True)
class _Records:
    """Live records in order of insertion, and the distinct sequences that they share."""

    record_ids: list[str]
    sequence: Int1D  # of each record, as a place in `sequence_ids`
    sequence_ids: Int1D  # in order of their first record
    hashes: list[str]


def cluster(
    db: Searcher,
    options: ClusterOptions | None = None,
    *,
    ranking: str | None = None,
    space: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Clusters:
    """Cluster the records of a database by their embeddings.

    Parameters
    ----------
    db : Searcher
        An open database.
    options : ClusterOptions, optional
    ranking, space : str, optional
        As `Searcher.search` takes them.
    threads : int, optional
        Of the matrix products; all cores if left out.
    progress : Progress, optional

    Returns
    -------
    Clusters
        Every live record that meets the condition, in order of insertion.

    Raises
    ------
    ParameterError
        If there is neither a threshold nor a null distribution to find it from, or Leiden would have to
        hold too many links.
    FilterError
        If the condition cannot be read, or does not fit the columns.

    Examples
    --------
    >>> import plmsearch, tempfile
    >>> records = [("a", "EVQLVESGGGLVQPGG"), ("b", "EVQLVESGGGLVKPGG"), ("c", "DIQMTQSPSSLSASVG")]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with plmsearch.open_database(f"{folder}/db", create=True) as db:
    ...         report = db.add(records, model="kmer")
    ...         found = cluster(db, ClusterOptions(threshold=0.5))
    >>> [(row["record_id"], row["cluster_id"], row["cluster_size"]) for row in found.rows()]
    [('a', 'a', 2), ('b', 'a', 2), ('c', 'c', 1)]
    """
    wishes, told = options or ClusterOptions(), progress or Progress()
    chosen = db.ranking(ranking, space=space)
    condition = None if wishes.where is None else db.select(wishes.where).condition
    records = _read(db, condition, by_domain=chosen.reads_domains)
    rows = Rows(db.vector_blocks(chosen), records.sequence_ids)
    ids = records.sequence_ids[rows.places]
    loci = _loci(db, chosen, ids)
    with threadpool_limits(threads, "blas"):
        cutoffs = _cutoffs(db, chosen, rows, ids, loci, wishes, told)
        told.start(len(ids))
        links = exact_links(rows.take, _groups(loci), cutoffs.scores, told.advance)
        labels, n_links = _grouped(links, [records.hashes[i] for i in rows.places.tolist()], wishes)
        medoid, score = medoids(rows.take, labels)
    of_records = _of_records(records, rows.places, cutoffs, labels, medoid, score)
    found = Clusters(*of_records, n_links, cutoffs, wishes.evalue)
    found.left_out = _left_out(db, chosen, records, rows.places, loci, cutoffs, found)
    return found


def _units(
    db: Searcher, condition: Condition | None, *, by_domain: bool
) -> Iterator[tuple[str, StoredRecord]]:
    """Yield records, or their variable domains, with the name that each goes by."""
    for page in slices(db.repository.all_records(condition, n_at_once=_READ_AT_ONCE), _READ_AT_ONCE):
        domains = db.repository.domains({r.sequence_id for r in page}) if by_domain else {}
        for record in page:
            held: Sequence[StoredDomain | None] = domains.get(record.sequence_id) or [None]
            for domain in held:
                unit = record._replace(domain=domain)
                yield unit.unit_id if len(held) > 1 else record.record_id, unit


def _read(db: Searcher, condition: Condition | None, *, by_domain: bool) -> _Records:
    record_ids: list[str] = []
    places: dict[int, int] = {}
    sequence: list[int] = []
    hashes: list[str] = []
    for name, record in _units(db, condition, by_domain=by_domain):
        place = places.setdefault(record.vector_id, len(places))
        if place == len(hashes):
            own = record.sequence_hash if record.domain is None else sequence_hash(record.unit_residues)
            hashes.append(own)
        record_ids.append(name)
        sequence.append(place)
    sequence_ids = np.fromiter(places, dtype=np.int64, count=len(places))
    return _Records(record_ids, np.array(sequence, dtype=np.int64), sequence_ids, hashes)


def _loci(db: Searcher, ranking: StoredRanking, sequence_ids: Int1D) -> list[str]:
    """Return the locus of each sequence, '' if it has none; looked for where the ranking needs it."""
    found: list[str] = []
    for part in slices(sequence_ids.tolist(), _LOCI_AT_ONCE):
        if ranking.needs_locus:
            found += loci_of(db.repository, part, by_domain=ranking.reads_domains)
        else:
            stored = db.repository.loci(part)
            found += [stored.get(i, "") for i in part]
    return found


def _groups(loci: Sequence[str]) -> list[Int1D]:
    """Return the rows of each locus."""
    names, of = np.unique(np.array(loci, dtype=object).astype(str), return_inverse=True)
    return [np.flatnonzero(of == number) for number in range(len(names))]


def _cutoffs(
    db: Searcher,
    ranking: StoredRanking,
    rows: Rows,
    sequence_ids: Int1D,
    loci: Sequence[str],
    options: ClusterOptions,
    progress: Progress,
) -> Cutoffs:
    """Return the cutoffs that were asked for; of a threshold and an E-value the stricter."""
    if options.evalue is None:
        return given_cutoffs(len(sequence_ids), options.threshold or 0.0)
    progress.start(len(sequence_ids))
    found = null_cutoffs(
        db, ranking, rows, sequence_ids, loci, options.evalue, options.where, progress.advance
    )
    if options.threshold is not None:
        found.scores = np.maximum(found.scores, options.threshold)  # NaN stays
    return found


def _grouped(links: Links, hashes: Sequence[str], options: ClusterOptions) -> tuple[Int1D, int]:
    """Return the smallest row of each row's cluster, and the number of links."""
    if options.method == "components":
        return by_components(links, len(hashes))
    return by_communities(links, hashes, Fraction(str(options.resolution)), options.seed)


def _of_records(
    records: _Records, places: Int1D, cutoffs: Cutoffs, labels: Int1D, medoid: Int1D, score: _Float64
) -> tuple[list[str], Int1D, Int1D, _Float64, Int1D, int]:
    """Turn what is known of the sequences that have a vector into what is known of records."""
    n = len(records.sequence_ids)
    of_sequence, best, scores = np.full(n, -1), np.full(n, -1), np.full(n, np.nan)
    compared = ~np.isnan(cutoffs.scores)
    chosen = places[compared]
    of_sequence[chosen], best[chosen] = places[labels[compared]], places[medoid[compared]]
    scores[chosen] = score[compared]
    first = np.full(n + 1, -1)  # the last is the place of "none"
    sequences, at = np.unique(records.sequence, return_index=True)
    first[sequences] = at
    of = of_sequence[records.sequence]
    sizes = np.bincount(of[of >= 0], minlength=n + 1)
    size = np.where(of >= 0, sizes[of], 0)
    n_compared = int(compared.sum())
    return (
        records.record_ids,
        first[of],
        first[best[records.sequence]],
        scores[records.sequence],
        size,
        n_compared,
    )


def _left_out(
    db: Searcher,
    ranking: StoredRanking,
    records: _Records,
    places: Int1D,
    loci: Sequence[str],
    cutoffs: Cutoffs,
    found: Clusters,
) -> list[SkippedRow]:
    """Name the records that are in no cluster."""
    names = ", ".join(part.space.spec.name for part in ranking.parts)
    locus_of = dict(zip(places.tolist(), loci, strict=True))
    rows = []
    for place in np.flatnonzero(found.cluster < 0).tolist():
        locus = locus_of.get(int(records.sequence[place]))
        if locus is None:
            kind = " (variable domains only)" if ranking.reads_domains else ""
            reason = f"it has no vector in the space {names}{kind}"
        else:
            why = cutoffs.reasons.get(locus, cutoffs.reasons.get("", ""))
            reason = f"it cannot be compared without --threshold ({why})"
        rows.append(SkippedRow(str(db.path), None, records.record_ids[place], reason))
    return rows
