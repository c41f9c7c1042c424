"""Changes of rankings, their transforms and null distributions in the catalog."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from plmsearch.store import tables as t
from plmsearch.store.catalog_reader import AnySelect, CatalogReader
from plmsearch.store.rankings import StoredRanking
from plmsearch.store.rows import StoredNull
from plmsearch.transform import Transform

__all__ = ["RankingWriter", "drop_derived", "insert_ranking", "insert_transform", "next_generation"]


class RankingWriter(CatalogReader):
    """The catalog behind an engine, for reading, and for changing its rankings.

    Parameters
    ----------
    engine : Engine
        What `plmsearch.store.connection.open_catalog` returned.
    """

    def set_transform(self, space_id: int, transform: Transform) -> int:
        """Store a transform of a space in the place of one of its kind; return its id.

        What was made with the one before is forgotten: derived files, indexes and null distributions.
        """
        c, p = t.transforms.c, t.ranking_parts.c
        with self.begin() as connection:
            same = (c.space_id == space_id) & (c.kind == transform.kind)
            found = connection.execute(select(c.id, c.facts).where(same)).first()
            if found is None:
                transform_id = insert_transform(connection, space_id, transform)
            else:
                transform_id, version = int(found[0]), int(json.loads(found[1])["version"]) + 1
                values = _transform_values(transform, version)
                connection.execute(update(t.transforms).where(c.id == transform_id).values(**values))
                made = select(p.ranking_id).where(p.transform_id == transform_id)
                drop_derived(connection, made)
            next_generation(connection)
        return transform_id

    def add_ranking(self, ranking: StoredRanking) -> int:
        """Store a ranking and return its id."""
        with self.begin() as connection:
            ranking_id = insert_ranking(connection, ranking)
            if ranking.is_default:
                _set_default(connection, ranking_id)
            next_generation(connection)
        return ranking_id

    def set_default_ranking(self, ranking_id: int) -> None:
        """Make a ranking the one that is searched when none is named."""
        with self.begin() as connection:
            _set_default(connection, ranking_id)
            next_generation(connection)

    def set_keeps_files(self, ranking_id: int, *, keeps: bool) -> None:
        """Have the vectors of a ranking written out, or not any more; files are left to the caller."""
        with self.begin() as connection:
            ranking = t.rankings.c.id == ranking_id
            connection.execute(update(t.rankings).where(ranking).values(keeps_files=int(keeps)))
            _drop_files(connection, [ranking_id])
            next_generation(connection)

    def drop_ranking(self, ranking_id: int) -> None:
        """Forget a ranking with its derived files, index and null distributions; spaces stay."""
        p = t.ranking_parts.c
        with self.begin() as connection:
            drop_derived(connection, select(t.rankings.c.id).where(t.rankings.c.id == ranking_id))
            connection.execute(delete(t.ranking_parts).where(p.ranking_id == ranking_id))
            connection.execute(delete(t.rankings).where(t.rankings.c.id == ranking_id))
            next_generation(connection)

    def set_nulls(self, ranking_id: int, made: Sequence[StoredNull], loci: Iterable[str]) -> None:
        """Store null distributions of a ranking in the place of those before; forget those of some loci."""
        c = t.nulls.c
        gone = [*(null.locus for null in made), *loci]
        with self.begin() as connection:
            connection.execute(delete(t.nulls).where(c.ranking_id == ranking_id, c.locus.in_(gone)))
            for null in made:
                connection.execute(
                    insert(t.nulls).values(
                        ranking_id=ranking_id, locus=null.locus, facts=null.facts, data=null.data
                    )
                )
            next_generation(connection)


def drop_derived(connection: Connection, ranking_ids: AnySelect) -> None:
    """Forget all that was made of vectors for some rankings."""
    for table in (t.derived_files, t.indexes, t.nulls):
        connection.execute(delete(table).where(table.c.ranking_id.in_(ranking_ids)))


def insert_transform(connection: Connection, space_id: int, transform: Transform) -> int:
    """Store a transform of a space and return its id."""
    values = _transform_values(transform, version=1)
    made = connection.execute(insert(t.transforms).values(space_id=space_id, kind=transform.kind, **values))
    assert made.inserted_primary_key is not None
    return int(made.inserted_primary_key[0])


def _transform_values(transform: Transform, version: int) -> dict[str, Any]:
    facts = {"version": version, "n_fitted": dict(transform.n_fitted), "digest": transform.digest}
    return {"facts": json.dumps(facts, sort_keys=True), "data": transform.to_bytes()}


def _drop_files(connection: Connection, ranking_ids: Sequence[int]) -> None:
    """Forget the derived files and indexes of rankings."""
    for table in (t.derived_files, t.indexes):
        connection.execute(delete(table).where(table.c.ranking_id.in_(ranking_ids)))


def _set_default(connection: Connection, ranking_id: int) -> None:
    """Choose the default; what the one before and the new one keep is made anew if that changes."""
    r, p = t.rankings.c, t.ranking_parts.c
    moved = select(r.id).where((r.id == ranking_id) != (r.is_default == 1), r.keeps_files == 0)
    one_space = select(p.ranking_id).group_by(p.ranking_id).having(func.count() == 1)
    _drop_files(connection, list(connection.execute(moved.where(r.id.in_(one_space))).scalars()))
    connection.execute(update(t.rankings).values(is_default=t.rankings.c.id == ranking_id))


def insert_ranking(connection: Connection, ranking: StoredRanking) -> int:
    """Store a ranking with its parts and return its id."""
    made = connection.execute(
        insert(t.rankings).values(
            name=ranking.name, is_default=int(ranking.is_default), keeps_files=int(ranking.keeps_files)
        )
    )
    assert made.inserted_primary_key is not None
    ranking_id = int(made.inserted_primary_key[0])
    for position, part in enumerate(ranking.parts):
        connection.execute(
            insert(t.ranking_parts).values(
                ranking_id=ranking_id,
                position=position,
                space_id=part.space.space_id,
                weight=part.weight,
                transform_id=None if part.transform is None else part.transform.transform_id,
            )
        )
    return ranking_id


def next_generation(connection: Connection) -> None:
    """Tell readers that what they remember of the catalog is out of date."""
    connection.execute(update(t.state).values(generation=t.state.c.generation + 1))
