"""What is searched, as plain dataclasses: spaces, transforms of their vectors, and rankings made of them."""

from __future__ import annotations

from dataclasses import dataclass

from plmsearch.embedding.spec import EmbeddingSpec
from plmsearch.transform import Transform

__all__ = ["RankingPart", "StoredRanking", "StoredSpace", "StoredTransform"]


@dataclass(frozen=True, slots=True)
class StoredSpace:
    """An embedding space of the database.

    Parameters
    ----------
    space_id : int
    spec : EmbeddingSpec
    is_default : bool
        Searched when no space is named.
    is_complete : bool
        False while the vectors of stored sequences are still being computed.
    n_vectors : int
    """

    space_id: int
    spec: EmbeddingSpec
    is_default: bool
    is_complete: bool
    n_vectors: int


@dataclass(frozen=True, slots=True)
class StoredTransform:
    """A transform of a space's vectors; `transform` has its arrays.

    Parameters
    ----------
    transform_id, space_id : int
    version : int
        1, and one more each time it is fitted anew.
    transform : Transform
    """

    transform_id: int
    space_id: int
    version: int
    transform: Transform


@dataclass(frozen=True, slots=True)
class RankingPart:
    """One space of a ranking; `transform` is None where its vectors are compared as they are."""

    space: StoredSpace
    weight: float
    transform: StoredTransform | None = None

    @property
    def name(self) -> str:
        """Space and transform, such as ``antiberty/6/whole/mean+reference``."""
        name = self.space.spec.name
        return name if self.transform is None else f"{name}+{self.transform.transform.kind}"

    @property
    def dim(self) -> int:
        """Components of its part of a compared vector."""
        made = None if self.transform is None else self.transform.transform.n_components
        return self.space.spec.dim if made is None else made


@dataclass(frozen=True, slots=True)
class StoredRanking:
    """What is searched: one or more spaces with weights, each with a transform or as it is.

    Its score is the mean of the spaces' cosine similarities by weight: vectors of unit length, each times
    the square root of its share of the weights, side by side, have it as their inner product.

    Parameters
    ----------
    ranking_id : int
        0: it is not stored, and so has no derived files, no index and no null distribution.
    name : str
    parts : tuple of RankingPart
    is_default : bool
        Searched when none is named.
    keeps_files : bool
        It was asked for that its vectors are written out, as those of the default are.
    """

    ranking_id: int
    name: str
    parts: tuple[RankingPart, ...]
    is_default: bool = False
    keeps_files: bool = False

    @property
    def space(self) -> StoredSpace:
        """The first space: its segments have the rows."""
        return self.parts[0].space

    @property
    def dim(self) -> int:
        """Components of a compared vector."""
        return sum(part.dim for part in self.parts)

    @property
    def n_vectors(self) -> int:
        """Most vectors that can be compared: a sequence needs one in each space."""
        return min(part.space.n_vectors for part in self.parts)

    @property
    def reads_domains(self) -> bool:
        """Whether what it compares are variable domains, not chains."""
        return self.space.spec.reads_domains

    @property
    def n_components(self) -> int:
        """Components of the spaces' raw vectors, side by side."""
        return sum(part.space.spec.dim for part in self.parts)

    @property
    def transforms_by_locus(self) -> bool:
        """Whether a vector's transform depends on the locus of its sequence."""
        return any(p.transform is not None and len(p.transform.transform.centres) > 1 for p in self.parts)

    @property
    def needs_locus(self) -> bool:
        """Whether it compares by locus: variable domains always, chains where their transform does."""
        return self.reads_domains or self.transforms_by_locus

    @property
    def keeps_vectors(self) -> bool:
        """Whether vectors are written out as it compares them; else they are computed from its space's.

        They have to be where computing them for a search takes longer than reading them: of several spaces,
        or projected.
        """
        transform = self.parts[0].transform
        is_projected = transform is not None and bool(transform.transform.projections)
        return self.is_default or self.keeps_files or len(self.parts) > 1 or is_projected

    @property
    def key(self) -> tuple[tuple[int, float, int, int], ...]:
        """What decides its scores: of each part the space, its share, the transform and its version."""
        total = sum(part.weight for part in self.parts)
        return tuple(
            (
                part.space.space_id,
                part.weight / total,
                0 if part.transform is None else part.transform.transform_id,
                0 if part.transform is None else part.transform.version,
            )
            for part in self.parts
        )

    @property
    def is_raw(self) -> bool:
        """Whether it compares the vectors of one space as they are."""
        return len(self.parts) == 1 and self.parts[0].transform is None
