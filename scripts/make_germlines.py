"""Make plmsearch/germlines/genes.tsv: germline V and J proteins of human and mouse immunoglobulins.

    pip download --no-deps abstar==0.8.0 anarci==2026.2.13.2 -d WHEELS
    python scripts/make_germlines.py WHEELS            # write the file anew
    python scripts/make_germlines.py WHEELS --check    # make it again and compare

Sequences are the germline sets of OGRDB, released under CC0 1.0, as the package abstar (MIT) carries
them: the AIRR-C reference sets of human IGH, IGK and IGL, and the sets of the mouse strains C57BL/6 and
BALB/c. They are translated, pseudogenes left out, and cut into IMGT regions.

OGRDB lists exact copies of a gene once, under one name, and its mouse V genes under labels of its own
(IGHV0-IQE5). So that the names users know are found too, each protein also gets the names, and nothing
else, under which the package anarci (BSD-3-Clause) lists the identical protein.
"""

from __future__ import annotations

import argparse
import ast
import csv
import io
import itertools
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from Bio.Seq import Seq

from plmsearch.germlines.records import Germline, j_regions, merged, natural_order, v_regions
from plmsearch.numbering import REGIONS, ImmunumNumberer

FILE = Path(__file__).resolve().parents[1] / "plmsearch" / "germlines" / "genes.tsv"
SETS = {"human": ("human",), "mouse": ("c57bl6", "balbc")}
#: In the allele numbers of OGRDB's labels for genes that have no name yet, such as IGHV0-IQE5*00.
LABEL = "*00"
COLUMNS = ("species", "locus", "segment", "names", *REGIONS)

HEADER = """\
# Germline V and J proteins of immunoglobulins, cut into IMGT regions ({numbering}).
# Made by scripts/make_germlines.py; alleles of identical residues share a line.
# Sequences: germline sets of OGRDB (ogrdb.airr-community.org), Creative Commons CC0 1.0; human IGH rev 9,
#   IGK rev 4, IGL rev 3 (2024-10-12), Collins et al. 2024, doi:10.3389/fimmu.2023.1330153; mouse C57BL/6
#   and BALB/c sets (2022-2024). Taken from the package abstar 0.8.0 (MIT), which carries them.
# Names: OGRDB's, and those under which the package anarci 2026.2.13.2 (BSD-3-Clause, (c) 2019 Charlotte
#   Deane, James Dunbar, Alexsandr Kovaltsuk, Claire Marks) lists the identical protein.
"""

#: By species, locus and segment: proteins and their names.
Known = Mapping[tuple[str, str, str], Sequence[tuple[str, tuple[str, ...]]]]


def wheel(folder: Path, name: str) -> zipfile.ZipFile:
    """Open the wheel of a package."""
    (path,) = folder.glob(f"{name}-*.whl")
    return zipfile.ZipFile(path)


def fasta(text: str) -> Iterator[tuple[str, str]]:
    """Yield allele and nucleotides."""
    for entry in text.split(">")[1:]:
        header, _, sequence = entry.partition("\n")
        yield header.split("__")[0].strip(), sequence.replace("\n", "")


def translated(nucleotides: str, frame: int = 0) -> str:
    """Translate whole codons, up to the first stop."""
    coding = nucleotides[frame:]
    return str(Seq(coding[: len(coding) // 3 * 3]).translate()).partition("*")[0]


def v_genes(archive: zipfile.ZipFile, species: str, folder: str) -> Iterator[Germline]:
    """Yield the V genes that are whole domains."""
    for allele, nucleotides in fasta(read(archive, folder, "v")):
        regions = v_regions(translated(nucleotides), allele[:3])
        if regions is None:
            say(f"{species} {allele}: no domain, left out")
        else:
            yield Germline(species, allele[:3], "V", (allele,), regions)


def j_genes(archive: zipfile.ZipFile, species: str, folder: str) -> Iterator[Germline]:
    """Yield the J genes that have the J-motif in a frame without a stop."""
    for allele, nucleotides in fasta(read(archive, folder, "j")):
        frames = [translated(nucleotides, frame) for frame in range(3)]
        whole = [residues for residues in frames if len(residues) >= (len(nucleotides) - 2) // 3]
        cut = [regions for residues in whole if (regions := j_regions(residues)) is not None]
        if len(cut) != 1:
            say(f"{species} {allele}: {len(cut)} frames with the J-motif, left out")
        else:
            yield Germline(species, allele[:3], "J", (allele,), cut[0])


def read(archive: zipfile.ZipFile, folder: str, segment: str) -> str:
    """Read one file of abstar."""
    return archive.read(f"abstar/germline_dbs/bcr/{folder}/ungapped/{segment}.fasta").decode()


def known_names(archive: zipfile.ZipFile) -> Known:
    """Return the proteins of anarci with their names."""
    source = archive.read("anarci/germlines.py").decode()
    table = next(
        ast.literal_eval(line.partition("=")[2].strip()) for line in source.splitlines() if "=" in line
    )
    found: dict[tuple[str, str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for species, chain, segment in itertools.product(SETS, "HKL", "VJ"):
        for allele, gapped in table[segment][chain][species].items():
            found[species, f"IG{chain}", segment][gapped.replace("-", "")].append(allele)
    return {key: [(aa, tuple(names)) for aa, names in proteins.items()] for key, proteins in found.items()}


def with_known_names(germlines: Sequence[Germline], known: Known) -> Iterator[Germline]:
    """Add names of identical proteins; OGRDB's own assignment of a name is never changed."""
    taken = {(one.species, name) for one in germlines for name in one.names}
    for one in germlines:
        names = set(one.names)
        for protein, others in known[one.species, one.locus, one.segment]:
            if same_protein(one, protein):
                names.update(name for name in others if (one.species, name) not in taken)
        known_ones = {name for name in names if LABEL not in name}
        yield Germline(one.species, one.locus, one.segment, natural_order(known_ones or names), one.regions)


def same_protein(one: Germline, protein: str) -> bool:
    """Tell whether a V agrees to C104, a J from position 118, and both as far into CDR3 as both go.

    anarci cuts J genes short, so a J that has a name gets another only if the whole J is there.
    """
    residues = "".join(one.regions.values())
    shared = min(len(residues), len(protein))
    labelled = all(LABEL in name for name in one.names)
    needed = (
        len(residues) if one.segment == "J" and not labelled else len(residues) - len(one.regions["cdr3"])
    )
    if shared < needed:
        return False
    if one.segment == "J":
        return residues[-shared:] == protein[-shared:]
    return residues[:shared] == protein[:shared]


def made(folder: Path) -> str:
    """Return the text of the file."""
    archive, known = wheel(folder, "abstar"), known_names(wheel(folder, "anarci"))
    germlines = merged(
        gene
        for species, folders in SETS.items()
        for name in folders
        for genes in (v_genes, j_genes)
        for gene in genes(archive, species, name)
    )
    text = io.StringIO(HEADER.format(numbering=ImmunumNumberer().describe()), newline="")
    text.seek(0, io.SEEK_END)
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    rows = [
        (one.species, one.locus, one.segment, ",".join(one.names), *(one.regions[name] for name in REGIONS))
        for one in with_known_names(germlines, known)
    ]
    writer.writerows(sorted(rows))
    return text.getvalue()


def say(text: str) -> None:
    """Print to standard error."""
    sys.stderr.write(f"{text}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the file, or check it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("wheels", type=Path, help="folder with the wheels of abstar and anarci")
    parser.add_argument("--check", action="store_true", help="compare with the file there is")
    options = parser.parse_args(arguments)
    text = made(options.wheels)
    if options.check and text != FILE.read_text(encoding="utf-8"):
        raise SystemExit("the file is not what this script makes")
    if not options.check:
        FILE.write_text(text, encoding="utf-8")
    say(f"{FILE.name}: {len(text.encode())} bytes")


if __name__ == "__main__":
    main()
