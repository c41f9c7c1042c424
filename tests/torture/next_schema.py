"""Make this plmsearch one whose schema has one revision more, so that there is something to upgrade."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from plmsearch import upgrade
from plmsearch.store import schema

NEXT = "9999"
MIGRATION = """
import sqlalchemy as sa
from alembic import op
revision = "{next}"
down_revision = "{head}"
def upgrade():
    op.add_column("runs", sa.Column("note", sa.Text))
    {more}
"""


def write_migrations(folder: Path, more: str = "pass") -> Path:
    """Copy the migrations and add one; return the copy."""
    shutil.copytree(schema.migrations_directory(), folder)
    text = MIGRATION.format(next=NEXT, head=schema.HEAD, more=more)
    (folder / "versions" / f"{NEXT}_next.py").write_text(text)
    return folder


@contextmanager
def next_schema() -> Iterator[None]:
    folder = more_migrations()
    with (
        patch.object(schema, "migrations_directory", lambda: folder),
        patch.object(schema, "HEAD", NEXT),
        patch.object(upgrade, "HEAD", NEXT),
    ):
        yield


@functools.cache
def more_migrations() -> Path:
    """Make the migrations, once; a process that is to be disturbed does so before."""
    folder = Path(tempfile.mkdtemp(prefix="torture-migrations-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    rows = 'op.execute("UPDATE records SET description = description")'  # so that pages of data change too
    return write_migrations(folder / "migrations", rows)
