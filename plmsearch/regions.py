"""Regions of a variable domain, by IMGT numbering and in AIRR's spelling; sets of them that are pooled."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["REGIONS", "REGION_SETS"]

#: In order of place.
REGIONS = ("fwr1", "cdr1", "fwr2", "cdr2", "fwr3", "cdr3", "fwr4")

#: What can be pooled, and the IMGT regions it is made of.
REGION_SETS: Mapping[str, tuple[str, ...]] = {
    "whole": REGIONS,
    "cdrs": ("cdr1", "cdr2", "cdr3"),
    "fwr": ("fwr1", "fwr2", "fwr3", "fwr4"),
    **{name: (name,) for name in REGIONS},
}
