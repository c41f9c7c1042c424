"""Options that several commands share, declared once so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plmsearch.cli.console import be_verbose

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import ExitStack

    from plmsearch.embedding.options import ModelOptions
    from plmsearch.embedding.spec import SpaceRequest
    from plmsearch.formats.paired import Pairing
    from plmsearch.formats.read import InputFile
    from plmsearch.ingest.report import GeneOptions

__all__ = [
    "BatchTokens",
    "Contigs",
    "Debug",
    "Device",
    "Germlines",
    "HeavyCol",
    "IdCol",
    "Layers",
    "LightCol",
    "LockTimeout",
    "Long",
    "Model",
    "NoGermlines",
    "OnInvalid",
    "PairBy",
    "Pool",
    "Precision",
    "Preset",
    "Quiet",
    "Regions",
    "SeqCol",
    "Species",
    "Threads",
    "Translate",
    "Verbose",
    "Weights",
    "WeightsByRegion",
    "Where",
    "gene_options",
    "model_options",
    "opened",
    "pairing",
    "space_request",
]

Model = Annotated[
    str | None,
    typer.Option("-m", "--model", help="Model name (see: plmsearch models list)."),
]
Layers = Annotated[
    str | None,
    typer.Option(help="Layers: 6, 4,6,8, all, or -1 for the last.", metavar="LIST"),
]
Pool = Annotated[
    str | None, typer.Option(help="Pooling over residues: mean (default), max or cls.", metavar="POOLING")
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="antibody (variable domains and their CDR3) or whole (chains as they are). Left out: antibody "
        "for antibodies with the model antiberty, else whole.",
        metavar="PRESET",
    ),
]
Regions = Annotated[
    str | None,
    typer.Option(
        help="Regions of the variable domain, each a space: whole,cdr3 (the preset antibody), cdrs, fwr, "
        "cdr1, cdr2, fwr1 to fwr4.",
        metavar="LIST",
    ),
]
WeightsByRegion = Annotated[
    str | None,
    typer.Option(help="Ranking of regions, such as whole=0.4,cdr3=0.6.", metavar="REGION=WEIGHT,..."),
]
Germlines = Annotated[
    Path | None,
    typer.Option(
        help="Germline V and J genes for variable domains: FASTA as of IMGT or OGRDB, or a table (allele, "
        "aa, species). Left out: human and mouse, of OGRDB.",
        metavar="FILE",
    ),
]
Species = Annotated[
    str | None,
    typer.Option(help="Species of the germlines; inferred, input by input, if left out.", metavar="NAME"),
]
NoGermlines = Annotated[
    bool, typer.Option("--no-germlines", help="Infer no germline genes of variable domains.")
]
Weights = Annotated[
    Path | None,
    typer.Option(help="Weights file or directory.", envvar=None, metavar="PATH"),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda:0.")]
Precision = Annotated[str, typer.Option(help="auto, float32 or bfloat16.")]
Threads = Annotated[
    int | None, typer.Option(min=1, envvar="PLMSEARCH_THREADS", help="CPU threads; all cores if left out.")
]
BatchTokens = Annotated[
    int, typer.Option(min=1, help="Tokens of one forward pass, padding included. Raise it on a GPU.")
]
Long = Annotated[
    str | None,
    typer.Option(
        help="Sequences above the model's length: window (default: overlapping windows, mean over "
        "residues), truncate, skip or error.",
        metavar="POLICY",
    ),
]
OnInvalid = Annotated[
    str,
    typer.Option(
        help="Letters that are no residue: error (stop), skip (leave the record out) or mask (read as X).",
        metavar="POLICY",
    ),
]
IdCol = Annotated[str | None, typer.Option(help="Column with the record ids of a table.", metavar="NAME")]
SeqCol = Annotated[str | None, typer.Option(help="Column with the residues of a table.", metavar="NAME")]
HeavyCol = Annotated[
    str | None,
    typer.Option(
        help="Column with the heavy chains of a table of pairs; with --light-col, a row becomes one record.",
        metavar="NAME",
    ),
]
LightCol = Annotated[
    str | None, typer.Option(help="Column with the light chains of a table of pairs.", metavar="NAME")
]
PairBy = Annotated[
    str | None,
    typer.Option(
        help="How the headers of FASTA name pairs: id (x_VH and x_VL, x_heavy and x_light, x_H and x_L) or "
        "header (words such as cell_id=X).",
        metavar="WAY",
    ),
]
Translate = Annotated[
    bool,
    typer.Option(
        "--translate",
        help="The input is nucleotides: take the open reading that holds a variable domain, of six frames, "
        "else frame 1 if it is whole codons without a stop.",
    ),
]
Contigs = Annotated[
    Path | None,
    typer.Option(
        help="FASTA with the contigs of a 10x table; default: the file beside it, by Cell Ranger's name.",
        metavar="FASTA",
    ),
]
Filtered = Annotated[
    bool,
    typer.Option(
        "--filtered",
        help="Leave out contigs that 10x's filtered set has not: is_cell or high_confidence is False.",
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        help="Only records that meet this condition, such as: \"species = 'human' and n_residues < 130\".",
        metavar="EXPR",
    ),
]
LockTimeout = Annotated[float, typer.Option(min=0, help="Seconds to wait for another writer.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", callback=be_verbose, help="Print what takes time, and how long.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Print a traceback with an error.")]


def opened(
    inputs: Iterable[str],
    stack: ExitStack,
    *,
    id_col: str | None,
    seq_col: str | None,
    translate: bool,
    contigs: Path | None,
    pairing: Pairing | None = None,
) -> list[InputFile]:
    """Open inputs; `stack` closes them."""
    from plmsearch.formats.read import open_input

    return [
        stack.enter_context(
            open_input(
                one, id_col=id_col, seq_col=seq_col, translate=translate, contigs=contigs, pairing=pairing
            )
        )
        for one in inputs
    ]


def model_options(
    weights: Path | None, device: str, precision: str, threads: int | None, batch_tokens: int
) -> ModelOptions:
    """Gather how a model is loaded and run."""
    from plmsearch.embedding.options import ModelOptions

    return ModelOptions(weights, device, precision, threads, batch_tokens)


def gene_options(germlines: Path | None, species: str | None, no_germlines: bool) -> GeneOptions:
    """Gather which germline genes are inferred."""
    from plmsearch.ingest.report import GeneOptions

    path = None if germlines is None else str(germlines)
    return GeneOptions(path, species, infer=not no_germlines)


def pairing(heavy_col: str | None, light_col: str | None, pair_by: str | None) -> Pairing:
    """Gather how an input keeps the chains of a pair together."""
    from plmsearch.formats.paired import Pairing

    return Pairing(heavy_col, light_col, pair_by)


def space_request(
    model: str | None,
    layers: str | None,
    pool: str | None,
    preset: str | None = None,
    regions: str | None = None,
    weights_by_region: str | None = None,
) -> SpaceRequest:
    """Gather which space is asked for, refusing a pooling, preset or region that does not exist."""
    from plmsearch.embedding.spec import (
        POOLINGS,
        PRESETS,
        SpaceRequest,
        parse_region_weights,
        parse_regions,
    )
    from plmsearch.ingest.report import check_choice

    if pool is not None:
        check_choice("pool", pool, POOLINGS)
    if preset is not None:
        check_choice("preset", preset, PRESETS)
    if regions is not None:
        parse_regions(regions)
    if weights_by_region is not None:
        parse_region_weights(weights_by_region)
    return SpaceRequest(model, layers, pool, preset, regions, weights_by_region)  # type: ignore[arg-type]
