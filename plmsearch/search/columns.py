"""Which columns of a hit are written, and their values.

Columns are fixed: a column that was chosen is written for every hit, empty where there is nothing to
say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from plmsearch.domains import CHAIN_SEPARATOR
from plmsearch.errors import ParameterError
from plmsearch.filters.derived import DERIVED_COLUMNS
from plmsearch.metadata import typed
from plmsearch.search.alignment import Alignment, aligned_rows
from plmsearch.search.cdr3 import cdr3_identity
from plmsearch.search.hits import Hit, Query
from plmsearch.search.likeness import LIKENESS_COLUMNS
from plmsearch.search.receptors import cdr3_of, derived_value

__all__ = ["DERIVED_HIT_COLUMNS", "HIT_COLUMNS", "choose_columns", "column_types", "header", "hit_rows"]

Value = Callable[[Query, Hit], object]


def _of_alignment(name: str) -> Value:
    """Return a field of the alignment; None where there is none."""
    return lambda _, h: None if h.alignment is None else getattr(h.alignment, name)


def _of_pair(name: str) -> Value:
    """Return what only a hit of a pair has; None where there is none."""
    return lambda _, h: None if h.pair is None else getattr(h.pair, name)


def _n_residues(residues: str) -> int:
    return len(residues) - residues.count(CHAIN_SEPARATOR)


def _aligned_row(number: int) -> Value:
    """Return one of the three rows an alignment is laid out in."""

    def row(query: Query, hit: Hit) -> str | None:
        if hit.alignment is None:
            return None
        return aligned_rows(hit.alignment, query.residues, hit.residues)[number]

    return row


def _cdr3_identity(query: Query, hit: Hit) -> float | None:
    """Return how alike the CDR3 of query and target are; None where one has none."""
    own = query.cdr3 or (cdr3_of(query.residues, query.domain) if query.domain is not None else "")
    if not own or hit.domain is None:
        return None
    return cdr3_identity(own, cdr3_of(hit.residues, hit.domain))


#: Columns every hit has, by name; those of MMseqs2 keep its spelling. Those of the alignment are empty
#: unless hits were re-ranked.
HIT_COLUMNS: Mapping[str, Value] = {
    "query": lambda _, h: h.query,
    "target": lambda _, h: h.target,
    "domain": lambda _, h: None if h.domain is None else h.domain.number,
    "rank": lambda _, h: h.rank,
    "score": lambda _, h: None if h.score != h.score else h.score,
    "cdr3_identity": _cdr3_identity,
    **LIKENESS_COLUMNS,
    "emb_pvalue": lambda _, h: h.emb_pvalue,
    "emb_evalue": lambda _, h: h.emb_evalue,
    "description": lambda _, h: h.description,
    "query_light": _of_pair("query_light"),
    "target_light": _of_pair("target_light"),
    "score_heavy": _of_pair("score_heavy"),
    "score_light": _of_pair("score_light"),
    "n_heavy": _of_pair("n_heavy"),
    "n_light": _of_pair("n_light"),
    "several_heavy": lambda _, h: None if h.pair is None else h.pair.n_heavy > 1,
    "qlen": lambda q, _: _n_residues(q.residues) or None,
    "tlen": lambda _, h: _n_residues(h.residues),
    "qseq": lambda q, _: q.residues or None,
    "tseq": lambda _, h: h.residues,
    "raw": _of_alignment("score"),
    **{name: _of_alignment(name) for name in Alignment.__dataclass_fields__ if name != "score"},
    "qaln": _aligned_row(0),
    "midline": _aligned_row(1),
    "taln": _aligned_row(2),
    "emb_only": lambda _, h: h.emb_only,
}

#: Derived columns of the domain that was found; a metadata column of the same name comes first.
DERIVED_HIT_COLUMNS = (*(name for name in DERIVED_COLUMNS if name != "n_domains"), "donor")

_META = "meta."
_PYTHON_TYPES = {"bool": bool, "int": int, "float": float, "text": str}


def choose_columns(chosen: str, metadata: Mapping[str, str]) -> list[str]:
    """Resolve a ``--format-output`` value.

    Parameters
    ----------
    chosen : str
        Names, comma-separated. A name is a hit column, or else a metadata column, or else a derived
        one; ``meta.NAME`` is the metadata column in any case, ``meta.*`` all of them.
    metadata : mapping of str to str
        Type of each metadata column.

    Returns
    -------
    list of str
        Hit columns and derived columns by name, metadata columns as ``meta.NAME``.

    Raises
    ------
    ParameterError
        Naming the column that is not there, and the nearest spelling.

    Examples
    --------
    >>> choose_columns("query,target,v_call", {"v_call": "text"})
    ['query', 'target', 'meta.v_call']
    """
    columns: list[str] = []
    for name in chosen.split(","):
        bare = name.removeprefix(_META)
        if name == _META + "*":
            columns.extend(_META + m for m in metadata)
        elif name in HIT_COLUMNS:
            columns.append(name)
        elif bare in metadata:
            columns.append(_META + bare)
        elif name in metadata:
            columns.append(_META + name)
        elif name in DERIVED_HIT_COLUMNS:
            columns.append(name)
        else:
            known = [*HIT_COLUMNS, *metadata, *DERIVED_HIT_COLUMNS]
            near = get_close_matches(bare, known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ParameterError("format-output column", name, f"one of: {', '.join(known)}{hint}")
    return columns


def column_types(columns: Sequence[str], metadata: Mapping[str, str]) -> dict[str, type]:
    """Return the Python type of each metadata column and derived column that was chosen."""
    stored = {_shown_name(c): metadata[c.removeprefix(_META)] for c in columns if c.startswith(_META)}
    derived = {c: DERIVED_COLUMNS.get(c, "text") for c in columns if c in DERIVED_HIT_COLUMNS}
    return {name: _PYTHON_TYPES[kind] for name, kind in (derived | stored).items()}


def _shown_name(column: str) -> str:
    """A metadata column is headed by its own name, unless that may be another column's heading."""
    bare = column.removeprefix(_META)
    return column if bare in HIT_COLUMNS or bare.startswith(_META) else bare


def header(columns: Sequence[str]) -> list[str]:
    """Return the names that head the columns."""
    return [_shown_name(c) if c.startswith(_META) else c for c in columns]


def hit_rows(
    results: Iterable[tuple[Query, Sequence[Hit]]],
    columns: Sequence[str],
    metadata: Mapping[str, str],
    *,
    as_types: bool,
) -> Iterator[dict[str, Any]]:
    """Yield one row per hit, in order.

    Parameters
    ----------
    results : iterable of (Query, sequence of Hit)
    columns : sequence of str
        What `choose_columns` returned.
    metadata : mapping of str to str
        Type of each metadata column.
    as_types : bool
        Hand out metadata as typed values, not as the text that was read.
    """
    names = list(zip(header(columns), columns, strict=True))
    for query, hits in results:
        for hit in hits:
            # FASTA output needs these three whatever was chosen.
            row: dict[str, Any] = {"target": hit.target, "description": hit.description, "tseq": hit.residues}
            for name, column in names:
                row[name] = _value(query, hit, column, metadata, as_types)
            yield row


def _value(query: Query, hit: Hit, column: str, metadata: Mapping[str, str], as_types: bool) -> object:
    if column in HIT_COLUMNS:
        return HIT_COLUMNS[column](query, hit)
    if not column.startswith(_META):
        return derived_value(column, hit.metadata, hit.domain, hit.residues)
    name = column.removeprefix(_META)
    text = hit.metadata.get(name)
    return typed(text, metadata[name]) if as_types and text is not None else text
