"""A table seen as another: columns renamed, filled, added or parted, row by row as it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["TableView"]


@dataclass(frozen=True, slots=True)
class TableView:
    """Rows with the columns of an AIRR Rearrangement table, made from those of another format.

    Parameters
    ----------
    source : str
        Name for messages.
    format : str
        Such as ``10x``.
    columns : tuple of str
        Names, in order.
    read : callable
        Reads the rows from the beginning: place and values of each, in the order of `columns`.
    names : mapping of str to str
        What a column of the file is called here, where that differs.
    """

    source: str
    format: str
    columns: tuple[str, ...]
    read: Callable[[], Iterator[tuple[int, Sequence[str | None]]]] = field(repr=False)
    names: Mapping[str, str] = field(default_factory=dict)

    #: What `rows` counts.
    unit = "line"
    #: All is text.
    kinds = None

    def rows(self) -> Iterator[tuple[int, Sequence[str | None]]]:
        """Yield the line on which each row begins, and its values.

        Raises
        ------
        TableFormatError, FileFormatError
            As the table behind it.
        """
        return self.read()

    def column(self, name: str | None) -> str | None:
        """Return what a column that the user names as in the file is called here."""
        return name if name is None or name in self.columns else self.names.get(name, name)
