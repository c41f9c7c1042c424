"""Ids that would be read as a variable domain of another record: ``x#1`` is the first domain of ``x``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from plmsearch.errors import DuplicateRecordError
from plmsearch.ingest.domains import find_domains
from plmsearch.sequences import SequenceRecord
from plmsearch.store.repository import Repository

__all__ = ["DomainNames", "refuse_ambiguous"]

#: How a domain is addressed; numbers are written without zeros in front.
_ADDRESS = re.compile(r"(?P<record>.+)#(?P<number>[1-9][0-9]*)", re.DOTALL)
_HINT = "give one of the two another id"


class DomainNames:
    """Refuses a record if its id, or that of one of its domains, would then mean two things.

    The database is asked only about ids that read as domains, or if it has such.

    Parameters
    ----------
    repository : Repository
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._any_address = next(iter(repository.addresses()), None) is not None
        #: Number of domains of records that may be meant, and of those that wait for their commit.
        self._stored: dict[str, int] = {}
        self._waiting: dict[str, int] = {}

    def load(self, record_ids: Iterable[str]) -> None:
        """Look up the records whose domains the ids that come next would be read as."""
        bases = {
            match["record"] for name in record_ids if "#" in name and (match := _ADDRESS.fullmatch(name))
        }
        self._any_address |= bool(bases)
        self._stored = _counted(self._repository, bases) if bases else {}

    def add(self, record_id: str, n_domains: int, record: SequenceRecord) -> None:
        """Note a record that is added with its domains.

        Raises
        ------
        DuplicateRecordError
            Naming both.
        """
        self._waiting[record_id] = n_domains
        if not self._any_address:
            return
        if "#" in record_id and (match := _ADDRESS.fullmatch(record_id)):
            held = self._waiting.get(match["record"], self._stored.get(match["record"], 0))
            if int(match["number"]) <= held:
                problem = f"its id is that of a variable domain of record {match['record']!r}"
                raise _refused(record_id, problem, record)
        names = [f"{record_id}#{number}" for number in range(1, n_domains + 1)]
        taken = [n for n in names if n in self._waiting] or list(self._repository.records_by_id(names))
        if taken:
            problem = f"one of its variable domains would be called {taken[0]!r}, and so is a record"
            raise _refused(record_id, problem, record)

    def committed(self) -> None:
        """Forget what the database knows now, but for the rows that were looked up with it."""
        self._stored.update(self._waiting)
        self._waiting = {}


def refuse_ambiguous(repository: Repository) -> None:
    """Refuse to look for domains in a database in which one would be called as a record is.

    Raises
    ------
    DuplicateRecordError
        Naming both.
    """
    for name in repository.addresses():
        match = _ADDRESS.fullmatch(name)
        found = repository.records_by_id([match["record"]]) if match else {}
        for record in found.values():
            if match and int(match["number"]) <= len(find_domains(record.residues)):
                problem = f"its id is that of a variable domain of record {record.record_id!r}"
                raise DuplicateRecordError(name, problem=problem, hint=_HINT)


def _counted(repository: Repository, record_ids: Iterable[str]) -> dict[str, int]:
    records: Mapping[str, int] = {n: r.sequence_id for n, r in repository.records_by_id(record_ids).items()}
    domains = repository.domains(records.values())
    return {name: len(domains.get(sequence_id, ())) for name, sequence_id in records.items()}


def _refused(record_id: str, problem: str, record: SequenceRecord) -> DuplicateRecordError:
    return DuplicateRecordError(record_id, source=record.source, row=record.row, problem=problem, hint=_HINT)
