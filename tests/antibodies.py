"""Databases of variable domains for tests: chains of one humanised antibody, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from support import VH, VL

from plmsearch.database import open_database
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.exchange.pages import stored_pages
from plmsearch.ingest.report import AddOptions, AddReport
from plmsearch.ingest.scan import RecordList
from plmsearch.sequences import SequenceRecord
from plmsearch.store.rows import StoredDomain

LINKER = "GGGGSGGGGSGGGGS"
LEADER = "MKHLWFFLLLVAAPRWVLS"
CH1 = "ASTKGPSVFPLAPSSKSTSGGTAALGCLVKDYFPEPVTVSW"
#: Other heavy chains: one residue of CDR1, of CDR2 and of CDR3 exchanged.
VH_2 = VH.replace("KDTYIH", "KDTYMH")
VH_3 = VH.replace("RIYPTNGY", "RIYPTSGY")
VH_4 = VH.replace("GGDGFY", "GGDAFY")
SCFV = VH + LINKER + VL
NO_DOMAIN = "MKTAYIAKQRQISFVKSHFSRQ"

KMER_DOMAIN, KMER_CDR3, KMER_CHAIN = "kmer/1/whole/mean/domain", "kmer/1/cdr3/mean", "kmer/1/whole/mean"


def antibody_db(
    path: Path,
    given: Sequence[tuple[str, str] | SequenceRecord],
    *,
    chains: bool = False,
    options: AddOptions | None = None,
    **wishes: str,
) -> Path:
    """A `kmer` database of variable domains, and of whole chains too if wanted."""
    add_domains(path, given, options=options, **wishes)
    if chains:
        with open_database(path) as db:
            db.embed(SpaceRequest("kmer", preset="whole"))
    return path


def add_domains(
    path: Path,
    given: Sequence[tuple[str, str] | SequenceRecord],
    *,
    options: AddOptions | None = None,
    **wishes: str,
) -> AddReport:
    """Add records to a database of domains, or make it."""
    rows = [r if isinstance(r, SequenceRecord) else SequenceRecord(*r) for r in given]
    with open_database(path, create=True) as db:
        request = SpaceRequest("kmer", preset="antibody", **wishes) if not db.exists else None
        return db.add_inputs([RecordList(rows)], request=request, options=options)


def unit_vectors_of(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """The raw vectors by space and unit, such as ``id#1`` of a space of domains."""
    found: dict[str, dict[str, np.ndarray]] = {}
    with open_database(path) as db:
        for space in db.spaces():
            pages = list(stored_pages(db, space))
            found[space.spec.name] = {
                r.unit_id: v for p in pages for r, v in zip(p.records, p.vectors, strict=True)
            }
    return found


def domains_of(path: Path) -> dict[str, list[tuple[str, StoredDomain]]]:
    """The domains of every record, each with its own residues as stored, without the ids of sequences."""
    with open_database(path) as db:
        repository = db.repository
        records = list(repository.all_records())
        found = repository.domains({r.sequence_id for r in records})
        residues = repository.residues({d.sequence_id for of in found.values() for d in of})
        return {
            r.record_id: [
                (residues[d.sequence_id], d._replace(source_id=0, sequence_id=0))
                for d in found[r.sequence_id]
            ]
            for r in records
        }


def assert_same_units(path: Path, other: Path) -> None:
    """Same records, vectors of units and domains."""
    ours, theirs = unit_vectors_of(path), unit_vectors_of(other)
    assert ours.keys() == theirs.keys()
    for space, vectors in ours.items():
        assert vectors.keys() == theirs[space].keys()
        for unit_id, vector in vectors.items():
            np.testing.assert_allclose(vector, theirs[space][unit_id], atol=1e-6, rtol=0)
    assert domains_of(path) == domains_of(other)
