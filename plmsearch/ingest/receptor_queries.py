"""Queries of a search by CDR3 and genes: what is known of each receptor that is searched with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import NamedTuple

from plmsearch.domains import CutDomain
from plmsearch.ingest.domains import why_no_domain
from plmsearch.ingest.genes import GeneFinder
from plmsearch.ingest.prepare import prepare
from plmsearch.ingest.queries import QUERIES_AT_ONCE, domain_queries, stored_as_queries
from plmsearch.ingest.report import AddOptions, AddReport, SkippedRow
from plmsearch.search.cdr3 import Cdr3Options, Cdr3Query
from plmsearch.search.hits import Query
from plmsearch.search.receptor_table import Receptor
from plmsearch.search.receptors import cdr3_of, genes_of
from plmsearch.sequences import SequenceRecord
from plmsearch.slices import slices
from plmsearch.store.repository import Repository
from plmsearch.store.rows import StoredRecord

__all__ = [
    "Asked",
    "asked_of_records",
    "asked_of_stored",
    "asked_of_strings",
    "stored_receptors",
    "with_inferred_genes",
    "with_known_genes",
]

_SEGMENTS = ("v", "j")


class Asked(NamedTuple):
    """A query and its receptor.

    Parameters
    ----------
    query : Query
    receptor : Receptor
    vector_id : int or None
        Of its vectors, where it is stored: of the domain, and of the whole sequence.
    source_id : int or None
    source : str
        Of its input, and its row there, for messages.
    row : int or None
    """

    query: Query
    receptor: Receptor
    vector_id: int | None = None
    source_id: int | None = None
    source: str = ""
    row: int | None = None


def asked_of_strings(cdr3s: Iterable[Cdr3Query]) -> list[Asked]:
    """Make queries of CDR3, of which neither locus nor genes are known; each is called as it was given."""
    return [Asked(Query(one.given, cdr3=one.cdr3), Receptor(one.cdr3)) for one in cdr3s]


def asked_of_stored(records: Sequence[StoredRecord], source: str) -> list[Asked]:
    """Make queries of variable domains of stored records, given as `StoredRecord.domain`.

    Parameters
    ----------
    records : sequence of StoredRecord
    source : str
        Name of the database, for messages.
    """
    asked = []
    for query, record in zip(stored_as_queries(records, {}), records, strict=True):
        domain = record.domain
        assert domain is not None  # units have one
        v, j = (genes_of(record.metadata, domain, segment) for segment in _SEGMENTS)
        receptor = Receptor(cdr3_of(record.unit_residues, domain), domain.locus, v, j)
        asked.append(Asked(query, receptor, domain.sequence_id, record.sequence_id, source))
    return asked


def asked_of_records(records: Iterable[SequenceRecord], policy: AddOptions, report: AddReport) -> list[Asked]:
    """Make a query of each variable domain of records.

    Parameters
    ----------
    records : iterable of SequenceRecord
    policy : AddOptions
        What to do with invalid letters.
    report : AddReport
        Counts rows and changes; lists what is left out.

    Raises
    ------
    InputError
        If a record cannot be used and the policy is to stop.
    """
    asked = []
    for record in records:
        row = prepare(record, policy, takes_chains=True)
        report.n_rows += 1
        report.changes.update(dict.fromkeys(row.notes, 1))
        if row.reason:
            report.n_skipped += 1
            report.skipped.append(row.skipped())
            continue
        for query in domain_queries(row, report):
            domain = query.domain
            assert domain is not None  # they are made of domains
            v, j = (genes_of(row.metadata, domain, segment) for segment in _SEGMENTS)
            receptor = Receptor(cdr3_of(query.residues, domain), domain.locus, v, j)
            asked.append(Asked(query, receptor, source=record.source, row=record.row))
    return asked


def with_inferred_genes(
    asked: Sequence[Asked],
    wishes: Cdr3Options,
    finder: GeneFinder,
    sample: list[CutDomain],
    report: AddReport,
) -> list[Asked]:
    """Return queries with genes that are to be the same inferred from residues, where no call names one.

    Parameters
    ----------
    asked : sequence of Asked
        Of one input.
    wishes : Cdr3Options
    finder : GeneFinder
    sample : list of CutDomain
        What the species of the input is inferred from; filled when it is empty.
    report : AddReport
        Learns of which species the genes are.
    """
    places = [n for n, one in enumerate(asked) if _lacking(one, wishes)]
    cuts = [_cut(asked[n].query) for n in places]
    if not cuts:
        return list(asked)
    if not sample:
        sample.extend(cuts)
    filled = list(asked)
    for n, calls in zip(places, finder.find(cuts), strict=True):
        query, receptor = asked[n].query, asked[n].receptor
        assert query.domain is not None  # it was cut
        domain = query.domain._replace(**calls)
        v, j = (genes_of(query.metadata, domain, segment) for segment in _SEGMENTS)
        filled[n] = asked[n]._replace(
            query=replace(query, domain=domain), receptor=receptor._replace(v=v, j=j)
        )
    report.species = finder.evidence
    return filled


def _cut(query: Query) -> CutDomain:
    domain = query.domain
    assert domain is not None  # queries by receptor are domains
    end = domain.ends[-1]
    return CutDomain(domain.number, domain.locus, 0, end, query.residues, domain.ends, domain.is_complete)


def _lacking(asked: Asked, wishes: Cdr3Options) -> list[str]:
    """Return the segments that are to be the same and of which no gene is known."""
    known = {"v": asked.receptor.v, "j": asked.receptor.j}
    return [name for name, genes in known.items() if name in wishes.same and not genes]


def stored_receptors(repository: Repository, source: str, report: AddReport) -> Iterator[list[StoredRecord]]:
    """Yield the variable domains of all live records of a database, in order of insertion, page by page.

    Records that are added meanwhile are left out; those without a domain too, with a reason.
    """
    first_new = repository.counters().record_key
    old = takewhile(lambda record: record.key < first_new, repository.all_records())
    for records in slices(old, QUERIES_AT_ONCE):
        domains = repository.domains({r.sequence_id for r in records})
        without = [r for r in records if not domains.get(r.sequence_id)]
        report.n_rows += len(records)
        report.n_skipped += len(without)
        reasons = (why_no_domain(r.residues) for r in without)
        report.skipped.extend(
            SkippedRow(source, None, r.record_id, reason) for r, reason in zip(without, reasons, strict=True)
        )
        yield [r._replace(domain=d) for r in records for d in domains.get(r.sequence_id, ())]


def with_known_genes(asked: Iterable[Asked], wishes: Cdr3Options, report: AddReport) -> list[Asked]:
    """Leave out, with a reason, queries without a gene that is to be the same."""
    kept = []
    for one in asked:
        lacking = [name.upper() for name in _lacking(one, wishes)]
        if lacking:
            genes = " and no ".join(f"{name} gene" for name in lacking)
            reason = f"no {genes} is known of it, so none can be the same"
            report.n_skipped += 1
            report.skipped.append(SkippedRow(one.source, one.row, one.query.query_id, reason))
        else:
            kept.append(one)
    return kept
