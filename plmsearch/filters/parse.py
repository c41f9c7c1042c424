"""Read a condition such as ``species = 'human' and v_call like 'IGHV1-%'``.

The language is the part of SQL's that a ``WHERE`` clause needs: ``=`` ``!=`` ``<>`` ``<`` ``<=`` ``>``
``>=``, ``in (...)``, ``like``, ``between ... and ...``, ``is null``, each of the last four with ``not``,
joined by ``and``, ``or``, ``not`` and parentheses. Texts stand in single quotes, ``''`` for one of them;
names of columns that are no plain words stand in double quotes. Keywords are read in any case.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, cast

from plmsearch.errors import FilterError
from plmsearch.filters.tree import (
    And,
    Between,
    Column,
    Compare,
    Condition,
    In,
    IsNull,
    Kind,
    Like,
    Not,
    Operator,
    Or,
    Value,
)

if TYPE_CHECKING:
    from lark import Token, Tree
    from lark.exceptions import UnexpectedInput

__all__ = ["RECORD_COLUMNS", "parse_condition"]

#: What every record has. A metadata column of the same name is called ``meta.NAME``.
RECORD_COLUMNS: Mapping[str, Kind] = {
    "record_id": "text",
    "description": "text",
    "sequence": "text",
    "n_residues": "int",
}

_META = "meta."
#: SQLite gives up at expressions 1000 deep, and a chain of ``and`` is as deep as it is long.
_MAX_CONDITIONS = 400
_MAX_DEPTH = 100
_QUOTES = "texts stand in single quotes, columns in double quotes or none, and a quote needs its end"

#: What was meant for a text, with other quotes or none; and its beginning, if that was read as a number.
_WORD = re.compile(r'"(?P<quoted>[^"]+)"|[^\s,()\'"=<>!][^\s,()\'"]*')
_LONGEST_WORD = 60
_WORD_BEGUN = re.compile(r"(?<=[\s(,=<>])[+-]?[0-9.]+\Z")

_GRAMMAR = r"""
start: any
?any: all (_OR all)*
?all: one (_AND one)*
?one: _NOT one -> negation
    | "(" any ")"
    | column OPERATOR value -> compare
    | column _IN _values -> is_in
    | column _NOT _IN _values -> not_in
    | column _LIKE TEXT -> like
    | column _NOT _LIKE TEXT -> not_like
    | column _BETWEEN value _AND value -> between
    | column _NOT _BETWEEN value _AND value -> not_between
    | column _IS _NULL -> is_null
    | column _IS _NOT _NULL -> not_null
column: NAME | QUOTED
value: TEXT | NUMBER | BOOL
_values: "(" value ("," value)* ")"

_OR.2: /or\b/i
_AND.2: /and\b/i
_NOT.2: /not\b/i
_IN.2: /in\b/i
_LIKE.2: /like\b/i
_BETWEEN.2: /between\b/i
_IS.2: /is\b/i
_NULL.2: /null\b/i
BOOL.2: /(true|false)\b/i
OPERATOR: "<=" | ">=" | "<>" | "!=" | "=" | "<" | ">"
TEXT: /'(?:[^']|'')*'/
QUOTED: /"(?:[^"]|"")+"/
NUMBER: /[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?/
NAME: /[^\W\d][\w.]*/
%ignore /\s+/
"""

_NEGATED = {"not_in": "is_in", "not_like": "like", "not_between": "between", "not_null": "is_null"}


def parse_condition(
    text: str, metadata: Mapping[str, str], derived: Mapping[str, str] | None = None
) -> Condition:
    """Parse a condition and check it against the columns there are.

    Parameters
    ----------
    text : str
    metadata : mapping of str to str
        Type of each metadata column.
    derived : mapping of str to str, optional
        Type of each derived column that there is (`plmsearch.filters.derived`).

    Returns
    -------
    Condition

    Raises
    ------
    FilterError
        If it cannot be read, naming the place; if there is no such column, naming the nearest; if a
        value is not of its column's type.

    Examples
    --------
    >>> parse_condition("n_residues >= 100", {})
    Compare(column=Column(name='n_residues', kind='int', is_metadata=False), operator='>=', value=100)
    """
    return _Builder(text, metadata, derived or {}).build()


class _Builder:
    """Turns lark's tree into ours, from the leaves up."""

    def __init__(self, text: str, metadata: Mapping[str, str], derived: Mapping[str, str]) -> None:
        self._text, self._metadata, self._derived = text, metadata, derived
        self._n_conditions = 0

    def build(self) -> Condition:
        (child,) = self._parse().children
        return self._condition(cast("Tree[Token]", child), 1)

    def _parse(self) -> Tree[Token]:
        from lark import Lark
        from lark.exceptions import UnexpectedInput

        try:
            return Lark(_GRAMMAR, parser="lalr").parse(self._text)
        except UnexpectedInput as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: UnexpectedInput) -> FilterError:
        place: Any = error.pos_in_stream  # lark's own annotation says None
        # At the end lark names the last token it has seen.
        if place is None or place < 0 or getattr(getattr(error, "token", None), "type", "") == "$END":
            return FilterError(self._text, "it ends too early", position=len(self._text) + 1)
        rest = self._text[place : place + 20]
        hint = self._hint(place, _expected(error))
        return FilterError(self._text, f"not understood from {rest!r} on", hint=hint, position=place + 1)

    def _hint(self, place: int, expected: Collection[str]) -> str:
        """Say what to write instead of what is not understood, where that can be guessed."""
        if self._text[place - 1 : place + 1] == "==":
            return "one = compares"
        # A word such as 7XYZ is read as a number, and ends in the middle.
        begun = _WORD_BEGUN.search(self._text, 0, place)
        word = _WORD.match(self._text, begun.start() if begun else place)
        if word is not None and ("TEXT" in expected or begun):
            if word.group().lower() == "null":
                return "null is asked for with: is null"
            text = (word["quoted"] or word.group()).replace("'", "''")
            return f"a text stands in single quotes: '{text}'" if len(text) <= _LONGEST_WORD else _QUOTES
        return _QUOTES if self._text[place] in {"'", '"'} else ""

    def _condition(self, tree: Tree[Token], depth: int) -> Condition:
        if depth > _MAX_DEPTH:
            raise FilterError(self._text, f"more than {_MAX_DEPTH} conditions inside one another")
        kind = str(tree.data)
        if kind in {"any", "all"}:
            parts = tuple(self._condition(cast("Tree[Token]", c), depth + 1) for c in tree.children)
            return Or(parts) if kind == "any" else And(parts)
        if kind == "negation":
            return Not(self._condition(cast("Tree[Token]", tree.children[0]), depth + 1))
        self._n_conditions += 1
        if self._n_conditions > _MAX_CONDITIONS:
            reason = f"more than {_MAX_CONDITIONS} conditions"
            raise FilterError(self._text, reason, hint="list values of one column with: column in (...)")
        if kind in _NEGATED:
            return Not(self._predicate(_NEGATED[kind], tree.children))
        return self._predicate(kind, tree.children)

    def _predicate(self, kind: str, children: Sequence[Any]) -> Condition:
        column = self._column(children[0].children[0])
        if kind == "is_null":
            return IsNull(column)
        if kind == "like":
            if column.kind != "text":
                reason = f"column {column.name!r} is {column.kind}, and like compares texts"
                raise FilterError(self._text, reason, position=_place(children[1]))
            return Like(column, _unquoted(children[1]))
        if kind == "compare":
            operator = cast("Operator", "!=" if children[1] == "<>" else str(children[1]))
            self._refuse_order(column, operator, children[1])
            return Compare(column, operator, self._value(column, children[2]))
        values = tuple(self._value(column, child) for child in children[1:])
        if kind == "between":
            self._refuse_order(column, "between", children[0].children[0])
            return Between(column, values[0], values[1])
        return In(column, values)

    # --- Columns and values ----------------------------------------------------------------------

    def _column(self, token: Token) -> Column:
        name = _unquoted(token) if token.type == "QUOTED" else str(token)
        if name in RECORD_COLUMNS:
            return Column(name, RECORD_COLUMNS[name], is_metadata=False)
        for bare in (name, name.removeprefix(_META)):
            if bare in self._metadata:
                return Column(bare, cast("Kind", self._metadata[bare]), is_metadata=True)
        if name in self._derived:
            return Column(name, cast("Kind", self._derived[name]), is_metadata=False)
        known = [*RECORD_COLUMNS, *self._metadata, *self._derived]
        near = get_close_matches(name, known, n=1) or get_close_matches(name.lower(), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the columns are: {', '.join(known)}"
        raise FilterError(self._text, f"there is no column {name!r}", hint=hint, position=_place(token))

    def _refuse_order(self, column: Column, operator: str, token: Token) -> None:
        if column.kind == "bool" and operator not in {"=", "!="}:
            reason = f"column {column.name!r} is true or false: {operator} says nothing of it"
            raise FilterError(self._text, reason, position=_place(token))

    def _value(self, column: Column, tree: Tree[Token]) -> Value:
        (token,) = cast("list[Token]", tree.children)
        value = _read(token)
        is_number = type(value) in {int, float}
        if column.kind in {"int", "float"} and is_number:
            return value
        if {"bool": bool, "text": str}.get(column.kind) is type(value):
            return value
        wants = {"bool": "true or false", "text": "a text, in single quotes"}.get(column.kind, "a number")
        reason = f"column {column.name!r} is {column.kind}, and {token} is not"
        raise FilterError(self._text, reason, hint=f"it is compared with {wants}", position=_place(token))


def _expected(error: UnexpectedInput) -> Collection[str]:
    """Return the names of what could have stood at the place of an error."""
    return getattr(error, "expected", None) or getattr(error, "allowed", None) or ()


def _place(token: Token) -> int:
    return (token.start_pos or 0) + 1


def _read(token: Token) -> Value:
    if token.type == "TEXT":
        return _unquoted(token)
    if token.type == "BOOL":
        return token.lower() == "true"
    return int(token) if token.lstrip("+-").isdigit() and len(token) < 19 else float(token)


def _unquoted(token: Token) -> str:
    quote = token[0]
    return token[1:-1].replace(quote * 2, quote)
