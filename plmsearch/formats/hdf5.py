"""HDF5 files of one vector per record: a dataset per record at the root.

Read: UniProt's per-protein embeddings (keys are accessions, float16), bio_embeddings (numbered or
hashed keys, the id in the attribute ``original_id``), ProtSpace and our own (keys are ids). Written:
keys are ids, and root attributes ``model``, ``layer``, ``pooling``, ``dim``, ``plmsearch_version`` and
``spec``, the embedding space as JSON. An id that HDF5 cannot use as a key (it holds ``/``, or is made
of dots) gets a numbered key and the attribute ``original_id``.

Needs h5py, of the extra ``export``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plmsearch.errors import FileFormatError, MissingDependencyError
from plmsearch.formats.output import open_output_path
from plmsearch.formats.vector_page import VectorPage, as_float32, checked_ids, refuse_shape
from plmsearch.slices import slices
from plmsearch.types import Float2D

__all__ = ["HDF5_MAGIC", "Hdf5File", "open_hdf5", "write_hdf5"]

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
#: No id is written as such a key, so that none can be taken twice.
_NUMBERED = "original_id:"


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as exc:
        raise MissingDependencyError("HDF5 files", "h5py", "export") from exc
    return h5py


@dataclass(frozen=True, slots=True)
class Hdf5File:
    """An HDF5 file whose keys and first dataset have been read."""

    path: Path
    keys: Sequence[str]
    ids: Sequence[str]
    dim: int
    dtype: str
    spec_json: str

    format = "hdf5"

    @property
    def n_rows(self) -> int:
        """Vectors in the file."""
        return len(self.keys)

    def pages(self, n_rows: int) -> Iterator[VectorPage]:
        """Yield the rows in order, `n_rows` at a time.

        Raises
        ------
        FileFormatError
            If the file is damaged.
        """
        with _opened(self.path) as file:
            rows = zip(self.keys, self.ids, strict=True)
            for part in slices(rows, n_rows):
                vectors = np.stack([_vector(file[key], self.dim, self.path, one) for key, one in part])
                yield VectorPage([one for _, one in part], as_float32(vectors))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    h5py = _h5py()
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as exc:
        if isinstance(exc, FileFormatError):
            raise
        reason = str(exc).partition("\n")[0]
        raise FileFormatError(str(path), f"is truncated or damaged HDF5: {reason}") from exc


def open_hdf5(path: Path) -> Hdf5File:
    """Read the keys of an HDF5 file.

    Raises
    ------
    MissingDependencyError
        If h5py is not installed.
    FileFormatError
        If the file is damaged, or holds anything but one vector per record.
    """
    with _opened(path) as file:
        keys = list(file)
        if not keys:
            raise FileFormatError(str(path), "holds no dataset")
        first = file[keys[0]]
        if not hasattr(first, "shape"):
            reason = f"holds a group {keys[0]!r}, not one dataset per record"
            raise FileFormatError(str(path), reason, hint="per-residue and nested files cannot be read")
        if len(first.shape) != 1:
            reason = f"holds an array of shape {first.shape} for {keys[0]!r}"
            raise FileFormatError(
                str(path), reason, hint="one vector per record is needed, not one per residue"
            )
        refuse_shape(str(path), (len(keys), *first.shape), first.dtype)
        ids = checked_ids(str(path), (_id(file[key], key) for key in keys))
        spec = file.attrs.get("spec", "")
        return Hdf5File(path, keys, ids, int(first.shape[0]), first.dtype.name, str(spec))


def _id(dataset: Any, key: str) -> object:
    original = dataset.attrs.get("original_id", key)
    return original.decode("utf-8") if isinstance(original, bytes) else original


def _vector(dataset: Any, dim: int, path: Path, record_id: str) -> np.ndarray[Any, np.dtype[Any]]:
    if getattr(dataset, "shape", None) != (dim,):
        shape = getattr(dataset, "shape", "of a group")
        raise FileFormatError(str(path), f"record {record_id!r} has shape {shape}, the first has {(dim,)}")
    refuse_shape(str(path), (1, dim), dataset.dtype)
    return np.asarray(dataset[()], dtype=np.float32 if dataset.dtype.itemsize < 8 else np.float64)


def write_hdf5(
    pages: Iterable[tuple[Sequence[str], Float2D]], attributes: Mapping[str, object], path: str | Path
) -> int:
    """Write vectors, a dataset per record in the order given; return how many.

    Raises
    ------
    MissingDependencyError
        If h5py is not installed.
    StorageError
        If the file cannot be written; no half file is left.
    """
    h5py = _h5py()
    n = 0
    with open_output_path(path) as temporary, h5py.File(temporary, "w", track_order=True) as file:
        file.attrs.update(attributes)
        for ids, vectors in pages:
            for record_id, vector in zip(ids, vectors, strict=True):
                n += 1
                key = _key(record_id, n)
                dataset = file.create_dataset(key, data=vector)
                if key != record_id:
                    dataset.attrs["original_id"] = record_id
    return n


def _key(record_id: str, n: int) -> str:
    """Return the id, or a numbered key where HDF5 would read the id as a path."""
    is_path = "/" in record_id or not record_id.strip(".") or "\0" in record_id
    return f"{_NUMBERED}{n}" if is_path or record_id.startswith(_NUMBERED) else record_id
