"""Search with pairs, against plain numpy over the vectors of the chains."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import VH, VL, cli

from plmsearch import pair_searcher
from plmsearch.database import Database, open_database
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.errors import FilterError, ParameterError, RecordNotFound
from plmsearch.formats.fasta import read_fasta
from plmsearch.ingest.report import AddOptions, AddReport
from plmsearch.ingest.scan import RecordList
from plmsearch.search.hits import SearchOptions
from plmsearch.sequences import SequenceRecord

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LINKER = "GGGGSGGGGSGGGGS"
REGIONS = ("kmer/1/whole/mean/domain", "kmer/1/cdr3/mean")
ATOL = 1e-5


def simulated() -> dict[str, tuple[str, str]]:
    """The chains of the simulated cells of the examples that have both, by cell."""
    of_cell: dict[str, dict[str, str]] = {}
    for name in ("heavy", "light"):
        for record in read_fasta(EXAMPLES / f"{name}.fasta", name):
            cell = re.search(r"cell=(\S+)", record.description)
            if cell:
                of_cell.setdefault(cell[1], {})[name] = record.sequence
    return {c: (x["heavy"], x["light"]) for c, x in sorted(of_cell.items()) if len(x) == 2}


CHAINS = simulated()
CELLS = list(CHAINS)[:48]


def cell_records() -> list[SequenceRecord]:
    """Cells of two records each, heavy chains first, in an order of their own; and some that are no pair."""
    heavy = [SequenceRecord(f"H{n}", CHAINS[c][0], c, meta(n)) for n, c in enumerate(CELLS)]
    light = [SequenceRecord(f"L{n}", CHAINS[c][1], c, meta(n)) for n, c in enumerate(CELLS)]
    random.Random(3).shuffle(light)
    more = [
        SequenceRecord("second", CHAINS[CELLS[5]][0], "", {**meta(0), "umi_count": 2}),
        SequenceRecord("dead", CHAINS[CELLS[6]][0], "", {**meta(1), "umi_count": 99, "productive": "F"}),
        SequenceRecord("alone", VH, "", {"cell_id": "nobody", "sample_id": "s"}),
        SequenceRecord("scfv", VH + LINKER + VL, "an scFv", {"donor": "d9"}),
        SequenceRecord("two", f"{VH};{VL};{CHAINS[CELLS[0]][0]};{CHAINS[CELLS[0]][1]}"),
    ]
    return [*heavy, *light, *more]


def meta(n: int) -> dict[str, object]:
    return {"cell_id": f"c{n % 24}", "sample_id": f"s{n // 24}", "donor": f"d{n % 4}", "umi_count": 10}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("pairs") / "db", cell_records())


@pytest.fixture
def db(path: Path) -> Iterator[Database]:
    with open_database(path) as found:
        yield found


def make(path: Path, records: list[SequenceRecord]) -> Path:
    with open_database(path, create=True) as db:
        db.add_inputs([RecordList(records)], request=SpaceRequest("kmer", preset="antibody"))
    return path


def vectors_of(db: Database, units: list[str]) -> np.ndarray:
    """The raw vectors of domains, each of unit length, side by side: their product is twice the score."""
    parts = [db.vectors(units, space=name).astype(np.float64) for name in REGIONS]
    return np.hstack([part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts])


def truth(db: Database, heavy: list[str], light: list[str]) -> np.ndarray:
    """Scores of pairs by the definition: mean over chains of the mean over regions of the cosines."""
    rows = [vectors_of(db, units) for units in (heavy, light)]
    return sum(one @ one.T / 2 for one in rows) / 2


#: Target, heavy and light chain of every pair of the database, in order of insertion.
PAIRS = [
    *((f"H{n}", f"H{n}", f"L{n}") for n in range(48)),
    ("scfv", "scfv#1", "scfv#2"),
    ("two", "two#1", "two#2"),
    ("two", "two#3", "two#4"),
]


def expected(db: Database, query: int, exclude: set[int] | None = None) -> list[tuple[str, float]]:
    """The targets of a stored pair, the best pair of each, best first."""
    scores = truth(db, [h for _, h, _ in PAIRS], [x for _, _, x in PAIRS])[query]
    order = sorted(set(range(len(PAIRS))) - (exclude or set()), key=lambda p: (-round(scores[p], 6), p))
    best: dict[str, float] = {}
    for place in order:
        best.setdefault(PAIRS[place][0], scores[place])
    return list(best.items())


def stored(db: Database, names: list[str], **wishes: object) -> list[list[object]]:
    ranking, options = db.ranking(), SearchOptions(**wishes)  # type: ignore[arg-type]
    targets = db.pair_targets(ranking, options.where)
    return [hits for _, hits in db.search_stored_pairs(names, [], targets, ranking, options)]


@pytest.mark.parametrize("query", [0, 17, 40])
def test_the_nearest_pairs_are_those_of_numpy_over_all_pairs(db, query):
    (hits,) = stored(db, [f"H{query}"], k=100, across_loci=True)
    wanted = expected(db, query)
    assert len(hits) == len(wanted) == 50
    np.testing.assert_allclose([h.score for h in hits], [score for _, score in wanted], atol=ATOL)
    assert hits[0].target == f"H{query}" or hits[0].score == pytest.approx(1)
    known = dict(wanted)
    assert all(h.score == pytest.approx(known[h.target], abs=ATOL) for h in hits)
    assert [h.rank for h in hits] == list(range(1, 51))
    assert all(
        h.score == pytest.approx((h.pair.score_heavy + h.pair.score_light) / 2, abs=1e-6) for h in hits
    )
    assert len(stored(db, [f"H{query}"], k=3)[0]) == 3


def test_a_query_from_an_input_finds_what_the_stored_pair_finds(db):
    names = ["H4", "scfv", "L9"]
    of_stored = stored(db, names, k=8)
    chains = [CHAINS[CELLS[4]], (VH, VL), CHAINS[CELLS[9]]]
    for hits, again in zip(of_stored, db.search_pairs(chains, k=8), strict=True):
        assert [h.target for h in hits] == [h.target for h in again]
        np.testing.assert_allclose([h.score for h in hits], [h.score for h in again], atol=1e-6)
    assert [h.target for h in db.search_pairs([SequenceRecord("x", VL + LINKER + VH)], k=1)[0]] == ["scfv"]


def test_hits_name_both_chains_and_what_there_was_to_choose_from(db):
    hits = {h.target: h for h in stored(db, ["H0"], k=100)[0]}
    assert (hits["H0"].pair.target_light, hits["H0"].pair.n_heavy, hits["H0"].pair.n_light) == ("L0", 2, 1)
    assert (hits["H1"].pair.target_light, hits["H1"].pair.n_heavy) == ("L1", 1), "one is not productive"
    assert hits["scfv"].pair.target_light == "scfv#2"
    assert hits["two"].pair.target_light == "two#4", "the nearer of its two pairs"
    assert hits["two"].domain.number == 3
    assert hits["H0"].residues == ";".join(CHAINS[CELLS[0]])
    assert hits["H0"].emb_pvalue is hits["H0"].emb_evalue is None
    assert {"second", "dead", "alone", "L0"}.isdisjoint(hits)
    remarks = "\n".join(db.pair_targets(db.ranking()).remarks())
    for said in ("51 pairs are searched", "1 record with chains of one kind only", "1 chain is of no pair",
                 "1 chain of cells is not productive", "3 pairs have more than one heavy"):  # fmt: skip
        assert said in remarks


def test_each_pair_of_a_record_is_a_query_of_its_own(db):
    targets = db.pair_targets(db.ranking())
    found = list(db.search_stored_pairs(["two"], [], targets, db.ranking(), SearchOptions(k=1)))
    assert [(q.query_id, hits[0].target) for q, hits in found] == [("two#1", "scfv"), ("two#3", "H0")]


def test_the_same_pair_and_identical_pairs_can_be_left_out(db):
    place = 48  # the scFv; "two" holds its pair too
    assert [h.target for h in stored(db, ["scfv"], k=2)[0]] == ["scfv", "two"]
    (hits,) = stored(db, ["scfv"], k=4, exclude_self=True)
    assert (hits[0].target, hits[0].score) == ("two", pytest.approx(1))
    (hits,) = stored(db, ["scfv"], k=4, exclude_identical=True)
    wanted = expected(db, place, exclude={48, 49})[:4]
    assert [h.target for h in hits] == [name for name, _ in wanted]


def test_a_condition_is_asked_of_the_heavy_chains_record_and_changes_no_pair(db):
    every = {h.target: h for h in stored(db, ["H8"], k=100, across_loci=True)[0]}
    (hits,) = stored(db, ["H8"], k=100, where="donor = 'd1' or donor = 'd9'", across_loci=True)
    assert {h.target for h in hits} == {*(f"H{n}" for n in range(1, 48, 4)), "scfv"}
    assert all(h.score == every[h.target].score for h in hits)
    assert stored(db, ["H8"], k=3, where="umi_count < 5") == [[]], "the chain it selects is of no pair"
    with pytest.raises(FilterError):
        stored(db, ["H8"], where="nothing = 1")


def test_a_score_is_the_same_in_a_database_of_two_pairs(tmp_path, db):
    small = make(tmp_path / "small", [r for r in cell_records() if r.record_id in {"H2", "L2", "H7", "L7"}])
    many = {h.target: h for h in stored(db, ["H2"], k=100)[0]}
    with open_database(small) as few:
        (hits,) = stored(few, ["H2"])
    assert [h.target for h in hits] == ["H2", "H7"]
    for hit in hits:
        assert hit.score == pytest.approx(many[hit.target].score, abs=1e-6)
        assert hit.pair.score_light == pytest.approx(many[hit.target].pair.score_light, abs=1e-6)


def test_all_pairs_of_another_database_are_searched_with(tmp_path, db, monkeypatch):
    monkeypatch.setattr(pair_searcher, "queries_at_once", lambda *_: 3)
    theirs = [replace(r, record_id=f"x{r.record_id}") for r in cell_records() if r.description in CELLS[:7]]
    other = make(tmp_path / "other", theirs)
    ranking, options = db.ranking(), SearchOptions(k=2, exclude_self=True)
    targets = db.pair_targets(ranking)
    with open_database(other) as queries:
        found = list(db.search_pairs_of(queries, targets, ranking, options))
    assert [q.query_id for q, _ in found] == [f"xH{n}" for n in range(7)]
    assert [hits[0].target for _, hits in found] == [f"H{n}" for n in range(7)], "another record: not itself"
    of_own = list(db.search_pairs_of(db, targets, ranking, options))
    assert len(of_own) == 51
    assert all(q.record_id != hits[0].target for q, hits in of_own if q.record_id != "two")


def test_chains_far_apart_and_in_two_inputs_are_put_together(db, monkeypatch):
    monkeypatch.setattr(pair_searcher, "queries_at_once", lambda *_: 2)
    rows = [
        r for r in cell_records() if r.record_id[1:] in {"1", "2", "3"} or r.record_id in {"alone", "scfv"}
    ]
    inputs = [RecordList(rows[:5], "a"), RecordList([*rows[5:], SequenceRecord("no", "ACDEFGHIKLMN")], "b")]
    report, ranking = AddReport(), db.ranking()
    found = db.search_pair_inputs(
        inputs, db.pair_targets(ranking), ranking, SearchOptions(k=1), policy=AddOptions(), report=report
    )
    assert [(q.query_id, hits[0].target) for q, hits in found] == [
        *((f"H{n}", f"H{n}") for n in (1, 2, 3)), ("scfv", "scfv")
    ]  # fmt: skip
    assert [(row.record_id, row.source) for row in report.skipped] == [("no", "b"), ("alone", "b")]


def test_what_is_no_pair_cannot_be_searched_with(db):
    for names in (["alone"], ["second"], ["dead"]):
        with pytest.raises(ParameterError, match="a record of a pair"):
            stored(db, names)
    with pytest.raises(RecordNotFound):
        stored(db, ["nobody"])
    with pytest.raises(ParameterError, match="no light chain"):
        db.search_pairs([SequenceRecord("x", VH)])
    for wishes in ({"rerank": "align"}, {"threshold": 0.5}, {"index": "hnsw"}, {"k": 0}, {"unique": True}):
        with pytest.raises(ParameterError):
            stored(db, ["H1"], **wishes)


def test_chains_that_are_not_cut_to_domains_are_no_pairs(tmp_path):
    with open_database(tmp_path / "whole", create=True) as db:
        db.add([("a", VH), ("b", VL)], model="kmer")
        with pytest.raises(ParameterError, match="compares variable domains"):
            db.pair_targets(db.ranking())


def test_a_deleted_chain_leaves_its_pair(path, tmp_path):
    copy = make(tmp_path / "copy", cell_records()[:96])
    with open_database(copy) as db:
        assert len(db.pair_targets(db.ranking()).chosen) == 48
        db.delete(["L5"])
        assert len(db.pair_targets(db.ranking()).chosen) == 47
        assert "H5" not in {h.target for h in stored(db, ["H1"], k=100)[0]}


# --- Real vectors --------------------------------------------------------------------------------


def test_real_scores_stay_as_the_database_grows_and_loci_are_compared_by_themselves(tmp_path):
    """AntiBERTy with its reference centres, on simulated chains."""
    kappa, lambda_ = ([c for c in CELLS if re.search(end, CHAINS[c][1])] for end in ("EIK$", "TVL$"))
    rows = [SequenceRecord(c, ";".join(CHAINS[c])) for c in (*kappa[:2], lambda_[0], kappa[2])]
    names = [row.record_id for row in rows]
    with open_database(tmp_path / "db", create=True) as db:
        db.add_inputs([RecordList(rows[:3])], request=SpaceRequest("antiberty"))
        few = stored(db, names[:3], k=20)
        wide = stored(db, names[:3], k=20, across_loci=True)
        db.add_inputs([RecordList(rows[3:])], request=SpaceRequest("antiberty"))
        more = stored(db, names[:3], k=20)
    assert [sorted(h.target for h in hits) for hits in few] == [sorted(names[:2])] * 2 + [names[2:3]]
    assert [len(hits) for hits in wide] == [3, 3, 3]
    assert [len(hits) for hits in more] == [3, 3, 1]
    for name, before, after in zip(names, few, more, strict=False):
        assert (before[0].target, before[0].score) == (name, pytest.approx(1, abs=1e-5))
        scores = {h.target: h.score for h in after}
        assert all(scores[h.target] == pytest.approx(h.score, abs=1e-6) for h in before)


# --- The command ---------------------------------------------------------------------------------


def test_the_command_writes_a_row_for_each_pair(path, tmp_path):
    table = tmp_path / "q.tsv"
    table.write_text(f"id\tVH\tVL\nq\t{VH}\t{VL}\nlone\t{VH}\tna\n")
    ended = cli("query", path, table, "--pairs", "--heavy-col", "VH", "--light-col", "VL", "-k", 1)
    assert ended.code == 3
    assert ended.out.splitlines()[0].split("\t") == [
        "query", "target", "target_light", "cell_id", "rank", "score", "score_heavy", "score_light",
        "n_heavy", "n_light", "several_heavy", "emb_pvalue", "emb_evalue", "description",
    ]  # fmt: skip
    assert ended.rows == [
        ["q", "scfv", "scfv#2", "", "1", *["1.000000"] * 3, "1", "1", "false", "", "", "an scFv"]
    ]
    assert "51 pairs are searched, all of them; pairs have no p-values and E-values" in ended.err
    assert "left out: record 'lone'" in ended.err
    assert "holds no light chain: it is of no pair" in ended.err


def test_the_receptor_columns_of_a_hit_are_those_of_the_heavy_chain(path):
    ended = cli(
        "query", path, "--id", "scfv", "--pairs", "-k", 1, "-q", "--format-output", "cdr3_aa,cdr3_identity"
    )
    assert ended.rows == [["SRWGGDGFYAMDY", "1.000"]]


def test_a_cell_of_two_samples_is_two_queries(path):
    ended = cli("query", path, "--cell", "c0", "-k", 1, "--format-output", "query,query_light,target,cell_id")
    assert ended.rows == [["H0", "L0", "H0", "c0"], ["H24", "L24", "H24", "c0"]]
    assert cli("query", path, "--cell", "c0", "-k", 1, "-q").rows[0][10] == "true", "several heavy chains"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--cell", "c99"), "cell is 'c99'; it must be the cell_id of a pair"),
        (("--id", "alone", "--pairs"), "id is 'alone'; it must be a record of a pair"),
        (("--id", "H1", "--pairs", "--rerank", "align"), "rerank is 'align'; it must be left out"),
        (("--id", "H1", "--pairs", "--threshold", "0.5"), "threshold is 0.5; it must be left out"),
        (("--seq", VH, "--heavy-col", "VH", "--pairs"), "heavy_col is 'VH'; it must be given together"),
    ],
)
def test_the_command_says_in_a_line_what_cannot_be(path, arguments, said):
    ended = cli("query", path, *arguments, "-q")
    assert (ended.code, ended.out) == (1, "")
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1


def test_fasta_of_pairs_is_indexed_and_found_by_its_headers(tmp_path):
    fasta = tmp_path / "x.fasta"
    fasta.write_text(f">m1_VH\n{VH}\n>m1_VL\n{VL}\n>m2_VH\n{CHAINS[CELLS[0]][0]}\n")
    made = cli("index", tmp_path / "db", fasta, "--pair-by", "id", "-m", "kmer", "--preset", "antibody", "-q")
    assert made.code == 0
    ended = cli("query", tmp_path / "db", "--seq", f"{VH};{VL}", "--pairs")
    assert [row[:4] for row in ended.rows] == [["query_1", "m1_VH", "m1_VL", "m1"]]
    assert "1 pair has neither sample_id nor repertoire_id" in ended.err
