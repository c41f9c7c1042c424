"""Which species chains are of, by the V genes they agree with best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["SpeciesEvidence"]

#: A difference of mean identities below this is said to be none. Mean best identities of human chains to
#: human and to mouse V genes differ by 0.2.
NEAR = 0.02
#: With more chains than this share nearest to another species, the input is said to be mixed.
MIXED = 0.1


@dataclass(frozen=True, slots=True)
class SpeciesEvidence:
    """How the species of an input was inferred.

    Parameters
    ----------
    species : str
        The one with the highest mean V identity.
    identities : mapping of str to float
        Mean over the chains of the best V identity, 0 to 1, highest first; 0 for a chain without a call.
    nearest : mapping of str to int
        Chains that agree better with this species than with any other.
    n_chains : int
    """

    species: str
    identities: Mapping[str, float]
    nearest: Mapping[str, int]
    n_chains: int

    @classmethod
    def of(cls, identities: Mapping[str, Sequence[float]]) -> SpeciesEvidence:
        """Weigh the best V identity of each chain to each species; at least one species."""
        names = sorted(identities)
        table = np.array([identities[name] for name in names], dtype=float)
        best = table.max(axis=0)
        alone = (table == best).sum(axis=0) == 1
        nearest = {name: int(((row == best) & alone).sum()) for name, row in zip(names, table, strict=True)}
        means = {name: float(row.mean()) if row.size else 0.0 for name, row in zip(names, table, strict=True)}
        order = sorted(names, key=lambda name: -means[name])
        return cls(order[0], {name: means[name] for name in order}, nearest, table.shape[1])

    @property
    def margin(self) -> float:
        """Mean V identity above that of the next species; 1 if there is no other."""
        means = list(self.identities.values())
        return means[0] - means[1] if len(means) > 1 else 1.0

    @property
    def is_mixed(self) -> bool:
        """Whether more than a tenth of the chains are nearest to other species."""
        return sum(self.nearest.values()) - self.nearest[self.species] > MIXED * self.n_chains

    @property
    def is_certain(self) -> bool:
        """Whether there is one species, clearly ahead."""
        return self.margin >= NEAR and not self.is_mixed

    def describe(self) -> str:
        """Say what was inferred and from what, in one line.

        Examples
        --------
        >>> SpeciesEvidence.of({"human": [0.9, 1.0], "mouse": [0.7, 0.75]}).describe()
        'species: human, inferred from 2 chains (mean V identity 0.950; next mouse 0.725)'
        """
        if not self.n_chains:
            return f"species: {self.species}, as there are no variable domains to infer it from"
        means = [f"mean V identity {self.identities[self.species]:.3f}"]
        means += [f"next {name} {mean:.3f}" for name, mean in list(self.identities.items())[1:2]]
        text = f"species: {self.species}, inferred from {self.n_chains:,} chains ({'; '.join(means)})"
        if self.is_mixed:
            others = ", ".join(f"{n:,} to {name}" for name, n in self.nearest.items() if n)
            text += f"; the input looks mixed: chains are nearest {others}; state --species"
        elif self.margin < NEAR:
            text += "; the difference is small: state --species"
        return text
