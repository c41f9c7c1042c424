"""One large file over HTTP, continued after interruptions.

Limitations
-----------
Needs a server that states the size of the file. Where it knows no ranges, or has another version of
the file meanwhile, the download starts anew.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NoReturn, TypeAlias
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from plmsearch.errors import ModelUnavailableError, StorageError

__all__ = ["Download", "Progress", "written"]

#: Called with the bytes on disk and the bytes in all.
Progress: TypeAlias = Callable[[int, int], None]

_BLOCK = 1 << 20
_TIMEOUT_S = 30.0
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)")


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Translate what the operating system refuses to write.

    Raises
    ------
    StorageError
    """
    try:
        yield
    except OSError as exc:
        raise StorageError(
            path, f"cannot be written: {exc.strerror or exc}", hint="check its owner, permissions and space"
        ) from exc


@dataclass
class Download:
    """A file on its way to disk.

    Parameters
    ----------
    model : str
        Whose weights, for messages.
    url : str
        ``http`` or ``https``; the caller has checked it.
    part : binary file
        Open for appending; what it holds is continued.
    otherwise : str
        What the user can do where the network fails, for messages.
    progress : callable, optional
    """

    model: str
    url: str
    part: IO[bytes]
    otherwise: str
    progress: Progress | None = None
    _has_ranges: bool = field(default=False, init=False)

    def run(self) -> None:
        """Fetch until complete; a dropped connection is taken up again while it makes headway.

        Raises
        ------
        ModelUnavailableError
            If the server cannot be reached, refuses, or stops sending.
        StorageError
            If the disk is full or refuses.
        """
        while True:
            before = self._size()
            problem: Exception = EOFError("the connection was closed early")
            total = -1
            try:
                total = self._continue()
            except HTTPError as exc:
                self._refuse_answer(exc)
            except (OSError, http.client.HTTPException) as exc:
                problem = exc
            if self._size() == total:
                return
            if self._size() <= before:
                self._give_up(problem)

    @property
    def version_file(self) -> Path:
        """Where the version of the file that the part belongs to is kept."""
        return Path(self.part.name + ".version")

    def _continue(self) -> int:
        """Make one request; return the size of the whole file in bytes."""
        start = self._size()
        headers = {"Accept-Encoding": "identity", "User-Agent": "plmsearch"}
        if start:
            headers |= {"Range": f"bytes={start}-", **self._same_version()}
        try:
            response = urlopen(Request(self.url, headers=headers), timeout=_TIMEOUT_S)  # noqa: S310
        except HTTPError as exc:
            if exc.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
                raise
            with exc:
                return self._after_the_end(exc.headers.get("Content-Range") or "", start)
        with response:
            return self._receive(response, start)

    def _receive(self, response: http.client.HTTPResponse, start: int) -> int:
        done, total = self._extent(response, start)
        if done == 0:
            self._truncate()
        self._remember_version(response)
        self._check_space(total - done)
        self._report(done, total)
        while done < total and (block := response.read(min(_BLOCK, total - done))):
            with written(Path(self.part.name)):
                self.part.write(block)
            done += len(block)
            self._report(done, total)
        return total

    def _extent(self, response: http.client.HTTPResponse, start: int) -> tuple[int, int]:
        """Return where the answer begins, and the size of the whole file."""
        headers = response.headers
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range") or "")
            if not found or found[1] != str(start):
                self._give_up(ValueError("the server answered with another range than was asked for"))
            self._has_ranges = True
            return start, int(found[2])
        # The whole file: from the start, from a server without ranges, or a newer version.
        self._has_ranges = headers.get("Accept-Ranges") == "bytes"
        size = headers.get("Content-Length") or ""
        if not size.isdecimal():
            self._give_up(ValueError("the server does not say how large the file is"))
        return 0, int(size)

    def _after_the_end(self, content_range: str, start: int) -> int:
        """Judge a part that is as long as the file, or longer."""
        found = _CONTENT_RANGE.fullmatch(content_range)
        if found and int(found[2]) == start:
            return start
        self._truncate()
        return self._continue()

    def _size(self) -> int:
        with written(Path(self.part.name)):
            self.part.flush()
        return os.fstat(self.part.fileno()).st_size

    def _truncate(self) -> None:
        with written(Path(self.part.name)):
            self.part.truncate(0)

    def _report(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(done, total)

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(Path(self.part.name).parent).free
        if needed > free:
            raise StorageError(
                self.part.name,
                f"the disk has {free / 1e6:,.0f} MB free, {needed / 1e6:,.0f} MB are needed",
                hint="free space, or fetch into another directory",
            )

    # --- Version of the file: a part is continued only with bytes of the same one ----------------

    def _same_version(self) -> dict[str, str]:
        try:
            version = json.loads(self.version_file.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return {"If-Range": version} if isinstance(version, str) and version else {}

    def _remember_version(self, response: http.client.HTTPResponse) -> None:
        tag = response.headers.get("ETag") or ""
        # RFC 9110 section 13.1.5: a weak tag cannot promise the same bytes.
        version = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified") or ""
        with written(self.version_file):
            self.version_file.write_text(json.dumps(version), "utf-8")

    # --- Failures --------------------------------------------------------------------------------

    def _refuse_answer(self, exc: HTTPError) -> NoReturn:
        with exc:
            reason = f"the server answered {exc.code} {exc.reason}"
        raise ModelUnavailableError(self.model, [self.url], hint=f"{reason}; {self.otherwise}") from exc

    def _give_up(self, exc: Exception) -> NoReturn:
        reason = exc.reason if isinstance(exc, URLError) else exc
        done = self._size() if self._has_ranges else 0
        kept = f"{done:,} bytes are kept and the same command continues there; " if done else ""
        hint = f"the download failed ({reason}); {kept}{self.otherwise}"
        raise ModelUnavailableError(self.model, [self.url], hint=hint) from exc
