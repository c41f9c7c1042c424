"""Words that agree with the number before them, and that the reports of a single row do."""

from __future__ import annotations

import re

from repertoires import coding
from support import VH, cli, write_fasta

from plmsearch.wording import counted


def test_one_has_the_singular_and_every_other_number_the_plural():
    assert [counted(n, "row") for n in (0, 1, 2, 21)] == ["0 rows", "1 row", "2 rows", "21 rows"]
    assert counted(1, "family is", "families are") == "1 family is"
    assert counted(0, "family is", "families are") == "0 families are"
    assert counted(1000, "row", style=",") == "1,000 rows"


def test_commands_say_one_row_and_one_record(tmp_path):
    db, source = tmp_path / "db", write_fasta(tmp_path / "in.fasta", [("a", VH.lower())])
    table = tmp_path / "in.tsv"
    table.write_text(
        f"sequence_id\tjunction\tv_call\tj_call\tsubject_id\ta\na\t{coding('CARGYW')}\tIGHV1-2\tIGHJ4\t\tb\n"
    )
    commands = [
        ("index", db, source, "-m", "kmer"),
        ("export", db, "-o", tmp_path / "x.parquet"),
        ("import", tmp_path / "again", tmp_path / "x.parquet"),
        ("info", db),
        ("optimize", db),
        ("clones", table, "-o", tmp_path / "out.tsv"),
        ("repertoire", tmp_path / "out.tsv", "-o", tmp_path / "report"),
        ("delete", db, "a", "--yes"),
    ]
    for command in commands:
        ended = cli(*command)
        assert ended.code == 0, ended.err
        wrong = re.search(
            r"(?<![\d.,])1 ([a-z-]+ ){0,2}(rows|records|sequences|chains|families|units)\b", ended.err
        )
        assert wrong is None, ended.err
