"""Alignment of one query with one target: scores, columns, bits and E-values against other programs."""

from __future__ import annotations

import math
import random
import re
import shutil
import subprocess
from itertools import groupby, pairwise
from pathlib import Path

import pytest
from Bio import SeqIO
from Bio.Align import PairwiseAligner, substitution_matrices
from hypothesis import given, settings
from hypothesis import strategies as st
from support import VH, VL, write_fasta

from plmsearch.errors import AlignmentError
from plmsearch.search.alignment import FITS_8_BITS, Alignment, QueryAligner, aligned_rows
from plmsearch.search.karlin_altschul import bit_score, evalue
from plmsearch.sequences import RESIDUES, STANDARD_RESIDUES

BLOSUM62 = substitution_matrices.load("BLOSUM62")
ORACLE = PairwiseAligner(mode="local", substitution_matrix=BLOSUM62, open_gap_score=-12, extend_gap_score=-1)
CIGAR = re.compile(r"(\d+)([=XID])")


def as_scored(residues: str) -> str:
    """Write the letters that BLOSUM62 lacks as what they score as."""
    return residues.translate(str.maketrans("UOJ", "CXL"))


def expected_score(query: str, target: str) -> int:
    return int(ORACLE.score(as_scored(query), as_scored(target)))


def align(query: str, target: str, n_searched: int = 10_000) -> Alignment | None:
    return QueryAligner("q", query).align(target, n_searched)


def relative(residues: str, rng: random.Random, share: float, letters: str = STANDARD_RESIDUES) -> str:
    """A relative with some residues exchanged, gained and lost, between strange flanks."""
    made = []
    for residue in residues:
        fate = rng.random()
        if fate < share / 10:
            continue
        if fate < share / 5:
            made.append("".join(rng.choices(letters, k=rng.randint(1, 6))))
        made.append(rng.choice(letters) if fate > 1 - share else residue)
    flanks = ["".join(rng.choices(letters, k=rng.randint(0, 30))) for _ in range(2)]
    return flanks[0] + "".join(made) + flanks[1]


def pairs(n: int, seed: int, letters: str = STANDARD_RESIDUES) -> list[tuple[str, str]]:
    """Pairs from identical to unrelated."""
    rng = random.Random(seed)
    made = []
    for i in range(n):
        query = "".join(rng.choices(letters, k=rng.randint(1, 250)))
        made.append((query, relative(query, rng, i / n, letters) or query))
    return made


# --- Scores --------------------------------------------------------------------------------------


@pytest.mark.parametrize("letters", [STANDARD_RESIDUES, STANDARD_RESIDUES * 3 + "XBZUOJ"])
def test_scores_are_those_of_biopython(letters):
    for query, target in pairs(100, seed=3, letters=letters):
        aligner = QueryAligner("q", query)
        found = aligner.align(target, 1000)
        assert aligner.raw_score(target) == expected_score(query, target) == (found.score if found else 0)


def test_scores_of_real_pairs_are_those_of_biopython(shared_data):
    rng = random.Random(1)
    with (shared_data / "proteins" / "scope40_dev_small.fasta").open() as file:
        proteins = [str(record.seq).upper() for record in SeqIO.parse(file, "fasta")]
    for _ in range(1000):
        query, target = rng.sample(proteins, 2)
        assert QueryAligner("q", query).raw_score(target) == expected_score(query, target)


def test_one_profile_serves_targets_in_any_order():
    query, targets = VH, [target for _, target in pairs(30, seed=9)] + [VH, VL]
    one = QueryAligner("q", query)
    forth = {t: (one.raw_score(t), one.align(t, 500)) for t in targets}
    back = {t: (one.raw_score(t), one.align(t, 500)) for t in reversed(targets)}
    assert forth == back == {t: (expected_score(query, t), align(query, t, 500)) for t in targets}


@pytest.mark.parametrize("n", [20, 30, 3000, 6500])
def test_scores_that_burst_8_or_16_bits_are_right(n):
    """W scores 11 with itself: 30 of them more than 8 bits hold, 6,500 more than 16."""
    aligner = QueryAligner("q", "W" * n)
    found = aligner.align("W" * n, n)
    assert aligner.raw_score("W" * n) == found.score == 11 * n
    assert found.cigar == f"{n}="


def test_a_gap_costs_11_and_1_for_each_residue():
    found = align(VH, VH[:60] + VH[65:])
    assert found.score == expected_score(VH, VH) - expected_score(VH[60:65], VH[60:65]) - 11 - 5
    assert (found.cigar, found.gapopen, found.alnlen) == (f"60=5I{len(VH) - 65}=", 1, len(VH))
    assert align(VH[:60] + VH[65:], VH).cigar == f"60=5D{len(VH) - 65}="


@pytest.mark.parametrize("flank", ["A", "PPPP", "PPPPPPPPPPPPPPPPPPPP"])
def test_what_comes_before_the_alignment_is_no_part_of_it(flank):
    """parasail writes it as a leading gap where the other sequence begins with the alignment."""
    within = len(flank) + 1
    long, short = align(flank + "WCHW", "WCHW"), align("WCHW", flank + "WCHW")
    assert (long.cigar, long.qstart, long.tstart, long.gapopen, long.fident) == ("4=", within, 1, 0, 1.0)
    assert (short.cigar, short.qstart, short.tstart, short.gapopen, short.fident) == ("4=", 1, within, 0, 1.0)
    assert (long.tcov, short.qcov, long.qcov) == (1.0, 1.0, 4 / (len(flank) + 4))


def test_two_sequences_without_a_pair_above_0_have_no_alignment():
    assert align("WWWW", "PPPP") is None
    assert QueryAligner("q", "WWWW").raw_score("PPPP") == 0
    assert align("X", "X") is None


# --- Letters -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("letter", "scores_as"), [("U", "C"), ("O", "X"), ("J", "L")])
def test_letters_that_blosum62_lacks_score_as_another_and_stay_themselves(letter, scores_as):
    def middle(a: str, b: str) -> Alignment:
        core = VH[20:60]
        return align(core + a + core, core + b + core)

    for other in RESIDUES:
        assert middle(letter, other).score == middle(scores_as, other).score
        assert middle(other, letter).score == middle(other, scores_as).score
    same, different = middle(letter, letter), middle(letter, scores_as)
    assert (same.fident, same.mismatch, same.cigar) == (1.0, 0, "81=")
    assert (different.mismatch, different.cigar) == (1, "40=1X40=")


def test_an_x_under_an_x_counts_as_identical_as_in_blastp():
    masked = VH[:50] + "XXX" + VH[53:]
    assert align(masked, masked).fident == 1.0
    assert align(masked, VH).mismatch == 3


# --- Columns -------------------------------------------------------------------------------------


def replayed(found: Alignment, query: str, target: str) -> dict[str, object]:
    """Walk the cigar over the sequences, column by column, knowing nothing else of the alignment."""
    q, t = list(query[found.qstart - 1 : found.qend]), list(target[found.tstart - 1 : found.tend])
    score, columns = 0, []
    for n, op in CIGAR.findall(found.cigar):
        for place in range(int(n)):
            above = q.pop(0) if op in "=XI" else "-"
            below = t.pop(0) if op in "=XD" else "-"
            columns.append((above, below))
            if op in "ID":
                score -= 1 if place else 12
            else:
                assert (above == below) == (op == "=")
                score += int(BLOSUM62[as_scored(above)][as_scored(below)])
    assert q == t == [], "the cigar covers what the positions say"
    gaps = ["I" if below == "-" else "D" if above == "-" else "M" for above, below in columns]
    n_identical = sum(a == b for a, b in columns)
    return {
        "score": score,
        "alnlen": len(columns),
        "fident": n_identical / len(columns),
        "mismatch": sum(a != b and "-" not in (a, b) for a, b in columns),
        "gapopen": sum(kind != "M" for kind, _ in groupby(gaps)),
        "rows": ("".join(a for a, _ in columns), "".join(b for _, b in columns)),
    }


def assert_consistent(query: str, target: str) -> None:
    found = align(query, target)
    assert (found is None) == (expected_score(query, target) == 0)
    if found is None:
        return
    again = replayed(found, query, target)
    above, middle, below = aligned_rows(found, query, target)
    assert (above, below) == again.pop("rows")
    assert {name: getattr(found, name) for name in again} == again
    assert found.score == expected_score(query, target)
    assert 1 <= found.qstart <= found.qend <= len(query)
    assert 1 <= found.tstart <= found.tend <= len(target)
    assert found.qcov == pytest.approx((found.qend - found.qstart + 1) / len(query))
    assert found.tcov == pytest.approx((found.tend - found.tstart + 1) / len(target))
    assert found.n_identical == middle.count("|")
    runs = [op for _, op in CIGAR.findall(found.cigar)]
    assert all(a != b for a, b in pairwise(runs)), "no two runs of one kind meet"
    assert not {runs[0], runs[-1]} & set("ID"), "no alignment begins or ends with a gap"
    for a, sign, b in zip(above, middle, below, strict=True):
        positive = "-" not in (a, b) and BLOSUM62[as_scored(a)][as_scored(b)] > 0
        assert sign == ("|" if a == b else "+" if positive else " ")


def test_columns_positions_and_score_follow_from_the_cigar():
    for query, target in pairs(150, seed=4, letters=STANDARD_RESIDUES * 3 + "XBZUOJ"):
        assert_consistent(query, target)


@given(st.text(RESIDUES, min_size=1, max_size=60), st.text(RESIDUES, min_size=1, max_size=60))
@settings(max_examples=150)
def test_of_any_two_sequences(query, target):
    assert_consistent(query, target)


@given(st.data())
@settings(max_examples=100)
def test_of_any_two_relatives(data):
    parts = data.draw(st.lists(st.text(STANDARD_RESIDUES, min_size=1, max_size=40), min_size=1, max_size=6))
    kept = data.draw(st.lists(st.sampled_from(parts), min_size=1, max_size=6))
    assert_consistent("".join(parts), "".join(kept))


# --- Bits and E-values ---------------------------------------------------------------------------

#: What blastp 2.12.0 -comp_based_stats 0 -seg no -dbsize 100000000 said of random relatives of one random
#: sequence: raw score, residues of query and target, E-value, bits (cut off, not rounded, above 99).
BLASTP = [
    (885, 180, 173, 9.04e-123, 345),
    (817, 180, 477, 4.65e-108, 319),
    (534, 180, 477, 1.51e-65, 210),
    (507, 180, 175, 3.57e-65, 199),
    (290, 180, 60, 9.17e-34, 116),
    (242, 180, 173, 3.58e-25, 97.8),
    (212, 180, 477, 3.53e-19, 86.3),
    (177, 180, 60, 9.39e-17, 72.8),
    (168, 180, 176, 3.19e-14, 69.3),
]


@pytest.mark.parametrize(("raw", "n_query", "n_target", "expected", "bits"), BLASTP)
def test_bits_and_evalues_are_those_blastp_printed(raw, n_query, n_target, expected, bits):
    assert evalue(raw, n_query, n_target, 100_000_000) == pytest.approx(expected, rel=6e-3)
    assert bit_score(raw) - bits == pytest.approx(0.5 if bits > 99 else 0.0, abs=0.5 if bits > 99 else 0.051)


def test_an_evalue_grows_with_what_was_searched_and_falls_with_the_score():
    assert evalue(100, 150, 200, 4_000_000) == pytest.approx(2 * evalue(100, 150, 200, 2_000_000))
    values = [evalue(raw, 150, 200, 10**8) for raw in range(1, 3000)]
    assert all(a >= b >= 0 for a, b in pairwise(values))
    assert values[-1] == 0.0


@given(st.integers(1, 60_000), st.integers(1, 40_000), st.integers(1, 40_000), st.integers(0, 10**10))
def test_an_evalue_is_a_number_of_at_least_0(raw, n_query, n_target, more):
    value = evalue(raw, n_query, n_target, n_target + more)
    assert math.isfinite(value) and value >= 0


def test_an_alignment_carries_its_bits_and_evalue():
    found = align(VH, VL, 5_000_000)
    assert found.bits == bit_score(found.score)
    assert found.evalue == evalue(found.score, len(VH), len(VL), 5_000_000)


@pytest.mark.skipif(shutil.which("blastp") is None, reason="needs blastp (ncbi-blast+)")
def test_scores_positions_and_evalues_are_those_of_blastp(tmp_path: Path):
    rng = random.Random(11)
    query = VH + VL
    targets = {f"t{i}": relative(query, rng, i / 70) for i in range(40)}
    database, asked = tmp_path / "db", write_fasta(tmp_path / "q.fasta", [("q", query)])
    write_fasta(tmp_path / "t.fasta", targets.items())
    made = ["makeblastdb", "-in", tmp_path / "t.fasta", "-dbtype", "prot", "-out", database]
    subprocess.run(made, check=True, capture_output=True)
    columns = "6 saccver score length pident qstart qend sstart send evalue bitscore"
    flags = ["-comp_based_stats", "0", "-seg", "no", "-outfmt", columns]
    done = subprocess.run(
        ["blastp", "-query", asked, "-db", database, *flags], check=True, capture_output=True, text=True
    )
    n_searched, n_same, seen = sum(map(len, targets.values())), 0, set()
    for line in done.stdout.splitlines():
        target, raw, alnlen, pident, qstart, qend, tstart, tend, expected, _ = line.split("\t")
        if target in seen:
            continue  # a lesser alignment of the same pair
        seen.add(target)
        found = align(query, targets[target], n_searched)
        if found.score == int(raw):
            n_same += 1
            assert found.evalue == pytest.approx(float(expected), rel=0.01, abs=1e-179)
        if (found.qstart, found.qend, found.tstart, found.tend) == tuple(
            map(int, (qstart, qend, tstart, tend))
        ):
            assert abs(found.alnlen - int(alnlen)) <= 6
            assert 100 * found.fident == pytest.approx(float(pident), abs=3)
    assert len(seen) >= 35 and n_same >= 0.95 * len(seen)


# --- What cannot be aligned ----------------------------------------------------------------------


def test_a_query_without_residues_is_refused():
    with pytest.raises(AlignmentError, match="query 'vector' cannot be aligned: it is a vector"):
        QueryAligner("vector", "")


def test_sequences_too_long_to_trace_back_are_refused_before_memory_is_taken():
    with pytest.raises(AlignmentError, match="50,000 residues against 50,000"):
        align("A" * 50_000, "A" * 50_000)


def test_scores_that_fit_eight_bits_are_the_same_and_others_are_large():
    rng = random.Random(8)
    seen = {True: 0, False: 0}
    for n in range(300):
        query = "".join(rng.choices(STANDARD_RESIDUES, k=rng.randint(1, 120)))
        target = "".join(r if rng.random() < (n % 10) / 9 else rng.choice(STANDARD_RESIDUES) for r in query)
        aligner = QueryAligner("q", query)
        quick, raw = aligner.score_up_to(target), aligner.raw_score(target)
        assert raw >= FITS_8_BITS if quick is None else quick == raw
        seen[quick is None] += 1
    assert min(seen.values()) > 30
