"""The approximate indexes of a database, read when they are first searched."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from plmsearch.errors import ParameterError, SegmentDamaged
from plmsearch.index.approximate import ApproximateIndex, Engine, read_engine
from plmsearch.index.base import Block, VectorIndex
from plmsearch.index.faiss_index import FaissExactIndex, set_faiss_threads
from plmsearch.index.planner import Costs, choose_search, exact_index
from plmsearch.store.directory import Layout
from plmsearch.store.rows import StoredIndex
from plmsearch.store.segments import check_file
from plmsearch.types import Int1D

__all__ = ["INDEX_CHOICES", "Engines", "Wanted", "build_order"]

_log = logging.getLogger(__name__)


#: What may be asked for: the best, or one of the ways.
INDEX_CHOICES = ("auto", "exact", "hnsw", "ivf")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One search, as far as it decides how it is done.

    Parameters
    ----------
    n_queries : int
    n_allowed : int or None
        Vectors that a filter leaves.
    choice : {"auto", "exact", "hnsw", "ivf"}
    threads : int or None
    """

    n_queries: int
    n_allowed: int | None
    choice: str
    threads: int | None


def build_order(n_vectors: int, n_held: int, seed: int) -> Int1D:
    """Return the order in which the rows of an index were added: those held back come last.

    Parameters
    ----------
    n_vectors, n_held : int
    seed : int

    Returns
    -------
    ndarray, dtype=int64, shape=(n_vectors,)
    """
    held = np.random.default_rng(seed).choice(n_vectors, n_held, replace=False)
    rest = np.setdiff1d(np.arange(n_vectors), held, assume_unique=True)
    return np.concatenate([rest, held])


class Engines:
    """Reads each index file once and keeps the newest of each ranking.

    Parameters
    ----------
    layout : Layout
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._engines: dict[int, tuple[str, Engine | None]] = {}
        self._built: tuple[str, int, ApproximateIndex] | None = None

    def plan(
        self,
        stored: StoredIndex | None,
        blocks: Mapping[int, Block],
        dim: int,
        generation: int,
        wanted: Wanted,
    ) -> tuple[VectorIndex, str]:
        """Choose how to search.

        Parameters
        ----------
        stored : StoredIndex or None
            The approximate index of the ranking.
        blocks : mapping of int to Block
            The vectors of the ranking, by segment id, oldest first.
        dim : int
        generation : int
            Of the database: what `blocks` are of.
        wanted : Wanted

        Returns
        -------
        index : VectorIndex
        reason : str

        Raises
        ------
        ParameterError
            If an index is asked for that there is not.
        """
        n_allowed = wanted.n_allowed
        exact = exact_index(list(blocks.values()), dim, wanted.n_queries, wanted.threads, n_allowed=n_allowed)
        if wanted.choice == "exact":
            return exact, "exact search was asked for"
        is_asked = wanted.choice != "auto"
        if stored is None or not _covers(stored, blocks):
            if is_asked:
                raise _no_index(wanted.choice, "none")
            return exact, "there is no approximate index"
        if is_asked and not stored.facts.kind.startswith(wanted.choice):
            raise _no_index(wanted.choice, stored.facts.kind)
        n_selected = stored.facts.n_vectors if n_allowed is None else min(n_allowed, stored.facts.n_vectors)
        plan = choose_search(wanted.n_queries, n_selected, dim, self.costs(stored))
        if plan.is_final or not (plan.use_engine or is_asked):
            return exact, plan.reason
        engine = self.engine(stored)
        if engine is None:
            return exact, "the index file is missing or damaged; plmsearch repair makes it anew"
        if wanted.threads is not None:
            set_faiss_threads(wanted.threads)
        return self._index(stored, engine, blocks, dim, generation), "asked for" if is_asked else plan.reason

    def _index(
        self, stored: StoredIndex, engine: Engine, blocks: Mapping[int, Block], dim: int, generation: int
    ) -> ApproximateIndex:
        if self._built is None or self._built[:2] != (stored.file, generation):
            covered = [blocks[i] for i in stored.facts.segments]
            fresh = [block for i, block in blocks.items() if i not in stored.facts.segments]
            index = ApproximateIndex(
                covered, FaissExactIndex(fresh, dim), dim, engine, stored.facts.effort, FaissExactIndex
            )
            self._built = (stored.file, generation, index)
        return self._built[2]

    def costs(self, stored: StoredIndex) -> Costs:
        """Return what a search by a stored index costs now."""
        facts = stored.facts
        file, engine = self._engines.get(stored.ranking_id, ("", None))
        is_read = file == stored.file and engine is not None
        return Costs(
            facts.n_vectors,
            0 if is_read else stored.stamp.size_bytes,
            facts.seconds_per_query,
            facts.exact_seconds_per_query,
        )

    def engine(self, stored: StoredIndex) -> Engine | None:
        """Return the engine of a stored index; None if its file is missing or damaged: it is a cache."""
        if self._engines.get(stored.ranking_id, ("", None))[0] != stored.file:
            self._engines[stored.ranking_id] = (stored.file, self._read(stored))
        return self._engines[stored.ranking_id][1]

    def _read(self, stored: StoredIndex) -> Engine | None:
        path, facts = self._layout.derived / stored.file, stored.facts
        started = time.perf_counter()
        try:
            check_file(path, stored.stamp, full=True)  # faiss would answer wrongly, or crash, on some bits
            order = build_order(facts.n_vectors, facts.n_held, facts.seed)
            engine = read_engine(path, facts.kind, order)
        except (OSError, SegmentDamaged, RuntimeError) as error:
            _log.warning("%s is not used: %s", path, error)
            return None
        _log.info("read %s in %.2f s", path, time.perf_counter() - started)
        return engine


def _covers(stored: StoredIndex, blocks: Mapping[int, Block]) -> bool:
    """Tell whether an index is over rows that are all there."""
    covered = [blocks[i] for i in stored.facts.segments if i in blocks]
    is_whole = len(covered) == len(stored.facts.segments)
    return is_whole and sum(len(b.ids) for b in covered) == stored.facts.n_vectors


def _no_index(choice: str, present: str) -> ParameterError:
    return ParameterError(
        "index", choice, f"one that was built; there is {present}: plmsearch optimize --index"
    )
