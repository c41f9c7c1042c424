"""`plmsearch index` as a user meets it: formats, summary, exit codes, repetition."""

from __future__ import annotations

import contextlib
import gzip
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import zstandard
from support import VH, VL, cli, contents, make_db, peptides, process, records, write_fasta

HEAVY = {"torch", "esm", "faiss", "polars", "transformers", "pandas", "scipy", "immunum", "antiberty"}


def summary(n: int) -> list[str]:
    return [
        f"plmsearch: {n} rows: {n} added, 0 renamed, 0 already present, 0 left out",
        f"plmsearch: {n} new sequences embedded in",
        f"plmsearch: the database now holds {n} records",
    ]


def test_the_summary_goes_to_standard_error_and_nothing_to_standard_output(tmp_path):
    ended = cli("index", tmp_path / "db", write_fasta(tmp_path / "in.fasta", records(7)), "-m", "kmer")
    assert (ended.code, ended.out) == (0, "")
    for line, expected in zip(ended.err.splitlines(), summary(7), strict=True):
        assert line.startswith(expected)
    assert "(kmer/1/whole/mean)" in ended.err


def test_quiet_says_nothing_but_what_went_wrong(tmp_path):
    source = write_fasta(tmp_path / "in.fasta", [*records(2), ("bad", "EV*QL")])
    ended = cli("index", tmp_path / "db", source, "-m", "kmer", "-q", "--on-invalid", "skip")
    assert ended.code == 3
    assert len(ended.err.splitlines()) == 1
    assert "left out: record 'bad'" in ended.err
    assert cli("index", tmp_path / "db", write_fasta(source, records(3)), "-q").err == ""


def test_a_junction_that_is_not_what_its_nucleotides_code_for_is_counted_and_kept(tmp_path):
    header = "sequence_id\tsequence_aa\tv_call\tjunction\tjunction_aa\n"
    cells = [
        ("a", "TGTGCGTGG", "CAW"),
        ("b", "TGTGCGTGG", "CARW"),
        ("c", "NaN", "CAW"),
        ("d", "TGTGCGTGGA", "CAWX"),
    ]
    source = tmp_path / "in.tsv"
    source.write_text(header + "".join(f"{name}\t{VH}\tIGHV3-66\t{n}\t{aa}\n" for name, n, aa in cells))
    ended = cli("index", tmp_path / "db", source, "-m", "kmer")
    assert "1 row: junction_aa is not the translation of junction" in ended.err
    kept = contents(tmp_path / "db")["b"][2]
    assert (kept["junction"], kept["junction_aa"]) == ("TGTGCGTGG", "CARW")
    notes = [
        line.split("\t")[-1] for line in cli("info", tmp_path / "db", "--ledger", 1).out.splitlines()[1:]
    ]
    assert notes == ["", '{"disagrees_junction": 1}', "", ""]


def test_every_change_to_a_sequence_is_noted(tmp_path):
    odd = [("a", VH.lower()), ("b", f"{VH[:9]}--{VH[9:]}"), ("c", VL + "*"), ("d", "EV?QL")]
    source = write_fasta(tmp_path / "in.fasta", odd)
    ended = cli("index", tmp_path / "db", source, "-m", "kmer", "--on-invalid", "mask")
    assert ended.code == 0
    for said in ("lower-case letters raised", "alignment gaps removed", "the final * dropped"):
        assert f"plmsearch: 1 row: {said}" in ended.err
    assert "1 row: invalid letters read as X" in ended.err
    assert {i: c[0] for i, c in contents(tmp_path / "db").items()} == {
        "a": VH,
        "b": VH,
        "c": VL,
        "d": "EVXQL",
    }


# --- Input ---------------------------------------------------------------------------------------


def tables(folder: Path) -> dict[str, Path]:
    """The same three records in every format."""
    rows = [(f"r{i}", s, i) for i, s in enumerate(peptides(3))]
    fasta = "".join(f">{record_id}\n{s}\n" for record_id, s, _ in rows).encode()
    header = ("name", "seq", "n")
    paths = {
        "fasta": folder / "in.fasta",
        "gz": folder / "in.fasta.gz",
        "zst": folder / "in.fasta.zst",
        "csv": folder / "in.csv",
        "tsv": folder / "in.tsv",
        "parquet": folder / "in.parquet",
    }
    paths["fasta"].write_bytes(fasta)
    paths["gz"].write_bytes(gzip.compress(fasta))
    paths["zst"].write_bytes(zstandard.compress(fasta))
    for kind, delimiter in (("csv", ","), ("tsv", "\t")):
        lines = [delimiter.join(map(str, row)) for row in (header, *rows)]
        paths[kind].write_text("\n".join(lines) + "\n")
    pl.DataFrame(rows, schema=list(header), orient="row").write_parquet(paths["parquet"])
    return paths


@pytest.mark.parametrize("kind", ["fasta", "gz", "zst", "csv", "tsv", "parquet"])
def test_every_format_gives_the_same_records(tmp_path, kind):
    assert cli("index", tmp_path / "db", tables(tmp_path)[kind], "-m", "kmer").code == 0
    stored = contents(tmp_path / "db")
    assert {i: c[0] for i, c in stored.items()} == {f"r{i}": s for i, s in enumerate(peptides(3))}
    has_columns = kind in {"csv", "tsv", "parquet"}
    assert [c[2] for c in stored.values()] == [{"n": i} if has_columns else {} for i in range(3)]


@pytest.mark.parametrize("kind", ["fasta", "gz", "tsv"])
def test_standard_input_is_read_like_a_file(tmp_path, kind):
    data = tables(tmp_path)[kind].read_bytes()
    ended = cli("index", tmp_path / "db", "-", "-m", "kmer", stdin=data)
    assert ended.code == 0
    assert len(contents(tmp_path / "db")) == 3


def test_several_inputs_go_into_one_run_in_the_order_given(tmp_path):
    one = write_fasta(tmp_path / "one.fasta", [("b", VL)])
    two = write_fasta(tmp_path / "two.fasta", [("a", VH), ("b", VL)])
    ended = cli("index", tmp_path / "db", one, two, "-m", "kmer")
    assert "3 rows: 2 added, 0 renamed, 1 already present" in ended.err
    assert list(contents(tmp_path / "db")) == ["b", "a"]


def test_airr_columns_become_metadata_and_residues_come_from_sequence_aa(tmp_path):
    source = Path(__file__).resolve().parents[1] / "examples" / "repertoire.tsv"
    header, *rows = (line.split("\t") for line in source.read_text("utf-8").splitlines())
    ended = cli("index", tmp_path / "db", source, "-m", "kmer")
    assert ended.code == 0
    assert f"{len(rows)} rows" in ended.err
    stored = contents(tmp_path / "db")
    first = dict(zip(header, rows[0], strict=True))
    residues, _, metadata = stored[first["sequence_id"]]
    assert residues == first["sequence_aa"]
    assert metadata["v_call"] == first["v_call"]
    assert metadata["productive"] is True


def test_a_description_is_kept(tmp_path):
    source = write_fasta(tmp_path / "in.fasta", [('sp|P1|X  a "fine"  protein ', VH)])
    cli("index", tmp_path / "db", source, "-m", "kmer")
    assert contents(tmp_path / "db") == {"sp|P1|X": (VH, 'a "fine"  protein', {})}


# --- Usage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument 'DB'"),
        (("db",), "Missing argument 'INPUT...'"),
        (("db", "in.fasta", "--threads", "0"), "--threads"),
        (("db", "in.fasta", "--batch-tokens", "0"), "--batch-tokens"),
        (("db", "in.fasta", "--lock-timeout", "-1"), "--lock-timeout"),
        (("db", "in.fasta", "--no-such-flag"), "--no-such-flag"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_touches_nothing(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    ended = cli("index", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--device", "tpu"), "tpu"),
        (("--precision", "float8"), "float8"),
        (("--on-invalid", "guess"), "error, skip, mask"),
        (("--id-col", "name"), "is FASTA; --id-col and --seq-col are for tables"),
        (("--weights", "no/such/weights"), "no/such/weights"),
    ],
)
def test_a_wish_that_cannot_be_met_is_an_error_before_anything_is_made(tmp_path, flags, said):
    source = write_fasta(tmp_path / "in.fasta", records(1))
    ended = cli("index", tmp_path / "db", source, "-m", "esm2_t6_8M_UR50D", *flags)
    assert (ended.code, ended.out) == (1, "")
    assert said in ended.err
    assert not (tmp_path / "db").exists()


def test_debug_prints_the_traceback_that_is_hidden_otherwise(tmp_path):
    done = process(tmp_path, "index", tmp_path / "db", tmp_path / "absent.fasta", "--debug")
    assert done.code == 1
    assert "Traceback (most recent call last)" in done.err
    assert done.err.splitlines()[-1].startswith("plmsearch: error: cannot read")


def test_verbose_says_what_takes_time(tmp_path):
    source = write_fasta(tmp_path / "in.fasta", records(3))
    done = process(tmp_path, "index", tmp_path / "db", source, "-m", "kmer", "-v")
    assert (done.code, done.out) == (0, "")
    assert "committed 3 rows, 3 new sequences, 3 vectors in" in done.err


# --- What is imported ----------------------------------------------------------------------------


def test_a_kmer_database_is_made_without_any_heavy_package(tmp_path):
    source = write_fasta(tmp_path / "in.fasta", records(30))
    done = process(tmp_path, "index", tmp_path / "db", source, "-m", "kmer")
    assert done.code == 0
    assert "30 added" in done.err
    assert not done.packages & HEAVY


def test_repeating_an_input_needs_no_model_whatever_the_model_is(tmp_path):
    rows = [("heavy", VH), ("light", VL)]
    path = make_db(tmp_path / "db", rows, model="antiberty")
    done = process(tmp_path, "index", path, "-", stdin=f">heavy\n{VH}\n>light\n{VL}\n")
    assert done.code == 0
    assert "2 rows: 0 added, 0 renamed, 2 already present" in done.err
    assert "0 new sequences embedded" in done.err
    assert not done.packages & HEAVY


# --- Terminals -----------------------------------------------------------------------------------


def test_a_terminal_gets_a_bar_with_rate_and_time_left_and_then_the_summary(tmp_path):
    source = write_fasta(tmp_path / "in.fasta", records(300))
    slowly = (
        "import time\n"
        "from plmsearch.embedding.kmer import KmerEmbedder\n"
        "run = KmerEmbedder.residue_embeddings\n"
        "KmerEmbedder.residue_embeddings = lambda *a: (time.sleep(0.05), run(*a))[1]\n"
        "from plmsearch.cli import main\n"
        "main()\n"
    )
    terminal, end = pty.openpty()
    command = [sys.executable, "-c", slowly, "index", str(tmp_path / "db"), str(source), "-m", "kmer"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=end) as running:
        os.close(end)
        shown = b""
        with contextlib.suppress(OSError):  # how a terminal says that nobody writes to it any more
            while part := os.read(terminal, 1 << 16):
                shown += part
        assert running.stdout is not None
        assert running.stdout.read() == b""
    os.close(terminal)
    assert running.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert re.search(r"embedding .*\d+/300 +\d+\.\d/s +\d:\d\d:\d\d", text)
    assert "plmsearch: 300 rows: 300 added" in text
