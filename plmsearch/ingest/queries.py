"""Queries on their way to the model: validated whole, then embedded block by block and counted.

What happens to a query on the way is reported as it is for a record that is added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile

import numpy as np

from plmsearch.embedding.base import Embedder
from plmsearch.embedding.embed import embed_sequences, plan_of
from plmsearch.embedding.spec import EmbeddingSpec
from plmsearch.ingest.prepare import prepare
from plmsearch.ingest.report import AddOptions, AddReport, SkippedRow
from plmsearch.ingest.scan import Input
from plmsearch.search.hits import Query
from plmsearch.sequences import SequenceRecord
from plmsearch.slices import slices
from plmsearch.store.rankings import StoredSpace
from plmsearch.store.repository import Repository
from plmsearch.store.rows import StoredRecord
from plmsearch.types import Float2D

__all__ = ["QUERIES_AT_ONCE", "embed_queries", "queries_at_once", "stored_queries", "validate_queries"]

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
    for page in slices(old, n_at_once):
        asked = {r.sequence_id for r in page}
        lacking = [(s, asked - repository.vector_places(s.space_id, asked).keys()) for s in spaces]
        reasons = [_why_not(r, lacking, with_residues=with_residues) for r in page]
        report.n_rows += len(page)
        report.n_skipped += sum(map(bool, reasons))
        report.skipped.extend(
            SkippedRow(source, None, r.record_id, reason)
            for r, reason in zip(page, reasons, strict=True)
            if reason
        )
        yield [r for r, reason in zip(page, reasons, strict=True) if not reason]


def _why_not(
    record: StoredRecord, lacking: Sequence[tuple[StoredSpace, set[int]]], *, with_residues: bool
) -> str:
    for space, sequence_ids in lacking:
        if record.sequence_id in sequence_ids:
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
            usable |= not prepare(record, policy, max_residues=_max_residues(specs)).reason
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
        key = (spec.model_id, spec.weights_digest, spec.pooling, spec.long)
        groups.setdefault(key, []).append(spec)
    for part in slices(records, QUERIES_AT_ONCE):
        rows = [prepare(r, policy, max_residues=_max_residues(specs)) for r in part]
        good = [row for row in rows if not row.reason]
        report.n_rows += len(rows)
        report.n_skipped += len(rows) - len(good)
        report.skipped.extend(row.skipped() for row in rows if row.reason)
        for row in good:
            report.changes.update(dict.fromkeys(row.notes, 1))
        report.sources.update(row.record.residue_source for row in good if row.record.residue_source)
        if not good:
            continue
        residues = [row.residues for row in good]
        made: dict[EmbeddingSpec, Float2D] = {}
        for group in groups.values():
            embedded = embed_sequences(load(group[0]), residues, plan_of(group, batch_tokens))
            made.update((spec, embedded.vectors[spec.layer]) for spec in group)
        report.n_embedded += len(residues)
        report.count_embedded(embedded, np.array([len(r) for r in residues]))
        queries = [Query(r.record.record_id, r.hash_hex, r.residues) for r in good]
        yield queries, np.concatenate([made[spec] for spec in specs], axis=1)


def _max_residues(specs: Sequence[EmbeddingSpec]) -> int:
    return min(spec.max_residues for spec in specs)
