"""A hit of a pair: two records, or one that holds both chains, and the score of each chain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from plmsearch.domains import CHAIN_SEPARATOR
from plmsearch.errors import ParameterError
from plmsearch.search.hits import Hit, PairFacts, Query, SearchOptions
from plmsearch.search.pair_scores import NearPairs
from plmsearch.search.pairs import Pairs
from plmsearch.store.rows import StoredRecord

__all__ = ["PairQuery", "UnitPlace", "make_pair_hits", "pair_query", "refuse_unknown_wishes"]


class UnitPlace(NamedTuple):
    """A domain: number of its record, and its own number in it."""

    record: int
    number: int


@dataclass(frozen=True, slots=True)
class PairQuery:
    """Two chains to search with.

    Parameters
    ----------
    query : Query
        As it is told: the record of the heavy chain, or its domain where the record holds several pairs;
        `residues` of both chains, with `plmsearch.domains.CHAIN_SEPARATOR` between them.
    heavy, light : Query
    """

    query: Query
    heavy: Query
    light: Query


def pair_query(heavy: Query, light: Query, *, has_siblings: bool) -> PairQuery:
    """Join two chains.

    Parameters
    ----------
    heavy, light : Query
        Each a variable domain, its record named.
    has_siblings : bool
        Whether the record of the heavy chain holds other pairs.
    """
    number = 0 if heavy.domain is None else heavy.domain.number
    name = f"{heavy.record_id}#{number}" if has_siblings else heavy.record_id
    residues = f"{heavy.residues}{CHAIN_SEPARATOR}{light.residues}"
    return PairQuery(replace(heavy, query_id=name, residues=residues), heavy, light)


def make_pair_hits(
    query: PairQuery,
    found: NearPairs,
    pairs: Pairs,
    units: Mapping[UnitPlace, StoredRecord],
    options: SearchOptions,
) -> list[Hit]:
    """Join what a query pair found to its records.

    Parameters
    ----------
    query : PairQuery
    found : NearPairs
    pairs : Pairs
    units : mapping of UnitPlace to StoredRecord
        The chains of the pairs that were found, each its record with its domain; one that was deleted
        meanwhile is absent.
    options : SearchOptions

    Returns
    -------
    list of Hit
        At most k, ranked from 1: of a record that holds several pairs the nearest one.
    """
    hits: list[Hit] = []
    seen: set[int] = set()
    for row, place in enumerate(found.places.tolist()):
        key = int(pairs.heavy_record[place])
        heavy = units.get(UnitPlace(key, int(pairs.heavy_number[place])))
        light = units.get(UnitPlace(int(pairs.light_record[place]), int(pairs.light_number[place])))
        if heavy is None or light is None or key in seen:
            continue
        if len(hits) == options.k:
            break
        seen.add(key)
        facts = PairFacts(
            query_light=query.light.query_id,
            target_light=_address(light, heavy),
            score_heavy=float(found.heavy[row]),
            score_light=float(found.light[row]),
            n_heavy=int(pairs.n_heavy[place]),
            n_light=int(pairs.n_light[place]),
        )
        hits.append(_hit(query, heavy, light, len(hits) + 1, float(found.scores[row]), facts))
    return hits


def _address(light: StoredRecord, heavy: StoredRecord) -> str:
    """Return how a light chain is addressed: by its domain where the record alone does not say which."""
    is_first = light.domain is None or light.domain.number == 1
    return light.record_id if is_first and light.key != heavy.key else light.unit_id


def _hit(
    query: PairQuery, heavy: StoredRecord, light: StoredRecord, rank: int, score: float, facts: PairFacts
) -> Hit:
    return Hit(
        query.query.query_id,
        heavy.record_id,
        rank,
        score,
        heavy.description,
        heavy.metadata,
        f"{heavy.unit_residues}{CHAIN_SEPARATOR}{light.unit_residues}",
        domain=heavy.domain,
        pair=facts,
    )


def refuse_unknown_wishes(options: SearchOptions) -> None:
    """Refuse what a search with pairs does not do.

    Raises
    ------
    ParameterError
    """
    if options.k < 1:
        raise ParameterError("k", options.k, "at least 1")
    given = {
        "rerank": options.rerank,
        "threshold": options.threshold,
        "max_emb_evalue": options.max_emb_evalue,
        "index": None if options.index in {"auto", "exact"} else options.index,
        "unique": options.unique or None,
    }
    for name, value in given.items():
        if value is not None:
            raise ParameterError(name, value, "left out in a search with pairs, which compares all of them")
