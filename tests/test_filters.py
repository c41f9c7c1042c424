"""Conditions on records, against pandas: nulls, types, names, and never fewer hits than there are."""

import random
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conditions import joined
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from support import cli, make_db, peptides

from plmsearch.database import open_database
from plmsearch.errors import FilterError
from plmsearch.filters.parse import parse_condition
from plmsearch.search.hits import SearchOptions
from plmsearch.sequences import SequenceRecord
from plmsearch.store import tables as t
from plmsearch.store.catalog_base import live
from plmsearch.verify import verify

N = 150
ODD = "Highest_Clin_Trial (Feb '25)"
QUOTED = 'with "quotes" and \\'
KINDS = {
    "species": "text",
    ODD: "text",
    QUOTED: "text",
    "n_mut": "int",
    "weight": "float",
    "productive": "bool",
}
#: As pandas sees them: nullable types, whose logic is that of SQL.
DTYPES = {"text": "string", "int": "Int64", "float": "Float64", "bool": "boolean"}
TEXTS = ["human", "Human", "mouse", "IGHV1-2*02", "IGHV1-69*01", "a_b", "100%", "[x]", "é", "it's", "?"]


def _table():
    rng = random.Random(5)
    values = {
        "text": lambda: rng.choice(TEXTS),
        "int": lambda: rng.randint(-3, 12),
        "float": lambda: rng.choice([0.1, 0.5, 2.0, -1.25, 3e-7, rng.random()]),
        "bool": lambda: rng.random() < 0.5,
    }
    rows = [
        {name: None if rng.random() < 0.2 else values[kind]() for name, kind in KINDS.items()}
        for _ in range(N)
    ]
    table = pd.DataFrame(rows).astype({name: DTYPES[kind] for name, kind in KINDS.items()})
    sequences = peptides(N - 30, seed=5)
    table["sequence"] = pd.array([*sequences, *rng.choices(sequences, k=30)], dtype="string")
    table["n_residues"] = table["sequence"].str.len().astype("Int64")
    table["record_id"] = pd.array([f"r{i}" for i in range(N)], dtype="string")
    table["description"] = pd.array([rng.choice(["", "first", "last"]) for _ in range(N)], dtype="string")
    return table


TABLE = _table()
ALL_KINDS = {**KINDS, "sequence": "text", "n_residues": "int", "record_id": "text", "description": "text"}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    given_records = [
        SequenceRecord(
            row["record_id"],
            row["sequence"],
            row["description"],
            {name: row[name] for name in KINDS if not pd.isna(row[name])},
        )
        for row in TABLE.to_dict("records")
    ]
    return make_db(tmp_path_factory.mktemp("filters") / "db", given_records)


@pytest.fixture(scope="module")
def db(path):
    with open_database(path) as opened:
        assert opened.repository.metadata_columns() == KINDS
        yield opened


def selected(db, where):
    condition = db.select(where).condition
    return [r.record_id for r in db.repository.all_records(condition)]


# --- Against pandas ------------------------------------------------------------------------------


def written(value):
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def name_of(column):
    return column if column.isidentifier() else '"' + column.replace('"', '""') + '"'


VALUES = {
    "text": st.sampled_from([*TEXTS, "", "r7", "last", TABLE["sequence"][0]]),
    "int": st.one_of(st.integers(-5, 15), st.floats(-5, 15)),
    "float": st.one_of(
        st.sampled_from([0.1, 0.5, 2, -1.25, 3e-7]), st.floats(allow_nan=False, allow_infinity=False)
    ),
    "bool": st.booleans(),
}
OPERATORS = {"=": "eq", "!=": "ne", "<>": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
LIKE = {"%": ".*", "_": "."}


@st.composite
def predicates(draw):
    """A text, and what pandas says of it: a column of true, false and null."""
    name = draw(st.sampled_from(sorted(ALL_KINDS)))
    kind, column, shown = ALL_KINDS[name], TABLE[name], name_of(name)
    forms = (
        ["compare", "in", "null"]
        + (["between"] if kind != "bool" else [])
        + (["like"] if kind == "text" else [])
    )
    form, negated = draw(st.sampled_from(forms)), draw(st.booleans())
    no = "not " if negated else ""
    if form == "compare":
        signs = OPERATORS if kind != "bool" else ["=", "!=", "<>"]
        sign, value = draw(st.sampled_from(sorted(signs))), draw(VALUES[kind])
        return f"{shown} {sign} {written(value)}", getattr(column, OPERATORS[sign])(value)
    if form == "null":
        return f"{shown} IS {no}NULL", (~column.isna() if negated else column.isna()).astype("boolean")
    if form == "in":
        values = draw(st.lists(VALUES[kind], min_size=1, max_size=4))
        found = pd.Series(False, index=column.index, dtype="boolean")
        for value in values:
            found = found | (column == value)
        text = f"{shown} {no}in ({', '.join(map(written, values))})"
    elif form == "between":
        low, high = draw(VALUES[kind]), draw(VALUES[kind])
        found = (column >= low) & (column <= high)
        text = f"{shown} {no}between {written(low)} and {written(high)}"
    else:
        pattern = draw(st.lists(st.sampled_from([*"%_ahIGV1-*?[]", "human", "%"]), max_size=4).map("".join))
        expression = "".join(
            LIKE.get(c) or pd.Series([c]).map(lambda x: "\\" + x if not x.isalnum() else x)[0]
            for c in pattern
        )
        found = column.str.fullmatch(expression).astype("boolean")
        text = f"{shown} {no}like {written(pattern)}"
    return text, ~found if negated else found


@settings(max_examples=150)
@given(asked=st.recursive(predicates(), joined, max_leaves=6))
def test_any_condition_selects_what_pandas_selects(db, asked):
    where, found = asked
    expected = TABLE["record_id"][found.fillna(False).astype(bool)].tolist()
    assert selected(db, where) == expected
    assert db.select(where).n_records == len(expected)


@settings(max_examples=40)
@given(asked=predicates(), k=st.integers(1, 30), at=st.integers(0, N - 1))
def test_a_filtered_search_gives_the_nearest_of_all_that_match(db, asked, k, at):
    where, found = asked
    expected = set(TABLE["record_id"][found.fillna(False).astype(bool)])
    (_, everything), *_ = db.search_stored([f"r{at}"], db.ranking(), SearchOptions(k=N))
    (_, hits), *_ = db.search_stored([f"r{at}"], db.ranking(), SearchOptions(k=k, where=where))
    best = [(h.target, h.score) for h in everything if h.target in expected][:k]
    assert [h.target for h in hits] == [target for target, _ in best]
    np.testing.assert_allclose([h.score for h in hits], [score for _, score in best], atol=1e-6)
    assert len(hits) == min(k, len(expected))
    assert [h.rank for h in hits] == list(range(1, len(hits) + 1))


def test_the_query_itself_can_be_left_out_of_a_filtered_search(db):
    where = "record_id in ('r3', 'r4')"
    for name in ("exclude_self", "exclude_identical"):
        (_, hits), *_ = db.search_stored(
            ["r3"], db.ranking(), SearchOptions(k=1, where=where, **{name: True})
        )
        assert [h.target for h in hits] == ["r4"]


def test_and_binds_tighter_than_or_and_not_tighter_than_both(db):
    def both(first, second):
        assert selected(db, first) == selected(db, second)

    both("n_mut = 1 or n_mut = 2 and weight > 0", "n_mut = 1 or (n_mut = 2 and weight > 0)")
    both("not n_mut = 1 and weight > 0", "(not n_mut = 1) and weight > 0")
    both("n_mut between 1 and 2 and weight > 0", "(n_mut between 1 and 2) and weight > 0")


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "position", "said"),
    [
        ("specie = 'human'", 1, "did you mean 'species'"),
        ("SPECIES = 'human'", 1, "did you mean 'species'"),
        ("n_mut = 1 and wieght > 2", 15, "did you mean 'weight'"),
        ("qqq = 1", 1, "the columns are: record_id, description, sequence, n_residues, species"),
        ("n_mut = '1'", 9, "compared with a number"),
        ("species = 1", 11, "in single quotes"),
        ("productive = 'T'", 14, "true or false"),
        ("productive < true", 12, "true or false"),
        ("n_mut like '1%'", 12, "compares texts"),
        ("n_mut between 1 and 'x'", 21, "number"),
        ('species = "human"', 11, "single quotes"),
        ("species = 'human", 11, "quote needs its end"),
        ("species == 'human'", 10, "one = compares"),
        ("species = human", 11, "a text stands in single quotes: 'human'"),
        ("species=IGHV1-2*01 and n_mut = 1", 9, "in single quotes: 'IGHV1-2*01'"),
        ("species in (human, mouse)", 13, "in single quotes: 'human'"),
        ("species like hum%", 14, "in single quotes: 'hum%'"),
        ("species != sp|P1|X", 12, "in single quotes: 'sp|P1|X'"),
        ('species = "O\'Hara"', 11, "in single quotes: 'O''Hara'"),
        ("species = 7XYZ", 12, "in single quotes: '7XYZ'"),
        (f"species = {'x' * 900}", 11, "texts stand in single quotes"),
        ("species = NULL", 11, "asked for with: is null"),
        ("species = ", 11, "ends too early"),
        ("", 1, "ends too early"),
        ("(n_mut = 1", 11, "ends too early"),
        ("n_mut = 1; drop table records", 10, "not understood"),
        ("not " * 200 + "n_mut = 1", None, "inside one another"),
        (" or ".join(["n_mut = 1"] * 500), None, "in (...)"),
    ],
)
def test_what_cannot_be_asked_is_named_with_its_place(db, path, where, position, said):
    with pytest.raises(FilterError) as caught:
        db.select(where)
    assert caught.value.position == position
    assert said in str(caught.value)
    assert len(str(caught.value)) < 600
    done = cli("query", path, "--id", "r1", "--where", where)
    assert (done.code, done.out) == (1, "")
    assert said in done.err


@given(st.text(max_size=40))
def test_no_text_does_anything_but_select_or_raise_a_filter_error(db, text):
    for where in (text, f"species = '{text}'", f"species = '{text.replace(chr(39), chr(39) * 2)}'"):
        try:
            selection = db.select(where)
        except FilterError:
            continue
        assert 0 <= selection.n_records <= N


def test_as_many_conditions_as_are_allowed_can_be_asked(db):
    assert selected(db, " or ".join(f"n_mut = {i}" for i in range(390))) == selected(db, "n_mut >= 0")
    assert selected(db, " and ".join(f"n_mut != {i}" for i in range(100, 490))) == selected(
        db, "n_mut is not null"
    )
    many = ", ".join(f"'r{i}'" for i in range(5000))
    assert len(selected(db, f"record_id in ({many})")) == N


def test_a_metadata_column_may_have_the_name_of_a_record_column(tmp_path):
    a, b = peptides(2, seed=1)
    path = make_db(
        tmp_path / "db",
        [
            SequenceRecord("a", a, metadata={"n_residues": "x"}),
            SequenceRecord("b", b, metadata={"n_residues": "y"}),
        ],
    )
    with open_database(path) as db:
        assert selected(db, "meta.n_residues = 'y'") == ["b"]
        assert selected(db, f"n_residues = {len(a)}") == [
            i for i, s in (("a", a), ("b", b)) if len(s) == len(a)
        ]


def test_a_column_that_widened_is_compared_by_its_new_type(tmp_path):
    a, b = peptides(2, seed=1)
    path = make_db(tmp_path / "db", [SequenceRecord("a", a, metadata={"x": "1"})])
    assert isinstance(parse_condition("x = 1", {"x": "int"}).value, int)
    with open_database(path, create=True) as db:
        assert selected(db, "x = 1") == ["a"]
        db.add([SequenceRecord("b", b, metadata={"x": "1.50"})])
        assert selected(db, "x >= 1") == ["a", "b"]
        assert selected(db, "x = 1.5") == ["b"]


# --- Commands ------------------------------------------------------------------------------------

WHERE = "species in ('human', 'mouse') and n_mut >= 2"
MATCHING = TABLE["record_id"][
    (TABLE["species"].isin(["human", "mouse"]) & (TABLE["n_mut"] >= 2)).fillna(False)
].tolist()


def test_query_searches_among_what_matches_and_explains_itself(path):
    done = cli(
        "query", path, "--id", "r1", "-k", "999", "--where", WHERE, "--explain", "--format-output", "target"
    )
    assert done.code == 0
    assert sorted(done.out.split()[1:]) == sorted(MATCHING)
    assert f"{len(MATCHING)} records match ({len(MATCHING) / N:.2%})" in done.err
    assert "exact" in done.err


def test_a_filter_that_matches_nothing_gives_no_hit_and_says_so(path):
    done = cli("query", path, "--id", "r1", "--where", "species = 'yeti'")
    assert (done.code, len(done.out.splitlines())) == (0, 1)
    assert "1 of 1 query has no hit" in done.err


def test_info_counts_what_matches(path):
    assert f"matching    {len(MATCHING)}" in cli("info", path, "--where", WHERE).out


@pytest.mark.parametrize("suffix", ["tsv", "parquet", "npz"])
def test_export_writes_what_matches(path, tmp_path, suffix):
    file = tmp_path / f"out.{suffix}"
    done = cli("export", path, "-o", file, "--where", WHERE)
    assert done.code == 0
    assert f"{len(MATCHING)} records" in done.err
    assert "left out" not in done.err
    if suffix == "npz":
        with np.load(file) as arrays:
            ids = arrays["ids"].tolist()
            assert arrays["embeddings"].shape == (len(MATCHING), 512)
    else:
        ids = (pl.read_parquet(file) if suffix == "parquet" else pl.read_csv(file, separator="\t"))[
            "record_id"
        ].to_list()
    assert ids == MATCHING


def test_delete_takes_what_matches_and_nothing_else(path, tmp_path):
    copy = tmp_path / "copy"
    assert cli("backup", path, tmp_path / "b").code == 0
    assert cli("restore", tmp_path / "b", copy).code == 0
    assert cli("delete", copy, "--where", WHERE).code == 2, "it asks, and nobody answers"
    assert cli("delete", copy, "r1", "--where", WHERE, "--yes").code == 2
    done = cli("delete", copy, "--where", WHERE, "--yes")
    assert done.code == 0
    assert f"{len(MATCHING)} records deleted" in done.err
    with open_database(copy) as db:
        left = [r.record_id for r in db.repository.all_records()]
        assert left == [r for r in TABLE["record_id"] if r not in set(MATCHING)]
        assert db.select(WHERE).n_records == 0


# --- Indexes on columns --------------------------------------------------------------------------


def plan(path, where):
    """How SQLite goes about it."""
    with open_database(path) as db:
        query = select(t.records.c.key).where(*live(db.select(where).condition))
        with db.repository.begin() as connection:
            sql = str(query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
            return " ".join(row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}"))


@pytest.mark.parametrize(
    "where",
    ["species = 'human'", "species like 'IGHV1%'", "n_mut between 3 and 4", "weight > 1", f"\"{ODD}\" = '?'"],
)
def test_an_indexed_column_is_looked_up_and_selects_the_same(path, tmp_path, where):
    copy = Path(shutil.copytree(path, tmp_path / "copy"))
    with open_database(copy, create=True) as db:
        before = selected(db, where)
        assert "USING INDEX metadata" not in plan(copy, where)
        db.index_columns(["species", "n_mut", "weight", ODD, "productive"])
        assert selected(db, where) == before
        assert "USING INDEX metadata" in plan(copy, where)
        assert [c.name for c in db.columns() if c.is_indexed] == [c for c in KINDS if c != QUOTED]
        assert verify(db, full=True) == []
        db.index_columns([], drop=["species", "n_mut", "weight", ODD])
        assert [c.name for c in db.columns() if c.is_indexed] == ["productive"]


def test_an_index_follows_a_column_that_widens(tmp_path):
    a, b = peptides(2, seed=1)
    path = make_db(tmp_path / "db", [SequenceRecord("a", a, metadata={"x": "1"})])
    with open_database(path, create=True) as db:
        db.index_columns(["x"])
        db.add([SequenceRecord("b", b, metadata={"x": "1.5"})])
        assert selected(db, "x > 1.2") == ["b"]
        assert "USING INDEX metadata" in plan(path, "x > 1.2")


def test_columns_are_listed_and_indexed_by_the_command(path, tmp_path):
    copy = Path(shutil.copytree(path, tmp_path / "copy"))
    rows = [line.split("\t") for line in cli("columns", copy, "--index", "n_mut").out.splitlines()]
    assert rows[0] == ["column", "type", "indexed", "derived"]
    assert {name: (kind, indexed) for name, kind, indexed, _ in rows[1:]}["n_mut"] == ("int", "true")
    assert len(rows) == 1 + len(KINDS)
    for wrong, said in (("n_mit", "did you mean 'n_mut'"), (QUOTED, "without quotes")):
        refused = cli("columns", copy, "--index", wrong)
        assert refused.code == 1
        assert said in refused.err
