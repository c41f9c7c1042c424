"""The part of a database that a condition selects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from plmsearch.filters.parse import parse_condition
from plmsearch.filters.tree import Condition
from plmsearch.store.repository import Repository
from plmsearch.types import Int1D

__all__ = ["Selection", "select_records"]


@dataclass(frozen=True, slots=True)
class Selection:
    """What a condition selects at one generation of a database.

    Parameters
    ----------
    condition : Condition
    sequence_ids : ndarray, dtype=int64, shape=(n,)
        Rising: the sequences of the selected records.
    n_records : int
    """

    condition: Condition
    sequence_ids: Int1D
    n_records: int


def select_records(repository: Repository, where: str, columns: Mapping[str, str]) -> Selection:
    """Find the live records that meet a condition.

    Parameters
    ----------
    repository : Repository
    where : str
    columns : mapping of str to str
        Type of each metadata column.

    Raises
    ------
    FilterError
        If the condition cannot be read, or does not fit the columns.
    """
    condition = parse_condition(where, columns)
    return Selection(condition, *repository.matching_sequences(condition))
