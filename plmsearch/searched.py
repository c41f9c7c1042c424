"""What a ranking searches: its vectors, how many there are, and what a condition or a locus leaves of them.

Each answer is kept until the database changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from plmsearch.embedding.options import ModelOptions
from plmsearch.index.base import Block
from plmsearch.reader import Reader
from plmsearch.search.judge import Judge
from plmsearch.search.selection import Selection
from plmsearch.store.rankings import StoredRanking
from plmsearch.store.rows import SearchedSize
from plmsearch.types import Int1D

__all__ = ["SearchedReader"]


class SearchedReader(Reader):
    """A database directory, for reading, with what its rankings search.

    Parameters
    ----------
    path : Path
    model_options : ModelOptions
        Where weights are and how models run.
    """

    def __init__(self, path: Path, model_options: ModelOptions) -> None:
        super().__init__(path, model_options)
        self._sizes: dict[tuple[int, tuple[int, ...], str | None], SearchedSize] = {}
        self._judges: dict[tuple[int, str], Judge] = {}
        self._counts: dict[tuple[int, str, str | None], Mapping[str, int]] = {}
        self._of_locus: dict[tuple[int, str, bool], Int1D] = {}
        self._most: dict[tuple[int, bool], int] = {}

    def searched_size(self, ranking: StoredRanking, where: str | None = None) -> SearchedSize:
        """Return how much is searched: what E-values of alignments refer to.

        Parameters
        ----------
        ranking : StoredRanking
        where : str, optional
            Only the records that meet this condition.
        """
        self._refresh()
        spaces = _space_ids(ranking)
        key = (self._generation, spaces, where)
        if key not in self._sizes:
            condition = None if where is None else self.select(where).condition
            by_domain = ranking.reads_domains
            self._sizes = {key: self.repository.searched_size(spaces, condition, by_domain=by_domain)}
        return self._sizes[key]

    def judge(self, ranking: StoredRanking) -> Judge:
        """Return the null distributions of a ranking: what p-values and E-values come from."""
        self._refresh()
        key = (self._generation, ranking.name)
        if key not in self._judges:
            self._judges = {k: judge for k, judge in self._judges.items() if k[0] == self._generation}
            self._judges[key] = Judge(self.repository, ranking)
        return self._judges[key]

    def n_searched(self, ranking: StoredRanking, where: str | None = None) -> Mapping[str, int]:
        """Return how many distinct sequences are searched: what E-values of embeddings refer to.

        Parameters
        ----------
        ranking : StoredRanking
        where : str, optional
            Only the records that meet this condition.

        Returns
        -------
        mapping of str to int
            By locus, if the ranking compares by locus; else of ''.
        """
        self._refresh()
        key = (self._generation, ranking.name, where)
        if key not in self._counts:
            by_domain = ranking.reads_domains
            selection = None if where is None else self.select(where, by_domain=by_domain)
            if ranking.needs_locus:
                condition = None if selection is None else selection.condition
                counts = self.repository.n_by_locus(_space_ids(ranking), condition, by_domain=by_domain)
            elif selection is None:
                counts = {"": sum(b.n_live for b in self._blocks(ranking))}
            else:
                chosen = selection.sequence_ids
                counts = {"": sum(int(np.isin(chosen, b.ids).sum()) for b in self._blocks(ranking))}
            self._counts = {k: one for k, one in self._counts.items() if k[0] == self._generation}
            self._counts[key] = counts
        return self._counts[key]

    def vector_blocks(self, ranking: StoredRanking) -> list[Block]:
        """Return the vectors that a ranking compares, of unit length, a block per segment, oldest first."""
        self._refresh()
        return self._blocks(ranking)

    def _blocks(self, ranking: StoredRanking) -> list[Block]:
        """Return the vectors of a ranking, a block per segment, oldest first."""
        space, catalog = ranking.space, self.repository
        return self._looking_again(
            lambda: self._files.blocks(catalog, ranking, self._segments_of(space), self._dead_of(ranking))
        )

    def _selection(self, ranking: StoredRanking, where: str | None, locus: str) -> Selection | None:
        """Return what a condition selects, of one locus if there are others; None: everything."""
        selection = None if where is None else self.select(where, by_domain=ranking.reads_domains)
        if not locus or self.n_searched(ranking).keys() <= {locus}:
            return selection
        by_domain = ranking.reads_domains
        key = (self._generation, locus, by_domain)
        if key not in self._of_locus:
            self._of_locus = {k: ids for k, ids in self._of_locus.items() if k[0] == self._generation}
            self._of_locus[key] = self.repository.sequences_of_locus(locus, by_domain=by_domain)
        ids = self._of_locus[key]
        if selection is None:
            return Selection(None, ids, len(ids))
        return replace(
            selection, sequence_ids=np.intersect1d(selection.sequence_ids, ids, assume_unique=True)
        )

    def _most_domains(self, ranking: StoredRanking, locus: str) -> int:
        """Return how many domains (of a locus) a record has at most: so many neighbours may be one record."""
        if not ranking.reads_domains:
            return 1
        key = (self._generation, bool(locus))
        if key not in self._most:
            self._most = {k: most for k, most in self._most.items() if k[0] == self._generation}
            self._most[key] = self.repository.most_domains(by_locus=bool(locus))
        return self._most[key]


def _space_ids(ranking: StoredRanking) -> tuple[int, ...]:
    return tuple(part.space.space_id for part in ranking.parts)
