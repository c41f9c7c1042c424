import csv
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plmsearch.numbering import (
    REGIONS,
    ImmunumNumberer,
    is_antibody,
    is_t_cell_receptor,
)

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"

# Trastuzumab (Carter et al. 1992, doi:10.1073/pnas.89.10.4285), with the IMGT regions of each chain.
HEAVY = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
    "SRWGGDGFYAMDYWGQGTLVTVSS"
)
KAPPA = (
    "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYYCQQHYTTPP"
    "TFGQGTKVEIK"
)
HEAVY_REGIONS = (
    "EVQLVESGGGLVQPGGSLRLSCAAS",
    "GFNIKDTY",
    "IHWVRQAPGKGLEWVAR",
    "IYPTNGYT",
    "RYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC",
    "SRWGGDGFYAMDY",
    "WGQGTLVTVSS",
)
LAMBDA = (
    "QSALTQPASVSGSPGQSITISCTGTSSDVGGYNYVSWYQQHPGKAPKLMIYEVSNRPSGVSNRFSGSKSGNTASLTISGLQAEDEADYYC"
    "SSYTSSSTLVFGGGTKLTVL"
)
# Beta chain of the receptor JM22 (PDB 1OGA): a variable domain by every rule, but no antibody.
TRB = (
    "DGGITQSPKYLFRKEGQNVTLSCEQNLNHDAMYWYRQDPGQGLRLIYYSQIVNDFQKGDIAEGYSVSREKKESFPLTVTSAQKNPTAFYLC"
    "ASSIRSSYEQYFGPGTRLTVT"
)
UBIQUITIN = "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG"
LINKER = "GGGGSGGGGSGGGGS"

NUMBERER = ImmunumNumberer()


def assert_well_formed(residues, domains):
    at = 0
    for domain in domains:
        assert at <= domain.start < domain.end <= len(residues)
        assert tuple(domain.regions) == REGIONS
        assert "".join(domain.regions.values()) == residues[domain.start : domain.end]
        assert domain.regions["cdr3"]
        anchors = domain.regions["fwr3"][-1].upper(), domain.regions["fwr4"][0].upper()
        assert anchors[0] == "C" or anchors[1] in "WF"
        assert 0 <= domain.confidence <= 1
        at = domain.end


# --- Domains -------------------------------------------------------------------------------------


def test_a_heavy_chain_is_cut_into_its_imgt_regions():
    (domain,) = NUMBERER.domains(HEAVY)
    assert (domain.locus, domain.start, domain.end) == ("IGH", 0, len(HEAVY))
    assert tuple(domain.regions.values()) == HEAVY_REGIONS


@pytest.mark.parametrize(
    ("residues", "locus", "cdr3"), [(KAPPA, "IGK", "QQHYTTPPT"), (LAMBDA, "IGL", "SSYTSSSTLV")]
)
def test_light_chains_are_told_apart(residues, locus, cdr3):
    (domain,) = NUMBERER.domains(residues)
    assert (domain.locus, domain.regions["cdr3"]) == (locus, cdr3)
    assert_well_formed(residues, [domain])


def test_a_single_chain_fv_has_two_domains_in_order_of_place():
    residues = KAPPA + LINKER + HEAVY + "HHHHHH"
    domains = NUMBERER.domains(residues)
    assert [d.locus for d in domains] == ["IGK", "IGH"]
    assert (domains[0].start, domains[0].end) == (0, len(KAPPA))
    assert (domains[1].start, domains[1].end) == (len(KAPPA + LINKER), len(KAPPA + LINKER + HEAVY))
    assert_well_formed(residues, domains)


def test_lower_case_is_read_and_given_back_as_it_came():
    (domain,) = NUMBERER.domains(HEAVY.lower())
    assert tuple(domain.regions.values()) == tuple(region.lower() for region in HEAVY_REGIONS)


@pytest.mark.parametrize("letter", "XBZUOJ*?-é\0 1")
def test_any_character_inside_a_domain_is_read_as_an_unknown_residue(letter):
    residues = HEAVY[:12] + letter + HEAVY[13:]
    (domain,) = NUMBERER.domains(residues)
    assert (domain.start, domain.end) == (0, len(residues))
    assert domain.regions["fwr1"] == residues[:25]


@pytest.mark.parametrize("n", [9_000, 9_400, 9_600, 9_990, 10_000, 19_100, 25_000])
def test_a_domain_is_found_once_wherever_it_is_in_a_very_long_chain(n):
    residues = "GS" * (n // 2) + HEAVY + "GS" * 500 + KAPPA
    domains = NUMBERER.domains(residues)
    assert [d.locus for d in domains] == ["IGH", "IGK"]
    assert tuple(domains[0].regions.values()) == HEAVY_REGIONS
    assert domains[1].end == len(residues)


# --- What counts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "residues"),
    [
        ("C104 and C23", HEAVY.replace("YYCSR", "YYYSR").replace("RLSCAAS", "RLSYAAS")),
        ("C104 and W118", HEAVY.replace("YYCSR", "YYYSR").replace("DYWGQG", "DYGGQG")),
        ("W118 and T122", HEAVY.replace("DYWGQGT", "DYGGQGA")),
        ("the J gene", HEAVY[: HEAVY.index("WGQG")]),
        ("the CDR3 and what follows", HEAVY[: HEAVY.index("SRWGG")]),
    ],
)
def test_a_domain_without_an_anchor_of_the_cdr3_does_not_count(name, residues):
    assert NUMBERER.domains(residues) == ()


@pytest.mark.parametrize(
    "residues",
    [HEAVY.replace("YYCSR", "YYFSR"), HEAVY.replace("DYWGQG", "DYRGQG")],
    ids=["C104", "W118"],
)
def test_one_anchor_may_be_another_residue_if_all_the_others_are_in_place(residues):
    (domain,) = NUMBERER.domains(residues)
    assert (domain.locus, domain.regions["cdr3"]) == ("IGH", HEAVY_REGIONS[5])


LEADER = "MEFGLSWLFLVAILKGVQC"
CH1 = "ASTKGPSVFPLAPSSKSTSGGTAALGCLVKDYFPEPVTVSWNSGALTSGVHTFPAVLQSSGLYSLSSVVTVPSSSLGTQTYICNVNHKPSNTKVDKKV"


@pytest.mark.parametrize("residues", [HEAVY, HEAVY[1:], HEAVY[:-1], HEAVY[1:-2]])
@pytest.mark.parametrize("before", ["", LEADER])
@pytest.mark.parametrize("after", ["", CH1])
def test_a_domain_is_the_same_alone_and_between_leader_and_constant_domain(residues, before, after):
    chain = before + residues + after
    (domain,) = NUMBERER.domains(chain)
    assert chain[domain.start : domain.end] == residues
    assert domain.is_complete == (residues == HEAVY)


#: Chains that end otherwise than a J gene, or within one, and what is left of them.
ODD_ENDS = {
    HEAVY[:-4] + "TSP": HEAVY[:-4] + "T",
    HEAVY[:-4] + "TLL": HEAVY[:-4] + "T",
    HEAVY[:-4] + "TAP": HEAVY[:-4] + "T",
    HEAVY[:-2]: HEAVY[:-2],
}


@pytest.mark.parametrize(("residues", "domain_residues"), ODD_ENDS.items())
@pytest.mark.parametrize("after", ["", LINKER + KAPPA, CH1])
def test_fwr4_ends_with_a_residue_that_j_genes_have_there(residues, domain_residues, after):
    domain = NUMBERER.domains(residues + after)[0]
    assert (residues + after)[domain.start : domain.end] == domain_residues
    assert not domain.is_complete


def test_a_domain_that_ends_in_the_j_gene_takes_nothing_of_a_linker_that_begins_like_it():
    residues = HEAVY[: HEAVY.index("WGQG") + 2]
    domain = NUMBERER.domains(residues + LINKER + KAPPA)[0]
    assert (domain.start, domain.end) == (0, len(residues))


@pytest.mark.parametrize("tail", ["", "RTVAAPSVFIFPPSDEQLKSGT", LINKER + HEAVY, "HHHHHH"])
@pytest.mark.parametrize("end", ["K", "R", "", "T"])
def test_a_kappa_domain_ends_with_a_lysine_or_before_it(end, tail):
    chain = KAPPA[:-1] + end + tail
    domain = NUMBERER.domains(chain)[0]
    assert chain[domain.start : domain.end] == (KAPPA if end == "K" else KAPPA[:-1])
    assert domain.is_complete == (end == "K")


@pytest.mark.parametrize("n_missing", range(20))
@pytest.mark.parametrize("chain", [KAPPA, LAMBDA, HEAVY], ids=["IGK", "IGL", "IGH"])
def test_no_residue_of_a_linker_is_taken_for_the_start_of_a_domain(chain, n_missing):
    shortened = chain[n_missing:]
    (alone,) = NUMBERER.domains(shortened)
    before = HEAVY if chain != HEAVY else KAPPA
    behind = NUMBERER.domains(before + LINKER + shortened)[1]
    start = len(before + LINKER)
    assert (behind.start - start, behind.end - start) == (alone.start, alone.end)


def test_a_domain_without_its_end_is_found_in_front_of_a_linker():
    chain = KAPPA[: KAPPA.index("FGQG") + 4] + LINKER + HEAVY
    light, heavy = NUMBERER.domains(chain)
    assert (light.locus, heavy.locus) == ("IGK", "IGH")
    assert not light.is_complete
    assert heavy.is_complete


def test_a_chain_without_its_first_residues_still_counts():
    (domain,) = NUMBERER.domains(HEAVY[20:])
    assert "".join(domain.regions.values()) == HEAVY[20:]
    assert domain.regions["cdr3"] == HEAVY_REGIONS[5]


def test_a_heavily_mutated_domain_counts_if_all_four_anchors_are_in_place():
    mutated = (  # SIMULATED: half of the framework residues differ from any germline gene
        "DVGLAESGEGAVQPKDLLSLPCIVKRLVLNNCDGHWNRRIREKGPKWYSIIHCEVIKTYNTYSVKGKFTISRDYSKRTLYSGMNGLRVVDLVLYNC"
        "VNTCRYYWNQHYTDVWDSGKTVVASR"
    )
    (domain,) = NUMBERER.domains(mutated)
    assert (domain.locus, domain.regions["cdr3"]) == ("IGH", "VNTCRYYWNQHYTDV")
    assert domain.confidence < 0.5 and is_antibody(mutated) and not is_t_cell_receptor(mutated)
    beside = NUMBERER.domains(mutated + LINKER + KAPPA)
    assert [d.locus for d in beside] == ["IGH", "IGK"]
    assert beside[0].regions["cdr3"] == domain.regions["cdr3"]
    without = mutated.replace("DGHWNRR", "DGHANRR").replace("DVWDS", "DVADS")
    assert NUMBERER.domains(without) == ()


def test_a_t_cell_receptor_is_a_domain_but_no_antibody():
    (domain,) = NUMBERER.domains(TRB)
    assert (domain.locus, domain.regions["cdr3"]) == ("TRB", "ASSIRSSYEQY")
    assert NUMBERER.domains(TRB, ("IG",)) == ()
    assert is_t_cell_receptor(TRB)
    assert not is_antibody(TRB)


@pytest.mark.parametrize(
    ("chain", "cdr3"),
    [
        (
            "KEVEQNSGPLSVPEGAIASLNCTYSDRGSQSFFWYRQYSGKSPELIMFIYSNGDKEDGRFTAQLNKASQYVSLLIRDSQPSDSATYLCAVTTDSWGKLQF"
            "GAGTQVVVTPD",
            "AVTTDSWGKLQ",
        ),
        (
            "KQEVTQIPAALSVPEGENLVLNCSFTDSAIYNLQWFRQDPGKGLTSLLLIQSSQREQTSGRLNASLDKSSGRSTLYIAASQPGDSATYLCAVRPTSGGSYI"
            "PTFGRGTSLIVHPY",
            "AVRPTSGGSYIPT",
        ),
        (
            "GEDVEQSLFLSVREGDSSVINCTYTDSSSTYLYWYKQEPGAGLQLLTYIFSNMDMKQDQRLTVLLNKKDKHLSLRIADTQTGDSAIYFCAVSGGSQGNLIF"
            "GKGTKLSVKPN",
            "AVSGGSQGNLI",
        ),
    ],
)
def test_an_alpha_chain_is_found_wherever_immunum_puts_its_fwr4(chain, cdr3):
    (domain,) = NUMBERER.domains(chain, ("TR",))
    assert (domain.locus, domain.regions["cdr3"]) == ("TRA", cdr3)
    assert domain.regions["fwr4"][0] == "F"
    assert "".join(domain.regions.values()) == chain[domain.start : domain.end]
    assert is_t_cell_receptor(chain) and not is_antibody(chain)


def test_an_antibody_is_never_called_a_t_cell_receptor():
    assert [d.locus for d in NUMBERER.domains(HEAVY, ("IG", "TR"))] == ["IGH"]
    assert not any(map(is_t_cell_receptor, (HEAVY, KAPPA, LAMBDA)))


@pytest.mark.parametrize("residues", ["", "C", "EVQL", "X" * 500, "ACGT" * 100, UBIQUITIN, UBIQUITIN * 200])
def test_other_proteins_and_odd_lengths_have_no_domain(residues):
    assert NUMBERER.domains(residues) == ()
    assert not is_antibody(residues)


def test_another_numberer_can_be_put_in():
    class Nothing:
        def domains(self, residues, receptors=("IG", "TR")):
            return ()

        def describe(self):
            return "nothing"

    assert is_antibody(HEAVY)
    assert not is_antibody(HEAVY, Nothing())


def test_region_bounds_are_those_of_the_tool():
    immunum = pytest.importorskip("immunum")
    from plmsearch import numbering

    bounds = immunum.regions_for("imgt", "H").values()
    assert tuple(end for _, end in bounds) == numbering._REGION_ENDS


def test_the_description_names_scheme_tool_and_version():
    immunum = pytest.importorskip("immunum")
    assert NUMBERER.describe() == f"IMGT immunum {immunum.__version__}"


# --- Properties ----------------------------------------------------------------------------------

LETTERS = "ACDEFGHIKLMNPQRSTVWYXBZUOJ*-"


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([HEAVY, KAPPA, LAMBDA, TRB, HEAVY + LINKER + KAPPA]),
    st.lists(st.tuples(st.integers(0, 260), st.integers(0, 8), st.text(LETTERS, max_size=12)), max_size=6),
    st.text(max_size=30),
)
def test_regions_join_to_the_domain_whatever_became_of_the_chain(chain, edits, tail):
    for at, n_removed, inserted in edits:
        chain = chain[:at] + inserted + chain[at + n_removed :]
    assert_well_formed(chain + tail, NUMBERER.domains(chain + tail))


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet=LETTERS, max_size=150), st.text(alphabet=LETTERS, max_size=40))
def test_a_domain_is_found_between_any_flanks(before, after):
    residues = before + HEAVY + after
    domains = NUMBERER.domains(residues)
    assert_well_formed(residues, domains)
    assert HEAVY_REGIONS[5] in [d.regions["cdr3"] for d in domains]


# --- Real data -----------------------------------------------------------------------------------


def read_column(column, n):
    path = DATA / "antibodies" / "sars2_paired.tsv"
    if not path.exists():
        pytest.skip(f"the antibody set {path} is not on this machine")
    with path.open(encoding="utf-8", newline="") as handle:
        distinct = sorted({row[column] for row in csv.DictReader(handle, delimiter="\t")})
    return random.Random(0).sample(distinct, n)


def read_proteins(name):
    path = DATA / "proteins" / name
    if not path.exists():
        pytest.skip(f"the protein set {path} is not on this machine")
    entries = path.read_text("utf-8").split(">")[1:]
    return ["".join(entry.split("\n")[1:]) for entry in entries]


@pytest.mark.parametrize(
    ("column", "loci", "j_motif"), [("VH", {"IGH"}, "WG.GT.VTVS"), ("VL", {"IGK", "IGL"}, "FG.GT.[LV]...")]
)
def test_real_chains_with_a_whole_j_gene_are_recognised(column, loci, j_motif):
    # Of all 5,412 heavy and 5,192 light chains 97.5% and 97.3% are recognised. Nearly all the others
    # end before position 118; of those with the end of a J gene at most 1 in 200 is missed here.
    chains = read_column(column, 1000)
    found = {residues: NUMBERER.domains(residues, ("IG",)) for residues in chains}
    whole = [residues for residues in chains if re.search(j_motif, residues[-13:])]
    assert len(whole) > 500
    assert sum(bool(found[residues]) for residues in whole) >= 0.995 * len(whole)
    assert sum(map(bool, found.values())) >= 0.96 * len(chains)
    assert {d.locus for domains in found.values() for d in domains} == loci
    for residues, domains in found.items():
        assert_well_formed(residues, domains)


@pytest.mark.parametrize("name", ["scope40_dev_small.fasta", "pfam_max50.fasta"])
def test_no_protein_of_scope_or_pfam_counts_as_an_antibody(name):
    proteins = random.Random(0).sample(read_proteins(name), 1000)
    assert [residues for residues in proteins if is_antibody(residues)] == []
