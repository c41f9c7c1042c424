"""The first catalog.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.create_table(
        "state",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("next_sequence_id", sa.Integer, nullable=False),
        sa.Column("next_record_key", sa.Integer, nullable=False),
        sa.Column("next_segment_id", sa.Integer, nullable=False),
    )
    op.execute("INSERT INTO state VALUES (1, 0, 1, 1, 1)")
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("started", sa.Text, nullable=False),
        sa.Column("finished", sa.Text),
        sa.Column("versions", sa.Text, nullable=False),
        sa.Column("parameters", sa.Text, nullable=False),
        sa.Column("summary", sa.Text),
    )
    op.create_table(
        "run_inputs",
        sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("input", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("format", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.Integer),
        sa.Column("sha256", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "ledger",
        sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("input", sa.Integer, primary_key=True),
        sa.Column("row", sa.Integer, primary_key=True),
        sa.Column("input_id", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("record_key", sa.Integer),
        sa.Column("reason", sa.Text),
        sa.Column("notes", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "sequences",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("hash", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("residues", sa.Text, nullable=False),
        sa.Column("n_residues", sa.Integer, nullable=False),
    )
    op.create_table(
        "records",
        sa.Column("key", sa.Integer, primary_key=True),
        sa.Column("record_id", sa.Text, nullable=False),
        sa.Column("sequence_id", sa.Integer, sa.ForeignKey("sequences.id"), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("deleted", sa.Integer),
    )
    op.create_index("ix_records_sequence_id", "records", ["sequence_id"])
    op.create_index(
        "live_record_id", "records", ["record_id"], unique=True, sqlite_where=sa.text("deleted IS NULL")
    )
    op.create_index(
        "dead_record", "records", ["sequence_id"], sqlite_where=sa.text("deleted IS NOT NULL")
    )
    op.create_table(
        "metadata_columns",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
    )
    op.create_table(
        "spaces",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("hash", sa.Text, nullable=False, unique=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("is_default", sa.Integer, nullable=False),
        sa.Column("is_complete", sa.Integer, nullable=False),
    )
    op.create_table(
        "segments",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("space_id", sa.Integer, sa.ForeignKey("spaces.id"), nullable=False),
        sa.Column("file", sa.Text, nullable=False, unique=True),
        sa.Column("n_vectors", sa.Integer, nullable=False),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("mtime_ns", sa.Integer, nullable=False),
        sa.Column("inode", sa.Integer, nullable=False),
    )
    op.create_index("ix_segments_space_id", "segments", ["space_id"])
    op.create_table(
        "artifacts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("segment_id", sa.Integer, sa.ForeignKey("segments.id")),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("file", sa.Text, nullable=False, unique=True),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("mtime_ns", sa.Integer, nullable=False),
        sa.Column("inode", sa.Integer, nullable=False),
    )
    op.create_index("ix_artifacts_segment_id", "artifacts", ["segment_id"])
    op.create_table(
        "vectors",
        sa.Column("space_id", sa.Integer, sa.ForeignKey("spaces.id"), nullable=False),
        sa.Column("sequence_id", sa.Integer, sa.ForeignKey("sequences.id"), nullable=False),
        sa.Column("segment_id", sa.Integer, sa.ForeignKey("segments.id"), nullable=False),
        sa.Column("row", sa.Integer, nullable=False),
        sa.Column("n_windows", sa.Integer, nullable=False),
        sa.Column("n_used", sa.Integer, nullable=False),
        sa.Column("n_unknown", sa.Integer, nullable=False),
        sa.UniqueConstraint("space_id", "sequence_id", name="one_vector_per_space"),
    )


def downgrade():
    raise NotImplementedError("databases are upgraded, never downgraded; restore a backup instead")
