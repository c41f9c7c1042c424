"""Small repertoires in the formats that other programs write, all of made-up cells."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence

from support import VH, VL

from plmsearch.sequences import STANDARD_RESIDUES
from plmsearch.translation import translate

CODON = {
    residue: a + b + c
    for a in "ACGT"
    for b in "ACGT"
    for c in "ACGT"
    if (residue := translate(a + b + c)) in STANDARD_RESIDUES
}


def coding(residues: str) -> str:
    """One of the nucleotide sequences that code for these residues."""
    return "".join(CODON[residue] for residue in residues)


#: VH and VL parted as 10x does: CDR3 holds the conserved C and W or F.
VH_10X = ("EVQLVESGGGLVQPGGSLRLSCAAS", "GFNIKDTY", "IHWVRQAPGKGLEWVAR", "IYPTNGYT",
          "RYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYY", "CSRWGGDGFYAMDYW", "GQGTLVTVSS")  # fmt: skip
VL_10X = ("DIQMTQSPSSLSASVGDRVTITCRAS", "QDVNTA", "VAWYQQKPGKAPKLLIY", "SAS",
          "FLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYY", "CQQHYTTPPTF", "GQGTKVEIK")  # fmt: skip
assert ("".join(VH_10X), "".join(VL_10X)) == (VH, VL)

OLD_10X = ("barcode", "is_cell", "contig_id", "high_confidence", "length", "chain", "v_gene", "d_gene",
           "j_gene", "c_gene", "full_length", "productive", "cdr3", "cdr3_nt", "reads", "umis",
           "raw_clonotype_id", "raw_consensus_id")  # fmt: skip
REGIONS = ("fwr1", "cdr1", "fwr2", "cdr2", "fwr3", "cdr3", "fwr4")
NEW_10X = (*OLD_10X[:12], *(name for r in REGIONS for name in (r, f"{r}_nt")), *OLD_10X[14:],
           "exact_subclonotype_id")  # fmt: skip

#: A contig with a leader before the V domain and a part of the constant region after it.
HEAVY_CONTIG = "GGGAGTC" + coding("MEFGLSWLFLVAILKGVQC" + VH + "ASTKGPSV") + "AC"
LIGHT_CONTIG = "TGAGCAC" + coding("MDMRVPAQLLGLLLLWLSGARC" + VL + "RTVAAPSV") + "G"


def tenx_row(number: int, kind: str = "heavy", **cells: str) -> dict[str, str]:
    """One contig of the cell ``CELL<number>-1``."""
    heavy = kind == "heavy"
    regions = VH_10X if heavy else VL_10X
    row = {
        "barcode": f"CELL{number}-1", "is_cell": "True", "contig_id": f"CELL{number}-1_contig_{2 - heavy}",
        "high_confidence": "True", "length": str(len(HEAVY_CONTIG if heavy else LIGHT_CONTIG)),
        "chain": "IGH" if heavy else "IGK", "v_gene": "IGHV3-66" if heavy else "IGKV1-39",
        "d_gene": "None", "j_gene": "IGHJ4" if heavy else "IGKJ1", "c_gene": "IGHG1" if heavy else "IGKC",
        "full_length": "True", "productive": "True", "reads": "1458", "umis": "18",
        "raw_clonotype_id": "clonotype7", "raw_consensus_id": "None", "exact_subclonotype_id": "1",
    }  # fmt: skip
    for name, residues in zip(REGIONS, regions, strict=True):
        row |= {name: residues, f"{name}_nt": coding(residues)}
    return row | cells


def csv_text(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str:
    """The rows as CSV; what a row holds beside the columns is left out."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


#: The columns of an OAS unit that matter here; a real one has about a hundred.
OAS = ("sequence", "locus", "stop_codon", "vj_in_frame", "productive", "rev_comp", "v_call", "d_call",
       "j_call", "sequence_alignment", "germline_alignment", "sequence_alignment_aa", "fwr1", "fwr1_aa",
       "cdr3", "cdr3_aa", "junction", "junction_aa", "Redundancy", "ANARCI_status")  # fmt: skip
OAS_FACTS = {
    "Run": "SRR0000001", "Species": "human", "BType": "Naive-B-Cells", "Isotype": "IGHM", "Age": 42,
    "Subject": "Subject-1", "Vaccine": "None", "Link": 'https://example.org/a?b="c", d', "Extra": None,
    "Nested": [1, 2],
}  # fmt: skip


def oas_row(kind: str = "heavy", **cells: str) -> dict[str, str]:
    """One row of an unpaired unit."""
    heavy = kind == "heavy"
    chain, regions = (VH, VH_10X) if heavy else (VL, VL_10X)
    return {
        "sequence": HEAVY_CONTIG if heavy else LIGHT_CONTIG, "locus": "IGH" if heavy else "IGK",
        "stop_codon": "F", "vj_in_frame": "T", "productive": "T", "rev_comp": "F",
        "v_call": "IGHV3-66*01" if heavy else "IGKV1-39*01", "d_call": "IGHD1-1*01" if heavy else "",
        "j_call": "IGHJ4*02" if heavy else "IGKJ1*01", "sequence_alignment": coding(chain),
        "germline_alignment": "", "sequence_alignment_aa": chain, "fwr1": coding(regions[0]),
        "fwr1_aa": regions[0], "cdr3": coding(regions[5][1:-1]), "cdr3_aa": regions[5][1:-1],
        "junction": coding(regions[5]), "junction_aa": regions[5], "Redundancy": "3",
        "ANARCI_status": "good",
    } | cells  # fmt: skip


def oas_text(columns: Sequence[str], rows: Sequence[Mapping[str, str]], *, quoted: bool = True) -> str:
    """A data unit: the JSON line, as one CSV cell or bare, then the table."""
    facts = json.dumps(OAS_FACTS)
    first = '"' + facts.replace('"', '""') + '"' if quoted else facts
    return f"{first}\n{csv_text(columns, rows)}"


def paired_columns() -> tuple[str, ...]:
    """The header of a paired unit."""
    return tuple(f"{name}_{chain}" for chain in ("heavy", "light") for name in ("sequence_id", *OAS))


def paired_row(number: int, **cells: str) -> dict[str, str]:
    """One row of a paired unit."""
    row = {f"{n}_{chain}": v for chain in ("heavy", "light") for n, v in oas_row(chain).items()}
    ids = {
        "sequence_id_heavy": f"AAAC{number}-1_contig_1",
        "sequence_id_light": f"AAAC{number}-1_contig_2",
    }
    return row | ids | cells
