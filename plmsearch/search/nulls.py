"""The null distributions of a database: what is stored of one, and the p-values of queries with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from plmsearch.index.base import Block
from plmsearch.search.relatives import Cdr3Relation, HomologyRelation
from plmsearch.search.significance import NoNull, NullDistribution, NullFacts, QueryNulls, Relation
from plmsearch.store.rows import StoredNull
from plmsearch.types import Float1D, Float2D, Int1D

__all__ = [
    "NO_LOCUS",
    "STALE_SHARE",
    "KnownNull",
    "Sample",
    "gather",
    "is_stale",
    "pvalues",
    "read_null",
    "relation",
]

#: A null is built anew when the number of sequences changed by more than this share.
STALE_SHARE = 0.2

#: Of sequences without a locus in a ranking that compares by locus.
NO_LOCUS = "no locus can be told: no whole variable domain, or domains of different loci"

_Float64 = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class KnownNull:
    """What is known of the null of a ranking and a locus.

    Parameters
    ----------
    locus : str
        '' where the ranking does not compare by locus, and for sequences without one.
    null : NullDistribution or NoNull
    n_sequences : int
        Distinct sequences of live records that could be compared when it was built.
    seed : int
        Of the draw of the sample.
    cdr3 : tuple of str
        Of the sample, where the ranking compares by locus; else empty.
    """

    locus: str
    null: NullDistribution | NoNull
    n_sequences: int
    seed: int
    cdr3: tuple[str, ...] = ()

    def stored(self, ranking_id: int) -> StoredNull:
        """Return what `read_null` reads.

        The data are the ids of the sample as int64, little-endian; of a ranking that compares by locus then
        the length of each CDR3 as uint16, and their residues in ASCII.
        """
        facts: dict[str, Any] = {"n_sequences": self.n_sequences, "seed": self.seed}
        if isinstance(self.null, NoNull):
            facts |= {"null": None, "reason": self.null.reason, "n_sample": self.null.n_sample}
            return StoredNull(ranking_id, self.locus, json.dumps(facts, sort_keys=True), b"")
        facts |= {"null": asdict(self.null.facts), "n_cdr3": len(self.cdr3)}
        lengths = np.array([len(c) for c in self.cdr3], dtype="<u2")
        data = self.null.ids.astype("<i8").tobytes() + lengths.tobytes() + "".join(self.cdr3).encode("ascii")
        return StoredNull(ranking_id, self.locus, json.dumps(facts, sort_keys=True), data)

    def describe(self) -> str:
        """Say in a line what there is."""
        if isinstance(self.null, NoNull):
            return f"no emb_evalue: {self.null.reason}"
        facts = self.null.facts
        return (
            f"null distribution of {facts.n_sample:,} of {self.n_sequences:,} sequences, "
            f"exponent {facts.exponent:.1f}"
        )


def read_null(stored: StoredNull) -> KnownNull:
    """Read what `KnownNull.stored` made.

    Raises
    ------
    ValueError
        If it was not made so.
    """
    try:
        facts = json.loads(stored.facts)
        known = stored.locus, int(facts["n_sequences"]), int(facts["seed"])
        if facts["null"] is None:
            null = NoNull(str(facts["reason"]), int(facts["n_sample"]))
            return KnownNull(known[0], null, *known[1:])
        told = NullFacts(**facts["null"])
        n_cdr3 = int(facts["n_cdr3"])
        ids = np.frombuffer(stored.data, "<i8", told.n_sample).astype(np.int64)
        lengths = np.frombuffer(stored.data, "<u2", n_cdr3, offset=8 * told.n_sample)
        letters = stored.data[8 * told.n_sample + 2 * n_cdr3 :].decode("ascii")
        ends = list(accumulate(lengths.tolist(), initial=0))
        if n_cdr3 not in {0, told.n_sample} or len(letters) != ends[-1]:
            raise ValueError(f"{n_cdr3} CDR3s of {len(letters)} residues")
    except (KeyError, TypeError, ValueError) as exc:
        raise ValueError(f"the null distribution {stored.locus!r} cannot be read: {exc}") from exc
    cdr3 = tuple(letters[a:b] for a, b in pairwise(ends)) if n_cdr3 else ()
    return KnownNull(known[0], NullDistribution(told, ids), *known[1:], cdr3)


def is_stale(known: Mapping[str, KnownNull], counts: Mapping[str, int]) -> bool:
    """Tell whether nulls should be built anew, for so many sequences by locus.

    Examples
    --------
    >>> one = {"": KnownNull("", NoNull("tiny", 10), 10, 0)}
    >>> is_stale(one, {"": 12}), is_stale(one, {"": 13}), is_stale(one, {}), is_stale({}, {"": 1})
    (False, True, True, True)
    """
    return known.keys() != counts.keys() or any(
        abs(counts[locus] - one.n_sequences) > STALE_SHARE * one.n_sequences for locus, one in known.items()
    )


@dataclass(frozen=True, slots=True)
class Sample:
    """A null with the vectors of its sample, as the ranking compares them.

    Parameters
    ----------
    null : NullDistribution
    vectors : ndarray, dtype=float32, shape=(N, d)
    texts : sequence of str
        What relatives are told by: the CDR3 of each, or its residues.
    by_cdr3 : bool
    """

    null: NullDistribution
    vectors: Float2D
    texts: Sequence[str]
    by_cdr3: bool


def relation(texts: Sequence[str], sample: Sequence[str], *, by_cdr3: bool) -> Relation | None:
    """Return the relation of queries with a sample; None if nothing is known of any query."""
    if not any(texts):
        return None
    return Cdr3Relation(texts, sample) if by_cdr3 else HomologyRelation(texts, sample)


def pvalues(
    sample: Sample, queries: Float2D, texts: Sequence[str], scores: Sequence[Float1D]
) -> list[_Float64]:
    """Return how often unrelated sequences score so high, or higher.

    Parameters
    ----------
    sample : Sample
    queries : ndarray, dtype=float32, shape=(n, d)
        Unit vectors of the ranking.
    texts : sequence of str
        Of each query, as those of the sample; empty where it is not known.
    scores : sequence of ndarray, dtype=float32, shape=(h,)
        Falling; one array per query.

    Returns
    -------
    list of ndarray, dtype=float64, shape=(h,)
        NaN for a query that has too few unrelated sequences in the sample.
    """
    lowest = np.array([s[-1] if len(s) else 1.0 for s in scores], dtype=np.float32)
    related = relation(texts, sample.texts, by_cdr3=sample.by_cdr3)
    nulls = sample.null.of(queries, sample.vectors, related, lowest)
    if len({len(s) for s in scores}) == 1:
        return list(nulls.pvalues(np.stack(scores)))
    return [_of_query(nulls, row, s) for row, s in enumerate(scores)]


def _of_query(nulls: QueryNulls, row: int, scores: Float1D) -> _Float64:
    one = slice(row, row + 1)
    null = QueryNulls(
        nulls.facts, nulls.knots[one], nulls.ranks[one], nulls.sums[one], nulls.n_unrelated[one],
        nulls.usable[one],
    )  # fmt: skip
    found: _Float64 = null.pvalues(scores[None])[0]
    return found


def gather(blocks: Sequence[Block], ids: Int1D) -> tuple[Int1D, Float2D]:
    """Return vectors by id.

    Parameters
    ----------
    blocks : sequence of Block
    ids : ndarray, dtype=int64, shape=(n,)
        Rising.

    Returns
    -------
    places : ndarray, dtype=int64, shape=(m,)
        Places in `ids` of those that the blocks have, rising.
    vectors : ndarray, dtype=float32, shape=(m, d)
        A copy.
    """
    here = [np.flatnonzero(np.isin(b.ids, ids)) for b in blocks]
    found = np.concatenate([b.ids[rows] for b, rows in zip(blocks, here, strict=True)])
    vectors = np.concatenate([b.vectors[rows] for b, rows in zip(blocks, here, strict=True)])
    order = np.argsort(found)
    places: Int1D = np.searchsorted(ids, found[order])
    return places, vectors[order]
