"""What reads a database: spaces, records, vectors, and what conditions select.

A reader holds no transaction between calls and never writes. Vectors of different spaces are never
compared.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import numpy as np

from plmsearch.embedding.options import ModelOptions
from plmsearch.embedding.spec import SpaceRequest, parse_region_weights
from plmsearch.errors import NoVectorError, ParameterError, RecordNotFound, SegmentDamaged, StorageError
from plmsearch.ingest.presets import joined_regions, region_ranking
from plmsearch.ingest.spaces import searchable_space
from plmsearch.metadata import typed
from plmsearch.search.rankings import own_ranking, parse_ranking
from plmsearch.search.selection import Selection, select_records
from plmsearch.store.directory import Layout, is_database
from plmsearch.store.rankings import StoredRanking, StoredSpace
from plmsearch.store.repository import Repository
from plmsearch.store.rows import (
    IndexFacts,
    StoredIndex,
    StoredRecord,
    StoredSegment,
)
from plmsearch.store.session import open_reader
from plmsearch.store.vector_files import VectorFiles
from plmsearch.types import Float2D, Int1D

__all__ = ["NO_DOMAIN", "ColumnFacts", "Reader", "Record"]

_log = logging.getLogger(__name__)

_MAX_SUGGESTIONS = 3
#: Why a record has no place in a space of variable domains.
NO_DOMAIN = "it holds no antibody variable domain"


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Record:
    """A stored record.

    Parameters
    ----------
    record_id : str
    residues : str
        Normalised; empty if the sequence is not known.
    description : str
    metadata : mapping of str to (str, int, float or bool)
        In the order of the database's columns and typed by them; a null has no key.
    sequence_hash : str
        SHA-256 of `residues`, hexadecimal. Of a record that was imported without a sequence,
        `plmsearch.sequences.absent_sequence_hash`.
    """

    record_id: str
    residues: str
    description: str
    metadata: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    sequence_hash: str = ""


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """A column of records.

    Parameters
    ----------
    name : str
    kind : str
    is_indexed : bool
        Whether a condition on it need not read every record.
    is_derived : bool
        It follows from residues and calls (`plmsearch.filters.derived`); else the input brought it.
    """

    name: str
    kind: str
    is_indexed: bool
    is_derived: bool = False


class Reader:
    """A database directory, for reading.

    Parameters
    ----------
    path : Path
    model_options : ModelOptions
        Where weights are and how models run.
    """

    def __init__(self, path: Path, model_options: ModelOptions) -> None:
        self.path = path
        self.model_options = model_options
        self._repository: Repository | None = None
        self._files = VectorFiles(Layout(path))
        self._segments: dict[int, list[StoredSegment]] = {}
        self._spaces: list[StoredSpace] = []
        #: Sequences that only deleted records point to, and domains that only these hold.
        self._dead: dict[bool, Int1D] = {}
        self._selections: dict[tuple[str, bool], Selection] = {}
        self._stored_indexes: dict[int, StoredIndex] = {}
        self._rankings: list[StoredRanking] = []
        self._generation = -1

    # --- Opening and closing ---------------------------------------------------------------------

    def connect(self) -> Repository:
        """Open the catalog for reading, unless it is open.

        Raises
        ------
        DatabaseNotFound, NotADatabase, SchemaOutdatedError, SchemaTooNewError, StorageError
        """
        if self._repository is None:
            self._repository = open_reader(self.path)
        return self._repository

    @property
    def repository(self) -> Repository:
        """The catalog, open for reading."""
        return self.connect()

    @property
    def exists(self) -> bool:
        """Whether the database has been created."""
        return is_database(self.path)

    def close(self) -> None:
        """Close the catalog. The object can be used again and then opens it anew."""
        if self._repository is not None:
            self._repository.close()
            self._repository = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Return the number of live records."""
        return self.repository.n_records() if self.exists else 0

    # --- Reading ---------------------------------------------------------------------------------

    def spaces(self) -> list[StoredSpace]:
        """Return the embedding spaces, the default first."""
        self._refresh()
        return self._spaces

    def space(self, name: str | None = None, request: SpaceRequest | None = None) -> StoredSpace:
        """Return the space of a name or a request, or the default.

        Parameters
        ----------
        name : str, optional
            Such as ``antiberty/6/whole/mean``.
        request : SpaceRequest, optional
            The first space that fits it; with a name, that space has to fit it too.

        Raises
        ------
        ParameterError
            If there is no such space; lists those there are. If the request names several layers.
        EmbeddingSpecMismatch
            If no space fits the request.
        EmbeddingError
            If the space is not complete, or the database is empty.
        """
        return searchable_space(self.spaces(), name, request or SpaceRequest(), self.path)

    def get(self, record_ids: Sequence[str]) -> list[Record]:
        """Return records by id, in the order asked.

        Raises
        ------
        RecordNotFound
            Naming every id that is not there, and near spellings.
        """
        types = self.repository.metadata_columns()
        return [
            Record(
                record_id=r.record_id,
                residues=r.residues,
                description=r.description,
                metadata={n: typed(r.metadata[n], kind) for n, kind in types.items() if n in r.metadata},
                sequence_hash=r.sequence_hash,
            )
            for r in self._stored(record_ids)
        ]

    def vectors(self, record_ids: Sequence[str], *, space: str | None = None) -> Float2D:
        """Return the raw embeddings of records.

        Parameters
        ----------
        record_ids : sequence of str
            In a space of variable domains ``id#2`` is the second domain of a record, and ``id`` one that has
            no other.
        space : str, optional
            Name of an embedding space; the default space if None.

        Returns
        -------
        ndarray, dtype=float32, shape=(n, d)
            Row order is the order asked. As pooled: not normalised.

        Raises
        ------
        RecordNotFound
        NoVectorError
            If a record has none in the space: no domain, none of the region, or several domains.
        """
        chosen = self.space(space)
        asked = list(record_ids)
        if not chosen.spec.reads_domains:
            return self._present_vectors(chosen, asked, [r.sequence_id for r in self._stored(asked)])
        units = self.units(asked)
        of_id = {name: [u for u in units if name in (u.record_id, u.unit_id)] for name in set(asked)}
        for name, found in of_id.items():
            if len(found) != 1:
                held = ", ".join(u.unit_id for u in found)
                reason = f"it holds {len(found)} variable domains: ask for {held}" if found else NO_DOMAIN
                raise NoVectorError(name, chosen.spec.name, reason)
        ids = [d.sequence_id for name in asked if (d := of_id[name][0].domain) is not None]
        return self._present_vectors(chosen, asked, ids)

    def _present_vectors(self, space: StoredSpace, names: Sequence[str], ids: Sequence[int]) -> Float2D:
        """Return the vectors of sequences, refusing by name what a region has none of."""
        places = self.repository.vector_places(space.space_id, set(ids))
        for name, sequence_id in zip(names, ids, strict=True):
            if sequence_id not in places and space.spec.reads_domains:
                raise NoVectorError(name, space.spec.name, f"it has no residue in {space.spec.region}")
        return self.sequence_vectors(space, ids)

    def units(self, record_ids: Sequence[str]) -> list[StoredRecord]:
        """Return the variable domains of records, each as its record with `StoredRecord.domain`.

        Parameters
        ----------
        record_ids : sequence of str
            ``id`` stands for all domains of a record, ``id#2`` for its second.

        Returns
        -------
        list of StoredRecord
            In the order asked, and of place; none of a record without a domain.

        Raises
        ------
        RecordNotFound
            If there is no such record or no such domain.
        """
        found = self.repository.records_by_id({*record_ids, *(n.rpartition("#")[0] for n in record_ids)})
        domains = self.repository.domains({r.sequence_id for r in found.values()})
        units: list[StoredRecord] = []
        missing: list[str] = []
        for name in record_ids:
            base, _, number = name.rpartition("#")
            if name in found:
                record = found[name]
                units += [record._replace(domain=d) for d in domains.get(record.sequence_id, ())]
                continue
            held = domains.get(found[base].sequence_id, ()) if base in found else ()
            asked = [d for d in held if str(d.number) == number]
            units += [found[base]._replace(domain=d) for d in asked]
            if not asked:
                missing.append(name)
        if missing:
            raise self._not_found(list(dict.fromkeys(missing)))
        return units

    def sequence_vectors(self, space: StoredSpace, sequence_ids: Sequence[int]) -> Float2D:
        """Return the raw embeddings of sequences that have one, in the order asked.

        Returns
        -------
        ndarray, dtype=float32, shape=(n, d)
        """
        if not sequence_ids:
            return np.empty((0, space.spec.dim), dtype=np.float32)

        def look() -> Float2D:
            places = self.repository.vector_places(space.space_id, set(sequence_ids))
            return self._files.rows(self._segments_of(space), [places[i] for i in sequence_ids])

        return self._looking_again(look)

    def rankings(self) -> list[StoredRanking]:
        """Return the stored rankings: what can be searched, the default first."""
        self._refresh()
        return self._rankings

    def ranking(
        self, name: str | None = None, *, space: str | None = None, request: SpaceRequest | None = None
    ) -> StoredRanking:
        """Return the ranking of a name, that of a space, or the default.

        Parameters
        ----------
        name : str, optional
            As `plmsearch.search.rankings` reads it, such as ``antiberty/6/whole/mean+reference``.
        space : str, optional
            Name of an embedding space: the ranking that came with it.
        request : SpaceRequest, optional
            The first space that fits it; with `space`, that has to fit it too.

        Raises
        ------
        ParameterError
            If there is no such ranking or space, or both are named.
        EmbeddingSpecMismatch
            If no space fits the request.
        EmbeddingError
            If a space is not complete, or the database is empty.
        """
        wanted = request or SpaceRequest()
        if wanted.weights is not None:
            if name is not None or space is not None:
                raise ParameterError(
                    "weights_by_region", wanted.weights, "left out with --ranking or --space"
                )
            weights = parse_region_weights(wanted.weights)
            return region_ranking(self._complete(wanted), self.rankings(), weights)
        if name is not None and (space is not None or wanted.names_space):
            raise ParameterError("ranking", name, "left out where space, model, layer or pooling are given")
        if name is None and (space is not None or wanted.names_space or not self.rankings()):
            chosen = self.space(space, wanted)
            joined = joined_regions(chosen, self.rankings()) if space is None else None
            return joined or own_ranking(chosen, self.rankings())
        found = self.rankings()[0]
        if name is not None:
            found = parse_ranking(name, self._rankings, self._spaces, self.repository.transforms())
        for part in found.parts:
            self.space(part.space.spec.name)  # refuses one that is not complete
        return found

    def _complete(self, request: SpaceRequest) -> list[StoredSpace]:
        """Return the spaces that a request fits, the first of which has to be complete."""
        first = self.space(request=request)
        return [first, *(s for s in self._spaces if s.is_complete and s.space_id != first.space_id)]

    def index_facts(self, ranking: StoredRanking) -> IndexFacts | None:
        """Return what is known of a ranking's approximate index, if it has one."""
        self._refresh()
        stored = self._stored_indexes.get(ranking.ranking_id)
        return None if stored is None else stored.facts

    def columns(self) -> list[ColumnFacts]:
        """Return the metadata columns, in the order they were first seen, then the derived ones."""
        indexed = self.repository.indexed_columns()
        kinds = self.repository.metadata_columns()
        stored = [ColumnFacts(name, kind, name in indexed) for name, kind in kinds.items()]
        derived = self.repository.derived_columns().items()
        return stored + [ColumnFacts(name, kind, is_indexed=False, is_derived=True) for name, kind in derived]

    def select(self, where: str, *, by_domain: bool = False) -> Selection:
        """Return what a condition selects now.

        Parameters
        ----------
        where : str
            Such as ``species = 'human' and n_residues < 130``; see `plmsearch.filters.parse`.
        by_domain : bool
            Whether domains are searched.

        Raises
        ------
        FilterError
            If it cannot be read, or does not fit the columns.
        """
        self._refresh()
        key = (where, by_domain)
        if key not in self._selections:
            columns = self.repository.metadata_columns()
            self._selections[key] = select_records(self.repository, where, columns, by_domain=by_domain)
        return self._selections[key]

    def _stored(self, record_ids: Sequence[str]) -> list[StoredRecord]:
        found = self.repository.records_by_id(set(record_ids))
        missing = [r for r in dict.fromkeys(record_ids) if r not in found]
        if missing:
            raise self._not_found(missing)
        return [found[r] for r in record_ids]

    def _not_found(self, missing: Sequence[str]) -> RecordNotFound:
        return RecordNotFound(missing, self._suggestions(missing[:_MAX_SUGGESTIONS]))

    def _suggestions(self, record_ids: Sequence[str]) -> dict[str, str]:
        near = {r: get_close_matches(r, self.repository.similar_ids(r), n=1) for r in record_ids}
        return {r: names[0] for r, names in near.items() if names}

    def _refresh(self) -> None:
        """Forget what an older generation said."""
        generation = self.repository.generation()
        if generation != self._generation:
            self._spaces = self.repository.spaces()
            self._segments.clear()
            self._selections.clear()
            self._rankings = self.repository.rankings()
            self._stored_indexes = {i.ranking_id: i for i in self.repository.indexes()}
            self._dead.clear()
            self._generation = generation

    def _looking_again(self, look: Callable[[], T]) -> T:
        """Look at vector files; once more if a commit exchanged them meanwhile."""
        try:
            return look()
        except (SegmentDamaged, KeyError) as error:
            if self.repository.generation() == self._generation:
                if isinstance(error, KeyError):
                    reason = f"it has no vector or no segment {error}"
                    raise StorageError(
                        "catalog.sqlite", reason, hint=f"plmsearch verify {self.path}"
                    ) from error
                raise
            self._refresh()
            return look()

    def _dead_of(self, ranking: StoredRanking) -> Int1D:
        """Return what of a ranking's vectors belongs to deleted records alone."""
        by_domain = ranking.reads_domains
        if by_domain not in self._dead:
            dead = self.repository.dead_sequences(by_domain=by_domain)
            self._dead[by_domain] = np.array(dead, dtype=np.int64)
        return self._dead[by_domain]

    def _segments_of(self, space: StoredSpace) -> list[StoredSegment]:
        if space.space_id not in self._segments:
            self._segments[space.space_id] = self.repository.segments(space.space_id)
        return self._segments[space.space_id]
