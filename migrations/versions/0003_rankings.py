"""Rankings: what is searched; transforms, null distributions, and the locus of a sequence.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def _file():
    return (
        sa.Column("file", sa.Text, nullable=False, unique=True),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("mtime_ns", sa.Integer, nullable=False),
        sa.Column("inode", sa.Integer, nullable=False),
    )


def upgrade():
    op.create_table(
        "transforms",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("space_id", sa.Integer, sa.ForeignKey("spaces.id"), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("space_id", "kind", name="one_transform_of_a_kind"),
    )
    op.create_table(
        "rankings",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("is_default", sa.Integer, nullable=False),
    )
    op.create_table(
        "ranking_parts",
        sa.Column("ranking_id", sa.Integer, sa.ForeignKey("rankings.id"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("space_id", sa.Integer, sa.ForeignKey("spaces.id"), nullable=False),
        sa.Column("weight", sa.Float, nullable=False),
        sa.Column("transform_id", sa.Integer, sa.ForeignKey("transforms.id")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "nulls",
        sa.Column("ranking_id", sa.Integer, sa.ForeignKey("rankings.id"), primary_key=True),
        sa.Column("locus", sa.Text, primary_key=True),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    # Each space is searched as it was: by itself, its vectors as they are.
    op.execute("INSERT INTO rankings (id, name, is_default) SELECT id, name, is_default FROM spaces")
    op.execute(
        "INSERT INTO ranking_parts (ranking_id, position, space_id, weight) SELECT id, 0, id, 1.0 FROM spaces"
    )
    op.add_column("sequences", sa.Column("locus", sa.Text))
    op.create_table(
        "derived_files",
        sa.Column("segment_id", sa.Integer, sa.ForeignKey("segments.id"), primary_key=True),
        sa.Column("ranking_id", sa.Integer, sa.ForeignKey("rankings.id"), primary_key=True),
        *_file(),
    )
    op.execute(
        "INSERT INTO derived_files SELECT a.segment_id, s.space_id, a.file, a.size_bytes, a.digest, a.mtime_ns, "
        "a.inode FROM artifacts AS a JOIN segments AS s ON s.id = a.segment_id WHERE a.kind = 'unit'"
    )
    op.drop_table("artifacts")
    op.create_table(
        "ranking_indexes",
        sa.Column("ranking_id", sa.Integer, sa.ForeignKey("rankings.id"), primary_key=True),
        *_file(),
        sa.Column("facts", sa.Text, nullable=False),
    )
    op.execute(
        "INSERT INTO ranking_indexes SELECT space_id, file, size_bytes, digest, mtime_ns, inode, facts FROM indexes"
    )
    op.drop_table("indexes")
    op.rename_table("ranking_indexes", "indexes")


def downgrade():
    raise NotImplementedError("databases are upgraded, never downgraded; restore a backup instead")
