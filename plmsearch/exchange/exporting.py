"""Write the records and the raw vectors of a database to a file that other programs read."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plmsearch._version import __version__
from plmsearch.errors import ParameterError, StorageError
from plmsearch.exchange.pages import StoredPage, extent_of, stored_pages, stored_records
from plmsearch.filters.tree import Condition
from plmsearch.formats.hdf5 import write_hdf5
from plmsearch.formats.output import STDOUT, open_output
from plmsearch.formats.vector_page import column_name
from plmsearch.formats.vector_parquet import write_vector_parquet
from plmsearch.metadata import typed
from plmsearch.reader import Reader
from plmsearch.store.rankings import StoredSpace
from plmsearch.store.space_left import require_space

__all__ = ["EXPORT_SUFFIXES", "Exported", "export"]

#: What a file's name may end with: records only, records and vectors, vectors only (twice).
EXPORT_SUFFIXES = (".tsv", ".parquet", ".npz", ".h5")
#: Columns of a space of variable domains, beside those of the record.
_DOMAIN_COLUMNS: Mapping[str, type] = {"id": str, "domain": int, "locus": str, "domain_sequence": str}
_TYPES: Mapping[str, type] = {"text": str, "int": int, "float": float, "bool": bool}


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Parameters
    ----------
    n_rows : int
        Records, or variable domains of a space of these.
    n_records : int
        Distinct records among them. Those that have no vector in the space are not.
    """

    n_rows: int
    n_records: int


def export(
    reader: Reader, target: str | Path, *, space: str | None = None, where: str | None = None
) -> Exported:
    """Write live records, in order of insertion; the ending of the name decides what and how.

    Of a space of variable domains each domain has a row, called ``id`` where the record has no other, else
    ``id#2``. Memory is bounded by a page, and by the ids where a ``.npz`` is written.

    Parameters
    ----------
    reader : Reader
    target : str or Path
        ``.tsv``, or ``-`` for standard output: records. ``.parquet``: records with their vectors. ``.npz``
        and ``.h5``: vectors.
    space : str, optional
        Name of the embedding space whose vectors are written; the default space if None.
    where : str, optional
        Write the records that meet this condition only (`plmsearch.filters.parse`).

    Returns
    -------
    Exported

    Raises
    ------
    ParameterError
        If the ending is none of these, or there is no such space.
    FilterError
        If the condition cannot be read, or does not fit the columns.
    MissingDependencyError
        If HDF5 is asked for and h5py is not installed.
    StorageError
        If the file cannot be written, is too large for the disk (`NotEnoughSpace`), or records were
        deleted meanwhile; no half file is left.
    """
    suffix = ".tsv" if str(target) == STDOUT else Path(target).suffix.lower()
    if suffix not in EXPORT_SUFFIXES:
        raise ParameterError(
            "output", str(target), f"a name that ends with {', '.join(EXPORT_SUFFIXES)}, or -"
        )
    condition = None if where is None else reader.select(where).condition
    if suffix == ".tsv":
        if space is not None:
            raise ParameterError("space", space, "left out for .tsv and -, which have no vectors")
        return _write_tsv(reader, target, condition)
    write: Callable[[Reader, StoredSpace, str | Path, Condition | None], Exported] = {
        ".parquet": _write_parquet,
        ".npz": _write_npz,
        ".h5": _write_hdf5,
    }[suffix]
    chosen = reader.space(space)
    if suffix != ".parquet" and not _is_stream(target):  # its pages are compressed
        n_bytes = reader.repository.n_records_with_vector(chosen.space_id, condition) * chosen.spec.dim * 4
        require_space(Path(target), n_bytes, "the file")
    return write(reader, chosen, target, condition)


def _is_stream(target: str | Path) -> bool:
    return Path(target).exists() and not Path(target).is_file()


# --- Tables --------------------------------------------------------------------------------------


def _columns(reader: Reader, taken: Sequence[str] = ()) -> dict[str, str]:
    """Return the column under which each metadata column is written; `taken` are columns of domains.

    Raises
    ------
    ParameterError
        If two would have one name.
    """
    names = {n: column_name(n, taken) for n in reader.repository.metadata_columns()}
    if len(set(names.values())) < len(names):
        twice = next(n for n, column in names.items() if n != column and column in names)
        raise ParameterError("metadata column", twice, f"called otherwise: there is a 'meta.{twice}' too")
    return names


def _write_tsv(reader: Reader, target: str | Path, condition: Condition | None) -> Exported:
    columns = _columns(reader)
    n = 0
    with open_output(target) as out:
        writer = csv.writer(out, delimiter="\t", lineterminator="\n")
        writer.writerow(["record_id", "sequence", "description", *columns.values()])
        for page in stored_records(reader, extent_of(reader, condition)):
            n += len(page)
            for r in page:
                writer.writerow(
                    [r.record_id, r.residues, r.description, *(r.metadata.get(c, "") for c in columns)]
                )
    return Exported(n, n)


def _write_parquet(
    reader: Reader, space: StoredSpace, target: str | Path, condition: Condition | None
) -> Exported:
    of_domains = _DOMAIN_COLUMNS if space.spec.reads_domains else {}
    columns, kinds = _columns(reader, tuple(of_domains)), reader.repository.metadata_columns()
    types: dict[str, type] = {"record_id": str, "sequence": str, "description": str, **of_domains}
    types.update({columns[name]: _TYPES[kind] for name, kind in kinds.items()})
    counts = _Counts()

    def values(page: StoredPage) -> dict[str, Sequence[object]]:
        records = page.records
        table: dict[str, Sequence[object]] = {
            "record_id": [r.record_id for r in records],
            "sequence": [r.residues for r in records],
            "description": [r.description for r in records],
            **(_of_domains(page) if of_domains else {}),
        }
        for name, kind in kinds.items():
            table[columns[name]] = [
                typed(r.metadata[name], kind) if name in r.metadata else None for r in records
            ]
        return table

    found = counts.noted(stored_pages(reader, space, extent_of(reader, condition)))
    pages = ((values(p), p.vectors) for p in found)
    write_vector_parquet(pages, types, space.spec.dim, space.spec.to_json(), target)
    return counts.total


def _of_domains(page: StoredPage) -> dict[str, Sequence[object]]:
    domains = [r.domain for r in page.records if r.domain is not None]
    return {
        "id": page.names,
        "domain": [d.number for d in domains],
        "locus": [d.locus for d in domains],
        "domain_sequence": [r.unit_residues for r in page.records],
    }


# --- Vectors -------------------------------------------------------------------------------------


class _Counts:
    """Counts the rows and records of pages that pass."""

    def __init__(self) -> None:
        self._n_rows = self._n_records = 0

    def noted(self, pages: Iterable[StoredPage]) -> Iterator[StoredPage]:
        """Yield the pages."""
        for page in pages:
            self._n_rows += len(page.records)
            self._n_records += page.n_records
            yield page

    @property
    def total(self) -> Exported:
        return Exported(self._n_rows, self._n_records)


def _write_hdf5(
    reader: Reader, space: StoredSpace, target: str | Path, condition: Condition | None
) -> Exported:
    spec, counts = space.spec, _Counts()
    attributes: dict[str, object] = {
        "model": spec.model_id,
        "layer": spec.layer,
        "pooling": spec.pooling,
        "dim": spec.dim,
        "plmsearch_version": __version__,
        "spec": spec.to_json(),
    }
    found = counts.noted(stored_pages(reader, space, extent_of(reader, condition)))
    write_hdf5(((p.names, p.vectors) for p in found), attributes, target)
    return counts.total


def _write_npz(
    reader: Reader, space: StoredSpace, target: str | Path, condition: Condition | None
) -> Exported:
    """Write ``ids``, ``embeddings`` and ``spec``: an archive that `numpy.load` reads without pickle."""
    spec, counts = space.spec, _Counts()
    n_expected = reader.repository.n_records_with_vector(space.space_id, condition)
    ids: list[str] = []
    with open_output(target) as out, zipfile.ZipFile(out.buffer, "w") as archive:
        with archive.open("embeddings.npy", "w", force_zip64=True) as member:
            header = {"descr": "<f4", "fortran_order": False, "shape": (n_expected, spec.dim)}
            np.lib.format.write_array_header_1_0(member, header)
            for page in counts.noted(stored_pages(reader, space, extent_of(reader, condition))):
                ids.extend(map(_storable, page.names))
                member.write(np.ascontiguousarray(page.vectors, dtype="<f4").data)
        if len(ids) != n_expected:
            raise StorageError(reader.path, "changed while it was read", hint="run the same command again")
        _write_array(archive, "ids", np.array(ids, dtype=np.str_))
        _write_array(archive, "spec", np.array(spec.to_json(), dtype=np.str_))
    return counts.total


def _storable(record_id: str) -> str:
    if record_id.endswith("\0"):
        raise ParameterError(
            "record id", record_id, "exported as .h5 or .parquet: NumPy drops zeros at the end"
        )
    return record_id


def _write_array(archive: zipfile.ZipFile, name: str, array: np.ndarray[Any, np.dtype[Any]]) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)
