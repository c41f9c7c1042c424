"""Write the records of a database as an AIRR Rearrangement table (schema 1.6, https://docs.airr-community.org).

One row is one variable domain, and a record without one is a row too. A value that the input brought is
written as it was read; what it left out is filled in from the residues (regions, junction, locus). Genes that
were inferred are in columns of their own and never in ``v_call``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plmsearch.domains import CHAIN_SEPARATOR
from plmsearch.errors import ParameterError
from plmsearch.exchange.pages import extent_of, stored_records
from plmsearch.formats.airr import INTEGER_FIELDS, REQUIRED_COLUMNS
from plmsearch.formats.output import STDOUT, open_output
from plmsearch.genes import call_locus
from plmsearch.numbering import REGIONS
from plmsearch.reader import Reader
from plmsearch.search.receptors import derived_value
from plmsearch.store.rows import StoredDomain, StoredRecord

__all__ = ["AirrExport", "export_airr"]

#: Filled in from the residues of a domain, in the order of the schema; the last four are not of the schema.
DERIVED = (
    *("complete_vdj", "locus", "sequence_alignment_aa", "junction_aa"),
    *(f"{region}_aa" for region in REGIONS),
    "junction_aa_length",
    *("v_call_inferred", "j_call_inferred", "v_identity_aa", "species"),
)
#: What is said of one rearrangement: of a record with several domains, of the one that its V call names.
_OF_REARRANGEMENT = frozenset((*REQUIRED_COLUMNS, *DERIVED)) - {"sequence_id", "sequence"}
#: Types of fields of the schema that are not text.
_BOOLEANS = (
    "rev_comp",
    "productive",
    "vj_in_frame",
    "stop_codon",
    "complete_vdj",
    "v_frameshift",
    "j_frameshift",
)
_NUMBERS = tuple(
    f"{s}_{name}" for s in ("v", "d", "d2", "j", "c") for name in ("score", "identity", "support")
)
#: Types of metadata columns whose values such a field can hold.
_HELD: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_BOOLEANS, ("bool",)),
    **dict.fromkeys(INTEGER_FIELDS, ("int",)),
    **dict.fromkeys(_NUMBERS, ("int", "float")),
}
_OWN = ("sequence_id", "sequence_aa", "description")
_OF_SEVERAL = ("record_id", "domain")


@dataclass(frozen=True, slots=True)
class AirrExport:
    """What was written.

    Parameters
    ----------
    n_records, n_rows : int
    renamed : mapping of str to str
        Metadata columns that are called otherwise in the table, and how: those whose values AIRR's field of
        that name cannot hold, or that are called as what the table says itself.
    """

    n_records: int
    n_rows: int
    renamed: Mapping[str, str]


def export_airr(reader: Reader, target: str | Path, *, where: str | None = None) -> AirrExport:
    """Write live records as an AIRR Rearrangement table, in order of insertion.

    Parameters
    ----------
    reader : Reader
    target : str or Path
        ``.tsv``, or ``-`` for standard output.
    where : str, optional
        Write the records that meet this condition only.

    Raises
    ------
    ParameterError
        If the name ends otherwise.
    FilterError
        If the condition cannot be read, or does not fit the columns.
    StorageError
        If the file cannot be written, or records were deleted meanwhile; no half file is left.
    """
    path = Path(target)
    if str(target) != STDOUT and path.suffix.lower() != ".tsv" and (path.is_file() or not path.exists()):
        raise ParameterError("output", str(target), "a name that ends with .tsv, for an AIRR table")
    condition = None if where is None else reader.select(where).condition
    table = _Table.of(reader)
    n_records = n_rows = 0
    with open_output(target) as out:
        writer = csv.writer(out, delimiter="\t", lineterminator="\n")
        writer.writerow(table.header)
        for page in stored_records(reader, extent_of(reader, condition)):
            n_records += len(page)
            for row in _rows_of_page(reader, page):
                n_rows += 1
                writer.writerow(table.cells(row))
    return AirrExport(n_records, n_rows, table.renamed)


@dataclass(frozen=True, slots=True)
class _Row:
    """A record and one of its domains; `holds_calls` if what the input says of a rearrangement is its own."""

    record: StoredRecord
    sequence_id: str
    n_domains: int
    holds_calls: bool


def _rows_of_page(reader: Reader, page: Sequence[StoredRecord]) -> Iterator[_Row]:
    domains = reader.repository.domains({r.sequence_id for r in page})
    for record in page:
        found = domains.get(record.sequence_id, [])
        if len(found) < 2:
            own = record._replace(domain=found[0]) if found else record
            yield _Row(own, record.record_id, len(found), holds_calls=True)
            continue
        called = [d for d in found if d.locus == call_locus(record.metadata.get("v_call", ""))]
        for domain in found:
            unit = record._replace(domain=domain)
            yield _Row(unit, unit.unit_id, len(found), holds_calls=called == [domain])


@dataclass(frozen=True, slots=True)
class _Table:
    """The columns of a table: first those that AIRR requires, then what is derived, then the metadata.

    `metadata` has the metadata column of each column that shows one.
    """

    header: Sequence[str]
    metadata: Mapping[str, str]
    renamed: Mapping[str, str]

    @classmethod
    def of(cls, reader: Reader) -> _Table:
        has_several = reader.repository.has_several_domains()
        own = (*_OWN, *(_OF_SEVERAL if has_several else ()))
        kinds = reader.repository.metadata_columns()
        renamed = {
            name: _free(f"meta.{name}", kinds)
            for name, kind in kinds.items()
            if name in own or kind not in _HELD.get(name, (kind,))
        }
        metadata = {renamed.get(name, name): name for name in kinds}
        derived = DERIVED if reader.repository.has_domains() else ()
        header = dict.fromkeys((*REQUIRED_COLUMNS, "sequence_aa", *derived, *own, *metadata))
        return cls(list(header), metadata, renamed)

    def cells(self, row: _Row) -> list[str]:
        """Return a row, in the order of the header."""
        record = row.record
        cells = {shown: record.metadata.get(name, "") for shown, name in self.metadata.items()}
        if not row.holds_calls:
            cells.update(dict.fromkeys(_OF_REARRANGEMENT, ""))
        if record.domain is not None:
            for name in DERIVED:
                if not cells.get(name):
                    cells[name] = _derived(name, record, record.domain, cells)
        cells["sequence_id"], cells["description"] = row.sequence_id, record.description
        cells["sequence_aa"] = _chain(record)
        if row.n_domains > 1 and record.domain is not None:
            cells["record_id"], cells["domain"] = record.record_id, str(record.domain.number)
        return [cells.get(name, "") for name in self.header]


def _free(name: str, taken: Mapping[str, str]) -> str:
    """Return a column name that no other metadata column has."""
    while name in taken:
        name = f"meta.{name}"
    return name


def _derived(name: str, record: StoredRecord, domain: StoredDomain, cells: Mapping[str, str]) -> str:
    """Return what the residues of a domain say, as AIRR writes it."""
    if name == "sequence_alignment_aa":
        return record.unit_residues
    if name == "junction_aa_length":  # of the junction that is shown, which the input may have brought
        return str(len(cells["junction_aa"])) if cells.get("junction_aa") else ""
    value = derived_value(name, {}, domain, record.unit_residues)
    if isinstance(value, bool):
        return "T" if value else "F"
    return "" if value is None else str(value)


def _chain(record: StoredRecord) -> str:
    """Return the residues of the chain that holds the domain, as they were given."""
    if record.domain is None:
        return record.residues
    begin = record.residues.rfind(CHAIN_SEPARATOR, 0, record.domain.start) + 1
    return record.residues[begin:].partition(CHAIN_SEPARATOR)[0]
