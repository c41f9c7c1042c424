"""What every test shares: a clean environment, reproducible examples, and where things are."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# Set before numpy, torch or faiss is loaded, here and in interpreters that tests start: the processes of a
# run share the cores already, and with models and databases this small, threads only wait for each other.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# Temporary files go to memory, where a sync waits for nothing: tests make thousands of databases. A folder
# that a developer chose stays, and so does the usual one where there is none in memory with room.
_MEMORY, _ROOM = Path("/dev/shm"), 2 * 10**9
if (
    "TMPDIR" not in os.environ
    and os.access(_MEMORY, os.W_OK | os.X_OK)
    and shutil.disk_usage(_MEMORY).free > _ROOM
):
    os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)

SHARED_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
#: Files whose tests take longest together. They are handed out first: one that came last would keep one
#: process busy while the others have nothing left.
LONGEST = (
    "test_examples.py", "test_docs.py", "test_crash.py", "test_torture.py", "test_filters.py",
    "test_merge.py", "test_antiberty.py",
)  # fmt: skip
ENVIRONMENT = ("PLMSEARCH_DB", "PLMSEARCH_WEIGHTS", "PLMSEARCH_THREADS", "ANTIBERTY_WEIGHTS_DIR")

# Of its own for each run: no test reads what a user's cache holds, or leaves anything there.
os.environ["PLMSEARCH_CACHE"] = _cache = tempfile.mkdtemp(prefix="plmsearch-test-cache-")
atexit.register(shutil.rmtree, _cache, ignore_errors=True)

# A busy machine is slow, not wrong; in CI the same examples run every time.
settings.register_profile("plmsearch", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("plmsearch")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first; otherwise everything stays in order."""
    place = {Path(__file__).with_name(name): n for n, name in enumerate(LONGEST)}
    gone = [path.name for path in place if not path.is_file()]
    if gone:
        raise pytest.UsageError(f"LONGEST in tests/conftest.py names files that are gone: {', '.join(gone)}")
    items.sort(key=lambda item: place.get(item.path, len(place)))


def pytest_collection_finish() -> None:
    """Leave what was imported and collected out of the search for garbage: it stays until the end anyway."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own settings must not decide a test; tests of real weights need them."""
    if request.node.get_closest_marker("weights") is None:
        for name in ENVIRONMENT:
            monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data that no checkout carries; a test that asks for it is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs real data in {SHARED_DATA}")
    return SHARED_DATA
