"""Antibodies to be disturbed: made-up constructs of one, and what a database must say of their domains."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator, Mapping

import numpy as np
from antibodies import CH1, LEADER, LINKER
from support import VH, VL

from plmsearch.database import Database
from plmsearch.domains import CutDomain, cut_domains
from plmsearch.embedding.registry import load_embedder
from plmsearch.numbering import ImmunumNumberer
from plmsearch.search.hits import Hit
from plmsearch.sequences import STANDARD_RESIDUES, SequenceRecord

__all__ = ["QUERIES", "construct", "constructs", "differences", "score", "wrong_hits"]

QUERIES = [VH.replace("KDTYIH", "KDSYIH"), VL.replace("QDVNTA", "QDVNSA")]
_TOLERANCE = 1e-5
#: Residues of CDRs that may be others and the domain is still one.
_OF_HEAVY, _OF_LIGHT = (27, 28, 30, 52, 54, 100, 101, 103), (27, 28, 31, 90, 91, 93)
_WHOLE, _CDR3 = "kmer/1/whole/mean/domain", "kmer/1/cdr3/mean"


def _altered(chain: str, places: tuple[int, ...], rng: random.Random) -> str:
    residues = list(chain)
    for place in rng.sample(places, 3):
        residues[place] = rng.choice("ADEGKNQRSTY")
    return "".join(residues)


def construct(rng: random.Random) -> str:
    """A chain, a single-chain Fv, two chains, a construct with more around it, or no antibody at all."""
    heavy, light = _altered(VH, _OF_HEAVY, rng), _altered(VL, _OF_LIGHT, rng)
    other = "".join(rng.choices(STANDARD_RESIDUES, k=rng.randint(20, 60)))
    forms = [heavy, light, heavy + LINKER + light, f"{light};{heavy}", LEADER + heavy + CH1, other]
    return rng.choice(forms)


def constructs(first: int, n: int, seed: int, version: str = "") -> list[SequenceRecord]:
    rng = random.Random(seed)
    return [SequenceRecord(f"r{i}", construct(rng), f"number {i}{version}") for i in range(first, first + n)]


@functools.cache
def domains(residues: str) -> tuple[CutDomain, ...]:
    return cut_domains(residues, ImmunumNumberer())


@functools.cache
def _regions(own: str, ends: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of a domain and of its CDR3, pooled by the definition of the mean, in that order."""
    rows = load_embedder("kmer").residue_embeddings([own], [1]).layers[1][0, : len(own)].astype(np.float64)
    return rows.mean(axis=0), rows[ends[4] : ends[5]].mean(axis=0)


def score(own: str, ends: tuple[int, ...], other: str, other_ends: tuple[int, ...]) -> float:
    """The mean of the cosine similarities of the domain and of CDR3."""
    pairs = zip(_regions(own, ends), _regions(other, other_ends), strict=True)
    return float(np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs]))


def wrong_hits(query: str, hits: list[Hit]) -> list[str]:
    """Targets whose score is not that of the residues they show."""
    (asked,) = domains(query)
    return [
        h.target
        for h in hits
        if h.domain is None
        or abs(score(asked.residues, asked.ends, h.residues, h.domain.ends) - h.score) > _TOLERANCE
    ]


def differences(db: Database, state: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """Compare domains, vectors and hits with what follows from the residues of a state."""
    cut = {i: domains(residues) for i, (residues, _) in state.items()}
    records = list(db.repository.all_records())
    stored = db.repository.domains({r.sequence_id for r in records})
    wrong = [r.record_id for r in records if _places(stored.get(r.sequence_id)) != _places(cut[r.record_id])]
    if wrong:
        yield f"stored domains are not those of the residues: {wrong}"
        return
    if any(d.v_call is None for of in stored.values() for d in of):
        yield "a domain was stored without its germline genes"
    names = {f"{i}#{d.number}" if len(of) > 1 else i: d for i, of in cut.items() for d in of}
    for place, space in enumerate((_WHOLE, _CDR3)):
        found = db.vectors(list(names), space=space) if names else []
        for name, vector in zip(names, found, strict=True):
            if np.abs(_regions(names[name].residues, names[name].ends)[place] - vector).max() > _TOLERANCE:
                yield f"the vector of {name} in {space}"
    for query, hits in zip(QUERIES, db.search(QUERIES, k=10 * len(state) + 1), strict=True):
        (asked,) = domains(query)
        wanted = {i for i, of in cut.items() if any(d.locus == asked.locus for d in of)}
        found = {h.target for h in hits if h.domain is not None and h.domain.locus == asked.locus}
        wrong = [*wrong_hits(query, hits), *(wanted ^ found), *({h.target for h in hits} - found)]
        if wrong:
            yield f"hits of a query: {sorted(wrong)}"


def _places(found: object) -> list[tuple[object, ...]] | None:
    return None if found is None else [(d.number, d.locus, d.start, d.ends) for d in found]  # type: ignore[attr-defined]
