"""Embedding database and similarity search for proteins and antibodies.

A database is a directory of records, their sequences and one vector per sequence and embedding
space. `open_database` opens or creates one; a `Database` adds, searches and hands out records.

>>> import plmsearch
>>> issubclass(plmsearch.PlmsearchError, Exception)
True

Names are resolved when they are first used: importing the package loads nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from plmsearch._version import __version__

if TYPE_CHECKING:
    from plmsearch.database import Database, Record, open_database
    from plmsearch.embedding.base import Embedder, ModelCard
    from plmsearch.embedding.embed import embed_sequences
    from plmsearch.embedding.options import ModelOptions
    from plmsearch.embedding.registry import available_models, load_embedder
    from plmsearch.embedding.spec import EmbeddingSpec, SpaceRequest
    from plmsearch.errors import PlmsearchError
    from plmsearch.formats.read import open_input
    from plmsearch.ingest.report import AddOptions, AddReport, Progress
    from plmsearch.search.hits import Hit, SearchOptions
    from plmsearch.sequences import SequenceRecord

__all__ = [
    "AddOptions",
    "AddReport",
    "Database",
    "Embedder",
    "EmbeddingSpec",
    "Hit",
    "ModelCard",
    "ModelOptions",
    "PlmsearchError",
    "Progress",
    "Record",
    "SearchOptions",
    "SequenceRecord",
    "SpaceRequest",
    "__version__",
    "available_models",
    "embed_sequences",
    "load_embedder",
    "open_database",
    "open_input",
]

_HOMES = {
    "AddOptions": "plmsearch.ingest.report",
    "AddReport": "plmsearch.ingest.report",
    "Database": "plmsearch.database",
    "Embedder": "plmsearch.embedding.base",
    "EmbeddingSpec": "plmsearch.embedding.spec",
    "Hit": "plmsearch.search.hits",
    "ModelCard": "plmsearch.embedding.base",
    "ModelOptions": "plmsearch.embedding.options",
    "PlmsearchError": "plmsearch.errors",
    "Progress": "plmsearch.ingest.report",
    "Record": "plmsearch.database",
    "SearchOptions": "plmsearch.search.hits",
    "SequenceRecord": "plmsearch.sequences",
    "SpaceRequest": "plmsearch.embedding.spec",
    "available_models": "plmsearch.embedding.registry",
    "embed_sequences": "plmsearch.embedding.embed",
    "load_embedder": "plmsearch.embedding.registry",
    "open_database": "plmsearch.database",
    "open_input": "plmsearch.formats.read",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
