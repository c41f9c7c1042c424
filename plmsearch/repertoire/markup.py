"""HTML and SVG as text in which nothing a user wrote is ever markup.

A child of `tag` that is no `Markup` is escaped, and so is every attribute: what came from a table cannot
open a tag, close an attribute or run.
"""

from __future__ import annotations

from html import escape

__all__ = ["Markup", "join", "tag"]

_VOID = frozenset(("meta", "br", "hr", "col"))
#: SVG elements without children close themselves.
_EMPTY = frozenset(("path", "line", "rect", "circle", "polygon"))


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def join(*parts: str) -> Markup:
    """Put parts together, escaping those that are no markup."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts))


def tag(name: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """Write one element.

    Parameters
    ----------
    name : str
    children : str or Markup
    attributes : str, float or None
        ``class_`` stands for ``class`` and ``stroke_width`` for ``stroke-width``; None is left out; numbers
        are rounded to two places.

    Examples
    --------
    >>> tag("b", "<script>", title='"x"', id=None)
    '<b title="&quot;x&quot;">&lt;script&gt;</b>'
    """
    texts = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    ]
    start = f"<{name}{''.join(texts)}"
    if name in _VOID:
        return Markup(f"{start}>")
    if name in _EMPTY and not children:
        return Markup(f"{start}/>")
    return Markup(f"{start}>{join(*children)}</{name}>")


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
