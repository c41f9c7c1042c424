"""Rankings that a database takes over from another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from plmsearch.reader import Reader
from plmsearch.search.rankings import own_ranking
from plmsearch.store.rankings import RankingPart, StoredRanking
from plmsearch.store.repository import Repository

__all__ = ["copy_rankings"]


def copy_rankings(first: Reader, repository: Repository) -> None:
    """Store the rankings of a database whose transforms are shipped, and choose its default.

    A transform that was fitted is one of that database alone.
    """
    for ranking in first.rankings():
        here = repository.rankings()
        parts = [_part_here(part, here) for part in ranking.parts]
        present = tuple(p for p in parts if p is not None)
        made = replace(ranking, ranking_id=0, parts=present)
        if len(made.parts) < len(parts):
            continue
        same = next((r for r in here if r.key == made.key), None)
        if same is None:
            repository.add_ranking(made)
            continue
        if ranking.keeps_files:
            repository.set_keeps_files(same.ranking_id, keeps=True)
        if ranking.is_default:
            repository.set_default_ranking(same.ranking_id)


def _part_here(part: RankingPart, rankings: Sequence[StoredRanking]) -> RankingPart | None:
    """Return a part of another database's ranking with the space here, None if its transform is not there."""
    (space,) = {r.space for r in rankings if r.space.spec.space_hash == part.space.spec.space_hash}
    own = own_ranking(space, rankings).parts[0].transform
    if part.transform is None:
        return RankingPart(space, part.weight)
    if own is None or own.transform.digest != part.transform.transform.digest:
        return None
    return RankingPart(space, part.weight, own)
