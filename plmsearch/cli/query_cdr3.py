"""What ``plmsearch query`` does with ``--cdr3``, ``--min-cdr3-identity`` and ``--same``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from plmsearch.cli.console import note
from plmsearch.wording import counted

if TYPE_CHECKING:
    from plmsearch.database import Database
    from plmsearch.ingest.report import AddOptions, AddReport
    from plmsearch.ingest.scan import Input
    from plmsearch.reader import Reader
    from plmsearch.search.cdr3 import Cdr3Options
    from plmsearch.search.hits import Hit, Query, SearchOptions
    from plmsearch.store.rankings import StoredRanking

    Results = Iterator[tuple[Query, list[Hit]]]

__all__ = ["By", "cdr3_wishes"]

_DEFAULT_K = 10
#: A CDR3 of so many residues of these four alone is more likely one of bases: below the length at which
#: `plmsearch.sequences.is_nucleotide` is sure.
_BASES, _LEAST_BASES = "ACGT", 9


def cdr3_wishes(
    cdr3: Sequence[str] | None,
    min_identity: float | None,
    same: str | None,
    k: int | None,
    options: SearchOptions,
    *,
    no_model: bool,
) -> Cdr3Options | None:
    """Return what is asked of CDR3 and genes; None if nothing is.

    Raises
    ------
    typer.BadParameter
        If it is asked together with what only a search by embedding has.
    """
    from plmsearch.search.cdr3 import Cdr3Options, parse_same

    if not cdr3 and min_identity is None and same is None:
        if no_model:
            raise typer.BadParameter("--no-model goes with --same or --min-cdr3-identity")
        return None
    shared = () if same is None else parse_same(same)
    if cdr3 and set(shared) - {"cdr3_length"}:
        raise typer.BadParameter(f"--same {same}: a --cdr3 string has no genes; say them with --where")
    _refuse_scores(options)
    if k is None and min_identity is None and not shared:
        k = _DEFAULT_K
    return Cdr3Options(min_identity, shared, k)


def _refuse_scores(options: SearchOptions) -> None:
    """Refuse what would leave hits out, or sort them, by a score or an alignment."""
    asked = {
        "--min-score": options.min_score is not None,
        "--threshold": options.threshold is not None,
        "--rerank": options.rerank is not None,
        "--max-emb-evalue": options.max_emb_evalue is not None,
        f"--index {options.index}": options.index not in {"auto", "exact"},
        f"--sort {options.sort}": options.sort is not None,
    }
    for flag, is_given in asked.items():
        if is_given:
            message = (
                f"{flag} does not go with --cdr3, --same or --min-cdr3-identity: they find what fits, exactly"
            )
            raise typer.BadParameter(message)


@dataclass
class By:
    """A search by CDR3 and genes.

    Parameters
    ----------
    db : Database
    wishes : Cdr3Options
    options : SearchOptions
    ranking : StoredRanking or None
        For scores; None: without.
    report : AddReport
    """

    db: Database
    wishes: Cdr3Options
    options: SearchOptions
    ranking: StoredRanking | None
    report: AddReport

    @property
    def default_columns(self) -> Sequence[str]:
        """What is written unless columns are chosen."""
        from plmsearch.formats.hits import CDR3_HIT_COLUMNS

        return [c for c in CDR3_HIT_COLUMNS if c != "score" or self.ranking is not None]

    def results(
        self,
        cdr3s: Sequence[str],
        record_ids: Sequence[str],
        other: Reader | None,
        sources: Sequence[Input],
        policy: AddOptions,
    ) -> Results:
        """Search with strings, stored records, a database, or else with what files hold."""
        from plmsearch.ingest.spaces import numbering_warning

        if cdr3s:
            return self.db.search_cdr3(cdr3s, self.wishes, self.options)
        ranking, report = self.ranking, self.report
        if not record_ids and other is None and (warning := numbering_warning(self.db.spaces())):
            note(warning)
        if record_ids:
            return self.db.search_alike_stored(record_ids, self.wishes, self.options, ranking, report=report)
        if other is not None:
            return self.db.search_alike_all(other, self.wishes, self.options, ranking, report=report)
        return self.db.search_alike(sources, self.wishes, self.options, ranking, policy=policy, report=report)

    def note(self, cdr3s: Sequence[str], *, explain: bool, quiet: bool) -> None:
        """Say how the search is done, what a string was taken for, and what is not seen."""
        from plmsearch.search.cdr3 import read_cdr3

        for one in map(read_cdr3, cdr3s):
            if one.is_junction and not quiet:
                note(f"{one.given} begins with C and ends with W or F: a junction, with the CDR3 {one.cdr3}")
            if set(one.cdr3) <= set(_BASES) and len(one.cdr3) >= _LEAST_BASES and not quiet:
                note(f"{one.given} holds no other letters than {_BASES}: read as residues, not as bases")
        if explain:
            for line in self.db.explain_alike(self.wishes, self.options):
                note(line)
        n_unseen = self.db.repository.n_not_looked_at()
        if n_unseen and not quiet:
            unseen = counted(n_unseen, "sequence is", "sequences are", style=",")
            note(
                f"{unseen} not searched: nobody has looked for their variable domains; "
                f"plmsearch embed {self.db.path} --preset antibody"
            )
