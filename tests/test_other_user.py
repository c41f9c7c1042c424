"""A user who may read a database but not write it, or not even read all of it."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import plmsearch

# Everything is imported before the change of user, who may not be able to read the interpreter.
AS_ANOTHER_USER = """
import json, os, sys
import plmsearch

def outcome(path, write):
    try:
        if write:
            with plmsearch.open_database(path, create=True, lock_timeout_s=0) as db:
                db.add([("new", "DIQMTQSPSSLSASVGDRVT")], model="kmer")
        with plmsearch.open_database(path) as db:
            hits = db.search(["EVQLVESGGGLVQPGGSLRL"], k=1)
            return [hits[0][0].target, len(db), len(db.vectors(["a"]))]
    except plmsearch.PlmsearchError as error:
        return [type(error).__name__]

outcome(sys.argv[1], True)
if os.getuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
print(json.dumps([[outcome(p, False), outcome(p, True)] for p in sys.argv[2:]]))
"""

READS, DENIED = ["a", 1, 1], ["DatabaseNotWritable"]


def as_it_was(path):
    pass


def hidden_vectors(path):
    (path / "segments").chmod(0)


def hidden_derived(path):
    (path / "derived").chmod(0)


def hidden_marker(path):
    (path / "plmsearch.json").chmod(0)


def hidden_catalog(path):
    (path / "catalog.sqlite").chmod(0)


def crashed_writer(path):
    """Leave a write-ahead log that has not been copied into the catalog."""
    code = (
        "import os, sys; from pathlib import Path; from plmsearch.store.session import open_writer\n"
        "with open_writer(Path(sys.argv[1])) as r:\n"
        "    r.begin_run('index', {}, {})\n"
        "    os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert (path / "catalog.sqlite-wal").stat().st_size > 0


CASES = {
    as_it_was: (READS, DENIED),
    hidden_vectors: (["StorageError"], DENIED),
    hidden_derived: (READS, DENIED),
    hidden_marker: (["StorageError"], DENIED),
    hidden_catalog: (["StorageError"], DENIED),
    crashed_writer: (READS, DENIED),
}


@pytest.fixture(scope="module")
def outcomes_of_another_user():
    """What happens to a user who may not write, per case; of root another user is made.

    For other users the owner's own modes are enough: 0555 keeps the owner out as well.
    """
    with tempfile.TemporaryDirectory(prefix="plmsearch-test-") as folder:
        top = Path(folder)
        top.chmod(0o755)
        names = [case.__name__ for case in CASES]
        for name, case in zip(names, CASES, strict=True):
            with plmsearch.open_database(top / name, create=True) as db:
                db.add([("a", "EVQLVESGGGLVQPGGSLRL")], model="kmer")
            case(top / name)
            (top / name).chmod(0o555)
        (top / "nobody").mkdir(mode=0o555)
        shutil.copytree(top / names[0], top / "closed" / "db")
        (top / "closed").chmod(0)
        paths = [str(top / name) for name in (*names, "nobody/new", "closed/db")]
        ran = subprocess.run(
            [sys.executable, "-c", AS_ANOTHER_USER, str(top / "scratch"), *paths],
            capture_output=True,
            text=True,
            check=False,
        )
        for directory in [top / "closed", *(p for p in top.rglob("*") if p.is_dir())]:
            directory.chmod(0o755)
        assert ran.returncode == 0, ran.stderr
        found = json.loads(ran.stdout)
    return dict(zip([*names, "new", "closed"], found, strict=True))


@pytest.mark.parametrize("case", [c.__name__ for c in CASES])
def test_a_user_who_may_not_write_reads_and_is_told(outcomes_of_another_user, case):
    expected = {c.__name__: e for c, e in CASES.items()}[case]
    assert outcomes_of_another_user[case] == list(expected)


def test_a_user_who_may_not_create_a_database_is_told(outcomes_of_another_user):
    assert outcomes_of_another_user["new"] == [["DatabaseNotFound"], DENIED]


def test_a_user_who_may_not_enter_the_folder_is_told(outcomes_of_another_user):
    names = {"StorageError", "DatabaseNotFound", "DatabaseNotWritable"}
    assert all(len(outcome) == 1 and outcome[0] in names for outcome in outcomes_of_another_user["closed"])
