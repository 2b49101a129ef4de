"""The same analysis as analysis.py in Prefect, from the plates that it has put into work/raw.

python flow.py [MAX_Z]
"""

import sys
from pathlib import Path

import steps

from lamindb_prefect import flow, task

OUT = Path("work/prefect")

clean_plates = task(steps.clean_plates)
fit_curves = task(steps.fit_curves)
plot_curves = task(steps.plot_curves)
write_report = task(steps.write_report)


@flow
def dose_response(max_z: float = 3.5) -> Path:
    """Find the IC50 of four compounds."""
    OUT.mkdir(parents=True, exist_ok=True)
    raw = sorted(Path("work/raw").glob("*.csv"))
    clean = clean_plates(raw, OUT / "clean.parquet", max_z=max_z)
    ic50 = fit_curves.submit(clean, OUT / "ic50.csv")
    curves = plot_curves.submit(clean, OUT / "curves.png")
    return write_report(ic50.result(), curves.result(), OUT / "report.html")


if __name__ == "__main__":
    print(dose_response(*map(float, sys.argv[1:2])))
