"""Whether the variable domains of the catalog are those of its sequences; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from sqlalchemy import ColumnElement, func, literal, or_, select

from plmsearch.numbering import REGIONS
from plmsearch.store import tables as t
from plmsearch.store.catalog_reader import AnySelect
from plmsearch.store.repository import Repository

__all__ = ["domain_problems"]


def domain_problems(repository: Repository, *, full: bool) -> Iterator[str]:
    """Yield what is wrong with the rows of domains.

    Parameters
    ----------
    repository : Repository
    full : bool
        Compare residues too.
    """
    checks = [
        (_wrong_numbers(), "has {n} variable domains, and {m} were counted when it was looked at"),
        (_wrong_places(), "has a variable domain or a region that is not within it"),
        (_without_record(), "has variable domains, and no record"),
    ]
    if full:
        checks.append((_wrong_residues(), "has a variable domain whose residues are not those of its place"))
    for query, said in checks:
        with repository.begin() as connection:
            for row in connection.execute(query):
                yield f"sequence {row[0]} " + said.format(n=row[1], m=row[2])


def _wrong_numbers() -> AnySelect:
    """Select sequences whose domains are not 1, 2... up to the number that is stored."""
    s, d = t.sequences.c, t.domains.c
    counts = (
        select(d.source_id, func.count().label("n"), func.max(d.number).label("last"))
        .group_by(d.source_id)
        .subquery()
    )
    n = func.coalesce(counts.c.n, 0)
    # A primary key keeps numbers apart: n of them from 1 on are 1 to n if the largest is n.
    wrong = or_(s.n_domains != n, s.n_domains.is_(None) & (n > 0), counts.c.last != counts.c.n)
    joined = t.sequences.outerjoin(counts, counts.c.source_id == s.id)
    query = select(s.id, n, func.coalesce(s.n_domains, "none")).select_from(joined)
    return query.where(or_(s.n_domains > 0, counts.c.n > 0), wrong | _no_first()).order_by(s.id)


def _no_first() -> ColumnElement[bool]:
    """Return what holds for a sequence with a domain of a number below 1."""
    s, d = t.sequences.c, t.domains.c
    return select(d.number).where(d.source_id == s.id, d.number < 1).exists()


def _wrong_places() -> AnySelect:
    """Select sequences with a domain that does not lie in them, or regions that do not join to it."""
    d, source, own = t.domains.c, t.sequences.alias("source"), t.sequences.alias("own")
    ends = [d[f"{region}_end"] for region in REGIONS]
    falls = [later < earlier for earlier, later in pairwise(ends)]
    wrong = or_(
        d.start < 0,
        ends[0] < 0,
        ends[-1] < 1,
        *falls,
        d.start + ends[-1] > source.c.n_residues,
        ends[-1] != own.c.n_residues,
    )
    joined = t.domains.join(source, source.c.id == d.source_id).join(own, own.c.id == d.sequence_id)
    return _sources().select_from(joined).where(wrong).order_by(d.source_id)


def _wrong_residues() -> AnySelect:
    """Select sequences with a domain that is another sequence than the residues of its place."""
    d, source, own = t.domains.c, t.sequences.alias("source"), t.sequences.alias("own")
    place = func.substr(source.c.residues, d.start + 1, d[f"{REGIONS[-1]}_end"])
    joined = t.domains.join(source, source.c.id == d.source_id).join(own, own.c.id == d.sequence_id)
    return _sources().select_from(joined).where(place != own.c.residues).order_by(d.source_id)


def _without_record() -> AnySelect:
    """Select sequences with domains that no record has, a deleted one neither."""
    d, r = t.domains.c, t.records.c
    has_record = select(r.key).where(r.sequence_id == d.source_id).exists()
    return _sources().where(~has_record).order_by(d.source_id)


def _sources() -> AnySelect:
    """Select sequences with domains, in the form that `domain_problems` reads."""
    return select(t.domains.c.source_id, literal(0), literal(0)).distinct()
