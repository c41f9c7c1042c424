"""CDR3 strings: how alike two of them are, and which of many are at least so alike. No model is involved.

Concepts
--------
The *identity* of two CDR3 of one length is the share of positions with the same letter. That is what clonal
families are made with (1 minus the normalised Hamming distance, Gupta et al. 2017,
doi:10.4049/jimmunol.1601850), and it has no gaps: a CDR3 that lost a residue is another length. Lengths
that differ are compared by edit distance (Levenshtein): ``(longest - distance) / longest``, so that one
residue more than 14 leaves an identity of 14/15.

An identity is what is *known* to agree: a position where one of the two has an unknown residue (X, B, Z, J)
is never a match, not even with the same letter. So "at least 0.8" holds whatever the unknown residues are.
Clonal families take the other side, as Change-O does (an unknown letter never differs there): a base that was
not read must not part a family.

A *junction* is the CDR3 with the conserved residues around it: C104 before, W118 or F118 behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plmsearch.errors import InputError, ParameterError
from plmsearch.sequences import is_nucleotide, normalise, validate
from plmsearch.types import Int1D

__all__ = ["SAME", "Cdr3List", "Cdr3Options", "Cdr3Query", "cdr3_identity", "parse_same", "read_cdr3"]

Float64s: TypeAlias = NDArray[np.float64]

#: What ``--same`` can ask for.
SAME = ("v", "j", "cdr3_length")

#: Residues that end a junction.
_AROMATIC = ("W", "F")

#: Letters that do not say which residue: any; D or N; E or Q; I or L.
_UNKNOWN = "XBZJ"
#: A letter that no CDR3 has stands for them on one side of a comparison, so that they match nothing.
_NOTHING = "-"
_MASK = str.maketrans(dict.fromkeys(_UNKNOWN, _NOTHING))


@dataclass(frozen=True, slots=True)
class Cdr3Options:
    """Which targets are asked for, by residues and genes alone.

    Parameters
    ----------
    min_identity : float or None
        Smallest identity of the CDR3, 0 to 1; None: any.
    same : tuple of str
        Of `SAME`: query and target share a V gene, a J gene, or the length of the CDR3.
    k : int or None
        Most hits per query; None: all.

    Raises
    ------
    ParameterError
    """

    min_identity: float | None = None
    same: tuple[str, ...] = ()
    k: int | None = None

    def __post_init__(self) -> None:
        if self.min_identity is not None and not 0 <= self.min_identity <= 1:
            raise ParameterError("min_cdr3_identity", self.min_identity, "between 0 and 1")
        for name in self.same:
            if name not in SAME:
                raise ParameterError("same", name, f"made of: {','.join(SAME)}")
        if self.k is not None and self.k < 1:
            raise ParameterError("k", self.k, "at least 1")

    @property
    def same_length(self) -> bool:
        """Whether only CDR3 of the query's length are meant."""
        return "cdr3_length" in self.same

    @property
    def least(self) -> float:
        """The smallest identity; 0 if none is asked for."""
        return self.min_identity or 0.0


class Cdr3Query(NamedTuple):
    """A CDR3 that is searched with.

    Parameters
    ----------
    given : str
        As it was handed in.
    cdr3 : str
        Without the conserved residues around it.
    is_junction : bool
        Whether `given` had them.
    """

    given: str
    cdr3: str
    is_junction: bool


def parse_same(text: str) -> tuple[str, ...]:
    """Read what ``--same`` was given.

    Raises
    ------
    ParameterError

    Examples
    --------
    >>> parse_same("v, j,cdr3_length")
    ('v', 'j', 'cdr3_length')
    """
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",")))
    return Cdr3Options(same=names).same


def read_cdr3(text: str) -> Cdr3Query:
    """Read a CDR3, or a junction: what begins with C and ends with W or F is one.

    A CDR3 that itself begins and ends so is searched by its junction.

    Parameters
    ----------
    text : str
        Residues; white space, gaps and lower case are allowed.

    Raises
    ------
    ParameterError
        If it holds no residues, letters that are none, or nucleotides.

    Examples
    --------
    >>> read_cdr3("CARDYW").cdr3, read_cdr3("ARDY").cdr3
    ('ARDY', 'ARDY')
    """
    residues = normalise(text).residues
    try:
        validate(residues, text)
    except InputError as error:
        raise ParameterError("cdr3", text, "residues of a CDR3 or of a junction (C...W, C...F)") from error
    is_junction = residues.startswith("C") and residues.endswith(_AROMATIC)
    cdr3 = residues[1:-1] if is_junction else residues
    if not cdr3 or is_nucleotide(residues):
        raise ParameterError("cdr3", text, "at least one residue long, without C104 and W118 or F118")
    return Cdr3Query(text, cdr3, is_junction)


def cdr3_identity(first: str, second: str) -> float:
    """Return how alike two CDR3 are, 0 to 1; see the module for what is counted.

    Parameters
    ----------
    first, second : str
        Upper case. An empty one is like nothing.

    Examples
    --------
    >>> cdr3_identity("ARDYW", "ARDFW"), cdr3_identity("ARDYW", "ARDDYW") == 5 / 6, cdr3_identity("", "")
    (0.8, True, 0.0)
    >>> cdr3_identity("ARXYW", "ARXYW")
    0.8
    """
    longest = max(len(first), len(second))
    first = first.translate(_MASK)
    if not first or not second:
        return 0.0
    if len(first) == len(second):
        n_changes = sum(a != b for a, b in zip(first, second, strict=True))
    else:
        n_changes = _edit_distance()(first, second)
    return (longest - n_changes) / longest


class Cdr3List:
    """Distinct CDR3, by length, to be compared with others.

    Parameters
    ----------
    cdr3s : sequence of str
        Distinct, upper case ASCII, none empty.

    Notes
    -----
    One length is compared by ``length`` comparisons of contiguous bytes: 10^6 CDR3 in about a millisecond for
    each query. Of other lengths that the identity can reach, those are left out whose letters, in whatever
    order, differ too much already: the bag distance is never above the edit distance (Bartolini et al. 2002,
    doi:10.1007/3-540-45735-6_24). The edit distance of the rest is rapidfuzz's (bit-parallel). About 150
    bytes a CDR3.
    """

    def __init__(self, cdr3s: Sequence[str]) -> None:
        places: dict[int, list[int]] = {}
        for number, cdr3 in enumerate(cdr3s):
            places.setdefault(len(cdr3), []).append(number)
        self._of_length = {
            length: _OfLength(length, np.array(numbers, dtype=np.int64), [cdr3s[i] for i in numbers])
            for length, numbers in places.items()
        }

    def find(self, query: str, least: float = 0.0, *, same_length: bool = False) -> tuple[Int1D, Float64s]:
        """Return every CDR3 that is at least so alike.

        Parameters
        ----------
        query : str
        least : float
            Smallest identity, 0 to 1.
        same_length : bool
            Leave out other lengths.

        Returns
        -------
        numbers : ndarray, dtype=int64, shape=(n,)
            Places in the list, in no order.
        identities : ndarray, dtype=float64, shape=(n,)
        """
        query = query.translate(_MASK)
        lengths = [len(query)] if same_length else list(self._of_length)
        parts = [self._of_length[n].find(query, least) for n in lengths if query and n in self._of_length]
        numbers = [np.empty(0, dtype=np.int64), *(part[0] for part in parts)]
        identities = [np.empty(0, dtype=np.float64), *(part[1] for part in parts)]
        return np.concatenate(numbers), np.concatenate(identities)


class _OfLength:
    """Distinct CDR3 of one length, and their numbers in a list of more."""

    def __init__(self, length: int, numbers: Int1D, cdr3s: list[str]) -> None:
        self._length, self._numbers, self._cdr3s = length, numbers, cdr3s

    def find(self, query: str, least: float) -> tuple[Int1D, Float64s]:
        longest = max(self._length, len(query))
        most = _most_changes(least, longest)
        if longest - min(self._length, len(query)) > most:
            return self._numbers[:0], np.empty(0, dtype=np.float64)
        if len(query) == self._length:
            changes = self._mismatches(query)
            near = np.flatnonzero(changes <= most)
            changes = changes[near]
        else:
            near = self._with_letters(query, longest - most)
            changes = _edit_distances(query, [self._cdr3s[i] for i in near.tolist()], most)
            near, changes = near[changes <= most], changes[changes <= most]
        return self._numbers[near], (longest - changes.astype(np.float64)) / longest

    @cached_property
    def _columns(self) -> NDArray[np.uint8]:
        """Letters by position, shape=(length, n)."""
        rows = np.frombuffer("".join(self._cdr3s).encode("ascii", "replace"), dtype=np.uint8)
        return np.ascontiguousarray(rows.reshape(-1, self._length).T)

    @cached_property
    def _counts(self) -> dict[int, NDArray[Any]]:
        """How often each CDR3 has a letter, by letter; computed for letters that are asked for."""
        return {}

    def _mismatches(self, query: str) -> NDArray[np.uint16]:
        """Count the positions at which each differs from a query of their length."""
        counts: NDArray[Any] = np.zeros(len(self._cdr3s), dtype=_kind(self._length))
        for column, letter in zip(self._columns, query.encode("ascii", "replace"), strict=True):
            counts += column != letter
        return counts.astype(np.uint16)

    def _with_letters(self, query: str, least: int) -> Int1D:
        """Return places of those that share at least so many letters with a query, in whatever order."""
        if least <= 0:
            return np.arange(len(self._cdr3s))
        kind = _kind(self._length)
        shared: NDArray[Any] = np.zeros(len(self._cdr3s), dtype=kind)
        for letter, n in Counter(query.encode("ascii", "replace")).items():
            if letter not in self._counts:
                self._counts[letter] = np.count_nonzero(self._columns == letter, axis=0).astype(kind)
            shared += np.minimum(self._counts[letter], kind(min(n, self._length)))
        return np.flatnonzero(shared >= least)


def _kind(length: int) -> type[np.uint8] | type[np.uint16]:
    """Return the smallest type that holds counts of so many letters."""
    return np.uint8 if length < 256 else np.uint16


def _most_changes(least: float, longest: int) -> int:
    """Return the most changes that leave an identity of at least so much; -1 if none do.

    Compared as identities are: ``(longest - changes) / longest >= least``, in double precision.

    Examples
    --------
    >>> _most_changes(0.8, 15), _most_changes(0.8, 14), _most_changes(0.0, 3)
    (3, 2, 3)
    """
    changes = np.arange(longest + 1)
    return int(np.count_nonzero((longest - changes) / longest >= least)) - 1


@cache
def _edit_distance() -> Callable[[str, str], int]:
    """Return the function, imported when it is first needed."""
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.distance


def _edit_distances(query: str, others: Sequence[str], most: int) -> NDArray[np.uint16]:
    """Return the edit distance to each other string; more than `most` where it is more than that."""
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cdist

    scorer = Levenshtein.distance
    return np.asarray(cdist([query], others, scorer=scorer, score_cutoff=most, dtype=np.uint16, workers=1)[0])
