"""How one value of a hit is written as text: tsv, csv, table, m8, pairwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from plmsearch.numbering import REGIONS

__all__ = ["TSV_ESCAPES", "Row", "cell_text", "cell_texts", "scalar", "visible"]

Row = Mapping[str, object]

#: How floats are written in tsv, csv and table. Fractions as MMseqs2 does, E-values as BLAST does; any
#: other float in full.
_FLOAT_FORMATS = {
    **dict.fromkeys(("score", "score_to_representative", "score_heavy", "score_light"), "z.6f"),
    **dict.fromkeys(("emb_pvalue", "emb_evalue", "evalue"), ".3g"),
    **dict.fromkeys(("fident", "qcov", "tcov"), ".3f"),
    **dict.fromkeys((f"{region}_identity" for region in (*REGIONS, "v_region")), ".3f"),
    **dict.fromkeys((f"cosine_{region}" for region in (*REGIONS, "whole", "cdrs", "fwr")), "z.6f"),
    "v_identity_aa": ".4f",
    "bits": ".1f",
}
#: As in PostgreSQL's COPY text format.
TSV_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def scalar(value: object) -> object:
    """Return the Python value of a NumPy scalar; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def cell_text(column: str, value: object) -> str:
    """Write one value, not yet escaped; nothing for None."""
    value = scalar(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return format(value, _FLOAT_FORMATS.get(column, ""))
    return str(value)


def cell_texts(row: Row, columns: Sequence[str]) -> list[str]:
    """Write the values of some columns, not yet escaped."""
    return [cell_text(column, row.get(column)) for column in columns]


def visible(cell: str) -> str:
    """Write control characters as escapes: text from a file must not steer the terminal."""
    if cell.isprintable():
        return cell
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cell)
