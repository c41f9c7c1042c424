"""FASTA files as a stream of records.

The id is the first word of the header and is never parsed: ``sp|P12345|X`` stays whole. Words are
separated by any Unicode white space, tabs among it. The rest of the header is the description.

Limitations
-----------
needletail replaces bytes that are not UTF-8 by U+FFFD without a word, so a file that really holds
that character is refused too: it stands for a character that was lost before. A plain file that
was cut inside a sequence cannot be told from a whole one. One record must fit in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from plmsearch.errors import FileFormatError
from plmsearch.formats.compression import peek
from plmsearch.sequences import SequenceRecord

__all__ = ["read_fasta"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_REPLACEMENT = "\ufffd"


def read_fasta(path: str | Path, source: str) -> Iterator[SequenceRecord]:
    r"""Read the records of a FASTA file, plain, gzip or Zstandard.

    Parameters
    ----------
    path : str or Path
        The file; its compression is recognised by its first bytes.
    source : str
        Name for messages and for ``SequenceRecord.source``.

    Returns
    -------
    iterator of SequenceRecord
        In file order, ``row`` counted from 1. A record without residues in the middle of the file
        is yielded with an empty sequence.

    Raises
    ------
    InputNotFoundError
        If the file cannot be opened.
    FileFormatError
        At once if the file does not begin as FASTA; while iterating if it is truncated, damaged,
        binary, not UTF-8, or a header has no id.

    Examples
    --------
    >>> path = getfixture("tmp_path") / "x.fasta"
    >>> _ = path.write_text(">sp|P1|X first\nEVQ\nLV\n")
    >>> next(read_fasta(path, "x.fasta")).record_id
    'sp|P1|X'
    """
    _check_start(peek(path, source), source)
    return _records(path, source)


def _check_start(head: bytes, source: str) -> None:
    """Explain a start that needletail would refuse, or read as something else."""
    if not head:
        raise FileFormatError(source, "is empty")
    if head.startswith(_BYTE_ORDER_MARK):
        raise FileFormatError(source, "begins with a byte order mark", hint="save it as UTF-8 without BOM")
    if head[:1].isspace():
        raise FileFormatError(source, "begins with white space, not with '>'", hint="remove the first lines")
    if head.startswith(b"@"):
        raise FileFormatError(source, "begins with '@' as FASTQ does; FASTA begins with '>'")
    if not head.startswith(b">"):
        raise FileFormatError(source, f"is not FASTA: it begins with {head[:1]!r}, not with '>'")
    if b"\r" in head and b"\n" not in head:
        raise FileFormatError(
            source, "ends its lines with a carriage return alone", hint="convert it to Unix line ends"
        )


def _records(path: str | Path, source: str) -> Iterator[SequenceRecord]:
    import needletail

    row = 0
    try:
        for row, entry in enumerate(needletail.parse_fastx_file(str(path)), 1):
            header, residues = entry.id, entry.seq
            _check_text(header, source, row)
            _check_text(residues, source, row)
            record_id = entry.name
            if not record_id:
                raise FileFormatError(
                    source, f"record {row} has no id: '>' must be followed by a word", hint="name the record"
                )
            description = header[len(record_id) :].strip()
            yield SequenceRecord(record_id, residues, description, {}, source, row)
    except needletail.NeedletailError as exc:
        raise _translated(str(exc), source, row) from exc


def _check_text(text: str, source: str, row: int) -> None:
    if _REPLACEMENT in text:
        raise FileFormatError(
            source, f"record {row} is not UTF-8 text, or holds the replacement character U+FFFD"
        )
    if "\0" in text:
        raise FileFormatError(source, f"is a binary file: record {row} holds a NUL byte")


def _translated(message: str, source: str, n_read: int) -> FileFormatError:
    if "Unexpected end of input" in message:
        return FileFormatError(
            source,
            f"the last record (number {n_read + 1}) has no sequence: the file may be truncated",
            hint="fetch it again, or remove the last header",
        )
    if "unexpected end of file" in message or "incomplete frame" in message:
        return FileFormatError(
            source,
            f"the compressed data end too early, after record {n_read}: the file is truncated",
            hint="fetch it again",
        )
    return FileFormatError(source, f"cannot be read after record {n_read}: {message}")
