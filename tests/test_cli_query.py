"""`plmsearch query` as a user meets it: what goes to which stream, columns, flags, usage."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from support import VH, VL, cli, make_db, process, write_fasta
from typer.testing import CliRunner

from plmsearch.cli.app import app
from plmsearch.sequences import SequenceRecord

#: Said of a database that is too small for p-values.
EMPTY = "plmsearch: emb_pvalue and emb_evalue are empty: 3 distinct sequences, fewer than 101\n"
HEADER = "query\ttarget\trank\tscore\temb_pvalue\temb_evalue\tdescription"
HEAVY = {"torch", "esm", "faiss", "polars", "transformers", "pandas", "scipy", "immunum", "antiberty"}


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        SequenceRecord("heavy", VH, "a heavy chain", {"v_call": "IGHV3-66", "n": 7, "rank": "high"}),
        SequenceRecord("light", VL, "", {"v_call": "IGKV1-39", "n": 8}),
        SequenceRecord("twin", VH, "the same\tagain", {"odd, name": "x"}),
        SequenceRecord("variant", VH[:60] + "W" + VH[61:]),
    ]
    return make_db(tmp_path_factory.mktemp("query") / "db", rows)


def test_data_go_to_standard_output_and_nothing_else_does(db):
    assert cli("query", db, "--seq", VH, "-k", 3, "-q").err == ""
    ended = cli("query", db, "--seq", VH, "-k", 3)
    assert (ended.code, ended.err) == (0, EMPTY)
    header, *rows = ended.out.splitlines()
    assert header == HEADER
    assert rows[0] == "query_1\theavy\t1\t1.000000\t\t\ta heavy chain"
    assert rows[1] == "query_1\ttwin\t2\t1.000000\t\t\tthe same\\tagain"
    assert [row.split("\t")[1] for row in rows] == ["heavy", "twin", "variant"]


def test_several_queries_are_answered_in_the_order_given(db):
    assert [r[:2] for r in cli("query", db, "--seq", VL, "--seq", VH, "-k", 1).rows] == [
        ["query_1", "light"],
        ["query_2", "heavy"],
    ]
    assert [r[:2] for r in cli("query", db, "--id", "variant", "--id", "light", "-k", 1).rows] == [
        ["variant", "variant"],
        ["light", "light"],
    ]


def test_standard_input_is_searched_with(db):
    ended = cli("query", db, "-", "-k", 1, stdin=f">x some words\n{VL}\n".encode())
    assert ended.rows == [["x", "light", "1", "1.000000", "", "", ""]]


def test_more_hits_than_records_are_fewer_rows_never_padding(db):
    ended = cli("query", db, "--seq", VH, "-k", 1000)
    assert ended.code == 0
    assert len(ended.rows) == 4


def test_exclude_self_leaves_out_the_record_and_exclude_identical_its_twins(db):
    def targets(*flags: str) -> list[str]:
        return [r[1] for r in cli("query", db, "--id", "heavy", "-k", 2, *flags).rows]

    assert targets() == ["heavy", "twin"]
    assert targets("--exclude-self") == ["twin", "variant"]
    assert targets("--exclude-identical") == ["variant", "light"]


def test_min_score_leaves_hits_out_and_says_when_none_is_left(db):
    assert len(cli("query", db, "--id", "light", "--min-score", "0.99").rows) == 1
    ended = cli("query", db, "--id", "light", "--exclude-self", "--min-score", "0.99")
    assert (ended.code, ended.out) == (0, HEADER + "\n")
    assert ended.err == "plmsearch: 1 of 1 query has no hit\n"
    assert cli("query", db, "--id", "light", "--exclude-self", "--min-score", "0.99", "-q").err == ""


def test_what_is_done_to_a_query_is_noted_and_what_is_left_out_is_named(db, tmp_path):
    source = write_fasta(tmp_path / "q.fasta", [("low", VH.lower()), ("bad", "EV*QL"), ("gap", "--" + VL)])
    ended = cli("query", db, source, "-k", 1, "--on-invalid", "skip")
    assert ended.code == 3
    assert [r[:2] for r in ended.rows] == [["low", "heavy"], ["gap", "light"]]
    assert f"left out: record 'bad' ({source}, record 2): '*' at residue 3" in ended.err
    assert "1 row: lower-case letters raised" in ended.err
    assert "1 row: alignment gaps removed" in ended.err
    quiet = cli("query", db, source, "--on-invalid", "skip", "-q")
    assert (quiet.code, len(quiet.err.splitlines())) == (3, 1)


# --- Columns and formats -------------------------------------------------------------------------


def test_metadata_columns_are_written_by_name_and_empty_where_null(db):
    ended = cli("query", db, "--id", "heavy", "--format-output", "target,v_call,n,qlen,tlen,tseq,qseq")
    assert ended.out.splitlines()[0] == "target\tv_call\tn\tqlen\ttlen\ttseq\tqseq"
    assert ended.rows[0] == ["heavy", "IGHV3-66", "7", "120", "120", VH, VH]
    assert ended.rows[1][:3] == ["twin", "", ""]


def test_meta_star_is_every_metadata_column_and_meta_name_is_never_a_hit_column(db):
    ended = cli("query", db, "--id", "heavy", "-k", 1, "--format-output", "rank,meta.rank,meta.*")
    assert ended.code == 1, "a column twice"
    ended = cli("query", db, "--id", "heavy", "-k", 1, "--format-output", "rank,meta.*")
    assert ended.out == "rank\tv_call\tn\tmeta.rank\todd, name\n1\tIGHV3-66\t7\thigh\t\n"


def test_a_column_that_is_not_there_is_refused_with_a_near_spelling(db):
    ended = cli("query", db, "--id", "heavy", "--format-output", "target,v_cal")
    assert (ended.code, ended.out) == (1, "")
    assert "did you mean 'v_call'?" in ended.err


def test_hits_never_take_the_place_of_the_queries(db, tmp_path):
    queries = write_fasta(tmp_path / "in.fasta", [("q", VH)])
    link = tmp_path / "hits.tsv"
    link.symlink_to(queries)
    before = queries.read_bytes()
    for output in (queries, link):
        ended = cli("query", db, queries, "-o", output)
        assert ended.code == 1 and "another file than an input" in ended.err
        assert queries.read_bytes() == before


def test_typed_formats_get_typed_values(db, tmp_path):
    command = ("query", db, "--id", "heavy", "-k", 2, "--format-output", "target,score,n,emb_evalue")
    lines = cli(*command, "--format", "jsonl").out.splitlines()
    assert [json.loads(line)["n"] for line in lines] == [7, None]
    assert json.loads(lines[0])["emb_evalue"] is None
    result = CliRunner().invoke(app, [str(a) for a in (*command, "--format", "parquet")])
    frame = pl.read_parquet(io.BytesIO(result.stdout_bytes))
    assert frame.schema == {
        "target": pl.String,
        "score": pl.Float64,
        "n": pl.Int64,
        "emb_evalue": pl.Float64,
    }
    assert frame["n"].to_list() == [7, None]


def test_fasta_output_is_an_input_again(db, tmp_path):
    found = tmp_path / "found.fasta"
    assert cli("query", db, "--id", "light", "--format", "fasta", "-o", found, "-k", 2).code == 0
    assert cli("query", db, found, "-k", 1).rows[0][:2] == ["light", "light"]


# --- Usage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give exactly one of INPUT, --seq, --id and --cdr3"),
        (("--seq", VH, "--id", "heavy"), "give exactly one of INPUT, --seq, --id and --cdr3"),
        (("in.fasta", "--seq", VH), "give exactly one of INPUT, --seq, --id and --cdr3"),
        (("--id", "heavy", "-k", "0"), "--top-k"),
        (("--id", "heavy", "-k", "-3"), "--top-k"),
        (("--id", "heavy", "-k", "many"), "--top-k"),
        (("--id", "heavy", "--min-score", "1.5"), "--min-score"),
    ],
)
def test_wrong_usage_is_exit_code_2(db, arguments, said):
    ended = cli("query", db, *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert said in " ".join(ended.err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--id", "heavi"), "no record 'heavi' in the database; did you mean 'heavy'?"),
        (("--id", "heavy", "--id", ""), "no record ''"),
        (("--seq", ""), "record 'query_1' (--seq, record 1): the sequence is empty"),
        (("--seq", "EV QL!"), "'!' at residue 5"),
        (("--id", "heavy", "--format", "xml"), "it must be one of: table, tsv, csv, jsonl"),
        (("--id", "heavy", "--on-invalid", "guess"), "error, skip, mask"),
        (("--id", "heavy", "-o", "/no/such/folder/hits.tsv"), "/no/such/folder/hits.tsv"),
    ],
)
def test_a_query_that_cannot_be_answered_is_exit_code_1_and_no_output(db, arguments, said):
    ended = cli("query", db, *arguments)
    assert (ended.code, ended.out) == (1, "")
    assert said in ended.err


# --- Processes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["--id", "--seq"])
def test_a_query_imports_no_heavy_package(db, tmp_path, how):
    done = process(tmp_path, "query", db, how, "heavy" if how == "--id" else VH, "-k", 1)
    assert (done.code, done.err) == (0, EMPTY)
    assert "heavy\t1\t1.000000" in done.out
    assert not done.packages & HEAVY


def test_a_stored_vector_of_a_language_model_is_searched_with_without_loading_it(tmp_path):
    path = make_db(tmp_path / "db", [("heavy", VH)], model="antiberty")
    done = process(tmp_path, "query", path, "--id", "heavy")
    assert done.out.splitlines()[1].split("\t")[:5] == ["heavy", "heavy", "1", "1", "1.000000"]
    assert not done.packages & HEAVY


# --- Streams that end or are full, and terminals ---------------------------------------------------

RUN = "from plmsearch.cli import main; main()"


def run(stdout: object, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *map(str, arguments)],
        stdout=stdout,  # type: ignore[call-overload]
        stderr=subprocess.PIPE,
    )


def test_a_reader_that_has_enough_ends_it_quietly(db, tmp_path):
    source = write_fasta(tmp_path / "q.fasta", [(f"q{i}", VH) for i in range(5000)])
    with run(subprocess.PIPE, "query", db, source) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline().decode() == HEADER + "\n"
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
@pytest.mark.parametrize("verb", ["query", "info"])
def test_output_that_does_not_fit_is_an_error(db, verb):
    with Path("/dev/full").open("wb") as full:
        _, said = (done := run(full, verb, db, *(("--id", "heavy") if verb == "query" else ()))).communicate()
    assert done.returncode == 1
    assert said.decode() == (
        "plmsearch: error: 'standard output': cannot be written: no space left on device\n"
    )


def test_a_terminal_gets_a_table(db):
    terminal, end = pty.openpty()
    with run(end, "query", db, "--id", "heavy") as running:
        os.close(end)
        _, said = running.communicate()
    shown = re.sub(r"\x1b\[[0-9;]*m", "", os.read(terminal, 1 << 16).decode())
    os.close(terminal)
    assert (running.returncode, said) == (0, EMPTY.encode())
    header, first, *_ = shown.splitlines()
    assert header.split() == HEADER.split("\t")
    assert first.split()[:4] == ["heavy", "heavy", "1", "1.000000"]
    assert "\t" not in shown
