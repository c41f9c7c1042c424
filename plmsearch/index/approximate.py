"""Approximate search by faiss: graphs (HNSW) and inverted lists (IVF), and how well they find.

Concepts
--------
An *engine* is a faiss index over the rows of some blocks, in an order of its own. It proposes rows;
`ApproximateIndex` scores them exactly where the engine holds rounded vectors, searches what the engine
does not hold exactly, and merges. *Effort* is how much of the engine a search visits: ``efSearch`` of a
graph (Malkov & Yashunin 2018), ``nprobe`` of inverted lists (Jegou et al. 2011).

Limitations
-----------
A graph whose results are filtered visits mostly what it may not return, so a selective filter is left
to exact search (`plmsearch.index.planner`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from plmsearch.errors import StorageError
from plmsearch.index.base import Block, Neighbours, VectorIndex, best_of, no_neighbours
from plmsearch.index.faiss_index import faiss_module
from plmsearch.types import Bool1D, Float2D, Int1D, Int2D

__all__ = [
    "EFFORTS",
    "ENGINE_KINDS",
    "ApproximateIndex",
    "Engine",
    "EngineKind",
    "add_rows",
    "build_engine",
    "read_engine",
    "rows_of",
    "write_engine",
]

EngineKind: TypeAlias = Literal["hnsw", "hnsw-sq8", "ivf", "ivf-pq"]
ENGINE_KINDS: tuple[EngineKind, ...] = ("hnsw", "hnsw-sq8", "ivf", "ivf-pq")
#: Efforts that are tried, from little to much.
EFFORTS: tuple[int, ...] = tuple(sorted({round(8 * 2 ** (i / 2)) for i in range(19)}))

#: Edges of a node on each side: faiss's own examples and the paper's upper range for high dimensions.
_HNSW_EDGES = 32
#: Rows added at once, so that memory stays bounded.
_ADD_ROWS = 65_536
#: Points per list that k-means is given; faiss warns below 39.
_POINTS_PER_LIST = 50
#: Candidates that are scored exactly, per hit wanted: the coarser the codes, the more. Eight bits a
#: component change the order of near neighbours only; one bit a component, that of many.
_CANDIDATES_PER_HIT = {"hnsw": 1, "hnsw-sq8": 4, "ivf": 4, "ivf-pq": 32}


@dataclass(frozen=True, slots=True)
class Engine:
    """A faiss index and what is needed to read its answers.

    Parameters
    ----------
    index : object
        The faiss index.
    kind : {"hnsw", "hnsw-sq8", "ivf", "ivf-pq"}
    order : ndarray, dtype=int64, shape=(n,)
        Row, counted over the blocks, of each of its vectors.
    """

    index: Any
    kind: str
    order: Int1D

    @property
    def is_exact_in_scores(self) -> bool:
        """Whether its scores are those of the vectors themselves."""
        return self.kind == "hnsw"

    @property
    def most_effort(self) -> int:
        """The effort at which all of it is visited."""
        return int(self.index.nlist) if self.kind.startswith("ivf") else len(self.order)

    def propose(
        self, unit: Float2D, n: int, effort: int, allowed: Bool1D | None = None
    ) -> tuple[Float2D, Int2D]:
        """Return the n best rows it comes upon.

        Parameters
        ----------
        unit : ndarray, dtype=float32, shape=(n_queries, d)
            Of unit length.
        n : int
        effort : int
        allowed : ndarray, dtype=bool, shape=(n_rows,), optional
            Which rows, counted over the blocks, may be returned.

        Returns
        -------
        scores : ndarray, dtype=float32, shape=(n_queries, n)
        rows : ndarray, dtype=int64, shape=(n_queries, n)
            Counted over the blocks; -1 where it found fewer.
        """
        faiss = faiss_module()
        bits = None if allowed is None else np.packbits(allowed[self.order], bitorder="little")
        selector = None if bits is None else faiss.IDSelectorBitmap(bits)
        if self.kind.startswith("ivf"):
            parameters = faiss.SearchParametersIVF(sel=selector, nprobe=min(effort, self.most_effort))
        else:
            parameters = faiss.SearchParametersHNSW(sel=selector, efSearch=max(effort, n))
        scores, places = self.index.search(np.ascontiguousarray(unit), n, params=parameters)
        return scores, np.where(places < 0, -1, self.order[places])


def build_engine(
    kind: EngineKind,
    blocks: Sequence[Block],
    order: Int1D,
    *,
    seed: int,
) -> Engine:
    """Build a faiss index over rows of blocks.

    Parameters
    ----------
    kind : {"hnsw", "hnsw-sq8", "ivf", "ivf-pq"}
    blocks : sequence of Block
    order : ndarray, dtype=int64, shape=(n,)
        Rows, counted over the blocks, in the order they are added.
    seed : int
        Of the sample that lists and codes are learnt from.

    Returns
    -------
    Engine
    """
    index = _empty(kind, blocks[0].vectors.shape[1], len(order))
    if not index.is_trained:
        n_train = min(len(order), _POINTS_PER_LIST * getattr(index, "nlist", 2000))
        sample = np.random.default_rng(seed).choice(order, n_train, replace=False)
        index.train(rows_of(blocks, np.sort(sample)))
    engine = Engine(index, kind, order)
    add_rows(engine, blocks, order)
    return engine


def add_rows(engine: Engine, blocks: Sequence[Block], rows: Int1D) -> None:
    """Add vectors to a faiss index; the engine's order has to name them already, or by the caller."""
    for start in range(0, len(rows), _ADD_ROWS):
        engine.index.add(rows_of(blocks, rows[start : start + _ADD_ROWS]))


def _empty(kind: EngineKind, dim: int, n: int) -> Any:
    faiss = faiss_module()
    product = faiss.METRIC_INNER_PRODUCT
    if kind == "hnsw":
        return faiss.IndexHNSWFlat(dim, _HNSW_EDGES, product)
    if kind == "hnsw-sq8":
        return faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_8bit, _HNSW_EDGES, product)
    # Twice the root: to visit a list costs as much as to choose it. K-means wants 39 points for each.
    n_lists = max(1, min(int(2 * np.sqrt(n)), n // 39))
    code = "SQ8" if kind == "ivf" else f"PQ{_code_parts(dim)}x4fs"
    index = faiss.index_factory(dim, f"IVF{n_lists},{code}", product)
    index.cp.niter = 10
    return index


def _code_parts(dim: int) -> int:
    """Return the number of codes of a vector: one for four components, or as near as divides `dim`."""
    return max(m for m in range(1, max(1, dim // 4) + 1) if dim % m == 0)


def rows_of(blocks: Sequence[Block], rows: Int1D) -> Float2D:
    """Gather vectors by row, counted over the blocks, in the order asked."""
    out = np.empty((len(rows), blocks[0].vectors.shape[1]), dtype=np.float32)
    edges = np.cumsum([0, *(len(b.ids) for b in blocks)])
    for block, start, stop in zip(blocks, edges[:-1], edges[1:], strict=True):
        here = np.flatnonzero((rows >= start) & (rows < stop))
        if len(here):
            out[here] = block.vectors[rows[here] - start]
    return out


def write_engine(engine: Engine, path: Path) -> None:
    """Write the faiss index to a new file; the caller renames it.

    Raises
    ------
    StorageError
        If the operating system refuses; nothing is left then.
    """
    faiss = faiss_module()
    try:
        # Through a file of ours: faiss's own takes no notice when the last bytes cannot be written.
        with path.open("wb") as file:
            faiss.write_index(engine.index, faiss.PyCallbackIOWriter(file.write))
    except (OSError, RuntimeError) as exc:
        path.unlink(missing_ok=True)
        reason = getattr(exc, "strerror", None) or str(exc)
        raise StorageError(path, reason, hint="free some space and run the same command again") from exc


def read_engine(path: Path, kind: str, order: Int1D) -> Engine:
    """Read a faiss index whose file was checked: faiss itself notices little that is wrong with one."""
    return Engine(faiss_module().read_index(str(path)), kind, order)


class ApproximateIndex(VectorIndex):
    """An engine over some blocks, and exact search over the others.

    Parameters
    ----------
    covered : sequence of Block
        What the engine was built over, in the same order.
    fresh : VectorIndex
        The vectors it does not hold.
    dim : int
    engine : Engine
    effort : int
    exact : callable
        Makes an exact index of blocks: for queries that the engine does not find enough for.
    """

    def __init__(
        self,
        covered: Sequence[Block],
        fresh: VectorIndex,
        dim: int,
        engine: Engine,
        effort: int,
        exact: Callable[[Sequence[Block], int], VectorIndex],
    ) -> None:
        super().__init__([*covered, *fresh.blocks], dim)
        self._covered, self._fresh, self._exact = list(covered), fresh, exact
        self._engine, self._effort = engine, effort
        self._ids = np.concatenate([b.ids for b in covered])
        dead = np.concatenate([b.dead for b in covered])
        self._live = ~np.isin(self._ids, dead) if len(dead) else None

    def search_unit(self, unit: Float2D, k: int, allowed: Int1D | None) -> Neighbours:
        """Find the nearest vectors to queries of unit length; scores may leave [-1, 1] by rounding."""
        mask = self._live
        if allowed is not None:
            wanted = np.isin(self._ids, allowed)
            mask = wanted if mask is None else mask & wanted
        n_open = len(self._ids) if mask is None else int(mask.sum())
        share = n_open / max(len(self._ids), 1)
        near = self._near(unit, min(k, n_open), mask, share) if n_open else no_neighbours(len(unit))
        fresh = self._fresh.search_unit(unit, k, allowed)
        return best_of(
            np.concatenate([near.scores, fresh.scores], axis=1),
            np.concatenate([near.ids, fresh.ids], axis=1),
            k,
        )

    def _near(self, unit: Float2D, k: int, mask: Bool1D | None, share: float) -> Neighbours:
        """Return the k nearest covered vectors; exactly, for queries that the engine finds fewer for."""
        rounded = not self._engine.is_exact_in_scores
        n = min(len(self._ids), k * _CANDIDATES_PER_HIT[self._engine.kind])
        # What may be returned is a share of what is visited, so more is visited.
        effort = int(np.ceil(self._effort / share))
        scores, rows = self._engine.propose(unit, n, max(effort, n), mask)
        if rounded:
            scores = self._rescored(unit, rows)
        scores = np.where(rows < 0, np.float32(-np.inf), scores)
        found = best_of(scores, self._ids[rows], k)
        short = np.flatnonzero((rows >= 0).sum(axis=1) < k)
        if len(short):
            allowed = None if mask is None else self._ids[mask]
            exact = self._exact(self._covered, self.dim).search_unit(unit[short], k, allowed)
            found.scores[short], found.ids[short] = exact.scores, exact.ids
        return found

    def _rescored(self, unit: Float2D, rows: Int2D) -> Float2D:
        distinct, places = np.unique(np.maximum(rows, 0), return_inverse=True)
        vectors = rows_of(self._covered, distinct)
        places = places.reshape(rows.shape)
        scores = np.empty(rows.shape, dtype=np.float32)
        for query, place in enumerate(places):
            scores[query] = vectors[place] @ unit[query]
        return scores
