"""What clonal grouping needs to know of each rearrangement: locus, genes, junction, donor, cell.

A *clonotype* is an equal key of locus, V gene, J gene and junction; a clonal family is wider: it has
descended from one rearrangement and may have mutated since.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from plmsearch.formats.airr import CONTIG_FLAGS, airr_bool, in_filtered_set
from plmsearch.formats.residues import NUCLEOTIDE_COLUMNS, RESIDUE_COLUMNS, SOURCE_COLUMNS, residues_of_row
from plmsearch.genes import call_genes, call_locus, locus_name
from plmsearch.numbering import Domain, ImmunumNumberer, Numberer
from plmsearch.repertoire.blocks import Genes
from plmsearch.repertoire.vregions import v_region_before
from plmsearch.translation import FRAMES, as_nucleotides, codes_for, reverse_complement, translate

__all__ = ["COLUMNS", "Rearrangements", "genes_of", "read_rearrangements", "translate"]

#: Columns that are read.
COLUMNS = (
    "locus", "v_call", "j_call", "c_call", "productive", "junction", "junction_aa", "cdr3_aa",
    "sample_id", "repertoire_id", "cell_id", "umi_count", "duplicate_count", *CONTIG_FLAGS,
    *(name for name in SOURCE_COLUMNS if name != "junction_aa"),
)  # fmt: skip

#: Residues before and after a junction that tell it from another place in the chain.
_CONTEXT = 8


@dataclass(slots=True)
class Rearrangements:
    """Columns of equal length, one entry for each row.

    Parameters
    ----------
    locus : list of str
        ``IGH`` and so on; "" if nothing says.
    calls : list of (str, str)
        V call and J call as given.
    nucleotides, residues : list of str
        Junction, conserved residues included, upper case; "" if there is none.
    v_nucleotides, v_residues : list of str
        The V region before the junction, as `plmsearch.repertoire.vregions.v_region_before` cuts it.
    donor, cell : list of str
        "" where not known. A cell is named within its sample.
    productive, filtered : list of bool
        False only where the input says so; `filtered` tells what 10x's filtered set of contigs has.
    weight : list of (int, int)
        umi_count, duplicate_count; to choose among several chains of a cell.
    n_numbered, n_nucleotides_found : int
        Rows whose junction comes from the chain's residues, and how many of these were found again in
        the nucleotides.
    disagreeing : list of int
        Rows, from 1, whose ``junction_aa`` is not the translation of their ``junction``; both are taken as
        they are.
    """

    locus: list[str] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    nucleotides: list[str] = field(default_factory=list)
    residues: list[str] = field(default_factory=list)
    v_nucleotides: list[str] = field(default_factory=list)
    v_residues: list[str] = field(default_factory=list)
    donor: list[str] = field(default_factory=list)
    cell: list[tuple[str, str] | None] = field(default_factory=list)
    productive: list[bool] = field(default_factory=list)
    filtered: list[bool] = field(default_factory=list)
    weight: list[tuple[int, int]] = field(default_factory=list)
    n_numbered: int = 0
    n_nucleotides_found: int = 0
    disagreeing: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.locus)


def genes_of(calls: tuple[str, str], *, first: bool) -> Genes:
    """Return the V genes and J genes of two calls, all or the first of each."""
    v, j = (call_genes(call) for call in calls)
    return (frozenset(v[:1]), frozenset(j[:1])) if first else (frozenset(v), frozenset(j))


def read_rearrangements(
    rows: Iterable[tuple[Sequence[str], str]], numberer: Numberer | None = None
) -> Rearrangements:
    """Gather what is needed from the rows of a table.

    Parameters
    ----------
    rows : iterable of (cells, donor)
        Cells of `COLUMNS`, and the donor.
    numberer : Numberer, optional
        Finds the junction of chains without one. Default: immunum.

    Returns
    -------
    Rearrangements
    """
    found = Rearrangements()
    numberer = numberer or ImmunumNumberer()
    for cells, donor in rows:
        row = dict(zip(COLUMNS, cells, strict=True))
        nucleotides, residues = _given_junction(row)
        locus = _locus(row)
        if not codes_for(nucleotides, row["junction_aa"].strip().upper()):
            found.disagreeing.append(len(found) + 1)
        given = bool(nucleotides or residues)
        if not given or not locus:
            numbered = _numbered(row, numberer)
            locus = locus or numbered[2]
            if not given:
                nucleotides, residues = numbered[:2]
                found.n_numbered += bool(residues)
                found.n_nucleotides_found += bool(nucleotides)
        found.locus.append(locus)
        found.calls.append((row["v_call"], row["j_call"]))
        found.nucleotides.append(nucleotides)
        found.residues.append(residues)
        found.v_nucleotides.append(_v_region(row, NUCLEOTIDE_COLUMNS, nucleotides, 3))
        found.v_residues.append(_v_region(row, RESIDUE_COLUMNS, residues, 1))
        found.donor.append(donor)
        sample = row["sample_id"] or row["repertoire_id"]
        found.cell.append((sample, row["cell_id"]) if row["cell_id"] else None)
        found.productive.append(airr_bool(row["productive"]) is not False)
        found.filtered.append(in_filtered_set(row[name] for name in CONTIG_FLAGS))
        found.weight.append((_count(row["umi_count"]), _count(row["duplicate_count"])))
    return found


def _locus(row: dict[str, str]) -> str:
    named = locus_name(row["locus"])
    return named or next((locus for c in ("v_call", "j_call", "c_call") if (locus := call_locus(row[c]))), "")


def _given_junction(row: dict[str, str]) -> tuple[str, str]:
    """Return the junction as nucleotides and as residues."""
    nucleotides = row["junction"].strip().upper()
    residues = row["junction_aa"].strip().upper()
    if not residues and nucleotides and len(nucleotides) % 3 == 0:
        residues = translate(nucleotides)
    elif not residues and (cdr3 := row["cdr3_aa"].strip().upper()):
        residues = f"C{cdr3}W"  # the two residues that CDR3 lacks; their kind does not matter to a distance
    return nucleotides, residues


def _v_region(row: dict[str, str], columns: Sequence[str], junction: str, codon: int) -> str:
    """Return the V region of the first column in which the junction is found, of a read on either strand."""
    chains = (row[name].replace(".", "").replace("-", "").strip().upper() for name in columns)
    found = next((v for chain in chains if (v := v_region_before(chain, junction, codon))), "")
    if not found and junction and "sequence" in columns:
        found = v_region_before(reverse_complement(as_nucleotides(row["sequence"])), junction, codon)
    return found


def _numbered(row: dict[str, str], numberer: Numberer) -> tuple[str, str, str]:
    """Return the junction as nucleotides, where found again, and residues, and the locus, by numbering."""
    chain = residues_of_row(row, numberer)[0].replace("-", "").replace(".", "").strip().upper()
    domains = numberer.domains(chain) if chain else ()
    # the heavy domain of a single-chain Fv; of two heavy ones neither
    domains = tuple(d for d in domains if d.locus == "IGH") or domains
    if len(domains) != 1:
        return "", "", ""
    start, end = _junction_place(domains[0])
    found = (_find_nucleotides(as_nucleotides(row[name]), chain, start, end) for name in NUCLEOTIDE_COLUMNS)
    nucleotides = next(filter(None, found), "")
    return nucleotides, chain[start:end], domains[0].locus


def _junction_place(domain: Domain) -> tuple[int, int]:
    """Return where the junction is in the chain: CDR3 and one residue on each side."""
    regions = domain.regions
    before = sum(len(regions[name]) for name in ("fwr1", "cdr1", "fwr2", "cdr2", "fwr3"))
    start = domain.start + before - 1
    return start, start + len(regions["cdr3"]) + 2


def _find_nucleotides(sequence: str, chain: str, start: int, end: int) -> str:
    """Find a part of a chain in the nucleotides it was translated from; "" if not in just one place.

    Where it is on the other strand, the nucleotides of that strand are returned.
    """
    left = max(start - _CONTEXT, 0)
    wanted = chain[left : end + _CONTEXT]
    found = []
    for frame in FRAMES if wanted else ():
        translated = translate(sequence, frame)
        at = translated.find(wanted)
        if at >= 0:
            first = abs(frame) - 1 + 3 * (at + start - left)
            strand = sequence if frame > 0 else reverse_complement(sequence)
            found.append(strand[first : first + 3 * (end - start)])
            if translated.find(wanted, at + 1) >= 0:
                return ""
    return found[0] if len(found) == 1 else ""


def _count(text: str) -> int:
    try:
        return int(float(text)) if text else 0
    except (ValueError, OverflowError):
        return 0
