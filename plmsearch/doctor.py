"""What plmsearch stands on here: versions, hardware, models at hand, and what to be warned of."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from plmsearch.embedding.listing import model_rows
from plmsearch.index.faiss_index import faiss_facts
from plmsearch.ingest.provenance import versions
from plmsearch.store.connection import sqlite_module, wal_is_safe

__all__ = ["Fact", "doctor"]

Fact = tuple[str, str, str]


def doctor() -> Iterator[Fact]:
    """Yield (what, value, warning) of everything that results and safety depend on.

    Yields
    ------
    what : str
    value : str
    warning : str
        What is wrong with it and what to do; empty if nothing is.

    Notes
    -----
    Imports torch and faiss, in that order, to ask them: some seconds.
    """
    known = versions()
    for name in ("plmsearch", "python", "platform"):
        yield name, known[name], ""
    yield "SQLite", f"{known['SQLite']} ({sqlite_module().__name__})", _sqlite_warning()
    # torch before faiss: both bring an OpenMP runtime.
    for name, value in import_module("plmsearch.embedding.hardware").hardware().items():
        yield name, value, ""
    for name, value in faiss_facts().items():
        yield name, value, ""
    for name in ("numpy", "antiberty", "fair-esm", "immunum", "needletail", "SQLAlchemy"):
        warning = "not installed; run: pip install plmsearch" if known[name] == "absent" else ""
        yield name, known[name], warning
    at_hand = [str(row["model"]) for row in model_rows() if row["at_hand"] == "yes"]
    missing = "" if any(m.startswith("esm2") for m in at_hand) else _NO_ESM
    yield "models at hand", ", ".join(at_hand), missing


_NO_ESM = "no ESM-2 weights, so only antibodies get a language model; see: plmsearch models fetch --help"


def _sqlite_warning() -> str:
    if wal_is_safe():
        return ""
    return (
        "this SQLite can lose a WAL reset (fixed in 3.51.3), so databases are written with a rollback "
        "journal, which is safe and slower; pip install pysqlite3 brings a newer one"
    )
