"""Rivals that need no language model: 3-mers, CDR3 identity, blastp and MMseqs2, as matrices of scores.

Each returns float32 of shape (n, n), row by query, larger first; minus infinity is "not found".
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from _labels import as_bytes, n_matches

from plmsearch.embedding.embed import embed_sequences, make_specs, plan_of
from plmsearch.embedding.registry import load_embedder
from plmsearch.vectors import unit_vectors

MOST_TARGETS = 500  # of each query that blastp and MMseqs2 report
QUERIES_AT_ONCE = 2000
BLASTP = ("-comp_based_stats", "0", "-seg", "no", "-max_target_seqs", str(MOST_TARGETS))
MMSEQS = ("-s", "7.5", "--max-seqs", str(MOST_TARGETS))


def kmer_model(sequences: Sequence[str]) -> np.ndarray:
    """Return the cosines of the product's model `kmer`: plain counts of 3-mers, hashed to 512."""
    embedder = load_embedder("kmer")
    plan = plan_of(make_specs(embedder, [1]))
    unit = unit_vectors(embed_sequences(embedder, sequences, plan).vectors[1], 512)
    return unit @ unit.T


def kmer_tfidf(sequences: Sequence[str], k: int = 3) -> np.ndarray:
    """Return the cosines of tf-idf counts of k-mers.

    As scikit-learn's ``TfidfVectorizer(analyzer="char", ngram_range=(3, 3))``: counts times
    ln((1 + n) / (1 + df)) + 1, scaled to unit length.
    """
    words: dict[str, int] = {}
    rows, columns = [], []
    for row, sequence in enumerate(sequences):
        for start in range(len(sequence) - k + 1):
            rows.append(row)
            columns.append(words.setdefault(sequence[start : start + k], len(words)))
    counts = np.zeros((len(sequences), len(words)), np.float32)
    np.add.at(counts, (rows, columns), 1)
    document_frequency = (counts > 0).sum(axis=0)
    counts *= (np.log((1 + len(sequences)) / (1 + document_frequency)) + 1).astype(np.float32)
    counts /= np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-12)
    return counts @ counts.T


def cdr3_identity(cdr3: Sequence[str]) -> np.ndarray:
    """Return the share of equal residues of CDR3s of one length; of another length is not found."""
    lengths = np.array([len(c) for c in cdr3])
    out = np.full((len(cdr3), len(cdr3)), -np.inf, np.float32)
    for length in np.unique(lengths):
        members = np.flatnonzero(lengths == length)
        letters = as_bytes([cdr3[i] for i in members])
        out[np.ix_(members, members)] = n_matches(letters, letters) / length
    return out


def blastp(sequences: Sequence[str], cache: Path | None) -> np.ndarray | None:
    """Return raw scores of the best HSP of each pair; None where blastp is not installed."""
    if not shutil.which("blastp"):
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fasta = _fasta(folder / "all.fasta", enumerate(sequences))
        _run("makeblastdb", "-in", fasta, "-dbtype", "prot", "-out", folder / "db")

        def search(queries: Path, out: Path) -> None:
            command = ["blastp", "-query", queries, "-db", folder / "db", *BLASTP, "-num_threads", "2"]
            _run(*command, "-mt_mode", "1", "-outfmt", "6 qaccver saccver score", "-out", out)

        parts = []
        for start in range(0, len(sequences), QUERIES_AT_ONCE):
            chosen = list(enumerate(sequences))[start : start + QUERIES_AT_ONCE]
            queries = _fasta(folder / f"{start}.fasta", chosen)
            key = _digest("blastp", version("blastp"), *BLASTP, str(start), *sequences)
            parts.append(_kept(cache, f"blastp-{key}.tsv", folder, lambda out, q=queries: search(q, out)))
        return _matrix(parts, len(sequences))


def mmseqs(sequences: Sequence[str], cache: Path | None) -> np.ndarray | None:
    """Return raw scores of the best alignment of each pair; None where mmseqs is not installed."""
    if not shutil.which("mmseqs"):
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fasta = _fasta(folder / "all.fasta", enumerate(sequences))

        def search(out: Path) -> None:
            command = ["mmseqs", "easy-search", fasta, fasta, out, folder / "tmp", *MMSEQS, "--threads", "2"]
            _run(*command, "--format-output", "query,target,raw", "-v", "1")

        key = _digest("mmseqs", version("mmseqs"), *MMSEQS, *sequences)
        return _matrix([_kept(cache, f"mmseqs-{key}.tsv", folder, search)], len(sequences))


def version(program: str) -> str:
    """Return the version of a program, or that there is none."""
    if not shutil.which(program):
        return "not installed"
    asked = {"blastp": ["blastp", "-version"], "mmseqs": ["mmseqs", "version"]}[program]
    printed = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    return printed.split("\n")[0].removeprefix("blastp: ")


def _kept(cache: Path | None, name: str, folder: Path, make: object) -> np.ndarray:
    """Return a table of three numbers a line, from the cache if it is there."""
    out = (cache or folder) / name
    if not out.exists():
        if cache:
            cache.mkdir(parents=True, exist_ok=True)
        part = out.with_suffix(".part")
        make(part)  # type: ignore[operator]
        part.rename(out)
    text = out.read_text()
    return np.array(text.split(), np.float32).reshape(-1, 3)


def _matrix(parts: Iterable[np.ndarray], n: int) -> np.ndarray:
    out = np.full((n, n), -np.inf, np.float32)
    for part in parts:
        np.maximum.at(out, (part[:, 0].astype(int), part[:, 1].astype(int)), part[:, 2])
    return out


def _fasta(path: Path, sequences: Iterable[tuple[int, str]]) -> Path:
    path.write_text("".join(f">{i}\n{s}\n" for i, s in sequences))
    return path


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _run(*command: object) -> None:
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
