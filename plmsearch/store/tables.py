"""The tables of the catalog.

Concepts
--------
A *sequence* is stored once, by hash; many *records* may point to it. A *vector* belongs to a
sequence in a space, and lives in a row of a segment file. Metadata is stored as the text that was
read, in one JSON object per record; `metadata_columns` says how to read it, so that widening a
column's type rewrites nothing and nothing of the input is lost.

Limitations
-----------
SQLite integers are 64 bits and signed; ids are never reused.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from plmsearch.numbering import REGIONS

__all__ = [
    "derived_files",
    "domains",
    "indexes",
    "ledger",
    "metadata",
    "metadata_columns",
    "nulls",
    "ranking_parts",
    "rankings",
    "records",
    "run_inputs",
    "runs",
    "segments",
    "sequences",
    "spaces",
    "state",
    "transforms",
    "vectors",
]

metadata = MetaData()

#: One row. `generation` counts commits: a reader that sees it unchanged has nothing to reload. The
#: counters are kept, not computed from the largest id, so that a dropped id is never given again.
state = Table(
    "state",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("next_sequence_id", Integer, nullable=False),
    Column("next_record_key", Integer, nullable=False),
    Column("next_segment_id", Integer, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("command", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("started", Text, nullable=False),
    Column("finished", Text),
    Column("versions", Text, nullable=False),
    Column("parameters", Text, nullable=False),
    Column("summary", Text),
)

run_inputs = Table(
    "run_inputs",
    metadata,
    Column("run_id", Integer, ForeignKey("runs.id"), primary_key=True),
    Column("input", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("size_bytes", Integer),
    Column("sha256", Text),
    sqlite_with_rowid=False,
)

#: What became of every row of every input.
ledger = Table(
    "ledger",
    metadata,
    Column("run_id", Integer, ForeignKey("runs.id"), primary_key=True),
    Column("input", Integer, primary_key=True),
    Column("row", Integer, primary_key=True),
    Column("input_id", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("record_key", Integer),
    Column("reason", Text),
    Column("notes", Text),
    sqlite_with_rowid=False,
)

#: A record that was imported as a vector alone has a sequence of its own: `residues` is empty, and
#: `hash` the SHA-256 of ``\0external\0`` and the record's id (`plmsearch.sequences.absent_sequence_hash`).
#: Such a sequence can be embedded by no model; it has a vector in the space it was imported into.
sequences = Table(
    "sequences",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("residues", Text, nullable=False),
    Column("n_residues", Integer, nullable=False),
    #: Of it as a chain, such as ``IGH``; '' where there is no variable domain, or domains of several loci.
    #: NULL: nobody has looked. What is compared as a domain has its locus in `domains`.
    Column("locus", Text),
    #: Variable domains that were found in it, rows of `domains`. NULL: nobody has looked.
    Column("n_domains", Integer),
)

#: The variable domains of a sequence. A domain's residues are a sequence of their own (the same one, where
#: the domain is all there is): that has the vectors of a space that reads domains. The ends of its regions
#: are counted in residues of the domain, the last is their number; `start` in residues of the source. Genes
#: are those that were inferred from the residues; NULL: nobody has looked.
domains = Table(
    "domains",
    metadata,
    Column("source_id", Integer, ForeignKey("sequences.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("sequence_id", Integer, ForeignKey("sequences.id"), nullable=False, index=True),
    Column("locus", Text, nullable=False),
    Column("start", Integer, nullable=False),
    *(Column(f"{region}_end", Integer, nullable=False) for region in REGIONS),
    Column("is_complete", Integer, nullable=False),
    Column("v_call", Text),
    Column("j_call", Text),
    Column("v_identity", Float),
    Column("species", Text),
    sqlite_with_rowid=False,
)

records = Table(
    "records",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("record_id", Text, nullable=False),
    Column("sequence_id", Integer, ForeignKey("sequences.id"), nullable=False, index=True),
    Column("description", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("run_id", Integer, ForeignKey("runs.id"), nullable=False),
    Column("deleted", Integer),
)
#: Few records are deleted, so what is dead is found without looking at the live.
Index("dead_record", records.c.sequence_id, sqlite_where=text("deleted IS NOT NULL"))
#: An id is unique among the live; a tombstone keeps its row.
Index("live_record_id", records.c.record_id, unique=True, sqlite_where=text("deleted IS NULL"))

metadata_columns = Table(
    "metadata_columns",
    metadata,
    Column("name", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("position", Integer, nullable=False),
)

spaces = Table(
    "spaces",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("hash", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False, unique=True),
    Column("spec", Text, nullable=False),
    Column("is_default", Integer, nullable=False),
    #: 0 while the vectors of stored sequences are still being computed: not searched until 1.
    Column("is_complete", Integer, nullable=False),
)

segments = Table(
    "segments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("space_id", Integer, ForeignKey("spaces.id"), nullable=False, index=True),
    Column("file", Text, nullable=False, unique=True),
    Column("n_vectors", Integer, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("digest", Text, nullable=False),
    Column("mtime_ns", Integer, nullable=False),
    Column("inode", Integer, nullable=False),
)

#: What gives a space's vectors another direction before they are compared; `data` holds its arrays
#: (`plmsearch.transform`). Fitted anew, it keeps its row, and the version in `facts` counts up.
transforms = Table(
    "transforms",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("space_id", Integer, ForeignKey("spaces.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("facts", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
    UniqueConstraint("space_id", "kind", name="one_transform_of_a_kind"),
)

#: What is searched: one or more spaces with weights, each with a transform or as it is.
rankings = Table(
    "rankings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("is_default", Integer, nullable=False),
    #: 1: its vectors are written out; 0: as `plmsearch.store.rankings.StoredRanking.keeps_vectors` says.
    Column("keeps_files", Integer, nullable=False, server_default=text("0")),
)

ranking_parts = Table(
    "ranking_parts",
    metadata,
    Column("ranking_id", Integer, ForeignKey("rankings.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("space_id", Integer, ForeignKey("spaces.id"), nullable=False),
    Column("weight", Float, nullable=False),
    Column("transform_id", Integer, ForeignKey("transforms.id")),
    sqlite_with_rowid=False,
)

#: Null distributions of scores, per locus ('' where there is none); `plmsearch.search.significance`.
nulls = Table(
    "nulls",
    metadata,
    Column("ranking_id", Integer, ForeignKey("rankings.id"), primary_key=True),
    Column("locus", Text, primary_key=True),
    Column("facts", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

#: Vectors as a ranking compares them, or what they are computed with, per segment of its first space; they
#: can be made again.
derived_files = Table(
    "derived_files",
    metadata,
    Column("segment_id", Integer, ForeignKey("segments.id"), primary_key=True),
    Column("ranking_id", Integer, ForeignKey("rankings.id"), primary_key=True),
    Column("file", Text, nullable=False, unique=True),
    Column("size_bytes", Integer, nullable=False),
    Column("digest", Text, nullable=False),
    Column("mtime_ns", Integer, nullable=False),
    Column("inode", Integer, nullable=False),
)

#: At most one approximate index per ranking; `facts` is JSON of `plmsearch.store.rows.IndexFacts`.
indexes = Table(
    "indexes",
    metadata,
    Column("ranking_id", Integer, ForeignKey("rankings.id"), primary_key=True),
    Column("file", Text, nullable=False, unique=True),
    Column("size_bytes", Integer, nullable=False),
    Column("digest", Text, nullable=False),
    Column("mtime_ns", Integer, nullable=False),
    Column("inode", Integer, nullable=False),
    Column("facts", Text, nullable=False),
)

vectors = Table(
    "vectors",
    metadata,
    Column("space_id", Integer, ForeignKey("spaces.id"), nullable=False),
    Column("sequence_id", Integer, ForeignKey("sequences.id"), nullable=False),
    Column("segment_id", Integer, ForeignKey("segments.id"), nullable=False),
    Column("row", Integer, nullable=False),
    Column("n_windows", Integer, nullable=False),
    Column("n_used", Integer, nullable=False),
    Column("n_unknown", Integer, nullable=False),
    UniqueConstraint("space_id", "sequence_id", name="one_vector_per_space"),
)
