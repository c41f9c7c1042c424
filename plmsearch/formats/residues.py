"""From which of its columns the residues of a rearrangement come.

The first of these that holds any, row by row:

1. ``sequence_aa``, ``sequence_alignment_aa``, ``sequence_vdj_aa``: residues as given;
2. the regions of a 10x table, which are residues there (`REGION_COLUMNS`), joined;
3. ``sequence_alignment``: translated in its frame;
4. ``sequence``: the open reading, of all six frames, that holds a variable domain.

AIRR's own ``fwr1``, ``cdr1`` ... are nucleotides and are never among them: a 10x table is read with its
region columns renamed (`plmsearch.formats.tenx`).
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import cast

from plmsearch.formats.tables import is_missing
from plmsearch.numbering import RECEPTORS, Numberer
from plmsearch.sequences import SequenceRecord, Unusable
from plmsearch.translation import as_nucleotides, not_a_nucleotide, open_readings, translate

__all__ = [
    "NUCLEOTIDE_COLUMNS",
    "REGION_COLUMNS",
    "REGION_SOURCE",
    "RESIDUE_COLUMNS",
    "SOURCE_COLUMN",
    "SOURCE_COLUMNS",
    "TRANSLATED",
    "aligned_residues",
    "not_nucleotides",
    "reading_with_domain",
    "residues_of_row",
    "translated_record",
    "why_no_residues",
    "with_source",
]

#: Columns that hold the residues of a whole rearrangement, best first: the query as it was read (with
#: leader and constant region, where translated), its aligned part, its V(D)J part (amulety's name).
RESIDUE_COLUMNS = ("sequence_aa", "sequence_alignment_aa", "sequence_vdj_aa")

#: Regions of a 10x table in their order along the chain, as `plmsearch.formats.tenx` names them. 10x's
#: ``cdr3`` holds the conserved C and W or F, so it is the junction; ``fwr3`` and ``fwr4`` do not.
REGION_COLUMNS = (
    "fwr1_10x", "cdr1_10x", "fwr2_10x", "cdr2_10x", "fwr3_10x", "junction_aa", "fwr4_10x"
)  # fmt: skip
REGION_SOURCE = "fwr1_10x..fwr4_10x"

#: Columns that are translated, best first.
NUCLEOTIDE_COLUMNS = ("sequence_alignment", "sequence")

#: Every column that residues may come from.
SOURCE_COLUMNS = (*RESIDUE_COLUMNS, *REGION_COLUMNS, *NUCLEOTIDE_COLUMNS)

#: Metadata column that says where the residues of a record came from.
SOURCE_COLUMN = "residue_source"
#: What it says of a record translated because the user asked for it.
TRANSLATED = "translation"

#: No variable domain is found in fewer: of a VH cut from its N-terminus immunum 2.0.0 numbers 36
#: residues, from before C104 to the end of FWR4, and not 29.
_SHORTEST_READING = 30
_LONGEST_REMEMBERED = 2000


def residues_of_row(row: Mapping[str, str | None], numberer: Numberer) -> tuple[str, str]:
    """Return the residues of a rearrangement and where they come from.

    Parameters
    ----------
    row : mapping of str to (str or None)
        Cells by AIRR column name; of 10x regions, by the names of `REGION_COLUMNS`.
    numberer : Numberer
        Accepts a frame of ``sequence``.

    Returns
    -------
    residues : str
        As given, or as translated: a stop inside an alignment's frame stays in as ``*``. Empty if there
        are none; `why_no_residues` says why.
    source : str
        A column name, or `REGION_SOURCE`; empty if there are no residues.

    Examples
    --------
    >>> from plmsearch.numbering import ImmunumNumberer
    >>> row = {"sequence_aa": "", "sequence_alignment": "....CAGGTG...CAG", "fwr1": "CAGGTGCAG"}
    >>> residues_of_row(row, ImmunumNumberer())
    ('GA', 'sequence_alignment')
    """
    for name in RESIDUE_COLUMNS:
        residues = row.get(name)
        if residues and not is_missing(residues):
            return residues, name
    if joined := _joined_regions(row):
        return joined, REGION_SOURCE
    alignment, sequence = (row.get(name) for name in NUCLEOTIDE_COLUMNS)
    if alignment and not is_missing(alignment):
        residues = aligned_residues(alignment.strip(), numberer)
        if residues:
            return residues, "sequence_alignment"
    if sequence and not is_missing(sequence):
        residues = reading_with_domain(as_nucleotides(sequence), numberer)
        if residues:
            return residues, "sequence"
    return "", ""


def why_no_residues(row: Mapping[str, str | None]) -> str:
    """Say why `residues_of_row` found nothing in a row.

    Examples
    --------
    >>> why_no_residues({"sequence": "EVQLVESGG"})
    "column sequence holds 'E', which is no nucleotide; if it holds residues, name it with --seq-col"
    """
    for name in NUCLEOTIDE_COLUMNS:
        text = row.get(name)
        if not text or is_missing(text):
            continue
        if letter := not_a_nucleotide(as_nucleotides(text)):
            return (
                f"column {name} holds {letter!r}, which is no nucleotide; "
                "if it holds residues, name it with --seq-col"
            )
        if name == "sequence":
            return "no frame of its nucleotides holds a variable domain"
    return "it has no residues, and no nucleotides to translate"


def aligned_residues(alignment: str, numberer: Numberer) -> str:
    """Translate an aligned sequence in its frame.

    The frame is that of the columns: IMGT numbering spaces codons, so gaps before the first nucleotide
    say where in a codon it stands. Without IMGT gaps (dots) an alignment may begin inside a codon; then,
    if there is a stop in its first frame, another that is open throughout and holds a variable domain is
    taken.

    Parameters
    ----------
    alignment : str
        Nucleotides with gaps (``.`` and ``-``).
    numberer : Numberer

    Returns
    -------
    str
        May hold ``*``. Empty if a letter is no nucleotide.
    """
    n_before = len(alignment) - len(alignment.lstrip(".-"))
    nucleotides = as_nucleotides(alignment)
    if not_a_nucleotide(nucleotides):
        return ""
    residues = translate(nucleotides, -n_before % 3 + 1)
    if "." in alignment or "*" not in residues[:-1]:
        return residues
    others = (translate(nucleotides, frame) for frame in (1, 2, 3))
    return next((r for r in others if "*" not in r[:-1] and numberer.domains(r)), residues)


def reading_with_domain(nucleotides: str, numberer: Numberer) -> str:
    """Return the open reading that holds a variable domain, of all six frames.

    Parameters
    ----------
    nucleotides : str
        Upper case, without gaps.
    numberer : Numberer
        Immunoglobulin is looked for in every reading before T-cell receptors are.

    Returns
    -------
    str
        What is between two stops, without them; of several the longest, then the first by frame.
        Empty if no reading holds a domain, or a letter is no nucleotide.
    """
    if not_a_nucleotide(nucleotides):
        return ""
    if len(nucleotides) > _LONGEST_REMEMBERED:
        return _search(nucleotides, numberer)
    return _remembered(nucleotides, cast(Hashable, numberer))


def _search(nucleotides: str, numberer: Numberer) -> str:
    readings = sorted(
        (residues for _, residues in open_readings(nucleotides, _SHORTEST_READING)), key=len, reverse=True
    )
    for receptor in RECEPTORS:
        for residues in readings:
            if numberer.domains(residues, (receptor,)):
                return residues
    return ""


#: An input is read twice, checked whole and then embedded: a small one is numbered once. At most 45 MB.
_remembered = functools.lru_cache(maxsize=1 << 14)(_search)


def translated_record(record: SequenceRecord, numberer: Numberer) -> SequenceRecord:
    """Translate a record whose sequence is nucleotides, without guessing.

    The open reading that holds a variable domain is taken; else frame 1, if it is whole codons without a
    stop before the end, as the coding sequence of any protein is. Anything else is unusable.

    Parameters
    ----------
    record : SequenceRecord
    numberer : Numberer

    Returns
    -------
    SequenceRecord
        With residues and `TRANSLATED` as their source, or with the reason why not. A record without a
        sequence is returned as it is.
    """
    nucleotides = as_nucleotides(record.sequence)
    if not nucleotides:
        return record
    why = not_nucleotides(nucleotides)
    residues = "" if why else reading_with_domain(nucleotides, numberer)
    if not why and not residues:
        residues = translate(nucleotides)
        why = _not_coding(nucleotides, residues)
    if why:
        return replace(record, sequence="", unusable=why)
    return replace(
        record,
        sequence=residues,
        residue_source=TRANSLATED,
        metadata=with_source(record.metadata, TRANSLATED),
    )


def not_nucleotides(text: str) -> Unusable | None:
    """Say why a sequence that the user calls nucleotides is none; None if it is.

    Parameters
    ----------
    text : str
        Upper case, without gaps.
    """
    letter = not_a_nucleotide(text)
    if not letter:
        return None
    reason = f"{letter!r} is no nucleotide, and --translate reads nucleotides"
    return Unusable(reason, must_stop=True, hint="leave out --translate for residues")


def with_source(metadata: Mapping[str, object], source: str) -> Mapping[str, object]:
    """Return metadata with where the residues came from; a value that is there already stays."""
    return metadata if SOURCE_COLUMN in metadata else {**metadata, SOURCE_COLUMN: source}


def _not_coding(nucleotides: str, residues: str) -> Unusable | None:
    stop = residues.find("*", 0, len(residues) - 1)
    if len(nucleotides) % 3:
        reason = f"its {len(nucleotides)} nucleotides are no whole codons"
    elif stop >= 0:
        reason = f"codon {stop + 1} is a stop"
    else:
        return None
    return Unusable(
        f"no frame holds a variable domain, and frame 1 is no open reading frame: {reason}",
        must_stop=True,
        hint="give a coding sequence from its first codon, or pass --on-invalid skip to leave it out",
    )


def _joined_regions(row: Mapping[str, str | None]) -> str:
    """Join the regions; nothing if one is missing between others, for the chain would be another."""
    if REGION_COLUMNS[2] not in row:
        return ""
    regions = ["" if is_missing(text := row.get(name)) else str(text) for name in REGION_COLUMNS]
    first = 0 if regions[0] else 1
    last = len(regions) if regions[-1] else len(regions) - 1
    return "".join(regions) if all(regions[first:last]) else ""
