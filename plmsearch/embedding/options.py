"""How a model is loaded and run: nothing here changes which space a vector belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plmsearch.embedding.base import Embedder
from plmsearch.embedding.batching import DEFAULT_BATCH_TOKENS
from plmsearch.embedding.embed import make_specs
from plmsearch.embedding.registry import load_embedder
from plmsearch.embedding.spec import EmbeddingSpec
from plmsearch.errors import EmbeddingSpecMismatch, ExternalSpaceError
from plmsearch.numbering import ImmunumNumberer

__all__ = ["ModelOptions", "load_for_space"]


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Where a model's weights are and how it runs.

    Parameters
    ----------
    weights : Path or None
        File or directory; None looks in the model's usual places.
    device : str
        ``auto``, ``cpu`` or ``cuda:0``.
    precision : {"auto", "float32", "bfloat16"}
    threads : int or None
        CPU threads; None leaves it to the libraries.
    batch_tokens : int
        Budget of one forward pass, padding included.
    """

    weights: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    batch_tokens: int = DEFAULT_BATCH_TOKENS

    def load(self, model: str) -> Embedder:
        """Load a model by name."""
        return load_embedder(
            model,
            weights=self.weights,
            device=self.device,
            precision=self.precision,
            threads=self.threads,
        )


def load_for_space(spec: EmbeddingSpec, options: ModelOptions) -> Embedder:
    """Load the model of a space and check that its weights are the space's.

    Parameters
    ----------
    spec : EmbeddingSpec
    options : ModelOptions

    Raises
    ------
    ExternalSpaceError
        If no model here makes vectors of the space.
    EmbeddingSpecMismatch
        If the weights at hand are not those the space was made with.
    """
    if spec.is_external:
        raise ExternalSpaceError(spec.name)
    installed = ImmunumNumberer().describe()
    if spec.reads_domains and spec.numbering != installed:
        raise EmbeddingSpecMismatch(
            f"variable domains cut by {installed}",
            spec.describe(),
            hint="install the version the database was made with, or index into a new database",
        )
    embedder = options.load(spec.model_id)
    if embedder.weights_digest != spec.weights_digest:
        asked = make_specs(embedder, [spec.layer], pooling=spec.pooling, long=spec.long)[0]
        raise EmbeddingSpecMismatch(
            asked.describe(),
            spec.describe(),
            hint="name the weights the database was made with (--weights), or index into a new database",
        )
    return embedder
