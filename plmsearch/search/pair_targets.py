"""The pairs that a search compares with."""

from __future__ import annotations

from dataclasses import dataclass

from plmsearch.search.pair_scores import UnitRows
from plmsearch.search.pairs import Pairs
from plmsearch.types import Int1D
from plmsearch.wording import counted

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
        one_kind, no_sample = "with chains of one kind only", "neither sample_id nor repertoire_id"
        counts = [
            (len(pairs.lone), f"record {one_kind} is", f"records {one_kind} are", "of no pair"),
            (pairs.n_spare, "chain is", "chains are",
             "of no pair: another of the kind counts in their cell or record"),
            (pairs.n_unproductive, "chain of cells is", "chains of cells are",
             "not productive, and so of no pair"),
            (self.n_without_vector, "pair lacks", "pairs lack", "a region that is compared"),
            (n_several, "pair has", "pairs have", "more than one heavy chain to choose from: several_heavy"),
            (pairs.n_without_sample, "pair has", "pairs have",
             f"{no_sample}: equal cell_id is taken for one cell"),
        ]  # fmt: skip
        asked = counted(len(self.chosen), "pair is", "pairs are", style=",")
        searched = f"{asked} searched, all of them; pairs have no p-values and E-values"
        told = (f"{counted(n, one, many, style=',')} {what}" for n, one, many, what in counts if n)
        return [searched, *told]
