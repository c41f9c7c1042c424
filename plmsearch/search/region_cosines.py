"""Cosine similarities region by region, beside the score of a ranking, which is their mean by weight."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plmsearch.index.base import Block
from plmsearch.search.hits import Found
from plmsearch.search.stored_scores import StoredScores
from plmsearch.store.rankings import StoredRanking
from plmsearch.types import Float2D

__all__ = ["with_cosines"]


def with_cosines(
    ranking: StoredRanking, unit: Float2D, found: Sequence[Found], blocks: Sequence[Block]
) -> list[Found]:
    """Add the cosine similarities of the ranking's spaces to neighbours.

    Parameters
    ----------
    ranking : StoredRanking
    unit : ndarray, dtype=float32, shape=(n, dim)
        Queries as the ranking compares them, of unit length.
    found : sequence of Found
        Of each query.
    blocks : sequence of Block
        The vectors of the ranking.

    Returns
    -------
    list of Found
        With `Found.cosines`; a region of several spaces has that of the first.
    """
    stored = StoredScores(blocks)
    total = sum(part.weight for part in ranking.parts)
    cosines: list[dict[str, np.ndarray[tuple[int], np.dtype[np.float32]]]] = [{} for _ in found]
    begin = 0
    for part in ranking.parts:
        # Each part of a compared vector has the length of the square root of its share of the weights.
        of_part = np.zeros_like(unit)
        place = slice(begin, begin + part.dim)
        of_part[:, place] = unit[:, place] * np.float32(total / part.weight)
        begin += part.dim
        for row, neighbours in enumerate(found):
            if part.space.spec.region not in cosines[row]:
                cosines[row][part.space.spec.region] = stored.of(of_part[row], neighbours.ids)
    return [one._replace(cosines=own) for one, own in zip(found, cosines, strict=True)]
