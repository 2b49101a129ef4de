"""The settings of the plugin: which files, where, and whether they are copied."""

import pytest
from snakemake_workflows import Project, new_project

from lamindb_snakemake.options import Options

SNAKEFILE = """
rule make:
    output: "kept/a.txt", "kept/b.log", "other/c.txt", temp("kept/d.tmp")
    shell: "for each in {output}; do echo $each > $each; done"
"""


@pytest.mark.parametrize(
    ("include", "exclude", "wanted"),
    [
        ((), (), "abcd"),
        (("kept/",), (), "abd"),
        ((), ("*.log", "other/**"), "ad"),
        (("kept/**",), ("*.log", "!b.log"), "abd"),
        (("s3://bucket/*",), (), ""),
    ],
)
def test_patterns_choose_files(include, exclude, wanted):
    wants = Options(include=include, exclude=exclude).filter("/w")
    files = {"a": "kept/a.txt", "b": "kept/b.log", "c": "other/c.txt", "d": "kept/d.tmp"}
    assert "".join(name for name, path in files.items() if wants(f"/w/{path}")) == wanted


def test_outputs_are_copied_into_another_instance_when_that_is_asked_for(
    project: Project, tmp_path
):
    other = new_project(tmp_path / "other")
    project.snakefile(SNAKEFILE)
    done = project.snakemake(
        *("--logger-lamindb-instance", str(other.folder), "--logger-lamindb-copy"),
        *("--logger-lamindb-exclude", "*.log", "other/"),
    )
    assert done.code == 0, done.err
    assert project.records().runs == []
    records = other.records()
    assert records.statuses() == {"make": "completed"}
    names = {file["name"]: file for file in records.files}
    assert set(names) == {"a.txt", "d.tmp"}
    copies = [path.read_text() for path in (other.folder / "mydata").glob("*.txt")]
    assert copies == ["kept/a.txt\n"]
    assert names["d.tmp"]["hash"]


def test_the_settings_explain_themselves(project: Project):
    done = project.snakemake("--help", plugin=False)
    for name in ("instance", "include", "exclude", "copy", "strict"):
        assert f"--logger-lamindb-{name}" in done.out


def test_a_profile_asks_for_it_once(project: Project):
    project.snakefile(SNAKEFILE)
    project.write(profiles__default__config_yaml="logger: lamindb\n")
    done = project.snakemake(plugin=False)
    assert done.code == 0, done.err
    assert project.records().statuses() == {"make": "completed"}


def test_what_is_installed_and_not_asked_for_records_and_imports_nothing(project: Project):
    project.snakefile(SNAKEFILE)
    done = project.python(
        "import sys\n"
        "from snakemake.cli import main\n"
        "try:\n    main(['--cores', '1', '--quiet', 'all'])\n"
        "finally:\n"
        "    ours = [name for name in sys.modules if name.startswith('lamindb')]\n"
        "    print(ours, 'snakemake_logger_plugin_lamindb' in sys.modules)\n"
    )
    assert done.out == "[] True\n"
    assert done.err == ""
    assert project.records().runs == []
