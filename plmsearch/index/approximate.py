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
from plmsearch.index.faiss_index import faiss_module, inner_products
from plmsearch.index.scaled import ScaledRows
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
#: Efforts that are tried, from little to much, each 1.4 times the last: so at most that much is wasted.
#: 16 of 4 sqrt(n) lists, of sqrt(n) / 4 vectors each, cost as much as choosing them, so under 4 little is
#: gained; 4,096 are a third of the lists of ten million vectors, where exact search is about as quick.
EFFORTS: tuple[int, ...] = tuple(sorted({round(4 * 2 ** (i / 2)) for i in range(21)}))

#: Edges of a node on each side: faiss's own examples and the paper's upper range for high dimensions.
_HNSW_EDGES = 32
#: Rows added at once, so that memory stays bounded.
_ADD_ROWS = 65_536
#: Points per list that k-means is given; faiss warns below 39.
_POINTS_PER_LIST = 50
#: Neighbours for which an effort was chosen.
_TUNED_K = 10
#: Candidates that are scored exactly, per hit wanted: the coarser the codes, the more. Eight bits a
#: component change the order of near neighbours only: of 10,000 in simulated clusters one candidate per hit
#: lost 511, two lost 6, three as few as eight did. Of one bit a component, that of many.
_CANDIDATES_PER_HIT = {"hnsw": 1, "hnsw-sq8": 3, "ivf": 3, "ivf-pq": 32}


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
        allowed : ndarray, dtype=bool, shape=(len(order),), optional
            Which of its vectors, in its own order, may be returned.

        Returns
        -------
        scores : ndarray, dtype=float32, shape=(n_queries, n)
        rows : ndarray, dtype=int64, shape=(n_queries, n)
            Counted over the blocks; -1 where it found fewer.
        """
        faiss = faiss_module()
        bits = None if allowed is None else np.packbits(allowed, bitorder="little")
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
    # To choose among L lists and scan p of them costs L + p n / L, least at L = sqrt(p n). Antibody vectors
    # took 16 to 23 lists for a recall of 0.99: L = 4 sqrt(n). K-means wants 39 points for each.
    n_lists = max(1, min(int(4 * np.sqrt(n)), n // 39))
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
        self._edges = np.cumsum([0, *(len(b.ids) for b in covered)])
        dead = np.concatenate([b.dead for b in covered])
        self._live = ~np.isin(self._ids, dead) if len(dead) else None
        self._open = self._opened(self._live)

    def _opened(self, mask: Bool1D | None) -> Bool1D | None:
        """Return which vectors of the engine, in its order, may be found; None if all may."""
        if mask is None:
            return None
        opened: Bool1D = mask[self._engine.order]
        return None if opened.all() else opened

    def search_unit(self, unit: Float2D, k: int, allowed: Int1D | None) -> Neighbours:
        """Find the nearest vectors to queries of unit length; scores may leave [-1, 1] by rounding."""
        mask, opened = self._live, self._open
        if allowed is not None:
            wanted = np.isin(self._ids, allowed)
            mask = wanted if mask is None else mask & wanted
            opened = self._opened(mask)
        n_open = len(self._engine.order) if opened is None else int(opened.sum())
        near = self._near(unit, min(k, n_open), mask, opened) if n_open else no_neighbours(len(unit))
        fresh = self._fresh.search_unit(unit, k, allowed)
        if not fresh.ids.shape[1]:
            return near
        return best_of(
            np.concatenate([near.scores, fresh.scores], axis=1),
            np.concatenate([near.ids, fresh.ids], axis=1),
            k,
        )

    def _near(self, unit: Float2D, k: int, mask: Bool1D | None, opened: Bool1D | None) -> Neighbours:
        """Return the k nearest covered vectors; exactly, for queries that the engine finds fewer for."""
        n = min(len(self._engine.order), k * _CANDIDATES_PER_HIT[self._engine.kind])
        effort = _stretched(self._effort, k, 1.0 if opened is None else float(opened.mean()))
        scores, rows = self._engine.propose(unit, n, effort, opened)
        if not self._engine.is_exact_in_scores:
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
        """Return the exact scores of candidates; -inf where there is none (row -1)."""
        scores: Float2D = np.full(rows.shape, -np.inf, dtype=np.float32)
        flat = rows.ravel()
        # By block, in few bits: numpy sorts those by radix. Within a block they stay by query.
        block_of = np.searchsorted(self._edges, flat, side="right").astype(
            np.min_scalar_type(len(self._edges))
        )
        order = np.argsort(block_of, kind="stable")
        cuts = np.searchsorted(block_of[order], np.arange(1, len(self._edges) + 1))
        for block, edge, start, stop in zip(
            self._covered, self._edges[:-1], cuts[:-1], cuts[1:], strict=True
        ):
            here = order[start:stop]
            if len(here):
                vectors, own = block.vectors, flat[here] - edge
                if isinstance(vectors, ScaledRows):
                    distinct, own = np.unique(own, return_inverse=True)
                    vectors = vectors[distinct]
                scores.ravel()[here] = inner_products(unit, here // rows.shape[1], vectors, own)
        return scores


def _stretched(effort: int, k: int, share: float) -> int:
    """Return the effort for k neighbours where a share of the vectors may be returned.

    The 10 nearest of one vector in s are the 10 / s nearest of all, among s as many that may be returned.
    More neighbours lie in more lists: in 512 dimensions, at an effort that found 0.995 of 10, the square root
    of k / 10 more found 0.999 of 100 and of 1,000 (200,000 simulated antibody vectors), the fourth root
    0.998, but only 0.83 of 1,000 in a million simulated clusters of 100. A twentieth more is not worth
    another list.
    """
    stretch = np.sqrt(max(1.0, k / _TUNED_K)) / share
    return max(effort, int(np.ceil(0.95 * effort * stretch)))
