"""Getting published weights over the network, and checking what lies on disk.

Concepts
--------
`fetch` writes ``NAME.pt.part`` and renames it when it is complete and its SHA-256 is right, so the
final name never holds half a file. Run again after an interruption, it continues where it stopped.
The SHA-256 is kept beside the file in ``NAME.pt.sha256``, in the format of ``sha256sum``.

Limitations
-----------
A SHA-256 known beforehand exists for two of the published files (`KNOWN_SHA256`). Of the others, the
first download is trusted over TLS, and later damage is what `verify` finds. The contact regression
that fair-esm publishes beside a model is not fetched: embeddings do not need it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from plmsearch.embedding.cards import CARDS, is_esm, is_generic
from plmsearch.embedding.download import Download, Progress, written
from plmsearch.embedding.registry import load_embedder, model_card
from plmsearch.embedding.weights import WEIGHTS_VARIABLE, find_weights
from plmsearch.errors import ParameterError, StorageError, WeightsError

__all__ = ["KNOWN_SHA256", "PUBLISHED_URL", "VerifiedWeights", "fetch", "verify"]

#: Where fair-esm publishes: esm/pretrained.py::_download_model_and_regression_data.
PUBLISHED_URL = "https://dl.fbaipublicfiles.com/fair-esm"
URL_VARIABLE = "PLMSEARCH_MODELS_URL"

#: Of published files, as several projects that pin them state independently.
KNOWN_SHA256 = {
    "esm2_t33_650M_UR50D": "ea9d0522b335a8778dea6535a65301f10208dece28cd5865482b0b1fc446168c",
    "esm2_t36_3B_UR50D": "7de8b4082ba15891959ab368b77ce3886697af1efb16d3c9e9e7b0c5d3f07500",
}

_DAMAGED = "it is damaged or another version; remove it and fetch it again"
_SHA256 = re.compile(r"[0-9a-f]{64}")
# First bytes of what torch.save writes: a zip archive, or a bare pickle before torch 1.6.
_TORCH_MAGIC = (b"PK\x03\x04", b"\x80\x02")


@dataclass(frozen=True, slots=True)
class VerifiedWeights:
    """What `verify` found.

    Parameters
    ----------
    model_id : str
    path : Path or None
        File or directory; None for a model that has its weights elsewhere.
    sha256 : str
        Of the file, hashed just now; empty for a directory.
    expected : str
        What it was compared with; empty where nothing was recorded.
    weights_digest : str
        Over the tensors: what embedding spaces record.
    """

    model_id: str
    path: Path | None
    sha256: str
    expected: str
    weights_digest: str


def fetch(
    name: str,
    dest_dir: Path,
    *,
    base_url: str | None = None,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Download the published weights of an ESM model.

    Parameters
    ----------
    name : str
        A named ESM model.
    dest_dir : Path
        Created where absent. A complete file that is already there is checked, not fetched again.
    base_url : str, optional
        ``http`` or ``https``; ``/models/NAME.pt`` is added. Default ``$PLMSEARCH_MODELS_URL``, else
        `PUBLISHED_URL`.
    sha256 : str, optional
        What the file must hash to. Default: the record ``NAME.pt.sha256`` in `dest_dir`, else
        `KNOWN_SHA256`.
    progress : callable, optional
        Called with the bytes done and the bytes in all.

    Returns
    -------
    Path
        ``dest_dir/NAME.pt``

    Raises
    ------
    UnknownModelError, UnsupportedModelError, ParameterError
        If there is nothing to fetch under that name, or the URL or hash is malformed.
    ModelUnavailableError
        If the server cannot be reached, has no such file, or drops the connection again and again.
    WeightsError
        If what came is no checkpoint or has another SHA-256.
    StorageError
        If the disk is full or may not be written, or another process is fetching the same file.
    """
    card = model_card(name)
    name = card.model_id
    if name not in CARDS or not is_esm(card) or is_generic(card):
        raise ParameterError("model", name, "an ESM model with a published file: see plmsearch models list")
    url = f"{_base_url(base_url)}/models/{name}.pt"
    final = dest_dir / f"{name}.pt"
    expected = _expected_sha256(name, final, sha256)
    if final.is_file():
        if expected:
            _check_sha256(final, _hash_file(final), expected, _DAMAGED)
        return final
    with written(dest_dir):
        dest_dir.mkdir(parents=True, exist_ok=True)
    with _locked_part(final) as part:
        otherwise = (
            f"without a network, copy {name}.pt from another machine and point to it with --weights or "
            f"{WEIGHTS_VARIABLE}; a mirror can be named in {URL_VARIABLE}"
        )
        download = Download(name, url, part, otherwise, progress)
        download.run()
        download.version_file.unlink(missing_ok=True)
        _finish(part, final, expected)
    return final


def verify(name: str, weights: Path | None = None) -> VerifiedWeights:
    """Hash the weights of a model anew and load them.

    Parameters
    ----------
    name : str
        Any model.
    weights : Path, optional
        As for `load_embedder`.

    Returns
    -------
    VerifiedWeights

    Raises
    ------
    ModelUnavailableError
        If there are none.
    WeightsError
        If the file has another SHA-256 than was recorded, or does not load as the model.
    """
    card = model_card(name)
    path = find_weights(card.model_id, weights) if is_esm(card) else weights
    found, expected = "", ""
    if path is not None and path.is_file():
        expected = _expected_sha256(card.model_id, path, None)
        found = _hash_file(path)
        _check_sha256(path, found, expected, _DAMAGED)
    embedder = load_embedder(card.model_id, weights=path, device="cpu", precision="bfloat16")
    return VerifiedWeights(card.model_id, path, found, expected, embedder.weights_digest)


# --- Arguments -----------------------------------------------------------------------------------


def _base_url(given: str | None) -> str:
    url = given or os.environ.get(URL_VARIABLE) or PUBLISHED_URL
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ParameterError("base_url", url, "an http or https URL")
    return url.rstrip("/")


def _expected_sha256(name: str, final: Path, given: str | None) -> str:
    """Return what the file must hash to; empty where nobody knows."""
    if given is not None:
        if not _SHA256.fullmatch(given.lower()):
            raise ParameterError("sha256", given, "64 hexadecimal digits")
        return given.lower()
    record = _record(final)
    if not record.is_file():
        # A file of another name may be of a model that was trained further.
        return KNOWN_SHA256.get(name, "") if final.name == f"{name}.pt" else ""
    found = _SHA256.match(record.read_text("ascii", errors="replace").lower())
    if not found:
        raise WeightsError(record, "does not begin with a SHA-256", hint="correct or remove it")
    return found[0]


def _record(final: Path) -> Path:
    return final.with_name(final.name + ".sha256")


# --- Files ---------------------------------------------------------------------------------------


@contextmanager
def _locked_part(final: Path) -> Iterator[IO[bytes]]:
    """Open ``NAME.pt.part`` for this process alone."""
    path = final.with_name(final.name + ".part")
    with written(path):
        part = path.open("ab")
    with part:
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise StorageError(path, "another process is fetching this file", hint="wait for it") from exc
        yield part


def _finish(part: IO[bytes], final: Path, expected: str) -> None:
    """Check a complete part and give it its name."""
    path = Path(part.name)
    with written(path):
        os.fsync(part.fileno())
    found = _hash_file(path)
    hint = f"it was removed: fetch again, or where a new version was published, remove {_record(final)} first"
    try:
        _check_sha256(path, found, expected, hint)
        _check_magic(path)
    except WeightsError:
        path.unlink(missing_ok=True)  # else every later fetch would continue it, and fail
        raise
    with written(final):
        temporary = path.with_name(f"{path.name}.sha256")
        with temporary.open("w", encoding="ascii") as record:
            record.write(f"{found}  {final.name}\n")
            record.flush()
            os.fsync(record.fileno())
        temporary.replace(_record(final))
        path.replace(final)
        _sync_directory(final.parent)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot
            os.fsync(handle)
    finally:
        os.close(handle)


def _hash_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise StorageError(path, f"cannot be read: {exc.strerror or exc}") from exc


def _check_sha256(path: Path, found: str, expected: str, hint: str) -> None:
    if expected and found != expected:
        raise WeightsError(path, f"its SHA-256 is {found}, expected {expected}", hint=hint)


def _check_magic(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(4)
    if not start.startswith(_TORCH_MAGIC):
        raise WeightsError(
            path, "what the server sent is no torch checkpoint", hint="check the URL, or a proxy in between"
        )
