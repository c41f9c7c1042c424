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
    condition : Condition or None
        None: of every record.
    sequence_ids : ndarray, dtype=int64, shape=(n,)
        Rising: the sequences of the selected records, or of their domains if domains are searched.
    n_records : int
    """

    condition: Condition | None
    sequence_ids: Int1D
    n_records: int


def select_records(
    repository: Repository, where: str, columns: Mapping[str, str], *, by_domain: bool = False
) -> Selection:
    """Find the live records that meet a condition.

    Parameters
    ----------
    repository : Repository
    where : str
    columns : mapping of str to str
        Type of each metadata column.
    by_domain : bool
        Whether domains are searched.

    Raises
    ------
    FilterError
        If the condition cannot be read, or does not fit the columns.
    """
    condition = parse_condition(where, columns, repository.derived_columns())
    return Selection(condition, *repository.matching_sequences(condition, by_domain=by_domain))
