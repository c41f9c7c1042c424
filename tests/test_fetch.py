"""Fetching and verifying weights, against a server of our own that misbehaves on demand."""

import errno
import fcntl
import hashlib
import os
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import esm_checkpoints as tiny
import pytest

from plmsearch.embedding import download
from plmsearch.embedding import fetch as module
from plmsearch.embedding.cards import CARDS
from plmsearch.embedding.fetch import KNOWN_SHA256, fetch, verify
from plmsearch.embedding.registry import load_embedder
from plmsearch.errors import (
    ModelUnavailableError,
    ParameterError,
    StorageError,
    UnknownModelError,
    UnsupportedModelError,
    WeightsError,
)

NAME = "esm2_t6_8M_UR50D"


@dataclass
class Shelf:
    """What the server holds, how it behaves, and what it was asked."""

    content: bytes
    drops_after: list[int] = field(default_factory=list)
    has_ranges: bool = True
    tag: str = '"one"'
    size_said: str | None = None
    status: int = 200
    wrong_range: bool = False
    asked: list[tuple[str, str | None]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        shelf = self.server.shelf
        wanted = self.headers.get("Range")
        shelf.asked.append((self.path, wanted))
        if shelf.status != 200:
            self.send_error(shelf.status)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if not shelf.has_ranges or self.headers.get("If-Range", shelf.tag) != shelf.tag:
            start = 0
        size = len(shelf.content)
        if start and start >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            said = start + shelf.wrong_range
            self.send_header("Content-Range", f"bytes {said}-{size - 1}/{size}")
        elif shelf.has_ranges:
            self.send_header("Accept-Ranges", "bytes")
        length = str(size - start) if shelf.size_said is None else shelf.size_said
        if length:
            self.send_header("Content-Length", length)
        if shelf.tag:
            self.send_header("ETag", shelf.tag)
        self.end_headers()
        stop = start + shelf.drops_after.pop(0) if shelf.drops_after else size
        self.wfile.write(shelf.content[start:stop])


@pytest.fixture(scope="module")
def genuine(tmp_path_factory):
    """A checkpoint of the layers and dimensions of the smallest ESM-2."""
    path = tmp_path_factory.mktemp("genuine") / "w.pt"
    return tiny.write_esm2(path, n_layers=6, dim=320, heads=20).read_bytes()


@pytest.fixture(scope="module")
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


CONTENT = b"PK\x03\x04" + bytes(range(256)) * 40


@pytest.fixture
def shelf(server, monkeypatch):
    host, port = server.server_address
    monkeypatch.setenv("PLMSEARCH_MODELS_URL", f"http://{host}:{port}/fair-esm/")
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    server.shelf = Shelf(CONTENT)
    return server.shelf


@pytest.fixture(autouse=True)
def _own_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("PLMSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def names(directory: Path) -> set[str]:
    return {p.name for p in directory.iterdir()}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- What works ----------------------------------------------------------------------------------


def test_a_model_is_fetched_verified_and_loaded(shelf, genuine, tmp_path):
    shelf.content = genuine
    path = fetch(NAME, tmp_path / "new" / "dir")
    assert path == tmp_path / "new" / "dir" / f"{NAME}.pt"
    assert shelf.asked == [(f"/fair-esm/models/{NAME}.pt", None)]
    found = verify(NAME, path.parent)
    assert found.path == path
    assert found.sha256 == found.expected == sha256(genuine)
    assert found.weights_digest == load_embedder(NAME, weights=path).weights_digest


def test_the_record_is_in_the_format_of_sha256sum_and_nothing_else_is_left(shelf, tmp_path):
    fetch(NAME, tmp_path / "w")
    assert (tmp_path / "w" / f"{NAME}.pt.sha256").read_text() == f"{sha256(CONTENT)}  {NAME}.pt\n"
    assert names(tmp_path / "w") == {f"{NAME}.pt", f"{NAME}.pt.sha256"}


def test_progress_counts_up_to_the_whole(shelf, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_BLOCK", 1000)
    seen = []
    fetch(NAME, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_dropped_connection_is_taken_up_where_it_broke(shelf, tmp_path):
    shelf.drops_after = [1000, 2000, 1]
    path = fetch(NAME, tmp_path)
    assert path.read_bytes() == CONTENT
    assert [r for _, r in shelf.asked] == [None, "bytes=1000-", "bytes=3000-", "bytes=3001-"]


def test_a_download_that_gave_up_is_continued_by_the_next_one(shelf, tmp_path):
    shelf.drops_after = [4000, 0]
    with pytest.raises(ModelUnavailableError, match=r"4,000 bytes are kept and the same command"):
        fetch(NAME, tmp_path)
    assert not (tmp_path / f"{NAME}.pt").exists()
    shelf.asked.clear()
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT
    assert shelf.asked == [(f"/fair-esm/models/{NAME}.pt", "bytes=4000-")]


def test_a_server_without_ranges_sends_everything_again(shelf, tmp_path):
    shelf.has_ranges = False
    shelf.drops_after = [1000]
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT
    assert len(shelf.asked) == 2


def test_a_part_of_another_version_is_not_continued(shelf, tmp_path):
    shelf.drops_after = [4000, 0]
    with pytest.raises(ModelUnavailableError):
        fetch(NAME, tmp_path)
    shelf.content, shelf.tag = b"PK\x03\x04 newer" + CONTENT, '"two"'
    assert fetch(NAME, tmp_path).read_bytes() == shelf.content


@pytest.mark.parametrize("extra", [b"", b"junk"], ids=["complete", "too long"])
def test_a_part_as_long_as_the_file_or_longer_is_judged_by_the_server(shelf, tmp_path, extra):
    (tmp_path / f"{NAME}.pt.part").write_bytes(CONTENT + extra)
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT


def test_a_file_that_is_there_is_checked_and_not_fetched_again(shelf, tmp_path):
    path = fetch(NAME, tmp_path)
    shelf.asked.clear()
    assert fetch(NAME, tmp_path) == path
    path.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(WeightsError, match="SHA-256"):
        fetch(NAME, tmp_path)
    assert shelf.asked == []


def test_fair_esms_second_name_fetches_the_file_it_stands_for(shelf, tmp_path):
    assert fetch("esm1v_t33_650M_UR90S", tmp_path).name == "esm1v_t33_650M_UR90S_1.pt"


def test_the_url_given_comes_before_the_variable(shelf, server, tmp_path):
    host, port = server.server_address
    fetch(NAME, tmp_path, base_url=f"http://{host}:{port}/mirror")
    assert shelf.asked == [(f"/mirror/models/{NAME}.pt", None)]


# --- Wrong content -------------------------------------------------------------------------------


def given(tmp_path):
    return {"sha256": "0" * 64}


def recorded(tmp_path):
    (tmp_path / f"{NAME}.pt.sha256").write_text("0" * 64 + f"  {NAME}.pt\n")
    return {}


def known(tmp_path):
    return {}


@pytest.mark.parametrize("source", [given, recorded, known])
def test_another_sha256_than_expected_leaves_no_file(shelf, tmp_path, monkeypatch, source):
    if source is known:
        monkeypatch.setitem(KNOWN_SHA256, NAME, "0" * 64)
    options = source(tmp_path)
    with pytest.raises(WeightsError, match=f"{sha256(CONTENT)}, expected {'0' * 64}"):
        fetch(NAME, tmp_path, **options)
    assert names(tmp_path) <= {f"{NAME}.pt.sha256"}


def test_a_web_page_in_place_of_weights_is_refused(shelf, tmp_path):
    shelf.content = b"<html>Please log in to the network</html>"
    with pytest.raises(WeightsError, match="no torch checkpoint"):
        fetch(NAME, tmp_path)
    assert not (tmp_path / f"{NAME}.pt").exists()
    shelf.content = CONTENT
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT


def test_a_record_that_holds_no_hash_is_named(shelf, tmp_path):
    (tmp_path / f"{NAME}.pt.sha256").write_text("hello")
    with pytest.raises(WeightsError, match=r"pt\.sha256: does not begin with a SHA-256"):
        fetch(NAME, tmp_path)


# --- Servers and networks ------------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusal_names_the_url_the_status_and_what_else_to_do(shelf, tmp_path, status):
    shelf.status = status
    with pytest.raises(ModelUnavailableError, match=f"answered {status}") as caught:
        fetch(NAME, tmp_path)
    assert f"/fair-esm/models/{NAME}.pt" in str(caught.value)
    assert "--weights" in str(caught.value)


def test_no_network_is_a_typed_error(shelf, tmp_path, monkeypatch):
    monkeypatch.setenv("PLMSEARCH_MODELS_URL", "http://127.0.0.1:9")
    with pytest.raises(ModelUnavailableError, match="Connection refused"):
        fetch(NAME, tmp_path)


def test_a_server_that_never_gets_further_is_given_up(shelf, tmp_path):
    shelf.drops_after = [0]
    with pytest.raises(ModelUnavailableError, match="closed early"):
        fetch(NAME, tmp_path)


@pytest.mark.parametrize("size", ["", "many", "-5"])
def test_a_server_that_does_not_say_the_size_is_refused(shelf, tmp_path, size):
    shelf.size_said = size
    with pytest.raises(ModelUnavailableError, match="how large the file is"):
        fetch(NAME, tmp_path)


def test_an_answer_with_another_range_is_never_written(shelf, tmp_path):
    shelf.drops_after = [1000]
    shelf.wrong_range = True
    with pytest.raises(ModelUnavailableError, match="another range"):
        fetch(NAME, tmp_path)
    assert (tmp_path / f"{NAME}.pt.part").read_bytes() == CONTENT[:1000]


@pytest.mark.parametrize("url", ["file:///etc", "ftp://host/x", "host/path", "http://"])
def test_urls_that_are_not_http_are_refused(tmp_path, url):
    with pytest.raises(ParameterError, match="base_url"):
        fetch(NAME, tmp_path, base_url=url)


# --- Names and arguments -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("antiberty", ParameterError),
        ("kmer", ParameterError),
        ("esm2", ParameterError),
        ("esmfold_v1", UnsupportedModelError),
        ("../../etc/passwd", UnknownModelError),
    ],
)
def test_models_without_a_published_file_are_refused(shelf, tmp_path, name, error):
    with pytest.raises(error):
        fetch(name, tmp_path)
    assert shelf.asked == []


@pytest.mark.parametrize("sha", ["", "abc", "g" * 64])
def test_a_malformed_sha256_is_refused(shelf, tmp_path, sha):
    with pytest.raises(ParameterError, match="sha256"):
        fetch(NAME, tmp_path, sha256=sha)


def test_known_hashes_are_of_models_there_are():
    assert set(KNOWN_SHA256) <= set(CARDS)
    assert all(module._SHA256.fullmatch(h) for h in KNOWN_SHA256.values())


# --- Disks ---------------------------------------------------------------------------------------


def test_a_full_disk_is_foretold(shelf, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StorageError, match="0 MB free"):
        fetch(NAME, tmp_path)


def test_a_refused_write_names_the_file(shelf, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match="taken"):
        fetch(NAME, tmp_path / "taken")


def test_a_rename_that_fails_leaves_no_file_under_the_final_name(shelf, tmp_path, monkeypatch):
    def refuse(self, target):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        with pytest.raises(StorageError, match="Permission denied"):
            fetch(NAME, tmp_path)
    assert not (tmp_path / f"{NAME}.pt").exists()
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT


def test_two_processes_do_not_fetch_the_same_file_at_once(shelf, tmp_path):
    with (tmp_path / f"{NAME}.pt.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="another process"):
            fetch(NAME, tmp_path)


# --- Verify --------------------------------------------------------------------------------------


def test_verify_finds_a_changed_byte(shelf, genuine, tmp_path):
    shelf.content = genuine
    path = fetch(NAME, tmp_path)
    middle = len(genuine) // 2
    path.write_bytes(genuine[:middle] + bytes([genuine[middle] ^ 1]) + genuine[middle + 1 :])
    with pytest.raises(WeightsError, match="SHA-256"):
        verify(NAME, path)


def test_verify_without_a_record_says_so_and_still_loads(genuine, tmp_path):
    path = tmp_path / "mine.pt"
    path.write_bytes(genuine)
    found = verify(NAME, path)
    assert (found.sha256, found.expected) == (sha256(genuine), "")


def test_verify_refuses_what_hashes_right_but_does_not_load(shelf, tmp_path):
    fetch(NAME, tmp_path)
    with pytest.raises(WeightsError, match="damaged"):
        verify(NAME, tmp_path)


def test_verify_of_a_model_without_a_file_loads_it():
    found = verify("kmer")
    assert found.path is None
    assert found.weights_digest == load_embedder("kmer").weights_digest


def test_verify_names_absent_weights():
    with pytest.raises(ModelUnavailableError):
        verify(NAME)
