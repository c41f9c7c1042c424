"""Variable domains cut out of chains: places, regions and residues agree, whatever a domain is joined to."""

from __future__ import annotations

import pytest
from antibodies import CH1, LEADER, LINKER, NO_DOMAIN, SCFV, VH_2, VH_3
from hypothesis import given, settings
from hypothesis import strategies as st
from support import VH, VL

from plmsearch.domains import REGION_SETS, CutDomain, cut_domains, region_places
from plmsearch.ingest.domains import as_cut, as_stored, disagreements
from plmsearch.numbering import REGIONS, ImmunumNumberer

NUMBERER = ImmunumNumberer()
FRAMES = {
    "alone": ("", ""),
    "leader": (LEADER, ""),
    "CH1": ("", CH1),
    "leader and CH1": (LEADER, CH1),
    "CH1 alone before": ("GS", ""),
}


def consistent(residues: str, found: tuple[CutDomain, ...]) -> bool:
    """Whether numbers, places and regions of domains fit together and the residues they were cut from."""
    end = 0
    for number, domain in enumerate(found, start=1):
        assert domain.number == number
        assert end <= domain.start < domain.end <= len(residues)
        assert residues[domain.start : domain.end] == domain.residues
        assert ";" not in domain.residues
        assert "".join(domain.region(name) for name in REGIONS) == domain.residues == domain.region("whole")
        assert domain.region("cdrs") == "".join(domain.region(f"cdr{n}") for n in (1, 2, 3))
        assert domain.region("fwr") == "".join(domain.region(f"fwr{n}") for n in (1, 2, 3, 4))
        assert domain.junction[0] == "C" and domain.junction[-1] in "WF"
        assert domain.junction[1:-1] == domain.region("cdr3") != ""
        assert as_cut(as_stored(domain, source_id=1, sequence_id=2), residues) == domain
        end = domain.end
    return True


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize(("chain", "locus"), [(VH, "IGH"), (VL, "IGK"), (VH_2, "IGH")])
def test_a_domain_is_the_same_whatever_it_is_joined_to(chain, locus, frame):
    before, behind = FRAMES[frame]
    residues = before + chain + behind
    found = cut_domains(residues, NUMBERER)
    assert consistent(residues, found)
    (alone,) = cut_domains(chain, NUMBERER)
    (domain,) = found
    assert (domain.residues, domain.locus, domain.start) == (chain, locus, len(before))
    assert (domain.ends, domain.is_complete) == (alone.ends, True)


@pytest.mark.parametrize(
    ("residues", "wanted"),
    [
        (SCFV, [VH, VL]),
        (VL + LINKER + VH, [VL, VH]),
        (LEADER + SCFV + CH1, [VH, VL]),
        (f"{VH};{VL}", [VH, VL]),
        (f"{LEADER}{VL};{NO_DOMAIN};{VH_2}{CH1}", [VL, VH_2]),
        (f"{SCFV};{VH_3}", [VH, VL, VH_3]),
        (NO_DOMAIN, []),
        (f"{NO_DOMAIN};{NO_DOMAIN}", []),
    ],
)
def test_every_domain_of_a_record_is_found_in_order(residues, wanted):
    found = cut_domains(residues, NUMBERER)
    assert consistent(residues, found)
    assert [d.residues for d in found] == wanted
    for domain in found:
        (alone,) = cut_domains(domain.residues, NUMBERER)
        assert (domain.ends, domain.locus) == (alone.ends, alone.locus)


@pytest.mark.parametrize(
    ("cut", "is_complete"), [(slice(None), True), (slice(8, None), False), (slice(0, -4), False)]
)
def test_a_domain_that_is_cut_short_says_so(cut, is_complete):
    (domain,) = cut_domains(VH[cut], NUMBERER)
    assert consistent(VH[cut], (domain,))
    assert domain.is_complete == is_complete


def test_a_receptor_of_t_cells_is_no_antibody():
    tra = (
        "AQSVAQPEDQVNVAEGNPLTVKCTYSVSGNPYLFWYVQYPNRGLQFLLKYITGDNLVKGSYGFEAEFNKSQTSFHLKKPSALVSDSALYFCAVRDIN"
        "SGAGSYQLTFGKGTKLSVIP"
    )
    assert cut_domains(tra, NUMBERER) == ()


@settings(max_examples=30)
@given(
    parts=st.lists(
        st.sampled_from([VH, VL, VH_2, NO_DOMAIN, LINKER, LEADER, CH1, ";", VH[:70], VL[40:]]), max_size=5
    )
)
def test_whatever_is_joined_places_and_residues_agree(parts):
    residues = "".join(parts)
    found = cut_domains(residues, NUMBERER)
    assert consistent(residues, found)
    whole = [part for part in "".join(parts).split(";") if part in (VH, VL, VH_2)]
    assert len(found) >= len(whole)


@given(lengths=st.lists(st.integers(0, 9), min_size=7, max_size=7), name=st.sampled_from(list(REGION_SETS)))
def test_places_of_a_region_set_are_those_of_its_regions(lengths, name):
    ends, wanted = [], ""
    letters = "".join(letter * n for letter, n in zip("abcdefg", lengths, strict=True))
    for n in lengths:
        ends.append((ends[-1] if ends else 0) + n)
    for region in REGION_SETS[name]:
        wanted += "abcdefg"[REGIONS.index(region)] * lengths[REGIONS.index(region)]
    places = region_places(ends, name)
    assert "".join(letters[start:end] for start, end in places) == wanted
    assert all(end > start for start, end in places)


def test_values_of_an_input_that_numbering_does_not_give_are_named():
    (cut,) = cut_domains(VH, NUMBERER)
    domains = [as_stored(cut, source_id=1, sequence_id=1)]
    right = {
        "locus": "IGH",
        "cdr3_aa": cut.region("cdr3"),
        "junction_aa": cut.junction.lower(),
        "v_call": "x",
    }
    assert disagreements(right, VH, domains) == []
    assert disagreements({**right, "locus": "IGK", "cdr1_aa": "G"}, VH, domains) == ["locus", "cdr1_aa"]
    assert disagreements({"locus": ""}, VH, domains) == disagreements({"locus": "IGK"}, VH, []) == []
    both = [as_stored(c, source_id=1, sequence_id=1) for c in cut_domains(SCFV, NUMBERER)]
    assert disagreements({"locus": "IGK"}, SCFV, both) == []
