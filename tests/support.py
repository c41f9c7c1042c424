"""What the tests of ingest, search and command line share."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.testing
from typer.testing import CliRunner

from plmsearch import database
from plmsearch.cli.app import app
from plmsearch.database import open_database
from plmsearch.embedding.kmer import KmerEmbedder
from plmsearch.overview import ledger_rows
from plmsearch.sequences import STANDARD_RESIDUES, SequenceRecord

VH = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQM"
    "NSLRAEDTAVYYCSRWGGDGFYAMDYWGQGTLVTVSS"
)
VL = (
    "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDF"
    "ATYYCQQHYTTPPTFGQGTKVEIK"
)
DNA = "GAGGTGCAGCTGGTGGAGTCTGGGGGAGGCTTGGTACAGCCTGGGGGG"


def peptides(n: int, seed: int = 0, shortest: int = 20, longest: int = 140) -> list[str]:
    """Random sequences; all distinct, and the same for the same seed."""
    rng = random.Random(seed)
    return ["".join(rng.choices(STANDARD_RESIDUES, k=rng.randint(shortest, longest))) for _ in range(n)]


def records(n: int, seed: int = 0) -> list[tuple[str, str]]:
    return [(f"r{i}", residues) for i, residues in enumerate(peptides(n, seed))]


def gz(content: bytes) -> bytes:
    """Pack bytes, the same whenever it is done: what is packed names tests, and processes compare names."""
    return gzip.compress(content, mtime=0)


def write_fasta(path: Path, entries: Iterable[tuple[str, str]]) -> Path:
    path.write_text("".join(f">{header}\n{residues}\n" for header, residues in entries), encoding="utf-8")
    return path


# --- Command line --------------------------------------------------------------------------------

# A command in this process parses with one tree of commands; typer makes the tree anew for every one.
typer.testing._get_command = cache(typer.main.get_command)


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str
    #: What a terminal shows: both, in the order in which they were written.
    output: str

    @property
    def rows(self) -> list[list[str]]:
        """Standard output as TSV, without its header."""
        return [line.split("\t") for line in self.out.splitlines()[1:]]


def cli(*arguments: object, stdin: bytes | None = None) -> Finished:
    """Run a command in this process; whatever it is, it must not end in a traceback."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    assert "internal error" not in result.output, result.output
    return Finished(result.exit_code, result.stdout, result.stderr, result.output)


# --- Databases -----------------------------------------------------------------------------------


def make_db(path: Path, given: Sequence[tuple[str, str] | SequenceRecord], **wishes: object) -> Path:
    """A `kmer` database of records, unless another model is asked for."""
    with open_database(path, create=True) as db:
        db.add(given, **{"model": "kmer", **wishes})  # type: ignore[arg-type]
    return path


def contents(path: Path) -> dict[str, tuple[str, str, Mapping[str, object]]]:
    """Residues, description and metadata of every record, by id."""
    with open_database(path) as db:
        ids = [r.record_id for r in db.repository.all_records()]
        return {r.record_id: (r.residues, r.description, dict(r.metadata)) for r in db.get(ids)}


def all_vectors(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """The raw vector of every record, by space and id."""
    with open_database(path) as db:
        ids = [r.record_id for r in db.repository.all_records()]
        spaces = [s.spec.name for s in db.spaces()]
        return {s: dict(zip(ids, db.vectors(ids, space=s), strict=True)) for s in spaces}


def assert_same_database(path: Path, other: Path, atol: float = 1e-5) -> None:
    """Same records, metadata and vectors, in whatever order they came."""
    assert contents(path) == contents(other)
    ours, theirs = all_vectors(path), all_vectors(other)
    assert ours.keys() == theirs.keys()
    for space, vectors in ours.items():
        assert vectors.keys() == theirs[space].keys()
        for record_id, vector in vectors.items():
            np.testing.assert_allclose(vector, theirs[space][record_id], atol=atol, rtol=0)


def ledger(path: Path, run_id: int) -> list[dict[str, object]]:
    with open_database(path) as db:
        return list(ledger_rows(db, run_id))


def before_writing(monkeypatch: pytest.MonkeyPatch, event: Callable[[], object]) -> None:
    """Let something else happen once, after the inputs were read and before the lock is taken."""
    real = database.open_writer

    def open_writer(*arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(database, "open_writer", real)
        event()
        return real(*arguments, **named)

    monkeypatch.setattr(database, "open_writer", open_writer)


# --- Forward passes ------------------------------------------------------------------------------


@contextmanager
def watched_kmer(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """Note the sequences of each forward pass of the `kmer` model."""
    passes: list[list[str]] = []
    run = KmerEmbedder.residue_embeddings

    def noted(self: KmerEmbedder, sequences: Sequence[str], layers: Sequence[int]) -> object:
        passes.append(list(sequences))
        return run(self, sequences, layers)

    with monkeypatch.context() as patch:
        patch.setattr(KmerEmbedder, "residue_embeddings", noted)
        yield passes


# --- Processes of their own ----------------------------------------------------------------------

_AND_TELL = """
import json, sys
from plmsearch.cli import main
try:
    main()
finally:
    with open(TOLD, "w") as file:
        json.dump(sorted({name.partition(".")[0] for name in sys.modules}), file)
"""


@dataclass(frozen=True)
class Process:
    """How a command ended in a process of its own, and the packages it had imported."""

    code: int
    out: str
    err: str
    packages: frozenset[str]


def process(folder: Path, *arguments: object, stdin: str = "") -> Process:
    """Run a command in a new interpreter."""
    told = folder / "packages.json"
    script = _AND_TELL.replace("TOLD", repr(str(told)))
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Process(done.returncode, done.stdout, done.stderr, frozenset(json.loads(told.read_text())))


def break_seal(path: Path) -> None:
    """Let a catalog that a test changed by hand be read: that it was changed is not what is tested."""
    (path / "catalog.seal").unlink()
