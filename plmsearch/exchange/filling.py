"""Give stored records the vectors of one more space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from plmsearch.errors import VectorConflict
from plmsearch.exchange.agreement import agree
from plmsearch.exchange.writer import rows_of_segment
from plmsearch.store.directory import Layout
from plmsearch.store.rankings import StoredSpace
from plmsearch.store.repository import Repository
from plmsearch.store.rows import (
    Chunk,
    Counters,
    StoredRecord,
    VectorRow,
)
from plmsearch.store.vector_files import VectorFiles, publish_segment
from plmsearch.types import Float1D, Float2D

__all__ = ["SpaceFiller"]


class SpaceFiller:
    """Takes vectors for sequences that are stored, and commits those that the space lacks.

    Parameters
    ----------
    repository : Repository
        Opened for writing, under the lock.
    layout : Layout
    space : StoredSpace
    run_id : int
    """

    def __init__(self, repository: Repository, layout: Layout, space: StoredSpace, run_id: int) -> None:
        self._repository, self._layout, self._space, self._run_id = repository, layout, space, run_id
        self._files = VectorFiles(layout)
        self._segments = repository.segments(space.space_id)
        self._max_rows = rows_of_segment(space.spec.dim)
        self._clear()

    def _clear(self) -> None:
        self._waiting: dict[int, Float1D] = {}
        self._rows: list[VectorRow] = []

    def take(
        self,
        records: Sequence[StoredRecord],
        sequence_ids: Sequence[int],
        vectors: Float2D,
        facts: Sequence[VectorRow],
    ) -> None:
        """Note the vectors of records; one that is stored already has to agree.

        Parameters
        ----------
        records : sequence of StoredRecord
            As they were read elsewhere; in a space of variable domains each with its domain.
        sequence_ids : sequence of int
            What stands here for the sequence, or the domain, of each.
        vectors : ndarray, dtype=float32, shape=(n, d)
        facts : sequence of VectorRow
            How each vector was made.

        Raises
        ------
        VectorConflict
            Without source and row, which are not known here.
        """
        stored = self._stored(sequence_ids)
        for record, sequence_id, vector, fact in zip(records, sequence_ids, vectors, facts, strict=True):
            other = stored.get(sequence_id, self._waiting.get(sequence_id))
            if other is None:
                self._rows.append(fact._replace(sequence_id=sequence_id, row=len(self._rows)))
                self._waiting[sequence_id] = vector
            elif not agree(self._space.spec, record.unit_residues, vector, other):
                raise VectorConflict(record.record_id, "its sequence", hint="")
        if len(self._rows) >= self._max_rows:
            self.flush()

    def _stored(self, sequence_ids: Sequence[int]) -> Mapping[int, Float1D]:
        places = self._repository.vector_places(self._space.space_id, set(sequence_ids))
        found = self._files.rows(self._segments, list(places.values()))
        return dict(zip(places, found, strict=True))

    def flush(self) -> None:
        """Commit what was taken."""
        if not self._rows:
            return
        counters = self._repository.counters()
        segment_id = counters.segment_id
        vectors = np.stack(list(self._waiting.values()))
        space_id, rankings = self._space.space_id, self._repository.rankings()
        segment = publish_segment(self._layout, space_id, segment_id, vectors, self._rows, rankings)
        after = Counters(counters.sequence_id, counters.record_key, segment_id + 1)
        self._repository.commit(Chunk(self._run_id, after, segments=[segment]))
        self._segments = self._repository.segments(self._space.space_id)
        self._clear()
