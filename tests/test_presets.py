"""Which preset an input gets, and which spaces and ranking come of a request."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from antibodies import KMER_CDR3, KMER_DOMAIN, NO_DOMAIN, SCFV, antibody_db
from hypothesis import given
from hypothesis import strategies as st
from support import VH, VL, cli, make_db

from plmsearch.database import open_database
from plmsearch.domains import REGION_SETS
from plmsearch.embedding.spec import SpaceRequest, parse_region_weights, parse_regions
from plmsearch.errors import ParameterError
from plmsearch.ingest.presets import preset_of, regions_of
from plmsearch.ingest.scan import RecordList
from plmsearch.sequences import SequenceRecord
from plmsearch.store.catalog_base import CatalogBase
from plmsearch.store.repository import Repository

ANTIBODIES = [VH, VL] * 10


@pytest.mark.parametrize(
    ("request_", "model", "sample", "expected"),
    [
        (SpaceRequest(), "antiberty", ANTIBODIES, "antibody"),
        (SpaceRequest(), "antiberty", [*ANTIBODIES, NO_DOMAIN], "antibody"),
        (SpaceRequest(), "antiberty", [*ANTIBODIES, NO_DOMAIN, NO_DOMAIN], "whole"),
        (SpaceRequest(), "antiberty", [], "whole"),
        (SpaceRequest(pooling="cls"), "antiberty", ANTIBODIES, "whole"),
        (SpaceRequest(pooling="max"), "antiberty", ANTIBODIES, "antibody"),
        (SpaceRequest(), "kmer", ANTIBODIES, "whole"),
        (SpaceRequest(regions="cdr3"), "kmer", [NO_DOMAIN], "antibody"),
        (SpaceRequest(weights="cdr3=1"), "kmer", [NO_DOMAIN], "antibody"),
        (SpaceRequest(preset="whole"), "antiberty", ANTIBODIES, "whole"),
        (SpaceRequest(preset="antibody"), "kmer", [NO_DOMAIN], "antibody"),
    ],
)
def test_what_is_read_is_asked_for_or_suits_model_and_input(request_, model, sample, expected):
    assert preset_of(request_, model, sample) == expected


def test_regions_of_whole_chains_are_refused():
    for wishes in ({"regions": "cdr3"}, {"weights": "cdr3=1"}):
        with pytest.raises(ParameterError, match="regions"):
            preset_of(SpaceRequest(preset="whole", **wishes), "antiberty", ANTIBODIES)


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ({}, ("whole", "cdr3")),
        ({"regions": "fwr,cdrs,fwr"}, ("fwr", "cdrs")),
        ({"weights": "cdr3=2,cdr1=1"}, ("cdr3", "cdr1")),
        ({"regions": "whole,cdr3,cdr1", "weights": "cdr3=2,cdr1=1"}, ("whole", "cdr3", "cdr1")),
    ],
)
def test_the_regions_are_those_named_or_weighed(wishes, expected):
    assert regions_of(SpaceRequest(**wishes)) == expected


def test_a_weight_of_a_region_that_is_not_made_is_refused():
    with pytest.raises(ParameterError, match="cdr1 is not"):
        regions_of(SpaceRequest(regions="whole,cdr3", weights="whole=1,cdr1=1"))


REGION = st.sampled_from(list(REGION_SETS))


@given(weights=st.dictionaries(REGION, st.floats(1e-6, 1e6), min_size=1))
def test_weights_are_read_as_they_were_written(weights):
    text = " , ".join(f"{name}={weight!r}" for name, weight in weights.items())
    assert list(parse_region_weights(text).items()) == list(weights.items())


@given(names=st.lists(REGION, min_size=1))
def test_regions_are_read_in_order_and_once(names):
    assert parse_regions(", ".join(names)) == tuple(dict.fromkeys(names))


@pytest.mark.parametrize(
    "text",
    ["", "cdr3", "cdr3=", "cdr3=0", "cdr3=-1", "cdr3=inf", "cdr3=nan", "cdr4=1", "cdr3=1,cdr3=2", "cdr3=1,"],
)
def test_weights_that_say_nothing_are_refused(text):
    with pytest.raises(ParameterError):
        parse_region_weights(text)
    assert cli("query", "none", "--seq", VH, "--weights-by-region", text).code in {1, 2}


def test_killed_after_any_commit_it_has_the_default_of_the_preset_and_goes_on(tmp_path, monkeypatch):
    """Killed when the first, the second, ... transaction since the spaces are made has ended."""
    begin, add_spaces = CatalogBase.begin, Repository.add_first_spaces
    left = waiting = iter("")

    @contextlib.contextmanager
    def dying(self):
        with begin(self) as connection:
            yield connection
        if next(left, "") == "last":
            raise KeyboardInterrupt

    def adding(self, specs):
        nonlocal left
        left = waiting
        add_spaces(self, specs)

    def index(path):
        rows = [SequenceRecord("scfv", SCFV), SequenceRecord("vh", VH)]
        with open_database(path, create=True) as db:
            db.add_inputs(
                [RecordList(rows)], request=SpaceRequest("kmer", preset="antibody", weights=weights)
            )

    monkeypatch.setattr(CatalogBase, "begin", dying)
    monkeypatch.setattr(Repository, "add_first_spaces", adding)
    weights, n_begun = "whole=1,cdr3=2", 0
    for n in itertools.count(1):
        path, waiting = tmp_path / f"{n}", iter(["not yet"] * (n - 1) + ["last"])
        with contextlib.suppress(KeyboardInterrupt):
            index(path)
        left = waiting = iter("")
        with open_database(path, create=True) as db:
            if db.exists and db.spaces():
                assert (len(db), db.ranking().name) == (0, f"antibody:{weights}")
                n_begun += 1
        index(path)
        with open_database(path) as db:
            assert (len(db), db.ranking().name) == (2, f"antibody:{weights}")
            assert [s.spec.name for s in db.spaces()] == [KMER_DOMAIN, KMER_CDR3]
        if n_begun == 2:
            break


@pytest.mark.parametrize(
    ("wishes", "names", "default"),
    [
        ({}, [KMER_DOMAIN, KMER_CDR3], "antibody"),
        ({"regions": "cdr3,whole"}, [KMER_CDR3, KMER_DOMAIN], "antibody:cdr3=1,whole=1"),
        ({"regions": "cdr3"}, [KMER_CDR3], KMER_CDR3),
        (
            {"weights": "whole=0.4,cdr3=0.6"},
            [KMER_DOMAIN, KMER_CDR3],
            "antibody:whole=0.4,cdr3=0.6",
        ),
        (
            {"regions": "fwr,cdrs,cdr3", "weights": "cdrs=1,fwr=2"},
            ["kmer/1/fwr/mean", "kmer/1/cdrs/mean", KMER_CDR3],
            "antibody:cdrs=1,fwr=2",
        ),
    ],
)
def test_spaces_and_default_ranking_are_those_asked_for(tmp_path, wishes, names, default):
    path = antibody_db(tmp_path / "db", [("scfv", SCFV), ("vh", VH)], **wishes)
    with open_database(path) as db:
        assert [s.spec.name for s in db.spaces()] == names
        ranking = db.ranking()
        assert ranking.name == default
        if wishes.get("weights"):
            assert {p.space.spec.region: p.weight for p in ranking.parts} == parse_region_weights(
                wishes["weights"]
            )


def test_a_ranking_of_regions_is_put_together_for_one_search(tmp_path):
    path = antibody_db(tmp_path / "db", [("scfv", SCFV), ("vh", VH), ("vl", VL)])
    with open_database(path) as db:
        stored = db.ranking()
        assert db.ranking(request=SpaceRequest(weights="whole=3,cdr3=3")).ranking_id == stored.ranking_id
        made = db.ranking(request=SpaceRequest(weights="whole=1,cdr3=3"))
        assert (made.ranking_id, [p.weight for p in made.parts]) == (0, [1.0, 3.0])
        with pytest.raises(ParameterError, match="embedded: whole, cdr3"):
            db.ranking(request=SpaceRequest(weights="cdr1=1"))
    chains = make_db(tmp_path / "chains", [("vh", VH)])
    with open_database(chains) as db, pytest.raises(ParameterError, match="no space of variable domains"):
        db.ranking(request=SpaceRequest(weights="cdr3=1"))
