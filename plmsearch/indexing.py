"""Build the approximate index of a ranking, find the effort that its recall takes, and make it durable."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np

from plmsearch.errors import ParameterError
from plmsearch.index.approximate import (
    ENGINE_KINDS,
    Engine,
    EngineKind,
    add_rows,
    build_engine,
    write_engine,
)
from plmsearch.index.recall import Measured, measure
from plmsearch.search.engines import build_order
from plmsearch.store.directory import Layout, storage_errors
from plmsearch.store.rankings import StoredRanking
from plmsearch.store.repository import Repository
from plmsearch.store.rows import (
    IndexFacts,
    StoredIndex,
)
from plmsearch.store.segments import FileStamp, stamp_of
from plmsearch.store.vector_files import VectorFiles

__all__ = ["IndexOptions", "IndexOutcome", "build_index", "index_is_due", "kind_for", "no_vectors"]

#: `--index` of optimize.
BUILD_CHOICES = ("auto", "none", *ENGINE_KINDS)
#: Below this, exact search of one query takes a few milliseconds, and an index gains nothing.
_LEAST_VECTORS = 50_000
#: Of the machine's memory, what an index of a byte per component may take.
_MEMORY_SHARE = 0.25
#: An index is built anew when so many of a space's vectors are not in it, or not in use any more.
_STALE_SHARE = 0.2
#: Half choose the effort, half measure the recall: of 500 queries with 10 neighbours each, a recall of
#: 0.99 is known within 0.005.
_HELD = 1000


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """What index is wanted.

    Parameters
    ----------
    kind : {"auto", "none", "hnsw", "hnsw-sq8", "ivf", "ivf-pq"}
        ``auto`` keeps an index that is fresh, and builds one where a space is large enough to need it.
    recall : float
        Recall@10 that is asked for, in (0, 1].
    seed : int
    """

    kind: str = "auto"
    recall: float = 0.99
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in BUILD_CHOICES:
            raise ParameterError("index", self.kind, f"one of: {', '.join(BUILD_CHOICES)}")
        if not 0 < self.recall <= 1:
            raise ParameterError("recall", self.recall, "above 0 and at most 1")


@dataclass(frozen=True, slots=True)
class IndexOutcome:
    """What became of the index of one ranking.

    Parameters
    ----------
    ranking : str
    facts : IndexFacts or None
        Of the index that there is now.
    reason : str
    """

    ranking: str
    facts: IndexFacts | None
    reason: str


def kind_for(n_vectors: int, dim: int) -> tuple[EngineKind | None, str]:
    """Choose the kind of index for so many vectors, and say why; None if exact search is quick enough.

    Lists, not a graph: whatever lies in between, each query is compared with every centre, so families far
    apart cost no recall, where they cut a graph into islands. And they take a quarter of a graph's memory
    and a small part of its time to build (docs/indexes.md).
    """
    if n_vectors < _LEAST_VECTORS:
        return None, f"exact search is quick below {_LEAST_VECTORS:,} vectors"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    fits = n_vectors * dim <= _MEMORY_SHARE * memory
    sizes = (
        f"{n_vectors * dim / 1e9:.1f} GB of codes, {'at most' if fits else 'more than'} {_MEMORY_SHARE:.0%}"
    )
    return "ivf" if fits else "ivf-pq", f"chosen for {sizes} of {memory / 1e9:.0f} GB memory"


def no_vectors(ranking: StoredRanking) -> str:
    """Say why a ranking that keeps no vectors has no index, and what gives it one."""
    said = "exact search: it keeps no vectors of its own"
    return f"{said}; optimize --add-ranking {ranking.name} has them kept, and indexed"


def index_is_due(n_vectors: int, facts: IndexFacts | None) -> bool:
    """Tell whether so much is searched exactly that an index should be built, or built anew."""
    n_indexed = 0 if facts is None else facts.n_vectors
    return n_vectors - n_indexed >= max(_LEAST_VECTORS, _STALE_SHARE * n_vectors)


def build_index(
    repository: Repository,
    layout: Layout,
    ranking: StoredRanking,
    options: IndexOptions,
    say: Callable[[str], None],
) -> IndexOutcome:
    """Give a ranking the index that is wanted.

    Parameters
    ----------
    repository : Repository
        Opened for writing, under the lock; derived files are in order.
    layout : Layout
    ranking : StoredRanking
    options : IndexOptions
    say : callable
        Told what is done.

    Returns
    -------
    IndexOutcome

    Raises
    ------
    StorageError
        If the operating system refuses a step. The index is as it was then.
    """
    name, stored = ranking.name, repository.index_of(ranking.ranking_id)
    n_vectors = ranking.n_vectors
    if options.kind == "none":
        _drop(repository, layout, stored)
        return IndexOutcome(name, None, "no index is wanted")
    if not ranking.keeps_vectors:
        _drop(repository, layout, stored)
        small = options.kind == "auto" and kind_for(n_vectors, ranking.dim)[0] is None
        return IndexOutcome(name, None, kind_for(n_vectors, ranking.dim)[1] if small else no_vectors(ranking))
    kind, why = cast("EngineKind | None", options.kind), "asked for"
    if options.kind == "auto":
        if stored is not None and _serves(stored, n_vectors, options):
            return IndexOutcome(name, stored.facts, "the index is fresh")
        kind, why = kind_for(n_vectors, ranking.dim)
        if kind is None:
            _drop(repository, layout, stored)
            return IndexOutcome(name, None, why)
    assert kind is not None
    if n_vectors < 2 * _HELD:
        return IndexOutcome(name, None, f"an index is of no use below {2 * _HELD:,} vectors")
    return _built(repository, layout, ranking, kind, options, why, say)


def _serves(stored: StoredIndex, n_vectors: int, options: IndexOptions) -> bool:
    facts = stored.facts
    return (
        facts.recall_asked == options.recall
        and facts.n_vectors >= (1 - _STALE_SHARE) * n_vectors
        and not index_is_due(n_vectors, facts)
    )


def _built(
    repository: Repository,
    layout: Layout,
    ranking: StoredRanking,
    kind: EngineKind,
    options: IndexOptions,
    why: str,
    say: Callable[[str], None],
) -> IndexOutcome:
    name, before = ranking.name, repository.index_of(ranking.ranking_id)
    segments = repository.segments(ranking.space.space_id)
    dead = np.array(repository.dead_sequences(by_domain=ranking.reads_domains), dtype=np.int64)
    blocks = VectorFiles(layout).blocks(repository, ranking, segments, dead)
    n_vectors = sum(len(b.ids) for b in blocks)
    order = build_order(n_vectors, _HELD, options.seed)
    say(f"{name}: building {kind} over {n_vectors:,} vectors")
    engine = build_engine(kind, blocks, order[:-_HELD], seed=options.seed)
    say(f"{name}: measuring recall on {_HELD:,} vectors that are not in it yet")
    measured = measure(engine, blocks, order[-_HELD:], options.recall)
    if measured is None:
        _drop(repository, layout, before)
        return IndexOutcome(
            name, None, f"{kind} does not reach recall@10 {options.recall}: search stays exact"
        )
    add_rows(engine, blocks, order[-_HELD:])
    facts = _facts(kind, [s.segment_id for s in segments], n_vectors, measured, options, why)
    file = f"index-{ranking.ranking_id}-{repository.generation() + 1}.faiss"
    with storage_errors(layout.root):
        stored = StoredIndex(ranking.ranking_id, file, _published(layout, file, engine), facts)
        repository.set_index(stored)
        if before is not None:
            (layout.derived / before.file).unlink(missing_ok=True)
    return IndexOutcome(name, facts, "built")


def _facts(
    kind: str, segments: list[int], n_vectors: int, measured: Measured, options: IndexOptions, why: str
) -> IndexFacts:
    return IndexFacts(
        kind=kind,
        segments=tuple(segments),
        n_vectors=n_vectors,
        n_held=_HELD,
        seed=options.seed,
        effort=measured.effort,
        recall_asked=options.recall,
        recall=measured.recall,
        n_queries=measured.n_queries,
        seconds_per_query=measured.seconds_per_query,
        exact_seconds_per_query=measured.exact_seconds_per_query,
        reason=why,
    )


def _published(layout: Layout, file: str, engine: Engine) -> FileStamp:
    """Write the file under its name, whole.

    Nothing is synced: what a power cut tears is found out by its checksum, which is compared each time
    the file is read, and made anew.
    """
    temporary = layout.tmp / file
    write_engine(engine, temporary)
    temporary.rename(layout.derived / file)
    return stamp_of(layout.derived / file)


def _drop(repository: Repository, layout: Layout, stored: StoredIndex | None) -> None:
    if stored is not None:
        repository.drop_index(stored.ranking_id)
        with storage_errors(layout.root):
            (layout.derived / stored.file).unlink(missing_ok=True)
