"""The operations that are disturbed, and what a database may hold before, amid and after each."""

from __future__ import annotations

import importlib.util
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from plmsearch.backup import backup, restore
from plmsearch.database import open_database
from plmsearch.embedding.kmer import KmerEmbedder
from plmsearch.embedding.registry import load_embedder
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.exchange.merging import merge
from plmsearch.ingest import chunks
from plmsearch.ingest.report import AddOptions
from plmsearch.repair import repair
from plmsearch.sequences import STANDARD_RESIDUES, SequenceRecord

#: Residues and description by record id.
State: TypeAlias = dict[str, tuple[str, str]]

#: So that one call commits several times.
ROWS_AT_ONCE = 4


def small_chunks() -> None:
    chunks._MAX_ROWS = ROWS_AT_ONCE


def peptide(rng: random.Random) -> str:
    return "".join(rng.choices(STANDARD_RESIDUES, k=rng.randint(20, 60)))


def rows(first: int, n: int, seed: int, version: str = "") -> list[SequenceRecord]:
    rng = random.Random(seed)
    return [SequenceRecord(f"r{i}", peptide(rng), f"number {i}{version}") for i in range(first, first + n)]


def applied(state: State, given: Sequence[SequenceRecord], *, replace: bool = False) -> State:
    """What `Database.add` must make of a state; taken ids are replaced or renamed."""
    out = dict(state)
    for record in given:
        content = (record.sequence, record.description)
        name, suffix = record.record_id, 2
        while not replace and name in out and out[name] != content:
            name, suffix = f"{record.record_id}_{suffix}", suffix + 1
        out[name] = content
    return out


def prefixes(state: State, given: Sequence[SequenceRecord], *, replace: bool = False) -> list[State]:
    """The states after each commit, the one before the first included."""
    ends = [*range(0, len(given), ROWS_AT_ONCE), len(given)]
    return [applied(state, given[:end], replace=replace) for end in ends]


def vectors_of(sequences: Sequence[str]) -> np.ndarray:
    """What the model says of sequences, pooled by the definition of the mean."""
    model = load_embedder("kmer")
    assert isinstance(model, KmerEmbedder)
    out = [model.residue_embeddings([s], [1]).layers[1][0, : len(s)].mean(axis=0) for s in sequences]
    return np.array(out, dtype=np.float32).reshape(len(sequences), -1)


@dataclass(frozen=True)
class Operation:
    """Something that writes.

    Parameters
    ----------
    name : str
    prepare : callable
        Makes what has to be there, in an empty directory.
    run : callable
        Does it, in that directory; may be repeated.
    states : sequence of State
        What the database may hold: before, after each commit that the process counts, at the end.
    absent_first : bool
        There is no database before.
    damaged_first : bool
        The database is damaged before: that it is mended is the operation.
    db : str
        Where the database is, below the directory.
    """

    name: str
    prepare: Callable[[Path], None]
    run: Callable[[Path], None]
    states: Sequence[State]
    absent_first: bool = False
    damaged_first: bool = False
    db: str = "db"


BASE = [*rows(0, 10, seed=1), SequenceRecord("twin", rows(3, 1, seed=1)[0].sequence, "as r0, another name")]
MORE = [
    *rows(100, 7, seed=2),
    BASE[2],
    SequenceRecord("r1", "MKTAYIAKQRQISFVKSHFSRQ", "renamed"),
    *rows(200, 2, seed=3),
]
NEW = [
    *rows(2, 6, seed=4, version=", again"),
    *rows(300, 4, seed=5),
    SequenceRecord("r2", BASE[2].sequence, "third"),
]
NEW_PLACE = "folder/in a folder/db"
DELETED = ["r1", "twin", "r7"]
AFTER_DELETE = {i: c for i, c in applied({}, BASE).items() if i not in DELETED}


def _add(root: Path, given: Sequence[SequenceRecord], *, replace: bool = False, name: str = "db") -> None:
    options = AddOptions(on_duplicate="replace" if replace else "rename")
    with open_database(root / name, create=True) as db:
        db.add(given, model="kmer", options=options)


def _create(root: Path) -> None:
    _add(root, BASE, name=NEW_PLACE)


def _base(root: Path) -> None:
    _add(root, BASE[:6])
    _add(root, BASE[6:])


def _base_with_tombstones(root: Path) -> None:
    _base(root)
    _delete(root)


def _delete(root: Path) -> None:
    with open_database(root / "db") as db:
        db.delete(DELETED, ignore_missing=True)


def _damaged(root: Path) -> None:
    _base(root)
    file = sorted((root / "db" / "segments").iterdir())[0]
    content = bytearray(file.read_bytes())
    content[200] ^= 0x40
    file.write_bytes(content)
    sorted((root / "db" / "derived").iterdir())[-1].unlink()


def _repair(root: Path) -> None:
    with open_database(root / "db") as db:
        repair(db)


def _embed(root: Path) -> None:
    with open_database(root / "db") as db:
        db.embed(SpaceRequest("kmer", "0"))


def _backup(root: Path) -> None:
    if not (root / "backup").exists():
        with open_database(root / "db") as db:
            backup(db, root / "backup")


def _backup_only(root: Path) -> None:
    _base(root)
    _backup(root)
    shutil.rmtree(root / "db")


def _restore(root: Path) -> None:
    if not (root / "db").exists():
        restore(root / "backup", root / "db")


def _two(root: Path) -> None:
    _add(root, BASE[:7], name="first")
    _add(root, BASE[4:], name="second")


def _merge(root: Path) -> None:
    if not (root / "db").exists():
        with open_database(root / "first") as first, open_database(root / "second") as second:
            merge([first, second], root / "db")


def _operations() -> dict[str, Operation]:
    base = applied({}, BASE)
    found = [
        Operation("create", lambda root: None, _create, prefixes({}, BASE), absent_first=True, db=NEW_PLACE),
        Operation("add", _base, lambda root: _add(root, MORE), prefixes(base, MORE)),
        Operation(
            "replace", _base, lambda root: _add(root, NEW, replace=True), prefixes(base, NEW, replace=True)
        ),
        Operation("delete", _base, _delete, [base, AFTER_DELETE]),
        Operation("embed", _base, _embed, [base]),
        Operation("repair", _damaged, _repair, [base], damaged_first=True),
        Operation("backup", _base_with_tombstones, _backup, [AFTER_DELETE]),
        Operation("restore", _backup_only, _restore, [base], absent_first=True),
        Operation("merge", _two, _merge, [base], absent_first=True),
    ]
    if importlib.util.find_spec("plmsearch.optimize"):
        from plmsearch.optimize import optimize

        def _optimize(root: Path) -> None:
            with open_database(root / "db") as db:
                optimize(db)

        found.append(Operation("optimize", _base_with_tombstones, _optimize, [AFTER_DELETE]))
    return {one.name: one for one in found}


OPERATIONS = _operations()
