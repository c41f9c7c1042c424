"""Writers of alignments: BLAST's tabular format, and pairs of sequences one under the other.

m8
    The 12 columns of ``blastp -outfmt 6``, tab-separated, without a header: qaccver saccver pident length
    mismatch gapopen qstart qend sstart send evalue bitscore. Positions count from 1, ends included; pident
    is 0 to 100. Ids are written as they are, with the escapes of tsv for tabs and line ends.
pairwise
    For a reader: 60 columns a line, identities ``|``, pairs that score above 0 ``+``.

Both need every value of the alignment: a row without one is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TextIO

from plmsearch.errors import ParameterError
from plmsearch.formats.cells import TSV_ESCAPES, Row, cell_text, visible

__all__ = ["M8_COLUMNS", "PAIRWISE_COLUMNS", "write_m8", "write_pairwise"]

M8_COLUMNS = (
    "query", "target", "fident", "alnlen", "mismatch", "gapopen",
    "qstart", "qend", "tstart", "tend", "evalue", "bits",
)  # fmt: skip

PAIRWISE_COLUMNS = (
    "query", "qlen", "target", "tlen", "description", "rank", "score", "evalue", "bits", "raw", "fident",
    "alnlen", "gapopen", "qstart", "qend", "qcov", "tstart", "tend", "tcov", "qaln", "midline", "taln",
    "emb_only",
)  # fmt: skip

_WIDTH = 60  # columns a line, as blastp


def write_m8(rows: Iterable[Row], out: TextIO) -> None:
    """Write one line for each row.

    Parameters
    ----------
    rows : iterable of mapping
        With every one of `M8_COLUMNS`.
    out : text file

    Raises
    ------
    ParameterError
        If a row lacks a value.
    """
    for row in rows:
        cells = _needed(row, M8_COLUMNS)
        cells[M8_COLUMNS.index("fident")] = f"{100 * _number(row, 'fident'):.3f}"
        out.write("\t".join(cell.translate(TSV_ESCAPES) for cell in cells) + "\n")


def write_pairwise(rows: Iterable[Row], out: TextIO) -> None:
    """Write each row as a heading and the alignment; a query is named once.

    Parameters
    ----------
    rows : iterable of mapping
        With every one of `PAIRWISE_COLUMNS`; the rows of a query follow each other.
    out : text file

    Raises
    ------
    ParameterError
        If a row lacks a value.
    """
    last = None
    for row in rows:
        cells = dict(zip(PAIRWISE_COLUMNS, _needed(row, PAIRWISE_COLUMNS), strict=True))
        if row["query"] != last or row["rank"] == 1:
            out.write(f"query {visible(cells['query'])}  ({cells['qlen']} residues)\n\n")
            last = row["query"]
        out.write(_heading(row, cells) + "\n")
        out.writelines(f"{line}\n" for line in _lines(row))


def _needed(row: Row, columns: Sequence[str]) -> list[str]:
    for column in columns:
        if row.get(column) is None:
            raise ParameterError(
                column, None, "there in every row: m8 and pairwise are of hits that are aligned"
            )
    return [cell_text(column, row[column]) for column in columns]


def _number(row: Row, column: str) -> float:
    value = row[column]
    if not isinstance(value, (int, float)):
        raise ParameterError(column, value, "a number")
    return value


def _heading(row: Row, cells: dict[str, str]) -> str:
    alnlen = int(_number(row, "alnlen"))
    n_identical = round(_number(row, "fident") * alnlen)
    target = f"> {visible(cells['target'])}  ({cells['tlen']} residues)"
    lines = [
        f"{target}  {visible(cells['description'])}".rstrip(),
        f"  rank {cells['rank']}, score {cells['score']}, E-value {cells['evalue']}, {cells['bits']} bits "
        f"(raw {cells['raw']})",
        f"  identities {n_identical}/{alnlen} ({_number(row, 'fident'):.1%}), gaps {cells['gapopen']}, "
        f"covers {_number(row, 'qcov'):.1%} of the query, {_number(row, 'tcov'):.1%} of the target",
    ]
    if row["emb_only"]:
        lines.append("  seen by the embedding only: identity below 25%")
    return "\n".join(lines) + "\n"


def _lines(row: Row) -> Iterable[str]:
    rows = [str(row[column]) for column in ("qaln", "midline", "taln")]
    q, t = int(_number(row, "qstart")), int(_number(row, "tstart"))
    digits = len(str(max(_number(row, "qend"), _number(row, "tend"))))
    for start in range(0, len(rows[0]), _WIDTH):
        above, middle, below = (text[start : start + _WIDTH] for text in rows)
        n_above, n_below = len(above) - above.count("-"), len(below) - below.count("-")
        # A line of gaps alone stands at the last residue before it, as in blastp.
        yield f"query   {q if n_above else q - 1:>{digits}} {above} {q + n_above - 1}"
        yield f"{'':{8 + digits}} {middle}".rstrip()
        yield f"target  {t if n_below else t - 1:>{digits}} {below} {t + n_below - 1}"
        yield ""
        q, t = q + n_above, t + n_below
