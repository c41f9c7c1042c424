"""What an ingest was asked to do, what it did, and how it tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from plmsearch.embedding.spec import LONG_POLICIES, LongPolicy
from plmsearch.errors import ParameterError

if TYPE_CHECKING:
    from plmsearch.embedding.embed import Embedded
    from plmsearch.embedding.regions import EmbeddedUnits
    from plmsearch.types import Int1D

__all__ = [
    "ON_DUPLICATE",
    "ON_INVALID",
    "AddOptions",
    "AddReport",
    "GeneOptions",
    "OnDuplicate",
    "OnInvalid",
    "Progress",
    "SkippedRow",
    "check_choice",
]

OnInvalid: TypeAlias = Literal["error", "skip", "mask"]
ON_INVALID: tuple[OnInvalid, ...] = get_args(OnInvalid)

OnDuplicate: TypeAlias = Literal["rename", "error", "skip", "replace"]
ON_DUPLICATE: tuple[OnDuplicate, ...] = get_args(OnDuplicate)


@dataclass(frozen=True, slots=True)
class GeneOptions:
    """Which germline genes are inferred from residues.

    Parameters
    ----------
    germlines : str or None
        File of germlines (`plmsearch.germlines.genes.GermlineSet.load`); None: those that are shipped.
    species : str or None
        Of the germlines; None: inferred, input by input.
    infer : bool
        False: none.

    Raises
    ------
    ParameterError
        If germlines or a species are given, and none are to be inferred.
    """

    germlines: str | None = None
    species: str | None = None
    infer: bool = True

    def __post_init__(self) -> None:
        for name, value in (("germlines", self.germlines), ("species", self.species)):
            if value is not None and not self.infer:
                raise ParameterError(name, value, "left out where no germline genes are inferred")

    @property
    def is_asked(self) -> bool:
        """Whether something else than the default is asked for."""
        return self.germlines is not None or self.species is not None


@dataclass(frozen=True, slots=True)
class AddOptions:
    """How rows that cannot be taken as they are are treated, and which genes are inferred.

    Parameters
    ----------
    on_invalid : {"error", "skip", "mask"}
        Letters that are no residue: stop, leave the record out, or read them as X. Empty and
        nucleotide sequences: left out with ``skip``, else stop.
    on_duplicate : {"rename", "error", "skip", "replace"}
        An id that is taken by a different record: try X_2, X_3..., stop, leave the row out, or put
        it in the place of that record.
    long : {"window", "truncate", "skip", "error"} or None
        Sequences above the model's length: read in overlapping windows, cut, leave out, or stop.
        None: as the database does, and windows in a new one.
    genes : GeneOptions
        Of variable domains.
    """

    on_invalid: OnInvalid = "error"
    on_duplicate: OnDuplicate = "rename"
    long: LongPolicy | None = None
    genes: GeneOptions = field(default_factory=GeneOptions)

    def __post_init__(self) -> None:
        check_choice("on_invalid", self.on_invalid, ON_INVALID)
        check_choice("on_duplicate", self.on_duplicate, ON_DUPLICATE)
        if self.long is not None:
            check_choice("long", self.long, LONG_POLICIES)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not one of the choices.

    Raises
    ------
    ParameterError
    """
    if value not in choices:
        raise ParameterError(name, value, f"one of: {', '.join(choices)}")


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A row that was left out, and why."""

    source: str
    row: int | None
    record_id: str
    reason: str


@dataclass(slots=True)
class AddReport:
    """What became of the rows of an ingest, or of the queries of a search.

    Attributes
    ----------
    n_rows : int
        Rows read; always the sum of added, renamed, replaced, present and skipped.
    n_added, n_renamed, n_replaced, n_present, n_skipped : int
        Rows that became a record under their own id, under another id, in the place of another
        record, that were there before, and that were left out.
    n_embedded : int
        Distinct sequences that went through the model.
    n_windowed, n_truncated : int
        Of these, read in several windows, or cut.
    n_with_unknown, n_unknown_residues : int
        Of these, with residues the model has no token for; and how many such residues.
    changes : Counter
        Rows by what normalising changed: ``lowercase``, ``gaps``, ``stop``, ``whitespace``,
        ``masked``.
    sources : Counter
        Rows by the column their residues come from, where an input has several; without those left out.
    skipped : list of SkippedRow
        Every row left out.
    widened : dict of str to (str, str)
        Metadata columns whose type became wider: before and after.
    spaces : list of str
        Names of the embedding spaces filled.
    choice : str
        Which model was chosen and why; empty if it was named or already set.
    n_forward_passes : int
    seconds : float
    without_domain : dict of str to str
        Records that were stored and hold no antibody variable domain, with the reason: a space of domains
        has no vector of them.
    chains_without_domain : dict of str to str
        Records of several chains of which only some hold a domain: which do not, with the reason.
    without_region : dict of str to list of str
        By space, the domains (``id``, ``id#2``) that have no residue in its region.
    n_incomplete : int
        New domains that do not reach from IMGT position 1 to the end of FWR4.
    disagreements : Counter
        Columns of the input whose value is not what numbering the residues gives, and in how many rows;
        ``junction`` where ``junction_aa`` is not its translation.
    misplaced : list of str
        Records with a light chain in the column that is said to hold heavy ones, or the reverse.
    species : list of str
        Which species the germline genes are of, input by input, where that was inferred.
    """

    n_rows: int = 0
    n_added: int = 0
    n_renamed: int = 0
    n_replaced: int = 0
    n_present: int = 0
    n_skipped: int = 0
    n_embedded: int = 0
    n_windowed: int = 0
    n_truncated: int = 0
    n_with_unknown: int = 0
    n_unknown_residues: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    skipped: list[SkippedRow] = field(default_factory=list)
    widened: dict[str, tuple[str, str]] = field(default_factory=dict)
    spaces: list[str] = field(default_factory=list)
    choice: str = ""
    n_forward_passes: int = 0
    seconds: float = 0.0
    without_domain: dict[str, str] = field(default_factory=dict)
    chains_without_domain: dict[str, str] = field(default_factory=dict)
    without_region: dict[str, list[str]] = field(default_factory=dict)
    n_incomplete: int = 0
    disagreements: Counter[str] = field(default_factory=Counter)
    misplaced: list[str] = field(default_factory=list)
    species: list[str] = field(default_factory=list)

    def count_embedded(self, embedded: Embedded | EmbeddedUnits, n_residues: Int1D) -> None:
        """Count what became of sequences of these lengths on their way through the model."""
        self.n_windowed += int((embedded.n_windows > 1).sum())
        self.n_truncated += int((embedded.n_used < n_residues).sum())
        self.n_with_unknown += int((embedded.n_unknown > 0).sum())
        self.n_unknown_residues += int(embedded.n_unknown.sum())
        self.n_forward_passes += embedded.n_forward_passes

    def count_rows(self, outcomes: Mapping[str, int]) -> None:
        """Count rows by what became of them, as the ledger calls it."""
        self.n_rows += sum(outcomes.values())
        self.n_added += outcomes.get("added", 0)
        self.n_renamed += outcomes.get("renamed", 0)
        self.n_replaced += outcomes.get("replaced", 0)
        self.n_present += outcomes.get("present", 0)
        self.n_skipped += outcomes.get("skipped", 0)

    def summary(self) -> dict[str, Any]:
        """Return the counts as plain values, without the list of rows left out."""
        data = asdict(self)
        data["sources"] = dict(self.sources)
        del data["skipped"]
        data["changes"] = dict(self.changes)
        data["disagreements"] = dict(self.disagreements)
        data["misplaced"] = len(self.misplaced)
        data["without_domain"] = len(self.without_domain)
        data["chains_without_domain"] = len(self.chains_without_domain)
        data["without_region"] = {space: len(ids) for space, ids in self.without_region.items()}
        return data


class Progress:
    """What an ingest tells while it runs; this one is silent.

    Override any method to show it.
    """

    def start(self, n_rows: int | None) -> None:
        """Embedding begins; `n_rows` are to come, where known."""

    def advance(self, n_rows: int) -> None:
        """So many more rows are done."""

    def say(self, text: str) -> None:
        """Tell the user one line."""
