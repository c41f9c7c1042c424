"""Every error plmsearch raises on purpose.

::

    PlmsearchError
    ├── InputError (ValueError)             what the user handed in
    │   ├── ParameterError                  an argument is out of range
    │   ├── InputNotFoundError              no such file, or not a file
    │   ├── FileFormatError                 truncated, binary, not FASTA, not UTF-8
    │   │   └── TableFormatError            a column is missing or a row is ragged
    │   ├── RecordError                     one record; carries its id and place
    │   │   ├── InvalidResidueError         a letter that is no residue
    │   │   ├── NucleotideSequenceError     DNA or RNA where residues belong
    │   │   ├── EmptySequenceError          a record without residues
    │   │   ├── TranslationError            nucleotides that no frame reads
    │   │   ├── SequenceTooLongError        longer than the model reads
    │   │   ├── DuplicateRecordError        an id used twice
    │   │   └── VectorConflict              another vector than the one that is stored
    │   ├── MixedInputError                 antibodies and other proteins together
    │   ├── FilterError                     a condition on records that cannot be read
    │   └── AlignmentError                  a query that cannot be aligned
    ├── MissingDependencyError              a package of an extra is not installed
    ├── EmbeddingError                      models and their weights
    │   ├── UnknownModelError (LookupError) no such model name
    │   ├── UnsupportedModelError           a model of another kind (MSA, structure)
    │   ├── ModelUnavailableError           the weights are not on this machine
    │   ├── WeightsError                    the weights are damaged or of another model
    │   ├── ExternalSpaceError              vectors that no model here makes
    │   └── EmbeddingSpecMismatch (ValueError)  vectors of two spaces would be compared
    │       └── DatabaseSpacesMismatch      databases of other spaces would be merged
    ├── VectorIndexError (ValueError)
    │   ├── DimensionMismatch
    │   └── InvalidVectorError              NaN, infinite or all zero
    └── StoreError                          the database directory
        ├── DatabaseNotFound
        ├── NotADatabase
        ├── DatabaseNotWritable
        ├── DatabaseLocked
        ├── SchemaOutdatedError
        ├── SchemaTooNewError
        ├── SegmentDamaged
        ├── CatalogDamaged
        ├── StorageError                    the operating system refused a read or write
        │   └── NotEnoughSpace              known before anything was written
        ├── NoVectorError (LookupError)     a record has none in a space
        └── RecordNotFound (LookupError)

A message says what, where, and what to do. The same facts are fields of the exception, so no
caller has to parse the message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = [
    "AlignmentError",
    "CatalogDamaged",
    "DatabaseLocked",
    "DatabaseNotFound",
    "DatabaseNotWritable",
    "DatabaseSpacesMismatch",
    "DimensionMismatch",
    "DuplicateRecordError",
    "EmbeddingError",
    "EmbeddingSpecMismatch",
    "EmptySequenceError",
    "ExternalSpaceError",
    "FileFormatError",
    "FilterError",
    "InputError",
    "InputNotFoundError",
    "InvalidResidueError",
    "InvalidVectorError",
    "MissingDependencyError",
    "MixedInputError",
    "ModelUnavailableError",
    "NoVectorError",
    "NotADatabase",
    "NotEnoughSpace",
    "NucleotideSequenceError",
    "ParameterError",
    "PlmsearchError",
    "RecordError",
    "RecordNotFound",
    "SchemaOutdatedError",
    "SchemaTooNewError",
    "SegmentDamaged",
    "SequenceTooLongError",
    "StorageError",
    "StoreError",
    "TableFormatError",
    "TranslationError",
    "UnknownModelError",
    "UnsupportedModelError",
    "VectorConflict",
    "VectorIndexError",
    "WeightsError",
]


class PlmsearchError(Exception):
    """Base of all errors; `message` says what and where, `hint` what to do.

    Parameters
    ----------
    message : str
        What went wrong, with the value and the place.
    hint : str, optional
        What the user can do about it.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(f"{message}; {hint}" if hint else message)


#: Characters of a user's text that a message repeats.
_MAX_SHOWN = 200


def _place(source: str, row: int | None) -> str:
    """Name a row of an input the way a user counts it: from 1."""
    if not source:
        return ""
    return f" ({source}, record {row})" if row is not None else f" ({source})"


# --- Input ---------------------------------------------------------------------------------------


class InputError(PlmsearchError, ValueError):
    """Something the user handed in cannot be used."""


class ParameterError(InputError):
    """An argument is outside its range."""

    def __init__(self, name: str, value: object, expected: str) -> None:
        self.name, self.value, self.expected = name, value, expected
        super().__init__(f"{name} is {value!r}", hint=f"it must be {expected}")


class FilterError(InputError):
    """A condition on records cannot be read, or does not fit the columns there are.

    Parameters
    ----------
    text : str
        The condition.
    reason : str
    position : int or None
        Of the character it is about, from 1.
    """

    def __init__(self, text: str, reason: str, *, hint: str = "", position: int | None = None) -> None:
        self.text, self.reason, self.position = text, reason, position
        place = "" if position is None else f" at character {position}"
        shown = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
        super().__init__(f"condition {shown!r}{place}: {reason}", hint=hint)


class AlignmentError(InputError):
    """A query cannot be aligned with its hits."""

    def __init__(self, query_id: str, reason: str, *, hint: str = "leave out --rerank align") -> None:
        self.query_id, self.reason = query_id, reason
        super().__init__(f"query {query_id!r} cannot be aligned: {reason}", hint=hint)


class InputNotFoundError(InputError):
    """A named input file does not exist or is not a file."""

    def __init__(self, path: str | Path, reason: str = "no such file") -> None:
        self.path, self.reason = str(path), reason
        super().__init__(f"cannot read {str(path)!r}: {reason}")


class FileFormatError(InputError):
    """A file is truncated, binary, in another format or not UTF-8."""

    def __init__(self, source: str, reason: str, *, hint: str = "") -> None:
        self.source, self.reason = source, reason
        super().__init__(f"{source}: {reason}", hint=hint)


class TableFormatError(FileFormatError):
    """A table lacks a column or has a ragged row."""


class RecordError(InputError):
    """One record of the input cannot be used; carries its id and place."""

    def __init__(
        self, record_id: str, problem: str, *, source: str = "", row: int | None = None, hint: str = ""
    ) -> None:
        self.record_id, self.problem, self.source, self.row = record_id, problem, source, row
        super().__init__(f"record {record_id!r}{_place(source, row)}: {problem}", hint=hint)


class InvalidResidueError(RecordError):
    """A sequence holds characters that are no residue letters."""

    def __init__(
        self, record_id: str, letters: str, position: int, *, source: str = "", row: int | None = None
    ) -> None:
        self.letters, self.position = letters, position
        super().__init__(
            record_id,
            f"{letters!r} at residue {position} is no amino acid",
            source=source,
            row=row,
            hint="correct the sequence, or pass --on-invalid skip (leave it out) or mask (read it as X)",
        )


class NucleotideSequenceError(RecordError):
    """A sequence is DNA or RNA."""

    def __init__(self, record_id: str, *, source: str = "", row: int | None = None) -> None:
        super().__init__(
            record_id,
            "this is a nucleotide sequence",
            source=source,
            row=row,
            hint="pass --translate, or translate it to amino acids first",
        )


class EmptySequenceError(RecordError):
    """A record has no residues."""

    def __init__(self, record_id: str, *, source: str = "", row: int | None = None) -> None:
        super().__init__(
            record_id,
            "the sequence is empty",
            source=source,
            row=row,
            hint="remove the record, or pass --on-invalid skip to leave it out",
        )


class TranslationError(RecordError):
    """The nucleotides of a record cannot be translated without guessing."""

    def __init__(
        self, record_id: str, reason: str, *, source: str = "", row: int | None = None, hint: str
    ) -> None:
        self.reason = reason
        super().__init__(record_id, reason, source=source, row=row, hint=hint)


class SequenceTooLongError(RecordError):
    """A sequence is longer than the model reads in one pass."""

    def __init__(
        self, record_id: str, n_residues: int, max_residues: int, *, source: str = "", row: int | None = None
    ) -> None:
        self.n_residues, self.max_residues = n_residues, max_residues
        super().__init__(
            record_id,
            f"{n_residues} residues, the model reads {max_residues}",
            source=source,
            row=row,
            hint="pass --long window, truncate or skip",
        )


class DuplicateRecordError(RecordError):
    """An id is already taken, by a different record or by a variable domain."""

    def __init__(
        self,
        record_id: str,
        *,
        source: str = "",
        row: int | None = None,
        problem: str = "this id is already taken by a different record",
        hint: str = "pass --on-duplicate rename or skip",
    ) -> None:
        super().__init__(record_id, problem, source=source, row=row, hint=hint)


class VectorConflict(RecordError):
    """A record comes with another vector than the one that is stored.

    Parameters
    ----------
    record_id : str
    owner : str
        What the stored vector belongs to.
    """

    def __init__(
        self, record_id: str, owner: str, *, source: str = "", row: int | None = None, hint: str
    ) -> None:
        self.owner = owner
        super().__init__(
            record_id,
            f"it has another vector than the one that is stored for {owner}",
            source=source,
            row=row,
            hint=hint,
        )


class MixedInputError(InputError):
    """Antibodies and other proteins in one input, and no model was named."""

    def __init__(self, n_antibody: int, n_other: int, n_sampled: int) -> None:
        self.n_antibody, self.n_other, self.n_sampled = n_antibody, n_other, n_sampled
        super().__init__(
            f"the input is a mixture: of {n_sampled} sampled sequences {n_antibody} are antibody variable "
            f"domains and {n_other} are not",
            hint="split the input, or choose a model for all of it with --model",
        )


class MissingDependencyError(PlmsearchError):
    """A package that an extra brings is not installed."""

    def __init__(self, task: str, package: str, extra: str) -> None:
        self.task, self.package, self.extra = task, package, extra
        super().__init__(
            f"{task} need the package {package}", hint=f'install it with: pip install "plmsearch[{extra}]"'
        )


# --- Embedding -----------------------------------------------------------------------------------


class EmbeddingError(PlmsearchError):
    """A model could not be found, loaded or used."""


class UnknownModelError(EmbeddingError, LookupError):
    """No model of that name is registered."""

    def __init__(self, model: str, choices: Sequence[str]) -> None:
        self.model, self.choices = model, tuple(choices)
        super().__init__(f"unknown model {model!r}", hint=f"choose one of: {', '.join(choices)}")


class UnsupportedModelError(EmbeddingError):
    """The model exists but does not embed single sequences."""

    def __init__(self, model: str, reason: str) -> None:
        self.model, self.reason = model, reason
        super().__init__(f"{model} is not supported: {reason}", hint="see: plmsearch models list")


class ModelUnavailableError(EmbeddingError):
    """The weights of a known model are not on this machine.

    Parameters
    ----------
    model : str
        Model name.
    searched : sequence of str
        Every path that was looked for, in order.
    hint : str
        How to get the weights.
    size_bytes : int, optional
        Size of the download, where known.
    """

    def __init__(
        self, model: str, searched: Sequence[str], *, hint: str, size_bytes: int | None = None
    ) -> None:
        self.model, self.searched, self.size_bytes = model, tuple(searched), size_bytes
        size = f" ({size_bytes / 1e6:,.0f} MB)" if size_bytes else ""
        looked = ", ".join(self.searched) if self.searched else "nowhere (no path was configured)"
        super().__init__(
            f"the weights of {model}{size} are not on this machine; looked for: {looked}", hint=hint
        )


class WeightsError(EmbeddingError):
    """A weights file is damaged, incomplete or belongs to another model."""

    def __init__(self, path: str | Path, reason: str, *, hint: str = "") -> None:
        self.path, self.reason = str(path), reason
        super().__init__(f"{path}: {reason}", hint=hint)


class ExternalSpaceError(EmbeddingError):
    """A vector is asked of a space whose vectors were imported, by no model."""

    def __init__(self, space: str, *, hint: str = "search by --id or by vector") -> None:
        self.space = space
        super().__init__(f"{space} is an external space: no model here makes its vectors", hint=hint)


class EmbeddingSpecMismatch(EmbeddingError, ValueError):
    """Vectors of two embedding spaces would be compared.

    Parameters
    ----------
    asked, stored : str
        The two specs, described in one line each.
    hint : str
        The command that fixes it.
    """

    def __init__(self, asked: str, stored: str, *, hint: str) -> None:
        self.asked, self.stored = asked, stored
        super().__init__(
            f"embedding space mismatch: asked for [{asked}], the database has [{stored}]", hint=hint
        )


class DatabaseSpacesMismatch(EmbeddingSpecMismatch):
    """Databases whose embedding spaces differ would become one.

    Parameters
    ----------
    first, second : str
        The two databases.
    first_spaces, second_spaces : str
        Their specs, described.
    hint : str
        What makes them equal.
    """

    def __init__(self, first: str, second: str, first_spaces: str, second_spaces: str, *, hint: str) -> None:
        self.first, self.second = first, second
        self.first_spaces, self.second_spaces = first_spaces, second_spaces
        self.asked, self.stored = second_spaces, first_spaces
        PlmsearchError.__init__(
            self,
            f"the embedding spaces of {first!r} and {second!r} differ: "
            f"the first has [{first_spaces}], the second [{second_spaces}]",
            hint=hint,
        )


# --- Vectors -------------------------------------------------------------------------------------


class VectorIndexError(PlmsearchError, ValueError):
    """Vectors that cannot be indexed or searched."""


class DimensionMismatch(VectorIndexError):
    """A vector has another dimension than the space."""

    def __init__(self, got: int, expected: int) -> None:
        self.got, self.expected = got, expected
        super().__init__(f"vectors have {got} dimensions, the space has {expected}")


class InvalidVectorError(VectorIndexError):
    """A vector holds NaN or infinity, or is all zero."""

    def __init__(self, row: int, reason: str) -> None:
        self.row, self.reason = row, reason
        super().__init__(f"vector {row} (counted from 0) {reason}; cosine similarity is undefined for it")


# --- Store ---------------------------------------------------------------------------------------


class StoreError(PlmsearchError):
    """The database directory cannot be used as asked."""


class DatabaseNotFound(StoreError):
    """There is no database at the path."""

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        super().__init__(
            f"no database at {self.path!r}", hint=f"create one with: plmsearch index {path} INPUT"
        )


class NotADatabase(StoreError):
    """The path exists but holds something else."""

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path, self.reason = str(path), reason
        super().__init__(f"{self.path!r} is not a plmsearch database: {reason}")


class DatabaseNotWritable(StoreError):
    """The user may not write to the database directory."""

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path, self.reason = str(path), reason
        super().__init__(f"cannot write to {self.path!r}: {reason}", hint="check its owner and permissions")


class DatabaseLocked(StoreError):
    """Another process is writing to the database."""

    def __init__(self, path: str | Path, waited_s: float) -> None:
        self.path, self.waited_s = str(path), waited_s
        super().__init__(
            f"another process is writing to {self.path!r} (waited {waited_s:.0f} s)",
            hint="wait for it to finish, or raise --lock-timeout",
        )


class SchemaOutdatedError(StoreError):
    """The database was written by an older plmsearch."""

    def __init__(self, path: str | Path, found: str, needed: str) -> None:
        self.path, self.found, self.needed = str(path), found, needed
        super().__init__(
            f"{self.path!r} is at schema {found}, this plmsearch needs {needed}",
            hint=f"run: plmsearch upgrade {path}",
        )


class SchemaTooNewError(StoreError):
    """The database was written by a newer plmsearch."""

    def __init__(self, path: str | Path, found: str, supported: str) -> None:
        self.path, self.found, self.supported = str(path), found, supported
        super().__init__(
            f"{self.path!r} has version {found}, this plmsearch reads up to {supported}",
            hint="install a newer plmsearch",
        )


class SegmentDamaged(StoreError):
    """A vector file does not hold what was written."""

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path, self.reason = str(path), reason
        super().__init__(f"vector file {self.path!r} is damaged: {reason}", hint="restore it from a backup")


class CatalogDamaged(StoreError):
    """The catalog's file does not hold what was written."""

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path, self.reason = str(path), reason
        super().__init__(
            f"{self.path!r} is damaged: {reason}",
            hint="restore a backup; only if you changed the file yourself: plmsearch repair --accept-catalog",
        )


class StorageError(StoreError):
    """The operating system refused a read or a write."""

    def __init__(self, path: str | Path, reason: str, *, hint: str = "") -> None:
        self.path, self.reason = str(path), reason
        super().__init__(f"{self.path!r}: {reason}", hint=hint)


class NotEnoughSpace(StorageError):
    """What is to be written does not fit on the disk; nothing was written.

    Parameters
    ----------
    path : str or Path
        Where it was to be written.
    task : str
        What needs the room.
    needed_bytes : int
        At least so much.
    free_bytes : int
        What the file system has left for this user.
    """

    def __init__(self, path: str | Path, task: str, needed_bytes: int, free_bytes: int) -> None:
        self.task, self.needed_bytes, self.free_bytes = task, needed_bytes, free_bytes
        super().__init__(
            path,
            f"{task} needs at least {needed_bytes / 1e6:,.1f} MB, {free_bytes / 1e6:,.1f} MB are free",
            hint="free some space, or use another disk",
        )


class NoVectorError(StoreError, LookupError):
    """A record has no vector in a space, and none of one model alone can be meant."""

    def __init__(self, record_id: str, space: str, reason: str) -> None:
        self.record_id, self.space, self.reason = record_id, space, reason
        super().__init__(
            f"record {record_id!r} has no vector in the space {space}: {reason}",
            hint="plmsearch info lists the spaces; id#2 is the second variable domain of a record",
        )


class RecordNotFound(StoreError, LookupError):
    """No live record has the id."""

    def __init__(self, record_ids: Sequence[str], suggestions: Mapping[str, str] | None = None) -> None:
        self.record_ids = tuple(record_ids)
        self.suggestions = dict(suggestions or {})
        names = ", ".join(repr(r) for r in self.record_ids[:5])
        more = f" and {len(self.record_ids) - 5} more" if len(self.record_ids) > 5 else ""
        near = "; ".join(f"did you mean {s!r}?" for s in self.suggestions.values())
        super().__init__(f"no record {names}{more} in the database", hint=near)
