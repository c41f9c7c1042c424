"""Every input that can go wrong, with its documented outcome: an exit code and a message, no traceback."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import esm_checkpoints as tiny
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import (
    DNA,
    VH,
    VL,
    all_vectors,
    break_seal,
    cli,
    contents,
    gz,
    ledger,
    make_db,
    peptides,
    write_fasta,
)

A, B, C = peptides(3, seed=8)


def fasta(*entries: tuple[str, str], end: str = "\n") -> bytes:
    return "".join(f">{header}{end}{residues}{end}" for header, residues in entries).encode()


@dataclass(frozen=True)
class Case:
    """A file and what becomes of it; `{file}` in a message stands for its path."""

    name: str
    data: bytes
    code: int
    said: tuple[str, ...] = ()
    file: str = "in.fasta"
    flags: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


PLACE = "record 'bad' ({file}, record 2): "
SKIP = ("--on-invalid", "skip")
REFUSED = [
    Case("empty file", b"", 1, ("{file}: is empty",)),
    Case("blank lines only", b"\n\n  \n", 1, ("{file}: holds only blank lines",)),
    Case(
        "truncated gzip",
        gz(fasta(*((f"r{i}", s) for i, s in enumerate(peptides(500)))))[:-300],
        1,
        ("{file}: ", "truncated", "fetch it again"),
        file="in.fasta.gz",
    ),
    Case(
        "damaged gzip",
        b"\x1f\x8b\x08\x00" + b"x" * 200,
        1,
        ("{file}: ", "damaged"),
        file="in.fasta.gz",
    ),
    Case("dna", fasta(("ok", A), ("bad", DNA)), 1, (PLACE, "nucleotide", "translate it to amino acids")),
    Case("stop inside", fasta(("ok", A), ("bad", "EV*QL")), 1, (PLACE, "'*' at residue 3", "--on-invalid")),
    Case("digit", fasta(("ok", A), ("bad", "EVQ7L")), 1, (PLACE, "'7' at residue 4", "--on-invalid")),
    Case(
        "0-length record inside",
        fasta(("ok", A), ("bad", ""), ("c", B)),
        1,
        (PLACE, "empty", "remove the record, or pass --on-invalid skip"),
    ),
    Case(
        "0-length record at the end",
        fasta(("ok", A), ("fine", B)) + b">bad\n",
        1,
        ("{file}: the last record (number 3) has no sequence", "truncated", "remove the last header"),
    ),
    Case("record of gaps", fasta(("ok", A), ("bad", "----")), 1, (PLACE, "empty")),
    Case("header without an id", fasta(("ok", A), ("", B)), 1, ("{file}: record 2 has no id",)),
    Case("binary file", bytes(range(256)) * 4, 1, ("{file}: ", "binary")),
    Case("binary after a good start", fasta(("ok", A)) + b">x\nEV\0QL\n", 1, ("{file}: ", "binary")),
    Case("executable", b"\x7fELF\x02\x01\x01" + bytes(64), 1, ("{file}: ", "binary")),
    Case("not utf-8", b">\xff\xfe\xe9\nEVQL\n", 1, ("{file}: record 1 is not UTF-8",)),
    Case("utf-16", "﻿>a\nEVQL\n".encode("utf-16-le"), 1, ("{file}: is UTF-16",)),
    Case("workbook", b"PK\x03\x04" + bytes(60), 1, ("{file}: is a zip archive or an Excel workbook",)),
    Case("bzip2", b"BZh91AY&SY" + bytes(40), 1, ("{file}: is compressed with bzip2",)),
    Case("fastq", b"@r\nACGT\n+\nIIII\n", 1, ("{file}: is FASTQ", "give amino acids")),
    Case("prose", b"Dear reader\nhow are you?\n", 1, ("{file}: is neither FASTA nor a table",)),
    Case("a table of no such columns", b"x,y\n1,2\n", 1, ("no sequence column", "--seq-col"), "in.csv"),
    Case(
        "a ragged table", b"id,sequence\na,EVQL\nb\n", 1, ("line 3 has 1 cells, the header has 2",), "in.csv"
    ),
    Case("a header alone", b"id,sequence\n", 1, ("has a header but no rows",), "in.csv"),
    Case("a row without an id", b"id,sequence\n,EVQL\n", 1, ("line 2 has no id",), "in.csv"),
    Case("a missing sequence", f"id,sequence\na,{A}\nbad,NA\n".encode(), 1, (PLACE, "empty"), "in.csv"),
    Case("a broken parquet", b"PAR1" + bytes(40), 1, ("{file}: ",), "in.parquet"),
]
TAKEN = [
    Case("stop at the end", fasta(("a", A + "*")), 0, ("1 row: the final * dropped",)),
    Case("lower case", fasta(("a", A.lower()), ("b", B)), 0, ("1 row: lower-case letters raised",)),
    Case("gaps", fasta(("a", f"-{A[:5]}..{A[5:]}--")), 0, ("1 row: alignment gaps removed",)),
    Case("windows line ends", fasta(("a", A), ("b", B), end="\r\n"), 0),
    Case("windows table", f"id,sequence\r\na,{A}\r\n".encode(), 0, (), "in.csv"),
    Case("no newline at the end", f">a\n{A}".encode(), 0),
    Case("letters beyond the 20", fasta(("a", A + "XBZUOJ")), 0),
    Case(
        "masked",
        fasta(("a", "EV*QL")),
        0,
        ("1 row: invalid letters read as X",),
        flags=("--on-invalid", "mask"),
    ),
    Case("dna left out", fasta(("ok", A), ("bad", DNA)), 3, ("left out: " + PLACE,), flags=SKIP),
    Case("stop inside left out", fasta(("ok", A), ("bad", "E*V")), 3, ("left out: " + PLACE,), flags=SKIP),
    Case("empty left out", fasta(("ok", A), ("bad", ""), ("c", B)), 3, ("left out: " + PLACE,), flags=SKIP),
    Case("everything left out", fasta(("bad1", DNA), ("bad2", "E*V")), 3, ("'bad1'", "'bad2'"), flags=SKIP),
]


def written(folder: Path, case: Case) -> Path:
    path = folder / case.file
    path.write_bytes(case.data)
    return path


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_db(tmp_path_factory.mktemp("template") / "db", [("heavy", VH), ("light", VL)])


# --- Files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_index_refuses_it_by_place_and_reason_and_makes_nothing(tmp_path, case):
    source = written(tmp_path, case)
    ended = cli("index", tmp_path / "db", source, "-m", "kmer", *case.flags)
    assert (ended.code, ended.out) == (case.code, "")
    for said in case.said:
        assert said.format(file=source) in ended.err
    assert len(ended.err.splitlines()) == 1
    assert not (tmp_path / "db").exists()


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_query_refuses_it_in_the_same_words_and_prints_no_hit(tmp_path, template, case):
    source = written(tmp_path, case)
    ended = cli("query", template, source, *case.flags)
    assert (ended.code, ended.out) == (case.code, "")
    for said in case.said:
        assert said.format(file=source) in ended.err


@pytest.mark.parametrize("case", TAKEN, ids=str)
def test_index_takes_it_and_says_what_was_changed_or_left_out(tmp_path, case):
    source = written(tmp_path, case)
    ended = cli("index", tmp_path / "db", source, "-m", "kmer", *case.flags)
    assert (ended.code, ended.out) == (case.code, "")
    for said in case.said:
        assert said.format(file=source) in ended.err
    for residues, _, _ in contents(tmp_path / "db").values():
        assert residues.isalpha()
        assert residues.isupper()


@pytest.mark.parametrize("case", TAKEN, ids=str)
def test_query_takes_it_and_says_the_same(tmp_path, template, case):
    source = written(tmp_path, case)
    ended = cli("query", template, source, "-k", 1, *case.flags)
    assert ended.code == case.code
    for said in case.said:
        assert said.format(file=source) in ended.err
    assert {row[0] for row in ended.rows} <= {"a", "b", "ok", "c"}


@pytest.mark.parametrize(
    ("verb", "path", "said"),
    [
        *((verb, "absent.fasta", "no such file") for verb in ("index", "query")),
        *((verb, ".", "is a directory") for verb in ("index", "query")),
        *((verb, "x\0y", "null") for verb in ("index", "query")),
        ("index", "db", "is a directory"),  # a query of a database is tested in test_all_pairs
    ],
)
def test_a_path_that_is_no_file_is_an_error_that_names_it(tmp_path, template, monkeypatch, verb, path, said):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(template, "db")
    before = contents(Path("db"))
    ended = cli(verb, "db", path)
    assert (ended.code, ended.out) == (1, "")
    assert repr(path) in ended.err
    assert said in ended.err
    assert contents(Path("db")) == before


def test_one_bad_file_among_several_stops_all_of_them(tmp_path):
    good, bad = tmp_path / "good.fasta", tmp_path / "bad.fasta"
    good.write_bytes(fasta(("a", A)))
    bad.write_bytes(fasta(("b", "E*V")))
    ended = cli("index", tmp_path / "db", good, bad, "-m", "kmer")
    assert ended.code == 1
    assert "bad.fasta" in ended.err
    assert not (tmp_path / "db").exists()


@pytest.mark.parametrize("verb", ["index", "query"])
def test_standard_input_is_judged_like_a_file(tmp_path, template, verb):
    db = shutil.copytree(template, tmp_path / "db")
    for data, code, said in (
        (b"", 1, "stdin: is empty"),
        (fasta(("ok", A), ("bad", DNA)), 1, "record 'bad' (stdin, record 2)"),
        (gz(fasta(("ok", A)))[:-6], 1, "stdin: "),
        (fasta(("ok", A)), 0, ""),
    ):
        ended = cli(verb, db, "-", stdin=data)
        assert ended.code == code
        assert said in ended.err


def test_an_input_without_a_usable_row_cannot_choose_a_model_and_says_how_to_see_why(tmp_path):
    source = write_fasta(tmp_path / "in.fasta", [("bad1", DNA), ("bad2", "E*V")])
    ended = cli("index", tmp_path / "db", source, *SKIP)
    assert ended.code == 1
    assert "no row of the input holds a usable sequence; without --on-invalid skip" in ended.err
    assert not (tmp_path / "db").exists()
    assert "record 'bad1'" in cli("index", tmp_path / "db", source).err


# --- Names ---------------------------------------------------------------------------------------

#: What a FASTA header or a table cell may hold, and the id and description that come of it.
HEADERS = {
    "sp|P12345|ALBU_HUMAN Albumin OS=Homo sapiens": ("sp|P12345|ALBU_HUMAN", "Albumin OS=Homo sapiens"),
    'q"uote\'s "here" too': ("q\"uote's", '"here" too'),
    "tab\tafter": ("tab", "after"),
    "Ünïcødé-抗体-🧬 läng": ("Ünïcødé-抗体-🧬", "läng"),
    "a\\b $HOME %s {x}": ("a\\b", "$HOME %s {x}"),
    "-starts-with-a-dash": ("-starts-with-a-dash", ""),
    "[bold]markup[/bold]": ("[bold]markup[/bold]", ""),
}


def test_odd_names_are_kept_searched_and_printed(tmp_path):
    sequences = peptides(len(HEADERS), seed=4)
    source = write_fasta(tmp_path / "in.fasta", zip(HEADERS, sequences, strict=True))
    assert cli("index", tmp_path / "db", source, "-m", "kmer").code == 0
    stored = contents(tmp_path / "db")
    assert {(i, d) for i, (_, d, _) in stored.items()} == set(HEADERS.values())
    for kind in ("tsv", "csv", "jsonl", "table", "fasta"):
        ended = cli("query", tmp_path / "db", source, "-k", 1, "--format", kind)
        assert ended.code == 0
        assert "Ünïcødé" in ended.out
    ended = cli("query", tmp_path / "db", source, "-k", 1)
    ids = [record_id.replace("\\", "\\\\") for record_id, _ in HEADERS.values()]
    assert [row[:2] for row in ended.rows] == [[record_id, record_id] for record_id in ids]
    for record_id, _ in HEADERS.values():
        assert cli("query", tmp_path / "db", f"--id={record_id}", "-k", 1).code == 0


def test_ids_of_a_table_may_hold_spaces_and_tabs(tmp_path):
    source = tmp_path / "in.csv"
    source.write_text(f'id,sequence,note\n"two words",{A},"say ""hi"""\n"tab\tid",{B},\n', encoding="utf-8")
    assert cli("index", tmp_path / "db", source, "-m", "kmer").code == 0
    assert contents(tmp_path / "db") == {
        "two words": (A, "", {"note": 'say "hi"'}),
        "tab\tid": (B, "", {}),
    }
    rows = cli("query", tmp_path / "db", source, "-k", 1).rows
    assert [row[0] for row in rows] == ["two words", "tab\\tid"]


def test_duplicate_ids_are_renamed_in_a_database_and_kept_in_a_query(tmp_path):
    source = write_fasta(tmp_path / "in.fasta", [("x", A), ("x", B), ("x", A)])
    ended = cli("index", tmp_path / "db", source, "-m", "kmer")
    assert ended.code == 0
    assert "1 added, 1 renamed, 1 already present" in ended.err
    assert [row[:2] for row in cli("query", tmp_path / "db", source, "-k", 1).rows] == [
        ["x", "x"],
        ["x", "x_2"],
        ["x", "x"],
    ]


# --- Long sequences ------------------------------------------------------------------------------

LONG = "".join(peptides(1, seed=6, shortest=30_000, longest=30_000))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_esm2(tmp_path_factory.mktemp("esm") / "tiny.pt", n_layers=1, dim=8, heads=2)


@pytest.fixture
def long_input(tmp_path: Path) -> Path:
    return write_fasta(tmp_path / "in.fasta", [("short", A), ("long", LONG)])


LONG_OUTCOMES = [
    (None, 0, "1 sequence longer than the model reads: overlapping windows", {"short", "long"}),
    ("window", 0, "1 sequence longer than the model reads: overlapping windows", {"short", "long"}),
    ("truncate", 0, "1 sequence truncated to what the model reads", {"short", "long"}),
    ("skip", 3, "left out: record 'long' ({file}, record 2): 30000 residues, the model reads", {"short"}),
    ("error", 1, "record 'long' ({file}, record 2): 30000 residues, the model reads", set()),
]


@pytest.mark.parametrize(("policy", "code", "said", "ids"), LONG_OUTCOMES)
def test_a_record_of_30000_residues_is_read_as_asked(
    tmp_path, checkpoint, long_input, policy, code, said, ids
):
    flags = () if policy is None else ("--long", policy)
    made = ("index", tmp_path / "db", long_input, "-m", "esm2", "--weights", checkpoint, *flags)
    ended = cli(*made)
    assert ended.code == code
    assert said.format(file=long_input) in ended.err
    if not ids:
        assert not (tmp_path / "db").exists()
        return
    assert contents(tmp_path / "db").keys() == ids
    asked = cli("query", tmp_path / "db", long_input, "--weights", checkpoint, "-k", 1, *flags)
    assert asked.code == code
    assert [row[:2] for row in asked.rows] == [[i, i] for i in ("short", "long") if i in ids]
    if code == 0:
        assert said in asked.err
        (notes,) = (json.loads(str(r["notes"])) for r in ledger(tmp_path / "db", 1) if r["notes"])
        assert list(notes) == ["truncated_to" if policy == "truncate" else "windows"]


def test_a_window_mean_is_of_the_whole_sequence_and_a_truncated_one_is_not(tmp_path, checkpoint, long_input):
    for name, source in (("db", long_input), ("head", None)):
        given = source or write_fasta(tmp_path / "head.fasta", [("short", A), ("long", LONG[:1022])])
        for policy in ("window", "truncate"):
            path = tmp_path / f"{name}-{policy}"
            assert (
                cli("index", path, given, "-m", "esm2", "--weights", checkpoint, "--long", policy).code == 0
            )

    def vector(name: str):
        (space,) = all_vectors(tmp_path / name).values()
        return space["long"]

    assert abs(vector("db-truncate") - vector("head-truncate")).max() <= 1e-5
    assert abs(vector("db-window") - vector("head-window")).max() > 1e-3


def test_a_model_without_a_practical_limit_just_reads_it(tmp_path, long_input):
    ended = cli("index", tmp_path / "db", long_input, "-m", "kmer")
    assert ended.code == 0
    assert "window" not in ended.err
    assert [row[1] for row in cli("query", tmp_path / "db", long_input, "-k", 1).rows] == ["short", "long"]


# --- Databases -----------------------------------------------------------------------------------


def damage_marker(path: Path) -> None:
    (path / "plmsearch.json").write_text("{")


def newer_format(path: Path) -> None:
    marker = path / "plmsearch.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "format_version": 2}))


def set_schema(path: Path, version: str) -> None:
    connection = sqlite3.connect(path / "catalog.sqlite")
    connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
    connection.commit()
    connection.close()
    break_seal(path)


DATABASES = {
    "newer format": (
        newer_format,
        "has version format 2, this plmsearch reads up to format 1; install a newer",
    ),
    "newer schema": (lambda p: set_schema(p, "9999"), "has version schema 9999"),
    "older schema": (lambda p: set_schema(p, "0000"), "is at schema 0000, this plmsearch needs"),
    "damaged marker": (damage_marker, "plmsearch.json cannot be read"),
    "no catalog": (lambda p: (p / "catalog.sqlite").unlink(), "catalog.sqlite"),
    "no database in it": (lambda p: (p / "catalog.sqlite").write_bytes(b"text " * 99), "catalog.sqlite"),
    "not there": (shutil.rmtree, "no database at"),
    "a file": (lambda p: (shutil.rmtree(p), p.write_text("text")), "it is a file"),
    "other files": (
        lambda p: (shutil.rmtree(p), p.mkdir(), (p / "thesis.tex").touch()),
        "is not a plmsearch",
    ),
}


@pytest.mark.parametrize("verb", ["info", "query", "embed", "index"])
@pytest.mark.parametrize(("change", "said"), DATABASES.values(), ids=DATABASES)
def test_a_database_that_cannot_be_read_here_is_refused_by_every_command(
    tmp_path, template, verb, change, said
):
    path = Path(shutil.copytree(template, tmp_path / "db"))
    change(path)
    source = write_fasta(tmp_path / "in.fasta", [("a", A)])
    arguments = {"info": (), "query": (source,), "embed": ("--layers", "0"), "index": (source, "-m", "kmer")}
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    ended = cli(verb, path, *arguments[verb])
    if verb == "index" and said.startswith("no database"):
        assert ended.code == 0, "index creates it"
        return
    if verb == "embed" and path.is_file():
        assert ended.code == 2, "a file is an INPUT"
        return
    assert (ended.code, ended.out) == (1, "")
    assert said in ended.err
    assert str(path) in ended.err
    kept = {p: p.read_bytes() for p in path.rglob("*") if p.is_file() and p in before}
    assert kept == {p: data for p, data in before.items() if p in kept}
    assert {p.name for p in before} - {p.name for p in kept} <= {"catalog.sqlite-wal", "catalog.sqlite-shm"}


def test_a_database_of_another_model_is_named_with_both_spaces_and_the_command(tmp_path, template):
    path = Path(shutil.copytree(template, tmp_path / "db"))
    source = write_fasta(tmp_path / "in.fasta", [("a", VH)])
    for verb in ("index", "query"):
        ended = cli(verb, path, source, "--model", "antiberty")
        assert (ended.code, ended.out) == (1, "")
        for said in (
            "mismatch",
            "model antiberty",
            "model kmer",
            f"plmsearch embed {path} --model antiberty",
        ):
            assert said in ended.err


@pytest.mark.parametrize(
    ("k", "code", "n_rows"), [(0, 2, 0), (-1, 2, 0), (1, 0, 1), (2, 0, 2), (10**9, 0, 2)]
)
def test_k_of_0_is_usage_and_k_above_the_number_of_records_is_fewer_rows(template, k, code, n_rows):
    ended = cli("query", template, "--id", "heavy", "-k", k)
    assert ended.code == code
    assert len(ended.rows) == n_rows


# --- Another user --------------------------------------------------------------------------------

#: Runs commands as a user who owns nothing. Everything is imported before, for that user may not be
#: allowed to read the interpreter's own files.
AS_NOBODY = """
import json, os, sys, tempfile
from pathlib import Path
from typer.testing import CliRunner
from plmsearch.cli.app import app

def run(*arguments):
    ended = CliRunner().invoke(app, arguments)
    return [ended.exit_code, ended.stdout, ended.stderr, repr(ended.exception)]

with tempfile.TemporaryDirectory() as folder:
    db, source = folder + "/db", folder + "/in.fasta"
    Path(source).write_text(">a\\nEVQLVESGGGLVQPGGSLRL\\n")
    for arguments in (
        ("index", db, source, "-m", "kmer"), ("embed", db, "--layers", "0"), ("info", db), ("query", db),
        ("query", db, source, "-o", folder + "/hits.tsv"),
        ("embed", source, "-m", "kmer", "-o", folder + "/x.npz"),
    ):
        run(*arguments)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
json.dump([run(*arguments) for arguments in json.load(sys.stdin)], sys.stdout)
"""


@pytest.fixture(scope="module")
def public() -> Iterator[Path]:
    """A folder that everybody may enter, with a database and files that only its owner may write."""
    with tempfile.TemporaryDirectory(prefix="plmsearch-test-") as name:
        folder = Path(name)
        make_db(folder / "db", [("heavy", VH), ("light", VL)])
        (folder / "secret").mkdir()
        for inside in (folder, folder / "secret"):
            write_fasta(inside / "in.fasta", [("a", VH)])
        write_fasta(folder / "private.fasta", [("a", VH)])
        make_db(folder / "secret" / "db", [("heavy", VH)])
        for path in folder.rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
        (folder / "private.fasta").chmod(0)
        (folder / "secret").chmod(0)
        folder.chmod(0o555)
        yield folder
        (folder / "secret").chmod(0o755)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)


def test_what_a_user_may_not_read_or_write_is_named_and_reading_still_works(public):
    cases: list[tuple[tuple[str, ...], int, str]] = [
        (("index", "db", "in.fasta"), 1, "cannot write to '{}/db': permission denied; check its owner"),
        (("index", "new", "in.fasta"), 1, "cannot write to '{}': permission denied"),
        (("embed", "db", "--layers=0"), 1, "cannot write to '{}/db': permission denied"),
        (("query", "db", "in.fasta"), 0, ""),
        (("info", "db"), 0, ""),
        (("query", "db", "private.fasta"), 1, "cannot read '{}/private.fasta': permission denied"),
        (("query", "db", "secret/in.fasta"), 1, "cannot read '{}/secret/in.fasta': permission denied"),
        (("query", "db", "in.fasta", "--output=hits.tsv"), 1, "'{}/hits.tsv': cannot be written: permission"),
        (("embed", "in.fasta", "--model=kmer", "--output=x.npz"), 1, "cannot be written: permission denied"),
        (("embed", "secret/in.fasta", "--model=kmer", "--output=x.npz"), 1, "Permission denied"),
        (("info", "secret/db"), 1, "'{}/secret/db/plmsearch.json': Permission denied"),
        (("query", "secret/db", "in.fasta"), 1, "Permission denied"),
        (("index", "secret/db", "in.fasta"), 1, "Permission denied"),
        (("index", "secret/new", "in.fasta"), 1, "Permission denied"),
    ]
    before = {p: p.read_bytes() for p in (public / "db").rglob("*") if p.is_file()}
    commands = [
        [verb, *(a if a[0] == "-" and "put=" not in a else placed(public, a) for a in rest)]
        for (verb, *rest), _, _ in cases
    ]
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=True,
    )
    for (command, code, said), (got, out, err, exception) in zip(cases, json.loads(done.stdout), strict=True):
        assert got == code, (command, err, exception)
        assert said.format(public) in err, (command, err)
        assert "internal error" not in err, (command, err)
        assert bool(out) == (code == 0), command
        if command[0] == "query" and code == 0:
            assert out.splitlines()[1].startswith("a\theavy\t1\t1.000000")
    assert {p: p.read_bytes() for p in (public / "db").rglob("*") if p.is_file()} == before


def placed(folder: Path, argument: str) -> str:
    flag, equals, name = argument.rpartition("=")
    return f"{flag}{equals}{folder / name}"


def test_a_path_too_long_for_the_system_is_an_error(tmp_path, template):
    for arguments in (("info",), ("index", write_fasta(tmp_path / "in.fasta", [("a", A)]))):
        verb, *rest = arguments
        ended = cli(verb, tmp_path / ("x" * 300), *rest)
        assert ended.code == 1
        assert "File name too long" in ended.err


# --- Anything at all -----------------------------------------------------------------------------

# fmt: off
PIECES = st.sampled_from([
    b">", b"a", b"\n", b"\r\n", b"EVQLVESG", b"*", b"-", b" ", b"\t", b",", b'"', b"\0", b"\xff", b"\xc3\xa9",
    b"id", b"sequence", b"\x1f\x8b\x08", b"PAR1", b"\x28\xb5\x2f\xfd", b"\xef\xbb\xbf", b"@", b"+", b";",
    b"7", b">x\nEVQL\n", b"id\tsequence\n", b"id,sequence\na,EVQL\n", DNA.encode(),
])
# fmt: on
ANYTHING = st.binary(max_size=200) | st.lists(PIECES, max_size=25).map(b"".join)
SUFFIX = st.sampled_from([".fasta", ".csv", ".tsv", ".gz", ".zst", ".parquet", ""])
POLICY = st.sampled_from([(), SKIP, ("--on-invalid", "mask"), ("--id-col", "id", "--seq-col", "sequence")])


@settings(max_examples=50)
@given(data=ANYTHING | ANYTHING.map(gzip.compress), suffix=SUFFIX, policy=POLICY)
def test_any_bytes_as_a_query_end_in_a_documented_exit_code(template, data, suffix, policy):
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / f"in{suffix}"
        source.write_bytes(data)
        ended = cli("query", template, source, *policy)
    assert ended.code in {0, 1, 3}
    assert bool(ended.err) or ended.code == 0
    assert bool(ended.out) == (ended.code != 1)


@settings(max_examples=15)
@given(data=ANYTHING, suffix=SUFFIX, policy=POLICY)
def test_any_bytes_as_an_input_end_in_a_documented_exit_code_and_lose_no_record(
    template, data, suffix, policy
):
    with tempfile.TemporaryDirectory() as folder:
        source, db = Path(folder) / f"in{suffix}", Path(shutil.copytree(template, Path(folder) / "db"))
        source.write_bytes(data)
        ended = cli("index", db, source, *policy)
        assert ended.code in {0, 1, 3}
        assert (ended.out, bool(ended.err)) == ("", True)
        assert contents(db).keys() >= {"heavy", "light"}
        assert ended.code != 1 or len(contents(db)) == 2
