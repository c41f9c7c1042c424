"""Import of raw vectors, and what a database of that size costs afterwards; all in one run.

Baseline of the import: `numpy.save` of the same array and fsync, then bare ``executemany`` of the same
rows into the same tables, on a connection opened as a database's is. The vectors are random (called so:
they are of no protein), given as a .npy file with a list of ids. Further figures: deleting 1% of the
records; opening the database and a first exact query in a new process, twice, so that the second finds
the files in the page cache; verify and verify --full, the latter beside `sha256sum` over the same files.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from sqlalchemy import insert

import plmsearch
from plmsearch.exchange.importing import ImportOptions, import_vectors
from plmsearch.formats.vectors import open_vectors
from plmsearch.store import tables as t
from plmsearch.store.connection import open_catalog
from plmsearch.store.schema import create_schema
from plmsearch.verify import verify

TABLES = (t.runs, t.spaces, t.sequences, t.segments, t.records, t.ledger, t.vectors)
QUERY = """
import sys, time
started = time.perf_counter()
import plmsearch
with plmsearch.open_database(sys.argv[1]) as db:
    hits = list(db.search_stored([sys.argv[2]], db.ranking(), plmsearch.SearchOptions(k=10)))
assert hits[0][1][0].target == sys.argv[2]
print(time.perf_counter() - started)
"""


def timed(action: object) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    action()  # type: ignore[operator]
    return time.perf_counter() - started


def save(vectors: np.ndarray, path: Path) -> float:
    """Write an array and sync it; return the seconds."""
    started = time.perf_counter()
    with path.open("wb") as file:
        np.save(file, vectors)
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - started


def rows_of(database: Path) -> dict[object, list[tuple[object, ...]]]:
    """Read the rows of every table that an import fills."""
    engine = open_catalog(database / "catalog.sqlite", writable=False)
    with engine.connect() as connection:
        rows = {table: [tuple(r) for r in connection.execute(table.select())] for table in TABLES}
    engine.dispose()
    return rows


def insert_rows(path: Path, rows: dict[object, list[tuple[object, ...]]]) -> float:
    """Insert the rows into the same tables, empty; return the seconds."""
    engine = open_catalog(path, writable=True)
    with engine.begin() as connection:
        create_schema(connection)
    with closing(engine.raw_connection()) as raw:
        cursor = raw.cursor()
        started = time.perf_counter()
        cursor.execute("BEGIN IMMEDIATE")
        for table, values in rows.items():
            names = [c.name for c in table.columns]  # type: ignore[attr-defined]
            statement = insert(table).compile(dialect=engine.dialect, column_keys=names)  # type: ignore[call-overload]
            cursor.executemany(str(statement), values)
        cursor.execute("COMMIT")
        seconds = time.perf_counter() - started
    engine.dispose()
    return seconds


def main() -> None:
    """Run everything and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=100_000, help="vectors")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dir", help="where the files are made")
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    with tempfile.TemporaryDirectory(dir=given.dir) as name:
        folder = Path(name)
        seconds_save = save(
            rng.standard_normal((given.n, given.dim), dtype=np.float32), folder / "vectors.npy"
        )
        (folder / "ids.txt").write_text("".join(f"r{i}\n" for i in range(given.n)))
        with plmsearch.open_database(folder / "db", create=True) as db:
            file = open_vectors(folder / "vectors.npy", records=folder / "ids.txt")
            seconds_import = timed(lambda: import_vectors(db, file, ImportOptions(space="random")))
            rows = rows_of(folder / "db")
            seconds_rows = insert_rows(folder / "catalog.sqlite", rows)
            del rows
            baseline = seconds_save + seconds_rows
            print(f"n = {given.n} random vectors of {given.dim} float32, seed {given.seed}")
            print("what\tseconds\tratio")
            print(f"numpy.save + fsync\t{seconds_save:.2f}")
            print(f"executemany of the same rows\t{seconds_rows:.2f}")
            print(f"import\t{seconds_import:.2f}\t{seconds_import / baseline:.2f} of the two above")
            doomed = [f"r{i}" for i in range(0, given.n, 100)]
            print(f"delete {len(doomed)}\t{timed(lambda: db.delete(doomed)):.2f}")
        command = [sys.executable, "-c", QUERY, str(folder / "db"), "r1"]
        for lies in ("as they lie in the page cache", "the files in the page cache"):
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(f"open and first query, new process, {lies}\t{float(done.stdout):.2f}")
        with plmsearch.open_database(folder / "db") as db:
            assert not verify(db)
            print(f"verify\t{timed(lambda: verify(db)):.2f}")
            seconds_full = timed(lambda: verify(db, full=True))
        files = [str(p) for p in (folder / "db").rglob("*") if p.is_file()]
        seconds_sum = timed(lambda: subprocess.run(["sha256sum", *files], capture_output=True, check=True))
        print(f"sha256sum of all files\t{seconds_sum:.2f}")
        print(f"verify --full\t{seconds_full:.2f}\t{seconds_sum / seconds_full:.2f} of its speed")


if __name__ == "__main__":
    main()
