"""What a ranking of one space costs that keeps its vectors, and one that computes them where they are read.

Simulated: raw vectors about the centres of three loci, in random order, in files of 256 MiB as `optimize`
leaves them; once written out less their centre and at unit length, once as two numbers a row. Both are
searched in turn by the index that the planner picks, files in the page cache; the first round is not
counted. Seconds are of CPUs, for a machine that others use too. The third way is what neither does: to
transform every vector, then search.

With ``--database DB``: a copy of it, its rankings of one space as they are and after ``--add-ranking``: bytes
of the directory, seconds of `optimize`, milliseconds (CPU) of a search by stored records, and the largest
difference of two scores.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import plmsearch
from plmsearch.index.base import Block
from plmsearch.index.faiss_index import set_faiss_threads
from plmsearch.index.planner import exact_index
from plmsearch.index.scaled import ScaledRows
from plmsearch.optimize import optimize
from plmsearch.rankings import RankingChanges
from plmsearch.search.hits import SearchOptions
from plmsearch.store.segments import open_segment, write_segment
from plmsearch.transform import Transform

K = 10
LOCI = ("IGH", "IGK", "IGL")
SEGMENT_BYTES = 256 << 20


def simulated(n: int, dim: int, folder: Path, seed: int) -> tuple[Transform, dict[str, list[Block]], int]:
    """Write vectors both ways; return the blocks of each, and the bytes of what is derived."""
    rng = np.random.default_rng(seed)
    centres = {name: (rng.standard_normal(dim) / np.sqrt(dim)).astype(np.float32) for name in LOCI}
    transform = Transform("reference", centres | {"": np.mean(list(centres.values()), axis=0)})
    blocks: dict[str, list[Block]] = {"written out": [], "computed": []}
    sizes = dict.fromkeys(blocks, 0)
    step = max(1, SEGMENT_BYTES // (4 * dim))
    for start in range(0, n, step):
        ids = np.arange(start, min(n, start + step), dtype=np.int64)
        loci = [LOCI[i] for i in rng.integers(0, len(LOCI), len(ids))]
        raw = rng.standard_normal((len(ids), dim), dtype=np.float32) * np.float32(0.5 / np.sqrt(dim))
        raw += np.stack([centres[name] for name in loci])
        which, lengths = transform.measure(raw, loci)
        scales = np.column_stack([1 / lengths, which]).astype(np.float32)
        files = {"raw": raw, "written out": transform.apply(raw, loci), "computed": scales}
        opened = {}
        for name, vectors in files.items():
            path = folder / f"{start}-{name}.vec"
            stamp = write_segment(path, vectors, ids)
            opened[name] = open_segment(path, stamp)
            if name in sizes:
                sizes[name] += stamp.size_bytes
        own = np.asarray(opened["raw"].vectors)
        found = opened["computed"].vectors
        rows = ScaledRows(
            own,
            np.ascontiguousarray(found[:, 0]),
            transform.stacked_centres,
            np.asarray(found[:, 1]).astype(np.int64),
        )
        blocks["written out"].append(Block(opened["written out"].vectors, ids))
        blocks["computed"].append(Block(rows, ids))
    for name, n_bytes in sizes.items():
        print(f"{n:,} x {dim}: {n_bytes / 1e6:,.1f} MB derived, {name}")
    return transform, blocks, dim


def compare(blocks: dict[str, list[Block]], dim: int, n_queries: int, rounds: int, seed: int) -> None:
    """Print the CPU seconds of a search both ways, and their largest difference of a score."""
    rng = np.random.default_rng(seed)
    taken: dict[str, list[float]] = {name: [] for name in blocks}
    difference = 0.0
    for _ in range(rounds + 1):
        place = rng.integers(0, len(blocks["written out"][0].ids), n_queries)
        near = blocks["written out"][0].vectors[place] + rng.standard_normal(
            (n_queries, dim)
        ) * 0.3 / np.sqrt(dim)
        scores = []
        for name, of in blocks.items():
            index = exact_index(of, dim, n_queries)
            started = time.process_time()
            scores.append(index.search(near.astype(np.float32), K).scores)
            taken[name].append(time.process_time() - started)
        difference = max(difference, float(np.abs(scores[0] - scores[1]).max()))
    one, other = (statistics.median(times[1:]) for times in taken.values())
    kind = type(exact_index(blocks["computed"], dim, n_queries)).__name__
    print(
        f"{n_queries:>5} queries ({kind}): written out {one:.3f} s, computed {other:.3f} s, ratio "
        f"{other / one:.2f}; scores differ by {difference:.1e}"
    )


def transformed(transform: Transform, blocks: Sequence[Block]) -> float:
    """Return the CPU seconds that it takes to transform every vector."""
    started = time.process_time()
    for block in blocks:
        rows = block.vectors
        assert isinstance(rows, ScaledRows)
        transform.apply(rows.raw, [(*LOCI, "")[i] for i in rows.which.tolist()])
    return time.process_time() - started


def timed(task: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    started = time.process_time()
    task()
    return time.process_time() - started


def of_database(source: Path, n_queries: int) -> None:
    """Compare both ways in a copy of a database."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copytree(source, Path(folder) / "db"))
        with plmsearch.open_database(path) as db:
            optimize(db)
            names = [r.name for r in db.rankings() if not r.keeps_vectors]
            stored = [r.record_id for r in db.repository.all_records()]
            if db.ranking(names[0]).reads_domains:  # a record may hold none
                has_domain = {u.record_id for u in db.units(stored)}
                stored = [i for i in stored if i in has_domain]
            ids = stored[:n_queries]
        answers: list[dict[str, dict[tuple[str, str], float]]] = []
        for kept in (False, True):
            changes = [RankingChanges(add=name if kept else None) for name in names]
            with plmsearch.open_database(path) as db:
                seconds = sum(timed(lambda one=one: optimize(db, rankings=one)) for one in changes)  # type: ignore[misc]
            n_bytes = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
            print(
                f"{'written out' if kept else 'computed'}: {n_bytes / 1e6:.1f} MB, optimize {seconds:.1f} s"
            )
            answers.append({name: searched(path, name, ids) for name in names})
        for name in names:
            one, other = (answer[name] for answer in answers)
            largest = max(abs(score - other[pair]) for pair, score in one.items() if pair in other)
            alike = len(one.keys() & other.keys()) / len(one)
            print(f"{name}: scores differ by {largest:.1e}, {alike:.2%} of the hits are the same")


def searched(path: Path, ranking: str, ids: Sequence[str]) -> dict[tuple[str, str], float]:
    """Search by stored records in a process that has not searched yet, then again; print both times."""
    options = SearchOptions(k=K, significance=False)
    found: dict[tuple[str, str], float] = {}

    def search() -> None:
        with plmsearch.open_database(path) as db:
            for query, hits in db.search_stored(ids, db.ranking(ranking), options):
                found.update({(query.query_id, hit.target): hit.score for hit in hits})

    times = [timed(search) for _ in range(4)]
    print(f"  {ranking}: {len(ids)} queries in {statistics.median(times[1:]) * 1e3:.0f} ms")
    return found


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where files are written (default: the temporary one)")
    parser.add_argument("--database", type=Path)
    args = parser.parse_args()
    if args.database is not None:
        of_database(args.database, max(args.queries))
        return
    set_faiss_threads(args.threads)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        transform, blocks, dim = simulated(args.n, args.dim, Path(folder), args.seed)
        for n_queries in args.queries:
            compare(blocks, dim, n_queries, args.rounds, args.seed)
        print(f"to transform all first: {transformed(transform, blocks['computed']):.1f} s more")


if __name__ == "__main__":
    main()
