"""Germline genes of variable domains, against counting by hand, Biopython and the germlines themselves."""

from __future__ import annotations

import math
import random

import pytest
from Bio import Align
from Bio.Align import substitution_matrices
from Bio.Seq import Seq
from hypothesis import given
from hypothesis import strategies as st

from plmsearch.errors import FileFormatError, InputNotFoundError, ParameterError, TableFormatError
from plmsearch.germlines.gapped import gapped_columns
from plmsearch.germlines.genes import GermlineSet, inferred_columns
from plmsearch.germlines.reading import read_germlines
from plmsearch.germlines.records import (
    V_REGIONS,
    bundled_germlines,
    j_regions,
    merged,
    natural_order,
    v_regions,
)
from plmsearch.germlines.scoring import compare, extension, layout
from plmsearch.germlines.species import SpeciesEvidence
from plmsearch.numbering import REGIONS, Domain, ImmunumNumberer
from plmsearch.sequences import STANDARD_RESIDUES

HUMAN = GermlineSet.load(None, "human")
HUMAN_V = [one for one in HUMAN.germlines if one.segment == "V"]
HUMAN_J = [one for one in HUMAN.germlines if one.segment == "J"]
MOUSE_V = [one for one in bundled_germlines() if one.species == "mouse" and one.segment == "V"]

residue_text = st.text(STANDARD_RESIDUES, min_size=1, max_size=30)


def domain_of(v, middle="GGS", j=None, **changed):
    """A rearrangement of a V and a J gene, with some regions replaced."""
    j = j or next(one for one in bundled_germlines() if (one.locus, one.segment) == (v.locus, "J"))
    regions = dict(v.regions) | {"cdr3": v.regions["cdr3"] + middle + j.regions["cdr3"]}
    regions |= {"fwr4": j.regions["fwr4"]} | changed
    regions = {name: regions[name] for name in REGIONS}
    return Domain(v.locus, 0, len("".join(regions.values())), regions, 1.0)


def gene(name):
    return next(one for one in bundled_germlines() if name in one.names)


# --- Nearest genes -------------------------------------------------------------------------------


def test_every_human_v_gene_is_found_in_its_own_rearrangement():
    calls = HUMAN.infer_all([domain_of(v) for v in HUMAN_V])
    for v, call in zip(HUMAN_V, calls, strict=True):
        assert set(v.names) <= set(call.v_call.split(","))
        assert call.v_identity_aa == 1.0
        assert call.v_compared == sum(len(v.regions[name]) for name in V_REGIONS)


def test_ties_of_a_v_gene_agree_with_it_from_fwr1_to_c104_and_at_the_start_of_cdr3():
    calls = HUMAN.infer_all([domain_of(v, middle="") for v in HUMAN_V])
    by_name = {name: one for one in HUMAN_V for name in one.names}
    for v, call in zip(HUMAN_V, calls, strict=True):
        for name in call.v_call.split(","):
            assert all(by_name[name].regions[region] == v.regions[region] for region in V_REGIONS)


def test_every_human_j_gene_is_found_in_its_own_rearrangement():
    v_of = {v.locus: v for v in HUMAN_V}
    for j, call in zip(
        HUMAN_J, HUMAN.infer_all([domain_of(v_of[j.locus], j=j) for j in HUMAN_J]), strict=True
    ):
        assert set(j.names) <= set(call.j_call.split(","))
        assert call.j_identity_aa == 1.0


def test_alleles_and_genes_of_the_same_residues_are_all_listed_in_natural_order():
    call = HUMAN.infer(domain_of(gene("IGHV3-23*01")))
    assert call.v_call == "IGHV3-23*01,IGHV3-23D*01"
    call = HUMAN.infer(domain_of(gene("IGKV1-39*01")))
    assert call.v_call == "IGKV1-39*01,IGKV1D-39*01"


def score_by_hand(a, b):
    """Agreeing less other residues, FWR1 to C104, then CDR3 as far as that pays."""
    steps = [1 if x == y else -1 for name in V_REGIONS for x, y in zip(a[name], b[name], strict=True)]
    start = [1 if x == y else -1 for x, y in zip(a["cdr3"], b["cdr3"], strict=False)]
    return sum(steps) + max(0, *(sum(start[: k + 1]) for k in range(len(start))))


@given(seed=st.integers(0, 10**6), n_mutations=st.integers(0, 20))
def test_the_nearest_v_are_those_that_counting_finds(seed, n_mutations):
    rng = random.Random(seed)
    v = rng.choice(HUMAN_V)
    alike = [
        one
        for one in HUMAN_V
        if one.locus == v.locus and all(len(one.regions[name]) == len(v.regions[name]) for name in V_REGIONS)
    ]
    text = list("".join(v.regions.values()))
    for at in rng.sample(range(len(text)), n_mutations):
        text[at] = rng.choice(STANDARD_RESIDUES)
    letters = iter(text)
    regions = {name: "".join(next(letters) for _ in residues) for name, residues in v.regions.items()}
    chain = domain_of(v, **regions)
    by_hand = {one.names: score_by_hand(regions, one.regions) for one in alike}
    best = [names for names, score in by_hand.items() if score == max(by_hand.values())]
    call = GermlineSet(alike, "alike").infer(chain)
    assert call.v_call == ",".join(natural_order(name for names in best for name in names))
    agreeing = [
        sum(x == y for name in V_REGIONS for x, y in zip(regions[name], one.regions[name], strict=True))
        for one in alike
        if one.names in best
    ]
    assert call.v_identity_aa == max(agreeing) / call.v_compared


@pytest.mark.parametrize("n_lost", [1, 5, 18])
def test_a_chain_without_its_first_residues_gets_the_same_call_on_fewer_residues(n_lost):
    v = gene("IGHV1-2*02")
    whole = HUMAN.infer(domain_of(v))
    part = HUMAN.infer(domain_of(v, fwr1=v.regions["fwr1"][n_lost:]))
    assert set(whole.v_call.split(",")) <= set(part.v_call.split(","))
    assert part.v_identity_aa == 1.0
    assert part.v_compared == whole.v_compared - n_lost


@pytest.mark.parametrize("letter", ["X", "B", "Z", "J", "U", "x"])
def test_unknown_residues_are_not_compared(letter):
    v = gene("IGHV1-2*02")
    fwr2 = v.regions["fwr2"]
    call = HUMAN.infer(domain_of(v, fwr2=letter * 3 + fwr2[3:]))
    assert call.v_identity_aa == 1.0
    assert call.v_compared == HUMAN.infer(domain_of(v)).v_compared - 3
    assert "IGHV1-2*02" in call.v_call.split(",")


@pytest.mark.parametrize(("region", "extra"), [("cdr1", "G"), ("cdr2", "SG"), ("fwr3", "K")])
def test_an_insertion_is_counted_as_columns_that_do_not_agree(region, extra):
    v = gene("IGHV3-30*18")
    residues = v.regions[region]
    call = HUMAN.infer(domain_of(v, **{region: residues[:4] + extra + residues[4:]}))
    n = sum(len(v.regions[name]) for name in V_REGIONS)
    assert call.v_identity_aa == pytest.approx(n / (n + len(extra)))
    assert call.v_compared == n + len(extra)
    assert "IGHV3-30" in call.v_call


def test_a_deletion_in_a_framework_does_not_move_the_call():
    v = gene("IGKV3-20*01")
    residues = v.regions["fwr3"]
    call = HUMAN.infer(domain_of(v, fwr3=residues[:10] + residues[11:]))
    n = sum(len(v.regions[name]) for name in V_REGIONS)
    assert call.v_identity_aa == pytest.approx((n - 1) / n)
    assert "IGKV3-20*01" in call.v_call.split(",")


def test_what_is_far_from_every_gene_gets_no_call():
    v = gene("IGHV3-23*01")
    rng = random.Random(1)
    noise = {name: "".join(rng.choices(STANDARD_RESIDUES, k=len(v.regions[name]))) for name in V_REGIONS}
    call = HUMAN.infer(domain_of(v, **noise))
    assert call.v_call == ""
    assert math.isnan(call.v_identity_aa)


def test_a_chain_of_unknown_residues_gets_no_call():
    v = gene("IGHV3-23*01")
    unknown = {name: "X" * len(v.regions[name]) for name in V_REGIONS}
    assert HUMAN.infer(domain_of(v, **unknown)).v_call == ""


def test_a_locus_without_germlines_gets_no_call():
    chain = Domain("TRB", 0, 1, domain_of(HUMAN_V[0]).regions, 1.0)
    call = HUMAN.infer(chain)
    assert (call.v_call, call.j_call) == ("", "")


def test_calls_do_not_depend_on_what_else_is_asked():
    chains = [domain_of(v) for v in HUMAN_V[::5]]
    together = HUMAN.infer_all(chains)
    assert [HUMAN.infer(chain) for chain in chains] == together
    assert HUMAN.infer_all(chains[::-1]) == together[::-1]
    assert HUMAN.infer_all([]) == []


def test_columns_are_plain_values():
    noise = domain_of(gene("IGHV3-23*01"), **dict.fromkeys(V_REGIONS, "XXX"))
    columns = inferred_columns(HUMAN, [domain_of(gene("IGHV1-2*02")), noise])
    assert columns["v_call_inferred"] == ["IGHV1-2*02", ""]
    assert columns["v_identity_aa"] == [1.0, ""]
    assert columns["species"] == ["human", "human"]  # the second has a J gene
    assert columns["j_call_inferred"][1]


# --- Counting ------------------------------------------------------------------------------------


@given(st.lists(residue_text, min_size=1, max_size=4), st.lists(residue_text, min_size=1, max_size=4))
def test_the_start_of_cdr3_is_scored_as_its_best_prefix(chains, germlines):
    table = extension(chains, germlines, backwards=False)
    mirrored = extension([c[::-1] for c in chains], [g[::-1] for g in germlines], backwards=True)
    for i, a in enumerate(chains):
        for j, b in enumerate(germlines):
            steps = [1 if x == y else -1 for x, y in zip(a[:24], b[:24], strict=False)]
            assert table[i, j] == max(0, *(sum(steps[: k + 1]) for k in range(len(steps))))
    assert (table == mirrored).all()


@given(st.text(STANDARD_RESIDUES + "X", min_size=1, max_size=24), st.data())
def test_regions_of_one_length_are_compared_position_by_position(residues, data):
    other = data.draw(st.text(STANDARD_RESIDUES + "X", min_size=len(residues), max_size=len(residues)))
    for name in ("fwr1", "cdr1", "fwr4"):
        a, b = (text[:14] for text in (residues, other))
        found = compare(layout([{name: a}], [name]), layout([{name: b}], [name]))
        known = [(x, y) for x, y in zip(a, b, strict=True) if "X" not in x + y]
        assert found.same[0, 0] == sum(x == y for x, y in known)
        assert found.compared[0, 0] == len(known)


def biopython_columns(a, b):
    aligner = Align.PairwiseAligner()
    aligner.substitution_matrix = substitution_matrices.load("BLOSUM62")
    aligner.open_gap_score, aligner.extend_gap_score = -12, -1
    return {counted(alignment) for alignment in list(aligner.align(a, b))[:200]}


def counted(alignment):
    columns = list(zip(alignment[0], alignment[1], strict=True))
    while columns and "-" in columns[0]:  # one of the two begins later
        columns.pop(0)
    return sum(x == y for x, y in columns), len(columns)


def test_an_aligned_chain_has_the_columns_that_biopython_finds():
    rng = random.Random(5)
    for v in rng.sample(HUMAN_V, 12):
        residues = "".join(v.regions[name] for name in V_REGIONS)
        at = rng.randrange(20, 80)
        chain = residues[rng.randrange(5) : at] + residues[at + 2 :]
        assert gapped_columns(chain, residues) in biopython_columns(chain, residues)


def test_names_are_sorted_with_numbers_by_value():
    assert natural_order(["IGHV3-9*01", "IGHV3-23*10", "IGHV3-23*02", "IGHV1-2*02", "IGHV3-9*01"]) == (
        "IGHV1-2*02",
        "IGHV3-9*01",
        "IGHV3-23*02",
        "IGHV3-23*10",
    )


# --- Species -------------------------------------------------------------------------------------


@pytest.mark.parametrize("of_species", [HUMAN_V, MOUSE_V], ids=["human", "mouse"])
def test_the_species_of_one_kind_of_chains_is_found(of_species):
    chains = [domain_of(v) for v in of_species]
    evidence = GermlineSet.load(None, None).infer_species(chains)
    assert evidence.species == of_species[0].species
    assert evidence.is_certain
    assert evidence.identities[evidence.species] > 0.99
    assert f"species: {evidence.species}" in evidence.describe()


def test_mixed_input_is_said_to_be_mixed():
    chains = [domain_of(v) for v in HUMAN_V[:60] + MOUSE_V[:30]]
    evidence = GermlineSet.load(None, None).infer_species(chains)
    assert evidence.is_mixed
    assert not evidence.is_certain
    assert "mixed: chains are nearest 60 to human, 30 to mouse; state --species" in evidence.describe()


def test_near_equal_species_are_said_to_be_near_equal():
    evidence = SpeciesEvidence.of({"human": [0.9, 0.9], "rhesus": [0.89, 0.9]})
    assert evidence.species == "human"
    assert not evidence.is_certain
    assert evidence.describe().endswith("the difference is small: state --species")


def test_without_chains_no_species_is_claimed_to_be_found():
    evidence = GermlineSet.load(None, None).infer_species([])
    assert not evidence.is_certain
    assert evidence.describe() == "species: human, as there are no variable domains to infer it from"


def test_all_calls_of_several_species_are_of_the_one_that_is_found():
    chains = [domain_of(v) for v in HUMAN_V[:20] + MOUSE_V[:3]]
    calls = GermlineSet.load(None, None).infer_all(chains)
    assert {call.species for call in calls} == {"human"}
    assert calls == HUMAN.infer_all(chains)


@pytest.mark.parametrize("spelling", ["human", "Human", "Homo sapiens", "homo_sapiens"])
def test_species_may_be_spelt_as_users_do(spelling):
    assert GermlineSet.load(None, spelling).species == ("human",)


def test_a_species_that_is_not_there_is_an_error_that_names_those_that_are():
    with pytest.raises(ParameterError, match="human, mouse") as caught:
        GermlineSet.load(None, "llama")
    assert caught.value.value == "llama"


# --- The shipped set -----------------------------------------------------------------------------


def test_shipped_genes_are_distinct_and_have_their_conserved_residues():
    germlines = bundled_germlines()
    assert merged(germlines) == germlines
    for one in germlines:
        assert one.names == natural_order(one.names)
        assert all(name.startswith(one.locus + one.segment) for name in one.names)
        if one.segment == "V":
            assert one.regions["fwr3"][-1] == "C"
            assert not one.regions["fwr4"]
        else:
            assert one.regions["fwr4"][0] in "WF"


def test_a_name_stands_for_one_protein_up_to_c104():
    proteins = {}
    for one in bundled_germlines():
        for name in one.names:
            parts = tuple(one.regions[region] for region in (*V_REGIONS, "fwr4"))
            assert proteins.setdefault((one.species, name), parts) == parts


def test_shipped_v_genes_are_cut_as_the_numberer_cuts_today():
    numberer = ImmunumNumberer()
    for one in bundled_germlines()[::7]:
        residues = "".join(one.regions.values())
        cut = v_regions(residues, one.locus, numberer) if one.segment == "V" else j_regions(residues)
        assert cut == dict(one.regions)


# --- Files ---------------------------------------------------------------------------------------

CODONS = {  # one of each residue
    "A": "GCT", "C": "TGT", "D": "GAT", "E": "GAA", "F": "TTT", "G": "GGT", "H": "CAT", "I": "ATT",
    "K": "AAA", "L": "CTG", "M": "ATG", "N": "AAT", "P": "CCT", "Q": "CAG", "R": "CGT", "S": "AGC",
    "T": "ACT", "V": "GTT", "W": "TGG", "Y": "TAT",
}  # fmt: skip


def nucleotides(residues):
    coding = "".join(CODONS[letter] for letter in residues)
    assert str(Seq(coding).translate()) == residues
    return coding


def some_genes():
    return [gene(name) for name in ("IGHV3-23*01", "IGKV1-5*03", "IGHJ4*02", "IGKJ1*01")]


def fasta_of(header, sequence):
    return "".join(
        f">{header.format(name=one.names[0])}\n{sequence(one, ''.join(one.regions.values()))}\n"
        for one in some_genes()
    )


IMGT = "X1|{name}|Homo sapiens|F|V-REGION|1..2|9 nt|1| | | | | | | |"
FILES = {
    "residues, plain name": fasta_of("{name}", lambda one, aa: aa),
    "residues, name and words": fasta_of("{name} Homo sapiens", lambda one, aa: aa),
    "nucleotides of OGRDB": fasta_of("{name}", lambda one, aa: nucleotides(aa)),
    "lower case, gaps": fasta_of(
        "{name}", lambda one, aa: nucleotides(aa[:8]).lower() + "..." + nucleotides(aa[8:]).lower()
    ),
    "nucleotides of IMGT": fasta_of(IMGT, lambda one, aa: nucleotides(aa) + "ag"),
    "J genes in another frame": fasta_of(
        "{name}", lambda one, aa: ("A" if one.segment == "J" else "") + nucleotides(aa)
    ),
    "abstar": fasta_of("{name}__homo_sapiens", lambda one, aa: nucleotides(aa)),
    "table": "segment\tspecies\tallele\taa\n"
    + "".join(f"V\thuman\t{one.names[0]}\t{''.join(one.regions.values())}\n" for one in some_genes()),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_of_every_form_give_the_same_genes(tmp_path, kind):
    path = tmp_path / "germlines.txt"
    path.write_text(FILES[kind], encoding="utf-8")
    germlines, left_out = read_germlines(path, "human")
    assert not left_out
    expected = [(one.names[0], "human", one.locus, one.segment, dict(one.regions)) for one in some_genes()]
    found = [(one.names[0], one.species, one.locus, one.segment, dict(one.regions)) for one in germlines]
    assert found == expected


def test_a_file_of_germlines_answers_as_the_shipped_set_does(tmp_path):
    path = tmp_path / "mine.fasta"
    path.write_text(FILES["nucleotides of OGRDB"], encoding="utf-8")
    call = GermlineSet.load(path, None).infer(domain_of(gene("IGHV3-23*01"), j=gene("IGHJ4*02")))
    assert (call.v_call, call.j_call, call.species) == ("IGHV3-23*01", "IGHJ4*02", "")
    assert GermlineSet.load(path, "Human").infer(domain_of(gene("IGHV3-23*01"))).species == "human"


@pytest.mark.parametrize(
    "header", ["{name} Mus musculus", "{name}__mus_musculus", "X|{name}|Mus musculus_C57|F"]
)
def test_a_header_that_names_the_species_is_believed(tmp_path, header):
    path = tmp_path / "mine.fasta"
    path.write_text(fasta_of(header, lambda one, aa: aa), encoding="utf-8")
    assert GermlineSet.load(path, None).species == ("mouse",)
    with pytest.raises(ParameterError, match=r"mine\.fasta: mouse"):
        GermlineSet.load(path, "human")


def test_genes_that_cannot_be_used_are_named_with_the_reason(tmp_path):
    path = tmp_path / "mine.fasta"
    text = (
        FILES["residues, plain name"]
        + ">IGHV9-9*01\nACDEFGH\n>IGHJ9*01\nAAAA\n>IGHD1-1*01\nGTTGT\n>IGHV8-8*01\n\n"
    )
    path.write_text(text, encoding="utf-8")
    assert GermlineSet.load(path, None).left_out == (
        ("IGHV9-9*01", "no variable domain up to a stop codon"),
        ("IGHJ9*01", "no J-motif without a stop codon"),
        ("IGHV8-8*01", "no sequence"),
    )


@pytest.mark.parametrize(
    ("text", "error", "reason"),
    [
        ("", FileFormatError, "is empty"),
        (">sp|P1\nMKTAYIAKQR\n", FileFormatError, "names no V gene"),
        (">IGHV1-2*02\nMKTAYIAKQR\n", FileFormatError, "no V gene that can be used"),
        (">IGHJ4*02\nYFDYWGQGTLVTVSS\n", FileFormatError, "no V gene that can be used"),
        ("name\tsequence\nIGHV1-2*02\tEVQ\n", TableFormatError, "has columns name, sequence"),
    ],
)
def test_a_file_without_germlines_is_an_error(tmp_path, text, error, reason):
    path = tmp_path / "mine.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(error, match=reason):
        GermlineSet.load(path, None)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(InputNotFoundError):
        GermlineSet.load(tmp_path / "absent.fasta", None)
