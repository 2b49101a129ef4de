"""The tables: by models and migrations the same, named by one convention, and shipped."""

from __future__ import annotations

import ast
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import IntegrityError

import lamindb as ln
from lamindb import config, instance
from lamindb.config import InstanceConfig
from lamindb.db import migrate, schema
from lamindb.db.database import Database, _sqlite_engine, create_sqlite_file
from lamindb.errors import DatabaseCorruptError, DatabaseOutdatedError, DatabaseTooNewError

ROOT = Path(__file__).parent.parent
MIGRATIONS = ROOT / "core" / "lamindb" / "db" / "migrations"
VERSIONS = sorted((MIGRATIONS / "versions").glob("*.py"))


def database_at(path: Path) -> Database:
    return Database(InstanceConfig("schema", str(path.parent), f"sqlite:///{path}"))


@pytest.fixture
def by_models(tmp_path: Path) -> Iterator[Database]:
    database = database_at(tmp_path / "models.sqlite")
    migrate.create(database)
    yield database
    database.dispose()


@pytest.fixture
def by_migrations(tmp_path: Path) -> Iterator[Database]:
    create_sqlite_file(tmp_path / "migrations.sqlite")
    database = database_at(tmp_path / "migrations.sqlite")
    migrate.run_migrations(database)
    yield database
    database.dispose()


def statements(database: Database) -> dict[str, list[str]]:
    """The definition of each table and index, as sorted parts without the line ends."""
    with database.read() as connection:
        rows = connection.execute(
            sa.text("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        ).all()
    found = {}
    for kind, name, sql in rows:
        flat = re.sub(r"\s+", " ", sql.replace('"', "")).replace("( ", "(").replace(" )", ")")
        # the parts of a table in any order: Alembic writes a single key beside its column
        body = flat[flat.index("(") + 1 : flat.rindex(")")]
        parts = [flat[: flat.index("(")].strip(), *split_parts(body)]
        found[f"{kind} {name}"] = sorted(parts) if kind == "table" else [flat]
    return found


def split_parts(body: str) -> list[str]:
    """Split at the commas that are in no bracket."""
    parts, depth = [""], 0
    for character in body:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def test_models_and_migrations_build_the_same_tables(
    by_models: Database, by_migrations: Database
) -> None:
    models, migrations = statements(by_models), statements(by_migrations)
    for found in (models, migrations):
        del found[f"table {migrate.VERSION_TABLE}"]  # Alembic's own, whose key has another name
    assert models.keys() == migrations.keys()
    for name, parts in models.items():
        assert migrations[name] == parts, name
    assert {f"table {name}" for name in schema.metadata.tables} <= models.keys()


def test_alembic_finds_no_difference_to_the_models(
    by_models: Database, by_migrations: Database
) -> None:
    for database in (by_models, by_migrations):
        with database.read() as connection:
            context = MigrationContext.configure(
                connection,
                opts={"compare_type": True, "version_table": migrate.VERSION_TABLE},
            )
            assert compare_metadata(context, schema.metadata) == []


def test_the_comparison_would_see_a_difference(by_migrations: Database) -> None:
    with by_migrations.begin() as connection:
        connection.execute(sa.text("ALTER TABLE file ADD COLUMN extra TEXT"))
        connection.execute(sa.text("DROP INDEX ix_file_hash"))
    with by_migrations.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": migrate.VERSION_TABLE}
        )
        assert {change[0] for change in compare_metadata(context, schema.metadata)} == {
            "remove_column",
            "add_index",
        }


def test_the_tables_are_legal_for_postgresql_as_well() -> None:
    ddl: list[str] = []
    engine = sa.create_mock_engine(
        "postgresql+psycopg://",
        lambda each, *_: ddl.append(str(each.compile(dialect=engine.dialect))),
    )
    schema.metadata.create_all(engine, checkfirst=False)
    text = "\n".join(ddl)
    assert text.count("TIMESTAMP WITH TIME ZONE") == text.count("TIMESTAMP")
    assert "WHERE is_latest AND key IS NOT NULL" in text
    assert "is_latest = 1" not in text


def names_by_rule(table: sa.Table) -> Iterator[tuple[str | None, str]]:
    """Every constraint and index of a table: the name it has, and the name of the convention."""
    for constraint in table.constraints:
        columns = "_".join(column.name for column in constraint.columns)
        match constraint:
            case sa.PrimaryKeyConstraint():
                yield constraint.name, f"pk_{table.name}"
            case sa.ForeignKeyConstraint():
                target = constraint.referred_table.name
                yield constraint.name, f"fk_{table.name}_{columns}_{target}"
            case sa.UniqueConstraint():
                yield constraint.name, f"uq_{table.name}_{columns}"
            case _:
                yield constraint.name, f"ck_{table.name}_"
    for index in table.indexes:
        columns = "_".join(column.name for column in index.columns)
        # an index on some rows only says which; all others are named by their columns
        yield index.name, str(index.name) if index.unique else f"ix_{table.name}_{columns}"


@pytest.mark.parametrize("table", schema.metadata.sorted_tables, ids=lambda table: table.name)
def test_every_constraint_has_the_name_of_the_convention(table: sa.Table) -> None:
    for name, expected in names_by_rule(table):
        assert name == expected
        assert len(expected) <= 63, "PostgreSQL cuts longer names"


def test_every_constraint_has_a_name_in_the_database(
    by_models: Database, by_migrations: Database
) -> None:
    for database in (by_models, by_migrations):
        for name, parts in statements(database).items():
            if name == f"table {migrate.VERSION_TABLE}":
                continue
            for part in parts:
                if re.search(r"PRIMARY KEY|UNIQUE|FOREIGN KEY|CHECK", part) and "table" in name:
                    assert part.startswith("CONSTRAINT "), (name, part)


def test_every_foreign_key_is_indexed_or_points_to_a_small_table() -> None:
    # without an index, deleting a run would read every file
    small = {"user", "storage", "environment"}
    for table in schema.metadata.sorted_tables:
        leading = {
            tuple(column.name for column in each.columns)
            for each in [*table.indexes, table.primary_key]
        }
        for key in table.foreign_key_constraints:
            columns = tuple(column.name for column in key.columns)
            covered = any(index[: len(columns)] == columns for index in leading)
            assert covered or key.referred_table.name in small, (table.name, columns)


def test_the_constraints_hold(by_models: Database) -> None:
    with by_models.begin() as connection:
        now = schema.now()
        connection.execute(schema.user.insert().values(id="U" * 8, handle="me"))
        connection.execute(
            schema.storage.insert().values(
                id="S" * 8, root="/data", type="local", created_by_id="U" * 8
            )
        )
    file = {
        "name": "a",
        "suffix": "",
        "storage_id": "S" * 8,
        "created_by_id": "U" * 8,
        "created_at": now,
    }

    def insert(**values: object) -> None:
        with by_models.begin() as connection:
            connection.execute(schema.file.insert().values(**file, **values))

    insert(id="1", key="k", hash="A", is_latest=False)
    insert(id="2", key="k", hash="B", is_latest=True)
    insert(id="3", hash="A")
    refused: list[dict[str, object]] = [
        {"id": "4", "key": "k", "hash": "C", "is_latest": True},  # two latest of a key
        {"id": "5", "key": "k", "hash": "A", "is_latest": False},  # the same content twice
        {"id": "6", "hash": "A"},  # the same without a key
        {"id": "7", "key": "l", "run_id": "nobody"},  # a run that is not there
        {"id": "1"},
    ]
    for values in refused:
        with pytest.raises(sa.exc.IntegrityError):
            insert(**values)


# --- migrations ---------------------------------------------------------------------------------


def script_directory() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return ScriptDirectory.from_config(config)


def test_files_are_found_by_key_and_by_hash_without_reading_all(by_models: Database) -> None:
    for column in ("key", "hash", "source_uri"):
        with by_models.read() as connection:
            query = f"EXPLAIN QUERY PLAN SELECT * FROM file WHERE {column} = 'x'"
            plan = " ".join(str(row) for row in connection.execute(sa.text(query)))
        assert f"USING INDEX ix_file_{column}" in plan


def test_the_migrations_are_one_chain_that_ends_at_head() -> None:
    scripts = script_directory()
    assert scripts.get_heads() == [migrate.HEAD]
    assert scripts.get_bases() == ["0001"]
    chain = [script.revision for script in scripts.walk_revisions()][::-1]
    assert chain == sorted(chain), "revisions are compared as text"
    assert [path.stem.split("_")[0] for path in VERSIONS] == chain


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
def test_a_migration_imports_nothing_that_may_change(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names):
                imported |= {alias.name.partition(".")[0] for alias in names}
            case ast.ImportFrom(module, _, level):
                assert not level, "a relative import"
                imported.add((module or "").partition(".")[0])
    assert imported <= {"sqlalchemy", "alembic", "datetime", "json", "__future__"}


def test_an_instance_made_by_migrations_works_like_any_other(
    tmp_path: Path, by_migrations: Database
) -> None:
    with by_migrations.read() as connection:
        found = connection.execute(sa.text(f"SELECT * FROM {migrate.VERSION_TABLE}")).all()
    assert [tuple(row) for row in found] == [(migrate.HEAD,)]
    ln.setup.init(storage=tmp_path / "storage", db=f"sqlite:///{tmp_path / 'migrations.sqlite'}")
    assert_an_instance_works(tmp_path)


def assert_an_instance_works(tmp_path: Path) -> None:
    run = ln.track(ln.Transform("x"), params={"a": 1})
    (tmp_path / "a.txt").write_text("a")
    first = ln.add(ln.File(tmp_path / "a.txt", key="k.txt"))
    (tmp_path / "a.txt").write_text("b")
    second = ln.add(ln.File(tmp_path / "a.txt", key="k.txt"))
    ln.finish()
    assert ln.select(ln.File).one() == second
    assert set(run.outputs) == {first, second}
    assert len(ln.select(ln.File, all_versions=True).df()) == 2
    ln.delete(second, delete_data=True)
    assert ln.select(ln.File).one().load() == "a"


def test_an_older_sqlite_database_is_backed_up_and_upgraded_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ln.setup.init(storage=tmp_path / "storage", name="old")
    path = instance.current().config.sqlite_path
    assert path is not None
    user = ln.select(ln.User).one()
    ln.setup.close()
    write_second_migration(tmp_path, monkeypatch)
    ln.setup.load("old")
    assert ln.select(ln.User).one() == user
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT nickname, handle FROM user").fetchall()
        version = connection.execute(f"SELECT * FROM {migrate.VERSION_TABLE}").fetchall()
    connection.close()
    assert (found, version) == ([(None, user.handle)], [("0002",)])
    (backup,) = path.parent.glob("*.backup")
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("SELECT handle FROM user").fetchall() == [(user.handle,)]
        assert connection.execute(f"SELECT * FROM {migrate.VERSION_TABLE}").fetchall() == [
            ("0001",)
        ]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    assert_an_instance_works(tmp_path)
    ln.setup.close()
    ln.setup.load("old")
    assert len(list(path.parent.glob("*.backup"))) == 1


REBUILD = """
    for table, column in (("run", "name"), ("file", "suffix"), ("storage", "root")):
        with op.batch_alter_table(table) as batch:
            batch.alter_column(column, type_=sa.String(length=999))
"""


def filled(tmp_path: Path) -> Path:
    """An instance with a file that a run wrote and another read; returns its database."""
    ln.setup.init(storage=tmp_path / "storage", name="old")
    (tmp_path / "a.txt").write_text("a")
    ln.track(ln.Transform("writes"))
    file = ln.add(ln.File(tmp_path / "a.txt", key="k.txt"))
    ln.track(ln.Transform("reads"))
    file.stage()
    ln.finish()
    path = instance.current().config.sqlite_path
    ln.setup.close()
    assert path is not None
    return path


def test_a_migration_that_rebuilds_tables_takes_no_links_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(tmp_path)
    write_second_migration(tmp_path, monkeypatch, REBUILD)
    ln.setup.load("old")
    file = ln.select(ln.File).one()
    runs = {run.transform.name: run for run in ln.select(ln.Run).all()}
    assert (runs["writes"].outputs, runs["reads"].inputs) == ([file], [file])
    with pytest.raises(IntegrityError), instance.current().database.begin() as connection:
        connection.execute(sa.text("UPDATE file SET storage_id = 'nowhere'"))
    with closing(sqlite3.connect(path)) as connection:
        [kind] = [
            row[2] for row in connection.execute("PRAGMA table_info(run)") if row[1] == "name"
        ]
    assert kind == "VARCHAR(999)"


def test_a_migration_that_breaks_a_reference_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(tmp_path)
    write_second_migration(tmp_path, monkeypatch, '    op.execute("DELETE FROM run")\n')
    with pytest.raises(DatabaseCorruptError, match="refers to nothing"):
        ln.setup.load("old")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM run").fetchone() == (2,)


def write_second_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str = "") -> None:
    """Let this version of the package know one migration more than the last one did."""
    scripts = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "0002_nicknames.py").write_text(
        "import sqlalchemy as sa\n"
        "from alembic import op\n"
        'revision = "0002"\n'
        'down_revision = "0001"\n\n\n'
        "def upgrade() -> None:\n"
        '    op.add_column("user", sa.Column("nickname", sa.String(length=8)))\n' + more
    )
    real = Config.set_main_option

    def elsewhere(alembic: Config, name: str, value: str) -> None:
        real(alembic, name, str(scripts) if name == "script_location" else value)

    monkeypatch.setattr(Config, "set_main_option", elsewhere)
    monkeypatch.setattr(migrate, "HEAD", "0002")


def test_a_failing_migration_leaves_the_database_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ln.setup.init(storage=tmp_path / "storage", name="old")
    path = instance.current().config.sqlite_path
    assert path is not None
    ln.setup.close()
    write_second_migration(tmp_path, monkeypatch)
    with (tmp_path / "migrations" / "versions" / "0002_nicknames.py").open("a") as stream:
        stream.write('    raise RuntimeError("half way")\n')
    with pytest.raises(RuntimeError, match="half way"):
        ln.setup.load("old")
    with sqlite3.connect(path) as connection:
        columns = {row[1] for row in connection.execute("PRAGMA table_info(user)")}
        version = connection.execute(f"SELECT * FROM {migrate.VERSION_TABLE}").fetchall()
    connection.close()
    assert "nickname" not in columns
    assert version == [("0001",)]


def test_a_connection_in_use_when_its_database_is_left_is_closed_when_it_is_given_back(
    tmp_path: Path,
) -> None:
    database = Database(ln.setup.init(storage=tmp_path / "storage"))
    with database.read() as connection:
        driver = connection.connection.driver_connection
        database.dispose()
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    assert isinstance(driver, sqlite3.Connection)
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        driver.execute("SELECT 1")


def test_threads_that_connect_at_once_share_their_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(ln.setup.init(storage=tmp_path / "storage"))
    meet = threading.Barrier(2, timeout=2)

    def engine_made_by_both(path: Path) -> sa.Engine:
        with suppress(threading.BrokenBarrierError):  # there is but one that makes it
            meet.wait()
        return _sqlite_engine(path)

    monkeypatch.setattr("lamindb.db.database._sqlite_engine", engine_made_by_both)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: database.engine, range(2))
    assert first is second is database.engine
    database.dispose()


def test_a_newer_database_is_refused_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ln.setup.init(storage=tmp_path / "storage", name="new")
    path = instance.current().config.sqlite_path
    assert path is not None
    ln.setup.close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE {migrate.VERSION_TABLE} SET version_num = '9999'")
    connection.close()
    with pytest.raises(DatabaseTooNewError, match=r"at revision 9999.*upgrade the package"):
        ln.setup.load("new")
    database = Database(config.config_named("new"))
    with pytest.raises(DatabaseTooNewError, match=r"at revision 9999.*upgrade the package"):
        migrate.upgrade(database)
    database.dispose()
    assert list(path.parent.glob("*.backup")) == []


def test_a_shared_database_is_never_upgraded_on_its_own(
    tmp_path: Path, by_models: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "HEAD", "0002")
    monkeypatch.setattr(InstanceConfig, "sqlite_path", None)
    with pytest.raises(DatabaseOutdatedError, match="run 'lamin db upgrade'"):
        migrate.ensure_current(by_models)
    assert migrate.revision(by_models) == "0001"


def test_upgrading_leaves_the_hosts_logging_alone(by_migrations: Database) -> None:
    # Alembic's own template of env.py disables every logger that it does not know
    code = (
        "import logging; logging.getLogger('host').setLevel('DEBUG'); "
        "from pathlib import Path; from lamindb.config import InstanceConfig; "
        "from lamindb.db import migrate; from lamindb.db.database import Database, "
        "create_sqlite_file; path = Path('fresh.sqlite').resolve(); create_sqlite_file(path); "
        "migrate.run_migrations(Database(InstanceConfig('x', '/', f'sqlite:///{path}'))); "
        "host = logging.getLogger('host'); "
        "print(host.disabled, host.level, logging.getLogger().handlers)"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.stdout == "False 10 []\n", child.stderr
    assert child.stderr == ""


# --- the wheel ----------------------------------------------------------------------------------


def test_the_wheel_holds_the_package_with_its_migrations(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    # from a copy, so that nothing is written beside the source
    for name in ("pyproject.toml", "README.md", "LICENSE", "core", "plugins"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, tmp_path / "tree" / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            (tmp_path / "tree").mkdir(exist_ok=True)
            shutil.copy(source, tmp_path / "tree" / name)
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=tmp_path / "tree",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {
        path.relative_to(ROOT / "core").as_posix()
        for path in (ROOT / "core" / "lamindb").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected <= names
    assert {f"lamindb/db/migrations/versions/{path.name}" for path in VERSIONS} <= names
    assert {"lamindb/py.typed", "lamindb/db/migrations/env.py"} <= names
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {
        "lamindb",
        "lamindb_plain",
        "lamindb_prefect",
        "lamindb_snakemake",
        "snakemake_logger_plugin_lamindb",
    }
    assert not any(name.startswith("tests/") or "__pycache__" in name for name in names)
    (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
    with zipfile.ZipFile(wheel) as archive:
        points = archive.read(entry_points).decode()
    assert "lamin = lamindb.cli:main" in points
    assert "[lamindb]" in points
