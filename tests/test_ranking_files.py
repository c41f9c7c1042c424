"""A ranking of one space that is not the default keeps no vectors, and nothing that it says changes."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

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
    add_domains,
    antibody_db,
    unit_vectors_of,
)
from databases import assert_sound, merged
from support import VH, VL, cli, make_db, records

from plmsearch import upgrade as module
from plmsearch.analysis.clusters import ClusterOptions, cluster
from plmsearch.database import Database, open_database
from plmsearch.errors import StorageError
from plmsearch.exchange.importing import ImportOptions, import_vectors
from plmsearch.formats.vectors import open_vectors
from plmsearch.index.scaled import ScaledRows
from plmsearch.indexing import IndexOptions
from plmsearch.optimize import optimize
from plmsearch.rankings import RankingChanges
from plmsearch.repair import repair
from plmsearch.search.hits import SearchOptions
from plmsearch.sequences import SequenceRecord
from plmsearch.store import repository as repository_module
from plmsearch.store.directory import Layout
from plmsearch.store.segments import open_segment, write_segment
from plmsearch.store.session import open_writer
from plmsearch.upgrade import upgrade
from plmsearch.verify import verify

GOLDEN = Path(__file__).parent / "data" / "golden"
RECORDS = [
    ("scfv", SCFV),
    ("chain", LEADER + VH_2 + CH1),
    ("none", NO_DOMAIN),
    ("pair", f"{VL};{VH_3}"),
    ("vh", VH),
    ("vh4", VH_4),
    ("vl", VL),
]
REGIONS = {KMER_DOMAIN: f"{KMER_DOMAIN}+reference", KMER_CDR3: f"{KMER_CDR3}+reference"}
ATOL = 1e-6


@pytest.fixture(scope="module")
def centres() -> Iterator[dict[str, np.ndarray]]:
    """Let `kmer` have a shipped centre by locus, as AntiBERTy does."""
    rng = np.random.default_rng(1)
    made = {name: rng.random(512).astype(np.float32) / 64 for name in ("", "IGH", "IGK")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repository_module, "reference_centres", lambda spec: None if spec.is_external else made)
        yield made


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, centres: object) -> Path:
    """In two files, with a deleted record."""
    path = antibody_db(tmp_path_factory.mktemp("files") / "db", RECORDS[:4])
    add_domains(path, RECORDS[4:])
    with open_database(path) as db:
        db.delete(["vh4"])
    return path


@pytest.fixture
def path(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "db"))


def truth(path: Path, space: str, centres: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of each unit its vector by the definition, in float64, from what is exported."""
    found = {}
    with open_database(path) as db:
        stored = db.repository.residues(
            {u.vector_id for u in db.units([r for r, _ in RECORDS if r != "vh4"])}
        )
        loci = {residues: db.repository.loci([i], by_domain=True)[i] for i, residues in stored.items()}
        residues = {u.unit_id: u.unit_residues for u in db.units([r for r, _ in RECORDS if r != "vh4"])}
    for unit_id, vector in unit_vectors_of(path)[space].items():
        if unit_id not in residues:
            continue
        row = vector.astype(np.float64) - centres[loci[residues[unit_id]]]
        found[unit_id] = row / np.linalg.norm(row)
    return found


def scores(db: Database, ranking: str, **wishes: object) -> dict[tuple[str, str, int], float]:
    """Of every query and every hit, by domain."""
    ids = [r for r, _ in RECORDS if r not in {"vh4", "none"}]
    options = SearchOptions(k=50, across_loci=True, **wishes)  # type: ignore[arg-type]
    return {
        (query.query_id, hit.target, hit.domain.number if hit.domain else 0): hit.score
        for query, hits in db.search_stored(ids, db.ranking(ranking), options)
        for hit in hits
    }


def everything(path: Path, ranking: str) -> dict[str, object]:
    """What can be asked by a ranking."""
    with open_database(path) as db:
        chosen = db.ranking(ranking)
        targets = db.pair_targets(chosen)
        options = SearchOptions(k=9, significance=False)
        pairs = db.search_stored_pairs(["scfv"], [], targets, chosen, options)
        found = cluster(db, ClusterOptions(threshold=0.3), ranking=ranking)
        return {
            "all": scores(db, ranking),
            "threshold": scores(db, ranking, threshold=0.2),
            "where": scores(db, ranking, where="v_family is not null"),
            "exact": scores(db, ranking, index="exact"),
            "pairs": {(q.query_id, h.target): h.score for q, hits in pairs for h in hits},
            "clusters": {
                (i, found.record_ids[int(c)]): float(score)
                for i, c, score in zip(found.record_ids, found.cluster, found.score, strict=True)
                if c >= 0
            },
            "database": {
                (q.query_id, h.target): h.score
                for q, hits in db.search_all(db, k=5, ranking=ranking)
                for h in hits
            },
        }


def assert_alike(one: dict[str, object], other: dict[str, object]) -> None:
    for name, found in one.items():
        assert isinstance(found, dict)
        assert found
        assert found == pytest.approx(other[name], abs=ATOL), name


def files(path: Path) -> dict[str, list[str]]:
    """The kinds of derived files of each ranking, in order of segment."""
    found: dict[str, list[str]] = {}
    with open_database(path) as db:
        for ranking in db.rankings():
            derived = [
                s.derived[ranking.ranking_id].file
                for s in db.repository.segments(ranking.space.space_id)
                if ranking.ranking_id in s.derived
            ]
            found[ranking.name] = [f.rsplit("-", 1)[1].removesuffix(".vec") for f in derived]
            assert {p.name for p in Layout(path).derived.iterdir()} >= set(derived)
        on_disk = {p.name for p in Layout(path).derived.iterdir()}
        assert on_disk == db.repository.derived_files()
    return found


def change(path: Path, **what: str) -> list[str]:
    with open_database(path) as db:
        report = optimize(db, rankings=RankingChanges(**what))
    return [f"{o.ranking}: {o.reason}" for o in report.indexes]


def make_empty(path: Path, target: Path) -> Path:
    """A copy whose records are deleted."""
    shutil.copytree(path, target)
    with open_database(target) as db:
        db.delete([r.record_id for r in db.repository.all_records()])
    return target


# --- Scores --------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", list(REGIONS))
def test_scores_are_those_of_the_exported_vectors_less_the_centre_of_their_locus(kept, space, centres):
    assert files(kept) == {
        "antibody": ["unit", "unit"], **{name: ["scale", "scale"] for name in REGIONS.values()},
    }  # fmt: skip
    vectors = truth(kept, space, centres)
    with open_database(kept) as db:
        assert all(isinstance(b.vectors, ScaledRows) for b in db.vector_blocks(db.ranking(REGIONS[space])))
        found = scores(db, REGIONS[space])
    assert len({q for q, _, _ in found}) == 7
    for (query, target, number), score in found.items():
        unit = target if target in vectors else f"{target}#{number}"
        own = query if query in vectors else f"{query}#1"
        assert score == pytest.approx(float(vectors[own] @ vectors[unit]), abs=ATOL), (query, target)


@pytest.mark.parametrize("ranking", REGIONS.values())
def test_written_out_it_says_the_same_of_everything_that_can_be_asked(path, ranking):
    before = everything(path, ranking)
    change(path, add=ranking)
    assert files(path)[ranking] == ["unit"]
    assert_alike(everything(path, ranking), before)
    assert_sound(path)
    change(path, drop=ranking)
    assert files(path)[ranking] == ["scale"]
    assert_alike(everything(path, ranking), before)
    assert_sound(path)


@pytest.mark.parametrize("accident", ["deleted", "flipped", "cut"])
def test_without_its_files_it_says_the_same_and_repair_makes_them(path, accident):
    before = {name: everything(path, name) for name in REGIONS.values()}
    for file in Layout(path).derived.glob("*-scale.vec"):
        content = bytearray(file.read_bytes())
        content[65] ^= 64
        match accident:
            case "deleted":
                file.unlink()
            case "flipped":
                file.write_bytes(content)
            case "cut":
                file.write_bytes(content[:-8])
    for name, expected in before.items():
        assert_alike(everything(path, name), expected)
    with open_database(path) as db:
        assert {f.severity for f in verify(db, full=True)} == {"rebuildable"}
        assert len(repair(db).rebuilt) == 4
    assert_sound(path)
    assert set(files(path)[REGIONS[KMER_CDR3]]) == {"scale"}


def test_a_score_is_the_same_beside_one_record_and_beside_many(tmp_path, centres):
    many = [(f"r{n}", VH.replace("GGDGFY", f"GG{a}{b}FY")) for n, (a, b) in enumerate(
        (a, b) for a in "ADEFGHIKLMNPQRSTVWY" for b in "ADEFGHIKLMNPQRSTVWY"
    )]  # fmt: skip
    antibody_db(tmp_path / "small", [("vh", VH), ("vh2", VH_2)])
    antibody_db(tmp_path / "large", [*many, ("vh", VH), ("vh2", VH_2)])
    found = []
    for name in ("small", "large"):
        with open_database(tmp_path / name) as db:
            hits = db.search([VH_3], k=500, ranking=REGIONS[KMER_DOMAIN])[0]
            found.append({h.target: h.score for h in hits})
    assert found[0] == pytest.approx({i: found[1][i] for i in found[0]}, abs=ATOL)


def test_new_deleted_joined_and_merged_records_are_as_in_a_new_database(path, tmp_path, centres):
    add_domains(path, [("late", VH.replace("RIYPTNGY", "RIYPTAGY"))])
    with open_database(path) as db:
        db.delete(["vl"])
        optimize(db)
    assert files(path)[REGIONS[KMER_CDR3]] == ["scale"]
    again = antibody_db(tmp_path / "again", [("late", VH.replace("RIYPTNGY", "RIYPTAGY")), *RECORDS])
    with open_database(again) as db:
        db.delete(["vl", "vh4"])
    merged([path, make_empty(path, tmp_path / "empty")], tmp_path / "merged")
    for ranking in REGIONS.values():
        found = []
        for one in (path, again, tmp_path / "merged"):
            with open_database(one) as db:
                got = db.search([VH, VL], k=20, ranking=ranking)
                found.append([{(h.target, h.domain.number): h.score for h in hits} for hits in got])
        for other in found[1:]:
            for ours, theirs in zip(found[0], other, strict=True):
                assert ours == pytest.approx(theirs, abs=ATOL)
    assert_sound(path)
    assert_sound(tmp_path / "merged")
    assert files(tmp_path / "merged") == files(path)


# --- What is kept --------------------------------------------------------------------------------


def test_a_merge_takes_over_what_is_written_out(path, tmp_path):
    change(path, add=REGIONS[KMER_CDR3])
    merged([path, make_empty(path, tmp_path / "empty")], tmp_path / "merged")
    kinds = {name: set(found) for name, found in files(tmp_path / "merged").items()}
    assert kinds == {"antibody": {"unit"}, REGIONS[KMER_CDR3]: {"unit"}, REGIONS[KMER_DOMAIN]: {"scale"}}


def test_the_default_is_written_out_and_the_one_before_is_not_any_more(path):
    ranking = REGIONS[KMER_DOMAIN]
    before = everything(path, ranking)
    change(path, default=ranking)
    assert files(path)[ranking] == ["unit"]
    assert_alike(everything(path, ranking), before)
    change(path, default="antibody")
    assert {name: set(found) for name, found in files(path).items()} == {
        "antibody": {"unit"}, **{name: {"scale"} for name in REGIONS.values()},
    }  # fmt: skip
    assert_alike(everything(path, ranking), before)
    assert_sound(path)


def test_what_came_with_a_space_stays_when_it_is_dropped_and_is_not_dropped_twice(path):
    ranking = REGIONS[KMER_CDR3]
    change(path, add=ranking)
    ended = cli("optimize", path, "--drop-ranking", ranking)
    assert ended.code == 0
    assert "it stays" in ended.err
    assert cli("optimize", path, "--drop-ranking", ranking).code == 1


def test_an_index_is_built_only_of_what_is_written_out(tmp_path):
    path = make_db(tmp_path / "db", records(2100, seed=4), layers="1,0")
    with open_database(path) as db:
        optimize(db, index=IndexOptions("ivf", 0.5))
        default, other = db.rankings()
        assert db.index_facts(default) is not None
        assert db.index_facts(other) is None
        before = db.search([r for _, r in records(5, seed=4)], k=5, ranking=other.name)
    said = cli("optimize", path, "--index", "ivf", "--recall", "0.5")
    assert f"optimize --add-ranking {other.name}" in said.err
    with open_database(path) as db:
        changes = RankingChanges(add=other.name)
        optimize(db, index=IndexOptions("ivf", 0.5), rankings=changes)
        assert db.index_facts(db.ranking(other.name)) is not None
        exactly = SearchOptions(index="exact")
        after = db.search([r for _, r in records(5, seed=4)], k=5, ranking=other.name, options=exactly)
    for one, two in zip(before, after, strict=True):
        assert [h.score for h in one] == pytest.approx([h.score for h in two], abs=ATOL)
    assert_sound(path)


def test_it_takes_a_hundredth_of_the_room(tmp_path):
    path = make_db(tmp_path / "db", records(500, seed=2), layers="1,0")
    with open_database(path) as db:
        optimize(db)
    sizes = {p.name.rsplit("-", 1)[1]: p.stat().st_size for p in Layout(path).derived.iterdir()}
    assert sizes["scale.vec"] < sizes["unit.vec"] / 100


def test_vectors_that_float32_cannot_scale_are_written_out(tmp_path):
    n, own = 120, "external:extern/0/whole/mean"
    numbers = np.random.default_rng(0).standard_normal((n, 8)) + 0.3
    numbers[3] *= 1e-36
    numbers[5] *= 1e33
    np.save(tmp_path / "v.npy", numbers.astype(np.float32))
    (tmp_path / "ids.txt").write_text("\n".join(f"v{i}" for i in range(n)))
    path = tmp_path / "db"
    with open_database(path, create=True) as db:
        page = open_vectors(tmp_path / "v.npy", records=tmp_path / "ids.txt")
        import_vectors(db, page, ImportOptions(space="extern"))
    change(path, fit="centre", default=f"{own}+centre")
    with open_database(path) as db:
        found = [db.search(numbers.astype(np.float32)[i, None], k=n, ranking=own)[0] for i in (3, 5, 7)]
    unit = numbers / np.linalg.norm(numbers, axis=1, keepdims=True)
    assert files(path) == {f"{own}+centre": ["unit"], own: ["unit"]}
    for i, hits in zip((3, 5, 7), found, strict=True):
        assert [h.score for h in hits] == pytest.approx(sorted(unit @ unit[i], reverse=True), abs=ATOL)
    assert_sound(path)


# --- Verify, upgrade -----------------------------------------------------------------------------


@pytest.mark.parametrize("column", [0, 1])
def test_verify_names_scales_that_are_not_those_of_their_segment(path, column):
    with open_writer(path) as repository:
        ranking = next(r for r in repository.rankings() if not r.keeps_vectors)
        segment = repository.segments(ranking.space.space_id)[0]
        derived = segment.derived[ranking.ranking_id]
        file = Layout(path).derived / derived.file
        opened = open_segment(file, derived.stamp)
        wrong = np.array(opened.vectors)
        wrong[0, column] = 0.5 if column == 0 else (wrong[0, column] + 1) % 3
        ids = np.array(opened.ids)
        file.unlink()
        stamp = write_segment(file, wrong, ids)
        repository.set_derived(segment.segment_id, replace(derived, stamp=stamp))
    with open_database(path) as db:
        assert verify(db) == []
        (finding,) = verify(db, full=True)
    assert (finding.severity, finding.where) == ("rebuildable", f"derived/{file.name}")


def test_an_upgrade_takes_away_what_is_kept_no_more_and_leaves_what_was_added(tmp_path):
    path = Path(shutil.copytree(GOLDEN / "0004-domains" / "db", tmp_path / "db"))
    with closing(sqlite3.connect(path / "catalog.sqlite")) as catalog, catalog:
        names = [row[0] for row in catalog.execute("SELECT file FROM derived_files")]
        (space,) = catalog.execute("SELECT id FROM spaces WHERE name = ?", (KMER_CDR3,)).fetchone()
        catalog.execute("INSERT INTO rankings (id, name, is_default) VALUES (77, 'mine', 0)")
        catalog.execute("INSERT INTO ranking_parts VALUES (77, 0, ?, 2.0, NULL)", (space,))
    (path / "catalog.seal").unlink()
    (path / "derived").mkdir()
    for name in names:
        (path / "derived" / name).write_bytes(b"as it was")
    assert upgrade(path).after == "0005"
    kinds = {name: set(found) for name, found in files(path).items()}
    assert kinds.pop("antibody") == kinds.pop("mine") == {"unit"}
    assert set(map(frozenset, kinds.values())) == {frozenset({"scale"})}
    assert len(kinds) == 3
    with open_database(path) as db:
        assert [f for f in verify(db, full=True) if f.severity != "note"] == []


def test_an_upgrade_without_room_for_derived_files_is_an_upgrade(tmp_path, monkeypatch, caplog):
    def full(*_: object, **__: object) -> None:
        raise StorageError(tmp_path, "No space left on device")

    path = Path(shutil.copytree(GOLDEN / "0004" / "db", tmp_path / "db"))
    monkeypatch.setattr(module, "refresh_files", full)
    assert upgrade(path).after == "0005"
    assert "left to the next writer" in caplog.text
    with open_database(path) as db:
        assert db.add([SequenceRecord("new", "EVQLVESGGGLVQPGG")]).n_added == 1
    assert_sound(path)
