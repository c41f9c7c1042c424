"""Methods that look beyond the junction: V regions, vectors, inferred genes; clusters over donors."""

from __future__ import annotations

import csv
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import VH, cli

from plmsearch.embedding.base import Embedder, ModelCard, ResidueEmbeddings
from plmsearch.errors import EmbeddingError, FileFormatError
from plmsearch.numbering import ImmunumNumberer
from plmsearch.repertoire import vector_families
from plmsearch.repertoire.clonotype import Rearrangements
from plmsearch.repertoire.convergence import convergent_clusters
from plmsearch.repertoire.families import find_families
from plmsearch.repertoire.family_vectors import given_vectors, made_vectors, region_vectors
from plmsearch.repertoire.hybrid import BlockRule
from plmsearch.repertoire.vector_families import find_vector_families
from plmsearch.repertoire.vregions import poisson_tail, v_region_before, v_regions

BASES = "ACGT"
RNG = np.random.default_rng(5)


def same_groups(found, expected) -> bool:
    pairs = set(zip(list(found), list(expected), strict=True))
    return len(pairs) == len(set(found)) == len(set(expected))


def tail(count: int, mean: float) -> float:
    """Return the chance of at least so many events, by adding up what Poisson gives each number."""
    return math.fsum(
        math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(count, count + 400)
    )


def parts(linked: np.ndarray) -> list[int]:
    """Return the smallest node that each node reaches, by walking from it."""
    labels = list(range(len(linked)))
    for start in range(len(linked)):
        todo = [start]
        while todo:
            node = todo.pop()
            for other in np.flatnonzero(linked[node]).tolist():
                if labels[other] > labels[start]:
                    labels[other] = labels[start]
                    todo.append(other)
    return labels


def random_text(n: int, rng: np.random.Generator = RNG, letters: str = BASES) -> str:
    return "".join(rng.choice(list(letters), n))


def changed(text: str, places: list[int]) -> str:
    letters = list(text)
    for place in places:
        letters[place] = BASES[(BASES.index(letters[place]) + 1) % 4]
    return "".join(letters)


# --- V regions -------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 80), st.floats(0.001, 60)), min_size=1, max_size=20))
def test_the_poisson_tail_is_the_sum_of_its_terms(cases):
    counts, means = np.array([c for c, _ in cases]), np.array([m for _, m in cases])
    expected = [1.0 if c == 0 else tail(c, m) for c, m in cases]
    np.testing.assert_allclose(poisson_tail(counts, means), expected, rtol=2e-3)


def test_the_v_region_ends_where_the_one_junction_begins():
    assert v_region_before("GGG" + "A" * 400 + "TGTGCG", "TGTGCG", 3) == "A" * 285
    assert v_region_before("AATGTGCGTTTGTGCG", "TGTGCG", 3) == ""
    assert v_region_before("ACGT", "", 3) == v_region_before("ACGT", "TTT", 3) == ""


def test_mutations_differ_from_the_consensus_of_families_and_not_of_rows():
    germline = random_text(60)
    mutant, other = changed(germline, [3, 10]), changed(germline, [40])
    rows = [mutant] * 5 + [germline, germline, other]
    found = v_regions(rows, ["V1"] * 8, np.array([0, 0, 0, 0, 0, 5, 6, 7]), nucleotides=True)
    assert found.n_mutations.tolist() == [2] * 5 + [0, 0, 1]
    assert [np.flatnonzero(row).tolist() for row in found.mutations[[0, 7]]] == [[3, 10], [40]]


def test_a_letter_of_many_families_is_an_allele_and_no_shared_mutation():
    germline = random_text(60)
    allele = changed(germline, [7, 20, 33, 50])
    rows = [germline] * 12 + [allele] * 8
    found = v_regions(rows, ["V1"] * 20, np.arange(20), nucleotides=True)
    assert not found.mutations.any()
    evidence = found.evidence(np.array([12]), np.array([13]), np.array([9]), 45)
    assert evidence.shared.tolist() == [1.0]


def test_evidence_is_what_its_definition_says():
    germline = random_text(100)
    rows = [changed(germline, [1, 2, 3, 50]), changed(germline, [1, 2, 3, 60, 70]), germline, germline, ""]
    found = v_regions(rows, ["V"] * 5, np.array([0, 0, 2, 3, 4]), nucleotides=True)
    evidence = found.evidence(np.array([0, 2, 0]), np.array([1, 3, 4]), np.array([2, 3, 3]), 45)
    assert found.excess == 1.0
    shared = [tail(3, 4 * 5 / 100), 1.0, 1.0]
    lacking = [tail(2, (3 + 1) * 45 / 100), tail(3, 45 / 100), 1.0]
    np.testing.assert_allclose(evidence.shared, shared, rtol=1e-3)
    np.testing.assert_allclose(evidence.lacking, lacking, rtol=1e-3)


def test_a_chain_behind_an_insertion_says_nothing():
    germline = random_text(100)
    rows = [germline, germline, germline[1:50] + random_text(1) + germline[50:]]
    found = v_regions(rows, ["V"] * 3, np.arange(3), nucleotides=True)
    assert found.known.tolist()[:2] == [100, 100]
    assert found.known[2] in (0, 100)  # it aligns behind the insertion; before it, all is changed
    shifted = v_regions([*rows[:2], random_text(100)], ["V"] * 3, np.arange(3), nucleotides=True)
    assert shifted.known[2] == 0


def test_a_rule_multiplies_the_two_chances():
    rule = BlockRule(2, np.array([1e-6, 1e-5, 1e-4, 1e-3, 1e-2]), 1e-4)
    differ, shared = np.array([2, 3, 3, 4, 4]), np.array([1.0, 1.0, 0.1, 0.1, 0.01])
    assert rule.allows(differ, shared).tolist() == [True, False, True, False, True]
    assert BlockRule(2).allows(differ, shared).tolist() == [True, False, False, False, False]


def _families(junctions: list[str], v: list[str] | None, threshold: float | None = None):
    n = len(junctions)
    return find_families(
        junctions, np.zeros(n, np.int64), ["d\tV\tJ"] * n, ["J"] * n,
        nucleotides=True, same_v=True, threshold=threshold, v=v,
    )  # fmt: skip


def test_equal_v_regions_forbid_far_junctions_and_mutated_ones_do_not():
    junction, germline = random_text(48), random_text(285)
    junctions = [junction, changed(junction, [10, 20, 30, 40])]
    assert len(set(_families(junctions, None, 0.1).labels)) == 1
    assert len(set(_families(junctions, [germline] * 2, 0.1).labels)) == 2
    mutated = [changed(germline, list(range(k, 280, 20))) for k in (0, 7)]
    assert len(set(_families(junctions, mutated, 0.1).labels)) == 1


def test_shared_mutations_join_what_junctions_alone_do_not():
    rng = np.random.default_rng(3)
    germline, junction = random_text(285, rng), random_text(48, rng)
    # a narrow block: many unrelated junctions a few letters apart, so that nothing far may be linked
    crowd = [changed(junction, rng.choice(48, 12, replace=False).tolist()) for _ in range(40)]
    trunk = changed(germline, [5, 40, 77, 130, 200, 260])
    pair = [changed(junction, [4, 9]), changed(junction, [15])]
    junctions = crowd + pair
    v = [changed(germline, rng.choice(285, 4, replace=False).tolist()) for _ in crowd]
    v += [changed(trunk, [90, 180]), changed(trunk, [50, 111, 222])]
    with_other_lengths = [j[:9] + "ACG" + j[9:] for j in crowd]
    n, m = len(junctions), len(with_other_lengths)
    found = [
        find_families(
            junctions + with_other_lengths, np.array([0] * n + [1] * m), ["d\tV\tJ"] * (n + m),
            ["J"] * (n + m), nucleotides=True, same_v=True, v=regions,
        ).labels
        for regions in (None, v + v[:m])
    ]  # fmt: skip
    assert found[0][n - 1] != found[0][n - 2]
    assert found[1][n - 1] == found[1][n - 2]
    assert len(set(found[1][: n - 1])) == n - 1


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_v_regions_do_not_make_the_order_of_rows_matter(seed):
    rng = np.random.default_rng(seed)
    germline = random_text(120, rng)
    founders = [random_text(36, rng) for _ in range(3)]
    junctions = [changed(founders[i % 3], rng.choice(36, rng.integers(0, 5)).tolist()) for i in range(14)]
    v = [changed(germline, rng.choice(120, rng.integers(0, 9)).tolist()) for _ in range(14)]
    order = rng.permutation(14)
    one = _families(junctions, v).labels
    other = _families([junctions[i] for i in order], [v[i] for i in order]).labels
    assert same_groups(one[order], other)


# --- Vectors ---------------------------------------------------------------------------------------


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.3, 0.6]))
@settings(max_examples=25)
def test_vector_families_are_the_components_of_each_block(seed, threshold):
    rng = np.random.default_rng(seed)
    n = 30
    vectors = unit(rng.normal(size=(4, 5))[rng.integers(0, 4, n)] + 0.3 * rng.normal(size=(n, 5)))
    donors, lengths = rng.choice(["a", "b"], n).tolist(), rng.integers(10, 12, n)
    found = find_vector_families(vectors, np.arange(n), donors, lengths.tolist(), threshold)
    distance = np.ceil((1 - vectors.astype(float) @ vectors.astype(float).T) * 100 - 1e-3) / 100
    same = (np.array(donors)[:, None] == np.array(donors)) & (lengths[:, None] == lengths)
    expected = parts(same & (distance <= threshold + 1e-9))
    assert same_groups(found.labels, expected)
    assert all(found.labels[label] == label for label in found.labels)


def test_tiles_change_nothing(monkeypatch):
    vectors = unit(RNG.normal(size=(300, 4)))
    whole = find_vector_families(vectors, np.arange(300), ["d"] * 300, [10] * 300, 0.02)
    monkeypatch.setattr(vector_families, "_TILE", 37)
    tiled = find_vector_families(vectors, np.arange(300), ["d"] * 300, [10] * 300, 0.02)
    assert 10 < len(set(whole.labels)) < 300
    assert whole.labels.tolist() == tiled.labels.tolist()


def _repertoire(n_families: int, size: int, seed: int) -> tuple[np.ndarray, list[int], np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_families, 24))
    truth = np.repeat(np.arange(n_families), size)
    lengths = rng.integers(11, 15, n_families)[truth]
    return unit(centres[truth] + 0.15 * rng.normal(size=(len(truth), 24))), lengths.tolist(), truth


def test_the_threshold_of_vectors_finds_families_and_falls_as_the_input_grows():
    medians = []
    for n_families in (40, 400):
        vectors, lengths, truth = _repertoire(n_families, 4, 1)
        found = find_vector_families(vectors, np.arange(len(truth)), ["d"] * len(truth), lengths)
        assert same_groups(found.labels, truth)
        medians.append(np.median(found.thresholds))
        assert found.n_null_pairs > 0 and len(found.nearest) == len(truth)
    assert medians[1] < medians[0]


def test_the_null_counts_pairs_of_other_length_only():
    vectors, lengths, _ = _repertoire(30, 1, 2)
    found = find_vector_families(vectors, np.arange(30), ["d"] * 30, lengths)
    expected = [
        1 - float(vectors[i] @ vectors[k])
        for i, k in itertools.combinations(range(30), 2)
        if 1 <= abs(lengths[i] - lengths[k]) <= 3
    ]
    edges = np.linspace(0, 2, 21)
    assert found.n_null_pairs == len(expected)
    np.testing.assert_allclose(
        found.unrelated(edges) * len(expected), np.histogram(expected, edges)[0], atol=2.0
    )


def test_below_what_can_be_counted_the_null_follows_a_power():
    distances = (np.arange(1, 100_001) / 100_000) ** (1 / 5)  # P(d <= x) = x ** 5
    counts = np.bincount(np.ceil(distances * 100).astype(int), minlength=201)
    for opportunities in (1, 10, 40, 1000):
        wanted = 0.01 / opportunities
        cut = vector_families._cut(counts, opportunities)
        assert cut == pytest.approx(min(100 * wanted**0.2, 40), abs=1.5), opportunities
    assert vector_families._cut(np.zeros(201, np.int64), 5.0) == 0


class OneHot(Embedder):
    """Residue embeddings that say which residue stands where."""

    card = ModelCard("onehot", "kmer", 6, 26, 510, "ACDEFGHIKLMNPQRSTVWY", 6, False, "", "")
    weights_digest = "0"

    def residue_embeddings(self, sequences, layers):
        n_residues = np.array([len(s) for s in sequences])
        out = np.full((len(sequences), n_residues.max(), 26), np.nan, np.float32)
        for i, sequence in enumerate(sequences):
            out[i, : len(sequence)] = np.eye(26)[[ord(c) - 65 for c in sequence]]
        return ResidueEmbeddings(dict.fromkeys(layers, out), n_residues)


def test_regions_are_means_over_their_residues():
    (domain,) = ImmunumNumberer().domains(VH)
    found = region_vectors(OneHot(), [domain])
    for name, text in (("whole", VH), ("cdr3", domain.regions["cdr3"])):
        expected = np.bincount([ord(c) - 65 for c in text], minlength=26) / len(text)
        np.testing.assert_allclose(found[name][0], expected, rtol=1e-6)


def test_a_model_without_reference_centres_is_refused():
    with pytest.raises(EmbeddingError, match="no reference centres"):
        made_vectors([VH], OneHot())


def test_antiberty_vectors_are_of_the_cut_domain_and_equal_ones_are_made_once():
    from plmsearch.embedding.registry import load_embedder

    chains = [VH, "GSHM" + VH + "ASTKGPSVFPLAPSS", "", "MKTAYIAKQRQISFVKSHF", VH.replace("RWGG", "RYSG")]
    done = []
    found = made_vectors(chains, load_embedder("antiberty", device="cpu"), on_progress=done.append)
    assert found.of_row.tolist() == [0, 0, -1, -1, 1] and sum(done) == 2
    assert found.vectors.shape == (2, 1024)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, rtol=1e-5)
    assert 0.3 < float(found.vectors[0] @ found.vectors[1]) < 0.999
    assert found.facts["model"] == "antiberty" and len(found.facts["weights_digest"]) == 64


def test_given_vectors_are_those_of_the_rows_that_are_wanted(tmp_path):
    vectors = RNG.normal(size=(3, 4)).astype(np.float32)
    np.savez(tmp_path / "v.npz", ids=np.array(["a", "b", "c"]), embeddings=vectors)
    found = given_vectors(tmp_path / "v.npz", ["c", "x", "a", "b"], [True, True, True, False])
    assert found.of_row.tolist() == [1, -1, 0, -1]
    np.testing.assert_allclose(found.vectors, unit(vectors)[[0, 2]], rtol=1e-6)
    with pytest.raises(FileFormatError, match="no vector of a sequence_id"):
        given_vectors(tmp_path / "v.npz", ["q"], [True])


# --- Convergence -----------------------------------------------------------------------------------


def _rows(cells: list[tuple[str, str]]) -> Rearrangements:
    rows = Rearrangements()
    for donor, junction in cells:
        rows.locus.append("IGH")
        rows.donor.append(donor)
        rows.residues.append(junction)
    return rows


def test_convergent_clusters_reach_over_donors_and_nothing_else_is_one():
    cells = [
        ("a", "CARDGYYFDW"),
        ("b", "CARDGYYLDW"),
        ("b", "CARDGYSLDY"),
        ("a", "CKTTPLNQEW"),
        ("a", "CKTTPLNQEW"),
    ]
    rows = _rows([*cells, ("b", "CARDGYYFDW")])
    genes = [(frozenset({"V1"}), frozenset({"J1"}))] * 5 + [(frozenset({"V2"}), frozenset({"J1"}))]
    # 1-2 differ in one of ten, 2-3 in two, 4-5 are of one donor, 6 has another V gene
    assert convergent_clusters(rows, range(6), genes) == ["1", "1", "1", "", "", ""]


# --- The command -----------------------------------------------------------------------------------


def _write(path, rows: list[dict[str, str]]):
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, names, delimiter="\t", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    return path


def _read(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_vectors_of_a_file_group_rows_and_are_described(tmp_path):
    rows = [{"sequence_id": f"s{i}", "junction_aa": "CARDGYYFDW", "locus": "IGH"} for i in range(5)]
    rows[4]["junction_aa"] = "CARDGYYYFDW"
    vectors = np.array([[1, 0], [1, 0.1], [0, 1], [1, 0]], np.float32)
    np.savez(tmp_path / "v.npz", ids=np.array(["s0", "s1", "s2", "s4"]), embeddings=vectors)
    out = tmp_path / "out.tsv"
    ended = cli("clones", _write(tmp_path / "in.tsv", rows), "-o", out, "--method", "embedding",
                "--vectors", tmp_path / "v.npz", "--threshold", 0.1)  # fmt: skip
    assert ended.code == 0, ended.err
    found = [(row["clone_id"], row["clone_status"]) for row in _read(out)]
    assert found == [("1", ""), ("1", ""), ("2", ""), ("", "no_vector"), ("3", "")]
    told = json.loads((tmp_path / "out.tsv.json").read_text())
    assert told["method"] == "embedding" and told["distance"] == "cosine distance"
    assert told["vectors"]["vectors"] == str(tmp_path / "v.npz") and len(told["vectors"]["sha256"]) == 64


def test_calls_are_inferred_where_there_are_none_and_written(tmp_path):
    rows = [{"sequence_id": f"s{i}", "sequence_aa": VH} for i in range(3)]
    out = tmp_path / "out.tsv"
    ended = cli("clones", _write(tmp_path / "in.tsv", rows), "-o", out)
    assert ended.code == 0 and "species: human" in ended.err
    found = _read(out)
    assert {row["clone_id"] for row in found} == {"1"}
    assert all(row["v_call_inferred"].startswith("IGHV") for row in found)
    assert all(row["j_call_inferred"].startswith("IGHJ") for row in found)
    assert json.loads((tmp_path / "out.tsv.json").read_text())["calls"]["from"] == "inferred"
    again = cli("clones", out, "-o", tmp_path / "again.tsv")
    assert again.code == 1 and "--overwrite" in again.err
    wrong = cli("clones", tmp_path / "in.tsv", "-o", tmp_path / "x.tsv", "--species", "unicorn")
    assert wrong.code == 1 and "human" in wrong.err


@pytest.mark.parametrize("method", ["auto", "cdr3"])
def test_calls_that_are_there_are_not_inferred_and_options_for_it_are_said_to_be_unused(tmp_path, method):
    rows = [{"sequence_id": "s", "sequence_aa": VH, "v_call": "IGHV1-2*02", "j_call": "IGHJ4*02"}]
    asked = ("clones", _write(tmp_path / "in.tsv", rows), "-o", tmp_path / "out.tsv", "--method", method)
    ended = cli(*asked)
    assert ended.code == 0 and "--germlines" not in ended.err
    assert "v_call_inferred" not in _read(tmp_path / "out.tsv")[0]
    assert "--germlines and --species are not used: " in cli(*asked, "--species", "human").err


def test_rows_without_calls_among_others_get_those_of_their_residues(tmp_path):
    """The simulated example: with the calls of a fifth of the heavy chains taken out the families stay."""
    with (Path(__file__).parents[1] / "examples" / "repertoire.tsv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["locus"] == "IGH"][:120]
    asked = ("-o", tmp_path / "out.tsv", "--clone-col", "mine", "--threshold", 0.2)
    assert cli("clones", _write(tmp_path / "in.tsv", rows), *asked).code == 0
    expected = [row["mine"] for row in _read(tmp_path / "out.tsv")]
    for row in rows[::5]:
        row["v_call"] = ""
    rows[5]["j_call"] = ""
    ended = cli("clones", _write(tmp_path / "in.tsv", rows), *asked)
    assert "24 heavy chains have no V or J call" in ended.err and "24 of them have both now" in ended.err
    found = _read(tmp_path / "out.tsv")
    assert [row["mine"] for row in found] == expected
    assert [i for i, row in enumerate(found) if row["v_call_inferred"]] == list(range(0, 120, 5))
    assert [row["v_call"] for row in found] == [row["v_call"] for row in rows]
    told = json.loads((tmp_path / "out.tsv.json").read_text())["calls"]
    assert told["n_inferred"] == 24 and told["from"].endswith("inferred where there are none")

    again = cli(
        "clones", tmp_path / "out.tsv", "-o", tmp_path / "again.tsv", "--threshold", 0.2, "--overwrite"
    )
    assert "24 heavy chains have no V or J call" in again.err  # what may be overwritten is found anew
    kept = cli("clones", tmp_path / "out.tsv", "-o", tmp_path / "b.tsv", *asked[2:], "--clone-col", "b")
    assert "24 heavy chains without a V or J call have that of v_call_inferred" in kept.err
    assert [row["b"] for row in _read(tmp_path / "b.tsv")] == expected

    some = _read(tmp_path / "out.tsv")
    some[0] |= {"v_call_inferred": "", "j_call_inferred": ""}
    cli("clones", _write(tmp_path / "in.tsv", some), "-o", tmp_path / "c.tsv", *asked[2:], "--clone-col", "c")
    assert [(row["c"], row["v_call_inferred"]) for row in _read(tmp_path / "c.tsv")] == [
        (row["mine"], row["v_call_inferred"]) for row in found
    ]


def test_calls_are_not_mixed_with_those_that_name_genes_otherwise(tmp_path):
    row = {"sequence_aa": VH, "j_call": "IGHJ4*02"}
    rows = [{"sequence_id": f"s{i}", "v_call": "IGHVF6-G21*09"} | row for i in range(4)]
    rows[3]["v_call"] = ""
    ended = cli("clones", _write(tmp_path / "in.tsv", rows), "-o", tmp_path / "out.tsv")
    assert "1 heavy chain has no V or J call, and none are inferred" in ended.err
    assert "only 0 of 3 other rows" in ended.err
    found = _read(tmp_path / "out.tsv")
    assert [row["clone_status"] for row in found] == ["", "", "", "no_calls"]
    assert "v_call_inferred" not in found[0]


@pytest.mark.parametrize("donors", [("a", "b"), ("a", "a")])
def test_the_convergent_column_is_for_several_donors_or_asked_for(tmp_path, donors):
    cells = {"junction_aa": "CARDGYYFDW", "v_call": "IGHV1-2*02", "j_call": "IGHJ4*02", "locus": "IGH"}
    rows = [{"sequence_id": f"s{i}", "subject_id": donor} | cells for i, donor in enumerate(donors)]
    source, out = _write(tmp_path / "in.tsv", rows), tmp_path / "out.tsv"
    assert cli("clones", source, "-o", out).code == 0
    found = _read(out)
    several = donors[0] != donors[1]
    assert ("convergent_cluster" in found[0]) == several
    assert [row["clone_id"] for row in found] == (["1", "2"] if several else ["1", "1"])
    if several:
        assert [row["convergent_cluster"] for row in found] == ["1", "1"]
        again = ("clones", out, "-o", tmp_path / "x.tsv", "--clone-col", "mine")
        assert cli(*again).code == 0  # nothing of the old column is lost
        _write(out, [row | {"convergent_cluster": "7"} for row in found])
        assert cli(*again).code == 1
    assert cli("clones", source, "-o", out, "--convergent").code == 0
    assert {row["convergent_cluster"] for row in _read(out)} == ({"1"} if several else {""})


def test_embedding_needs_residues_or_vectors(tmp_path):
    source = _write(tmp_path / "in.tsv", [{"sequence_id": "s", "junction_aa": "CARDGYYFDW", "locus": "IGH"}])
    ended = cli("clones", source, "-o", tmp_path / "out.tsv", "--method", "embedding")
    assert ended.code == 1 and "--vectors" in ended.err and not (tmp_path / "out.tsv").exists()
