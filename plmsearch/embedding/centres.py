"""Reference centres: mean vectors of simulated human antibody chains, shipped with the package.

Taken off before vectors are compared, they bring unrelated chains to a cosine near 0, and as they are
fixed, a pair has the same score in a database of two chains and of millions. ``centres.safetensors``
was made by ``scripts/make_centres.py``; its metadata say how.

Limitations
-----------
For antibodies only: vectors of other proteins lie nowhere near these centres. The means are of whole
variable domains; a chain with a leader or a constant domain is not what they describe.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import cast

import numpy as np
from safetensors import safe_open

from plmsearch.embedding.spec import EmbeddingSpec
from plmsearch.types import Float1D

__all__ = ["reference_centres"]

_FILE = Path(__file__).with_name("centres.safetensors")
_LOCI = ("IGH", "IGK", "IGL")


def reference_centres(spec: EmbeddingSpec) -> Mapping[str, Float1D] | None:
    """Return the shipped centre of each locus for a space, if there is one.

    Parameters
    ----------
    spec : EmbeddingSpec
        How long sequences are read does not matter: variable domains fit the model. Nor does the version
        of the numbering, which moves a residue or two at the edge of a region.

    Returns
    -------
    mapping of str to ndarray, dtype=float32, shape=(d,), or None
        For ``IGH``, ``IGK`` and ``IGL``, raw; and for ``""``, a chain whose locus is not known, the mean
        of the three. Read-only. None if the model, its weights, the layer, the region or the pooling is
        another.

    Notes
    -----
    Reads 8 KiB of the file at each call, about 1 ms.
    """
    with safe_open(_FILE, framework="numpy") as file:
        facts = file.metadata()
        of_space = (spec.model_id, spec.weights_digest, spec.pooling)
        if of_space != (facts["model_id"], facts["weights_digest"], facts["pooling"]):
            return None
        names = {locus: f"{spec.model_id}/{spec.layer}/{spec.region}/{locus}" for locus in _LOCI}
        if not set(names.values()).issubset(file.keys()):
            return None
        centres = {locus: cast(Float1D, file.get_tensor(name)) for locus, name in names.items()}
    neutral = np.mean(list(centres.values()), axis=0, dtype=np.float64)
    centres[""] = cast(Float1D, neutral.astype(np.float32))
    for centre in centres.values():
        centre.flags.writeable = False
    return MappingProxyType(centres)
