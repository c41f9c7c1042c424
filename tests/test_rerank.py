"""Hits re-ranked by alignment: which, in what order, with what E-value, and what cannot be aligned."""

from __future__ import annotations

import io
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from Bio import SearchIO
from Bio.Align import PairwiseAligner, substitution_matrices
from hypothesis import given, settings
from hypothesis import strategies as st
from support import VH, VL, cli, make_db, peptides, process, write_fasta
from typer.testing import CliRunner

import plmsearch
from plmsearch.cli.app import app
from plmsearch.database import open_database
from plmsearch.errors import AlignmentError, ParameterError
from plmsearch.formats.hits import HIT_FORMATS, write_hits
from plmsearch.search.alignment import QueryAligner
from plmsearch.search.hits import SORTS, Hit, Query, SearchOptions
from plmsearch.search.karlin_altschul import evalue
from plmsearch.search.rerank import rerank
from plmsearch.sequences import STANDARD_RESIDUES, SequenceRecord

ORACLE = PairwiseAligner(
    mode="local",
    substitution_matrix=substitution_matrices.load("BLOSUM62"),
    open_gap_score=-12,
    extend_gap_score=-1,
)
ALIGNED = ("fident", "qcov", "tcov", "qstart", "qend", "tstart", "tend", "evalue", "bits", "emb_only")
M8 = ("query", "target", "pident", "length", "mismatch", "gapopen", "qstart", "qend", "sstart", "send")


def mutated(residues: str, rng: random.Random, n: int) -> str:
    letters = list(residues)
    for place in rng.sample(range(len(letters)), n):
        letters[place] = rng.choice(STANDARD_RESIDUES)
    return "".join(letters)


def relatives() -> list[SequenceRecord]:
    """Families from near to far, some sequences under two ids, and strangers."""
    rng = random.Random(2)
    made = [
        SequenceRecord(f"{name}{i}", mutated(founder, rng, 6 * i), f"{i} steps from {name}", {"i": i})
        for name, founder in (("h", VH), ("l", VL))
        for i in range(15)
    ]
    made += [SequenceRecord(f"s{i}", residues, "", {"i": i}) for i, residues in enumerate(peptides(30, 4))]
    return [*made, SequenceRecord("twin", made[3].sequence), SequenceRecord("h0_again", VH)]


RECORDS = relatives()
BY_ID = {r.record_id: r.sequence for r in RECORDS}
N_RESIDUES = sum(map(len, set(BY_ID.values())))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_db(tmp_path_factory.mktemp("rerank") / "db", RECORDS)


@pytest.fixture
def db(path):
    with open_database(path) as db:
        yield db


@pytest.fixture(scope="module")
def partly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database where the near records u0 to u4 have vectors only."""
    folder = tmp_path_factory.mktemp("partly")
    path = make_db(folder / "db", [r for r in RECORDS if r.record_id[0] in "hs"])
    with open_database(path) as db:
        vectors = db.vectors([f"h{i}" for i in range(5)])
    np.savez(folder / "x.npz", ids=np.array([f"u{i}" for i in range(5)]), embeddings=vectors)
    done = cli("import", path, folder / "x.npz", "--model", "kmer", "--layers", "1")
    assert done.code == 0, done.err
    return path


def search(db, query=VH, k=10, **wishes):
    return db.search([query], k=k, options=SearchOptions(rerank="align", **wishes))[0]


# --- Order ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [VH, VL, VL[20:] + VH[:60], "WWHWWHCCCW"])
@pytest.mark.parametrize("sort", [None, *SORTS])
def test_hits_are_all_records_sorted_as_asked(db, query, sort):
    plain = db.search([query], k=1000)[0]
    hits = search(db, query, k=1000, sort=sort)
    assert sorted(h.target for h in hits) == sorted(BY_ID)
    assert [h.rank for h in hits] == list(range(1, len(hits) + 1))
    raw = {r: int(ORACLE.score(query, s)) for r, s in BY_ID.items()}
    assert {h.target: h.alignment.score for h in hits if h.alignment} == {r: s for r, s in raw.items() if s}
    place = {h.target: h.rank for h in plain}
    by = {
        "score": lambda h: 0,
        "evalue": lambda h: h.alignment.evalue,
        "bits": lambda h: -h.alignment.bits,
        "fident": lambda h: -h.alignment.fident,
    }[sort or "evalue"]
    if sort == "score":
        assert [h.target for h in hits] == [h.target for h in plain]
        return
    aligned = [h for h in hits if h.alignment]
    assert aligned == sorted(aligned, key=lambda h: (by(h), -h.alignment.score, place[h.target]))
    rest = hits[len(aligned) :]
    assert rest == sorted(rest, key=lambda h: place[h.target])


def test_a_hit_keeps_its_score_record_and_metadata(db):
    plain = {h.target: h for h in db.search([VH], k=1000)[0]}
    for hit in search(db, k=1000):
        assert replace(hit, rank=0, alignment=None, emb_only=None) == replace(plain[hit.target], rank=0)


@pytest.mark.parametrize("k", [1, 3, 20])
def test_k_counts_records_after_reranking(db, k):
    hits, more = search(db, k=k), search(db, k=1000)
    assert [(h.target, h.rank, h.alignment) for h in hits] == [
        (h.target, h.rank, h.alignment) for h in more[:k]
    ]


def test_records_of_one_sequence_are_hits_each(db):
    hits = search(db, k=2)
    assert [h.target for h in hits] == ["h0", "h0_again"]
    assert hits[0].alignment == hits[1].alignment


def test_a_better_alignment_overtakes_a_better_score(db):
    """Half of VH twice over: near by 3-mers, but one half aligns; h5 aligns from end to end."""
    rng = random.Random(8)
    double = VH[:60] + VH[:60]
    options = SearchOptions(k=2, rerank="align")
    query = Query("q", "", VH)
    near, far = (
        Hit("q", name, rank, score, "", {}, residues)
        for rank, (name, score, residues) in enumerate(
            [("double", 0.9, double), ("h", 0.8, mutated(VH, rng, 10))], start=1
        )
    )
    assert [h.target for h in rerank(query, [near, far], 1000, options)] == ["h", "double"]


@pytest.mark.parametrize(("k", "expected"), [(1, 100), (10, 100), (11, 110), (50, 500)])
def test_candidates_are_10_k_and_at_least_100(k, expected):
    assert SearchOptions(k, rerank="align").n_wanted == expected
    assert SearchOptions(k, rerank="align", n_candidates=60).n_wanted == 60
    assert SearchOptions(k, rerank="align", n_candidates=2).n_wanted == max(2, k)
    assert SearchOptions(k).n_wanted == k


def test_only_candidates_are_aligned(db):
    first = {h.target for h in db.search([VH], k=8)[0]}
    assert {h.target for h in search(db, k=8, n_candidates=8)} == first
    assert {h.target for h in search(db, k=3, n_candidates=8)} <= first


@given(
    k=st.integers(1, 40),
    n_candidates=st.none() | st.integers(40, 70),
    sort=st.sampled_from([None, *SORTS]),
    max_evalue=st.none() | st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e3]),
    min_score=st.none() | st.floats(-1, 1),
    exclude_identical=st.booleans(),
    where=st.sampled_from([None, "i < 8", "i is null"]),
)
@settings(max_examples=25)
def test_wishes_join(path, k, n_candidates, sort, max_evalue, min_score, exclude_identical, where):
    wishes = {"min_score": min_score, "exclude_identical": exclude_identical, "where": where}
    with open_database(path) as db:
        options = SearchOptions(**wishes)
        plain = db.search([VH], k=n_candidates or max(10 * k, 100), options=options)[0]
        more = {"n_candidates": n_candidates, "sort": sort, "max_evalue": max_evalue}
        hits = search(db, k=k, **wishes, **more)
        n_searched = db.searched_size(db.ranking(), where).n_residues
        assert hits == rerank(
            Query("query_1", "", VH), plain, n_searched, SearchOptions(k, rerank="align", **more)
        )
    assert all(max_evalue is None or h.alignment.evalue <= max_evalue for h in hits)
    fit = sum(max_evalue is None or ORACLE.score(VH, h.residues) > 0 for h in plain)
    assert len(hits) <= min(k, fit)


def test_queries_are_answered_apart_and_in_order(db):
    queries = [VL, VH, VH[::-1], VL]
    together = db.search(queries, k=5, options=SearchOptions(rerank="align"))
    alone = [search(db, q, k=5) for q in queries]
    for hits, others in zip(together, alone, strict=True):
        assert [(h.target, h.alignment, h.emb_only) for h in hits] == [
            (h.target, h.alignment, h.emb_only) for h in others
        ]


# --- E-values ------------------------------------------------------------------------------------


def expected_evalue(query: str, hit: Hit, n_searched: int) -> float:
    return evalue(int(ORACLE.score(query, hit.residues)), len(query), len(hit.residues), n_searched)


def test_evalues_refer_to_all_distinct_sequences_searched_not_to_the_candidates(db):
    size = db.searched_size(db.ranking())
    assert (size.n_sequences, size.n_residues, size.n_unknown) == (len(set(BY_ID.values())), N_RESIDUES, 0)
    for n_candidates in (5, 50):
        for hit in search(db, k=5, n_candidates=n_candidates):
            assert hit.alignment.evalue == expected_evalue(VH, hit, N_RESIDUES)


def test_a_filter_makes_the_search_smaller_and_so_the_evalue(db):
    where = "i >= 5 and record_id like 'h%'"
    n_searched = sum(len(BY_ID[f"h{i}"]) for i in range(5, 15))
    hits = search(db, where=where)
    assert len(hits) == 10
    assert all(h.alignment.evalue == expected_evalue(VH, h, n_searched) for h in hits)


def test_deleted_records_and_other_spaces_do_not_count(tmp_path):
    path = make_db(tmp_path / "db", [("a", VH), ("b", VL), ("b2", VL), ("c", VH[::-1])])
    with open_database(path) as db:
        assert db.searched_size(db.ranking()).n_residues == len(VH) * 2 + len(VL)
        db.delete(["b"])
        assert db.searched_size(db.ranking()).n_residues == len(VH) * 2 + len(VL)
        db.delete(["b2"])
        assert db.searched_size(db.ranking()).n_residues == len(VH) * 2
        (hit,) = search(db, k=1)
        assert hit.alignment.evalue == expected_evalue(VH, hit, 2 * len(VH))


@pytest.mark.parametrize("largest", [0.0, 1e-60, 1e-5, 10.0])
def test_max_evalue_leaves_out_what_is_above_it(db, largest):
    everything = search(db, k=1000)
    within = [h.target for h in everything if h.alignment and h.alignment.evalue <= largest]
    assert [h.target for h in search(db, k=1000, max_evalue=largest)] == within


# --- What cannot be aligned ----------------------------------------------------------------------


def test_records_without_a_sequence_come_after_those_that_are_aligned(partly):
    with open_database(partly) as db:
        plain = [h.target for h in db.search([VH], k=1000)[0]]
        hits = search(db, k=1000)
        assert [h.target for h in hits][-5:] == [t for t in plain if t[0] == "u"]
        assert sorted(h.target for h in hits) == sorted(plain)
        assert all((h.alignment is None, h.emb_only) == (True, None) for h in hits[-5:])
        assert [h.target for h in search(db, k=1000, sort="score")] == plain
        assert not {h.target for h in search(db, k=1000, max_evalue=1e9)} & {f"u{i}" for i in range(5)}
        size = db.searched_size(db.ranking())
        assert (size.n_sequences - 5, size.n_unknown) == (len({*BY_ID.values()} - {VL}) - 14, 5)


def test_what_becomes_of_records_without_a_sequence_is_said(partly):
    def said(*flags: str) -> str:
        return cli("query", partly, "--seq", VH, "--rerank", "align", "--no-significance", *flags).err

    text = "plmsearch: 5 of 50 sequences are not known: their records cannot be aligned and"
    assert said() == f"{text} come after all others\n"
    assert said("--sort", "score") == f"{text} stay where their score puts them\n"
    assert said("-e", "1") == f"{text} have no E-value and are left out\n"
    assert said("-q") == ""
    assert said("--where", "record_id like 'h%'") == ""


def test_a_format_of_alignments_leaves_out_hits_without_one_and_says_how_many(partly):
    for kind in ("m8", "pairwise"):
        done = cli("query", partly, "--seq", VH, "--rerank", "align", "-k", "100", "--format", kind)
        assert "plmsearch: 5 hits without an alignment are left out; --format tsv has them" in done.err
        assert "u0" not in done.out and "h14" in done.out


def test_a_query_without_residues_is_refused_by_name(db, partly):
    with pytest.raises(AlignmentError, match="query 'query_1' cannot be aligned: it is a vector"):
        db.search(db.vectors(["h0"]), options=SearchOptions(rerank="align"))
    done = cli("query", partly, "--id", "h0", "--id", "u1", "--rerank", "align")
    assert (done.code, done.out) == (1, "")
    assert "query 'u1' cannot be aligned" in done.err and "leave out --rerank" in done.err


def test_a_stored_record_is_aligned_with_its_residues(path):
    done = cli("query", path, "--id", "h2", "--rerank", "align", "-k", "1", "--format-output", "target,cigar")
    assert done.out == f"target\tcigar\nh2\t{len(VH)}=\n"


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"rerank": "blast"}, "rerank is 'blast'; it must be one of: align"),
        ({"rerank": "align", "sort": "target"}, "it must be one of: score, evalue, bits, fident"),
        ({"rerank": "align", "n_candidates": 0}, "candidates is 0; it must be at least 1"),
        ({"rerank": "align", "max_evalue": -1.0}, "max_evalue is -1.0"),
        ({"rerank": "align", "max_evalue": float("nan")}, "max_evalue is nan"),
        ({"sort": "bits"}, "sort is 'bits'; it must be left out, or asked for with rerank 'align'"),
        ({"max_evalue": 1.0}, "asked for with rerank"),
        ({"n_candidates": 100}, "asked for with rerank"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(wishes, said):
    with pytest.raises(ParameterError) as caught:
        SearchOptions(**wishes)
    assert said in str(caught.value)


def test_sorting_by_score_needs_no_alignment(db):
    assert db.search([VH], options=SearchOptions(sort="score")) == db.search([VH])


# --- Seen by the embedding only ------------------------------------------------------------------


def marked(target: str, score: float, *, query: str = VH, before: int = 0) -> bool | None:
    """Whether a hit is marked, of k = 2, that comes after some others."""
    others = [Hit("q", f"o{i}", i + 1, 0.99, "", {}, query) for i in range(before)]
    hit = Hit("q", "t", before + 1, score, "", {}, target)
    found = rerank(Query("q", "", query), [*others, hit], 10**9, SearchOptions(2, rerank="align"))
    return {h.target: h.emb_only for h in found}["t"]


STRANGER = peptides(1, seed=77, shortest=120)[0]


def test_a_near_stranger_is_marked_and_a_relative_is_not():
    assert marked(STRANGER, 0.95) is True
    assert marked(VH, 0.95) is False
    assert marked(mutated(VH, random.Random(1), 40), 0.95) is False


def test_a_low_score_or_a_place_after_the_first_k_is_no_mark():
    assert marked(STRANGER, 0.4) is False
    assert marked(STRANGER, 0.95, before=1) is True
    options = SearchOptions(1, rerank="align", sort="bits")
    hits = [Hit("q", "a", 1, 0.99, "", {}, "WPWP"), Hit("q", "b", 2, 0.98, "", {}, STRANGER)]
    (found,) = rerank(Query("q", "", VH), hits, 10**9, options)
    assert (found.target, found.emb_only) == ("b", False)


def test_a_chance_match_is_no_identity_and_a_short_identical_query_is_one():
    by_chance = QueryAligner("q", VH).align(STRANGER, 10**9)
    assert by_chance.fident > 0.25 and by_chance.evalue > 1e-3
    assert marked(VH[40:46], 0.95, query=VH[40:46]) is False
    assert marked("PPPP", 0.95, query="WWWW") is True, "no alignment at all"


def test_a_shared_domain_is_seen_by_alignment():
    assert marked(STRANGER * 3 + VL, 0.95, query=VL + peptides(1, 5, 500, 500)[0]) is False


def test_a_record_without_a_sequence_is_not_marked():
    assert marked("", 0.95) is None


# --- Command line --------------------------------------------------------------------------------


def test_default_columns_gain_those_of_the_alignment(path):
    plain, aligned = cli("query", path, "--seq", VH), cli("query", path, "--seq", VH, "--rerank", "align")
    header = plain.out.splitlines()[0].split("\t")
    assert aligned.out.splitlines()[0].split("\t") == [*header, *ALIGNED]
    assert aligned.rows[0][7:16] == [
        "1.000",
        "1.000",
        "1.000",
        "1",
        "120",
        "1",
        "120",
        aligned.rows[0][14],
        "253.1",
    ]
    assert float(aligned.rows[0][14]) < 1e-80


def test_columns_of_the_alignment_are_there_and_empty_without_it(path):
    names = ",".join([*ALIGNED, "alnlen", "mismatch", "gapopen", "cigar", "raw", "qaln", "taln", "midline"])
    done = cli("query", path, "--seq", VH, "-k", "1", "--format-output", names)
    assert done.out.splitlines()[0].split("\t") == names.split(",")
    assert done.rows == [[""] * len(names.split(","))]


def test_typed_formats_get_typed_values(path):
    command = ["query", path, "--seq", VH, "--rerank", "align", "-k", "60"]
    rows = [json.loads(line) for line in cli(*command, "--format", "jsonl").out.splitlines()]
    assert {type(row["emb_only"]) for row in rows} == {bool}
    assert (rows[0]["qstart"], rows[0]["fident"]) == (1, 1.0)
    result = CliRunner().invoke(app, [str(a) for a in (*command, "--format", "parquet")])
    frame = pl.read_parquet(io.BytesIO(result.stdout_bytes))
    assert frame.schema["emb_only"] == pl.Boolean
    assert frame.schema["tend"] == pl.Int64 and frame.schema["evalue"] == pl.Float64
    assert frame.to_dicts() == rows


def test_m8_is_read_by_biopython(path, tmp_path):
    queries = write_fasta(tmp_path / "q.fasta", [("vh", VH), ("vl", VL), ("odd", STRANGER)])
    done = cli("query", path, queries, "--rerank", "align", "-k", "7", "--format", "m8")
    assert (done.code, done.err) == (0, "")
    lines = [line.split("\t") for line in done.out.splitlines()]
    assert {len(line) for line in lines} == {12}
    results = list(SearchIO.parse(io.StringIO(done.out), "blast-tab"))
    assert [r.id for r in results] == ["vh", "vl", "odd"]
    with open_database(path) as db:
        expected = db.search([VH, VL, STRANGER], k=7, options=SearchOptions(rerank="align"))
    for result, hits in zip(results, expected, strict=True):
        assert [hit.id for hit in result] == [h.target for h in hits]
        for (hsp,), hit in zip(result, hits, strict=True):
            a = hit.alignment
            assert (hsp.query_start, hsp.query_end) == (a.qstart - 1, a.qend)
            assert (hsp.hit_start, hsp.hit_end) == (a.tstart - 1, a.tend)
            assert (hsp.mismatch_num, hsp.gapopen_num, hsp.aln_span) == (a.mismatch, a.gapopen, a.alnlen)
            assert hsp.ident_pct == pytest.approx(100 * a.fident, abs=5e-4)
            assert hsp.evalue == pytest.approx(a.evalue, rel=5e-3)
            assert hsp.bitscore == pytest.approx(a.bits, abs=0.051)


def test_pairwise_shows_both_sequences_in_full(path):
    done = cli("query", path, "--seq", VH, "--id", "h9", "--format", "pairwise", "--rerank", "align")
    assert done.code == 2
    command = ("query", path, "--seq", VH[10:], "--seq", VL, "-k", "3", "--rerank", "align")
    done = cli(*command, "--format", "pairwise")
    assert (done.code, done.err) == (0, "")
    text = done.out
    assert [text.count(f"query query_{n}  (") for n in (1, 2)] == [1, 1]
    rows = [json.loads(line) for line in cli(*command, "--format", "jsonl", "--format-output",
            "target,qaln,midline,taln,qstart,qend,tstart,tend").out.splitlines()]  # fmt: skip
    parts = text.split("\n> ")[1:]
    assert [part.split()[0] for part in parts] == [row["target"] for row in rows]
    for part, row in zip(parts, rows, strict=True):
        lines = part.splitlines()
        above = [line.split() for line in lines if line.startswith("query  ")]
        below = [line.split() for line in lines if line.startswith("target  ")]
        assert ["".join(line[2] for line in block) for block in (above, below)] == [row["qaln"], row["taln"]]
        assert [int(above[0][1]), int(above[-1][3])] == [row["qstart"], row["qend"]]
        assert [int(below[0][1]), int(below[-1][3])] == [row["tstart"], row["tend"]]
        start = lines[4].index(above[0][2])
        assert lines[5][start:] == row["midline"][:60].rstrip()


def test_pairwise_obeys_no_control_code_of_an_id_or_description(tmp_path):
    path = make_db(tmp_path / "db", [SequenceRecord("a\x1b[2J", VH, "red \x1b[31m")])
    done = cli("query", path, "--seq", VH, "--rerank", "align", "--format", "pairwise")
    assert "\x1b" not in done.out and "\\x1b[2J" in done.out


@pytest.mark.parametrize("kind", ["m8", "pairwise"])
def test_formats_of_alignments_refuse_rows_without_one(kind):
    with pytest.raises(ParameterError, match="hits that are aligned"):
        write_hits(
            [{"query": "q", "target": "t", "score": 0.5}], HIT_FORMATS[kind].columns, kind, io.StringIO()
        )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--format", "m8"), "--format m8 needs alignments: add --rerank align"),
        (("--format", "pairwise"), "--format pairwise needs alignments: add --rerank align"),
        (("-e", "1"), "-e/--max-evalue needs alignments: add --rerank align"),
        (("--sort", "evalue"), "--sort evalue needs alignments: add --rerank align"),
        (("--candidates", "200"), "--candidates needs alignments: add --rerank align"),
        (("--rerank", "align", "--format", "m8", "--format-output", "query"), "leave out --format-output"),
        (("--rerank", "align", "-e", "-1"), "--max-evalue"),
    ],
)
def test_what_only_an_alignment_can_answer_is_wrong_usage_without_one(path, flags, said):
    done = cli("query", path, "--seq", VH, *flags)
    assert (done.code, done.out) == (2, "")
    assert said in " ".join(done.err.replace("│", " ").split())


def test_explain_says_what_is_aligned_and_what_evalues_refer_to(path):
    done = cli("query", path, "--seq", VH, "--rerank", "align", "--explain", "--no-significance")
    assert done.err.splitlines()[-1] == (
        "plmsearch: re-ranking: the 100 best records of each query are aligned, sorted by evalue; "
        f"E-values for {N_RESIDUES:,} residues in {len(set(BY_ID.values()))} sequences"
    )


def test_parasail_is_imported_when_it_is_needed(path, tmp_path):
    assert "parasail" not in process(tmp_path, "query", path, "--id", "h0").packages
    done = process(tmp_path, "query", path, "--id", "h0", "--rerank", "align")
    assert done.code == 0 and "parasail" in done.packages
    assert not done.packages & {"torch", "faiss", "Bio"}


def test_the_options_are_public_and_a_hit_shows_its_alignment(db):
    options = plmsearch.SearchOptions(rerank="align", max_evalue=1e-20, sort="fident")
    hits = db.search([VH], k=3, options=options)[0]
    assert [h.alignment.cigar for h in hits[:2]] == ["120=", "120="]
