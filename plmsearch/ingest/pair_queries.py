"""Query pairs on their way to the search: found in the inputs or in a database, embedded, put together.

The chains of a pair may be far apart in an input, one at its beginning and one at its end. So it is read
once to find the pairs and once to embed their chains, whose vectors wait in a temporary file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import NamedTuple

import numpy as np

from plmsearch.embedding.base import Embedder
from plmsearch.embedding.spec import EmbeddingSpec
from plmsearch.errors import StorageError
from plmsearch.ingest.domains import find_domains, why_no_domain
from plmsearch.ingest.prepare import Prepared, prepare
from plmsearch.ingest.queries import embed_queries
from plmsearch.ingest.report import AddOptions, AddReport, SkippedRow
from plmsearch.ingest.scan import Input
from plmsearch.search.hits import Query
from plmsearch.search.pair_hits import PairQuery, UnitPlace, pair_query
from plmsearch.search.pairs import Chain, Pairs, chain_of, is_paired_locus, pair_chains
from plmsearch.sequences import SequenceRecord
from plmsearch.slices import slices
from plmsearch.types import Float2D

__all__ = ["PairBlock", "embed_pairs", "find_pairs"]


class PairBlock(NamedTuple):
    """Some query pairs with their vectors.

    Parameters
    ----------
    queries : sequence of PairQuery
    heavy, light : ndarray, dtype=float32, shape=(n, d)
        As they are compared, of unit length.
    """

    queries: Sequence[PairQuery]
    heavy: Float2D
    light: Float2D


def find_pairs(inputs: Sequence[Input], policy: AddOptions, report: AddReport) -> Pairs:
    """Read inputs whole and pair their chains; records are numbered from 0, over all inputs.

    Parameters
    ----------
    inputs : sequence of Input
    policy : AddOptions
    report : AddReport
        Lists the records that are of no pair, with the reason.

    Returns
    -------
    Pairs
        `Pairs.heavy` and `Pairs.light` number distinct residues.

    Raises
    ------
    InputError
        If a record cannot be used and the policy is to stop.
    """
    chains: list[Chain] = []
    units: dict[str, int] = {}
    places: dict[int, SkippedRow] = {}
    for number, record in _numbered(inputs):
        row = prepare(record, policy, takes_chains=True)
        reason = row.reason
        if not reason:
            found = _chains(number, row, units)
            chains += found
            reason = "" if found else why_no_domain(row.residues)
        if reason:
            report.skipped.append(replace(row.skipped(), reason=reason))
        elif len({chain.is_heavy for chain in found}) == 1:
            kind = "light" if found[0].is_heavy else "heavy"
            why = "its cell has" if found[0].cell else "it names no cell (cell_id, --pair-by) and holds"
            places[number] = replace(row.skipped(), reason=f"{why} no {kind} chain: it is of no pair")
    pairs = pair_chains(sorted(chains, key=lambda c: (c.group, c.record, c.number)))
    report.skipped.extend(places[number] for number in pairs.lone.tolist())
    report.n_skipped = len(report.skipped)
    return pairs


def _numbered(inputs: Sequence[Input]) -> Iterator[tuple[int, SequenceRecord]]:
    return enumerate(record for one in inputs for record in one)


def _chains(number: int, row: Prepared, units: dict[str, int]) -> list[Chain]:
    """Return the variable domains of a row; `units` numbers their residues."""
    return [
        chain_of(number, d.number, units.setdefault(d.residues, len(units)), d.locus, row.metadata)
        for d in find_domains(row.residues)
        if is_paired_locus(d.locus)
    ]


def embed_pairs(
    inputs: Sequence[Input],
    pairs: Pairs,
    specs: Sequence[EmbeddingSpec],
    load: Callable[[EmbeddingSpec], Embedder],
    compared: Callable[[Sequence[Query], Float2D], Float2D],
    policy: AddOptions,
    batch_tokens: int,
    report: AddReport,
    n_at_once: int,
) -> Iterator[PairBlock]:
    """Embed the chains of pairs that `find_pairs` found, and yield the pairs in order of their heavy chains.

    Parameters
    ----------
    inputs : sequence of Input
    pairs : Pairs
    specs, load, policy, batch_tokens, report
        As `plmsearch.ingest.queries.embed_queries`.
    compared : callable
        Makes of raw vectors those that are compared, of unit length.
    n_at_once : int
        Pairs of a block.

    Yields
    ------
    PairBlock
        Without the pairs of which a chain lacks a region that is compared; `report` names these chains.
    """
    wanted = _wanted(pairs)
    chosen = (replace(record, row=n) for n, record in _numbered(inputs) if n in wanted)
    with _Spool() as spool:
        queries: dict[UnitPlace, tuple[int, Query]] = {}
        for block, vectors in embed_queries(chosen, specs, load, policy, batch_tokens, report):
            rows = [
                row for row, query in enumerate(block) if _place(query).number in wanted[_place(query)[0]]
            ]
            asked = [block[row] for row in rows]
            start = spool.add(compared(asked, vectors[rows])) if asked else 0
            queries.update((_place(query), (start + n, query)) for n, query in enumerate(asked))
        yield from _blocks(pairs, queries, spool.vectors(), n_at_once)


def _wanted(pairs: Pairs) -> Mapping[int, set[int]]:
    """Return the numbers of the domains that are of a pair, by record."""
    wanted: dict[int, set[int]] = {}
    for records, numbers in (
        (pairs.heavy_record, pairs.heavy_number),
        (pairs.light_record, pairs.light_number),
    ):
        for record, number in zip(records.tolist(), numbers.tolist(), strict=True):
            wanted.setdefault(record, set()).add(number)
    return wanted


def _place(query: Query) -> UnitPlace:
    """Return where a query of `embed_queries` comes from; both numbers are set where domains are read."""
    return UnitPlace(query.row or 0, query.domain.number if query.domain else 0)


def _blocks(
    pairs: Pairs, queries: Mapping[UnitPlace, tuple[int, Query]], vectors: Float2D, n_at_once: int
) -> Iterator[PairBlock]:
    columns = (pairs.heavy_record, pairs.heavy_number, pairs.light_record, pairs.light_number)
    rows = zip(*(c.tolist() for c in columns), pairs.has_siblings.tolist(), strict=True)
    known = (
        (queries[UnitPlace(*row[:2])], queries[UnitPlace(*row[2:4])], row[4])
        for row in rows
        if UnitPlace(*row[:2]) in queries and UnitPlace(*row[2:4]) in queries
    )
    for part in slices(known, n_at_once):
        asked = [pair_query(heavy[1], light[1], has_siblings=several) for heavy, light, several in part]
        yield PairBlock(asked, vectors[[h[0] for h, _, _ in part]], vectors[[x[0] for _, x, _ in part]])


class _Spool:
    """Vectors in a temporary file, which is gone when the block ends."""

    def __init__(self) -> None:
        self._n = self._dim = 0

    def __enter__(self) -> _Spool:
        self._file = tempfile.TemporaryFile(prefix="plmsearch-pairs-")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, vectors: Float2D) -> int:
        """Append vectors; return the row of the first."""
        start = self._n
        try:
            self._file.write(np.ascontiguousarray(vectors, dtype=np.float32).data)
            self._file.flush()
        except OSError as exc:
            reason = f"cannot keep the vectors of queries: {(exc.strerror or str(exc)).lower()}"
            raise StorageError(tempfile.gettempdir(), reason, hint="make room, or set TMPDIR") from exc
        self._n, self._dim = start + len(vectors), vectors.shape[1]
        return start

    def vectors(self) -> Float2D:
        """Return all vectors, mapped from the file."""
        if not self._n:
            return np.empty((0, self._dim), dtype=np.float32)
        found: Float2D = np.memmap(self._file, np.float32, "r", shape=(self._n, self._dim))
        return found
