"""Decide what a row becomes: a new record, one that is there, one under another id, or none.

Same id, sequence, description and metadata: already present. Same id otherwise: a duplicate, and
the policy decides. Renaming tries X_2, X_3... until an id is free or carries the same record, so
repeating an input adds nothing. Replacing gives the old record a tombstone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from plmsearch.errors import DuplicateRecordError
from plmsearch.ingest.prepare import Prepared
from plmsearch.ingest.report import OnDuplicate
from plmsearch.metadata import metadata_json
from plmsearch.store.repository import Repository

__all__ = ["Resolution", "Resolver"]

Content: TypeAlias = tuple[str, str, str]

_SUFFIXES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a row becomes.

    Parameters
    ----------
    outcome : {"added", "renamed", "replaced", "present", "skipped"}
    record_id : str
        Id in the database.
    key : int or None
        Key of the record, if it is present; of a new one the caller gives it.
    reason : str
    replaces : int or None
        Key of the record that this one takes the place of.
    """

    outcome: Literal["added", "renamed", "replaced", "present", "skipped"]
    record_id: str
    key: int | None = None
    reason: str = ""
    replaces: int | None = None


@dataclass(slots=True)
class _Family:
    """X, X_2, X_3...: their contents, and the first suffix that may be free."""

    by_content: dict[Content, tuple[str, int]] = field(default_factory=dict)
    next_suffix: int = 2


class Resolver:
    """Resolves rows against the database and the rows not yet committed.

    Parameters
    ----------
    repository : Repository
    policy : {"rename", "error", "skip", "replace"}
    """

    def __init__(self, repository: Repository, policy: OnDuplicate) -> None:
        self._repository = repository
        self._policy = policy
        self._stored: dict[str, tuple[Content, int]] = {}
        self._pending: dict[str, tuple[Content, int]] = {}
        self._families: dict[str, _Family] = {}

    def load(self, record_ids: Iterable[str]) -> None:
        """Look up the ids of the rows that come next, all at once."""
        self._stored = self._look_up(record_ids)

    def committed(self) -> None:
        """Forget pending rows: the database knows them now."""
        self._stored.update(self._pending)
        self._pending.clear()

    def resolve(self, row: Prepared, next_key: int) -> Resolution:
        """Decide what a row becomes.

        Parameters
        ----------
        row : Prepared
            One whose id was given to `load`, unless it is to be left out.
        next_key : int
            Key that a new record would get.

        Raises
        ------
        DuplicateRecordError
            If the policy is ``error`` and the id is taken.
        """
        record_id = row.record.record_id
        if row.reason:
            return Resolution("skipped", record_id, reason=row.reason)
        taken = self._taken(record_id)
        if taken is None:
            return self._new("added", record_id, row.content, next_key)
        if taken[0] == row.content:
            return Resolution("present", record_id, taken[1])
        if self._policy == "error":
            raise DuplicateRecordError(record_id, source=row.record.source, row=row.record.row)
        if self._policy == "skip":
            return Resolution("skipped", record_id, reason="the id is taken by a different record")
        if self._policy == "replace":
            self._pending[record_id] = (row.content, next_key)
            return Resolution("replaced", record_id, next_key, replaces=taken[1])
        return self._rename(row, next_key)

    def _rename(self, row: Prepared, next_key: int) -> Resolution:
        base = row.record.record_id
        family = self._families.get(base)
        if family is None:
            family = self._families[base] = self._load_family(base)
        same = family.by_content.get(row.content)
        if same is not None:
            return Resolution("present", same[0], same[1], reason=f"present as {same[0]!r}")
        while (other := self._find(candidate := f"{base}_{family.next_suffix}")) is not None:
            family.next_suffix += 1
            family.by_content.setdefault(other[0], (candidate, other[1]))
            if other[0] == row.content:
                return Resolution("present", candidate, other[1], reason=f"present as {candidate!r}")
        family.by_content[row.content] = (candidate, next_key)
        return self._new("renamed", candidate, row.content, next_key)

    def _new(
        self, outcome: Literal["added", "renamed"], record_id: str, content: Content, key: int
    ) -> Resolution:
        self._pending[record_id] = (content, key)
        reason = "the id was taken by a different record" if outcome == "renamed" else ""
        return Resolution(outcome, record_id, key, reason)

    def _taken(self, record_id: str) -> tuple[Content, int] | None:
        return self._pending.get(record_id) or self._stored.get(record_id)

    def _find(self, record_id: str) -> tuple[Content, int] | None:
        """Return what has an id, asking the database about one that was not looked up before."""
        return self._taken(record_id) or self._look_up([record_id]).get(record_id)

    def _load_family(self, base: str) -> _Family:
        """Read X_2, X_3... up to the first that is free."""
        family = _Family()
        while True:
            first = family.next_suffix
            names = [f"{base}_{n}" for n in range(first, first + _SUFFIXES_AT_ONCE)]
            found = {**self._look_up(names), **{n: self._pending[n] for n in names if n in self._pending}}
            for name in names:
                if name not in found:
                    return family
                content, key = found[name]
                family.by_content.setdefault(content, (name, key))
                family.next_suffix += 1

    def _look_up(self, record_ids: Iterable[str]) -> dict[str, tuple[Content, int]]:
        return {
            r.record_id: ((r.sequence_hash, r.description, metadata_json(r.metadata)), r.key)
            for r in self._repository.records_by_id(record_ids).values()
        }
