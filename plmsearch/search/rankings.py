"""Which ranking a search uses: a stored one by name, or one that is put together for it.

A ranking is written as its parts, each a space, with a transform and a weight where they are not the
usual ones::

    antiberty/6/whole/mean                          the space's own transform
    antiberty/6/whole/mean+none                     its vectors as they are
    antiberty/6/whole/mean=0.4,antiberty/4/whole/mean+whiten=0.6
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plmsearch.errors import ParameterError
from plmsearch.store.rankings import RankingPart, StoredRanking, StoredSpace, StoredTransform

__all__ = ["NO_TRANSFORM", "own_ranking", "parse_ranking"]

#: Behind a space: its vectors as they are.
NO_TRANSFORM = "none"

_REST = re.compile(r"(?:\+(?P<kind>[a-z]+))?(?:=(?P<weight>[0-9.eE+-]+))?(?:,(?P<more>.+))?", re.DOTALL)


def own_ranking(space: StoredSpace, rankings: Sequence[StoredRanking]) -> StoredRanking:
    """Return the ranking that came with a space: of it alone, with the transform that is shipped for it."""
    own = [r for r in rankings if len(r.parts) == 1 and r.space.space_id == space.space_id]
    return min(own, key=lambda ranking: ranking.ranking_id)


def parse_ranking(
    text: str,
    rankings: Sequence[StoredRanking],
    spaces: Sequence[StoredSpace],
    transforms: Mapping[int, StoredTransform],
) -> StoredRanking:
    """Return the ranking that a text names.

    Parameters
    ----------
    text : str
        Name of a stored ranking, or parts as in the module docstring.
    rankings : sequence of StoredRanking
        Those that are stored.
    spaces : sequence of StoredSpace
    transforms : mapping of int to StoredTransform

    Returns
    -------
    StoredRanking
        The stored one that gives the same scores if there is one; else with the id 0.

    Raises
    ------
    ParameterError
        If a part is no space of the database, has a transform that is not there, or a weight that is no
        number above 0; if a space comes twice with the same transform.
    """
    for ranking in rankings:
        if ranking.name == text:
            return ranking
    grammar = _Grammar(text, rankings, spaces, transforms)
    parts, names, rest = [], [], text
    while rest:
        part, name, rest = grammar.part(rest)
        parts.append(part)
        names.append(name)
    if not parts:
        raise grammar.refused("a part is empty")
    found = StoredRanking(
        0, ",".join(_weighted(n, p, len(parts)) for n, p in zip(names, parts, strict=True)), tuple(parts)
    )
    if len({part.space.spec.reads_domains for part in parts}) > 1:
        raise grammar.refused("a space of whole chains cannot be joined to one of variable domains")
    if len({(space_id, transform) for space_id, _, transform, _ in found.key}) < len(parts):
        raise grammar.refused("a space comes twice")
    return next((r for r in rankings if r.key == found.key), found)


def _weighted(name: str, part: RankingPart, n_parts: int) -> str:
    return name if n_parts == 1 else f"{name}={part.weight:g}"


@dataclass(frozen=True, slots=True)
class _Grammar:
    text: str
    rankings: Sequence[StoredRanking]
    spaces: Sequence[StoredSpace]
    transforms: Mapping[int, StoredTransform]

    def part(self, text: str) -> tuple[RankingPart, str, str]:
        """Read one part; return it, its name, and what follows."""
        # Names of imported spaces are the user's: the longest that fits is meant.
        for space in sorted(self.spaces, key=lambda s: -len(s.spec.name)):
            name = space.spec.name
            match = _REST.fullmatch(text[len(name) :]) if text.startswith(name) else None
            if match is not None:
                transform, suffix = self._transform(space, match["kind"])
                part = RankingPart(space, self._weight(match["weight"]), transform)
                return part, part.name + suffix, match["more"] or ""
        raise self.refused(f"no space is called {text.partition(',')[0]!r}")

    def _transform(self, space: StoredSpace, kind: str | None) -> tuple[StoredTransform | None, str]:
        own = own_ranking(space, self.rankings).parts[0].transform
        if kind is None:
            return own, ""
        if kind == NO_TRANSFORM:
            return None, "" if own is None else f"+{NO_TRANSFORM}"
        of_space = [t for t in self.transforms.values() if t.space_id == space.space_id]
        found = [t for t in of_space if t.transform.kind == kind]
        if not found:
            known = ", ".join([NO_TRANSFORM, *sorted(t.transform.kind for t in of_space)])
            raise self.refused(f"{space.spec.name} has the transforms {known}")
        return found[0], ""

    def _weight(self, text: str | None) -> float:
        try:
            weight = 1.0 if text is None else float(text)
        except ValueError:
            weight = 0.0
        if not 0 < weight < float("inf"):
            raise self.refused(f"the weight {text!r} is no number above 0")
        return weight

    def refused(self, reason: str) -> ParameterError:
        stored = ", ".join(r.name for r in self.rankings)
        spaces = ", ".join(s.spec.name for s in self.spaces)
        return ParameterError(
            "ranking",
            self.text,
            f"a ranking of the database ({stored}), or SPACE[+TRANSFORM][=WEIGHT],... of its spaces "
            f"({spaces}); {reason}",
        )
