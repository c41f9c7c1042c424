"""The operations that are disturbed, and what a database may hold before, amid and after each."""

from __future__ import annotations

import functools
import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from zipfile import BadZipFile

import numpy as np
from support import VH

from plmsearch.backup import backup, restore
from plmsearch.database import open_database
from plmsearch.embedding import fetch
from plmsearch.embedding.base import Embedder
from plmsearch.embedding.download import written
from plmsearch.embedding.registry import load_embedder
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.errors import SchemaOutdatedError
from plmsearch.exchange.exporting import export
from plmsearch.exchange.merging import merge
from plmsearch.formats.output import open_output_path
from plmsearch.ingest import chunks
from plmsearch.ingest.report import AddOptions, GeneOptions
from plmsearch.ingest.scan import RecordList
from plmsearch.optimize import optimize
from plmsearch.repair import repair
from plmsearch.sequences import STANDARD_RESIDUES, SequenceRecord
from plmsearch.store import schema
from plmsearch.store.schema import HEAD
from plmsearch.upgrade import upgrade
from plmsearch.verify import verify
from torture.domains import constructs
from torture.next_schema import next_schema

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


@functools.cache
def _model() -> Embedder:
    return load_embedder("kmer")


def vectors_of(sequences: Sequence[str]) -> np.ndarray:
    """What the model says of sequences, pooled by the definition of the mean."""
    model = _model()
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
        Where the database is, below the directory; empty: there is none.
    is_upgrade : bool
        The schema is another one at the end.
    leaves : tuple of str
        What the names of files begin with that it may leave when it is interrupted.
    look : callable
        Says what else is wrong in the directory, given whether the operation has returned.
    """

    name: str
    prepare: Callable[[Path], None]
    run: Callable[[Path], None]
    states: Sequence[State]
    absent_first: bool = False
    damaged_first: bool = False
    db: str = "db"
    is_upgrade: bool = False
    leaves: tuple[str, ...] = ()
    look: Callable[[Path, bool], Iterator[str]] = lambda _root, _finished: iter(())

    @contextmanager
    def schema(self, root: Path) -> Iterator[str]:
        """Be the plmsearch that reads what is there; yields the revision."""
        if not self.is_upgrade:
            yield HEAD
            return
        with ExitStack() as stack:
            stack.enter_context(next_schema())
            try:
                open_database(root / self.db).close()
            except SchemaOutdatedError:
                stack.close()
            yield schema.HEAD


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


ANTIBODIES = [
    *constructs(0, 9, seed=1),
    SequenceRecord("twin", constructs(2, 1, seed=1)[0].sequence, "as r0"),
]
MORE_ANTIBODIES = [
    *constructs(100, 5, seed=2),
    ANTIBODIES[3],
    SequenceRecord("r1", VH, "renamed"),
    *constructs(200, 2, seed=3),
]


#: The newest database of the tests of `upgrade`; what it holds but for ``r4``.
GOLDEN = Path(__file__).resolve().parents[1] / "data" / "golden" / HEAD
GOLDEN_STATE: State = {
    record_id: (residues, description)
    for record_id, residues, description, _ in json.loads((GOLDEN / "answers.json").read_text())["records"]
    if record_id != "r4"
}
#: Bytes of a file, beginning as weights do.
WRITTEN = b"PK\x03\x04" + random.Random(6).randbytes(5000)
SHA256 = hashlib.sha256(WRITTEN).hexdigest()


def _add(root: Path, given: Sequence[SequenceRecord], *, replace: bool = False, name: str = "db") -> None:
    options = AddOptions(on_duplicate="replace" if replace else "rename")
    with open_database(root / name, create=True) as db:
        db.add(given, model="kmer", options=options)


def _add_domains(root: Path, given: Sequence[SequenceRecord], *, name: str = "db") -> None:
    """Of one species, so that genes do not depend on which chains come together."""
    options = AddOptions(on_duplicate="rename", genes=GeneOptions(species="human"))
    with open_database(root / name, create=True) as db:
        request = None if db.exists and db.spaces() else SpaceRequest("kmer", preset="antibody")
        db.add_inputs([RecordList(given)], request=request, options=options)


def _create(root: Path) -> None:
    _add(root, BASE, name=NEW_PLACE)


def _base(root: Path) -> None:
    _add(root, BASE[:6])
    _add(root, BASE[6:])


def _antibodies(root: Path) -> None:
    _add_domains(root, ANTIBODIES)


def _embed_domains(root: Path) -> None:
    with open_database(root / "db") as db:
        db.embed(SpaceRequest("kmer", regions="fwr"))


def _damaged_antibodies(root: Path) -> None:
    _damaged(root, _antibodies)


def _two_of_antibodies(root: Path) -> None:
    _add_domains(root, ANTIBODIES[:6], name="first")
    _add_domains(root, ANTIBODIES[4:], name="second")


def _antibodies_with_tombstones(root: Path) -> None:
    _antibodies(root)
    _delete(root)


def _base_with_tombstones(root: Path) -> None:
    _base(root)
    _delete(root)


def _delete(root: Path) -> None:
    with open_database(root / "db") as db:
        db.delete(DELETED, ignore_missing=True)


def _damaged(root: Path, make: Callable[[Path], None] = _base) -> None:
    make(root)
    file = sorted((root / "db" / "segments").iterdir())[0]
    content = bytearray(file.read_bytes())
    content[200] ^= 0x40
    file.write_bytes(content)
    (root / "damaged").write_bytes(content)
    sorted((root / "db" / "derived").iterdir())[-1].unlink()


def _repair(root: Path) -> None:
    with open_database(root / "db") as db:
        repair(db)


def _quarantined(root: Path, finished: bool) -> Iterator[str]:
    """The damaged file is kept as it was."""
    kept = [p.read_bytes() for p in (root / "db" / "quarantine").glob("*")]
    if finished and kept != [(root / "damaged").read_bytes()]:
        yield "the damaged file that was taken away"


def _embed(root: Path) -> None:
    with open_database(root / "db") as db:
        db.embed(SpaceRequest("kmer", "0"))


def _backup(root: Path) -> None:
    if not (root / "backup").exists():
        with open_database(root / "db") as db:
            backup(db, root / "backup")


def _backed_up(root: Path, finished: bool) -> Iterator[str]:
    if finished and not (root / "backup").exists():
        yield "the backup"


def _backup_only(root: Path) -> None:
    _base(root)
    _backup(root)
    shutil.rmtree(root / "db")


def _write_nothing(root: Path) -> None:
    """Be the next writer, which makes again what a power cut took of ``derived/``."""
    with open_database(root / "db") as db:
        db.delete([])


def _restore(root: Path) -> None:
    if not (root / "db").exists():
        restore(root / "backup", root / "db")
    else:
        _write_nothing(root)


def _two(root: Path) -> None:
    _add(root, BASE[:7], name="first")
    _add(root, BASE[4:], name="second")


def _merge(root: Path) -> None:
    if not (root / "db").exists():
        with open_database(root / "first") as first, open_database(root / "second") as second:
            merge([first, second], root / "db")
    else:
        _write_nothing(root)


def _golden(root: Path) -> None:
    """A database that another process wrote, with what its next writer makes beside it."""
    shutil.copytree(GOLDEN / "db", root / "db")
    with open_database(root / "db") as db:
        db.delete(["r4"])


def _upgrade(root: Path) -> None:
    with next_schema():
        upgrade(root / "db")


def _copy_of_the_old_one(root: Path, finished: bool) -> Iterator[str]:
    """What an upgrade leaves under the name of the copy is the whole database."""
    copy = root / f"db.schema-{HEAD}"
    if not copy.exists():
        if finished:
            yield "there is no copy of the database as it was"
        return
    with open_database(copy) as db:
        yield from (f"copy: {f.problem}" for f in verify(db, full=True) if f.severity == "damage")
        if {r.record_id: (r.residues, r.description) for r in db.repository.all_records()} != GOLDEN_STATE:
            yield "the copy holds other records"


def _export(root: Path) -> None:
    with open_database(root / "db") as db:
        export(db, root / "out.npz")
    with open_output_path(root / "out.bin") as path:
        path.write_bytes(WRITTEN)


def _exported(root: Path, _finished: bool) -> Iterator[str]:
    """A file that was written is whole or not there."""
    file = root / "out.npz"
    if file.exists():
        state = applied({}, BASE)
        try:
            with np.load(file) as found:
                vectors = vectors_of([residues for residues, _ in state.values()])
                same = found["ids"].tolist() == list(state) and np.allclose(found["embeddings"], vectors)
        except (OSError, ValueError, EOFError, BadZipFile):
            same = False
        if not same:
            yield "half of an export"
    if (root / "out.bin").exists() and (root / "out.bin").read_bytes() != WRITTEN:
        yield "half of an output"


def _fetch(root: Path) -> None:
    final = root / "model.pt"
    if not final.exists():
        with fetch._locked_part(final) as part:
            with written(final):
                part.truncate(0)
                part.write(WRITTEN)
                part.flush()
            fetch._finish(part, final, SHA256)


def _fetched(root: Path, finished: bool) -> Iterator[str]:
    final = root / "model.pt"
    if final.exists() and final.read_bytes() != WRITTEN:
        yield "weights that were not sent"
    if finished and not final.exists():
        yield "no weights"
    record = final.with_name("model.pt.sha256")
    if record.exists() and record.read_text() != f"{SHA256}  model.pt\n":
        yield "a checksum that is none"


def _beside_a_reader(run: Callable[[Path], None]) -> Callable[[Path], None]:
    """The log of the catalog is there before, and stays."""

    def both(root: Path) -> None:
        with open_database(root / "db") as reader:
            reader.repository.generation()
            run(root)

    return both


def _optimize(root: Path) -> None:
    with open_database(root / "db") as db:
        optimize(db)


def _operations() -> dict[str, Operation]:
    base = applied({}, BASE)
    antibodies = applied({}, ANTIBODIES)
    kept = {i: c for i, c in antibodies.items() if i not in DELETED}
    found = [
        Operation("create", lambda root: None, _create, prefixes({}, BASE), absent_first=True, db=NEW_PLACE),
        Operation("add", _base, _beside_a_reader(lambda root: _add(root, MORE)), prefixes(base, MORE)),
        Operation(
            "replace", _base, lambda root: _add(root, NEW, replace=True), prefixes(base, NEW, replace=True)
        ),
        Operation("delete", _base, _delete, [base, AFTER_DELETE]),
        Operation("embed", _base, _embed, [base]),
        Operation("repair", _damaged, _repair, [base], damaged_first=True, look=_quarantined),
        Operation("backup", _base_with_tombstones, _backup, [AFTER_DELETE], look=_backed_up),
        Operation("restore", _backup_only, _restore, [base], absent_first=True),
        Operation("merge", _two, _merge, [base], absent_first=True),
        Operation("optimize", _base_with_tombstones, _optimize, [AFTER_DELETE]),
        Operation("upgrade", _golden, _upgrade, [GOLDEN_STATE], is_upgrade=True, look=_copy_of_the_old_one),
        Operation(
            "create domains",
            lambda root: None,
            lambda root: _add_domains(root, ANTIBODIES),
            prefixes({}, ANTIBODIES),
            absent_first=True,
        ),
        Operation(
            "add domains",
            _antibodies,
            _beside_a_reader(lambda root: _add_domains(root, MORE_ANTIBODIES)),
            prefixes(antibodies, MORE_ANTIBODIES),
        ),
        Operation("embed domains", _antibodies, _embed_domains, [antibodies]),
        Operation("delete domains", _antibodies, _delete, [antibodies, kept]),
        Operation("optimize domains", _antibodies_with_tombstones, _optimize, [kept]),
        Operation("merge domains", _two_of_antibodies, _merge, [antibodies], absent_first=True),
        Operation(
            "repair domains",
            _damaged_antibodies,
            _repair,
            [antibodies],
            damaged_first=True,
            look=_quarantined,
        ),
        Operation("export", _base, _export, [base], look=_exported, leaves=(".out.npz.", ".plmsearch-")),
        Operation("fetch", lambda root: None, _fetch, [{}], absent_first=True, db="", look=_fetched),
    ]
    return {one.name: one for one in found}


OPERATIONS = _operations()
