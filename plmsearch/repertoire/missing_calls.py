"""V and J calls of heavy chains without any: those that the table has as inferred, or inferred here.

Calls of the input come first, gene by gene, where most rows have some. A row without is compared with these
by the names of genes, so inferred ones are used only where they agree with the calls of other rows: a table
may name its genes otherwise than the germlines do (OGRDB's clusters, another species).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from plmsearch.genes import call_genes
from plmsearch.repertoire.clonotype import Rearrangements, genes_of
from plmsearch.repertoire.heavy import CALL_METHODS, INFERRED, has_calls
from plmsearch.repertoire.inferred_calls import Germlines, InferredCalls, infer_calls

__all__ = ["AGREEING", "Calls", "FilledCalls", "fill_calls"]

#: V call and J call.
Calls = tuple[str, str]

#: Of rows with calls, as many must get a V gene that their call lists: of real chains .995 do, of
#: simulated ones .976 or more (docs/germlines.md), and none where genes have other names.
AGREEING = 0.8
#: As many rows with calls are looked at.
_SAMPLE = 200


@dataclass(frozen=True, slots=True)
class FilledCalls:
    """What was done about heavy chains without calls.

    Parameters
    ----------
    inferred : InferredCalls or None
        Calls that are used, by row; "" where none were asked for.
    is_everywhere : bool
        Whether they stand for the calls of all rows, for most have none.
    n_asked : int
        Heavy chains with a junction that lack a V or a J gene.
    n_found : int
        How many of these have both now.
    n_taken : int
        Heavy chains that have a gene of the table's own inferred columns.
    why_not : str
        Why none were inferred; "" if some were.
    is_told : bool
        Whether the user said which germlines.
    """

    inferred: InferredCalls | None = None
    is_everywhere: bool = False
    n_asked: int = 0
    n_found: int = 0
    n_taken: int = 0
    why_not: str = ""
    is_told: bool = False


def fill_calls(
    rows: Rearrangements,
    method: str,
    germlines: Germlines,
    known: Sequence[Calls] | None,
    chains_of: Callable[[Collection[int]], Sequence[str]],
) -> FilledCalls:
    """Find calls for the heavy chains that lack some, and put them into the rows.

    Parameters
    ----------
    rows : Rearrangements
        Its calls are changed.
    method : str
        Of clones; one that uses no calls gets none.
    germlines : Germlines
    known : sequence of (V call, J call), or None
        Of each row, from the table's own inferred columns.
    chains_of : callable
        Returns the residues of some rows: one text for each row of the table, "" for others.

    Returns
    -------
    FilledCalls
    """
    is_told = germlines != Germlines()
    if method not in ("auto", *CALL_METHODS):
        return FilledCalls(why_not=f"method {method} uses no calls", is_told=is_told)
    heavy = [i for i, locus in enumerate(rows.locus) if locus in ("IGH", "")]
    n_taken = 0 if known is None else sum(_complete(rows, i, known[i]) for i in heavy)
    with_junction = [i for i in heavy if rows.nucleotides[i] or rows.residues[i]]
    asked = [i for i in with_junction if not _is_called(rows, i)]
    inferred, is_everywhere = None, not has_calls(rows, heavy)
    if not asked:
        why_not = "no heavy chain with a junction lacks V and J calls"
    elif is_everywhere:
        inferred, why_not = _infer_all(rows, heavy, with_junction, method, germlines, chains_of)
    else:
        inferred, why_not = _infer_some(rows, asked, with_junction, germlines, chains_of)
        inferred = inferred and _with_known(inferred, known)
    n_found = sum(_is_called(rows, i) for i in asked)
    return FilledCalls(inferred, is_everywhere, len(asked), n_found, n_taken, why_not, is_told)


_Found = tuple[InferredCalls | None, str]
_NO_RESIDUES = "there are no residues to infer them from"


def _infer_all(
    rows: Rearrangements,
    heavy: Sequence[int],
    with_junction: Sequence[int],
    method: str,
    germlines: Germlines,
    chains_of: Callable[[Collection[int]], Sequence[str]],
) -> _Found:
    """Infer the calls of all heavy chains: two ways of calling would part families.

    With method auto calls of too few chains are not used: those without would have no family.
    """
    chains = chains_of(heavy)
    if not any(chains):
        return None, _NO_RESIDUES
    found = infer_calls(chains, germlines)
    given = rows.calls
    rows.calls = [(new[0] or old[0], new[1] or old[1]) for new, old in zip(found.calls, given, strict=True)]
    if method == "auto" and not has_calls(rows, with_junction, INFERRED):
        rows.calls = given
        return None, f"less than {INFERRED:.0%} of the chains get both from {found.source}"
    return found, ""


def _infer_some(
    rows: Rearrangements,
    asked: Sequence[int],
    with_junction: Sequence[int],
    germlines: Germlines,
    chains_of: Callable[[Collection[int]], Sequence[str]],
) -> _Found:
    """Infer the calls of the rows without, if those of a sample of other rows are inferred rightly."""
    called = sorted(set(with_junction).difference(asked))
    places = np.linspace(0, len(called) - 1, min(len(called), _SAMPLE), dtype=int)
    sample = [called[k] for k in places.tolist()]
    chains = chains_of({*asked, *sample})
    if not any(chains[i] for i in asked):
        return None, _NO_RESIDUES
    found = infer_calls(chains, germlines)
    compared = [i for i in sample if found.calls[i][0]]
    n_agree = sum(_shares(rows.calls[i][0], found.calls[i][0]) for i in compared)
    if not compared or n_agree < AGREEING * len(compared):
        rightly = f"only {n_agree} of {len(compared)} other rows would have a V gene of their call"
        return None, f"by {found.source} {rightly}"
    for i in asked:
        _complete(rows, i, found.calls[i])
    wanted = set(asked)
    calls = [call if i in wanted else ("", "") for i, call in enumerate(found.calls)]
    return replace(found, calls=calls), ""


def _with_known(found: InferredCalls, known: Sequence[Calls] | None) -> InferredCalls:
    """Keep what the table's own inferred columns hold."""
    if known is None:
        return found
    calls = [(v or new_v, j or new_j) for (v, j), (new_v, new_j) in zip(known, found.calls, strict=True)]
    return replace(found, calls=calls)


def _is_called(rows: Rearrangements, i: int) -> bool:
    return all(genes_of(rows.calls[i], first=True))


def _shares(call: str, other: str) -> bool:
    return not set(call_genes(call)).isdisjoint(call_genes(other))


def _complete(rows: Rearrangements, i: int, calls: Calls) -> bool:
    """Give a row the calls it lacks; return whether it got one."""
    given = rows.calls[i]
    v, j = (old if call_genes(old) else new or old for old, new in zip(given, calls, strict=True))
    rows.calls[i] = (v, j)
    return rows.calls[i] != given
