"""What is shipped, and with what it was tested. Installing the wheel is `make wheel-test`."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from plmsearch._version import __version__

REPO = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))["project"]


def build(source: Path, kind: str, out: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(REPO, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel as an installer builds it: out of the source distribution, not of the checkout."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    with zipfile.ZipFile(build(source, "wheel", tmp_path_factory.mktemp("wheel"))) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return email.message_from_bytes(wheel.read(f"plmsearch-{__version__}.dist-info/METADATA"))


def files_below(folder: str) -> set[str]:
    paths = (p.relative_to(REPO) for p in (REPO / folder).rglob("*") if p.is_file())
    return {p.as_posix() for p in paths if "__pycache__" not in p.parts}


# --- Contents ------------------------------------------------------------------------------------


def test_the_wheel_holds_the_package_with_its_migrations_and_nothing_else(wheel):
    shipped = {n for n in wheel.namelist() if not n.startswith(f"plmsearch-{__version__}.dist-info/")}
    assert shipped == files_below("plmsearch") | {f"plmsearch/{name}" for name in files_below("migrations")}


def test_what_the_program_reads_at_run_time_is_in_the_wheel(wheel):
    names = wheel.namelist()
    assert {"plmsearch/py.typed", "plmsearch/migrations/env.py"} <= set(names)
    assert [n for n in names if re.fullmatch(r"plmsearch/migrations/versions/\w+\.py", n)]


def test_the_wheel_is_small(wheel):
    assert sum(info.compress_size for info in wheel.infolist()) < 1_500_000


def test_the_source_distribution_can_be_tested(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"Makefile", "constraints.txt", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"}
    assert wanted | files_below("tests") | files_below("scripts") | files_below("examples") <= names


# --- Metadata ------------------------------------------------------------------------------------


def test_the_metadata_says_what_the_package_is(metadata):
    assert metadata["Name"] == "plmsearch"
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata.get_payload().startswith("# plmsearch")


def test_the_wheel_brings_the_command(wheel):
    text = wheel.read(f"plmsearch-{__version__}.dist-info/entry_points.txt").decode()
    assert "plmsearch = plmsearch.cli:main" in text


# --- Tested versions -----------------------------------------------------------------------------


def pins() -> dict[str, str]:
    lines = (REPO / "constraints.txt").read_text("utf-8").splitlines()
    found = [
        re.fullmatch(r"([\w.-]+)==([\w.]+)", line) for line in lines if line and not line.startswith("#")
    ]
    assert all(found), "each line is name==version: no path, no address, no local version"
    return {canonicalize_name(m[1]): m[2] for m in found if m}


def requirements() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(line) for line in [*PROJECT["dependencies"], *(r for extra in extras for r in extra)]]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_dependency_is_pinned_within_its_range(requirement):
    pinned = pins().get(canonicalize_name(requirement.name))
    assert pinned is not None, f"constraints.txt lacks {requirement.name}"
    assert requirement.specifier.contains(pinned)


def test_the_pins_are_sorted_and_distinct():
    lines = (REPO / "constraints.txt").read_text("utf-8").splitlines()
    names = [
        canonicalize_name(line.partition("==")[0]) for line in lines if line and not line.startswith("#")
    ]
    assert names == sorted(set(names))
