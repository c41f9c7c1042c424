"""Neighbours that were found and will be asked for again."""

from __future__ import annotations

from plmsearch.search.hits import Found

__all__ = ["Remembered"]

#: What Python needs for four arrays, besides their content.
_BYTES_EACH = 700


class Remembered:
    """The neighbours of sequences that more records will ask for, as many as fit.

    What does not fit is not kept, and has to be searched for again.

    Parameters
    ----------
    most_bytes : int
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._n_bytes = 0
        self._found: dict[int, Found] = {}

    def __contains__(self, sequence_id: int) -> bool:
        return sequence_id in self._found

    def __getitem__(self, sequence_id: int) -> Found:
        return self._found[sequence_id]

    def keep(self, sequence_id: int, found: Found) -> None:
        """Keep what was found, if there is room."""
        if sequence_id in self._found or self._n_bytes + _size(found) > self._most_bytes:
            return
        # Copies: a row of an array keeps all the other rows too.
        p, e = found.pvalues, found.evalues
        self._found[sequence_id] = Found(
            found.scores.copy(),
            found.ids.copy(),
            None if p is None else p.copy(),
            None if e is None else e.copy(),
            found.cosines,
        )
        self._n_bytes += _size(found)

    def drop(self, sequence_id: int) -> None:
        """Forget a sequence that nobody will ask for any more."""
        found = self._found.pop(sequence_id, None)
        if found is not None:
            self._n_bytes -= _size(found)

    def clear(self) -> None:
        """Forget everything."""
        self._found.clear()
        self._n_bytes = 0


def _size(found: Found) -> int:
    arrays = (*found[:4], *(found.cosines or {}).values())
    return sum(values.nbytes for values in arrays if values is not None) + _BYTES_EACH
