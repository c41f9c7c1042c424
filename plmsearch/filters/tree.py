"""The tree of a condition: what is asked of a record, apart from how it is written or looked up.

The logic is SQL's: a comparison with a null is neither true nor false, ``not`` of it neither, and a
record is selected only where the whole is true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = [
    "And",
    "Between",
    "Column",
    "Compare",
    "Condition",
    "In",
    "IsNull",
    "Kind",
    "Like",
    "Not",
    "Operator",
    "Or",
    "Value",
]

Kind: TypeAlias = Literal["bool", "int", "float", "text"]
Operator: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">="]
Value: TypeAlias = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Column:
    """A column of records.

    Parameters
    ----------
    name : str
    kind : {"bool", "int", "float", "text"}
    is_metadata : bool
        False for what every record has (`plmsearch.filters.parse.RECORD_COLUMNS`) and for what is derived
        (`plmsearch.filters.derived.DERIVED_COLUMNS`).
    """

    name: str
    kind: Kind
    is_metadata: bool


@dataclass(frozen=True, slots=True)
class Compare:
    """``column operator value``; texts are ordered by code point."""

    column: Column
    operator: Operator
    value: Value


@dataclass(frozen=True, slots=True)
class In:
    """``column in (values)``."""

    column: Column
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Like:
    """``column like pattern``: ``%`` is any text, ``_`` any one character; upper and lower case differ."""

    column: Column
    pattern: str


@dataclass(frozen=True, slots=True)
class Between:
    """``column between low and high``, both included."""

    column: Column
    low: Value
    high: Value


@dataclass(frozen=True, slots=True)
class IsNull:
    """``column is null``."""

    column: Column


@dataclass(frozen=True, slots=True)
class Not:
    """``not condition``."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class And:
    """All of at least two conditions."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Any of at least two conditions."""

    conditions: tuple[Condition, ...]


Condition: TypeAlias = Compare | In | Like | Between | IsNull | Not | And | Or
