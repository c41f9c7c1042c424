"""What is done to raw vectors before they are compared: centring or whitening, then unit length.

Concepts
--------
Raw mean embeddings of unrelated antibodies have a cosine of 0.6 to 0.9, as all share one large
component. A *centre* taken off, per locus, brings unrelated pairs to about 0. A *reference* centre is
shipped (`plmsearch.embedding.centres`) and the same in every database; a *fitted* one is the mean of
the database (`plmsearch.transform_fit`), and moves with it. *Whitening* also divides each principal
direction by its standard deviation, so that directions count alike.

Limitations
-----------
After whitening, vectors of two loci lie along different axes: a cosine between them says nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np

from plmsearch.errors import DimensionMismatch, InvalidVectorError, ParameterError, VectorIndexError
from plmsearch.types import Bool1D, Float1D, Float2D, Int1D
from plmsearch.vectors import check_vectors, unit_vectors, vector_lengths

__all__ = [
    "Transform",
    "TransformKind",
    "check_loci",
]

TransformKind: TypeAlias = Literal["none", "reference", "centre", "whiten"]
Float64: TypeAlias = np.ndarray[tuple[Any, ...], np.dtype[np.float64]]

#: A vector this close to its centre, relative to the longer of both, has no direction left: float32
#: keeps 6e-8 of each component, so the difference is rounding.
_ROUNDING = 1e-6

_AT_ONCE = 1 << 18  # components taken at once: 2 MiB of float64
_MAGIC = b"plmsearch transform 1\n"


@dataclass(frozen=True, slots=True, eq=False)
class Transform:
    """Maps raw vectors of one space to unit vectors that are compared by their dot product.

    Parameters
    ----------
    kind : {"none", "reference", "centre", "whiten"}
        ``none`` only scales to unit length; ``reference`` takes off shipped centres, ``centre`` fitted
        ones; ``whiten`` projects as well.
    centres : mapping of str to ndarray, dtype=float32, shape=(d,)
        By locus. The entry ``""`` is for every locus that has none of its own, and is always there,
        but for ``none``, which has no entries.
    projections : mapping of str to ndarray, dtype=float32, shape=(d, m)
        The same keys for ``whiten``; else empty.
    n_fitted : mapping of str to int
        Vectors that each locus of the fitted set had; empty if nothing was fitted. A locus that is
        here and not in `centres` had too few.

    Raises
    ------
    ParameterError
        If the parts do not fit the kind or each other, or hold NaN or infinity.

    Examples
    --------
    >>> centre = np.array([1.0, 1.0], dtype=np.float32)
    >>> raw = np.array([[4.0, 5.0]], dtype=np.float32)
    >>> Transform("reference", {"": centre}).apply(raw, ["IGH"])
    array([[0.6, 0.8]], dtype=float32)
    """

    kind: TransformKind = "none"
    centres: Mapping[str, Float1D] = field(default_factory=dict)
    projections: Mapping[str, Float2D] = field(default_factory=dict)
    n_fitted: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in get_args(TransformKind):
            raise ParameterError("kind", self.kind, f"one of {', '.join(get_args(TransformKind))}")
        for name in ("centres", "projections"):
            object.__setattr__(self, name, {k: _frozen(v) for k, v in getattr(self, name).items()})
        _check_parts(self)

    @property
    def dim(self) -> int | None:
        """Components of the raw vectors; None for ``none``, which takes any."""
        return len(self.centres[""]) if self.centres else None

    @property
    def n_components(self) -> int | None:
        """Components of what `apply` returns; None for ``none``, which keeps their number."""
        return self.projections[""].shape[1] if self.projections else self.dim

    @property
    def digest(self) -> str:
        """SHA-256 of `to_bytes`, hexadecimal: equal digests, equal scores."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def apply(self, vectors: Float2D, loci: Sequence[str]) -> Float2D:
        """Centre and project by locus, then scale to unit length, in a new array.

        Parameters
        ----------
        vectors : ndarray, dtype=float32, shape=(n, d)
            Raw.
        loci : sequence of str
            One per row: ``IGH``, ``IGK``, ``IGL``, or whatever the transform has no entry for.

        Returns
        -------
        ndarray, dtype=float32, shape=(n, m)
            A row depends on its own vector and locus only, beyond the rounding of the last digit.

        Raises
        ------
        InvalidVectorError
            Naming the first row that is not finite, all zero, or equal to its centre within rounding.
        DimensionMismatch
            If d is not that of the transform.
        ParameterError
            If there are not as many loci as rows.
        """
        check_loci(vectors, loci)
        if self.dim is None:
            return unit_vectors(vectors, vectors.shape[1])
        entry = self._entries(vectors, loci)
        centres = self.stacked_centres.astype(np.float64)
        projections = [
            p.astype(np.float64) for p in (self.projections.get(x) for x in self.centres) if p is not None
        ]
        unit = np.empty((len(vectors), self.n_components or 0), dtype=np.float32)
        for rows in _blocks(vectors):
            centred = _centred(vectors[rows], centres[entry[rows]], rows.start)
            unit[rows] = _unit(_projected(centred, projections, entry[rows]), rows.start)
        return unit

    def measure(self, vectors: Float2D, loci: Sequence[str]) -> tuple[Int1D, Float64]:
        """Return what `apply` does to each row, where it does not project: which centre, and what length.

        Parameters
        ----------
        vectors, loci
            As `apply` takes them, and refuses them.

        Returns
        -------
        which : ndarray, dtype=int64, shape=(n,)
            Row of `stacked_centres` that is taken off; 0 where there is none.
        lengths : ndarray, dtype=float64, shape=(n,)
            Of what is left, which is divided by it.
        """
        check_loci(vectors, loci)
        if self.dim is None:
            return np.zeros(len(vectors), dtype=np.int64), vector_lengths(vectors)
        which = self._entries(vectors, loci)
        centres = self.stacked_centres.astype(np.float64)
        lengths: Float64 = np.empty(len(vectors))
        for rows in _blocks(vectors):
            lengths[rows] = _lengths(_centred(vectors[rows], centres[which[rows]], rows.start))
        return which, lengths

    @property
    def stacked_centres(self) -> Float2D:
        """The centres in the order of their loci; dtype=float32, shape=(m, d), (0, 0) for ``none``."""
        if not self.centres:
            return np.empty((0, 0), dtype=np.float32)
        return np.stack(list(self.centres.values()))

    def _entries(self, vectors: Float2D, loci: Sequence[str]) -> Int1D:
        """Check vectors, and return the row of `stacked_centres` of each."""
        if vectors.shape[1] != self.dim:
            raise DimensionMismatch(vectors.shape[1], self.dim or 0)
        check_vectors(vectors)
        entries = {name: i for i, name in enumerate(self.centres)}
        return np.fromiter((entries.get(x, entries[""]) for x in loci), np.int64, len(loci))

    def to_bytes(self) -> bytes:
        """Return facts as JSON and numbers as little-endian float32, one after the other.

        Notes
        -----
        ``plmsearch transform 1``, line feed, one line of JSON, line feed; then per locus in the order of
        the facts the centre, then its projection row by row.
        """
        facts = {
            "kind": self.kind,
            "loci": list(self.centres),
            "dim": self.dim or 0,
            "n_components": self.n_components or 0,
            "n_fitted": dict(self.n_fitted),
        }
        numbers = (
            np.ascontiguousarray(part, dtype="<f4").tobytes()
            for name in self.centres
            for part in (self.centres[name], self.projections.get(name))
            if part is not None
        )
        return _MAGIC + json.dumps(facts, sort_keys=True).encode() + b"\n" + b"".join(numbers)

    @classmethod
    def from_bytes(cls, data: bytes) -> Transform:
        """Read what `to_bytes` wrote.

        Raises
        ------
        VectorIndexError
            If the bytes are not that, or not all of it.
        """
        try:
            return _read(data)
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise VectorIndexError(
                f"these {len(data)} bytes are not a transform of this version: {exc}",
                hint="fit the transform again: plmsearch optimize --fit-transform",
            ) from exc


# --- Applying ------------------------------------------------------------------------------------


def _blocks(vectors: Float2D) -> Iterator[slice]:
    step = max(1, _AT_ONCE // vectors.shape[1])
    for start in range(0, len(vectors), step):
        yield slice(start, min(start + step, len(vectors)))


def _centred(vectors: Float2D, centres: Float64, first_row: int) -> Float64:
    """Take off the centres; refuse a difference that is rounding."""
    raw = vectors.astype(np.float64)
    difference = raw - centres
    longer = np.maximum(_lengths(raw), _lengths(centres))
    _refuse(_lengths(difference) <= _ROUNDING * longer, first_row, "is equal to its centre within rounding")
    return difference


def _projected(centred: Float64, projections: Sequence[Float64], entry: Int1D) -> Float64:
    if not projections:
        return centred
    out: Float64 = np.empty((len(centred), projections[0].shape[1]))
    for i in np.unique(entry):
        rows = entry == i
        out[rows] = centred[rows] @ projections[i]
    return out


def _unit(vectors: Float64, first_row: int) -> Float2D:
    lengths = _lengths(vectors)
    _refuse(lengths == 0, first_row, "has nothing in the kept directions")
    return cast(Float2D, (vectors / lengths[:, None]).astype(np.float32))


def _lengths(vectors: Float64) -> Float64:
    return cast(Float64, np.sqrt(np.einsum("nd,nd->n", vectors, vectors)))


def _refuse(bad: Bool1D, first_row: int, reason: str) -> None:
    if bad.any():
        raise InvalidVectorError(first_row + int(np.flatnonzero(bad)[0]), reason)


# --- Parts and bytes -----------------------------------------------------------------------------


def check_loci(vectors: Float2D, loci: Sequence[str]) -> None:
    """Refuse anything but a matrix with one locus per row.

    Raises
    ------
    VectorIndexError
        If `vectors` is of another rank.
    ParameterError
        If there are not as many loci as rows.
    """
    if vectors.ndim != 2:
        raise VectorIndexError(
            f"the vectors are an array of shape {vectors.shape}", hint="one row per vector: (n, d)"
        )
    if len(loci) != len(vectors):
        raise ParameterError("loci", f"{len(loci)} long", f"one per vector, {len(vectors)} long")


def _frozen(array: Any) -> Any:
    """Copy to float32 that cannot be written."""
    copy = np.array(array, dtype=np.float32)
    copy.flags.writeable = False
    return copy


def _check_parts(transform: Transform) -> None:
    centres, projections = transform.centres, transform.projections
    if (transform.kind == "none") != (not centres) or (centres and "" not in centres):
        raise ParameterError("centres", sorted(centres), "empty for kind none, else with an entry ''")
    wanted = set(centres) if transform.kind == "whiten" else set()
    if set(projections) != wanted:
        raise ParameterError("projections", sorted(projections), f"one each for {sorted(wanted)}")
    shapes = {c.shape for c in centres.values()} | {p.shape[:1] for p in projections.values()}
    if len(shapes) > 1 or any(len(shape) != 1 or shape == (0,) for shape in shapes):
        raise ParameterError("centres", sorted(shapes), "of one shape (d,), that of the projections' columns")
    if len({p.shape for p in projections.values()}) > 1 or any(p.ndim != 2 for p in projections.values()):
        raise ParameterError("projections", [p.shape for p in projections.values()], "of one shape (d, m)")
    if not all(np.isfinite(part).all() for part in (*centres.values(), *projections.values())):
        raise ParameterError("transform", "NaN or infinity", "finite")


def _read(data: bytes) -> Transform:
    magic, body = data[: len(_MAGIC)], data[len(_MAGIC) :]
    header, _, numbers = body.partition(b"\n")
    if magic != _MAGIC:
        raise ValueError("it begins otherwise")
    facts = json.loads(header)
    kind, loci, dim, n_components = facts["kind"], facts["loci"], facts["dim"], facts["n_components"]
    width = dim * (1 + n_components) if kind == "whiten" else dim
    if len(numbers) != 4 * width * len(loci):
        raise ValueError(f"{len(numbers)} bytes of numbers instead of {4 * width * len(loci)}")
    rows = np.frombuffer(numbers, dtype="<f4").reshape(len(loci), width)
    centres = {name: row[:dim] for name, row in zip(loci, rows, strict=True)}
    projections = {name: row[dim:].reshape(dim, -1) for name, row in zip(loci, rows, strict=True)}
    return Transform(kind, centres, projections if kind == "whiten" else {}, facts["n_fitted"])
