"""Repertoire statistics: the command as a user meets it, its tables and its page."""

from __future__ import annotations

import random
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import cli

from plmsearch.repertoire.report import PAGE, report_page
from plmsearch.repertoire.statistics import summarise_repertoire
from plmsearch.repertoire.summary import StatisticsOptions
from plmsearch.repertoire.summary_tables import TABLES

REPO = Path(__file__).resolve().parents[1]
EXAMPLE = REPO / "examples" / "repertoire.tsv"


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    rows = [{"sequence_id": f"s{i}"} | row for i, row in enumerate(rows)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["\t".join(str(row.get(name, "")) for name in names) for row in rows]
    path.write_text("\n".join(["\t".join(names), *lines]) + "\n", encoding="utf-8")
    return path


def heavy(**cells: object) -> dict[str, object]:
    return {"locus": "IGH", "v_call": "IGHV1-2*02", "j_call": "IGHJ4*02", "junction_aa": "CARDYW"} | cells


def repertoire(n: int = 300, seed: int = 0) -> list[dict[str, object]]:
    """Rows of two donors with two samples each, some of them light chains and some without a clone."""
    draw = random.Random(seed)
    rows = []
    for _ in range(n):
        donor, clone = draw.choice("AB"), min(int(draw.expovariate(0.1)), 60)
        rows.append(
            heavy(
                subject_id=donor, sample_id=draw.choice(("blood", "lymph")),
                locus=draw.choice(("IGH", "IGH", "IGK")), clone_id=draw.choice((clone, clone, clone, "")),
                duplicate_count=draw.randrange(1, 5), c_call=draw.choice(("IGHM", "IGHG1", "")),
                junction_aa="CAR" + draw.choice("DEFG") * draw.randrange(3, 6) + "W",
                cell_id=f"c{draw.randrange(n)}",
            )
        )  # fmt: skip
    return rows


@pytest.fixture
def run(tmp_path):
    """Write rows, run the command, return its end and a reader of its tables."""

    def run(rows, *options, code=0):
        out = tmp_path / "out"
        ended = cli("repertoire", write(tmp_path / "in.tsv", rows), "-o", out, "--bootstraps", 5, *options)
        assert ended.code == code, ended.err
        return ended, lambda name: pd.read_csv(out / f"{name}.tsv", sep="\t", keep_default_na=False)

    return run


# --- Tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", ["rows", "duplicate_count"])
def test_clone_sizes_are_those_that_pandas_counts(run, count):
    rows = repertoire()
    _, table = run(rows, "--count", count)
    frame = pd.DataFrame(rows)
    frame["weight"] = 1 if count == "rows" else frame["duplicate_count"]
    frame = frame[(frame["locus"] == "IGH") & (frame["clone_id"] != "")]
    wanted = frame.groupby(["subject_id", "sample_id", "clone_id"])["weight"].sum()
    found = table("clones")
    assert set(found["count_unit"]) == {count}
    samples = found[found["level"] == "sample"].set_index(["donor", "sample", "clone_id"])["count"]
    assert samples.sort_index().to_dict() == wanted.to_dict()
    donors = found[found["level"] == "donor"].set_index(["donor", "clone_id"])["count"]
    assert donors.to_dict() == frame.groupby(["subject_id", "clone_id"])["weight"].sum().to_dict()


def test_records_and_duplicates_are_kept_apart(run):
    _, table = run([heavy(clone_id=1, duplicate_count=4), heavy(clone_id=1, duplicate_count="")])
    row = table("clones").iloc[0]
    assert (row["count"], row["n_records"], row["duplicate_count"], row["umi_count"]) == (2, 2, 4, "")


def test_hill_numbers_at_the_common_depth_follow_their_definition(run):
    sizes = {"a": [5, 5, 10, 20], "b": [40]}
    rows = [
        heavy(sample_id=s, clone_id=f"{s}{i}")
        for s, of in sizes.items()
        for i, n in enumerate(of)
        for _ in range(n)
    ]
    _, table = run(rows)
    found = table("diversity").query("level == 'sample'").set_index(["sample", "q"])
    p = np.array(sizes["a"]) / 40
    assert set(found["depth"]) == {40}
    assert found.loc[("a", 1), "at_depth"] == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-4)
    assert found.loc[("a", 2), "at_depth"] == pytest.approx(1 / (p**2).sum(), rel=1e-4)
    assert found.loc[("b", 0), "at_depth"] == 1


def test_samples_below_the_minimum_are_named_and_left_out(run):
    rows = [heavy(sample_id="deep", clone_id=i % 9) for i in range(50)] + [
        heavy(sample_id="thin", clone_id=1)
    ]
    ended, table = run(rows)
    assert "left out of equal depth: 1 sample: fewer than 30 units" in ended.err
    found = table("hill_profile").query("level == 'sample'")
    assert set(found["sample"]) == {"deep"}
    assert table("diversity").query("sample == 'thin'")["depth"].tolist() == ["", "", ""]


def test_a_light_chain_does_not_count_its_clone_twice(run):
    rows = [heavy(clone_id=1, cell_id="x"), heavy(clone_id=1, cell_id="x", locus="IGK")]
    ended, table = run(rows)
    assert table("clones")["count"].tolist() == [1, 1]
    assert "left out of clones: 1 row: of another locus than IGH" in ended.err


def test_a_cell_counts_once_by_the_chain_of_most_umis(run):
    rows = [
        heavy(clone_id=1, cell_id="x", umi_count=2),
        heavy(clone_id=2, cell_id="x", umi_count=9),
        heavy(clone_id=2, cell_id="y", umi_count=1),
        heavy(clone_id=2, umi_count=1),
    ]
    ended, table = run(rows, "--count", "cells", code=3)
    found = table("clones").query("level == 'sample'")
    assert (found["clone_id"].tolist(), found["count"].tolist()) == ([2], [2])
    assert "1 row: no cell_id" in ended.err
    assert "1 row: another chain of its cell" in ended.err


def test_sharing_within_a_donor_and_convergence_across_donors_stand_apart(run):
    rows = [
        heavy(subject_id="A", sample_id="s1", clone_id=1),
        heavy(subject_id="A", sample_id="s2", clone_id=1),
        heavy(subject_id="A", sample_id="s2", clone_id=2, junction_aa="CARGGW"),
        heavy(subject_id="B", sample_id="s3", clone_id=1),
    ]
    _, table = run(rows)
    (shared,) = table("clone_sharing").to_dict("records")
    assert (shared["donor"], shared["n_shared"], shared["jaccard"]) == ("A", 1, 0.5)
    (convergent,) = table("convergence").to_dict("records")
    assert (convergent["donor_1"], convergent["donor_2"], convergent["n_shared"]) == ("A", "B", 1)
    (public,) = table("convergent").to_dict("records")
    assert (public["v_gene"], public["junction_aa"], public["donors"]) == ("IGHV1-2", "CARDYW", "A,B")


def test_one_id_in_two_tables_is_two_clones(tmp_path):
    paths = [
        write(tmp_path / f"{s}.tsv", [heavy(subject_id="A", sample_id=s, clone_id=1)] * 2)
        for s in ("s1", "s2")
    ]
    summary = summarise_repertoire(paths, StatisticsOptions(n_bootstraps=2))
    assert [len(one.sizes) for one in summary.clones if one.group.level == "donor"] == [2]
    assert (summary.clone_sharing, summary.not_shared) == ([], 1)


def test_tables_without_a_donor_are_one_donor_each(tmp_path):
    paths = [write(tmp_path / f"{s}.tsv", [heavy()]) for s in ("one", "two")]
    ended = cli("repertoire", *paths, "-o", tmp_path / "out")
    assert ended.code == 0
    assert "2 tables have no column subject_id or donor" in ended.err
    donors = pd.read_csv(tmp_path / "out" / "samples.tsv", sep="\t")["donor"]
    assert donors.tolist() == ["one", "two"]


def test_convergent_clusters_are_compared_where_the_table_has_them(run):
    rows = [heavy(subject_id=d, convergent_cluster=c, clone_id=1) for d, c in (("A", 7), ("B", 7), ("B", 8))]
    _, table = run(rows)
    found = table("convergence").set_index("kind")
    assert found.loc["convergent_cluster", "n_shared"] == 1
    assert found.loc["convergent_cluster", "jaccard"] == 0.5


def test_without_clones_the_other_parts_are_there_and_the_command_is_named(run):
    ended, table = run([heavy(), heavy()])
    assert "plmsearch clones" in ended.err
    assert table("clones").empty
    assert table("usage").query("kind == 'v_gene'")["count"].tolist() == [2]


def test_rows_called_not_productive_are_left_out_only_if_asked(run):
    rows = [heavy(productive="T", clone_id=1), heavy(productive="F", clone_id=1)]
    _, table = run(rows)
    assert table("samples")["count"].tolist() == [2]
    ended, table = run(rows, "--productive", "--overwrite", code=3)
    assert table("samples")["count"].tolist() == [1]
    assert "1 row: not productive" in ended.err


def test_contigs_that_10x_filters_out_count_and_are_told_or_are_left_out(run):
    rows = [heavy(is_cell=cell, clone_id=1) for cell in ("True", "False", "")]
    ended, table = run(rows)
    assert "1 row is no cell's or of low confidence by 10x" in ended.err
    assert table("samples")["count"].tolist() == [3]
    ended, table = run(rows, "--filtered", "--overwrite", code=3)
    assert table("samples")["count"].tolist() == [2]
    assert "1 row: no cell, or of low confidence" in ended.err


def test_tcr_alone_is_counted_by_its_own_locus(run):
    rows = [heavy(locus="TRB", v_call="TRBV2*01", j_call="TRBJ1-1*01", clone_id=i) for i in (1, 1, 2)]
    ended, table = run(rows)
    assert "of locus TRB only" in ended.err
    assert table("clone_sizes").query("level == 'donor'")["n_clones"].tolist() == [2]


# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("-3", "'-3'"),
        ("many", "'many'"),
        ("2.5", "'2.5'"),
        ("inf", "'inf'"),
        ("nan0", "'nan0'"),
        ("1e300", "'1e300'"),
    ],
)
def test_a_count_that_is_none_is_an_error_that_names_row_and_value(run, value, told):
    rows = [heavy(duplicate_count=1), heavy(duplicate_count=value)]
    ended, _ = run(rows, "--count", "duplicate_count", code=1)
    assert "row 2" in ended.err
    assert told in ended.err
    assert len(ended.err.splitlines()) == 1


def test_a_bad_count_that_is_not_counted_does_not_matter(run):
    run([heavy(duplicate_count="many", clone_id=1)])


def test_rows_without_a_count_are_left_out_and_said(run):
    rows = [heavy(umi_count=3, clone_id=1), heavy(umi_count="", clone_id=1), heavy(umi_count=0, clone_id=1)]
    ended, table = run(rows, "--count", "umi_count", code=3)
    assert "1 row: umi_count is empty" in ended.err
    assert "1 row: umi_count is 0" in ended.err
    assert table("samples")["count"].tolist() == [3]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--count", "cells"), "no column 'cell_id'"),
        (("--count", "umi_count"), "no column 'umi_count'"),
        (("--count", "reads"), "one of rows, duplicate_count, umi_count, cells"),
        (("--by", "patient"), "no column 'patient'"),
        (("--locus", "IGX"), "one that the input has: IGH"),
    ],
)
def test_what_the_table_does_not_have_is_named(run, options, told):
    ended, _ = run([heavy()], *options, code=1)
    assert told in ended.err


def test_an_identity_that_is_no_number_is_an_error(run):
    ended, _ = run([heavy(v_identity="high")], code=1)
    assert "row 1: v_identity is 'high'" in ended.err


@pytest.mark.parametrize(
    "content", ["", "sequence_id\tjunction\n", "a\tb\n1\t2\n", "sequence_id,junction\n1,2\n"],
    ids=["empty", "no rows", "other columns", "commas"],
)  # fmt: skip
def test_what_is_no_rearrangement_table_is_refused(tmp_path, content):
    (tmp_path / "in.tsv").write_text(content)
    ended = cli("repertoire", tmp_path / "in.tsv", "-o", tmp_path / "out")
    assert ended.code == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_empty_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    ended = cli("repertoire", tmp_path / "absent.tsv", "-o", tmp_path)
    assert ended.code == 1
    assert "not empty" in ended.err
    ended = cli("repertoire", write(tmp_path / "in.tsv", [heavy()]), "-o", tmp_path, "--overwrite", "-q")
    assert (ended.code, ended.err) == (0, "")
    assert (tmp_path / "kept.txt").read_text() == "mine"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    path = write(tmp_path / "in.tsv", [heavy()])
    ended = cli("repertoire", path, "-o", path)
    assert ended.code == 1
    assert "is a file" in ended.err


def test_one_table_twice_is_refused(tmp_path):
    path = write(tmp_path / "in.tsv", [heavy()])
    ended = cli("repertoire", path, path, "-o", tmp_path / "out")
    assert ended.code == 1
    assert "count twice" in ended.err


def test_standard_input_is_read(tmp_path):
    ended = cli("repertoire", "-", "-o", tmp_path / "out", stdin=EXAMPLE.read_bytes())
    assert ended.code == 0
    assert pd.read_csv(tmp_path / "out" / "samples.tsv", sep="\t")["donor"].tolist() == ["stdin"]


# --- The page -------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Elements, their nesting, and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


HOSTILE = "<script>alert(1)</script>\"'&"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> str:
    """The page of a repertoire in which every text that a user can write is hostile."""
    quoted = '"' + HOSTILE.replace('"', '""') + '"'
    rows = [
        heavy(subject_id=quoted, sample_id=f"s{i % 2}", clone_id=quoted, locus=quoted, v_call=quoted,
              c_call=quoted, junction_aa=quoted, convergent_cluster=quoted, clone_status=quoted)
        for i in range(40)
    ]  # fmt: skip
    rows += [row | {"subject_id": "B"} for row in rows]
    path = write(tmp_path_factory.mktemp("hostile") / f"in{HOSTILE.replace('/', '')}.tsv", rows)
    return report_page(summarise_repertoire([path], StatisticsOptions(n_bootstraps=2)))


def test_nothing_of_a_table_becomes_markup(hostile):
    page = Page(hostile)
    assert "script" not in {name for name, _ in page.seen}
    assert any(HOSTILE in text for text in page.texts)
    known = {"b", "i", "img", "on", "iframe"}
    assert not known & {name for name, _ in page.seen}
    assert not [key for _, attributes in page.seen for key in attributes if key.startswith("on")]


def test_the_page_loads_nothing(hostile):
    page = Page(hostile)
    outward = [
        (name, key, value)
        for name, attributes in page.seen
        for key, value in attributes.items()
        if key in ("src", "href", "xlink:href", "action", "srcset") and not (value or "").startswith("#")
    ]
    assert outward == []
    assert "http:" not in hostile
    assert "https:" not in hostile
    assert "url(" not in hostile
    assert "@import" not in hostile


def test_every_picture_says_what_it_shows():
    page = Page(report_page(summarise_repertoire([EXAMPLE], StatisticsOptions(n_bootstraps=2))))
    pictures = [
        attributes for name, attributes in page.seen if name == "svg" and "aria-hidden" not in attributes
    ]
    assert len(pictures) > 10
    assert all(one["role"] == "img" and len(one["aria-label"] or "") > 20 for one in pictures)
    names = [name for name, _ in page.seen]
    assert names.count("title") >= len(pictures) + 1
    assert names.count("desc") == len(pictures)
    assert names.count("caption") == names.count("table")


def test_the_unit_is_told_at_the_top():
    options = StatisticsOptions(count="cells", n_bootstraps=2)
    page = Page(report_page(summarise_repertoire([EXAMPLE], options)))
    assert "Counted by cells: one cell counts once in each locus, by one chain" in page.texts


def test_a_page_of_many_samples_is_below_three_megabytes(tmp_path):
    rows = [row | {"sample_id": f"library_{i % 150:03d}_of_a_long_name", "subject_id": f"d{i % 150 % 7}"}
            for i, row in enumerate(repertoire(3000))]  # fmt: skip
    summary = summarise_repertoire(
        [write(tmp_path / "in.tsv", rows)], StatisticsOptions(n_bootstraps=2, min_depth=5)
    )
    page = report_page(summary)
    Page(page)
    assert len(page.encode()) < 3_000_000
    assert "more are in samples.tsv" in page


def test_every_table_is_written_with_its_header(run, tmp_path):
    run(repertoire(60))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {PAGE, *(f"{name}.tsv" for name in TABLES)}
    for name, columns in TABLES.items():
        assert (tmp_path / "out" / f"{name}.tsv").read_text().splitlines()[0].split("\t") == list(columns)


# --- Real data ------------------------------------------------------------------------------------


def test_mutations_of_a_real_table_are_those_counted_letter_by_letter(tmp_path, shared_data):
    source = shared_data / "clones" / "ExampleDb.tsv.gz"
    cli("repertoire", source, "-o", tmp_path / "out", "--bootstraps", 2)
    rows = pd.read_csv(source, sep="\t", keep_default_na=False)
    shares = []
    for ours, germline in zip(rows["sequence_alignment"], rows["germline_alignment"], strict=True):
        known = [
            (a, b) for a, b in zip(ours[:312], germline[:312], strict=True) if a in "ACGT" and b in "ACGT"
        ]
        shares.append(sum(a != b for a, b in known) / len(known))
    wanted = pd.Series(shares).groupby(rows["sample_id"]).mean()
    found = pd.read_csv(tmp_path / "out" / "mutation.tsv", sep="\t").query("isotype == 'all'")
    assert found.set_index("sample")["mean"].to_dict() == pytest.approx(wanted.to_dict(), rel=1e-5)
    usage = pd.read_csv(tmp_path / "out" / "usage.tsv", sep="\t").query("kind == 'j_gene'")
    first = rows["j_call"].str.extract(r"(IGHJ\d)")[0]
    assert usage.groupby("name")["count"].sum().to_dict() == first.value_counts().to_dict()
    assert (tmp_path / "out" / PAGE).stat().st_size < 3_000_000
