"""Questions to the catalog about variable domains."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from sqlalchemy import ColumnElement, func, literal, or_, select

from plmsearch.domains import REGION_SETS
from plmsearch.embedding.spec import EmbeddingSpec
from plmsearch.filters.tree import Condition
from plmsearch.numbering import REGIONS
from plmsearch.store import tables as t
from plmsearch.store.catalog_base import CatalogBase, live, whole_residues
from plmsearch.store.rows import (
    ReceptorRow,
    StoredDomain,
)

__all__ = ["DomainReader"]

#: Records whose domains are read at once: about 500 bytes each.
_KEYS_AT_ONCE = 50_000


class DomainReader(CatalogBase):
    """The variable domains of a catalog, for reading."""

    def domains_of_sequences(self, sequence_ids: Iterable[int]) -> list[StoredDomain]:
        """Return where sequences are domains of others, or of themselves."""
        wanted = func.json_each(json.dumps(sorted(sequence_ids))).table_valued("value").c.value
        query = select(t.domains).where(t.domains.c.sequence_id.in_(select(wanted)))
        return [StoredDomain.from_values(row) for row in self._plain(query)]

    def domains(self, source_ids: Iterable[int]) -> dict[int, list[StoredDomain]]:
        """Return the variable domains of sequences, in order of place; of those nobody looked at, none."""
        d, s = t.domains.c, t.sequences.c
        wanted = func.json_each(json.dumps(sorted(source_ids))).table_valued("value").c.value
        looked_at = select(s.id).where(s.n_domains.is_not(None), s.id.in_(select(wanted)))
        found: dict[int, list[StoredDomain]] = {row[0]: [] for row in self._plain(looked_at)}
        query = select(t.domains).where(d.source_id.in_(select(wanted))).order_by(d.source_id, d.number)
        for row in self._plain(query):
            found[row[0]].append(StoredDomain.from_values(row))
        return found

    def receptor_rows(self, condition: Condition | None = None) -> Iterator[ReceptorRow]:
        """Yield the variable domains of the live records that meet a condition, in order of insertion."""
        r, d, s = t.records.c, t.domains.c, t.sequences.c
        cdr3 = func.substr(s.residues, d.fwr3_end + 1, d.cdr3_end - d.fwr3_end)
        calls = [func.json_extract(r.metadata, f"$.{name}") for name in ("v_call", "j_call")]
        joined = t.records.join(t.domains, d.source_id == r.sequence_id)
        joined = joined.join(t.sequences, s.id == d.sequence_id)
        columns = (r.key, d.source_id, d.number, d.sequence_id, d.locus, cdr3, *calls, d.v_call, d.j_call)
        query = select(*columns).select_from(joined).where(*live(condition)).order_by(r.key, d.number)
        for first in range(0, self.counters().record_key, _KEYS_AT_ONCE):
            of_page = query.where(r.key >= first, r.key < first + _KEYS_AT_ONCE)
            yield from map(ReceptorRow._make, self._plain(of_page))

    def has_domains(self) -> bool:
        """Tell whether any variable domain is stored."""
        return bool(self._scalar(select(select(t.domains.c.number).exists())))

    def has_several_domains(self) -> bool:
        """Tell whether a sequence has more than one variable domain."""
        return bool(self._scalar(select(select(t.domains.c.number).where(t.domains.c.number > 1).exists())))

    def n_not_looked_at(self) -> int:
        """Count live and known sequences whose variable domains nobody has looked for."""
        return self._n_without_domains()

    def most_domains(self, *, by_locus: bool) -> int:
        """Return how many variable domains (of one locus) a sequence has at most; 1 if none has any."""
        d = t.domains.c
        of_locus = select(func.count().label("n")).where(
            d.source_id.in_(select(d.source_id).where(d.number > 1))
        )
        alike = (d.source_id, d.locus) if by_locus else (d.source_id,)
        counts = of_locus.group_by(*alike).subquery()
        return max(1, int(self._scalar(select(func.coalesce(func.max(counts.c.n), 1)))))

    def domains_of_records(self) -> tuple[dict[str, int], int]:
        """Count the variable domains of live records by locus, and the records that have none."""
        r, d = t.records.c, t.domains.c
        joined = t.records.join(t.domains, d.source_id == r.sequence_id)
        by_locus = select(d.locus, func.count()).select_from(joined).where(r.deleted.is_(None))
        has_domain = select(d.number).where(d.source_id == r.sequence_id).exists()
        without = select(func.count()).select_from(t.records).where(r.deleted.is_(None), ~has_domain)
        found = self._all(by_locus.group_by(d.locus).order_by(d.locus))
        return {row[0]: row[1] for row in found}, int(self._scalar(without))

    def sequences_without_domains(self, limit: int) -> list[tuple[int, str]]:
        """Return (id, residues) of live and known sequences whose domains nobody has looked for."""
        c, r = t.sequences.c, t.records.c
        live = select(r.key).where(r.sequence_id == c.id, r.deleted.is_(None)).exists()
        query = select(c.id, c.residues, c.hash).where(c.n_domains.is_(None), c.residues != "", live)
        return [(row[0], whole_residues(*row)) for row in self._all(query.order_by(c.id).limit(limit))]

    def sequences_without_genes(self, limit: int) -> list[tuple[int, str]]:
        """Return (id, residues) of live sequences with a domain of which genes were not looked for."""
        c, r, d = t.sequences.c, t.records.c, t.domains.c
        live = select(r.key).where(r.sequence_id == c.id, r.deleted.is_(None)).exists()
        lacking = select(d.source_id).where(d.v_call.is_(None))
        query = select(c.id, c.residues, c.hash).where(c.id.in_(lacking), live)
        return [(row[0], whole_residues(*row)) for row in self._all(query.order_by(c.id).limit(limit))]

    def _dead_domains(self) -> list[int]:
        r, d = t.records.c, t.domains.c
        other, live = t.domains.alias("other").c, t.records.alias("live").c
        with_live = select(live.key).where(
            other.sequence_id == d.sequence_id, live.sequence_id == other.source_id, live.deleted.is_(None)
        )
        joined = t.domains.join(t.records, r.sequence_id == d.source_id)
        query = select(d.sequence_id).select_from(joined).where(r.deleted.is_not(None), ~with_live.exists())
        return [row[0] for row in self._all(query.distinct())]

    def domains_without_vector(self, space_id: int, limit: int) -> list[tuple[int, str, tuple[int, ...]]]:
        """Return (id, residues, ends of regions) of live domains that a space lacks."""
        s, d = t.sequences.c, t.domains.c
        ends = [d[f"{region}_end"] for region in REGIONS]
        joined = t.domains.join(t.sequences, s.id == d.sequence_id)
        query = select(d.sequence_id, s.residues, s.hash, *ends).select_from(joined)
        query = query.where(*self._lacking_domain(space_id)).group_by(d.sequence_id)
        rows = self._all(query.order_by(d.sequence_id).limit(limit))
        return [(row[0], whole_residues(*row[:3]), tuple(row[3:])) for row in rows]

    def _n_without_domains(self) -> int:
        """Count live and known sequences whose domains nobody has looked for."""
        c, r = t.sequences.c, t.records.c
        live = select(r.key).where(r.sequence_id == c.id, r.deleted.is_(None)).exists()
        query = select(func.count()).select_from(t.sequences)
        return int(self._scalar(query.where(c.n_domains.is_(None), c.residues != "", live)))

    def _lacking_domain(self, space_id: int) -> list[ColumnElement[bool]]:
        """Return what holds for a domain with a live record and the region of a space that has no vector."""
        d, v, r = t.domains.c, t.vectors.c, t.records.c
        spec = EmbeddingSpec.from_json(self._scalar(select(t.spaces.c.spec).where(t.spaces.c.id == space_id)))
        live = select(r.key).where(r.sequence_id == d.source_id, r.deleted.is_(None)).exists()
        has_vector = select(v.sequence_id).where(v.space_id == space_id, v.sequence_id == d.sequence_id)
        starts = dict(
            zip(REGIONS, [literal(0), *(d[f"{region}_end"] for region in REGIONS[:-1])], strict=True)
        )
        has_region = [d[f"{region}_end"] > starts[region] for region in REGION_SETS[spec.region]]
        return [live, ~has_vector.exists(), or_(*has_region)]

    def _reads_domains(self, *, space_id: int | None = None, segment_id: int | None = None) -> bool:
        """Tell whether a space, or that of a segment, reads variable domains."""
        c = t.spaces.c
        query = select(c.spec).where(c.id == space_id)
        if segment_id is not None:
            of_segment = select(t.segments.c.space_id).where(t.segments.c.id == segment_id)
            query = select(c.spec).where(c.id.in_(of_segment))
        return any(EmbeddingSpec.from_json(row[0]).reads_domains for row in self._all(query))
