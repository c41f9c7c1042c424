"""Labels of antibody chains for the benchmarks: groups, donors, V genes, epitopes.

A *group* is a connected component of chains with equal V gene, J gene and CDR3 length whose CDR3s agree at
80% of their residues or more. Over all donors that is mostly convergence, not descent; within one donor it
is the usual stand-in for a clonal family. Either way the label is CDR3 identity itself, and no truth about
clones.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plmsearch.numbering import REGIONS, ImmunumNumberer

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
#: Published human antibodies against SARS-CoV-2, heavy and light chains; not part of the project.
TABLE = SHARED / "antibodies" / "sars2_paired.tsv"

IDENTITY_TENTHS = 8  # members of a group are linked at 8/10 of the CDR3 or more
_GENE = re.compile(r"(IG[HKL][VJ][^*,; ]+)")


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a table."""

    sequence: str
    v_call: str
    j_call: str
    donor: str
    source: str
    label: str


@dataclass(frozen=True)
class Chains:
    """Distinct variable domains of one locus and what the table says of them; one entry each.

    `given` is the whole chain of the first row, `regions` are the residues of `REGIONS`. A domain that came
    in several rows has every donor and source of them; where its rows disagree, V and J gene are those of
    the first row that has any, and the label is empty.
    """

    given: list[str]
    domain: list[str]
    regions: list[dict[str, str]]
    v_gene: list[str]
    j_gene: list[str]
    donors: list[frozenset[str]]
    sources: list[frozenset[str]]
    label: list[str]
    counts: Counter[str]

    def __len__(self) -> int:
        return len(self.domain)

    @property
    def cdr3(self) -> list[str]:
        """CDR3 of each, by IMGT, never empty."""
        return [regions["cdr3"] for regions in self.regions]


def pairs_parser(doc: str) -> argparse.ArgumentParser:
    """Return a command line that names a table of pairs, described by the text of a script."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE, help="tab-separated, with columns VH and VL")
    return parser


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Let a command line name the table, and its columns but for those of the chains."""
    parser.add_argument("table", nargs="?", type=Path, default=TABLE)
    parser.add_argument("--v-col", default="v_call_heavy")
    parser.add_argument("--j-col", default="j_call_heavy")
    parser.add_argument("--donor-col", default="donor")
    parser.add_argument("--source-col", default="source", help="study")
    parser.add_argument("--label-col", default="epitope")
    parser.add_argument("--labels", default="S:RBD,S:NTD,S:S2", help="that exclude each other")


def add_intervals(parser: argparse.ArgumentParser) -> None:
    """Let a command line say how intervals are drawn, and where what rivals found is kept."""
    parser.add_argument("--rivals", type=Path, help="folder that keeps what blastp and MMseqs2 found")
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)


def first_gene(call: str) -> str:
    """Return the first gene of a call, without its allele.

    >>> first_gene("IGHV3-30*18,IGHV3-30-5*01"), first_gene("Homsap IGHV1-69D*01 F"), first_gene("")
    ('IGHV3-30', 'IGHV1-69D', '')
    """
    found = _GENE.search(call)
    return found.group(1) if found else ""


def read_chains(path: Path, columns: Columns, locus: str, numberer: ImmunumNumberer) -> Chains:
    """Read a tab-separated table, or a comma-separated one if its name ends so."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="," if path.suffix == ".csv" else "\t"))
    if rows and columns.sequence not in rows[0]:
        raise SystemExit(f"{path} has no column {columns.sequence!r}; it has: {', '.join(rows[0])}")
    numbered = {
        s: numberer.domains(s, ("IG",))
        for s in dict.fromkeys(residues(r, columns.sequence) for r in rows)
        if s
    }
    counts = Counter(rows=len(rows), distinct_chains=len(numbered))
    by_domain: dict[str, list[dict[str, str]]] = {}
    regions = {}
    for row in rows:
        domains = [d for d in numbered.get(residues(row, columns.sequence), ()) if d.locus == locus]
        if domains:
            joined = "".join(domains[0].regions[name] for name in REGIONS)
            regions[joined] = dict(domains[0].regions)
            by_domain.setdefault(joined, []).append(row)
    counts["not_numbered"] = sum(not any(d.locus == locus for d in found) for found in numbered.values())
    counts["distinct_domains"] = len(by_domain)
    facts = [merged(found, columns, counts) for found in by_domain.values()]
    return Chains(
        [residues(found[0], columns.sequence) for found in by_domain.values()],
        list(by_domain),
        list(regions.values()),
        *(list(column) for column in zip(*facts, strict=True)),
        counts,
    )


def residues(row: dict[str, str], column: str) -> str:
    return "".join((row[column] or "").split()).upper()


def merged(rows: Sequence[dict[str, str]], columns: Columns, counts: Counter[str]) -> tuple[object, ...]:
    def values(name: str, clean: Callable[[str], str] = str.strip) -> list[str]:
        return list(dict.fromkeys(v for v in (clean(r.get(name) or "") for r in rows) if v))

    v_genes, j_genes = values(columns.v_call, first_gene), values(columns.j_call, first_gene)
    labels = values(columns.label)
    counts["rows_disagree_on_gene"] += len(v_genes) > 1 or len(j_genes) > 1
    counts["rows_disagree_on_label"] += len(labels) > 1
    return (
        v_genes[0] if v_genes else "",
        j_genes[0] if j_genes else "",
        frozenset(values(columns.donor)),
        frozenset(values(columns.source)),
        labels[0] if len(labels) == 1 else "",
    )


def as_bytes(strings: Sequence[str]) -> np.ndarray:
    """Return strings of one length as an array of letters, dtype uint8, shape (n, length)."""
    return np.frombuffer("".join(strings).encode("ascii"), np.uint8).reshape(len(strings), -1)


def n_matches(letters: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Count equal places of each string of the first array with each of the second, shape (n, m)."""
    found = np.zeros((len(letters), len(others)), np.int16)
    for place in range(letters.shape[1]):
        found += letters[:, place, None] == others[None, :, place]
    return found


def groups(
    v_gene: Sequence[str], j_gene: Sequence[str], cdr3: Sequence[str], within: Sequence[str]
) -> np.ndarray:
    """Number the groups; single linkage within equal V gene, J gene, CDR3 length and `within`.

    Chains that lack a V or J gene, or whose `within` is empty, are in no group: -1. Any other chain is in
    one, maybe alone.
    """
    blocks: dict[tuple[str, str, int, str], list[int]] = {}
    for i, key in enumerate(zip(v_gene, j_gene, map(len, cdr3), within, strict=True)):
        if all(key):
            blocks.setdefault(key, []).append(i)
    number = np.full(len(cdr3), -1)
    n_groups = 0
    for members in blocks.values():
        letters = as_bytes([cdr3[i] for i in members])
        linked = n_matches(letters, letters) * 10 >= IDENTITY_TENTHS * letters.shape[1]
        for component in components(linked):
            number[[members[i] for i in component]] = n_groups
            n_groups += 1
    return number


def units(groups: np.ndarray) -> np.ndarray:
    """Number what is drawn together by a bootstrap: whole groups, and each chain without one by itself.

    >>> units(np.array([0, -1, 0, 1, -1])).tolist()
    [0, 3, 0, 1, 6]
    """
    return np.where(groups < 0, groups.max() + 1 + np.arange(len(groups)), groups)


def components(linked: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the connected components of a symmetric matrix of links, as indices."""
    left = np.ones(len(linked), bool)
    while left.any():
        member = np.zeros(len(linked), bool)
        member[left.argmax()] = True
        while True:
            wider = linked[member].any(axis=0) | member
            if (wider == member).all():
                break
            member = wider
        left &= ~member
        yield np.flatnonzero(member)


def one_donor(donors: Iterable[frozenset[str]], pools: str) -> list[str]:
    """Return the donor of each chain; empty where there is none, several, or a pool of several."""
    pool = re.compile(pools, re.IGNORECASE)
    return [d if len(given) == 1 and not pool.search(d := next(iter(given))) else "" for given in donors]


def share_any(given: Sequence[frozenset[str]]) -> np.ndarray:
    """Tell for each pair of chains whether they have a donor, or source, in common; bool, shape (n, n).

    Not knowing counts as having all in common; where nothing is known of any chain, none has.
    """
    names = {name: i for i, name in enumerate(sorted(set().union(*given)))}
    if not names:
        return np.zeros((len(given), len(given)), bool)
    has = np.zeros((len(given), len(names)), np.float32)
    for row, found in enumerate(given):
        has[row, [names[name] for name in found]] = 1
    unknown = ~has.any(axis=1)
    return (has @ has.T > 0) | unknown[:, None] | unknown[None, :]
