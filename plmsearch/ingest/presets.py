"""Presets: what of a sequence is embedded, and how the spaces that come of it are searched together.

``antibody``: the variable domain, cut out of its chain, and its CDR3, each compared with the shipped centre
of its locus, with equal weights. ``whole``: the chain as it is, in one space. Why: `docs/decisions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from plmsearch.embedding.choose import is_antibody_sample
from plmsearch.embedding.spec import (
    ANTIBODY_REGIONS,
    EmbeddingSpec,
    Preset,
    SpaceRequest,
    parse_region_weights,
    parse_regions,
)
from plmsearch.errors import ParameterError
from plmsearch.search.rankings import own_ranking
from plmsearch.store.rankings import RankingPart, StoredRanking, StoredSpace
from plmsearch.store.repository import Repository

__all__ = [
    "ANTIBODY_RANKING",
    "add_region_ranking",
    "check_weights",
    "joined_regions",
    "preset_of",
    "region_ranking",
    "regions_of",
]

#: Name of the ranking that the preset makes.
ANTIBODY_RANKING = "antibody"
_ANTIBODY_MODEL = "antiberty"


def preset_of(request: SpaceRequest, model: str, sample: Sequence[str]) -> Preset:
    """Return the preset that is asked for, or that suits a model and a sample of the input.

    Raises
    ------
    ParameterError
        If regions are asked for of whole chains.
    """
    if request.preset == "whole" and (request.regions or request.weights):
        raise ParameterError("regions", request.regions, "left out with the preset 'whole'")
    if request.preset is not None:
        return request.preset
    if request.regions or request.weights:
        return "antibody"
    suits = model == _ANTIBODY_MODEL and request.pooling != "cls"
    return "antibody" if suits and is_antibody_sample(sample) else "whole"


def regions_of(request: SpaceRequest) -> tuple[str, ...]:
    """Return the regions of a variable domain that are asked for, or that the preset takes."""
    asked = parse_regions(request.regions) if request.regions else ()
    weighted = tuple(parse_region_weights(request.weights)) if request.weights else ()
    if asked and (missing := [name for name in weighted if name not in asked]):
        raise ParameterError("weights_by_region", request.weights, f"of --regions, and {missing[0]} is not")
    return asked or weighted or parse_regions(ANTIBODY_REGIONS)


def region_ranking(
    spaces: Sequence[StoredSpace],
    rankings: Sequence[StoredRanking],
    weights: Mapping[str, float],
    *,
    layer: int | None = None,
    is_default: bool = False,
) -> StoredRanking:
    """Put a ranking together of spaces that differ in the region only.

    Parameters
    ----------
    spaces : sequence of StoredSpace
        Of the database; those of the model and layer of the first that reads domains are meant.
    rankings : sequence of StoredRanking
        Of the database; a space's own one has its transform.
    weights : mapping of str to float
        By region.
    layer : int, optional
        Another one than that of the first.
    is_default : bool

    Raises
    ------
    ParameterError
        If there is no space of a region.
    """
    of_domains = [s for s in spaces if s.spec.reads_domains]
    if not of_domains:
        expected = (
            "left out: the database has no space of variable domains (plmsearch embed DB --preset antibody)"
        )
        raise ParameterError("weights_by_region", _written(weights), expected)
    usual = of_domains[0].spec
    first = usual if layer is None else replace(usual, layer=layer)
    like = {s.spec.region: s for s in of_domains if _but_region(s.spec) == _but_region(first)}
    parts = []
    for region, weight in weights.items():
        if region not in like:
            expected = f"of the regions that were embedded: {', '.join(like)}"
            raise ParameterError("weights_by_region", _written(weights), expected)
        parts.append(
            RankingPart(like[region], weight, own_ranking(like[region], rankings).parts[0].transform)
        )
    is_preset = list(weights) == list(parse_regions(ANTIBODY_REGIONS)) and len(set(weights.values())) == 1
    name = ANTIBODY_RANKING if first.layer == usual.layer else f"{ANTIBODY_RANKING}/{first.layer}"
    name += "" if is_preset else f":{_written(weights)}"
    ranking = StoredRanking(0, name, tuple(parts), is_default)
    return next((r for r in rankings if r.key == ranking.key), ranking)


def add_region_ranking(repository: Repository, request: SpaceRequest, *, is_default: bool) -> None:
    """Store the ranking of the regions that were asked for, if there are several and it is not there.

    One for each layer that has them; that of the first layer becomes the default, if `is_default`.
    """
    regions = regions_of(request)
    weights = parse_region_weights(request.weights) if request.weights else dict.fromkeys(regions, 1.0)
    spaces = repository.spaces()
    of_domains = [s.spec for s in spaces if s.spec.reads_domains]
    layers = dict.fromkeys(
        s.layer for s in of_domains if _but_region(s, layer=0) == _but_region(of_domains[0], layer=0)
    )
    for number, layer in enumerate(layers):
        if not set(weights) <= {s.region for s in of_domains if s.layer == layer}:
            continue
        rankings = repository.rankings()
        is_first = is_default and number == 0
        ranking = region_ranking(spaces, rankings, weights, layer=layer, is_default=is_first)
        is_new = ranking.ranking_id == 0 and ranking.name not in {r.name for r in rankings}
        if is_new and len(ranking.parts) > 1:
            repository.add_ranking(ranking)


def check_weights(
    request: SpaceRequest, spaces: Sequence[StoredSpace], rankings: Sequence[StoredRanking], database: Path
) -> None:
    """Refuse weights of regions that no stored ranking has: adding records makes no ranking.

    Raises
    ------
    ParameterError
        Naming the command that stores one.
    """
    if request.weights is None:
        return
    if not region_ranking(spaces, rankings, parse_region_weights(request.weights)).ranking_id:
        expected = (
            "those of a ranking of the database, which has one already: store another with plmsearch embed "
            f"{database} --weights-by-region {request.weights}"
        )
        raise ParameterError("weights_by_region", request.weights, expected)


def joined_regions(space: StoredSpace, rankings: Sequence[StoredRanking]) -> StoredRanking | None:
    """Return the stored ranking that joins a space with other regions of its layer, if there is one."""
    own = _but_region(space.spec)
    return next(
        (r for r in rankings if len(r.parts) > 1 and all(_but_region(p.space.spec) == own for p in r.parts)),
        None,
    )


def _but_region(spec: EmbeddingSpec, layer: int | None = None) -> tuple[object, ...]:
    number = spec.layer if layer is None else layer
    return (spec.model_id, spec.weights_digest, number, spec.pooling, spec.numbering)


def _written(weights: Mapping[str, float]) -> str:
    return ",".join(f"{region}={weight:g}" for region, weight in weights.items())
