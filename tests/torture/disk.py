"""A model of a disk that forgets what was not synced, fed with a recorded run.

It is as strict as POSIX allows: the content of a file is durable after its fsync, a name only after
the fsync of its directory, whatever an actual file system does beyond that.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

#: Calls that a recording needs.
RECORDED = (
    "open", "openat", "creat", "close", "lseek", "read", "write", "pwrite64", "writev", "pwritev", "pwritev2",
    "sendfile", "copy_file_range", "fsync", "fdatasync", "rename", "renameat", "renameat2", "unlink",
    "unlinkat", "rmdir", "link", "linkat", "symlink", "ftruncate", "truncate", "fallocate", "mkdir",
    "mkdirat",
)  # fmt: skip
#: The path of an rmdir by which the process says that a commit returned.
ACKNOWLEDGED = "/acknowledged"

_LINE = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)")
_RESUMED = re.compile(r"^\d+ +<\.\.\. \w+ resumed>(.*)", re.DOTALL)
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_OPEN_FD = re.compile(r"(\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>")
_SECTOR = 512
#: SQLite syncs the directory of its log when it first syncs the log. That may not be what makes the names of
#: other files durable, so here it does not.
_SQLITE_NAMES = "catalog.sqlite"


@dataclass(eq=False)
class File:
    now: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    pending: list[tuple[int, bytes]] = field(default_factory=list)

    def write(self, offset: int, data: bytes) -> None:
        self.resize(max(len(self.now), offset + len(data)))
        self.now[offset : offset + len(data)] = data
        self.pending.append((offset, data))

    def resize(self, size: int) -> None:
        del self.now[size:]
        self.now.extend(bytes(size - len(self.now)))

    def sync(self) -> None:
        self.durable = bytes(self.now)
        self.pending.clear()

    def torn(self, rng: random.Random) -> bytes:
        """Some sectors of what was not synced, in no order."""
        kept = self._with(s for s in self._sectors() if rng.random() < 0.5)
        if rng.random() < 0.5:
            kept.resize(len(self.now))
        return bytes(kept.now)

    def with_a_hole(self) -> bytes:
        """All of what was not synced but a sector in its middle."""
        sectors = self._sectors()
        kept = self._with(s for n, s in enumerate(sectors) if n != len(sectors) // 2)
        kept.resize(len(self.now))
        return bytes(kept.now)

    def _sectors(self) -> list[tuple[int, bytes]]:
        return [
            (offset + start, data[start : start + _SECTOR])
            for offset, data in self.pending
            for start in range(0, len(data), _SECTOR)
        ]

    def _with(self, sectors: Iterable[tuple[int, bytes]]) -> File:
        kept = File(bytearray(self.durable))
        for offset, data in sectors:
            kept.write(offset, data)
        return kept


@dataclass(eq=False)
class Folder:
    now: dict[str, File | Folder] = field(default_factory=dict)
    durable: dict[str, File | Folder] = field(default_factory=dict)

    def sync(self) -> None:
        self.durable = dict(self.now)

    def sync_names(self, prefix: str) -> None:
        kept = {name: one for name, one in self.durable.items() if not name.startswith(prefix)}
        self.durable = kept | {name: one for name, one in self.now.items() if name.startswith(prefix)}

    def without(self) -> dict[str, File | Folder]:
        """Every removal, but nothing that was added."""
        return {name: one for name, one in self.durable.items() if name in self.now}

    def torn(self, rng: random.Random) -> dict[str, File | Folder]:
        """Each name that changed as it is, or as it was."""
        kept = {}
        for name in sorted(self.now.keys() | self.durable.keys()):
            chosen = rng.choice([self.now, self.durable]).get(name)
            if chosen is not None:
                kept[name] = chosen
        return kept


def loaded(path: Path) -> Folder:
    """A directory of which everything is durable."""
    folder = Folder()
    for entry in path.iterdir():
        if entry.is_dir():
            folder.now[entry.name] = loaded(entry)
        else:
            file = folder.now[entry.name] = File(bytearray(entry.read_bytes()))
            file.sync()
    folder.sync()
    return folder


def _joined(lines: Iterable[str]) -> Iterator[str]:
    """Put calls together that strace wrote in two parts, because another thread called meanwhile."""
    begun: dict[str, str] = {}
    for line in lines:
        pid = line.partition(" ")[0]
        if line.endswith("<unfinished ...>\n"):
            begun[pid] = line.removesuffix("<unfinished ...>\n")
        elif match := _RESUMED.match(line):
            yield begun.pop(pid, "") + match[1]
        else:
            yield line


class Disk:
    """Replays a recording, call by call.

    Parameters
    ----------
    root : Path
        Where the run took place; paths elsewhere do not matter.
    template : Path
        What was there before.
    """

    def __init__(self, root: Path, template: Path) -> None:
        self._root = root
        self.top = loaded(template)
        self.n_acknowledged = 0
        self._open: dict[int, tuple[File | Folder, int]] = {}
        self._of_sqlite: set[int] = set()

    def replay(self, log: Path) -> Iterator[str]:
        """Apply one call after the other; yield its name if it can have changed something."""
        with log.open(encoding="ascii") as lines:
            for line in _joined(lines):
                match = _LINE.match(line)
                if match is None or (int(match[3]) < 0 and match[1] != "rmdir"):
                    continue
                if self._apply(match[1], match[2], int(match[3])):
                    yield match[1]

    def _apply(self, call: str, arguments: str, result: int) -> bool:
        strings = [_text(s) for s in _strings(arguments)]
        fds = _OPEN_FD.findall(arguments)
        if call in {"open", "openat"}:
            return self._opened(self._path(fds, strings[0]), arguments, result)
        if call == "rmdir" and strings[0] == ACKNOWLEDGED:
            self.n_acknowledged += 1
            return False
        known: dict[str, Callable[[], bool]] = {
            "close": lambda: self._open.pop(int(fds[0][0]), None) is None and False,
            "lseek": lambda: self._moved(int(fds[0][0]), result),
            "read": lambda: self._advanced(int(fds[0][0]), result),
            "fsync": lambda: self._synced(int(fds[0][0])),
            "fdatasync": lambda: self._synced(int(fds[0][0])),
            "write": lambda: self._written(int(fds[0][0]), None, _bytes(_strings(arguments)[0])[:result]),
            "pwrite64": lambda: self._written(
                int(fds[0][0]), int(arguments.rpartition(",")[2]), _bytes(_strings(arguments)[0])[:result]
            ),
            "sendfile": lambda: self._sent(fds, arguments, result),
            "ftruncate": lambda: self._resized(int(fds[0][0]), int(arguments.rpartition(",")[2])),
            "mkdir": lambda: self._made(self._path(fds, strings[0])),
            "mkdirat": lambda: self._made(self._path(fds, strings[0])),
            "unlink": lambda: self._removed(self._path(fds, strings[0])),
            "unlinkat": lambda: self._removed(self._path(fds, strings[0])),
            "rmdir": lambda: result == 0 and self._removed(self._path(fds, strings[0])),
            "link": lambda: self._linked(*(self._path(fds, s) for s in strings)),
            "linkat": lambda: self._linked(*(self._path(fds, s) for s in strings)),
            "rename": lambda: self._renamed(*(self._path(fds, s) for s in strings)),
        }
        if call not in known:
            raise NotImplementedError(f"{call}({arguments[:200]}")
        return known[call]()

    def _path(self, fds: list[tuple[str, str]], text: str) -> Path:
        return Path(_text(fds[0][1]) if fds else "/") / text

    def _place(self, path: Path) -> tuple[Folder, str] | None:
        """The folder that a path is in, and its name there; None if it is not below the root."""
        if not path.is_relative_to(self._root) or path == self._root:
            return None
        folder = self.top
        for part in path.relative_to(self._root).parts[:-1]:
            inner = folder.now[part]
            assert isinstance(inner, Folder)
            folder = inner
        return folder, path.name

    def _opened(self, path: Path, arguments: str, result: int) -> bool:
        self._open.pop(result, None)
        self._of_sqlite.discard(result)
        if path == self._root:
            self._open[result] = (self.top, 0)
        place = self._place(path)
        if place is None:
            return False
        folder, name = place
        is_new = name not in folder.now
        if is_new:
            folder.now[name] = File()
        one = folder.now[name]
        if "O_TRUNC" in arguments and isinstance(one, File):
            one.resize(0)
        self._open[result] = (one, 0)
        if isinstance(one, Folder) and "O_DIRECTORY" not in arguments:
            self._of_sqlite.add(result)
        return is_new or "O_TRUNC" in arguments

    def _moved(self, fd: int, offset: int) -> bool:
        if fd in self._open:
            self._open[fd] = (self._open[fd][0], offset)
        return False

    def _advanced(self, fd: int, n: int) -> bool:
        return fd in self._open and self._moved(fd, self._open[fd][1] + n)

    def _synced(self, fd: int) -> bool:
        if fd not in self._open:
            return False
        one = self._open[fd][0]
        if fd in self._of_sqlite and isinstance(one, Folder):
            one.sync_names(_SQLITE_NAMES)
        else:
            one.sync()
        return True

    def _written(self, fd: int, offset: int | None, data: bytes) -> bool:
        if fd not in self._open:
            return False
        one, position = self._open[fd]
        assert isinstance(one, File)
        one.write(position if offset is None else offset, data)
        if offset is None:
            self._moved(fd, position + len(data))
        return True

    def _sent(self, fds: list[tuple[str, str]], arguments: str, n: int) -> bool:
        target, source = int(fds[0][0]), int(fds[1][0])
        if target not in self._open:
            return False
        start = int(re.findall(r"\[(\d+)\]", arguments)[0])
        one = self._open[source][0]
        assert isinstance(one, File)
        return self._written(target, None, bytes(one.now[start : start + n]))

    def _resized(self, fd: int, size: int) -> bool:
        if fd in self._open:
            one = self._open[fd][0]
            assert isinstance(one, File)
            one.resize(size)
        return fd in self._open

    def _made(self, path: Path) -> bool:
        place = self._place(path)
        if place is not None:
            place[0].now[place[1]] = Folder()
        return place is not None

    def _removed(self, path: Path) -> bool:
        place = self._place(path)
        if place is not None:
            del place[0].now[place[1]]
        return place is not None

    def _renamed(self, source: Path, target: Path) -> bool:
        old, new = self._place(source), self._place(target)
        if old is None or new is None:
            return False
        new[0].now[new[1]] = old[0].now.pop(old[1])
        return True

    def _linked(self, source: Path, target: Path) -> bool:
        old, new = self._place(source), self._place(target)
        if old is None or new is None:
            return False
        new[0].now[new[1]] = old[0].now[old[1]]
        return True


def after_cut(top: Folder, how: str, rng: random.Random) -> dict[str, bytes | None]:
    """What a power cut leaves: content by path, None for a directory.

    Parameters
    ----------
    top : Folder
    how : {"nothing", "names", "removals", "holes", "some"}
        Of what was not synced, is left: nothing; every name, but no content; that names were removed;
        everything but a sector of each file; some sectors and names.
    rng : random.Random
    """
    left: dict[str, bytes | None] = {}
    names: dict[str, Callable[[Folder], dict[str, File | Folder]]] = {
        "nothing": lambda folder: folder.durable,
        "names": lambda folder: folder.now,
        "removals": Folder.without,
        "holes": lambda folder: folder.now,
        "some": lambda folder: folder.torn(rng),
    }
    content: dict[str, Callable[[File], bytes]] = {
        "holes": File.with_a_hole,
        "some": lambda file: file.torn(rng),
    }

    def walk(folder: Folder, prefix: str) -> None:
        for name, one in names[how](folder).items():
            if isinstance(one, Folder):
                left[prefix + name] = None
                walk(one, f"{prefix}{name}/")
            else:
                left[prefix + name] = content.get(how, lambda file: file.durable)(one)

    walk(top, "")
    return left


def _strings(arguments: str) -> list[str]:
    found = _STRING.findall(arguments)
    assert not any(cut for _, cut in found), "strace has cut a string short"
    return [text for text, _ in found]


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _text(text: str) -> str:
    return _bytes(text).decode("utf-8", "surrogateescape")
