"""A vector is refused exactly when it has no direction."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from plmsearch.errors import DimensionMismatch, InvalidVectorError, VectorIndexError
from plmsearch.vectors import check_vectors, unit_error, unit_vectors

ANY_FLOAT32 = st.floats(width=32)
MATRICES = hnp.arrays(np.float32, st.tuples(st.integers(0, 4), st.integers(1, 5)), elements=ANY_FLOAT32)


def without_direction(vectors):
    """The rows of which cosine similarity is undefined, found value by value."""
    return [i for i, row in enumerate(vectors) if not np.isfinite(row).all() or not row.any()]


@given(MATRICES)
@example(np.full((1, 3), 1e-30, dtype=np.float32))
@example(np.full((1, 3), 3e38, dtype=np.float32))
@example(np.array([[0, np.float32(1e-45)]], dtype=np.float32))
def test_only_vectors_without_a_direction_are_refused_and_the_first_is_named(vectors):
    bad = without_direction(vectors)
    if not bad:
        check_vectors(vectors)
        return
    with pytest.raises(InvalidVectorError) as caught:
        check_vectors(vectors)
    assert caught.value.row == bad[0]
    assert ("all zero" in str(caught.value)) == (not vectors[bad[0]].any())


@given(MATRICES)
@example(np.array([[1e-40, 2e-40]], dtype=np.float32))
def test_unit_vectors_have_length_one_and_the_same_direction(vectors):
    if without_direction(vectors):
        with pytest.raises(InvalidVectorError):
            unit_vectors(vectors, vectors.shape[1])
        return
    unit = unit_vectors(vectors, vectors.shape[1])
    assert unit.dtype == np.float32
    exact = vectors.astype(np.float64)
    exact /= np.sqrt((exact**2).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(unit, exact, rtol=1e-6, atol=1e-7)


def test_the_argument_is_neither_changed_nor_shared():
    vectors = np.array([[0.6, 0.8], [3, 4]], dtype=np.float32)
    before = vectors.copy()
    unit = unit_vectors(vectors, 2)
    assert (vectors == before).all()
    assert not np.shares_memory(unit, vectors)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64])
def test_other_number_types_are_converted(dtype):
    unit = unit_vectors(np.array([[3, 4]], dtype=dtype), 2)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, [[0.6, 0.8]], rtol=1e-7)


def test_a_float64_beyond_float32_is_refused_as_infinite():
    with pytest.raises(InvalidVectorError, match="infinity"):
        unit_vectors(np.array([[1e300, 1.0]]), 2)


def test_another_dimension_is_named_with_the_expected_one():
    with pytest.raises(DimensionMismatch) as caught:
        unit_vectors(np.ones((2, 3), dtype=np.float32), 4)
    assert (caught.value.got, caught.value.expected) == (3, 4)


@pytest.mark.parametrize("shape", [(), (4,), (1, 2, 4)])
def test_an_array_of_another_rank_is_refused_by_its_shape(shape):
    with pytest.raises(VectorIndexError) as caught:
        unit_vectors(np.ones(shape, dtype=np.float32), 4)
    assert str(shape) in str(caught.value)


def test_no_vectors_are_fine():
    assert unit_vectors(np.empty((0, 4), dtype=np.float32), 4).shape == (0, 4)


@given(MATRICES.filter(lambda m: not without_direction(m)), st.floats(-1, 1, width=32))
def test_the_error_of_unit_vectors_is_the_largest_of_any_component(vectors, change):
    unit = unit_vectors(vectors, vectors.shape[1])
    assert unit_error(unit, vectors) < 1e-7
    if len(unit):
        unit[-1, 0] += np.float32(change)
        assert unit_error(unit, vectors) == pytest.approx(abs(change), abs=1e-6)
        unit[0, -1] = np.nan
        assert np.isnan(unit_error(unit, vectors))


def test_rows_beyond_the_first_part_are_named_and_scaled():
    vectors = np.ones((700, 1000), dtype=np.float32)
    np.testing.assert_allclose(unit_vectors(vectors, 1000), 1000**-0.5, rtol=1e-6)
    vectors[650] = 0
    with pytest.raises(InvalidVectorError) as caught:
        check_vectors(vectors)
    assert caught.value.row == 650
