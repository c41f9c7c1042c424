"""Derived columns, against what the numberer and plain Python say of each record."""

import gzip
import re
import zlib

import pandas as pd
import polars as pl
import pytest
from conditions import joined
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update
from support import VH, VL, cli, make_db

from plmsearch.database import open_database
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.errors import FilterError
from plmsearch.filters.derived import DERIVED_COLUMNS, GENE_COLUMNS, derived_columns, gene_names
from plmsearch.formats.fasta import read_fasta
from plmsearch.ingest.report import Progress
from plmsearch.ingest.scan import RecordList
from plmsearch.numbering import REGIONS, ImmunumNumberer
from plmsearch.sequences import SequenceRecord
from plmsearch.store import tables as t
from plmsearch.store.derived import FUNCTIONS

LINKER = "GGGGSGGGGSGGGGS"
CALLS = ["IGHV1-69*01,IGHV1-69D*01", "Homsap IGHV3-66*01 F", "IGKV1-39*01", "None", "IGHV3-9*01", None]
#: What is stored as inferred: the same for the same domain.
INFERRED = {"IGH": ["IGHV3-66*01,IGHV3-66*02", "IGHV1-2*02", ""], "IGK": ["IGKV1-39*01", "IGKV1D-39*01", ""]}


def inferred(domain):
    names = INFERRED[domain.locus]
    return names[zlib.crc32("".join(domain.regions.values()).encode()) % len(names)]


def _records():
    heavy = [record.sequence for record in read_fasta("examples/heavy.fasta", "heavy.fasta")][:9]
    residues = [
        *heavy,
        VH,
        VL,
        VH[6:],
        VH + LINKER + VL,
        VL + LINKER + heavy[0] + LINKER + heavy[1],
        f"{heavy[2]};{VL}",
        "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ",
    ]
    found = []
    for i, sequence in enumerate(residues * 2):
        calls = {
            "v_call": CALLS[i % len(CALLS)],
            "c_call": ["IGHG1*01", "IgA", None][i % 3],
            "note": f"n{i % 4}",
        }
        found.append(SequenceRecord(f"r{i}", sequence, "", {k: v for k, v in calls.items() if v}))
    return found


RECORDS = _records()


def genes(calls, pattern):
    return [name for call in calls for name in re.findall(pattern, call or "")]


def values_of(record):
    """What each derived column holds, written anew from the definitions."""
    domains = [d for chain in record.sequence.split(";") for d in ImmunumNumberer().domains(chain, ("IG",))]
    found = {f"{r}_aa": [d.regions[r] for d in domains if d.regions[r]] for r in REGIONS}
    found["junction_aa"] = [
        d.regions["fwr3"][-1:] + d.regions["cdr3"] + d.regions["fwr4"][:1] for d in domains
    ]
    found["junction_aa_length"] = [len(junction) for junction in found["junction_aa"]]
    found["locus"] = [d.locus for d in domains]
    found["complete_vdj"] = [d.is_complete for d in domains]
    found["n_domains"] = [len(domains)]
    given = record.metadata.get("v_call")
    calls = [given, *(inferred(d) for d in domains if d.locus not in (given or ""))]
    found["v_gene"] = genes(calls, r"IG[HK]V[0-9D]+-[0-9D]+")
    found["v_family"] = genes(calls, r"IG[HK]V[0-9]+")
    found["isotype"] = [{"IGHG1*01": "IGHG1", "IgA": "IGHA"}[c] for c in [record.metadata.get("c_call")] if c]
    found["v_call_inferred"] = [call for d in domains if (call := inferred(d))]
    found["v_identity_aa"] = [0.75 for _ in domains]
    found["species"] = ["human" for _ in domains]
    return found


TRUTH = pd.DataFrame([{"record_id": r.record_id, **values_of(r)} for r in RECORDS])
KINDS = {name: DERIVED_COLUMNS[name] for name in TRUTH.columns if name != "record_id"}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    place = tmp_path_factory.mktemp("derived") / "db"
    with open_database(place, create=True) as db:
        db.add_inputs([RecordList(RECORDS)], request=SpaceRequest("kmer", preset="antibody"))
        with db.writing(Progress()) as repository, repository.begin() as connection:
            connection.execute(update(t.domains).values(v_identity=0.75, species="human"))
            for residues, domain_id in connection.execute(
                select(t.sequences.c.residues, t.domains.c.sequence_id).join_from(
                    t.domains, t.sequences, t.sequences.c.id == t.domains.c.sequence_id
                )
            ).all():
                (domain,) = ImmunumNumberer().domains(residues, ("IG",))
                of_it = t.domains.c.sequence_id == domain_id
                connection.execute(update(t.domains).where(of_it).values(v_call=inferred(domain)))
    return place


@pytest.fixture(scope="module")
def db(path):
    with open_database(path) as opened:
        yield opened


def selected(db, where):
    return [r.record_id for r in db.repository.all_records(db.select(where).condition)]


# --- Conditions against Python -------------------------------------------------------------------


OPERATORS = {
    "=": lambda a, b: a == b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def written(value):
    return f"'{value}'" if isinstance(value, str) else str(value).lower()


def any_of(values, holds):
    """Null without a value."""
    return any(map(holds, values)) if values else None


@st.composite
def predicates(draw):
    name = draw(st.sampled_from(sorted(KINDS)))
    column = TRUTH[name]
    known = sorted({value for values in column for value in values})
    literals = st.sampled_from(known if KINDS[name] != "text" else [*known, "IGHV1-69", "none"])
    forms = ["compare", "in", "null", *{"text": ["like"], "bool": []}.get(KINDS[name], ["between"])]
    form, no = draw(st.sampled_from(forms)), draw(st.sampled_from(["", "not "]))
    if form == "null":
        return f"{name} is {no}null", column.map(lambda values: bool(values) is bool(no))
    if form == "compare":
        value = draw(literals)
        sign = draw(st.sampled_from(["=", "!=", *(["<=", ">"] if KINDS[name] != "bool" else [])]))
        found = column.map(
            lambda vs: any_of(vs, lambda v: OPERATORS["=" if sign == "!=" else sign](v, value))
        )
        no = "not " if sign == "!=" else ""
        text = f"{name} {sign} {written(value)}"
    elif form == "in":
        wanted = draw(st.lists(literals, min_size=1, max_size=3))
        found = column.map(lambda vs: any_of(vs, lambda v: v in wanted))
        text = f"{name} {no}in ({', '.join(map(written, wanted))})"
    elif form == "between":
        low, high = draw(literals), draw(literals)
        found = column.map(lambda vs: any_of(vs, lambda v: low <= v <= high))
        text = f"{name} {no}between {written(low)} and {written(high)}"
    else:
        start = draw(literals)[: draw(st.integers(1, 6))]
        found = column.map(lambda vs: any_of(vs, lambda v: v.startswith(start)))
        text = f"{name} {no}like '{start}%'"
    met = pd.Series(found, dtype="boolean")
    return text, ~met if no else met


@settings(max_examples=50)
@given(asked=st.recursive(predicates(), joined, max_leaves=4))
def test_any_condition_selects_what_holds_for_one_of_the_values_of_a_record(db, asked):
    where, found = asked
    expected = TRUTH["record_id"][found.astype("boolean").fillna(False).astype(bool)].tolist()
    assert selected(db, where) == expected
    assert db.select(where, by_domain=True).n_records == len(expected)


def test_a_gene_is_found_wherever_a_call_lists_it(db):
    listed = selected(db, "v_gene = 'IGHV1-69D'")
    assert listed == [r.record_id for r in RECORDS if r.metadata.get("v_call") == CALLS[0]]
    assert selected(db, "v_gene = 'IGHV1-69D' and v_gene = 'IGHV1-69'") == listed
    assert set(listed).isdisjoint(selected(db, "v_gene != 'IGHV1-69'"))


def test_genes_of_the_input_count_before_inferred_ones_of_the_same_locus_only(db):
    assert gene_names("v_gene", "IGHV3-9*01", "IGHV3-66*01", "IGH") == ("IGHV3-9",)
    assert gene_names("v_gene", "IGHV3-9*01", "IGKV1-5*03", "IGK") == ("IGKV1-5",)
    assert gene_names("v_gene", "None", "IGHV3-66*01", "IGH") == ("IGHV3-66",)
    # An scFv whose input calls its heavy chain: its light chain has inferred genes.
    both = set(selected(db, "v_family = 'IGHV3' and v_family = 'IGKV1'"))
    given = {r.record_id for r in RECORDS if r.metadata.get("v_call") == "IGHV3-9*01" and VL in r.sequence}
    assert given & both == {r for r in given if inferred_of_vl()}


def inferred_of_vl():
    (domain,) = ImmunumNumberer().domains(VL, ("IG",))
    return inferred(domain)


def test_a_column_of_the_input_stands_before_a_derived_one(tmp_path):
    brought = {"cdr3_aa": "OWN", "v_gene": "MINE", "v_call": "IGHV3-66*01"}
    with open_database(tmp_path / "db", create=True) as db:
        rows = [SequenceRecord("a", VH, "", brought), SequenceRecord("b", VL)]
        db.add_inputs([RecordList(rows)], request=SpaceRequest("kmer", preset="antibody"))
        assert selected(db, "cdr3_aa = 'OWN' and v_gene = 'MINE' and v_family = 'IGHV3'") == ["a"]
        assert selected(db, "cdr3_aa like '%'") == ["a"]
        assert not {"cdr3_aa", "v_gene"} & db.repository.derived_columns().keys()
        stored = db.get(["a"])[0].metadata
    assert stored == brought, "derived values are not stored"
    shown = cli("query", tmp_path / "db", "--id", "a", "--format-output", "target,cdr3_aa,v_gene,v_family")
    assert shown.rows[0] == ["a", "OWN", "MINE", "IGHV3"]


# --- Which columns there are ---------------------------------------------------------------------


def test_columns_exist_where_something_tells_them(tmp_path):
    calls = SequenceRecord("a", VH, "", {"v_call": "IGHV3-66*01", "c_call": "IGHG1"})
    path = make_db(tmp_path / "db", [calls, ("b", VL)])
    with open_database(path) as db:
        assert list(db.repository.derived_columns()) == ["v_gene", "v_family", "isotype"]
        assert selected(db, "isotype = 'IGHG1'") == ["a"]
        with pytest.raises(FilterError, match="no column 'cdr3_aa'"):
            db.select("cdr3_aa is null")
    assert derived_columns([], has_domains=False) == {}
    everything = derived_columns(["v_call", "j_call", "c_call"], has_domains=True)
    assert everything == DERIVED_COLUMNS
    assert {GENE_COLUMNS[name].call for name in everything if name in GENE_COLUMNS} == {
        "v_call",
        "j_call",
        "c_call",
    }


def test_commands_list_them_apart_from_the_metadata(path):
    rows = cli("columns", path).rows
    assert [row[0] for row in rows if row[3] == "false"] == ["v_call", "c_call", "note"]
    assert [row[0] for row in rows if row[3] == "true"] == list(DERIVED_COLUMNS)
    assert {row[0]: row[1] for row in rows if row[3] == "true"} == DERIVED_COLUMNS
    assert "\nderived     fwr1_aa, cdr1_aa, " in cli("info", path).out
    refused = cli("columns", path, "--index", "cdr3_aa")
    assert (refused.code, "v_call" in refused.err) == (1, True)


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("v_gen = 'IGHV1-69'", "did you mean 'v_gene'"),
        ("junction_aa_length = '12'", "is int, and '12' is not"),
        ("complete_vdj > true", "true or false"),
        ("n_domains like '1%'", "like compares texts"),
    ],
)
def test_a_condition_that_does_not_fit_is_refused(db, where, reason):
    with pytest.raises(FilterError, match=reason):
        db.select(where)


def test_deleting_and_counting_take_them_too(path, tmp_path):
    rows = [SequenceRecord("h", VH), SequenceRecord("l", VL), SequenceRecord("s", VH + LINKER + VL)]
    with open_database(tmp_path / "db", create=True) as db:
        db.add_inputs([RecordList(rows)], request=SpaceRequest("kmer", preset="antibody"))
    assert "matching    2" in cli("info", tmp_path / "db", "--where", "locus = 'IGK'").out
    assert cli("delete", tmp_path / "db", "--where", "n_domains = 2", "--yes").code == 0
    assert {row[1] for row in cli("query", tmp_path / "db", "--seq", VH, "--across-loci").rows} == {"h", "l"}


def test_functions_of_sql_are_what_python_says():
    n_arguments, genes_of = FUNCTIONS["plmsearch_genes"]
    assert genes_of(*["v_gene", "IGHV1-2*02", None, None][:n_arguments]) == '["IGHV1-2"]'
    assert genes_of("j_gene", None, None, None) == "[]"


# --- Hits ----------------------------------------------------------------------------------------


def test_a_hit_shows_the_values_of_the_domain_that_was_found(path):
    shown = [*(f"{r}_aa" for r in REGIONS), "junction_aa", "junction_aa_length", "locus", "complete_vdj"]
    found = cli(
        "query", path, "--seq", VL, "-k", 50, "--format-output", ",".join(["target", "domain", *shown])
    )
    truth = TRUTH.set_index("record_id")
    by_id = {r.record_id: r for r in RECORDS}
    assert {row[0] for row in found.rows} >= {r.record_id for r in RECORDS if VL in r.sequence}
    for target, number, *cells in found.rows:
        at = int(number) - 1
        chains = by_id[target].sequence.split(";")
        domain = [d for chain in chains for d in ImmunumNumberer().domains(chain, ("IG",))][at]
        expected = [domain.regions[r] for r in REGIONS]
        expected += [truth.loc[target, name][at] for name in ("junction_aa", "junction_aa_length", "locus")]
        assert cells == [*map(str, expected), "true" if domain.is_complete else "false"]


def test_genes_of_a_hit_are_those_of_its_domain(path):
    columns = "locus,target,v_gene,v_family,isotype,v_call_inferred,j_gene,v_identity_aa,species"
    found = cli("query", path, "--seq", VL, "-k", 50, "--format-output", columns)
    (domain,) = ImmunumNumberer().domains(VL, ("IG",))
    of_light = [cells[1:] for cells in found.rows if cells[0] == "IGK"]
    assert {cells[0] for cells in of_light} == {r.record_id for r in RECORDS if VL in r.sequence}
    for target, v_gene, v_family, isotype, *others in of_light:
        given = {r.record_id: r for r in RECORDS}[target].metadata.get("v_call", "")
        expected = "IGKV1-39" if "IGK" in given else inferred(domain).partition("*")[0]
        assert (v_gene, v_family) == (expected, expected.partition("-")[0][:5])
        assert isotype == "", "no light chain has one"
        assert others == [inferred(domain), "IGKJ1", "0.7500", "human"]


def test_values_keep_their_types(path, tmp_path):
    columns = "target,junction_aa_length,complete_vdj,v_identity_aa,v_gene"
    out = tmp_path / "hits.parquet"
    cli("query", path, "--id", "r0", "--format", "parquet", "-o", out, "--format-output", columns)
    assert pl.read_parquet(out).dtypes == [pl.String, pl.Int64, pl.Boolean, pl.Float64, pl.String]


def test_a_hit_without_a_domain_has_the_genes_of_the_input_only(tmp_path):
    path = make_db(tmp_path / "db", [SequenceRecord("a", VH, "", {"v_call": "IGHV1-69*01,IGHV1-69D*01"})])
    found = cli("query", path, "--id", "a", "--format-output", "target,v_gene,cdr3_aa")
    assert found.rows == [["a", "IGHV1-69,IGHV1-69D", ""]]


# --- A real set ----------------------------------------------------------------------------------


def test_example_db_has_208_rows_of_the_family_ighv1(shared_data, tmp_path):
    source = shared_data / "clones" / "ExampleDb.tsv.gz"
    with gzip.open(source, "rt") as file:
        table = pd.read_csv(file, sep="\t")
    # Residues are of no interest here: one sequence for all rows.
    rows = [
        SequenceRecord(
            str(row.sequence_id), "ACDEFGHIKLMNPQ", "", {"v_call": row.v_call, "c_call": row.c_call}
        )
        for row in table.itertuples()
    ]
    with open_database(make_db(tmp_path / "db", rows)) as db:
        found = db.select("v_family = 'IGHV1'").n_records
        assert found == table["v_call"].str.contains(r"IGHV1(?:-|/)", regex=True).sum() == 208
        assert db.select("v_gene = 'IGHV3-23'").n_records == table["v_call"].str.contains(r"IGHV3-23\*").sum()
        named = table["c_call"].str.contains("IGHG", na=False).sum()
        assert db.select("isotype like 'IGHG%'").n_records == named


@example(call="IGHV1-2*01, or IGHV1-69*01 F", locus="IGH")
@given(call=st.text(alphabet="IGHKLV123-*,D ", max_size=30), locus=st.sampled_from(["IGH", "IGK"]))
def test_genes_of_a_locus_are_some_of_those_of_the_record(call, locus):
    of_record = gene_names("v_gene", call)
    of_domain = gene_names("v_gene", call, None, locus)
    assert of_domain == tuple(gene for gene in of_record if gene[:3] == locus)
