"""Clusters of a database: against numpy and networkx over all pairs, and against the E-values of hits."""

from __future__ import annotations

import random
from pathlib import Path

import networkx as nx
import numpy as np
import polars as pl
import pytest
from support import VH, VL, cli, make_db, peptides, write_fasta

from plmsearch.analysis.clusters import METHODS, ClusterOptions, Clusters, cluster
from plmsearch.database import open_database
from plmsearch.errors import FilterError, ParameterError
from plmsearch.ingest import chunks
from plmsearch.ingest.report import Progress
from plmsearch.search.hits import SearchOptions
from plmsearch.sequences import SequenceRecord

DELETED = ("r3", "r40", "twin1")


def mutated(residues: str, share: float, rng: random.Random) -> str:
    return "".join(rng.choice("ACDEFGHIKLMNPQRSTVWY") if rng.random() < share else r for r in residues)


def records() -> list[SequenceRecord]:
    """120 strangers, families of some of them, and records that share a sequence, far from each other."""
    rng, strangers = random.Random(5), peptides(120, seed=77, shortest=60)
    made = [SequenceRecord(f"r{i}", s, "", {"half": str(i % 2)}) for i, s in enumerate(strangers)]
    made += [
        SequenceRecord(f"m{i}", mutated(strangers[i // 5], 0.02 * (1 + i % 7), rng), "", {"half": str(i % 2)})
        for i in range(60)
    ]
    return made + [SequenceRecord(f"twin{i}", made[17 * i].sequence, "", {"half": "1"}) for i in range(6)]


RECORDS = records()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several segments; three records are deleted, one of them the only one of its sequence."""
    place = tmp_path_factory.mktemp("clusters") / "db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "_MAX_ROWS", 50)
        make_db(place, RECORDS)
    with open_database(place) as db:
        db.delete(DELETED)
    return place


def oracle(path: Path, ids: list[str], threshold: float) -> dict[str, set[str]]:
    """Components by numpy and networkx, by their first record."""
    with open_database(path) as db:
        vectors = db.vectors(ids).astype(float)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    graph = nx.from_numpy_array(unit @ unit.T >= threshold)
    parts = [sorted(part) for part in nx.connected_components(graph)]
    return {ids[part[0]]: {ids[i] for i in part} for part in parts}


def members(found: Clusters) -> dict[str, set[str]]:
    by_id: dict[str, set[str]] = {}
    for row in found.rows():
        by_id.setdefault(str(row["cluster_id"]), set()).add(str(row["record_id"]))
    return by_id


@pytest.mark.parametrize("threshold", [0.2, 0.45, 0.7, 0.99])
def test_components_are_those_over_all_pairs(path, threshold):
    ids = [r.record_id for r in RECORDS if r.record_id not in DELETED]
    with open_database(path) as db:
        found = cluster(db, ClusterOptions(threshold=threshold))
    expected = oracle(path, ids, threshold)
    assert members(found) == expected
    rows = list(found.rows())
    assert [row["record_id"] for row in rows] == ids
    for row in rows:
        assert row["cluster_size"] == len(expected[str(row["cluster_id"])])
        assert row["representative"] in expected[str(row["cluster_id"])]
    assert found.n_sequences == len({r.sequence for r in RECORDS if r.record_id in set(ids)})
    assert len(found) == len(expected)


def test_the_representative_has_the_highest_mean_score_to_the_other_sequences(path):
    with open_database(path) as db:
        found = cluster(db, ClusterOptions(threshold=0.45))
        of = {str(row["record_id"]): row for row in found.rows()}
        sequence = {r.record_id: r.sequence for r in RECORDS}
        n_checked = 0
        for ids in members(found).values():
            distinct = list({sequence[i]: i for i in sorted(ids, key=list(of).index, reverse=True)}.values())
            vectors = db.vectors(distinct).astype(float)
            unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            scores = unit @ unit.T
            at = distinct.index(str(of[distinct[0]]["representative"]))
            others = (scores.sum(axis=1) - 1) / max(len(distinct) - 1, 1)
            assert others[at] >= others.max() - 1e-5
            for one in ids:
                twin = next(i for i, d in enumerate(distinct) if sequence[d] == sequence[one])
                assert of[one]["score_to_representative"] == pytest.approx(scores[twin, at], abs=1e-5)
            n_checked += len(distinct) > 2
    assert n_checked > 3


@pytest.mark.parametrize("evalue", [None, 0.1, 3.0])
def test_linked_are_pairs_that_both_find_each_other_at_the_largest_e_value(path, evalue):
    largest = 0.01 if evalue is None else evalue
    with open_database(path) as db:
        found = cluster(db, ClusterOptions(max_emb_evalue=evalue))
        n_null = db.judge(db.ranking()).known[""].n_sequences
        n_now = db.n_searched(db.ranking())[""]
        wishes = SearchOptions(threshold=-1.0)
        near = {
            q.query_id: {h.target for h in hits if h.emb_evalue * n_null / n_now <= largest}
            for q, hits in db.search_all(db, options=wishes)
        }
    graph = nx.Graph([(a, b) for a in near for b in near[a] if a in near[b]])
    graph.add_nodes_from(near)
    assert set(map(frozenset, members(found).values())) == set(map(frozenset, nx.connected_components(graph)))
    assert 1 < len(found) < len(near)
    assert found.cutoffs.n_median == 0


def test_of_a_threshold_and_an_e_value_the_stricter_counts(path):
    with open_database(path) as db:
        loose = cluster(db, ClusterOptions(threshold=-1.0, max_emb_evalue=0.01))
        alone = cluster(db, ClusterOptions(max_emb_evalue=0.01))
        strict = cluster(db, ClusterOptions(threshold=0.99, max_emb_evalue=0.01))
        high = cluster(db, ClusterOptions(threshold=0.99))
    assert members(loose) == members(alone) != members(strict) == members(high)


@pytest.mark.parametrize("method", METHODS)
def test_clusters_do_not_depend_on_the_order_of_records(tmp_path, method):
    shuffled = random.Random(1).sample(RECORDS, len(RECORDS))
    found = []
    for name, given in (("one", RECORDS), ("two", shuffled)):
        with open_database(make_db(tmp_path / name, given)) as db:
            found.append(set(map(frozenset, members(cluster(db, ClusterOptions(method, 0.4))).values())))
    assert found[0] == found[1]
    assert max(map(len, found[0])) > 3


def test_leiden_divides_components_and_keeps_records_of_one_sequence_together(path):
    with open_database(path) as db:
        whole = members(cluster(db, ClusterOptions(threshold=0.25)))
        parts = members(cluster(db, ClusterOptions("leiden", 0.25, resolution=0.9)))
    assert len(parts) > len(whole)
    for ids in parts.values():
        assert any(ids <= others for others in whole.values())
    of = {record: name for name, ids in parts.items() for record in ids}
    for i in (0, 2, 3, 4, 5):
        assert of[f"twin{i}"] == of[RECORDS[17 * i].record_id]


@pytest.mark.parametrize("options", [ClusterOptions(), ClusterOptions(threshold=0.4)], ids=["auto", "given"])
def test_ids_and_members_stay_when_others_are_added(tmp_path, options):
    rng = random.Random(9)
    place = make_db(tmp_path / "db", RECORDS)
    new = [SequenceRecord(f"new{i}", s) for i, s in enumerate(peptides(20, seed=123, shortest=60))]
    new += [SequenceRecord("near", mutated(RECORDS[125].sequence, 0.02, rng))]
    with open_database(place) as db:
        before = members(cluster(db, options))
        db.add(new)
        after = members(cluster(db, options))
    n_joined = 0
    for name, ids in before.items():
        (now,) = [other for other, those in after.items() if ids & those]
        assert ids <= after[now]
        if any(i.startswith("n") for i in after[now]):
            n_joined += 1
            assert now == min(
                (o for o in before if before[o] <= after[now]), key=[r.record_id for r in RECORDS].index
            )
        else:
            assert (now, after[now]) == (name, ids)
    assert n_joined


def test_a_condition_limits_records_and_sizes(path):
    with open_database(path) as db:
        found = cluster(db, ClusterOptions(threshold=0.45, where="half = 1"))
        with pytest.raises(FilterError):
            cluster(db, ClusterOptions(where="hlaf = 1"))
    ids = [r.record_id for r in RECORDS if r.record_id not in DELETED and r.metadata["half"] == "1"]
    assert [row["record_id"] for row in found.rows()] == ids
    assert members(found) == oracle(path, ids, 0.45)


def test_of_a_condition_fewer_sequences_are_expected(path):
    with open_database(path) as db:
        all_of_it, half = cluster(db), cluster(db, ClusterOptions(where="half = 1"))
    assert np.median(half.cutoffs.scores) < np.median(all_of_it.cutoffs.scores)


def test_without_a_null_a_threshold_must_be_given(tmp_path):
    place = make_db(tmp_path / "db", [("a", VH), ("b", VL)])
    with open_database(place) as db:
        with pytest.raises(ParameterError, match=r"no null distribution to find it from .*2 distinct"):
            cluster(db)
        assert len(cluster(db, ClusterOptions(threshold=0.9))) == 2


def test_a_family_so_large_that_it_has_no_null_of_its_own_takes_the_median_score(tmp_path):
    rng, strangers = random.Random(3), peptides(95, seed=5, shortest=80)
    family = [mutated(strangers[0], 0.03, rng) for _ in range(50)]
    given = [(f"s{i}", s) for i, s in enumerate([*strangers, *family])]
    with open_database(make_db(tmp_path / "db", given)) as db:
        found = cluster(db)
    assert 40 < found.cutoffs.n_median <= 51
    assert max(map(len, members(found).values())) > 40
    assert any("have the median score" in line for line in found.summary())


def test_an_interrupt_leaves_through_the_call(path):
    class Stop(Progress):
        def advance(self, n_rows: int) -> None:
            raise KeyboardInterrupt

    with open_database(path) as db, pytest.raises(KeyboardInterrupt):
        cluster(db, ClusterOptions(threshold=0.4), progress=Stop())


@pytest.mark.parametrize(
    "given",
    [{"method": "kmeans"}, {"threshold": 1.1}, {"threshold": float("nan")}, {"max_emb_evalue": 0.0},
     {"max_emb_evalue": float("nan")}, {"resolution": 0.0}, {"resolution": 1.5}],
    ids=str,
)  # fmt: skip
def test_options_out_of_range_are_refused(given):
    with pytest.raises(ParameterError):
        ClusterOptions(**given)


# --- The command ---------------------------------------------------------------------------------


def test_each_format_tells_the_same(path, tmp_path):
    with open_database(path) as db:
        expected = list(cluster(db, ClusterOptions(threshold=0.45)).rows())
    ran = {}
    for kind in ("tsv", "csv", "jsonl", "parquet", "table", "mmseqs"):
        ran[kind] = tmp_path / kind
        done = cli("cluster", path, "--threshold", 0.45, "--format", kind, "-o", ran[kind])
        assert (done.code, done.out) == (0, "")
    frames = [
        pl.read_csv(ran["tsv"], separator="\t"), pl.read_csv(ran["csv"]), pl.read_ndjson(ran["jsonl"]),
        pl.read_parquet(ran["parquet"]),
    ]  # fmt: skip
    for frame in frames:
        assert frame.columns == list(expected[0])
        for column in frame.columns:
            values = [row[column] for row in expected]
            if column == "score_to_representative":
                np.testing.assert_allclose(frame[column].to_numpy(), values, atol=1e-6)
            else:
                assert frame[column].to_list() == values
    assert [line.split()[:2] for line in ran["table"].read_text().splitlines()[1:]] == [
        [row["record_id"], row["cluster_id"]] for row in expected
    ]
    pairs = [line.split("\t") for line in ran["mmseqs"].read_text().splitlines()]
    assert sorted(pairs) == sorted([row["representative"], row["record_id"]] for row in expected)
    seen: list[str] = []
    for representative, member in pairs:
        if representative != (seen[-1] if seen else None):
            assert representative not in seen and member == representative  # first of its own cluster
            seen.append(representative)


def test_the_command_prints_what_was_linked(path):
    done = cli("cluster", path)
    assert done.code == 0
    assert done.out.startswith(
        "record_id\tcluster_id\trepresentative\tscore_to_representative\tcluster_size\n"
    )
    assert "linked: emb_evalue <= 0.01 both ways, score >= 0." in done.err
    live = [r.sequence for r in RECORDS if r.record_id not in DELETED]
    assert f"plmsearch: {len(live)} records, {len(set(live))} sequences: " in done.err
    assert cli("cluster", path, "-q").err == ""
    threshold = cli("cluster", path, "--threshold", 0.5, "--threads", 1).err
    assert "linked: score >= 0.5000; " in threshold


def test_a_record_without_a_vector_is_named_and_its_row_is_empty(tmp_path):
    place = make_db(tmp_path / "db", [("a", VH), ("b", VL)])
    np.savez(tmp_path / "x.npz", ids=["x"], embeddings=np.ones((1, 512), np.float32))
    assert cli("import", place, tmp_path / "x.npz", "--space", "kmer/1/whole/mean").code == 0
    assert cli("embed", place, "--layers", 0).code == 0
    assert cli("index", place, write_fasta(tmp_path / "c.fasta", [("c", VH)])).code == 0
    flags = ("--threshold", 0.99, "--space", "kmer/0/whole/mean")
    done = cli("cluster", place, *flags)
    assert done.code == 3
    assert done.rows == [
        ["a", "a", "a", "1.000000", "2"], ["b", "b", "b", "1.000000", "1"], ["x", "", "", "", ""],
        ["c", "a", "a", "1.000000", "2"],
    ]  # fmt: skip
    assert f"left out: record 'x' ({place}): it has no vector in the space kmer/0/whole/mean" in done.err
    assert "3 records, 2 sequences: 2 clusters, 1 of one record" in done.err
    pairs = cli("cluster", place, *flags, "--format", "mmseqs")
    assert (pairs.code, pairs.out) == (3, "a\ta\na\tc\nb\tb\n")
    assert cli("cluster", place, *flags, "--format", "parquet", "-o", tmp_path / "out").code == 3
    assert pl.read_parquet(tmp_path / "out")["cluster_id"].to_list() == ["a", "b", None, "a"]


@pytest.fixture(scope="module")
def antibodies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """130 heavy and 2 light chains, with random vectors but for a pair of each that are near."""
    folder = tmp_path_factory.mktemp("antibodies")
    rng = random.Random(4)
    loops = ["".join(rng.choices("ADEFGHIKLNQRSTVWY", k=rng.randint(6, 20))) for _ in range(130)]
    given = [(f"h{i}", VH.replace("SRWGGDGFYAMDY", loop)) for i, loop in enumerate(loops)]
    given += [("l0", VL), ("l1", VL.replace("HYTT", "HYST"))]
    table = folder / "x.tsv"
    table.write_text("id\tsequence\n" + "".join(f"{i}\t{s}\n" for i, s in given))
    vectors = np.random.default_rng(0).standard_normal((len(given), 512)).astype(np.float32)
    vectors[7] = vectors[3] + 0.01 * vectors[9]
    vectors[131] = vectors[130] + 0.01 * vectors[9]
    np.save(folder / "x.npy", vectors)
    flags = (
        "--records",
        table,
        "--id-col",
        "id",
        "--seq-col",
        "sequence",
        "--model",
        "antiberty",
        "--layers",
        6,
    )
    assert cli("import", folder / "db", folder / "x.npy", *flags).code == 0
    return folder / "db"


@pytest.mark.parametrize("ranking", ["antiberty/6/whole/mean+reference", "antiberty/6/whole/mean+none"])
def test_sequences_of_different_loci_are_never_linked(antibodies, ranking):
    with open_database(antibodies) as db:
        found = members(cluster(db, ClusterOptions(threshold=-1.0), ranking=ranking))
    assert found == {"h0": {f"h{i}" for i in range(130)}, "l0": {"l0", "l1"}}


def test_a_locus_without_a_null_is_left_out_and_the_others_are_clustered(antibodies):
    done = cli("cluster", antibodies)
    assert done.code == 3
    rows = {row[0]: row for row in done.rows}
    assert rows["h7"][1:3] == ["h3", "h3"] and rows["h7"][4] == rows["h3"][4] == "2"
    assert rows["l0"] == ["l0", "", "", "", ""] and rows["l1"][1] == ""
    assert "record 'l0'" in done.err
    assert "it cannot be compared without --threshold (IGK: 2 distinct sequences, fewer than 101)" in done.err
    assert "130 records, 130 sequences: 129 clusters" in done.err
    by_score = cli("cluster", antibodies, "--threshold", 0.99)
    assert by_score.code == 0
    assert {row[0]: row[1] for row in by_score.rows}["l1"] == "l0"


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("--format", "m8"), 1, "format is 'm8'; it must be one of: table, tsv, csv, jsonl, parquet, mmseqs"),
        (("--method", "dbscan"), 1, "method is 'dbscan'; it must be one of: components, leiden"),
        (("--ranking", "no"), 1, "ranking is 'no'"),
        (("--where", "x ="), 1, "condition 'x ='"),
        (("--threshold", "2"), 2, "threshold"),
        (("--max-emb-evalue", "0"), 1, "max_emb_evalue is 0.0; it must be more than 0"),
        (("-o", "/nowhere/at/all.tsv"), 1, "/nowhere/at/all.tsv"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(path, flags, code, said):
    done = cli("cluster", path, *flags)
    assert (done.code, done.out) == (code, "")
    assert said in done.err


def test_no_database_and_an_empty_one_are_told_apart(tmp_path):
    assert "no database at" in cli("cluster", tmp_path / "no").err
    place = make_db(tmp_path / "db", [("a", VH)])
    with open_database(place) as db:
        db.delete(["a"])
    done = cli("cluster", place, "--threshold", 0.5)
    assert (done.code, done.rows) == (0, [])
    assert "0 clusters" in done.err


def test_an_interrupted_command_leaves_no_file(path, tmp_path, monkeypatch):
    def stopped(*given, **wishes):
        raise KeyboardInterrupt

    monkeypatch.setattr("plmsearch.analysis.clusters.exact_links", stopped)
    done = cli("cluster", path, "--threshold", 0.5, "-o", tmp_path / "out.tsv")
    assert done.code == 130
    assert "nothing was written" in done.err
    assert list(tmp_path.iterdir()) == []
