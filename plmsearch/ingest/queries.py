"""Queries on their way to the model: validated whole, then embedded block by block and counted.

What happens to a query on the way is reported as it is for a record that is added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile

import numpy as np

from plmsearch.domains import region_places
from plmsearch.embedding.base import Embedder
from plmsearch.embedding.regions import Unit, embed_units, forward_key
from plmsearch.embedding.spec import EmbeddingSpec
from plmsearch.ingest.domains import (
    as_stored,
    find_domains,
    idle_chains,
    misplaced_chains,
    why_no_domain,
)
from plmsearch.ingest.prepare import Prepared, prepare
from plmsearch.ingest.report import AddOptions, AddReport, SkippedRow
from plmsearch.ingest.scan import Input
from plmsearch.search.hits import Query
from plmsearch.sequences import SequenceRecord, sequence_hash
from plmsearch.slices import slices
from plmsearch.store.rankings import StoredSpace
from plmsearch.store.repository import Repository
from plmsearch.store.rows import StoredRecord
from plmsearch.types import Bool1D, Float2D

__all__ = [
    "QUERIES_AT_ONCE",
    "domain_queries",
    "embed_queries",
    "queries_at_once",
    "stored_as_queries",
    "stored_queries",
    "validate_queries",
]

#: Queries embedded and searched together; bounds memory on a long input.
QUERIES_AT_ONCE = 512


#: Scores and ids of as many neighbours: 200 MB.
_NEIGHBOURS_AT_ONCE = 1 << 24


def queries_at_once(n_wanted: int, n_vectors: int) -> int:
    """Return how many queries are searched together, so that what they find fits into memory.

    Parameters
    ----------
    n_wanted : int
        Most neighbours of each.
    n_vectors : int
        That are searched.
    """
    return max(1, min(QUERIES_AT_ONCE, _NEIGHBOURS_AT_ONCE // max(1, min(n_wanted, n_vectors))))


def stored_queries(
    repository: Repository,
    spaces: Sequence[StoredSpace],
    n_at_once: int,
    *,
    source: str,
    with_residues: bool,
    report: AddReport,
) -> Iterator[list[StoredRecord]]:
    """Yield the live records of a database that can be searched with, in order of insertion.

    In spaces of variable domains each domain of a record comes by itself, as `StoredRecord.domain`.

    Records that another process adds meanwhile are left out, and those it deletes before they are read.

    Parameters
    ----------
    repository : Repository
    spaces : sequence of StoredSpace
        In each of which a record needs a vector.
    n_at_once : int
        Most records of a page.
    source : str
        Name of the database, for `report`.
    with_residues : bool
        Leave out records whose sequence is not known.
    report : AddReport
        Counts rows, and lists what was left out.

    Yields
    ------
    list of StoredRecord
    """
    first_new = repository.counters().record_key
    old = takewhile(lambda record: record.key < first_new, repository.all_records(n_at_once=n_at_once))
    for records in slices(old, n_at_once):
        page = records
        if spaces[0].spec.reads_domains:
            domains = repository.domains({r.sequence_id for r in records})
            page = [r._replace(domain=d) for r in records for d in domains.get(r.sequence_id) or (None,)]
        asked = {r.vector_id for r in page}
        lacking = [(s, asked - repository.vector_places(s.space_id, asked).keys()) for s in spaces]
        reasons = [_why_not(r, lacking, with_residues=with_residues) for r in page]
        report.n_rows += len(page)
        report.n_skipped += sum(map(bool, reasons))
        report.skipped.extend(
            SkippedRow(source, None, r.unit_id, reason)
            for r, reason in zip(page, reasons, strict=True)
            if reason
        )
        yield [r for r, reason in zip(page, reasons, strict=True) if not reason]


def _why_not(
    record: StoredRecord, lacking: Sequence[tuple[StoredSpace, set[int]]], *, with_residues: bool
) -> str:
    if record.domain is None and lacking[0][0].spec.reads_domains:
        return why_no_domain(record.residues)
    for space, sequence_ids in lacking:
        if record.vector_id in sequence_ids:
            return f"it has no vector in the space {space.spec.name}"
    return "its sequence is not known: it cannot be aligned" if with_residues and not record.residues else ""


def validate_queries(inputs: Sequence[Input], specs: Sequence[EmbeddingSpec], policy: AddOptions) -> bool:
    """Read every query before the first is embedded; tell whether any can be searched with.

    Raises
    ------
    InputError
        If a query cannot be used and the policy is to stop.
    """
    usable = False
    for one in inputs:
        for record in one:
            usable |= not _prepared(record, specs, policy).reason
    return usable


def embed_queries(
    records: Iterable[SequenceRecord],
    specs: Sequence[EmbeddingSpec],
    load: Callable[[EmbeddingSpec], Embedder],
    policy: AddOptions,
    batch_tokens: int,
    report: AddReport,
) -> Iterator[tuple[list[Query], Float2D]]:
    """Embed queries in one or more spaces, in input order.

    Parameters
    ----------
    records : iterable of SequenceRecord
    specs : sequence of EmbeddingSpec
        Those that differ in the layer only come out of the same forward passes.
    load : callable
        Returns the model of a space; called when the first query has to be embedded.
    policy : AddOptions
        What to do with invalid letters and long sequences.
    batch_tokens : int
    report : AddReport
        Counts rows, changes, embedded, windowed, truncated; lists what was left out.

    Yields
    ------
    queries : list of Query
        At least one.
    vectors : ndarray, dtype=float32, shape=(len(queries), d)
        As pooled; those of several spaces side by side, in the order of `specs`.
    """
    groups: dict[tuple[object, ...], list[EmbeddingSpec]] = {}
    for spec in specs:
        groups.setdefault(forward_key(spec), []).append(spec)
    for part in slices(records, QUERIES_AT_ONCE):
        rows = [_prepared(r, specs, policy) for r in part]
        good = [row for row in rows if not row.reason]
        report.n_rows += len(rows)
        report.n_skipped += len(rows) - len(good)
        report.skipped.extend(row.skipped() for row in rows if row.reason)
        for row in good:
            report.changes.update(dict.fromkeys(row.notes, 1))
        report.sources.update(row.record.residue_source for row in good if row.record.residue_source)
        if not good:
            continue
        queries, units = _queries_of(good, specs, report)
        if not queries:
            continue
        made: dict[EmbeddingSpec, Float2D] = {}
        can_search = np.ones(len(queries), dtype=np.bool_)
        for group in groups.values():
            embedded = embed_units(load(group[0]), units, group, batch_tokens)
            made.update(embedded.vectors)
            for spec in group:
                can_search &= embedded.present[spec]
        report.n_embedded += len(queries)
        report.count_embedded(embedded, np.array([len(u.residues) for u in units]))
        if not can_search.all():
            _leave_out(queries, can_search, specs, report, good)
            queries = [q for q, is_kept in zip(queries, can_search, strict=True) if is_kept]
        if queries:
            yield queries, np.concatenate([made[spec][can_search] for spec in specs], axis=1)


def _prepared(record: SequenceRecord, specs: Sequence[EmbeddingSpec], policy: AddOptions) -> Prepared:
    """Normalise and validate a query; where domains are compared it may hold several chains."""
    reads_domains = specs[0].reads_domains
    return prepare(record, policy, max_residues=_max_residues(specs), takes_chains=reads_domains)


def _queries_of(
    rows: Sequence[Prepared], specs: Sequence[EmbeddingSpec], report: AddReport
) -> tuple[list[Query], list[Unit]]:
    """Make a query of each row, or of each of its domains; what has none is left out with a reason."""
    if not specs[0].reads_domains:
        queries = [Query(r.record.record_id, r.hash_hex, r.residues, metadata=r.metadata) for r in rows]
        return queries, [Unit(r.residues) for r in rows]
    queries, units = [], []
    for row in rows:
        found = domain_queries(row, report)
        queries += found
        units += [Unit(q.residues, q.domain.ends) for q in found if q.domain is not None]
    return queries, units


def domain_queries(row: Prepared, report: AddReport) -> list[Query]:
    """Make a query of each variable domain of a row; a row without one is left out with a reason."""
    found = find_domains(row.residues)
    name = row.record.record_id
    if not found:
        reason = why_no_domain(row.residues)
        report.skipped.append(SkippedRow(row.record.source, row.record.row, name, reason))
        report.n_skipped += 1
    if idle := idle_chains(row.residues, [domain.start for domain in found]):
        report.chains_without_domain[name] = idle
    if misplaced_chains(row.record.chain_kinds, row.residues, found):
        report.misplaced.append(name)
    return [
        Query(
            f"{name}#{domain.number}" if len(found) > 1 else name,
            sequence_hash(domain.residues),
            domain.residues,
            domain.locus,
            as_stored(domain, source_id=0, sequence_id=0),
            name,
            row.hash_hex,
            metadata=row.metadata,
            row=row.record.row,
        )
        for domain in found
    ]


def _leave_out(
    queries: Sequence[Query],
    can_search: Bool1D,
    specs: Sequence[EmbeddingSpec],
    report: AddReport,
    rows: Sequence[Prepared],
) -> None:
    """Name the domains that lack a region of the ranking: they are compared with nothing."""
    regions = dict.fromkeys(spec.region for spec in specs)
    sources = {(r.record.record_id, r.record.row): r.record.source for r in rows}
    for query, is_kept in zip(queries, can_search, strict=True):
        if not is_kept and query.domain is not None:
            lacking = ", ".join(r for r in regions if not region_places(query.domain.ends, r))
            reason = f"its variable domain has no residue in {lacking}, which is compared"
            source = sources[query.record_id, query.row]
            report.skipped.append(SkippedRow(source, query.row, query.query_id, reason))
            report.n_skipped += 1


def stored_as_queries(records: Sequence[StoredRecord], loci: Mapping[int, str]) -> list[Query]:
    """Return stored records, or domains of them, as queries.

    Parameters
    ----------
    records : sequence of StoredRecord
        All domains of a record that are meant, next to each other.
    loci : mapping of int to str
        Of sequences, by vector id, where they are known.
    """
    n_of = Counter(r.key for r in records)
    queries = []
    for r in records:
        locus = loci.get(r.vector_id)
        if r.domain is None:
            queries.append(Query(r.record_id, r.sequence_hash, r.residues, locus, metadata=r.metadata))
            continue
        name = r.unit_id if n_of[r.key] > 1 else r.record_id
        own = sequence_hash(r.unit_residues)
        query = Query(
            name,
            own,
            r.unit_residues,
            r.domain.locus,
            r.domain,
            r.record_id,
            r.sequence_hash,
            metadata=r.metadata,
        )
        queries.append(query)
    return queries


def _max_residues(specs: Sequence[EmbeddingSpec]) -> int | None:
    """Return the longest sequence that is read in one pass; None: domains are cut out of any."""
    return None if specs[0].reads_domains else min(spec.max_residues for spec in specs)
