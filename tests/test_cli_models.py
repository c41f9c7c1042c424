"""`plmsearch models` and what every command shares: help, version, unknown models."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import esm_checkpoints as tiny
import pytest
from support import cli

from plmsearch._version import __version__

COMMANDS = [
    ("index",),
    ("query",),
    ("embed",),
    ("info",),
    ("models", "list"),
    ("models", "fetch"),
    ("models", "verify"),
]


@pytest.fixture(autouse=True)
def _no_weights_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def test_help_lists_every_command():
    ended = cli("--help")
    assert (ended.code, ended.err) == (0, "")
    for command in COMMANDS:
        assert command[0] in ended.out


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_help_of_a_command_ends_with_an_example(command):
    ended = cli(*command, "--help")
    assert ended.code == 0
    words = " ".join(ended.out.split())
    assert f"Example: plmsearch {' '.join(command)}" in words
    assert ended.out == cli(*command, "-h").out


def test_version_is_that_of_the_package():
    assert cli("--version").out == f"plmsearch {__version__}\n"


def test_no_command_shows_the_help_and_an_unknown_one_is_usage():
    assert cli().code == 2
    assert "index" in cli().out + cli().err
    assert cli("indx", "db", "in.fasta").code == 2


def test_verify_loads_the_weights_and_tells_their_digest(tmp_path):
    path = tiny.write_esm2(tmp_path / "tiny.pt")
    ended = cli("models", "verify", "esm2", "--weights", path)
    assert (ended.code, ended.out) == (0, "")
    assert f"esm2 ({path}) loads; weights digest " in ended.err
    path.write_bytes(path.read_bytes()[:-2000])
    ended = cli("models", "verify", "esm2", "--weights", path)
    assert ended.code == 1
    assert str(path) in ended.err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("esm2_t6_8M", "unknown model 'esm2_t6_8M'"),
        ("esm_msa1b_t12_100M_UR50S", "is not supported"),
        ("esmfold_v1", "is not supported"),
        ("esm2_t33_650M_UR50D", "are not on this machine; looked for:"),
    ],
)
def test_a_model_that_cannot_be_had_says_why(name, said):
    ended = cli("models", "verify", name)
    assert (ended.code, ended.out) == (1, "")
    assert name in ended.err
    assert said in ended.err


NAME = "esm2_t6_8M_UR50D"


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[dict[str, bytes]]:
    """Files that a server on this machine publishes, by name."""
    files: dict[str, bytes] = {}

    class Published(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = files.get(self.path.rpartition("/")[2])
            if data is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Published) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("PLMSEARCH_MODELS_URL", f"http://127.0.0.1:{server.server_address[1]}")
        for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(proxy, raising=False)
        yield files
        server.shutdown()
        thread.join()


def test_fetch_says_where_the_file_is_and_list_then_has_it_at_hand(published, tmp_path):
    published[f"{NAME}.pt"] = tiny.write_esm2(tmp_path / "source.pt").read_bytes()
    ended = cli("models", "fetch", NAME, "--dir", tmp_path / "weights")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == f"plmsearch: {NAME}: {tmp_path / 'weights' / NAME}.pt\n"
    rows = {row[0]: row for row in cli("models", "list", "--weights", tmp_path / "weights").rows}
    assert rows[NAME][6] == "yes"


def test_fetch_refuses_a_file_of_another_hash_and_leaves_nothing_that_could_be_used(published, tmp_path):
    published[f"{NAME}.pt"] = tiny.write_esm2(tmp_path / "source.pt").read_bytes()
    ended = cli("models", "fetch", NAME, "--dir", tmp_path / "weights", "--sha256", "0" * 64)
    assert ended.code == 1
    assert not (tmp_path / "weights" / f"{NAME}.pt").exists()


def test_fetch_of_a_file_that_is_not_there_names_the_address(published, tmp_path):
    ended = cli("models", "fetch", NAME, "--dir", tmp_path)
    assert (ended.code, ended.out) == (1, "")
    assert f"{NAME}.pt" in ended.err
    assert "404" in ended.err


def test_fetching_a_model_without_a_file_of_its_own_is_refused(tmp_path):
    ended = cli("models", "fetch", "antiberty", "--dir", tmp_path)
    assert (ended.code, ended.out) == (1, "")
    assert "antiberty" in ended.err
    assert list(tmp_path.glob("*.pt")) == []
