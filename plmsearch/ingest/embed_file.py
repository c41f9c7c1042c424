"""Embed an input straight into a NumPy archive, without a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from plmsearch.embedding.embed import Embedded, embed_sequences, plan_of
from plmsearch.embedding.options import ModelOptions
from plmsearch.embedding.spec import EmbeddingSpec, SpaceRequest
from plmsearch.errors import InputError, ParameterError
from plmsearch.formats.output import open_output
from plmsearch.ingest.prepare import Prepared, prepare
from plmsearch.ingest.report import AddOptions, AddReport, Progress
from plmsearch.ingest.scan import Input, scan
from plmsearch.ingest.spaces import choose_new_spaces, reads_domains, receptor_warning
from plmsearch.types import Float2D, Int1D

__all__ = ["EmbeddedInput", "embed_inputs", "write_npz"]


@dataclass(frozen=True, slots=True)
class EmbeddedInput:
    """Embeddings of an input, in memory.

    Parameters
    ----------
    record_ids : list of str
        Row order is input order; a repeated id stays repeated.
    vectors : mapping of EmbeddingSpec to ndarray, dtype=float32, shape=(n, d)
    n_windows : ndarray, dtype=int64, shape=(n,)
    n_used : ndarray, dtype=int64, shape=(n,)
        Residues that entered the vector.
    n_unknown : ndarray, dtype=int64, shape=(n,)
    report : AddReport
        What became of the rows; those left out have no row in the arrays.
    """

    record_ids: list[str]
    vectors: Mapping[EmbeddingSpec, Float2D]
    n_windows: Int1D
    n_used: Int1D
    n_unknown: Int1D
    report: AddReport


def embed_inputs(
    inputs: Sequence[Input],
    request: SpaceRequest,
    options: AddOptions,
    model_options: ModelOptions,
    progress: Progress,
) -> EmbeddedInput:
    """Embed every record of inputs.

    Memory grows with the input; a database does not have that limit.

    Raises
    ------
    InputError
        If a record cannot be used and the policy is to stop, or none is left.
    """
    seen = scan(inputs, options, {}, lambda _: {})
    if reads_domains(request):
        expected = "for a database: index the input, then plmsearch export DB -o FILE.npz --space NAME"
        raise ParameterError("preset", "antibody", expected)
    asked = replace(request, preset="whole")
    new = choose_new_spaces(asked, options.long, seen.sample, model_options)
    if options.on_invalid == "error":
        seen.refuse_several_chains()
    if new.choice:
        progress.say(f"model {new.choice}")
    if warning := receptor_warning(new.specs, seen.sample):
        progress.say(warning)
    max_residues = new.specs[0].max_residues
    if options.long == "error":
        seen.refuse_long(max_residues)
    rows = [prepare(r, options, max_residues=max_residues) for one in inputs for r in one]
    good = [p for p in rows if not p.reason]
    if not good:
        raise InputError(
            "no row of the input holds a usable sequence",
            hint="without --on-invalid skip the first of them is named with its reason",
        )
    progress.start(len(good))
    plan = plan_of(new.specs, model_options.batch_tokens)
    done = embed_sequences(new.embedder, [p.residues for p in good], plan, on_progress=progress.advance)
    return EmbeddedInput(
        record_ids=[p.record.record_id for p in good],
        vectors={spec: done.vectors[spec.layer] for spec in new.specs},
        n_windows=done.n_windows,
        n_used=done.n_used,
        n_unknown=done.n_unknown,
        report=_report(rows, done),
    )


def _report(rows: Sequence[Prepared], done: Embedded) -> AddReport:
    good = [p for p in rows if not p.reason]
    report = AddReport(n_rows=len(rows), n_skipped=len(rows) - len(good), n_embedded=len(good))
    report.skipped = [p.skipped() for p in rows if p.reason]
    for p in good:
        report.changes.update(dict.fromkeys(p.notes, 1))
    report.sources.update(p.record.residue_source for p in good if p.record.residue_source)
    report.count_embedded(done, np.array([len(p.residues) for p in good]))
    return report


def write_npz(embedded: EmbeddedInput, path: str | Path) -> None:
    """Write embeddings as a NumPy archive that loads without pickle.

    Arrays: ``ids``, ``n_windows``, ``n_used``, ``n_unknown``; per layer L ``layer_L`` of shape (n, d)
    and ``spec_L``, the space as JSON text.

    Raises
    ------
    StorageError
        If the file cannot be written; no half file is left.
    """
    arrays: dict[str, Any] = {
        "ids": np.array(embedded.record_ids, dtype=np.str_),
        "n_windows": embedded.n_windows,
        "n_used": embedded.n_used,
        "n_unknown": embedded.n_unknown,
    }
    for spec, vectors in embedded.vectors.items():
        arrays[f"layer_{spec.layer}"] = vectors
        arrays[f"spec_{spec.layer}"] = np.array(spec.to_json(), dtype=np.str_)
    with open_output(path) as out:
        np.savez(out.buffer, **arrays)
