"""The vectors of a space as they were pooled, and of a ranking as they are compared, from files.

A ranking's vectors lie in files derived from the segments of its first space, row by row; where the
ranking has several spaces, a sequence without a vector in one of them is left out. One that keeps no
vectors of its own has a file of two numbers per row, with which they are computed from the segment's where
they are read (`plmsearch.index.scaled`). What is derived can be made again at any time: by the next writer,
or in memory by a query, which never writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from plmsearch.errors import SegmentDamaged, StorageError
from plmsearch.index.base import Block
from plmsearch.index.scaled import ScaledRows
from plmsearch.numbering import chain_locus
from plmsearch.store.catalog_reader import CatalogReader
from plmsearch.store.directory import Layout, publish, storage_errors
from plmsearch.store.rankings import StoredRanking, StoredSpace
from plmsearch.store.rows import (
    DerivedFile,
    NewSegment,
    StoredSegment,
    VectorRow,
)
from plmsearch.store.segments import FileStamp, Segment, open_segment, write_segment
from plmsearch.transform import Transform
from plmsearch.types import Float2D, Int1D, Int2D
from plmsearch.vectors import unit_vectors

__all__ = [
    "VectorFiles",
    "compared_vectors",
    "derived_name",
    "has_scales",
    "loci_of",
    "publish_derived",
    "publish_segment",
    "publish_vectors",
    "scales_of",
]

#: Rows that are transformed at once.
_ROWS_AT_ONCE = 16_384
#: Lengths outside of this lie so near the ends of float32 that one over them would lose digits.
_SHORTEST, _LONGEST = 1e-30, 1e30
_SCALES = "-scale.vec"


def compared_vectors(ranking: StoredRanking, raw: Float2D, loci: Sequence[str] | None) -> Float2D:
    """Return vectors as a ranking compares them.

    Parameters
    ----------
    ranking : StoredRanking
    raw : ndarray, dtype=float32, shape=(n, n_components)
        As pooled; those of several spaces side by side, in the order of the ranking's parts.
    loci : sequence of str, or None
        Of the sequences, '' for none; asked for if `StoredRanking.needs_locus`.

    Returns
    -------
    ndarray, dtype=float32, shape=(n, dim)
        Of unit length.

    Raises
    ------
    InvalidVectorError
        If a vector has no direction.
    """
    total = sum(part.weight for part in ranking.parts)
    compared: Float2D = np.empty((len(raw), ranking.dim), dtype=np.float32)
    begin = end = 0
    for part in ranking.parts:
        vectors = raw[:, begin : begin + part.space.spec.dim]
        if part.transform is None:
            unit = unit_vectors(vectors, part.dim)
        else:
            unit = part.transform.transform.apply(vectors, loci if loci is not None else [""] * len(raw))
        compared[:, end : end + part.dim] = unit * np.float32(np.sqrt(part.weight / total))
        begin, end = begin + part.space.spec.dim, end + part.dim
    return compared


def loci_of(catalog: CatalogReader, sequence_ids: Sequence[int], *, by_domain: bool) -> list[str]:
    """Return the locus of each sequence, or domain; one not stored yet is looked for in its residues."""
    stored = catalog.loci(sequence_ids, by_domain=by_domain)
    unknown = catalog.residues([i for i in sequence_ids if i not in stored])
    found = {i: chain_locus(residues) for i, residues in unknown.items()}
    return [stored.get(i, found.get(i, "")) for i in sequence_ids]


def derived_name(segment_id: int, ranking: StoredRanking) -> str:
    """Name the file that holds a segment's vectors as a ranking compares them."""
    return f"{segment_id:08d}-{ranking.ranking_id}-unit.vec"


def has_scales(derived: DerivedFile) -> bool:
    """Tell whether a file holds what `scales_of` returns, not vectors."""
    return derived.file.endswith(_SCALES)


def scales_of(ranking: StoredRanking, raw: Float2D, loci: Sequence[str] | None) -> Float2D | None:
    """Return what vectors are computed with where they are read.

    Parameters
    ----------
    ranking : StoredRanking
        One whose `StoredRanking.keeps_vectors` is false.
    raw : ndarray, dtype=float32, shape=(n, d)
    loci : sequence of str, or None
        As `compared_vectors` takes them.

    Returns
    -------
    ndarray, dtype=float32, shape=(n, 2); or None
        Of each row one over the length of what is compared, and the number of the centre that is taken off
        (`plmsearch.transform.Transform.stacked_centres`). None if a length is beyond what float32 divides
        by without a loss: then the vectors have to be written out.

    Raises
    ------
    InvalidVectorError
        If a vector has no direction.
    """
    which, lengths = _transform(ranking).measure(raw, loci if loci is not None else [""] * len(raw))
    if len(lengths) and not _SHORTEST <= lengths.min() <= lengths.max() <= _LONGEST:
        return None
    return np.column_stack([1 / lengths, which]).astype(np.float32)


def _transform(ranking: StoredRanking) -> Transform:
    stored = ranking.parts[0].transform
    return Transform() if stored is None else stored.transform


def _computed(ranking: StoredRanking, raw: Float2D, scales: Float2D) -> ScaledRows:
    """Return rows as a ranking compares them, which are computed where they are read."""
    which = np.asarray(scales[:, 1]).astype(np.int64)
    centres = _transform(ranking).stacked_centres
    return ScaledRows(np.asarray(raw), np.ascontiguousarray(scales[:, 0]), centres, which)


def publish_vectors(
    layout: Layout, final: Path, vectors: Float2D, ids: Int1D, *, unit: bool = False
) -> FileStamp:
    """Write a vector file so that it is whole under its name or not there, and in ``segments/`` durable.

    Parameters
    ----------
    layout : Layout
    final : Path
        In ``segments/`` or ``derived/``; replaced if it exists.
    vectors : ndarray, dtype=float32, shape=(n, d)
    ids : ndarray, dtype=int64, shape=(n,)
    unit : bool
        Write the vectors at unit length.

    Returns
    -------
    FileStamp
    """
    temporary = layout.tmp / final.name
    stamp = write_segment(temporary, vectors, ids, unit=unit)
    if final.parent == layout.derived:
        temporary.rename(final)  # a name that a power cut takes away is made again by the next writer
    else:
        publish(temporary, final)
    return stamp


def publish_segment(
    layout: Layout,
    space_id: int,
    segment_id: int,
    vectors: Float2D,
    rows: Sequence[VectorRow],
    rankings: Sequence[StoredRanking],
    *,
    loci: Mapping[int, str] | None = None,
) -> NewSegment:
    """Write a segment and what can be derived from it alone, so that a commit can add them.

    Parameters
    ----------
    layout : Layout
    space_id, segment_id : int
    vectors : ndarray, dtype=float32, shape=(n, d)
    rows : sequence of VectorRow
        One per vector, in order.
    rankings : sequence of StoredRanking
        Of the database. Derived files of those that need more than these vectors (other spaces, or loci
        that are not given) are left to `plmsearch.store.upkeep.refresh_files`.
    loci : mapping of int to str, optional
        Of the sequences, by id.

    Returns
    -------
    NewSegment

    Raises
    ------
    StorageError
        If the operating system refuses a step.
    """
    ids = np.fromiter((r.sequence_id for r in rows), dtype=np.int64, count=len(rows))
    file = f"{segment_id:08d}.vec"
    derived: list[DerivedFile] = []
    with storage_errors(layout.root):
        stamp = publish_vectors(layout, layout.segments / file, vectors, ids)
        for ranking in rankings:
            is_own = len(ranking.parts) == 1 and ranking.space.space_id == space_id
            if is_own and (loci is not None or not ranking.needs_locus):
                known = [loci[i] for i in ids.tolist()] if loci is not None and ranking.needs_locus else None
                derived.append(publish_derived(layout, segment_id, ranking, vectors, ids, known))
    return NewSegment(segment_id, space_id, file, stamp, rows, derived)


def publish_derived(
    layout: Layout,
    segment_id: int,
    ranking: StoredRanking,
    raw: Float2D,
    ids: Int1D,
    loci: Sequence[str] | None,
) -> DerivedFile:
    """Write a segment's vectors as a ranking compares them, or what they are computed with.

    Takes what `compared_vectors` does.
    """
    name = derived_name(segment_id, ranking)
    scales = None if ranking.keeps_vectors else scales_of(ranking, raw, loci)
    if scales is not None:
        name = name.replace("-unit.vec", _SCALES)
        return DerivedFile(
            ranking.ranking_id, name, publish_vectors(layout, layout.derived / name, scales, ids)
        )
    if ranking.is_raw:
        return DerivedFile(
            ranking.ranking_id, name, publish_vectors(layout, layout.derived / name, raw, ids, unit=True)
        )
    compared = _compared(ranking, raw, loci)
    return DerivedFile(
        ranking.ranking_id, name, publish_vectors(layout, layout.derived / name, compared, ids)
    )


def _compared(ranking: StoredRanking, raw: Float2D, loci: Sequence[str] | None) -> Float2D:
    """Compare some rows at a time, so that only the result is as large as all."""
    compared: Float2D = np.empty((len(raw), ranking.dim), dtype=np.float32)
    for start in range(0, len(raw), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        compared[rows] = compared_vectors(ranking, raw[rows], None if loci is None else loci[rows])
    return compared


class VectorFiles:
    """Opens each file once and keeps it mapped.

    Parameters
    ----------
    layout : Layout
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._raw: dict[int, Segment] = {}
        self._derived: dict[tuple[object, ...], Block] = {}

    def raw(self, segment: StoredSegment) -> Segment:
        """Return a segment as it was written.

        Raises
        ------
        SegmentDamaged
            If the file is missing or is not what was written.
        StorageError
            If the operating system refuses to read it.
        """
        opened = self._raw.get(segment.segment_id)
        if opened is None:
            path = self._layout.segments / segment.file
            try:
                opened = open_segment(path, segment.stamp)
            except FileNotFoundError as exc:
                raise SegmentDamaged(path, "it is missing") from exc
            except OSError as exc:
                raise StorageError(path, exc.strerror or str(exc)) from exc
            self._raw[segment.segment_id] = opened
        return opened

    def blocks(
        self,
        catalog: CatalogReader,
        ranking: StoredRanking,
        segments: Sequence[StoredSegment],
        dead: Int1D | None = None,
    ) -> list[Block]:
        """Return vectors as a ranking compares them, a block per segment, those of `dead` sequences marked.

        They come from the derived files; where one is missing or damaged they are computed from the
        segments and held in memory, for a query never writes.

        Parameters
        ----------
        catalog : CatalogReader
            Asked only where something has to be computed.
        ranking : StoredRanking
        segments : sequence of StoredSegment
            Of the ranking's first space.
        dead : ndarray, dtype=int64, shape=(n,), optional
            Sequences that only deleted records point to.
        """
        blocks = [self._block(catalog, ranking, s) for s in segments]
        if dead is None or not len(dead):
            return blocks
        return [Block(b.vectors, b.ids, b.ids[np.isin(b.ids, dead)]) for b in blocks]

    def _block(self, catalog: CatalogReader, ranking: StoredRanking, segment: StoredSegment) -> Block:
        # Which rows there are depends on the other spaces too.
        made_of = tuple(part.space.n_vectors for part in ranking.parts[1:])
        key = (ranking.key, segment.segment_id, made_of)
        block = self._derived.get(key)
        if block is None:
            block = self._derived_block(ranking, segment)
            if block is None:
                raw, ids = self.raw_rows(catalog, ranking, segment)
                by_domain = ranking.reads_domains
                loci = loci_of(catalog, ids.tolist(), by_domain=by_domain) if ranking.needs_locus else None
                scales = None if ranking.keeps_vectors else scales_of(ranking, raw, loci)
                computed = (
                    _compared(ranking, raw, loci) if scales is None else _computed(ranking, raw, scales)
                )
                block = Block(computed, ids)
            self._derived[key] = block
        return block

    def _derived_block(self, ranking: StoredRanking, segment: StoredSegment) -> Block | None:
        derived = segment.derived.get(ranking.ranking_id)
        if derived is None:
            return None
        try:
            found = open_segment(self._layout.derived / derived.file, derived.stamp)
        except (OSError, SegmentDamaged):
            # It is a cache: any fault in it is mended from the segment.
            return None
        if not has_scales(derived):
            return Block(found.vectors, found.ids)
        raw = self.raw(segment)
        return Block(_computed(ranking, raw.vectors, found.vectors), raw.ids)

    def raw_rows(
        self, catalog: CatalogReader, ranking: StoredRanking, segment: StoredSegment
    ) -> tuple[Float2D, Int1D]:
        """Return what `compared_vectors` takes, of the sequences of a segment that all spaces have.

        Returns
        -------
        raw : ndarray, dtype=float32, shape=(n, n_components)
        ids : ndarray, dtype=int64, shape=(n,)
        """
        first = self.raw(segment)
        if len(ranking.parts) == 1:
            return first.vectors, first.ids
        ids = np.asarray(first.ids)
        spaces = [self._places(catalog, part.space) for part in ranking.parts[1:]]
        for known, _, _ in spaces:
            ids = ids[np.isin(ids, known)]
        raw: Float2D = np.empty((len(ids), ranking.n_components), dtype=np.float32)
        raw[:, : ranking.space.spec.dim] = first.vectors[np.isin(first.ids, ids)]
        begin = ranking.space.spec.dim
        for (known, numbers, segments), part in zip(spaces, ranking.parts[1:], strict=True):
            place = numbers[np.searchsorted(known, ids)]
            for number, other in enumerate(segments):
                here = np.flatnonzero(place[:, 0] == number)
                columns = slice(begin, begin + part.space.spec.dim)
                raw[here, columns] = self.raw(other).vectors[place[here, 1]]
            begin += part.space.spec.dim
        return raw, ids

    def _places(
        self, catalog: CatalogReader, space: StoredSpace
    ) -> tuple[Int1D, Int2D, Sequence[StoredSegment]]:
        """Return the rising ids of a space, and of each the number of its segment and its row there."""
        segments = catalog.segments(space.space_id)
        ids = [np.asarray(self.raw(s).ids) for s in segments]
        joined = np.concatenate([*ids, np.empty(0, dtype=np.int64)])
        numbers = [np.column_stack([np.full(len(i), n), np.arange(len(i))]) for n, i in enumerate(ids)]
        order = np.argsort(joined)
        return joined[order], np.concatenate([*numbers, np.empty((0, 2), dtype=np.int64)])[order], segments

    def rows(self, segments: Sequence[StoredSegment], places: Sequence[tuple[int, int]]) -> Float2D:
        """Gather raw vectors by (segment id, row).

        Returns
        -------
        ndarray, dtype=float32, shape=(len(places), d)
            A copy, in the order of `places`.
        """
        by_id = {s.segment_id: s for s in segments}
        if not places:
            return np.empty((0, 0), dtype=np.float32)
        return np.stack([self.raw(by_id[segment_id]).vectors[row] for segment_id, row in places])
