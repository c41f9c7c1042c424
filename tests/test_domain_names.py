"""An id that would be read as a variable domain of another record is refused, whichever came first."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from antibodies import NO_DOMAIN, SCFV, VH_2, add_domains, antibody_db
from hypothesis import given, settings
from hypothesis import strategies as st
from support import VH, VL, cli, contents, make_db, write_fasta

from plmsearch.database import open_database
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.errors import DuplicateRecordError
from plmsearch.exchange.merging import merge
from plmsearch.ingest.report import AddOptions, Progress
from plmsearch.store.repository import Repository
from plmsearch.verify import verify

N_DOMAINS = {SCFV: 2, VH: 1, VL: 1, VH_2: 1, NO_DOMAIN: 0}


def means_two_things(rows: list[tuple[str, str]]) -> bool:
    """Whether the name of a domain is that of a record too, written out."""
    names = [f"{record_id}#{n}" for record_id, s in rows for n in range(1, N_DOMAINS[s] + 1)]
    return not {record_id for record_id, _ in rows}.isdisjoint(names)


IDS = st.sampled_from(["x", "x#1", "x#2", "x#3", "x#1#1", "x#01", "x#", "#1", "y"])
ROWS = st.lists(
    st.tuples(IDS, st.sampled_from(list(N_DOMAINS))), min_size=1, max_size=5, unique_by=lambda r: r[0]
)


@settings(max_examples=8)
@given(rows=ROWS, n_first=st.integers(0, 5))
def test_it_is_refused_if_and_only_if_a_name_means_two_things(rows, n_first):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "db"
        parts = [part for part in (rows[:n_first], rows[n_first:]) if part]
        refused = False
        for part in parts:
            try:
                add_domains(path, part)
            except DuplicateRecordError as error:
                refused = True
                assert "variable domain" in str(error) and "another id" in str(error)
                break
        assert refused == means_two_things(rows)


@pytest.mark.parametrize("policy", ["rename", "error", "skip", "replace"])
@pytest.mark.parametrize("rows", [[("x", SCFV), ("x#2", NO_DOMAIN)], [("x#2", NO_DOMAIN), ("x", SCFV)]])
def test_no_policy_helps_and_both_are_named(tmp_path, rows, policy):
    antibody_db(tmp_path / "db", [("other", VH)])
    write_fasta(tmp_path / "x.fasta", rows)
    done = cli("index", tmp_path / "db", tmp_path / "x.fasta", "--on-duplicate", policy)
    assert done.code == 1 and "'x#2'" in done.err and "'x'" in done.err and "domain" in done.err
    assert list(contents(tmp_path / "db")) == ["other"]


def test_a_record_that_is_deleted_is_in_nobodys_way(tmp_path):
    path = antibody_db(tmp_path / "db", [("x", SCFV), ("other", VH)])
    with open_database(path) as db:
        db.delete(["x"])
    add_domains(path, [("x#1", VH)])
    with open_database(path) as db:
        assert [h.target for h in db.search([VH], k=2)[0]] == ["other", "x#1"]
        assert verify(db, full=True) == []


def test_a_record_that_grows_a_domain_when_it_is_replaced_is_refused(tmp_path):
    path = antibody_db(tmp_path / "db", [("x", VH), ("x#2", VL)])
    with pytest.raises(DuplicateRecordError, match="x#2"):
        add_domains(path, [("x", SCFV)], options=AddOptions(on_duplicate="replace"))
    assert contents(path)["x"][0] == VH


def test_whole_chains_have_no_such_names_until_domains_are_looked_for(tmp_path):
    path = make_db(tmp_path / "db", [("x", VH), ("x#1", VL), ("y#1", VL)])
    with open_database(path) as db:
        with pytest.raises(DuplicateRecordError, match="'x'"):
            db.embed(SpaceRequest("kmer", preset="antibody"))
        assert [s.spec.name for s in db.spaces()] == ["kmer/1/whole/mean"]
        db.delete(["x#1"])
        db.embed(SpaceRequest("kmer", preset="antibody"))
        assert verify(db, full=True) == []


def test_two_databases_in_which_it_is_clear_are_not_merged_into_one_where_it_is_not(tmp_path):
    first = antibody_db(tmp_path / "a", [("x", SCFV)])
    second = antibody_db(tmp_path / "b", [("x#2", VH)])
    for paths in ([first, second], [second, first]):
        opened = [open_database(p) for p in paths]
        with pytest.raises(DuplicateRecordError, match="variable domain"):
            merge(opened, tmp_path / "out", on_duplicate="rename", progress=Progress())
        for one in opened:
            one.close()
    assert not (tmp_path / "out").exists()


def test_the_database_is_not_asked_about_ids_without_an_address(tmp_path, monkeypatch):
    path = antibody_db(tmp_path / "db", [("x", SCFV)])
    asked: list[str] = []
    real = Repository.records_by_id
    monkeypatch.setattr(
        Repository, "records_by_id", lambda self, ids: real(self, [asked.append(i) or i for i in ids])
    )
    add_domains(path, [(f"r{n}", VH) for n in range(5)])
    assert asked and not [name for name in asked if "#" in name]
