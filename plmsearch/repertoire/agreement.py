"""How well two groupings of the same rows agree.

All three measures are 1 for equal groupings, whatever the groups are called. They are symmetric but for
B-cubed precision and recall, which change places.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Agreement", "agreement"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of a grouping with a reference.

    Parameters
    ----------
    n : int
        Rows compared.
    ari : float
        Adjusted Rand index (Hubert and Arabie 1985, doi:10.1007/BF01908075): 0 is expected by chance.
    pairwise_precision, pairwise_recall, pairwise_f1 : float
        Over pairs of rows in one group.
    bcubed_precision, bcubed_recall, bcubed_f1 : float
        Over rows (Bagga and Baldwin 1998): share of a row's group that is of its reference group, and
        the other way round.
    """

    n: int
    ari: float
    pairwise_precision: float
    pairwise_recall: float
    pairwise_f1: float
    bcubed_precision: float
    bcubed_recall: float
    bcubed_f1: float


def agreement(groups: Sequence[Hashable], reference: Sequence[Hashable]) -> Agreement:
    """Compare two groupings.

    Parameters
    ----------
    groups, reference : sequence of hashable, length n
        Group of each row.

    Returns
    -------
    Agreement
        A ratio of nothing to nothing is 1: no pair was claimed, and none was missed.

    Examples
    --------
    >>> found = agreement([1, 1, 2, 2], ["a", "a", "a", "b"])
    >>> round(found.ari, 3), round(found.pairwise_f1, 3), round(found.bcubed_f1, 3)
    (0.0, 0.4, 0.706)
    """
    both, one, other = Counter(zip(groups, reference, strict=True)), Counter(groups), Counter(reference)
    n = len(groups)
    shared, claimed, true = _pairs(both.values()), _pairs(one.values()), _pairs(other.values())
    expected = claimed * true / max(n * (n - 1) // 2, 1)
    mean = (claimed + true) / 2
    precision, recall = _ratio(shared, claimed), _ratio(shared, true)
    b_precision = _ratio(sum(k * k / one[g] for (g, _), k in both.items()), n)
    b_recall = _ratio(sum(k * k / other[r] for (_, r), k in both.items()), n)
    return Agreement(
        n=n,
        ari=_ratio(shared - expected, mean - expected),
        pairwise_precision=precision,
        pairwise_recall=recall,
        pairwise_f1=_ratio(2 * shared, claimed + true),
        bcubed_precision=b_precision,
        bcubed_recall=b_recall,
        bcubed_f1=_ratio(2 * b_precision * b_recall, b_precision + b_recall),
    )


def _pairs(sizes: Iterable[int]) -> int:
    return sum(size * (size - 1) // 2 for size in sizes)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 1.0
