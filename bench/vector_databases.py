"""Side by side with usearch, hnswlib, lancedb and milvus-lite: at equal recall, with a filter and without.

Each library runs in a process of its own, over the same simulated vectors, bound to the same processors; one
that is not installed is skipped with a message. The rivals are tuned on half of the queries: the least effort
whose mean recall@10 reaches the asked one, or the best they reach; the other half is measured. plmsearch is
not told about the queries: it keeps the effort that its own build chose. The filter is ``bucket < b`` over a
uniform random whole number from 0 to 99. Recall counts the true scores of the ids that come back, against
exact search over the vectors that the filter leaves.

How each filters: hnswlib calls a Python predicate for each candidate (on one thread, as its README says);
the Python binding of usearch has no predicate, so k / selectivity neighbours are fetched and sorted out;
lancedb and milvus-lite filter before the search; plmsearch as its planner chooses.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from approximate_search import clusters, like

import plmsearch
from plmsearch.exchange.importing import ImportOptions, import_vectors
from plmsearch.formats.vectors import open_vectors
from plmsearch.index.base import Block
from plmsearch.index.faiss_index import FaissExactIndex
from plmsearch.indexing import IndexOptions
from plmsearch.optimize import optimize
from plmsearch.search.hits import SearchOptions

K = 10
#: Values of `bucket` that a filter leaves, of 100: selectivity 1 (no filter), 10% and 1%.
FILTERS = (100, 10, 1)
#: What float32 rounding makes of one score.
SAME_SCORE = 1e-6
#: A rival's next effort is not tried once a search of half the queries takes longer.
SLOW_S = 10.0


class Rival(ABC):
    """A library, its index, and its one knob."""

    package = ""
    kind = ""
    efforts: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048)

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.buckets = np.empty(0, dtype=np.int64)

    @abstractmethod
    def build(self, vectors: np.ndarray, buckets: np.ndarray, folder: Path) -> None:
        """Store and index vectors of unit length under their row numbers."""

    @abstractmethod
    def search(self, queries: np.ndarray, effort: int, below: int) -> Sequence[Sequence[int]]:
        """Return up to K ids a query whose bucket is below a value."""


class Hnswlib(Rival):
    package, kind = "hnswlib", "HNSW M 16, efConstruction 200, float32"

    def build(self, vectors: np.ndarray, buckets: np.ndarray, folder: Path) -> None:
        import hnswlib

        self.index = hnswlib.Index("ip", vectors.shape[1])
        self.index.init_index(len(vectors), M=16, ef_construction=200, random_seed=0)
        self.index.add_items(vectors, np.arange(len(vectors)), num_threads=self.threads)
        self.index.save_index(str(folder / "hnswlib.bin"))
        self.buckets = buckets

    def search(self, queries: np.ndarray, effort: int, below: int) -> Sequence[Sequence[int]]:
        self.index.set_ef(max(effort, K))
        if below == 100:
            return self.index.knn_query(queries, K, num_threads=self.threads)[0].tolist()
        kept = (self.buckets < below).tolist()
        found = []
        for query in queries:
            try:
                found.append(
                    self.index.knn_query(query, K, num_threads=1, filter=kept.__getitem__)[0][0].tolist()
                )
            except RuntimeError:  # "Cannot return the results in a contiguous 2D array": fewer than K
                found.append(self._fewer(query, kept))
        return found

    def _fewer(self, query: np.ndarray, kept: list[bool]) -> list[int]:
        for k in range(K - 1, 0, -1):
            try:
                return self.index.knn_query(query, k, num_threads=1, filter=kept.__getitem__)[0][0].tolist()
            except RuntimeError:
                continue
        return []


class Usearch(Rival):
    package, kind = "usearch", "HNSW connectivity 16, expansion_add 128, float32"

    def build(self, vectors: np.ndarray, buckets: np.ndarray, folder: Path) -> None:
        from usearch.index import Index

        self.index = Index(ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=16)
        self.index.add(np.arange(len(vectors)), vectors, threads=self.threads)
        self.index.save(str(folder / "usearch.bin"))
        self.buckets = buckets

    def search(self, queries: np.ndarray, effort: int, below: int) -> Sequence[Sequence[int]]:
        self.index.expansion_search = effort
        if below == 100:
            return self.index.search(queries, K, threads=self.threads).keys.tolist()
        # No predicate in the binding: as many as hold K that pass, on average, or the effort if more.
        n = max(K * 100 // below, effort)
        keys = self.index.search(queries, n, threads=self.threads).keys.astype(np.int64)
        return [row[self.buckets[row] < below][:K].tolist() for row in keys]


class Lancedb(Rival):
    package, kind = "lancedb", "IVF_SQ, 4 sqrt(n) lists, re-scored 3 a hit"
    efforts = (1, 2, 4, 8, 16, 32, 64, 128, 256)

    def build(self, vectors: np.ndarray, buckets: np.ndarray, folder: Path) -> None:
        import lancedb.index
        import pyarrow as pa

        dim = vectors.shape[1]

        def pages() -> Any:
            for start in range(0, len(vectors), 20_000):
                part = np.ascontiguousarray(vectors[start : start + 20_000])
                column = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), dim)
                here = slice(start, start + len(part))
                ids = pa.array(np.arange(start, start + len(part)))
                yield pa.record_batch(
                    [ids, pa.array(buckets[here]), column], names=["id", "bucket", "vector"]
                )

        schema = pa.schema({"id": pa.int64(), "bucket": pa.int64(), "vector": pa.list_(pa.float32(), dim)})
        self.table = lancedb.connect(folder / "lance").create_table("v", pages(), schema=schema)
        lists = int(4 * np.sqrt(len(vectors)))
        kind = lancedb.index.IvfSq(distance_type="cosine", num_partitions=lists)
        self.table.create_index("vector", config=kind)
        self.table.create_index("bucket", config=lancedb.index.BTree())

    def search(self, queries: np.ndarray, effort: int, below: int) -> Sequence[Sequence[int]]:
        def one(query: np.ndarray) -> list[int]:
            asked = (
                self.table.search(query).select(["id", "_distance"]).limit(K).nprobes(effort).refine_factor(3)
            )
            if below < 100:
                asked = asked.where(f"bucket < {below}", prefilter=True)
            return asked.to_arrow()["id"].to_pylist()

        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(one, queries))


class MilvusLite(Rival):
    package, kind = "milvus-lite", "IVF_FLAT, 4 sqrt(n) lists, float32"
    efforts = (1, 2, 4, 8, 16, 32, 64, 128, 256)

    def build(self, vectors: np.ndarray, buckets: np.ndarray, folder: Path) -> None:
        from pymilvus import DataType, MilvusClient

        self.client = MilvusClient(str(folder / "milvus.db"))
        schema = self.client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("bucket", DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
        index = self.client.prepare_index_params()
        lists = int(4 * np.sqrt(len(vectors)))
        index.add_index("vector", index_type="IVF_FLAT", metric_type="IP", params={"nlist": lists})
        self.client.create_collection("v", schema=schema)
        for start in range(0, len(vectors), 10_000):
            rows = range(start, min(start + 10_000, len(vectors)))
            self.client.insert(
                "v", [{"id": i, "bucket": int(buckets[i]), "vector": vectors[i].tolist()} for i in rows]
            )
        self.client.flush("v")
        self.client.create_index("v", index)
        self.client.load_collection("v")

    def search(self, queries: np.ndarray, effort: int, below: int) -> Sequence[Sequence[int]]:
        found = self.client.search(
            "v",
            data=list(queries),
            limit=K,
            filter="" if below == 100 else f"bucket < {below}",
            search_params={"metric_type": "IP", "params": {"nprobe": effort}},
        )
        return [[hit["id"] for hit in hits] for hits in found]


class Plmsearch(Rival):
    package, kind = "plmsearch", "auto"
    efforts = (0,)

    def build(self, vectors: np.ndarray, buckets: np.ndarray, folder: Path) -> None:
        rows = "".join(f"{i}\t{b}\n" for i, b in enumerate(buckets.tolist()))
        (folder / "records.tsv").write_text("id\tbucket\n" + rows)
        np.save(folder / "own.npy", vectors)
        self.db = plmsearch.open_database(folder / "db", create=True)
        file = open_vectors(folder / "own.npy", records=folder / "records.tsv")
        import_vectors(self.db, file, ImportOptions(space="simulated"))
        (folder / "own.npy").unlink()
        (outcome,) = optimize(self.db, index=IndexOptions("auto")).indexes
        assert outcome.facts is not None, outcome.reason
        self.kind = f"auto: {outcome.facts.kind}, effort {outcome.facts.effort}"

    def search(self, queries: np.ndarray, effort: int, below: int) -> Sequence[Sequence[int]]:
        where = None if below == 100 else f"bucket < {below}"
        found = self.db.search(queries, k=K, options=SearchOptions(where=where))
        return [[int(hit.target) for hit in hits] for hits in found]


RIVALS: tuple[type[Rival], ...] = (Plmsearch, Hnswlib, Usearch, Lancedb, MilvusLite)


def recall_and_short(
    found: Sequence[Sequence[int]], queries: np.ndarray, vectors: np.ndarray, kth: np.ndarray, n_exist: int
) -> tuple[float, int]:
    """Return mean recall, by true scores, and the number of queries with fewer hits than exist."""
    good, short = 0, 0
    n = min(K, n_exist)
    for ids, query, least in zip(found, queries, kth, strict=True):
        distinct = list(dict.fromkeys(ids))[:n]
        short += len(distinct) < n
        good += int((vectors[distinct] @ query >= least - SAME_SCORE).sum()) if distinct else 0
    return good / (n * len(queries)), short


def timed(action: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call returns and its seconds."""
    started = time.perf_counter()
    answer = action()
    return answer, time.perf_counter() - started


def run(rival: Rival, folder: Path, asked: float, rounds: int) -> None:
    """Build, tune and measure one library, and print a row for each filter."""
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    queries, buckets = np.load(folder / "queries.npy"), np.load(folder / "buckets.npy")
    own = folder / rival.package
    own.mkdir()
    _, built = timed(lambda: rival.build(vectors, buckets, own))
    disk = sum(f.stat().st_size for f in own.rglob("*") if f.is_file()) / 2**20
    half = len(queries) // 2
    for below in FILTERS:
        kth, n_exist = np.load(folder / f"kth{below}.npy"), int((buckets < below).sum())
        tried: list[tuple[float, int]] = []
        for effort in rival.efforts:
            found, seconds = timed(lambda e=effort, b=below: rival.search(queries[:half], e, b))
            tried.append((recall_and_short(found, queries[:half], vectors, kth[:half], n_exist)[0], effort))
            if tried[-1][0] >= asked or seconds > SLOW_S:
                break
        effort = tried[-1][1] if tried[-1][0] >= asked else max(tried)[1]
        seconds = []
        for _ in range(rounds):
            found, once = timed(lambda e=effort, b=below: rival.search(queries[half:], e, b))
            seconds.append(once)
        recall, short = recall_and_short(found, queries[half:], vectors, kth[half:], n_exist)
        rate = (len(queries) - half) / statistics.median(seconds)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{rival.package}\t{rival.kind}\t{below}%\t{effort or 'own'}\t{recall:.4f}\t{short}\t{rate:.0f}"
            f"\t{built:.0f}\t{peak:.2f}\t{disk:.0f}",
            flush=True,
        )


def prepare(folder: Path, given: argparse.Namespace) -> str:
    """Write vectors, queries, buckets and the true 10th scores; say what the vectors are."""
    rng = np.random.default_rng(given.seed)
    if given.like:
        draw, n_real, dim = like(given.like, rng)
        what = f"simulated: {n_real} stored vectors, moved by differences between relatives"
    else:
        draw, dim, what = clusters(given.n, given.dim, rng), given.dim, "simulated: clusters"
    out = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (given.n, dim))
    for start, stop in pairwise([*range(0, given.n, 50_000), given.n]):
        part = draw(stop - start)
        out[start:stop] = part / np.linalg.norm(part, axis=1, keepdims=True)
    queries = draw(given.queries)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    buckets = rng.integers(0, 100, given.n)
    np.save(folder / "queries.npy", queries)
    np.save(folder / "buckets.npy", buckets)
    exact = FaissExactIndex([Block(out, np.arange(given.n))], dim)
    for below in FILTERS:
        found = exact.search(queries, K, allowed=np.flatnonzero(buckets < below))
        np.save(folder / f"kth{below}.npy", found.scores[:, -1])
    return what


def main() -> None:
    """Prepare the data, run each library in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=200_000, help="vectors")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1000, help="half tune, half are measured")
    parser.add_argument("--recall", type=float, default=0.99)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--like", type=Path, help="database whose vectors are imitated")
    parser.add_argument("--only", nargs="*", default=[r.package for r in RIVALS], help="libraries")
    parser.add_argument("--dir", help="where the files are made")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        (rival,) = (r for r in RIVALS if [r.package] == given.only)
        run(rival(given.threads), given.inside, given.recall, given.rounds)
        return
    # Whatever threads a library starts, they share these processors.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.threads])
    environment = os.environ | {"OMP_NUM_THREADS": str(given.threads)}
    with tempfile.TemporaryDirectory(dir=given.dir) as name:
        what = prepare(Path(name), given)
        print(
            f"n = {given.n}, {what}, seed {given.seed}, {given.queries // 2} queries, k = {K}, "
            f"{given.threads} threads, recall@{K} {given.recall:g} asked"
        )
        print(
            "library\tindex\tfilter\teffort\trecall\tshort\tqueries/s\tbuild s\tpeak GiB\tdisk MiB",
            flush=True,
        )
        for package in given.only:
            try:
                version = "" if package == "plmsearch" else importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                print(f"{package}\tskipped: it is not installed", flush=True)
                continue
            print(f"{package} {version}", file=sys.stderr)
            options = ["--inside", name, "--only", package, "--recall", str(given.recall)]
            options += ["--threads", str(given.threads), "--rounds", str(given.rounds)]
            done = subprocess.run([sys.executable, __file__, *options], env=environment, check=False)
            if done.returncode:
                print(f"{package}\tfailed with exit status {done.returncode}", flush=True)


if __name__ == "__main__":
    main()
