"""One writer at a time, and none that outlives its process."""

import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from plmsearch.errors import DatabaseLocked, DatabaseNotWritable
from plmsearch.store.lock import writer_lock

HOLD = """
import sys
from pathlib import Path
from plmsearch.store.lock import writer_lock
with writer_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
SHORT_S = 0.15


@contextmanager
def other_process_holding(directory):
    """A process that holds the lock until its standard input is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def assert_free(directory):
    with writer_lock(directory, timeout_s=0):
        pass


def test_a_second_process_is_refused_after_the_timeout(tmp_path):
    with other_process_holding(tmp_path):
        started = time.monotonic()
        with pytest.raises(DatabaseLocked) as caught, writer_lock(tmp_path, timeout_s=SHORT_S):
            pytest.fail("the lock was given twice")
        assert time.monotonic() - started >= SHORT_S
    assert caught.value.path == str(tmp_path)
    assert SHORT_S <= caught.value.waited_s < 10
    assert "--lock-timeout" in caught.value.hint


def test_the_lock_is_exclusive_within_a_process_too(tmp_path):
    """Two database objects of one program are two writers."""
    with writer_lock(tmp_path), pytest.raises(DatabaseLocked), writer_lock(tmp_path, timeout_s=0):
        pytest.fail("the lock was given twice")
    assert_free(tmp_path)


def test_who_waits_is_told_once_and_gets_the_lock_when_it_is_free(tmp_path):
    told = []
    with other_process_holding(tmp_path) as holder:
        release = threading.Timer(3 * SHORT_S, holder.stdin.close)
        release.start()
        with writer_lock(tmp_path, timeout_s=30, on_wait=lambda: told.append("waiting")):
            assert holder.wait(timeout=10) == 0
        release.join()
    assert told == ["waiting"]


def test_who_need_not_wait_is_told_nothing(tmp_path):
    with writer_lock(tmp_path, on_wait=lambda: pytest.fail("there is nobody to wait for")):
        pass


def test_a_killed_holder_leaves_no_lock(tmp_path):
    with other_process_holding(tmp_path) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait(timeout=10)
        assert (tmp_path / "LOCK").exists()
        assert_free(tmp_path)


def test_an_error_in_the_body_frees_the_lock(tmp_path):
    with pytest.raises(KeyError), writer_lock(tmp_path):
        raise KeyError
    assert_free(tmp_path)


def test_a_child_process_does_not_inherit_the_lock(tmp_path):
    """Or the lock would be held for as long as something that a writer started runs."""
    with writer_lock(tmp_path):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        assert_free(tmp_path)
    finally:
        child.kill()
        child.wait()


def test_refused_and_released_locks_leave_no_open_files(tmp_path):
    before = len(list(Path("/dev/fd").iterdir()))
    with writer_lock(tmp_path), pytest.raises(DatabaseLocked), writer_lock(tmp_path, timeout_s=0):
        pass
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_lock_file_that_cannot_be_opened_says_that_the_database_cannot_be_written(tmp_path):
    (tmp_path / "LOCK").mkdir()
    with pytest.raises(DatabaseNotWritable) as caught, writer_lock(tmp_path):
        pass
    assert caught.value.path == str(tmp_path)
