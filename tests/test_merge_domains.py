"""Databases of variable domains as one, against the same records indexed together."""

from __future__ import annotations

import shutil
from pathlib import Path

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
    antibody_db,
    assert_same_units,
    domains_of,
    unit_vectors_of,
)
from databases import assert_sound, merged
from support import VH, VL, cli, contents

from plmsearch import transform_fit
from plmsearch.database import open_database
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.errors import DatabaseSpacesMismatch, DuplicateRecordError, StorageError
from plmsearch.exchange import pages, writer
from plmsearch.ingest.report import Progress
from plmsearch.optimize import optimize
from plmsearch.rankings import RankingChanges
from plmsearch.store.rows import Chunk

FIRST = [("scfv", SCFV), ("chain", LEADER + VH + CH1), ("none", NO_DOMAIN), ("pair", f"{VL};{VH_2}")]
SECOND = [
    ("vl", VL),
    ("more", VH_3),
    ("scfv", SCFV),
    ("nothing", NO_DOMAIN + "A"),
    ("same", LEADER + VH + CH1),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for kind, chains in (("domains", False), ("both", True)):
        antibody_db(folder / kind / "a", FIRST, chains=chains)
        antibody_db(folder / kind / "b", SECOND, chains=chains)
        antibody_db(folder / kind / "all", dict([*FIRST, *SECOND]).items(), chains=chains)
    return folder


@pytest.mark.parametrize("kind", ["domains", "both"])
@pytest.mark.parametrize("rows_at_once", [2, 1000])
def test_the_merged_database_is_that_of_all_records(made, tmp_path, monkeypatch, kind, rows_at_once):
    monkeypatch.setattr(pages, "_PAGE_ROWS", rows_at_once)
    monkeypatch.setattr(writer, "_MAX_ROWS", rows_at_once)
    report = merged([made / kind / "a", made / kind / "b"], tmp_path / "out")
    assert (report.n_rows, report.n_added, report.n_present) == (9, 8, 1)
    together = made / kind / "all"
    assert contents(tmp_path / "out") == contents(together)
    assert_same_units(tmp_path / "out", together)
    assert_sound(tmp_path / "out")
    with open_database(tmp_path / "out") as ours, open_database(together) as theirs:
        assert [r.name for r in ours.rankings()] == [r.name for r in theirs.rankings()]
        assert ours.rankings()[0].name == "antibody"
        for mine, its in zip(ours.search([VH, VL], k=9), theirs.search([VH, VL], k=9), strict=True):
            assert [h.target for h in mine] == [h.target for h in its]
            np.testing.assert_allclose([h.score for h in mine], [h.score for h in its], atol=1e-6)
        assert ours.repository.n_sequences() == theirs.repository.n_sequences()


def test_a_record_of_several_chains_has_no_vector_of_the_whole(made, tmp_path):
    merged([made / "both" / "a", made / "both" / "b"], tmp_path / "out")
    vectors = unit_vectors_of(tmp_path / "out")
    assert "pair" not in vectors[KMER_CHAIN] and "none" in vectors[KMER_CHAIN]
    assert {"pair#1", "pair#2", "scfv#1", "scfv#2"} <= vectors[KMER_DOMAIN].keys()
    assert not {"none", "none#1"} & vectors[KMER_DOMAIN].keys()
    assert vectors[KMER_DOMAIN].keys() == vectors[KMER_CDR3].keys()


def test_an_id_that_is_taken_keeps_the_domains_of_both(made, tmp_path):
    other = antibody_db(tmp_path / "other", [("scfv", f"{VL};{VH_3}"), ("vl", VL)])
    with pytest.raises(DuplicateRecordError, match="already taken"):
        merged([made / "domains" / "a", other], tmp_path / "out")
    report = merged([made / "domains" / "a", other], tmp_path / "out", on_duplicate="rename")
    assert report.n_renamed == 1
    found = domains_of(tmp_path / "out")
    assert [residues for residues, _ in found["scfv"]] == [VH, VL]
    assert [residues for residues, _ in found["scfv_2"]] == [VL, VH_3]
    assert_sound(tmp_path / "out")
    skipped = merged([made / "domains" / "a", other], tmp_path / "less", on_duplicate="skip")
    assert skipped.n_skipped == 1 and VH_3 not in {
        r for of in domains_of(tmp_path / "less").values() for r, _ in of
    }
    assert_sound(tmp_path / "less")


def give_genes(path: Path, v_call: str | None) -> None:
    """As if this gene had been inferred for all; None: as if nobody had looked."""
    with open_database(path) as db, db.writing(Progress()) as repository:
        found = repository.domains(range(1, repository.counters().sequence_id))
        genes = {"v_call": v_call, "j_call": None, "v_identity": v_call and 0.9, "species": None}
        given = {i: [d._replace(**genes) for d in of] for i, of in found.items()}
        repository.commit(Chunk(0, repository.counters(), domains=given))


@pytest.mark.parametrize(
    ("first", "second"), [("", "IGHV3-66*01"), ("IGHV3-66*01", ""), ("IGHV3-66*01", "IGHV1-2*02")]
)
def test_inferred_genes_come_with_the_domains(made, tmp_path, first, second):
    paths = [Path(shutil.copytree(made / "domains" / name, tmp_path / name)) for name in "ab"]
    for path, call in zip(paths, (first, second), strict=True):
        give_genes(path, call or None)
    merged(paths, tmp_path / "out")
    found = domains_of(tmp_path / "out")
    assert {d.v_call for _, d in found["scfv"]} == {first or second}
    assert {d.v_call for _, d in found["pair"]} == {first or None}
    assert {d.v_call for _, d in found["more"]} == {second or None}


def test_only_rankings_that_need_nothing_of_a_database_are_taken_over(made, tmp_path, monkeypatch):
    monkeypatch.setattr(transform_fit, "MIN_CENTRE", 2)
    first = Path(shutil.copytree(made / "both" / "a", tmp_path / "a"))
    with open_database(first) as db:
        weighed = f"{KMER_DOMAIN}=0.25,{KMER_CDR3}=0.75"
        optimize(db, rankings=RankingChanges(add=weighed))
        optimize(db, rankings=RankingChanges(fit="centre", space=KMER_CHAIN, default=KMER_CHAIN))
        names = [r.name for r in db.rankings()]
    merged([first, made / "both" / "b"], tmp_path / "out")
    with open_database(tmp_path / "out") as db:
        kept = {r.name: r for r in db.rankings()}
        assert [r for r in names if r not in kept] == [f"{KMER_CHAIN}+centre"]
        assert db.rankings()[0].name == KMER_CHAIN
        assert [p.weight for p in kept["antibody"].parts] == [1.0, 1.0]
    assert_sound(tmp_path / "out")


def test_a_space_that_is_missing_is_named_with_what_adds_it(made, tmp_path):
    with pytest.raises(DatabaseSpacesMismatch, match="--regions cdr3") as caught:
        alone = antibody_db(tmp_path / "alone", [("vh", VH)], regions="whole")
        merged([made / "domains" / "a", alone], tmp_path / "out")
    command = str(caught.value.hint).split("add what is missing: plmsearch ")[1]
    assert cli(*command.split()).code == 0
    merged([made / "domains" / "a", alone], tmp_path / "out")
    assert_sound(tmp_path / "out")


def test_a_space_of_whole_chains_is_added_by_the_command_that_is_named(made, tmp_path):
    chains = antibody_db(tmp_path / "chains", [("vh", VH)], chains=True)
    other = shutil.copytree(made / "domains" / "a", tmp_path / "a")
    with pytest.raises(DatabaseSpacesMismatch) as caught:
        merged([chains, other], tmp_path / "out")
    assert cli(*str(caught.value.hint).split("add what is missing: plmsearch ")[1].split()).code == 0
    merged([chains, other], tmp_path / "out")


def test_what_is_deleted_is_left_behind_with_its_domains(made, tmp_path):
    first = Path(shutil.copytree(made / "domains" / "a", tmp_path / "a"))
    with open_database(first) as db:
        db.delete(["pair"])
    merged([first, made / "domains" / "b"], tmp_path / "out")
    with open_database(tmp_path / "out") as db:
        assert VH_2 not in db.repository.residues(range(1, 100)).values()
        assert db.repository.dead_sequences(by_domain=True) == []
        db.embed(SpaceRequest("kmer", preset="antibody"))
    assert_sound(tmp_path / "out")


def test_domains_that_are_lost_meanwhile_stop_it(made, tmp_path):
    second = Path(shutil.copytree(made / "domains" / "b", tmp_path / "b"))

    class Meanwhile(Progress):
        def start(self, n_rows: int | None) -> None:
            with open_database(second) as db, db.writing(Progress()) as repository:
                (segment,) = repository.segments(repository.spaces()[1].space_id)
                repository.drop_segment(segment.segment_id)

    with pytest.raises(StorageError, match="changed while it was read"):
        merged([made / "domains" / "a", second], tmp_path / "out", progress=Meanwhile())
    assert not (tmp_path / "out").exists()
