"""Centring, whitening and unit length, against numpy, definitions and bytes that were bent."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plmsearch.errors import DimensionMismatch, InvalidVectorError, ParameterError, VectorIndexError
from plmsearch.transform import Transform
from plmsearch.transform_fit import MAX_COMPONENTS, MIN_CENTRE, fit_centre, fit_whiten, min_whiten

LOCI = ("IGH", "IGK", "IGL", "TRB", "")
D = 6


def some_transform(kind, seed=0, d=D, m=4):
    """A transform with an entry for IGH, IGK and the unknown."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    names = () if kind == "none" else ("", "IGH", "IGK")
    centres = {name: draw(d) for name in names}
    return Transform(kind, centres, {name: draw(d, m) for name in names} if kind == "whiten" else {})


def by_definition(transform, vector, locus):
    """One row, in float64, step by step."""
    x = vector.astype(np.float64)
    if transform.kind != "none":
        key = locus if locus in transform.centres else ""
        x = x - transform.centres[key]
        if transform.kind == "whiten":
            x = transform.projections[key].astype(np.float64).T @ x
    return x / np.linalg.norm(x)


def correlated(n, d, seed, scales=None):
    """Vectors around a large common mean, whose directions have different variances."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(d, d)))[0]
    scales = np.linspace(2.0, 0.5, d) if scales is None else np.asarray(scales)
    return (5 * rng.normal(size=d) + (rng.normal(size=(n, d)) * scales) @ axes).astype(np.float32)


KINDS = pytest.mark.parametrize("kind", ["none", "reference", "centre", "whiten"])


# --- Applying ------------------------------------------------------------------------------------


@KINDS
@given(seed=st.integers(0, 2**32 - 1), loci=st.lists(st.sampled_from(LOCI), max_size=12))
def test_a_row_is_what_the_definition_says_and_of_unit_length(kind, seed, loci):
    transform = some_transform(kind)
    vectors = np.random.default_rng([1, seed]).normal(size=(len(loci), D)).astype(np.float32)
    unit = transform.apply(vectors, loci)
    assert unit.dtype == np.float32
    assert unit.shape == (len(loci), transform.n_components or D)
    for row, vector, locus in zip(unit, vectors, loci, strict=True):
        np.testing.assert_allclose(row, by_definition(transform, vector, locus), atol=1e-6)
        assert np.linalg.norm(row.astype(np.float64)) == pytest.approx(1, abs=1e-6)


@KINDS
@given(data=st.data(), loci=st.lists(st.sampled_from(LOCI), min_size=1, max_size=12))
def test_a_row_depends_on_no_other_row_and_not_on_the_order(kind, data, loci):
    transform = some_transform(kind)
    vectors = np.random.default_rng(len(loci)).normal(size=(len(loci), D)).astype(np.float32)
    whole = transform.apply(vectors, loci)
    chosen = data.draw(st.lists(st.integers(0, len(loci) - 1), max_size=15))
    part = transform.apply(vectors[chosen], [loci[i] for i in chosen])
    np.testing.assert_allclose(part, whole[chosen], atol=2e-7)


@KINDS
def test_rows_beyond_the_first_block_are_treated_and_named_alike(kind):
    transform = some_transform(kind, d=1024)
    vectors = np.random.default_rng(1).normal(size=(600, 1024)).astype(np.float32)
    loci = [LOCI[i % 5] for i in range(600)]
    unit = transform.apply(vectors, loci)
    for i in (0, 255, 256, 599):
        np.testing.assert_allclose(unit[i], by_definition(transform, vectors[i], loci[i]), atol=1e-6)
    vectors[300] = np.nan
    with pytest.raises(InvalidVectorError) as caught:
        transform.apply(vectors, loci)
    assert caught.value.row == 300


@pytest.mark.parametrize("kind", ["reference", "centre", "whiten"])
@pytest.mark.parametrize("nudge", [0, 1e-8])
def test_a_vector_equal_to_its_centre_is_refused_by_its_row(kind, nudge):
    transform = some_transform(kind)
    vectors = np.ones((3, D), dtype=np.float32)
    vectors[2] = transform.centres["IGK"] * np.float32(1 + nudge)
    with pytest.raises(InvalidVectorError, match="equal to its centre") as caught:
        transform.apply(vectors, ["IGH", "IGH", "IGK"])
    assert caught.value.row == 2
    transform.apply(vectors, ["IGH", "IGH", "IGH"])  # of another locus it has a direction


def test_a_difference_that_the_kept_directions_do_not_see_is_refused():
    projection = np.array([[1.0], [0.0]], dtype=np.float32)
    transform = Transform("whiten", {"": np.zeros(2)}, {"": projection})
    with pytest.raises(InvalidVectorError, match="kept directions"):
        transform.apply(np.array([[0.0, 1.0]], dtype=np.float32), [""])


@KINDS
def test_zero_and_not_finite_vectors_are_refused(kind):
    for bad in (0, np.inf, np.nan):
        with pytest.raises(InvalidVectorError):
            some_transform(kind).apply(np.full((1, D), bad, dtype=np.float32), ["IGH"])


def test_sizes_that_do_not_fit_are_refused():
    transform = some_transform("centre")
    with pytest.raises(DimensionMismatch):
        transform.apply(np.ones((1, D + 1), dtype=np.float32), ["IGH"])
    with pytest.raises(ParameterError, match="loci is '2 long'"):
        transform.apply(np.ones((1, D), dtype=np.float32), ["IGH", "IGH"])
    with pytest.raises(VectorIndexError, match="shape"):
        transform.apply(np.ones(D, dtype=np.float32), ["IGH"] * D)


@KINDS
def test_arguments_are_neither_changed_nor_kept(kind):
    centre = np.ones(D, dtype=np.float32)
    vectors = np.full((2, D), 3, dtype=np.float32)
    vectors[:, 0] = 4
    before = vectors.copy()
    made = some_transform(kind) if kind in ("none", "whiten") else Transform(kind, {"": centre})
    unit = made.apply(vectors, ["IGH", "IGL"])
    assert (vectors == before).all()
    centre[:] = 0
    assert (made.apply(vectors, ["IGH", "IGL"]) == unit).all()
    for part in (*made.centres.values(), *made.projections.values()):
        with pytest.raises(ValueError, match="read-only"):
            part[0] = 1


# --- Parts that do not fit -----------------------------------------------------------------------

ONE, TWO = np.ones(2), np.ones((2, 2))


@pytest.mark.parametrize(
    ("kind", "centres", "projections"),
    [
        ("other", {"": ONE}, {}),
        ("none", {"": ONE}, {}),
        ("centre", {}, {}),
        ("centre", {"IGH": ONE}, {}),
        ("centre", {"": ONE, "IGH": np.ones(3)}, {}),
        ("centre", {"": TWO}, {}),
        ("centre", {"": np.ones(0)}, {}),
        ("centre", {"": ONE}, {"": TWO}),
        ("centre", {"": ONE * np.nan}, {}),
        ("whiten", {"": ONE}, {}),
        ("whiten", {"": ONE, "IGH": ONE}, {"": TWO}),
        ("whiten", {"": ONE}, {"": np.ones((3, 2))}),
        ("whiten", {"": ONE}, {"": ONE}),
        ("whiten", {"": ONE, "IGH": ONE}, {"": TWO, "IGH": np.ones((2, 1))}),
        ("whiten", {"": ONE}, {"": TWO * np.inf}),
    ],
)
def test_a_transform_whose_parts_do_not_fit_cannot_be_made(kind, centres, projections):
    with pytest.raises(ParameterError):
        Transform(kind, centres, projections)


# --- Bytes ---------------------------------------------------------------------------------------


@KINDS
def test_bytes_bring_back_the_same_transform(kind):
    transform = some_transform(kind)
    again = Transform.from_bytes(transform.to_bytes())
    assert again.to_bytes() == transform.to_bytes()
    assert (again.kind, again.dim, again.n_components) == (
        transform.kind,
        transform.dim,
        transform.n_components,
    )
    assert list(again.centres) == list(transform.centres)
    vectors = np.random.default_rng(3).normal(size=(5, D)).astype(np.float32)
    assert (again.apply(vectors, LOCI) == transform.apply(vectors, LOCI)).all()
    assert again.digest == transform.digest


def test_the_counts_of_a_fit_are_kept():
    fitted = fit_centre(correlated(MIN_CENTRE + 3, D, 0), ["IGH"] * MIN_CENTRE + ["IGL"] * 3)
    assert Transform.from_bytes(fitted.to_bytes()).n_fitted == {"IGH": MIN_CENTRE, "IGL": 3}


def test_the_numbers_are_little_endian_float32_after_one_line_of_facts():
    data = Transform("centre", {"": np.array([1.0, -2.5])}).to_bytes()
    magic, facts, numbers = data.split(b"\n", 2)
    assert magic == b"plmsearch transform 1"
    assert json.loads(facts)["loci"] == [""]
    assert numbers == bytes.fromhex("0000803f000020c0")


def bent(data):
    """Ways in which a file is not whole, or not of this kind."""
    magic, facts, numbers = data.split(b"\n", 2)
    yield from (b"", data[:5], data[:-1], data + b"\0", data[: len(magic) + 1], b"x" + data)
    yield b"\n".join((b"plmsearch transform 2", facts, numbers))
    for change in ({"kind": "other"}, {"kind": "none"}, {"dim": -1}, {"dim": "6"}, {"loci": None}):
        yield b"\n".join((magic, json.dumps(json.loads(facts) | change).encode(), numbers))
    yield b"\n".join((magic, b"[]", numbers))
    yield b"\n".join((magic, facts, b"\xff" * len(numbers)))  # NaN


@pytest.mark.parametrize("kind", ["reference", "whiten"])
def test_bent_bytes_are_refused_by_name(kind):
    for data in bent(some_transform(kind).to_bytes()):
        with pytest.raises(VectorIndexError, match="not a transform"):
            Transform.from_bytes(data)


# --- Fitting a centre ----------------------------------------------------------------------------


def test_a_fitted_centre_is_the_mean_of_its_locus_and_the_unknown_gets_their_mean():
    heavy, light = correlated(150, D, 1), correlated(120, D, 2)
    order = np.random.default_rng(0).permutation(270)
    vectors = np.concatenate([heavy, light])[order]
    loci = np.array(["IGH"] * 150 + ["IGK"] * 120)[order].tolist()
    fitted = fit_centre(vectors, loci)
    means = [part.mean(axis=0, dtype=np.float64) for part in (heavy, light)]
    np.testing.assert_allclose(fitted.centres["IGH"], means[0], rtol=1e-6)
    np.testing.assert_allclose(fitted.centres["IGK"], means[1], rtol=1e-6)
    np.testing.assert_allclose(fitted.centres[""], np.mean(means, axis=0), rtol=1e-6)
    assert (fitted.kind, fitted.n_fitted) == ("centre", {"IGH": 150, "IGK": 120})


def test_vectors_without_a_locus_get_a_centre_of_their_own():
    vectors = correlated(MIN_CENTRE, D, 1)
    np.testing.assert_allclose(
        fit_centre(vectors, [""] * MIN_CENTRE).centres[""], vectors.mean(axis=0), rtol=1e-5
    )


def test_a_locus_with_too_few_vectors_uses_the_centre_of_the_unknown():
    vectors = correlated(MIN_CENTRE + 5, D, 1)
    fitted = fit_centre(vectors, ["IGH"] * MIN_CENTRE + ["IGL"] * 5)
    assert sorted(fitted.centres) == ["", "IGH"]
    assert fitted.n_fitted["IGL"] == 5


@pytest.mark.parametrize("fit", [fit_centre, fit_whiten])
def test_too_few_vectors_are_refused_with_their_counts(fit):
    minimum = MIN_CENTRE if fit is fit_centre else min_whiten(D)
    vectors = correlated(2 * minimum - 2, D, 0)
    with pytest.raises(ParameterError, match=f"{minimum - 1} IGH.*at least {minimum} of one locus"):
        fit(vectors, (["IGH"] * (minimum - 1)) + ["IGK"] * (minimum - 1))
    with pytest.raises(ParameterError, match="none"):
        fit(vectors[:0], [])


@pytest.mark.parametrize("fit", [fit_centre, fit_whiten])
def test_a_bad_vector_is_refused_before_it_spoils_a_mean(fit):
    vectors = correlated(700, D, 0)
    vectors[650, 2] = np.nan
    with pytest.raises(InvalidVectorError) as caught:
        fit(vectors, ["IGH"] * 700)
    assert caught.value.row == 650


def test_one_family_centred_on_itself_loses_what_its_members_share():
    """Why fitting is opt-in, shown on made-up vectors."""
    rng = np.random.default_rng(0)
    common, own = 10 * rng.normal(size=64), 5 * rng.normal(size=64)
    family = (common + own + 0.5 * rng.normal(size=(200, 64))).astype(np.float32)
    fitted = fit_centre(family, ["IGH"] * 200).apply(family, ["IGH"] * 200)
    fixed = Transform("reference", {"": common}).apply(family, ["IGH"] * 200)
    pairs = np.triu_indices(200, 1)
    assert abs(np.median((fitted @ fitted.T)[pairs])) < 0.05
    assert np.median((fixed @ fixed.T)[pairs]) > 0.95


# --- Fitting a whitening -------------------------------------------------------------------------


def whitened(transform, vectors, locus):
    """What `apply` has before it scales to unit length."""
    return (vectors - transform.centres[locus]).astype(np.float64) @ transform.projections[locus]


@pytest.mark.parametrize("kept", [1, 7, 20])
def test_the_covariance_of_whitened_vectors_is_the_identity(kept):
    vectors = correlated(900, 20, 4)
    fitted = fit_whiten(vectors, ["IGH"] * 900, n_components=kept)
    assert fitted.n_components == kept
    covariance = np.cov(whitened(fitted, vectors, "IGH"), rowvar=False)
    np.testing.assert_allclose(covariance, np.eye(kept) if kept > 1 else 1.0, atol=1e-3)


def test_the_kept_directions_are_the_leading_ones_of_a_singular_value_decomposition():
    vectors = correlated(900, 20, 4, np.geomspace(3, 0.5, 20))
    fitted = fit_whiten(vectors, ["IGH"] * 900, n_components=5)
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    expected = axes[:5].T / (singular[:5] / np.sqrt(899))
    ours = fitted.projections["IGH"]
    signs = np.sign((ours * expected).sum(axis=0))
    np.testing.assert_allclose(ours * signs, expected, rtol=1e-3, atol=1e-4)


def test_weak_directions_are_stretched_to_the_floor_only():
    vectors = correlated(2000, 4, 5, [10, 1, 0.01, 0.01])
    fitted = fit_whiten(vectors, ["IGH"] * 2000)
    covariance = np.cov(whitened(fitted, vectors, "IGH"), rowvar=False)
    np.testing.assert_allclose(np.diag(covariance)[:2], 1, atol=1e-3)
    np.testing.assert_allclose(np.diag(covariance)[2:], 1e-4 / (100 * 1e-3), rtol=0.2)


def test_directions_without_variance_are_left_out():
    flat = correlated(900, 20, 4)
    flat[:, 8:] = 1.5
    assert fit_whiten(flat, ["IGH"] * 900).n_components == 8
    with pytest.raises(ParameterError, match="alike"):
        fit_whiten(np.full((900, 20), 1.5, dtype=np.float32), ["IGH"] * 900)


def test_no_more_directions_are_kept_than_the_smallest_locus_allows():
    vectors = correlated(3000, 300, 6)
    loci = ["IGH"] * 2290 + ["IGK"] * 700 + ["IGL"] * 10
    fitted = fit_whiten(vectors, loci)
    assert fitted.n_components == 70
    assert sorted(fitted.projections) == ["", "IGH", "IGK"]
    assert fit_whiten(vectors, ["IGH"] * 3000).n_components == MAX_COMPONENTS


def test_the_unknown_locus_is_whitened_by_the_scatter_within_loci():
    heavy, light = correlated(700, D, 1), correlated(800, D, 2)
    vectors, loci = np.concatenate([heavy, light]), ["IGH"] * 700 + ["IGK"] * 800
    fitted = fit_whiten(vectors, loci)
    within = np.concatenate([heavy - heavy.mean(axis=0), light - light.mean(axis=0)]).astype(np.float64)
    covariance = within.T @ within / 1498
    projection = fitted.projections[""].astype(np.float64)
    np.testing.assert_allclose(projection.T @ covariance @ projection, np.eye(D), atol=1e-3)


@pytest.mark.parametrize("n_components", [0, -1, MAX_COMPONENTS + 1])
def test_a_number_of_directions_out_of_range_is_refused(n_components):
    with pytest.raises(ParameterError, match="n_components"):
        fit_whiten(correlated(700, D, 0), [""] * 700, n_components)


def test_a_fit_does_not_depend_on_the_order_of_rows():
    vectors = correlated(900, 20, 4)
    loci = ["IGH" if i % 5 else "" for i in range(900)]
    order = np.random.default_rng(1).permutation(900)
    one = fit_whiten(vectors, loci)
    other = fit_whiten(vectors[order], [loci[i] for i in order])
    for name in one.centres:
        np.testing.assert_allclose(one.projections[name], other.projections[name], atol=1e-5)
