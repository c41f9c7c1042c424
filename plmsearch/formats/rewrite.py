"""FASTA, 10x contig annotations and OAS data units rewritten as AIRR Rearrangement TSV.

What is written is a temporary file, read by what reads AIRR tables only. Cells are those of the input
under AIRR's names; nothing is computed but the residues of translated FASTA.
"""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from plmsearch.errors import FileFormatError, NucleotideSequenceError, StorageError, TranslationError
from plmsearch.formats.compression import peek
from plmsearch.formats.fasta import read_fasta
from plmsearch.formats.read import open_view, refuse_contigs
from plmsearch.formats.residues import not_nucleotides, reading_with_domain
from plmsearch.formats.views import TableView
from plmsearch.numbering import ImmunumNumberer
from plmsearch.sequences import SequenceRecord, is_nucleotide, normalise
from plmsearch.translation import as_nucleotides

__all__ = ["FASTA_COLUMNS", "as_rearrangements"]

#: Of a table that FASTA becomes; ``sequence`` is filled where the input is nucleotides.
FASTA_COLUMNS = ("sequence_id", "sequence", "sequence_aa", "description")


@contextmanager
def as_rearrangements(path: Path, name: str, translate: bool, contigs: str | Path | None) -> Iterator[Path]:
    """Make sure that an input is a delimited table with AIRR's names while the block runs.

    Parameters
    ----------
    path : Path
    name : str
        For messages, and for the ids of OAS.
    translate : bool
        The sequences of FASTA are nucleotides. A record of which no frame holds a variable domain keeps
        its nucleotides and has no residues.
    contigs : str or Path or None
        FASTA of the contigs of a 10x table.

    Yields
    ------
    Path
        The file itself, or the one written instead.

    Raises
    ------
    InputNotFoundError, FileFormatError
        If the input cannot be read, or is none of these.
    NucleotideSequenceError
        If FASTA holds nucleotides and is not to be translated.
    TranslationError
        If it is, and holds something else.
    StorageError
        If the temporary file cannot be written.
    """
    head = peek(path, name)
    if head.startswith(b">"):
        refuse_contigs(contigs, name)
        columns: Sequence[str] = FASTA_COLUMNS
        rows: Iterable[Sequence[str | None]] = _fasta_rows(path, name, translate=translate)
    else:
        table = open_view(path, name, head, contigs)
        if table.format == "parquet":
            raise FileFormatError(
                name, "is Parquet, and rearrangements are read as text", hint="export it as TSV"
            )
        if not isinstance(table, TableView):
            yield path
            return
        columns, rows = table.columns, (values for _, values in table.rows())
    written = _written(columns, rows)
    try:
        yield written
    finally:
        written.unlink(missing_ok=True)


def _fasta_rows(path: Path, name: str, *, translate: bool) -> Iterator[tuple[str, str, str, str]]:
    numberer = ImmunumNumberer()
    for record in read_fasta(path, name):
        if translate:
            nucleotides = _checked_nucleotides(record)
            residues = reading_with_domain(nucleotides, numberer)
        elif is_nucleotide(normalise(record.sequence).residues):
            raise NucleotideSequenceError(record.record_id, source=record.source, row=record.row)
        else:
            nucleotides, residues = "", record.sequence
        yield record.record_id, nucleotides, residues, record.description


def _checked_nucleotides(record: SequenceRecord) -> str:
    nucleotides = as_nucleotides(record.sequence)
    if why := not_nucleotides(nucleotides):
        raise TranslationError(
            record.record_id, why.reason, source=record.source, row=record.row, hint=why.hint
        )
    return nucleotides


def _written(columns: Sequence[str], rows: Iterable[Sequence[str | None]]) -> Path:
    """Write a table to a temporary file; a cell with tabs, line ends or quotes is quoted."""
    try:
        descriptor, place = tempfile.mkstemp(prefix="plmsearch-airr-", suffix=".tsv")
    except OSError as exc:
        raise StorageError(tempfile.gettempdir(), str(exc.strerror).lower()) from exc
    path = Path(place)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out, delimiter="\t", lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(rows)
    except OSError as exc:
        path.unlink()
        raise StorageError(
            path, f"cannot be written: {str(exc.strerror).lower()}", hint="make room, or set TMPDIR"
        ) from exc
    except BaseException:
        path.unlink()
        raise
    return path
