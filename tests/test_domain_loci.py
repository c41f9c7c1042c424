"""Every variable domain is compared within its own locus and with its centre, whatever else says a locus."""

from __future__ import annotations

import shutil
from contextlib import closing

import numpy as np
import pytest
from antibodies import (
    CH1,
    KMER_CDR3,
    KMER_DOMAIN,
    LEADER,
    NO_DOMAIN,
    SCFV,
    VH_2,
    VH_3,
    VH_4,
    antibody_db,
    domains_of,
)
from databases import merged
from support import VH, VL, break_seal, cli, ledger

from plmsearch.database import open_database
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.errors import ParameterError
from plmsearch.optimize import optimize
from plmsearch.search.hits import SearchOptions
from plmsearch.sequences import SequenceRecord
from plmsearch.store import repository as repository_module
from plmsearch.store.connection import sqlite_module
from plmsearch.verify import verify

VL_2 = VL.replace("SGSRSG", "SGSGSG")
#: The loci of inputs are wrong, or of another chain than the domain.
GIVEN = [
    SequenceRecord("scfv", SCFV, "", {"locus": "IGH", "donor": "d1"}),
    SequenceRecord("turned", f"{VL_2};{VH_2}", "", {"locus": "IGL", "donor": "d1"}),
    SequenceRecord("chain", LEADER + VH_3 + CH1, "", {"locus": "IGK", "donor": "d2"}),
    SequenceRecord("vh", VH, "", {"locus": "IGK", "donor": "d1"}),
    SequenceRecord("vl", VL, "", {"locus": "IGH", "donor": "d2"}),
    SequenceRecord("none", NO_DOMAIN, "", {"locus": "IGH", "donor": "d2"}),
    SequenceRecord("gone", VH_4, "", {"locus": "IGK", "donor": "d2"}),
]
QUERIES = {"IGH": VH.replace("KDTYIH", "KDSYIH"), "IGK": VL.replace("QDVNTA", "QDVNSA")}


@pytest.fixture(autouse=True, scope="module")
def centres():
    """Let `kmer` have shipped centres by locus, for a model that runs in no time."""
    rng = np.random.default_rng(1)
    found = {name: rng.random(512).astype(np.float32) / 64 for name in ("", "IGH", "IGK")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repository_module, "reference_centres", lambda spec: found)
        yield found


def _without_gone(path, given, *, chains=True):
    antibody_db(path, given, chains=chains)
    with open_database(path) as db:
        db.delete([i for i in ["gone"] if i in {r.record_id for r in given}])
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory, centres):
    """Databases of the same records: as indexed, merged of two, and with what they could not know altered."""
    folder = tmp_path_factory.mktemp("made")
    _without_gone(folder / "indexed", GIVEN)
    _without_gone(folder / "first", GIVEN[:3])
    _without_gone(folder / "second", GIVEN[3:])
    merged([folder / "first", folder / "second"], folder / "merged")
    _without_gone(folder / "domains", GIVEN, chains=False)
    for name, locus in (("unknown", "NULL"), ("exchanged", "'IGL'")):
        path = shutil.copytree(folder / "domains", folder / name)
        with closing(sqlite_module().connect(path / "catalog.sqlite")) as catalog:
            catalog.execute(
                f"UPDATE sequences SET locus = {locus} WHERE id IN (SELECT sequence_id FROM domains)"
            )
            catalog.commit()
        break_seal(path)
    return folder


def _unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _expected(path, centres, locus, domain, cdr3, names=None):
    """The best score of each record among its domains of a locus, by the definition of the ranking."""
    found = {}
    with open_database(path) as db:
        of = {i: [d for _, d in ds] for i, ds in domains_of(path).items() if names is None or i in names}
        for name, ds in of.items():
            units = [f"{name}#{d.number}" if len(ds) > 1 else name for d in ds if d.locus == locus]
            scores = np.zeros(len(units))
            for query, space in ((domain, KMER_DOMAIN), (cdr3, KMER_CDR3)):
                raw = db.vectors(units, space=space) if units else np.empty((0, 512))
                scores += _unit(raw - centres[locus]) @ _unit(query - centres[locus]) / 2
            found.update({name: scores.max()} if units else {})
    return found


def _assert_right(path, centres, tmp_path):
    """Compare hits of both loci with what numpy says, of everything and of what a condition selects."""
    queries = antibody_db(tmp_path / "queries", list(QUERIES.items()))
    with open_database(queries) as db:
        of_query = {i: [db.vectors([i], space=s)[0] for s in (KMER_DOMAIN, KMER_CDR3)] for i in QUERIES}
    with open_database(path) as db:
        for where, names in ((None, None), ("donor = 'd1'", {"scfv", "turned", "vh"})):
            options = SearchOptions(k=20, where=where, significance=False)
            for locus, hits in zip(QUERIES, db.search(list(QUERIES.values()), options=options), strict=True):
                wanted = _expected(path, centres, locus, *of_query[locus], names)
                assert {h.target: h.score for h in hits} == pytest.approx(wanted, abs=1e-5)
                assert {h.domain.locus for h in hits} == {locus}


MADE = ["indexed", "merged", "unknown", "exchanged"]


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("change", ["", "without derived files", "compacted", "added to"])
def test_a_domain_is_compared_within_its_own_locus(made, centres, tmp_path, name, change):
    path = shutil.copytree(made / name, tmp_path / "db")
    if change == "without derived files":
        shutil.rmtree(path / "derived")
        (path / "derived").mkdir()
    with open_database(path) as db:
        if change == "compacted":
            optimize(db)
        if change == "added to":
            db.add([("new", f"{VH_4};{VL}"), ("again", VL_2 + CH1)])
    _assert_right(path, centres, tmp_path)
    with open_database(path) as db:
        found = {f.severity for f in verify(db, full=True)} - {"note"}  # of the seal that was broken
        assert found == ({"rebuildable"} if change == "without derived files" else set())


@pytest.mark.parametrize("name", MADE)
def test_a_stored_domain_finds_what_the_same_residues_find(made, name):
    with open_database(made / name) as db:
        options = SearchOptions(k=20, significance=False)
        stored = db.search_stored(["scfv", "turned", "vh", "vl"], db.ranking(), options)
        for query, hits in stored:
            (anew,) = db.search([query.residues], options=options)
            assert query.locus == query.domain.locus and hits
            assert {h.target: h.score for h in hits} == pytest.approx(
                {h.target: h.score for h in anew}, abs=1e-5
            )


def test_spaces_added_later_take_the_locus_of_the_domain_too(made, tmp_path):
    path = shutil.copytree(made / "exchanged", tmp_path / "db")
    with open_database(path) as db:
        db.embed(SpaceRequest("kmer", regions="cdr1"))
        assert verify(db, full=True) == []
        ranking = db.ranking("kmer/1/cdr1/mean+reference")
        for query, hits in db.search_stored(["scfv", "vl"], ranking, SearchOptions(k=20, significance=False)):
            assert {h.domain.locus for h in hits} == {query.domain.locus}


def test_a_locus_of_the_input_that_is_not_the_domains_is_counted_and_changes_no_hit(tmp_path, centres):
    rows = tmp_path / "in.tsv"
    chains = {"a": (VH, "IGK"), "b": (VL, "IGH"), "c": (VH_2, "IGH"), "d": (SCFV, "IGH")}
    for name, column in (("with", True), ("without", False)):
        lines = [f"{i}\t{chain}\t{locus if column else ''}" for i, (chain, locus) in chains.items()]
        rows.write_text("\n".join(["id\tsequence\tlocus", *lines]) + "\n")
        done = cli("index", tmp_path / name, rows, "-m", "kmer", "--preset", "antibody")
        assert done.code == 0, done.err
        assert ("2 rows: locus is not what numbering gives" in done.err) == column, done.err
    notes = {r["input_id"]: r["notes"] for r in ledger(tmp_path / "with", 1)}
    assert {i for i, note in notes.items() if "disagrees_locus" in note} == {"a", "b"}
    asked = [
        cli("query", tmp_path / name, "--id", "a", "--id", "b", "-k", 9).rows for name in ("with", "without")
    ]
    assert asked[0] == asked[1] and len(asked[0]) == 5


def test_vectors_are_compared_within_the_locus_they_are_given_and_else_with_all(made):
    with open_database(made / "unknown") as db:
        vectors, plain = db.vectors(["vh"], space=KMER_CDR3), f"{KMER_CDR3}+none"
        loci = {
            given: {
                h.domain.locus
                for h in db.search(vectors, k=20, ranking=plain, loci=None if given is None else [given])[0]
            }
            for given in (None, "", "IGH", "IGK", "IGL")
        }
        assert loci.pop(None) == loci.pop("") == {"IGH", "IGK"}
        assert loci == {"IGH": {"IGH"}, "IGK": {"IGK"}, "IGL": set()}
        for given in (["IGH", "IGH"], []):
            with pytest.raises(ParameterError, match="1 long"):
                db.search(vectors, ranking=plain, loci=given)
        with pytest.raises(ParameterError, match="left out"):
            db.search(vectors, ranking=f"{KMER_CDR3}+reference")
