"""Two columns of chains, and headers of FASTA that name pairs."""

from __future__ import annotations

import io

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import VH, VL, write_fasta

from plmsearch.errors import FileFormatError, ParameterError, TableFormatError
from plmsearch.formats.paired import Pairing, paired_fasta
from plmsearch.formats.read import open_input
from plmsearch.sequences import SequenceRecord

COLUMNS = Pairing("VH", "VL")


def read(path, pairing=COLUMNS, **wishes):
    with open_input(path, pairing=pairing, **wishes) as file:
        return [(r.record_id, r.sequence, dict(r.metadata), r.notes) for r in file]


def test_a_row_becomes_one_record_of_both_chains_and_other_columns_are_metadata(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(f"Name,VL,epitope,VH\nm1,{VL},S2,{VH}\nm2,na,,{VH}\nm3,{VL},RBD,\nm4,NA,RBD,n/a\n")
    assert read(path) == [
        ("m1", f"{VH};{VL}", {"epitope": "S2"}, ()),
        ("m2", VH, {}, ("without_light",)),
        ("m3", VL, {"epitope": "RBD"}, ("without_heavy",)),
        ("m4", "", {"epitope": "RBD"}, ()),
    ]


def test_each_chain_has_the_kind_that_its_column_says(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(f"Name,VL,VH\na,{VL},{VH}\nb,{VL},\nc,,{VH}; ;{VH}\nd,,\n")
    with open_input(path, pairing=COLUMNS) as file:
        kinds = [record.chain_kinds for record in file]
    assert kinds == [("heavy", "light"), ("light",), ("heavy", "heavy"), ()]


@settings(max_examples=20)
@given(st.lists(st.tuples(*[st.sampled_from(["", "na", "NaN", "EVQL", "DIQM;EVQ"])] * 2), min_size=1))
def test_the_chains_of_each_row_are_those_that_polars_reads(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("pairs") / "x.tsv"
    path.write_text("id\tVH\tVL\n" + "".join(f"r{n}\t{h}\t{x}\n" for n, (h, x) in enumerate(rows)))
    frame = pl.read_csv(io.StringIO(path.read_text()), separator="\t", null_values=["", "na", "NaN"])
    frame = frame.with_columns(pl.concat_str("VH", "VL", separator=";", ignore_nulls=True).alias("both"))
    assert [sequence for _, sequence, _, _ in read(path)] == frame["both"].fill_null("").to_list()


def test_the_columns_of_an_airr_table_are_read_too(tmp_path):
    path = tmp_path / "airr.tsv"
    path.write_text(f"sequence_id\tv_call\tjunction_aa\tVH\tVL\na\tIGHV1\tCAW\t{VH}\t{VL}\n")
    assert read(path) == [("a", f"{VH};{VL}", {"v_call": "IGHV1", "junction_aa": "CAW"}, ())]
    assert read(path, id_col="v_call")[0][0] == "IGHV1"


@pytest.mark.parametrize(
    ("pairing", "wishes", "said"),
    [
        (Pairing("VHH", "VL"), {}, "no column 'VHH', did you mean 'VH'?; pass --heavy-col one of"),
        (Pairing("VH", "vl"), {}, "no column 'vl', did you mean 'VL'?; pass --light-col one of"),
        (Pairing("VH", "id"), {}, "'id' is named as both id and sequence"),
        (COLUMNS, {"seq_col": "VH"}, "not by both"),
        (COLUMNS, {"translate": True}, "leave out --translate"),
        (Pairing(by="id"), {}, "is a table; --pair-by is for FASTA"),
    ],
)
def test_what_a_table_cannot_be_asked_is_refused(tmp_path, pairing, wishes, said):
    path = tmp_path / "x.csv"
    path.write_text(f"id,VH,VL\na,{VH},{VL}\n")
    with pytest.raises((FileFormatError, TableFormatError)) as caught:
        read(path, pairing, **wishes)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "named", [{"heavy_col": "VH"}, {"light_col": "VL"}, {"heavy_col": "x", "light_col": "x"}, {"by": "stem"}]
)
def test_a_pairing_that_says_no_pairs_is_refused(named):
    with pytest.raises(ParameterError):
        Pairing(**named)


# --- FASTA ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffixes", ["_heavy _light", "_VH _VL", "_H _L", "-hc -lc", ".H .L", "|vh |vl"])
def test_ids_of_one_stem_name_a_cell(tmp_path, suffixes):
    heavy, light = suffixes.split()
    path = write_fasta(tmp_path / "x.fasta", [(f"a_1{heavy} x", VH), (f"a_1{light}", VL), ("other", VH)])
    assert read(path, Pairing(by="id")) == [
        (f"a_1{heavy}", VH, {"cell_id": "a_1"}, ()),
        (f"a_1{light}", VL, {"cell_id": "a_1"}, ()),
        ("other", VH, {}, ()),
    ]


def test_words_of_the_header_name_cell_and_sample(tmp_path):
    headers = ["a x cell_id=c1 sample_id=s umi_count=3", "b cell=c1 subcell=2 repertoire_id=r", "c cell= x"]
    path = write_fasta(tmp_path / "x.fasta", [(header, VH) for header in headers])
    assert [metadata for _, _, metadata, _ in read(path, Pairing(by="header"))] == [
        {"cell_id": "c1", "sample_id": "s", "umi_count": "3"},
        {"cell_id": "c1", "repertoire_id": "r"},
        {},
    ]


def test_fasta_is_not_paired_unless_it_is_asked_for(tmp_path):
    path = write_fasta(tmp_path / "x.fasta", [("a_VH cell_id=c", VH), ("a_VL cell_id=c", VL)])
    assert [metadata for _, _, metadata, _ in read(path, None)] == [{}, {}]
    with pytest.raises(FileFormatError, match="--heavy-col and --light-col are for tables"):
        read(path, COLUMNS)


@pytest.mark.parametrize("by", ["id", "header"])
def test_fasta_that_names_no_pair_is_refused_at_its_end(by):
    records = iter([SequenceRecord("a", VH), SequenceRecord("VH", VL, "cell id")])
    with pytest.raises(FileFormatError, match="names no pair"):
        list(paired_fasta(records, "x.fasta", by))
