"""Variable domains of sequences: where they are, their regions, and their genes.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade():
    op.add_column("sequences", sa.Column("n_domains", sa.Integer))
    op.create_table(
        "domains",
        sa.Column("source_id", sa.Integer, sa.ForeignKey("sequences.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("sequence_id", sa.Integer, sa.ForeignKey("sequences.id"), nullable=False),
        sa.Column("locus", sa.Text, nullable=False),
        sa.Column("start", sa.Integer, nullable=False),
        *(
            sa.Column(f"{region}_end", sa.Integer, nullable=False)
            for region in ("fwr1", "cdr1", "fwr2", "cdr2", "fwr3", "cdr3", "fwr4")
        ),
        sa.Column("is_complete", sa.Integer, nullable=False),
        sa.Column("v_call", sa.Text),
        sa.Column("j_call", sa.Text),
        sa.Column("v_identity", sa.Float),
        sa.Column("species", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_domains_sequence_id", "domains", ["sequence_id"])


def downgrade():
    raise NotImplementedError("databases are upgraded, never downgraded; restore a backup instead")
