"""The dose-response example: its steps find the truth that its data were generated from."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lamindb.dev import datasets

pytestmark = pytest.mark.observing

EXAMPLE = Path(__file__).parents[1] / "examples" / "dose_response"


@pytest.fixture(scope="module")
def steps() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("dose_response_steps", EXAMPLE / "steps.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def run_all(steps: ModuleType, folder: Path, *, seed: int = 5, max_z: float = 3.5) -> list[Path]:
    """Run the whole analysis in a folder; return its results in the order they were made."""
    raw = datasets.plate_readout(folder / "raw", seed=seed)
    clean = steps.clean_plates(raw, folder / "clean.parquet", max_z=max_z)
    ic50 = steps.fit_curves(clean, folder / "ic50.csv")
    curves = steps.plot_curves(clean, folder / "curves.png")
    return [clean, ic50, curves, steps.write_report(ic50, curves, folder / "report.html")]


def truth(wells: pd.DataFrame) -> pd.Series:
    """Return the true viability, in percent, of each well."""
    return wells.apply(
        lambda well: datasets.DOSE_RESPONSES[well["compound"]].viability_percent(
            well["concentration_nM"]
        ),
        axis=1,
    )


@pytest.mark.parametrize(
    "seed", [5, *(pytest.param(seed, marks=pytest.mark.full) for seed in (1, 2, 3))]
)
def test_the_fits_recover_the_ic50_and_slope_the_data_were_made_from(
    steps: ModuleType, tmp_path: Path, seed: int
) -> None:
    _, path, *_ = run_all(steps, tmp_path, seed=seed)
    fits = pd.read_csv(path).set_index("compound")

    assert list(fits.index) == sorted(datasets.DOSE_RESPONSES)
    for compound, true in datasets.DOSE_RESPONSES.items():
        fit = fits.loc[compound]
        assert fit["ic50_nM"] == pytest.approx(true.ic50_nM, rel=0.15), compound
        assert fit["hill"] == pytest.approx(true.hill, rel=0.2), compound
        assert fit["bottom_percent"] == pytest.approx(true.bottom_percent, abs=4), compound
        assert fit["top_percent"] == pytest.approx(100, abs=4), compound
        assert fit["r2"] > 0.97, compound
        assert fit["ic50_low_nM"] < fit["ic50_nM"] < fit["ic50_high_nM"], compound


def test_the_intervals_hold_the_true_ic50_about_as_often_as_they_say(
    steps: ModuleType, tmp_path: Path
) -> None:
    held = []
    for seed in range(12):
        folder = tmp_path / str(seed)
        raw = datasets.plate_readout(folder, seed=seed)
        clean = steps.clean_plates(raw, folder / "clean.parquet")
        fits = pd.read_csv(steps.fit_curves(clean, folder / "ic50.csv"))
        true = fits["compound"].map(lambda name: datasets.DOSE_RESPONSES[name].ic50_nM)
        held += list(true.between(fits["ic50_low_nM"], fits["ic50_high_nM"]))

    assert len(held) == 48
    assert sum(held) >= 43  # 95 % of 48 is 46


def test_running_twice_gives_the_same_bytes(steps: ModuleType, tmp_path: Path) -> None:
    first = run_all(steps, tmp_path / "first")
    second = run_all(steps, tmp_path / "second")

    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_the_order_of_the_plates_does_not_matter(steps: ModuleType, tmp_path: Path) -> None:
    raw = datasets.plate_readout(tmp_path)
    one = steps.clean_plates(raw, tmp_path / "one.parquet")
    other = steps.clean_plates(raw[::-1], tmp_path / "other.parquet")

    assert one.read_bytes() == other.read_bytes()


def test_cleaning_sets_the_failed_wells_aside_and_hardly_any_other(
    steps: ModuleType, tmp_path: Path
) -> None:
    raw = datasets.plate_readout(tmp_path)
    wells = pd.read_parquet(steps.clean_plates(raw, tmp_path / "clean.parquet"))
    true = truth(wells)
    noise = np.hypot(0.6, 0.05 * true)  # the reader's, in percent of the vehicle, and the wells'
    has_failed = (wells["viability_percent"] - true).abs() > 6 * noise

    assert 3 <= has_failed.sum() <= 6  # a well without cells is no failure where a drug kills all
    assert wells.loc[has_failed, "is_outlier"].all()
    assert wells.loc[~has_failed, "is_outlier"].sum() <= 5
    assert len(wells) == 3 * 80 - 3  # three wells were not read
    assert wells["viability_percent"].notna().all()


def test_a_stricter_cut_off_sets_more_wells_aside(steps: ModuleType, tmp_path: Path) -> None:
    raw = datasets.plate_readout(tmp_path)
    counts = [
        pd.read_parquet(steps.clean_plates(raw, tmp_path / "clean.parquet", max_z=max_z))[
            "is_outlier"
        ].sum()
        for max_z in (2.5, 3.5, float("inf"))
    ]

    assert counts[0] > counts[1] > counts[2] == 0


def test_the_cut_off_changes_every_result(steps: ModuleType, tmp_path: Path) -> None:
    usual = run_all(steps, tmp_path / "usual")
    strict = run_all(steps, tmp_path / "strict", max_z=2.5)

    for one, other in zip(usual, strict, strict=True):
        assert one.read_bytes() != other.read_bytes(), one.name


@pytest.mark.parametrize("max_z", [0, -1, float("nan")])
def test_a_cut_off_that_is_not_positive_is_refused(
    steps: ModuleType, tmp_path: Path, max_z: float
) -> None:
    with pytest.raises(ValueError, match="max_z"):
        steps.clean_plates(datasets.plate_readout(tmp_path), tmp_path / "c.parquet", max_z=max_z)


def test_a_plate_without_controls_is_named(steps: ModuleType, tmp_path: Path) -> None:
    raw = datasets.plate_readout(tmp_path)
    plate = pd.read_csv(raw[1])
    plate[plate["compound"] != "vehicle"].to_csv(raw[1], index=False)

    with pytest.raises(ValueError, match="plate_2"):
        steps.clean_plates(raw, tmp_path / "clean.parquet")


def test_a_curve_without_noise_is_fitted_exactly(steps: ModuleType) -> None:
    dose_nM = np.repeat(10.0 ** np.arange(0, 5, 0.5), 2)
    viability = 12 + (95 - 12) / (1 + (dose_nM / 340) ** 1.7)
    fit = steps.fit_logistic(dose_nM, viability)

    found = (fit.bottom_percent, fit.top_percent, fit.ic50_nM, fit.hill, fit.r2)
    assert found == pytest.approx((12, 95, 340, 1.7, 1))


def test_too_few_wells_for_a_fit_are_refused(steps: ModuleType) -> None:
    with pytest.raises(ValueError, match="4 parameters"):
        steps.fit_logistic(np.array([1.0, 10.0, 100.0, 1000.0]), np.array([99.0, 80, 20, 1]))


def test_the_report_stands_alone(steps: ModuleType, tmp_path: Path) -> None:
    *_, curves, report = run_all(steps, tmp_path)
    page = report.read_text(encoding="utf-8")

    for compound in datasets.DOSE_RESPONSES:
        assert f"<td>{compound}</td>" in page
    assert 'src="data:image/png;base64,' in page
    assert "://" not in page
    assert str(tmp_path) not in page
    with Image.open(curves) as image:
        assert min(image.size) > 600
