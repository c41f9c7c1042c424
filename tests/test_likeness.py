"""How alike query and hit are, against what the numberer, plain Python and numpy say of the two chains."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import VH, VL, cli, make_db, write_fasta

from plmsearch.database import open_database
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.formats.fasta import read_fasta
from plmsearch.formats.hits import DEFAULT_HIT_COLUMNS, DOMAIN_HIT_COLUMNS, with_domain
from plmsearch.germlines.genes import GermlineSet
from plmsearch.ingest.report import AddOptions, GeneOptions
from plmsearch.ingest.scan import RecordList
from plmsearch.numbering import REGIONS, ImmunumNumberer
from plmsearch.search.hits import SearchOptions
from plmsearch.search.likeness import COSINE_COLUMNS
from plmsearch.sequences import SequenceRecord

REQUEST = SpaceRequest("kmer", preset="antibody", weights="whole=0.3,cdr3=0.7")
HEAVY = [r.sequence for r in read_fasta("examples/heavy.fasta", "heavy.fasta")][:8]
#: Two residues put into CDR3, one mutated in FWR3, the first six cut off.
CHANGED = [HEAVY[0].replace("CA", "CAGG", 1), HEAVY[0].replace("YYC", "YFC", 1), HEAVY[0][6:]]
RECORDS = [
    *(SequenceRecord(f"h{i}", s, "", {"donor": f"d{i % 3}"}) for i, s in enumerate([*HEAVY, *CHANGED])),
    SequenceRecord("called", VH, "", {"v_call": "IGHV1-69*01,IGHV1-69D*01", "subject_id": "s", "donor": "x"}),
    SequenceRecord("scfv", VL + "GGGGSGGGGSGGGGS" + HEAVY[3]),
    SequenceRecord("light", VL),
]
BY_ID = {record.record_id: record for record in RECORDS}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    place = tmp_path_factory.mktemp("likeness") / "db"
    with open_database(place, create=True) as db:
        db.add_inputs([RecordList(RECORDS)], request=REQUEST)
    return place


@pytest.fixture(scope="module")
def db(path):
    with open_database(path) as opened:
        yield opened


def regions_of(residues):
    return [dict(d.regions) for d in ImmunumNumberer().domains(residues, ("IG",))]


def hits(path, query, columns):
    """Of every locus, for the columns are of light chains beside heavy ones too."""
    found = cli(
        "query", path, "--seq", query, "-k", 50, "--across-loci", "--format-output", ",".join(columns)
    )
    return [dict(zip(columns, row, strict=True)) for row in found.rows]


# --- Residues ------------------------------------------------------------------------------------


def edits(first, second):
    """Levenshtein's distance, by its definition."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, start=1):
        before, row[0] = row[0], i
        for j, b in enumerate(second, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


@pytest.mark.parametrize("query", [HEAVY[0], HEAVY[3], CHANGED[0], VL])
def test_regions_are_compared_letter_by_letter_or_by_edit_distance(path, query):
    names = [f"{region}_identity" for region in REGIONS]
    (own,) = regions_of(query)
    for hit in hits(path, query, ["target", "domain", *names, "v_region_identity"]):
        other = regions_of(BY_ID[hit["target"]].sequence)[int(hit["domain"]) - 1]
        n_longest = {r: max(len(own[r]), len(other[r])) for r in REGIONS if own[r] and other[r]}
        n_same = {}
        for r in n_longest:
            is_long = len(own[r]) == len(other[r])
            n_changes = sum(map(str.__ne__, own[r], other[r])) if is_long else edits(own[r], other[r])
            n_same[r] = n_longest[r] - n_changes
        expected = [f"{n_same[r] / n_longest[r]:.3f}" if r in n_longest else "" for r in REGIONS]
        assert [hit[name] for name in names] == expected
        of_v = [r for r in n_longest if r not in {"cdr3", "fwr4"}]
        share = sum(n_same[r] for r in of_v) / sum(n_longest[r] for r in of_v)
        assert float(hit["v_region_identity"]) == pytest.approx(share, abs=6e-4)


def test_a_chain_is_alike_itself_in_every_region(path):
    columns = [f"{region}_identity" for region in (*REGIONS, "v_region")]
    assert set(hits(path, HEAVY[1], columns)[0].values()) == {"1.000"}


# --- Genes ---------------------------------------------------------------------------------------


def genes(residues, segment):
    """Genes that the germlines say, of each domain."""
    calls = GermlineSet.load(None, "human").infer_all(ImmunumNumberer().domains(residues, ("IG",)))
    return [{c.partition("*")[0] for c in getattr(call, f"{segment}_call").split(",")} for call in calls]


@pytest.mark.parametrize("query", [HEAVY[0], HEAVY[3], VL])
def test_genes_are_the_same_if_they_share_one(path, query):
    for hit in hits(path, query, ["target", "domain", "same_v", "same_j"]):
        at = int(hit["domain"]) - 1
        for segment in "vj":
            (own,), other = genes(query, segment), genes(BY_ID[hit["target"]].sequence, segment)[at]
            if hit["target"] == "called" and segment == "v":
                other = {"IGHV1-69", "IGHV1-69D"}
            assert hit[f"same_{segment}"] == str(not own.isdisjoint(other)).lower()


def test_calls_of_the_query_come_before_what_its_residues_say(path, tmp_path):
    table = tmp_path / "queries.tsv"
    rows = [("q1", VH, "IGHV1-69D*01"), ("q2", VH, "IGHV5-51*01,IGHV1-69*02"), ("q3", VH, "IGHV5-51*01")]
    lines = ["sequence_id\tsequence_aa\tv_call", *("\t".join(row) for row in rows)]
    table.write_text("\n".join(lines) + "\n")
    found = cli("query", path, table, "--where", "record_id = 'called'", "--format-output", "query,same_v")
    assert found.rows == [["q1", "true"], ["q2", "true"], ["q3", "false"]]


def test_stored_queries_have_their_calls_and_genes_too(path):
    for name, expected in (("called", "true"), ("h0", "false")):
        found = cli(
            "query", path, "--id", name, "--where", "record_id = 'called'", "--format-output", "same_v"
        )
        assert found.rows == [[expected]]
    everything = cli("query", path, path, "-k", 1, "--format-output", "query,same_v,same_j")
    assert {row[1] for row in everything.rows if row[0] == "called"} == {"true"}


def test_what_nobody_knows_is_empty(tmp_path):
    no_genes = AddOptions(genes=GeneOptions(infer=False))
    with open_database(tmp_path / "db", create=True) as db:
        db.add_inputs([RecordList(RECORDS[:2])], request=REQUEST, options=no_genes)
    (first, *_) = hits(tmp_path / "db", HEAVY[0], ["same_v", "same_j", "cosine_fwr", "v_identity_aa"])
    assert set(first.values()) == {""}
    whole = make_db(tmp_path / "whole", RECORDS[:2])
    columns = ["fwr1_identity", "v_region_identity", "cdr3_identity", "same_v", "cosine_cdr3"]
    assert set(hits(whole, HEAVY[0], columns)[0].values()) == {""}


def test_the_donor_is_that_of_the_input(path, tmp_path):
    found = {hit["target"]: hit["donor"] for hit in hits(path, VH, ["target", "donor"])}
    assert (found["called"], found["h4"], found["light"]) == ("x", "d1", "")
    rows = [SequenceRecord("a", VH, "", {"subject_id": "s1"})]
    other = make_db(tmp_path / "db", rows)
    assert hits(other, VH, ["target", "donor"]) == [{"target": "a", "donor": "s1"}]


# --- Vectors -------------------------------------------------------------------------------------


def unit(db, names, region):
    space = "kmer/1/whole/mean/domain" if region == "whole" else f"kmer/1/{region}/mean"
    vectors = db.vectors(names, space=space).astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@settings(max_examples=15)
@given(name=st.sampled_from([r.record_id for r in RECORDS if r.record_id != "scfv"]), k=st.integers(1, 15))
def test_the_score_is_the_mean_of_the_cosines_by_weight(db, name, k):
    options = SearchOptions(k=k, cosines=True)
    (query, found), *_ = db.search_stored([name], db.ranking(), options)
    names = [f"{hit.target}#{hit.domain.number}" for hit in found]
    for region in ("whole", "cdr3"):
        expected = unit(db, names, region) @ unit(db, [name], region)[0]
        np.testing.assert_allclose([hit.cosines[region] for hit in found], expected, atol=1e-6)
    means = [0.3 * hit.cosines["whole"] + 0.7 * hit.cosines["cdr3"] for hit in found]
    np.testing.assert_allclose([hit.score for hit in found], means, atol=1e-6)
    assert query.query_id == name


def test_cosines_are_there_however_one_searches(path):
    columns = "query,target,score,cosine_whole,cosine_cdr3,cosine_fwr"
    searches = [
        ("--seq", HEAVY[0]),
        ("--id", "h0"),
        ("--seq", HEAVY[0], "--threshold", "-1"),
        ("--seq", HEAVY[0], "--rerank", "align"),
        (path,),
    ]
    for search in searches:
        found = cli("query", path, *search, "--format-output", columns)
        assert found.code == 0
        for row in found.rows:
            assert 0.3 * float(row[3]) + 0.7 * float(row[4]) == pytest.approx(float(row[2]), abs=3e-6)
            assert row[5] == ""
    one = cli("query", path, "--id", "h0", "--space", "kmer/1/cdr3/mean", "--format-output", columns)
    assert all(row[4] == row[2] for row in one.rows)


def test_cosines_are_not_computed_unless_they_are_asked_for(db):
    (_, found), *_ = db.search_stored(["h0"], db.ranking(), SearchOptions())
    assert {hit.cosines for hit in found} == {None}


# --- What is written -----------------------------------------------------------------------------


def test_domains_are_shown_with_their_cdr3_and_whether_v_is_the_same(path, tmp_path):
    fasta = write_fasta(tmp_path / "q.fasta", [("q", HEAVY[0])])
    found = cli("query", path, fasta, "-k", 1)
    assert tuple(found.out.splitlines()[0].split("\t")) == with_domain(DEFAULT_HIT_COLUMNS)
    (row,) = found.rows
    assert row[7:10] == [regions_of(HEAVY[0])[0]["cdr3"], "1.000", "true"]
    assert DOMAIN_HIT_COLUMNS == ("cdr3_aa", "cdr3_identity", "same_v")


def test_numbers_and_truths_keep_their_types(path, tmp_path):
    out = tmp_path / "hits.parquet"
    columns = "same_v,same_j,v_region_identity,fwr2_identity,cosine_whole,donor"
    cli("query", path, "--id", "h0", "--format", "parquet", "-o", out, "--format-output", columns)
    kinds = [pl.Boolean, pl.Boolean, pl.Float64, pl.Float64, pl.Float64, pl.String]
    assert pl.read_parquet(out).dtypes == kinds
    assert set(COSINE_COLUMNS) == {f"cosine_{r}" for r in (*REGIONS, "whole", "cdrs", "fwr")}
