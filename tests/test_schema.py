"""Migrations and tables say the same, and the version check names what to do."""

import re
import shutil
import subprocess
import sys

import pytest
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from plmsearch.errors import NotADatabase, SchemaOutdatedError, SchemaTooNewError
from plmsearch.store import schema, tables
from plmsearch.store.connection import open_catalog
from plmsearch.store.schema import HEAD, check_schema, create_schema, migrations_directory

NOT_OURS = {"alembic_version"}


@pytest.fixture
def engine_of(tmp_path):
    engines = []

    def make(name, fill):
        engine = open_catalog(tmp_path / f"{name}.sqlite", writable=True)
        engines.append(engine)
        with engine.begin() as connection:
            fill(connection)
        return engine

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def migrated(engine_of):
    return engine_of("migrated", create_schema)


def described(engine):
    """Everything a table is made of, in plain values."""
    with engine.connect() as connection:
        found = inspect(connection)
        without_rowid = {r[1] for r in connection.exec_driver_sql("PRAGMA table_list") if r[4]}
        return {
            name: {
                "columns": [
                    (c["name"], str(c["type"]), c["nullable"], c["default"], c["primary_key"])
                    for c in found.get_columns(name)
                ],
                "references": sorted(
                    (f["constrained_columns"], f["referred_table"], f["referred_columns"])
                    for f in found.get_foreign_keys(name)
                ),
                "unique": sorted(u["column_names"] for u in found.get_unique_constraints(name)),
                "indexes": sorted(
                    (i["name"], i["column_names"], bool(i["unique"]), _options(i))
                    for i in found.get_indexes(name)
                ),
                "without_rowid": name in without_rowid,
            }
            for name in found.get_table_names()
            if name not in NOT_OURS
        }


def _options(index):
    return sorted((name, str(value)) for name, value in index["dialect_options"].items())


# --- Migrations ----------------------------------------------------------------------------------


def test_all_migrations_make_the_tables_of_the_code(migrated, engine_of):
    created = engine_of("created", tables.metadata.create_all)
    expected = described(created)
    assert set(expected) == set(tables.metadata.tables)
    assert described(migrated) == expected


def test_a_new_catalog_holds_to_the_letter_what_the_migrations_make(migrated, engine_of):
    def held(engine):
        with engine.begin() as connection:
            made = connection.exec_driver_sql("SELECT * FROM sqlite_master ORDER BY name").all()
            rows = {
                name: connection.exec_driver_sql(f'SELECT * FROM "{name}"').all()
                for kind, name, *_ in made
                if kind == "table"
            }
        return [(kind, name, table, sql) for kind, name, table, _page, sql in made], rows

    step_by_step = engine_of("step", lambda connection: schema._migrate(connection, migrations_directory()))
    assert held(migrated) == held(step_by_step)


def test_alembic_sees_no_difference_either(migrated):
    from alembic.autogenerate import compare_metadata

    with migrated.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_the_newest_migration_is_the_head_the_code_needs():
    config = Config()
    config.set_main_option("script_location", str(migrations_directory()))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [HEAD]
    files = sorted(p.name for p in (migrations_directory() / "versions").glob("*.py"))
    assert [re.match(r"\d{4}(?=_)", f)[0] for f in files] == [f"{n:04d}" for n in range(1, len(files) + 1)]
    assert files[-1].startswith(HEAD)
    assert len(list(scripts.walk_revisions())) == len(files)


def test_a_new_catalog_has_one_row_of_state(migrated):
    with migrated.begin() as connection:
        assert connection.execute(tables.state.select()).all() == [(1, 0, 1, 1, 1)]


def test_migrating_again_changes_nothing(migrated):
    before = described(migrated)
    with migrated.begin() as connection:
        connection.execute(tables.state.update().values(generation=5))
    with migrated.begin() as connection:
        create_schema(connection)
        check_schema(connection, "lib.db")
        assert connection.execute(tables.state.select()).one().generation == 5
    assert described(migrated) == before


def test_a_migration_that_fails_leaves_no_table(engine_of):
    engine = engine_of("empty", lambda connection: None)
    with pytest.raises(KeyError), engine.begin() as connection:
        create_schema(connection)
        raise KeyError
    assert inspect(engine).get_table_names() == []


def test_migrations_are_found_in_a_path_with_a_percent_sign(engine_of, tmp_path, monkeypatch):
    copy = tmp_path / "100%(here)s"
    shutil.copytree(migrations_directory(), copy)
    monkeypatch.setattr(schema, "migrations_directory", lambda: copy)
    engine = engine_of("percent", create_schema)
    assert "records" in inspect(engine).get_table_names()


# --- The version check ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "error"),
    [("0000", SchemaOutdatedError), (f"{int(HEAD) + 1:04d}", SchemaTooNewError), ("9999", SchemaTooNewError)],
)
def test_another_version_is_refused_naming_both(migrated, version, error):
    with migrated.begin() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{version}'")
        with pytest.raises(error) as caught:
            check_schema(connection, "lib.db")
    assert caught.value.path == "lib.db"
    assert version in caught.value.found
    assert HEAD in str(caught.value)


def test_a_file_without_a_version_is_no_database(engine_of):
    engine = engine_of("other", lambda connection: connection.exec_driver_sql("CREATE TABLE t (x)"))
    with engine.begin() as connection, pytest.raises(NotADatabase, match="no schema version"):
        check_schema(connection, "lib.db")


def test_checking_a_version_imports_no_alembic():
    """A query opens a database, and alembic takes longer to import than the query takes."""
    code = "import sys, plmsearch.store.session; sys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
