"""Which spaces an ingest fills: those of the database, or the ones asked for a new one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from plmsearch.embedding.base import Embedder
from plmsearch.embedding.choose import choose_model, places_searched
from plmsearch.embedding.embed import make_specs
from plmsearch.embedding.options import ModelOptions
from plmsearch.embedding.registry import model_card
from plmsearch.embedding.spec import (
    EmbeddingSpec,
    LongPolicy,
    Preset,
    SpaceRequest,
    parse_layers,
    parse_regions,
)
from plmsearch.embedding.weights import weights_at_hand
from plmsearch.errors import (
    DatabaseSpacesMismatch,
    EmbeddingError,
    EmbeddingSpecMismatch,
    ExternalSpaceError,
    InputError,
    ParameterError,
)
from plmsearch.ingest.domains import numbering_in_use
from plmsearch.ingest.presets import preset_of, regions_of
from plmsearch.numbering import is_t_cell_receptor
from plmsearch.store.rankings import StoredSpace

__all__ = [
    "NewSpaces",
    "check_long",
    "check_request",
    "choose_new_spaces",
    "default_model",
    "embed_command",
    "like_default",
    "like_stored_domains",
    "load_specs",
    "numbering_warning",
    "reads_domains",
    "receptor_warning",
    "same_space",
    "searchable_space",
    "spaces_for",
]


@dataclass(frozen=True, slots=True)
class NewSpaces:
    """Spaces to be made, with the model that makes them.

    Parameters
    ----------
    embedder : Embedder
    specs : tuple of EmbeddingSpec
        The first becomes the default.
    choice : str
        Which model was chosen and why; empty if it was named.
    preset : {"antibody", "whole"}
    """

    embedder: Embedder
    specs: tuple[EmbeddingSpec, ...]
    choice: str
    preset: Preset = "whole"


def choose_new_spaces(
    request: SpaceRequest, long: LongPolicy | None, sample: Sequence[str], options: ModelOptions
) -> NewSpaces:
    """Decide the spaces of a new database, looking at a sample where no model is named.

    Parameters
    ----------
    request : SpaceRequest
    long : {"window", "truncate", "skip", "error"} or None
    sample : sequence of str
        Residues.
    options : ModelOptions

    Raises
    ------
    InputError
        If no model is named and there is nothing to look at.
    MixedInputError, ModelUnavailableError
        As `plmsearch.embedding.choose.choose_model`.
    """
    model, choice = request.model, ""
    if model is None:
        if not sample:
            raise InputError(
                "no row of the input holds a usable sequence",
                hint="without --on-invalid skip the first of them is named with its reason",
            )
        chosen = choose_model(
            sample,
            weights_at_hand=lambda name: weights_at_hand(name, options.weights),
            searched=lambda name: places_searched(name, options.weights),
        )
        model, choice = chosen.model_id, chosen.reason
    preset = preset_of(request, model, sample if long != "truncate" else ())
    asked = replace(request, model=model, preset=preset)
    embedder, specs = load_specs(asked, long, options)
    return NewSpaces(embedder, specs, choice, preset)


def receptor_warning(specs: Sequence[EmbeddingSpec], sample: Sequence[str]) -> str:
    """Say that a model that knows nothing but antibodies is to read T-cell receptors; '' if it is not.

    In a space of variable domains such a record has no vector, and is named for that.
    """
    if not any(s.model_id == "antiberty" and not s.reads_domains for s in specs):
        return ""
    n_receptor = sum(map(is_t_cell_receptor, sample))
    counted = f"{n_receptor} of {len(sample)} sampled sequences hold the variable domain of a T-cell receptor"
    advice = "antiberty has seen antibodies alone, so do not trust what it says of these"
    return f"warning: {counted}; {advice}" if n_receptor else ""


def load_specs(
    request: SpaceRequest, long: LongPolicy | None, options: ModelOptions
) -> tuple[Embedder, tuple[EmbeddingSpec, ...]]:
    """Load the model that is named and name its spaces: of chains, unless the preset is ``antibody``.

    Raises
    ------
    ParameterError
        If the model has no such layer, or cannot pool so.
    """
    assert request.model is not None
    embedder = options.load(request.model)
    card = embedder.card
    layers = parse_layers(request.layers, card.n_layers, card.default_layer)
    pooling = request.pooling or "mean"
    if reads_domains(request):
        regions = regions_of(request)
        specs = make_specs(embedder, layers, pooling=pooling, regions=regions, numbering=numbering_in_use())
    else:
        specs = make_specs(embedder, layers, pooling=pooling, long=_reading(long))
    return embedder, specs


def reads_domains(request: SpaceRequest) -> bool:
    """Tell whether variable domains are asked for by name."""
    asks = request.regions is not None or request.weights is not None
    return request.preset == "antibody" or (request.preset is None and asks)


def like_default(request: SpaceRequest, spaces: Sequence[StoredSpace]) -> SpaceRequest:
    """Let a request that does not say so read what the default space of a database reads, of its model."""
    if request.preset is not None or reads_domains(request) or not spaces or not spaces[0].spec.reads_domains:
        return request
    if request.model is not None and model_card(request.model).model_id != spaces[0].spec.model_id:
        return request
    return request if request.pooling == "cls" else replace(request, preset="antibody")


def like_stored_domains(
    specs: Sequence[EmbeddingSpec], spaces: Sequence[StoredSpace], n_unseen: int
) -> tuple[EmbeddingSpec, ...]:
    """Let spaces of variable domains be of the domains that a database holds, whoever found them.

    The places of its domains and regions are stored, so embedding them needs no numbering of the version
    that found them; sequences that nobody has looked at do.

    Parameters
    ----------
    specs : sequence of EmbeddingSpec
        By the numbering that is installed.
    spaces : sequence of StoredSpace
        Of the database.
    n_unseen : int
        Sequences whose variable domains nobody has looked for.

    Raises
    ------
    EmbeddingSpecMismatch
        If there are such sequences, and another version found the domains of the others.
    """
    stored = next((s.spec for s in spaces if s.spec.reads_domains), None)
    if stored is None or all(s.numbering == stored.numbering for s in specs if s.reads_domains):
        return tuple(specs)
    if n_unseen:
        raise EmbeddingSpecMismatch(
            f"variable domains cut by {numbering_in_use()}, in {n_unseen} sequences not looked at yet",
            stored.describe(),
            hint="install the version the database was made with, or index into a new database",
        )
    return tuple(replace(s, numbering=stored.numbering) if s.reads_domains else s for s in specs)


def numbering_warning(spaces: Sequence[StoredSpace]) -> str:
    """Say that queries are numbered by another version than the domains of a database; '' if they are not."""
    installed = numbering_in_use()
    stored = next((s.spec.numbering for s in spaces if s.spec.reads_domains), installed)
    if stored == installed:
        return ""
    return (
        f"warning: the CDR3 of queries is cut by {installed}, that of the database's records was by "
        f"{stored}; where these differ, so do identities"
    )


def _reading(long: LongPolicy | None) -> Literal["window", "truncate"]:
    """Skipping or refusing long sequences does not change how the others are read."""
    return "truncate" if long == "truncate" else "window"


def check_request(
    request: SpaceRequest, long: LongPolicy | None, spaces: Sequence[StoredSpace], database: Path
) -> None:
    """Refuse to extend a database by vectors of a space it does not have.

    Raises
    ------
    EmbeddingSpecMismatch
        Naming what was asked, what there is, and the command that adds a space.
    ExternalSpaceError
        If one of the spaces takes imported vectors only.
    """
    for space in spaces:
        if space.spec.is_external:
            hint = f"add vectors with: plmsearch import {database} FILE"
            raise ExternalSpaceError(space.spec.name, hint=hint)
    fitting = spaces_for(request, spaces, database) if request.names_space else list(spaces)
    check_long(long, fitting)


def check_long(long: LongPolicy | None, spaces: Sequence[StoredSpace]) -> None:
    """Refuse to read long sequences otherwise than the spaces do.

    Raises
    ------
    EmbeddingSpecMismatch
        If none of the spaces reads them so. Leaving them out, or stopping, fits every space.
    """
    if long in {"window", "truncate"} and not any(s.spec.long == long for s in spaces):
        raise EmbeddingSpecMismatch(
            f"long sequences: {long}",
            spaces[0].spec.describe(),
            hint="leave out --long, or index into a new database",
        )


def searchable_space(
    spaces: Sequence[StoredSpace], name: str | None, request: SpaceRequest, database: Path
) -> StoredSpace:
    """Return the one space that a search looks at: of a name, fitting a request, or the default.

    Raises
    ------
    ParameterError
        If there is no space of the name, or the request names several layers.
    EmbeddingSpecMismatch
        If no space fits the request.
    EmbeddingError
        If the space is not complete, or there is none.
    """
    _refuse_none(spaces, database)
    found = [s for s in spaces if name is None or s.spec.name == name]
    if not found:
        raise ParameterError("space", name, f"one of: {', '.join(s.spec.name for s in spaces)}")
    if request.names_space:
        found = spaces_for(request, found, database)
        if request.layers is not None and len({s.spec.layer for s in found}) > 1:
            raise ParameterError("layers", request.layers, "one layer: a search looks at one space")
    if not found[0].is_complete:
        spec = found[0].spec
        if spec.is_external:
            raise EmbeddingError(
                f"space {spec.name} is not complete: its import was interrupted, or vectors were damaged",
                hint=f"continue it with: plmsearch import {database} FILE, or restore a backup",
            )
        raise EmbeddingError(
            f"space {spec.name} is not complete: its making was interrupted",
            hint=f"continue it with: {embed_command(spec, database)}",
        )
    return found[0]


def same_space(space: StoredSpace, database: Path, spaces: Sequence[StoredSpace], other: Path) -> StoredSpace:
    """Return the space of another database whose vectors can be compared with those of a space.

    Parameters
    ----------
    space : StoredSpace
        Of `database`.
    database : Path
    spaces : sequence of StoredSpace
        Of `other`.
    other : Path

    Raises
    ------
    DatabaseSpacesMismatch
        Naming the specs of both, and the command that adds the space.
    EmbeddingError
        If that space is not complete, or the other database is empty.
    """
    _refuse_none(spaces, other)
    found = [s for s in spaces if s.spec.space_hash == space.spec.space_hash]
    if found:
        return searchable_space(found, None, SpaceRequest(), other)
    spec = space.spec
    hint = f"add the space with: {embed_command(spec, other)}"
    if spec.is_external:
        hint = f"add the space with: plmsearch import {other} FILE"
    elif any(s.spec.name == spec.name for s in spaces):
        hint = f"index the records of {other} into a new database, with the weights of {database}"
    held = "; ".join(s.spec.describe() for s in spaces)
    raise DatabaseSpacesMismatch(str(database), str(other), spec.describe(), held, hint=hint)


def embed_command(spec: EmbeddingSpec, database: str | Path) -> str:
    """Return the command that adds a space of a model to a database."""
    long = " --long truncate" if spec.long == "truncate" else ""
    which = f"--model {spec.model_id} --layers {spec.layer} --pool {spec.pooling}"
    which += f" --regions {spec.region}" if spec.reads_domains else " --preset whole"
    return f"plmsearch embed {database} {which}{long}"


def default_model(spaces: Sequence[StoredSpace], database: Path) -> str:
    """Return the model of the default space.

    Raises
    ------
    EmbeddingError
        If there is no space.
    """
    _refuse_none(spaces, database)
    return spaces[0].spec.model_id


def _refuse_none(spaces: Sequence[StoredSpace], database: Path) -> None:
    if not spaces:
        raise EmbeddingError(
            f"{str(database)!r} holds no vectors yet", hint=f"add some with: plmsearch index {database} INPUT"
        )


def spaces_for(request: SpaceRequest, spaces: Sequence[StoredSpace], database: Path) -> list[StoredSpace]:
    """Return the stored spaces that a request names, without loading a model.

    Raises
    ------
    EmbeddingSpecMismatch
        If the database lacks one of them.
    """
    default, stored = spaces[0].spec, spaces
    model = model_card(request.model).model_id if request.model else default.model_id
    card = model_card(model)
    pooling = request.pooling or default.pooling
    spaces = [s for s in spaces if _is_of_kind(s.spec, request)]
    if request.layers is None:
        found = [s for s in spaces if (s.spec.model_id, s.spec.pooling) == (model, pooling)]
        layers = [str(card.default_layer)]
    else:
        # A generic card has no layers of its own: the file it was read from had at least these.
        n_layers = card.n_layers or max((s.spec.layer for s in spaces), default=card.default_layer)
        wanted = parse_layers(request.layers, n_layers, card.default_layer)
        layers = [str(layer) for layer in wanted]
        like = [s for s in spaces if (s.spec.model_id, s.spec.pooling) == (model, pooling)]
        by_layer = {s.spec.layer: s for s in reversed(like)}
        found = [by_layer[layer] for layer in wanted if layer in by_layer]
    if not found or (request.layers is not None and len(found) < len(layers)):
        raise EmbeddingSpecMismatch(
            f"model {model}, layer {','.join(layers)}{_kind_in_words(request)}, pooling {pooling}",
            "; ".join(s.spec.describe() for s in stored),
            hint=f"add the space with: plmsearch embed {database} --model {model} "
            f"--layers {','.join(layers)} --pool {pooling}{_kind_options(request)}",
        )
    return found


def _is_of_kind(spec: EmbeddingSpec, request: SpaceRequest) -> bool:
    """Tell whether a space reads what a request wants read; one that says nothing takes any."""
    if request.preset is not None and spec.reads_domains != (request.preset == "antibody"):
        return False
    return request.regions is None or (spec.reads_domains and spec.region in parse_regions(request.regions))


def _kind_in_words(request: SpaceRequest) -> str:
    preset = "" if request.preset is None else f", preset {request.preset}"
    return preset + ("" if request.regions is None else f", regions {request.regions}")


def _kind_options(request: SpaceRequest) -> str:
    preset = "" if request.preset is None else f" --preset {request.preset}"
    return preset + ("" if request.regions is None else f" --regions {request.regions}")
