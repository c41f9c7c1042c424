"""The one door for input: formats found by content, streams kept, passes repeatable."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import subprocess
import sys
import threading

import pytest
import zstandard
from support import gz

from plmsearch.errors import FileFormatError, InputNotFoundError, StorageError, TableFormatError
from plmsearch.formats.read import open_input

FASTA = b">a one\nEVQ\n>b\nLVE\n"
zstd = zstandard.ZstdCompressor().compress


@pytest.fixture
def given_file(tmp_path):
    def write(content: bytes, name: str = "input"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


@pytest.fixture
def stdin(monkeypatch):
    def give(content: bytes):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))

    return give


def parquet_bytes():
    import polars as pl

    out = io.BytesIO()
    pl.DataFrame({"id": ["a"], "seq": ["EVQ"]}).write_parquet(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "expected", "columns"),
    [
        (FASTA, "fasta", ()),
        (gz(FASTA), "fasta", ()),
        (zstd(FASTA), "fasta", ()),
        (b"id,seq\na,EVQ\n", "csv", ("id", "seq")),
        (b"id\tseq\na\tEVQ\n", "tsv", ("id", "seq")),
        (gz(b"id\tseq\na\tEVQ\n"), "tsv", ("id", "seq")),
        (
            b"sequence_id\tv_call\tsequence_aa\na\tIGHV1\tEVQ\n",
            "airr",
            ("sequence_id", "v_call", "sequence_aa"),
        ),
    ],
)
def test_the_format_is_found_by_content_not_by_name(given_file, content, expected, columns):
    with open_input(given_file(content, "x.fasta.gz")) as opened:
        assert (opened.format, opened.columns) == (expected, columns)
        assert next(iter(opened)).sequence == "EVQ"


def test_parquet_is_found_by_its_magic(given_file):
    with open_input(given_file(parquet_bytes(), "x.csv")) as opened:
        assert (opened.format, opened.columns) == ("parquet", ("id", "seq"))
        assert [(r.record_id, r.sequence) for r in opened] == [("a", "EVQ")]


def test_an_input_can_be_read_more_than_once_and_says_where_each_record_was(given_file):
    path = given_file(FASTA)
    with open_input(path) as opened:
        first, second = list(opened), list(opened)
    assert first == second
    assert [(r.source, r.row) for r in first] == [(str(path), 1), (str(path), 2)]


def test_size_and_hash_are_of_the_bytes_as_they_are(given_file):
    packed = gz(FASTA)
    with open_input(given_file(packed)) as opened:
        assert opened.size_bytes == len(packed)
        assert opened.sha256() == hashlib.sha256(packed).hexdigest()


@pytest.mark.parametrize("content", [FASTA, gz(FASTA), parquet_bytes(), b"id,seq\r\na,EVQ\r\n"])
def test_standard_input_is_kept_byte_for_byte_until_closed(stdin, tmp_path, content):
    stdin(content)
    with open_input("-", spool_dir=tmp_path) as opened:
        assert opened.name == "stdin"
        assert opened.path.parent == tmp_path
        assert opened.path.read_bytes() == content
        assert list(opened) == list(opened) != []
        assert {r.source for r in opened} == {"stdin"}
    assert list(tmp_path.iterdir()) == []


def test_standard_input_that_is_refused_leaves_nothing_behind(stdin, tmp_path):
    stdin(b"")
    with pytest.raises(FileFormatError, match="stdin: is empty"):
        open_input("-", spool_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_standard_input_works_in_a_real_pipe():
    code = (
        "from plmsearch.formats.read import open_input\n"
        "with open_input('-') as opened: print([r.record_id for r in opened])"
    )
    done = subprocess.run([sys.executable, "-c", code], input=gz(FASTA), capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"['a', 'b']\n", b"")


def test_closed_standard_input_is_not_found(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputNotFoundError, match="standard input is closed"):
        open_input("-")


def test_a_named_pipe_is_read_once_and_kept(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(FASTA,))
    writer.start()
    with open_input(pipe) as opened:
        assert [r.record_id for r in opened] == [r.record_id for r in opened] == ["a", "b"]
        assert opened.name == str(pipe)
    writer.join()


def test_no_room_for_standard_input_is_a_storage_error(stdin, tmp_path):
    with pytest.raises(StorageError, match="no such file"):
        stdin(FASTA)
        open_input("-", spool_dir=tmp_path / "none")
    stdin(b">a\n" + b"E" * 200_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(StorageError, match="cannot copy stdin: file too large"):
            open_input("-", spool_dir=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (gz(b""), "is empty"),
        (b"\n\n  \n", "holds only blank lines"),
        (b"@a\nACGT\n+\nIIII\n", "is FASTQ"),
        (b"\xef\xbb\xbf>a\nEV\n", "byte order mark"),
        (b"\n\n>a\nEV\n", "begins with white space"),
        (b"EVQLVESGG\n", "is neither FASTA nor a table"),
        (b"@words\n", "is neither FASTA nor a table"),
        (bytes(range(256)) * 10, "is a binary file"),
        (b"\x89HDF\r\n\x1a\n\0\0", "is an HDF5 file"),
        (gz(parquet_bytes()), "is a binary file"),
        (gz(FASTA)[:-3], "truncated"),
    ],
)
def test_what_cannot_be_read_is_refused_when_opened(given_file, content, reason):
    with pytest.raises(FileFormatError, match=reason):
        open_input(given_file(content))


def test_a_missing_file_and_a_directory_are_not_found(tmp_path):
    for path, reason in ((tmp_path / "none", "no such file"), (tmp_path, "is a directory")):
        with pytest.raises(InputNotFoundError, match=reason):
            open_input(path)


def test_columns_named_for_fasta_are_refused(given_file):
    with pytest.raises(FileFormatError, match="--id-col and --seq-col are for tables"):
        open_input(given_file(FASTA), id_col="id")


def test_columns_are_checked_when_opened(given_file):
    with pytest.raises(TableFormatError, match="no column 'VH'"):
        open_input(given_file(b"id,seq\na,EV\n"), seq_col="VH")


def test_a_named_sequence_column_overrides_the_airr_order(given_file):
    path = given_file(b"sequence_id\tcell_id\tv_call\tsequence_aa\tfv\na\tc1\tIGHV1\tEVQLV\tEV\n")
    with open_input(path, seq_col="fv") as opened:
        assert opened.format == "tsv"
        assert [(r.record_id, r.sequence) for r in opened] == [("a", "EV")]
    with open_input(path, id_col="cell_id") as opened:
        assert opened.format == "airr"
        assert [(r.record_id, r.sequence) for r in opened] == [("c1", "EVQLV")]


def test_importing_the_readers_loads_neither_parser_nor_torch():
    code = (
        "import sys, plmsearch.formats.read, plmsearch.formats.hits\n"
        "print([m for m in ('needletail', 'polars', 'zstandard', 'rich', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
