"""Germline genes of what comes into a database: as the germlines say, never in the place of given calls."""

import csv
import json
from pathlib import Path

import pytest
from support import VH, VL, cli, write_fasta

from plmsearch.database import open_database
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.errors import ParameterError
from plmsearch.formats.fasta import read_fasta
from plmsearch.germlines import genes as germline_genes
from plmsearch.germlines.genes import GermlineSet
from plmsearch.germlines.records import bundled_germlines
from plmsearch.ingest.report import AddOptions, GeneOptions
from plmsearch.ingest.scan import RecordList
from plmsearch.numbering import ImmunumNumberer
from plmsearch.sequences import SequenceRecord

ANTIBODY = SpaceRequest("kmer", preset="antibody")
HUMAN = [(r.record_id, r.sequence) for r in read_fasta("examples/heavy.fasta", "heavy.fasta")][:12]


def _mouse():
    """Chains made of mouse germline genes, joined by a CDR3 of no gene."""
    v_genes = [g for g in bundled_germlines() if (g.species, g.locus, g.segment) == ("mouse", "IGH", "V")]
    (j_gene,) = [g for g in bundled_germlines() if "IGHJ2*01" in g.names and g.species == "mouse"]
    joined = [
        ("".join(g.regions.values()) + "DGYW" + "".join(j_gene.regions.values())) for g in v_genes[::25]
    ]
    return [(f"m{i}", residues) for i, residues in enumerate(joined)]


MOUSE = _mouse()


def as_records(pairs, **metadata):
    return RecordList([SequenceRecord(name, residues, "", metadata) for name, residues in pairs])


def stored_domains(db):
    """Every stored domain, by id of its record and number."""
    records = {r.record_id: r for r in db.repository.all_records()}
    domains = db.repository.domains({r.sequence_id for r in records.values()})
    return {(name, d.number): d for name, r in records.items() for d in domains.get(r.sequence_id, ())}


def inferred(residues, species="human"):
    """What the germlines say of a chain, numbered here."""
    found = GermlineSet.load(None, species)
    return [found.infer(domain) for domain in ImmunumNumberer().domains(residues, ("IG",))]


def assert_as_inferred(db, pairs, species="human"):
    domains = stored_domains(db)
    for name, residues in pairs:
        expected = inferred(residues, species)
        got = [domains[name, number + 1] for number in range(len(expected))]
        assert [(d.v_call, d.j_call, d.v_identity, d.species) for d in got] == [
            (c.v_call, c.j_call, c.v_identity_aa, species) for c in expected
        ]


def test_every_domain_gets_the_genes_that_its_residues_say(tmp_path):
    pairs = [*HUMAN, ("scfv", VH + "GGGGSGGGGSGGGGS" + VL), ("vl", VL)]
    with open_database(tmp_path / "db", create=True) as db:
        report = db.add_inputs([as_records(pairs)], request=ANTIBODY)
        assert_as_inferred(db, pairs)
        assert db.select("v_gene like 'IGKV%'").n_records == 2
    (said,) = report.species
    assert said.startswith("species: human, inferred from 15 chains (mean V identity 0.9")


def test_calls_of_the_input_are_kept_and_come_first(tmp_path):
    given = {"v_call": "IGHV5-51*01", "species": "martian"}
    with open_database(tmp_path / "db", create=True) as db:
        db.add_inputs([as_records(HUMAN[:2], **given), as_records(HUMAN[2:])], request=ANTIBODY)
        assert db.get([HUMAN[0][0]])[0].metadata == given
        assert db.select("v_gene = 'IGHV5-51'").n_records == 2
        assert db.select("species = 'martian'").n_records == 2
        assert_as_inferred(db, HUMAN)


def test_each_input_has_its_own_species(tmp_path):
    with open_database(tmp_path / "db", create=True) as db:
        inputs = [as_records(MOUSE), as_records(HUMAN), as_records([("peptide", "ACDEFGHIKLMNPQRST")])]
        inputs[0].name, inputs[1].name, inputs[2].name = "mice", "people", "none"
        report = db.add_inputs(inputs, request=ANTIBODY)
        assert_as_inferred(db, HUMAN)
        assert_as_inferred(db, MOUSE, "mouse")
        assert db.select("species = 'mouse'").n_records == len(MOUSE)
    assert [text.partition(", inferred")[0] for text in report.species] == [
        "mice: species: mouse",
        "people: species: human",
    ]


def test_a_stated_species_is_believed(tmp_path):
    options = AddOptions(genes=GeneOptions(species="mouse"))
    with open_database(tmp_path / "db", create=True) as db:
        report = db.add_inputs([as_records(HUMAN)], request=ANTIBODY, options=options)
        assert_as_inferred(db, HUMAN, "mouse")
    assert report.species == []


def test_germlines_of_a_file_are_used(tmp_path):
    germlines = tmp_path / "own.tsv"
    with germlines.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["allele", "aa", "species"])
        for gene in bundled_germlines():
            if gene.locus == "IGH" and gene.species == "human":
                alias = f"IGH{gene.segment}9-99*01" if "IGHV3-23*01" in gene.names else gene.names[0]
                writer.writerow([alias, "".join(gene.regions.values()), "llama"])
    options = AddOptions(genes=GeneOptions(germlines=str(germlines)))
    with open_database(tmp_path / "db", create=True) as db:
        db.add_inputs([as_records(HUMAN)], request=ANTIBODY, options=options)
        found = stored_domains(db)
    for name, residues in HUMAN:
        (call,) = inferred(residues)
        assert found[name, 1].species == "llama"
        assert found[name, 1].v_identity == pytest.approx(call.v_identity_aa, abs=1e-9)


# --- Left out, and filled in later ---------------------------------------------------------------


def test_genes_can_be_left_out_and_are_filled_in_by_embed(tmp_path):
    options = AddOptions(genes=GeneOptions(infer=False))
    with open_database(tmp_path / "db", create=True) as db:
        db.add_inputs([as_records(HUMAN)], request=ANTIBODY, options=options)
        assert {d.v_call for d in stored_domains(db).values()} == {None}
        assert db.select("v_gene is null and v_call_inferred is null").n_records == len(HUMAN)
        vectors = db.vectors([HUMAN[0][0]])
        db.embed(ANTIBODY, genes=GeneOptions(infer=False))
        assert db.select("v_gene is null").n_records == len(HUMAN)
        report = db.embed(ANTIBODY)
        assert_as_inferred(db, HUMAN)
        assert (db.vectors([HUMAN[0][0]]) == vectors).all()
    assert report.n_embedded == 0
    assert "inferred from 12 chains" in report.species[0]


def test_embed_finds_the_genes_of_whole_chains_that_were_stored(tmp_path):
    with open_database(tmp_path / "db", create=True) as db:
        db.add_inputs([as_records(MOUSE)], request=SpaceRequest("kmer", preset="whole"))
        db.embed(ANTIBODY)
        assert_as_inferred(db, MOUSE, "mouse")


def test_a_chain_without_a_near_gene_is_looked_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(germline_genes, "MIN_IDENTITY", 1.01)
    with open_database(tmp_path / "db", create=True) as db:
        db.add_inputs([as_records(HUMAN)], request=ANTIBODY)
        kept = {(d.v_call, d.v_identity, d.species) for d in stored_domains(db).values()}
        assert db.repository.sequences_without_genes(10) == []
    assert kept == {("", None, "")}


def test_adding_again_changes_nothing(tmp_path):
    with open_database(tmp_path / "db", create=True) as db:
        db.add_inputs([as_records(HUMAN)], request=ANTIBODY)
        before = stored_domains(db)
        again = db.add_inputs([as_records([*HUMAN, *MOUSE])], request=ANTIBODY)
        after = stored_domains(db)
    assert again.n_present == len(HUMAN)
    assert len(again.species) == 1
    assert {key: after[key] for key in before} == before


# --- Commands ------------------------------------------------------------------------------------


def test_commands_say_the_species_and_record_the_germlines(tmp_path):
    fasta = write_fasta(tmp_path / "h.fasta", HUMAN)
    made = cli("index", tmp_path / "db", fasta, "--model", "kmer", "--preset", "antibody")
    assert "species: human, inferred from 12 chains" in made.err
    with open_database(tmp_path / "db") as db:
        facts = json.loads(db.repository.runs()[0].parameters)["germlines"]
    assert facts["n_germlines"] == len(bundled_germlines())
    assert len(facts["sha256"]) == 64
    stated = cli("embed", tmp_path / "db", "--model", "kmer", "--preset", "antibody", "--species", "human")
    assert (stated.code, "inferred" in stated.err) == (0, False)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--species", "rabbit"], "one of those in the germlines that are shipped: human, mouse"),
        (["--germlines", "absent.fasta"], "cannot read"),
        (["--no-germlines", "--species", "human"], "no germline genes are inferred"),
        (["--preset", "whole", "--species", "human"], "whole chains are embedded"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(tmp_path, flags, reason):
    fasta = write_fasta(tmp_path / "h.fasta", HUMAN)
    preset = [] if "--preset" in flags else ["--preset", "antibody"]
    refused = cli("index", tmp_path / "db", fasta, "--model", "kmer", *preset, *flags)
    assert refused.code == 1
    assert reason in refused.err.replace("\n", " ")
    assert not Path(tmp_path / "db").exists()


def test_germlines_without_inference_are_refused():
    with pytest.raises(ParameterError, match="left out"):
        GeneOptions(germlines="x", infer=False)
