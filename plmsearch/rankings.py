"""Add, fit, drop and choose rankings: what `plmsearch optimize` does with them.

A ranking that is added is stored: its vectors are written out, and from then on every write keeps them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from plmsearch.errors import ParameterError
from plmsearch.search.rankings import own_ranking, parse_ranking
from plmsearch.store.directory import Layout
from plmsearch.store.rankings import RankingPart, StoredRanking, StoredSpace
from plmsearch.store.repository import Repository
from plmsearch.store.vector_files import VectorFiles, compared_vectors, loci_of
from plmsearch.transform import Transform
from plmsearch.transform_fit import fit_centre, fit_whiten
from plmsearch.types import Float2D

__all__ = ["FITTED_KINDS", "RankingChanges", "change_rankings"]

#: Transforms that can be fitted on a database.
FITTED_KINDS = ("centre", "whiten")
#: Vectors that a transform is fitted on at most: of 200,000, a mean is known to 0.2% of a standard
#: deviation, and 400 MB hold them at 512 dimensions.
_MOST_FITTED = 200_000
#: Random pairs that tell whether a database is one family.
_PAIRS = 2000
#: Median cosine of random pairs with the shipped centre: about 0 where chains are not related, above this
#: only where most of them are.
_ONE_FAMILY = 0.5


@dataclass(frozen=True, slots=True)
class RankingChanges:
    """What is to become of the rankings; what is None stays as it is.

    Parameters
    ----------
    fit : {"centre", "whiten"} or None
        Fit a transform on the vectors of a space, and store the ranking that uses it.
    space : str or None
        The space it is fitted on; that of the default ranking if None.
    add : str or None
        Store a ranking, as `plmsearch.search.rankings` reads it.
    drop : str or None
        Name of a stored ranking to forget.
    default : str or None
        Name of the stored ranking that is searched when none is named.
    seed : int
        Of the sample where a space has more vectors than a transform is fitted on.

    Raises
    ------
    ParameterError
        If there is no such transform.
    """

    fit: str | None = None
    space: str | None = None
    add: str | None = None
    drop: str | None = None
    default: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.fit is not None and self.fit not in FITTED_KINDS:
            raise ParameterError("fit_transform", self.fit, f"one of: {', '.join(FITTED_KINDS)}")


def change_rankings(
    repository: Repository, layout: Layout, changes: RankingChanges, say: Callable[[str], None]
) -> None:
    """Make the changes that are wanted; derived files of new rankings are left to the caller.

    Parameters
    ----------
    repository : Repository
        Opened for writing, under the lock.
    layout : Layout
    changes : RankingChanges
    say : callable
        Told what was done, and what to beware of.

    Raises
    ------
    ParameterError
        If there is no such ranking or space, too few vectors to fit a transform on, or the ranking that
        came with a space is to be dropped.
    """
    if changes.drop is not None:
        _drop(repository, changes.drop, say)
    if changes.fit is not None:
        _fit(repository, layout, changes, say)
    if changes.add is not None:
        say(f"ranking {_store(repository, _parsed(repository, changes.add))} is stored")
    if changes.default is not None:
        repository.set_default_ranking(_stored(repository, changes.default).ranking_id)
        say(f"ranking {changes.default} is the default now")


def _parsed(repository: Repository, text: str) -> StoredRanking:
    ranking = parse_ranking(text, repository.rankings(), repository.spaces(), repository.transforms())
    incomplete = [p.space.spec.name for p in ranking.parts if not p.space.is_complete]
    if incomplete:
        raise ParameterError("ranking", text, f"of complete spaces, and {incomplete[0]} is not complete")
    return ranking


def _store(repository: Repository, ranking: StoredRanking) -> str:
    if ranking.ranking_id == 0:
        repository.add_ranking(replace(ranking, keeps_files=True))
    elif not ranking.keeps_vectors:
        repository.set_keeps_files(ranking.ranking_id, keeps=True)
    return ranking.name


def _stored(repository: Repository, name: str) -> StoredRanking:
    rankings = repository.rankings()
    found = [r for r in rankings if r.name == name]
    if not found:
        raise ParameterError("ranking", name, f"a stored one: {', '.join(r.name for r in rankings)}")
    return found[0]


def _drop(repository: Repository, name: str, say: Callable[[str], None]) -> None:
    ranking, rankings = _stored(repository, name), repository.rankings()
    if own_ranking(ranking.space, rankings).ranking_id == ranking.ranking_id:
        if not ranking.keeps_files:
            raise ParameterError("ranking", name, "one that was added: this one came with its space")
        repository.set_keeps_files(ranking.ranking_id, keeps=False)
        say(f"ranking {name} came with its space: it stays, without what --add-ranking gave it")
        return
    repository.drop_ranking(ranking.ranking_id)
    if ranking.is_default:
        left = own_ranking(repository.spaces()[0], repository.rankings())
        repository.set_default_ranking(left.ranking_id)
    say(f"ranking {name} is dropped")


# --- Fitting -------------------------------------------------------------------------------------


def _fit(repository: Repository, layout: Layout, changes: RankingChanges, say: Callable[[str], None]) -> None:
    space = _space_to_fit(repository, changes.space)
    vectors, ids = _sample(repository, layout, space, changes.seed)
    own = own_ranking(space, repository.rankings())
    by_domain = own.reads_domains
    loci = loci_of(repository, ids, by_domain=by_domain) if own.needs_locus else [""] * len(ids)
    transform = fit_centre(vectors, loci) if changes.fit == "centre" else fit_whiten(vectors, loci)
    if _is_one_family(own, vectors, loci, changes.seed):
        say(
            f"beware: most sequences are near relatives, and a {changes.fit} fitted on them takes off what "
            "they share; their scores will not tell relatives from strangers"
        )
    say(f"fitted {changes.fit} on {len(vectors):,} vectors of {space.spec.name}: {_counts(transform)}")
    transform_id = repository.set_transform(space.space_id, transform)
    part = RankingPart(space, 1.0, repository.transforms()[transform_id])
    if part.name not in {r.name for r in repository.rankings()}:
        repository.add_ranking(StoredRanking(0, part.name, (part,), keeps_files=True))
    say(f"search with it: plmsearch query --ranking {part.name}")


def _space_to_fit(repository: Repository, name: str | None) -> StoredSpace:
    rankings, spaces = repository.rankings(), repository.spaces()
    if not spaces:
        raise ParameterError("space", name, "one of a database that holds vectors")
    found = [rankings[0].space] if name is None else [s for s in spaces if s.spec.name == name]
    if not found:
        raise ParameterError("space", name, f"one of: {', '.join(s.spec.name for s in spaces)}")
    return found[0]


def _sample(
    repository: Repository, layout: Layout, space: StoredSpace, seed: int
) -> tuple[Float2D, list[int]]:
    """Return raw vectors of live sequences: all of them, or a random sample in order of storage."""
    dead = repository.dead_sequences(by_domain=space.spec.reads_domains)
    files = VectorFiles(layout)
    segments = [files.raw(s) for s in repository.segments(space.space_id)]
    live = [np.flatnonzero(~np.isin(s.ids, dead)) for s in segments]
    n_live = sum(map(len, live))
    if not n_live:
        raise ParameterError("vectors", 0, "at least some to fit a transform on")
    chosen = np.ones(n_live, dtype=np.bool_)
    if n_live > _MOST_FITTED:
        chosen[:] = False
        chosen[np.random.default_rng(seed).choice(n_live, _MOST_FITTED, replace=False)] = True
    kept, start = [], 0
    for rows in live:
        kept.append(rows[chosen[start : start + len(rows)]])
        start += len(rows)
    vectors = np.concatenate([s.vectors[rows] for s, rows in zip(segments, kept, strict=True)])
    ids = np.concatenate([s.ids[rows] for s, rows in zip(segments, kept, strict=True)])
    return vectors, ids.tolist()


def _is_one_family(own: StoredRanking, vectors: Float2D, loci: list[str], seed: int) -> bool:
    """Tell it by the shipped centre; where a space has none, nothing here can."""
    if own.is_raw:
        return False
    first, second = np.random.default_rng(seed).integers(0, len(vectors), (2, _PAIRS))
    pairs = [
        compared_vectors(own, vectors[rows], [loci[i] for i in rows.tolist()]) for rows in (first, second)
    ]
    scores = np.einsum("nd,nd->n", *pairs)[first != second]
    return bool(len(scores) and np.median(scores) > _ONE_FAMILY)


def _counts(transform: Transform) -> str:
    return ", ".join(
        f"{n:,} {name or 'without a locus'}{'' if name in transform.centres else ' (too few of them)'}"
        for name, n in transform.n_fitted.items()
    )
