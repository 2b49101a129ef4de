"""The dose-response example in Snakemake: the same results, and a past that crosses engines."""

from pathlib import Path

from snakemake_workflows import Project, md5, wait

EXAMPLE = Path(__file__).parents[2] / "examples" / "dose_response"
PLAIN = f"""
import runpy, sys
sys.path.insert(0, {str(EXAMPLE)!r})
sys.argv = ["analysis.py"]
runpy.run_path({str(EXAMPLE / "analysis.py")!r}, run_name="__main__")
"""


def test_the_example_gives_the_same_report_in_both_forms(project: Project):
    plain = project.python(PLAIN)
    assert plain.code == 0, plain.err
    options = ("-s", str(EXAMPLE / "Snakefile"), "--force-use-threads")
    done = wait(project.start(*options, PYTHONDONTWRITEBYTECODE="1"))
    assert done.code == 0, done.err
    report = project.folder / "mydata/snakemake/report.html"
    assert md5(report) == md5(project.folder / "mydata/assay/report.html")
    records = project.records()
    assert records.job("clean_plates")["params"] == {"max_z": 3.5}
    # the plates are known as what the plain analysis has put into the storage
    assert records.linked(records.job("clean_plates"), "input") == {
        f"assay/raw/plate_{number}.csv" for number in (1, 2, 3)
    }
    assert records.file("snakemake/report.html")["hash"] == md5(report)
