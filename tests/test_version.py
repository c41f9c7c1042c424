"""The version is written once, and the changelog agrees with it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.version import Version

from plmsearch._version import __version__

REPO = Path(__file__).resolve().parents[1]
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
SECTIONS = re.split(r"^## ", (REPO / "CHANGELOG.md").read_text("utf-8"), flags=re.MULTILINE)[1:]
RELEASED = [
    Version(m[1]) for s in SECTIONS if (m := re.match(r"\[(\d\S*)\] - \d{4}-\d\d-\d\d$", s.splitlines()[0]))
]


def test_what_is_not_released_yet_comes_first():
    assert SECTIONS[0].splitlines()[0] == "[Unreleased]"


def test_every_other_section_is_a_version_with_its_date_newest_first():
    assert len(RELEASED) == len(SECTIONS) - 1
    assert sorted(RELEASED, reverse=True) == RELEASED
    assert len(set(RELEASED)) == len(RELEASED)


def test_the_package_has_the_newest_released_version_or_one_above_it_with_changes_listed():
    version = Version(__version__)
    assert str(version) == __version__, "the version is in normal form"
    newest = RELEASED[0] if RELEASED else Version("0.dev0")
    assert version >= newest
    if version > newest:
        assert "\n- " in SECTIONS[0], "an unreleased version lists its changes"


def test_changes_are_grouped_by_kind():
    for section in SECTIONS:
        assert set(re.findall(r"^### (.+)$", section, flags=re.MULTILINE)) <= KINDS


def test_the_build_takes_the_version_from_the_one_place():
    pyproject = tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))
    assert pyproject["project"]["dynamic"] == ["version"]
    assert pyproject["tool"]["hatch"]["version"]["path"] == "plmsearch/_version.py"
    elsewhere = [p for p in (REPO / "plmsearch").rglob("*.py") if f'"{__version__}"' in p.read_text("utf-8")]
    assert elsewhere == [REPO / "plmsearch" / "_version.py"]
