"""Rankings of one space keep no vectors of their own, unless they are the default or it is asked for.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

# Rankings of one space, with the one that came with the space.
_ONE_SPACE = """
    SELECT ranking_id AS id, min(ranking_id) OVER (PARTITION BY min(space_id)) AS own
    FROM ranking_parts GROUP BY ranking_id HAVING count(*) = 1
"""


def upgrade():
    op.add_column("rankings", sa.Column("keeps_files", sa.Integer, nullable=False, server_default=sa.text("0")))
    # What somebody added keeps what it was added for.
    op.execute(f"UPDATE rankings SET keeps_files = 1 WHERE id IN (SELECT id FROM ({_ONE_SPACE}) WHERE id != own)")
    for table in ("derived_files", "indexes"):
        op.execute(
            f"DELETE FROM {table} WHERE ranking_id IN (SELECT r.id FROM rankings AS r JOIN ({_ONE_SPACE}) AS o "
            "ON o.id = r.id WHERE r.is_default = 0 AND r.keeps_files = 0)"
        )


def downgrade():
    raise NotImplementedError("databases are upgraded, never downgraded; restore a backup instead")
