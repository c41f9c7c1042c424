"""FASTA: ids as given, every kind of damage named, nothing lost."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import random

import pytest
import zstandard
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support import gz

from plmsearch.errors import FileFormatError, InputNotFoundError
from plmsearch.formats.fasta import read_fasta

PACKERS = {"plain": bytes, "gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}


def records(path, source="in.fasta"):
    return list(read_fasta(path, source))


@pytest.fixture
def fasta(tmp_path):
    def write(content: bytes | str):
        path = tmp_path / "in.fasta"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


# --- What is read --------------------------------------------------------------------------------

WORD = st.text(st.characters(exclude_categories=("Cs", "Cc", "Z"), exclude_characters="\ufffd"), min_size=1)
ENTRY = st.tuples(
    WORD, st.lists(WORD, max_size=3), st.text("ACDEFGHIKLMNPQRSTVWYXBZUOJ*-.acd", min_size=1, max_size=130)
)


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    entries=st.lists(ENTRY, min_size=1, max_size=6),
    line_end=st.sampled_from(["\n", "\r\n"]),
    width=st.integers(1, 70),
    packer=st.sampled_from(sorted(PACKERS)),
    last=st.booleans(),
)
def test_records_agree_with_biopython(tmp_path_factory, entries, line_end, width, packer, last):
    from Bio import SeqIO

    text = ""
    for name, words, residues in entries:
        lines = [residues[i : i + width] for i in range(0, len(residues), width)]
        text += line_end.join([">" + "\t".join([name, *words]), *lines, ""])
    text = text if last else text.removesuffix(line_end)
    path = tmp_path_factory.mktemp("f") / "x"
    path.write_bytes(PACKERS[packer](text.encode()))

    got = [(r.record_id, r.description, r.sequence) for r in read_fasta(path, "x")]

    oracle = [
        (r.id, r.description.removeprefix(r.id).strip(), str(r.seq))
        for r in SeqIO.parse(io.StringIO(text, newline=None), "fasta")
    ]
    assert got == oracle


def test_a_real_file_agrees_with_biopython(shared_data):
    from Bio import SeqIO

    path = shared_data / "proteins" / "scope40_dev_small.fasta"
    with path.open() as handle:
        oracle = [(r.id, str(r.seq)) for r in SeqIO.parse(handle, "fasta")]
    assert [(r.record_id, r.sequence) for r in records(path)] == oracle


def test_the_id_is_the_first_word_and_is_never_parsed(fasta):
    path = fasta('>sp|P12345|X_HUMAN a "b"  c=1\nEVQ\n>tab\tsays so\nE\n>"quoted" \'x\'\nE\n>抗体 é\nE\n')
    assert [(r.record_id, r.description) for r in records(path)] == [
        ("sp|P12345|X_HUMAN", 'a "b"  c=1'),
        ("tab", "says so"),
        ('"quoted"', "'x'"),
        ("抗体", "é"),
    ]


def test_records_carry_their_source_and_row(fasta):
    assert [(r.source, r.row) for r in records(fasta(">a\nE\n>b\nV\n"), "my.fasta")] == [
        ("my.fasta", 1),
        ("my.fasta", 2),
    ]


def test_the_sequence_is_not_normalised(fasta):
    assert records(fasta(">a\nev-Q.*\n\nLX\n"))[0].sequence == "ev-Q.*LX"


def test_a_record_without_residues_inside_the_file_is_yielded_for_the_caller_to_report(fasta):
    assert [(r.record_id, r.sequence) for r in records(fasta(">a\n>b\nEV\n"))] == [("a", ""), ("b", "EV")]


def test_a_30000_residue_record_is_read_whole(fasta):
    residues = "".join(random.Random(0).choices("ACDEFGHIKLMNPQRSTVWY", k=30_000))
    assert records(fasta(f">titin\n{residues}\n"))[0].sequence == residues


def test_the_name_of_a_packed_file_does_not_matter(tmp_path):
    path = tmp_path / "no_suffix"
    path.write_bytes(gz(b">a\nEV\n"))
    assert [r.record_id for r in records(path)] == ["a"]


def test_blocked_gzip_is_read_and_its_missing_end_block_is_a_truncation(tmp_path):
    bgzf = pytest.importorskip("Bio.bgzf")
    path = tmp_path / "x.fasta.gz"
    with bgzf.BgzfWriter(str(path)) as handle:
        handle.write("".join(f">r{i}\n{'EVQL' * 500}\n" for i in range(100)))
    assert len(records(path)) == 100
    path.write_bytes(path.read_bytes()[:-28])
    with pytest.raises(FileFormatError, match="truncated"):
        records(path)


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b">", "cannot be read after record 0"),
        (b"\n>a\nEV\n", "begins with white space"),
        (b"\xef\xbb\xbf>a\nEV\n", "byte order mark"),
        (b"@a\nACGT\n+\nIIII\n", "FASTQ"),
        (b"hello\n", "is not FASTA"),
        (b"\x89PNG\r\n\x1a\n\x00", "is not FASTA"),
        (b">a\rEV\r>b\rEV\r", "carriage return alone"),
        (b">a\nEV\n>\nEV\n", "record 2 has no id"),
        (b">a\nEV\n> b\nEV\n", "record 2 has no id"),
        (b">a\nEV\n>b\n", r"the last record \(number 2\) has no sequence: the file may be truncated"),
        (b">a\nEV\n>b", r"the last record \(number 2\) has no sequence"),
        (b">a\nEV\n>b\xff\nEV\n", "record 2 is not UTF-8"),
        (b">a\nE\xe9V\n", "record 1 is not UTF-8"),
        (">a\nEV\n>b \ufffd\nEV\n".encode(), "record 2 is not UTF-8 text, or holds the replacement"),
        (b">a\nEV\x00\x01\n", "binary"),
        (b"BZh91AY", "bzip2"),
        (b"\xfd7zXZ\x00", "xz"),
        (b"PK\x03\x04", "zip"),
        (b"\x50\x2a\x4d\x18" + b"\0" * 8, "skippable frame"),
        ("x".encode("utf-16"), "UTF-16"),
        (gz(b""), "is empty"),
        (gz(b">a\nEV\n") + b"garbage", "damaged|truncated"),
        (PACKERS["zstd"](b">a\nEV\n") + b"garbage", "damaged|truncated"),
    ],
)
def test_what_is_not_fasta_is_named(fasta, content, reason):
    with pytest.raises(FileFormatError, match=reason) as caught:
        records(fasta(content))
    assert caught.value.source == "in.fasta"


def test_a_damaged_checksum_is_an_error(fasta):
    packed = bytearray(gz(b">a\nEV\n"))
    packed[-6] ^= 1
    with pytest.raises(FileFormatError, match="damaged"):
        records(fasta(bytes(packed)))


@pytest.mark.parametrize("packer", ["gzip", "zstd"])
def test_no_truncation_of_a_packed_file_passes_as_a_shorter_one(fasta, packer):
    rng = random.Random(1)
    text = "".join(f">r{i} d\n{''.join(rng.choices('ACDEFGHIKLMNPQRSTVWY', k=40))}\n" for i in range(8))
    packed = PACKERS[packer](text.encode())
    assert len(records(fasta(packed))) == 8
    for cut in range(len(packed)):
        with pytest.raises(FileFormatError):
            records(fasta(packed[:cut]))


@pytest.mark.parametrize("packer", ["gzip", "zstd"])
def test_records_before_a_late_truncation_arrive_and_then_it_is_an_error(fasta, packer):
    rng = random.Random(2)
    text = "".join(f">r{i}\n{''.join(rng.choices('ACDEFGHIKLMNPQRSTVWY', k=400))}\n" for i in range(2000))
    reader = read_fasta(fasta(PACKERS[packer](text.encode())[:-20]), "x")
    assert [r.record_id for r in itertools.islice(reader, 50)] == [f"r{i}" for i in range(50)]
    with pytest.raises(FileFormatError, match="truncated"):
        list(reader)


def test_a_missing_file_a_directory_and_an_impossible_name_are_not_found(tmp_path):
    with pytest.raises(InputNotFoundError, match="no such file"):
        read_fasta(tmp_path / "none", "none")
    with pytest.raises(InputNotFoundError, match="is a directory"):
        read_fasta(tmp_path, "dir")
    with pytest.raises(InputNotFoundError, match="null"):
        read_fasta("a\0b", "nul")


def test_a_file_without_read_permission_says_so(fasta):
    path = fasta(">a\nEV\n")
    path.chmod(0)
    if os.geteuid() == 0:
        os.seteuid(65534)  # root ignores modes
        try:
            with pytest.raises(InputNotFoundError, match="permission denied"):
                read_fasta(path, "x")
        finally:
            os.seteuid(0)
    else:
        with pytest.raises(InputNotFoundError, match="permission denied"):
            read_fasta(path, "x")
