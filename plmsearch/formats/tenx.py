"""Contig annotations of 10x Genomics (``filtered_contig_annotations.csv``) as AIRR columns.

``all_contig_annotations.csv`` has the same columns. 10x's ``cdr3`` holds the conserved C and W or F: it
is AIRR's ``junction_aa``, and ``cdr3_nt`` the ``junction``. Its ``fwr1``, ``cdr1`` ... are residues, where
AIRR's are nucleotides; they are called ``fwr1_10x`` and so on, because their borders are not those of
AIRR's ``fwr1_aa`` either (``fwr3`` is without the C, ``fwr4`` without the W or F). ``None`` is an empty
cell.

Cell Ranger before version 6 writes no regions. The chain is then translated from the contigs, which stand
in a FASTA file beside the table: ``X_contig.fasta`` for ``X_contig_annotations.csv``.

Limitations
-----------
The contigs of one table are held in memory while it is read, about 700 bytes each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from plmsearch.errors import TableFormatError
from plmsearch.formats.delimited import DelimitedTable
from plmsearch.formats.fasta import read_fasta
from plmsearch.formats.residues import REGION_COLUMNS, SOURCE_COLUMNS
from plmsearch.formats.views import TableView
from plmsearch.metadata import FALSE_TEXTS, TRUE_TEXTS

__all__ = ["contigs_beside", "is_tenx", "require_residues", "tenx_table"]

_RECOGNISED = frozenset(("barcode", "contig_id", "chain", "v_gene", "j_gene", "cdr3"))
#: AIRR's name of each column that AIRR has one for; ``reads`` and ``umis`` as in 10x's own
#: ``airr_rearrangement.tsv``.
_AIRR = {
    "contig_id": "sequence_id", "barcode": "cell_id", "chain": "locus", "v_gene": "v_call",
    "d_gene": "d_call", "j_gene": "j_call", "c_gene": "c_call", "cdr3": "junction_aa",
    "cdr3_nt": "junction", "umis": "umi_count", "reads": "consensus_count",
}  # fmt: skip
_REGIONS = {name.removesuffix("_10x"): name for name in REGION_COLUMNS if name.endswith("_10x")}
_SUFFIXES = (".fasta", ".fa", ".fasta.gz", ".fa.gz", ".fasta.zst", ".fa.zst")
_HINT = "put the FASTA file of the contigs beside it, or name it with --contigs"


def is_tenx(columns: Collection[str]) -> bool:
    """Tell whether a header is that of 10x contig annotations.

    Examples
    --------
    >>> is_tenx(["barcode", "is_cell", "contig_id", "chain", "v_gene", "j_gene", "cdr3"])
    True
    >>> is_tenx(["sequence_id", "v_call", "cdr3"])
    False
    """
    return set(columns) >= _RECOGNISED


def contigs_beside(path: str | Path) -> Path | None:
    """Return the FASTA file of a table's contigs, by Cell Ranger's names; None if there is none.

    Parameters
    ----------
    path : str or Path
        Of a table such as ``filtered_contig_annotations.csv``.
    """
    place = Path(path)
    stem = place.name.removesuffix(".gz").removesuffix(".zst").removesuffix(".csv")
    if "_annotations" not in stem:
        return None
    named = (place.with_name(stem.replace("_annotations", "") + suffix) for suffix in _SUFFIXES)
    return next((one for one in named if one.is_file()), None)


def tenx_table(table: DelimitedTable, contigs: str | Path | None = None) -> TableView:
    """See contig annotations as an AIRR table.

    Parameters
    ----------
    table : DelimitedTable
    contigs : str or Path, optional
        FASTA of the contigs; they become the column ``sequence``.

    Returns
    -------
    TableView
        A column keeps its own name where AIRR has none for it, or where AIRR's is there too.
    """
    names = {old: new for old, new in (_AIRR | _REGIONS).items() if new not in table.columns}
    columns = [names.get(name, name) for name in table.columns]
    adds_contigs = contigs is not None and "sequence" not in columns
    productive = columns.index("productive") if "productive" in columns else None
    record_id = columns.index("sequence_id")
    if adds_contigs and contigs is not None:
        read_fasta(contigs, str(contigs))  # a file that is none is refused at once

    def read() -> Iterator[tuple[int, Sequence[str | None]]]:
        nucleotides = _contigs(contigs) if adds_contigs and contigs is not None else {}
        for line, cells in table.rows():
            values = [None if cell == "None" else cell for cell in cells]
            if productive is not None:
                values[productive] = _airr_bool(values[productive])
            if adds_contigs:
                values.append(nucleotides.get(values[record_id] or ""))
            yield line, values

    if adds_contigs:
        columns.append("sequence")
    return TableView(table.source, "10x", tuple(columns), read, names)


def require_residues(view: TableView) -> None:
    """Refuse a table of which no row can have residues.

    Raises
    ------
    TableFormatError
    """
    if not set(SOURCE_COLUMNS).difference(("junction_aa",)).intersection(view.columns):
        raise TableFormatError(
            view.source,
            "has no residues: it lacks the columns fwr1 to fwr4 (of Cell Ranger 6 and newer), and the FASTA "
            "file of its contigs is not beside it",
            hint=_HINT,
        )


def _contigs(path: str | Path) -> dict[str, str]:
    return {record.record_id: record.sequence for record in read_fasta(path, str(path))}


def _airr_bool(text: str | None) -> str | None:
    """Write a boolean as AIRR does; what is none stays as it is."""
    if text in TRUE_TEXTS:
        return "T"
    return "F" if text in FALSE_TEXTS else text
