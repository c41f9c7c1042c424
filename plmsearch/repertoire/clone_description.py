"""What was done to find clonal families, for a file beside the table."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

import numpy as np

from plmsearch._version import __version__
from plmsearch.repertoire.agreement import Agreement
from plmsearch.repertoire.clones import CloneOptions, Clones
from plmsearch.repertoire.clonotype import Rearrangements
from plmsearch.repertoire.convergence import IDENTITY
from plmsearch.repertoire.families import NEAR_COPY, Families
from plmsearch.repertoire.heavy import CALL_METHODS
from plmsearch.repertoire.missing_calls import FilledCalls
from plmsearch.repertoire.null import FALSE_LINKS

__all__ = ["CloneReport", "describe"]


@dataclass(frozen=True, slots=True)
class CloneReport:
    """What was done.

    Parameters
    ----------
    source : str
    n_rows : int
    by : str
        Column of the donor; "" if the table is taken for one donor.
    n_without_donor : int
        Rows in which that column is empty; they are taken for one donor.
    clones : Clones
    rows : Rearrangements
    calls : FilledCalls
        What was done about heavy chains without calls.
    old : Agreement or None
        With the ids that ``clone_id`` held before, over the rows that have both.
    """

    source: str
    n_rows: int
    by: str
    n_without_donor: int
    clones: Clones
    rows: Rearrangements
    old: Agreement | None
    calls: FilledCalls = field(default_factory=FilledCalls)


def describe(report: CloneReport, options: CloneOptions) -> dict[str, Any]:
    """Say how families were found, in values that JSON can hold."""
    clones = report.clones
    return {
        "definition": _definition(report, options),
        "method": clones.method,
        "unit": clones.unit,
        "linkage": "single",
        "distance": "cosine distance"
        if clones.method == "embedding"
        else "Hamming / junction length; unknown letters never differ",
        "vectors": dict(clones.vectors.facts) if clones.vectors else None,
        "n_with_v_region": clones.families.n_with_v if isinstance(clones.families, Families) else None,
        "v_call": options.v_call,
        "split_light": options.split_light,
        "productive_only": options.productive,
        "filtered_only": options.filtered,
        "threshold": _threshold(report, options),
        "calls": _calls(report.calls),
        "donor_column": report.by or None,
        "n_donors": clones.n_donors,
        "n_rows": report.n_rows,
        "n_heavy": clones.n_heavy,
        "n_light": clones.n_light,
        "n_families": len(clones.sizes),
        "n_without_family": clones.status_counts(),
        "largest_family": max(clones.sizes, default=0),
        "n_receptor_chains": sum(clones.receptor_sizes),
        "n_receptor_clonotypes": len(clones.receptor_sizes),
        "convergent_clusters": _convergent(clones),
        "n_junctions_by_numbering": report.rows.n_numbered,
        "n_not_in_filtered_set": report.rows.filtered.count(False),
        "n_junctions_that_disagree": len(report.rows.disagreeing),
        "n_assumed_heavy": clones.n_assumed_heavy,
        "agreement_with_old_ids": asdict(report.old) if report.old else None,
        "versions": {
            "plmsearch": __version__,
            "python": platform.python_version(),
            "numpy": metadata.version("numpy"),
            "immunum": metadata.version("immunum"),
        },
    }


def _calls(calls: FilledCalls) -> dict[str, Any]:
    told: dict[str, Any] = {"from": "v_call, j_call"}
    if calls.inferred is not None:
        told = {
            "from": "inferred" if calls.is_everywhere else "v_call, j_call; inferred where there are none",
            "germlines": calls.inferred.source,
            "species": calls.inferred.species,
            "n_inferred": calls.n_found,
        }
    lacking = {"n_without": calls.n_asked - calls.n_found, "n_from_inferred_columns": calls.n_taken}
    return told | {name: n for name, n in lacking.items() if n}


def _convergent(clones: Clones) -> dict[str, Any] | None:
    if clones.convergent is None:
        return None
    return {
        "definition": "heavy chains of several donors with a common V gene, J gene and junction length, "
        f"joined by single linkage where {IDENTITY:.0%} of the junction's residues or more agree; no clones",
        "n_clusters": len(set(filter(None, clones.convergent))),
    }


def _definition(report: CloneReport, options: CloneOptions) -> str:
    method = report.clones.method
    if method == "embedding":
        return "rows of one donor with one junction length, joined by single linkage of cosine distances"
    genes = {"set": "a common V gene and J gene (any listed)", "first": "the same first V gene and J gene"}
    same = f"{genes[options.v_call]} and " if method in CALL_METHODS else ""
    more = (
        "; links must fit the differences of the V regions, and shared mutations of these allow further links"
        if method == "hybrid"
        else ""
    )
    return (
        f"rows of one donor with {same}one junction length, joined by single linkage of "
        f"{report.clones.unit} of the junction, conserved residues included{more}"
    )


def _threshold(report: CloneReport, options: CloneOptions) -> dict[str, Any]:
    if options.threshold is not None:
        return {"rule": "given", "share": options.threshold}
    families = report.clones.families
    shares = families.thresholds
    found: dict[str, Any] = {
        "rule": "per block: the largest distance at which a sequence is expected to have at most "
        f"{FALSE_LINKS} links to unrelated sequences",
        "expected_false_links": FALSE_LINKS,
        "n_null_pairs": families.n_null_pairs,
        "n_blocks": len(shares),
        "quantiles": {
            str(q): round(float(np.quantile(shares, q)), 4) for q in (0, 0.05, 0.5, 0.95, 1) if len(shares)
        },
    }
    if isinstance(families, Families):
        by_length: dict[int, list[int]] = {}
        for limit in families.limits:
            by_length.setdefault(limit.length, []).append(limit.most)
        found["near_copy"] = NEAR_COPY
        found["most_mismatches_by_length"] = {
            str(n): {"least": min(most), "most": max(most)} for n, most in sorted(by_length.items())
        }
    return found
