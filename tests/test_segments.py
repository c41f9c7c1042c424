"""The vector file: what was written is read, by numpy alone too, and any other byte is found."""

import os
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from plmsearch.errors import SegmentDamaged
from plmsearch.store.segments import open_segment, read_stamp, write_segment
from plmsearch.vectors import unit_vectors

HEADER = 64
BLOCK = 1 << 20
DIGEST = 32
#: Two blocks: 3,000 rows of 100 float32 are 1.2 MB.
LARGE = (3000, 100)

fresh_files = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


def content(n, dim, seed=0):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, dim)).astype(np.float32)
    return vectors, rng.permutation(np.arange(n, dtype=np.int64)) + 2**40


@pytest.fixture
def new_path(tmp_path):
    """A path without a file, another at each call."""
    return lambda: tmp_path / f"{len(list(tmp_path.iterdir()))}.vec"


@pytest.fixture
def written(new_path):
    def write(n=7, dim=5, seed=0):
        path = new_path()
        return path, write_segment(path, *content(n, dim, seed))

    return write


def flip(path, offset, bit=0, *, keep_mtime=True):
    """Change one bit, as a disk would: without a trace in the file's times."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))
    if keep_mtime:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


# --- Round trip ----------------------------------------------------------------------------------


@fresh_files
@given(n=st.integers(0, 200), dim=st.integers(1, 70), full=st.booleans())
@example(n=1, dim=1, full=True)
@example(n=0, dim=8, full=True)
@example(n=LARGE[0], dim=LARGE[1], full=True)
@example(n=BLOCK // 4 // 64, dim=64, full=True)
def test_what_was_written_is_read(new_path, n, dim, full):
    vectors, ids = content(n, dim)
    path = new_path()
    segment = open_segment(path, write_segment(path, vectors, ids), full=full)
    assert (segment.vectors.dtype, segment.ids.dtype) == (np.float32, np.int64)
    assert np.array_equal(segment.vectors, vectors)
    assert np.array_equal(segment.ids, ids)


@fresh_files
@given(n=st.integers(1, 50), dim=st.integers(1, 70))
@example(*LARGE)
def test_the_documented_layout_is_readable_with_numpy_alone(new_path, n, dim):
    vectors, ids = content(n, dim)
    path = new_path()
    write_segment(path, vectors, ids)
    header = path.read_bytes()[:HEADER]
    assert header[:8] == b"PLMSVEC1"
    version, stored_dim = struct.unpack("<II", header[8:16])
    n_vectors, ids_offset, footer_offset = struct.unpack("<QQQ", header[16:40])
    block, n_blocks = struct.unpack("<II", header[40:48])
    assert (version, stored_dim, n_vectors, block) == (1, dim, n, BLOCK)
    assert header[48:60] == bytes(12)
    mapped = np.memmap(path, "<f4", "r", offset=64, shape=(n, dim))
    assert np.array_equal(mapped, vectors)
    assert ids_offset % 64 == 0
    assert np.array_equal(np.memmap(path, "<i8", "r", offset=ids_offset, shape=(n,)), ids)
    assert path.stat().st_size == footer_offset + (n_blocks + 1) * DIGEST
    assert n_blocks == -(-(footer_offset - HEADER) // BLOCK)


def test_the_vectors_lie_aligned_in_memory_too(written):
    segment = open_segment(*written(9, 7))
    assert segment.vectors.ctypes.data % 64 == 0
    assert segment.ids.ctypes.data % 64 == 0
    assert segment.vectors.flags.c_contiguous


def test_mapped_arrays_cannot_be_written_to(written):
    segment = open_segment(*written())
    for array in (segment.vectors, segment.ids):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_arrays_of_another_order_or_width_are_stored_the_same(new_path):
    vectors, ids = content(6, 4)
    stamps = [
        write_segment(new_path(), v, i)
        for v, i in ((vectors, ids), (np.asfortranarray(vectors), ids.astype(">i8")))
    ]
    assert stamps[0].digest == stamps[1].digest


@fresh_files
@given(n=st.integers(0, 60), dim=st.integers(1, 70))
@example(*LARGE)
@example(n=BLOCK // 4 // 64 + 1, dim=64)
@example(n=2, dim=BLOCK // 4 + 1)
def test_vectors_written_at_unit_length_are_those_scaled_before(new_path, n, dim):
    vectors, ids = content(n, dim)
    first, second = new_path(), new_path().with_suffix(".unit")
    write_segment(first, unit_vectors(vectors, dim), ids)
    write_segment(second, vectors, ids, unit=True)
    assert first.read_bytes() == second.read_bytes()


def test_an_existing_file_is_never_overwritten(written):
    path, stamp = written()
    with pytest.raises(FileExistsError):
        write_segment(path, *content(3, 5))
    open_segment(path, stamp, full=True)


def test_the_stamp_holds_after_a_rename(written):
    path, stamp = written()
    moved = path.rename(path.with_name("moved.vec"))
    assert read_stamp(moved, stamp.digest) == stamp


def test_a_reader_keeps_its_vectors_when_the_file_is_unlinked(written):
    path, stamp = written(50, 8)
    segment = open_segment(path, stamp)
    path.unlink()
    assert np.array_equal(segment.vectors, content(50, 8)[0])


# --- Damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", range(HEADER))
def test_any_flipped_byte_of_the_header_is_found_on_opening(written, offset):
    path, stamp = written()
    flip(path, offset, bit=offset % 8)
    with pytest.raises(SegmentDamaged) as caught:
        open_segment(path, stamp)
    assert caught.value.path == str(path)


@pytest.mark.parametrize("place", range(0, 2 * DIGEST, 7))
def test_any_flipped_byte_of_the_footer_is_found_on_opening(written, place):
    path, stamp = written()
    flip(path, path.stat().st_size - 1 - place)
    with pytest.raises(SegmentDamaged, match="checksum of header and footer"):
        open_segment(path, stamp)


@fresh_files
@given(data=st.data())
def test_a_flipped_bit_of_the_body_is_found_when_the_file_was_touched_or_checked_in_full(written, data):
    path, stamp = written(40, 30)
    last = path.stat().st_size - 2 * DIGEST - 1
    flip(path, data.draw(st.integers(HEADER, last)), data.draw(st.integers(0, 7)))
    with pytest.raises(SegmentDamaged, match="not what was written"):
        open_segment(path, stamp, full=True)
    os.utime(path)
    with pytest.raises(SegmentDamaged, match="not what was written"):
        open_segment(path, stamp)


def test_the_damaged_block_is_named(written):
    path, stamp = written(*LARGE)
    flip(path, HEADER + BLOCK + 5)
    with pytest.raises(SegmentDamaged, match=f"bytes {HEADER + BLOCK} to "):
        open_segment(path, stamp, full=True)


def test_a_file_that_was_only_touched_or_copied_is_taken_after_a_check(written):
    path, stamp = written()
    copy = path.with_name("copy.vec")
    copy.write_bytes(path.read_bytes())
    os.utime(path)
    for one in (path, copy):
        assert np.array_equal(open_segment(one, stamp).vectors, content(7, 5)[0])


@fresh_files
@given(data=st.data())
def test_a_truncated_file_is_refused(written, data):
    path, stamp = written(20, 9)
    size = data.draw(st.integers(0, stamp.size_bytes - 1))
    os.truncate(path, size)
    with pytest.raises(SegmentDamaged):
        open_segment(path, stamp)
    # Not even a catalog that believes the new size is fooled.
    with pytest.raises(SegmentDamaged):
        open_segment(path, read_stamp(path, stamp.digest))


def test_a_file_with_something_appended_is_refused(written):
    path, stamp = written()
    with path.open("ab") as file:
        file.write(bytes(64))
    with pytest.raises(SegmentDamaged):
        open_segment(path, stamp)
    with pytest.raises(SegmentDamaged, match="does not fit"):
        open_segment(path, read_stamp(path, stamp.digest))


def test_a_sound_file_in_the_place_of_another_is_refused(written):
    path, stamp = written(seed=0)
    other, other_stamp = written(seed=1)
    other.replace(path)
    assert stamp.size_bytes == other_stamp.size_bytes
    with pytest.raises(SegmentDamaged):
        open_segment(path, stamp)
    open_segment(path, other_stamp)


def test_a_footer_and_body_changed_together_do_not_pass_for_the_file(written):
    """Somebody recomputed every checksum inside: the digest in the catalog still tells."""
    path, stamp = written(seed=0)
    forged, _ = written(seed=1)
    path.write_bytes(forged.read_bytes())
    with pytest.raises(SegmentDamaged):
        open_segment(path, replace(stamp, mtime_ns=path.stat().st_mtime_ns))


@pytest.mark.parametrize("junk", [b"", b"PLMSVEC1", bytes(64), bytes(96), b"\xff" * 500])
def test_what_is_no_vector_file_is_refused(tmp_path, junk):
    path = tmp_path / "junk.vec"
    path.write_bytes(junk)
    with pytest.raises(SegmentDamaged):
        open_segment(path, read_stamp(path, "00" * 32))


def test_a_file_of_a_later_version_is_refused_as_such(written):
    path, stamp = written()
    raw = bytearray(path.read_bytes())
    raw[8] = 2
    raw[60:64] = struct.pack("<I", zlib.crc32(raw[:60]))
    path.write_bytes(raw)
    with pytest.raises(SegmentDamaged, match="version"):
        open_segment(path, stamp)


def test_a_missing_file_is_told_from_a_damaged_one(written):
    path, stamp = written()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        open_segment(path, stamp)
