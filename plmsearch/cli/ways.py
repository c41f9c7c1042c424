"""The two ways in which ``plmsearch query`` searches: with chains, or with pairs of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from plmsearch.cli.console import note

if TYPE_CHECKING:
    from plmsearch.database import Database
    from plmsearch.ingest.report import AddOptions, AddReport
    from plmsearch.ingest.scan import Input
    from plmsearch.search.hits import Hit, Query, SearchOptions
    from plmsearch.store.rankings import StoredRanking

    Results: TypeAlias = Iterator[tuple[Query, list[Hit]]]

__all__ = ["ByChain", "ByPair"]


class ByChain:
    """Every chain, or domain, is searched with by itself."""

    def __init__(
        self, db: Database, ranking: StoredRanking, wishes: SearchOptions, report: AddReport
    ) -> None:
        self._db, self._ranking, self._wishes, self._report = db, ranking, wishes, report

    @property
    def metadata(self) -> Mapping[str, str]:
        """Type of each metadata column that can be written."""
        return self._db.repository.metadata_columns()

    @property
    def default_columns(self) -> Sequence[str]:
        """What is written unless columns are chosen."""
        from plmsearch.formats.hits import ALIGNED_HIT_COLUMNS, DEFAULT_HIT_COLUMNS, with_domain

        default = DEFAULT_HIT_COLUMNS if self._wishes.rerank is None else ALIGNED_HIT_COLUMNS
        return with_domain(default) if self._ranking.reads_domains else default

    def stored(self, record_ids: Sequence[str], cells: Sequence[str]) -> Results:
        """Search with stored records."""
        return self._db.search_stored(record_ids, self._ranking, self._wishes)

    def database(self, other: Database) -> Results:
        """Search with all of a database."""
        k, name, report = self._wishes.k, self._ranking.name, self._report
        return self._db.search_all(other, k, ranking=name, options=self._wishes, report=report)

    def inputs(self, inputs: Sequence[Input], policy: AddOptions) -> Results:
        """Search with what inputs hold."""
        return self._db.search_inputs(inputs, self._ranking, self._wishes, policy=policy, report=self._report)

    def explain(self, n_queries: int) -> Sequence[str]:
        """Say how the search is done, in lines of text."""
        return self._db.explain(self._ranking, self._wishes, n_queries)


class ByPair(ByChain):
    """Pairs of a heavy and a light chain are searched with, among pairs."""

    def __init__(
        self, db: Database, ranking: StoredRanking, wishes: SearchOptions, report: AddReport
    ) -> None:
        from plmsearch.search.pair_hits import refuse_unknown_wishes

        super().__init__(db, ranking, wishes, report)
        refuse_unknown_wishes(wishes)
        self._targets = db.pair_targets(ranking, wishes.where)

    def tell(self) -> None:
        """Say what is searched, and what is not."""
        for text in self._targets.remarks():
            note(text)

    @property
    def metadata(self) -> Mapping[str, str]:
        """Type of each metadata column that can be written; the cell among them, known or not."""
        return {"cell_id": "text", **super().metadata}

    @property
    def default_columns(self) -> Sequence[str]:
        """What is written unless columns are chosen."""
        from plmsearch.formats.hits import PAIR_HIT_COLUMNS

        return PAIR_HIT_COLUMNS

    def stored(self, record_ids: Sequence[str], cells: Sequence[str]) -> Results:
        """Search with stored pairs, of records or of cells."""
        return self._db.search_stored_pairs(record_ids, cells, self._targets, self._ranking, self._wishes)

    def database(self, other: Database) -> Results:
        """Search with all pairs of a database."""
        return self._db.search_pairs_of(other, self._targets, self._ranking, self._wishes)

    def inputs(self, inputs: Sequence[Input], policy: AddOptions) -> Results:
        """Search with the pairs that inputs hold."""
        return self._db.search_pair_inputs(
            inputs, self._targets, self._ranking, self._wishes, policy=policy, report=self._report
        )

    def explain(self, n_queries: int) -> Sequence[str]:
        """Say how the search is done, in lines of text."""
        return [f"ranking {self._ranking.name}: every query pair with every pair, exactly"]
