"""Databases of variable domains: records of several, of none, of other loci; added and searched."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from antibodies import (
    CH1,
    KMER_CDR3,
    KMER_CHAIN,
    KMER_DOMAIN,
    LEADER,
    NO_DOMAIN,
    SCFV,
    VH_2,
    VH_3,
    VH_4,
    add_domains,
    antibody_db,
    assert_same_units,
    domains_of,
    unit_vectors_of,
)
from databases import Stopping, assert_sound
from support import VH, VL, cli, ledger, make_db, watched_kmer, write_fasta

from plmsearch.database import open_database
from plmsearch.domains import cut_domains
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.errors import MixedInputError, ModelUnavailableError, ParameterError
from plmsearch.ingest import chunks
from plmsearch.ingest.domains import find_domains
from plmsearch.ingest.report import AddReport
from plmsearch.ingest.scan import RecordList
from plmsearch.numbering import ImmunumNumberer
from plmsearch.overview import DomainOverview, overview
from plmsearch.search.hits import SearchOptions
from plmsearch.sequences import SequenceRecord
from plmsearch.vectors import unit_vectors
from plmsearch.verify import verify

RECORDS = [
    ("scfv", SCFV),
    ("chain", LEADER + VH_2 + CH1),
    ("none", NO_DOMAIN),
    ("pair", f"{VL};{VH_3}"),
    ("vh", VH),
    ("twice", VH_3 + "GGGGSGGGGSGGGGS" + VH_4),
]
TRB = (
    "NAGVTQTPKFQVLKTGQSMTLQCAQDMNHEYMSWYRQDPGMGLRLIHYSVGAGITDQGEVPNGYNVSRSTTEDFPLRLLSAAPSQTSVYFCASRPGLAGG"
    "RPEQYFGPGTRLTVTE"
)
TRB_2 = TRB.replace("MNHEYMS", "MNHNSMY")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return antibody_db(tmp_path_factory.mktemp("domains") / "db", RECORDS)


# --- Adding --------------------------------------------------------------------------------------


def test_every_domain_has_a_vector_and_a_record_is_one_record(path):
    numberer = ImmunumNumberer()
    wanted = {i: [d.residues for d in cut_domains(s, numberer)] for i, s in RECORDS}
    assert {i: [r for r, _ in found] for i, found in domains_of(path).items()} == wanted
    with open_database(path) as db:
        assert len(db) == len(RECORDS)
        assert verify(db, full=True) == []
        distinct = {r for of in wanted.values() for r in of}
        assert {s.spec.name: s.n_vectors for s in db.spaces()} == dict.fromkeys(
            [KMER_DOMAIN, KMER_CDR3], len(distinct)
        )
        for space in (KMER_DOMAIN, KMER_CDR3):
            same = db.vectors(["scfv#1", "vh"], space=space)
            np.testing.assert_array_equal(same[0], same[1])


def test_a_record_without_a_domain_is_stored_and_named(tmp_path):
    rows = write_fasta(tmp_path / "in.fasta", [*RECORDS, ("tcr", TRB)])
    done = cli("index", tmp_path / "db", rows, "-m", "kmer", "--preset", "antibody")
    assert done.code == 0, done.err
    (said,) = [line for line in done.err.splitlines() if "cannot be found among variable domains" in line]
    assert "2 records are stored" in said and "none: it holds no antibody variable domain" in said
    assert "tcr: it is a T-cell receptor" in said
    assert "holds 7 records" in done.err
    with open_database(tmp_path / "db") as db:
        (found,) = db.search([VH], k=9)
        assert {h.target for h in found} == {i for i, _ in RECORDS} - {"none"}
        assert db.get(["none"])[0].residues == NO_DOMAIN
    notes = {r["input_id"]: r["notes"] for r in ledger(tmp_path / "db", 1)}
    assert '"domains": 0' in notes["none"] and '"domains": 2' in notes["scfv"] and not notes["vh"]


def test_a_chain_without_a_domain_beside_one_with_it_is_named(tmp_path):
    rows = tmp_path / "in.csv"
    rows.write_text(f"id,H,L\nhalf,{NO_DOMAIN},{VL}\nboth,{VH},{VL}\ngap,{VH},-\nother,{VH},{TRB}\n")
    columns = ("--heavy-col", "H", "--light-col", "L")
    done = cli("index", tmp_path / "db", rows, *columns, "-m", "kmer", "--preset", "antibody")
    assert done.code == 0, done.err
    (said,) = [line for line in done.err.splitlines() if "a chain without a variable domain" in line]
    assert "2 records" in said and "half: chain 1 of 2: it holds no antibody variable domain" in said
    assert "other: chain 2 of 2: it is a T-cell receptor" in said
    assert "1 row: no light chain; the heavy chain is alone" in done.err
    notes = {r["input_id"]: r["notes"] for r in ledger(tmp_path / "db", 1)}
    assert '"chains_without_domain": 1' in notes["half"] and "chains_without" not in notes["both"]
    assert said.removesuffix(".") in cli("query", tmp_path / "db", rows, *columns).err


def test_weights_that_no_ranking_of_the_database_has_are_refused_when_adding(path, tmp_path):
    rows = write_fasta(tmp_path / "in.fasta", [("new", VH_2)])
    for weights, code in (("whole=1,cdr3=1", 0), ("whole=0.1,cdr3=0.9", 1)):
        done = cli("index", shutil.copytree(path, tmp_path / weights), rows, "--weights-by-region", weights)
        assert done.code == code, done.err
    command = done.err.split("store another with plmsearch ")[1].split()
    assert cli(*command).code == 0
    assert cli("index", tmp_path / weights, rows, "--weights-by-region", weights).code == 0


def test_a_region_that_is_missing_leaves_a_domain_out_and_is_counted(tmp_path):
    """Without FWR1: the chain begins where CDR1 does."""
    (whole,) = find_domains(VH)
    short = VH[whole.ends[0] :]
    (domain,) = find_domains(short)
    assert domain.region("fwr1") == "" and domain.region("cdr1") == whole.region("cdr1")
    rows = write_fasta(tmp_path / "in.fasta", [("short", short), ("vh", VH)])
    done = cli("index", tmp_path / "db", rows, "-m", "kmer", "--regions", "whole,fwr1")
    assert done.code == 0
    assert "1 variable domain has no residue in the region of kmer/1/fwr1/mean: short" in done.err
    vectors = unit_vectors_of(tmp_path / "db")
    assert vectors["kmer/1/fwr1/mean"].keys() == {"vh#1"} and len(vectors[KMER_DOMAIN]) == 2
    with open_database(tmp_path / "db") as db:
        assert verify(db, full=True) == []
        assert [h.target for h in db.search([VH], k=5)[0]] == ["vh"]
    done = cli("query", tmp_path / "db", rows, "-k", "1")
    assert done.code == 3
    assert "in.fasta, record 1): its variable domain has no residue in fwr1, which is compared" in done.err
    left = cli("query", tmp_path / "db", "--seq", short)
    assert left.code == 3 and "fwr1" in left.err


def test_the_same_again_adds_nothing_and_runs_no_model(path, tmp_path, monkeypatch):
    again = antibody_db(tmp_path / "db", RECORDS)
    with watched_kmer(monkeypatch) as passes:
        report = add_domains(again, [*RECORDS[::-1], ("copy", SCFV)])
    assert (report.n_added, report.n_present, report.n_embedded, passes) == (1, len(RECORDS), 0, [])
    with open_database(again) as db:
        db.delete(["copy"])
    assert_same_units(again, path)


@pytest.mark.parametrize("rows_at_once", [1, 2, 4096])
def test_chunks_and_order_make_no_difference(path, tmp_path, monkeypatch, rows_at_once):
    monkeypatch.setattr(chunks, "_MAX_ROWS", rows_at_once)
    monkeypatch.setattr(chunks, "_LOOK_UP", rows_at_once + 1)
    other = antibody_db(tmp_path / "db", RECORDS[::-1])
    assert_same_units(other, path)
    assert_sound(other)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_what_was_interrupted_continues(path, tmp_path, monkeypatch, after):
    monkeypatch.setattr(chunks, "_MAX_ROWS", 2)
    request = SpaceRequest("kmer", preset="antibody")
    rows = RecordList([SequenceRecord(*r) for r in RECORDS])
    with open_database(tmp_path / "db", create=True) as db, pytest.raises(KeyboardInterrupt):
        db.add_inputs([rows], request=request, progress=Stopping(after))
    with open_database(tmp_path / "db", create=True) as db:
        db.add_inputs([rows], request=request)
        assert verify(db, full=True) == []
        assert db.ranking().name == "antibody"
    assert_same_units(tmp_path / "db", path)


# --- An old database -----------------------------------------------------------------------------


@pytest.mark.parametrize("stop_after", [None, 1])
def test_domains_are_found_in_the_chains_of_an_old_database(path, tmp_path, monkeypatch, stop_after):
    monkeypatch.setattr(chunks, "_MAX_ROWS", 2)
    rows = [r for r in RECORDS if ";" not in r[1]]
    old = make_db(tmp_path / "old", rows)
    with open_database(old) as db:
        if stop_after is not None:
            with pytest.raises(KeyboardInterrupt):
                db.embed(SpaceRequest("kmer", preset="antibody"), progress=Stopping(stop_after))
        report = db.embed(SpaceRequest("kmer", preset="antibody"))
        assert report.spaces == [KMER_DOMAIN, KMER_CDR3]
        assert db.ranking().name == KMER_CHAIN  # the default stays
        assert db.ranking("antibody").reads_domains
        assert verify(db, full=True) == []
        assert db.embed(SpaceRequest("kmer", preset="antibody")).n_embedded == 0
    ours, wanted = unit_vectors_of(old), unit_vectors_of(antibody_db(tmp_path / "new", rows))
    for space, vectors in wanted.items():
        assert ours[space].keys() == vectors.keys()
        for name, vector in vectors.items():
            np.testing.assert_allclose(ours[space][name], vector, atol=1e-6)
    assert make_db(old, [("more", VH_4)]) == old
    assert "more#1" in unit_vectors_of(old)[KMER_CDR3]


# --- Searching -----------------------------------------------------------------------------------


def cosines(path, spaces, query):
    """Mean cosine of a domain with every unit of a database."""
    stored = unit_vectors_of(path)
    total: dict[str, float] = {}
    with open_database(path) as db:
        embedded = unit_vectors_of_query(db, query)
        for space in spaces:
            q = unit_vectors(embedded[space][None], 512)[0]
            for unit, vector in stored[space].items():
                score = float(unit_vectors(vector[None], 512)[0] @ q)
                total[unit] = total.get(unit, 0.0) + score / len(spaces)
    return total


def unit_vectors_of_query(db, residues):
    """The vectors of a chain of one domain that is stored."""
    (name,) = [r.record_id for r in db.repository.all_records() if r.residues == residues]
    return {s.spec.name: db.vectors([name], space=s.spec.name)[0] for s in db.spaces()}


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 9])
def test_hits_are_the_k_nearest_records_by_their_nearest_domain(path, k):
    scores = cosines(path, [KMER_DOMAIN, KMER_CDR3], VH)
    nearest: dict[str, float] = {}
    for unit, score in scores.items():
        record = unit.partition("#")[0]
        nearest[record] = max(nearest.get(record, -2.0), score)
    with open_database(path) as db:
        (hits,) = db.search([VH], k=k)
    wanted = sorted(nearest.values(), reverse=True)[:k]
    np.testing.assert_allclose([h.score for h in hits], wanted, atol=1e-5)
    assert len({h.target for h in hits}) == len(hits) == min(k, 5)
    for hit in hits:
        unit = f"{hit.target}#{hit.domain.number}"
        assert scores[unit] == pytest.approx(hit.score, abs=1e-5)
        assert hit.residues in (VH, VL, VH_2, VH_3, VH_4)


def test_a_query_of_several_domains_has_a_block_for_each(path):
    done = cli("query", path, "--seq", SCFV, "-k", "2", "--format", "tsv")
    assert done.code == 0, done.err
    blocks = [(row[0], row[1]) for row in done.rows]
    assert [q for q, _ in blocks] == ["query_1#1", "query_1#1", "query_1#2", "query_1#2"]
    assert {t for q, t in blocks if q == "query_1#2"} == {"scfv", "pair"}
    stored = cli("query", path, "--id", "scfv", "-k", "2", "--format", "tsv")
    assert [row[0] for row in stored.rows] == ["scfv#1", "scfv#1", "scfv#2", "scfv#2"]
    one = cli("query", path, "--id", "scfv#2", "-k", "1", "--format", "tsv")
    assert [row[0] for row in one.rows] == ["scfv#2"]
    with open_database(path) as db, pytest.raises(ParameterError, match="one variable domain each"):
        db.search([VH, SCFV])


def test_a_query_without_a_domain_is_left_out_with_a_reason(path, tmp_path):
    rows = write_fasta(tmp_path / "q.fasta", [("a", VH), ("b", NO_DOMAIN), ("c", TRB)])
    done = cli("query", path, rows, "-k", "1", "--format", "tsv")
    assert done.code == 3
    assert [row[:2] for row in done.rows] == [["a", "scfv"]]
    assert "'b'" in done.err and "no antibody variable domain" in done.err
    assert "'c'" in done.err and "T-cell receptor" in done.err
    only = cli("query", path, "--seq", NO_DOMAIN)
    assert only.code == 3 and "Traceback" not in only.err
    by_id = cli("query", path, "--id", "none")
    assert by_id.code == 1 and "'none' has no vector" in by_id.err and "variable domain" in by_id.err
    with open_database(path) as db, pytest.raises(ParameterError, match="antibody variable domain"):
        db.search([NO_DOMAIN])


@pytest.mark.parametrize("with_itself", [True, False])
def test_all_domains_of_a_database_search_another(path, tmp_path, with_itself):
    other = (
        path
        if with_itself
        else antibody_db(tmp_path / "b", [("light", VL), ("both", VH_4 + CH1), ("no", NO_DOMAIN)])
    )
    report = AddReport()
    with open_database(path) as db, open_database(other) as queries:
        options = SearchOptions(exclude_self=with_itself)
        found = list(db.search_all(queries, k=9, options=options, report=report))
        names = [r.record_id for r in queries.repository.all_records()]
        for query, hits in found:
            alone = list(
                db.search_records([SequenceRecord("q", query.residues)], db.ranking(), SearchOptions(k=9))
            )
            expected = [
                (h.target, h.score) for h in alone[0][1] if not (with_itself and h.target == query.record_id)
            ]
            assert [h.target for h in hits] == [t for t, _ in expected]
            np.testing.assert_allclose([h.score for h in hits], [s for _, s in expected], atol=1e-5)
    held = domains_of(other)
    wanted = [f"{n}#{d.number}" if len(held[n]) > 1 else n for n in names for _, d in held[n]]
    assert [q.query_id for q, _ in found] == wanted
    assert [s.record_id for s in report.skipped] == [n for n in names if not held[n]]


def test_conditions_are_of_records(path, tmp_path):
    rows = [SequenceRecord(i, s, "", {"n": n}) for n, (i, s) in enumerate(RECORDS)]
    made = antibody_db(tmp_path / "db", rows)
    with open_database(made) as db:
        (hits,) = db.search([VH], k=9, options=SearchOptions(where="n in (2, 3, 5)"))
        assert {h.target for h in hits} == {"pair", "twice"}
        db.delete(["twice"])
        assert {h.target for h in db.search([VH_4], k=9)[0]} == {"scfv", "chain", "pair", "vh"}


# --- With the model that the preset is of --------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """`antiberty` by itself, a small database and a larger one that holds the same pair."""
    folder = tmp_path_factory.mktemp("real")
    with open_database(folder / "two", create=True) as db:
        db.add([("a", VH), ("b", VH_4)])
    with open_database(folder / "many", create=True) as db:
        db.add(
            [
                ("x", SCFV),
                ("b", VH_4),
                ("c", VH_2),
                ("d", VH_3),
                ("light", VL),
                ("l2", VL.replace("SGSRSG", "SGSGSG")),
            ]
        )
    return folder


def test_antibodies_get_the_preset_without_being_asked(real):
    with open_database(real / "two") as db:
        assert [s.spec.name for s in db.spaces()] == [
            "antiberty/6/whole/mean/domain",
            "antiberty/6/cdr3/mean",
        ]
        assert db.ranking().name == "antibody" and db.ranking().needs_locus


def test_a_score_is_the_same_whatever_else_is_stored(real):
    scores = []
    for name in ("two", "many"):
        with open_database(real / name) as db:
            (hits,) = db.search([LEADER + VH + CH1], k=20)
            scores.append({h.target: h.score for h in hits})
    assert scores[0]["b"] == pytest.approx(scores[1]["b"], abs=1e-6)
    assert scores[0]["a"] == pytest.approx(1, abs=1e-5) == pytest.approx(scores[1]["x"], abs=1e-5)


def test_hits_stay_within_the_locus_unless_asked(real):
    with open_database(real / "many") as db:
        heavy, light = db.search([VH, VL], k=20)
        assert {h.target for h in heavy} == {"x", "b", "c", "d"}
        assert {h.target for h in light} == {"x", "light", "l2"}
        assert {h.domain.locus for h in heavy} == {"IGH"} and {h.domain.locus for h in light} == {"IGK"}
        across, _ = db.search([VH, VL], k=20, options=SearchOptions(across_loci=True))
        assert {h.target for h in across} == {"x", "b", "c", "d", "light", "l2"}
    done = cli("query", real / "many", "--seq", VH, "--across-loci", "-k", "20", "--format", "tsv")
    assert len(done.rows) == 6 and len(cli("query", real / "many", "--seq", VH, "--format", "tsv").rows) == 4


def test_hits_of_a_model_without_centres_stay_within_the_locus_too(path):
    with open_database(path) as db:
        (light,) = db.search([VL], k=20)
        assert {(h.target, h.domain.locus) for h in light} == {("scfv", "IGK"), ("pair", "IGK")}
        (across,) = db.search([VL], k=20, options=SearchOptions(across_loci=True))
        assert {h.target for h in across} == {i for i, _ in RECORDS} - {"none"}
        assert {h.target for h in db.search([VH], k=20)[0]} == {i for i, _ in RECORDS} - {"none"}


def test_receptors_of_t_cells_are_given_to_no_model_of_antibodies_unasked(tmp_path):
    with open_database(tmp_path / "db", create=True) as db:
        with pytest.raises(ModelUnavailableError, match="T-cell receptor"):
            db.add([("a", TRB), ("b", TRB_2)])
        with pytest.raises(MixedInputError):
            db.add([("a", TRB), ("b", TRB_2), ("c", VH), ("d", VL)])
    assert not (tmp_path / "db").exists()


def test_receptors_of_t_cells_come_with_a_warning_if_asked_for(tmp_path):
    rows = write_fasta(tmp_path / "t.fasta", [("a", TRB), ("b", TRB_2)])
    done = cli("index", tmp_path / "db", rows, "-m", "antiberty")
    assert done.code == 0
    assert "warning: 2 of 2 sampled sequences hold the variable domain of a T-cell receptor" in done.err
    more = cli("index", tmp_path / "db", write_fasta(tmp_path / "u.fasta", [("c", TRB[:-3])]))
    assert more.code == 0 and "warning: 1 of 1" in more.err
    antibodies = cli(
        "index", tmp_path / "igs", write_fasta(tmp_path / "v.fasta", [("c", VH)]), "-m", "antiberty"
    )
    assert antibodies.code == 0 and "warning" not in antibodies.err
    vectors = cli("embed", rows, "-m", "antiberty", "-o", tmp_path / "x.npz")
    assert vectors.code == 0 and "warning: 2 of 2" in vectors.err


def test_info_counts_domains_by_locus(path, tmp_path):
    told = cli("info", path)
    assert "domains     6 IGH, 2 IGK; 1 record without one" in told.out
    with open_database(path) as db:
        found = overview(db)
    assert (found.n_records, found.domains) == (6, DomainOverview({"IGH": 6, "IGK": 2}, 1))
    chains = make_db(tmp_path / "chains", [("vh", VH)])
    assert "\ndomains " not in cli("info", chains).out


def test_chains_in_the_column_of_the_other_kind_are_named_and_count_as_what_they_are(tmp_path):
    table = tmp_path / "pairs.csv"
    rows = [("a", VH, VL), ("b", VL, VH), ("c", VL, ""), ("d", VH, NO_DOMAIN), ("e", SCFV, VL)]
    table.write_text("Name,VH,VL\n" + "".join(f"{','.join(row)}\n" for row in rows))
    columns = ("--heavy-col", "VH", "--light-col", "VL")
    ended = cli("index", tmp_path / "db", table, "-m", "kmer", "--preset", "antibody", *columns)
    assert "2 records have a light chain in --heavy-col or a heavy one in --light-col" in ended.err
    assert ": b, c\n" in ended.err
    notes = [json.loads(str(row["notes"] or "{}")) for row in ledger(tmp_path / "db", 1)]
    assert [one.get("chains_in_other_column", 0) for one in notes] == [0, 2, 1, 0, 0]
    asked = cli("query", tmp_path / "db", table, *columns, "-k", 1, "--format-output", "query,target,locus")
    assert ": b, c\n" in asked.err and "b#1\ta\tIGK\n" in asked.out
    table.write_text(f"Name,VL,VH\nf,{VH},{VL}\ng,{VH_2},{VL[:-1]}\n")
    ended = cli("index", tmp_path / "db", table, *columns)
    assert "f, g; that is all of them: are the columns exchanged?" in ended.err
