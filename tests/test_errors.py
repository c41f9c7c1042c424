from __future__ import annotations

import inspect
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plmsearch import errors
from plmsearch.errors import PlmsearchError

CLASSES = {
    name: cls
    for name, cls in vars(errors).items()
    if inspect.isclass(cls) and issubclass(cls, Exception) and cls.__module__ == errors.__name__
}

# How each class is made, and what its message must then say.
EXAMPLES: dict[str, tuple[tuple[object, ...], dict[str, object], list[str]]] = {
    "PlmsearchError": (("it broke",), {"hint": "mend it"}, ["it broke", "mend it"]),
    "InputError": (("bad input",), {"hint": "give better"}, ["bad input", "give better"]),
    "ParameterError": (("k", 0, "at least 1"), {}, ["k is 0", "at least 1"]),
    "InputNotFoundError": (("in.fasta", "it is a directory"), {}, ["'in.fasta'", "it is a directory"]),
    "FileFormatError": (
        ("in.fa.gz", "cut short"),
        {"hint": "copy anew"},
        ["in.fa.gz", "cut short", "copy anew"],
    ),
    "TableFormatError": (
        ("in.tsv", "no column 'VH'"),
        {"hint": "--seq-col"},
        ["in.tsv", "'VH'", "--seq-col"],
    ),
    "RecordError": (
        ("P1", "is odd"),
        {"source": "in.fasta", "row": 7, "hint": "look"},
        ["'P1'", "in.fasta", "record 7", "is odd", "look"],
    ),
    "InvalidResidueError": (
        ("P1", "*", 12),
        {"source": "in.fasta", "row": 7},
        ["'P1'", "in.fasta", "record 7", "'*'", "12", "--on-invalid"],
    ),
    "NucleotideSequenceError": (
        ("P1",),
        {"source": "in.fasta", "row": 7},
        ["'P1'", "in.fasta", "record 7", "nucleotide", "translate"],
    ),
    "EmptySequenceError": (
        ("P1",),
        {"source": "in.fasta", "row": 7},
        ["'P1'", "in.fasta", "record 7", "empty", "--on-invalid"],
    ),
    "TranslationError": (
        ("P1", "frame 1 has a stop"),
        {"source": "in.fasta", "row": 7, "hint": "cut it"},
        ["'P1'", "in.fasta", "record 7", "frame 1 has a stop", "cut it"],
    ),
    "SequenceTooLongError": (
        ("P1", 30000, 510),
        {"source": "in.fasta", "row": 7},
        ["'P1'", "in.fasta", "record 7", "30000", "510", "--long"],
    ),
    "DuplicateRecordError": (
        ("P1",),
        {"source": "in.fasta", "row": 7},
        ["'P1'", "in.fasta", "record 7", "taken", "--on-duplicate"],
    ),
    "VectorConflict": (
        ("P1", "its sequence"),
        {"source": "in.h5", "row": 7, "hint": "look"},
        ["'P1'", "in.h5", "record 7", "another vector", "its sequence", "look"],
    ),
    "MixedInputError": ((60, 40, 100), {}, ["60", "40", "100", "--model"]),
    "EmbeddingError": (("no model",), {"hint": "get one"}, ["no model", "get one"]),
    "UnknownModelError": (("esm9", ["antiberty", "kmer"]), {}, ["'esm9'", "antiberty, kmer"]),
    "UnsupportedModelError": (
        ("esmfold", "it predicts structures"),
        {},
        ["esmfold", "structures", "models list"],
    ),
    "ModelUnavailableError": (
        ("esm2_t6", ["/a/x.pt", "/b/x.pt"]),
        {"hint": "fetch it", "size_bytes": 30_061_000},
        ["esm2_t6", "/a/x.pt", "/b/x.pt", "30 MB", "fetch it"],
    ),
    "WeightsError": (
        ("x.pt", "cut short"),
        {"hint": "fetch it again"},
        ["x.pt", "cut short", "fetch it again"],
    ),
    "ExternalSpaceError": (("external:x/0",), {}, ["external:x/0", "--id"]),
    "MissingDependencyError": (
        ("HDF5 files", "h5py", "export"),
        {},
        ["HDF5 files", "h5py", 'pip install "plmsearch[export]"'],
    ),
    "EmbeddingSpecMismatch": (("layer 6", "layer 8"), {"hint": "embed"}, ["[layer 6]", "[layer 8]", "embed"]),
    "DatabaseSpacesMismatch": (
        ("a.db", "b.db", "layer 6", "layer 8"),
        {"hint": "embed"},
        ["'a.db'", "'b.db'", "[layer 6]", "[layer 8]", "embed"],
    ),
    "VectorIndexError": (("no vectors",), {"hint": "add some"}, ["no vectors", "add some"]),
    "DimensionMismatch": ((320, 512), {}, ["320", "512"]),
    "InvalidVectorError": ((3, "holds NaN"), {}, ["vector 3", "holds NaN"]),
    "StoreError": (("no store",), {"hint": "make one"}, ["no store", "make one"]),
    "DatabaseNotFound": (("lib.db",), {}, ["'lib.db'", "plmsearch index lib.db"]),
    "NotADatabase": (("lib.db", "it is a file"), {}, ["'lib.db'", "it is a file"]),
    "DatabaseNotWritable": (("lib.db", "read-only"), {}, ["'lib.db'", "read-only", "permissions"]),
    "DatabaseLocked": (("lib.db", 12.0), {}, ["'lib.db'", "12 s", "--lock-timeout"]),
    "SchemaOutdatedError": (("lib.db", "0002", "0004"), {}, ["'lib.db'", "0002", "0004"]),
    "SchemaTooNewError": (("lib.db", "9", "1"), {}, ["'lib.db'", "9", "1", "newer plmsearch"]),
    "CatalogDamaged": (("catalog.sqlite", "bad bytes"), {}, ["'catalog.sqlite'", "bad bytes", "backup"]),
    "FilterError": (
        ("x = 1", "no column"),
        {"hint": "did you mean y?", "position": 1},
        ["'x = 1'", "character 1", "no column", "mean y"],
    ),
    "AlignmentError": (("q1", "no residues"), {}, ["query 'q1'", "no residues", "leave out --rerank"]),
    "SegmentDamaged": (("7.vec", "bad checksum"), {}, ["'7.vec'", "bad checksum", "backup"]),
    "StorageError": (("lib.db", "disk full"), {"hint": "make room"}, ["'lib.db'", "disk full", "make room"]),
    "NotEnoughSpace": (
        ("db", "the import", 2_500_000_000, 1_000_000),
        {},
        ["'db'", "the import", "2,500.0 MB", "1.0 MB are free", "another disk"],
    ),
    "NoVectorError": (("P1", "esm2/33/whole/mean", "it is absent"), {}, ["'P1'", "esm2/33", "absent"]),
    "RecordNotFound": ((["P1"], {"P1": "P11"}), {}, ["'P1'", "'P11'"]),
}

# Fields that take part in the message in another form than they are kept.
SHOWN_OTHERWISE = {"size_bytes", "waited_s", "needed_bytes", "free_bytes"}


def make(name: str) -> PlmsearchError:
    args, kwargs, _ = EXAMPLES[name]
    return CLASSES[name](*args, **kwargs)


def drawn_tree() -> dict[str, tuple[str, set[str]]]:
    """Read the tree in the module docstring: name -> parent and further bases."""
    tree: dict[str, tuple[str, set[str]]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│├└─ ]*)([A-Z]\w+)(?: \((\w+(?:, \w+)*)\))?", line)
        if found:
            depth = len(found[1]) // 4
            path = [*path[:depth], found[2]]
            others = set(found[3].split(", ")) if found[3] else set()
            tree[found[2]] = (path[-2] if depth else "Exception", others)
    return tree


# --- The tree ------------------------------------------------------------------------------------


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    actual = {}
    for name, cls in CLASSES.items():
        parent, *others = cls.__bases__
        actual[name] = (parent.__name__, {o.__name__ for o in others})
    assert drawn_tree() == actual


def test_every_class_is_exported_in_sorted_order():
    assert errors.__all__ == sorted(CLASSES)


def test_every_error_is_caught_by_the_one_base_class():
    assert all(issubclass(cls, PlmsearchError) for cls in CLASSES.values())


@pytest.mark.parametrize(
    ("builtin", "names"),
    [
        (ValueError, {"InputError", "EmbeddingSpecMismatch", "VectorIndexError"}),
        (LookupError, {"UnknownModelError", "NoVectorError", "RecordNotFound"}),
    ],
)
def test_the_builtin_that_a_caller_expects_catches_it_too(builtin, names):
    roots = tuple(CLASSES[name] for name in names)
    expected = {name for name, cls in CLASSES.items() if issubclass(cls, roots)}
    assert {name for name, cls in CLASSES.items() if issubclass(cls, builtin)} == expected


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_says_in_one_line_what_it_is(name):
    first, _, rest = inspect.cleandoc(CLASSES[name].__doc__ or "").partition("\n")
    assert first.endswith(".")
    assert len(first) <= 80
    assert rest == "" or rest.startswith("\n"), "the first line is a paragraph of its own"


# --- Messages ------------------------------------------------------------------------------------


def test_every_class_has_an_example_here():
    assert set(EXAMPLES) == set(CLASSES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_message_says_what_where_and_what_to_do(name):
    text = str(make(name))
    assert [wanted for wanted in EXAMPLES[name][2] if wanted not in text] == []
    assert "\n" not in text


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_hint_is_part_of_the_message_and_a_field(name):
    error = make(name)
    assert str(error) == (f"{error.message}; {error.hint}" if error.hint else error.message)
    assert not error.hint.endswith(".")


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_the_message_says_is_also_a_field(name):
    args, kwargs, _ = EXAMPLES[name]
    error = make(name)
    parameters = inspect.signature(type(error)).bind(*args, **kwargs).arguments
    for parameter, value in parameters.items():
        held = getattr(error, parameter)
        assert held == (tuple(value) if isinstance(value, list) else value)
        if parameter not in SHOWN_OTHERWISE and isinstance(value, str | int):
            assert str(value) in str(error)


def test_a_place_is_left_out_where_there_is_none():
    text = str(errors.EmptySequenceError("P1"))
    assert text.startswith("record 'P1': ")
    assert "None" not in text
    assert "(stdin)" in str(errors.EmptySequenceError("P1", source="stdin"))


def test_weights_that_were_looked_for_nowhere_say_so():
    text = str(errors.ModelUnavailableError("esm2_t6", [], hint="fetch it"))
    assert "nowhere" in text
    assert "MB" not in text


def test_a_long_list_of_missing_records_is_cut_and_counted():
    error = errors.RecordNotFound([f"P{i}" for i in range(12)])
    assert "'P4' and 7 more" in str(error)
    assert "'P5'" not in str(error)
    assert len(error.record_ids) == 12


@given(st.text(max_size=20))
def test_an_odd_record_id_cannot_break_the_line(record_id):
    error = errors.InvalidResidueError(record_id, "\n", 1)
    assert len(str(error).splitlines()) == 1
    assert repr(record_id) in str(error)
    assert error.record_id == record_id
