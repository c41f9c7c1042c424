"""What makes two embeddings comparable, and how layers are named.

Concepts
--------
An *embedding space* is everything that makes two vectors comparable: model, weights, layer, region,
pooling and how long sequences were read. Precision and device are not part of it: a database made
in bfloat16 on a GPU answers a float32 laptop.

Layers are numbered as in fair-esm ``repr_layers``: 0 is the token embeddings, 1..L the blocks. -1,
the last, is accepted where users type and stored resolved.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

from plmsearch.errors import ParameterError
from plmsearch.regions import REGION_SETS

__all__ = [
    "ANTIBODY_REGIONS",
    "LONG_POLICIES",
    "POOLINGS",
    "PRESETS",
    "EmbeddingSpec",
    "LongPolicy",
    "Pooling",
    "Preset",
    "SpaceRequest",
    "external_spec",
    "parse_layers",
    "parse_region_weights",
    "parse_regions",
]

Pooling: TypeAlias = Literal["mean", "max", "cls"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)

LongPolicy: TypeAlias = Literal["window", "truncate", "skip", "error"]
LONG_POLICIES: tuple[LongPolicy, ...] = get_args(LongPolicy)

Preset: TypeAlias = Literal["antibody", "whole"]
PRESETS: tuple[Preset, ...] = get_args(Preset)

#: What the preset ``antibody`` makes of a variable domain (`docs/decisions/0020-antibody-preset.md`).
ANTIBODY_REGIONS = "whole,cdr3"

#: Begins the model id of a space whose vectors were imported without saying which model made them.
_EXTERNAL = "external:"


@dataclass(frozen=True, slots=True)
class EmbeddingSpec:
    """The identity of an embedding space.

    Parameters
    ----------
    model_id : str
        Registered model name.
    weights_digest : str
        SHA-256 over the tensors by canonical name, hexadecimal.
    layer : int
        Representation layer, 0..L, resolved.
    dim : int
        Components of a vector.
    max_residues : int
        Most residues of one forward pass: the window, or where truncation cuts.
    overlap : int
        Residues that neighbouring windows share at least. 0 when truncating.
    long : {"window", "truncate"}
        How sequences above `max_residues` become one vector.
    pooling : {"mean", "max", "cls"}
    region : str
        ``whole``, or a region of a variable domain (`plmsearch.regions.REGION_SETS`).
    numbering : str
        Scheme, tool and version by which variable domains are cut out of chains, of which ``whole`` is the
        domain then; empty: the model reads chains as they are.
    """

    model_id: str
    weights_digest: str
    layer: int
    dim: int
    max_residues: int
    overlap: int
    long: Literal["window", "truncate"] = "window"
    pooling: Pooling = "mean"
    region: str = "whole"
    numbering: str = ""

    @property
    def name(self) -> str:
        """Short name for flags and tables, such as ``antiberty/6/whole/mean``."""
        suffix = "/domain" if self.reads_domains and self.region == "whole" else ""
        suffix += "/truncate" if self.long == "truncate" else ""
        return f"{self.model_id}/{self.layer}/{self.region}/{self.pooling}{suffix}"

    @property
    def reads_domains(self) -> bool:
        """Whether the model reads variable domains cut out of chains, and not whole chains."""
        return bool(self.numbering)

    @property
    def is_external(self) -> bool:
        """Whether no model here makes vectors of this space."""
        return self.model_id.startswith(_EXTERNAL)

    @property
    def space_hash(self) -> str:
        """SHA-256 of the canonical JSON, hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def describe(self) -> str:
        """Return one line with every field that tells spaces apart."""
        if self.is_external:
            return f"{self.model_id}, imported vectors of no model known here, {self.dim} dimensions"
        long = f"{self.long} {self.max_residues}" + (f"/{self.overlap}" if self.overlap else "")
        numbering = f" ({self.numbering})" if self.numbering else ""
        return (
            f"model {self.model_id}, weights {self.weights_digest[:12]}, layer {self.layer}, "
            f"region {self.region}{numbering}, pooling {self.pooling}, {long}, {self.dim} dimensions"
        )

    def to_json(self) -> str:
        """Return canonical JSON: sorted keys, no white space."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> EmbeddingSpec:
        """Read what `to_json` wrote."""
        data: Mapping[str, Any] = json.loads(text)
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in data.items() if k in known})


@dataclass(frozen=True, slots=True)
class SpaceRequest:
    """Which space a user asks for; what is None is left to the database, or to the default.

    Parameters
    ----------
    model : str or None
        Model name.
    layers : str or None
        As `parse_layers` takes it.
    pooling : {"mean", "max", "cls"} or None
    preset : {"antibody", "whole"} or None
        Read variable domains, or chains as they are. None, for a new database: as its input and its model
        suggest.
    regions : str or None
        As `parse_regions` takes it; asks for the preset ``antibody``.
    weights : str or None
        Of regions in the ranking that is searched by default: ``whole=0.4,cdr3=0.6``.
    """

    model: str | None = None
    layers: str | None = None
    pooling: Pooling | None = None
    preset: Preset | None = None
    regions: str | None = None
    weights: str | None = None

    @property
    def names_space(self) -> bool:
        """Whether anything is asked for that tells spaces apart."""
        return any(v is not None for v in (self.model, self.layers, self.pooling, self.preset, self.regions))


def external_spec(name: str, dim: int) -> EmbeddingSpec:
    """Declare a space of vectors that come from elsewhere: equal name and dimension, equal space.

    Parameters
    ----------
    name : str
        What the user calls it, with or without ``external:``.
    dim : int

    Returns
    -------
    EmbeddingSpec
        Layer, pooling and lengths say nothing; ``weights_digest`` is that of the declaration.

    Examples
    --------
    >>> external_spec("prott5", 1024).name
    'external:prott5/0/whole/mean'
    """
    model_id = _EXTERNAL + name.removeprefix(_EXTERNAL)
    declared = json.dumps({"dim": dim, "model_id": model_id}, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(declared.encode()).hexdigest()
    return EmbeddingSpec(model_id, digest, layer=0, dim=dim, max_residues=0, overlap=0)


def parse_layers(text: str | None, n_layers: int, default: int) -> tuple[int, ...]:
    """Resolve a ``--layers`` value.

    Parameters
    ----------
    text : str or None
        ``6``, ``4,6,8``, ``all``, ``-1``; None for the model's default.
    n_layers : int
        Blocks of the model, L.
    default : int
        The model's default layer, 0..L.

    Returns
    -------
    tuple of int
        Layers in the order given, each 0..L, without repeats. ``all`` is 0..L.

    Raises
    ------
    ParameterError
        If a layer does not exist.

    Examples
    --------
    >>> parse_layers("4,6,-1", n_layers=8, default=6)
    (4, 6, 8)
    """
    if text is None:
        return (default,)
    if text == "all":
        return tuple(range(n_layers + 1))
    resolved: list[int] = []
    for part in text.split(","):
        try:
            layer = int(part)
        except ValueError:
            layer = n_layers + 1
        if not -(n_layers + 1) <= layer <= n_layers:
            expected = f"a comma-separated list of layers 0..{n_layers} (or -1 for the last), or 'all'"
            raise ParameterError("layers", text, expected)
        resolved.append(layer % (n_layers + 1))
    return tuple(dict.fromkeys(resolved))


def parse_regions(text: str) -> tuple[str, ...]:
    """Resolve a ``--regions`` value: names of `plmsearch.regions.REGION_SETS`, comma-separated.

    Raises
    ------
    ParameterError
        If a region does not exist.

    Examples
    --------
    >>> parse_regions("whole,cdr3,whole")
    ('whole', 'cdr3')
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in REGION_SETS:
            raise ParameterError("regions", name, f"of: {', '.join(REGION_SETS)}")
    return tuple(dict.fromkeys(names))


def parse_region_weights(text: str) -> dict[str, float]:
    """Resolve a ``--weights-by-region`` value.

    Raises
    ------
    ParameterError
        If a region does not exist or comes twice, or a weight is no number above 0.

    Examples
    --------
    >>> parse_region_weights("whole=0.4,cdr3=0.6")
    {'whole': 0.4, 'cdr3': 0.6}
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        (region,) = parse_regions(name)
        try:
            weight = float(number)
        except ValueError:
            weight = 0.0
        if not 0 < weight < float("inf") or region in weights:
            raise ParameterError(
                "weights_by_region", text, "REGION=WEIGHT,... with weights above 0, none twice"
            )
        weights[region] = weight
    return weights
