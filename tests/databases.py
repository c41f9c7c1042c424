"""What several tests do to databases, and hold of them afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import Executable

from plmsearch.database import open_database
from plmsearch.exchange.merging import merge
from plmsearch.ingest.report import AddReport, Progress
from plmsearch.store.session import open_writer
from plmsearch.verify import verify


class Stopping(Progress):
    """A user who presses Ctrl-C after a while."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advance(self, n_rows: int) -> None:
        self.left -= n_rows
        if self.left < 0:
            raise KeyboardInterrupt


def assert_sound(path: Path) -> None:
    """Every byte is as it was written, and nothing contradicts itself."""
    with open_database(path) as db:
        assert verify(db, full=True) == []


def merged(paths: Sequence[Path], target: Path, **wishes: object) -> AddReport:
    with ExitStack() as stack:
        opened = [stack.enter_context(open_database(p)) for p in paths]
        return merge(opened, target, **wishes)  # type: ignore[arg-type]


def tamper(path: Path, *statements: Executable) -> None:
    """Change the catalog behind the library's back, as if it had written that."""
    with open_writer(path) as repository, repository.begin() as connection:
        for statement in statements:
            connection.execute(statement)
