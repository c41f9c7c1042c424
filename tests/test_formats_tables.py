"""CSV, TSV and Parquet: every cell kept, every irregular row named."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import decimal
import gzip
import io
import json
import random
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support import gz

from plmsearch.errors import FileFormatError, InputNotFoundError, TableFormatError
from plmsearch.formats.parquet import open_parquet
from plmsearch.formats.tables import read_table
from plmsearch.sequences import SequenceRecord

zstd = zstandard.ZstdCompressor().compress


@pytest.fixture
def table(tmp_path):
    def write(content: bytes | str, name: str = "in.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def records(path, **columns):
    return list(read_table(path, path.name, **columns))


# --- Text tables: what is read -------------------------------------------------------------------


def test_other_columns_become_metadata_as_text_and_an_empty_cell_is_absent(table):
    path = table("id,seq,n,flag,note\nP1,EVQ,007,T,\nP2,LVE,1.50,,na\n")
    assert records(path) == [
        SequenceRecord("P1", "EVQ", "", {"n": "007", "flag": "T"}, "in.csv", 1),
        SequenceRecord("P2", "LVE", "", {"n": "1.50", "note": "na"}, "in.csv", 2),
    ]


CELL = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8)
IDENTIFIER = CELL.filter(str.strip)


@hypothesis_settings(max_examples=80)
@given(
    rows=st.lists(st.tuples(IDENTIFIER, st.text("EVQL", min_size=1), CELL, CELL), min_size=1, max_size=5),
    line_end=st.sampled_from(["\n", "\r\n"]),
    pack=st.sampled_from([bytes, gzip.compress, zstd]),
    bom=st.sampled_from(["", "\ufeff"]),
    quoted=st.booleans(),
)
def test_any_cell_survives_a_round_trip_through_csv(tmp_path_factory, rows, line_end, pack, bom, quoted):
    quoted |= any(
        "\r" in cell for row in rows for cell in row
    )  # the csv module writes a bare \r without quotes
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=line_end, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    writer.writerows([("id", "sequence", "x", "y|z"), *rows])
    path = tmp_path_factory.mktemp("t") / "in.csv"
    path.write_bytes(pack((bom + text.getvalue()).encode()))

    got = [(r.record_id, r.sequence, dict(r.metadata)) for r in read_table(path, "in.csv")]

    oracle = [(i, s, {k: v for k, v in (("x", x), ("y|z", y)) if v}) for i, s, x, y in rows]
    assert got == oracle


@pytest.mark.parametrize(
    ("name", "id_col", "seq_col", "separator"),
    [
        ("antibodies/therasabdab.csv", "Therapeutic", "HeavySequence(ifbispec)", ","),
        ("antibodies/sars2_paired.tsv", "Name", "VH", "\t"),
    ],
)
def test_real_tables_agree_with_pandas(shared_data, name, id_col, seq_col, separator):
    import pandas as pd

    path = shared_data / name
    oracle = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
    got = list(read_table(path, path.name, id_col=id_col, seq_col=seq_col))
    assert [r.record_id for r in got] == list(oracle[id_col])
    missing = ("", "na", "NA", "None")
    assert [r.sequence for r in got] == ["" if s in missing else s for s in oracle[seq_col]]
    for column in oracle.columns.difference([id_col, seq_col]):
        assert [r.metadata.get(column, "") for r in got] == list(oracle[column])


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("x.csv", "id,seq,a\tb"),
        ("x.tsv", "id\tseq\ta,b"),
        ("x.tsv.gz", "id\tseq\ta,b"),
        ("x.TSV", "id\tseq\ta,b"),
        ("x.txt", "id\tseq\ta,b"),
        ("x", "id,seq,a"),
        ("x.csv", "id;seq;a"),
        ("x.csv", "id\tseq\ta"),
        ("x.csv", '"id","seq","a;b"'),
    ],
)
def test_the_delimiter_is_that_of_the_name_if_it_splits_the_header(table, name, header):
    delimiter = next(d for d in "\t,;" if header.replace('"', "").startswith(f"id{d}"))
    path = table(f"{header}\nP1{delimiter}EV{delimiter}z\n", name)
    (record,) = records(path)
    assert (record.record_id, record.sequence, list(record.metadata.values())) == ("P1", "EV", ["z"])


def test_description_is_the_column_of_that_name(table):
    (record,) = records(table("id,seq,description,x\nP1,EV,heavy chain,1\n"))
    assert (record.description, record.metadata) == ("heavy chain", {"x": "1"})


@pytest.mark.parametrize("missing", ["", " ", "na", "NA", "NaN", "None", "null", "n/a"])
def test_a_missing_value_in_the_sequence_column_is_no_peptide(table, missing):
    assert [r.sequence for r in records(table(f"id,seq\na,{missing}\nb,EV\n"))] == ["", "EV"]


def test_blank_lines_are_no_rows_and_a_column_without_a_name_is_numbered(table):
    got = records(table("\n,id,seq\n\n0,P1,EV\n\n1,P2,QL\n\n"))
    assert [(r.record_id, r.row, r.metadata) for r in got] == [
        ("P1", 1, {"column_1": "0"}),
        ("P2", 2, {"column_1": "1"}),
    ]


def test_a_cell_of_300000_residues_is_read_whole(table):
    residues = "EVQLK" * 60_000
    assert records(table(f"id,seq\na,{residues}\n"))[0].sequence == residues


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
def test_memory_does_not_grow_with_the_file(table, pack):
    rng = random.Random(0)
    pool = "".join(rng.choices("ACDEFGHIKLMNPQRSTVWY", k=500_000))
    rows = "".join(f"r{i},{pool[80 * i :][:900]},x\n" for i in range(6_000))
    path = table(pack(("id,seq,m\n" + rows).encode()))
    del rows
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_table(path, "in.csv")) == 6_000
        assert tracemalloc.get_traced_memory()[1] < 2_000_000  # bytes; the text is 5.5 MB
    finally:
        tracemalloc.stop()


# --- Columns -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id_name", "seq_name"), [("Entry", "Sequence"), ("NAME", "SEQ"), ("sequence_id", "sequence_aa")]
)
def test_common_names_are_recognised_in_any_case(table, id_name, seq_name):
    (record,) = records(table(f"{id_name},{seq_name},VH\nP1,EV,QL\n"))
    assert (record.record_id, record.sequence) == ("P1", "EV")


def test_flags_choose_any_column(table):
    path = table("id,name,VH,VL\n1,mab,EV,DI\n")
    (record,) = records(path, id_col="name", seq_col="VL")
    assert (record.record_id, record.sequence, record.metadata) == ("mab", "DI", {"id": "1", "VH": "EV"})


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        (
            "id,VH\na,EV\n",
            {"seq_col": "vh"},
            "no column 'vh', did you mean 'VH'.*--seq-col one of: 'id', 'VH'",
        ),
        ("Name,seq\na,EV\n", {"id_col": "Nmae"}, "no column 'Nmae', did you mean 'Name'"),
        ("id,VH,VL\na,EV,DI\n", {}, "no sequence column; pass --seq-col one of: 'id', 'VH', 'VL'"),
        ("x,seq\na,EV\n", {}, "no id column; pass --id-col one of: 'x', 'seq'"),
        ("id,name,seq\n1,a,EV\n", {}, r"2 columns may hold the id \('id', 'name'\)"),
        ("id,seq,sequence\n1,EV,EV\n", {}, "2 columns may hold the sequence"),
        ("id,seq\na,EV\n", {"id_col": "seq", "seq_col": "seq"}, "both id and sequence"),
        ("id,seq,x,x\na,EV,1,2\n", {}, "two columns have the same name: 'x'"),
        (",column_1,id,seq\n1,2,a,EV\n", {}, "two columns have the same name: 'column_1'"),
    ],
)
def test_columns_that_are_not_clear_are_refused_at_once(table, content, columns, message):
    with pytest.raises(TableFormatError, match=message):
        read_table(table(content), "in.csv", **columns)


# --- Text tables: what is refused ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,seq,x\na,EV,1\nb,QL\n", "line 3 has 2 cells, the header has 3"),
        ("id,seq\na,EV,1\n", "line 2 has 3 cells, the header has 2"),
        ('id,seq,x\na,EV,"1\n2"\nb,QL\n', "line 4 has 2 cells"),
        ("id,seq\na,EV\n,QL\n", "line 3 has no id: 'id' is empty"),
        ("id,seq\n  ,QL\n", "line 2 has no id"),
        ("id,seq\n", "has a header but no rows"),
        ('id,seq\na,"EV\n', "row at line 2 cannot be read"),
        ('id,seq\na,"EV"Q\n', "row at line 2 cannot be read"),
        (f"id,seq\na,{'E' * (2**24 + 1)}\n", "row at line 2 cannot be read: field larger"),
    ],
)
def test_an_irregular_row_is_named_by_its_line(table, content, message):
    with pytest.raises(TableFormatError, match=message):
        records(table(content))


def test_a_quote_that_is_never_closed_does_not_swallow_rows_of_a_tsv(table):
    path = table('id\tseq\tnote\na\tEV\t"5-prime\nb\tQL\tx\nc\tLV\ty\tz\nd\tE\t3"\n', "in.tsv")
    with pytest.raises(TableFormatError):
        records(path)
    merged = table('id\tnote\tseq\na\t"open\tEV\nb\tclose"\tQL\n', "in.tsv")
    with pytest.raises(
        TableFormatError, match="row at line 2 has a quoted cell that holds tabs and line ends"
    ):
        records(merged)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"just words\n", "neither FASTA nor a table"),
        (b"id,seq\na,E\xff\n", "line 2 is not UTF-8"),
        (b"id,s\0eq\na,EV\n", "binary"),
        (b"id,seq\n" + b"a,EV\n" * 20_000 + b"b,E\0V\n", "binary file: line 20002"),
        (b"id,seq\ra,EV\r", "carriage return alone"),
        (gz(b"id,seq\na,EV\n") + b"garbage", "damaged"),
        (zstd(b"id,seq\na,EV\n") + b"garbage", "damaged"),
    ],
)
def test_what_is_no_table_is_named(table, content, message):
    with pytest.raises(FileFormatError, match=message):
        records(table(content))


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_no_truncation_of_a_packed_table_passes_as_a_shorter_one(table, pack):
    packed = pack(b"id,seq\n" + b"".join(b"r%d,EV%s\n" % (i, b"QL" * (i % 7)) for i in range(40)))
    assert len(records(table(packed))) == 40
    for cut in range(len(packed)):
        with pytest.raises(FileFormatError):
            records(table(packed[:cut]))


def test_zstd_frames_and_gzip_members_are_read_one_after_the_other(table):
    for pack in (gzip.compress, zstd):
        path = table(pack(b"id,seq\na,EV\n") + pack(b"b,") + pack(b"QL\n"))
        assert [r.record_id for r in records(path)] == ["a", "b"]


def test_an_abandoned_reader_closes_its_file(table):
    reader = read_table(table("id,seq\na,EV\nb,QL\n"), "in.csv")
    assert next(reader).record_id == "a"
    del reader  # an open file would be a ResourceWarning, which is an error here


# --- Parquet -------------------------------------------------------------------------------------


@pytest.fixture
def parquet(tmp_path):
    def write(columns, **options):
        import polars as pl

        path = tmp_path / "in.parquet"
        pl.DataFrame(columns).write_parquet(path, **options)
        return path

    return write


def test_parquet_keeps_the_types_that_json_has_and_turns_the_rest_into_text(parquet):
    import polars as pl

    day = datetime.date(2024, 2, 29)
    moment = datetime.datetime(2024, 2, 29, 23, 59, 1, 5)
    values = {
        "integer": (7, 7),
        "decimal": (decimal.Decimal("1.50"), "1.50"),
        "float": (0.1, 0.1),
        "boolean": (False, False),
        "text": ("", ""),
        "category": (pl.Series(["human", None], dtype=pl.Categorical), "human"),
        "day": (day, day.isoformat()),
        "moment": (moment, moment.isoformat()),
        "took": (datetime.timedelta(days=1, seconds=3), "P1DT3S"),
        "binary": (b"\x00\xff", "00ff"),
        "list": ([1, 2], "[1, 2]"),
        "struct": ({"k": [day], "抗": None}, '{"k": ["2024-02-29"], "抗": null}'),
    }
    columns = {name: v if isinstance(v, pl.Series) else [v, None] for name, (v, _) in values.items()}
    first, second = records(parquet({"id": ["a", "b"], "seq": ["EV", None], **columns}))
    assert first.metadata == {name: expected for name, (_, expected) in values.items()}
    assert {type(v) for v in first.metadata.values()} <= {str, int, float, bool}
    assert json.loads(str(first.metadata["struct"])) == {"k": ["2024-02-29"], "抗": None}
    assert (second.sequence, second.metadata) == ("", {})


def test_nan_is_a_null_and_a_whole_number_is_an_id(parquet):
    got = records(parquet({"id": [10, 11], "seq": ["EV", "QL"], "x": [float("nan"), 1.5]}))
    assert [(r.record_id, r.metadata) for r in got] == [("10", {}), ("11", {"x": 1.5})]


@pytest.mark.parametrize("row_group_size", [1000, 50_000])
def test_parquet_rows_come_in_order_and_complete(parquet, row_group_size):
    n = 20_001
    path = parquet(
        {"id": [f"r{i}" for i in range(n)], "seq": ["EV"] * n, "n": range(n)}, row_group_size=row_group_size
    )
    got = records(path)
    assert [(r.record_id, r.row, r.metadata["n"]) for r in got] == [(f"r{i}", i + 1, i) for i in range(n)]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": [1.0], "seq": ["EV"]}, "id column 'id' is neither text nor whole numbers"),
        ({"id": ["a"], "seq": [3]}, "sequence column 'seq' is not text"),
        ({"id": ["a"], "VH": ["EV"]}, "no sequence column"),
        ({"id": ["a", None], "seq": ["EV", "QL"]}, "row 2 has no id"),
    ],
)
def test_parquet_columns_of_a_wrong_type_are_refused(parquet, columns, message):
    with pytest.raises(TableFormatError, match=message):
        records(parquet(columns))


def test_parquet_without_rows_says_so(parquet):
    import polars as pl

    with pytest.raises(TableFormatError, match="has a header but no rows"):
        records(parquet({"id": pl.Series([], dtype=pl.String), "seq": pl.Series([], dtype=pl.String)}))


def test_no_truncation_of_a_parquet_file_passes_as_a_shorter_one(parquet):
    path = parquet({"id": ["a", "b"], "seq": ["EV", "QL"]})
    whole = path.read_bytes()
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        with pytest.raises(FileFormatError):
            records(path)


def test_a_damaged_parquet_file_never_gives_fewer_rows_in_silence(parquet, capfd):
    n = 50
    path = parquet({"id": [f"r{i}" for i in range(n)], "seq": ["EVQL"] * n, "k": [[i] for i in range(n)]})
    whole = path.read_bytes()
    rng = random.Random(4)
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            assert len(records(path)) == n
        except FileFormatError:
            continue


def test_rows_are_counted_against_the_number_the_file_states(parquet):
    table = open_parquet(parquet({"id": ["a", "b"], "seq": ["EV", "QL"]}), "in.parquet")
    with pytest.raises(FileFormatError, match="is damaged: 2 of its 3 rows"):
        list(dataclasses.replace(table, n_rows=3).rows())


def test_a_directory_is_no_table(tmp_path):
    with pytest.raises(InputNotFoundError, match="is a directory"):
        read_table(tmp_path, "dir")
