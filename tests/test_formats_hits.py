"""Writers of hits: what is read back is what was written, and no half of a file stays."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import resource
import stat
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plmsearch.errors import ParameterError, StorageError
from plmsearch.formats.hits import (
    ALIGNED_HIT_COLUMNS,
    COLUMN_TYPES,
    DEFAULT_HIT_COLUMNS,
    HIT_FORMATS,
    write_hits,
)
from plmsearch.formats.output import open_output

HIT = {
    "query": "q1",
    "target": "sp|P1|X",
    "rank": 1,
    "score": 0.98765432198,
    "emb_pvalue": 1.23456e-45,
    "emb_evalue": None,
    "description": "heavy chain",
}


def written(rows, columns, name, **options):
    out = io.StringIO(newline="")
    write_hits(rows, columns, name, out, **options)
    return out.getvalue()


# --- Formats -------------------------------------------------------------------------------------


def test_the_default_tsv_has_a_header_fixed_columns_and_rounded_floats():
    assert written([HIT], DEFAULT_HIT_COLUMNS, "tsv") == (
        "query\ttarget\trank\tscore\temb_pvalue\temb_evalue\tdescription\n"
        "q1\tsp|P1|X\t1\t0.987654\t1.23e-45\t\theavy chain\n"
    )


@pytest.mark.parametrize("name", ["tsv", "csv", "jsonl"])
def test_a_column_that_a_row_lacks_is_empty_not_absent(name):
    text = written([{"query": "q"}], ("query", "score", "donor"), name)
    expected = {"tsv": "q\t\t", "csv": "q,,", "jsonl": '{"query": "q", "score": null, "donor": null}'}
    assert text.splitlines()[-1] == expected[name]


@pytest.mark.parametrize(
    ("column", "value", "cell"),
    [
        ("score", 1.0, "1.000000"),
        ("score", -1e-9, "0.000000"),
        ("score", np.float32(0.5), "0.500000"),
        ("rank", np.int64(3), "3"),
        ("fident", 0.98765, "0.988"),
        ("bits", 231.04, "231.0"),
        ("evalue", 0.0, "0"),
        ("meta", 0.1, "0.1"),
        ("meta", True, "true"),
        ("meta", "T", "T"),
        ("meta", 12345678901234567890, "12345678901234567890"),
    ],
)
def test_values_are_written_as_their_column_asks(column, value, cell):
    assert written([{column: value}], (column,), "tsv") == f"{column}\n{cell}\n"


CELL = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)


def unescaped(cell):
    """PostgreSQL's COPY text escapes, read one by one."""
    out, chars = "", iter(cell)
    for char in chars:
        out += {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}[next(chars)] if char == "\\" else char
    return out


@settings(max_examples=60)
@given(rows=st.lists(st.tuples(CELL, CELL), max_size=4))
def test_any_text_survives_tsv_csv_and_jsonl(rows):
    hits = [{"query": a, "target": b} for a, b in rows]
    columns = ("query", "target")
    lines = written(hits, columns, "tsv").split("\n")
    assert [tuple(map(unescaped, line.split("\t"))) for line in lines[1:-1]] == rows
    assert lines[-1] == ""
    table = list(csv.reader(io.StringIO(written(hits, columns, "csv"), newline=""), strict=True))
    assert [tuple(cells) for cells in table[1:]] == rows
    assert [json.loads(line) for line in written(hits, columns, "jsonl").split("\n")[:-1]] == hits


def test_csv_of_one_empty_column_keeps_its_rows():
    text = written([{"a": None}, {"a": "x"}], ("a",), "csv")
    assert list(csv.reader(text.splitlines())) == [["a"], [""], ["x"]]


def test_jsonl_keeps_floats_in_full_and_writes_what_json_lacks_as_text():
    row = {"score": 0.1 + 0.2, "a": math.inf, "b": -math.inf, "c": math.nan, "d": "é", "e": False}
    text = written([row], tuple(row), "jsonl")
    assert json.loads(text) == {**row, "a": "Infinity", "b": "-Infinity", "c": "NaN"}
    assert "é" in text


def test_parquet_has_its_types_with_and_without_hits(tmp_path):
    import polars as pl

    columns = (*DEFAULT_HIT_COLUMNS, "year", "donor")
    for rows in ([], [{**HIT, "year": 2020, "donor": 7}, {**HIT, "score": 1, "year": None}]):
        path = tmp_path / "hits.parquet"
        write_hits(rows, columns, "parquet", path, types={"year": int})
        frame = pl.read_parquet(path)
        assert frame.columns == list(columns)
        assert frame.schema["rank"] == frame.schema["year"] == pl.Int64
        assert frame.schema["score"] == frame.schema["emb_evalue"] == pl.Float64
        assert frame.schema["donor"] == pl.String
        assert frame.height == len(rows)
    assert frame.row(0, named=True) == {**HIT, "year": 2020, "donor": "7"}
    assert frame.row(1, named=True) == {**HIT, "score": 1.0, "year": None, "donor": None}


def test_parquet_of_many_hits_is_written_in_parts_and_reads_back_in_order(tmp_path, monkeypatch):
    import polars as pl

    monkeypatch.setattr("plmsearch.formats.hits._PARQUET_BLOCK", 7)
    path = tmp_path / "hits.parquet"
    write_hits(({"rank": i} for i in range(30)), ("rank",), "parquet", path)
    assert pl.read_parquet(path)["rank"].to_list() == list(range(30))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("value", ["seven", 7.5, True, 2**63])
def test_a_value_that_does_not_fit_its_type_is_refused_in_parquet(tmp_path, value):
    with pytest.raises(ParameterError, match=r"value of column 'rank' .* must be of type int"):
        write_hits([{"rank": value}], ("rank",), "parquet", tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


def test_fasta_has_each_target_once_in_order_of_first_appearance():
    from Bio import SeqIO

    rows = [
        {"target": "b|1", "description": "second\nline", "tseq": "EVQL" * 40},
        {"target": "a", "description": None, "tseq": "QL"},
        {"target": "b|1", "description": "again", "tseq": "EVQL" * 40},
    ]
    text = written(rows, ("target",), "fasta")
    entries = [(r.id, r.description, str(r.seq)) for r in SeqIO.parse(io.StringIO(text), "fasta")]
    assert entries == [("b|1", "b|1 second\\nline", "EVQL" * 40), ("a", "a", "QL")]
    assert max(map(len, text.splitlines())) == 60
    with pytest.raises(ParameterError, match="tseq"):
        written([{"target": "a"}], ("target",), "fasta")


def test_the_table_shows_every_character_and_obeys_no_markup_or_control_code(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    row = {**HIT, "target": "[red]x[/red]\x1b[31m\t", "description": "long " * 30 + "end"}
    text = written([row], DEFAULT_HIT_COLUMNS, "table")
    assert max(map(len, text.splitlines())) <= 60
    squeezed = "".join(text.split())
    assert "\x1b" not in text
    assert "end" in squeezed
    (target,) = [c for c in written([row], ("target",), "table").split("\n")[1:] if c]
    assert target.strip() == r"[red]x[/red]\x1b[31m\t"


def test_the_table_cuts_no_column_on_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    row = {f"c{i}": f"v{i}" for i in range(30)}
    assert written([row], tuple(row), "table").split() == [*row, *row.values()]


def test_the_table_repeats_no_header_between_blocks(monkeypatch):
    monkeypatch.setattr("plmsearch.formats.hits._TABLE_BLOCK", 2)
    text = written([{"query": f"q{i}"} for i in range(5)], ("query",), "table")
    assert text.split() == ["query", "q0", "q1", "q2", "q3", "q4"]


@pytest.mark.parametrize("name", ["tsv", "csv", "jsonl"])
def test_rows_are_written_as_they_come(name):
    class Sink(io.StringIO):
        def write(self, text):
            return len(text)

    tracemalloc.start()
    try:
        write_hits(({**HIT, "rank": i} for i in range(5_000)), DEFAULT_HIT_COLUMNS, name, Sink())
        assert tracemalloc.get_traced_memory()[1] < 200_000  # bytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", sorted(HIT_FORMATS))
def test_every_format_takes_no_hits_at_all(tmp_path, name):
    path = tmp_path / "hits"
    write_hits([], DEFAULT_HIT_COLUMNS, name, path)
    header = "\t".join(DEFAULT_HIT_COLUMNS)
    if name in ("table", "tsv", "csv"):
        assert path.read_text().replace(",", "\t").split() == header.split()
    elif name != "parquet":
        assert path.read_text() == ""


def test_an_unknown_format_and_a_bad_choice_of_columns_are_refused(tmp_path):
    with pytest.raises(ParameterError, match="one of: table, tsv, csv, jsonl, fasta, m8, pairwise, parquet"):
        write_hits([], ("query",), "xls", tmp_path / "x")
    for columns in ((), ("query", "query")):
        with pytest.raises(ParameterError, match="at least one column, and none twice"):
            write_hits([], columns, "tsv", tmp_path / "x")
    with pytest.raises(ParameterError, match="takes bytes"):
        write_hits([], ("query",), "parquet", io.StringIO())
    assert list(tmp_path.iterdir()) == []


def test_every_default_column_has_a_type():
    chosen = {*ALIGNED_HIT_COLUMNS, *(column for kind in HIT_FORMATS.values() for column in kind.columns)}
    assert set(DEFAULT_HIT_COLUMNS) < chosen <= set(COLUMN_TYPES)


# --- Output --------------------------------------------------------------------------------------


def test_a_failing_block_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "hits.tsv"
    target.write_text("old")
    with pytest.raises(RuntimeError), open_output(target) as out:
        out.write("new" * 100_000)
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_new_file_appears_only_when_it_is_whole(tmp_path):
    target = tmp_path / "hits.tsv"
    with open_output(target) as out:
        out.write("é\r\n")
        assert not target.exists()
    assert target.read_bytes() == "é\r\n".encode()


def test_modes_and_symbolic_links_are_kept(tmp_path):
    target, link = tmp_path / "real.tsv", tmp_path / "link.tsv"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    with open_output(link) as out:
        out.write("new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    umask = os.umask(0o027)
    try:
        with open_output(tmp_path / "fresh.tsv"):
            pass
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "fresh.tsv").stat().st_mode) == 0o640


def test_a_device_is_written_to_and_not_replaced():
    with open_output("/dev/null") as out:
        out.write("x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_full_device_is_a_storage_error():
    with pytest.raises(StorageError, match="'/dev/full': cannot be written: no space left"):
        write_hits([HIT], DEFAULT_HIT_COLUMNS, "tsv", "/dev/full")


@pytest.mark.parametrize("name", ["tsv", "parquet"])
def test_a_file_that_cannot_grow_is_a_storage_error_and_leaves_nothing(tmp_path, name):
    rows = [{"description": os.urandom(500).hex()} for _ in range(500)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(StorageError, match="cannot be written"):
            write_hits(rows, ("description",), name, tmp_path / "hits")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: folder, "is a directory"),
        (lambda folder: folder / "none" / "x.tsv", "no such file"),
        (lambda folder: folder / "file" / "x.tsv", "not a directory"),
        (lambda folder: folder / ("x" * 300), "file name too long"),
        (lambda folder: "a\0b", "null"),
    ],
)
def test_a_target_that_cannot_be_written_is_a_storage_error(tmp_path, make, reason):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=reason), open_output(make(tmp_path)):
        pass


def test_standard_output_is_flushed_and_left_open(capsys):
    write_hits([HIT], ("query",), "tsv", "-")
    assert capsys.readouterr().out == "query\nq1\n"
    assert not sys.stdout.closed


def run(code, **options):
    code = f"from plmsearch.formats.hits import write_hits\n{code}"
    return subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, **options)


def test_standard_output_takes_parquet_bytes_and_unicode_in_any_locale():
    import polars as pl

    done = run("write_hits([{'query': 'q'}], ['query'], 'parquet', '-')", stdout=subprocess.PIPE)
    assert pl.read_parquet(io.BytesIO(done.stdout)).rows() == [("q",)]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = run("write_hits([{'query': '抗'}], ['query'], 'tsv', '-')", stdout=subprocess.PIPE, env=ascii_only)
    assert done.stdout.decode() == "query\n抗\n"


def test_a_full_standard_output_is_a_storage_error_and_a_broken_pipe_stays_one():
    rows = "({'query': 'q' * 1000} for _ in range(500))"
    code = f"""
try:
    write_hits({rows}, ['query'], 'tsv', '-')
except Exception as exc:
    import os; os.write(2, type(exc).__name__.encode()); os._exit(0)
"""
    with Path("/dev/full").open("w") as full:
        assert run(code, stdout=full).stderr == b"StorageError"
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        assert run(code, stdout=write_end).stderr == b"BrokenPipeError"
    finally:
        os.close(write_end)


def test_an_error_of_the_rows_is_not_taken_for_one_of_the_output(tmp_path):
    def rows():
        yield {"query": "q"}
        raise OSError(errno.EIO, "disk of the database")

    for name in ("tsv", "parquet"):
        with pytest.raises(OSError, match="disk of the database"):
            write_hits(rows(), ("query",), name, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
