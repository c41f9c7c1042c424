"""Metadata values: stored as the text that was read, with a type per column.

Text is what an input holds, so text is what is kept; the type says how to compare and what Python
value to hand out. A column that meets a value outside its type is widened, never rewritten.

Types, from narrow to wide: ``bool`` or ``int``, ``float`` (holds int), ``text`` (holds all).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping

from plmsearch.errors import ParameterError

__all__ = [
    "FALSE_TEXTS",
    "TRUE_TEXTS",
    "TypeInference",
    "as_text",
    "metadata_json",
    "type_of",
    "typed",
    "widen",
]

#: What tables write for true and false, AIRR's T and F among them.
TRUE_TEXTS = frozenset({"T", "TRUE", "True", "true"})
FALSE_TEXTS = frozenset({"F", "FALSE", "False", "false"})
# No leading zeros and no plus sign: "007" is a name, not a number. Nor are 19 digits without a point:
# as a float they would be rounded.
_INT = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_EXPONENT = "[eE][+-]?[0-9]+"
_FLOAT = re.compile(rf"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*|(?={_EXPONENT}))|\.[0-9]+)(?:{_EXPONENT})?")


def as_text(value: object) -> str | None:
    """Return the text that stands for a value.

    Parameters
    ----------
    value : str, bool, int, float or None

    Returns
    -------
    str or None
        None for a null: None, NaN or the empty string.

    Raises
    ------
    ParameterError
        For a value of another type.

    Examples
    --------
    >>> as_text(True), as_text(0.5), as_text("")
    ('true', '0.5', None)
    """
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    # Not the value's own repr: a subclass, such as numpy's float64, has another.
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    raise ParameterError("metadata value", value, "str, bool, int, float or None")


def type_of(text: str) -> str:
    """Return the narrowest type that holds a text.

    Examples
    --------
    >>> [type_of(t) for t in ("T", "12", "1.5e3", "007", "IGHV1-2*02")]
    ['bool', 'int', 'float', 'text', 'text']
    """
    if text in TRUE_TEXTS or text in FALSE_TEXTS:
        return "bool"
    if _INT.fullmatch(text):
        return "int"
    return "float" if _FLOAT.fullmatch(text) else "text"


def widen(first: str, second: str) -> str:
    """Return the narrowest type that holds both.

    Examples
    --------
    >>> widen("int", "float"), widen("bool", "int")
    ('float', 'text')
    """
    if first == second:
        return first
    return "float" if {first, second} == {"int", "float"} else "text"


def typed(text: str, kind: str) -> str | int | float | bool:
    """Read a text as a value of its column's type.

    Examples
    --------
    >>> typed("T", "bool"), typed("12", "float")
    (True, 12.0)
    """
    if kind == "bool":
        return text in TRUE_TEXTS
    if kind == "int":
        return int(text)
    return float(text) if kind == "float" else text


def metadata_json(metadata: Mapping[str, str]) -> str:
    """Return canonical JSON, so that equal metadata are equal text."""
    return json.dumps(dict(metadata), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


class TypeInference:
    """The type of each column, widened by every value seen.

    Parameters
    ----------
    types : mapping of str to str, optional
        Types known so far, in column order.
    """

    def __init__(self, types: Mapping[str, str] | None = None) -> None:
        self._known = dict(types or {})
        self.types = dict(self._known)

    def observe(self, items: Iterable[tuple[str, str]]) -> None:
        """Take note of one row's columns and texts."""
        for name, text in items:
            known = self.types.get(name)
            if known != "text":
                kind = type_of(text)
                self.types[name] = kind if known is None else widen(known, kind)

    @property
    def widened(self) -> dict[str, tuple[str, str]]:
        """Columns whose type is wider than it was known: name to (before, after)."""
        return {
            name: (before, self.types[name])
            for name, before in self._known.items()
            if self.types[name] != before
        }
