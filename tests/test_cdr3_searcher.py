from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import VH, VL, cli, make_db, process, write_fasta

from plmsearch.database import open_database
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.errors import EmbeddingError
from plmsearch.genes import call_genes
from plmsearch.ingest.domains import find_domains
from plmsearch.ingest.report import AddOptions, AddReport, GeneOptions
from plmsearch.ingest.scan import RecordList
from plmsearch.search.cdr3 import Cdr3Options, cdr3_identity
from plmsearch.search.hits import SearchOptions
from plmsearch.sequences import SequenceRecord

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
N = 60


def make_antibodies(path: Path, given: Sequence[tuple[str, str] | SequenceRecord]) -> Path:
    """A `kmer` database of the variable domains of records, with the genes that the records call only."""
    rows = [r if isinstance(r, SequenceRecord) else SequenceRecord(*r) for r in given]
    with open_database(path, create=True) as db:
        options = AddOptions(genes=GeneOptions(infer=False))
        request = SpaceRequest("kmer", preset="antibody")
        db.add_inputs([RecordList(rows, "rows")], request=request, options=options)
    return path


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Simulated heavy chains with their calls, and what is compared of each; one call lists two genes."""
    frame = pd.read_csv(EXAMPLES / "repertoire.tsv", sep="\t", dtype=str, keep_default_na=False).head(N)
    frame.loc[3, "v_call"] = "IGHV3-23*01," + frame.loc[3, "v_call"]
    frame.loc[5, "v_call"] = frame.loc[7, "j_call"] = ""
    domains = [find_domains(residues)[0] for residues in frame["sequence_aa"]]
    frame["cdr3"] = [d.region("cdr3") for d in domains]
    for segment in ("v", "j"):
        frame[segment] = [frozenset(call_genes(call)) for call in frame[f"{segment}_call"]]
    return frame


@pytest.fixture(scope="module")
def db_path(table, tmp_path_factory) -> Path:
    rows = [
        SequenceRecord(
            r.sequence_id, r.sequence_aa, "", {"v_call": r.v_call, "j_call": r.j_call, "donor": f"d{n % 3}"}
        )
        for n, r in enumerate(table.itertuples())
    ]
    return make_antibodies(tmp_path_factory.mktemp("cdr3") / "db", rows)


def expected(table: pd.DataFrame, query: pd.Series, least: float, same: tuple[str, ...]) -> dict[str, float]:
    """What fits a row, by comparing it with every row."""
    found = {}
    for row in table.itertuples():
        identity = cdr3_identity(query.cdr3, row.cdr3)
        fits = identity >= least
        fits &= "v" not in same or bool(query.v & row.v)
        fits &= "j" not in same or bool(query.j & row.j)
        fits &= "cdr3_length" not in same or len(query.cdr3) == len(row.cdr3)
        if fits:
            found[row.sequence_id] = identity
    return found


@pytest.mark.parametrize("least", [None, 0.5, 0.8])
@pytest.mark.parametrize("same", [(), ("v",), ("v", "j"), ("cdr3_length",), ("v", "j", "cdr3_length")])
def test_every_record_that_fits_is_found_and_no_other(table, db_path, least, same):
    wishes, report = Cdr3Options(least, same), AddReport()
    with open_database(db_path) as db:
        answers = list(db.search_alike_all(db, wishes, SearchOptions(), report=report))
    left_out = {row.record_id for row in report.skipped}
    lacking = {"v": "sim_h0006", "j": "sim_h0008"}
    assert {row.source for row in report.skipped} <= {str(db_path)}
    assert left_out == {lacking[name] for name in same if name in lacking}
    assert [q.query_id for q, _ in answers] == [i for i in table.sequence_id if i not in left_out]
    by_id = table.set_index("sequence_id", drop=False)
    for query, hits in answers:
        own = by_id.loc[query.query_id]
        found = {h.target: cdr3_identity(own.cdr3, by_id.loc[h.target].cdr3) for h in hits}
        assert found == expected(table, own, least or 0.0, same)
        assert len(found) == len(hits)
        assert [h.rank for h in hits] == list(range(1, len(hits) + 1))
        assert list(found.values()) == sorted(found.values(), reverse=True)


def test_scores_are_those_of_the_search_by_embedding_and_order_what_is_equally_alike(table, db_path):
    with open_database(db_path) as db:
        ranking = db.ranking()
        asked = ["sim_h0001", "sim_h0002"]
        wishes = Cdr3Options(0.5)
        answers = db.search_alike_stored(asked, wishes, SearchOptions(), ranking, report=AddReport())
        scores = {
            q.query_id: {h.target: h.score for h in hits}
            for q, hits in db.search_stored(asked, ranking, SearchOptions(k=N, index="exact"))
        }
        for query, hits in answers:
            assert hits
            for hit in hits:
                assert hit.score == pytest.approx(scores[query.query_id][hit.target], abs=1e-5)
            own = find_domains(hits[0].residues)[0].region("cdr3")
            order = [
                (-cdr3_identity(own, find_domains(h.residues)[0].region("cdr3")), -h.score) for h in hits
            ]
            assert order == sorted(order)


def test_a_file_finds_what_its_stored_records_find_with_and_without_a_model(table, db_path, tmp_path):
    chosen = table.head(4)
    fasta = write_fasta(tmp_path / "q.fasta", zip(chosen.sequence_id, chosen.sequence_aa, strict=True))
    columns = ("--format-output", "query,target,rank,cdr3_identity,score")
    asked = ("--min-cdr3-identity", 0.6, "--exclude-self", *columns)
    ids = [a for i in chosen.sequence_id for a in ("--id", i)]
    stored = cli("query", db_path, *ids, *asked)
    embedded = cli("query", db_path, fasta, *asked)
    without = cli("query", db_path, fasta, *asked, "--no-model")
    assert stored.code == embedded.code == without.code == 0
    assert embedded.rows == stored.rows and len(stored.rows) > 4
    assert {tuple(r[:2]) for r in without.rows} == {tuple(r[:2]) for r in stored.rows}
    assert {r[4] for r in without.rows} == {""}


def test_genes_of_queries_without_calls_are_inferred_and_told(table, db_path, tmp_path):
    chosen = table.head(3)
    fasta = write_fasta(tmp_path / "q.fasta", zip(chosen.sequence_id, chosen.sequence_aa, strict=True))
    told = cli("query", db_path, fasta, "--same", "v,j", "--no-model", "--format-output", "query,target")
    assert told.code == 0 and "inferred from residues: species: human" in told.err
    found = {(q, t) for q, t in told.rows}
    for row in chosen.itertuples():
        # The simulator's own genes are among those that are inferred.
        assert {(row.sequence_id, t) for t in expected(table, row, 0.0, ("v", "j"))} <= found


def test_hits_are_limited_only_by_k_as_given(table, db_path):
    asked = ("query", db_path, "--id", "sim_h0001", "--min-cdr3-identity", 0, "--format-output", "target")
    assert len(cli(*asked).rows) == N
    assert cli(*asked, "-k", 3).rows == cli(*asked).rows[:3]


def test_a_condition_and_exclusions_hold(table, db_path):
    asked = ("--min-cdr3-identity", 0.3, "--format-output", "target,donor", "--where", "donor = 'd1'")
    found = cli("query", db_path, "--id", "sim_h0002", *asked).rows
    of_donor = table[np.arange(N) % 3 == 1]
    assert {t for t, _ in found} == set(expected(of_donor, table.loc[1], 0.3, ()))
    assert {d for _, d in found} == {"d1"}
    without = cli("query", db_path, "--id", "sim_h0002", *asked, "--exclude-self").rows
    assert without == [row for row in found if row[0] != "sim_h0002"]


def test_a_string_that_looks_like_bases_is_said_to_be_read_as_residues(db_path):
    told = cli("query", db_path, "--cdr3", "GCGAGAGATTAC", "--cdr3", "ARDYCGGGDA", "-k", 1)
    assert told.code == 0 and len(told.rows) == 2
    assert [line for line in told.err.splitlines() if "read as residues, not as bases" in line] == [
        "plmsearch: GCGAGAGATTAC holds no other letters than ACGT: read as residues, not as bases"
    ]


@pytest.mark.parametrize("k", [1, 5, 200])
def test_a_string_finds_the_records_with_the_cdr3_most_like_it(table, db_path, k):
    junction = table.loc[0, "junction_aa"]
    cdr3 = table.loc[0, "cdr3"]
    told = cli("query", db_path, "--cdr3", junction, "--cdr3", cdr3[:-1], "-k", k)
    assert told.code == 0
    assert f"{junction} begins with C and ends with W or F: a junction, with the CDR3 {cdr3}" in told.err
    header = "query\ttarget\tdomain\trank\tcdr3_aa\tcdr3_identity\tdescription"
    assert told.out.splitlines()[0] == header
    for query, string in ((junction, cdr3), (cdr3[:-1], cdr3[:-1])):
        rows = [row for row in told.rows if row[0] == query]
        keys = [
            (-cdr3_identity(string, row.cdr3), len(row.cdr3) != len(string), n)
            for n, row in enumerate(table.itertuples())
        ]
        order = [table.sequence_id[n] for _, _, n in sorted(keys)]
        assert [row[1] for row in rows] == order[:k]


def test_no_model_is_loaded_for_a_string_or_a_stored_record(db_path, tmp_path):
    for asked in (("--cdr3", "CARDYW"), ("--id", "sim_h0001", "--same", "cdr3_length")):
        done = process(tmp_path, "query", db_path, *asked)
        assert done.code == 0 and len(done.out.splitlines()) > 1
        assert not done.packages & {"torch", "antiberty", "immunum", "faiss"}


def test_a_record_with_two_domains_is_one_hit_by_its_nearest(tmp_path):
    scfv = VH + "GGGGSGGGGSGGGGS" + VL
    path = make_antibodies(tmp_path / "db", [("scfv", scfv), ("vh", VH), ("vl", VL)])
    heavy, light = (find_domains(chain)[0].region("cdr3") for chain in (VH, VL))
    columns = ("--format-output", "query,target,domain,cdr3_aa")
    found = cli("query", path, "--id", "scfv", "--min-cdr3-identity", 1, "--exclude-self", *columns)
    assert found.rows == [["scfv#1", "vh", "1", heavy], ["scfv#2", "vl", "1", light]]
    assert cli("query", path, "--cdr3", light, "--min-cdr3-identity", 1, *columns).rows == [
        [light, "scfv", "2", light],
        [light, "vl", "1", light],
    ]
    both = cli("query", path, "--id", "vh", "--min-cdr3-identity", 0, "--across-loci", *columns).rows
    assert [row[1:3] for row in both] == [["scfv", "1"], ["vh", "1"], ["vl", "1"]]
    pair = cli("query", path, "--seq", f"{VH};{VL}", "--min-cdr3-identity", 1, "--same", "cdr3_length")
    assert [row[:2] for row in pair.rows] == [
        ["query_1#1", "scfv"], ["query_1#1", "vh"], ["query_1#2", "scfv"], ["query_1#2", "vl"]
    ]  # fmt: skip
    with open_database(path) as db:
        db.embed(SpaceRequest("kmer", preset="whole"))
    columns = ("--space", "kmer/1/whole/mean", "--format-output", "query,target,score")
    pair = cli("query", path, "--seq", f"{VH};{VL}", "--min-cdr3-identity", 1, *columns)
    assert [row[2] for row in pair.rows] == [""] * 4, "no model reads two chains as one"


def test_what_is_deleted_or_in_no_domain_is_not_found(tmp_path):
    path = make_antibodies(tmp_path / "db", [("a", VH), ("b", VH), ("no", "MKTAYIAKQRQISFVKSHFSRQ")])
    with open_database(path) as db:
        db.delete(["a"])
    found = cli("query", path, path, "--min-cdr3-identity", 0, "--format-output", "query,target")
    assert found.rows == [["b", "b"]]
    assert found.code == 3 and "'no'" in found.err
    alone = cli("query", path, "--id", "no", "--min-cdr3-identity", 0)
    assert alone.code == 3 and "'no'" in alone.err and alone.rows == []
    gone = cli("query", path, "--id", "a", "--min-cdr3-identity", 0)
    assert gone.code == 1 and "no record 'a'" in gone.err


def test_a_database_without_domains_is_refused_with_the_command_that_mends_it(tmp_path):
    path = make_db(tmp_path / "db", [("a", VH), ("b", VL)])
    told = cli("query", path, "--cdr3", "ARDY")
    assert told.code == 1 and f"plmsearch embed {path} --preset antibody" in told.err
    with open_database(path) as db, pytest.raises(EmbeddingError, match="nobody has looked"):
        db.search_alike_stored(["a"], Cdr3Options(0.5), SearchOptions(), report=AddReport())
    assert cli("embed", path, "--preset", "antibody", "-m", "kmer").code == 0
    assert cli("query", path, "--cdr3", "SRWGGDGFYAMDY", "--min-cdr3-identity", 1).rows[0][1] == "a"


@pytest.mark.parametrize(
    "asked",
    [
        ("--cdr3", "ARD", "--id", "sim_h0001"),
        ("--cdr3", "ARD", "--same", "v"),
        ("--cdr3", "ARD", "--rerank", "align"),
        ("--id", "sim_h0001", "--same", "v", "--min-score", "0.5"),
        ("--id", "sim_h0001", "--same", "v", "--threshold", "0.5"),
        ("--id", "sim_h0001", "--same", "v", "--index", "hnsw"),
        ("--id", "sim_h0001", "--no-model"),
        ("--id", "sim_h0001", "--min-cdr3-identity", "1.5"),
    ],
)
def test_what_cannot_be_combined_is_a_usage_error(db_path, asked):
    assert cli("query", db_path, *asked).code == 2


def test_values_are_typed_and_empty_where_there_is_no_score(db_path):
    asked = ("--cdr3", "ARDY", "-k", 1, "--format", "jsonl", "--format-output", "target,cdr3_identity,score")
    (line,) = cli("query", db_path, *asked).out.splitlines()
    row = json.loads(line)
    assert isinstance(row["cdr3_identity"], float) and row["score"] is None
