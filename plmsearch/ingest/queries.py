"""Queries on their way to the model: validated whole, then embedded block by block and counted.

What happens to a query on the way is reported as it is for a record that is added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from plmsearch.embedding.base import Embedder
from plmsearch.embedding.embed import embed_sequences, plan_of
from plmsearch.embedding.spec import EmbeddingSpec
from plmsearch.ingest.prepare import prepare
from plmsearch.ingest.report import AddOptions, AddReport
from plmsearch.ingest.scan import Input
from plmsearch.search.hits import Query
from plmsearch.sequences import SequenceRecord
from plmsearch.slices import slices
from plmsearch.types import Float2D

__all__ = ["QUERIES_AT_ONCE", "embed_queries", "validate_queries"]

#: Queries embedded and searched together; bounds memory on a long input.
QUERIES_AT_ONCE = 512


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
