"""The steps of a dose-response analysis: plain functions from paths to paths.

raw plates -> clean -> curves fitted and plotted -> report. Nothing here knows what runs it, so a
script, a Prefect flow and a Snakefile can share it. Same input, same bytes.
"""

# nM is nanomolar; nm would be a length
# ruff: noqa: N803, N815

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

Floats = NDArray[np.float64]

INK, GREY, BLUE, RED = "#1f2933", "#7b8794", "#2f6db5", "#d1495b"


def clean_plates(raw: Sequence[Path], out: Path, *, max_z: float = 3.5) -> Path:
    """Turn counts into viability, and mark outliers.

    Each plate's blank is subtracted and its vehicle set to 100 %, by medians. A well's robust z
    is its distance from the median of its replicates, relative to that median (or to 10 %, if
    that is more) because noise grows with the signal, over the spread of all such distances.

    Args:    raw: CSV files with plate, well, compound (``blank`` and ``vehicle`` are controls),
                  concentration_nM and fluorescence_counts (empty: not read, left out).
             max_z: wells with a larger robust z, either way, are marked.
    Returns: ``out``, parquet with a row a treated well: plate, well, compound, concentration_nM,
             viability_percent, robust_z, is_outlier.
    Source:  Iglewicz and Hoaglin 1993, modified z-score.
    """
    if not max_z > 0:
        raise ValueError(f"max_z is {max_z}: give a positive number, such as 3.5")
    wells = pd.concat([pd.read_csv(path) for path in raw]).dropna(subset="fluorescence_counts")
    controls = wells.pivot_table(
        index="plate", columns="compound", values="fluorescence_counts", aggfunc="median"
    ).reindex(index=wells["plate"].unique(), columns=["blank", "vehicle"])
    if controls.isna().any(axis=None):
        plate = controls.index[controls.isna().any(axis=1)][0]
        raise ValueError(f"{plate} has no blank or no vehicle wells, so it cannot be normalised")

    blank, vehicle = (wells["plate"].map(controls[name]) for name in ("blank", "vehicle"))
    wells["viability_percent"] = 100 * (wells["fluorescence_counts"] - blank) / (vehicle - blank)
    wells = wells[~wells["compound"].isin(["blank", "vehicle"])]
    wells = wells.sort_values(["compound", "concentration_nM", "plate", "well"], ignore_index=True)

    replicates = wells.groupby(["compound", "concentration_nM"])["viability_percent"]
    median = replicates.transform("median")
    distance = (wells["viability_percent"] - median) / median.clip(lower=10)
    spread = 1.4826 * distance.abs().median()  # of normal noise, this is the standard deviation
    wells["robust_z"] = distance / max(spread, 0.001)
    wells["is_outlier"] = wells["robust_z"].abs() > max_z
    wells.drop(columns="fluorescence_counts").to_parquet(out, index=False)
    return out


def fit_curves(clean: Path, out: Path) -> Path:
    """Fit a curve to each compound, outliers left out; write a CSV with a row a compound.

    Its columns: compound, the fields of ``Fit``, n_wells used, n_outliers left out.
    """
    rows = []
    for compound, wells in pd.read_parquet(clean).groupby("compound"):
        used = wells[~wells["is_outlier"]]
        fit = _fit(used)
        counts = {"n_wells": len(used), "n_outliers": len(wells) - len(used)}
        rows.append({"compound": compound} | asdict(fit) | counts)
    pd.DataFrame(rows).to_csv(out, index=False, float_format="%.4g")
    return out


def plot_curves(clean: Path, out: Path) -> Path:
    """Draw each compound's wells and fitted curve into one PNG."""
    compounds = list(pd.read_parquet(clean).groupby("compound"))
    rows = -(-len(compounds) // 2)
    figure = Figure(figsize=(9, 0.9 + 2.9 * rows), dpi=150, layout="constrained")
    panels = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False)
    for panel, (compound, wells) in zip(panels.flat, compounds, strict=False):
        used, left_out = wells[~wells["is_outlier"]], wells[wells["is_outlier"]]
        fit = _fit(used)
        doses = np.geomspace(wells["concentration_nM"].min(), wells["concentration_nM"].max(), 300)
        panel.axvspan(fit.ic50_low_nM, fit.ic50_high_nM, color=BLUE, alpha=0.18, lw=0)
        panel.axvline(fit.ic50_nM, color=BLUE, lw=1, ls=(0, (4, 3)), label="IC50 and 95 % interval")
        panel.plot(
            used["concentration_nM"], used["viability_percent"], "o", ms=4, mew=0, color=GREY,
            alpha=0.6, label="well",
        )  # fmt: skip
        panel.plot(
            left_out["concentration_nM"], left_out["viability_percent"], "x", ms=6, mew=1.6,
            color=RED, label="well left out",
        )  # fmt: skip
        panel.plot(doses, fit.viability_percent(doses), color=BLUE, lw=2, label="fitted curve")
        panel.set_title(str(compound), loc="left", color=INK, fontweight="bold", fontsize=11)
        panel.set_title(
            f"IC50 {_three_figures(fit.ic50_nM)} nM", loc="right", color=BLUE, fontsize=10
        )
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter("{x:,g}")
        panel.set_ylim(-12, 130)
        panel.grid(axis="y", color="#e4e7eb", lw=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(colors=INK, labelsize=9)
    for empty in panels.flat[len(compounds) :]:
        empty.set_visible(False)
    figure.supxlabel("concentration (nM)", color=INK, fontsize=10)
    figure.supylabel("viability (% of vehicle)", color=INK, fontsize=10)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(out, metadata={"Software": None})  # else the file names matplotlib's version
    return out


def write_report(ic50: Path, curves: Path, out: Path) -> Path:
    """Write one HTML page that holds the table and the picture, and needs no other file."""
    fits = pd.read_csv(ic50)
    table = pd.DataFrame(
        {
            "compound": fits["compound"],
            "IC50 (nM)": fits["ic50_nM"].map(_three_figures),
            "95 % interval (nM)": [
                f"{_three_figures(low)} to {_three_figures(high)}"
                for low, high in zip(fits["ic50_low_nM"], fits["ic50_high_nM"], strict=True)
            ],
            "Hill slope": fits["hill"].map("{:.2f}".format),
            "R²": fits["r2"].map("{:.3f}".format),
            "wells": fits["n_wells"],
            "left out": fits["n_outliers"],
        }
    ).to_html(index=False, border=0)
    picture = base64.b64encode(curves.read_bytes()).decode("ascii")
    out.write_text(_PAGE.format(table=table, picture=picture), encoding="utf-8", newline="\n")
    return out


@dataclass(frozen=True)
class Fit:
    """A four-parameter logistic curve, and how well it is known.

    Attributes:
        ic50_nM: concentration halfway between top and bottom.
        ic50_low_nM, ic50_high_nM: about 95 % interval, 1.96 standard errors of log10 IC50
            (MacKinnon and White 1985, HC3).
        hill: slope factor, positive where viability falls.
        r2: share of the variance explained.
    """

    ic50_nM: float
    ic50_low_nM: float
    ic50_high_nM: float
    hill: float
    bottom_percent: float
    top_percent: float
    r2: float

    def viability_percent(self, dose_nM: Floats) -> Floats:
        parameters = [self.bottom_percent, self.top_percent, np.log10(self.ic50_nM), self.hill]
        return _logistic(np.array(parameters), np.log10(dose_nM))


def fit_logistic(dose_nM: Floats, viability_percent: Floats) -> Fit:
    """Fit by least squares: the best of a grid, then refined by Levenberg-Marquardt.

    Args: both of shape (n,), n at least 5; doses in nM, above zero.
    """
    if len(dose_nM) < 5:
        raise ValueError(f"{len(dose_nM)} wells cannot tell 4 parameters and their error: give 5")
    x, y = np.log10(dose_nM), np.asarray(viability_percent, dtype=float)
    parameters = _refined(_start(x, y), x, y)
    bottom, top, log_ic50, hill = parameters
    residual = y - _logistic(parameters, x)
    slopes = _slopes(parameters, x)
    # HC3: the usual error takes noise as equal at every dose, and is too small on steep curves
    inverse = np.linalg.pinv(slopes)
    leverage = np.einsum("ij,ji->i", slopes, inverse)
    margin = 1.96 * np.linalg.norm(inverse[2] * residual / (1 - leverage).clip(min=1e-6))
    spread = y - y.mean()
    return Fit(
        ic50_nM=float(10**log_ic50),
        ic50_low_nM=float(10 ** (log_ic50 - margin)),
        ic50_high_nM=float(10 ** (log_ic50 + margin)),
        hill=float(hill),
        bottom_percent=float(bottom),
        top_percent=float(top),
        r2=float(1 - residual @ residual / (spread @ spread)),
    )


def _three_figures(value: float) -> str:
    return f"{float(f'{value:.3g}'):,g}"


def _fit(wells: pd.DataFrame) -> Fit:
    return fit_logistic(wells["concentration_nM"].to_numpy(), wells["viability_percent"].to_numpy())


def _falling(log_ic50: Floats, hill: Floats, x: Floats) -> Floats:
    """Return the share of the effect still missing: 1 at no dose, 0.5 at IC50, 0 far above it."""
    powers: Floats = 10 ** np.clip(hill * (x - log_ic50), -50, 50)
    return 1 / (1 + powers)


def _logistic(parameters: Floats, x: Floats) -> Floats:
    bottom, top, log_ic50, hill = parameters
    curve: Floats = bottom + (top - bottom) * _falling(log_ic50, hill, x)
    return curve


def _slopes(parameters: Floats, x: Floats) -> Floats:
    """Return the derivatives of the curve by its four parameters, shape (n, 4)."""
    bottom, top, log_ic50, hill = parameters
    share = _falling(log_ic50, hill, x)
    steepness = (top - bottom) * share * (1 - share) * np.log(10)
    return np.column_stack([1 - share, share, steepness * hill, -steepness * (x - log_ic50)])


def _start(x: Floats, y: Floats) -> Floats:
    """Return the best of 600 pairs of IC50 and slope: bottom and top follow by a straight line."""
    log_ic50, hill = (
        grid.reshape(-1, 1)
        for grid in np.meshgrid(np.linspace(x.min(), x.max(), 40), np.geomspace(0.4, 5, 15))
    )
    share = _falling(log_ic50, hill, x)
    centred = share - share.mean(axis=1, keepdims=True)
    height = centred @ (y - y.mean()) / (centred**2).sum(axis=1)
    bottom = y.mean() - height * share.mean(axis=1)
    error = ((y - bottom[:, None] - height[:, None] * share) ** 2).sum(axis=1)
    best = int(error.argmin())
    return np.array([bottom[best], bottom[best] + height[best], log_ic50[best, 0], hill[best, 0]])


def _refined(parameters: Floats, x: Floats, y: Floats) -> Floats:
    residual, damping = y - _logistic(parameters, x), 1e-3
    for _ in range(200):
        slopes = _slopes(parameters, x)
        normal = slopes.T @ slopes
        damped = normal + damping * np.diag(np.diag(normal) + 1e-12)
        step = np.linalg.solve(damped, slopes.T @ residual)
        tried = y - _logistic(parameters + step, x)
        if tried @ tried < residual @ residual:
            parameters, residual, damping = parameters + step, tried, damping / 10
            if np.abs(step).max() < 1e-9:
                break
        elif (damping := damping * 10) > 1e8:
            break
    return parameters


_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Dose response</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 56rem;
       margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; margin: 1.5rem 0; font-variant-numeric: tabular-nums }}
th, td {{ padding: .4rem 1rem .4rem 0; text-align: right; border-bottom: 1px solid #e4e7eb }}
th:first-child, td:first-child {{ text-align: left }}
img {{ max-width: 100%; height: auto }}
</style>
</head>
<body>
<h1>Dose response</h1>
<p>Viability in percent of the vehicle control, on replicate plates. Each compound has a
four-parameter logistic curve; IC50 is the concentration halfway between its top and bottom.</p>
{table}
<img alt="Viability against concentration: wells and fitted curve of each compound"
     src="data:image/png;base64,{picture}">
</body>
</html>
"""
