"""The pairs that a search compares with."""

from __future__ import annotations

from dataclasses import dataclass

from plmsearch.search.pair_scores import UnitRows
from plmsearch.search.pairs import Pairs
from plmsearch.types import Int1D

__all__ = ["PairTargets"]


@dataclass(frozen=True, slots=True)
class PairTargets:
    """What pairs are compared with.

    Parameters
    ----------
    pairs : Pairs
        All of the database of which both chains have a vector in the ranking.
    rows : UnitRows
        The vectors.
    chosen : ndarray, dtype=int64, shape=(n,)
        Places of the pairs that the condition selects.
    n_without_vector : int
        Pairs of which a chain has none.
    """

    pairs: Pairs
    rows: UnitRows
    chosen: Int1D
    n_without_vector: int

    def remarks(self) -> list[str]:
        """Say in lines of text what is searched, and what is not."""
        pairs, n_several = self.pairs, int((self.pairs.n_heavy > 1).sum())
        counts = {
            "records with chains of one kind only are of no pair": len(pairs.lone),
            "chains are of no pair: another of the kind counts in their cell or record": pairs.n_spare,
            "chains of cells are not productive, and so of no pair": pairs.n_unproductive,
            "pairs lack a region that is compared": self.n_without_vector,
            "pairs have more than one heavy chain to choose from: several_heavy": n_several,
            "pairs have neither sample_id nor repertoire_id: equal cell_id is taken for one cell": (
                pairs.n_without_sample
            ),
        }
        searched = (
            f"{len(self.chosen):,} pairs are searched, all of them; pairs have no p-values and E-values"
        )
        return [searched, *(f"{n:,} {what}" for what, n in counts.items() if n)]
