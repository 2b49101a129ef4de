"""Example data: one published picture, and the raw plates of a made-up dose-response assay.

Nothing is fetched, and neither numpy nor pooch is loaded, before a function is called.
"""

# nM is nanomolar; nm would be a length
# ruff: noqa: N803, N806, N815

from __future__ import annotations

import hashlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lamindb._version import __version__
from lamindb.errors import DataError

if TYPE_CHECKING:
    import numpy as np

PARADISI05_NAME = "paradisi05_laminopathic_nuclei.jpg"
PARADISI05_URL = "https://upload.wikimedia.org/wikipedia/commons/2/28/Laminopathic_nuclei.jpg"
PARADISI05_HASH = "md5:af8b67aa6288fd28eb91d2f3a6e5a9e2"
TIMEOUT_S = 5.0

_PLATES = ("plate_1", "plate_2", "plate_3")

# The stand-in names itself in a JPEG comment that ends with the MD5 of all its other bytes: so it
# is known again whatever version of Pillow drew it, and no longer once someone has edited it.
_COMMENT = b"lamindb stand-in, not the picture of Paradisi et al. 2005; MD5 of the rest: "


class StandInWarning(UserWarning):
    """A generated picture takes the place of one that could not be fetched."""


class DatasetConflictError(DataError, FileExistsError):
    """Another file already has the name under which example data would be written."""


def file_jpg_paradisi05() -> Path:
    """Put the guide's picture into the working directory and return its absolute path.

    Stained nuclei of laminopathic cells, a JPEG of 29,358 bytes, fetched once into the user's
    cache (``LAMINDB_CACHE_DIR`` moves it). If it cannot be fetched, a generated stand-in is
    written instead: 500 x 500 pixels of 8-bit grey, always the same bytes with one version of
    Pillow, and replaced by the picture when a later call can fetch it.

    Warns:  StandInWarning: the file is the stand-in, with the reason; its hash is another.
    Raises: DatasetConflictError: a file of that name holds something else; it is left alone.
    Source: Paradisi et al., BMC Cell Biology 6:27, 2005; Wikimedia Commons
            ``Laminopathic_nuclei.jpg``, CC BY 2.0.
    """
    path = Path.cwd() / PARADISI05_NAME
    found = path.read_bytes() if path.is_file() else None
    if found is not None and _md5(found) == PARADISI05_HASH:
        return path
    is_free = not os.path.lexists(path)
    if not is_free and (found is None or not _is_stand_in(found)):
        raise DatasetConflictError(
            f"{path} exists and is not the example picture: move it away, or work in another folder"
        )
    try:
        data = _fetched()
    # RuntimeError: what tools that block sockets raise; ValueError: pooch's word for a wrong hash
    except (OSError, RuntimeError, ValueError) as error:
        if is_free:
            _write(path, _stand_in())
        warnings.warn(
            f"the example picture could not be fetched ({_shortened(error)}), so {path} is a "
            f"generated stand-in with another hash. To get the picture, call this again with a "
            f"network, or save {PARADISI05_URL} as {_cache_folder() / PARADISI05_NAME} first",
            StandInWarning,
            stacklevel=2,
        )
    else:
        _write(path, data)
    return path


@dataclass(frozen=True)
class DoseResponse:
    """The truth behind a generated compound.

    Attributes:
        ic50_nM: concentration of half effect, in nanomolar.
        hill: slope factor, without unit; viability falls with concentration.
        bottom_percent: viability that no concentration undercuts; at none it is 100 %.
    """

    ic50_nM: float
    hill: float
    bottom_percent: float

    def viability_percent(self, concentration_nM: float) -> float:
        """Return the viability at a concentration in nanomolar; 100 at none."""
        fall: float = 1 + (concentration_nM / self.ic50_nM) ** self.hill
        return self.bottom_percent + (100 - self.bottom_percent) / fall


# Of a plausible size for these drugs on a cell line, but invented: not for citation.
DOSE_RESPONSES: Mapping[str, DoseResponse] = MappingProxyType(
    {
        "bortezomib": DoseResponse(ic50_nM=14, hill=2.1, bottom_percent=3),
        "cisplatin": DoseResponse(ic50_nM=4200, hill=1.2, bottom_percent=6),
        "doxorubicin": DoseResponse(ic50_nM=210, hill=1.0, bottom_percent=4),
        "staurosporine": DoseResponse(ic50_nM=65, hill=1.4, bottom_percent=10),
    }
)


def plate_readout(folder: str | os.PathLike[str], *, seed: int = 5) -> list[Path]:
    """Write the raw counts of a generated viability assay, and return its three CSV files.

    Three replicate plates of 96 wells. Column 1 holds medium without cells (``blank``), column 12
    cells without a drug (``vehicle``), columns 2 to 11 ten concentrations from 1 to 31,623 nM in
    half-log steps; each compound has two rows. Counts vary by 5 % from well to well and by plate;
    on each plate one well has no cells, one has a bubble, and one was not read.

    Args:    folder: made if need be; ``plate_1.csv`` to ``plate_3.csv`` go there.
             seed: same seed, same bytes (with one version of numpy).
    Returns: one path a plate. Each file has 96 rows, well by well: plate str, well str (A1 to H12),
             compound str, concentration_nM float (0 in controls), fluorescence_counts int (empty
             where the reader failed).
    Raises:  DatasetConflictError: a file of that name holds something else; it is left alone.
    Source:  generated from ``DOSE_RESPONSES``.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    target = Path(folder)
    plates = {target / f"{name}.csv": _plate(name, rng) for name in _PLATES}
    missing = {path: data for path, data in plates.items() if not os.path.lexists(path)}
    for path, data in plates.items():
        if path not in missing and not (path.is_file() and path.read_bytes() == data):
            raise DatasetConflictError(
                f"{path} exists and holds other data: move it away, or give another folder"
            )
    target.mkdir(parents=True, exist_ok=True)
    for path, data in missing.items():
        _write(path, data)
    return list(plates)


def _plate(name: str, rng: np.random.Generator) -> bytes:
    """Return one plate as CSV, wells in the order A1 to A12, then B1, down to H12."""
    cells_counts = 24_000 * rng.lognormal(0, 0.12)
    blank_counts = rng.normal(900, 60)
    wells = [_well(row, column) for row in range(8) for column in range(1, 13)]
    counts: list[int | str] = []
    for _, _, _, viability_percent in wells:
        signal = cells_counts * viability_percent / 100 * rng.lognormal(0, 0.05)
        counts.append(round(blank_counts + signal + rng.normal(0, 90)))

    treated = [index for index, (_, _, dose_nM, _) in enumerate(wells) if dose_nM > 0]
    without_cells, with_bubble, unread = rng.choice(treated, size=3, replace=False)
    counts[without_cells] = round(blank_counts + rng.normal(0, 90))
    bubble = cells_counts * rng.uniform(0.5, 0.8)
    counts[with_bubble] = round(blank_counts + bubble + cells_counts * wells[with_bubble][3] / 100)
    counts[unread] = ""

    lines = ["plate,well,compound,concentration_nM,fluorescence_counts"]
    lines += [
        f"{name},{well},{compound},{dose_nM:g},{count}"
        for (well, compound, dose_nM, _), count in zip(wells, counts, strict=True)
    ]
    return ("\n".join(lines) + "\n").encode()


def _well(row: int, column: int) -> tuple[str, str, float, float]:
    """Return what a well holds: its name, compound, concentration in nM, true viability in %."""
    well = f"{'ABCDEFGH'[row]}{column}"
    if column == 1:
        return well, "blank", 0.0, 0.0
    if column == 12:
        return well, "vehicle", 0.0, 100.0
    compound = list(DOSE_RESPONSES)[row // 2]
    dose_nM = round(10 ** ((column - 2) / 2), 1)
    return well, compound, dose_nM, DOSE_RESPONSES[compound].viability_percent(dose_nM)


def _fetched() -> bytes:
    """Return the picture, from the cache or fetched into it.

    Raises: OSError, RuntimeError or ValueError: no network, no answer in time, or other bytes.
    """
    import pooch

    downloader = pooch.HTTPDownloader(
        timeout=TIMEOUT_S,
        # Wikimedia turns away clients that do not name themselves
        headers={"User-Agent": f"lamindb-workflows/{__version__} (example data; python-requests)"},
    )
    with _quiet(pooch.get_logger()):
        path = pooch.retrieve(
            url=PARADISI05_URL,
            known_hash=PARADISI05_HASH,
            fname=PARADISI05_NAME,
            path=_cache_folder(),
            downloader=downloader,
        )
    return Path(path).read_bytes()


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _cache_folder() -> Path:
    from lamindb import config

    return config.cache_dir() / "datasets"


def _stand_in() -> bytes:
    """Draw nine fluorescent nuclei, some lobed, as a JPEG that says in a comment what it is."""
    import numpy as np
    from PIL import Image, ImageFilter

    # RandomState, unlike default_rng, promises the same numbers in every version (NEP 19)
    rng = np.random.RandomState(2005)
    y, x = np.mgrid[:500, :500].astype(float)
    light = 0.05 + 0.03 * (x + y) / 1000
    grain = np.asarray(
        Image.fromarray(rng.randint(0, 256, (500, 500)).astype(np.uint8)).filter(
            ImageFilter.GaussianBlur(4)
        ),
        dtype=float,
    )
    grain = (grain - grain.mean()) / grain.std()
    for index in range(9):
        centre_x = 90 + 160 * (index % 3) + rng.uniform(-18, 18)
        centre_y = 90 + 160 * (index // 3) + rng.uniform(-18, 18)
        angle = np.arctan2(y - centre_y, x - centre_x)
        outline = rng.uniform(44, 58) * (1 + rng.uniform(0.05, 0.16) * np.cos(2 * angle + index))
        for lobes in (3, 5):
            depth = rng.uniform(0.0, 0.07 if index % 3 else 0.14)
            outline *= 1 + depth * np.cos(lobes * angle + rng.uniform(0, 6.28))
        distance = np.hypot(x - centre_x, y - centre_y) / outline
        inside = 1 / (1 + np.exp((distance - 1) * 45))
        rim = np.exp(-(((distance - 0.94) / 0.055) ** 2))
        brightness = rng.uniform(0.75, 1.0)
        light += brightness * (inside * (0.30 + 0.035 * grain) + rim * (0.52 + 0.06 * grain))
        for _ in range(2):
            turn, reach = rng.uniform(0, 6.28), rng.uniform(8, 24)
            near_x, near_y = centre_x + reach * np.cos(turn), centre_y + reach * np.sin(turn)
            spot = np.hypot(x - near_x, y - near_y) / rng.uniform(5, 9)
            light -= brightness * 0.16 * np.exp(-(spot**4))
    light += rng.normal(0, 0.014, light.shape)
    grey = np.clip(light * 255, 0, 255).round().astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(grey).filter(ImageFilter.GaussianBlur(0.8)).save(stream, "JPEG", quality=90)
    return _with_comment(stream.getvalue())


def _with_comment(jpeg: bytes) -> bytes:
    text = _COMMENT + _md5(jpeg).removeprefix("md5:").encode()
    # the first segment, JFIF's own, stays first: two bytes of length follow its marker at 4
    end = 4 + int.from_bytes(jpeg[4:6], "big")
    return jpeg[:end] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + jpeg[end:]


def _is_stand_in(data: bytes) -> bool:
    head, found, tail = data.partition(_COMMENT)
    jpeg = head[:-4] + tail[32:]
    return bool(found) and f"md5:{tail[:32].decode('ascii', 'replace')}" == _md5(jpeg)


def _md5(data: bytes) -> str:
    return f"md5:{hashlib.md5(data, usedforsecurity=False).hexdigest()}"


def _shortened(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    return text if len(text) <= 300 else f"{text[:299]}…"


def _write(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
