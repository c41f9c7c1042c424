"""Conditions as SQL: values are bound parameters, and metadata is read by its column's type.

A metadata value is kept as the text that was read. A number in it is cast, and so is the number it is
compared with, written as text: equal texts are equal then, however SQLite's version rounds them.
"""

from __future__ import annotations

import operator
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import REAL, ColumnElement, Integer, and_, case, cast, func, literal, not_, or_, select

from plmsearch.filters.derived import DERIVED_COLUMNS, GENE_COLUMNS
from plmsearch.filters.tree import (
    And,
    Between,
    Column,
    Compare,
    Condition,
    In,
    IsNull,
    Like,
    Not,
    Or,
    Value,
)
from plmsearch.metadata import FALSE_TEXTS, TRUE_TEXTS
from plmsearch.store import tables as t
from plmsearch.store.derived import Test, any_value

__all__ = ["column_expression", "has_path", "sql_condition"]

_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
#: Characters that the path of `json_extract` cannot hold between quotes in every version of SQLite.
_NO_PATH = re.compile(r'["\\\x00-\x1f]')

_SURROGATES = (0xD800, 0xDFFF)


def sql_condition(condition: Condition) -> ColumnElement[bool]:
    """Return a condition on rows of `plmsearch.store.tables.records`."""
    match condition:
        case And(parts):
            return and_(*map(sql_condition, parts))
        case Or(parts):
            return or_(*map(sql_condition, parts))
        case Not(part):
            return not_(sql_condition(part).self_group())
        case IsNull(column) | Like(column) | In(column) | Between(column) | Compare(column) if _is_derived(
            column
        ):
            return _on_derived(condition)
        case IsNull(column):
            return column_expression(column).is_(None)
        case Like(column, pattern):
            return _like(column_expression(column), pattern)
        case In(column, values):
            return (
                or_(*(_compared(column, "=", v) for v in values))
                if column.kind == "bool"
                else _among(column, values)
            )
        case Between(column, low, high):
            return and_(_compared(column, ">=", low), _compared(column, "<=", high))
        case Compare(column, sign, value):
            return _compared(column, sign, value)


def _is_derived(column: Column) -> bool:
    return not column.is_metadata and column.name in DERIVED_COLUMNS


def _on_derived(condition: IsNull | Like | In | Between | Compare) -> ColumnElement[bool]:
    """Return a condition that one of the values of a derived column has to meet; null where there is none."""
    column = condition.column
    call = GENE_COLUMNS[column.name].call if column.name in GENE_COLUMNS else ""
    given = _metadata_text(call) if call else literal(None)
    has_value = any_value(column.name, given)
    if isinstance(condition, IsNull):
        return not_(has_value)
    met = any_value(column.name, given, _test(condition))
    if isinstance(condition, Compare) and condition.operator == "!=":
        return case((met, False), (has_value, True))
    return case((met, True), (has_value, False))


def _test(condition: Like | In | Between | Compare) -> Test:
    """Return what one value has to meet; of ``!=`` what it denies."""
    match condition:
        case Like(_, pattern):
            return Test(lambda value: _like(value, pattern))
        case In(_, values):
            return Test(lambda value: value.in_([literal(one) for one in values]), values)
        case Between(_, low, high):
            return Test(lambda value: and_(value >= literal(low), value <= literal(high)))
        case Compare(_, "=" | "!=", one):
            return Test(lambda value: value == literal(one), (one,))
        case Compare(_, sign, one):
            return Test(lambda value: _OPERATORS[sign](value, literal(one)))


def has_path(name: str) -> bool:
    """Tell whether the values of a metadata column can be read by an expression that can be indexed."""
    return _NO_PATH.search(name) is None


def column_expression(column: Column) -> ColumnElement[Any]:
    """Return the value of a column, of its type; truth values as the text that was read."""
    if not column.is_metadata:
        return _of_record(column.name)
    read = _metadata_text(column.name)
    if column.kind == "int":
        return cast(read, Integer)
    return cast(read, REAL) if column.kind == "float" else read


def _of_record(name: str) -> ColumnElement[Any]:
    if name not in {"sequence", "n_residues"}:
        return t.records.c[name]
    s = t.sequences.c
    # A record that was imported without a sequence has one of no residues: that is a null.
    value = func.nullif(s.residues, "") if name == "sequence" else func.nullif(s.n_residues, 0)
    return select(value).where(s.id == t.records.c.sequence_id).correlate(t.records).scalar_subquery()


def _metadata_text(name: str) -> ColumnElement[Any]:
    if not has_path(name):
        each = func.json_each(t.records.c.metadata).table_valued("key", "value")
        return select(each.c.value).where(each.c.key == name).correlate(t.records).scalar_subquery()
    # Written out, not bound: an index on the expression is used for the same expression only.
    return func.json_extract(t.records.c.metadata, literal(f'$."{name}"', literal_execute=True))


def _bound(column: Column, value: Value) -> Any:
    if column.is_metadata and column.kind == "float":
        return cast(literal(repr(float(value))), REAL)
    return literal(value)


def _compared(column: Column, sign: str, value: Value) -> ColumnElement[bool]:
    expression = column_expression(column)
    if column.kind == "bool":
        same = value is (sign == "=")
        return expression.in_(sorted(TRUE_TEXTS if same else FALSE_TEXTS))
    result: ColumnElement[bool] = _OPERATORS[sign](expression, _bound(column, value))
    return result


def _among(column: Column, values: tuple[Value, ...]) -> ColumnElement[bool]:
    return column_expression(column).in_([_bound(column, v) for v in values])


def _like(expression: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
    """Match a pattern; what it begins with is a range too, which an index can answer."""
    matches: ColumnElement[bool] = expression.op("GLOB", is_comparison=True)(_glob(pattern))
    prefix = re.split("[%_]", pattern, maxsplit=1)[0]
    if not prefix or not (following := _following(prefix)):
        return matches
    return and_(expression >= prefix, expression < following, matches)


def _following(prefix: str) -> str:
    """Return the smallest text above all that begin with `prefix`, by code point; empty if none is valid."""
    last = ord(prefix[-1]) + 1
    is_valid = last <= sys.maxunicode and not _SURROGATES[0] <= last <= _SURROGATES[1]
    return prefix[:-1] + chr(last) if is_valid else ""


def _glob(pattern: str) -> str:
    """Return the pattern of GLOB, which tells upper from lower case, for one of LIKE."""
    return "".join(
        {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}.get(letter, letter) for letter in pattern
    )
