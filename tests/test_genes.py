"""Gene names in the spellings of IMGT, OGRDB, IgBLAST and 10x."""

from __future__ import annotations

import csv
import gzip

import pytest

from plmsearch.genes import call_families, call_genes, call_locus


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
