"""Find the IC50 of four compounds; each step is a run that knows its inputs and outputs.

python analysis.py [--max-z 3.5]
"""

import argparse
from pathlib import Path

import pandas as pd
import steps

import lamindb as ln

WORK = Path("work")


def acquire_plates() -> None:
    ln.track(transform=ln.Transform("acquire plates", type="pipeline"))
    plates = ln.dev.datasets.plate_readout(WORK / "raw")
    ln.add(
        [
            ln.File(path, key=f"assay/raw/{path.name}", description="counts of a 96-well plate")
            for path in plates
        ]
    )
    ln.finish()


def clean_plates(max_z: float) -> None:
    ln.track(transform=ln.Transform("clean plates", type="pipeline"), params={"max_z": max_z})
    raw = [file.stage() for file in raw_plates()]
    clean = steps.clean_plates(raw, WORK / "clean.parquet", max_z=max_z)
    ln.add(ln.File(clean, key="assay/clean.parquet", description="viability of each well"))
    ln.finish()


def fit_curves() -> None:
    ln.track(transform=ln.Transform("fit curves", type="pipeline"))
    clean = ln.select(ln.File, key="assay/clean.parquet").one().stage()
    ic50 = steps.fit_curves(clean, WORK / "ic50.csv")
    ln.add(ln.File(ic50, key="assay/ic50.csv", description="IC50 of each compound"))
    ln.finish()


def plot_curves() -> None:
    ln.track(transform=ln.Transform("plot curves", type="pipeline"))
    clean = ln.select(ln.File, key="assay/clean.parquet").one().stage()
    curves = steps.plot_curves(clean, WORK / "curves.png")
    ln.add(ln.File(curves, key="assay/curves.png", description="wells and fitted curves"))
    ln.finish()


def write_report() -> None:
    ln.track(transform=ln.Transform("write report", type="pipeline"))
    ic50 = ln.select(ln.File, key="assay/ic50.csv").one().stage()
    curves = ln.select(ln.File, key="assay/curves.png").one().stage()
    report = steps.write_report(ic50, curves, WORK / "report.html")
    ln.add(ln.File(report, key="assay/report.html", description="table and picture in one page"))
    ln.finish()


def raw_plates() -> list[ln.File]:
    plates = ln.select(ln.File).where(ln.File.key.startswith("assay/raw/"))
    return list(plates.order_by(ln.File.key).all())


def main() -> None:
    parser = argparse.ArgumentParser(description="Find the IC50 of four compounds.")
    parser.add_argument(
        "--max-z",
        type=float,
        default=3.5,
        help="leave out wells with a larger robust z-score (default: 3.5)",
    )
    max_z = parser.parse_args().max_z

    WORK.mkdir(exist_ok=True)
    if not raw_plates():  # measured once, analysed as often as you like
        acquire_plates()
    clean_plates(max_z)
    fit_curves()
    plot_curves()
    write_report()

    ic50 = pd.read_csv(WORK / "ic50.csv")
    shown = ic50[["compound", "ic50_nM", "hill", "r2", "n_outliers"]]
    print(shown.to_string(index=False, float_format="{:.4g}".format))


if __name__ == "__main__":
    main()
