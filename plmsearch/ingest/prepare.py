"""Normalise one row and judge it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from plmsearch.domains import CHAIN_SEPARATOR
from plmsearch.errors import (
    EmptySequenceError,
    InvalidResidueError,
    NucleotideSequenceError,
    SequenceTooLongError,
    TranslationError,
)
from plmsearch.ingest.report import AddOptions, SkippedRow
from plmsearch.metadata import as_text, metadata_json
from plmsearch.sequences import SequenceRecord, Unusable, mask_invalid, normalise, sequence_hash, validate

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A row, ready to be resolved.

    Parameters
    ----------
    record : SequenceRecord
        As read.
    residues : str
        Normalised; empty if `reason` is not.
    hash_hex : str
    metadata : mapping of str to str
        Text; nulls have no key.
    metadata_json : str
        Canonical.
    notes : mapping of str to int
        What normalising changed, and what the reader noticed.
    reason : str
        Why the row is to be left out; empty if it is not.
    """

    record: SequenceRecord
    residues: str = ""
    hash_hex: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    metadata_json: str = "{}"
    notes: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""

    @property
    def content(self) -> tuple[str, str, str]:
        """What two records of one id must share to be the same record."""
        return self.hash_hex, self.record.description, self.metadata_json

    def skipped(self) -> SkippedRow:
        """Return the row as one that is left out."""
        return SkippedRow(self.record.source, self.record.row, self.record.record_id, self.reason)


def prepare(
    record: SequenceRecord,
    options: AddOptions,
    *,
    max_residues: int | None = None,
    takes_chains: bool = False,
) -> Prepared:
    """Normalise and validate a row by the policy.

    Parameters
    ----------
    record : SequenceRecord
    options : AddOptions
    max_residues : int, optional
        What the model reads in one pass, where it is known already.
    takes_chains : bool
        Several chains may stand in one row, parted by `plmsearch.domains.CHAIN_SEPARATOR`.

    Returns
    -------
    Prepared
        With a `reason` if the row is to be left out.

    Raises
    ------
    InvalidResidueError, EmptySequenceError, NucleotideSequenceError, TranslationError, SequenceTooLongError
        If the policy is to stop.
    """
    if record.unusable is not None and not (record.sequence and options.on_invalid == "mask"):
        return _unusable(record, record.unusable, options)
    chains = [record.sequence]
    if takes_chains and CHAIN_SEPARATOR in record.sequence:
        chains = [c for c in record.sequence.split(CHAIN_SEPARATOR) if c.strip()] or [""]
    notes: Counter[str] = Counter(record.notes)
    try:
        residues = CHAIN_SEPARATOR.join(_residues(chain, record, options, notes) for chain in chains)
    except (InvalidResidueError, EmptySequenceError, NucleotideSequenceError) as error:
        if options.on_invalid != "skip":
            raise
        return Prepared(record, reason=error.problem)
    if max_residues is not None and len(residues) > max_residues and options.long in {"skip", "error"}:
        too_long = SequenceTooLongError(
            record.record_id, len(residues), max_residues, source=record.source, row=record.row
        )
        if options.long == "error":
            raise too_long
        return Prepared(record, reason=too_long.problem)
    metadata = {name: text for name, value in record.metadata.items() if (text := as_text(value)) is not None}
    return Prepared(
        record=record,
        residues=residues,
        hash_hex=sequence_hash(residues),
        metadata=metadata,
        metadata_json=metadata_json(metadata),
        notes=dict(notes),
    )


def _residues(chain: str, record: SequenceRecord, options: AddOptions, notes: Counter[str]) -> str:
    """Normalise and validate one chain, and count what that changes."""
    normalised = normalise(chain)
    residues = normalised.residues
    notes.update(normalised.changes)
    if options.on_invalid == "mask":
        residues, n_masked = mask_invalid(residues)
        if n_masked:
            notes["masked"] += n_masked
    validate(residues, record.record_id, source=record.source, row=record.row)
    return residues


def _unusable(record: SequenceRecord, why: Unusable, options: AddOptions) -> Prepared:
    """Leave out a row that the reader could not read residues from, or stop."""
    if why.must_stop and options.on_invalid != "skip":
        raise TranslationError(
            record.record_id, why.reason, source=record.source, row=record.row, hint=why.hint
        )
    return Prepared(record, reason=why.reason)
