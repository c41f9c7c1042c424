"""Gene names in the spellings of IMGT, OGRDB, IgBLAST and 10x."""

from __future__ import annotations

import csv
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plmsearch.genes import call_families, call_genes, call_isotypes, call_locus


@pytest.mark.parametrize(
    ("call", "genes"),
    [
        ("IGHV1-2*02", ("IGHV1-2",)),
        ("IGHV1-2", ("IGHV1-2",)),
        ("Homsap IGHV3-11*05 F", ("IGHV3-11",)),
        ("Homsap IGHV3-30*18 F, or Homsap IGHV3-30-5*01 F", ("IGHV3-30", "IGHV3-30-5")),
        ("IGHV1-69*01,IGHV1-69D*01,IGHV1-69*12", ("IGHV1-69", "IGHV1-69D")),
        ("IGHVF6-G21*09", ("IGHVF6-G21",)),
        ("IGHV1/OR15-1*01", ("IGHV1/OR15-1",)),
        ("TRAV14/DV4*02", ("TRAV14/DV4",)),
        ("IGHJ6", ("IGHJ6",)),
        ("IGHV1-69*09_t49g_g54a", ("IGHV1-69",)),
        ("ighv1-69*01,ighv1-69d*01", ("IGHV1-69", "IGHV1-69D")),
        ("Ighv1-18, Ighv1-18-26", ("IGHV1-18", "IGHV1-18-26")),
        ("homsap ighv3-11*05 f, or homsap ighv3-11*06 f", ("IGHV3-11",)),
        ("ighvf6-g21*09", ("IGHVF6-G21",)),
        ("trav14/dv4*02", ("TRAV14/DV4",)),
        ("ighv(ii)-20-1", ("IGHV(II)-20-1",)),
        ("IGHV3-30-3a*01", ("IGHV3-30-3a",)),
        ("traditional, tradvantage 3, nightdive2", ()),
        ("", ()),
        ("None", ()),
        ("unmapped", ()),
    ],
)
def test_every_listed_gene_is_named_once(call, genes):
    assert call_genes(call) == genes


@pytest.mark.parametrize(
    ("call", "families", "locus"),
    [
        ("IGHV3-30-3*01,IGHV3-33*01", ("IGHV3",), "IGH"),
        ("IGHV1/OR15-1*01", ("IGHV1",), "IGH"),
        ("IGHVF6-G21*09", ("IGHVF6",), "IGH"),
        ("TRBV7-9*01", ("TRBV7",), "TRB"),
        ("Homsap IGKV1D-39*01 F", ("IGKV1",), "IGK"),
        ("ighv1-69*01", ("IGHV1",), "IGH"),
        ("trbv7-9*01", ("TRBV7",), "TRB"),
        ("igkc", (), "IGK"),
        ("contract, high", (), ""),
        ("", (), ""),
    ],
)
def test_family_and_locus_come_from_the_name(call, families, locus):
    assert call_families(call) == families
    assert call_locus(call) == locus


def test_a_family_selects_the_rows_that_list_any_of_its_genes(shared_data):
    with gzip.open(shared_data / "clones" / "ExampleDb.tsv.gz", "rt") as file:
        calls = [row["v_call"] for row in csv.DictReader(file, delimiter="\t")]
    assert sum("IGHV1" in call_families(call) for call in calls) == 208


# --- Isotypes ------------------------------------------------------------------------------------

CONSTANT_GENES = [
    *("IGHM", "IGHD", "IGHE", "IGHA", "IGHA1", "IGHA2", "IGHG", "IGHG1", "IGHG2", "IGHG3", "IGHG4", "IGHGP"),
    *("IGHG2A", "IGHG2B", "IGHG2C", "IGKC", "IGLC1", "IGLC2", "IGLC7", "TRAC", "TRBC1", "TRBC2", "TRDC"),
]
D_GENES = ["IGHD3-10", "IGHD1-1", "IGHD6-6", "IGHD1/OR15-1A", "IGHD2-15"]
OTHER_GENES = ["IGHV3-23", "IGHJ4", "IGKV1-39", "IGLJ2", "TRBV20-1", "TRBD1", "IGHVF6-G21", *D_GENES]


@pytest.mark.parametrize(
    ("call", "isotypes"),
    [
        ("IGHG1", ("IGHG1",)),
        ("IGHG1*01", ("IGHG1",)),
        ("Homsap IGHA1*01 F", ("IGHA1",)),
        ("Homsap IGHG1*01 F, or Homsap IGHG2*01 F", ("IGHG1", "IGHG2")),
        ("IGHM*01,IGHM*03", ("IGHM",)),
        ("IGHD*02", ("IGHD",)),
        ("Musmus IGHG2B*02 F", ("IGHG2B",)),
        ("IgG1", ("IGHG1",)),
        ("IgM|IgD", ("IGHM", "IGHD")),
        ("IGHG", ("IGHG",)),
        ("Ighg2c", ("IGHG2C",)),
        ("", ()),
        ("None", ()),
        ("Bulk", ()),
    ],
)
def test_constant_genes_are_read_in_every_spelling(call, isotypes):
    assert call_isotypes(call) == isotypes


def spelt(names, style):
    """A call as IMGT, IgBLAST or 10x writes it."""
    if style == "imgt":
        return ", or ".join(f"Homsap {name}*01 F" for name in names)
    return ",".join(f"{name}*01" if style == "igblast" else name for name in names)


@given(
    names=st.lists(st.sampled_from([*CONSTANT_GENES, *OTHER_GENES]), max_size=6),
    style=st.sampled_from(["imgt", "igblast", "10x"]),
)
def test_a_list_gives_exactly_its_constant_genes_and_its_v_d_and_j_genes(names, style):
    call = spelt(names, style)
    distinct = list(dict.fromkeys(names))
    assert call_isotypes(call) == tuple(name for name in distinct if name in CONSTANT_GENES)
    assert call_genes(call) == tuple(name for name in distinct if name in OTHER_GENES)


@given(st.text(max_size=40))
def test_any_text_gives_names_that_stand_in_it(call):
    for name in call_genes(call):
        assert name in call
    for name in call_isotypes(call):
        assert name in CONSTANT_GENES or name.startswith(("IGH", "IGLC", "TRBC", "TRGC"))
